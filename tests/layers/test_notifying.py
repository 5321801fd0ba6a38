"""A store that reports each change."""

import logging
import operator
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    Can,
    ConcurrencyError,
    FilesystemStore,
    InvalidArgumentError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
)
from holdall.layers.notifying import Change, NotifyingStore
from holdall.testing import Flaky, Limited, StoreSuite, race


class TestNotifyingOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return NotifyingStore(MemoryStore(name=str(place)), operator.attrgetter("key"))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    # The kit's callbacks fail on a delete, a thousand times.
    logger = logging.getLogger("holdall.notify")
    logger.propagate = False
    handler = logging.NullHandler()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.fixture(params=["memory", "sqlite", "files", "limited"])
def below(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Stores that copy and put many natively, and some that don't."""
    make: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "sqlite": lambda: SqliteStore(tmp_path / "x.sqlite"),
        "files": lambda: FilesystemStore(tmp_path / "files"),
        "limited": lambda: Limited(MemoryStore(), ~(Can.COPY | Can.SWAP | Can.CREATE)),
    }
    with make[request.param]() as store:
        yield store


def test_each_change_is_told_once(below: Store) -> None:
    seen: list[tuple[str, str]] = []
    changes: list[Change] = []

    def note(change: Change) -> None:
        seen.append((change.kind, change.key))
        changes.append(change)
        # What is told is done, and the store is there to be used.
        assert (change.key in store) is (change.kind == "put")
        if change.kind == "put":
            assert store.info(change.key) == change.info
        else:
            assert change.info is None

    store = NotifyingStore(below, note)

    def told(call: Callable[[], object]) -> list[tuple[str, str]]:
        seen.clear()
        call()
        return sorted(seen)

    def write(mode: str) -> None:
        with store.open("file", mode) as file:
            file.write(b"x" if "b" in mode else "x")

    assert told(lambda: store.put("a", b"1")) == [("put", "a")]
    assert told(lambda: store.__setitem__("a", iter([b"1", b"2"]))) == [("put", "a")]
    assert told(lambda: store.put_many({"b": b"1", "c": b"2"})) == [("put", "b"), ("put", "c")]
    assert told(lambda: store.update({"b": b"3"}, d=b"4")) == [("put", "b"), ("put", "d")]
    assert told(lambda: write("wb")) == [("put", "file")]
    assert told(lambda: write("w")) == [("put", "file")]
    assert told(lambda: store.setdefault("a", b"2")) == []
    assert told(lambda: store.setdefault("e", b"2")) == [("put", "e")]
    assert told(lambda: store.copy("a", "f")) == [("put", "f")]
    assert told(lambda: store.copy("a", "a")) == []
    assert told(lambda: store.move("f", "g")) == [("delete", "f"), ("put", "g")]
    assert told(lambda: store.delete("g")) == [("delete", "g")]
    assert told(lambda: store.delete("g")) == []
    assert told(lambda: store.pop("e")) == [("delete", "e")]
    assert told(lambda: store.pop("e", None)) == []
    assert told(lambda: store.delete_many(["b", "absent", "c", "b"])) == [("delete", "b"), ("delete", "c")]
    if Can.SWAP in store.can and Can.CREATE in store.can:
        assert told(lambda: store.modify("a", lambda old: old + b"3")) == [("put", "a")]
        assert told(lambda: store.modify("h", bytes, default=b"")) == [("put", "h")]
        assert told(lambda: store.pop("h")) == [("delete", "h")]
        for refused in (
            lambda: store.put("a", b"", expect=ABSENT),
            lambda: store.copy("d", "a", expect=ABSENT),
        ):
            with pytest.raises(BlobExistsError):
                told(refused)
            assert seen == []
        for stale in (lambda: store.put("a", b"", expect="0"), lambda: store.delete("a", expect="0")):
            with pytest.raises(ConcurrencyError):
                told(stale)
            assert seen == []
    for absent in (lambda: store.copy("no", "x"), lambda: store.move("no", "x"), lambda: store.pop("no")):
        with pytest.raises(BlobNotFoundError):
            told(absent)
        assert seen == []
    assert told(store.popitem) == [("delete", "a")]
    below["around"] = b"x"
    assert told(store.clear) == [("delete", "around"), ("delete", "d"), ("delete", "file")]
    assert told(store.clear) == []
    assert len({change.info for change in changes if change.info}) == sum(c.info is not None for c in changes)


def test_a_file_is_told_at_its_close_and_not_when_it_is_dropped() -> None:
    seen: list[Change] = []
    store = NotifyingStore(MemoryStore(), seen.append)
    file = store.open("a", "wb")
    file.write(b"x")
    assert seen == []
    file.close()
    assert seen == [Change("put", "a", store.info("a"))]
    with pytest.raises(ZeroDivisionError), store.open("b", "wb") as file:
        raise ZeroDivisionError
    assert len(seen) == 1


def test_a_batch_that_fails_tells_what_was_done_of_it(below: Store) -> None:
    seen: list[str] = []

    def fail() -> Iterator[bytes]:
        yield b"1"
        raise ZeroDivisionError

    store = NotifyingStore(below, lambda change: seen.append(change.key))
    with pytest.raises(ZeroDivisionError):
        store.put_many({"a": b"1", "b": fail(), "c": b"3"})
    assert seen == list(store)
    assert "c" not in store


def test_reads_tell_nothing() -> None:
    seen: list[Change] = []
    store = NotifyingStore(MemoryStore({"a/b": b"1"}), seen.append)
    _ = store["a/b"], store.get("x"), list(store), list(store.list()), list(store.children()), len(store)
    _ = store.get_many(["a/b"]), store.info("a/b"), store.get_range("a/b", 0), store.open("a/b").read()
    assert seen == []


def test_a_callback_that_fails_is_logged_and_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Change] = []

    def fail(change: Change) -> None:
        raise RuntimeError("no room")

    store = NotifyingStore(MemoryStore(), fail, seen.append)
    logger = logging.getLogger("holdall.notify")
    logger.addHandler(caplog.handler)
    try:
        info = store.put("a", b"1")
    finally:
        logger.removeHandler(caplog.handler)
    assert info == store.info("a")
    assert seen == [Change("put", "a", info)]
    (record,) = caplog.records
    assert record.name == "holdall.notify"
    assert record.levelno == logging.ERROR
    assert "fail failed after the put of 'a'" in record.getMessage()
    assert record.exc_info is not None
    assert "no room" in str(record.exc_info[1])
    assert store.pop("a") == b"1"
    assert store.put_many({"b": b"", "c": b""}).keys() == {"b", "c"}
    assert len(seen) == 4


def test_an_interrupt_in_a_callback_is_no_failure_to_log() -> None:
    def interrupt(change: Change) -> None:
        raise KeyboardInterrupt

    store = NotifyingStore(MemoryStore(), interrupt)
    with pytest.raises(KeyboardInterrupt):
        store["a"] = b"1"
    assert store["a"] == b"1"


def test_subscribing_and_leaving() -> None:
    first: list[str] = []
    second: list[str] = []
    store = NotifyingStore(MemoryStore())
    leave = [store.subscribe(lambda change: first.append(change.key)) for _ in range(2)]
    store.subscribe(lambda change: second.append(change.key))
    store["a"] = b""
    leave[0]()
    leave[0]()
    store["b"] = b""
    leave[1]()
    store["c"] = b""
    assert (first, second) == (["a", "a", "b"], ["a", "b", "c"])


def test_a_callback_may_leave_while_it_is_called() -> None:
    seen: list[str] = []
    store = NotifyingStore(MemoryStore())

    def once(change: Change) -> None:
        seen.append(change.key)
        leave()

    leave = store.subscribe(once)
    store.subscribe(lambda change: seen.append(f"other {change.key}"))
    store["a"] = b""
    store["b"] = b""
    assert seen == ["a", "other a", "other b"]


def test_many_subscribe_at_once() -> None:
    seen: list[Change] = []
    store = NotifyingStore(MemoryStore())

    def come_and_go() -> None:
        for _ in range(200):
            store.subscribe(lambda change: None)()
        store.subscribe(seen.append)

    race(*[come_and_go] * 8)
    store["a"] = b""
    assert len(seen) == 8
    assert len(store._subscriptions) == 8


@pytest.mark.parametrize("callback", [None, "print", 1])
def test_what_is_no_callback(callback: object) -> None:
    with pytest.raises(InvalidArgumentError, match="a callback must be a function of a Change, not"):
        NotifyingStore(MemoryStore(), callback)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        NotifyingStore(MemoryStore()).subscribe(callback)  # type: ignore[arg-type]


def test_it_is_told_in_the_thread_that_made_the_change() -> None:
    threads: dict[str, int] = {}
    store = NotifyingStore(
        MemoryStore(), lambda change: threads.setdefault(change.key, threading.get_ident()) and None
    )

    def put(name: str) -> int:
        store[name] = b""
        return threading.get_ident()

    names = [str(number) for number in range(6)]
    told = race(*[lambda name=name: put(name) for name in names])
    assert [threads[name] for name in names] == told


def test_a_change_is_frozen() -> None:
    change: object = Change("put", "a")
    with pytest.raises(AttributeError):
        change.key = "b"  # type: ignore[attr-defined]


def test_callbacks_go_along_with_a_pickle_and_subscribers_stay(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as below:
        store = NotifyingStore(below, operator.attrgetter("key"))
        store.subscribe(lambda change: None)
        with pickle.loads(pickle.dumps(store)) as again:
            assert len(again._subscriptions) == 1
            again["a"] = b"1"
            inner = again._store
        assert inner._closed
        assert below["a"] == b"1"
    assert repr(store).startswith("NotifyingStore(SqliteStore(")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_listener_knows_each_acknowledged_change_of_a_store_that_fails(kind: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    calm = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "x.sqlite")
    keys = [f"key/{number}" for number in range(6)]
    heard: dict[str, bytes | None] = dict.fromkeys(keys)

    def listen(change: Change) -> None:
        # A listener that follows what it is told has what the store has.
        heard[change.key] = None if change.info is None else calm.get(change.key)
        if rng.random() < 0.05:
            raise RuntimeError

    store = NotifyingStore(Flaky(calm, rate=0.1), listen)
    failed = 0
    for number in range(10_000 if kind == "memory" else 1000):
        key, target = rng.sample(keys, 2)
        data = b"%d" % number
        before = {name: calm.get(name) for name in keys}
        touched: list[str] = []
        action = rng.choice(
            ("put", "put many", "delete", "delete many", "copy", "move", "pop", "modify", "get")
        )
        try:
            match action:
                case "put":
                    touched = [key]
                    assert store.put(key, data).size == len(data)
                case "put many":
                    touched = [key, target]
                    assert len(store.put_many(dict.fromkeys(touched, data))) == 2
                case "delete":
                    touched = [key]
                    assert store.delete(key) is (before[key] is not None)
                case "delete many":
                    touched = [key, target]
                    assert store.delete_many(touched) == sum(before[name] is not None for name in touched)
                case "copy":
                    touched = [target]
                    store.copy(key, target)
                case "move":
                    touched = [key, target]
                    store.move(key, target)
                case "pop":
                    touched = [key]
                    assert store.pop(key, None) == before[key]
                case "modify":
                    touched = [key]
                    store.modify(key, lambda _: data, default=b"")  # noqa: B023
                case _:
                    assert store.get(key) == before[key]
        except StoreUnavailableError:
            # What failed may be done all the same, which nobody acknowledged: the listener looks.
            failed += 1
            for name in touched:
                heard[name] = calm.get(name)
        except BlobNotFoundError:
            assert before[key] is None
        assert heard == {name: calm.get(name) for name in keys}, (number, action)
    assert failed > 50
