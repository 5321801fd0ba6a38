"""The head before a blob's bytes in the server: one string holds both, so one read returns both."""

from __future__ import annotations

import os
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from holdall.errors import InvalidArgumentError, StoreUnavailableError
from holdall.store import Attributes, Info

# Magic, ETag, modified (microseconds), expires (milliseconds, 0 for never), size, bytes in a chunk (0 for a
# blob whose bytes follow), length of the content type that comes next. The scripts know these places.
_FIXED = struct.Struct(">4s16sQQQIH")
MAGIC = b"hdl1"
FIXED = _FIXED.size
"""The length of the head without the content type."""
GLANCE = 256
"""The number of bytes that hold the whole head of nearly every blob."""

LONGEST = 4096
"""The longest content type, in UTF-8 bytes."""

_PLAIN = bytes(6)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class BlobHead(NamedTuple):
    """The properties that are kept with a blob."""

    etag: str
    modified: int
    """Microseconds since 1970."""
    expires: int
    """Milliseconds since 1970; 0 for never."""
    size: int
    chunk: int = 0
    """The size of each chunk except the last; 0 if the blob's bytes follow the head."""
    content_type: str | None = None
    end: int = FIXED
    """Where the head ends."""

    def packed(self) -> bytes:
        kind = extra_of(self.content_type)
        return fixed(self.etag, self.modified, self.size, self.expires, kind, self.chunk)

    def info(self, key: str) -> Info:
        expires = self.expires / 1000 if self.expires else None
        return Info(key, self.size, self.etag, self.modified / 1_000_000, self.content_type, expires)


def parse(data: bytes) -> BlobHead | None:
    """The head at the beginning of what the server holds; None if another program wrote it.

    Where `end` is past what is given, the content type is cut: read again up to there.

    >>> parse(BlobHead("0" * 16, 1, 0, 4).packed() + b"four")
    BlobHead(etag='0000000000000000', modified=1, expires=0, size=4, chunk=0, content_type=None, end=50)
    >>> parse(b"a foreign value")

    Raises:
        StoreUnavailableError: A newer version of holdall wrote it.
    """
    if not data.startswith(MAGIC):
        if data[:3] == MAGIC[:3] and data[3:4].isdigit():
            raise StoreUnavailableError("a newer version of holdall wrote this blob; upgrade holdall")
        return None
    if len(data) < FIXED:
        return None
    _, etag, modified, expires, size, chunk, length = _FIXED.unpack_from(data)
    if not length:
        return BlobHead(etag.decode("ascii", "replace"), modified, expires, size, chunk)
    end = FIXED + length
    try:
        kind = data[FIXED + 1 : end].decode("utf-8", "surrogatepass") if len(data) >= end else None
    except UnicodeDecodeError:
        return None
    return BlobHead(etag.decode("ascii", "replace"), modified, expires, size, chunk, kind, end)


def check_kind(attributes: Attributes) -> None:
    """Refuse a content type that is too long for a head."""
    kind = attributes.content_type
    if kind is not None and len(kind.encode("utf-8", "surrogatepass")) > LONGEST:
        raise InvalidArgumentError(f"in a ValkeyStore a content_type must have at most {LONGEST} UTF-8 bytes")


def extra_of(content_type: str | None) -> bytes:
    """A content type, if any, as it stands behind the head."""
    return b"" if content_type is None else b"=" + content_type.encode("utf-8", "surrogatepass")


def fixed(etag: str, modified: int, size: int, expires: int, kind: bytes, chunk: int = 0) -> bytes:
    """A packed head, made faster; the content type begins with '='."""
    return _FIXED.pack(MAGIC, etag.encode(), modified, expires, size, chunk, len(kind)) + kind


def is_plain(data: bytes) -> bool:
    """Whether the head is of fixed length, and the blob's bytes follow it: so is nearly every one."""
    return data[44:50] == _PLAIN and data[:4] == MAGIC


def milliseconds(moment: datetime | None) -> int:
    """Since 1970, rounded down; 0 for None."""
    return 0 if moment is None else max((moment - _EPOCH) // _MILLISECOND, 1)


def new_etag() -> str:
    # Nothing is counted in this process: of a machine that is cloned as it runs, both copies would count on
    # from the same number.
    return os.urandom(8).hex()
