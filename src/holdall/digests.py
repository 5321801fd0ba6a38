"""The digests of blobs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from holdall.arguments import check_type
from holdall.errors import BlobNotFoundError, IntegrityError, InvalidArgumentError, MissingDependencyError
from holdall.stopping import stoppable
from holdall.store import Info, Store


class Hash(Protocol):
    """A hash object of `hashlib` or `blake3`."""

    def update(self, data: Any, /) -> object: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...


def hasher(algorithm: str = "sha256") -> Hash:
    """Return a new hash object of `blake3`, or of an algorithm of `hashlib` whose digest has a fixed length.

    Raises:
        InvalidArgumentError: The name is unknown, or its digest lacks a fixed length.
        MissingDependencyError: It is `blake3`, which isn't installed.

    >>> hash = hasher()
    >>> _ = hash.update(b"abc")
    >>> hash.hexdigest()[:8]
    'ba7816bf'
    """
    check_type(algorithm, str, "an algorithm must be a str such as 'sha256'")
    if algorithm == "blake3":
        return blake3()()
    try:
        made = hashlib.new(algorithm, usedforsecurity=False)
    except ValueError as error:
        raise InvalidArgumentError(
            f"no digest is named {algorithm!r:.80}; the known ones are {', '.join(_known_names())}"
        ) from error
    if not made.digest_size:
        raise InvalidArgumentError(f"a digest of {algorithm} lacks a fixed length; use sha256")
    return made


def _known_names() -> list[str]:
    """Return the names of the algorithms whose digest has a fixed length."""
    known = {"blake3"}
    for name in hashlib.algorithms_available:
        try:
            if hashlib.new(name, usedforsecurity=False).digest_size:
                known.add(name)
        except ValueError:
            continue  # OpenSSL lists those, too, that its configuration switches off
    return sorted(known)


def blake3() -> Callable[[], Hash]:
    """Return the class of BLAKE3's hash objects.

    Raises:
        MissingDependencyError: The package isn't installed.
    """
    try:
        return import_module("blake3").blake3
    except ImportError:
        raise MissingDependencyError(
            "BLAKE3 needs a package: pip install 'holdall[blake3]'; or use sha256"
        ) from None


def digest(store: Store, key: str, algorithm: str = "sha256") -> tuple[Info, str]:
    """Return the `Info` of a blob and the digest of its bytes in hexadecimal, both of the same version.

    A store that knows the digest is asked for it; otherwise the blob is read once, in pieces.
    The key was checked, as for a primitive.

    Raises:
        BlobNotFoundError: No blob has this key.
        IntegrityError: The store returned fewer or more bytes than the size that it reported.

    >>> from holdall import MemoryStore
    >>> info, sha256 = digest(MemoryStore({"a": b"abc"}), "a")
    >>> info.size, sha256[:8]
    (3, 'ba7816bf')
    """
    hasher(algorithm)  # an unknown name is refused before the store is asked
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
    """As `digest`, but always computed from the bytes: a recorded digest doesn't change when the bytes rot.

    >>> from holdall import MemoryStore
    >>> read_digest(MemoryStore({"a": b"abc"}), "a")[1][:8]
    'ba7816bf'
    """
    made = hasher(algorithm)
    info, pieces = store._read(key, 0, None)
    size = 0
    for piece in stoppable(pieces):
        made.update(piece)
        size += len(piece)
    if size != info.size:
        raise IntegrityError(f"the store returned {size} bytes of a blob of {info.size}", key=key)
    return info, made.hexdigest()
