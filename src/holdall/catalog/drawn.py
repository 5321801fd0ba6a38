"""Stored bytes in a temporary file, which lasts until they were drawn or are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from holdall.ranges import CHUNK


class Drawn:
    """The bytes of a file, which can be drawn once. The file is closed then, or as soon as this is forgotten:
    bytes that are stored already aren't drawn at all."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.file.seek(0, 2)

    def head(self, count: int) -> bytes:
        """Return the first bytes."""
        self.file.seek(0)
        return self.file.read(count)

    def __iter__(self) -> Iterator[bytes]:
        with self.file as file:
            file.seek(0)
            while piece := file.read(CHUNK):
                yield piece

    def __del__(self) -> None:
        self.file.close()
