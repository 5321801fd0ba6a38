"""A seek costs no request where the bytes are at hand: counted before a real server, by what reads archives
and tables."""

from __future__ import annotations

import contextlib
import io
import os
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.servers.moto import moto
from tests.servers.scripted import Scripted, scripted

from holdall import (
    BlobNotFoundError,
    BucketStore,
    Can,
    ChecksumStore,
    CompressedStore,
    ConcurrencyError,
    EncryptedStore,
    IntegrityError,
    MemoryStore,
    Store,
    StoreUnavailableError,
)
from holdall.files import BlobReader
from holdall.testing import Counting, Limited
from holdall.testing.samples import MIB, make_noise

KEY = bytes(range(32))


def make_archive(size: int) -> bytes:
    """An archive of four members of a size, which aren't compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.bin", make_noise(size, number))
    return file.getvalue()


def make_table() -> tuple[pa.Table, bytes]:
    """A table of 20 MiB in row groups of about 1 MiB."""
    columns = {name: list(range(number, number + 660_000)) for number, name in enumerate("abcd")}
    table, file = pa.table(columns), io.BytesIO()
    pq.write_table(
        table, file, row_group_size=30_000, compression="none", use_dictionary=False, write_statistics=False
    )
    return table, file.getvalue()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Scripted]:
    with moto() as url, scripted(int(url.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def bucket(proxy: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketStore]:
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    boto3.client("s3", endpoint_url=proxy.url, region_name="us-east-1").create_bucket(Bucket="seeks")
    with BucketStore("s3://seeks", endpoint=proxy.url, region="us-east-1") as store:
        yield store


@contextlib.contextmanager
def counted(proxy: Scripted, count: int) -> Iterator[None]:
    before = len(proxy.requests)
    yield
    made = proxy.requests[before:]
    assert len(made) == count, made


def test_an_archive_in_a_bucket(bucket: BucketStore, proxy: Scripted) -> None:
    bucket["small.zip"], bucket["large.zip"] = make_archive(MIB // 2), make_archive(6 * MIB)
    with counted(proxy, 1), bucket.open("small.zip") as file, zipfile.ZipFile(file) as archive:
        for name in reversed(archive.namelist()):
            assert archive.read(name) == make_noise(MIB // 2, int(name[0]))
    # The blob is opened, its contents are read at the end, and the first member comes with the stream.
    with counted(proxy, 2), bucket.open("large.zip") as file, zipfile.ZipFile(file) as archive:
        assert len(archive.namelist()) == 4
        with archive.open("0.bin") as member:
            assert member.read(1000) == make_noise(6 * MIB, 0)[:1000]
    # A member elsewhere: one request for its first MiB, two more as it is read on.
    with counted(proxy, 5), bucket.open("large.zip") as file, zipfile.ZipFile(file) as archive:
        assert archive.read("2.bin") == make_noise(6 * MIB, 2)


def test_a_table_in_a_bucket(bucket: BucketStore, proxy: Scripted) -> None:
    table, data = make_table()
    assert len(data) > 16 * MIB
    bucket["table.parquet"] = data
    with counted(proxy, 2), bucket.open("table.parquet") as file:
        assert pq.ParquetFile(file).metadata.num_rows == table.num_rows
    with counted(proxy, 3), bucket.open("table.parquet") as file:
        parquet = pq.ParquetFile(file)
        assert parquet.read_row_group(5).num_rows == 30_000
    with bucket.open("table.parquet") as file:
        before = len(proxy.requests)
        assert pq.read_table(file, use_threads=False).equals(table)
        # The stream asks for its parts side by side.
        assert len(proxy.requests) - before < len(data) / (2 * MIB)


def seeks(file: Any, size: int, rng: random.Random) -> Iterator[tuple[int, int]]:
    """What a reader may do: jumps, steps, and the end."""
    at = 0
    for _ in range(120):
        match rng.randrange(6):
            case 0:
                at = rng.randrange(size)
            case 1:
                at = max(0, size - rng.randrange(300_000))
            case 2:
                at = max(0, at - rng.randrange(3 * MIB))
            case 3:
                at = min(size + 5, at + rng.randrange(2 * MIB))
            case _:
                at = file.tell()
        yield at, rng.choice((0, 1, 100, 5000, 300_000, 1_500_000))


@pytest.mark.parametrize(
    "layer",
    [
        lambda store: store,
        ChecksumStore,
        CompressedStore,
        lambda store: EncryptedStore(store, KEY),
        lambda store: Limited(store, ~Can.RANGE),
    ],
    ids=["memory", "checksum", "compressed", "encrypted", "no range"],
)
def test_any_way_of_reading_gives_the_bytes_that_are_there(layer: Callable[[Store], Store]) -> None:
    data = make_noise(11 * MIB + 77)
    store = layer(MemoryStore())
    store["a"] = data
    rng = random.Random(5)
    with store.open("a") as file:
        for at, count in seeks(file, len(data), rng):
            assert file.seek(at) == at
            assert file.read(count) == data[at : at + count]
            assert file.tell() == max(at, min(at + count, len(data)))
        file.seek(3)
        assert file.read() == data[3:]
    raw = cast(Any, BlobReader(store, "a"))
    raw.seek(5 * MIB)
    assert raw.readall() == data[5 * MIB :]
    assert raw.read(1) == b""


def test_what_is_at_hand_costs_no_read() -> None:
    data = make_noise(20 * MIB)
    store = Counting(MemoryStore({"a": data}))

    def reads(*steps: tuple[int, int]) -> int:
        before = store.calls["read"]
        with store.open("a") as file:
            for at, count in steps:
                file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
                assert file.read(count) == data[at:][:count]
        return store.calls["read"] - before

    assert reads() == 1
    assert reads((0, 10), (5, 10), (0, 3 * MIB), (2 * MIB + 5, 10)) == 1
    assert reads((900_000, 10), (1_800_000, 10)) == 1, "a step forwards reads the stream on"
    assert reads((-22, 22), (-60_000, 100), (-100_000, 100_000), (0, 10)) == 2
    assert reads((10 * MIB, 10), (10 * MIB + 100, 10), (10 * MIB - 1, 2)) == 3
    # A long read after a jump: 1 MiB, then 4, then the rest.
    assert reads((2 * MIB, 18 * MIB)) == 1 + 3
    small = MemoryStore({"a": data[: 3 * MIB]})
    store = Counting(small)
    data = data[: 3 * MIB]
    assert reads((-22, 22), (0, 10), (2 * MIB, 10), (-3 * MIB, 3 * MIB)) == 1


def test_a_jump_to_another_version_is_an_error() -> None:
    store = MemoryStore({"a": make_noise(20 * MIB, 1)})
    for step in (lambda file: file.seek(-10, os.SEEK_END), lambda file: file.seek(10 * MIB)):
        with store.open("a") as file:
            assert file.read(1) == make_noise(20 * MIB, 1)[:1]
            store["a"] = bytes(20 * MIB)
            step(file)
            with pytest.raises(ConcurrencyError):
                file.read(1)
            store["a"] = make_noise(20 * MIB, 1)
        with store.open("a") as file:
            del store["a"]
            step(file)
            with pytest.raises(BlobNotFoundError):
                file.read(1)
            store["a"] = make_noise(20 * MIB, 1)


class Short(Limited):
    """A store that loses the end of what it returns."""

    def _read(self, key: str, start: int, stop: int | None) -> Any:
        info, pieces = super()._read(key, start, stop)
        return info, iter(list(pieces)[:-1])


def test_a_stream_that_ends_early_is_an_error() -> None:
    store = Short(MemoryStore({"a": bytes(9 * MIB)}), ~Can(0))
    for at in (0, 5 * MIB, 9 * MIB - 10):
        with store.open("a") as file:
            file.seek(at)
            with pytest.raises(IntegrityError, match="returned"):
                file.read()
            with pytest.raises(IntegrityError):
                file.read()


def test_a_failed_jump_can_be_made_again() -> None:
    class Away(Limited):
        away = False

        def _read(self, key: str, start: int, stop: int | None) -> Any:
            if self.away:
                raise StoreUnavailableError("the host is away")
            return super()._read(key, start, stop)

    data = make_noise(20 * MIB)
    store = Away(MemoryStore({"a": data}), ~Can(0))
    with store.open("a") as file:
        assert file.read(5) == data[:5]
        for at in (10 * MIB, 20 * MIB - 9):
            store.away = True
            file.seek(at)
            with pytest.raises(StoreUnavailableError):
                file.read(5)
            store.away = False
            assert file.read(5) == data[at : at + 5]


def test_an_interrupt_loses_no_byte() -> None:
    class Interrupted(Limited):
        armed = False

        def _read(self, key: str, start: int, stop: int | None) -> Any:
            info, pieces = super()._read(key, start, stop)

            def broken() -> Iterator[Any]:
                for piece in pieces:
                    yield piece
                    if self.armed:
                        self.armed = False
                        raise KeyboardInterrupt

            return info, broken()

    data = make_noise(9 * MIB)
    store = Interrupted(MemoryStore({"a": data}), ~Can(0))
    raw = BlobReader(store, "a")
    gathered = raw.read(MIB)
    store.armed = True
    with pytest.raises(KeyboardInterrupt):
        raw.read(MIB)
    while piece := raw.read(MIB):
        gathered += piece
    assert gathered == data


def test_bytes_that_were_changed_aren_t_returned_by_another_way() -> None:
    below = MemoryStore()
    store = ChecksumStore(below)
    store["a"] = make_noise(3 * MIB)
    stored = bytearray(below["a"])
    stored[-100] ^= 1
    below["a"] = stored
    with store.open("a") as file:
        with pytest.raises(IntegrityError):
            file.read()
        with pytest.raises(IntegrityError):
            file.read(10)


def test_ranges_in_a_bucket_come_side_by_side(bucket: BucketStore, proxy: Scripted) -> None:
    data = make_noise(12 * MIB)
    bucket["a"] = data
    ranges = [(at, at + 1000) for at in range(0, 12 * MIB, 2 * MIB)]
    near = [(at + 100_000, at + 100_010) for at in range(0, 12 * MIB, 2 * MIB)]
    wanted = [*ranges, *near]
    together = threading.Barrier(3, timeout=30)

    def wait(*_: object) -> None:
        # Each request waits for two others.
        together.wait()

    proxy.script = wait
    try:
        with counted(proxy, 6):
            assert bucket.get_ranges("a", wanted) == [data[low:high] for low, high in wanted]
    finally:
        proxy.script = lambda *_: None
    with counted(proxy, 2):
        assert bucket.get_ranges("a", [(-10, None)]) == [data[-10:]]
    with pytest.raises(BlobNotFoundError) as caught:
        bucket.get_ranges("b", ranges)
    assert caught.value.key == "b"
