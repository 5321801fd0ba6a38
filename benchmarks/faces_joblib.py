"""joblib.Memory over stores of holdall, against joblib's own backend for files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import holdall
from benchmarks.contenders import MIB
from benchmarks.faces import Ground, clock

FILES, SQLITE, JOBLIB = "holdall, a FilesystemStore", "holdall, a SqliteStore", "joblib's own files"
SMALL, ARRAY, MISS = "a hit, a small dict", "a hit, an array of 1 MiB", "a miss, a small dict"
COLUMNS = [SMALL, ARRAY, MISS]


def measure(ground: Ground) -> None:
    """Hits and misses of `joblib.Memory`, by the same functions for each backend."""
    joblib: Any = import_module("joblib")
    import_module("holdall.interop.joblib")
    folder = ground.folder()
    title = f"Results that joblib.Memory keeps, {ground.place}"
    table = ground.table(title, "us of processor time a call", COLUMNS)
    table.bare = JOBLIB
    stores: dict[str, holdall.Store] = {
        FILES: holdall.FilesystemStore(f"{folder}/ours"),
        SQLITE: holdall.SqliteStore(f"{folder}/ours.db"),
    }
    table.notes.append("SQLite keeps an array of 1 MiB in 260 pages, which it reads one by one")
    for name, column in ((FILES, SMALL), (FILES, ARRAY), (SQLITE, SMALL)):
        what = f"joblib, {name.removeprefix('holdall, ')}: {column}, {ground.place}"
        table.goal(what, name, column, 1)
    memories: dict[str, Any] = {JOBLIB: joblib.Memory(f"{folder}/theirs", verbose=0)}
    for name, store in stores.items():
        options = {"store": store}
        memories[name] = joblib.Memory("cache", backend="holdall", backend_options=options, verbose=0)
    calls: dict[str, tuple[Callable[[int], Any], Any]] = {
        name: (memory.cache(_small), memory.cache(_array)) for name, memory in memories.items()
    }
    many, few = ground.calls, max(2, ground.calls // 10)
    fresh = 0
    for kept, name in ground.samples(table, [*stores, JOBLIB]):
        small, array = calls[name]
        for at in range(many):
            small(at)
        # Where the system puts the pages of a file makes a difference that lasts as long as the file.
        array.clear(warn=False)
        for at in range(few):
            array(at)
        before = _computed[0]
        clock(kept, name, SMALL, (partial(small, at) for at in range(many)))
        clock(kept, name, ARRAY, (partial(array, at % few) for at in range(3 * few)))
        assert _computed[0] == before, f"{name} computed again"
        fresh += many
        clock(kept, name, MISS, (partial(small, fresh + at) for at in range(many)))
        assert _computed[0] == before + many, f"{name} has computed {_computed[0] - before} of {many}"
    for store in stores.values():
        store.close()


_computed = [0]


def _small(number: int) -> dict[str, Any]:
    _computed[0] += 1
    return {"name": f"model {number}", "score": number / 2, "tags": ["a", "b"]}


def _array(number: int) -> Any:
    numpy: Any = import_module("numpy")
    _computed[0] += 1
    return numpy.random.default_rng(number).random(MIB // 8)
