"""Replicas end equal, whoever writes at the same time and whatever fails."""

import functools
import logging
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.replicas import WAYS, apart, same, threaded

from holdall import (
    ABSENT,
    BlobNotFoundError,
    Can,
    ConcurrencyError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreError,
)
from holdall.layers.fanout import FanoutStore
from holdall.layers.layer import Transparent
from holdall.layers.replicas import writing
from holdall.layers.replicas.tee import Tee
from holdall.store import Attributes, Body, Expect, Info, Piece
from holdall.testing import Flaky, Limited, race


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
