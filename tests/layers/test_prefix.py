"""A folder of a store as a store of its own."""

import pickle
from pathlib import Path

import pytest

from holdall import FilesystemStore, InvalidKeyError, MemoryStore, PrefixStore, SqliteStore, Store
from holdall.testing import StoreSuite


class TestPrefixOverMemory(StoreSuite):
    persistent = False
    longest = 1024 - len("folder/in/")

    def make(self, place: Path) -> Store:
        below = MemoryStore(name=str(place))
        below["folder/in"] = below["folder/in.x"] = below["folder/io/x"] = below["a"] = b"not ours"
        return PrefixStore(below, "folder/in")


class TestPrefixOverSqlite(StoreSuite):
    longest = 1024 - len("ünder/")

    def make(self, place: Path) -> Store:
        return SqliteStore(place / "blobs.sqlite") / "ünder"


class TestPrefixOverFiles(StoreSuite):
    longest = 1024 - len("sub/")

    def make(self, place: Path) -> Store:
        return FilesystemStore(place) / "sub"


def test_it_touches_nothing_else() -> None:
    below = MemoryStore({"in/a": b"1", "in": b"2", "in.b": b"3", "inner/c": b"4", "z": b"5"})
    store = below / "in"
    assert list(store) == ["a"]
    store["b/c"] = b"6"
    assert below["in/b/c"] == b"6"
    store.clear()
    assert sorted(below) == ["in", "in.b", "inner/c", "z"]


def test_folders_of_folders() -> None:
    below = MemoryStore()
    (below / "a" / "b/c/")["key"] = b"1"
    assert list(below) == ["a/b/c/key"]


@pytest.mark.parametrize("prefix", ["", "/", "/a", "a//", "..", "a/../b", "a\0b", "x" * 1025])
def test_what_is_no_prefix(prefix: str) -> None:
    with pytest.raises(InvalidKeyError):
        PrefixStore(MemoryStore(), prefix)


def test_closing_it_leaves_the_store_below_open(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as below:
        with below / "in" as store:
            store["a"] = b"1"
        assert below["in/a"] == b"1"


def test_what_a_pickle_opened_is_closed_with_it(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as below:
        again = pickle.loads(pickle.dumps(below / "in"))
        again["a"] = b"1"
        inner = again._store
        again.close()
        assert inner._closed
        assert below["in/a"] == b"1"


def test_errors_name_the_key_that_the_caller_used() -> None:
    store = MemoryStore() / "in"
    with pytest.raises(KeyError) as caught:
        _ = store["absent"]
    assert caught.value.key == "absent"  # type: ignore[attr-defined]
