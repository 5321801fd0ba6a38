"""A digest kept with each blob, and checked whenever the blob is read whole."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from holdall.arguments import check_choice
from holdall.digests import Hash, blake3
from holdall.errors import (
    BlobNotFoundError,
    IntegrityError,
    StoreError,
)
from holdall.layers.encoding import EncodingStore
from holdall.layers.frames import Encoder, read_tail
from holdall.pieces import join_pieces
from holdall.ranges import CHUNK, span
from holdall.store import Can, Info, Piece, Store

__all__ = ["ChecksumStore"]

_TRAILER: Final = struct.Struct(">32sQB7s")
"""The digest, how many bytes it is of, the number of its algorithm, the magic."""
_SIZE: Final = _TRAILER.size
_MAGIC: Final = b"hldlsum"
_ALGORITHMS: Final = {"sha256": 1, "blake3": 2}
_NAMES: Final = {number: name for name, number in _ALGORITHMS.items()}
_IN_HAND: Final = CHUNK + _SIZE
"""A blob of at most this many bytes is checked before any of them is returned."""


class _Trailer(NamedTuple):
    digest: bytes
    size: int
    algorithm: str


class ChecksumStore(EncodingStore):
    """A store that keeps a digest with each blob, and notices when its bytes have changed.

    Every whole read is checked: `get` and the other calls that return a whole blob never return wrong bytes.
    A stream (`chunks`, `open`) of more than 1 MiB raises at its end, after it has returned the bytes before.
    A range isn't checked, since the digest is of the whole, but it notices a blob that lost its end.
    `info` and `list` read nothing, so they notice nothing.

    The blob below is the same bytes and a trailer of 48 bytes, so most programs still open it. The digest
    finds accidents, not attacks: an attacker who can change a blob can change its digest too (see
    `EncryptedStore`).

    Args:
        store: The store below. Blobs that were put there without this layer raise `IntegrityError`.
        algorithm: `sha256` (FIPS 180-4), or `blake3`, which is several times as fast on large blobs and
            needs `pip install 'holdall[blake3]'`. Blobs with either digest can be read.

    Raises:
        InvalidArgumentError: The algorithm isn't one of these.
        MissingDependencyError: `blake3` isn't installed.

    >>> from holdall import MemoryStore
    >>> below = MemoryStore()
    >>> store = ChecksumStore(below)
    >>> store["a"] = b"right"
    >>> below["a"] = below["a"].replace(b"right", b"wrong")
    >>> store["a"]
    Traceback (most recent call last):
    holdall.errors.IntegrityError: 'a': its bytes aren't those that were written: their sha256 differs
    """

    def __init__(self, store: Store, algorithm: str = "sha256") -> None:
        super().__init__(store)
        check_choice(algorithm, "algorithm", _ALGORITHMS)
        self._algorithm = algorithm
        self._new = _hasher(algorithm)

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "algorithm": self._algorithm}

    def verify(self, prefix: str = "") -> Iterator[IntegrityError]:
        """Read every blob under a prefix; yield the error of each whose bytes aren't those that were written.

        Args:
            prefix: A string prefix of the keys.

        >>> from holdall import MemoryStore
        >>> below = MemoryStore({"foreign": b"no digest"})
        >>> store = ChecksumStore(below)
        >>> store["a"] = b"1"
        >>> [error.key for error in store.verify()]
        ['foreign']
        """
        for key in self.iterate_keys(prefix):
            try:
                for _ in self._read(key, 0, None)[1]:
                    pass
            except BlobNotFoundError:
                continue
            except IntegrityError as error:
                error.key = key
                yield error
            except StoreError as error:
                error.key = key
                raise

    def _plain(self, key: str, info: Info) -> Info:
        # A blob that is too short for a trailer raises when it is read; a listing goes on.
        return info.replace(key=key, size=max(0, info.size - _SIZE))

    def _decode(self, key: str, stored: bytes) -> bytes:
        return bytes(self._check_body(key, stored))

    def _read_range(
        self, key: str, below: str, start: int, stop: int | None
    ) -> tuple[Info, Iterator[Piece]] | None:
        info, trailer = self._trailer(key)
        low, high = span(start, stop, trailer.size)
        pieces = iter(()) if low == high else self._part_of(key, info, low, high)
        return None if pieces is None else (self._plain(key, info), pieces)

    def _read_whole(self, key: str, below: str) -> tuple[Info, Iterator[Piece]] | None:
        info, pieces = self._store._read(key, 0, None)
        plain = self._plain(key, info)
        if info.size <= _IN_HAND:
            return plain, iter((self._check_body(key, join_pieces(pieces)),))
        if Can.RANGE not in self._store.can:
            # The algorithm is known at the end only: each that may be meant is fed.
            return plain, _check_stream(key, info.size, pieces, _hashers())
        # Its algorithm is known at its end, and has to be known at its start.
        found, trailer = self._trailer(key)
        if found.etag != info.etag:
            return None
        hashers = {trailer.algorithm: _hasher(trailer.algorithm)()}
        return plain, _check_stream(key, info.size, pieces, hashers)

    def _check_body(self, key: str, stored: Piece) -> Piece:
        view = memoryview(stored)
        trailer = _parse_trailer(key, view[-_SIZE:], len(view))
        body = view[:-_SIZE]
        hasher = self._new() if trailer.algorithm == self._algorithm else _hasher(trailer.algorithm)()
        hasher.update(body)
        if hasher.digest() != trailer.digest:
            raise _differs(key, trailer)
        return body

    def _trailer(self, key: str) -> tuple[Info, _Trailer]:
        info, tail = read_tail(self._store, key, _SIZE)
        return info, _parse_trailer(key, tail, info.size)

    def _digest(self, key: str, algorithm: str) -> str | None:
        if Can.RANGE not in self._store.can:
            return None
        trailer = self._trailer(key)[1]
        return trailer.digest.hex() if trailer.algorithm == algorithm else None

    def _encoder(self, key: str) -> Encoder:
        return _Sealing(self._algorithm, self._new())


class _Sealing(Encoder):
    """Passes a body on, and its trailer after it."""

    at_once = 1 << 16

    def __init__(self, algorithm: str, hasher: Hash) -> None:
        self._number = _ALGORITHMS[algorithm]
        self._hasher = hasher

    def whole(self, data: Piece) -> bytes:
        # A copy first: what is hashed is what is stored, even if the caller's buffer changes.
        return super().whole(bytes(data))

    def update(self, piece: Piece) -> tuple[Piece]:
        self.size += len(piece)
        self._hasher.update(piece)
        return (piece,)

    def finish(self) -> tuple[Piece]:
        return (_TRAILER.pack(self._hasher.digest(), self.size, self._number, _MAGIC),)


def _check_stream(key: str, size: int, pieces: Iterator[Piece], hashers: dict[str, Hash]) -> Iterator[Piece]:
    """Yield the body; its last piece is returned only once the whole is checked."""
    left = size - _SIZE
    for piece in pieces:
        body, rest = memoryview(piece)[:left], memoryview(piece)[left:]
        left -= len(body)
        for hasher in hashers.values():
            hasher.update(body)
        if left:
            yield body
            continue
        if len(rest) < _SIZE:
            body = memoryview(bytes(body))
            rest = memoryview(bytes(rest) + join_pieces(pieces))
        trailer = _parse_trailer(key, rest, size)
        hasher = hashers.get(trailer.algorithm)
        if hasher is None:
            # Raises what is missing, since all that are installed were fed.
            hasher = _hasher(trailer.algorithm)()
        if hasher.digest() != trailer.digest:
            raise _differs(key, trailer)
        yield body
        return
    raise IntegrityError("the store below returned fewer bytes than the blob has", key=key)


def _parse_trailer(key: str, tail: Piece, size: int) -> _Trailer:
    if len(tail) == _SIZE:
        digest, length, number, magic = _TRAILER.unpack(tail)
        if magic == _MAGIC and number in _NAMES and length == size - _SIZE:
            return _Trailer(digest, length, _NAMES[number])
    raise IntegrityError(
        "it doesn't end in the digest of its bytes: it was cut off, or was put without a ChecksumStore or "
        "by a newer version of holdall",
        key=key,
    )


def _differs(key: str, trailer: _Trailer) -> IntegrityError:
    return IntegrityError(
        f"its bytes aren't those that were written: their {trailer.algorithm} differs", key=key
    )


def _hasher(algorithm: str) -> Callable[[], Hash]:
    return hashlib.sha256 if algorithm == "sha256" else blake3()


def _hashers() -> dict[str, Hash]:
    hashers: dict[str, Hash] = {}
    for algorithm in _ALGORITHMS:
        try:
            hashers[algorithm] = _hasher(algorithm)()
        except StoreError:
            continue
    return hashers
