"""Blobs that are encrypted on their way down, of which parts can still be read."""

from __future__ import annotations

import hmac
import os
import struct
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from itertools import chain
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias, cast

from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    MissingDependencyError,
    StoreError,
    UnsupportedOperation,
)
from holdall.keys import MAX_KEY_BYTES, check_key
from holdall.layers.frames import (
    EncodingWriter,
    Framing,
    encoded,
    gathered,
    only_piece,
    read_part,
    regrouped,
)
from holdall.layers.layer import Transparent
from holdall.ranges import cut, span
from holdall.store import Attributes, Body, Can, Expect, Info, Piece, Store

__all__ = ["EncryptedStore", "Key", "RotationReport"]

Key: TypeAlias = bytes | str
"""32 bytes, or where they are: `env:NAME` or `file:PATH`, in base64 or hexadecimal."""

_FRAME: Final = 1 << 16
"""How many plain bytes a frame holds, but for the last; part of the format."""
_TAG: Final = 16
_SEALED: Final = _FRAME + _TAG
_HEADER: Final = struct.Struct(">7sBIB31s20s")
"""The magic, the version, the frame size, the length of the key's name, that name, the salt."""
_HEAD: Final = _HEADER.size
_MAGIC: Final = b"hldlaes"
_VERSION: Final = 1
_SMALLEST: Final = _HEAD + _TAG
_NONCE: Final = struct.Struct(">QI")
_LABEL: Final = b"holdall blob 1"
_NAME_LABEL: Final = b"holdall key names 1"
_SIV: Final = 16
_LONGEST: Final = MAX_KEY_BYTES * 3 // 4 - _SIV
"""How long a key may be whose encrypted name is a key."""


@dataclass(frozen=True)
class RotationReport:
    """What `EncryptedStore.rotate` did."""

    rotated: int
    """How many blobs are encrypted under the current key now that were not."""
    current: int
    """How many were already, and were not read."""
    failures: dict[str, StoreError] = field(default_factory=dict[str, StoreError])
    """By its key, why a blob could not be: it is as it was."""


class _Master(NamedTuple):
    """A key that blobs are encrypted under."""

    name: str
    secret: bytes
    """What each blob's own key is derived from."""
    padded: bytes
    """The name as a header has it."""

    def __repr__(self) -> str:
        # A traceback that shows local variables shows this.
        return f"_Master({self.name!r})"


class EncryptedStore(Transparent):
    """A store that encrypts its blobs, so that who has the store below learns little and changes nothing.

    What is protected: the bytes. Nobody reads them without the key, and whatever is changed, cut off, added,
    reordered, renamed or taken from another blob below raises `IntegrityError`; no byte is given out before
    its frame of 64 KiB is authenticated. With `names` the keys are protected too: they are stored encrypted.

    What isn't: how many blobs there are, their sizes to the byte, when they were written, their content
    types and times to live, and which blobs one key has had over time. Nor can it be told that a blob was
    deleted, or that an older blob of the same key was put back whole. `info` and `list` compute the size from
    the size below, and read nothing that could be authenticated. What is encrypted doesn't shrink: compress
    above, `CompressedStore(EncryptedStore(...))`, where sizes may tell what the bytes are like.

    Each blob has a random salt, and its own key is derived by HKDF-SHA256 (RFC 5869) from the salt and the
    master key. Frames are sealed by AES-256-GCM (NIST SP 800-38D) as the STREAM construction has it (Hoang,
    Reyhanitabar, Rogaway, Vizár 2015): the nonce is the frame's number and whether it is the last; the
    header, which names the master key, and the blob's key are associated data. Ranges read the header and
    their own frames only. It needs `pip install 'holdall[encrypt]'`.

    Args:
        store: The store below. Blobs that were put there without this layer raise `IntegrityError`.
        key: 32 bytes, or a reference to them, `env:NAME` or `file:PATH`, in base64 or hexadecimal; or a
            mapping of names to such, of at most 31 UTF-8 bytes each, where older keys are kept to be read.
            One key alone is named `default`. Only references go with a pickle.
        current: The name of the key that encrypts what is put; not needed for one key.
        names: Another such key, which encrypts keys as AES-SIV (RFC 5297) does, always to the same. It can't
            be rotated. A listing then decrypts and sorts the names of the whole store below in memory,
            whatever its prefix; a key has at most 752 UTF-8 bytes; what has no name of ours is left alone.

    Raises:
        InvalidArgumentError: A key isn't one, or can't be found; the message never shows it.
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

    def __init__(
        self,
        store: Store,
        key: Key | Mapping[str, Key],
        *,
        current: str | None = None,
        names: Key | None = None,
    ) -> None:
        super().__init__(store)
        self._aead: Any = _ciphers().AESGCM
        given = dict(key) if isinstance(key, Mapping) else {"default": key}
        self._key = given if isinstance(key, Mapping) else key
        self._masters = {name: _master(name, value) for name, value in given.items()}
        if current is None and len(given) == 1:
            self._current = next(iter(self._masters.values()))
        elif isinstance(current, str) and current in self._masters:
            self._current = self._masters[current]
        else:
            known = ", ".join(map(repr, given)) or "none"
            # Not what was given, which may be a key by mistake.
            raise InvalidArgumentError(f"current is the name of one of the keys: {known}")
        self._asked = current
        self._names_key = names
        self._names = None if names is None else _Names(names)

    @staticmethod
    def generate_key() -> bytes:
        """A new key: 32 bytes of the system's randomness. Who loses it has lost the blobs.

        >>> len(EncryptedStore.generate_key())
        32
        """
        return os.urandom(32)

    # --- secrets stay here ---

    def _place(self, tail: str) -> str:
        return tail if self._names is None else ""

    def _settings(self) -> dict[str, object]:
        keys = list(self._key.values()) if isinstance(self._key, dict) else [self._key]
        if not all(isinstance(key, str | None) for key in [*keys, self._names_key]):
            raise UnsupportedOperation(
                "an EncryptedStore that holds keys as bytes is not pickled, since they would go with it; "
                "give references, 'env:NAME' or 'file:PATH', instead"
            )
        return {
            "store": self._store,
            "key": self._key,
            "current": self._asked,
            "names": self._names_key,
        }

    def __repr__(self) -> str:
        if isinstance(self._key, dict):
            key = ", ".join([f"{name!r}: {_shown(value)}" for name, value in self._key.items()])
            shown = f"{self._store!r}, key={{{key}}}"
        else:
            shown = f"{self._store!r}, key={_shown(self._key)}"
        if self._asked is not None:
            shown += f", current={self._asked!r}"
        if self._names_key is not None:
            shown += f", names={_shown(self._names_key)}"
        return f"EncryptedStore({shown})"

    @cached_property
    def can(self) -> Can:
        return self._store.can & ~(Can.COPY | Can.SIGN)

    # --- keys and infos ---

    def _checked(self, key: object) -> str:
        if self._names is None:
            return super()._checked(key)
        if self._closed:
            raise self._closed_error()
        key = check_key(key)
        if len(key) * 4 > _LONGEST and len(key.encode()) > _LONGEST:
            raise InvalidKeyError(
                f"a key that is stored encrypted has at most {_LONGEST} UTF-8 bytes, "
                f"this one {len(key.encode())}",
                key=key,
            )
        try:
            self._store._checked(self._names.encrypt(key))
        except InvalidKeyError as error:
            raise InvalidKeyError(f"encrypted it can't be a key: {error.message}", key=key) from None
        return key

    def _below_key(self, key: str) -> str:
        return key if self._names is None else self._names.encrypt(key)

    def _plain_info(self, key: str, info: Info) -> Info:
        # What is too short to be ours raises when it is read; a listing goes on.
        return info.replace(key=key, size=max(0, info.size - _HEAD - _TAG * _frame_count(info.size)))

    # --- reading ---

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        below = self._below_key(key)
        if start == 0 and stop is None:
            info, pieces = self._store._read(below, 0, None)
            plain = self._plain_info(key, info)
            if info.size > _HEAD + _SEALED:
                return plain, self._stream(key, info.size, pieces)
            stored = gathered(pieces)
            opened = self._opened(key, stored[:_HEAD])
            return plain, iter((opened.frame(memoryview(stored)[_HEAD:], 0, last=True),))
        while True:
            info, pieces = read_part(self._store, below, 0, _HEAD)
            opened = self._opened(key, gathered(pieces))
            plain = self._plain_info(key, info)
            count = _frame_count(info.size)
            refused = None
            try:
                low, high = span(start, stop, plain.size)
            except InvalidArgumentError as error:
                low, high, refused = 0, 0, error
            first, past = low // _FRAME, -(-high // _FRAME)
            # Only the last frame proves how long the blob is, which a range that is clamped depends on.
            clamped = start < 0 or start > plain.size or stop is None or stop < 0 or stop > plain.size
            if clamped and (low == high or past < count):
                proof = self._part(below, info, opened, count - 1, count)
                if proof is None:
                    continue
                for _ in proof:
                    pass
            if refused is not None:
                raise refused
            if low == high:
                return plain, iter(())
            frames = self._part(below, info, opened, first, past)
            if frames is not None:
                return plain, cut(frames, low - first * _FRAME, high - first * _FRAME)

    def _part(self, below: str, info: Info, opened: _Opened, first: int, past: int) -> Iterator[Piece] | None:
        """Some frames; None if another blob has taken the place of the one whose header was read."""
        start, stop = _HEAD + first * _SEALED, min(_HEAD + past * _SEALED, info.size)
        found, pieces = read_part(self._store, below, start, stop)
        if found.etag != info.etag:
            return None
        parts = regrouped(pieces, _sizes(first, past, info.size), partial(_damaged, opened.key))
        return opened.frames(parts, first, _frame_count(info.size))

    def _stream(self, key: str, size: int, pieces: Iterator[Piece]) -> Iterator[Piece]:
        count = _frame_count(size)
        parts = regrouped(pieces, chain((_HEAD,), _sizes(0, count, size)), partial(_damaged, key))
        opened = self._opened(key, next(parts))
        yield from opened.frames(parts, 0, count)

    def _opened(self, key: str, header: Piece) -> _Opened:
        """What opens a blob, from its header."""
        name = _name_in(key, header)
        master = self._masters.get(name)
        if master is None:
            known = ", ".join(map(repr, self._masters))
            raise IntegrityError(
                f"it is encrypted under the key named {name!r}, which this EncryptedStore was not given; "
                f"it has {known}",
                key=key,
            )
        return _Opened(key, self._cipher(master, header), bytes(header) + key.encode())

    def _cipher(self, master: _Master, header: Piece) -> Any:
        # HKDF's second step, of one block, with the salt in its info, as RFC 5869, section 3.1 allows where
        # the secret is uniform: the first step is the same for every blob.
        return self._aead(hmac.digest(master.secret, bytes(header[-20:]) + _LABEL + b"\x01", "sha256"))

    def _info(self, key: str) -> Info:
        return self._plain_info(key, self._store._info(self._below_key(key)))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        if self._names is None:
            for info in self._store._scan(prefix, after):
                yield self._plain_info(info.key, info)
            return
        found: list[tuple[str, Info]] = []
        for info in self._store._scan("", ""):
            key = self._names.decrypt(info.key)
            if key is not None and key.startswith(prefix) and key > after:
                found.append((key, info))
        found.sort(key=lambda pair: pair[0])
        for key, info in found:
            yield self._plain_info(key, info)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        if self._names is None:
            return self._store._keys(prefix, after)
        keys = filter(None, map(self._names.decrypt, self._store._keys("", "")))
        return iter(sorted(key for key in keys if key.startswith(prefix) and key > after))

    def _children(self, prefix: str) -> Iterator[str | Info]:
        if self._names is None:
            for child in self._store._children(prefix):
                yield child if isinstance(child, str) else self._plain_info(child.key, child)
            return
        # The base class would list again past each folder, which here sorts everything each time.
        folder = ""
        for info in self._scan(prefix, ""):
            if folder and info.key.startswith(folder):
                continue
            slash = info.key.find("/", len(prefix))
            folder = info.key[: slash + 1]
            yield folder or info

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        plain = {self._below_key(key): key for key in keys}
        try:
            for below, stored in self._store._get_many(plain):
                key = plain[below]
                yield key, bytes(gathered(self._stream(key, len(stored), iter((stored,)))))
        except StoreError as error:
            error.key = plain.get(error.key or "", error.key)
            raise

    def _digest(self, key: str, algorithm: str) -> str | None:
        return None

    # --- writing ---

    def _sealing(self, key: str) -> _Sealing:
        master = self._current
        header = master.padded + os.urandom(20)
        return _Sealing(self._cipher(master, header), header, header + key.encode())

    def _sealed(self, key: str, body: Body) -> Body:
        sealing = self._sealing(key)
        piece = only_piece(body, _FRAME)
        if piece is None:
            return encoded(body, sealing)
        return (sealing.whole(piece),)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        below = self._below_key(key)
        return self._plain_info(key, self._store._write(below, self._sealed(key, body), expect, attributes))

    def _put_many(self, items: Iterable[tuple[str, Body]], attributes: Attributes) -> Iterator[Info]:
        plain: dict[str, str] = {}

        def sealed() -> Iterator[tuple[str, Body]]:
            for key, body in items:
                below = self._below_key(key)
                plain[below] = key
                yield below, self._sealed(key, body)

        try:
            for info in self._store._put_many(sealed(), attributes):
                yield self._plain_info(plain[info.key], info)
        except StoreError as error:
            error.key = plain.get(error.key or "", error.key)
            raise

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        # Encrypted as it is written, so that no plain byte is spooled to a disk.
        file = self._store._open_write(self._below_key(key), expect, attributes)
        return cast(BinaryIO, EncodingWriter(file, self._sealing(key)))

    def _delete(self, key: str, expect: Expect) -> bool:
        return self._store._delete(self._below_key(key), expect)

    def _delete_many(self, keys: Iterable[str]) -> int:
        plain = {self._below_key(key): key for key in keys}
        try:
            return self._store._delete_many(plain)
        except StoreError as error:
            error.key = plain.get(error.key or "", error.key)
            raise

    # --- rotation ---

    def rotate(self, prefix: str = "") -> RotationReport:
        """Encrypt under the current key what is encrypted under another.

        Only the headers of the other blobs are read. Each blob is replaced by compare-and-swap, so that
        nobody's write is lost, and keeps its content type and the time it expires. It may be stopped at any
        moment and run again, which goes on with what is left.

        Args:
            prefix: A string prefix of the keys.

        Raises:
            UnsupportedOperation: The store below can't compare and swap.

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
                if self._rotated(key):
                    rotated += 1
                else:
                    current += 1
            except BlobNotFoundError:
                continue
            except StoreError as error:
                error.key = key
                failures[key] = error
        return RotationReport(rotated, current, failures)

    def _rotated(self, key: str) -> bool:
        while True:
            header = gathered(read_part(self._store, self._below_key(key), 0, _HEAD)[1])
            if _name_in(key, header) == self._current.name:
                return False
            info, pieces = self._read(key, 0, None)
            attributes = Attributes(info.content_type, info.expires)
            try:
                self._write(key, pieces, info.etag, attributes)
                return True
            except ConcurrencyError:
                # Somebody wrote meanwhile, most likely under the current key.
                continue


class _Opened:
    """Opens the frames of one blob."""

    def __init__(self, key: str, cipher: Any, bound: bytes) -> None:
        self.key = key
        self._cipher = cipher
        self._bound = bound

    def frame(self, sealed: Piece, number: int, *, last: bool) -> bytes:
        try:
            return self._cipher.decrypt(_NONCE.pack(number, last), sealed, self._bound)
        # The class is of a package that may be absent; it is the only one that sealed bytes can raise.
        except _ciphers().InvalidTag as error:
            raise _damaged(self.key, "it was changed, or encrypted under another key of this name") from error

    def frames(self, sealed: Iterable[Piece], first: int, count: int) -> Iterator[Piece]:
        """Frames from the first of them on, of a blob that has `count`."""
        for number, frame in enumerate(sealed, first):
            yield self.frame(frame, number, last=number == count - 1)


class _Sealing(Framing):
    """Seals a body frame by frame, after its header."""

    def __init__(self, cipher: Any, header: bytes, bound: bytes) -> None:
        super().__init__(_FRAME, ahead=True)
        self._cipher = cipher
        self._header = header
        self._bound = bound

    def _encode(self, plain: Piece, number: int, last: bool) -> bytes:
        sealed = self._cipher.encrypt(_NONCE.pack(number, last), plain, self._bound)
        return sealed if number else self._header + sealed

    def whole(self, plain: Piece) -> bytes:
        """What is stored of a body of at most one frame."""
        self.size = len(plain)
        return self._encode(plain, 0, True)

    def update(self, piece: Piece) -> list[Piece]:
        sealed = super().update(piece)
        return [b"".join(sealed)] if len(sealed) > 1 else sealed

    def finish(self) -> list[Piece]:
        return self._rest(always=True)


class _Names:
    """Encrypts keys, each always to the same."""

    def __init__(self, key: Key) -> None:
        ciphers = _ciphers()
        secret = _secret("names", key)
        # AES-256-SIV takes 64 bytes: HKDF's second step, of two blocks.
        first = hmac.digest(secret, _NAME_LABEL + b"\x01", "sha256")
        second = hmac.digest(secret, first + _NAME_LABEL + b"\x02", "sha256")
        try:
            self._siv: Any = ciphers.AESSIV(first + second)
        except ciphers.UnsupportedAlgorithm as error:
            raise UnsupportedOperation("names= needs AES-SIV, which this OpenSSL doesn't have") from error
        self._invalid: type[Exception] = ciphers.InvalidTag
        self._warned = False

    def encrypt(self, key: str) -> str:
        return _spelled(self._siv.encrypt(key.encode(), None))

    def decrypt(self, name: str) -> str | None:
        """The key that a name stands for; None if it isn't one of ours."""
        try:
            sealed = urlsafe_b64decode(name.encode("ascii") + b"=" * (-len(name) % 4))
            # The decoder passes over what it doesn't know, so that many spellings give the same.
            if _spelled(sealed) != name:
                raise ValueError
            key = check_key(self._siv.decrypt(sealed, None).decode())
        except (ValueError, self._invalid):
            key = None
            self._warn()
        return key

    def _warn(self) -> None:
        if not self._warned:
            import logging

            self._warned = True
            logging.getLogger("holdall.layers.encrypted").warning(
                "the store below has blobs whose names this names key didn't encrypt; they are left alone"
            )


def _spelled(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _frame_count(size: int) -> int:
    """In how many frames a blob is that takes so many bytes below; there is one at least."""
    return max(1, -(-(size - _HEAD) // _SEALED))


def _sizes(first: int, past: int, size: int) -> Iterator[int]:
    """How many bytes some frames take below, of a blob that takes `size`."""
    last = _frame_count(size) - 1
    for number in range(first, past):
        yield _SEALED if number < last else max(0, size - _HEAD - last * _SEALED)


def _name_in(key: str, header: Piece) -> str:
    """The name of the key that a blob is encrypted under."""
    if len(header) == _HEAD:
        magic, version, frame, length, name, _ = _HEADER.unpack(header)
        if magic == _MAGIC:
            if (version, frame) != (_VERSION, _FRAME):
                raise _damaged(key, "its header is not of a version that is known here")
            try:
                return name[:length].decode()
            except UnicodeDecodeError:
                raise _damaged(key, "its header has changed") from None
    raise IntegrityError(
        "it doesn't begin as an encrypted blob does: it is damaged, or was put without an EncryptedStore",
        key=key,
    )


def _damaged(key: str, why: str) -> IntegrityError:
    return IntegrityError(f"the encrypted blob can't be trusted: {why}", key=key)


def _ciphers() -> Any:
    global _loaded
    if _loaded is None:
        _loaded = _Loaded()
    return _loaded


class _Loaded:
    """What is used of the package `cryptography`."""

    def __init__(self) -> None:
        try:
            aead: Any = import_module("cryptography.hazmat.primitives.ciphers.aead")
            exceptions: Any = import_module("cryptography.exceptions")
        except ImportError as error:
            raise MissingDependencyError(
                "encryption needs a package that isn't installed: pip install 'holdall[encrypt]'"
            ) from error
        self.AESGCM: Any = aead.AESGCM
        self.AESSIV: Any = aead.AESSIV
        self.InvalidTag: type[Exception] = exceptions.InvalidTag
        self.UnsupportedAlgorithm: type[Exception] = exceptions.UnsupportedAlgorithm


_loaded: _Loaded | None = None


def _master(name: object, key: object) -> _Master:
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name.encode()) <= 31:
        # Not what was given, which may be a key by mistake: 64 hexadecimal digits are no name.
        raise InvalidArgumentError(
            "a key's name is a printable str of 1 to 31 UTF-8 bytes; the mapping is of names to keys"
        )
    encoded_name = name.encode()
    # HKDF's first step, without a salt.
    secret = hmac.digest(bytes(32), _secret(f"the key {name!r}", key), "sha256")
    padded = _HEADER.pack(_MAGIC, _VERSION, _FRAME, len(encoded_name), encoded_name, b"")[:-20]
    return _Master(name, secret, padded)


def _secret(what: str, key: object) -> bytes:
    """The 32 bytes of a key; no message ever shows what was given, since it may be one."""
    where = f"{what} "
    if isinstance(key, str):
        scheme, _, rest = key.partition(":")
        if scheme == "env" and rest:
            try:
                text = os.environ.get(rest)
            except UnicodeEncodeError:
                text = None
            if text is None:
                raise InvalidArgumentError(f"{what}: the environment has no variable {rest!r}")
            where += f"in the environment variable {rest!r} "
        elif scheme == "file" and rest:
            try:
                with open(os.path.expanduser(rest), "rb") as file:
                    text = file.read(1024).decode("ascii", "replace")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise InvalidArgumentError(f"{what}: the file {rest!r} can't be read: {reason}") from error
            where += f"in the file {rest!r} "
        else:
            raise InvalidArgumentError(
                f"{what} is a str, but no reference: give 'env:NAME', 'file:PATH', or 32 bytes"
            )
        key = _decoded(text.strip())
    if isinstance(key, bytes | bytearray | memoryview) and len(cast(bytes, key)) == 32:
        return bytes(cast(bytes, key))
    raise InvalidArgumentError(
        f"{where}isn't a key: 32 bytes, where it is text in base64 or hexadecimal; "
        "EncryptedStore.generate_key() makes one"
    )


def _decoded(text: str) -> bytes | None:
    try:
        if len(text) == 64:
            return bytes.fromhex(text)
        text = text.replace("-", "+").replace("_", "/")
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def _shown(key: object) -> str:
    return repr(key) if isinstance(key, str) else "'***'"
