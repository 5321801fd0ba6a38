"""Where a catalogue keeps the bytes of larger objects: files, memory, or any store."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from holdall.arguments import check_type
from holdall.blob import Can
from holdall.catalog.row import Blob
from holdall.errors import InvalidArgumentError, UnsupportedOperation
from holdall.paths import absolute
from holdall.store import Store

_MOST_SHARDS: Final = 8
_address = re.compile(r"(?:[0-9a-f]+/)?([0-9a-f]{64})-([0-9a-f]+)(\.[A-Za-z0-9.]+)?").fullmatch


class BlobBackend:
    """Blobs in a store, each at an address made of its digest and its number: `abc/abc123...-1f.b2nd`.

    An address is written once, and never again with anything else.

    Args:
        store: Where the blobs are. It may have other blobs, which are left alone. It must be able to WRITE
            and to DELETE.
        shard_chars: How many digits of the digest name the folder of a blob, from 0 to 8.

    Raises:
        UnsupportedOperation: The store can't be written.
    """

    def __init__(self, store: Store, *, shard_chars: int = 2) -> None:
        check_type(store, Store, "a blob backend must be given a store")
        if isinstance(shard_chars, bool) or not isinstance(shard_chars, int):
            raise InvalidArgumentError(f"shard_chars must be an int from 0 to 8, not {shard_chars!r}")
        if not 0 <= shard_chars <= _MOST_SHARDS:
            raise InvalidArgumentError(f"shard_chars must be from 0 to 8, not {shard_chars}")
        for flag in (Can.WRITE, Can.DELETE):
            if flag not in store.can:
                raise UnsupportedOperation(
                    f"a catalogue needs a store that can {flag.name}, and {store!r} can't"
                )
        self.store = store
        """The store of the blobs."""
        self._owned = False
        self._shard_chars = shard_chars

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"

    def address(self, digest: str, number: int, extension: str) -> str:
        """Return the key of a blob in the store.

        >>> from holdall import MemoryStore
        >>> BlobBackend(MemoryStore(), shard_chars=3).address("abcdef" + 58 * "0", 71, ".b2nd")[:10]
        'abc/abcdef'
        """
        name = f"{digest}-{number:x}{extension}"
        return f"{digest[: self._shard_chars]}/{name}" if self._shard_chars else name

    def addresses(self) -> Iterator[tuple[str, int]]:
        """Yield the addresses of the blobs in the store, with their numbers; what isn't an address is left
        out."""
        for key in self.store:
            found = _address(key)
            if found is not None:
                yield key, int(found[2], 16)

    def path(self, address: str) -> Path | None:
        """Return the file of a blob, or None where blobs aren't files."""
        return None

    def close(self) -> None:
        """Close the store, if this opened it."""
        if self._owned:
            self.store.close()


class FilesystemBlobBackend(BlobBackend):
    """Blobs as files in a folder.

    Args:
        base_dir: The folder. It is made when the first blob is put.
        shard_chars: How many digits of the digest name the folder of a file: 3 gives `abc/abc123...`.
        durable: Whether a blob also survives a loss of power.

    >>> FilesystemBlobBackend("cache", shard_chars=3).address("abc" + 61 * "0", 1, ".pkl")[:7]
    'abc/abc'
    """

    def __init__(
        self, base_dir: str | os.PathLike[str], *, shard_chars: int = 2, durable: bool = False
    ) -> None:
        from holdall.stores.filesystem import FilesystemStore

        super().__init__(FilesystemStore(base_dir, durable=durable), shard_chars=shard_chars)
        self._owned = True
        # A program may change its folder later.
        self._base = Path(absolute(base_dir))

    def path(self, address: str) -> Path | None:
        return self._base / address


class MemoryBlobBackend(BlobBackend):
    """Blobs in the memory of this process, as tests want them. They go with it: entries that a file of
    metadata keeps are left without their bytes.

    >>> MemoryBlobBackend().store
    MemoryStore()
    """

    def __init__(self) -> None:
        from holdall.stores.memory import MemoryStore

        super().__init__(MemoryStore())
        self._owned = True


def address_of(blobs: BlobBackend, blob: Blob) -> str:
    return blobs.address(blob.digest, blob.number, blob.extension)


def is_there(blobs: BlobBackend, blob: Blob) -> bool:
    return blob.inline or blobs.store.exists(address_of(blobs, blob))


def sums_of(blobs: BlobBackend, blob: Blob) -> tuple[int, int]:
    """Return the size and the CRC-32 of the stored bytes of a blob.

    Raises:
        BlobNotFoundError: They are gone.
    """
    crc = size = 0
    for piece in blobs.store.chunks(address_of(blobs, blob)):
        crc, size = zlib.crc32(piece, crc), size + len(piece)
    return size, crc


def blob_backend_of(given: Any, cache_dir: Path, durable: bool) -> BlobBackend:
    """Return the blob backend that was given: an instance, a store, a URI, or a name.

    Raises:
        InvalidArgumentError: It is none of them.
    """
    if given is None or given == "filesystem":
        return FilesystemBlobBackend(cache_dir / "blobs", durable=durable)
    if given == "memory":
        return MemoryBlobBackend()
    if isinstance(given, BlobBackend):
        return given
    if isinstance(given, Store):
        return BlobBackend(given)
    if isinstance(given, str) and ":" in given:
        from holdall.opening import from_uri

        made = BlobBackend(from_uri(given))
        made._owned = True
        return made
    if isinstance(given, str):
        raise InvalidArgumentError(
            "blob_backend must be 'filesystem', 'memory', the URI of a store, a store, or a BlobBackend, "
            f"not {given!r}"
        )
    raise InvalidArgumentError(f"blob_backend can't be {type(given).__name__}; give a store or its URI")
