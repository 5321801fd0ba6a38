"""The file system of fsspec over stores of holdall, against fsspec's local files and s3fs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import holdall
from benchmarks.contenders import MIB
from benchmarks.faces import Ground, clock
from benchmarks.table import Table

HOP, S3FS = "fsspec's hop to its event loop", "s3fs"
LOCAL, LOCAL_WHOLE = "fsspec's local files", "fsspec's local files, in a transaction"
MANY = 100
COLUMNS = ["cat", "pipe", "cat 1 MiB", "pipe 1 MiB", f"cat {MANY} files", f"pipe {MANY} files"]
"""Of 1 KiB where nothing else is said."""

Calls = tuple[
    Callable[[str], Any], Callable[[str, bytes], Any], Callable[[list[str]], Any], Callable[[Any], Any]
]
"""Get and put one, and many."""


def measure(ground: Ground) -> None:
    """Reads and writes of one file and of many."""
    folder = ground.folder()
    stores: dict[str, holdall.Store] = {"MemoryStore": holdall.MemoryStore()} if ground.first else {}
    stores |= {
        "FilesystemStore": holdall.FilesystemStore(f"{folder}/ours"),
        "SqliteStore": holdall.SqliteStore(f"{folder}/ours.db"),
    }
    os.mkdir(f"{folder}/theirs")
    local: Any = import_module("fsspec").filesystem("file")
    peers = {LOCAL: _file_system(local, f"{folder}/theirs/")}
    get, put, get_many, put_many = peers[LOCAL]
    whole = partial(_in_transaction, local)
    peers[LOCAL_WHOLE] = get, partial(whole, put), get_many, partial(whole, put_many)
    title = f"fsspec: files of 1 KiB and 1 MiB, and {MANY} files of 1 KiB in one call, {ground.place}"
    table = ground.table(title, "us of processor time a call", COLUMNS)
    _measure(ground, table, stores, peers, ground.calls, time.process_time, f", {ground.place}")
    for column in COLUMNS:
        for peer in (LOCAL, LOCAL_WHOLE) if column.startswith("pipe") else (LOCAL,):
            what = f"fsspec, a FilesystemStore: {column}, {ground.place}"
            table.goal(what, _face("FilesystemStore"), column, 1, peer)
    table.notes.append(
        f"{LOCAL} are written in place, and a reader may see a part; those in a transaction not"
    )
    if ground.peers and ground.first:
        _bucket(ground)


def _bucket(ground: Ground) -> None:
    endpoint, _, name = ground.bucket().rpartition("/")
    store = holdall.BucketStore(f"s3://{name}/ours", endpoint=endpoint, region="us-east-1")
    options: dict[str, Any] = {"endpoint_url": endpoint, "use_listings_cache": False}
    peers = {S3FS: _file_system(import_module("s3fs").S3FileSystem(**options), f"{name}/theirs/")}
    title = f"fsspec: objects of 1 KiB and 1 MiB, and {MANY} of 1 KiB in one call; SeaweedFS on loopback"
    table = ground.table(title, "us a call", COLUMNS)
    calls = max(2, ground.calls // 10)
    _measure(ground, table, {"BucketStore": store}, peers, calls, time.perf_counter)
    for column in COLUMNS:
        table.goal(f"fsspec, a BucketStore: {column}", _face("BucketStore"), column, 1, S3FS)


def _measure(
    ground: Ground,
    table: Table,
    stores: Mapping[str, holdall.Store],
    peers: Mapping[str, Calls],
    count: int,
    timer: Callable[[], float],
    place: str = "",
) -> None:
    fsspec: Any = import_module("holdall.interop.fsspec")
    calls: dict[str, Calls] = {**peers}
    for name, store in stores.items():
        calls[_face(name)] = _file_system(fsspec.HoldallFileSystem(store), "")
        calls[name] = store.__getitem__, store.put, store.get_many, store.put_many
    small, large = os.urandom(1024), os.urandom(MIB)
    few, many = max(2, count // 10), [f"many-{at}" for at in range(MANY)]
    for kept, name in ground.samples(table, [*calls, HOP]):
        if name == HOP:
            for column in COLUMNS:
                clock(kept, name, column, [_hop] * count, timer)
            continue
        get, put, get_many, put_many = calls[name]
        keys, large_keys = [f"key-{at}" for at in range(count)], [f"large-{at}" for at in range(few)]
        data = dict.fromkeys(many, small)
        clock(kept, name, "pipe", (partial(put, key, small) for key in keys), timer)
        clock(kept, name, "cat", (partial(get, key) for key in keys), timer)
        clock(kept, name, "pipe 1 MiB", (partial(put, key, large) for key in large_keys), timer)
        clock(kept, name, "cat 1 MiB", (partial(get, key) for key in large_keys), timer)
        clock(kept, name, COLUMNS[5], [partial(put_many, data)] * few, timer)
        clock(kept, name, COLUMNS[4], [partial(get_many, many)] * few, timer)
        assert (get(keys[0]), get(large_keys[0]), len(get_many(many))) == (small, large, MANY), name
    for name, store in stores.items():
        allowed = f"2x the {name}, and {HOP}"
        table.names.append(allowed)
        for column in COLUMNS:
            pairs = zip(table.samples[name, column], table.samples[HOP, column], strict=True)
            for bare, hop in pairs:
                table.add(allowed, column, 2 * bare + hop)
            where = "" if name == "MemoryStore" else place
            what = f"fsspec, a {name}: {column}{where}"
            table.goal(what, _face(name), column, 1, allowed, f"<= {allowed}")
        store.close()
    table.notes.append("a row that begins with 2x is computed from the others, in each round")


def _face(name: str) -> str:
    return f"holdall, fsspec over a {name}"


def _file_system(fs: Any, folder: str) -> Calls:
    def cat_many(names: list[str]) -> Any:
        return fs.cat([folder + name for name in names])

    def pipe_many(data: Mapping[str, bytes]) -> None:
        fs.pipe({folder + name: each for name, each in data.items()})

    if not folder:
        return fs.cat, fs.pipe, fs.cat, fs.pipe
    return (
        lambda name: fs.cat(folder + name),
        lambda name, each: fs.pipe(folder + name, each),
        cat_many,
        pipe_many,
    )


def _in_transaction(fs: Any, put: Callable[..., None], *arguments: Any) -> None:
    with fs.transaction:
        put(*arguments)


def _hop() -> None:
    asyn: Any = import_module("fsspec.asyn")
    asyn.sync(asyn.get_loop(), _nothing)


async def _nothing() -> None:
    pass
