"""A blob line by line, each line a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdall.errors import StoreError
from holdall.values.modes import Codec, refuse_bytes

__all__ = ["lines_of"]


def lines_of(pieces: Iterator[bytes], codec: Codec, key: str) -> Iterator[Any]:
    """Yield the lines of a blob, each as its mode reads it, without `\\n` or `\\r\\n` at their ends.

    Args:
        pieces: The bytes of the blob.
        codec: What reads a line.
        key: The key, for errors.

    Raises:
        SerializationError: A line can't be read.
    """
    decode = codec.decode
    number = 0
    for lines in _split(pieces):
        if decode is None:
            yield from lines
            continue
        for line in lines:
            number += 1
            try:
                value = decode(line)
            except StoreError as error:
                if codec.skips_blank and not line.strip():
                    continue
                error.message = f"line {number:,}: {error.message}"
                refuse_bytes(error, key, codec.name, line)
                raise
            yield value


def _split(pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield whole lines, those that end in a piece at once."""
    left: list[bytes] = []
    for piece in pieces:
        lines = piece.split(b"\n")
        last = lines.pop()
        if lines:
            lines[0] = b"".join([*left, lines[0]])
            left = []
            if b"\r" in piece or lines[0].endswith(b"\r"):
                lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
            yield lines
        left.append(last)
    if rest := b"".join(left):
        yield [rest]
