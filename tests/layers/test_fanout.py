"""One store kept in several."""

import functools
import hashlib
import logging
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    CacheMode,
    CachingStore,
    Can,
    ChecksumStore,
    CompressedStore,
    ConcurrencyError,
    EncryptedStore,
    FilesystemStore,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    MemoryStore,
    PartialWriteError,
    SqliteStore,
    Store,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.layers.fanout import FanoutStore
from holdall.layers.layer import Transparent
from holdall.layers.replicas import memory, writing
from holdall.layers.replicas.tee import Tee
from holdall.store import Attributes, Body, Expect, Info, Piece
from holdall.testing import Counting, Flaky, Limited, Slow, StoreSuite, race

MIB = 1 << 20


class TestFanoutOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return FanoutStore([MemoryStore(name=f"{place}/{number}") for number in range(2)])


class TestFanoutOverThreeWithAQuorum(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return FanoutStore([MemoryStore(name=f"{place}/{number}") for number in range(3)], write=2)


class TestFanoutOverFilesAndSqlite(StoreSuite):
    def make(self, place: Path) -> Store:
        return apart(FanoutStore([FilesystemStore(place / "files"), SqliteStore(place / "blobs.sqlite")]))


# --- replicas with faults ---


class Faulty(Transparent):
    """A replica that does something bad in the primitives named in `bad`."""

    def __init__(self, store: Store | None = None, *bad: str, error: Exception | None = None) -> None:
        super().__init__(MemoryStore() if store is None else store)
        self.bad = set(bad)
        self.error = error or StoreUnavailableError("the disk is gone")

    def _settings(self) -> dict[str, object]:
        return {"store": self._store}

    def act(self, call: str) -> None:
        if call in self.bad:
            raise self.error

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self.act("read")
        info, pieces = super()._read(key, start, stop)
        return info, self._halfway(pieces)

    def _halfway(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for number, piece in enumerate(pieces):
            if number:
                self.act("half read")
            yield piece
        self.act("end of read")

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self.act("write")

        def halfway() -> Iterator[Piece]:
            for piece in body:
                yield piece
                self.act("half write")

        info = super()._write(key, halfway(), expect, attributes)
        self.act("after write")
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        self.act("delete")
        return super()._delete(key, expect)

    def _info(self, key: str) -> Info:
        self.act("info")
        return super()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        self.act("scan")
        for number, info in enumerate(super()._scan(prefix, after)):
            if number:
                self.act("half scan")
            yield info


ALL = ("read", "write", "delete", "info", "scan")


class Hanging(Faulty):
    """A replica whose bad primitives hang until they are let go."""

    def __init__(self, store: Store | None = None, *bad: str) -> None:
        super().__init__(store, *bad)
        self.inline = self._near = False
        self.let_go = threading.Event()

    def act(self, call: str) -> None:
        if call in self.bad:
            assert self.let_go.wait(60)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    store = Hanging()
    yield store
    store.let_go.set()


def threaded(*stores: Store) -> list[Store]:
    """The same stores, which the layer calls in threads."""
    for store in stores:
        store.inline = store._near = False
    return list(stores)


def same(store: FanoutStore) -> bool:
    return not list(store.verify())


def apart(store: FanoutStore) -> FanoutStore:
    """The same layer, which calls all its replicas in threads."""
    store._replicas.near = False
    return store


WAYS = pytest.mark.parametrize("inline", [True, False], ids=["inline", "threads"])

# --- what it is made of ---


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


# --- writing ---


def test_all_are_written_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=60)

    class Meeting(Faulty):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            together.wait()
            return super()._write(key, body, expect, attributes)

    store = FanoutStore(threaded(Meeting(), Meeting(), Meeting()))
    store["a"] = b"1"
    store.put("b", iter([b"1", b"2"]))
    assert [child["b"] for child in store.replicas.values()] == [b"12"] * 3


@pytest.mark.parametrize("near", [True, False])
def test_short_bodies_go_to_near_replicas_one_after_the_other(tmp_path: Path, near: bool) -> None:
    class Noting(Transparent):
        writers: ClassVar = set[int]()

        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            self.writers.add(threading.get_ident())
            return super()._write(key, body, expect, attributes)

    files = FilesystemStore(tmp_path / "a", durable=not near)
    with SqliteStore(tmp_path / "b.sqlite") as table:
        store = FanoutStore([Noting(files), Noting(table)])

        def is_here(body: Any) -> bool:
            Noting.writers.clear()
            store["a"] = body
            assert files["a"] == table["a"] == store["a"]
            return Noting.writers == {threading.get_ident()}

        assert is_here(b"1") is near
        assert not is_here(bytes(MIB)), "what is large goes to all at once"
        assert not is_here(iter([b"1", b"2"])), "so does what may become large"
        assert not FanoutStore([files, table], timeout=60)._replicas.near


@WAYS
def test_a_body_is_read_once_and_its_buffer_may_be_used_again(inline: bool) -> None:
    children = [MemoryStore(), Faulty(), Slow(MemoryStore(), 0.001)]
    store = FanoutStore(children[:2] if inline else threaded(*children))
    read = []

    def body() -> Iterator[memoryview]:
        buffer = bytearray(1000)
        for number in range(20):
            buffer[:] = bytes([number]) * 1000
            read.append(number)
            yield memoryview(buffer)

    store.put("a", body())
    assert read == list(range(20))
    for child in store.replicas.values():
        assert child["a"] == b"".join(bytes([number]) * 1000 for number in range(20))


def test_the_fastest_waits_for_the_slowest() -> None:
    hanging, fast = Hanging(None, "half write"), Counting(MemoryStore())
    store = FanoutStore(threaded(fast, hanging))
    given: list[int] = []
    waiting = threading.Event()

    def body() -> Iterator[bytes]:
        for number in range(50):
            given.append(number)
            if number == 4:
                waiting.set()
            yield bytes(1000)

    thread = threading.Thread(target=lambda: store.put("a", body()))
    thread.start()
    assert not waiting.wait(0.2), "the body was read on, though a replica stands still"
    assert len(given) <= 4
    hanging.let_go.set()
    thread.join(60)
    assert store.info("a").size == 50_000
    assert same(store)


class _BodyError(Exception):
    pass


@WAYS
def test_a_body_that_raises_leaves_the_old_blob_everywhere(inline: bool) -> None:
    children = [MemoryStore(), MemoryStore(), MemoryStore()]
    store = FanoutStore(children if inline else threaded(*children), write=1)
    store["a"] = b"before"

    def body() -> Iterator[bytes]:
        yield b"x" * MIB
        raise _BodyError

    for key in ("a", "new"):
        with pytest.raises(_BodyError):
            store.put(key, body())
    assert [dict(child.items()) for child in children] == [{"a": b"before"}] * 3
    assert not store.behind()


@WAYS
@pytest.mark.parametrize("fault", ["write", "half write", "after write"])
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_replica_that_fails_is_named_and_the_others_go_on(inline: bool, fault: str, bad: int) -> None:
    children = {name: Faulty() for name in ("a", "b", "c")}
    if not inline:
        threaded(*children.values())
    store = FanoutStore(children)
    store["key"] = b"before"
    name = list(children)[bad]
    children[name].bad.add(fault)
    with pytest.raises(PartialWriteError) as caught:
        store.put("key", iter([b"1", b"2", b"3"]))
    assert caught.value.key == "key"
    assert list(caught.value.failures) == [name]
    assert isinstance(caught.value.failures[name], StoreUnavailableError)
    assert caught.value.written == tuple(other for other in children if other != name)
    for other in children:
        if other != name:
            assert children[other]["key"] == b"123"
            assert repr(other) in str(caught.value)
    assert "the disk is gone" in str(caught.value)
    if fault != "after write":
        assert children[name]["key"] == b"before"
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.written == caught.value.written
    children[name].bad.clear()
    store.repair("newest")
    assert same(store)
    assert store["key"] == b"123"


def test_where_no_replica_takes_a_write() -> None:
    store = FanoutStore([Faulty(None, "write"), Faulty(None, "write")])
    with pytest.raises(StoreUnavailableError, match="no replica confirmed the write: '0'"):
        store["a"] = b"1"
    store = FanoutStore([Faulty(None, "write"), Faulty(None, "write", error=OSError("full"))])
    with pytest.raises(PartialWriteError, match=r"no replica .* '1': OSError: full") as caught:
        store["a"] = b"1"
    assert caught.value.written == ()
    assert set(caught.value.failures) == {"0", "1"}


@pytest.mark.parametrize("files_first", [True, False])
def test_what_one_medium_has_no_place_for_none_keeps(tmp_path: Path, files_first: bool) -> None:
    children: list[Store] = [FilesystemStore(tmp_path / "files"), SqliteStore(tmp_path / "x.sqlite")]
    store = FanoutStore(children if files_first else children[::-1])
    store["a"] = b"1"
    for write in (
        lambda: store.put("a/b", b"2"),
        lambda: store.put("a/b", iter([b"2", b"3"])),
        lambda: store.put("a/b", b"2", expect=ABSENT),
        lambda: store.copy("a", "a/b"),
    ):
        with pytest.raises(KeyConflictError) as caught:
            write()
        assert caught.value.key == "a/b"
        assert [dict(child.items()) for child in children] == [{"a": b"1"}] * 2
    for child in children:
        child.close()


# --- conditions ---


@WAYS
def test_the_first_replica_decides_conditions(inline: bool) -> None:
    first, second = Faulty(), Faulty()
    store = FanoutStore([first, second] if inline else threaded(first, second))
    etag = store.put("a", b"1").etag
    assert etag == first.info("a").etag == store.info("a").etag
    with pytest.raises(ConcurrencyError):
        store.put("a", b"2", expect="stale")
    with pytest.raises(BlobExistsError):
        store.put("a", iter([b"2"]), expect=ABSENT)
    first.bad = {"write", "delete"}
    for call in (
        lambda: store.put("a", b"2", expect=etag),
        lambda: store.put("new", iter([b"2"]), expect=ABSENT),
        lambda: store.delete("a", expect=etag),
    ):
        with pytest.raises(StoreUnavailableError, match="the disk is gone"):
            call()
        assert dict(second.items()) == {"a": b"1"}
    first.bad = {"info"}
    with pytest.raises(StoreUnavailableError, match="the disk is gone"):
        store.delete("a", expect=etag)
    assert dict(second.items()) == {"a": b"1"}
    first.bad.clear()
    assert store.put("a", b"2", expect=etag).size == 1
    assert second["a"] == b"2"
    assert store.delete("a", expect=store.info("a").etag)
    assert not second


def test_the_etag_of_another_replica_never_matches_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_REMEMBERED", 0.0)
    first, second = Faulty(), MemoryStore()
    store = FanoutStore([first, second])
    store["a"] = b"1"
    assert first.info("a").etag == second.info("a").etag
    first.bad = {"info", "read"}
    etag = store.info("a").etag
    assert store["a"] == b"1"
    first.bad.clear()
    assert etag != store.info("a").etag
    for call in (lambda: store.put("a", b"2", expect=etag), lambda: store.delete("a", expect=etag)):
        with pytest.raises(ConcurrencyError) as caught:
            call()
        assert caught.value.actual == store.info("a").etag
    assert store["a"] == b"1"


class BadSector(Transparent):
    """A disk that can't read the first KiB of any large blob."""

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if 0 <= start < 1024 < super()._info(key).size:
            raise StoreUnavailableError("EIO")
        return super()._read(key, start, stop)


@pytest.mark.parametrize(
    "layer",
    [CompressedStore, lambda store: EncryptedStore(store, b"k" * 32), ChecksumStore],
    ids=["compressed", "encrypted", "checksum"],
)
def test_layers_over_replicas_of_which_one_reads_in_part(layer: Callable[[Store], Store]) -> None:
    """The parts of a blob are read of one version, and so of one replica."""
    data = random.Random(5).randbytes(3_000_000)
    plain = FanoutStore([BadSector(MemoryStore()), MemoryStore()])
    store = layer(plain)
    store["a"] = plain["b"] = data
    assert store["a"] == data
    assert store.get_range("a", 2_000_000) == data[2_000_000:]
    with plain.open("b") as file:
        assert file.read(10) == data[:10]
        file.seek(2_000_000)
        assert file.read() == data[2_000_000:]


def test_a_first_replica_whose_bytes_rot_is_told() -> None:
    disk = MemoryStore()
    store = FanoutStore({"near": ChecksumStore(disk), "far": ChecksumStore(MemoryStore())})
    for change in (
        lambda: store.modify("n", lambda old: old + b"!"),
        lambda: store.pop("n"),
        lambda: store.move("n", "m"),
        lambda: CachingStore(store, MemoryStore(), CacheMode.WRITE_BACK).modify("n", lambda old: old),
    ):
        store["n"] = b"1"
        disk["n"] = b"R" + disk["n"][1:]
        assert store["n"] == b"1"
        try:
            change()
        except IntegrityError:
            assert store["n"] == b"1"
    store["n"] = b"1"
    disk["n"] = b"R" + disk["n"][1:]
    [found] = store.verify()
    assert list(found.failures) == ["near"]
    assert isinstance(found.failures["near"], IntegrityError)
    assert list(store.repair().failures) == ["n"]
    store["n"] = b"2"
    assert not list(store.verify())


def test_a_delete_whose_answer_was_lost_is_none_of_nothing() -> None:
    class Lost(Transparent):
        def _delete(self, key: str, expect: Expect) -> bool:
            super()._delete(key, expect)
            raise StoreUnavailableError("nobody answers")

    store = FanoutStore([MemoryStore(), Lost(MemoryStore({"k": b"1"}))], write=1)
    assert store.delete("k") is True
    assert "k" not in store


def test_layers_of_layers_keep_their_etags_apart() -> None:
    inner = FanoutStore({"x": Faulty(), "1": MemoryStore()})
    outer = FanoutStore([inner, MemoryStore()])
    outer["a"] = b"1"
    inner.replicas["x"].bad.add("info")  # type: ignore[attr-defined]
    etag = outer.info("a").etag
    assert etag != inner.info("a").etag
    inner.replicas["x"].bad.clear()  # type: ignore[attr-defined]
    with pytest.raises(ConcurrencyError):
        outer.put("a", b"2", expect=etag)
    assert outer.modify("a", lambda old: old + b"2").etag == outer.info("a").etag
    assert same(outer)
    assert same(inner)


def test_a_blob_that_only_others_have_can_be_swapped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_GRACE", 0.05)
    first, second = MemoryStore(), MemoryStore({"a": b"1", "b": b"2", "c": b"3"})
    store = FanoutStore([first, second])
    with pytest.raises(BlobExistsError):
        store.put("a", b"x", expect=ABSENT)
    assert store.setdefault("a", b"x") == b"1"
    store.modify("a", lambda old: old + b"!")
    assert store.pop("b") == b"2"
    store.move("c", "d")
    assert dict(first.items()) == dict(second.items()) == {"a": b"1!", "d": b"3"}


# --- deleting ---


@WAYS
def test_a_delete_goes_to_all(inline: bool) -> None:
    children = [Faulty(), Faulty(), Faulty()]
    store = FanoutStore(children if inline else threaded(*children))
    store["a"] = b"1"
    assert store.delete("a") is True
    assert store.delete("a") is False
    assert not any(children)
    children[2]["a"] = b"1"
    assert store.delete("a") is True
    store["a"] = b"1"
    children[1].bad.add("delete")
    with pytest.raises(PartialWriteError) as caught:
        store.delete("a")
    assert (list(caught.value.failures), caught.value.written) == (["1"], ("0", "2"))


# --- reading ---


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


# --- listing ---


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


# --- a quorum ---


@WAYS
def test_a_quorum_goes_on_without_one_and_remembers_it(
    inline: bool, caplog: pytest.LogCaptureFixture
) -> None:
    children = [Faulty(), Faulty(), Faulty()]
    store = FanoutStore(children if inline else threaded(*children), write=2)
    store.update({"a": b"old", "gone": b"old", "mended": b"old"})
    children[0].bad = set(ALL)
    store["a"] = b"new"
    store["mended"] = b"new"
    assert store.delete("gone") is True
    assert "replica '0' failed to write 'a'" in caplog.text
    assert store.behind() == {"a": ["0"], "gone": ["0"], "mended": ["0"]}
    children[0].bad.clear()
    assert children[0]["a"] == b"old"
    assert (store["a"], store.get("gone"), store["mended"]) == (b"new", None, b"new")
    assert list(store) == [info.key for info in store.list()] == ["a", "mended"]
    assert store.delete("gone") is False
    store["mended"] = b"newer"
    assert store.behind() == {"a": ["0"]}
    assert children[0]["mended"] == b"newer"
    store["gone"] = b"again"
    report = store.repair()
    assert report
    assert report.mended == {"a": {"0": "copied"}}
    assert store.behind() == {}
    assert same(store)
    assert dict(store.items()) == {"a": b"new", "gone": b"again", "mended": b"newer"}


def test_a_delete_that_one_missed_is_mended_by_a_delete() -> None:
    children = [Faulty(), Faulty(), Faulty()]
    store = FanoutStore(children, write=2)
    store["a"] = b"1"
    children[0].bad = {"delete"}
    assert store.delete("a")
    children[0].bad = {"delete"}
    report = store.repair()
    assert not report
    assert list(report.failures["a"]) == ["0"]
    assert "a" not in store
    children[0].bad.clear()
    assert store.repair().mended == {"a": {"0": "deleted"}}
    assert not any(children)


def test_a_swap_mends_a_first_replica_that_is_behind() -> None:
    children = [Faulty(), Faulty(), Faulty()]
    store = FanoutStore(children, write=2)
    store["a"] = b"1"
    children[0].bad = {"write"}
    store["a"] = b"2"
    children[0].bad.clear()
    assert store.modify("a", lambda old: old + b"!").size == 2
    assert [child["a"] for child in children] == [b"2!"] * 3
    assert store.behind() == {}


@pytest.mark.parametrize("missed", ["write", "delete"])
def test_a_first_replica_that_is_behind_decides_nothing(missed: str) -> None:
    """It would take what it missed for what is there."""
    children = [Faulty(), Faulty(), Faulty()]
    store = FanoutStore(children, write=2)
    before = store.put("a", b"1").etag
    children[0].bad = {"write", "delete"}
    if missed == "write":
        store["a"] = b"2"
    else:
        assert store.delete("a")
    now = store.get("a")
    for change in (
        lambda: store.put("a", b"3", expect=before),
        lambda: store.delete("a", expect=before),
        lambda: store.put("a", b"3", expect=ABSENT),
    ):
        with pytest.raises(StoreError):
            change()
        assert store.get("a") == now
    children[0].bad.clear()
    with pytest.raises(ConcurrencyError):
        store.put("a", b"3", expect=before)
    children[0].bad = {"write", "delete"}
    with suppress(PartialWriteError):
        store["a"] = b"4"
    children[0].bad.clear()
    with pytest.raises(ConcurrencyError):
        store.delete("a", expect=before)
    assert store["a"] == b"4"
    children[0].bad = {"delete"}
    assert store.delete("a")
    children[0].bad.clear()
    store.put("a", b"5", expect=ABSENT)
    assert [child["a"] for child in children] == [b"5"] * 3


def test_a_write_that_the_first_missed_comes_before_a_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    children = [Faulty(), Faulty(), Faulty()]
    store = FanoutStore(children, write=2)
    before = store.put("a", b"1").etag
    own = store._writer._own_etag

    def between(key: str, expect: Expect) -> Expect:
        found = own(key, expect)
        monkeypatch.undo()
        children[0].bad = {"write"}
        store["a"] = b"2"
        children[0].bad.clear()
        return found

    changes: list[Callable[[str], object]] = [
        lambda etag: store.put("a", b"3", expect=etag),
        lambda etag: store.delete("a", expect=etag),
    ]
    for change in changes:
        monkeypatch.setattr(store._writer, "_own_etag", between)
        with pytest.raises(ConcurrencyError):
            change(before)
        assert store["a"] == b"2"
        store["a"] = b"1"
        before = store.info("a").etag


def test_what_a_quorum_lacks_is_absent() -> None:
    children = [Faulty(), Faulty(), Faulty()]
    store = FanoutStore(children, write=2)
    for number in range(3):
        children[number].bad = set(ALL)
        assert store.get("a") is None
        assert "a" not in store
        assert store.delete("other") is False
        children[(number + 1) % 3].bad = {"read", "info"}
        with pytest.raises(StoreUnavailableError):
            store.get("a")
        for child in children:
            child.bad.clear()


def test_what_others_wrote_since_is_not_taken_back_by_a_repair() -> None:
    children = [Faulty(), Faulty(), Faulty()]
    store, other = FanoutStore(children, write=2), FanoutStore(children, write=2)
    store["a"] = b"1"
    children[0].bad = {"write"}
    store["a"] = b"2"
    children[0].bad.clear()
    other["a"] = b"3"
    assert store["a"] == b"3"
    assert store.repair().mended == {}
    assert [child["a"] for child in children] == [b"3"] * 3
    assert store.behind() == {}


def test_a_quorum_that_is_not_reached() -> None:
    children = [Faulty(), Faulty(), Faulty()]
    store = FanoutStore(children, write=2)
    store["a"] = b"1"
    children[1].bad = children[2].bad = {"write", "delete"}
    for call in (lambda: store.put("a", b"2"), lambda: store.delete("a")):
        with pytest.raises(PartialWriteError, match="and 2 replicas have to") as caught:
            call()
        assert set(caught.value.failures) == {"1", "2"}
        assert caught.value.written == ("0",)
        assert store.behind() == {"a": ["1", "2"]}


@WAYS
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_no_version_before_a_partial_write_is_shown_after_it(inline: bool, first: bool, second: bool) -> None:
    """Two changes in turn reach one replica each, in any order: what came before both stays gone."""
    children = [Faulty(), Faulty()]
    store = FanoutStore(children if inline else threaded(*children))
    for change in (lambda: store.put("k", b"3"), lambda: store.delete("k")):
        store["k"] = b"1"
        missed = children[first]
        missed.bad = {"write", "delete"}
        with pytest.raises(PartialWriteError):
            store["k"] = b"2"
        missed.bad.clear()
        assert (store["k"], list(store)) == (b"2", ["k"])
        missed = children[second]
        missed.bad = {"write", "delete"}
        with pytest.raises(PartialWriteError):
            change()
        missed.bad.clear()
        now = children[not second].get("k")
        assert (store.get("k"), list(store)) == (now, [] if now is None else ["k"])
        # Whoever took the last change fails: the others don't stand in with what they held before.
        children[not second].bad = set(ALL)
        with pytest.raises(StoreUnavailableError):
            store.get("k")
        if now is not None:
            assert children[second].list()
            with pytest.raises(StoreUnavailableError, match="too many replicas failed to list"):
                list(store)
        children[not second].bad.clear()
        assert store.repair()
        assert [child.get("k") for child in children] == [now, now]
        assert store.behind() == {}


def test_a_conditional_delete_of_which_the_first_never_answered_is_not_undone_for_readers() -> None:
    children = [Faulty(), Faulty()]
    store = FanoutStore(children)
    etag = store.put("k", b"1").etag

    class Gone(Faulty):
        """Its delete fails, and so does what it is asked after that."""

        def _delete(self, key: str, expect: Expect) -> bool:
            self.bad = set(ALL)
            raise self.error

    gone = Gone(children[0])
    store = FanoutStore([gone, children[1]])
    with pytest.raises(PartialWriteError) as caught:
        store.delete("k", expect=etag)
    assert caught.value.written == ("1",)
    gone.bad.clear()
    assert children[0]["k"] == b"1"
    assert store.get("k") is None
    assert store.behind() == {"k": ["0"]}


def test_a_refused_put_takes_nothing_back_that_the_first_only_missed(tmp_path: Path) -> None:
    table, files = Faulty(), Faulty(FilesystemStore(tmp_path))
    store = FanoutStore([table, MemoryStore(), files], write=1)
    table.bad = files.bad = {"write"}
    store["a/b"] = b"1"
    table.bad = files.bad = set()
    store["a"] = b"2"
    with suppress(KeyConflictError):
        store["a/b"] = b"3"
    assert store.get("a/b") in (b"1", b"3")


# --- replicas that hang ---


def test_a_replica_that_hangs_counts_as_failed(hanging: Hanging) -> None:
    fast, third = MemoryStore(), MemoryStore()
    store = FanoutStore({"hangs": hanging, "fast": fast, "third": third}, write=2, timeout=0.4)
    store.update({"a": b"1", "b": b"2", "big": bytes(3 * MIB)})
    for call in ALL:
        hanging.bad = {call}
        assert store["a"] == b"1"
        assert store.info("a").size == 1
        assert list(store) == ["a", "b", "big"]
    hanging.bad = {"half read"}
    assert store["big"] == bytes(3 * MIB)
    hanging.bad = set(ALL)
    store["a"] = b"new"
    assert store.delete("b")
    assert store.behind() == {"a": ["hangs"], "b": ["hangs"]}
    assert (store["a"], list(store)) == (b"new", ["a", "big"])
    all_of_them = FanoutStore({"hangs": hanging, "fast": fast}, timeout=0.4)
    with pytest.raises(PartialWriteError) as caught:
        all_of_them["a"] = b"newer"
    assert isinstance(caught.value.failures["hangs"], TimeoutError)
    assert caught.value.written == ("fast",)
    with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.4 s"):
        all_of_them.put("a", b"newest", expect=ABSENT)


def test_a_replica_that_hangs_in_a_stream_never_publishes_what_it_began(hanging: Hanging) -> None:
    fast = MemoryStore()
    store = FanoutStore({"hangs": hanging, "fast": fast}, timeout=0.4)
    store["a"] = b"before"
    hanging.bad = {"half write"}
    with pytest.raises(PartialWriteError) as caught:
        store.put("a", (b"x" * 1000 for _ in range(20)))
    assert isinstance(caught.value.failures["hangs"], TimeoutError)
    ended = threading.Event()
    workers = store._replicas.workers["hangs"]
    hanging.let_go.set()
    # The thread that hung is the only one of this replica: what it does next, it does after the write.
    workers.submit(ended.set)
    assert ended.wait(60)
    race(lambda: workers.submit(lambda: None).result())
    assert hanging["a"] == b"before"


def test_a_slow_stream_that_goes_on_is_no_failure() -> None:
    store = FanoutStore([MemoryStore(), Slow(MemoryStore(), 0.02)], timeout=1.5)
    store.put("a", (bytes([number]) for number in range(90)))
    assert same(store)
    assert b"".join(store.chunks("a")) == bytes(range(90))


# --- verify and repair ---


def unequal() -> FanoutStore:
    first = MemoryStore({"same": b"0", "differs": b"old", "first": b"1"})
    return FanoutStore([first, MemoryStore({"same": b"0", "differs": b"new", "second": b"2"})])


def test_verify_tells_what_differs() -> None:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("old", "new", "1", "2")}
    assert [(each.key, each.digests) for each in unequal().verify()] == [
        ("differs", {"0": digests["old"], "1": digests["new"]}),
        ("first", {"0": digests["1"], "1": None}),
        ("second", {"0": None, "1": digests["2"]}),
    ]
    assert [each.key for each in unequal().verify("f")] == ["first"]


def test_verify_tells_who_does_not_answer() -> None:
    first, second = Faulty(), Faulty()
    store = FanoutStore([first, second])
    store.update({"a": b"1", "b": b"2"})
    first.bad = {"read"}
    assert [(each.key, list(each.digests), list(each.failures)) for each in store.verify()] == [
        ("a", ["1"], ["0"]),
        ("b", ["1"], ["0"]),
    ]
    first.bad = {"scan"}
    with pytest.raises(StoreUnavailableError, match="'0': StoreUnavailableError"):
        list(store.verify())


def test_repair_by_source_order() -> None:
    store = unequal()
    report = store.repair()
    assert report.mended == {"differs": {"1": "copied"}, "first": {"1": "copied"}, "second": {"0": "copied"}}
    assert report
    assert same(store)
    assert dict(store.items()) == {"same": b"0", "differs": b"old", "first": b"1", "second": b"2"}
    assert store.repair().mended == {}


def test_repair_by_time() -> None:
    store = unequal()
    assert store.repair("newest").mended["differs"] == {"0": "copied"}
    assert same(store)
    assert store["differs"] == b"new"


def test_repair_by_a_function() -> None:
    store = unequal()
    asked: dict[str, dict[str, int | None]] = {}

    def rule(key: str, replicas: Any) -> str:
        asked[key] = {name: info and info.size for name, info in replicas.items()}
        return "1"

    assert store.repair(rule).mended == {
        "differs": {"0": "copied"},
        "first": {"0": "deleted"},
        "second": {"0": "copied"},
    }
    assert asked == {"differs": {"0": 3, "1": 3}, "first": {"0": 1, "1": None}, "second": {"0": None, "1": 1}}
    assert same(store)
    assert sorted(store) == ["differs", "same", "second"]
    for wrong in ("last", None, 1):
        with pytest.raises(InvalidArgumentError):
            store.repair(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="isn't a replica"):
        unequal().repair(lambda key, replicas: "2")


def test_repair_keeps_attributes() -> None:
    store = FanoutStore([MemoryStore(), MemoryStore()])
    info = store.replicas["0"].put("a", b"1", ttl=600, content_type="text/plain")
    store.repair()
    copied = store.replicas["1"].info("a")
    assert (copied.content_type, copied.expires) == ("text/plain", info.expires)


def test_repair_never_overwrites_a_newer_write() -> None:
    store = unequal()
    calls: list[str] = []

    def rule(key: str, replicas: Any) -> str:
        calls.append(key)
        if len(calls) == 1:
            # A writer comes after the replicas were compared: through another handle, to every replica.
            FanoutStore(list(store.replicas.values()))["differs"] = b"newest"
        return "0"

    store.repair(rule)
    assert store["differs"] == b"newest"
    assert same(store)


def test_repair_tells_what_it_could_not_mend() -> None:
    first, second, third = Faulty(), MemoryStore({"a": b"1", "b": b"2"}), Faulty()
    store = FanoutStore([first, second, third])
    third.bad = {"write"}
    report = store.repair()
    assert not report
    assert report.mended == {"a": {"0": "copied"}, "b": {"0": "copied"}}
    assert {key: list(each) for key, each in report.failures.items()} == {"a": ["2"], "b": ["2"]}
    third.bad = {"scan", "info"}
    report = store.repair()
    assert list(report.unlisted) == ["2"]
    third.bad.clear()
    assert store.repair()
    assert same(store)


def test_repair_streams() -> None:
    import tracemalloc

    piece = random.Random(4).randbytes(MIB)
    thin = Thin(piece)
    store = FanoutStore([MemoryStore({"a": piece * 32}), thin])
    tracemalloc.start()
    report = store.repair(prefix="a")
    assert tracemalloc.get_traced_memory()[1] < 5 * MIB
    tracemalloc.stop()
    assert report.mended == {"a": {"1": "copied"}}
    assert not report.failures
    assert thin.info("a").size == 32 * MIB
    assert not list(store.verify())


def test_repair_tells_of_a_replica_that_keeps_something_else() -> None:
    thin = Thin(b"what was not given")
    store = FanoutStore([MemoryStore({"a": b"12", "b": b""}), thin])
    report = store.repair()
    assert isinstance(report.failures["a"]["1"], IntegrityError)
    assert report.mended["b"] == {"1": "copied"}


class Thin(Transparent):
    """A replica that keeps the size of what it is given, and gives a piece again and again instead."""

    def __init__(self, piece: bytes) -> None:
        super().__init__(MemoryStore())
        self.piece = piece

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        size = sum(len(piece) for piece in body)
        return super()._write(key, (b"%d" % size,), expect, attributes).replace(size=size)

    def _info(self, key: str) -> Info:
        info, pieces = super()._read(key, 0, None)
        return info.replace(size=int(b"".join(pieces)))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        assert (start, stop) == (0, None)
        info = self._info(key)
        return info, (self.piece[: info.size - at] for at in range(0, info.size, len(self.piece)))


# --- races ---


def churn(store: Store, seed: int, step: Callable[[], object], rounds: int) -> None:
    """Write or delete one key in each round, at the same moment as all the others."""
    rng = random.Random(seed)
    for number in range(rounds):
        key, data = f"key/{number:03}", b"%d " % seed * rng.randrange(1, 400)
        way = rng.randrange(8)
        step()
        with suppress(ConcurrencyError, BlobNotFoundError):
            match way:
                case 0 | 1:
                    store.put(key, data)
                case 2:
                    store.put(key, iter([data, b".", data]))
                case 3 | 4:
                    store.delete(key)
                case 5:
                    store.put(key, data, expect=ABSENT)
                case 6:
                    store.put(key, data, expect=store.info(key).etag)
                case _:
                    store.delete(key, expect=store.info(key).etag)


def churn_all(handles: list[FanoutStore], rounds: int) -> None:
    barrier = threading.Barrier(len(handles), timeout=60)
    handles[0].put_many({f"key/{number:03}": b"before" for number in range(0, rounds, 2)})
    race(*(functools.partial(churn, store, seed, barrier.wait, rounds) for seed, store in enumerate(handles)))
    assert list(handles[0].verify()) == []


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("medium", ["memory", "sqlite"])
def test_writers_of_one_key_leave_equal_replicas(tmp_path: Path, count: int, medium: str) -> None:
    def make() -> FanoutStore:
        if medium == "memory":
            return FanoutStore([MemoryStore(name=f"{tmp_path}/{number}") for number in range(count)])
        return FanoutStore([SqliteStore(tmp_path / f"{number}.sqlite") for number in range(count)])

    handles = [make() for _ in range(3)]
    churn_all([*handles, *handles], 100)
    for handle in handles:
        for child in handle.replicas.values():
            child.close()


class Yielding(Transparent):
    """A replica in which others always come between two calls."""

    rng = random.Random(5)

    def _pause(self) -> None:
        threading.Event().wait(self.rng.random() * 0.002)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._pause()
        info = super()._write(key, body, expect, attributes)
        self._pause()
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        self._pause()
        gone = super()._delete(key, expect)
        self._pause()
        return gone

    def _info(self, key: str) -> Info:
        try:
            return super()._info(key)
        finally:
            self._pause()


@WAYS
def test_replicas_that_dawdle_end_equal_too(inline: bool) -> None:
    below = [MemoryStore() for _ in range(3)]

    def make() -> FanoutStore:
        children = [Yielding(store) for store in below]
        return FanoutStore(children) if inline else apart(FanoutStore(threaded(*children)))

    handles = [make(), make(), make()]
    churn_all([*handles, *handles], 100)


def test_processes_leave_equal_replicas(tmp_path: Path) -> None:
    program = (
        "import pickle, sys\n"
        "import random\n"
        "store = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "rng = random.Random(int(sys.argv[2]))\n"
        "sys.stdin.readline()\n"
        "for number in range(300):\n"
        "    key = f'key/{number // 4}'\n"
        "    if rng.random() < 0.4: store.delete(key)\n"
        "    else: store[key] = b'%d ' % number * rng.randrange(1, 500)\n"
    )
    store = FanoutStore([SqliteStore(tmp_path / f"{number}.sqlite") for number in range(2)])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, pickle.dumps(store).hex(), str(seed)], stdin=subprocess.PIPE
        )
        for seed in range(3)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    assert list(store.verify()) == []
    for child in store.replicas.values():
        child.close()


def test_without_swap_the_threads_of_one_handle_take_turns() -> None:
    weak = Can.WRITE | Can.DELETE | Can.LIST
    store = FanoutStore([Yielding(Limited(MemoryStore(), weak)) for _ in range(3)])

    step = threading.Barrier(6, timeout=60)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for number in range(40):
            step.wait()
            if rng.random() < 0.3:
                store.delete(f"key/{number}")
            else:
                store[f"key/{number}"] = b"%d" % seed

    race(*(functools.partial(work, seed) for seed in range(6)))
    assert list(store.verify()) == []
    store.replicas["0"]["key"] = b"right"
    store.replicas["1"]["key"] = b"other"
    assert store.repair().mended == {"key": {"1": "copied", "2": "copied"}}
    assert same(store)


# --- faults ---


class Raising(Transparent):
    """A replica that now and then raises what no store should."""

    def __init__(self, store: Store, rate: float, seed: int) -> None:
        super().__init__(store)
        self.rate, self.random = rate, random.Random(seed)

    def _maybe(self) -> None:
        if self.random.random() < self.rate:
            raise self.random.choice([OSError, RuntimeError, ZeroDivisionError, StoreError])("a fault")

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self._maybe()
        return super()._read(key, start, stop)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._maybe()
        info = super()._write(key, body, expect, attributes)
        self._maybe()
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        self._maybe()
        return super()._delete(key, expect)

    def _info(self, key: str) -> Info:
        self._maybe()
        return super()._info(key)


class Model:
    """What each key may hold: one value after what was acknowledged, more after what was reported."""

    def __init__(self, store: FanoutStore) -> None:
        self.store = store
        self.may: dict[str, set[bytes | None]] = {}
        self.reported = 0

    def change(self, key: str, value: bytes | None, call: Callable[[], object]) -> None:
        may = self.may.setdefault(key, {None})
        try:
            call()
            self.may[key] = {value}
        except (ConcurrencyError, BlobNotFoundError):
            pass
        except StoreError:
            self.reported += 1
            may.add(value)

    def step(self, rng: random.Random, number: int) -> None:
        store, key = self.store, f"k/{rng.randrange(12):02}"
        data = b"%d " % number * rng.choice((0, 1, 300))
        match rng.randrange(11):
            case 0 | 1:
                self.change(key, data, lambda: store.put(key, data))
            case 2:
                self.change(key, data + data, lambda: store.put(key, iter([data, data])))
            case 3 | 4:
                self.change(key, None, lambda: store.delete(key))
            case 5:
                self.change(key, data, lambda: store.put(key, data, expect=store.info(key).etag))
            case 6:
                self.change(key, data, lambda: store.put(key, data, expect=ABSENT))
            case 7:
                self.change(key, None, lambda: store.delete(key, expect=store.info(key).etag))
            case 8:
                with suppress(StoreError):
                    self.list()
            case _:
                with suppress(StoreError):
                    found = store.get(key)
                    assert found in self.may.get(key, {None}), (key, found, self.may.get(key))

    def list(self) -> None:
        listed = set(self.store)
        for key, may in self.may.items():
            if None not in may:
                assert key in listed, f"{key} was acknowledged, and is not listed"
            if may == {None}:
                assert key not in listed, f"{key} was deleted, and is listed"


@pytest.mark.parametrize(
    ("count", "write", "inline", "steps"),
    [
        (3, 2, True, 10_000),
        (2, "all", True, 10_000),
        (3, 1, True, 4000),
        (3, 2, False, 1500),
        (3, 2, None, 1500),
    ],
)
def test_what_is_acknowledged_is_right_and_the_rest_is_reported(
    count: int, write: Any, inline: bool | None, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_GRACE", 0.0)
    logging.getLogger("holdall.layers.fanout").disabled = True
    flaky = [Flaky(MemoryStore(), rate=0.1, seed=seed) for seed in range(count)]
    raising = [Raising(store, 0.05, seed) for seed, store in enumerate(flaky)]
    store = FanoutStore(raising if inline else threaded(*raising), write=write)
    store = apart(store) if inline is None else store
    model, rng = Model(store), random.Random(f"{count} {write} {inline}")
    for number in range(steps):
        model.step(rng, number)
        if number % 500 == 499:
            with suppress(StoreError):
                store.repair()
    assert model.reported > steps // 100
    for child, below in zip(raising, flaky, strict=True):
        child.rate = below._rate = 0.0
    model.list()
    for key, may in model.may.items():
        assert store.get(key) in may
    assert store.repair()
    assert list(store.verify()) == []
    model.list()
    for key, may in model.may.items():
        assert store.get(key) in may
    assert not store.behind()
    logging.getLogger("holdall.layers.fanout").disabled = False


def test_a_reader_that_is_given_up_never_sees_an_end_that_was_opened_before() -> None:
    tee = Tee(["late", "other"])
    for piece in (b"1", b"2"):
        assert tee.feed(piece)
    tee.open("late", "other")
    tee.fail(TimeoutError("late"), "late")
    with pytest.raises(TimeoutError):
        list(tee.reader("late"))
    assert list(tee.reader("other")) == [b"1", b"2"]
