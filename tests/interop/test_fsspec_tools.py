"""Libraries that take a file system of fsspec read and write our stores: the bytes, not only the names."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import duckdb
import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import upath.registry
import zarr
from tests.interop.corrupted import noticed
from upath import UPath

from holdall import (
    FilesystemStore,
    InvalidArgumentError,
    MemoryStore,
    ReadOnlyError,
    ReadOnlyStore,
    SqliteStore,
    Store,
    UnsupportedOperation,
)
from holdall.interop.fsspec import HoldallFileSystem
from holdall.interop.upath import HoldallPath
from holdall.testing import Corrupting

FRAME = pd.DataFrame({"year": [2024, 2025, 2025], "text": ["a", "é", "z"], "x": [1.5, -2.0, 0.25]})


# pyarrow and DuckDB leave it to Python to close the files that they read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning",
    "ignore:Exception ignored in. <_io:pytest.PytestUnraisableExceptionWarning",
    "ignore:The inplace keyword",
)


@pytest.fixture(autouse=True)
def registered() -> None:
    # As the entry points of an installed holdall do.
    for protocol in HoldallFileSystem.protocol:
        fsspec.register_implementation(protocol, HoldallFileSystem, clobber=True)
        upath.registry.register_implementation(protocol, HoldallPath, clobber=True)


@pytest.fixture(params=["memory", "files", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    makers = {"memory": MemoryStore, "files": FilesystemStore, "sqlite": SqliteStore}
    place = () if request.param == "memory" else (tmp_path / "store",)
    with makers[request.param](*place) as made:
        yield made


def pandas_csv(store: Store) -> None:
    options = {"store": store}
    for name in ("frames/a.csv", "frames/a.csv.gz"):
        FRAME.to_csv(f"holdall://{name}", index=False, storage_options=options)
        found = pd.read_csv(f"holdall://{name}", storage_options=options)
        pd.testing.assert_frame_equal(found, FRAME)


def pandas_parquet(store: Store) -> None:
    options = {"store": store}
    FRAME.to_parquet("holdall://frames/a.parquet", storage_options=options)
    found = pd.read_parquet("holdall://frames/a.parquet", storage_options=options)
    pd.testing.assert_frame_equal(found, FRAME)


def pyarrow_table(store: Store) -> None:
    fs = HoldallFileSystem(store)
    table = pa.table({"key": list(range(1000))})
    pq.write_table(table, "one.parquet", filesystem=fs)
    assert pq.read_table("one.parquet", filesystem=fs).equals(table)


def pyarrow_dataset(store: Store) -> None:
    fs = HoldallFileSystem(store)
    table = pa.table({"key": list(range(1000)), "part": [n % 3 for n in range(1000)]})
    ds.write_dataset(table, "base", filesystem=fs, format="parquet", partitioning=["part"])
    assert len([key for key in store if key.startswith("base/")]) == 3
    found = ds.dataset("base", filesystem=fs, partitioning=["part"]).to_table().sort_by("key")
    assert found.column("key").to_pylist() == list(range(1000))


def duckdb_file(store: Store) -> None:
    with duckdb.connect() as connection:
        connection.register_filesystem(HoldallFileSystem(store))
        connection.execute("COPY (SELECT range AS n FROM range(100)) TO 'holdall://a.parquet'")
        assert connection.execute("SELECT sum(n) FROM 'holdall://a.parquet'").fetchone() == (4950,)


def duckdb_parts(store: Store) -> None:
    with duckdb.connect() as connection:
        connection.register_filesystem(HoldallFileSystem(store))
        connection.execute(
            "COPY (SELECT range AS n, range % 3 AS part FROM range(100)) TO 'holdall://parts' "
            "(FORMAT parquet, PARTITION_BY (part))"
        )
        found = connection.execute(
            "SELECT part, sum(n) FROM 'holdall://parts/*/*.parquet' GROUP BY part ORDER BY part"
        )
        assert found.fetchall() == [(0, 1683), (1, 1617), (2, 1650)]


def duckdb_partitions(store: Store) -> None:
    with duckdb.connect() as connection:
        connection.register_filesystem(HoldallFileSystem(store))
        connection.execute(
            "COPY (SELECT range AS n, ['a b', 'é', 'x%41/y=z'][range % 3 + 1] AS part FROM range(99)) "
            "TO 'holdall://parts' (FORMAT parquet, PARTITION_BY (part))"
        )
        found = connection.execute(
            "SELECT part, count(*) "
            "FROM read_parquet('holdall://parts/*/*.parquet', hive_partitioning = true) "
            "GROUP BY part ORDER BY part"
        )
        assert found.fetchall() == [("a b", 33), ("x%41/y=z", 33), ("é", 33)]


def dask_parquet(store: Store) -> None:
    options = {"store": store}
    frame = dd.from_pandas(pd.DataFrame({"x": range(100)}), npartitions=4)
    frame.to_parquet("holdall://frame", storage_options=options)
    assert len(store) == 4
    found = dd.read_parquet("holdall://frame", storage_options=options)
    assert len(found) == 100  # from the footers of the files, which Dask opens with an option of its own
    assert found.x.sum().compute() == 4950


def dask_csv(store: Store) -> None:
    options = {"store": store}
    frame = dd.from_pandas(pd.DataFrame({"x": range(100)}), npartitions=2)
    frame.to_csv("holdall://frame/*.csv", index=False, storage_options=options)
    assert sorted(store) == ["frame/0.csv", "frame/1.csv"]
    assert dd.read_csv("holdall://frame/*.csv", storage_options=options).x.sum().compute() == 4950


def polars_files(store: Store) -> None:
    fs = HoldallFileSystem(store)
    frame = pl.DataFrame({"x": range(100)})
    with fs.open("a.csv", "wb") as file:
        frame.write_csv(file)
    # Of an error in a file that it reads polars makes a panic, with a trace on stderr.
    assert pl.read_csv(fs.cat("a.csv")).equals(frame)


def zarr_array(store: Store) -> None:
    options: Any = {"storage_options": {"store": store}}
    array = zarr.open("holdall://arrays/a", mode="w", shape=(100,), chunks=(10,), dtype="f8", **options)
    array[:] = np.arange(100.0)
    again = zarr.open("holdall://arrays/a", mode="r", **options)
    assert np.array_equal(again[:], np.arange(100.0))


def upath_bytes(store: Store) -> None:
    path = UPath("holdall://a/b.txt", store=store)
    path.write_bytes(b"hello")
    assert path.read_bytes() == b"hello"


TOOLS = [
    pandas_csv,
    pandas_parquet,
    pyarrow_table,
    pyarrow_dataset,
    duckdb_file,
    duckdb_parts,
    duckdb_partitions,
    dask_parquet,
    dask_csv,
    polars_files,
    zarr_array,
    upath_bytes,
]


@pytest.mark.parametrize("use", TOOLS)
def test_it_reads_what_it_wrote(use: Callable[[Store], None], store: Store) -> None:
    use(store)


@pytest.mark.parametrize("use", TOOLS)
def test_it_notices_a_store_that_corrupts_every_read(use: Callable[[Store], None]) -> None:
    store = Corrupting(MemoryStore(), rate=1)
    with noticed(store):
        use(store)


def test_pandas_says_why_it_can_not_write() -> None:
    options = {"store": ReadOnlyStore(MemoryStore())}
    with pytest.raises(ReadOnlyError, match="is read-only, and can't"):
        FRAME.to_csv("holdall://a.csv", storage_options=options)


def test_partitions_in_the_store_of_a_uri(tmp_path: Path) -> None:
    fs = HoldallFileSystem(f"sqlite:///{tmp_path}/x.db")
    FRAME.to_parquet("parts/kind=a:1,b@c+d/a.parquet", filesystem=fs)
    with duckdb.connect() as connection:
        connection.register_filesystem(fs)
        found = connection.execute("SELECT DISTINCT kind FROM read_parquet('holdall://parts/*/*.parquet')")
        assert found.fetchall() == [("a:1,b@c+d",)]


def test_urls_with_patterns(tmp_path: Path) -> None:
    for place in (f"sqlite:///{tmp_path}/data.db#", f"file://{tmp_path}/data/"):
        for year in (2024, 2025):
            FRAME.query(f"year == {year}").to_csv(f"holdall+{place}frames/{year}/a.csv", index=False)
        url = f"holdall+{place}frames/*/a.csv"
        assert dd.read_csv(url).x.sum().compute() == -0.25
        with fsspec.open_files(url, "r") as files:
            assert [len(file.read().splitlines()) for file in files] == [2, 3]


def test_paths_of_universal_pathlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = UPath("holdall+sqlite:///x.db#dir/a.txt")
    path.write_text("hi")
    assert (path.read_text(), str(path), path.name) == ("hi", "holdall+sqlite:///x.db#dir/a.txt", "a.txt")
    (path.parent / "b" / "c#?.txt").write_bytes(b"1")
    assert [each.name for each in path.parent.iterdir()] == ["a.txt", "b"]
    assert sorted(map(str, path.parent.parent.rglob("*.txt"))) == [
        "holdall+sqlite:///x.db#dir/a.txt",
        "holdall+sqlite:///x.db#dir/b/c%23%3F.txt",
    ]
    moved = path.rename(path.parent / "z.txt")
    assert (path.exists(), moved.read_text()) == (False, "hi")
    assert UPath(str(moved)) == moved
    moved.unlink()
    with pytest.raises(FileNotFoundError):
        moved.unlink()
    with SqliteStore("x.db") as store:
        assert dict(store.items()) == {"dir/b/c#?.txt": b"1"}
    secret = UPath("holdall+valkey://:pw@127.0.0.1:1#a")
    assert "pw" not in f"{secret} {secret!r}"
    with pytest.raises(UnsupportedOperation, match="env:NAME"):
        pickle.dumps(secret)
    again = pickle.loads(pickle.dumps(path.parent / "b" / "c#?.txt"))
    assert again.read_bytes() == b"1"


def test_a_path_is_given_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = UPath("holdall+sqlite:///x.db#dir/a.txt")
    path.write_text("hi")
    for name in ("a", "other"):
        with pytest.raises(InvalidArgumentError, match="of another store"):
            path.rename(f"holdall+sqlite:///y.db#dir/{name}.txt")
    assert path.rename("holdall+sqlite:///x.db#dir/b.txt").read_text() == "hi"
    assert str(path.with_segments("holdall+sqlite:///x.db")) == "holdall+sqlite:///x.db"
    # The store of a file is its folder, and that of another one may be a folder in it.
    for name in ("a", "b"):
        file = UPath(f"holdall+file://{tmp_path}/files/a.txt")
        file.write_text("hi")
        renamed = file.rename(f"holdall+file://{tmp_path}/files/sub/{name}.txt")
        assert str(renamed) == f"holdall+file://{tmp_path}/files/sub/{name}.txt"
        assert (tmp_path / "files" / "sub" / f"{name}.txt").read_text() == "hi"
        assert not file.exists()
