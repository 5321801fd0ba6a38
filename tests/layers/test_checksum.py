"""A digest kept with each blob, and checked whenever the blob is read whole."""

import hashlib
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from holdall import (
    Can,
    IntegrityError,
    InvalidArgumentError,
    MemoryStore,
    MissingDependencyError,
    SqliteStore,
    Store,
)
from holdall.layers.checksum import ChecksumStore
from holdall.testing import Counting, Limited, StoreSuite


class TestChecksumOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return ChecksumStore(MemoryStore(name=str(place)))


NOISE = random.Random(1).randbytes(5_000_000)


def spoiled(store: Store, key: str, at: int) -> None:
    """Change one byte of a blob."""
    data = bytearray(store[key])
    data[at] ^= 1
    store[key] = data


def test_the_blob_below_begins_with_the_bytes() -> None:
    below = MemoryStore()
    store = ChecksumStore(below)
    for size in (0, 1, 100_000, 2_000_000):
        store["key"] = NOISE[:size]
        assert below["key"][:-48] == NOISE[:size]
        assert hashlib.sha256(NOISE[:size]).digest() == below["key"][-48:-16]
        assert store.info("key").size == size


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
@pytest.mark.parametrize("size", [5, 1_000_000, 5_000_000])
def test_every_way_to_read_a_whole_blob_is_checked(algorithm: str, size: int) -> None:
    below = Limited(MemoryStore(), ~Can.COPY)
    store = ChecksumStore(below, algorithm)
    store["a/key"] = NOISE[:size]
    spoiled(below, "a/key", size // 2)
    ways: list[Callable[[], object]] = [
        lambda: store["a/key"],
        lambda: store.get("a/key"),
        lambda: store.pop("a/key"),
        lambda: store.get_many(["a/key"]),
        lambda: dict(store.items()),
        lambda: list(store.values()),
        lambda: list(store.chunks("a/key")),
        lambda: store.open("a/key").read(),
        lambda: store.modify("a/key", bytes),
        lambda: store.setdefault("a/key", b""),
        lambda: store.copy("a/key", "copy"),
        lambda: store.move("a/key", "copy"),
        lambda: (store / "a")["key"],
    ]
    for way in ways:
        with pytest.raises(IntegrityError, match="aren't those that were written"):
            way()
    with pytest.raises(IntegrityError) as caught:
        list(store.chunks("a/key"))
    assert caught.value.key == "a/key"
    assert list(below) == ["a/key"]
    assert [error.key for error in store.verify()] == ["a/key"]
    assert list(store.verify("b")) == []


def test_a_copy_inside_the_medium_takes_the_digest_along() -> None:
    store = ChecksumStore(MemoryStore())
    assert Can.COPY in store.can
    store["a"] = NOISE
    assert store.copy("a", "b").size == store.move("a", "c").size == len(NOISE)
    assert store["b"] == store["c"] == NOISE
    assert not list(store.verify())


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(("wrote", "reads"), [("sha256", "blake3"), ("blake3", "sha256")])
def test_blobs_of_the_other_algorithm_are_read(wrote: str, reads: str, ranges: bool) -> None:
    below = MemoryStore() if ranges else Limited(MemoryStore(), ~Can.RANGE)
    for size in (0, 5, 5_000_000):
        ChecksumStore(below, wrote)["key"] = NOISE[:size]
        store = ChecksumStore(below, reads)
        assert store["key"] == store.get_many(["key"])["key"] == NOISE[:size]
        assert b"".join(store.chunks("key")) == NOISE[:size]
    spoiled(below, "key", 7)
    with pytest.raises(IntegrityError):
        _ = store["key"]


def test_digests_are_told_without_reading() -> None:
    below = Counting(MemoryStore())
    store = ChecksumStore(below)
    store["key"] = NOISE
    below.bytes_read = 0
    assert store._digest("key", "sha256") == hashlib.sha256(NOISE).hexdigest()
    assert store._digest("key", "blake3") is None
    assert below.bytes_read == 2 * 48
    assert ChecksumStore(Limited(below, ~Can.RANGE))._digest("key", "sha256") is None
    below["foreign"] = b"x"
    with pytest.raises(IntegrityError):
        store._digest("foreign", "sha256")


def test_looking_reads_nothing() -> None:
    below = Counting(MemoryStore())
    store = ChecksumStore(below)
    store["key"] = b"12345"
    assert [info.size for info in store.list()] == [5]
    assert store.info("key").size == 5
    assert [info.size for info in store.children() if not isinstance(info, str)] == [5]
    assert below.calls["read"] == 0


def test_verifying_beside_deletes() -> None:
    store = ChecksumStore(MemoryStore({"a": b"foreign", "b": b"foreign", "c": b"foreign"}))
    errors = store.verify()
    assert next(errors).key == "a"
    del store["b"]
    assert [error.key for error in errors] == ["c"]


def test_bulk_calls_stay_bulk(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as below:
        store = ChecksumStore(below)
        assert Can.BULK in store.can
        blobs = {f"{number:03}": NOISE[: number * 1000] for number in range(300)}
        assert {key: info.size for key, info in store.put_many(blobs).items()} == {
            key: len(data) for key, data in blobs.items()
        }
        assert store.get_many(blobs) == blobs
        assert store.delete_many(blobs) == 300


def test_settings() -> None:
    below = MemoryStore(name="checksums")
    assert repr(ChecksumStore(below)) == "ChecksumStore(MemoryStore(name='checksums'))"
    again = pickle.loads(pickle.dumps(ChecksumStore(below, "blake3")))
    assert repr(again) == "ChecksumStore(MemoryStore(name='checksums'), algorithm='blake3')"
    for wrong in ("md5", None, 1, ["sha256"]):
        with pytest.raises(InvalidArgumentError, match="'sha256', 'blake3'"):
            ChecksumStore(below, cast(Any, wrong))


def test_without_blake3(monkeypatch: pytest.MonkeyPatch) -> None:
    below = MemoryStore()
    ChecksumStore(below, "blake3")["key"] = b"1"
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(MissingDependencyError, match=r"holdall\[blake3\]"):
        ChecksumStore(below, "blake3")
    store = ChecksumStore(below)
    with pytest.raises(MissingDependencyError, match=r"holdall\[blake3\]"):
        _ = store["key"]
    store["other"] = b"2"
    assert store["other"] == b"2"
