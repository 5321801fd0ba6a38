"""How a blob lies in a cache: one header and the body in frames, each with its checksum."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple
from zlib import crc32

from holdall.blob import bits_of
from holdall.errors import BlobNotFoundError, IntegrityError
from holdall.layers.frames import regrouped
from holdall.pieces import regroup
from holdall.ranges import cut, span
from holdall.store import ABSENT, ANY, PLAIN, Attributes, Expect, Info, Piece, Store, mode_of, with_mode

# Names in the cache: flat, so that no file store makes or looks at a folder for them; a digest, so that any
# key fits any medium. What doesn't look like this is not ours and is never touched.
CLEAN = "cached-"
"""Names of entries: copies of what the source has, or notes on who is about to change that."""
DIRTY = "dirty-"
"""Names of records: what was written here and not yet at the source."""
SENT = "sent-"
"""Names of intents: digests of what a sync was about to upload."""
is_entry, is_record, is_intent = (
    re.compile(rf"{kind}[0-9a-f]{{40}}").fullmatch for kind in (CLEAN, DIRTY, SENT)
)

ENTRY = 0
"""A copy of the source's blob."""
CLAIM = 1
"""A handle is about to fill this in."""
WRITING = 2
"""A handle is writing to the source, so its state is in doubt."""
PUT = 3
"""A blob that waits for its upload."""
TOMBSTONE = 4
"""A deletion that waits to be carried out at the source."""
HOLD = 5
"""A placeholder: a compare-and-swap of this key is under way."""
INTENT = 6
"""Digests of what was about to be uploaded."""

_MAGIC = b"hdc1"
_WITH_MODE = b"hdc2"
"""Begins a header that has a mode before its content type: older releases fetch such a blob again."""
_WITH_METADATA = b"hdc3"
"""Begins one that has a mode, or `_NO_MODE`, then the length of the metadata and the metadata in JSON."""
_MODE = 2
"""The size of the mode, in bytes, and of the length of the metadata."""
_NO_MODE = 0xFFFF
_MAGICS = (_MAGIC, _WITH_MODE, _WITH_METADATA)
# Magic, kind, kind of base, lengths of key, ETag and content type, microseconds since 1970 of modified,
# expires (or NEVER) and of when it was fetched, the size of the body, and a random token.
_FIXED = struct.Struct("<4sBBHHHqqqq8s")
_CRC = struct.Struct("<I")
SUM = _CRC.size
"""The size of a checksum, in bytes."""
RESIDUE = 0x2144DF1C
"""The CRC-32 of whatever ends with its own, the lowest byte first."""
_unpack, _KEY = _FIXED.unpack_from, _FIXED.size
INHERITED = 0o1000
"""A bit of a head's mode."""
NEVER = -(1 << 63)
"""The expiry of an entry that never expires."""
FIELD = 1 << 14
"""The longest ETag or content type, in UTF-8 bytes, that an entry has room for."""
FRAME = 1 << 17
"""The size of a frame, which has one checksum: a range reads whole frames, a stream holds one."""
_BLOCK = FRAME + _CRC.size
_FIRST = 1 << 16
"""The number of bytes read first where only a part is wanted: any header fits."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)

_BASES: dict[Expect, int] = {ANY: 0, ABSENT: 1}


class EntryHead(NamedTuple):
    """The header before a body."""

    kind: int
    key: str
    modified: int = 0
    """In microseconds since 1970, as the other times."""
    expires: int | None = None
    content_type: str | None = None
    base: Expect = ANY
    """The source's ETag of the copied version, or of the base of a change; `ABSENT` if the source lacked the
    blob, `ANY` if that is unknown."""
    stamped: int = 0
    """When the source was asked, or the record was made."""
    token: bytes = bytes(8)
    """Part of the ETag of a blob that isn't at the source yet."""
    mode: int | None = None
    """The permission bits of the file at the source; None if everybody may read it, or there are none. With
    `INHERITED` they are those of the blob that a change replaces, and not the change's own."""
    metadata: str = ""
    """The names and values of the blob's metadata, in JSON."""

    @property
    def attributes(self) -> Attributes:
        """With what the entry is written, so that it is never readable by more people than the blob."""
        return PLAIN if self.mode is None else Attributes(mode=self.mode & 0o777)


class Opened(NamedTuple):
    """An entry that is read."""

    head: EntryHead
    etag: str
    """The cache's ETag of this entry."""
    size: int
    """Of the body, in bytes."""
    pieces: Iterator[Piece]
    """The requested bytes of the body."""
    data: bytes | None
    """The whole body, if it is short and some of it was requested: its checksum was compared already."""
    held: int | None = None
    """The permission bits of the entry's own file; None if the cache has no such bits."""

    def is_wider(self, most: int | None) -> bool:
        """Return whether more people may read it than a file with these permission bits, and it was written
        for a file with others: a file system without modes keeps none."""
        if most is None or self.held is None or self.head.mode == most:
            return False
        return bool(self.held & ~(most | 0o711))


def digest_of(key: str) -> str:
    """Return the name of a key in the cache."""
    return blake2b(key.encode(errors="surrogatepass"), digest_size=20).hexdigest()


def micros(moment: datetime | None = None) -> int:
    """Return a time in microseconds since 1970; by default the current time."""
    return time.time_ns() // 1000 if moment is None else (moment - _EPOCH) // _MICRO


def head_of(info: Info, stamped: int, most: int | None = None) -> EntryHead | None:
    """Return the head for a copy of the source's blob; None if its texts are too long to keep. `stamped` is
    when the source was asked, and `most` limits the copy's mode if the source keeps none."""
    expires = None if info.expires is None else micros(info.expires)
    modified, mode = micros(info.modified), mode_of(info)
    mode = most if mode is None else mode
    kind, metadata = info.content_type, written_metadata(info.metadata)
    head = EntryHead(
        ENTRY, info.key, modified, expires, kind, info.etag, stamped, mode=mode, metadata=metadata
    )
    return head if _fits(info.etag) and _fits(kind or "") and _fits(metadata) else None


def written_metadata(metadata: Mapping[str, str] | None) -> str:
    """Return metadata as a head keeps them."""
    return json.dumps(dict(metadata)) if metadata else ""


def _fits(text: str) -> bool:
    return len(text) * 4 <= FIELD or len(text.encode(errors="surrogatepass")) <= FIELD


def stored_info(head: EntryHead, size: int) -> Info:
    """Return the `Info` that a head keeps: the source's of a copy, its own of a change not at the source
    yet."""
    etag = f"unsynced-{head.token.hex()}" if head.kind == PUT else str(head.base)
    modified = _EPOCH + timedelta(microseconds=head.modified)
    expires = None if head.expires is None else _EPOCH + timedelta(microseconds=head.expires)
    metadata = json.loads(head.metadata) if head.metadata else None
    info = Info(head.key, size, etag, modified, head.content_type, expires, metadata)
    return info if head.mode is None else with_mode(info, head.mode)


def alive(head: EntryHead) -> bool:
    """Return whether there is a blob, and it hasn't expired."""
    return head.kind in (ENTRY, PUT) and (head.expires is None or head.expires > time.time_ns() // 1000)


def packed(head: EntryHead, size: int = 0) -> bytes:
    """Return a head as bytes, for a body of this size; its checksum is last."""
    key = head.key.encode()
    etag = head.base.encode(errors="surrogatepass") if isinstance(head.base, str) else b""
    kind = b"" if head.content_type is None else b"t" + head.content_type.encode(errors="surrogatepass")
    magic = _MAGIC
    if head.metadata:
        magic, metadata = _WITH_METADATA, head.metadata.encode()
        kind = len(metadata).to_bytes(_MODE, "little") + metadata + kind
    elif head.mode is not None:
        magic = _WITH_MODE
    if magic != _MAGIC:
        kind = (_NO_MODE if head.mode is None else head.mode).to_bytes(_MODE, "little") + kind
    fixed = _FIXED.pack(
        magic,
        head.kind,
        2 if isinstance(head.base, str) else _BASES[head.base],
        len(key),
        len(etag),
        len(kind),
        head.modified,
        NEVER if head.expires is None else head.expires,
        head.stamped,
        size,
        head.token,
    )
    text = fixed + key + etag + kind
    return text + _CRC.pack(crc32(text))


def parsed(data: Piece) -> tuple[EntryHead, int, int] | None:
    """Return the head that data begin with, its length and the body's; None if they don't begin with one."""
    try:
        fixed = _FIXED.unpack_from(data)
    except struct.error:
        return None
    magic, kind, base, keys, etags, kinds, modified, expires, stamped, size, token = fixed
    length = _FIXED.size + keys + etags + kinds
    if magic not in _MAGICS or len(data) < length + _CRC.size:
        return None
    if crc32(data[:length]) != _CRC.unpack_from(data, length)[0]:
        return None
    text = bytes(data[_FIXED.size : length])
    etag = text[keys : keys + etags].decode(errors="surrogatepass")
    named, mode, metadata = text[keys + etags :], None, b""
    if magic != _MAGIC:
        named, bits = named[_MODE:], int.from_bytes(named[:_MODE], "little")
        mode = None if bits == _NO_MODE else bits
    if magic == _WITH_METADATA:
        end = _MODE + int.from_bytes(named[:_MODE], "little")
        metadata, named = named[_MODE:end], named[end:]
    head = EntryHead(
        kind,
        text[:keys].decode(errors="surrogatepass"),
        modified,
        None if expires == NEVER else expires,
        named[1:].decode(errors="surrogatepass") if named else None,
        etag if base == 2 else (ANY, ABSENT)[base & 1],
        stamped,
        token,
        mode,
        metadata.decode(),
    )
    return head, length + _CRC.size, size


def base_of(data: bytes) -> Expect:
    """Return the source's ETag in an entry that is known to be good."""
    fixed = _unpack(data)
    start = _KEY + fixed[3]
    return data[start : start + fixed[4]].decode(errors="surrogatepass") if fixed[2] == 2 else ANY


def short_body(data: bytes, key: bytes) -> tuple[bytes, int, int] | None:
    """Return the body of an entry that has one frame, when it expires and when it was fetched, all in one go;
    None if it is something else."""
    try:
        magic, kind, _, keys, etags, kinds, _, expires, stamped, size, _ = _unpack(data)
        if (
            (magic != _MAGIC and magic not in _MAGICS)
            or kind != ENTRY
            or keys != len(key)
            or not data.startswith(key, _KEY)
        ):
            return None
        at = _KEY + keys + etags + kinds + 4
        if len(data) - at != size + 4 or size > FRAME or crc32(data) != RESIDUE:
            return None
    except struct.error:
        return None
    return data[at:-4], expires, stamped


def _sum(frame: Piece | bytearray, seed: int, index: int) -> int:
    # It goes on from the header's, and depends on the frame's number, so that no frame can be moved or come
    # from elsewhere.
    return crc32(frame, seed) ^ index


def sealed(head: bytes, data: bytes) -> tuple[bytes, ...] | Iterator[bytes]:
    """Return an entry in pieces, from a body in memory."""
    if len(data) <= FRAME:
        return (b"".join((head, data, _CRC.pack(_sum(data, crc32(head), 0)))),)
    return framed(head, (data,))


def framed(head: bytes, body: Iterable[Piece]) -> Iterator[bytes]:
    """Yield an entry in pieces, from a body in pieces. An empty body has one frame."""
    seed, frames = crc32(head), iter(regroup(body, FRAME))
    for index, frame in enumerate(chain((next(frames, b""),), frames)):
        yield b"".join((b"" if index else head, frame, _CRC.pack(_sum(frame, seed, index))))


def size_of(head: bytes, body: int) -> int:
    """Return the size of an entry with a body of this size."""
    return len(head) + body + _CRC.size * _frame_count(body)


def _frame_count(body: int) -> int:
    return max(1, -(-body // FRAME))


def _frames(pieces: Iterator[Piece], seed: int, payload: int, first: int, end: int) -> Iterator[Piece]:
    """Yield the frames from number `first` to before `end`, from pieces that begin with the first of them."""
    sizes = (min(_BLOCK, payload - index * _BLOCK) for index in range(first, end))
    for index, block in enumerate(regrouped(pieces, sizes, _damage_error), first):
        frame = block[:-SUM]
        if _sum(frame, seed, index) != _CRC.unpack_from(block, len(frame))[0]:
            raise _damage_error()
        yield frame


def _damage_error(_: str = "") -> IntegrityError:
    return IntegrityError("the copy in the cache is damaged")


def open_entry(
    cache: Store, name: str, key: str | None, start: int = 0, stop: int | None = 0, *, ranges: bool
) -> Opened | None:
    """Read a range of an entry's body; return None where there is no entry. `key` is the one that it must be
    of; None allows any.

    Raises:
        IntegrityError: It isn't an entry, is that of another key, or is damaged.
        StoreError: The cache fails.
    """
    while True:
        try:
            if ranges and (start, stop) != (0, None):
                found, pieces = cache._read(name, 0, _FIRST)
                begun = True
            else:
                found, pieces = cache._read(name, 0, None)
                begun = False
        except BlobNotFoundError:
            return None
        etag, total, held = found.etag, found.size, bits_of(found)
        first, (head, length, size) = _read_head(pieces)
        payload, seed, count = total - length, crc32(first[:length]), _frame_count(size)
        if (key is not None and head.key != key) or payload != size + count * _CRC.size:
            raise _damage_error()
        if (start, stop) == (0, 0) or (head.kind != INTENT and not alive(head)):
            return Opened(head, etag, size, iter(()), None, held)
        low, high = span(start, stop, size)
        if total <= _FIRST or not begun:
            rest = chain((first[length:],), pieces)
            if count == 1:
                data = bytes(next(_frames(rest, seed, payload, 0, 1)))
                part = data if (low, high) == (0, size) else memoryview(data)[low:high]
                return Opened(head, etag, size, iter((part,)), data, held)
            body = _frames(rest, seed, payload, 0, count)
            return Opened(head, etag, size, cut(body, low, high), None, held)
        if low == high:
            return Opened(head, etag, size, iter(()), None, held)
        one, end = low // FRAME, -(-high // FRAME)
        try:
            again, pieces = cache._read(name, length + one * _BLOCK, min(total, length + end * _BLOCK))
        except BlobNotFoundError:
            return None
        if again.etag == etag:
            body = _frames(pieces, seed, payload, one, end)
            return Opened(head, etag, size, cut(body, low - one * FRAME, high - one * FRAME), None, held)
        # It was replaced between the two reads.


def _read_head(pieces: Iterator[Piece]) -> tuple[bytes, tuple[EntryHead, int, int]]:
    """Read as many pieces as a header takes; return their bytes, and what they begin with."""
    first = bytes(next(pieces, b""))
    while (result := parsed(first)) is None:
        piece = next(pieces, None) if len(first) < _FIRST else None
        if piece is None:
            raise _damage_error()
        first += piece
    return first, result
