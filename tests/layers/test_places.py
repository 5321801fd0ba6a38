"""Layers over stores that are one place, or lie one in another, are refused where that can be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdall import (
    CachingStore,
    CompressedStore,
    FanoutStore,
    FilesystemStore,
    InvalidArgumentError,
    MemoryStore,
    RoutedStore,
    SqliteStore,
    Store,
    copy_store,
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_replicas_that_are_one_place_are_refused(place: Path) -> None:
    files, memory = FilesystemStore("files"), MemoryStore()
    (place / "link").symlink_to("files")
    pairs: list[tuple[Store, Store]] = [
        (files, FilesystemStore(place / "files")),
        (files, FilesystemStore("link")),
        (files, FilesystemStore("files/inner")),
        (FilesystemStore("files/inner"), files),
        (files, files / "inner"),
        (files, CompressedStore(files)),
        (files, SqliteStore("files/blobs.db")),
        (SqliteStore("blobs.db"), SqliteStore(place / "blobs.db")),
        (memory, CompressedStore(memory / "a")),
        (RoutedStore({"a/": memory, "": MemoryStore()}), memory),
    ]
    for pair in pairs:
        with pytest.raises(InvalidArgumentError, match="'0' and '1' are the same place"):
            FanoutStore(list(pair))


def test_replicas_apart_are_taken(place: Path) -> None:
    files, memory, database = FilesystemStore("files"), MemoryStore(), SqliteStore("blobs.db")
    pairs: list[tuple[Store, Store]] = [
        (files, FilesystemStore("files-2")),
        (files / "a", files / "b"),
        (files, SqliteStore("files.db")),
        (memory / "a", memory / "ab"),
        (MemoryStore(), MemoryStore()),
        (database, SqliteStore("blobs.db-2")),
        (database / "a", SqliteStore("blobs.db") / "b"),
    ]
    for pair in pairs:
        store = FanoutStore(list(pair))
        store["key"] = b"1"
        assert [each["key"] for each in pair] == [b"1", b"1"]


def test_a_cache_beside_its_source_is_taken(place: Path) -> None:
    source = SqliteStore("blobs.db")
    source["key"] = b"1"
    for cache in (SqliteStore("blobs.db-cache"), SqliteStore("blobs.db.cache")):
        assert CachingStore(source, cache)["key"] == b"1"
    with pytest.raises(InvalidArgumentError, match="same place"):
        CachingStore(source, SqliteStore(place / "blobs.db") / "cache")


def test_progress_that_can_not_be_called_is_refused_first() -> None:
    source, target = MemoryStore({"a": b"1"}), MemoryStore()
    with pytest.raises(InvalidArgumentError, match="progress must be a function"):
        copy_store(source, target, progress=3)  # pyright: ignore[reportArgumentType]
    assert not target
