"""Writing back: what is recorded, and in what order a sync brings it to the source."""

import functools
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.caches import FRESH, MIB, Broken, back, entries, taken

from holdall import (
    ABSENT,
    BlobExistsError,
    Can,
    ConcurrencyError,
    FilesystemStore,
    Info,
    IntegrityError,
    MemoryStore,
    PartialWriteError,
    SqliteStore,
    StoreUnavailableError,
)
from holdall.errors import SyncConflictError
from holdall.layers.caching import CachingStore
from holdall.store import Attributes, Body, Expect
from holdall.testing import Counting, Limited, race


def test_what_is_put_is_recorded_and_uploaded_by_a_sync() -> None:
    source, cache = MemoryStore({"gone": b"x", "kept": b"y"}), MemoryStore()
    store = back(source, cache)
    big = os.urandom(3 * MIB)
    store.put("a", b"1", content_type="text/plain", metadata={"owner": "ana"})
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
    assert again.info("a").metadata == {"owner": "ana"}
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
    assert source.info("a").metadata == {"owner": "ana"}
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
