"""A repair or a fill that is killed, at any moment, undoes nothing that was acknowledged meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    EncryptedStore,
    FanoutStore,
    InMemoryBlobDict,
    MemoryStore,
    Store,
    StoreError,
    WrongKeyError,
)
from holdall.blobs import BytesBlob
from holdall.dicts import MultiReplicaBlobDict
from holdall.layers.layer import Transparent
from holdall.layers.replicas.marks import new_mark
from holdall.store import Attributes, Body, Can, Expect, Info, Piece


class Killed(BaseException):
    """What a mender raises from the moment on when it was killed."""


class Steps:
    """Counts what a mender does; at one step others come between, and at a later one it is killed."""

    def __init__(self, others_at: int, killed_at: int, others: Callable[[], None]) -> None:
        self.others_at, self.killed_at, self.others = others_at, killed_at, others
        self.count = 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.others_at:
            self.others()
        if self.count >= self.killed_at:
            raise Killed


class Watched(Transparent):
    """A replica as the mender sees it: a step before and after each call, and after a body was read."""

    inline = True

    def __init__(self, store: Store, steps: Steps) -> None:
        super().__init__(store)
        self.steps = steps

    @property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._store.can & ~(Can.COPY | Can.BULK | Can.SIGN)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self.steps.step()
        found = super()._read(key, start, stop)
        self.steps.step()
        return found

    def _info(self, key: str) -> Info:
        self.steps.step()
        return super()._info(key)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self.steps.step()
        body = tuple(body)
        self.steps.step()
        info = super()._write(key, body, expect, attributes)
        self.steps.step()
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        self.steps.step()
        gone = super()._delete(key, expect)
        self.steps.step()
        return gone


class Case(NamedTuple):
    holders: tuple[int, ...]
    """Which of three replicas have the blob before."""
    mend: Callable[[list[Store]], object]
    others: Callable[[FanoutStore], object]
    expected: bytes | None


def fill(stores: list[Store]) -> object:
    dicts = {str(number): InMemoryBlobDict() for number in range(len(stores))}
    for each, store in zip(dicts.values(), stores, strict=True):
        each._store = store
    return MultiReplicaBlobDict(dicts).get("k")


def repair(stores: list[Store]) -> object:
    return FanoutStore(stores).repair()


def put(store: FanoutStore) -> object:
    return store.put("k", b"newer")


def delete(store: FanoutStore) -> object:
    return store.delete("k")


def recreate(store: FanoutStore) -> object:
    store.delete("k")
    return store.put("k", b"newer", expect=ABSENT)


CASES = [
    Case(holders, mend, others, expected)
    for holders in ((0,), (1,), (0, 2), (1, 2))
    for mend in (repair, fill)
    for others, expected in ((delete, None), (put, b"newer"), (recreate, b"newer"))
]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.holders}-{case.mend.__name__}-{case.others.__name__}"
)
def test_a_killed_mender_undoes_nothing(case: Case) -> None:
    for others_at in range(1, 60):
        for killed_at in range(others_at, 60):
            replicas: list[Store] = [MemoryStore() for _ in range(3)]
            for number in case.holders:
                replicas[number]["k"] = b"old"

            def others(replicas: list[Store] = replicas) -> None:
                case.others(FanoutStore(replicas))

            steps = Steps(others_at, killed_at, others)
            with suppress(Killed):
                case.mend([Watched(store, steps) for store in replicas])
            if steps.count < others_at:
                # It has not so many steps.
                return
            later = FanoutStore(replicas)
            at = f"others at {others_at}, killed at {killed_at}"
            keys = [] if case.expected is None else ["k"]
            assert (list(later), [info.key for info in later.list()]) == (keys, keys), at
            assert later.get("k") == case.expected, at
            assert later.repair(), at
            assert [store.get("k") for store in replicas] == [case.expected] * 3, at
            if steps.count < killed_at:
                break
    raise AssertionError("a mender takes fewer steps than that")


def test_a_mark_that_a_kill_left_is_no_blob() -> None:
    first, second = MemoryStore(), MemoryStore()
    for marked in (first, second):
        marked["k"] = new_mark()
        store = FanoutStore([first, second])
        assert ("k" in store, store.get("k"), list(store), store.delete("k")) == (False, None, [], False)
        marked["k"] = new_mark()
        assert store.setdefault("k", b"1") == b"1"
        assert first["k"] == second["k"] == b"1"
        assert store.delete("k")
        marked["k"] = new_mark()
        assert store.modify("k", lambda old: old + b"2", default=b"1").size == 2
        assert store.pop("k") == b"12"
        marked["k"] = new_mark()
        assert store.repair()
        assert "k" not in marked


def test_a_mark_in_the_first_replica_hides_nothing_of_the_others() -> None:
    first, second = MemoryStore({"k": new_mark()}), MemoryStore({"k": b"1"})
    store = FanoutStore([first, second])
    assert (store["k"], list(store), store.info("k").size) == (b"1", ["k"], 1)
    assert store.modify("k", lambda old: old + b"2").size == 2
    assert first["k"] == second["k"] == b"12"
    first["k"] = new_mark()
    assert [difference.key for difference in store.verify()] == ["k"]
    assert store.repair().mended == {"k": {"0": "copied"}}
    assert first["k"] == b"12"


def test_a_blob_of_the_size_of_a_mark_is_a_blob() -> None:
    data = bytes(len(new_mark()))
    store = FanoutStore([MemoryStore({"k": data}), MemoryStore()])
    assert (store["k"], list(store), store.info("k").size) == (data, ["k"], len(data))
    assert store.repair().mended == {"k": {"1": "copied"}}
    assert store.delete("k")


class Changing(Transparent):
    """A replica in which another handle ends a fill right after the mark of it was first seen."""

    inline = True

    def __init__(self, store: Store, end: Callable[[Store], object]) -> None:
        super().__init__(store)
        self._end: Callable[[Store], object] | None = end

    def _seen(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(self._store)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, start, stop)
        found = tuple(pieces)
        self._seen()
        return info, iter(found)

    def _info(self, key: str) -> Info:
        info = super()._info(key)
        self._seen()
        return info

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        found = [*super()._scan(prefix, after)]
        self._seen()
        return iter(found)


def read_listed(store: FanoutStore) -> bytes | None:
    listed = {info.key: info.size for info in store.list()}
    assert listed in ({}, {"k": 1})
    return store["k"] if listed else None


def read_looked_up(store: FanoutStore) -> bytes | None:
    try:
        assert store.info("k").size == 1
    except BlobNotFoundError:
        return None
    return store["k"]


def read_range(store: FanoutStore) -> bytes | None:
    try:
        return store.get_range("k", 0, 5)
    except BlobNotFoundError:
        return None


def read_whole(store: FanoutStore) -> bytes | None:
    return store.get("k")


def read_repaired(store: FanoutStore) -> bytes | None:
    assert store.repair()
    held = [each.get("k") for each in store.replicas.values()]
    assert held[0] == held[1]
    return held[0]


def read_written(store: FanoutStore) -> bytes | None:
    with suppress(BlobExistsError):
        store.put("k", b"2", expect=ABSENT)
        store.delete("k")
    return store.get("k")


@pytest.mark.parametrize("expected", [b"1", None], ids=["replaced", "taken-back"])
@pytest.mark.parametrize(
    "read", [read_whole, read_range, read_looked_up, read_listed, read_repaired, read_written]
)
def test_a_mark_that_ends_while_it_is_looked_at_is_no_blob(
    read: Callable[[FanoutStore], bytes | None], expected: bytes | None
) -> None:
    def end(store: Store) -> object:
        return store.delete("k") if expected is None else store.put("k", expected)

    medium = MemoryStore({"k": new_mark()})
    assert read(FanoutStore([Changing(medium, end), MemoryStore()])) == expected


def test_a_dict_tells_no_mark_from_a_blob() -> None:
    replicas = {"a": InMemoryBlobDict(), "b": InMemoryBlobDict()}
    replicas["a"].store["k"] = new_mark()
    replicas["b"]["k"] = BytesBlob(b"1")
    assert MultiReplicaBlobDict(replicas)["k"].as_bytes() == b"1"


def test_a_replica_under_another_key_is_left_as_it_is() -> None:
    media = [MemoryStore(), MemoryStore()]
    keys = bytes(range(32)), bytes(range(1, 33))
    right = FanoutStore([EncryptedStore(medium, keys[0]) for medium in media])
    right["a"] = b"1"
    before = [dict(medium) for medium in media]
    for wrong in (0, 1):
        stores = [EncryptedStore(medium, keys[number == wrong]) for number, medium in enumerate(media)]
        store = FanoutStore(stores)
        for call in (lambda each: each["a"], lambda each: each.put("a", b"2"), lambda each: each.delete("a")):
            with pytest.raises(WrongKeyError):
                call(store)
        report = store.repair()
        assert not report
        assert isinstance([*report.failures.get("a", {}).values(), *report.unlisted.values()][0], StoreError)
        assert [dict(medium) for medium in media] == before
        dicts = {f"{number}": InMemoryBlobDict() for number in range(2)}
        for each, medium in zip(dicts.values(), stores, strict=True):
            each._store = medium
        with pytest.raises(WrongKeyError):
            MultiReplicaBlobDict(dicts)["a"]
        assert [dict(medium) for medium in media] == before
