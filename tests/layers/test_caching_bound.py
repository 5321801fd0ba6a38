"""The bound on the bytes of a cache, and the order in which copies were used."""

import functools
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from tests.caches import FRESH, entries, taken

from holdall import (
    FilesystemStore,
    MemoryStore,
)
from holdall.layers.caching import CachingStore
from holdall.testing import Counting, Flaky, race


@pytest.mark.parametrize("fresh", FRESH)
def test_the_bound_is_exact_and_what_was_used_last_stays(fresh: Any) -> None:
    source = MemoryStore({f"k{number:02}": bytes(1000) for number in range(20)})
    cache = MemoryStore()
    store = CachingStore(source, cache, fresh=fresh, max_bytes=11_500)
    for number in range(20):
        assert len(store[f"k{number:02}"]) == 1000
        assert taken(cache) <= 11_500
        assert store["k00"] == bytes(1000)
    assert len(entries(cache)) == 10
    assert store.stats().evictions >= 10
    read = Counting(source)
    again = CachingStore(read, cache, fresh=fresh, max_bytes=11_500)
    for key in ("k00", *(f"k{number}" for number in range(11, 20))):
        assert len(again[key]) == 1000
    assert read.calls["read"] == 0
    assert len(again["k01"]) == 1000
    again["big"] = bytes(20_000)
    assert len(again["big"]) == 20_000
    assert taken(cache) <= 11_500


def test_the_order_of_use_outlives_a_restart(tmp_path: Path) -> None:
    source = MemoryStore({f"k{number:02}": bytes(1000) for number in range(30)})
    rng, order = random.Random(1), list[str]()
    for _ in range(4):
        with FilesystemStore(tmp_path) as cache:
            with CachingStore(source, cache, fresh="immutable", max_bytes=11_500) as store:
                for _ in range(700):
                    key = f"k{rng.randrange(30):02}"
                    store[key]
                    order = [*(each for each in order if each != key), key][-10:]
                store.stats()
            counting = Counting(source)
            again = CachingStore(counting, cache, fresh="immutable", max_bytes=11_500)
            for key in order:
                again[key]
            assert counting.calls["read"] == 0
            again["new"] = bytes(1000)
            (oldest, *_) = order
            order = [*order[1:], "new"]
            again[order[0]]
            assert counting.calls["read"] == 0, "what was used longest ago went first"
            again[oldest]
            assert counting.calls["read"] == 1
            again.delete("new")
            order = []
            again.invalidate()
            again.close()


def test_reading_alone_lets_no_log_grow() -> None:
    source = MemoryStore({f"k{number}": b"x" for number in range(300)})
    cache, rng = MemoryStore(), random.Random(1)
    with CachingStore(source, cache, fresh="immutable", max_bytes=1 << 20) as store:
        for _ in range(60_000):
            store[f"k{rng.randrange(300)}"]
            assert store.stats().evictions == 0
        logs = [info.size for info in cache.list("recency-")]
        assert len(logs) <= 70
        assert sum(logs) < 200_000, "the log is made one from time to time"


def test_a_cache_that_fails_while_many_write_is_counted_anew() -> None:
    source, cache = MemoryStore(), Flaky(MemoryStore(), rate=0.2, seed=3)
    store = CachingStore(source, cache, max_bytes=20_000)
    logger = logging.getLogger("holdall.layers.caching")
    logger.disabled = True

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            key = f"k{rng.randrange(60)}"
            if rng.random() < 0.5:
                store[key] = bytes(rng.randrange(2000))
            else:
                store.get(key)

    race(*(functools.partial(work, seed) for seed in range(4)))
    logger.disabled = False
    cache._rate = 0.0
    store["k"] = b"1"
    assert store._copies.recency is not None
    assert store._copies.recency.bytes == taken(cache) <= 20_000


def test_a_smaller_bound_after_a_restart() -> None:
    source, cache = MemoryStore({f"k{number}": bytes(1000) for number in range(20)}), MemoryStore()
    with CachingStore(source, cache, max_bytes=50_000) as store:
        assert len(list(store.values())) == 20
    with CachingStore(source, cache, max_bytes=5000) as store:
        assert store["k1"] == bytes(1000)
        assert taken(cache) <= 5000


def test_several_processes_exceed_the_bound_by_no_more_than_is_said() -> None:
    source, cache = MemoryStore(), MemoryStore()
    stores = [CachingStore(source, cache, fresh="immutable", max_bytes=64_000) for _ in range(3)]
    rng = random.Random(0)
    for number in range(1500):
        rng.choice(stores)[f"k{number}"] = bytes(rng.randrange(1500))
        assert taken(cache) <= 64_000 + 3 * (64_000 // 16 + 2000)


def test_a_bound_while_many_read(tmp_path: Path) -> None:
    source = MemoryStore({f"k{number}": bytes(number * 10) for number in range(200)})
    cache = FilesystemStore(tmp_path)
    store = CachingStore(source, cache, fresh="immutable", max_bytes=20_000)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            number = rng.randrange(200)
            assert len(store[f"k{number}"]) == number * 10

    race(*(functools.partial(work, seed) for seed in range(6)))
    assert taken(cache) <= 20_000
    assert store._copies.recency is not None
    assert store._copies.recency.bytes == taken(cache)
