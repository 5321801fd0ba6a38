"""A layer that encrypts blobs in frames, so that a range can be read without the rest."""

from __future__ import annotations

import os
import warnings
from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from operator import attrgetter
from typing import BinaryIO, cast

from holdall.blob import attributes_of
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    StoreError,
    UnsupportedOperation,
    WrongKeyError,
)
from holdall.files import BlobFile, BlobReader
from holdall.keys import check_key
from holdall.layers.encoding import EncodingStore
from holdall.layers.frames import Encoder, read_part, regrouped
from holdall.layers.keycheck import KeyCheck
from holdall.layers.keynames import LONGEST, KeyNames
from holdall.layers.keyring import KeyRing
from holdall.layers.layer import Layer
from holdall.layers.sealing import (
    FRAME,
    HEAD,
    SEALED,
    BlobKey,
    Opened,
    Sealing,
    changed,
    check_header,
    frame_count,
    frame_sizes,
    plain_size,
)
from holdall.masterkeys import Key
from holdall.pieces import join_pieces
from holdall.ranges import CHUNK, cut, span
from holdall.store import Can, Info, LeftOut, Piece, Put, Store, group_children

__all__ = ["EncryptedStore", "Key", "RotationReport"]


@dataclass(frozen=True)
class RotationReport:
    """The result of `EncryptedStore.rotate`."""

    rotated: int
    """The number of blobs that were encrypted anew under the current key."""
    current: int
    """The number of blobs whose headers already committed to the current key. Their frames weren't read."""
    failures: dict[str, StoreError] = field(default_factory=dict[str, StoreError])
    """By key, why a blob couldn't be rotated; it is unchanged."""


class EncryptedStore(EncodingStore):
    """A store that encrypts its blobs, so that others with access to the store below can't read or alter
    them.

    The bytes are protected: they can't be read without the key, and a blob that was changed, cut off,
    extended, reordered, renamed or taken from another blob below raises `IntegrityError`; no byte is returned
    before its frame of 64 KiB is authenticated. With `names` the keys are protected too: they are stored
    encrypted.

    The rest isn't protected: others with access to the store below see the number of blobs, their sizes to
    the byte, when they were written, their content types and times to live, and can change all of these. They
    can delete blobs, and restore an older blob of the same key: this store doesn't notice. `info` and `list`
    compute the size from the size below, which isn't authenticated. Encrypted bytes don't shrink: compress
    above, `CompressedStore(EncryptedStore(...))`, but not blobs that mix secrets with what others write,
    since the size then reveals something about the secret.

    A store is encrypted with one key, or the keys of one rotation. They are listed, by fingerprints, in the
    blob `holdall.encryption` below, which no call here shows. A handle with another key gets `WrongKeyError`
    from its first call, before anything is read or changed. The form of a blob is in
    `holdall.layers.sealing`. It needs `pip install 'holdall[encrypt]'`.

    Args:
        store: The store below. Blobs that were put there without this layer raise `IntegrityError`.
        key: 32 bytes, or a reference to them, `env:NAME` or `file:PATH`, in base64 or hexadecimal; or a
            mapping of names to such, of at most 31 UTF-8 bytes each, where older keys are kept for reading.
            The names are labels of this handle. One key alone is named `default`. A reference may end in `#`
            and the fingerprint that the key must have. Only references go with a pickle.
        current: The name of the key that encrypts new blobs; not needed for one key.
        names: Another such key, which encrypts keys as AES-SIV (RFC 5297) does, always to the same. It can't
            be rotated. A listing then decrypts and sorts the names of the whole store below in memory,
            whatever its prefix; a key has at most 752 UTF-8 bytes; a name that isn't ours is left alone.
        context: A name of this store, such as `prod/tenant-7`. Blobs of one context can't be read in another,
            so give one if a key serves several stores: without it, others with access below can exchange
            blobs of equal keys.
        retired: The names of keys that only `rotate` reads.
        fingerprint: The expected fingerprint of the current key: 16 hexadecimal digits.

    Raises:
        InvalidArgumentError: A key isn't valid, can't be found, or has another fingerprint; the message never
            shows it.
        MissingDependencyError: `cryptography` isn't installed.

    >>> from holdall import MemoryStore
    >>> below = MemoryStore()
    >>> store = EncryptedStore(below, EncryptedStore.generate_key())
    >>> store["diary"] = b"private"
    >>> store["diary"], b"private" in below["diary"]
    (b'private', False)
    >>> store
    EncryptedStore(MemoryStore(), key='***')
    """

    _secrets = frozenset({"key", "names"})
    _ring: KeyRing | None = None

    def __init__(
        self,
        store: Store,
        key: Key | Mapping[str, Key],
        *,
        current: str | None = None,
        names: Key | None = None,
        context: str = "",
        retired: Collection[str] = (),
        fingerprint: str | None = None,
    ) -> None:
        if isinstance(key, Store):
            del store  # which is the key, then
            raise InvalidArgumentError("the store comes first, then the key: EncryptedStore(store, key)")
        try:
            ring = KeyRing(key, current, names, context, retired, fingerprint)
        finally:
            # A traceback that shows local variables shows no key.
            del key, current, names
        super().__init__(store)
        self._ring = ring
        self._current, self._names, self._known = ring.current, ring.names, ring.reading
        self._check = KeyCheck(store, ring, self._judge)
        warn_of_compression(store)

    @property
    def _far(self) -> bool:
        # With encrypted names a listing has to sort them all.
        return self._names is None and super()._far

    @staticmethod
    def generate_key() -> bytes:
        """Make a key of 32 random bytes from the system. Without it the blobs can't be read: keep it safe.

        >>> len(EncryptedStore.generate_key())
        32
        """
        return os.urandom(32)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each key by its name, and that of the key of `names=` as `names`.

        They are public: they only reveal whether two keys are equal. Note them, and give one as
        `fingerprint=` or after a reference, so that a wrong key is refused when the store is opened.

        >>> from holdall import MemoryStore
        >>> EncryptedStore(MemoryStore(), bytes(range(32))).fingerprints()
        {'default': '2f38b1e6af6c2217'}
        """
        return self._keys_given().fingerprints()

    def _place(self, tail: str) -> str:
        return tail if self._names is None else ""

    def _keys_given(self) -> KeyRing:
        if self._ring is None:
            raise UnsupportedOperation("this EncryptedStore was never opened: its constructor raised")
        return self._ring

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, **self._keys_given().settings()}

    def __repr__(self) -> str:
        opened = self._ring is not None
        return f"EncryptedStore({self._store!r}, {self._ring!r})" if opened else "EncryptedStore(...)"

    @cached_property
    def can(self) -> Can:
        return self._store.can & ~(Can.COPY | Can.SIGN)

    def _judge(self, below: str, header: Piece) -> bool | WrongKeyError:
        """Return True if one of the keys opens a blob below, False if it isn't encrypted, or the error."""
        try:
            check_header(below, header)
        except IntegrityError:
            return False
        key = below if self._names is None else self._names.opened(below)
        if key is None:
            return WrongKeyError("its name was encrypted with another names key, or not at all", key=below)
        try:
            Opened(key, header, self._check.keys)
        except IntegrityError as error:
            return WrongKeyError(error.message, key=below)
        return True

    def _open_header(self, key: str, header: Piece, known: dict[bytes, BlobKey] | None = None) -> Opened:
        """Return what opens a blob, from its header."""
        try:
            return Opened(key, header, self._known if known is None else known)
        except IntegrityError:
            # Another process may have emptied the store below and begun anew with another key.
            self._check.forget()
            raise

    def _checked(self, key: object) -> str:
        key = self._check_for_use(key)
        if not self._check.readable:
            # Every call that takes a key comes through here first, also that of a cache above which would
            # answer it without asking.
            try:
                self._check.before_reading()
            except IntegrityError:
                raise
            except StoreError:
                # The store below can't be asked: the call itself finds that out again if it needs it, and a
                # replica or a cache above may do without.
                return key
        return key

    def _check_for_use(self, key: object) -> str:
        if self._names is None:
            return self._key_below(super()._checked(key))
        if self._closed:
            raise self._closed_error()
        key = check_key(key)
        if len(key) * 4 > LONGEST and len(key.encode()) > LONGEST:
            raise InvalidKeyError(
                f"a key that is stored encrypted has at most {LONGEST} UTF-8 bytes, "
                f"this one has {len(key.encode())}",
                key=key,
            )
        try:
            self._store._checked(self._names.encrypt(key))
        except InvalidKeyError as error:
            raise InvalidKeyError(f"encrypted it can't be a key: {error.message}", key=key) from None
        return key

    def _key_below(self, key: str) -> str:
        if self._names is not None:
            return self._names.encrypt(key)
        if key == self._check.place:
            raise InvalidKeyError("an EncryptedStore keeps the fingerprints of its keys there", key=key)
        return key

    def _below_key(self, key: str) -> str:
        if not self._check.readable:
            self._check.before_reading()
        return self._key_below(key)

    def _target_key(self, key: str) -> str:
        below = self._key_below(key)
        if not self._check.writable:
            self._check.before_writing((below,))
        return below

    def _plain(self, key: str, info: Info) -> Info:
        return info.replace(key=key, size=plain_size(info.size))

    # Here again, since a class that overrides `_checked` doesn't inherit them.

    def _get(self, key: str) -> bytes | None:
        return super()._get(key if self._check.readable else self._checked(key))

    def _has(self, key: str) -> bool:
        return super()._has(key if self._check.readable else self._checked(key))

    def _put(self, key: str, data: bytes) -> Info:
        # The store below checks a new key, but not what it was before it was encrypted.
        shown = self._names is None and self._check.writable
        return super()._put(key, data) if shown else Store._put(self, key, data)

    def _decode(self, key: str, stored: bytes) -> bytes:
        opened, view = self._open_header(key, stored[:HEAD]), memoryview(stored)
        if len(stored) <= HEAD + SEALED:
            return opened.frame(view[HEAD:], 0, last=True)
        count = frame_count(len(stored))
        parts = regrouped((view[HEAD:],), frame_sizes(0, count, len(stored)), partial(changed, key))
        return join_pieces(opened.frames(parts, 0, count))

    def _read_whole(self, key: str, below: str) -> tuple[Info, Iterator[Piece]]:
        info, _, frames = self._begin_read(key, below)
        return self._plain(key, info), frames

    def _read_range(
        self, key: str, below: str, start: int, stop: int | None
    ) -> tuple[Info, Iterator[Piece]] | None:
        info, pieces = read_part(self._store, below, 0, HEAD)
        opened = self._open_header(key, join_pieces(pieces))
        plain = self._plain(key, info)
        count = frame_count(info.size)
        refused = None
        try:
            low, high = span(start, stop, plain.size)
        except InvalidArgumentError as error:
            low, high, refused = 0, 0, error
        first, past = low // FRAME, -(-high // FRAME)
        # Only the last frame proves how long the blob is, which a range that is clamped depends on.
        clamped = start < 0 or start > plain.size or stop is None or stop < 0 or stop > plain.size
        if clamped and (low == high or past < count):
            proof = self._part(below, info, opened, count - 1, count)
            if proof is None:
                return None
            for _ in proof:
                pass
        if refused is not None:
            raise refused
        if low == high:
            return plain, iter(())
        frames = self._part(below, info, opened, first, past)
        return None if frames is None else (plain, cut(frames, low - first * FRAME, high - first * FRAME))

    def _begin_read(
        self, key: str, below: str, known: dict[bytes, BlobKey] | None = None
    ) -> tuple[Info, Opened, Iterator[Piece]]:
        """Return the `Info` below of a whole blob, what opens it, and its plain bytes."""
        info, pieces = self._store._read(below, 0, None)
        if info.size <= HEAD + SEALED:
            stored = join_pieces(pieces)
            opened = self._open_header(key, stored[:HEAD], known)
            return info, opened, iter((opened.frame(memoryview(stored)[HEAD:], 0, last=True),))
        count = frame_count(info.size)
        sizes = chain((HEAD,), frame_sizes(0, count, info.size))
        parts = regrouped(pieces, sizes, partial(changed, key))
        opened = self._open_header(key, next(parts), known)
        return info, opened, opened.frames(parts, 0, count)

    def _part(self, below: str, info: Info, opened: Opened, first: int, past: int) -> Iterator[Piece] | None:
        """Return some frames; None if the blob was replaced since its header was read."""
        start, stop = HEAD + first * SEALED, min(HEAD + past * SEALED, info.size)
        pieces = self._part_of(below, info, start, stop)
        if pieces is None:
            return None
        parts = regrouped(pieces, frame_sizes(first, past, info.size), partial(changed, opened.key))
        return opened.frames(parts, first, frame_count(info.size))

    def _open_read(self, key: str) -> BinaryIO:
        return cast(BinaryIO, BlobFile(_Reader(self, key), CHUNK))

    def _find_named(self, after: str = "") -> Iterator[tuple[str, Info]]:
        """Return the blobs of the store below whose names are encrypted, sorted by their keys."""
        names, place = cast(KeyNames, self._names), self._check.place
        found: list[tuple[str, Info]] = []
        for info in self._store._scan("", ""):
            key = None if info.key == place else names.decrypt(info.key)
            if key is not None and key > after:
                found.append((key, info))
        found.sort(key=lambda pair: pair[0])
        return iter(found)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        self._check_anew(after)
        if self._names is None:
            return self._adapt_listing(self._store._scan(prefix, after))
        return (self._plain(key, info) for key, info in self._find_named(after) if key.startswith(prefix))

    def _check_anew(self, after: str) -> None:
        # After a listing the caller may delete or replace much: a store that was emptied and encrypted with
        # another key is noticed here.
        if not after or not self._check.readable:
            self._check.forget()
            self._check.before_reading()

    def _adapt_entry(self, info: Info) -> Info | None:
        return None if info.key == self._check.place else self._plain(info.key, info)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        if self._names is not None:
            return super()._survey(prefix, after)
        self._check_anew(after)
        below = self._store._survey(prefix, after)
        listed = (entry if isinstance(entry, LeftOut) else self._adapt_entry(entry) for entry in below)
        return filter(None, listed)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        if not self._check.readable:
            self._check.before_reading()
        is_blob = (self._check.place or "").__ne__
        if self._names is None:
            return filter(is_blob, self._store._keys(prefix, after))
        found = filter(None, map(self._names.decrypt, filter(is_blob, self._store._keys("", ""))))
        return iter(sorted(key for key in found if key.startswith(prefix) and key > after))

    def _children(self, prefix: str) -> Iterator[str | Info]:
        if not self._check.readable:
            self._check.before_reading()
        if self._names is None:
            yield from super()._children(prefix)
            return
        # Sorted once, and not again past each folder.
        infos, key_of = list(self._scan(prefix, "")), attrgetter("key")
        yield from group_children(lambda _, after: iter(infos[bisect(infos, after, key=key_of) :]), prefix)

    def _encoder(self, key: str) -> Encoder:
        return Sealing(self._current.begun, key)

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        if not self._check.writable:
            self._check.before_writing()
        return super()._put_many(items)

    def _clear(self) -> None:
        # Not the store below at once: the list of keys stays.
        Store._clear(self)

    def rotate(self, prefix: str = "") -> RotationReport:
        """Encrypt anew, under the current key, each blob that is under another one.

        A blob counts as current if its header commits to the current key; only the headers of those are read.
        Each other blob is read whole, authenticated, and replaced by compare-and-swap, so that no write is
        lost; it keeps its content type and its expiry. Rotation may be stopped at any moment; the next call
        goes on with the rest.

        Rotation is hygiene. It doesn't help against an attacker who had the old key: blobs forged under it
        are rotated with the rest, and copies below (versions, replicas, caches, backups) still open with the
        old key. Before you drop the old key, read everything with the new one alone.

        Args:
            prefix: A string prefix of the keys.

        Raises:
            UnsupportedOperation: The store below can't compare and swap.
            WrongKeyError: None of the keys is one that the store was encrypted with.

        >>> from holdall import MemoryStore
        >>> below, old, new = MemoryStore(), EncryptedStore.generate_key(), EncryptedStore.generate_key()
        >>> EncryptedStore(below, {"2025": old})["a"] = b"1"
        >>> store = EncryptedStore(below, {"2025": old, "2026": new}, current="2026")
        >>> store.rotate()
        RotationReport(rotated=1, current=0, failures={})
        >>> EncryptedStore(below, {"2026": new})["a"]
        b'1'
        """
        self._need(Can.WRITE, "rotate")
        self._need(Can.SWAP, "rotate")
        rotated = current = 0
        failures: dict[str, StoreError] = {}
        for key in self.iterate_keys(prefix):
            try:
                if self._rotate_blob(key):
                    rotated += 1
                else:
                    current += 1
            except BlobNotFoundError:
                continue
            except StoreError as error:
                error.key = key
                failures[key] = error
        if not prefix and not failures:
            self._check.after_rotation()
        return RotationReport(rotated, current, failures)

    def _rotate_blob(self, key: str) -> bool:
        below = self._target_key(key)
        while True:
            header = join_pieces(read_part(self._store, below, 0, HEAD)[1])
            if Opened(key, header, self._check.keys).master is self._current:
                return False
            info, _, pieces = self._begin_read(key, below, self._check.keys)
            attributes = attributes_of(info)
            try:
                self._write(key, pieces, info.etag, attributes)
                return True
            except ConcurrencyError:
                # Another writer was faster, most likely under the current key.
                continue


class _Reader(BlobReader):
    """A file over an encrypted blob. One header opens all of it, so that two versions are never mixed."""

    def __init__(self, store: EncryptedStore, key: str) -> None:
        self._store: EncryptedStore = store
        self._key = key
        self._below = store._below_key(key)
        self._stored, self._opened, pieces = store._begin_read(key, self._below)
        self._begin(store._plain(key, self._stored), pieces)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and not self.closed:
            self._prove_size()
        return super().seek(offset, whence)

    def _find(self) -> Piece:
        if self._position >= self._info.size:
            self._prove_size()
        return super()._find()

    def _prove_size(self) -> None:
        """Authenticate the last frame, which alone proves that the blob wasn't cut off."""
        if not self._opened.proven:
            count = frame_count(self._stored.size)
            for _ in self._frames(count - 1, count):
                pass

    def _frames(self, first: int, past: int) -> Iterator[Piece]:
        frames = self._store._part(self._below, self._stored, self._opened, first, past)
        if frames is None:
            raise ConcurrencyError("the blob was replaced while it was read; open it again", key=self._key)
        return frames

    def _resume(self, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        stop = self._info.size if stop is None else min(stop, self._info.size)
        first, past = start // FRAME, -(-stop // FRAME)
        return self._info, cut(self._frames(first, past), start - first * FRAME, stop - first * FRAME)


def warn_of_compression(store: Store) -> None:
    """Warn if a store, or one below it, compresses what a new `EncryptedStore` over it encrypts: ciphertext
    doesn't shrink."""
    waiting = [store]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, Layer):
            continue
        if each._compresses:
            name = type(each).__name__
            warnings.warn(
                f"{name} below EncryptedStore compresses encrypted bytes, which don't shrink; expected the "
                f"other order: {name}(EncryptedStore(store, key))",
                UserWarning,
                stacklevel=3,
            )
            return
        waiting += each._below
