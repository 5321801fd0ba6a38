"""Ranges of blobs, which are Python slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from holdall.errors import InvalidTypeError

__all__ = ["CHUNK", "check_range", "cut", "span"]

CHUNK = 1 << 20
"""How much of a stream is held at once: 1 MiB moves at full speed."""


def check_range(start: object, stop: object) -> None:
    """Check that the ends of a range are those of a slice."""
    for end in (start, 0 if stop is None else stop):
        if not isinstance(end, int) or isinstance(end, bool):
            raise InvalidTypeError(f"the ends of a range must be ints, not {type(end).__name__}")


def span(start: int, stop: int | None, size: int) -> tuple[int, int]:
    """Resolve a range against a size: return its start and end offsets, clamped as a slice clamps them.

    >>> span(-4, None, 10), span(3, 99, 10), span(8, 2, 10), span(-99, 2, 10)
    ((6, 10), (3, 10), (8, 8), (0, 2))
    """
    if start == 0 and stop is None:
        return 0, size  # most reads are of the whole blob
    start, stop, _ = slice(start, stop).indices(size)
    return start, max(start, stop)


def cut(pieces: Iterable[bytes | memoryview], start: int, stop: int) -> Iterator[memoryview]:
    """Yield the bytes from `start` to `stop` of a sequence of pieces, without a copy."""
    offset = 0
    for piece in pieces:
        low, high = max(start - offset, 0), min(stop - offset, len(piece))
        offset += len(piece)
        if low < high:
            yield memoryview(piece)[low:high]
        if offset >= stop:
            return
