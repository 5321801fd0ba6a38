"""Layers on layers: realistic stacks pass the whole kit too."""

import os
from pathlib import Path

import pytest
from tests.again import Again

from holdall import (
    CachingStore,
    ChecksumStore,
    CompressedStore,
    EncryptedStore,
    FanoutStore,
    FilesystemStore,
    MemoryStore,
    PrefixStore,
    SqliteStore,
    Store,
)
from holdall.testing import StoreSuite

KEY = "env:HOLDALL_TEST_STACK_KEY"


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDALL_TEST_STACK_KEY", bytes(range(32)).hex())


class TestCompressOverEncryptOverACache(StoreSuite):
    """The order that saves space: what is encrypted can't be compressed."""

    reduced = True

    persistent = False

    def make(self, place: Path) -> Store:
        source, cache = MemoryStore(name=f"{place}/source"), MemoryStore(name=f"{place}/cache")
        # The kit bounds what is held in memory, and a cache beside it would hold it all once more.
        cached = CachingStore(source, cache, max_bytes=50_000_000)
        return CompressedStore(EncryptedStore(cached, KEY), codec="lz4")


class TestReplicasOfPrefixes(Again):
    longest = 1024 - len("copies/second/")

    def make(self, place: Path) -> Store:
        return FanoutStore(
            {
                "one": SqliteStore(place / "one.sqlite") / "copies/first",
                "two": PrefixStore(FilesystemStore(place / "two"), "copies/second"),
            }
        )


class TestAChecksumUnderACache(Again):
    def make(self, place: Path) -> Store:
        checked = ChecksumStore(FilesystemStore(place / "blobs"))
        # Each handle has a cache of its own, as two machines have.
        return CachingStore(checked, SqliteStore(place / f"cache-{os.urandom(4).hex()}.sqlite"))
