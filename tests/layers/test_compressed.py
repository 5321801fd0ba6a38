"""Compressed blobs, of which ranges can be read."""

import gzip
import io
import pickle
import random
import shutil
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import lz4.frame
import pytest
from tests.effort import effort

from holdall import (
    Can,
    ChecksumStore,
    FilesystemStore,
    IntegrityError,
    InvalidArgumentError,
    MemoryStore,
    MissingDependencyError,
    Store,
    StoreUnavailableError,
)
from holdall.layers.codecs import CODECS as CODEC
from holdall.layers.codecs import ENTRY
from holdall.layers.compressed import CompressedStore
from holdall.layers.layer import Transparent
from holdall.store import Info, Piece
from holdall.testing import Counting, Flaky, Limited, StoreSuite, race


class TestZstdOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return CompressedStore(MemoryStore(name=str(place)))


CODECS = ("zstd", "lz4", "gzip")
codecs = pytest.mark.parametrize("codec", CODECS)
MIB = 1 << 20


def text(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size // 2 + 1).hex().encode()[:size]


DATA = text(3 * MIB + 12_345)
NOISE = random.Random(0).randbytes(100)


def by_library(codec: str, stored: bytes) -> bytes:
    if codec == "gzip":
        return gzip.decompress(stored)
    if codec == "lz4":
        with lz4.frame.open(io.BytesIO(stored)) as file:
            return file.read()
    try:
        zstd: Any = import_module("compression.zstd")
    except ImportError:
        zstd = import_module("backports.zstd")
    return zstd.decompress(stored)


@codecs
@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 524_288, 3 * MIB + 12_345])
def test_the_blob_below_is_a_plain_file(codec: str, size: int) -> None:
    below = MemoryStore()
    store = CompressedStore(below, codec)
    store["key"] = DATA[:size]
    assert by_library(codec, below["key"]) == DATA[:size]
    store["noise"] = noise = random.Random(1).randbytes(size)
    assert by_library(codec, below["noise"]) == noise


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 12_345])
def test_the_programs_decompress_it(codec: str, size: int, tmp_path: Path) -> None:
    below = FilesystemStore(tmp_path)
    name = {"zstd": "data.zst", "lz4": "data.lz4", "gzip": "data.gz"}[codec]
    CompressedStore(below, codec)[name] = DATA[:size]
    assert shutil.which(codec), f"this test asks the program {codec}; as root: apt-get install {codec}"
    test = subprocess.run([codec, "-t", tmp_path / name], capture_output=True, check=False)
    assert test.returncode == 0, test.stderr
    assert (
        subprocess.run([codec, "-dc", tmp_path / name], capture_output=True, check=True).stdout == DATA[:size]
    )


def test_the_seek_table_is_the_one_that_is_specified() -> None:
    below = MemoryStore()
    CompressedStore(below)["key"] = DATA
    stored = below["key"]
    count, descriptor, magic = struct.unpack("<IBI", stored[-9:])
    # The last entry is that of an empty frame, whose checksum is of the table's end.
    assert (count, descriptor, magic) == (14, 0x80, 0x8F92EAB1)
    head = len(stored) - 9 - 12 * count - 8
    assert struct.unpack("<II", stored[head : head + 8]) == (0x184D2A5E, 12 * count + 9)
    at = plain = 0
    for taken, size, _ in struct.iter_unpack("<III", stored[head + 8 : -9]):
        assert by_library("zstd", stored[at : at + taken]) == DATA[plain : plain + size]
        at, plain = at + taken, plain + size
    assert (at, plain) == (head, len(DATA))


@codecs
def test_it_compresses(codec: str) -> None:
    below = MemoryStore()
    store = CompressedStore(below, codec)
    data = b"all is well, and has been for a while\n" * 100_000
    assert store.put("key", data).size == len(data)
    assert below.info("key").size < len(data) / 50
    assert store["key"] == data


@codecs
def test_what_does_not_shrink_grows_little(codec: str) -> None:
    below = MemoryStore()
    levels = {"zstd": (1, 3, 19), "lz4": (0, 12), "gzip": (1, 6, 9)}[codec]
    noise = random.Random(2).randbytes(2 * MIB)
    for level in levels:
        store = CompressedStore(below, codec, level)
        store["key"] = noise
        assert below.info("key").size < len(noise) * 1.001
        assert store["key"] == noise
        store["small"] = noise[:100]
        assert below.info("small").size < 100 + 100


@codecs
def test_a_higher_level_is_smaller(codec: str) -> None:
    below = MemoryStore()
    data = "".join(random.Random(3).choices(("alpha ", "beta ", "gamma ", "delta\n"), k=100_000)).encode()
    low, high = {"zstd": (1, 19), "lz4": (0, 12), "gzip": (1, 9)}[codec]
    CompressedStore(below, codec, low)["low"] = data
    CompressedStore(below, codec, high)["high"] = data
    assert below.info("high").size < below.info("low").size


def test_noise_costs_gzip_little() -> None:
    noise, dense = random.Random(4).randbytes(4 * MIB), text(4 * MIB)
    store = CompressedStore(MemoryStore(), "gzip", 9)

    def seconds(data: bytes) -> float:
        begun = time.process_time()
        store["key"] = data
        return time.process_time() - begun

    assert min(seconds(noise) for _ in range(3)) < min(seconds(dense) for _ in range(3)) / 2


@codecs
def test_ranges_read_their_frames_only(codec: str) -> None:
    below = Counting(MemoryStore())
    store = CompressedStore(below, codec)
    noise = random.Random(5).randbytes(10 * MIB)
    store["key"] = noise
    for start, stop in ((0, 1), (262_143, 262_145), (5_000_000, 5_300_000), (-1, None), (-600_000, -599_999)):
        below.bytes_read = 0
        assert store.get_range("key", start, stop) == noise[start:stop]
        frames = (len(noise[start:stop]) >> 18) + 2
        assert below.bytes_read <= frames * 263_000 + 20_000
    with store.open("key") as file:
        file.seek(9_000_000)
        assert file.read(10) == noise[9_000_000:9_000_010]


@codecs
def test_sizes_are_plain_and_read_from_the_end(codec: str) -> None:
    below = Counting(MemoryStore())
    store = CompressedStore(below, codec)
    store.put_many({"a/1": DATA, "a/2": b"", "b": NOISE})
    below.bytes_read = 0
    assert [(info.key, info.size) for info in store.list()] == [("a/1", len(DATA)), ("a/2", 0), ("b", 100)]
    assert store.info("a/1").size == len(DATA)
    assert below.bytes_read <= 4 * 64
    below.calls["read"] = 0
    assert list(store) == ["a/1", "a/2", "b"]
    assert [child for child in store.children() if isinstance(child, str)] == ["a/"]
    assert below.calls["read"] == 1
    assert "b" in store
    assert "c" not in store
    store.clear()
    assert below.calls["read"] == 1
    assert store._digest("a/1", "sha256") is None


@pytest.mark.parametrize("ranges", [True, False])
def test_blobs_of_another_codec_are_read(ranges: bool) -> None:
    below = MemoryStore() if ranges else Limited(MemoryStore(), ~Can.RANGE)
    for codec in CODECS:
        CompressedStore(below, codec).put_many({f"{codec}/large": DATA, f"{codec}/small": b"x" * 100})
    for codec in CODECS:
        store = CompressedStore(below, codec)
        for other in CODECS:
            assert store[f"{other}/large"] == DATA
            assert store[f"{other}/small"] == b"x" * 100
            assert store.get_range(f"{other}/large", 1_000_000, 1_000_100) == DATA[1_000_000:1_000_100]
            assert store.info(f"{other}/large").size == len(DATA)


@codecs
def test_an_index_that_is_long(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the blob had 9,000 frames of full size: 2.2 GiB.
    for module in ("holdall.layers.codecs", "holdall.layers.compressed"):
        monkeypatch.setattr(f"{module}.FRAME", 128)
    below = Counting(MemoryStore())
    store = CompressedStore(below, codec, 1)
    data = text(9_000 * 128 - 5)
    assert store.put("key", data).size == len(data)
    assert store.info("key").size == len(data)
    assert store["key"] == data
    assert store.get_range("key", 1_000_000, 1_000_300) == data[1_000_000:1_000_300]
    assert by_library(codec, below["key"]) == data


@codecs
def test_a_frame_in_anothers_place_is_noticed(codec: str) -> None:
    below = MemoryStore()
    store = CompressedStore(below, codec)
    block = random.Random(6).randbytes(1 << 18)
    other = random.Random(7).randbytes(1 << 18)
    store["key"] = block + other
    stored = below["key"]
    # Noise takes the same room in every frame, so that two can change places.
    taken = next(size for size in range(1 << 18, 1 << 19) if stored[size : size + 4] == stored[:4])
    below["key"] = stored[taken : 2 * taken] + stored[:taken] + stored[2 * taken :]
    assert by_library(codec, below["key"]) == other + block
    for read in (lambda: store["key"], lambda: store.get_range("key", 0, 10)):
        with pytest.raises(IntegrityError, match="checksum"):
            read()


@codecs
def test_bombs_do_not_go_off(codec: str) -> None:
    below = MemoryStore()
    store = CompressedStore(below, codec)
    store["key"] = b"x" * 1000
    # In place of the frame, one that holds 100 MiB, and an index that tells of it.
    bomb = {
        "gzip": lambda: gzip.compress(bytes(100 * MIB), 9),
        "lz4": lambda: lz4.frame.compress(bytes(100 * MIB), content_checksum=True),
        "zstd": lambda: CODEC["zstd"].compress(bytes(100 * MIB), 3),
    }[codec]()
    engine = CODEC[codec]
    entries = ENTRY.pack(len(bomb), engine.check(bomb))
    below["key"] = bomb + engine.index(entries, 1000)
    tracemalloc.start()
    try:
        for read in (lambda: store["key"], lambda: store.get_range("key", 0, 10)):
            with pytest.raises(IntegrityError):
                read()
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_an_index_that_claims_much_allocates_nothing() -> None:
    below = MemoryStore()
    store = CompressedStore(below)
    below["key"] = bytes(100) + struct.pack("<II4sIBI", 1, 262_144, b"", 0xFFFFFFFF, 0x80, 0x8F92EAB1)
    for read in (lambda: store["key"], lambda: store.get_range("key", -5)):
        with pytest.raises(IntegrityError, match="index"):
            read()


def test_errors_say_what_is_wrong() -> None:
    below = MemoryStore({"plain": b"put without this layer"})
    store = CompressedStore(below)
    with pytest.raises(IntegrityError, match=r"'plain': .* put without a CompressedStore"):
        store.info("plain")
    assert [(info.key, info.size) for info in store.list()] == [("plain", 22)]
    assert "plain" in store
    assert store.delete("plain")


def test_copies_stay_below_where_they_can() -> None:
    store = CompressedStore(MemoryStore())
    assert Can.COPY in store.can
    store["a"] = DATA
    assert store.copy("a", "b") == store.info("b")
    assert store.move("b", "c") == store.info("c")
    assert store["c"] == DATA
    assert Can.COPY not in CompressedStore(Limited(MemoryStore(), ~Can.COPY)).can


def test_settings() -> None:
    below = MemoryStore(name="compressed")
    assert repr(CompressedStore(below)) == "CompressedStore(MemoryStore(name='compressed'))"
    again = pickle.loads(pickle.dumps(CompressedStore(below, "gzip", 9)))
    assert repr(again) == "CompressedStore(MemoryStore(name='compressed'), codec='gzip', level=9)"
    for codec, level in (("brotli", None), (None, None), (["zstd"], None)):
        with pytest.raises(InvalidArgumentError, match="'zstd', 'lz4', 'gzip'"):
            CompressedStore(below, cast(Any, codec), level)
    for codec, level in (("zstd", 23), ("zstd", 0), ("lz4", -1), ("gzip", 10), ("gzip", "9"), ("zstd", True)):
        with pytest.raises(InvalidArgumentError, match="level"):
            CompressedStore(below, codec, cast(Any, level))


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    below = MemoryStore()
    CompressedStore(below, "lz4")["key"] = b"1"
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setattr(
        "holdall.layers.codecs.CODECS", {name: type(codec)() for name, codec in CODEC.items()}
    )
    monkeypatch.setattr("holdall.layers.compressed.CODECS", {})
    for codec in ("lz4", "zstd"):
        with pytest.raises(MissingDependencyError, match=rf"holdall\[{codec}\]"):
            CompressedStore(below, codec)
    store = CompressedStore(below, "gzip")
    with pytest.raises(MissingDependencyError, match=r"holdall\[lz4\]"):
        _ = store["key"]
    store["other"] = b"2"
    assert store["other"] == b"2"


def test_threads_share_a_store() -> None:
    store = CompressedStore(MemoryStore())
    blobs = {f"{number}": text(400_000, number) for number in range(8)}

    def work(key: str) -> None:
        for _ in range(5):
            store[key] = blobs[key]
            assert store[key] == blobs[key]

    race(*(partial(work, key) for key in blobs))


@codecs
@pytest.mark.parametrize("size", [0, 1, 300, 600_000])
def test_one_flipped_bit_gives_no_other_bytes_and_no_other_size(codec: str, size: int) -> None:
    below = MemoryStore()
    store = CompressedStore(below, codec)
    plain = random.Random(8).randbytes(min(size, 300)) + bytes(max(0, size - 300))
    store["key"] = plain
    stored = below["key"]
    reads: dict[Callable[[], object], object] = {
        lambda: store["key"]: plain,
        lambda: store.get_many(["key"])["key"]: plain,
        lambda: b"".join(store.chunks("key")): plain,
        lambda: store.open("key").read(): plain,
        lambda: store.open("key").seek(0, 2): size,
        lambda: store.get_range("key", 100, 200): plain[100:200],
        lambda: store.get_range("key", size // 2): plain[size // 2 :],
        lambda: store.get_range("key", 0, size + 9): plain,
        lambda: store.info("key").size: size,
        lambda: [info.size for info in store.list()]: [size],
        lambda: [info.size for info in store.children() if isinstance(info, Info)]: [size],
    }
    every = range(8 * len(stored))
    bits = every[:: effort(1, 3)] if len(stored) < 500 else random.Random(9).sample(every, effort(300, 20))
    # The last bytes are those of an index.
    for bit in {*bits, *every[-8 * 64 :: effort(1, 8 if len(stored) >= 500 else 3)]}:
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        below["key"] = flipped
        for read, right in reads.items():
            with suppress(IntegrityError):
                assert read() == right


def test_no_error_below_becomes_a_size() -> None:
    memory = MemoryStore()
    CompressedStore(ChecksumStore(memory))["key"] = DATA
    memory["key"] = memory["key"][:-1] + b"x"
    for below in (ChecksumStore(memory), Flaky(memory, rate=1.0, seed=1)):
        store = CompressedStore(below)
        for listing in (
            lambda store: list(store.list()),
            lambda store: list(store.children()),
            lambda store: list(store.left_out()),
        ):
            with pytest.raises((IntegrityError, StoreUnavailableError)):
                listing(store)


class Replaced(Transparent):
    """A store whose blob is replaced after the next reads."""

    next: tuple[bytes, ...] = ()

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        found = super()._read(key, start, stop)
        if self.next:
            data, *rest = self.next
            self.next = tuple(rest)
            self._store.put(key, data)
        return found


@codecs
def test_a_long_index_is_of_the_same_version(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("holdall.layers.codecs", "holdall.layers.compressed"):
        monkeypatch.setattr(f"{module}.FRAME", 128)
    memory = MemoryStore()
    below = Replaced(memory)
    store = CompressedStore(below, codec, 1)
    versions = [text(300_000, seed) for seed in range(2)]
    stored: list[bytes] = []
    for data in versions:
        store["key"] = data
        stored.append(memory["key"])
    for replaced in range(5):
        memory["key"] = stored[0]
        below.next = tuple(stored[number % 2] for number in range(1, replaced + 1))
        assert store.get_range("key", 9, 999) in [data[9:999] for data in versions]
