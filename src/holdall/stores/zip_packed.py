"""The bytes of a compressed member of a zip archive; the last ones only after all were checked."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

from holdall.ranges import CHUNK
from holdall.stores.zip_archive import DEFLATED, STORED, Entry

__all__ = ["METHODS", "unpacked"]

_BZIP2, _LZMA = 12, 14
METHODS = {STORED: "stored", DEFLATED: "deflated", _BZIP2: "bzip2", _LZMA: "LZMA"}
"""The methods of compression that Python's `zipfile` reads, by their number in a zip."""


def unpacked(entry: Entry) -> Iterator[bytes]:
    """The blob in pieces of at most 1 MiB. Python's reader compares the CRC before it gives the last one.

    Raises:
        ValueError: The bytes aren't what was packed.
    """
    import lzma
    import zlib
    from zipfile import BadZipFile, ZipExtFile, ZipInfo

    info = ZipInfo()
    info.compress_type, info.CRC = entry.method, entry.crc
    info.compress_size, info.file_size = entry.length, entry.size
    try:
        source: Any = io.BufferedReader(_Section(entry), 1 << 16)
        # The typeshed knows of another signature.
        with ZipExtFile(source, "r", info) as file:
            left = entry.size
            while left:
                piece = file.read(min(CHUNK, left))
                if not piece:
                    raise ValueError("it ended too soon")
                left -= len(piece)
                yield piece
            if entry.size == 0 and entry.crc:
                raise ValueError("an empty blob has no CRC")
    except (BadZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error


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
