"""Where the bytes of a blob are, in the archive or in its journal."""

from __future__ import annotations

import os
import select
import sys
from dataclasses import dataclass, field

from holdall.errors import InvalidArgumentError
from holdall.store import Info

STORED = 0
"""Zip's number of no compression."""
CHECKED = 64 << 10
"""Data up to this size are checked, and copied, in one piece."""
_LONGEST_TYPE = 1 << 14

_own = select.kqueue.fromfd if sys.platform == "darwin" else select.epoll.fromfd


class File:
    """A file that stays open for reading while any reader uses it.

    It has no `__del__`: it takes a while to close a large archive that was replaced, as its blocks are freed,
    and Python drops an interrupt that comes in a `__del__`. The queue of events owns the descriptor, whatever
    file it belongs to, and closes it without running Python code.
    """

    __slots__ = ("_owner", "fd", "inode")

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._owner = _own(self.fd)
        self.inode = os.fstat(self.fd).st_ino


@dataclass(slots=True, eq=False)
class Entry:
    """What a blob is, and where its bytes are."""

    size: int
    length: int
    """The number of bytes as stored."""
    method: int
    """Zip's number of the compression."""
    crc: int
    etag: str
    written: float
    """Seconds since 1970."""
    content_type: str | None
    file: File = field(init=False)
    offset: int = field(init=False)
    """Of the data: -1 until the local header was read, and from the first record's start while this is a
    draft."""
    header: int = -1
    """Offset of the local header in the archive; -1 in the journal."""
    name: bytes = b""
    """As it is spelled in the archive; empty in the journal."""
    encrypted: bool = False
    checked: bool = False
    """Whether the whole blob was read once, and its CRC was right."""

    def info(self, key: str) -> Info:
        """The entry as the contract describes it."""
        return Info(key, self.size, self.etag, self.written, self.content_type)


def encode_type(content_type: str | None) -> bytes:
    """A content type as it is kept in a record, where no bytes mean none."""
    if content_type is None:
        return b""
    # A byte before it distinguishes an empty type from none.
    data = b"=" + content_type.encode("utf-8", "surrogatepass")
    if len(data) > _LONGEST_TYPE:
        raise InvalidArgumentError(f"a zip store keeps a content_type of at most {_LONGEST_TYPE - 1} bytes")
    return data


def decode_type(data: bytes) -> str | None:
    """The content type of a record."""
    return data[1:].decode("utf-8", "surrogatepass") if data else None
