"""What is the memory store's own; what it shares with every store is in test_conformance.py."""

import gc
import pickle
import subprocess
import sys
from collections.abc import Iterator

import pytest

from holdall import (
    DictStore,
    Info,
    InvalidKeyError,
    MemoryStore,
    Store,
    StoreClosedError,
    StoreUnavailableError,
)
from holdall.store import Expect, Piece


def test_it_begins_with_blobs():
    store = MemoryStore({"b": b"2", "a": bytearray(b"1"), "c": [b"x", b"y"]})
    assert dict(store.items()) == {"a": b"1", "b": b"2", "c": b"xy"}
    with pytest.raises(InvalidKeyError):
        MemoryStore({"../a": b""})


def test_stores_of_one_name_are_one_and_others_are_their_own():
    first, second = MemoryStore(name="tests/one name"), MemoryStore(name="tests/one name")
    first["a"] = b"1"
    assert second["a"] == b"1"
    assert "a" not in MemoryStore(name="tests/another name")
    assert "a" not in MemoryStore()
    first.close()
    assert second["a"] == b"1"
    assert MemoryStore(name="tests/one name")["a"] == b"1"


def test_it_is_the_dict_store_and_has_a_uri():
    assert DictStore is MemoryStore
    named = Store.from_uri("memory://tests/uri")
    assert repr(named) == "MemoryStore(name='tests/uri')"
    assert repr(MemoryStore({"a": b"1"})) == "MemoryStore()"
    named["a"] = b"1"
    assert MemoryStore(name="tests/uri")["a"] == b"1"


def test_a_store_without_a_name_pickles_in_its_process():
    store = MemoryStore({"a": b"1"})
    again = pickle.loads(pickle.dumps(store))
    again["a"] = b"2"
    assert store["a"] == b"2"
    pickled = pickle.dumps(store)
    del store, again
    gc.collect()
    with pytest.raises(StoreUnavailableError, match="no longer exists"):
        pickle.loads(pickled)


def test_another_process_is_told_at_once():
    program = "import pickle, sys; pickle.load(sys.stdin.buffer)"
    for store in (MemoryStore(name="tests/pickled"), MemoryStore()):
        done = subprocess.run(
            [sys.executable, "-c", program], input=pickle.dumps(store), capture_output=True, timeout=60
        )
        assert done.returncode == 1
        assert b"StoreUnavailableError: a memory store can't be opened in another process" in done.stderr


def test_a_closed_private_store_frees_its_blobs():
    store = MemoryStore({"a": bytes(1000)})
    store.close()
    assert not store._entries


def test_a_blob_is_not_copied_on_its_way_out():
    store = MemoryStore({"a": b"x" * 100})
    assert store["a"] is store["a"]


def test_many_keys_come_and_go():
    store = MemoryStore()
    for number in range(5000):
        store[f"{number % 1000:04d}"] = b"%d" % number
        if number % 3 == 0:
            store.delete(f"{(number * 7) % 1000:04d}")
    assert list(store) == sorted(store.keys())
    assert len(store) == len(set(store))


def test_a_subclass_is_asked_for_what_it_does_otherwise():
    asked: list[str] = []

    class Asked(MemoryStore):
        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            asked.append(f"read {key}")
            return super()._read(key, start, stop)

        def _delete(self, key: str, expect: Expect) -> bool:
            asked.append(f"delete {key}")
            return super()._delete(key, expect)

    store = Asked({"a": b"1"})
    assert (store.get("a"), store.get("b"), store.delete("a"), store.get("a")) == (b"1", None, True, None)
    assert asked == ["read a", "read b", "delete a", "read a"]


def test_a_closed_store_with_a_name_gives_nothing_out():
    store = MemoryStore({"a": b"1"}, name="closed")
    store.close()
    with pytest.raises(StoreClosedError):
        store.get("a")
    assert MemoryStore(name="closed").get("a") == b"1"
