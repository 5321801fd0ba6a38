"""The bytes of arrays, shards and metadata that zarr keeps in our stores."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import zarr
from tests.forks import forked, succeeds
from tests.servers.buckets import name_for
from tests.servers.ceph import CREDENTIALS
from tests.servers.seaweedfs import seaweedfs
from tests.servers.valkey import ValkeyServer
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import cpu, default_buffer_prototype

from holdall import (
    BucketStore,
    CachingStore,
    CompressedStore,
    FilesystemStore,
    MemoryStore,
    ReadOnlyStore,
    SqliteStore,
    Store,
    ValkeyStore,
    ZipStore,
)
from holdall.errors import InvalidKeyError, InvalidTypeError, StoreClosedError, StoreError
from holdall.interop.zarr import ZarrStore
from holdall.testing import Corrupting, Counting

pytestmark = pytest.mark.filterwarnings(
    # What zarr says of metadata that its specification lacks.
    "ignore::zarr.errors.ZarrUserWarning",
)


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, seaweedfs() as url:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="arrays")
        yield url


def opened(kind: str, place: Path, request: pytest.FixtureRequest) -> Store:
    match kind:
        case "files":
            return FilesystemStore(place)
        case "sqlite":
            return SqliteStore(place)
        case "zip":
            return ZipStore(place)
        case "valkey":
            return ValkeyStore(request.getfixturevalue("valkey").url, prefix=f"{place}:")
        case "s3":
            return BucketStore(f"s3://arrays/{name_for(place)}", endpoint=request.getfixturevalue("s3"))
        case _:
            return CachingStore(CompressedStore(SqliteStore(place)), MemoryStore()) / "a"


@pytest.fixture(params=["files", "sqlite", "zip", "valkey", "s3", "stack"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(request.param, tmp_path / "store", request) as made:
        yield made


def buffer(data: bytes) -> cpu.Buffer:
    return cpu.Buffer.from_bytes(data)


def check_shards(store: Store) -> None:
    """Write, read, grow and overwrite an array of shards; what is read is what NumPy has."""
    expected = np.arange(1200.0).reshape(40, 30)
    codec = ShardingCodec(
        chunk_shape=(5, 5), codecs=[BytesCodec(), ZstdCodec()], index_codecs=[BytesCodec(), Crc32cCodec()]
    )
    at = ZarrStore(store / "run")
    options: Any = {"filters": None, "compressors": None}
    array = zarr.create_array(
        at, name="x", shape=(40, 30), chunks=(20, 15), dtype="f8", serializer=codec, **options
    )
    array[:] = expected
    assert sorted(store.iterate_keys("run/x/c/")) == [
        f"run/x/c/{row}/{column}" for row in "01" for column in "01"
    ]
    array[3:17, 8:20] = expected[3:17, 8:20] = -1
    array[0:5, 0:5] = expected[0:5, 0:5] = 0  # what is as the fill value isn't kept
    array.append(np.ones((10, 30)), axis=0)
    expected = np.concatenate([expected, np.ones((10, 30))])
    again = zarr.open_array(ZarrStore(store / "run"), path="x", mode="r")
    assert np.array_equal(again[:], expected)
    for part in (np.s_[7:8, :], np.s_[:, 29], np.s_[18:23, 13:17], np.s_[::7, ::11], np.s_[49, 29]):
        assert np.array_equal(again[part], expected[part])
    array.resize((20, 15))
    assert sorted(store.iterate_keys("run/x/c/")) == ["run/x/c/0/0"]
    assert np.array_equal(zarr.open_array(at, path="x")[:], expected[:20, :15])


def test_shards(store: Store) -> None:
    check_shards(store)


def test_they_fail_over_a_store_that_corrupts_every_read() -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - of JSON, of zstd, of zarr, or an array that differs
        check_shards(Corrupting(MemoryStore(), rate=1))


RANGES: list[tuple[str, ByteRequest | None]] = [
    ("a", RangeByteRequest(2, 5)),
    ("b", None),
    ("a", OffsetByteRequest(90_000)),
    ("absent", RangeByteRequest(0, 1)),
    ("a", SuffixByteRequest(7)),
    ("absent", None),
    ("a", RangeByteRequest(2, 5)),
    ("b", SuffixByteRequest(0)),
    ("a", RangeByteRequest(50_000, 50_010)),
    ("b", SuffixByteRequest(99)),
    ("b", OffsetByteRequest(3)),
    ("a", None),
]


def partial_values(store: Store) -> list[bytes | None]:
    values = asyncio.run(ZarrStore(store).get_partial_values(default_buffer_prototype(), iter(RANGES)))
    return [None if value is None else value.to_bytes() for value in values]


def test_partial_values(store: Store) -> None:
    a, b = os.urandom(100_000), b"bbb"
    store.put_many({"a": a, "b": b})
    expected = [a[2:5], b, a[90_000:], None, a[-7:], None, a[2:5], b"", a[50_000:50_010], b, b"", a]
    assert partial_values(store) == expected


def test_ranges_of_a_blob_are_read_in_one_batch() -> None:
    store = Counting(MemoryStore({"a": bytes(range(250)) * 4}))
    wanted = [RangeByteRequest(at, at + 5) for at in range(0, 1000, 50)]

    async def ranges() -> list[Any]:
        found = ZarrStore(store).get_ranges("a", wanted, prototype=default_buffer_prototype())
        return [pair async for some in found for pair in some]

    found = asyncio.run(ranges())
    assert store.calls["read"] == 1
    assert [at for at, _ in found] == [*range(20)]
    assert all(data.to_bytes() == store["a"][at * 50 : at * 50 + 5] for at, data in found)
    del store["a"]
    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(ranges())
    assert [type(error) for error in caught.value.exceptions] == [FileNotFoundError]


def test_consolidated_metadata(store: Store) -> None:
    root = zarr.create_group(ZarrStore(store), attributes={"title": "Bücher"})
    for name in ("winter", "winter/snow", "summer"):
        group = root.create_group(name)
        group.create_array("depth", shape=(3,), chunks=(2,), dtype="i2")[:] = len(name)
    zarr.consolidate_metadata(ZarrStore(store))
    counted = Counting(store)
    found = zarr.open_consolidated(ZarrStore(counted))
    depths = {
        name: node[:].tolist() for name, node in found.members(max_depth=None) if isinstance(node, zarr.Array)
    }
    assert depths == {"winter/depth": [6] * 3, "winter/snow/depth": [11] * 3, "summer/depth": [6] * 3}
    assert found.attrs["title"] == "Bücher"
    # The metadata came with the root's; the rest are two chunks of each array.
    assert counted.calls["scan"] == 0
    del root["winter"]
    assert not list(store.iterate_keys("winter/"))
    assert sorted(zarr.open_group(ZarrStore(store), mode="r", use_consolidated=False).keys()) == ["summer"]


@pytest.mark.parametrize("store", ["files", "sqlite", "valkey", "s3"], indirect=True)
def test_two_processes_write_chunks_of_one_array(store: Store) -> None:
    at = ZarrStore(store)
    array = zarr.create_array(at, shape=(400,), chunks=(5,), dtype="i4")

    def write(begin: int) -> Callable[[], object]:
        def work() -> None:
            own = zarr.open_array(at, mode="r+")
            for start in range(begin * 5, 400, 10):
                own[start : start + 5] = start + 1

        return work

    children = [forked(write(begin)) for begin in (0, 1)]
    for child in children:
        succeeds(child)
    assert array[:].tolist() == [at - at % 5 + 1 for at in range(400)]


@pytest.mark.parametrize("store", ["files", "sqlite"], indirect=True)
def test_a_writer_that_is_killed_leaves_whole_chunks(store: Store) -> None:
    at = ZarrStore(store)
    array = zarr.create_array(at, shape=(8, 4096), chunks=(1, 4096), dtype="i4", compressors=None)

    def write() -> None:
        own = zarr.open_array(at, mode="r+")
        for number in range(1, 100_000):
            own[:] = number

    child = forked(write)
    while sum(1 for _ in store.iterate_keys("c/")) < 8:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the writer has failed"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = array[:]
    assert all(len(set(row)) == 1 and row[0] > 0 for row in found.tolist())
    array[:] = -1
    assert (array[:] == -1).all()


def test_modes() -> None:
    store = MemoryStore()
    at = ZarrStore(store / "run")
    for mode in ("r", "r+"):
        with pytest.raises(FileNotFoundError):
            zarr.open_array(at, mode=mode)
    array = zarr.open_array(at, mode="w-", shape=(4,), chunks=(2,), dtype="i4")
    array[:] = 7
    with pytest.raises(FileExistsError):
        zarr.open_array(at, mode="w-", shape=(4,), chunks=(2,), dtype="i4")
    zarr.open_array(at, mode="r+")[0] = 8
    zarr.open_array(at, mode="a")[1] = 9
    assert zarr.open_array(at, mode="r")[:].tolist() == [8, 9, 7, 7]
    for refuses in (zarr.open_array(at, mode="r"), zarr.open_array(ZarrStore(ReadOnlyStore(store / "run")))):
        with pytest.raises(ValueError, match="read-only"):
            refuses[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_array(ZarrStore(store / "run", read_only=True), mode="w", shape=(1,), dtype="i1")
    assert zarr.open_array(at, mode="w", shape=(4,), chunks=(2,), dtype="i4")[:].tolist() == [0] * 4
    assert list(store) == ["run/zarr.json"]


def test_wrong_arguments() -> None:
    store = MemoryStore()
    at = ZarrStore(store)
    for wrong in (5, None, {}, store.aio, at):
        with pytest.raises(InvalidTypeError, match="ZarrStore takes a store, or a URI"):
            ZarrStore(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Buffer of zarr, not bytes"):
        asyncio.run(at.set("a", b"x"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="byte_range"):
        asyncio.run(at.get("a", byte_range=(1, 2)))  # type: ignore[arg-type]
    with pytest.raises(InvalidKeyError):
        asyncio.run(at.set("a/../b", buffer(b"x")))
    store.close()
    with pytest.raises(StoreClosedError):
        zarr.open(at)


class Waiting(MemoryStore):
    """A near store that waits once."""

    inline, _near = False, True

    def __init__(self) -> None:
        super().__init__({"a": b"1"})
        self.threads: list[int] = []
        self.seconds = 0.0

    def _get(self, key: str) -> bytes | None:
        self.threads.append(threading.get_ident())
        time.sleep(self.seconds)
        return super()._get(key)


def test_a_near_store_that_waits_is_called_on_threads() -> None:
    store = Waiting()
    at = ZarrStore(store)

    async def read(times: int) -> None:
        await asyncio.gather(*(at.get("a") for _ in range(times)))

    async def main() -> None:
        here = threading.get_ident()
        store.seconds = 0.05
        await read(1)
        assert store.threads == [here]
        await read(3)
        assert here not in store.threads[1:]
        store.seconds = 0
        await read(200)
        assert here in store.threads[4:]

    asyncio.run(main())


def test_what_waits_for_a_server_leaves_the_loop_alone() -> None:
    store = Waiting()
    store._near, store.seconds = False, 0.01
    at = ZarrStore(store)
    assert not at._supports_sync_io
    asyncio.run(at.get("a"))
    assert store.threads != [threading.get_ident()]


@pytest.mark.parametrize("store", ["files", "sqlite", "stack"], indirect=True)
def test_a_body_that_waits_for_zarr_goes_on(store: Store) -> None:
    """What is written from a coroutine holds no lock that a call in the loop would wait for."""
    at = ZarrStore(store)

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(4):
            yield b"x" * 700_000
            await at.set(f"chunk-{number}", buffer(b"y"))
            assert await at.get("big") is None

    async def main() -> None:
        await store.aio.put("big", pieces())

    asyncio.run(asyncio.wait_for(main(), 60))
    assert len(store["big"]) == 2_800_000
    assert len(store) == 5


def test_the_loop_goes_on_while_another_writer_has_the_turn(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "a.db", timeout=20) as below:
        at = ZarrStore(CompressedStore(below) / "a")

        async def main() -> None:
            await at.set("a", buffer(b"1"))
            other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            calls = asyncio.gather(
                at.set("a", buffer(b"2")), at.delete("b"), at.set_if_not_exists("c", buffer(b"3"))
            )
            await asyncio.sleep(0.05)
            assert not calls.done()
            found = await at.get("a")
            assert found is not None
            assert found.to_bytes() == b"1"
            other.execute("COMMIT")
            other.close()
            await calls

        at._on_threads = 0
        asyncio.run(main())
        assert below.get("a/a") != below.get("a/c")


def test_which_calls_an_event_loop_makes_itself(tmp_path: Path) -> None:
    with FilesystemStore(tmp_path / "a") as files, SqliteStore(tmp_path / "a.db") as rows:
        for store, reads, writes in (
            (files, True, True),
            (CompressedStore(files) / "a", True, True),
            (FilesystemStore(tmp_path / "b", durable=True), False, False),
            (rows, True, False),
            (ReadOnlyStore(rows / "a"), True, False),
            (CachingStore(MemoryStore(), rows), False, False),
            (MemoryStore(), True, True),
        ):
            at = ZarrStore(store)
            assert (at._reads_here, at._writes_here) == (reads, writes), store


def test_an_error_of_the_store_comes_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no database, and longer than a header " * 50)
    with pytest.raises(StoreError):
        zarr.open(ZarrStore(SqliteStore(tmp_path / "file")))
