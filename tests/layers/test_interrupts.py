"""An interrupt at any moment of a call of a layer comes out as itself, and leaves nothing to wait for."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from tests.effort import effort

from holdall import (
    ABSENT,
    CachingStore,
    ExpiringStore,
    FanoutStore,
    MemoryStore,
    NotifyingStore,
    RoutedStore,
    Store,
    StoreError,
    TracedStore,
)
from holdall.store import ANY, Expect

INTERRUPTS = effort(150, 60)


def in_threads(**options: float) -> FanoutStore:
    """Replicas that are written in threads, as slow ones are."""
    store = FanoutStore([MemoryStore(), MemoryStore()], **options)  # pyright: ignore[reportArgumentType]
    store.inline = store._replicas.inline = store._replicas.near = False
    return store


LAYERS: dict[str, Callable[[], Store]] = {
    "fanout": lambda: FanoutStore([MemoryStore(), MemoryStore()]),
    "fanout in threads": in_threads,
    "fanout with a timeout": lambda: in_threads(timeout=60.0),
    "cache": lambda: CachingStore(MemoryStore(), MemoryStore()),
    "cache with a bound": lambda: CachingStore(
        MemoryStore(), MemoryStore(), fresh="immutable", max_bytes=2000
    ),
    "cache, immutable": lambda: CachingStore(MemoryStore(), MemoryStore(), fresh="immutable"),
    "write-back": lambda: CachingStore(MemoryStore(), MemoryStore(), "write-back"),
    "write-back with a bound": lambda: CachingStore(
        MemoryStore(), MemoryStore(), "write-back", max_bytes=2000
    ),
    "routed": lambda: RoutedStore({"a": MemoryStore(), "": MemoryStore()}),
    "notifying": lambda: NotifyingStore(MemoryStore(), lambda change: None),
    "expiring": lambda: ExpiringStore(MemoryStore(), 3600),
    "prefix": lambda: MemoryStore() / "folder",
    "traced": lambda: TracedStore(MemoryStore()),
}


@contextmanager
def interrupting() -> Iterator[Callable[[float], None]]:
    armed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        # The system may give the signal to another thread, and then Python gets to it when the timer is off.
        if armed:
            raise KeyboardInterrupt

    def timer(seconds: float) -> None:
        nonlocal armed
        armed = seconds > 0
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield timer
    finally:
        timer(0)
        signal.signal(signal.SIGALRM, before)


def gets_through(store: Store) -> None:
    """Another thread can do anything with the same handle."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for key in ("a", "b"):
                store.put(key, b"others")
                assert store.get(key) == b"others"
                info = store.put(key, b"swapped", expect=store.info(key).etag)
                assert store.delete(key, expect=info.etag)
                assert store.put(key, iter([b"created"]), expect=ABSENT).size == 7
                assert key in list(store)
                assert store.delete(key)
        except BaseException as error:  # noqa: BLE001 - raised in the test
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "somebody waits for what an interrupt left"
    if failures:
        raise failures[0]


# Python itself drops an interrupt that comes in a finalizer, such as that of a traced stream.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function _Stream.__del__:Warning")
@pytest.mark.parametrize("layer", LAYERS)
def test_an_interrupt_leaves_nothing_behind(layer: str) -> None:
    store = LAYERS[layer]()
    rng = random.Random(layer)
    known: dict[str, set[bytes | None]] = {"a": {None}, "b": {None}}
    interrupts, longest = 0, 0.0005

    def one() -> None:
        key, data = rng.choice("ab"), rng.randbytes(rng.choice((3, 300)))
        was = known[key]
        what = rng.randrange(5)
        if what == 0:
            known[key] = was | {None}
            store.delete(key)
            known[key] = {None}
        elif what == 1:
            found = store.get(key)
            assert found in was, (key, found, was)
            known[key] = {found}
        elif what == 2:
            found = key in set(store)
            assert found or None in was
        else:
            expect: Expect = ANY
            if what == 4:
                expect = store.info(key).etag if key in store else ABSENT
            known[key] = was | {data}
            store.put(key, iter([data]) if rng.random() < 0.3 else data, expect=expect)
            known[key] = {data}

    with interrupting() as timer:
        for _ in range(20 * INTERRUPTS):
            try:
                try:
                    timer(rng.uniform(1e-5, longest))
                    one()
                finally:
                    timer(0)
            except KeyboardInterrupt:
                interrupts += 1
                if interrupts % 10 == 0:
                    gets_through(store)
                    known = {"a": {None}, "b": {None}}
            except StoreError:
                # What expected an ETag of a put that was interrupted.
                pass
            else:
                longest = max(longest * 0.99, 5e-5)
            if interrupts >= INTERRUPTS:
                break
    assert interrupts > 10
    gets_through(store)
    store.close()
