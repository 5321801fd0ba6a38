"""Locks and counters under what happens to their holders."""

from __future__ import annotations

import json

import pytest

from holdall import InvalidArgumentError, LockHeldError, LockLostError, MemoryStore, SerializationError
from holdall.errors import InvalidKeyError, InvalidTypeError
from holdall.locks import Lock


def test_the_blob_is_small_json_that_stays_when_the_lock_is_released() -> None:
    store = MemoryStore()
    with store.lock("job", ttl=5) as lock:
        held = json.loads(store["job"])
        token = lock.token
    assert sorted(held) == ["format", "holder", "renewals", "token", "ttl", "version"]
    assert (held["format"], held["version"], held["ttl"]) == ("holdall-lock", 1, 5)
    assert sorted(held["holder"]) == ["host", "id", "pid", "processes", "since"]
    assert json.loads(store["job"]) == {**held, "holder": None}
    assert lock.token == token
    assert not lock.lost
    with pytest.raises(LockLostError, match="released"):
        lock.check()


def test_a_lock_that_forgets_leaves_no_blob() -> None:
    store = MemoryStore()
    with Lock(store, "job", forget=True) as first:
        assert list(store) == ["job"]
    assert list(store) == []
    with Lock(store, "job", forget=True) as second:
        assert second.token > first.token


def test_a_lock_is_not_reentrant_and_can_be_used_again() -> None:
    store = MemoryStore()
    lock = store.lock("job", wait=0)
    with pytest.raises(LockLostError, match="isn't held"):
        _ = lock.token
    with lock:
        first = lock.token
        with pytest.raises(InvalidArgumentError, match="held already"), lock:
            """It is held."""
        with pytest.raises(LockHeldError, match="at the first try: by process"), store.lock("job", wait=0):
            """It is held."""
        assert not lock.lost
    with lock:
        assert lock.token == first + 1


@pytest.mark.parametrize(
    "blob",
    [
        *(b"", b"17", b"[]", b"{}", b"\xff", b"[" * 5000, b" " * 9000),
        b'{"format": "holdall-lock", "version": 1}',
        b'{"format": "holdall-lock", "version": 2}',
        b'{"format": "holdall-lock", "version": 1, "token": "1", "holder": null, "ttl": 1, "renewals": 0}',
    ],
)
def test_what_is_no_lock_is_left_as_it_is(blob: bytes) -> None:
    store = MemoryStore({"job": blob})
    with pytest.raises(SerializationError) as caught, store.lock("job"):
        """It isn't a lock."""
    assert caught.value.key == "job"
    assert store["job"] == blob


def test_wrong_arguments() -> None:
    store = MemoryStore()
    for options in ({"ttl": 0}, {"ttl": -1}, {"wait": -1}, {"ttl": float("nan")}):
        with pytest.raises(InvalidArgumentError):
            store.lock("job", **options)
    for options in ({"ttl": None}, {"ttl": "30"}, {"wait": "3"}, {"wait": True}):
        with pytest.raises(InvalidTypeError):
            store.lock("job", **options)
    for call in (store.lock, store.counter):
        with pytest.raises(InvalidKeyError):
            call("/job")
    for by in (1.0, "1", True, None):
        with pytest.raises(InvalidTypeError):
            store.counter("hits").increment(by)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgumentError, match="1,000 digits"):
        store.counter("hits").increment(10**1000)
    assert list(store) == []


def test_a_counter_reads_what_people_write() -> None:
    store = MemoryStore({"hits": b" +41\n"})
    assert store.counter("hits").increment() == 42
    assert store.counter("absent").value == 0
    for blob in (b"", b"1_0", "\u0661".encode(), b"1.0", b"0x1", b"1" * 1001):
        store["hits"] = blob
        with pytest.raises(SerializationError, match="whole number"):
            _ = store.counter("hits").value
        with pytest.raises(SerializationError, match="whole number"):
            store.counter("hits").reset()
        assert store["hits"] == blob
