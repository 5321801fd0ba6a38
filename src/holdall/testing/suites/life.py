"""A store is closed, pickled, used by other processes, killed and interrupted."""

from __future__ import annotations

import contextlib
import functools
import pickle
import random
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pytest

from holdall.errors import StoreClosedError, StoreError
from holdall.store import Can, Store
from holdall.testing.aftermath import check_after_kill, note, settle
from holdall.testing.helped import get_tested
from holdall.testing.interrupts import Interrupts, write_until_interrupted
from holdall.testing.roles import write_for_ever
from holdall.testing.running import run_within
from holdall.testing.samples import MIB, BodyError, bind_calls, give_once, hash_bytes, make_noise, read_all
from holdall.testing.suites.base import SuiteBase
from holdall.testing.workers import Witness, Workers, persists, refuses


class LifeTests(SuiteBase):
    """A store is closed, pickled, used by other processes, killed and interrupted."""

    def test_a_closed_store_raises(self, store: Store, place: Path) -> None:
        handle: Any = self._handle(place)
        closed: Any = get_tested(handle)
        handle["key"] = b"x"
        started = [iter(call()) for call in (handle.list, handle.iterate_keys, handle.children)]
        handle["other"] = b"x"
        for iterator in started:
            assert next(iterator)
        kept = closed.keys()
        handle.close()
        handle.close()
        bind = functools.partial(bind_calls, closed)
        calls = [
            *bind("__getitem__ __delitem__ __contains__ get exists info delete pop", "key"),
            *bind("open chunks sign", "key"),
            *bind("__setitem__ put setdefault", "key", b"y"),
            *bind("__len__ __bool__ __enter__ keys values items list iterate_keys children popitem clear"),
            *bind("get_many delete_many", ["key"]),
            *bind("put_many update", {"key": b"y"}),
            *bind("get", "absent"),
            *bind("get_range", "key", 0),
            *bind("put", "key", give_once(b"y")),
            *bind("modify", "key", bytes),
            *bind("open", "key", "wb"),
            *bind("open", "key", "w"),
            *bind("copy move", "key", "new"),
            *bind("copy", "key", "key"),
            lambda: list(closed),
            lambda: list(kept),
        ]
        for number, call in enumerate(calls):
            with pytest.raises(StoreClosedError):
                pytest.fail(f"the call numbered {number} of a closed store gives {call()!r}")
        for iterator in started:
            # A listing that was under way may end well or badly, but not with a driver's own error.
            with contextlib.suppress(StoreError):
                list(iterator)
        assert repr(closed)
        assert read_all(store) == {"key": b"x", "other": b"x"}

    def test_a_with_block_closes_it(self, store: Store, place: Path) -> None:
        with self._handle(place) as entered:
            entered["key"] = b"x"
        with pytest.raises(StoreClosedError):
            entered.get("key")
        with pytest.raises(BodyError), self._handle(place):
            raise BodyError
        assert store["key"] == b"x"

    def test_files_of_a_closed_store(self, store: Store, place: Path) -> None:
        closed = self._handle(place)
        store["key"] = data = make_noise(3 * MIB)
        reading, chunks, writing = closed.open("key"), closed.chunks("key", 9000), closed.open("key", "wb")
        assert reading.read(10) == data[:10]
        assert next(chunks) == data[:9000]
        writing.write(b"new")
        closed.close()
        with contextlib.suppress(StoreClosedError, ValueError):
            assert reading.read() == data[10:]
        with contextlib.suppress(StoreClosedError):
            assert b"".join(chunks) == data[9000:]
        reading.close()
        with contextlib.suppress(StoreClosedError):
            writing.close()
        assert store["key"] in (data, b"new")

    def test_the_data_outlive_the_handle(self, store: Store, place: Path) -> None:
        with self._handle(place) as first:
            first["key"] = b"1"
            put = first.info("key")
        with self._handle(place) as second:
            assert second["key"] == b"1"
            assert second.info("key") == put
            second["key"] = b"2"
        assert read_all(store) == {"key": b"2"}

    def test_a_pickle_opens_the_store_again(self, store: Store) -> None:
        tested = get_tested(store)
        store["key"] = b"1"
        pickled = pickle.dumps(tested)
        assert len(pickled) < 10_000
        store["big"] = make_noise(MIB)
        assert len(pickle.dumps(tested)) < 10_000, "a pickle holds settings, not blobs"
        again = cast(Store, pickle.loads(pickled))
        try:
            assert type(again) is type(tested)
            assert again.can == tested.can
            assert again["key"] == b"1"
            (again if Can.WRITE in again.can else store)["key"] = b"2"
            assert store["key"] == again["key"] == b"2"
            again.close()
            assert store["key"] == b"2"
        finally:
            again.close()
        assert self.persistent or refuses(tested, "key"), "another process opened what it can't see"

    def test_other_processes(self, store: Store, other: Store, place: Path) -> None:
        if not self.persistent:
            with pytest.raises(AssertionError, match="ended with"):
                Workers(store, place.parent).run("look", [0])
            return
        workers = Workers(store, place.parent)
        workers.warm()
        blobs = {"key": b"1", "a\\b/CON": make_noise(100_000), "empty": b""}
        store.put_many(blobs)
        assert workers.run("look", [7]) == [[{key: hash_bytes(data) for key, data in blobs.items()}]]
        assert other["seen"] == b"7"
        said = sorted(workers.run("fork", [0])[0])
        assert said == ["child", "parent"]
        assert len(list(other.list("child/"))) == len(list(store.list("parent/"))) == 30
        if Can.SWAP in store.can and Can.CREATE in store.can:
            workers.run("count", range(4))
            assert other["count"] == b"60"
        if Can.CONDITIONAL_DELETE in store.can:
            store.put_many({f"pop/{number}": b"x" for number in range(15)})
            popped = workers.run("pop", range(4))
            assert sorted(chain(*popped)) == list(range(15)), "two processes popped the same blob"
        if Can.CREATE in store.can:
            created = workers.run("create", range(4))
            assert sorted(chain(*created)) == list(range(15)), "two processes created the same blob"
            for seed, numbers in enumerate(created):
                assert all(other[f"create/{number}"] == b"%d" % seed for number in numbers)

    def test_killed_writers_lose_nothing_that_was_acknowledged(
        self, store: Store, other: Store, place: Path
    ) -> None:
        if not self.persistent:
            assert not persists(store, place), "the store is persistent; say so, and have its writers killed"
            return
        rng = random.Random()
        known: dict[str, str | None] = {}
        late: dict[str, str | None] = {}
        acknowledged = interrupted = 0
        longest = 0.03
        workers = Workers(store, place.parent)
        workers.warm()
        rounds = self._effort(self.kills, 12, 6, 30)
        for number in range(10 * rounds):
            # Of a few writers all may be killed between two puts; then more are.
            if number >= rounds and acknowledged and interrupted:
                break
            moment = rng.random() * longest
            words = workers.run("write", [number], kill=moment, opened=number % 4 != 0)[0]
            pending = note(words, known, late)
            done = words.count("done")
            # On any machine, some writers are killed before their first put is done, and some after it.
            longest = max(0.01, longest / 1.1) if done else longest * 1.3
            acknowledged += done
            interrupted += bool(pending)
            if number % 2:
                with self._handle(place) as fresh:
                    run_within(functools.partial(check_after_kill, fresh, known, pending, late))
            else:
                run_within(functools.partial(check_after_kill, other, known, pending, late))
            store["alive"] = b"%d" % number
            known["alive"] = hash_bytes(b"%d" % number)
        assert acknowledged > 0
        assert interrupted > 0, "no writer was killed while it wrote"
        store.clear()
        assert not other

    def test_an_interrupt_leaves_nothing_behind(self, store: Store, other: Store, place: Path) -> None:
        known: dict[str, str | None] = {}
        late: dict[str, str | None] = {}
        # If the moments are always the same, few rounds are enough.
        rounds = self._effort(self.interrupts, 40, 20, 60) if self.interruptible else 20
        moments = random.Random(type(self).__name__)
        alive = store["alive"] = b"at first"
        with Witness(store, other, place.parent, self.persistent) as witness, Interrupts() as interrupts:
            for number in range(rounds):
                words = (
                    interrupts.during(functools.partial(write_for_ever, store, number), moments.random())
                    if self.interruptible
                    else write_until_interrupted(store, number)
                )
                pending = note(words, known, late)
                # The interrupted handle does nothing more, and must not block others.
                witness.get_through(alive)
                # The end of the interrupted writes must not undo what it acknowledges from now on.
                alive = store["alive"] = b"%d" % number
                known["alive"] = hash_bytes(alive)
                witness.get_through(alive)
                if number % 20:
                    settle(other, known, pending, late)
                else:
                    run_within(functools.partial(check_after_kill, other, known, pending, late))
            with self._handle(place) as fresh:
                check_after_kill(fresh, known, {}, late)
