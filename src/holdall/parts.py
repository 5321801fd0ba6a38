"""Several ranges of one version of a blob, by few requests."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, cast

from holdall.blob import Can, Piece
from holdall.errors import ConcurrencyError, InvalidTypeError
from holdall.ranges import check_range, span
from holdall.store import Store

Span = tuple[int, int]

_TRIES: Final = 20
"""How often all is read again because the blob was replaced meanwhile."""
_GAP, _FAR_GAP = 1 << 14, 1 << 18
"""How many bytes that nobody wants are read too: another request takes longer, to a server much longer."""
_LONGEST: Final = 1 << 24
"""What is read at once at most, unless one range is longer."""


def read_ranges(store: Store, key: str, ranges: object) -> list[bytes]:
    """As `Store.get_ranges`, of a key that was checked."""
    wanted = _check_ranges(ranges)
    for _ in range(_TRIES - 1):
        try:
            return _read_once(store, key, wanted)
        except ConcurrencyError:
            continue
    return _read_once(store, key, wanted)


def _check_ranges(ranges: object) -> list[tuple[int, int | None]]:
    if not isinstance(ranges, Iterable) or isinstance(ranges, str | bytes):
        raise InvalidTypeError(f"get_ranges takes an iterable of (start, stop), not {type(ranges).__name__}")
    checked: list[tuple[int, int | None]] = []
    for pair in cast("Iterable[object]", ranges):
        ends = tuple(cast("Sequence[object]", pair)) if isinstance(pair, tuple | list) else ()
        if len(ends) != 2:
            raise InvalidTypeError(f"a range must be a pair (start, stop), not {pair!r:.80}")
        check_range(*ends)
        checked.append(cast("tuple[int, int | None]", ends))
    return checked


def _read_once(store: Store, key: str, ranges: list[tuple[int, int | None]]) -> list[bytes]:
    if Can.RANGE not in store.can:
        info, pieces = store._read(key, 0, None)
        spans = [span(start, stop, info.size) for start, stop in ranges]
        groups = merged(spans, 0)
        return _slices(spans, groups, list(_cut_all(pieces, groups)))
    tags: set[str] = set()
    if ranges and all(stop is not None and start >= 0 and stop >= 0 for start, stop in ranges):
        spans = [(start, max(start, stop or 0)) for start, stop in ranges]
    else:
        # Ends that count from the end need the size.
        info = store._info(key)
        tags.add(info.etag)
        spans = [span(start, stop, info.size) for start, stop in ranges]
    groups = merged(spans, _FAR_GAP if store._far else _GAP)
    if not groups and not tags:
        store._info(key)  # an absent blob is an error even if nothing of it is wanted
    found: list[bytes] = []
    for info, data in store._read_spans(key, groups):
        tags.add(info.etag)
        found.append(data)
    if len(tags) > 1:
        raise ConcurrencyError("it is replaced all the time while it is read", key=key)
    return _slices(spans, groups, found)


def merged(spans: Iterable[Span], gap: int, longest: int = _LONGEST) -> list[Span]:
    """Join spans that overlap, or lie at most `gap` bytes apart and aren't longer than `longest` together.
    Return them sorted, without empty ones.

    >>> merged([(20, 25), (0, 10), (12, 15), (5, 5), (3, 11)], 2)
    [(0, 15), (20, 25)]
    """
    groups: list[Span] = []
    for low, high in sorted(each for each in spans if each[0] < each[1]):
        if groups:
            first, last = groups[-1]
            if low < last or (low - last <= gap and max(high, last) - first <= longest):
                groups[-1] = first, max(high, last)
                continue
        groups.append((low, high))
    return groups


def _slices(spans: list[Span], groups: list[Span], found: list[bytes]) -> list[bytes]:
    """Cut what was wanted from what was read."""
    lows = [low for low, _ in groups]
    result: list[bytes] = []
    for low, high in spans:
        if low == high:
            result.append(b"")
            continue
        index = bisect_right(lows, low) - 1
        result.append(found[index][low - lows[index] : high - lows[index]])
    return result


def _cut_all(pieces: Iterator[Piece], groups: list[Span]) -> Iterator[bytes]:
    """Cut groups, which are sorted, from all pieces of a blob."""
    at, held = 0, list[bytes]()
    waiting = iter(groups)
    group = next(waiting, None)
    for piece in pieces:
        while group is not None:
            low, high = group
            part = bytes(piece[max(low - at, 0) : max(high - at, 0)])
            if part:
                held.append(part)
            if at + len(piece) < high:
                break
            yield b"".join(held)
            held, group = [], next(waiting, None)
        at += len(piece)
        if group is None:
            return
    if group is not None:
        yield b"".join(held)
