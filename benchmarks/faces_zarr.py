"""Arrays that zarr keeps in stores of holdall, against its own stores of the same files and server."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import holdall
from benchmarks.faces import Ground
from benchmarks.table import Table

FILES, SQLITE, LOCAL = "holdall, a FilesystemStore", "holdall, a SqliteStore", "zarr's LocalStore"
BUCKET, OBJECTS = "holdall, a BucketStore", "zarr's ObjectStore over obstore"
KIB = 1024
SIZES, CODECS = (1, 64), ("raw", "zstd")
"""The size of a chunk in KiB, and how it is compressed; zstd is what zarr does by default."""
CALLS = ("write", "read")
CHUNKS = 5
"""How many chunks an array has, for each call of a sample."""


def measure(ground: Ground) -> None:
    """Arrays are written whole and read whole, each time in a store of its own."""
    _files(ground)
    if ground.first:
        _bucket(ground)


def _columns(codecs: tuple[str, ...]) -> list[str]:
    return [f"{call} {size} KiB {codec}" for codec in codecs for size in SIZES for call in CALLS]


def _files(ground: Ground) -> None:
    storage: Any = import_module("zarr.storage")
    face: Any = import_module("holdall.interop.zarr").ZarrStore
    title = f"An array of {CHUNKS * ground.calls:,} chunks that zarr keeps in files, {ground.place}"
    table = ground.table(title, "us of processor time a chunk", _columns(CODECS))
    table.bare = LOCAL
    makers: dict[str, Callable[[str], Any]] = {
        FILES: lambda place: face(holdall.FilesystemStore(place)),
        SQLITE: lambda place: face(holdall.SqliteStore(f"{place}/data.db")),
        LOCAL: storage.LocalStore,
    }
    for column in table.columns:
        table.goal(f"zarr, a FilesystemStore: {column}, {ground.place}", FILES, column, 1)
    for kept, name in ground.samples(table, makers):
        for codec in CODECS:
            for size in SIZES:
                folder = ground.folder()
                store = makers[name](f"{folder}/arrays")
                _array(kept, name, store, size, codec, CHUNKS * ground.calls, time.process_time)
                if isinstance(store, face):
                    store.store.close()
                shutil.rmtree(folder)


def _bucket(ground: Ground) -> None:
    storage: Any = import_module("zarr.storage")
    face: Any = import_module("holdall.interop.zarr").ZarrStore
    s3: Any = import_module("obstore.store").S3Store
    server, _, bucket = ground.bucket().rpartition("/")
    title = f"An array of {CHUNKS * ground.calls:,} chunks that zarr keeps in a bucket; SeaweedFS on loopback"
    table = ground.table(title, "us a chunk", _columns(("raw",)))
    table.bare = OBJECTS
    ours = holdall.BucketStore(f"s3://{bucket}/zarr", endpoint=server, region="us-east-1")
    options = {"endpoint": server, "client_options": {"allow_http": True}}
    makers: dict[str, Callable[[str], Any]] = {
        BUCKET: lambda place: face(ours / place),
        OBJECTS: lambda place: storage.ObjectStore(s3(bucket, prefix=f"zarr/{place}", **options)),
    }
    for column in table.columns:
        table.goal(f"zarr, a BucketStore: {column}", BUCKET, column, 1)
    number = 0
    for kept, name in ground.samples(table, makers):
        for size in SIZES:
            number += 1
            store = makers[name](f"{number}")
            _array(kept, name, store, size, "raw", CHUNKS * ground.calls, time.perf_counter)
            ours.delete_prefix(f"{number}/")
    ours.close()


def _array(
    table: Table, name: str, store: Any, size: int, codec: str, chunks: int, timer: Callable[[], float]
) -> None:
    """Note what a chunk takes, of an array that is written whole and read whole."""
    zarr: Any = import_module("zarr")
    numpy: Any = import_module("numpy")
    items = size * KIB // 8
    data = numpy.random.default_rng(15).integers(0, 1000, chunks * items).astype("f8")
    compressors = None if codec == "raw" else "auto"
    array = zarr.create_array(store, shape=data.shape, chunks=(items,), dtype="f8", compressors=compressors)
    found: list[Any] = []
    for call, act in (
        ("write", partial(array.__setitem__, slice(None), data)),
        ("read", lambda: found.append(array[:])),
    ):
        gc.collect()
        gc.disable()
        begin = timer()
        act()
        spent = timer() - begin
        gc.enable()
        table.add(name, f"{call} {size} KiB {codec}", spent / chunks * 1e6)
    assert numpy.array_equal(found[0], data), name
