"""The stores that are attacked: each medium, and the layers that keep something of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from tests.servers.valkey import ValkeyServer

from holdall import (
    CacheMode,
    CachingStore,
    ChecksumStore,
    CompressedStore,
    EncryptedStore,
    FanoutStore,
    FilesystemStore,
    GitStore,
    HashdirStore,
    SqliteStore,
    Store,
    ValkeyStore,
    ZipStore,
)
from holdall.testing import StoreSuite

Make: TypeAlias = Callable[[Path], Store]
"""Opens the store in a folder."""

KEY_NAME = "HOLDALL_CAMPAIGN_KEY"
"""The environment variable that holds the key of the encrypted store."""
AUTHOR = "Campaign <campaign@example.org>"

ON_DISK: dict[str, Make] = {
    "FilesystemStore": lambda place: FilesystemStore(place / "files"),
    "HashdirStore": lambda place: HashdirStore(place / "hashdir"),
    "SqliteStore": lambda place: SqliteStore(place / "blobs.db"),
    "ZipStore": lambda place: ZipStore(place / "blobs.zip"),
    "GitStore": lambda place: GitStore(place / "git", author=AUTHOR),
    "write-back over SQLite": lambda place: CachingStore(
        SqliteStore(place / "source.db"), SqliteStore(place / "cache.db"), CacheMode.WRITE_BACK
    ),
    "replicas in files and SQLite": lambda place: FanoutStore(
        {"files": FilesystemStore(place / "files"), "sqlite": SqliteStore(place / "copy.db")}
    ),
    "compressed and encrypted files": lambda place: CompressedStore(
        EncryptedStore(FilesystemStore(place / "files"), f"env:{KEY_NAME}"), "zstd"
    ),
}
"""By name, what needs no server."""

GUARDED: dict[str, Make] = {
    "ZipStore": ON_DISK["ZipStore"],
    "ZipStore, deflated": lambda place: ZipStore(place / "blobs.zip", compression="deflated"),
    "checksums over files": lambda place: ChecksumStore(FilesystemStore(place / "files")),
    "zstd over files": lambda place: CompressedStore(FilesystemStore(place / "files"), "zstd"),
    "lz4 over files": lambda place: CompressedStore(FilesystemStore(place / "files"), "lz4"),
    "gzip over files": lambda place: CompressedStore(FilesystemStore(place / "files"), "gzip"),
    "encrypted files": lambda place: EncryptedStore(FilesystemStore(place / "files"), f"env:{KEY_NAME}"),
}
"""By name, what promises to notice every bit that changed in its files."""


@contextmanager
def everything() -> Iterator[dict[str, Make]]:
    """Yield what is on disk, and Valkey on a server of its own."""
    server = ValkeyServer(durable=True)
    try:
        yield {
            **ON_DISK,
            "ValkeyStore": lambda place: ValkeyStore(server.url, prefix=f"{place.parent.name}/{place.name}:"),
        }
    finally:
        server.close()


def suite(make: Make, *, kills: int = 0, interrupts: int = 0) -> StoreSuite:
    """Return the conformance kit for a store, with the number of attacks of one visit."""

    class Suite(StoreSuite):
        def make(self, place: Path) -> Store:
            return make(place)

    Suite.kills, Suite.interrupts = kills, interrupts
    return Suite()
