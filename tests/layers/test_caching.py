"""A store in front of a slower one: how fresh what it returns is, and what it takes."""

import functools
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.again import Again
from tests.caches import FRESH, MIB, Gate, back

from holdall import (
    BlobNotFoundError,
    Can,
    FilesystemStore,
    Info,
    InvalidArgumentError,
    InvalidKeyError,
    MemoryStore,
    RoutedStore,
    SqliteStore,
    Store,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.layers.caching import CacheMode, CachingStore
from holdall.store import Attributes, Body, Expect, Piece
from holdall.testing import Counting, Limited, Slow, StoreSuite, race


class TestThroughASharedCache(StoreSuite):
    """Two handles share the cache, and are never asked to revalidate it: own writes are read back."""

    keeps_what_is_read = True
    reduced = True
    respells = True

    def make(self, place: Path) -> Store:
        source, cache = SqliteStore(place / "blobs.sqlite"), FilesystemStore(place / "cache")
        return CachingStore(source, cache, fresh="immutable")


class TestThroughASmallCache(Again):
    """It evicts all the time."""

    keeps_what_is_read = True

    def make(self, place: Path) -> Store:
        source, cache = SqliteStore(place / "blobs.sqlite"), SqliteStore(place / "cache.sqlite")
        return CachingStore(source, cache, fresh=3600, max_bytes=3000)


class TestBackOverSqlite(StoreSuite):
    def make(self, place: Path) -> Store:
        source, cache = SqliteStore(place / "blobs.sqlite"), SqliteStore(place / "cache.sqlite")
        return CachingStore(source, cache, CacheMode.WRITE_BACK, sync_on_close=False, max_bytes=20_000)


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
    # On a busy machine it may have expired by now.
    assert store.get("a") in (b"1", None)
    with suppress(BlobNotFoundError):
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
    kept = {"owner": "ana"}
    info = source.put("a", b"1", ttl=60, content_type="text/plain; charset=ütf-8", metadata=kept)
    for _ in range(3):
        assert store.info("a") == store._read("a", 0, None)[0] == info
        assert store.info("a").metadata == store._read("a", 0, None)[0].metadata == kept
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
    for flag in (Can.CREATE, Can.SWAP, Can.CONDITIONAL_DELETE):
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


@pytest.mark.parametrize("size", [0, 1000, MIB])
def test_copies_outlive_a_source_that_is_closed(size: int) -> None:
    source = MemoryStore({"a": bytes(size)})
    with CachingStore(source, MemoryStore(), fresh="immutable") as store:
        assert len(store["a"]) == size
        source.close()
        assert len(store["a"]) == len(store["a"]) == size
        assert store.stats().hits == 2


def test_a_subclass_sees_each_read() -> None:
    asked: list[str] = []

    class Logged(CachingStore):
        def _get(self, key: str) -> bytes | None:
            asked.append(key)
            return super()._get(key)

    with Logged(MemoryStore({"a": b"1"}), MemoryStore(), fresh="immutable") as store:
        assert store["a"] == store["a"] == store["a"] == b"1"
        assert store.stats().hits == 2
    assert asked == ["a"] * 3


def test_four_zeros_are_not_a_copy() -> None:
    cache = MemoryStore()
    with CachingStore(MemoryStore({"a": b"1"}), cache, fresh="immutable") as store:
        assert store["a"] == b"1"
        (name,) = cache
        cache[name] = bytes(4)  # their checksum is that of a whole entry
        with CachingStore(MemoryStore({"a": b"2"}), cache, fresh="immutable") as other:
            assert other.get("b") is None
            assert other["a"] == b"2"
