"""A layer in the child of a fork: locks that other threads of the parent held are nobody's there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.effort import effort
from tests.forks import forked

from holdall import (
    CachingStore,
    ExpiringStore,
    FanoutStore,
    FilesystemStore,
    NotifyingStore,
    ReadOnlyStore,
    RoutedStore,
    SqliteStore,
    Store,
    TracedStore,
)

LAYERS: dict[str, Callable[[Path], Store]] = {
    "fanout": lambda place: FanoutStore([FilesystemStore(place / "a"), SqliteStore(place / "b.db")]),
    "fanout with a timeout": lambda place: FanoutStore(
        [FilesystemStore(place / "a"), SqliteStore(place / "b.db")], timeout=60
    ),
    "cache": lambda place: CachingStore(SqliteStore(place / "a.db"), FilesystemStore(place / "b"), fresh=60),
    "cache with a bound": lambda place: CachingStore(
        SqliteStore(place / "a.db"), FilesystemStore(place / "b"), max_bytes=10**6
    ),
    "write-back": lambda place: CachingStore(
        SqliteStore(place / "a.db"), SqliteStore(place / "b.db"), "write-back"
    ),
    "routed": lambda place: RoutedStore({"a": FilesystemStore(place / "a"), "": SqliteStore(place / "b.db")}),
    "notifying": lambda place: NotifyingStore(SqliteStore(place / "a.db")),
    "expiring": lambda place: ExpiringStore(FilesystemStore(place / "a"), 3600),
    "traced": lambda place: TracedStore(SqliteStore(place / "a.db")),
    "prefix": lambda place: SqliteStore(place / "a.db") / "folder",
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_child_waits_for_no_thread_of_its_parent(tmp_path: Path, layer: str) -> None:
    store = LAYERS[layer](tmp_path)
    store.put_many({"a": b"1", "b": b"2"})
    done = threading.Event()

    def work(number: int) -> None:
        while not done.is_set():
            store.put(f"{'ab'[number]}{number}", b"x")
            store.get("a")
            store.delete(f"{'ab'[number]}{number}")

    def child() -> None:
        for key in ("a", "b", "c", "a0", "b1"):
            store.put(key, b"child")
            store.get(key)
        assert store.put("d", iter([b"1", b"2"])).size == 2
        assert "d" in list(store)
        assert store.delete("d")
        if isinstance(store, NotifyingStore):
            store.subscribe(print)()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(effort(5, 2)):
            assert os.waitstatus_to_exitcode(os.waitpid(forked(child), 0)[1]) == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert ReadOnlyStore(store)["a"] in (b"1", b"child")
    store.close()


def _classes(kind: type[Store]) -> Iterator[type[Store]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _classes(each)


def test_a_store_that_was_never_made_can_be_shown() -> None:
    """As a debugger or a traceback with local variables shows it, while its constructor runs."""
    import holdall

    kinds = {getattr(holdall, name) for name in holdall.__all__ if name.endswith(("Store", "Dict"))}
    modules = "holdall.layers", "holdall.stores", "holdall.virtual"
    kinds |= {kind for kind in _classes(Store) if kind.__module__.startswith(modules)}
    assert len(kinds) > 30
    for kind in kinds:
        assert repr(object.__new__(kind))
