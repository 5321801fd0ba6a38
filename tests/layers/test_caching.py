"""A store in front of a slower one."""

import functools
import json
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.effort import effort
from tests.forks import forked, succeeds

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    Can,
    ConcurrencyError,
    FilesystemStore,
    Info,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    MemoryStore,
    PartialWriteError,
    RoutedStore,
    SqliteStore,
    Store,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.errors import SyncConflictError
from holdall.layers.caching import CacheMode, CachingStore
from holdall.store import Attributes, Body, Expect, Piece
from holdall.testing import Counting, Flaky, Limited, Slow, StoreSuite, race

MIB = 1 << 20
FRESH: list[Any] = ["etag", 3600, "immutable"]


class TestThroughOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        source, cache = MemoryStore(name=str(place)), MemoryStore(name=f"{place}-cache")
        return CachingStore(source, cache, max_bytes=100 * MIB)


class TestThroughASharedCache(StoreSuite):
    """Two handles share the cache, and are never asked to revalidate it: own writes are read back."""

    keeps_what_is_read = True
    reduced = True
    respells = True

    def make(self, place: Path) -> Store:
        source, cache = SqliteStore(place / "blobs.sqlite"), FilesystemStore(place / "cache")
        return CachingStore(source, cache, fresh="immutable")


class TestThroughASmallCache(StoreSuite):
    """It evicts all the time."""

    keeps_what_is_read = True
    reduced = True

    def make(self, place: Path) -> Store:
        source, cache = SqliteStore(place / "blobs.sqlite"), SqliteStore(place / "cache.sqlite")
        return CachingStore(source, cache, fresh=3600, max_bytes=3000)


class TestBackOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        source, cache = MemoryStore(name=str(place)), MemoryStore(name=f"{place}-cache")
        return CachingStore(source, cache, CacheMode.WRITE_BACK, sync_on_close=False)


class TestBackOverSqlite(StoreSuite):
    def make(self, place: Path) -> Store:
        source, cache = SqliteStore(place / "blobs.sqlite"), SqliteStore(place / "cache.sqlite")
        return CachingStore(source, cache, CacheMode.WRITE_BACK, sync_on_close=False, max_bytes=20_000)


# --- faults that a test decides on --------------------------------------------------------------------


class Broken(Counting):
    """A store that fails while it is told to."""

    down = False

    def _count(self, call: str) -> None:
        if self.down:
            raise StoreUnavailableError("it is down")
        super()._count(call)


class Gate(Counting):
    """A source whose next read stops after the bytes were read, until it is let go."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.armed, self.reached, self.go = False, threading.Event(), threading.Event()

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, start, stop)
        data = b"".join(pieces)
        if self.armed:
            self.armed = False
            self.reached.set()
            assert self.go.wait(60)
        return info, iter((data,))


def entries(cache: Store) -> list[str]:
    return [key for key in cache if key.startswith(("cached-", "dirty-", "sent-"))]


def taken(cache: Store) -> int:
    return sum(info.size for info in cache.list() if info.key.startswith(("cached-", "dirty-")))


# --- freshness ----------------------------------------------------------------------------------------


def test_etag_asks_each_time_and_reads_once() -> None:
    source = Counting(MemoryStore({"a": b"1"}))
    store = CachingStore(source, MemoryStore())
    assert [store["a"] for _ in range(5)] == [b"1"] * 5
    assert (source.calls["read"], source.calls["info"]) == (1, 5)
    source["a"] = b"2"
    assert store["a"] == b"2"
    assert source.calls["read"] == 2
    del source["a"]
    assert store.get("a") is None
    assert store.stats()._replace(revalidations=0) == (4, 2, 0, 4, 2, 0, 0)


def test_immutable_never_asks_again() -> None:
    source = Counting(MemoryStore({"a": b"1", "big": b"x" * 3 * MIB}))
    store = CachingStore(source, MemoryStore(), fresh="immutable")
    first = store.info("a")
    assert store["a"] == b"1"
    assert store["big"] == source["big"]
    before = dict(source.calls)
    source["a"] = b"2"
    assert (store["a"], store.get_range("a", 0, 1), store.info("a")) == (b"1", b"1", first)
    assert store["big"] == b"x" * 3 * MIB
    assert store.get_range("big", -5) == b"xxxxx"
    assert source.calls == {**before, "write": before["write"] + 1}


@pytest.mark.parametrize("size", [5, 3 * MIB])
def test_an_age_is_kept_to(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Counting(MemoryStore({"a": b"1" * size}))
    store = CachingStore(source, MemoryStore(), fresh=timedelta(seconds=10))
    clock = [time.time_ns()]
    monkeypatch.setattr("holdall.layers.caching.entry.time.time_ns", lambda: clock[0])
    assert store["a"] == b"1" * size
    asked = source.calls["info"]
    clock[0] += 9 * 10**9
    assert store["a"] == b"1" * size
    assert source.calls["info"] == asked
    clock[0] += 2 * 10**9
    assert store["a"] == b"1" * size
    assert (source.calls["read"], source.calls["info"]) == (1, asked + 1), "it is good, and renewed"
    clock[0] += 9 * 10**9
    source["a"] = b"2" * size
    assert store["a"] == b"1" * size
    clock[0] += 2 * 10**9
    assert store["a"] == b"2" * size
    clock[0] -= 3600 * 10**9
    source["a"] = b"3" * size
    assert store["a"] == b"3" * size, "a clock that was set back makes nothing young"


@pytest.mark.parametrize("mode", ["write-through", "write-back"])
@pytest.mark.parametrize("fresh", ["etag", 10])
def test_the_age_of_what_was_written_counts_from_before(
    mode: Any, fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may write the source between a write and its copy."""
    clock = [time.time_ns()]
    monkeypatch.setattr("holdall.layers.caching.entry.time.time_ns", lambda: clock[0])

    class Far(Counting):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            info = super()._write(key, body, expect, attributes)
            self._store["a"] = b"theirs"
            clock[0] += 5 * 10**9
            return info

    source, cache = Far(MemoryStore()), MemoryStore()
    store = CachingStore(source, cache, mode, fresh=fresh)
    store["a"] = b"ours"
    store.sync()
    reader = CachingStore(source, cache, fresh=10)
    clock[0] += 6 * 10**9
    assert reader["a"] == b"theirs", "the copy is older than ten seconds"


@pytest.mark.parametrize("fresh", FRESH)
def test_what_expires_at_the_source_expires_in_the_cache(fresh: Any) -> None:
    source = MemoryStore()
    store = CachingStore(source, MemoryStore(), fresh=fresh)
    info = source.put("a", b"1", ttl=0.05)
    assert store["a"] == b"1"
    assert store.info("a") == info
    assert info.expires is not None
    while time.time() <= info.expires.timestamp():
        time.sleep(0.005)
    assert store.get("a") is None
    assert "a" not in store
    with pytest.raises(BlobNotFoundError):
        store.open("a")


@pytest.mark.parametrize("fresh", FRESH)
def test_infos_are_the_sources(fresh: Any) -> None:
    source = MemoryStore()
    store = CachingStore(source, MemoryStore(), fresh=fresh)
    info = source.put("a", b"1", ttl=60, content_type="text/plain; charset=ütf-8")
    for _ in range(3):
        assert store.info("a") == store._read("a", 0, None)[0] == info
    with store.open("a") as file:
        assert file.raw.info == info  # type: ignore[attr-defined]
    assert store.put("b", b"2") == source.info("b") == store.info("b")


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("data", [b"new", b"n" * 3 * MIB])
def test_own_writes_are_read_back(fresh: Any, data: bytes) -> None:
    source, cache = MemoryStore({"a": b"old", "b": b"other"}), MemoryStore()
    first, second = (CachingStore(source, cache, fresh=fresh) for _ in range(2))

    def changed(change: Callable[[], object], expected: bytes | None) -> None:
        for handle in (first, second):
            handle.get("a")
        change()
        for handle in (first, second):
            assert handle.get("a") == source.get("a") == expected

    changed(lambda: first.put("a", data), data)
    changed(lambda: first.put("a", iter([b"x", data])), b"x" + data)
    changed(lambda: first.put("a", memoryview(data)), data)
    changed(lambda: second.copy("b", "a"), b"other")
    changed(lambda: first.delete("a"), None)
    changed(lambda: second.put_many({"a": data}), data)
    changed(lambda: first.delete_many(["a"]), None)
    changed(lambda: first.move("b", "a"), b"other")
    assert second.get("b") is None
    changed(lambda: second.clear(), None)


def test_a_stale_copy_never_makes_a_swap_go_round_for_ever() -> None:
    source = MemoryStore({"a": b"1"})
    store = CachingStore(source, MemoryStore(), fresh="immutable")
    assert store["a"] == b"1"
    source["a"] = b"10"
    store.modify("a", lambda old: b"%d" % (int(old) + 1))
    assert source["a"] == store["a"] == b"11"
    source["a"] = b"20"
    assert store.pop("a") == b"20"


# --- fills --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("size", [10, 2 * MIB])
def test_concurrent_misses_fetch_once(fresh: Any, size: int) -> None:
    data = os.urandom(size)
    source = Counting(Slow(MemoryStore({"a": data}), 0.02))
    store = CachingStore(source, MemoryStore(), fresh=fresh)
    assert race(*[lambda: store["a"]] * 8) == [data] * 8
    assert source.calls["read"] == 1
    assert source.bytes_read == size


def test_a_leader_that_fails_fails_alone() -> None:
    class Once(Counting):
        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            info, pieces = super()._read(key, start, stop)
            if self.calls["read"] == 1:
                time.sleep(0.05)
                raise StoreUnavailableError("the first fails")
            return info, pieces

    source = Once(MemoryStore({"a": b"1"}))
    store = CachingStore(source, MemoryStore())
    results = race(*[lambda: outcome(lambda: store["a"])] * 6)
    assert sorted(map(str, results)) == ["b'1'"] * 5 + ["the first fails"]


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except StoreUnavailableError as error:
        return error.message


@pytest.mark.parametrize("fresh", [3600, "immutable"])
@pytest.mark.parametrize("size", [10, 2 * MIB])
@pytest.mark.parametrize("change", ["put", "stream", "delete", "copy", "clear", "invalidate"])
@pytest.mark.parametrize("same", [True, False])
def test_a_fill_that_raced_a_write_is_never_published(fresh: Any, size: int, change: str, same: bool) -> None:
    source, cache = Gate(MemoryStore({"a": b"o" * size, "b": b"copied"})), MemoryStore()
    reader = CachingStore(source, cache, fresh=fresh)
    writer = reader if same else CachingStore(source, cache, fresh=fresh)
    source.armed = True
    got: list[bytes | None] = []
    thread = threading.Thread(target=lambda: got.append(reader.get("a")))
    thread.start()
    assert source.reached.wait(60)
    match change:
        case "put":
            writer["a"] = b"new"
        case "stream":
            writer["a"] = iter([b"n" * MIB, b"n"])
        case "delete":
            del writer["a"]
        case "copy":
            writer.copy("b", "a")
        case "clear":
            writer.clear()
        case _:
            source["a"] = b"elsewhere"
            writer.invalidate("a")
    source.go.set()
    thread.join(60)
    assert got in ([b"o" * size], [source.get("a")]), "both were there while it was read"
    for handle in (reader, writer, CachingStore(source, cache, fresh=fresh)):
        assert handle.get("a") == source.get("a"), "an old value was published"


@pytest.mark.parametrize("fresh", FRESH)
def test_fills_beside_writes(fresh: Any, tmp_path: Path) -> None:
    """Two handles with one cache, many threads: what was put last is what is read then, each time."""
    source, cache = MemoryStore(), SqliteStore(tmp_path / "cache.sqlite")
    handles = [CachingStore(source, cache, fresh=fresh, max_bytes=size) for size in (None, 700)]
    for number in range(60):
        old, new = b"%d" % number, b"%d" % (number + 1)
        source["a"] = old
        for handle in handles:
            handle.invalidate("a")
        race(
            lambda: handles[0].get("a"),
            lambda: handles[1].get("a"),
            functools.partial(handles[number % 2].put, "a", new),
            functools.partial(handles[number % 2].get, "a"),
        )
        assert [handle["a"] for handle in handles] == [new, new]


def test_a_large_range_goes_straight_to_the_source() -> None:
    source = Counting(MemoryStore({"a": bytes(range(256)) * 4 * 4096}))
    store = CachingStore(source, MemoryStore())
    assert store.get_range("a", 257, 260) == b"\x01\x02\x03"
    assert source.bytes_read == 3
    assert len(store["a"]) == 4 * MIB
    before = source.bytes_read
    for start, stop in ((0, 5), (131070, 131074), (-3, None), (2 * MIB, 3 * MIB + 7), (4 * MIB, None)):
        assert store.get_range("a", start, stop) == source.get_range("a", start, stop)
        before += len(source.get_range("a", start, stop)) * 2
    assert source.bytes_read == before, "the cache gives ranges of what it has"


# --- a cache that fails -------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_a_cache_that_is_down_fails_no_read(fresh: Any, size: int, caplog: pytest.LogCaptureFixture) -> None:
    source, cache = MemoryStore({"a": b"1" * size}), Broken(MemoryStore())
    store = CachingStore(source, cache, fresh=fresh, max_bytes=10 * MIB)
    cache.down = True
    assert store["a"] == b"1" * size
    assert store.get_range("a", 1, 4) == b"111"
    assert store.info("a").size == size
    assert store.stats().errors > 0
    assert caplog.records[0].name == "holdall.layers.caching"
    if fresh == "etag":
        store["a"] = b"2"
        assert source["a"] == store["a"] == b"2"
        del store["a"]
    else:
        with pytest.raises(StoreUnavailableError):
            store["a"] = b"2"
        with pytest.raises(StoreUnavailableError):
            del store["a"]
        assert source["a"] == b"1" * size, "nothing was touched"


@pytest.mark.parametrize("fresh", FRESH)
def test_a_cache_that_fails_halfway_through_a_stream(fresh: Any) -> None:
    data = os.urandom(3 * MIB)
    source, inner = MemoryStore({"a": data}), MemoryStore()
    assert CachingStore(source, inner, fresh=fresh)["a"] == data
    store = CachingStore(source, Flaky(inner, rate=0.5, seed=3), fresh=fresh)
    for _ in range(30):
        assert b"".join(store.chunks("a")) == data
        assert store.get_range("a", 5, 2 * MIB) == data[5 : 2 * MIB]


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("size", [0, 1, 1000, 131072, 131073, 500_000, 3 * MIB])
def test_a_damaged_copy_is_a_miss(fresh: Any, size: int) -> None:
    rng = random.Random(size)
    data = rng.randbytes(size)
    source, cache = MemoryStore({"a": data}), MemoryStore()
    store = CachingStore(source, cache, fresh=fresh)
    assert store["a"] == data
    (name,) = entries(cache)
    good = cache[name]
    bad: list[bytes] = [b"", b"x", good[:-1], good[: len(good) // 2], good + b"x", b"\0" * len(good)]
    for _ in range(20):
        at, bit = rng.randrange(len(good)), 1 << rng.randrange(8)
        bad.append(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
    if size > 400_000:
        frame = 131072 + 4
        head = len(good) - size - 4 * -(-size // 131072)
        bad.append(good[: head + frame])
        bad.append(good[:head] + good[head + frame :])
        swapped = good[head + frame : head + 2 * frame] + good[head : head + frame]
        bad.append(good[:head] + swapped + good[head + 2 * frame :])
    for damaged in bad:
        cache[name] = damaged
        assert store["a"] == data
        cache[name] = damaged
        assert b"".join(store.chunks("a")) == data
        cache[name] = damaged
        assert store.get_range("a", size // 2) == data[size // 2 :]
    assert store["a"] == data
    store.invalidate()
    other = CachingStore(MemoryStore({"b": b"not a's"}), cache, fresh=fresh)
    assert other["b"] == b"not a's"
    cache[name] = cache[entries(cache)[0]]
    assert store["a"] == data, "the copy is another key's"


def test_it_leaves_other_keys_of_the_cache_alone() -> None:
    cache = MemoryStore({"mine": b"1", "cached-": b"2", "cached-x": b"3", "dirty-" + "z" * 40: b"4"})
    before = dict(cache)
    for mode in CacheMode:
        store = CachingStore(MemoryStore({"a": b""}), cache, mode, max_bytes=500)
        for number in range(20):
            store[f"k{number}"] = b"x" * 50
            assert store[f"k{number}"] == b"x" * 50
        store.sync()
        store.clear()
        store.sync()
        store.invalidate()
        store.close()
    left = {key: data for key, data in cache.items() if not key.startswith(("recency-", "sent-"))}
    assert left == before


# --- the bound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", FRESH)
def test_the_bound_is_exact_and_what_was_used_last_stays(fresh: Any) -> None:
    source = MemoryStore({f"k{number:02}": bytes(1000) for number in range(20)})
    cache = MemoryStore()
    store = CachingStore(source, cache, fresh=fresh, max_bytes=11_500)
    for number in range(20):
        assert len(store[f"k{number:02}"]) == 1000
        assert taken(cache) <= 11_500
        assert store["k00"] == bytes(1000)
    assert len(entries(cache)) == 10
    assert store.stats().evictions >= 10
    read = Counting(source)
    again = CachingStore(read, cache, fresh=fresh, max_bytes=11_500)
    for key in ("k00", *(f"k{number}" for number in range(11, 20))):
        assert len(again[key]) == 1000
    assert read.calls["read"] == 0
    assert len(again["k01"]) == 1000
    again["big"] = bytes(20_000)
    assert len(again["big"]) == 20_000
    assert taken(cache) <= 11_500


def test_the_order_of_use_outlives_a_restart(tmp_path: Path) -> None:
    source = MemoryStore({f"k{number:02}": bytes(1000) for number in range(30)})
    rng, order = random.Random(1), list[str]()
    for _ in range(4):
        with FilesystemStore(tmp_path) as cache:
            with CachingStore(source, cache, fresh="immutable", max_bytes=11_500) as store:
                for _ in range(700):
                    key = f"k{rng.randrange(30):02}"
                    store[key]
                    order = [*(each for each in order if each != key), key][-10:]
                store.stats()
            counting = Counting(source)
            again = CachingStore(counting, cache, fresh="immutable", max_bytes=11_500)
            for key in order:
                again[key]
            assert counting.calls["read"] == 0
            again["new"] = bytes(1000)
            (oldest, *_) = order
            order = [*order[1:], "new"]
            again[order[0]]
            assert counting.calls["read"] == 0, "what was used longest ago went first"
            again[oldest]
            assert counting.calls["read"] == 1
            again.delete("new")
            order = []
            again.invalidate()
            again.close()


def test_reading_alone_lets_no_log_grow() -> None:
    source = MemoryStore({f"k{number}": b"x" for number in range(300)})
    cache, rng = MemoryStore(), random.Random(1)
    with CachingStore(source, cache, fresh="immutable", max_bytes=1 << 20) as store:
        for _ in range(60_000):
            store[f"k{rng.randrange(300)}"]
            assert store.stats().evictions == 0
        logs = [info.size for info in cache.list("recency-")]
        assert len(logs) <= 70
        assert sum(logs) < 200_000, "the log is made one from time to time"


def test_a_cache_that_fails_while_many_write_is_counted_anew() -> None:
    source, cache = MemoryStore(), Flaky(MemoryStore(), rate=0.2, seed=3)
    store = CachingStore(source, cache, max_bytes=20_000)
    logger = logging.getLogger("holdall.layers.caching")
    logger.disabled = True

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            key = f"k{rng.randrange(60)}"
            if rng.random() < 0.5:
                store[key] = bytes(rng.randrange(2000))
            else:
                store.get(key)

    race(*(functools.partial(work, seed) for seed in range(4)))
    logger.disabled = False
    cache._rate = 0.0
    store["k"] = b"1"
    assert store._copies.recency is not None
    assert store._copies.recency.bytes == taken(cache) <= 20_000


def test_a_smaller_bound_after_a_restart() -> None:
    source, cache = MemoryStore({f"k{number}": bytes(1000) for number in range(20)}), MemoryStore()
    with CachingStore(source, cache, max_bytes=50_000) as store:
        assert len(list(store.values())) == 20
    with CachingStore(source, cache, max_bytes=5000) as store:
        assert store["k1"] == bytes(1000)
        assert taken(cache) <= 5000


def test_several_processes_exceed_the_bound_by_no_more_than_is_said() -> None:
    source, cache = MemoryStore(), MemoryStore()
    stores = [CachingStore(source, cache, fresh="immutable", max_bytes=64_000) for _ in range(3)]
    rng = random.Random(0)
    for number in range(1500):
        rng.choice(stores)[f"k{number}"] = bytes(rng.randrange(1500))
        assert taken(cache) <= 64_000 + 3 * (64_000 // 16 + 2000)


def test_a_bound_while_many_read(tmp_path: Path) -> None:
    source = MemoryStore({f"k{number}": bytes(number * 10) for number in range(200)})
    cache = FilesystemStore(tmp_path)
    store = CachingStore(source, cache, fresh="immutable", max_bytes=20_000)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            number = rng.randrange(200)
            assert len(store[f"k{number}"]) == number * 10

    race(*(functools.partial(work, seed) for seed in range(6)))
    assert taken(cache) <= 20_000
    assert store._copies.recency is not None
    assert store._copies.recency.bytes == taken(cache)


# --- what it can, and what it is told -----------------------------------------------------------------


def test_invalidate() -> None:
    source = Counting(MemoryStore({"a/1": b"1", "a/2": b"2", "b": b"3", "ab": b"4"}))
    store = CachingStore(source, MemoryStore(), fresh="immutable")
    assert len(list(store.values())) == 4
    source.put_many(dict.fromkeys(source, b"new"))
    assert store.invalidate("b") == 1
    assert store.invalidate("b") == 0
    assert store.invalidate(prefix="a/") == 2
    assert [store[key] for key in ("a/1", "a/2", "b", "ab")] == [b"new", b"new", b"new", b"4"]
    assert store.invalidate() == 4
    assert store["ab"] == b"new"
    with pytest.raises(InvalidArgumentError):
        store.invalidate("a", prefix="a")


def test_invalidate_reads_names_that_come_in_pieces() -> None:
    class Dribbling(Counting):
        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            info, pieces = super()._read(key, start, stop)
            data = b"".join(pieces)
            return info, (data[at : at + 7] for at in range(0, len(data), 7))

    source = MemoryStore({"a/b": b"1", "b": b"2"})
    store = CachingStore(source, Dribbling(MemoryStore()), fresh="immutable")
    assert dict(store) == dict(source)
    source["a/b"] = b"3"
    assert store.invalidate(prefix="a/") == 1
    assert store["a/b"] == b"3"


def test_what_the_cache_must_do() -> None:
    source, whole = MemoryStore(), MemoryStore().can
    for flag in (Can.WRITE, Can.DELETE):
        with pytest.raises(UnsupportedOperation, match=str(flag.name)):
            CachingStore(source, Limited(MemoryStore(), whole & ~flag))
    for flag in (Can.CREATE, Can.SWAP):
        cache = Limited(MemoryStore(), whole & ~flag)
        CachingStore(source, cache)
        CachingStore(source, cache, "none", fresh=3)
        for wrong in (
            functools.partial(CachingStore, source, cache, fresh=3),
            functools.partial(CachingStore, source, cache, "write-back"),
        ):
            with pytest.raises(UnsupportedOperation, match=str(flag.name)):
                wrong()
    with pytest.raises(UnsupportedOperation, match="LIST"):
        CachingStore(source, Limited(MemoryStore(), whole & ~Can.LIST), max_bytes=5)


def test_a_cache_that_can_do_little_will_do() -> None:
    cache = Limited(MemoryStore(), Can.WRITE | Can.DELETE)
    source = Counting(MemoryStore({"a": b"12345" * MIB}))
    store = CachingStore(source, cache)
    assert store["a"] == source["a"]
    before = source.calls["read"]
    assert store.get_range("a", 7, 9) == b"34"
    assert store["a"][:3] == b"123"
    assert source.calls["read"] == before
    source["a"] = b"2"
    assert store["a"] == b"2"
    del store["a"]
    assert "a" not in store


def test_wrong_arguments() -> None:
    wrong: Any = CachingStore
    for options in (
        {"mode": "write"},
        {"mode": None},
        {"fresh": "never"},
        {"fresh": 0},
        {"fresh": -1},
        {"fresh": True},
        {"fresh": float("nan")},
        {"fresh": None},
        {"max_bytes": 0},
        {"max_bytes": 1.5},
        {"max_bytes": True},
        {"jobs": 0},
        {"jobs": None},
    ):
        with pytest.raises(InvalidArgumentError):
            wrong(MemoryStore(), MemoryStore(), **options)
    store: Any = CachingStore(MemoryStore(), MemoryStore(), "write-back")
    with pytest.raises(InvalidArgumentError):
        store.sync("merge")


def test_it_pickles_as_its_settings(tmp_path: Path) -> None:
    source, cache = SqliteStore(tmp_path / "a.sqlite"), SqliteStore(tmp_path / "b.sqlite")
    store = CachingStore(source, cache, "write-back", fresh=timedelta(minutes=1), max_bytes=10**6, jobs=2)
    store["a"] = b"1"
    again = pickle.loads(pickle.dumps(store))
    assert repr(again) == repr(store)
    assert again["a"] == b"1"
    assert again.dirty() == {"a": "put"}
    again.close()
    assert source["a"] == store["a"] == b"1"


def test_closing_it_leaves_the_stores_below_open() -> None:
    source, cache = MemoryStore(), MemoryStore()
    with CachingStore(source, cache, "write-back") as store:
        store["a"] = b"1"
    assert source["a"] == b"1"
    assert cache.exists("x") is False
    store.close()
    for call in (store.dirty, store.sync, store.invalidate):
        with pytest.raises(StoreError):
            call()


# --- writing back -------------------------------------------------------------------------------------


def back(source: Store, cache: Store, **options: Any) -> CachingStore:
    return CachingStore(source, cache, CacheMode.WRITE_BACK, **options)


def test_what_is_put_is_recorded_and_uploaded_by_a_sync() -> None:
    source, cache = MemoryStore({"gone": b"x", "kept": b"y"}), MemoryStore()
    store = back(source, cache)
    big = os.urandom(3 * MIB)
    store.put("a", b"1", content_type="text/plain")
    store["big"] = iter([big[:MIB], big[MIB:]])
    store["new"] = b"never seen by the source"
    del store["gone"]
    del store["new"]
    assert dict(source) == {"gone": b"x", "kept": b"y"}
    assert dict(store) == {"a": b"1", "big": big, "kept": b"y"}
    assert store.dirty() == {"a": "put", "big": "put", "gone": "delete", "new": "delete"}
    again = back(source, cache)
    assert again.dirty() == store.dirty()
    assert again.info("a") == store.info("a")
    report = again.sync()
    assert (report.uploaded, report.deleted) == (("a", "big"), ("gone", "new"))
    assert (report.conflicts, dict(report.failures), report.bytes, report.clean) == (
        (),
        {},
        3 * MIB + 1,
        True,
    )
    assert dict(source) == dict(store) == {"a": b"1", "big": big, "kept": b"y"}
    assert source.info("a").content_type == "text/plain"
    assert store.dirty() == {}
    assert store.sync().uploaded == ()
    assert not [name for name in entries(cache) if name.startswith("dirty-")]


def test_only_the_sync_touches_the_source() -> None:
    source = Counting(MemoryStore({"a": b"1"}))
    store = back(source, MemoryStore(), sync_on_close=False)
    store["a"] = b"2"
    store["b"] = b"3"
    assert (store["a"], store["b"], store.info("b").size) == (b"2", b"3", 1)
    store["b"] = b"4"
    assert sum(source.calls.values()) == 0, "what is put and read back works with the source away"
    store.close()
    assert sum(source.calls.values()) == 0


def test_the_listing_merges_what_is_recorded() -> None:
    source = MemoryStore({"a": b"1", "c": b"22", "e/x": b"3", "e/y": b"3", "g": b"4"})
    store = back(source, MemoryStore())
    store["b"] = store["e/z"] = store["h/i/j"] = b"55555"
    store["c"] = b"66666"
    store.delete_many(["a", "e/x"])
    expected = {"b": 5, "c": 5, "e/y": 1, "e/z": 5, "g": 1, "h/i/j": 5}
    assert {info.key: info.size for info in store.list()} == expected
    assert list(store) == list(expected)
    assert list(store.iterate_keys("e/")) == ["e/y", "e/z"]
    assert [child if isinstance(child, str) else child.key for child in store.children()] == [
        "b",
        "c",
        "e/",
        "g",
        "h/",
    ]
    store.sync()
    assert list(source) == list(store) == list(expected)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("fresh", FRESH)
def test_a_key_that_changed_at_the_source_is_a_conflict(fresh: Any, known: bool) -> None:
    first = dict.fromkeys(("put", "deleted", "same", "gone", "quiet"), b"old")
    source = MemoryStore(first)
    store = back(source, MemoryStore(), fresh=fresh, sync_on_close=False)
    assert store.get_many(first) == first
    store.put("created", b"mine", expect=ABSENT)
    for key in ("put", "same", "gone", "quiet"):
        store[key] = b"mine"
    del store["deleted"]
    source.put_many({"put": b"theirs", "deleted": b"theirs", "same": b"mine", "created": b"theirs"})
    del source["gone"]
    before = dict(source)
    conflicts = ("created", "deleted", "gone", "put")
    if known:
        with pytest.raises(SyncConflictError) as caught:
            store.sync("raise")
        error = caught.value
        assert isinstance(error, ConcurrencyError)
        assert error.conflicts == error.report.conflicts == conflicts
        assert all(key in str(error) for key in conflicts)
        report = error.report
    else:
        report = store.sync()
    assert report.conflicts == conflicts
    assert report.uploaded == ("quiet", "same"), "the rest is done, and equal bytes are no conflict"
    assert not report.clean
    assert dict(source) == before | {"quiet": b"mine"}
    assert store["put"] == b"mine", "what was written here is still there"
    assert list(store.dirty()) == list(conflicts)
    closing = back(source, store._cache, fresh=fresh)
    with pytest.raises(PartialWriteError, match="deleted") as failed:
        closing.close()
    assert set(failed.value.failures) == set(conflicts)
    done = store.sync("overwrite")
    assert (done.uploaded, done.deleted) == (("created", "gone", "put"), ("deleted",))
    assert dict(source) == dict.fromkeys(("created", "gone", "put", "quiet", "same"), b"mine")
    assert store.dirty() == {}
    store.close()


def test_what_was_never_read_is_put_unconditionally() -> None:
    source = MemoryStore({"a": b"theirs"})
    store = back(source, MemoryStore())
    store["a"] = b"mine"
    source["a"] = b"theirs again"
    assert store.sync("raise").uploaded == ("a",)
    assert source["a"] == b"mine"
    store["a"] = b"mine again"
    source["a"] = b"theirs"
    assert store.sync().conflicts == ("a",), "after its own upload it knows what the source had"
    store.sync("overwrite")
    assert source["a"] == b"mine again"


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize(
    "why", ["copied", "makes room for the record", "evicted", "too large", "read by ranges", "was copied"]
)
def test_a_conflict_needs_no_copy(why: str, deleted: bool, fresh: Any) -> None:
    size = 3 * MIB if why in ("read by ranges", "was copied") else 1000
    source = MemoryStore({"a": b"1" * size, "b": bytes(1500)})
    bounds = {"makes room for the record": 2000, "evicted": 2000, "too large": 900}
    store = back(source, MemoryStore(), fresh=fresh, max_bytes=bounds.get(why), sync_on_close=False)
    if why == "read by ranges":
        assert store.get_range("a", 5, 10) == b"11111"
    else:
        assert len(store["a"]) == size
    if why == "evicted":
        assert len(store["b"]) == 1500
    elif why == "was copied" and fresh == "etag":
        source["a"] = b"2" * size
        assert store.get_range("a", 5, 10) == b"22222", "this is what was read last"
        store["a"] = b"mine"
        assert store.sync("raise").uploaded == ("a",)
        assert store["a"] == b"mine"
    source["a"] = b"theirs"
    if deleted:
        assert store.delete("a")
    else:
        store["a"] = bytes(1500) if "room" in why else b"mine"
    assert store.sync().conflicts == ("a",)
    assert source["a"] == b"theirs"
    store.sync("overwrite")
    assert source.get("a") == store.get("a") != b"theirs"
    store["a"] = b"after its own upload"
    assert store.sync("raise").uploaded == ("a",)
    del source["a"]
    if fresh == "etag":
        assert "a" not in store.get_many(["a"])
        store["a"] = b"anew"
        assert store.sync("raise").uploaded == ("a",), "what was read as absent has nothing to compare with"


def test_one_keys_failure_stops_no_other() -> None:
    class Picky(Counting):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            if key == "bad":
                raise StoreUnavailableError("not this one")
            return super()._write(key, body, expect, attributes)

    source, cache = MemoryStore(), MemoryStore()
    store = back(Picky(source), cache, jobs=4)
    store.put_many({f"k{number}": b"1" for number in range(20)} | {"bad": b"2"})
    report = store.sync("raise")
    assert len(report.uploaded) == 20
    assert list(report.failures) == ["bad"]
    assert store.dirty() == {"bad": "put"}
    with pytest.raises(PartialWriteError, match="'bad'") as caught:
        store.close()
    assert isinstance(caught.value.failures["bad"], StoreUnavailableError)
    back(source, cache).close()
    assert source["bad"] == b"2"


def test_a_cache_that_is_down_hides_no_write() -> None:
    source, cache = MemoryStore({"a": b"old"}), Broken(MemoryStore())
    store = back(source, cache, sync_on_close=False)
    store["a"] = b"new"
    cache.down = True
    calls: list[Callable[[], object]] = [
        lambda: store["a"],
        lambda: store.info("a"),
        lambda: list(store),
        lambda: store.put("a", b"newer"),
        lambda: store.delete("a"),
        store.dirty,
        store.sync,
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError):
            call()
    cache.down = False
    assert store["a"] == b"new"


def test_a_damaged_record_is_reported_and_can_be_put_again() -> None:
    source, inner = MemoryStore({"a": b"old"}), MemoryStore()
    store = back(source, inner, sync_on_close=False)
    store.put_many({"a": b"precious", "b": b"other"})
    name = next(key for key in inner if key.startswith("dirty-") and b"precious" in inner[key])
    good = inner[name]
    inner[name] = good.replace(b"precious", b"Precious")
    with pytest.raises(IntegrityError) as caught:
        store["a"]
    assert caught.value.key == "a"
    report = store.sync()
    assert report.uploaded == ("b",)
    assert isinstance(report.failures["a"], IntegrityError)
    assert source["a"] == b"old"
    store["a"] = b"again"
    assert store.sync().uploaded == ("a",)
    store["a"] = b"x"
    inner[name] = b"\0" * 100
    for call in (lambda: store["a"], lambda: list(store), store.dirty):
        with pytest.raises(IntegrityError):
            call()
    assert list(store.sync().failures) == [name]
    store["a"] = b"y"
    assert store.sync("overwrite").clean


def test_records_are_never_evicted() -> None:
    source, cache = MemoryStore({f"s{number}": bytes(500) for number in range(20)}), MemoryStore()
    store = back(source, cache, max_bytes=5000)
    for number in range(20):
        store[f"k{number}"] = bytes(500)
        assert store[f"s{number}"] == bytes(500)
    assert len(store.dirty()) == 20
    assert [name for name in entries(cache) if name.startswith("cached-")] == []
    assert all(store[f"k{number}"] == bytes(500) for number in range(20))
    store.sync()
    assert len(source) == 40
    assert taken(cache) <= 5000


def test_a_source_that_can_not_compare() -> None:
    can = Can.WRITE | Can.DELETE | Can.LIST
    inner = MemoryStore({"a": b"1", "b": b"2", "c": b"3"})
    store = back(Limited(inner, can), MemoryStore())
    assert Can.SWAP in store.can
    assert Can.CREATE in store.can
    assert not store.can & (Can.EXPIRE | Can.ATTRIBUTES | Can.COPY | Can.BULK)
    assert dict(store) == dict(inner)
    store.modify("a", lambda old: old + b"!")
    del store["b"]
    store["c"] = b"mine"
    with pytest.raises(BlobExistsError):
        store.put("a", b"x", expect=ABSENT)
    inner["c"] = b"theirs"
    report = store.sync()
    assert (report.uploaded, report.deleted, report.conflicts) == (("a",), ("b",), ("c",))
    store.sync("overwrite")
    assert dict(inner) == {"a": b"1!", "c": b"mine"}


def test_what_expired_before_the_sync_is_deleted() -> None:
    source = MemoryStore({"a": b"old"})
    store = back(source, MemoryStore())
    info = store.put("a", b"new", ttl=0.05)
    later = store.put("b", b"new", ttl=60)
    assert info.expires is not None
    while time.time() <= info.expires.timestamp():
        time.sleep(0.005)
    assert "a" not in store
    assert list(store) == ["b"]
    assert store.sync().deleted == ("a",)
    assert list(source) == ["b"]
    assert source.info("b").expires == later.expires


# --- the order of a sync's steps ----------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a kill."""


class Fuse(Counting):
    """A store that is killed after so many changes, or before the next, with nothing after that."""

    left: int | None = None
    after = True

    def _burn(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.left == 0 and self.after

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        over = self._burn()
        info = super()._write(key, body, expect, attributes)
        if over:
            raise Killed
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        over = self._burn()
        gone = super()._delete(key, expect)
        if over:
            raise Killed
        return gone


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("first", [b"mine", None])
@pytest.mark.parametrize("then", ["sync", "put", "delete"])
@pytest.mark.parametrize("start", [b"old", None])
def test_a_sync_that_is_killed_at_any_step(
    fresh: Any, first: bytes | None, then: str, start: bytes | None
) -> None:
    """Whatever is done after it, the next sync brings it up, and finds no conflict with itself."""
    for step in range(12):
        source, cache = MemoryStore(), MemoryStore()
        if start is not None:
            source["a"] = start
        fuse_source, fuse_cache = Fuse(source), Fuse(cache)
        store = back(fuse_source, fuse_cache, fresh=fresh, sync_on_close=False)
        store.get("a")
        if first is None:
            store.delete("a")
        elif start is None:
            store.put("a", first, expect=ABSENT)
        else:
            store["a"] = first
        # One fuse for both: the changes of a sync are counted through.
        counted = [step]

        def burn(counted: list[int] = counted) -> bool:
            counted[0] -= 1
            if counted[0] < 0:
                raise Killed
            return counted[0] == 0

        fuse_source._burn = fuse_cache._burn = burn  # type: ignore[method-assign]
        try:
            store.sync()
            done = True
        except Killed:
            done = False
        again = back(source, cache, fresh=fresh)
        assert again.get("a") == first
        expected = first
        if then == "put":
            again["a"] = expected = b"later"
        elif then == "delete":
            again.delete("a")
            expected = None
        report = again.sync("raise")
        assert report.clean
        assert source.get("a") == again.get("a") == expected
        assert again.dirty() == {}
        assert not [name for name in entries(cache) if name.startswith("dirty-")]
        if done:
            break
    else:
        raise AssertionError("a sync of one key takes more steps than were tried")


def test_what_is_written_while_it_is_uploaded_stays_recorded() -> None:
    class Busy(Counting):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            info = super()._write(key, body, expect, attributes)
            if self.calls["write"] == 2:
                store["a"] = b"while it was uploaded"
            return info

    source = Busy(MemoryStore())
    source["a"] = b"old"
    store = back(source, MemoryStore())
    assert store["a"] == b"old"
    store["a"] = b"new"
    put = store.sync()
    assert put.uploaded == ("a",)
    assert (source["a"], store["a"]) == (b"new", b"while it was uploaded")
    assert store.dirty() == {"a": "put"}
    assert store.sync("raise").uploaded == ("a",)
    assert source["a"] == b"while it was uploaded"


@pytest.mark.parametrize("fresh", ["etag", "immutable"])
def test_swaps_beside_syncs(fresh: Any, tmp_path: Path) -> None:
    """A counter is exact, and nothing conflicts, while several handles sync all the time."""
    source = MemoryStore()
    handles = [back(source, SqliteStore(tmp_path / "cache.sqlite"), fresh=fresh, jobs=2) for _ in range(3)]
    running = [4]

    def count(handle: CachingStore, seed: int) -> None:
        rng = random.Random(seed)
        for number in range(40):
            handle.modify("count", lambda old: b"%d" % (int(old) + 1), default=b"0")
            if rng.random() < 0.3:
                handle.put(f"own/{seed}", b"%d" % number)
            else:
                handle.delete(f"own/{seed}")
        running[0] -= 1

    def sync(handle: CachingStore) -> None:
        while running[0] > 0:
            report = handle.sync()
            assert report.clean, report

    tasks: list[Callable[[], None]] = [
        functools.partial(count, handles[number % 3], number) for number in range(4)
    ]
    race(*tasks, *(functools.partial(sync, handle) for handle in handles[:2]))
    assert handles[0]["count"] == b"160"
    assert all(handle.sync().clean for handle in handles)
    assert source["count"] == b"160"
    assert dict(source) == dict(handles[1]) == dict(handles[2])


def test_a_put_that_a_sync_overtook_is_no_conflict() -> None:
    """Between the look at what was read and the record of the put, another handle puts and syncs."""

    class Overtaken(Counting):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            if key.startswith("dirty-") and self.calls["write"] == 1:
                other["a"] = b"before"
                assert other.sync("raise").uploaded == ("a",)
            return super()._write(key, body, expect, attributes)

    source, cache = MemoryStore({"a": b"old"}), MemoryStore()
    store, other = back(source, Overtaken(cache)), back(source, cache)
    assert store["a"] == b"old"
    store["a"] = b"after"
    assert source["a"] == b"before"
    assert store.sync("raise").uploaded == ("a",)
    assert source["a"] == b"after"


def test_of_many_deleters_beside_a_sync_one_is_told() -> None:
    source, cache = MemoryStore(), MemoryStore()
    handles = [back(source, cache, sync_on_close=False) for _ in range(3)]
    for number in range(40):
        handles[number % 3]["a"] = b"1"
        if number % 2:
            handles[0].sync()
        told = race(
            *(functools.partial(handle.delete, "a") for handle in handles), lambda: bool(handles[0].sync())
        )
        assert sum(told[:3]) == 1
    assert handles[0].sync().clean


def test_a_listing_beside_syncs() -> None:
    source, cache = MemoryStore(), MemoryStore()
    store = back(source, cache)
    always = {f"k{number:03}": b"%d" % number for number in range(60)}
    store.put_many(always)
    running = [1]

    def write() -> None:
        for _ in range(15):
            store.put_many(always)
            store.sync()
        running[0] = 0

    def look() -> None:
        while running[0]:
            assert list(store) == list(always)
            assert [info.size for info in store.list()] == [len(data) for data in always.values()]

    race(write, look)


# --- faults at random ---------------------------------------------------------------------------------

FAULTS = [
    (mode, fresh, faults) for mode in ("write-through", "write-back") for fresh in FRESH for faults in "scb"
]


@pytest.mark.parametrize(("mode", "fresh", "faults"), FAULTS)
def test_what_was_acknowledged_is_right_or_was_reported(
    mode: Any, fresh: Any, faults: str, caplog: pytest.LogCaptureFixture
) -> None:
    """10,000 operations in each mode with a source (s), a cache (c) or both (b) that fail at random."""
    caplog.set_level(logging.CRITICAL)
    for seed in range(4):
        run_with_faults(mode, fresh, faults, seed, 10_000 // (3 * 4) + 1)


def run_with_faults(mode: Any, fresh: Any, faults: str, seed: int, operations: int) -> None:
    source, cache = MemoryStore(), MemoryStore()

    def opened(number: int) -> CachingStore:
        return CachingStore(
            Flaky(source, 0.15, number) if faults in "sb" else source,
            Flaky(cache, 0.15, number + 1) if faults in "cb" else cache,
            mode,
            fresh=fresh,
            max_bytes=60_000 if seed % 2 else None,
            sync_on_close=False,
        )

    rng = random.Random(f"{mode}{fresh}{faults}{seed}")
    store = opened(seed)
    # For each key what it may hold: more than one value where a call failed, and was thus reported.
    held: dict[str, set[bytes | None]] = {f"k{number}": {None} for number in range(6)}
    for number in range(operations):
        key = rng.choice(list(held))
        tried: set[bytes | None] = set()
        data = b"%d-" % number + rng.randbytes(rng.choice((5, 3000, 200_000 if number % 8 == 0 else 50)))
        try:
            match rng.randrange(10):
                case 0 | 1 | 2:
                    tried = {data}
                    body = data if rng.random() < 0.5 else iter([data[:3], data[3:]])
                    store.put(key, body)
                    held[key] = tried
                case 3:
                    tried = {None}
                    store.delete(key)
                    held[key] = tried
                case 4:
                    tried = held[key]
                    if len(tried) > 1:
                        continue
                    (old,) = tried
                    tried = {(old or b"") + b"+"}
                    store.modify(key, lambda now: now + b"+", default=b"")
                    held[key] = tried
                case 5 if mode == "write-back":
                    report = store.sync()
                    assert not report.conflicts, "nobody else writes"
                case 6:
                    for listed in store.list():
                        assert held[listed.key] != {None}, "what was deleted is listed"
                case 7:
                    start = rng.randrange(4)
                    part = store.get_range(key, start)
                    assert part in {value[start:] for value in held[key] if value is not None}
                case _:
                    found = store.get(key)
                    assert found in held[key], f"{key} holds {found!r}"
                    held[key] = {found}
        except BlobNotFoundError:
            assert None in held[key]
        except StoreUnavailableError:
            # It may have been done.
            held[key] = held[key] | tried
        if number % 40 == 39:
            store = opened(number)
    calm = CachingStore(source, cache, mode, fresh=fresh)
    for key, values in held.items():
        assert calm.get(key) in values
    if mode == "write-back":
        seen = dict(calm)
        assert calm.sync().clean
        assert dict(source) == seen
    if fresh == "etag" or mode == "write-back":
        assert dict(calm) == dict(source)


# --- kills --------------------------------------------------------------------------------------------

PROGRAM = textwrap.dedent(
    """
    import json, os, random, sys
    from holdall import FilesystemStore, SqliteStore
    from holdall.layers.caching import CachingStore
    place, seed, journal, fresh = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    store = CachingStore(
        FilesystemStore(place + "/source"), SqliteStore(place + "/cache.sqlite"), "write-back",
        fresh=fresh, max_bytes=[None, 30_000][seed % 2], sync_on_close=False, jobs=3,
    )
    rng = random.Random(seed)
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def say(word):
        os.write(file, json.dumps(word).encode() + b"\\n")
    number = 0
    while True:
        number += 1
        key = f"k{rng.randrange(12)}"
        choice = rng.randrange(6)
        if choice < 3:
            data = b"%d/%d:" % (seed, number) + bytes([number % 256]) * rng.choice((10, 5000, 300_000))
            say([key, data[: data.index(b":")].decode() + f"*{len(data)}"])
            store.put(key, data)
        elif choice == 3:
            say([key, None])
            store.delete(key)
        elif choice == 4:
            store.get(key)
            continue
        else:
            store.sync("raise")
            continue
        say("done")
    """
)


def told(data: bytes | None) -> str | None:
    """What the journal calls a value, which must be whole."""
    if data is None:
        return None
    name, _, rest = data.partition(b":")
    assert rest == rest[:1] * len(rest)
    assert int(name.split(b"/")[1]) % 256 == rest[0]
    return f"{name.decode()}*{len(data)}"


@pytest.mark.parametrize("fresh", ["etag", "immutable"])
def test_a_killed_write_back_loses_nothing_that_was_acknowledged(fresh: Any, tmp_path: Path) -> None:
    """Kills at random moments of puts, deletes and syncs, in two kinds of freshness."""
    rng = random.Random()
    known: dict[str, str | None] = {}
    acknowledged = interrupted = 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for number in range(effort(50, 12)):
        journal = tmp_path / f"journal-{number}"
        words = [sys.executable, "-c", PROGRAM, str(tmp_path), str(number), str(journal), fresh]
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 60
            while not (journal.exists() and journal.stat().st_size) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(rng.random() * 0.1)
            process.kill()
            errors = process.stderr.read().decode() if process.stderr else ""
        assert process.returncode == -signal.SIGKILL, errors
        pending: dict[str, str | None] = {}
        for line in journal.read_text().splitlines():
            word = json.loads(line)
            if word == "done":
                known |= pending
                acknowledged, pending = acknowledged + 1, {}
            else:
                pending = {word[0]: word[1]}
        interrupted += bool(pending)
        source, cache = FilesystemStore(tmp_path / "source"), SqliteStore(tmp_path / "cache.sqlite")
        for key in source:
            told(source[key])
        with source, cache, back(source, cache, fresh=fresh) as store:
            for key in {*known, *pending}:
                found = told(store.get(key))
                assert found in {known.get(key), pending.get(key, known.get(key))}
                known[key] = found
            if number % 2:
                report = store.sync("raise")
                assert report.clean, report
                assert store.dirty() == {}
                assert {key: told(source.get(key)) for key in known} == known
                assert set(source) == {key for key, value in known.items() if value is not None}
            else:
                store._sync_on_close = False
    assert acknowledged > 0
    assert interrupted > 0, "none was killed while it wrote"


# --- two processes ------------------------------------------------------------------------------------

WRITER = textwrap.dedent(
    """
    import os, random, sys, time
    from holdall import FilesystemStore, SqliteStore
    from holdall.layers.caching import CachingStore
    place, name, fresh = sys.argv[1], sys.argv[2], sys.argv[3]
    fresh = fresh if fresh == "etag" else float(fresh)
    source, cache = SqliteStore(place + "/source.sqlite"), FilesystemStore(place + "/" + name)
    store = CachingStore(source, cache, fresh=fresh)
    rng = random.Random(name)
    journal = os.open(place + "/" + name + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    mine = "ab"[name == "two"]
    number, end = 0, time.monotonic() + 4
    while time.monotonic() < end:
        # Each writes keys of its own, in rising numbers, and reads those of the other.
        key = f"{rng.randrange(3)}"
        if rng.random() < 0.4:
            number += 1
            pad = b" " * rng.choice((1, 200_000 if number % 5 == 0 else 7))
            if number % 3:
                store[mine + key] = b"%d" % number + pad
            else:
                store[mine + key] = iter([b"%d" % number, pad])
            word = f"w {mine}{key} {time.monotonic_ns()} {number}"
        else:
            other = rng.choice("ab")
            begun = time.monotonic_ns()
            found = store.get(other + key)
            word = f"r {other}{key} {begun} {0 if found is None else int(found)}"
        os.write(journal, word.encode() + b"\\n")
    """
)


@pytest.mark.parametrize("fresh", ["etag", "0.05"])
def test_two_processes_read_nothing_older_than_was_promised(fresh: str, tmp_path: Path) -> None:
    """Both write through caches of their own over one source. A read gives what was acknowledged before it
    began, or, with an age, that long before."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name, fresh], env=environment)
        for name in ("one", "two")
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    words = [
        line.split()
        for name in ("one", "two")
        for line in (tmp_path / f"{name}.log").read_text().splitlines()
    ]
    age = 0 if fresh == "etag" else int(float(fresh) * 1e9)
    writes: dict[str, list[tuple[int, int]]] = {}
    for what, key, moment, number in words:
        if what == "w":
            writes.setdefault(key, []).append((int(moment), int(number)))
    reads = old = 0
    for what, key, moment, number in words:
        if what == "r":
            reads += 1
            newest = [n for at, n in writes.get(key, []) if at < int(moment) - age]
            assert int(number) >= max(newest, default=0), "a read gave what was older than promised"
            latest = max((n for at, n in writes.get(key, []) if at < int(moment)), default=0)
            old += int(number) < latest
    assert reads > 100
    assert fresh == "etag" or old > 0, "with an age, copies are served while they may be"


def test_a_fork_inherits_no_lock(tmp_path: Path) -> None:
    source = Slow(SqliteStore(tmp_path / "source.sqlite"), 0.2)
    source["a"] = b"1"
    store = CachingStore(source, SqliteStore(tmp_path / "cache.sqlite"), fresh="immutable", max_bytes=10**6)
    thread = threading.Thread(target=lambda: store["a"])
    thread.start()
    while not store._copies.flights:
        time.sleep(0.001)

    def work() -> None:
        assert store["a"] == b"1"

    child = forked(work)
    thread.join()
    succeeds(child)


def test_two_that_sync_one_key_know_what_the_other_sent() -> None:
    reached, go_on = threading.Event(), threading.Event()

    class Cache(MemoryStore):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Any:
            if key.startswith("sent-") and threading.current_thread().name == "slow":
                reached.set()
                go_on.wait(60)
            return super()._write(key, body, expect, attributes)

    # So large that no copy of it stays after a sync.
    blobs = [bytes([number]) * 200_000 for number in range(4)]
    source, cache = MemoryStore({"k": blobs[0]}), Cache()
    one, two = back(source, cache), back(source, cache)
    assert two["k"] == blobs[0]
    one["k"] = blobs[1]
    slow = threading.Thread(target=two.sync, name="slow")
    slow.start()
    reached.wait(60)
    assert one.sync().uploaded == ("k",)
    one["k"] = blobs[2]
    assert one.sync().uploaded == ("k",)
    go_on.set()
    slow.join()
    two["k"] = blobs[3]
    assert two.sync().uploaded == ("k",)
    assert source["k"] == blobs[3]


def test_a_folder_where_a_blob_was_is_written_back_in_one_sync(tmp_path: Path) -> None:
    source = FilesystemStore(tmp_path / "source")
    source.put_many({f"a{number}": b"old" for number in range(20)})
    with back(source, SqliteStore(tmp_path / "cache.db")) as store:
        for number in range(20):
            del store[f"a{number}"]
            store[f"a{number}/b"] = b"new"
    assert list(source) == sorted(f"a{number}/b" for number in range(20))


def test_a_key_for_which_the_source_has_no_room_is_refused() -> None:
    medium = MemoryStore()
    for store in (
        CachingStore(medium / "logs", MemoryStore()),
        back(medium / "logs", MemoryStore()),
        RoutedStore({"": medium / "logs"}),
    ):
        with pytest.raises(InvalidKeyError):
            store["k" * 1024] = b"1"
    assert not medium


def test_a_store_is_no_cache_of_its_own() -> None:
    store = MemoryStore()
    with pytest.raises(InvalidArgumentError, match="same place"):
        CachingStore(store, store)


def test_notes_of_what_was_sent_stay_for_an_hour(tmp_path: Path) -> None:
    cache = FilesystemStore(tmp_path / "cache")
    store = back(MemoryStore(), cache)
    store["a"] = b"1"
    store.sync()
    (note,) = cache.iterate_keys("sent-")
    store.sync()
    assert note in cache
    os.utime(tmp_path / "cache" / note, (time.time() - 3700,) * 2)
    store["b"] = b"2"
    store.sync()
    assert note not in cache
    assert len(list(cache.iterate_keys("sent-"))) == 1


def test_what_another_handle_sent_is_no_conflict() -> None:
    source, cache = MemoryStore(), MemoryStore()
    one, other = back(source, cache), back(source, cache)
    one["a"] = b"1"
    assert one.sync().clean
    del other["a"]
    assert other.sync().clean
    assert "a" not in source
    one["a"] = b"2"
    assert one.sync().uploaded == ("a",)
    assert source["a"] == b"2"


def test_what_somebody_else_brings_back_is_a_conflict() -> None:
    source = MemoryStore()
    store = back(source, MemoryStore())
    for value in (b"on", b"off"):
        store["flag"] = value
        assert store.sync().clean
    source["flag"] = b"on"
    store["flag"] = b"dim"
    assert store.sync().conflicts == ("flag",)
    assert source["flag"] == b"on"
