"""What a cache keeps of a private file is private, and so is what is copied from there."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import CachingStore, FilesystemStore, MemoryStore, Store, copy_store
from holdall.layers.caching.entry import ENTRY, EntryHead, packed, parsed
from holdall.store import Attributes, mode_of

LONG = 3 << 20
FRESH = "etag", 3600, "immutable"


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    old = os.umask(0o022)
    yield
    os.umask(old)


def modes(folder: Path) -> dict[str, int]:
    """The permission bits of the files in a folder, by the first part of their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name.partition("-")[0]: stat.S_IMODE(path.stat().st_mode) for path in files}


def private(folder: Path, size: int = 5) -> FilesystemStore:
    """A store with one blob, which only its owner may read."""
    store = FilesystemStore(folder)
    store["a"] = bytes(size)
    (folder / "a").chmod(0o600)
    return store


@pytest.mark.parametrize("mode", ["write-through", "write-back"])
@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("size", [5, LONG])
def test_a_copy_is_as_private_as_its_source(size: int, fresh: Any, mode: Any, tmp_path: Path) -> None:
    source = private(tmp_path / "source", size)
    with CachingStore(source, FilesystemStore(tmp_path / "cache"), mode, fresh=fresh) as store:
        for _ in range(2):
            assert store["a"] == bytes(size)
            assert modes(tmp_path / "cache") == {"cached": 0o600}
            assert mode_of(store.info("a")) == 0o600
        target = FilesystemStore(tmp_path / "target")
        copy_store(store, target)
        store.copy("a", "b")
    assert modes(tmp_path / "target") == {"a": 0o600}
    assert modes(tmp_path / "source") == {"a": 0o600, "b": 0o600}
    source["a"] = b"new"
    (tmp_path / "source" / "a").chmod(0o644)
    with CachingStore(source, FilesystemStore(tmp_path / "public"), fresh=fresh) as store:
        assert store["a"] == b"new"
    assert modes(tmp_path / "public") == {"cached": 0o644}


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("data", [b"new", bytes(100_000)])
def test_what_replaces_a_private_file_is_kept_as_private(data: bytes, fresh: Any, tmp_path: Path) -> None:
    source = private(tmp_path / "source")
    store = CachingStore(source, FilesystemStore(tmp_path / "cache"), fresh=fresh)
    store["a"] = data
    assert modes(tmp_path / "cache") == {"cached": 0o600}
    store.put("a", iter([data]))
    assert store["a"] == data
    assert modes(tmp_path / "cache") == {"cached": 0o600}


def test_what_the_umask_makes_private_is_kept_as_private(tmp_path: Path) -> None:
    source = FilesystemStore(tmp_path / "source")
    source["other"] = b""  # from now on it goes the short way
    store = CachingStore(source, FilesystemStore(tmp_path / "cache"))
    store["a"] = b"public"
    del source["a"]
    os.umask(0o077)
    info = store.put("a", b"secret")
    assert (mode_of(info), mode_of(source.put("b", b""))) == (0o600, 0o600)
    assert modes(tmp_path / "source") == {"a": 0o600, "b": 0o600, "other": 0o644}
    assert modes(tmp_path / "cache") == {"cached": 0o600}


@pytest.mark.parametrize("mode", ["write-through", "write-back"])
def test_a_copy_of_a_file_is_private_in_a_cache_over_any_store(mode: Any, tmp_path: Path) -> None:
    private(tmp_path / "from")
    below: dict[str, Store] = {"memory": MemoryStore(), "folder": FilesystemStore(tmp_path / "source")}
    for name, source in below.items():
        with CachingStore(source, FilesystemStore(tmp_path / name), mode) as store:
            copy_store(FilesystemStore(tmp_path / "from"), store)
            if mode == "write-back":
                assert modes(tmp_path / name) == {"dirty": 0o600}
                assert mode_of(store.info("a")) == 0o600
                # What replaces it before the sync is as private.
                store["a"] = b"newer"
        assert modes(tmp_path / name)["cached"] == 0o600
    assert modes(tmp_path / "source") == {"a": 0o600}


@pytest.mark.parametrize("known", [True, False])
def test_a_change_that_waits_is_private(known: bool, tmp_path: Path) -> None:
    source = private(tmp_path / "source")
    cache = FilesystemStore(tmp_path / "cache")
    store = CachingStore(source, cache, "write-back", sync_on_close=False)
    assert not known or store["a"]
    store["a"] = b"changed"
    assert modes(tmp_path / "cache")["dirty"] == 0o600
    assert mode_of(store.info("a")) == (0o600 if known else None)
    # Made public meanwhile, it stays so.
    (tmp_path / "source" / "a").chmod(0o644)
    assert store.sync().uploaded == ("a",)
    assert (source["a"], modes(tmp_path / "source")) == (b"changed", {"a": 0o644})
    store["b"] = b"of its own"
    store.sync()
    assert modes(tmp_path / "source")["b"] == 0o644


@pytest.mark.parametrize("fresh", ["etag", 1])
@pytest.mark.parametrize("size", [5, LONG])
def test_a_file_that_was_made_private_since(
    size: int, fresh: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = private(tmp_path / "source", size)
    (tmp_path / "source" / "a").chmod(0o644)
    store = CachingStore(source, FilesystemStore(tmp_path / "cache"), fresh=fresh)
    assert store["a"] == bytes(size)
    assert modes(tmp_path / "cache") == {"cached": 0o644}
    (tmp_path / "source" / "a").chmod(0o600)
    if fresh != "etag":
        later = time.time_ns() + 10**10
        monkeypatch.setattr("holdall.layers.caching.entry.time.time_ns", lambda: later)
    assert store["a"] == bytes(size)
    assert modes(tmp_path / "cache") == {"cached": 0o600}


@pytest.mark.parametrize("size", [5, LONG])
def test_a_copy_that_is_private_anyway_is_not_fetched_again(size: int, tmp_path: Path) -> None:
    source = private(tmp_path / "source", size)
    (tmp_path / "source" / "a").chmod(0o644)
    memory = CachingStore(source, MemoryStore())
    assert memory["a"] == bytes(size)
    (tmp_path / "source" / "a").chmod(0o600)
    os.umask(0o077)
    folder = CachingStore(source, FilesystemStore(tmp_path / "cache"))
    folder["b"] = b"new"
    for store, key in ((memory, "a"), (folder, "b")):
        missed = store.stats().misses
        assert store[key] == source[key]
        assert store.stats().misses == missed
        assert mode_of(store.info(key)) == 0o600


def test_heads_without_a_mode_are_as_they_were() -> None:
    plain = EntryHead(ENTRY, "a", 1, None, "text/plain", "e", 2)
    assert packed(plain, 3).startswith(b"hdc1")
    kept = plain._replace(metadata='{"owner": "ana"}')
    for head in (
        *(plain, plain._replace(mode=0o600), plain._replace(mode=0o1640, content_type=None)),
        *(kept, kept._replace(mode=0o600), kept._replace(mode=0o1640, content_type=None)),
    ):
        found = parsed(packed(head, 3))
        assert found is not None
        assert (found[0], found[2]) == (head, 3)
    assert plain._replace(mode=0o1640).attributes == Attributes(mode=0o640)
