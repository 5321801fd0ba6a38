"""One store kept in several: what it is made of, reading and listing."""

import logging
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.replicas import MIB, WAYS, Faulty, apart, threaded

from holdall import (
    ABSENT,
    BlobNotFoundError,
    Can,
    FilesystemStore,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.layers.fanout import FanoutStore
from holdall.layers.layer import Transparent
from holdall.store import Info
from holdall.testing import Counting, Limited, StoreSuite


class TestFanoutOverThreeWithAQuorum(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return FanoutStore([MemoryStore(name=f"{place}/{number}") for number in range(3)], write=2)


class TestFanoutOverFilesAndSqlite(StoreSuite):
    reduced = True

    def make(self, place: Path) -> Store:
        return apart(FanoutStore([FilesystemStore(place / "files"), SqliteStore(place / "blobs.sqlite")]))


def test_replicas_have_names() -> None:
    one, two = MemoryStore(), MemoryStore()
    assert FanoutStore([one, two]).replicas == {"0": one, "1": two}
    store = FanoutStore({"near": one, "far": two}, write=1, timeout=2.5)
    assert list(store.replicas) == ["near", "far"]
    assert repr(store) == "FanoutStore({'near': MemoryStore(), 'far': MemoryStore()}, write=1, timeout=2.5)"
    assert repr(pickle.loads(pickle.dumps(store))) == repr(store)


@pytest.mark.parametrize(
    ("children", "options"),
    [
        ([], {}),
        ({}, {}),
        ("ab", {}),
        (None, {}),
        ([MemoryStore(), "memory://"], {}),
        ([MemoryStore()] * 2, {}),
        ({"": MemoryStore()}, {}),
        ({1: MemoryStore()}, {}),
        ({"a@b": MemoryStore()}, {}),
        *(
            ([MemoryStore(), MemoryStore()], {"write": write})
            for write in (0, 3, -1, True, 1.0, "most", None)
        ),
        *(([MemoryStore()], {"timeout": timeout}) for timeout in (0, -1, "1", True, float("nan"))),
        ([MemoryStore()], {"read": "any"}),
    ],
)
def test_what_no_fanout_is_made_of(children: Any, options: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        FanoutStore(children, **options)


def test_it_can_what_all_can() -> None:
    least = Limited(MemoryStore(), Can.WRITE | Can.DELETE | Can.LIST | Can.SWAP | Can.RANGE)
    # Without CREATE the others can't follow the first, whatever SWAP says.
    assert FanoutStore([MemoryStore(), least]).can == Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE
    both = FanoutStore([MemoryStore(), MemoryStore()]).can
    assert both == MemoryStore.can & ~Can.COPY
    with pytest.raises(UnsupportedOperation):
        FanoutStore([MemoryStore(), least]).put("a", b"1", expect=ABSENT)


def test_a_key_too_long_for_one_is_refused_before_any_takes_it() -> None:
    whole = MemoryStore()
    store = FanoutStore([whole, MemoryStore() / "folder"])
    with pytest.raises(InvalidKeyError, match="folder/"):
        store["x" * 1020] = b"1"
    assert not whole


def test_one_store_is_a_fanout_too() -> None:
    store = FanoutStore([MemoryStore()])
    store["a"] = b"1"
    assert (store["a"], store.delete("a"), list(store)) == (b"1", True, [])


def test_reads_go_on_to_the_next_replica(caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = Faulty(), MemoryStore({"a": b"1"}), MemoryStore({"a": b"1", "b": b"2"})
    store = FanoutStore([first, second, third])
    assert (store["a"], store.info("b").size, "b" in store) == (b"1", 1, True)
    assert not caplog.records, "a miss is no failure"
    first.bad = {"read", "info"}
    assert (store["a"], store["b"]) == (b"1", b"2")
    assert [(record.levelno, record.name) for record in caplog.records] == [
        (logging.WARNING, "holdall.layers.fanout")
    ] * 2
    assert "replica '0' failed to read 'a': StoreUnavailableError: the disk is gone" in caplog.text


def test_where_nobody_answers() -> None:
    first, second = Faulty(), Faulty()
    store = FanoutStore({"near": first, "far": second})
    with pytest.raises(BlobNotFoundError):
        store.info("a")
    first.bad, second.bad = {"read", "info"}, {"read", "info"}
    second.error = OSError("no route")
    for call in (store.get, store.info, store.exists, store.open, store.chunks):
        with pytest.raises(StoreUnavailableError) as caught:
            call("a")
        assert "'near': StoreUnavailableError: the disk is gone" in str(caught.value)
        assert "'far': OSError: no route" in str(caught.value)
        assert caught.value.key == "a"
    # One has no such blob and one doesn't tell: nobody knows.
    first.bad.clear()
    for call in (store.get, store.info, store.exists):
        with pytest.raises(StoreUnavailableError, match="the others lack the blob"):
            call("a")


def test_a_range_past_the_ends_is_no_replicas_fault(caplog: pytest.LogCaptureFixture) -> None:
    store = FanoutStore([MemoryStore({"a": b"1"}), MemoryStore({"a": b"1"})])
    assert store.get_range("a", -2) == b"1"
    assert not caplog.records


def test_damage_found_by_one_is_read_from_another() -> None:
    first, second = Faulty(None, "end of read", error=IntegrityError("damaged")), MemoryStore()
    store = FanoutStore([first, second])
    store["a"] = b"1" * 1000
    etag = store.info("a").etag
    info, pieces = store._read("a", 0, None)
    assert (b"".join(pieces), info.etag == etag) == (b"1" * 1000, False)
    assert store.get_range("a", 10, 20) == b"1" * 10


@WAYS
@pytest.mark.parametrize("ranges", [True, False])
def test_a_stream_that_breaks_off_goes_on_elsewhere(inline: bool, ranges: bool) -> None:
    data = random.Random(1).randbytes(5 * MIB + 3)
    can = MemoryStore.can if ranges else MemoryStore.can & ~Can.RANGE
    first, second = Faulty(), Limited(MemoryStore(), can)
    store = FanoutStore([first, second] if inline else threaded(first, second))
    store["a"] = data
    first.bad.add("half read")
    assert store["a"] == data
    assert b"".join(store.chunks("a", 1000)) == data
    assert store.get_range("a", 7, -5) == data[7:-5]
    with store.open("a") as file:
        file.seek(MIB)
        assert file.read() == data[MIB:]


def test_a_stream_goes_on_in_the_same_replica_if_it_can() -> None:
    class Once(Faulty):
        def act(self, call: str) -> None:
            if call in self.bad:
                self.bad.remove(call)
                raise self.error

    data = random.Random(2).randbytes(3 * MIB)
    first, second = Once(), Faulty(None)
    store = FanoutStore([first, second])
    store["a"] = data
    first.bad, second.bad = {"half read"}, {"read"}
    assert store["a"] == data


@pytest.mark.parametrize("at", [0, MIB - 1, -1])
def test_a_stream_never_goes_on_with_other_bytes(at: int) -> None:
    data = bytearray(random.Random(3).randbytes(3 * MIB))
    first, second = Faulty(), MemoryStore()
    first["a"] = bytes(data)
    data[at] ^= 1
    second["a"] = bytes(data) if at >= 0 else bytes(data[:-1])
    store = FanoutStore([first, second])
    first.bad.add("half read")
    with pytest.raises(StoreUnavailableError, match="the disk is gone"):
        _ = store["a"]


def test_a_stream_never_goes_on_with_a_later_blob() -> None:
    data = random.Random(6).randbytes(3 * MIB)

    class Replaced(Faulty):
        def act(self, call: str) -> None:
            if call in self.bad:
                self.bad.clear()
                self["a"] = data[:-1] + b"?"
                raise self.error

    first, second = Replaced(), MemoryStore()
    store = FanoutStore([first, second])
    first["a"] = data
    first.bad = {"half read"}
    with pytest.raises(StoreUnavailableError, match="the disk is gone"):
        _ = store["a"]


def test_what_a_stream_dropped_half_way_holds_is_freed(tmp_path: Path) -> None:
    store = FanoutStore([SqliteStore(tmp_path / "a.sqlite"), SqliteStore(tmp_path / "b.sqlite")])
    store["a"] = bytes(5 * MIB)
    chunks = store.chunks("a", 1000)
    next(chunks)
    del chunks
    assert store.delete("a")
    for child in store.replicas.values():
        child.close()


def test_a_whole_read_fills_the_replicas_before_the_one_that_has_it(tmp_path: Path) -> None:
    data = random.Random(8).randbytes(3 * MIB)
    far = Counting(FilesystemStore(tmp_path))
    far.update({"small": b"1", "large": data})
    near, middle = MemoryStore(), MemoryStore()
    plain = FanoutStore([near, middle, far])
    assert (plain["small"], len(near)) == (b"1", 0)
    store = FanoutStore([near, middle, far], fill=True)
    assert pickle.loads(pickle.dumps(store))._reader._fill
    assert (store.info("small").size, "small" in store, store.get_range("small", 0, 1)) == (1, True, b"1")
    assert not near
    before = far.calls["read"]
    assert (store["small"], store["large"], b"".join(store.chunks("large"))) == (b"1", data, data)
    assert dict(near.items()) == dict(middle.items()) == {"small": b"1", "large": data}
    assert far.calls["read"] == before + 2


def test_a_fill_gives_no_old_version_back_to_a_replica_that_is_behind() -> None:
    near, far = Faulty(), Faulty()
    store = FanoutStore([near, far], write=1, fill=True)
    far["a"] = b"1"
    near.bad = {"delete"}
    near["b"] = far["b"] = b"1"
    assert store.delete("b")
    far["b"] = b"2"
    assert store["b"] == b"2"
    assert (near["b"], store.behind()) == (b"1", {"b": ["0"]})
    near.bad = {"write"}
    assert (store["a"], len(near)) == (b"1", 1), "a replica that can't be filled fails no read"


def test_a_listing_is_the_union_in_order() -> None:
    first, second = MemoryStore({"a": b"1", "c": b"1"}), MemoryStore({"b": b"22", "c": b"22", "d/e": b"22"})
    store = FanoutStore([first, second])
    assert [(info.key, info.size) for info in store.list()] == [("a", 1), ("b", 2), ("c", 1), ("d/e", 2)]
    assert list(store) == ["a", "b", "c", "d/e"]
    assert [info.etag == store.info(info.key).etag for info in store.list()] == [True] * 4
    assert [str(child if isinstance(child, str) else child.key) for child in store.children()] == [
        "a",
        "b",
        "c",
        "d/",
    ]


def test_a_listing_is_lazy() -> None:
    counted = [Counting(MemoryStore({f"{number:03}": b"" for number in range(100)})) for _ in range(2)]
    taken = [0]

    class Lazy(Transparent):
        def _scan(self, prefix: str, after: str) -> Iterator[Info]:
            for info in super()._scan(prefix, after):
                taken[0] += 1
                yield info

    listing = FanoutStore([Lazy(store) for store in counted]).list()
    assert [next(listing).key for _ in range(3)] == ["000", "001", "002"]
    assert taken[0] <= 8


@pytest.mark.parametrize("fault", ["scan", "half scan"])
@pytest.mark.parametrize(("count", "write", "may_fail"), [(2, "all", 1), (3, "all", 2), (3, 2, 1), (3, 1, 0)])
def test_a_listing_never_misses_what_was_acknowledged(
    fault: str, count: int, write: Any, may_fail: int, caplog: pytest.LogCaptureFixture
) -> None:
    for failing in range(count + 1):
        children = [Faulty() for _ in range(count)]
        store = FanoutStore(children, write=write)
        for number in range(10):
            store[f"{number}"] = b""
        for child in children[:failing]:
            child.bad = {fault}
        caplog.clear()
        for call in (store.list, store.iterate_keys):
            if failing <= may_fail:
                assert len(list(call())) == 10
                assert ("failed to list" in caplog.text) == (failing > 0)
            else:
                with pytest.raises(StoreUnavailableError, match="too many replicas failed to list"):
                    list(call())
