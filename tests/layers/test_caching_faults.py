"""Caches and sources that fail, processes that are killed, and processes that share a cache."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

import pytest
from tests.caches import FRESH, MIB, Broken, back, entries
from tests.effort import effort
from tests.forks import forked, succeeds

from holdall import (
    BlobNotFoundError,
    FilesystemStore,
    MemoryStore,
    SqliteStore,
    StoreUnavailableError,
)
from holdall.layers.caching import CacheMode, CachingStore
from holdall.testing import Flaky, Slow


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_a_cache_that_is_down_fails_no_read(fresh: Any, size: int, caplog: pytest.LogCaptureFixture) -> None:
    source, cache = MemoryStore({"a": b"1" * size}), Broken(MemoryStore())
    store = CachingStore(source, cache, fresh=fresh, max_bytes=10 * MIB)
    cache.down = True
    assert store["a"] == b"1" * size
    assert store.get_range("a", 1, 4) == b"111"
    assert store.info("a").size == size
    assert store.stats().errors > 0
    assert caplog.records[0].name == "holdall.layers.caching"
    if fresh == "etag":
        store["a"] = b"2"
        assert source["a"] == store["a"] == b"2"
        del store["a"]
    else:
        with pytest.raises(StoreUnavailableError):
            store["a"] = b"2"
        with pytest.raises(StoreUnavailableError):
            del store["a"]
        assert source["a"] == b"1" * size, "nothing was touched"


@pytest.mark.parametrize("fresh", FRESH)
def test_a_cache_that_fails_halfway_through_a_stream(fresh: Any) -> None:
    data = os.urandom(3 * MIB)
    source, inner = MemoryStore({"a": data}), MemoryStore()
    assert CachingStore(source, inner, fresh=fresh)["a"] == data
    store = CachingStore(source, Flaky(inner, rate=0.5, seed=3), fresh=fresh)
    for _ in range(30):
        assert b"".join(store.chunks("a")) == data
        assert store.get_range("a", 5, 2 * MIB) == data[5 : 2 * MIB]


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("size", [0, 1, 1000, 131072, 131073, 500_000, 3 * MIB])
def test_a_damaged_copy_is_a_miss(fresh: Any, size: int) -> None:
    rng = random.Random(size)
    data = rng.randbytes(size)
    source, cache = MemoryStore({"a": data}), MemoryStore()
    store = CachingStore(source, cache, fresh=fresh)
    assert store["a"] == data
    (name,) = entries(cache)
    good = cache[name]
    bad: list[bytes] = [b"", b"x", good[:-1], good[: len(good) // 2], good + b"x", b"\0" * len(good)]
    for _ in range(20):
        at, bit = rng.randrange(len(good)), 1 << rng.randrange(8)
        bad.append(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
    if size > 400_000:
        frame = 131072 + 4
        head = len(good) - size - 4 * -(-size // 131072)
        bad.append(good[: head + frame])
        bad.append(good[:head] + good[head + frame :])
        swapped = good[head + frame : head + 2 * frame] + good[head : head + frame]
        bad.append(good[:head] + swapped + good[head + 2 * frame :])
    for damaged in bad:
        cache[name] = damaged
        assert store["a"] == data
        cache[name] = damaged
        assert b"".join(store.chunks("a")) == data
        cache[name] = damaged
        assert store.get_range("a", size // 2) == data[size // 2 :]
    assert store["a"] == data
    store.invalidate()
    other = CachingStore(MemoryStore({"b": b"not a's"}), cache, fresh=fresh)
    assert other["b"] == b"not a's"
    cache[name] = cache[entries(cache)[0]]
    assert store["a"] == data, "the copy is another key's"


def test_it_leaves_other_keys_of_the_cache_alone() -> None:
    cache = MemoryStore({"mine": b"1", "cached-": b"2", "cached-x": b"3", "dirty-" + "z" * 40: b"4"})
    before = dict(cache)
    for mode in CacheMode:
        store = CachingStore(MemoryStore({"a": b""}), cache, mode, max_bytes=500)
        for number in range(20):
            store[f"k{number}"] = b"x" * 50
            assert store[f"k{number}"] == b"x" * 50
        store.sync()
        store.clear()
        store.sync()
        store.invalidate()
        store.close()
    left = {key: data for key, data in cache.items() if not key.startswith(("recency-", "sent-"))}
    assert left == before


FAULTS = [
    (mode, fresh, faults) for mode in ("write-through", "write-back") for fresh in FRESH for faults in "scb"
]


@pytest.mark.parametrize(("mode", "fresh", "faults"), FAULTS)
def test_what_was_acknowledged_is_right_or_was_reported(
    mode: Any, fresh: Any, faults: str, caplog: pytest.LogCaptureFixture
) -> None:
    """10,000 operations in each mode with a source (s), a cache (c) or both (b) that fail at random."""
    caplog.set_level(logging.CRITICAL)
    for seed in range(4):
        run_with_faults(mode, fresh, faults, seed, 10_000 // (3 * 4) + 1)


def run_with_faults(mode: Any, fresh: Any, faults: str, seed: int, operations: int) -> None:
    source, cache = MemoryStore(), MemoryStore()

    def opened(number: int) -> CachingStore:
        return CachingStore(
            Flaky(source, 0.15, number) if faults in "sb" else source,
            Flaky(cache, 0.15, number + 1) if faults in "cb" else cache,
            mode,
            fresh=fresh,
            max_bytes=60_000 if seed % 2 else None,
            sync_on_close=False,
        )

    rng = random.Random(f"{mode}{fresh}{faults}{seed}")
    store = opened(seed)
    # For each key what it may hold: more than one value where a call failed, and was thus reported.
    held: dict[str, set[bytes | None]] = {f"k{number}": {None} for number in range(6)}
    for number in range(operations):
        key = rng.choice(list(held))
        tried: set[bytes | None] = set()
        data = b"%d-" % number + rng.randbytes(rng.choice((5, 3000, 200_000 if number % 8 == 0 else 50)))
        try:
            match rng.randrange(10):
                case 0 | 1 | 2:
                    tried = {data}
                    body = data if rng.random() < 0.5 else iter([data[:3], data[3:]])
                    store.put(key, body)
                    held[key] = tried
                case 3:
                    tried = {None}
                    store.delete(key)
                    held[key] = tried
                case 4:
                    tried = held[key]
                    if len(tried) > 1:
                        continue
                    (old,) = tried
                    tried = {(old or b"") + b"+"}
                    store.modify(key, lambda now: now + b"+", default=b"")
                    held[key] = tried
                case 5 if mode == "write-back":
                    report = store.sync()
                    assert not report.conflicts, "nobody else writes"
                case 6:
                    for listed in store.list():
                        assert held[listed.key] != {None}, "what was deleted is listed"
                case 7:
                    start = rng.randrange(4)
                    part = store.get_range(key, start)
                    assert part in {value[start:] for value in held[key] if value is not None}
                case _:
                    found = store.get(key)
                    assert found in held[key], f"{key} holds {found!r}"
                    held[key] = {found}
        except BlobNotFoundError:
            assert None in held[key]
        except StoreUnavailableError:
            # It may have been done.
            held[key] = held[key] | tried
        if number % 40 == 39:
            store = opened(number)
    calm = CachingStore(source, cache, mode, fresh=fresh)
    for key, values in held.items():
        assert calm.get(key) in values
    if mode == "write-back":
        seen = dict(calm)
        assert calm.sync().clean
        assert dict(source) == seen
    if fresh == "etag" or mode == "write-back":
        assert dict(calm) == dict(source)


PROGRAM = textwrap.dedent(
    """
    import json, os, random, sys
    from holdall import FilesystemStore, SqliteStore
    from holdall.layers.caching import CachingStore
    place, seed, journal, fresh = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    store = CachingStore(
        FilesystemStore(place + "/source"), SqliteStore(place + "/cache.sqlite"), "write-back",
        fresh=fresh, max_bytes=[None, 30_000][seed % 2], sync_on_close=False, jobs=3,
    )
    rng = random.Random(seed)
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def say(word):
        os.write(file, json.dumps(word).encode() + b"\\n")
    number = 0
    while True:
        number += 1
        key = f"k{rng.randrange(12)}"
        choice = rng.randrange(6)
        if choice < 3:
            data = b"%d/%d:" % (seed, number) + bytes([number % 256]) * rng.choice((10, 5000, 300_000))
            say([key, data[: data.index(b":")].decode() + f"*{len(data)}"])
            store.put(key, data)
        elif choice == 3:
            say([key, None])
            store.delete(key)
        elif choice == 4:
            store.get(key)
            continue
        else:
            store.sync("raise")
            continue
        say("done")
    """
)


def told(data: bytes | None) -> str | None:
    """What the journal calls a value, which must be whole."""
    if data is None:
        return None
    name, _, rest = data.partition(b":")
    assert rest == rest[:1] * len(rest)
    assert int(name.split(b"/")[1]) % 256 == rest[0]
    return f"{name.decode()}*{len(data)}"


@pytest.mark.parametrize("fresh", ["etag", "immutable"])
def test_a_killed_write_back_loses_nothing_that_was_acknowledged(fresh: Any, tmp_path: Path) -> None:
    """Kills at random moments of puts, deletes and syncs, in two kinds of freshness."""
    rng = random.Random()
    known: dict[str, str | None] = {}
    acknowledged = interrupted = 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for number in range(200):
        if number >= effort(50, 12) and acknowledged and interrupted:
            break
        journal = tmp_path / f"journal-{number}"
        words = [sys.executable, "-c", PROGRAM, str(tmp_path), str(number), str(journal), fresh]
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 60
            while not (journal.exists() and journal.stat().st_size) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(rng.random() * 0.1)
            process.kill()
            errors = process.stderr.read().decode() if process.stderr else ""
        assert process.returncode == -signal.SIGKILL, errors
        pending: dict[str, str | None] = {}
        for line in journal.read_text().splitlines():
            word = json.loads(line)
            if word == "done":
                known |= pending
                acknowledged, pending = acknowledged + 1, {}
            else:
                pending = {word[0]: word[1]}
        interrupted += bool(pending)
        source, cache = FilesystemStore(tmp_path / "source"), SqliteStore(tmp_path / "cache.sqlite")
        for key in source:
            told(source[key])
        with source, cache, back(source, cache, fresh=fresh) as store:
            for key in {*known, *pending}:
                found = told(store.get(key))
                assert found in {known.get(key), pending.get(key, known.get(key))}
                known[key] = found
            if number % 2:
                report = store.sync("raise")
                assert report.clean, report
                assert store.dirty() == {}
                assert {key: told(source.get(key)) for key in known} == known
                assert set(source) == {key for key, value in known.items() if value is not None}
            else:
                store._sync_on_close = False
    assert acknowledged > 0
    assert interrupted > 0, "none was killed while it wrote"


WRITER = textwrap.dedent(
    """
    import os, random, sys, time
    from holdall import FilesystemStore, SqliteStore
    from holdall.layers.caching import CachingStore
    place, name, fresh = sys.argv[1], sys.argv[2], sys.argv[3]
    fresh = fresh if fresh == "etag" else float(fresh)
    source, cache = SqliteStore(place + "/source.sqlite"), FilesystemStore(place + "/" + name)
    store = CachingStore(source, cache, fresh=fresh)
    rng = random.Random(name)
    journal = os.open(place + "/" + name + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    mine = "ab"[name == "two"]
    while not os.path.exists(place + "/" + ("one", "two")[name == "one"] + ".log"):
        time.sleep(0.001)
    number = 0
    while number < int(sys.argv[4]):
        # Each writes keys of its own, in rising numbers, and reads those of the other.
        key = f"{rng.randrange(3)}"
        if rng.random() < 0.4:
            number += 1
            pad = b" " * rng.choice((1, 200_000 if number % 5 == 0 else 7))
            if number % 3:
                store[mine + key] = b"%d" % number + pad
            else:
                store[mine + key] = iter([b"%d" % number, pad])
            word = f"w {mine}{key} {time.monotonic_ns()} {number}"
        else:
            other = rng.choice("ab")
            begun = time.monotonic_ns()
            found = store.get(other + key)
            word = f"r {other}{key} {begun} {0 if found is None else int(found)}"
        os.write(journal, word.encode() + b"\\n")
    """
)


@pytest.mark.parametrize("fresh", ["etag", "0.05"])
def test_two_processes_read_nothing_older_than_was_promised(fresh: str, tmp_path: Path) -> None:
    """Both write through caches of their own over one source. A read gives what was acknowledged before it
    began, or, with an age, that long before."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", WRITER]
    processes = [
        subprocess.Popen([*command, str(tmp_path), name, fresh, effort("2000", "400")], env=environment)
        for name in ("one", "two")
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    words = [
        line.split()
        for name in ("one", "two")
        for line in (tmp_path / f"{name}.log").read_text().splitlines()
    ]
    age = 0 if fresh == "etag" else int(float(fresh) * 1e9)
    # A key is written by one process, in rising numbers, so that the newest is the last.
    writes: dict[str, list[tuple[int, int]]] = {}
    for what, key, moment, number in words:
        if what == "w":
            writes.setdefault(key, []).append((int(moment), int(number)))

    def newest(key: str, moment: int) -> int:
        made = writes.get(key, [])
        at = bisect_left(made, (moment, 0))
        return made[at - 1][1] if at else 0

    assert all(made == sorted(made, key=lambda each: each[1]) == sorted(made) for made in writes.values())
    reads = old = 0
    for what, key, moment, number in words:
        if what == "r":
            reads += 1
            assert int(number) >= newest(key, int(moment) - age), "a read gave what was older than promised"
            old += int(number) < newest(key, int(moment))
    assert reads > 100
    assert fresh == "etag" or old > 0, "with an age, copies are served while they may be"


def test_a_fork_inherits_no_lock(tmp_path: Path) -> None:
    source = Slow(SqliteStore(tmp_path / "source.sqlite"), 0.2)
    source["a"] = b"1"
    store = CachingStore(source, SqliteStore(tmp_path / "cache.sqlite"), fresh="immutable", max_bytes=10**6)
    thread = threading.Thread(target=lambda: store["a"])
    thread.start()
    while not store._copies.flights:
        time.sleep(0.001)

    def work() -> None:
        assert store["a"] == b"1"

    child = forked(work)
    thread.join()
    succeeds(child)
