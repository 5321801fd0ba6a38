"""A layer that compresses blobs in frames, so that a range can be read without the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from holdall.errors import BlobNotFoundError, IntegrityError
from holdall.layers.codecs import (
    CODECS,
    ENTRY,
    FRAME,
    TAIL,
    Codec,
    Damaged,
    Footer,
    begins_as_ours,
    chosen,
    codec_of,
)
from holdall.layers.encoding import EncodingStore
from holdall.layers.frames import Encoder, Framing, read_part, read_tail, regrouped
from holdall.pieces import join_pieces
from holdall.ranges import CHUNK, cut, span
from holdall.store import Expect, Info, Piece, Store

__all__ = ["CompressedStore"]

_IN_HAND: Final = CHUNK
"""A blob of at most this many bytes below is read at once."""
_GUESS: Final = 1 << 14
"""How much of a blob's end is read for its index: that of 350 MiB, or all of a small blob."""
_MOST: Final = FRAME + (FRAME >> 7) + 1024
"""No frame takes more bytes below."""


class CompressedStore(EncodingStore):
    """A store that compresses its blobs.

    Each blob below is a plain `.zst`, `.lz4` or `.gz` file, which the format's own program decompresses. It
    is cut into frames of 256 KiB, with an index at its end, so that a range reads and decompresses only its
    own frames. Every frame has a checksum: bytes that changed below raise `IntegrityError`, and so do blobs
    that were put there without this layer. The checksums find accidents, not attacks.

    `Info.size` is the plain size, which is kept at the end of the blob: `info` and each entry of `list` read
    64 bytes below, or the whole blob if the store below can't RANGE. `exists`, `iterate_keys` and `delete`
    read nothing. A blob that was put below without this layer is listed with its size below, and can be
    deleted. A damaged blob ends a listing with `IntegrityError`, so no wrong size is returned.

    Data that doesn't shrink costs little: samples of it are tried, and then it is kept nearly as it is.

    Args:
        store: The store below.
        codec: `zstd` (RFC 8878, in the seekable format of its authors), `lz4`, or `gzip` (RFC 1952). Blobs
            of every codec can be read, so the codec may be changed later.
        level: The compression level: 1 to 22 for zstd, 0 to 12 for lz4, 1 to 9 for gzip; None is 3, 0 and 6.

    Raises:
        InvalidArgumentError: The codec or the level is unknown.
        MissingDependencyError: Its package isn't installed: `pip install 'holdall[zstd]'` or `[lz4]`.

    >>> from holdall import MemoryStore
    >>> below = MemoryStore()
    >>> store = CompressedStore(below, "gzip")
    >>> store.put("log", b"all is well\\n" * 1000).size, below.info("log").size < 200
    (12000, True)
    >>> store.get_range("log", -12)
    b'all is well\\n'
    """

    _compresses = True

    def __init__(self, store: Store, codec: str = "zstd", level: int | None = None) -> None:
        super().__init__(store)
        self._codec, self._level = chosen(codec, level)
        self._asked = level

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "codec": self._codec.name, "level": self._asked}

    def _decode(self, key: str, stored: bytes) -> bytes:
        try:
            plain = self._codec.only(stored)
        except Damaged as error:
            raise _damage_error(key, str(error)) from error
        if plain is not None:
            return plain
        codec, footer = _recognize(key, stored)
        return join_pieces(_decode_range(key, codec, footer, stored, 0, footer.size))

    def _read_range(
        self, key: str, below: str, start: int, stop: int | None
    ) -> tuple[Info, Iterator[Piece]] | None:
        info, tail = read_tail(self._store, key, _GUESS)
        if len(tail) == info.size:
            codec, footer = _recognize(key, tail)
            low, high = span(start, stop, footer.size)
            return info.replace(size=footer.size), _decode_range(key, codec, footer, tail, low, high)
        opened = self._index(key, info, tail)
        if opened is None:
            return None
        codec, footer, entries = opened
        low, high = span(start, stop, footer.size)
        plain = info.replace(size=footer.size)
        if low == high:
            return plain, iter(())
        first, past = low // FRAME, -(-high // FRAME)
        before = sum(taken for taken, _ in islice(ENTRY.iter_unpack(entries), first))
        within = entries[first * ENTRY.size : past * ENTRY.size]
        taken = sum(taken for taken, _ in ENTRY.iter_unpack(within))
        pieces = self._part_of(key, info, before, before + taken)
        if pieces is None:
            return None
        frames = _frames(key, codec, footer, within, first, pieces)
        return plain, cut(frames, low - first * FRAME, high - first * FRAME)

    def _read_whole(self, key: str, below: str) -> tuple[Info, Iterator[Piece]] | None:
        info, pieces = self._store._read(key, 0, None)
        if info.size <= _IN_HAND:
            stored = join_pieces(pieces)
            codec, footer = _recognize(key, stored)
            return info.replace(size=footer.size), _decode_range(key, codec, footer, stored, 0, footer.size)
        # Only the end has the size and the frames, so it is read first.
        found, tail = read_tail(self._store, key, _GUESS)
        opened = self._index(key, found, tail) if found.etag == info.etag else None
        if opened is None:
            return None
        codec, footer, entries = opened
        body = cut(pieces, 0, info.size - footer.index_size)
        return info.replace(size=footer.size), _frames(key, codec, footer, entries, 0, body)

    def _index(self, key: str, info: Info, tail: bytes) -> tuple[Codec, Footer, bytes] | None:
        """Return the index of a blob; None if another blob has replaced it since `info`."""
        codec, footer = _recognize(key, tail)
        index = tail[-footer.index_size :]
        if len(index) < footer.index_size <= info.size:
            pieces = self._part_of(key, info, -footer.index_size, None)
            if pieces is None:
                return None
            index = join_pieces(pieces)
        return codec, footer, _entries(key, codec, footer, index, info.size)

    def _plain_info(self, key: str, below: str) -> Info:
        info, tail = read_tail(self._store, key, TAIL)
        return info.replace(size=_recognize(key, tail)[1].size)

    def _adapt_entry(self, info: Info) -> Info | None:
        # An error below, or a compressed blob that was changed, ends the listing: callers would take any
        # other size for the blob's. A blob that was put without this layer is listed as it is, and one that
        # was deleted since isn't.
        key = info.key
        try:
            found, tail = read_tail(self._store, key, TAIL)
            if self._is_foreign(key, tail):
                return info
        except BlobNotFoundError:
            return None
        return found.replace(size=_recognize(key, tail)[1].size)

    def _is_foreign(self, key: str, tail: bytes) -> bool:
        """Return whether a blob neither begins nor ends as one that is written here."""
        try:
            if codec_of(tail) is not None:
                return False
        except Damaged:
            return False
        return not begins_as_ours(join_pieces(read_part(self._store, key, 0, 4)[1]))

    def _encoder(self, key: str) -> Encoder:
        return _Packing(self._codec, self._level)

    def _copy_below(
        self, act: Callable[[str, str, Expect], Info], source: str, target: str, expect: Expect
    ) -> Info:
        before = self._info(source)
        info = act(source, target, expect)
        try:
            found = self._info(target)
        except BlobNotFoundError:
            # Another writer has deleted it already.
            return info.replace(size=before.size)
        # Another writer may have replaced it already.
        return info.replace(size=found.size if found.etag == info.etag else before.size)


class _Packing(Framing):
    """Compresses frame by frame, and ends with the index."""

    def __init__(self, codec: Codec, level: int) -> None:
        super().__init__(FRAME, ahead=False)
        self._codec, self._level = codec, level
        self._entries = bytearray()

    def _encode(self, plain: Piece, number: int, last: bool) -> bytes:
        frame = self._codec.pack(plain, self._level)
        self._entries += ENTRY.pack(len(frame), self._codec.check(frame))
        return frame

    def finish(self) -> list[Piece]:
        frames = self._rest(always=False)
        return [*frames, self._codec.index(bytes(self._entries), self.size)]


def _damage_error(key: str, why: str) -> IntegrityError:
    return IntegrityError(f"the compressed blob below is damaged: {why}", key=key)


def _recognize(key: str, tail: bytes) -> tuple[Codec, Footer]:
    try:
        recognized = codec_of(tail)
    except Damaged as error:
        raise _damage_error(key, str(error)) from error
    if recognized is None:
        raise IntegrityError(
            f"it doesn't end in the index of a blob compressed here ({', '.join(CODECS)}): it was cut off or "
            "changed, or was put without a CompressedStore or by a newer version of holdall; delete it, or "
            "put it again",
            key=key,
        )
    return recognized


def _entries(key: str, codec: Codec, footer: Footer, index: bytes, size: int) -> bytes:
    if len(index) != footer.index_size:
        raise _damage_error(key, "its index is longer than the blob")
    try:
        entries = codec.entries(footer, index)
    except Damaged as error:
        raise _damage_error(key, str(error)) from error
    if (
        len(entries) != footer.frames * ENTRY.size
        or footer.index_size + sum(taken for taken, _ in ENTRY.iter_unpack(entries)) != size
    ):
        raise _damage_error(key, "its frames take more or fewer bytes than its index says")
    return entries


def _frames(
    key: str, codec: Codec, footer: Footer, entries: bytes, first: int, pieces: Iterable[Piece]
) -> Iterator[Piece]:
    """Yield the plain bytes of some frames, from the bytes below that hold exactly these."""
    damaged = partial(_damage_error, key)
    known = ENTRY.iter_unpack(entries)
    sizes = (taken for taken, _ in ENTRY.iter_unpack(entries))
    for number, frame in enumerate(regrouped(pieces, _check_sizes(sizes, damaged), damaged), first):
        yield _plain(key, codec, footer, number, frame, next(known)[1])


def _check_sizes(sizes: Iterable[int], damaged: Callable[[str], IntegrityError]) -> Iterator[int]:
    for size in sizes:
        if size > _MOST:
            raise damaged("one of its frames is longer than any that is written here")
        yield size


def _plain(key: str, codec: Codec, footer: Footer, number: int, frame: Piece, check: bytes) -> bytes:
    if codec.check(frame) != check:
        raise _damage_error(key, "the checksum of a frame is not the one in its index")
    try:
        return codec.decompress(frame, footer.plain(number))
    except Damaged as error:
        raise _damage_error(key, str(error)) from error


def _decode_range(
    key: str, codec: Codec, footer: Footer, stored: bytes, low: int, high: int
) -> Iterator[Piece]:
    """Yield a range of the plain bytes of a blob that was read whole."""
    index = stored[-footer.index_size :]
    entries = _entries(key, codec, footer, index, len(stored))
    if low == high:
        return iter(())
    if footer.frames == 1:
        taken, check = ENTRY.unpack(entries)
        plain = _plain(key, codec, footer, 0, memoryview(stored)[:taken], check)
        return iter((plain if high - low == len(plain) else plain[low:high],))
    return cut(
        _frames(key, codec, footer, entries, 0, (memoryview(stored)[: -footer.index_size],)), low, high
    )
