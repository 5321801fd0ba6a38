"""A store that is only read."""

import pickle
from pathlib import Path

import pytest

from holdall import Can, FilesystemStore, MemoryStore, SqliteStore, Store
from holdall.errors import (
    BlobNotFoundError,
    ReadOnlyError,
    StoreClosedError,
    UnsupportedOperation,
)
from holdall.layers.readonly import ReadOnlyStore
from holdall.testing import Counting, Limited, StoreSuite


class TestReadOnlyOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return ReadOnlyStore(MemoryStore(name=str(place)))

    def fill(self, place: Path) -> Store:
        return MemoryStore(name=str(place))


def test_what_changes_it_is_refused_and_says_that_it_is_read_only() -> None:
    below = MemoryStore({"a": b"1", "b": b"2"})
    store = ReadOnlyStore(below)
    for call in (
        lambda: store.put("a", b"x"),
        lambda: store.delete("a"),
        lambda: store.clear(),
        lambda: store.move("a", "c"),
        lambda: store.copy("a", "c"),
        lambda: store.modify("a", bytes.upper),
        lambda: store.open("a", "wb"),
        lambda: store.put_many({"a": b"x"}),
        lambda: store.pop("a", None),
        lambda: store.popitem(),
        lambda: store.setdefault("c", b"x"),
    ):
        with pytest.raises(ReadOnlyError, match="read-only"):
            call()
    assert dict(below.items()) == {"a": b"1", "b": b"2"}
    assert store.can == Can.LIST | Can.RANGE


def test_a_layer_above_that_does_not_look_at_can_gets_no_further() -> None:
    below = MemoryStore({"a": b"1"})

    class Careless(Counting):
        can = MemoryStore.can

    store = Careless(ReadOnlyStore(below))
    for call in (
        lambda: store.put("a", b"x"),
        lambda: store.delete("a"),
        lambda: store.clear(),
        lambda: store.move("a", "c"),
        lambda: store.put_many({"c": b"x"}),
        lambda: store.open("a", "wb").close(),
    ):
        with pytest.raises(ReadOnlyError):
            call()
    assert dict(below.items()) == {"a": b"1"}


def test_who_holds_the_store_below_goes_on_writing() -> None:
    below = MemoryStore()
    store = ReadOnlyStore(below)
    assert "a" not in store
    below["a"] = b"1"
    assert (store["a"], list(store)) == (b"1", ["a"])
    del below["a"]
    with pytest.raises(BlobNotFoundError):
        store.info("a")


def test_what_can_not_list_below_can_not_list() -> None:
    store = ReadOnlyStore(Limited(MemoryStore({"a": b"1"}), Can.WRITE))
    with pytest.raises(UnsupportedOperation, match="list"):
        list(store)
    assert store.get_range("a", 0, 1) == b"1"


def test_it_signs_what_reads_only() -> None:
    class Signing(Counting):
        can = Can.SIGN

        def _sign(self, key: str, method: str, seconds: float) -> str:
            return f"{method} {key} {seconds:g}"

    store = ReadOnlyStore(Signing(MemoryStore({"a": b"1"})))
    assert store.sign("a", expires=60) == "GET a 60"
    with pytest.raises(ReadOnlyError, match="PUT"):
        store.sign("a", method="PUT")
    with pytest.raises(UnsupportedOperation):
        ReadOnlyStore(MemoryStore({"a": b"1"})).sign("a")


def test_a_file_of_files_is_the_file_itself(tmp_path: Path) -> None:
    with FilesystemStore(tmp_path) as below:
        below["a"] = b"before" * 1000
        with ReadOnlyStore(below).open("a") as file:
            assert isinstance(file.fileno(), int)
            below["a"] = b"after"
            file.seek(0)
            assert file.read() == b"before" * 1000


def test_it_stays_read_only_through_a_pickle(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as below:
        below["a"] = b"1"
        with pickle.loads(pickle.dumps(ReadOnlyStore(below))) as again:
            assert again["a"] == b"1"
            with pytest.raises(ReadOnlyError):
                again["a"] = b"2"
        assert below["a"] == b"1"
        assert repr(ReadOnlyStore(below)).startswith("ReadOnlyStore(SqliteStore(")


def test_over_a_closed_store_it_is_closed() -> None:
    below = MemoryStore({"a": b"1"}, name="closed below a read-only one")
    store = ReadOnlyStore(below)
    below.close()
    for call in (
        lambda: store["a"],
        lambda: list(store),
        lambda: store.info("a"),
        lambda: store.put("a", b""),
    ):
        with pytest.raises(StoreClosedError, match="MemoryStore"):
            call()
