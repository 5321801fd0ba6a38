"""Records made ready before the lock is taken, as the caller's iterator may take its time."""

from __future__ import annotations

import os
import time
import zlib
from io import FileIO
from typing import NamedTuple

from holdall.ranges import CHUNK
from holdall.store import Body, Piece
from holdall.stores.local import write_at
from holdall.stores.zip.entry import CHECKED, STORED, Entry
from holdall.stores.zip.faults import failure
from holdall.stores.zip.journal import PUT, Change, head_size
from holdall.stores.zip.packed import DEFLATED

HELD = 2 * CHUNK
"""A streamed body waits for the lock in memory up to this size, and in a temporary file past it."""


class FilePart(NamedTuple):
    """Bytes of a file that belong into the journal."""

    fd: int
    start: int
    place: int
    """The offset in the journal, from the first record's start."""
    length: int


class Draft:
    """Puts that count together, for the archive at a path."""

    def __init__(self, path: str, deflate: bool) -> None:
        self._path = path
        self._deflate = deflate
        self.changes: list[Change] = []
        self.pieces: list[tuple[int, Piece]] = []
        """Data that aren't in the spool, each with its offset from the first record's start."""
        self._first = 0
        """The offset of the first data."""
        self._size = 0
        self._held = 0
        self._spool: FileIO | None = None
        self._spooled = 0

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spool is not None:
            self._spool.close()

    def run(self) -> FilePart | None:
        """The data in the spool; between them are gaps for the heads of the records."""
        if self._spool is None:
            return None
        return FilePart(self._spool.fileno(), self._first, self._first, self._spooled - self._first)

    def put(self, key: str, body: Body, content_type: str | None) -> None:
        """Add a put of a blob."""
        self._size += head_size(key, content_type)
        offset = self._size
        if not self.changes:
            self._first = offset
        if isinstance(body, tuple) and len(body) == 1 and (not self._deflate or len(body[0]) <= CHUNK):
            method, crc, size, check = self._put_whole(body[0])
        else:
            method, crc, size, check = self._put_stream(body)
        length = self._size - offset
        entry = Entry(size, length, method, crc, new_etag(), time.time(), content_type)
        entry.offset = offset
        self.changes.append(Change(PUT, key, entry, check if length <= CHECKED else 0))

    def _put_whole(self, data: Piece) -> tuple[int, int, int, int]:
        """Keep the data; their method, CRC, size, and CRC as they are stored."""
        size, method = len(data), STORED
        if size <= CHUNK:
            data = bytes(data)
        crc = check = zlib.crc32(data)
        if self._deflate:
            packer = zlib.compressobj(wbits=-15)
            packed = packer.compress(data) + packer.flush()
            if len(packed) < size:
                data, method, check = packed, DEFLATED, zlib.crc32(packed)
        # The caller holds it anyway, so that it needs no spool, however large.
        self._keep(data, 0)
        return method, crc, size, check

    def _put_stream(self, body: Body) -> tuple[int, int, int, int]:
        crc = size = check = 0
        packer = zlib.compressobj(wbits=-15) if self._deflate else None
        for piece in body:
            size += len(piece)
            # A copy: the caller may fill the same buffer again for the next piece.
            stored = bytes(piece) if packer is None else packer.compress(piece)
            crc = zlib.crc32(piece if packer else stored, crc)
            check = zlib.crc32(stored, check) if packer else crc
            self._keep(stored, len(stored))
        if packer is None:
            return STORED, crc, size, check
        stored = packer.flush()
        self._keep(stored, len(stored))
        return DEFLATED, crc, size, zlib.crc32(stored, check)

    def _keep(self, piece: Piece, held: int) -> None:
        if len(piece):
            self.pieces.append((self._size, piece))
            self._size += len(piece)
            self._held += held
            if self._held > HELD:
                self._spill()

    def _spill(self) -> None:
        """Write out what is held."""
        try:
            if self._spool is None:
                from tempfile import TemporaryFile

                folder, name = os.path.split(self._path)
                os.makedirs(folder, exist_ok=True)
                # It has no name, or only for a moment, so that nothing is left of it.
                self._spool = TemporaryFile(buffering=0, prefix=f".{name}.holdall-fold-", dir=folder)  # noqa: SIM115
            for offset, piece in self.pieces:
                write_at(self._spool.fileno(), piece, offset)
        except OSError as error:
            raise failure(error, self._path) from error
        self._spooled = self._size
        self.pieces = []
        self._held = 0


def new_etag() -> str:
    """An ETag that no other write has, fresh from the system: what a process counts would come again after a
    clone of the machine."""
    return os.urandom(16).hex()
