"""Libraries that take a file system of fsspec read and write our stores: the bytes, not only the names."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import dask.dataframe as dd
import duckdb
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import zarr
from upath import UPath

from holdall import BlobExistsError, FilesystemStore, IntegrityError, MemoryStore, SqliteStore, Store
from holdall.interop.fsspec import HoldallFileSystem
from holdall.testing import Corrupting

FRAME = pd.DataFrame({"year": [2024, 2025, 2025], "text": ["a", "é", "z"], "x": [1.5, -2.0, 0.25]})


# pyarrow and DuckDB leave it to Python to close the files that they read.
UNCLOSED = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning",
    "ignore:Exception ignored in. <_io:pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(autouse=True)
def registered() -> None:
    # As the entry points of an installed holdall do.
    for protocol in HoldallFileSystem.protocol:
        fsspec.register_implementation(protocol, HoldallFileSystem, clobber=True)


@pytest.fixture(params=["memory", "files", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    makers = {"memory": MemoryStore, "files": FilesystemStore, "sqlite": SqliteStore}
    place = () if request.param == "memory" else (tmp_path / "store",)
    with makers[request.param](*place) as made:
        yield made


@UNCLOSED
def test_pandas(store: Store) -> None:
    options = {"store": store}
    FRAME.to_csv("holdall://frames/a.csv", index=False, storage_options=options)
    assert store["frames/a.csv"] == FRAME.to_csv(index=False).encode()
    pd.testing.assert_frame_equal(pd.read_csv("holdall://frames/a.csv", storage_options=options), FRAME)
    FRAME.to_parquet("holdall://frames/a.parquet", storage_options=options)
    pd.testing.assert_frame_equal(
        pd.read_parquet("holdall://frames/a.parquet", storage_options=options), FRAME
    )
    FRAME.to_csv("holdall://frames/a.csv.gz", index=False, storage_options=options)
    pd.testing.assert_frame_equal(pd.read_csv("holdall://frames/a.csv.gz", storage_options=options), FRAME)


def test_urls_that_name_the_store(tmp_path: Path) -> None:
    url = f"holdall+sqlite:///{tmp_path}/data.db#frames/a.csv"
    FRAME.to_csv(url, index=False)
    pd.testing.assert_frame_equal(pd.read_csv(url), FRAME)
    with SqliteStore(tmp_path / "data.db") as store:
        assert list(store) == ["frames/a.csv"]
    fs, path = fsspec.url_to_fs(url)
    assert (path, fs.unstrip_protocol(path)) == ("frames/a.csv", url)
    assert fsspec.open_files(f"holdall+sqlite:///{tmp_path}/data.db#frames/*.csv")[0].path == path
    text = tmp_path / "folder" / "a.txt"
    with fsspec.open(f"holdall+file://{text}", "w") as file:
        file.write("hello")
    assert text.read_text() == "hello"


@UNCLOSED
def test_pyarrow(store: Store) -> None:
    fs = HoldallFileSystem(store)
    table = pa.table({"key": list(range(1000)), "part": [n % 3 for n in range(1000)]})
    ds.write_dataset(table, "base", filesystem=fs, format="parquet", partitioning=["part"])
    assert len([key for key in store if key.startswith("base/")]) == 3
    found = ds.dataset("base", filesystem=fs, partitioning=["part"]).to_table().sort_by("key")
    assert found.column("key").to_pylist() == list(range(1000))
    pq.write_table(table, "one.parquet", filesystem=fs)
    assert pq.read_table("one.parquet", filesystem=fs).equals(table)


@UNCLOSED
def test_duckdb(store: Store) -> None:
    with duckdb.connect() as connection:
        connection.register_filesystem(HoldallFileSystem(store))
        connection.execute(
            "COPY (SELECT range AS n, range % 3 AS part FROM range(100)) TO 'holdall://a.parquet'"
        )
        assert connection.execute("SELECT sum(n) FROM 'holdall://a.parquet'").fetchone() == (4950,)
        connection.execute(
            "COPY (SELECT range AS n, range % 3 AS part FROM range(100)) TO 'holdall://parts' "
            "(FORMAT parquet, PARTITION_BY (part))"
        )
        found = connection.execute(
            "SELECT part, count(*) FROM 'holdall://parts/*/*.parquet' GROUP BY part ORDER BY part"
        )
        assert found.fetchall() == [(0, 34), (1, 33), (2, 33)]


def test_zarr(store: Store) -> None:
    array = zarr.open(
        "holdall://arrays/a",
        mode="w",
        shape=(100,),
        chunks=(10,),
        dtype="f8",
        storage_options={"store": store},
    )
    array[:] = np.arange(100.0)
    again = zarr.open("holdall://arrays/a", mode="r", storage_options={"store": store})
    assert np.array_equal(again[:], np.arange(100.0))


def test_a_pickle_is_the_same_place(tmp_path: Path) -> None:
    fs = HoldallFileSystem(SqliteStore(tmp_path / "data.db"))
    fs.pipe("a", b"1")
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat("a") == b"1"
    assert again == fs
    assert hash(again) == hash(fs)
    assert HoldallFileSystem(MemoryStore()) != HoldallFileSystem(MemoryStore())


def test_modes_of_writing(store: Store) -> None:
    fs = HoldallFileSystem(store)
    fs.pipe_file("a", b"1", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file("a", b"2", mode="create")
    with pytest.raises(BlobExistsError), fs.open("a", "xb") as file:
        file.write(b"3")
    assert fs.cat("a") == b"1"
    with contextlib.suppress(ZeroDivisionError), fs.open("a", "wb") as file:
        file.write(b"%d" % (1 / 0))
    assert fs.cat("a") == b"1"
    assert fs.cat_file("a", -1) == b"1"
    with pytest.raises(FileNotFoundError):
        fs.cat("absent")
    with pytest.raises(FileNotFoundError):
        fs.info("a/../b")
    fs.pipe("d/e", b"")
    with pytest.raises(IsADirectoryError):
        fs.rm("d")
    assert fs.exists("d/e")


def test_ranges_of_several_files(store: Store) -> None:
    fs = HoldallFileSystem(store)
    store.update({"a": b"0123456789", "b": b"abc"})
    assert fs.cat_ranges(["a", "b", "a"], [0, -2, 8], [2, None, 99]) == [b"01", b"bc", b"89"]
    assert fs.cat_ranges(["a", "b"], 1, 2) == [b"1", b"b"]
    found = fs.cat_ranges(["a", "absent"], 0, 1)
    assert found[0] == b"0"
    assert isinstance(found[1], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["a", "absent"], 0, 1, on_error="raise")


def test_transactions(store: Store) -> None:
    fs = HoldallFileSystem(store)
    fs.pipe("old", b"before")
    with contextlib.suppress(ZeroDivisionError), fs.transaction:
        fs.pipe("old", b"after")
        with fs.open("new", "wb") as file:
            file.write(b"new")
        fs.pipe("never", b"%d" % (1 / 0))
    assert dict(store.items()) == {"old": b"before"}
    with fs.transaction:
        fs.pipe("old", b"after")
        with fs.open("new", "wb") as file:
            file.write(b"new")
        assert dict(store.items()) == {"old": b"before"}
    assert dict(store.items()) == {"old": b"after", "new": b"new"}
    fs.pipe("later", b"1")
    assert store["later"] == b"1"


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@UNCLOSED
def test_dask(tmp_path: Path) -> None:
    options = {"store": f"sqlite:///{tmp_path}/data.db"}
    frame = dd.from_pandas(pd.DataFrame({"x": range(100)}), npartitions=4)
    frame.to_parquet("holdall://frame", storage_options=options)
    with SqliteStore(tmp_path / "data.db") as store:
        assert len(store) == 4
        assert dd.read_parquet("holdall://frame", storage_options={"store": store}).x.sum().compute() == 4950


@pytest.mark.filterwarnings("ignore:UPath 'holdall")
def test_upath(tmp_path: Path) -> None:
    path = UPath("holdall://a/b.txt", store=MemoryStore())
    path.write_text("hello")
    assert (path.read_text(), path.parent.joinpath("c").exists()) == ("hello", False)
    assert [each.name for each in path.parent.iterdir()] == ["b.txt"]
    url = UPath(f"holdall+sqlite:///{tmp_path}/data.db#x/y.txt")
    url.write_bytes(b"1")
    with SqliteStore(tmp_path / "data.db") as store:
        assert dict(store.items()) == {"x/y.txt": b"1"}


def test_a_store_that_corrupts_every_read_is_noticed() -> None:
    """What these tests compare are bytes that went through the store."""
    options = {"store": Corrupting(MemoryStore(), rate=1)}
    FRAME.to_parquet("holdall://a.parquet", storage_options=options)
    with pytest.raises((pa.ArrowInvalid, IntegrityError)):
        pd.read_parquet("holdall://a.parquet", storage_options=options)
    FRAME.to_csv("holdall://a.csv", index=False, storage_options=options)
    with contextlib.suppress(IntegrityError):
        found = pd.read_csv("holdall://a.csv", storage_options=options, encoding="latin-1")
        assert not found.equals(FRAME)
