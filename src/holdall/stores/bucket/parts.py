"""Streams, put in parts that are as large as the size of the stream wants them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdall.blob import Piece
from holdall.errors import UnsupportedOperation
from holdall.ranges import CHUNK
from holdall.stores.bucket.access import Access
from holdall.stores.bucket.clouds import Cloud

_PART, _PARTS = 8 * CHUNK, 4
"""The least size of a part, and how many are under way at most."""
_HELD = 64 * CHUNK
"""What those that are under way may hold together; one alone may hold more."""


def put_in_parts(
    access: Access, name: str, pieces: Iterator[Piece], size: int | None, attributes: dict[str, str]
) -> tuple[Any, int]:
    """Put a stream whatever is there; return what the server said of the new object, and its size.

    Args:
        access: The bucket.
        name: The name of the object.
        pieces: The stream.
        size: Its size, as far as it is known.
        attributes: As obstore takes them.

    Raises:
        UnsupportedOperation: The stream has more parts than the cloud takes.
    """
    part, at_once = plan(size, access.cloud.parts)
    counted = _Counted(pieces, access.cloud, part)
    meta = access.upload(name, counted, part, at_once, attributes)
    return meta, counted.size


def plan(size: int | None, parts: int) -> tuple[int, int]:
    """Return the size of each part of a stream, of which a cloud takes at most `parts`, and how many may be
    under way.

    obstore cuts all parts of an upload to one size, which Cloudflare R2 also demands. So they can't grow on
    their way: a stream of unknown size has small ones, and ends where these are used up.

    >>> [(part >> 20, at_once) for part, at_once in (plan(size << 30, 10_000) for size in (1, 100, 1_000))]
    [(8, 4), (11, 4), (103, 1)]
    """
    wanted = -(-(size or 0) // parts)
    part = max(_PART, -(-wanted // CHUNK) * CHUNK)
    return part, min(_PARTS, max(1, _HELD // part))


class _Counted(Iterator[Piece]):
    """Pieces, with their total size so far."""

    def __init__(self, pieces: Iterator[Piece], cloud: Cloud, part: int) -> None:
        self._pieces, self._cloud, self._part, self.size = pieces, cloud, part, 0

    def __next__(self) -> Piece:
        piece = next(self._pieces)
        self.size += len(piece)
        most = self._cloud.parts * self._part
        if self.size > most:
            raise UnsupportedOperation(
                f"a stream of unknown size to {self._cloud.name} may have at most {most:,} bytes, "
                f"{self._cloud.parts:,} parts of {self._part:,}; put it as a file, whose size is known, or "
                "under several keys"
            )
        return piece
