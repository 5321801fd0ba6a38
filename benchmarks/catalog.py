"""The catalogue, `BlobStore`: against bare SQLite, bare Blosc2, itself with more entries, and peers."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.table import Table
from holdall.catalog import BlobStore

OURS, BARE, BY_HAND = "holdall BlobStore", "bare SQLite", "bare SQLite, with the JSON"
CALLS = ["put", "overwrite", "get", "get_metadata", "delete"]
"""Microseconds of processor time a call. What waits isn't in it, and on tmpfs nothing does."""
MANY = "put_many"
FEW_ENTRIES, MORE_ENTRIES = 1_000, 20_000
FILTER, SCAN = "filter", "filter, no index"
FIND, BEST = "find, 10 hits", "the best"
CACHENESS = "cacheness, quoted"
QUOTED = {
    "sqlite": {FEW_ENTRIES: {"put": 1.7e3, "get": 1.7e3}, MORE_ENTRIES: {FILTER: 1795e3}},
    "json": {
        FEW_ENTRIES: {"put": 5.8e3, "get": 5.8e3},
        MORE_ENTRIES: {"put": 54e3, "get": 54e3, FILTER: 357e3},
    },
}
"""What cacheness took on a machine of this kind, in microseconds: it is on no registry."""
DISKCACHE, HASHSTASH = "diskcache-community", "hashstash"
BLOSC = "bare blosc2 and a file"
ARRAYS = [f"{what} {kind}" for kind in ("random", "smooth") for what in ("put", "get")]
_PREFIX = "holdall_catalog_v1_"
_HITS = 10
_SQLITE_ROW = (
    "key, version, sequence, blob, digest, size, type, format, codec, library, created, updated, metadata, "
    "inputs"
)


def _key(number: int) -> str:
    return f"key-{number:07}"


def _value(number: int) -> dict[str, Any]:
    return {"id": number, "weights": [0.5, 1.5, 2.5], "name": f"model {number}"}


def _metadata(number: int) -> dict[str, Any]:
    # Multiplied by a prime, so that the order of the losses isn't that of the keys.
    return {"run": f"run-{number // _HITS}", "loss": number * 7_919 % 1_000_003 / 1e6, "tags": ["a", "b"]}


class Ours:
    """A catalogue with some entries."""

    def __init__(self, folder: str, backend: str, count: int) -> None:
        self.count = count
        self.path = f"{folder}/{backend}-{count}"
        self.store = BlobStore(self.path, backend=backend)
        if backend == "sqlite":
            self.store.put(_value(0), _key(0), _metadata(0))
            _fill(f"{self.path}/cache_metadata.db", count)
            self.store.create_index("metadata.run")
        else:
            for start in range(0, count, 10_000):
                numbers = range(start, min(count, start + 10_000))
                values = {_key(number): _value(number) for number in numbers}
                self.store.put_many(values, {_key(number): _metadata(number) for number in numbers})
        # What is held by now isn't looked at again for each measurement.
        gc.collect()
        gc.freeze()

    def get(self, key: str) -> object:
        return self.store.get(key)

    def get_metadata(self, key: str) -> object:
        return self.store.get_metadata(key)

    def delete(self, key: str) -> object:
        return self.store.delete(key)

    def filtered(self, number: int) -> int:
        return len(self.store.list(metadata_filter={"run": f"run-{number // _HITS}"}))

    def scanned(self, number: int) -> int:
        return len(self.store.list(metadata_filter={"loss": _metadata(number)["loss"]}))

    def find(self, number: int) -> int:
        return len([*self.store.find({"metadata.run": f"run-{number // _HITS}"})])

    def best(self, number: int) -> int:
        return len([*self.store.find(order_by="metadata.loss", limit=1)])

    def close(self) -> None:
        self.store.close()


class Bare:
    """One table with the columns of an entry and the bytes of its object, in a file with the settings of the
    catalogue's; the row is ready."""

    def __init__(self, folder: str, ours: Ours) -> None:
        path = f"{ours.path}/cache_metadata.db"
        self.connection = connection = sqlite3.connect(f"{folder}/bare-{ours.count}.db", isolation_level=None)
        connection.execute("ATTACH ? AS ours", (path,))
        size = connection.execute("PRAGMA ours.page_size").fetchone()[0]
        for name, value in (
            ("page_size", size), ("journal_mode", "WAL"), ("synchronous", "NORMAL"),
            ("wal_autocheckpoint", 4000), ("cache_size", -8000), ("secure_delete", "OFF"),
        ):  # fmt: skip
            connection.execute(f"PRAGMA main.{name} = {value}").fetchall()
        kinds = {
            name: f"{name} {kind}{' NOT NULL' if must else ''}"
            for _, name, kind, must, _, _ in connection.execute(f"PRAGMA ours.table_info({_PREFIX}entries)")
        }
        columns = [kinds[name] for name in _SQLITE_ROW.split(", ")]
        connection.execute(f"CREATE TABLE main.bare ({', '.join(columns)}, data BLOB, UNIQUE (key))")
        connection.execute(f"INSERT INTO bare SELECT {_SQLITE_ROW}, data FROM ours.{_PREFIX}entries")
        connection.execute("DETACH ours")
        self.index("run")
        marks = ", ".join("?" * (len(columns) + 1))
        self.insert = f"INSERT INTO bare VALUES ({marks}) ON CONFLICT (key) DO UPDATE SET " + ", ".join(
            f"{name} = excluded.{name}"
            for name in (*(column.split()[0] for column in columns if column != "key"), "data")
        )
        self.execute = connection.cursor().execute

    def index(self, field: str) -> None:
        end = "" if field == "run" else ", key"
        self.connection.execute(
            f"CREATE INDEX main.by_{field} ON bare (json_extract(metadata, '$.{field}'){end})"
        )

    def row(self, key: str, number: int) -> tuple[object, ...]:
        return (
            key, 1, number, number, f"{number:064x}", 70, "dict", "json", "", "", 1_764_000_000_000_000,
            1_764_000_000_000_000, json.dumps(_metadata(number)), None, json.dumps(_value(number)).encode(),
        )  # fmt: skip

    def put_row(self, row: tuple[object, ...]) -> object:
        return self.execute(self.insert, row)

    def put(self, key: str, number: int) -> object:
        return self.execute(self.insert, self.row(key, number))

    def get(self, key: str) -> Any:
        return self.execute("SELECT data FROM bare WHERE key = ?", (key,)).fetchone()

    def get_metadata(self, key: str) -> Any:
        return self.execute(f"SELECT {_SQLITE_ROW} FROM bare WHERE key = ?", (key,)).fetchone()

    def loaded(self, key: str) -> object:
        return json.loads(self.get(key)[0])

    def metadata_loaded(self, key: str) -> object:
        return json.loads(self.get_metadata(key)[12])

    def delete(self, key: str) -> object:
        return self.execute("DELETE FROM bare WHERE key = ?", (key,))

    def find(self, number: int, *, load: bool = False) -> int:
        sql = f"SELECT {_SQLITE_ROW} FROM bare WHERE json_extract(metadata, '$.run') = ? ORDER BY key"
        return self._count(sql, (f"run-{number // _HITS}",), load)

    def best(self, number: int, *, load: bool = False) -> int:
        sql = f"SELECT {_SQLITE_ROW} FROM bare ORDER BY json_extract(metadata, '$.loss'), key LIMIT 1"
        return self._count(sql, (), load)

    def _count(self, sql: str, values: tuple[object, ...], load: bool) -> int:
        rows = self.execute(sql, values).fetchall()
        return len([json.loads(row[12]) for row in rows] if load else rows)

    def close(self) -> None:
        self.connection.close()


def _fill(path: str, count: int) -> None:
    """Give a catalogue of one entry many by SQL, each with its own digest and the bytes of the first."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = -400000")
    connection.execute("BEGIN")
    (first,) = connection.execute(f"SELECT max(id) + 1 FROM {_PREFIX}entries").fetchone()
    last = first + count - 2
    numbers = f"WITH RECURSIVE n(i) AS (VALUES ({first}) UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
    if count > 1:
        at = f"i - {first - 1}"
        metadata = (
            f"json_object('run', 'run-' || (({at}) / {_HITS}), 'loss', ({at}) * 7919 % 1000003 / 1e6, "
            "'tags', json('[\"a\",\"b\"]'))"
        )
        changed = {
            "id": "i", "key": f"printf('key-%07d', {at})", "blob": "i", "sequence": "i",
            "digest": "lower(hex(randomblob(32)))", "metadata": metadata,
        }  # fmt: skip
        _copy(connection, "entries", changed, numbers)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def _copy(connection: sqlite3.Connection, name: str, changed: dict[str, str], numbers: str) -> None:
    columns = [column for _, column, *_ in connection.execute(f"PRAGMA table_info({_PREFIX}{name})")]
    shown = ", ".join(changed.get(column, f"t.{column}") for column in columns)
    connection.execute(
        f"INSERT INTO {_PREFIX}{name} {numbers} SELECT {shown} FROM n, "
        f"(SELECT * FROM {_PREFIX}{name} LIMIT 1) AS t"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _clock(table: Table, name: str, column: str, count: int, calls: Iterator[Callable[[], object]]) -> None:
    """Note the processor time of each of some calls, which are made ready beforehand."""
    ready = list(calls)
    with _quiet():
        begin = time.process_time()
        for call in ready:
            call()
        spent = time.process_time() - begin
    table.add(name, column, spent / count * 1e6)


def _round(table: Table, name: str, store: Any, fresh: dict[str, int], there: list[str]) -> None:
    """One round of all calls: new keys, which are deleted at the end, and keys that are there."""
    count = len(fresh)
    # Neither finds bytes that are there already.
    again = {key: number + 500_000_000 for key, number in fresh.items()}
    get, metadata = store.get, store.get_metadata
    if name == BARE:
        rows = [partial(store.put_row, store.row(*item)) for item in fresh.items()]
        over = [partial(store.put_row, store.row(*item)) for item in again.items()]
    elif name == BY_HAND:
        rows = [partial(store.put, *item) for item in fresh.items()]
        over = [partial(store.put, *item) for item in again.items()]
    else:
        # Of ours the objects are ready, as the rows of the bare table are.
        put = store.store.put
        rows = [partial(put, _value(at), key, _metadata(at)) for key, at in fresh.items()]
        over = [partial(put, _value(at), key, _metadata(at)) for key, at in again.items()]
    if name == BY_HAND:
        get, metadata = store.loaded, store.metadata_loaded
    _clock(table, name, "put", count, iter(rows))
    _clock(table, name, "overwrite", count, iter(over))
    _clock(table, name, "get", len(there), (partial(get, key) for key in there))
    _clock(table, name, "get_metadata", len(there), (partial(metadata, key) for key in there))
    _clock(table, name, "delete", count, (partial(store.delete, key) for key in fresh))


def _keys(rng: random.Random, size: int, count: int, number: int) -> tuple[dict[str, int], list[str]]:
    """Return new keys, at random places among those that are there, and some of these."""
    base = 10_000_000 * (number + 1)
    fresh = {f"{_key(rng.randrange(size))}-{number}-{at}": base + at for at in range(count)}
    return fresh, [_key(rng.randrange(size)) for _ in range(count)]


def sqlite_calls(
    tables: dict[int, Table], stores: dict[int, Ours], folder: str, count: int, rounds: int
) -> None:
    """Calls of the catalogue with SQLite with few entries and with many, and of one bare table."""
    bares = {size: Bare(folder, store) for size, store in stores.items()}
    rng = random.Random(13)
    for table in tables.values():
        table.bare, table.names = BARE, [OURS, BARE, BY_HAND]
    # The first round warms up, in a table that is dropped.
    for number in range(rounds + 1):
        for size, table in tables.items():
            kept = table if number else Table("", "", "", "", "", [])
            for name in _turned(table.names, number):
                store = stores[size] if name == OURS else bares[size]
                _round(kept, name, store, *_keys(rng, size, count, number))
            many = {f"{key}-many": at for key, at in _keys(rng, size, 10 * count, 100 + number)[0].items()}
            values = {key: _value(at) for key, at in many.items()}
            metadata = {key: _metadata(at) for key, at in many.items()}
            put_many = partial(stores[size].store.put_many, values, metadata)
            _clock(kept, OURS, MANY, len(many), iter([put_many]))
            for key in many:
                stores[size].delete(key)
    largest = max(tables)
    _queries(tables[largest], stores[largest], bares[largest], count, rounds)
    for bare in bares.values():
        bare.close()


def _queries(table: Table, ours: Ours, bare: Bare, count: int, rounds: int) -> None:
    """Ten of all entries by an indexed field, and the one with the least."""
    ours.store.create_index("metadata.loss")
    bare.index("loss")
    rng = random.Random(14)
    calls: dict[str, tuple[Callable[[int], int], Callable[[int], int]]] = {
        OURS: (ours.find, ours.best),
        BARE: (bare.find, bare.best),
        BY_HAND: (partial(bare.find, load=True), partial(bare.best, load=True)),
    }
    for number in range(rounds):
        wanted = [rng.randrange(ours.count // _HITS) * _HITS for _ in range(count)]
        for name in _turned(table.names, number):
            find, best = calls[name]
            assert find(wanted[0]) == _HITS, (name, wanted[0])
            assert best(0) == 1, name
            _clock(table, name, FIND, count, (partial(find, each) for each in wanted))
            _clock(table, name, BEST, count, (partial(best, each) for each in wanted))


def json_calls(table: Table, stores: dict[int, Ours], count: int, rounds: int) -> None:
    """Calls of the catalogue with the JSON file, with few entries and with many."""
    table.names = [sized(size) for size in stores]
    table.bare = sized(min(stores))
    rng = random.Random(13)
    sizes = list(stores)
    for number in range(rounds + 1):
        kept = table if number else Table("", "", "", "", "", [])
        for at in range(len(sizes)):
            size = sizes[(at + number) % len(sizes)]
            fresh, there = _keys(rng, size, count, number)
            _round(kept, sized(size), stores[size], fresh, there)


def small_rounds(table: Table, ours: Ours, count: int, rounds: int) -> None:
    """The same calls once more, for a table of their own."""
    rng = random.Random(16)
    for number in range(rounds):
        _round(table, OURS, ours, *_keys(rng, ours.count, count, number))


def filters(table: Table, stores: Sequence[tuple[str, Ours]], count: int, rounds: int) -> None:
    """A filter of the metadata, on a field with an index and on one without, as cacheness was measured."""
    rng = random.Random(15)
    for number in range(rounds):
        for name, ours in stores[:: -1 if number % 2 else 1]:
            wanted = [rng.randrange(ours.count // _HITS) * _HITS for _ in range(count)]
            assert ours.filtered(wanted[0]) == _HITS, name
            _clock(table, name, FILTER, count, (partial(ours.filtered, each) for each in wanted))
            few = wanted[:3]
            _clock(table, name, SCAN, len(few), (partial(ours.scanned, each) for each in few))


def sized(size: int) -> str:
    return f"holdall BlobStore, {size:,} entries"


def arrays(table: Table, folder: str, count: int, rounds: int) -> None:
    """One array of float64, in milliseconds of the clock, since both use several cores."""
    numpy: Any = import_module("numpy")
    blosc2: Any = import_module("blosc2")
    table.bare, table.names = BLOSC, [OURS, BLOSC]
    made = {
        "random": numpy.random.default_rng(13).random(count),
        "smooth": numpy.sin(numpy.linspace(0, 100, count)),
    }
    settings = {"codec": blosc2.Codec.LZ4, "clevel": 3}
    for number in range(rounds + 1):
        for kind, array in made.items():
            # No bytes are those of another round.
            array[0] = number
            place = f"{folder}/{number}-{kind}"
            with BlobStore(place, backend="sqlite") as store:
                store.put(numpy.zeros(100_000), "warm")
                path = f"{place}/bare.b2nd"

                def bare_put(array: Any = array, path: str = path) -> object:
                    made = blosc2.asarray(array, urlpath=f"{path}.new", mode="w", cparams=settings)
                    os.replace(f"{path}.new", path)
                    return made

                def bare_get(path: str = path) -> object:
                    return blosc2.open(path)[:]

                calls: dict[str, tuple[Callable[[], object], Callable[[], Any]]] = {
                    OURS: (partial(store.put, array, "array"), partial(store.get, "array")),
                    BLOSC: (bare_put, bare_get),
                }
                for name in _turned(table.names, number):
                    for what, call in zip(("put", "get"), calls[name], strict=True):
                        begin = time.perf_counter()
                        found: Any = call()
                        spent = time.perf_counter() - begin
                        if number:
                            table.add(name, f"{what} {kind}", spent * 1e3)
                    assert numpy.array_equal(found, array), name
                    del found
            shutil.rmtree(place)


def peers(table: Table, folder: str, count: int, rounds: int) -> None:
    """The same values under the same keys, without metadata, which these peers lack."""
    numpy: Any = import_module("numpy")
    diskcache: Any = import_module("diskcache_community")
    hashstash: Any = import_module("hashstash")
    ours = BlobStore(f"{folder}/ours", backend="sqlite")
    cache = diskcache.Cache(f"{folder}/diskcache", eviction_policy="none", cull_limit=0, size_limit=1 << 50)
    stash = hashstash.HashStash(root_dir=f"{folder}/hashstash")
    table.bare, table.names = OURS, [OURS, DISKCACHE, HASHSTASH]
    calls: dict[str, tuple[Callable[..., object], Callable[..., Any], Callable[..., object]]] = {
        OURS: (lambda key, value: ours.put(value, key), ours.get, ours.delete),
        DISKCACHE: (cache.set, cache.get, cache.delete),
        HASHSTASH: (stash.set, stash.get, stash.__delitem__),
    }
    array = numpy.random.default_rng(13).random(MANY_ITEMS)
    makers: dict[str, tuple[Callable[[int], Any], int]] = {
        "a dict": (_value, count),
        "1 KiB": (lambda number: random.Random(number).randbytes(1024), count),
        "an array of 1 MiB": (lambda number: array + number, max(2, count // 30)),
    }
    for number in range(rounds + 1):
        kept = table if number else Table("", "", "", "", "", [])
        for what, (make, times) in makers.items():
            items = {f"{what}-{at}": make(1_000_000 * number + at) for at in range(times)}
            for name in _turned(table.names, number):
                put, get, delete = calls[name]
                _clock(kept, name, f"put {what}", times, (partial(put, *item) for item in items.items()))
                _clock(kept, name, f"get {what}", times, (partial(get, key) for key in items))
                last = next(reversed(items))
                assert numpy.array_equal(get(last), items[last]), name
                _clock(kept, name, f"delete {what}", times, (partial(delete, key) for key in items))
    ours.close()
    cache.close()


MANY_ITEMS = 1 << 17
PEER_COLUMNS = [
    f"{call} {what}" for what in ("a dict", "1 KiB", "an array of 1 MiB") for call in ("put", "get", "delete")
]


def _turned(names: Sequence[str], number: int) -> list[str]:
    return [*names[number % len(names) :], *names[: number % len(names)]]


Promise = tuple[str, str, str | None, bool]
"""What, the goal, what was measured, and whether it was reached."""


def promises(tables: Sequence[Table]) -> Iterator[Promise]:
    """Yield what the catalogue has promised to reach."""
    sections = {section: [each for each in tables if each.section == section] for section in SECTIONS}
    sqlite, in_json = sections["catalog"], next(iter(sections["catalog json"]), None)
    yield from _ratios(sqlite)
    yield from _growth(sqlite, in_json)
    yield from _many(sqlite)
    yield from _found(sqlite)
    yield from _quoted(sections["catalog quoted"])
    table = next(iter(sections["catalog arrays"]), None)
    for column in ARRAYS:
        ratio = table.ratio(OURS, column) if table else None
        shown = None if ratio is None else f"{1 / ratio:.2f}x"
        what = f"BlobStore: {column.split()[0]} of a large array, {column.split()[1]}"
        yield (
            what,
            ">= 0.9x the speed of bare blosc2 and a file",
            shown,
            ratio is not None and 1 / ratio >= 0.9,
        )
    table = next(iter(sections["catalog peers"]), None)
    for column in PEER_COLUMNS:
        faster = _faster(table, column) if table else []
        shown = None if table is None else ", ".join(faster) or "none"
        yield f"BlobStore: {column}, peers", "none faster", shown, not faster


SECTIONS = ("catalog", "catalog json", "catalog quoted", "catalog arrays", "catalog peers")


def _ratios(tables: Sequence[Table]) -> Iterator[Promise]:
    for column, limit in (("put", 2.5), ("get", 2.5), ("get_metadata", 2.0)):
        for table in tables or [None]:
            ratio, by_hand = _both(table, column)
            shown = None if ratio is None else f"{ratio:.2f}x ({by_hand:.2f}x with the JSON)"
            where = f", {table.place} entries" if table else ""
            yield f"BlobStore: {column}{where}", f"<= {limit}x bare SQLite", shown, (ratio or 9) <= limit


def _both(table: Table | None, column: str) -> tuple[float | None, float | None]:
    """Return how many times the bare call it takes, and how many times that with the JSON."""
    if table is None:
        return None, None
    return table.ratio(OURS, column), table.ratio(OURS, column, BY_HAND)


def _growth(sqlite: Sequence[Table], in_json: Table | None) -> Iterator[Promise]:
    for column in ("put", "get", "get_metadata"):
        times: float | None = None
        if len(sqlite) > 1:
            times = _median_ratio(*(table.samples[OURS, column] for table in (sqlite[-1], sqlite[0])))
        yield f"BlobStore, SQLite: {column} with the most entries", *_within(times)
        times = in_json.ratio(in_json.names[-1], column) if in_json else None
        yield f"BlobStore, JSON: {column} with the most entries", *_within(times)


def _within(times: float | None) -> tuple[str, str | None, bool]:
    shown = None if times is None else f"{times:.2f}x"
    return f"<= 1.3x one with {FEW_ENTRIES:,}", shown, (times or 9) <= 1.3


def _median_ratio(mine: list[float], theirs: list[float]) -> float:
    ratios = sorted(a / b for a, b in zip(mine, theirs, strict=True))
    return ratios[len(ratios) // 2]


def _many(tables: Sequence[Table]) -> Iterator[Promise]:
    for table in tables or [None]:
        one, many = (table.median(OURS, "put"), table.median(OURS, MANY)) if table else (None, None)
        times = one / many if one and many else None
        shown = None if times is None else f"{times:.1f}x"
        where = f", {table.place} entries" if table else ""
        yield f"BlobStore: put_many{where}", ">= 5x the speed of single puts", shown, (times or 0) >= 5


def _found(tables: Sequence[Table]) -> Iterator[Promise]:
    table = tables[-1] if tables else None
    for column in (FIND, BEST):
        ratio, by_hand = _both(table, column)
        shown = None if ratio is None else f"{ratio:.2f}x ({by_hand:.2f}x with the JSON)"
        where = f" among {table.place}" if table else ""
        yield f"BlobStore: {column}{where}", "< 2x the bare SQL", shown, (ratio or 9) < 2


def _quoted(tables: Sequence[Table]) -> Iterator[Promise]:
    for table in tables:
        for column in table.columns:
            theirs, mine = table.median(CACHENESS, column), table.median(table.names[0], column)
            if theirs is None or mine is None:
                continue
            limit = 200 if "JSON" in table.title and f"{MORE_ENTRIES:,}" in table.title else 10
            times = theirs / mine
            yield f"{table.title}: {column}", f">= {limit}x cacheness", f"{times:,.0f}x", times >= limit


def _faster(table: Table, column: str) -> list[str]:
    """Return the peers that take less time than the catalogue."""
    ratios = {name: table.ratio(name, column) for name in table.names if name != OURS}
    return [f"{name} {1 / ratio:.2f}x" for name, ratio in ratios.items() if ratio is not None and ratio < 1]
