"""The records of a zip store's journal, which are appended, and the difference of damaged and torn ones."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from holdall.errors import IntegrityError
from holdall.ranges import CHUNK
from holdall.stores.zip.entry import CHECKED, Entry, File, decode_type, encode_type

_MAGIC = b"holdzip\x02"
_BEGIN = struct.Struct("<8sII")
"""How a journal begins: the format, a random number, and the process that made it."""
BEGIN = _BEGIN.size
_RECORD = struct.Struct("<IIBBBxHHIQQd16s")
"""A record: the check of this head, the check of what follows it, kind, more, method, then the lengths of key
and content type, the CRC, size and stored size of the data, the time of the write, and the ETag. Key, content
type and data follow."""
HEAD = _RECORD.size
PUT, DELETE, CLEAR = 1, 2, 3
_BLOCK = 512
"""The smallest block of a disk."""


class Change(NamedTuple):
    """The change that a record makes."""

    kind: int
    key: str
    entry: Entry | None = None
    """The blob; None if this isn't a put."""
    check: int = 0
    """The CRC of the data as stored, up to `CHECKED` bytes of them. Longer data are written before the head
    of their record is, so that a valid head means whole data, and opening a store needn't read them."""

    def head(self, more: bool, seed: int, at: int) -> bytes:
        """The record without its data, to be written at this place of the journal."""
        entry = self.entry or _NOTHING
        name = self.key.encode()
        kind = encode_type(entry.content_type)
        rest = _RECORD.pack(
            0,
            zlib.crc32(name + kind, self.check),
            self.kind,
            more,
            entry.method,
            len(name),
            len(kind),
            entry.crc,
            entry.size,
            entry.length,
            entry.written,
            bytes.fromhex(entry.etag),
        )[4:]
        return b"".join((_head_check(rest, seed, at).to_bytes(4, "little"), rest, name, kind))


_NOTHING = Entry(0, 0, 0, 0, "00" * 16, 0.0, None)


def head_size(key: str, content_type: str | None) -> int:
    """The number of bytes of a record before its data."""
    return HEAD + len(key.encode()) + len(encode_type(content_type))


def make_heads(changes: Sequence[Change], seed: int, start: int) -> list[tuple[int, bytes]]:
    """The records without their data, each with its offset from the first one.

    All but the last say that another follows, so that they count together or not at all.
    """
    heads: list[tuple[int, bytes]] = []
    at = 0
    for index, change in enumerate(changes, 1):
        head = change.head(index < len(changes), seed, start + at)
        heads.append((at, head))
        at += len(head) + (change.entry.length if change.entry else 0)
    return heads


def new_beginning() -> bytes:
    """The first bytes of a new journal."""
    return _BEGIN.pack(_MAGIC, int.from_bytes(os.urandom(4), "little"), os.getpid())


def read_beginning(fd: int, path: str) -> tuple[int, int] | None:
    """Return the random number of a journal and the process that made it; None if a kill cut its beginning
    off."""
    raw = os.pread(fd, BEGIN, 0)
    if raw[: len(_MAGIC)] != _MAGIC[: len(raw)]:
        raise IntegrityError(
            f"{path} isn't the journal of a zip store, or it is of another version of holdall; "
            "open and close the store with that version, or move the file away"
        )
    if len(raw) < BEGIN:
        return None
    _, seed, pid = _BEGIN.unpack(raw)
    return seed, pid


def read_batches(journal: File, at: int, seed: int, path: str) -> Iterator[tuple[int, list[Change]]]:
    """The changes from a place on, in batches that count as a whole, each with the place of its end.

    A record is appended after the one before it was written whole, so that only the last batch can be torn:
    a writer is at it, or was killed at it. A torn record is cut off by the end of the file, or its head is
    still empty, or its last blocks are: a loss of power may leave the new size without them. Every other
    fault is damage. The check of a head is seeded with its place and a number of the journal: what was moved,
    or belongs to another journal, isn't taken for a record.

    Raises:
        IntegrityError: A record is damaged.
    """
    fd = journal.fd
    size = os.fstat(fd).st_size
    block, base = b"", at
    batch: list[Change] = []
    while at < size:
        if at - base + HEAD > len(block):
            block, base = os.pread(fd, CHUNK, at), at
        place = at - base
        head = block[place : place + HEAD]
        if len(head) < HEAD:
            return
        if _head_check(head[4:], seed, at) != int.from_bytes(head[:4], "little"):
            if not any(head) or _ends_in_zeros(fd, at, size):
                return
            raise _damage_error(path, at)
        _, check, kind, more, method, names, types, crc, full, length, written, etag = _RECORD.unpack(head)
        data = HEAD + names + types
        need = data + (length if length <= CHECKED else 0)
        if at + data + length > size:
            return
        if place + need > len(block):
            block, base, place = os.pread(fd, max(CHUNK, need), at), at, 0
            if len(block) < need:
                return
        found = zlib.crc32(block[place + data : place + need]) if need > data else 0
        if zlib.crc32(block[place + HEAD : place + data], found) != check:
            if _ends_in_zeros(fd, at, size):
                return
            raise _damage_error(path, at)
        key = block[place + HEAD : place + HEAD + names].decode()
        entry = None
        if kind == PUT:
            content_type = decode_type(block[place + data - types : place + data])
            entry = Entry(full, length, method, crc, etag.hex(), written, content_type)
            entry.file, entry.offset = journal, at + data
        batch.append(Change(kind, key, entry))
        at += data + length
        if not more:
            yield at, batch
            batch = []


def _head_check(rest: bytes, seed: int, at: int) -> int:
    return zlib.crc32(rest, (seed + at) & 0xFFFFFFFF)


def _ends_in_zeros(fd: int, at: int, size: int) -> bool:
    """Whether the file ends, after this place, in whole blocks that were never written."""
    if size - at > 2 * CHUNK:
        return False
    end = at + len(os.pread(fd, size - at, at).rstrip(b"\0"))
    return -(-end // _BLOCK) * _BLOCK < size


def _damage_error(path: str, at: int) -> IntegrityError:
    return IntegrityError(
        f"{path} is damaged at byte {at}, so that nothing after it can be trusted; nothing was changed; "
        "restore it from a copy together with its archive, or move it away to go on with the archive alone"
    )
