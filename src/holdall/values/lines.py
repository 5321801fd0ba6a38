"""A blob line by line, each line a value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import Any

from holdall.errors import StoreError
from holdall.values.modes import Codec, refuse_bytes
from holdall.values.passed import Passed


def lines_of(pieces: Iterator[bytes], codec: Codec, key: str) -> Iterator[Any]:
    """Yield the lines of a blob, each as its mode reads it, without `\\n` or `\\r\\n` at their ends.

    Args:
        pieces: The bytes of the blob.
        codec: What reads a line.
        key: The key, for errors.

    Raises:
        SerializationError: A line can't be read; the message names its number.
    """
    before = 0
    for lines, piece in _split(pieces):
        reader = None
        # The first line may have begun in an earlier piece.
        if codec.quick is not None and codec.quick(lines[0]) is not None:
            reader = codec.quick(piece)
        rest = iter(lines)
        if reader is not None:
            # A step of Python for each line would take as long as to read it.
            passed = Passed(map(reader, rest))
            try:
                yield from passed
            except Exception:
                if passed.thrown is not None:
                    raise
                # Lines from the one that it can't read on are read one by one, which says why.
                rest = lines[len(lines) - length_hint(rest) - 1 :]
            else:
                rest = ()
        if rest:
            yield from _one_by_one(rest, codec, key, before + len(lines))
        before += len(lines)


def _one_by_one(lines: Iterable[bytes], codec: Codec, key: str, last: int) -> Iterator[Any]:
    """Yield lines, the last of which has a number in the blob."""
    held = [line[:-1] if line.endswith(b"\r") else line for line in lines]
    decode = codec.decode
    if decode is None:
        yield from held
        return
    for number, line in enumerate(held, last - len(held) + 1):
        if codec.skips_blank and not line.strip():
            continue
        try:
            value = decode(line)
        except StoreError as error:
            error.message = f"line {number:,}: {error.message}"
            refuse_bytes(error, key, codec.name, line)
            raise
        yield value


def _split(pieces: Iterator[bytes]) -> Iterator[tuple[list[bytes], bytes]]:
    """Yield the lines that end in a piece, and the piece."""
    left: list[bytes] = []
    for piece in pieces:
        lines = piece.split(b"\n")
        last = lines.pop()
        if lines:
            if left:
                lines[0] = b"".join([*left, lines[0]])
                left = []
            yield lines, piece
        if last:
            left.append(last)
    if left:
        rest = b"".join(left)
        yield [rest], rest
