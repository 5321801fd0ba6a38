"""What each layer adds to a get and a put, beside the codecs alone, and a cache hit beside the bare cache."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import holdall
from benchmarks.alone import alone
from benchmarks.contenders import LAYERS
from benchmarks.table import Table

BASE = "holdall MemoryStore"
CHAIN = "a method that calls a method of a dict"
TRANSPARENT = ("PrefixStore", "ReadOnlyStore")
"""The layers that pass keys and bytes on, and may add 0.4 microseconds to a get and one to a put."""


class _Method:
    """What any layer in Python pays at least: one more method call on the way to a dict."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def _put(self, key: str, data: bytes) -> None:
        self.blobs[key] = data

    def put(self, key: str, data: bytes) -> None:
        self._put(key, data)

    def _get(self, key: str) -> bytes | None:
        return self.blobs.get(key)

    def get(self, key: str) -> bytes | None:
        return self._get(key)


class _Row(NamedTuple):
    name: str
    put: Callable[[str, bytes], object]
    get: Callable[[str], object]


def _heard(change: object) -> None:
    """A callback that does nothing."""


def _over_memory() -> list[tuple[str, holdall.Store, holdall.Store]]:
    """Each layer with the store to put through and the one to get through."""
    rows: list[tuple[str, holdall.Store, holdall.Store]] = []

    def add(store: holdall.Store, name: str = "", through: holdall.Store | None = None) -> None:
        rows.append((name or type(store).__name__, store if through is None else through, store))

    def memory() -> holdall.Store:
        return holdall.MemoryStore()

    add(memory(), BASE)
    add(memory() / "logs")
    below = memory()
    add(holdall.ReadOnlyStore(below), through=below)
    add(holdall.RoutedStore({"logs/": memory(), "": memory()}))
    add(holdall.ExpiringStore(memory(), 3600))
    add(holdall.NotifyingStore(memory(), _heard))
    add(holdall.TracedStore(memory()))
    add(holdall.ChecksumStore(memory()))
    for codec in ("zstd", "lz4", "gzip"):
        add(holdall.CompressedStore(memory(), codec=codec), f"CompressedStore, {codec}")
    add(holdall.EncryptedStore(memory(), os.urandom(32)))
    add(holdall.FanoutStore([memory(), memory()]), "FanoutStore, two replicas")
    add(holdall.CachingStore(memory(), memory()), 'CachingStore, fresh="etag"')
    add(holdall.CachingStore(memory(), memory(), fresh="immutable"), 'CachingStore, fresh="immutable"')
    add(
        holdall.CachingStore(memory(), memory(), holdall.CacheMode.WRITE_BACK, sync_on_close=False),
        "CachingStore, write-back",
    )
    return rows


def over_memory(table: Table, count: int, rounds: int) -> None:
    """Fill a table with put and get of 1 KiB through each layer over a `MemoryStore`."""
    keys = [f"key-{number:05}" for number in range(count)]
    # Half noise and half zeros: compressible, as most blobs are.
    data = os.urandom(512) + bytes(512)
    chain = _Method()
    rows = [_Row(name, through.put, store.get) for name, through, store in _over_memory()]
    rows += [_Row(name, codec.put, codec.get) for name, codec in alone().items()]
    rows.append(_Row(CHAIN, chain.put, chain.get))
    table.names = [row.name for row in rows]
    gc.collect()
    gc.disable()
    try:
        for number in range(-1, rounds):
            at = (number + 1) % len(rows)
            for row in rows[at:] + rows[:at]:
                begin = time.perf_counter()
                for key in keys:
                    row.put(key, data)
                middle = time.perf_counter()
                for key in keys:
                    row.get(key)
                end = time.perf_counter()
                if number >= 0:
                    table.add(row.name, "put", (middle - begin) * 1e6 / count)
                    table.add(row.name, "get", (end - middle) * 1e6 / count)
    finally:
        gc.enable()


def transparent(table: Table, store: holdall.Store, rounds: int) -> None:
    """Fill a table with put and get of 1 KiB of a store, bare and through each transparent layer.

    What such a layer adds is little beside the call below it, so each reads and writes the same blobs in many
    short rounds, and processor time is measured, to which other programs add less.
    """
    keys = [f"key-{number:03}" for number in range(100)]
    whole = [f"logs/{key}" for key in keys]
    data = os.urandom(1024)

    def puts(put: Callable[[str, bytes], object], some: list[str]) -> None:
        for key in some:
            put(key, data)

    def gets(get: Callable[[str], object], some: list[str]) -> None:
        for key in some:
            get(key)

    prefixed, readonly = store / "logs", holdall.ReadOnlyStore(store)
    turns: dict[str, list[tuple[str, Callable[[], None]]]] = {
        "put": [
            (table.bare, partial(puts, store.put, whole)),
            (TRANSPARENT[0], partial(puts, prefixed.put, keys)),
        ],
        "get": [
            (table.bare, partial(gets, store.get, whole)),
            (TRANSPARENT[0], partial(gets, prefixed.get, keys)),
            (TRANSPARENT[1], partial(gets, readonly.get, whole)),
        ],
    }
    table.names = [table.bare, *TRANSPARENT]
    table.fail(TRANSPARENT[1], "put", "it refuses every put")
    gc.collect()
    gc.disable()
    try:
        for number in range(-1, rounds):
            for column, rows in turns.items():
                at = (number + 1) % len(rows)
                for name, act in rows[at:] + rows[:at]:
                    begin = time.thread_time()
                    act()
                    spent = time.thread_time() - begin
                    if number >= 0:
                        table.add(name, column, spent * 1e6 / len(keys))
    finally:
        gc.enable()
        store.close()


def hits(table: Table, make: Callable[[str], holdall.Store], folder: str, count: int, rounds: int) -> None:
    """Fill a table with a get of 1 KiB from a cache store, bare and as a hit of a `CachingStore` over it.

    The source is a `MemoryStore`, so that what freshness costs beside the hit is the layer's own work.
    """
    keys = [f"key-{number:05}" for number in range(count)]
    source = holdall.MemoryStore(dict.fromkeys(keys, os.urandom(1024)))
    bare = make(f"{folder}/bare")
    bare.put_many(dict(source.items()))
    calls: dict[str, Callable[[str], object]] = {table.bare: bare.get}
    opened = [bare]
    freshness = {'"immutable"': "immutable", "an hour": 3600, '"etag"': "etag"}
    for number, (words, fresh) in enumerate(freshness.items()):
        cache = make(f"{folder}/{number}")
        caching = holdall.CachingStore(source, cache, fresh=fresh)
        opened += [caching, cache]
        for key in keys:
            caching.get(key)
        calls[f"a hit, fresh: {words}"] = caching.get
    table.names = list(calls)
    rows = list(calls.items())
    gc.collect()
    gc.disable()
    try:
        for number in range(-1, rounds):
            at = (number + 1) % len(rows)
            for name, get in rows[at:] + rows[:at]:
                begin = time.perf_counter()
                for key in keys:
                    get(key)
                spent = time.perf_counter() - begin
                if number >= 0:
                    table.add(name, "get", spent * 1e6 / count)
    finally:
        gc.enable()
        for store in opened:
            store.close()


__all__ = ["BASE", "CHAIN", "LAYERS", "TRANSPARENT", "hits", "over_memory", "transparent"]
