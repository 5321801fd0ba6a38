"""The form of an encrypted blob: a header that commits to its key, and frames that are each authenticated.

A blob is a header of 64 bytes and its frames. The header is `hldlaes`, the version (2) as one byte, the
fingerprint of the master key (8 bytes), the salt (16) and the commitment (32). With HKDF-SHA256 (RFC 5869):

- `secret` = HKDF-Extract without a salt, of the master key.
- `bind` = SHA-256 of the context and the blob's key, each after its length as 64 bits, big-endian.
- `HKDF-Expand(secret, "holdall blob 2\\0" + salt + bind, 64)`: the first half is the AES key, the second
  the commitment. A header with the right commitment was made with this key, in this context, for this blob.
- A frame is sealed by AES-256-GCM (NIST SP 800-38D), as the STREAM construction has it (Hoang, Reyhanitabar,
  Rogaway, Vizár 2015): its nonce is its number (64 bits) and whether it is the last (32 bits), big-endian;
  the header and the blob's key are associated data. It holds 64 KiB, the last less; an empty blob has one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Final

from holdall.errors import IntegrityError, MissingDependencyError, WrongKeyError
from holdall.layers.frames import Framing
from holdall.masterkeys import Keyed, MasterKey
from holdall.store import Piece

FRAME: Final = 1 << 16
"""The number of plain bytes in each frame except the last; part of the format."""
_TAG: Final = 16
SEALED: Final = FRAME + _TAG
HEAD: Final = 64
_MAGIC: Final = b"hldlaes"
_VERSION: Final = 2
_BEGIN: Final = _MAGIC + bytes([_VERSION])
_NONCE: Final = struct.Struct(">QI")
_LENGTH: Final = struct.Struct(">Q")
_MOMENT: Final = struct.Struct(">QQ")
_BLOB: Final = b"holdall blob 2\0"
_SALT: Final = b"holdall salt 2\0"
_STORE: Final = b"holdall store 2\0"


class Binding:
    """Binds keys and commitments to a store's context and to the key of a blob."""

    __slots__ = ("_head", "context")

    def __init__(self, context: str) -> None:
        encoded = context.encode()
        self.context = context
        self._head = _LENGTH.pack(len(encoded)) + encoded

    def __repr__(self) -> str:
        return f"Binding({self.context!r})"

    def of(self, key: bytes) -> bytes:
        """Return what stands for a blob's key in this context."""
        return hashlib.sha256(self._head + _LENGTH.pack(len(key)) + key).digest()


class BlobKey:
    """A master key that blobs are encrypted under, in one context."""

    __slots__ = ("_aead", "_binding", "_expand", "_head", "_salting", "id", "name", "proof")

    def __init__(self, master: MasterKey, binding: Binding) -> None:
        self.name, self.id = master.name, master.id
        self._expand = master.expand
        self._binding = binding
        self._aead: Any = ciphers().AESGCM
        self._head = _BEGIN + self.id
        self._salting = Keyed(master.derived(_SALT, 32))
        self.proof: bytes = master.derived(_STORE + binding.of(b""), 32)
        """Proves that the writer of a store's list of keys had this key, for this context."""

    def __repr__(self) -> str:
        return f"BlobKey({self.name!r}, {self.id.hex()})"

    def derived(self, salt: bytes, key: bytes) -> tuple[Any, bytes]:
        """Return the cipher of one blob and the commitment to its key."""
        info = _BLOB + salt + self._binding.of(key)
        # HKDF-Expand, two blocks.
        first = self._expand(info + b"\x01")
        return self._aead(first), self._expand(first + info + b"\x02")

    def begun(self, key: bytes, first_frame: Piece) -> tuple[Any, bytes]:
        """Return the cipher and the header of a new blob."""
        # If the system's random bytes ever repeat, as in a copy of a virtual machine, the salt still doesn't.
        moment = _MOMENT.pack(time.time_ns(), os.getpid())
        salt = self._salting(os.urandom(32) + moment, first_frame)[:16]
        cipher, commitment = self.derived(salt, key)
        return cipher, self._head + salt + commitment


def check_header(key: str, header: Piece) -> None:
    """Check that a blob's first bytes are such as are written here.

    Raises:
        IntegrityError: It isn't the header of an encrypted blob.
    """
    if len(header) == HEAD:
        if header[:8] == _BEGIN:
            return
        if header[:7] == _MAGIC:
            raise changed(
                key,
                f"its header has the version {header[7]}, expected {_VERSION}: it was changed, or another "
                "version of holdall wrote it",
            )
    raise IntegrityError(
        "it doesn't begin as an encrypted blob does: it is damaged, or was put without an EncryptedStore",
        key=key,
    )


def listed_keys(keys: Iterable[BlobKey | MasterKey]) -> str:
    """Return keys by their names and fingerprints, for messages."""
    return ", ".join(f"{key.name!r} = {key.id.hex()}" for key in keys)


class Opened:
    """Opens the frames of the blob with a key, by its header and the master keys by their fingerprints.

    Raises:
        WrongKeyError: It is encrypted under a key that isn't known.
        IntegrityError: It can't be trusted.
    """

    __slots__ = ("_bound", "_cipher", "key", "master", "proven")

    def __init__(self, key: str, header: Piece, known: dict[bytes, BlobKey]) -> None:
        check_header(key, header)
        header = bytes(header)
        id_ = header[8:16]
        master = known.get(id_)
        if master is None:
            raise WrongKeyError(
                f"it is encrypted under another key, {id_.hex()}, which isn't among the keys of this "
                f"EncryptedStore: {listed_keys(known.values())}",
                key=key,
            )
        encoded = key.encode()
        cipher, commitment = master.derived(header[16:32], encoded)
        if not hmac.compare_digest(commitment, header[32:]):
            raise changed(
                key,
                "its header was changed, or it belongs to another key of the store, or to another context",
            )
        self.key, self.master = key, master
        self.proven = False
        """Whether the last frame was authentic, which proves how long the blob is."""
        self._cipher = cipher
        self._bound = header + encoded

    def frame(self, sealed: Piece, number: int, *, last: bool) -> bytes:
        """Return the plain bytes of one frame."""
        try:
            plain = self._cipher.decrypt(_NONCE.pack(number, last), sealed, self._bound)
        # The class is of a package that may be absent; it is the only one that sealed bytes can raise.
        except ciphers().InvalidTag as error:
            raise changed(self.key, "it was changed, or cut off") from error
        self.proven |= last
        return plain

    def frames(self, sealed: Iterable[Piece], first: int, count: int) -> Iterator[Piece]:
        """Yield the plain bytes of successive frames, from number `first` on, of a blob that has `count`."""
        for number, frame in enumerate(sealed, first):
            yield self.frame(frame, number, last=number == count - 1)


class Sealing(Framing):
    """Seals the body of the blob with a key frame by frame, after its header. `begin` makes the cipher and
    the header from the key and the first frame."""

    def __init__(self, begin: Callable[[bytes, Piece], tuple[Any, bytes]], key: str) -> None:
        super().__init__(FRAME, ahead=True)
        self._begin = begin
        # A lone surrogate may come this far; the store below refuses the key.
        self._key = key.encode(errors="surrogatepass")
        self._cipher: Any = None
        self._bound = b""

    def _encode(self, plain: Piece, number: int, last: bool) -> bytes:
        if number:
            return self._cipher.encrypt(_NONCE.pack(number, last), plain, self._bound)
        self._cipher, header = self._begin(self._key, plain)
        self._bound = header + self._key
        return header + self._cipher.encrypt(_NONCE.pack(0, last), plain, self._bound)

    def whole(self, data: Piece) -> bytes:
        self.size = len(data)
        return self._encode(data, 0, True)

    def update(self, piece: Piece) -> list[Piece]:
        sealed = super().update(piece)
        return [b"".join(sealed)] if len(sealed) > 1 else sealed

    def finish(self) -> list[Piece]:
        return self._rest(always=True)


def frame_count(size: int) -> int:
    """Return the number of frames in a blob that takes `size` bytes below, which is at least one."""
    return max(1, -(-(size - HEAD) // SEALED))


def frame_sizes(first: int, past: int, size: int) -> Iterator[int]:
    """Return the bytes that some frames take below, in a blob that takes `size`."""
    last = frame_count(size) - 1
    for number in range(first, past):
        yield SEALED if number < last else max(0, size - HEAD - last * SEALED)


def plain_size(size: int) -> int:
    """Return the number of plain bytes in a blob that takes `size` bytes below."""
    # What is too short to be ours raises when it is read; a listing goes on.
    return max(0, size - HEAD - _TAG * frame_count(size))


def changed(key: str, why: str) -> IntegrityError:
    """Return the error of a blob that isn't as it was written."""
    return IntegrityError(f"the encrypted blob can't be trusted: {why}", key=key)


class _Ciphers:
    """The names that are used from the package `cryptography`."""

    def __init__(self) -> None:
        try:
            aead: Any = import_module("cryptography.hazmat.primitives.ciphers.aead")
            exceptions: Any = import_module("cryptography.exceptions")
        except ImportError:
            raise MissingDependencyError(
                "encryption needs a package that isn't installed: pip install 'holdall[encrypt]'"
            ) from None
        self.AESGCM: Any = aead.AESGCM
        self.AESSIV: Any = aead.AESSIV
        self.InvalidTag: type[Exception] = exceptions.InvalidTag
        self.UnsupportedAlgorithm: type[Exception] = exceptions.UnsupportedAlgorithm


_loaded: _Ciphers | None = None


def ciphers() -> _Ciphers:
    """Return what is used from the package `cryptography`, which is imported at the first call."""
    global _loaded
    if _loaded is None:
        _loaded = _Ciphers()
    return _loaded
