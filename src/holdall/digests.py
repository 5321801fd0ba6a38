"""The digest of a blob, with what it is the digest of."""

# A helper of layers and of `holdall.transfer`, which call primitives.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from holdall.errors import BlobNotFoundError, IntegrityError, InvalidArgumentError, MissingDependencyError
from holdall.store import Info, Store

__all__ = ["Hash", "digest", "hasher", "read_digest"]


class Hash(Protocol):
    """What `hashlib` and `blake3` give."""

    def update(self, data: Any, /) -> object: ...
    def hexdigest(self) -> str: ...


def hasher(algorithm: str = "sha256") -> Hash:
    """A new hash.

    Args:
        algorithm: A name that `hashlib` knows and whose digest has one length, or `blake3`.

    Raises:
        InvalidArgumentError: Nobody knows the name.
        MissingDependencyError: It is `blake3`, which isn't installed.

    >>> hash = hasher()
    >>> _ = hash.update(b"abc")
    >>> hash.hexdigest()[:8]
    'ba7816bf'
    """
    if algorithm == "blake3":
        try:
            from blake3 import blake3  # pyright: ignore
        except ImportError:
            raise MissingDependencyError(
                "BLAKE3 needs a package: pip install 'holdall[blake3]'; or use sha256"
            ) from None
        return blake3()  # pyright: ignore
    try:
        made = hashlib.new(algorithm, usedforsecurity=False)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(f"no digest is named {algorithm!r}; sha256 is always available") from error
    if not made.digest_size:
        raise InvalidArgumentError(f"a digest of {algorithm} lacks a fixed length; use sha256")
    return made


def digest(store: Store, key: str, algorithm: str = "sha256") -> tuple[Info, str]:
    """What a blob is, and the digest of its bytes in hexadecimal: both of one version of it.

    A store that knows the digest is asked for it; else the blob is read once, in pieces.

    Args:
        store: Where.
        key: Which; it was checked, as for a primitive.
        algorithm: As `hasher` takes it.

    Raises:
        BlobNotFoundError: No blob has this key.
        IntegrityError: The store gave fewer or more bytes than it said there are.

    >>> from holdall import MemoryStore
    >>> info, sha256 = digest(MemoryStore({"a": b"abc"}), "a")
    >>> info.size, sha256[:8]
    (3, 'ba7816bf')
    """
    hasher(algorithm)  # a name that nobody knows is refused before the store is asked
    try:
        known = store._digest(key, algorithm)
        if known is not None:
            # The digest came between two looks at one version; where they differ it may be of either.
            before = store._info(key)
            if store._digest(key, algorithm) == known and store._info(key).etag == before.etag:
                return before, known
        return read_digest(store, key, algorithm)
    except BlobNotFoundError as error:
        error.key = key
        raise


def read_digest(store: Store, key: str, algorithm: str = "sha256") -> tuple[Info, str]:
    """As `digest`, of what the store gives, whatever it has recorded: that stays when the bytes rot.

    >>> from holdall import MemoryStore
    >>> read_digest(MemoryStore({"a": b"abc"}), "a")[1][:8]
    'ba7816bf'
    """
    made = hasher(algorithm)
    info, pieces = store._read(key, 0, None)
    size = 0
    for piece in pieces:
        made.update(piece)
        size += len(piece)
    if size != info.size:
        raise IntegrityError(f"the store returned {size} bytes of a blob of {info.size}", key=key)
    return info, made.hexdigest()
