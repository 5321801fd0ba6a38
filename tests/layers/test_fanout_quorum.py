"""What becomes of a change that not all replicas take."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.replicas import ALL, MIB, WAYS, Faulty, Hanging, same, threaded

from holdall import (
    ABSENT,
    ConcurrencyError,
    FilesystemStore,
    KeyConflictError,
    MemoryStore,
    PartialWriteError,
    StoreError,
    StoreUnavailableError,
)
from holdall.layers.fanout import FanoutStore
from holdall.store import Expect
from holdall.testing import Slow, race


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    store = Hanging()
    yield store
    store.let_go.set()


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
