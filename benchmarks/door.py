"""The front door: values by mode over the bare calls, memoization, streams of lines, and the command's start.

`python -m benchmarks.door JOB` reads one stream in a process of its own, for its time and its memory.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import holdall
from benchmarks import child
from benchmarks.contenders import MIB
from benchmarks.imports import children_seconds
from benchmarks.machine import installed
from benchmarks.table import Table

RAW, JSON = "holdall ValueStore, raw", "holdall ValueStore, json"
STORE, MSGSPEC = "its store", "msgspec and its store"
ANYSTORE, BLOB_DICT = "anystore", "blob-dict"
CALLS = ["put", "get"]
COPIES = [f"copies held by a {call}" for call in CALLS]
SMALL_DOCUMENT, DOCUMENT = "a small dict", "a list of 2,000 dicts"
JSON_CALLS = [f"{call} {what}" for what in (SMALL_DOCUMENT, DOCUMENT) for call in CALLS]
CACHED, HIT = "holdall @cached", "a hit"
DISKCACHE, JOBLIB, HASHSTASH = "diskcache-community memoize", "joblib.Memory", "hashstash"
HITS = ["a small dict", "1 KiB of bytes"]
STREAM, LOOP = "holdall stream", "a loop over the lines of a file"
STREAM_COLUMNS = ["s", "MiB held"]
COMMAND, PYTHON, THEIRS = "holdall keys", "python -c pass", "anystore keys"

_COPIED = 64 * MIB


def _turned(names: Sequence[str], number: int) -> list[str]:
    return [*names[number % len(names) :], *names[: number % len(names)]]


def _clock(table: Table, name: str, column: str, calls: Iterator[Callable[[], object]]) -> None:
    """Note the processor time of a call, in microseconds; the calls are made ready beforehand."""
    ready = list(calls)
    gc.collect()
    gc.disable()
    begin = time.process_time()
    for call in ready:
        call()
    spent = time.process_time() - begin
    gc.enable()
    table.add(name, column, spent / len(ready) * 1e6)


def _warm() -> Table:
    """A table for the first round, which is thrown away."""
    return Table("", "", "", "", "", [])


def raw(table: Table, store: holdall.Store, count: int, rounds: int) -> None:
    """Puts and gets of 1 KiB in the mode `raw`, and of the store below by itself."""
    table.bare, table.names = STORE, [RAW, STORE]
    values = {RAW: holdall.ValueStore(store, "raw"), STORE: store}
    rng = random.Random(14)
    for number in range(rounds + 1):
        kept = table if number else _warm()
        data = {f"key-{at:05}": rng.randbytes(1024) for at in range(count)}
        for name in _turned(table.names, number):
            put, get = values[name].put, values[name].get
            _clock(kept, name, "put", (partial(put, *item) for item in data.items()))
            _clock(kept, name, "get", (partial(get, key) for key in data))
            assert get("key-00000") == data["key-00000"]
    for name, each in values.items():
        big = os.urandom(_COPIED)
        for column, call in zip(
            COPIES, (partial(each.put, "big", big), partial(each.get, "big")), strict=True
        ):
            table.add(name, column, _peak(call) / _COPIED)
    store.delete("big")


def _peak(call: Callable[[], object]) -> float:
    """How many bytes a call holds more than before, at most."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return peak - before


def _document(number: int) -> dict[str, Any]:
    return {"id": number, "name": f"model {number}", "scores": [0.5, 1.5], "tags": ["a", "b"], "ok": True}


def in_json(table: Table, folder: str, count: int, rounds: int, peers: bool) -> None:
    """Puts and gets of values in JSON, in files: of ours, of msgspec with the same store, and of peers."""
    codec: Any = import_module("msgspec.json")
    store = holdall.FilesystemStore(f"{folder}/ours")
    ours = holdall.ValueStore(store, "json")
    encode, decode = codec.Encoder().encode, codec.Decoder().decode
    calls: dict[str, tuple[Callable[[str, Any], object], Callable[[str], Any]]] = {
        JSON: (ours.put, ours.get),
        MSGSPEC: (
            lambda key, value: store.put(key, encode(value)),
            lambda key: decode(store.get(key, b"")),
        ),
    }
    if peers:
        theirs = import_module("anystore").get_store(f"{folder}/theirs", serialization_mode="json")
        calls[ANYSTORE] = theirs.put, theirs.get
        if sys.version_info >= (3, 12):
            calls[BLOB_DICT] = _blob_dict(f"{folder}/blobs")
        else:
            table.notes.append("blob-dict needs Python 3.12")
    table.bare, table.names = MSGSPEC, [*calls]
    table.notes.append(
        "holdall looks at each value, so that a tuple, a datetime or a NaN comes back as one; the others "
        "write a list, a str and null"
    )
    for number in range(rounds + 1):
        kept = table if number else _warm()
        small = {f"small-{at}": _document(number * count + at) for at in range(count)}
        large = {f"large-{at}": [_document(number * count + n) for n in range(2000)] for at in range(3)}
        if BLOB_DICT in calls:
            large = {key: {"rows": rows} for key, rows in large.items()}  # it holds dicts only
        for what, values in ((SMALL_DOCUMENT, small), (DOCUMENT, large)):
            for name in _turned(table.names, number):
                put, get = calls[name]
                _clock(kept, name, f"put {what}", (partial(put, *item) for item in values.items()))
                _clock(kept, name, f"get {what}", (partial(get, key) for key in values))
                last = next(reversed(values))
                assert get(last) == values[last], name


def _blob_dict(folder: str) -> tuple[Callable[[str, Any], object], Callable[[str], Any]]:
    kind = import_module("blob_dict.blob.json").JsonDictBlob
    path = import_module("blob_dict.dict.path")
    os.makedirs(folder)
    made = path.PathBlobDict(path.LocalPath(folder), blob_class=kind)
    return lambda key, value: made.__setitem__(key, kind(value)), lambda key: made[key].as_dict()


def kept(table: Table, folder: str, count: int, rounds: int, peers: bool) -> None:
    """Hits: calls whose results are kept in SQLite, or as the peer keeps them. What they are held against is
    a get of the very blobs that the hits read."""
    store = holdall.SqliteStore(f"{folder}/ours.db")
    made: dict[str, dict[str, Any]] = {HITS[0]: {}, HITS[1]: {}}
    for what, function in zip(HITS, (_small_result, _large_result), strict=True):
        made[what][CACHED] = holdall.cached(store)(function)
        for name, decorate in (_decorators(folder) if peers else {}).items():
            made[what][name] = decorate(function)
    table.bare, table.names = STORE, [CACHED, STORE, *([DISKCACHE, JOBLIB, HASHSTASH] if peers else [])]
    arguments = [(f"model {number}", number) for number in range(count)]
    blobs = {what: [by_name[CACHED].key_for(*each) for each in arguments] for what, by_name in made.items()}
    for number in range(rounds + 1):
        noted = table if number else _warm()
        for what, by_name in made.items():
            for name in _turned(table.names, number):
                if name == STORE:
                    _clock(noted, name, what, (partial(store.get, key) for key in blobs[what]))
                    continue
                call = by_name[name]
                if not number:
                    for each in arguments:
                        call(*each)
                before = _computed[0]
                _clock(noted, name, what, (partial(call, *each) for each in arguments))
                assert _computed[0] == before, f"{name} computed again"
    assert all(store.exists(key) for keys in blobs.values() for key in keys)
    store.close()


_computed = [0]


def _small_result(name: str, number: int, scale: float = 1.0) -> dict[str, Any]:
    _computed[0] += 1
    return {"name": name, "score": number * scale}


def _large_result(name: str, number: int, scale: float = 1.0) -> bytes:
    _computed[0] += 1
    return random.Random(number).randbytes(1024)


def _decorators(folder: str) -> dict[str, Callable[..., Any]]:
    cache = import_module("diskcache_community").Cache(
        f"{folder}/diskcache", eviction_policy="none", cull_limit=0, size_limit=1 << 50
    )
    memory = import_module("joblib").Memory(f"{folder}/joblib", verbose=0)
    stash = import_module("hashstash").HashStash(root_dir=f"{folder}/hashstash")
    return {DISKCACHE: cache.memoize(), JOBLIB: memory.cache, HASHSTASH: stash.stashed_result}


def lines(table: Table, folder: str, mib: int, rounds: int) -> None:
    """Read a blob of JSON Lines: as `stream` does, and as a loop over a file with the same parser."""
    table.bare, table.names = LOOP, [STREAM, LOOP]
    os.makedirs(folder)
    count = _write_lines(f"{folder}/rows.jsonl", mib * MIB)
    # The first round brings the file into memory.
    for number in range(rounds + 1):
        for name in _turned(table.names, number):
            job = json.dumps({"act": name, "folder": folder})
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.door", job],
                cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout)
            assert found["count"] == count, f"{name} reads {found['count']} of {count} lines"
            if number:
                table.add(name, "s", found["seconds"])
                table.add(name, "MiB held", found["extra"])
    shutil.rmtree(folder)


def _write_lines(path: str, size: int) -> int:
    rows = "".join(f"{json.dumps({**_document(number), 'text': 'x' * 100})}\n" for number in range(10_000))
    data, times = rows.encode(), -(-size // len(rows))
    with open(path, "wb") as file:
        for _ in range(times):
            file.write(data)
    return times * 10_000


def _read_lines(job: dict[str, str]) -> dict[str, float]:
    decode = import_module("msgspec.json").Decoder().decode
    with holdall.get_store(job["folder"], serialization_mode="json") as store:
        child.reset_peak()
        before, begin, count = child.memory("VmRSS"), time.process_time(), 0
        if job["act"] == STREAM:
            for _ in store.stream("rows.jsonl"):
                count += 1
        else:
            with open(f"{job['folder']}/rows.jsonl", "rb") as file:
                for line in file:
                    decode(line)
                    count += 1
        seconds = time.process_time() - begin
    return {"seconds": seconds, "extra": child.memory("VmHWM") - before, "count": count}


def start(table: Table, folder: str, rounds: int, peers: bool) -> None:
    """The processor time of a command that lists a folder with one file."""
    os.makedirs(f"{folder}/data")
    with open(f"{folder}/data/a.txt", "wb") as file:
        file.write(b"1")
    commands = {
        COMMAND: [sys.executable, "-m", "holdall", "keys", "--store", f"{folder}/data"],
        PYTHON: [sys.executable, "-c", "pass"],
    }
    if peers:
        commands[THEIRS] = [f"{os.path.dirname(sys.executable)}/anystore", "keys"]
    table.bare, table.names = PYTHON, [*commands]
    environment = {**installed(f"{folder}/compiled"), "ANYSTORE_URI": f"{folder}/data"}
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for number in range(-1, rounds):
        for name in _turned(table.names, number):
            before = children_seconds()
            done = subprocess.run(commands[name], cwd=root, env=environment, capture_output=True, check=True)
            if number >= 0:
                table.add(name, "ms", (children_seconds() - before) * 1e3)
            assert name == PYTHON or done.stdout == b"a.txt\n", done.stdout


SECTIONS = ("door raw", "door json", "door cached", "door lines", "door start")

Promise = tuple[str, str, str | None, bool]
"""What, the goal, what was measured, and whether it was reached."""


def promises(tables: Sequence[Table]) -> Iterator[Promise]:
    """Yield what the front door has promised to reach."""
    sections = {section: [each for each in tables if each.section == section] for section in SECTIONS}
    for table in sections["door raw"] or [None]:
        yield from _raw(table)
    table = next(iter(sections["door json"]), None)
    for column in JSON_CALLS:
        ratio = table.ratio(JSON, column) if table else None
        yield (
            f"ValueStore, json: {column}",
            "<= 1.1x msgspec and the store",
            _times(ratio),
            (ratio or 9) <= 1.1,
        )
        for peer in (ANYSTORE, BLOB_DICT):
            if table and peer in table.names:
                yield _against(table, JSON, peer, column, "ValueStore, json")
    table = next(iter(sections["door cached"]), None)
    for column in HITS:
        ratio = table.ratio(CACHED, column) if table else None
        yield f"@cached: a hit, {column}", "<= 1.5x the store's get", _times(ratio), (ratio or 9) <= 1.5
        for peer in (DISKCACHE, JOBLIB, HASHSTASH):
            if table and peer in table.names:
                yield _against(table, CACHED, peer, column, "@cached: a hit")
    table = next(iter(sections["door lines"]), None)
    ratio = table.ratio(STREAM, "s") if table else None
    shown = None if ratio is None else f"{1 / ratio:.2f}x"
    yield "stream of JSON Lines", ">= 0.8x the loop over a file", shown, (ratio or 9) <= 1 / 0.8
    held = table.median(STREAM, "MiB held") if table else None
    shown = None if held is None else f"{held:.1f} MiB"
    yield "stream of JSON Lines: memory", "<= 8 MiB, whatever the size", shown, held is not None and held <= 8
    table = next(iter(sections["door start"]), None)
    spent = table.median(COMMAND, "ms") if table else None
    shown = None if spent is None else f"{spent:.0f} ms"
    yield "holdall keys: start", "< 250 ms of processor time", shown, (spent or 999) < 250


def _raw(table: Table | None) -> Iterator[Promise]:
    where = f", {table.medium}" if table else ""
    for column in CALLS:
        added, ratio = (table.added(RAW, column), table.ratio(RAW, column)) if table else (None, None)
        shown = None if added is None or ratio is None else f"{added:+.2f} us, {ratio:.2f}x"
        reached = added is not None and ratio is not None and (added <= 3 or ratio <= 2)
        yield f"ValueStore, raw: {column}{where}", "<= 3 us more than the store, or 2x it", shown, reached
    for column in COPIES:
        ours, theirs = (table.median(each, column) if table else None for each in (RAW, STORE))
        more = None if ours is None or theirs is None else ours - theirs
        shown = None if more is None else f"{abs(more):.2f}"
        yield f"ValueStore, raw: {column}{where}", "<= 1 more than the store's", shown, (more or 0) <= 1.01


def _times(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.2f}x"


def _against(table: Table, ours: str, peer: str, column: str, what: str) -> Promise:
    ratio = table.ratio(peer, column, ours)
    return f"{what}, {column}, beside {peer}", "faster", _times(ratio), (ratio or 0) > 1


if __name__ == "__main__":
    print(json.dumps(_read_lines(json.loads(sys.argv[1]))))
