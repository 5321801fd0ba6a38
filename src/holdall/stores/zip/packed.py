"""The bytes of a blob in pieces; the last ones only after all were checked."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from typing import Any

from holdall.errors import UnsupportedOperation
from holdall.ranges import CHUNK
from holdall.store import Piece
from holdall.stores.zip.entry import STORED, Entry
from holdall.stores.zip.faults import corrupt, failure

DEFLATED, _BZIP2, _LZMA = 8, 12, 14
_METHODS = {STORED: "stored", DEFLATED: "deflated", _BZIP2: "bzip2", _LZMA: "LZMA"}
"""The methods of compression that Python's `zipfile` reads, by their number in a zip."""


def check_readable(entry: Entry, path: str) -> None:
    """Refuse a member that is encrypted, or compressed by a method that Python lacks."""
    if entry.encrypted:
        raise UnsupportedOperation(
            f"this member of {path} is encrypted; unpack it with a zip program and put it again"
        )
    if entry.method not in _METHODS:
        known = ", ".join(f"{name} ({number})" for number, name in _METHODS.items())
        raise UnsupportedOperation(
            f"this member of {path} is compressed by zip's method {entry.method}, and holdall reads {known}; "
            "unpack it with a zip program and put it again"
        )


def read_at(entry: Entry, low: int, high: int, path: str) -> bytes:
    """The stored bytes of a blob from `low` to `high`."""
    try:
        piece = os.pread(entry.file.fd, high - low, entry.offset + low)
        while len(piece) < high - low:
            more = os.pread(entry.file.fd, high - low - len(piece), entry.offset + low + len(piece))
            if not more:
                raise corrupt(path)
            piece += more
    except OSError as error:
        raise failure(error, path) from error
    return piece


def read_stored(entry: Entry, low: int, high: int, path: str) -> Iterator[Piece]:
    """A blob that isn't compressed, or a part of it, which has no check of its own."""
    found = 0
    for at in range(low, high, CHUNK):
        stop = min(at + CHUNK, high)
        piece = read_at(entry, at, stop, path)
        if high - low == entry.size:
            found = zlib.crc32(piece, found)
            if stop == high and found != entry.crc:
                raise corrupt(path)
        yield piece


def unpack(entry: Entry, path: str) -> Iterator[Piece]:
    """A compressed blob in pieces of at most 1 MiB."""
    import lzma
    from zipfile import BadZipFile

    try:
        yield from _unpack(entry)
    except (BadZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise corrupt(path) from error
    except OSError as error:
        # bz2 reports damaged data as an OSError without a number.
        raise (failure(error, path) if error.errno else corrupt(path)) from error
    entry.checked = True


def _unpack(entry: Entry) -> Iterator[bytes]:
    from zipfile import ZipExtFile, ZipInfo

    info = ZipInfo()
    info.compress_type, info.CRC = entry.method, entry.crc
    info.compress_size, info.file_size = entry.length, entry.size
    source: Any = io.BufferedReader(_Section(entry), 1 << 16)
    # The typeshed knows of another signature. It compares the CRC before it gives the last piece.
    with ZipExtFile(source, "r", info) as file:
        left = entry.size
        while left:
            piece = file.read(min(CHUNK, left))
            if not piece:
                raise EOFError("the packed data ended too soon")
            left -= len(piece)
            yield piece
        if entry.size == 0 and entry.crc:
            raise EOFError("an empty blob has no CRC")


class _Section(io.RawIOBase):
    """The packed bytes of a member, read without moving the archive's own position."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        entry, view = self._entry, memoryview(buffer)
        length = min(len(view), entry.length - self._at)
        data = os.pread(entry.file.fd, length, entry.offset + self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
