"""Writes and deletes go to all replicas, and the first decides."""

import pickle
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.replicas import MIB, WAYS, Faulty, Hanging, same, threaded

from holdall import (
    ABSENT,
    BlobExistsError,
    CacheMode,
    CachingStore,
    ChecksumStore,
    CompressedStore,
    ConcurrencyError,
    EncryptedStore,
    FilesystemStore,
    IntegrityError,
    KeyConflictError,
    MemoryStore,
    PartialWriteError,
    SqliteStore,
    Store,
    StoreError,
    StoreUnavailableError,
)
from holdall.layers.fanout import FanoutStore
from holdall.layers.layer import Transparent
from holdall.layers.replicas import memory, writing
from holdall.store import Attributes, Body, Expect, Info, Piece
from holdall.testing import Counting, Slow


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


class Late(MemoryStore):
    """A delete begins when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.inline = False
        self.waits, self.goes, self.done = threading.Event(), threading.Event(), threading.Event()

    def _delete(self, key: str, expect: Expect) -> bool:
        if not self.waits.is_set():
            return super()._delete(key, expect)
        self.waits.clear()
        self.goes.wait(60)
        try:
            return super()._delete(key, expect)
        finally:
            self.done.set()


@pytest.mark.parametrize("first", [True, False])
def test_a_delete_that_comes_late_takes_no_later_blob(first: bool) -> None:
    late = Late()
    store = FanoutStore([late, MemoryStore()] if first else [MemoryStore(), late], timeout=0.2)
    store["a"] = b"old"
    late.waits.set()
    with pytest.raises(StoreError):
        store.delete("a")
    store["a"] = b"new"
    late.goes.set()
    assert late.done.wait(60)
    assert late["a"] == store["a"] == b"new"
