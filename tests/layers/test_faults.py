"""Each layer over stores that raise, hang and corrupt: what it acknowledged is right, or it was reported."""

import logging
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from tests.effort import effort

from holdall import (
    CacheMode,
    CachingStore,
    ChecksumStore,
    CompressedStore,
    EncryptedStore,
    ExpiringStore,
    FanoutStore,
    MemoryStore,
    NotifyingStore,
    ReadOnlyStore,
    RoutedStore,
    Store,
    StoreError,
    TracedStore,
)
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Expect, Info
from holdall.testing import Corrupting, Flaky, Hanging

OPERATIONS = effort(10_000, 4000)
KEYS = [f"{folder}{name}" for folder in ("", "logs/", "logs/2026/") for name in "abcde"]


class Faulty:
    """Stores that fail, for as long as they are told to."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.faults: list[Flaky | Corrupting | Hanging] = []

    def __call__(self, *, corrupt: bool = True, hang: float = 0.002) -> Store:
        """A store in memory that raises, hangs, and gives other bytes than it holds."""
        self.seed += 1
        store: Store = MemoryStore()
        self.faults.append(Flaky(store, 0.04, self.seed))
        self.faults.append(Hanging(self.faults[-1], 0.002, hang, self.seed))
        if corrupt:
            self.faults.append(Corrupting(self.faults[-1], 0.02, self.seed))
        return self.faults[-1]

    def checked(self, **options: float) -> Store:
        """The same, whose changed bytes are found."""
        return ChecksumStore(self(**options))

    def end(self) -> None:
        for fault in self.faults:
            fault._rate = 0
            if isinstance(fault, Hanging):
                fault.release()


def _heard(change: object) -> None:
    """A callback."""


LAYERS: dict[str, Callable[[Faulty], Store]] = {
    "prefix": lambda faulty: faulty.checked() / "in",
    "expiring": lambda faulty: ExpiringStore(faulty.checked(), 3600),
    "notifying": lambda faulty: NotifyingStore(faulty.checked(), _heard),
    "traced": lambda faulty: TracedStore(faulty.checked()),
    "routed": lambda faulty: RoutedStore(
        {"logs/2026/": faulty.checked(), "*/*": faulty.checked(), "": faulty.checked()}
    ),
    "checksum": lambda faulty: ChecksumStore(faulty()),
    "compressed, zstd": lambda faulty: CompressedStore(faulty()),
    "compressed, lz4": lambda faulty: CompressedStore(faulty(), codec="lz4"),
    "compressed, gzip": lambda faulty: CompressedStore(faulty(), codec="gzip"),
    "encrypted": lambda faulty: EncryptedStore(faulty(), b"k" * 32),
    "encrypted names": lambda faulty: EncryptedStore(faulty(), b"k" * 32, names=bytes(range(32))),
    # A cache finds by itself what its own store does to its entries.
    "caching": lambda faulty: CachingStore(faulty.checked(), faulty()),
    "caching, an hour": lambda faulty: CachingStore(faulty.checked(), faulty(), fresh=3600),
    "caching, bounded": lambda faulty: CachingStore(faulty.checked(), faulty(), max_bytes=2000),
    "caching, write-back": lambda faulty: CachingStore(faulty.checked(), faulty(), CacheMode.WRITE_BACK),
    "replicas": lambda faulty: FanoutStore([faulty.checked(), faulty.checked()]),
    "replicas, in time": lambda faulty: FanoutStore(
        [faulty.checked(hang=0.2), faulty.checked(hang=0.2)], timeout=0.05
    ),
    "replicas, a quorum": lambda faulty: FanoutStore([faulty.checked() for _ in range(3)], write=2),
}


class Seen(NamedTuple):
    acknowledged: int
    reported: int


def _drive(store: Store, rng: random.Random) -> tuple[dict[str, set[bytes | None]], Seen]:
    """Random calls; what each key may hold by then. An error makes both the old and the new possible."""
    possible: dict[str, set[bytes | None]] = {key: {None} for key in KEYS}
    acknowledged = reported = 0
    for number in range(OPERATIONS):
        key = rng.choice(KEYS)
        call = rng.random()
        try:
            if call < 0.40:
                value = b"%d %s" % (number, key.encode()) * rng.choice((1, 1, 20))
                done: set[bytes | None] = {value}
                store.put(key, value if rng.random() < 0.7 else iter((value[:5], value[5:])))
            elif call < 0.50:
                done = {None}
                store.delete(key)
            elif call < 0.55:
                value = b"swapped %d" % number
                done = {value}
                etag = store.info(key).etag
                store.put(key, value, expect=etag)
            elif call < 0.95:
                done = possible[key]
                found = store.get(key)
                assert found in possible[key], f"{key!r} is what nobody put"
            else:
                done = possible[key]
                for info in store.list("logs/"):
                    assert possible[info.key] != {None}, f"{info.key!r} was deleted"
            possible[key] = done
            acknowledged += 1
        except StoreError:
            possible[key] = possible[key] | done
            reported += 1
    return possible, Seen(acknowledged, reported)


@pytest.mark.parametrize("name", LAYERS)
def test_what_was_acknowledged_is_readable_and_right_or_was_reported(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    faulty = Faulty(seed=sum(name.encode()))
    store = LAYERS[name](faulty)
    possible, seen = _drive(store, random.Random(name))
    assert seen.acknowledged > OPERATIONS / 2
    assert seen.reported > OPERATIONS / 200, "the stores below fail too seldom to prove anything"
    for kind, count in ((Hanging, "hung"), (Corrupting, "damaged")):
        assert sum(getattr(fault, count) for fault in faulty.faults if isinstance(fault, kind)) > 5
    faulty.end()
    if isinstance(store, FanoutStore):
        assert store.repair()
        assert list(store.verify()) == []
    if isinstance(store, CachingStore) and store._mode is CacheMode.WRITE_BACK:
        assert store.sync("overwrite").clean
    found = dict(store.items())
    for key, values in possible.items():
        assert found.get(key) in values, f"{key!r} was acknowledged, and is not what it was"
        assert store.get(key) == found.get(key)
    store.close()


def test_a_read_only_store_gives_what_is_there_or_an_error() -> None:
    faulty = Faulty(seed=1)
    below = faulty.checked()
    blobs = {key: key.encode() * 20 for key in KEYS}
    rates = [fault._rate for fault in faulty.faults]
    faulty.end()
    below.put_many(blobs)
    for fault, rate in zip(faulty.faults, rates, strict=True):
        fault._rate = rate
    store, rng, reported = ReadOnlyStore(below), random.Random(1), 0
    for _ in range(OPERATIONS):
        key = rng.choice(KEYS)
        try:
            assert store[key] == blobs[key]
        except StoreError:
            reported += 1
    assert 0 < reported < OPERATIONS / 2


def test_a_layer_that_loses_a_put_is_found() -> None:
    class Losing(Transparent):
        puts = 0

        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            self.puts += 1
            if self.puts % 100 == 0:
                return Info(key, 0, "lost", 0.0)
            return super()._write(key, body, expect, attributes)

    with pytest.raises(AssertionError, match=r"nobody put|was deleted"):
        _drive(Losing(MemoryStore()), random.Random(0))
