"""Locks and counters, on a store that can swap."""

from __future__ import annotations

import asyncio
import functools

import pytest

from holdall.errors import LockHeldError, LockLostError, SerializationError
from holdall.locks.lease import Lease
from holdall.locks.record import new_holder
from holdall.store import ABSENT, Can, Store
from holdall.testing.refusals import needs
from holdall.testing.running import race, run_within
from holdall.testing.suites.base import SuiteBase


class LockTests(SuiteBase):
    """Locks and counters, on a store that can swap."""

    @needs(Can.SWAP | Can.CREATE)
    def test_one_holder_of_a_lock_at_a_time(self, store: Store, other: Store) -> None:
        rounds = self._effort(3, 1, 1)

        def work(handle: Store) -> list[tuple[int, int]]:
            made: list[tuple[int, int]] = []
            for _ in range(rounds):
                with handle.lock("lock", ttl=60) as lock:
                    turn = int(handle.get("turn", b"0"))
                    handle["turn"] = b"%d" % (turn + 1)
                    made.append((turn, lock.token))
            return made

        works = [functools.partial(work, handle) for handle in (store, other, store)]
        found = sorted(each for made in race(*works) for each in made)
        assert [turn for turn, _ in found] == list(range(3 * rounds))
        tokens = [token for _, token in found]
        assert tokens == sorted(set(tokens))
        # Who deletes the lock doesn't make the numbers begin anew.
        if Can.DELETE in store.can:
            del store["lock"]
        with store.lock("lock") as lock:
            assert lock.token > tokens[-1]

    @needs(Can.SWAP | Can.CREATE)
    def test_a_silent_holder_loses_the_lock(self, store: Store, other: Store) -> None:
        lease = Lease(store, "lock", new_holder(), 5, 0.02, False)
        lease.take(ABSENT)
        with other.lock("lock", ttl=60) as lock:
            assert lock.token == 6
            with pytest.raises(LockLostError):
                lease.check()
            with pytest.raises(LockLostError):
                lease.end()
            with pytest.raises(LockHeldError) as caught, store.lock("lock", wait=0):
                """It is held."""
            assert (caught.value.key, caught.value.pid is None) == ("lock", False)
            lock.check()
        with store.lock("lock", wait=0) as lock:
            assert lock.token == 7

    @needs(Can.SWAP | Can.CREATE)
    def test_each_increment_counts(self, store: Store, other: Store) -> None:
        rounds = self._effort(3, 1, 1)

        def work(handle: Store) -> list[int]:
            return [handle.counter("count").increment() for _ in range(rounds)]

        counts = race(functools.partial(work, store), functools.partial(work, other))
        assert sorted(counts[0] + counts[1]) == list(range(1, 2 * rounds + 1))
        assert other.counter("count").reset(to=-7) == 2 * rounds
        assert store["count"] == b"-7"
        store["text"] = b"seven"
        with pytest.raises(SerializationError):
            store.counter("text").increment()
        with pytest.raises(SerializationError), store.lock("text"):
            """It isn't a lock."""
        assert other["text"] == b"seven"

    @needs(Can.SWAP | Can.CREATE)
    def test_coroutines_take_turns(self, store: Store, other: Store) -> None:
        async def work(handle: Store) -> int:
            async with handle.aio.lock("lock", ttl=60) as lock:
                turn = int(await handle.aio.get("turn", b"0"))
                await handle.aio.put("turn", b"%d" % (turn + 1))
                await handle.aio.counter("count").increment(2)
                return lock.token

        async def main() -> list[int]:
            return list(await asyncio.gather(work(store), work(other), work(store)))

        assert len(set(run_within(lambda: asyncio.run(main())))) == 3
        assert (other["turn"], store.counter("count").value) == (b"3", 6)
