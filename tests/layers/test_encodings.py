"""What each layer promises that stores bodies in another form: checksums, compression, encryption."""

import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import effort

from holdall import (
    ABSENT,
    BlobNotFoundError,
    Can,
    FilesystemStore,
    IntegrityError,
    InvalidKeyError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
)
from holdall.layers.checksum import ChecksumStore
from holdall.layers.compressed import CompressedStore
from holdall.layers.encrypted import EncryptedStore
from holdall.layers.keycheck import RECORD
from holdall.layers.layer import Transparent
from holdall.store import Info, Piece
from holdall.testing import Counting, Flaky, Limited

KEY, NAMES = bytes(range(32)), bytes(range(1, 33))


def blobs(below: Store) -> list[str]:
    """The keys below but for the record of an encrypted store."""
    return [key for key in below if key != RECORD]


LAYERS: dict[str, Callable[[Store], Store]] = {
    "sha256": ChecksumStore,
    "blake3": lambda below: ChecksumStore(below, "blake3"),
    "zstd": CompressedStore,
    "lz4": lambda below: CompressedStore(below, "lz4"),
    "gzip": lambda below: CompressedStore(below, "gzip", 1),
    "encrypted": lambda below: EncryptedStore(below, KEY),
    "encrypted names": lambda below: EncryptedStore(below, KEY, names=NAMES),
}
layers = pytest.mark.parametrize("layer", LAYERS)


def body(size: int, seed: object = 0) -> bytes:
    """Bytes that shrink to about half."""
    return random.Random(f"{size} {seed}").randbytes(size // 2 + 1).hex().encode()[:size]


@layers
def test_a_large_blob_is_held_once_after_another(layer: str, tmp_path: Path) -> None:
    store = LAYERS[layer](FilesystemStore(tmp_path))
    # Doesn't shrink.
    large, small = random.Random(1).randbytes(12 << 20), body(100)
    store.put_many({"large": large, "small": small})
    assert store["large"] == large
    tracemalloc.start()
    try:
        assert store["large"] == large
        assert tracemalloc.get_traced_memory()[1] < 1.7 * len(large)
    finally:
        tracemalloc.stop()
    assert store.get("absent") is None
    for key in ("small", "large", "small", "small", "large", "large", "small"):
        assert store[key] == (large if key == "large" else small)
    with pytest.raises(InvalidKeyError):
        store.get("../large")


SIZES = (0, 1, 100, 70_000, 600_000)


def changed(stored: bytes, how: str, at: float, by: float, noise: bytes) -> bytes:
    """The bytes below after an accident; `at` and `by` are shares of their length."""
    position = int(at * len(stored))
    length = 1 + int(by * by * (len(stored) - position))
    first, middle, last = stored[:position], stored[position : position + length], stored[position + length :]
    return {
        "flip": first + bytes(byte ^ 1 << length % 8 for byte in middle[:1]) + middle[1:] + last,
        "cut": first,
        "extend": stored + noise,
        "remove": first + last,
        "repeat": first + middle + middle + last,
        "turn": first + last + middle,
        "zero": first + bytes(len(middle)) + last,
        "noise": noise,
        "write": first + noise + stored[position + len(noise) :],
    }[how]


@layers
def test_changed_bytes_are_never_given_out(layer: str) -> None:
    below = MemoryStore()
    store = LAYERS[layer](below)
    stored: dict[int, bytes] = {}
    for size in SIZES:
        store["key"] = body(size)
        [name] = blobs(below)
        stored[size] = below[name]

    @settings(max_examples=effort(400, 120), derandomize=True, deadline=None, database=None)
    @given(
        st.sampled_from(SIZES),
        st.sampled_from(("flip", "cut", "extend", "remove", "repeat", "turn", "zero", "noise", "write")),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=200),
        st.integers(-50, 700_000),
    )
    def check(size: int, how: str, at: float, by: float, noise: bytes, start: int) -> None:
        right = body(size)
        below[name] = changed(stored[size], how, at, by, noise)
        for read in (
            lambda: store["key"],
            lambda: store.get_many(["key"])["key"],
            lambda: dict(store.items())["key"],
            lambda: b"".join(store.chunks("key", 1000)),
            lambda: store.open("key").read(),
        ):
            with suppress(IntegrityError):
                assert read() == right
        given_out: list[bytes] = []
        try:
            given_out.extend(store.chunks("key", 1000))
        except IntegrityError as error:
            assert error.key == "key"  # noqa: PT017
        if "sha" not in layer and "blake" not in layer:
            assert right.startswith(b"".join(given_out)), "a stream gave wrong bytes before it raised"
            if start >= -size:
                with suppress(IntegrityError):
                    assert store.get_range("key", start, start + 1000 if start >= 0 else None) == (
                        right[start : start + 1000] if start >= 0 else right[start:]
                    )
        with suppress(IntegrityError):
            assert store.info("key").key == "key"
        with suppress(IntegrityError):
            assert [info.key for info in store.list()] == ["key"]
        assert list(store.iterate_keys()) == ["key"]
        assert "key" in store

    check()
    assert store.delete("key")
    assert not blobs(below)


@layers
def test_every_bit_of_a_small_blob(layer: str) -> None:
    below = MemoryStore()
    store = LAYERS[layer](below)
    store["key"] = b"a few bytes"
    [name] = blobs(below)
    stored, noticed = below[name], 0
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        below[name] = flipped
        try:
            assert store["key"] == b"a few bytes"
        except IntegrityError as error:
            assert error.key == "key"  # noqa: PT017
            noticed += 1
    if "encrypted" in layer or layer in ("sha256", "blake3"):
        assert noticed == 8 * len(stored)
    else:
        assert noticed > 6 * len(stored)


@layers
def test_foreign_and_empty_blobs(layer: str) -> None:
    below = MemoryStore()
    store = LAYERS[layer](below)
    store["key"] = b"right"
    [name] = blobs(below)
    for foreign in (b"", b"x", b"foreign" * 100, bytes(3_000_000)):
        below[name] = foreign
        for read in (
            lambda: store["key"],
            lambda: list(store.chunks("key")),
            lambda: store.get_range("key", 0, 2),
            lambda: store.get_range("key", 5, 2),
            lambda: store.get_range("key", -1),
            lambda: store.get_many(["key"]),
            lambda: store.open("key").read(),
        ):
            with pytest.raises(IntegrityError) as caught:
                read()
            assert caught.value.key == "key"
    store["key"] = b"mended"
    assert store["key"] == b"mended"


class Replaced(Transparent):
    """A store whose blob is replaced after each of the next reads, before its bytes are asked for."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.next: list[tuple[str, bytes]] = []

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        found = super()._read(key, start, stop)
        if self.next:
            below, data = self.next.pop(0)
            self._store.put(below, data)
        return found


@layers
@pytest.mark.parametrize("ranges", [True, False])
def test_info_and_bytes_are_of_one_version(layer: str, ranges: bool) -> None:
    memory = MemoryStore()
    below = Replaced(memory if ranges else Limited(memory, ~Can.RANGE))
    store = LAYERS[layer](below)
    versions: list[tuple[str, bytes]] = []
    sizes = (3_000_000, 2_500_000, 70_000, 2_200_001, 10)
    whole: dict[int, bytes] = {}
    for size in sizes:
        whole[size] = body(size, "version")
        store["key"] = whole[size]
        [name] = blobs(memory)
        versions.append((name, memory[name]))
    for first in range(len(sizes)):
        for replaced in (0, 1, 3):
            for start, stop in ((0, None), (-9, None), (3, 9), (270_000, 270_009), (0, -1)):
                if (start, stop) != (0, None) and not ranges:
                    continue
                memory.put(*versions[first])
                below.next = [versions[(first + step) % len(sizes)] for step in range(1, replaced + 1)]
                info, pieces = store._read("key", start, stop)
                data = b"".join(pieces)
                assert data == whole[info.size][start:stop]
                below.next = []
                assert store["key"] in whole.values()


@layers
def test_a_store_below_without_ranges(layer: str) -> None:
    below = Limited(MemoryStore(), ~(Can.RANGE | Can.SWAP | Can.EXPIRE))
    store = LAYERS[layer](below)
    assert not store.can & (Can.RANGE | Can.SWAP | Can.EXPIRE)
    assert Can.CREATE in store.can
    for size in (0, 1, 100, 70_000, 5_000_000):
        data = body(size)
        store.put("key", [data[: size // 3], data[size // 3 :]])
        assert store["key"] == data
        assert store.info("key").size == size
        assert [info.size for info in store.list()] == [size]
        assert store.get_range("key", 0, 10) == data[:10]
        assert store.get_range("key", size // 2, size // 2 + 10) == data[size // 2 : size // 2 + 10]
        assert store.copy("key", "copy").size == size
        assert store.pop("copy") == data


@layers
def test_a_range_reads_little_below(layer: str) -> None:
    below = Counting(MemoryStore())
    store = LAYERS[layer](below)
    data = random.Random(1).randbytes(8 << 20)
    store["key"] = data
    for start, stop in ((5_000_000, 5_000_010), (0, 10), (-10, None)):
        before = below.bytes_read
        assert store.get_range("key", start, stop) == data[start:stop]
        assert below.bytes_read - before < 350_000


@layers
def test_looking_reads_little_below(layer: str) -> None:
    below = Counting(MemoryStore())
    store = LAYERS[layer](below)
    for number in range(50):
        store[f"key/{number:02}"] = body(50_000, number)
    below.bytes_read = 0
    below.calls["read"] = 0
    assert len(store) == len(list(store.children("key/"))) == 50
    assert "key/00" in store
    assert store.delete("key/00")
    assert store.delete_many(["key/01", "key/02"]) == 2
    assert below.bytes_read <= 50 * 64, "children needs the sizes, and no more"
    below.calls["read"] = 0
    assert list(store)
    assert "key/03" in store
    store.clear()
    assert below.calls["read"] == 0


@layers
def test_a_whole_small_blob_is_one_read_below(layer: str) -> None:
    below = Counting(MemoryStore())
    store = LAYERS[layer](below)
    store["key"] = body(1000)
    before = dict(below.calls)
    assert store["key"] == body(1000)
    assert {call: count - before[call] for call, count in below.calls.items() if count != before[call]} == {
        "read": 1
    }


@layers
def test_attributes_and_conditions_pass(layer: str) -> None:
    store = LAYERS[layer](MemoryStore())
    info = store.put("key", b"1", content_type="text/plain", ttl=60, expect=ABSENT, metadata={"owner": "ana"})
    assert info.content_type == "text/plain"
    assert store.info("key").metadata == next(store.list()).metadata == {"owner": "ana"}
    assert info == store.info("key") == next(store.list())
    assert store.copy("key", "copy").expires == info.expires
    assert store.modify("key", lambda old: old + b"2").content_type == "text/plain"
    assert store["key"] == b"12"


@layers
def test_a_file_is_encoded_as_it_is_written(layer: str, tmp_path: Path) -> None:
    store = LAYERS[layer](FilesystemStore(tmp_path))
    data = body(3_000_001)
    with store.open("key", "wb") as file:
        for at in range(0, len(data), 77_777):
            assert file.write(data[at : at + 77_777]) == len(data[at : at + 77_777])
            assert file.tell() == min(at + 77_777, len(data))
    assert store["key"] == data
    with suppress(RuntimeError), store.open("key", "wb") as file:
        file.write(b"not this")
        raise RuntimeError
    assert store["key"] == data
    assert len(list(store)) == 1


def test_a_file_whose_write_failed_is_not_stored() -> None:
    class Full(MemoryStore):
        def _open_write(self, *rest: Any) -> Any:
            file: Any = super()._open_write(*rest)
            write = file.write

            def once(data: Any) -> int:
                file.write = write
                raise StoreUnavailableError("the disk is full")

            file.write = once
            return file

    store = CompressedStore(Full())
    file = store.open("key", "wb")
    with pytest.raises(StoreUnavailableError):
        file.write(body(1_000_000))
    with pytest.raises(
        StoreUnavailableError, match="nothing was stored, since a write failed: the disk is full"
    ):
        file.close()
    assert not store


def test_the_three_together(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "x.sqlite")) as below:
        store = CompressedStore(EncryptedStore(ChecksumStore(below), KEY, names=NAMES))
        blobs = {f"a/{size}": body(size) for size in (0, 1, 70_000, 3_000_000)}
        store.put_many(blobs)
        assert dict(store.items()) == store.get_many(blobs) == blobs
        assert store.get_range("a/3000000", -5) == blobs["a/3000000"][-5:]
        assert [info.size for info in store.list()] == [0, 1, 3_000_000, 70_000]


@layers
def test_what_was_acknowledged_is_there_whatever_fails(layer: str) -> None:
    """Thousands of calls over a store that fails now and then: what a call says is so."""
    chance = random.Random(layer)
    memory = MemoryStore()
    store = LAYERS[layer](Flaky(memory, rate=0.08, seed=5))
    keys = [f"k/{number}" for number in range(12)]
    # For each key what may be there: one value if the last call on it was answered.
    held: dict[str, set[bytes | None]] = {key: {None} for key in keys}
    answered = failed = 0

    def value() -> bytes:
        size = chance.choice((0, 10, 10, 1000, 1000, 1000, 70_000))
        if chance.random() < 0.01:
            size = 600_000
        return body(size, chance.random())

    for _ in range(effort(10_000, 4000)):
        key, other = chance.sample(keys, 2)
        action = chance.choice(
            ("put", "put", "stream", "file", "many", "delete", "copy", "move", *["get"] * 8)
        )
        new = value() if action in ("put", "stream", "file", "many") else b""
        after: dict[str, set[bytes | None]] = {}
        try:
            if action in ("put", "stream", "file", "many"):
                after = {key: {new}}
                if action == "put":
                    store.put(key, new)
                elif action == "stream":
                    store.put(key, (new[at : at + 40_000] for at in range(0, len(new), 40_000)))
                elif action == "file":
                    with store.open(key, "wb") as file:
                        file.write(new)
                else:
                    store.put_many({key: new})
            elif action == "delete":
                after = {key: {None}}
                assert store.delete(key) in {before is not None for before in held[key]}
            elif action in ("copy", "move"):
                there = held[key] - {None}
                after = {other: there} if action == "copy" else {other: there, key: {None}}
                getattr(store, action)(key, other)
            else:
                data = store.get(key)
                assert data in held[key]
                held[key] = {data}
                listed = {info.key: info.size for info in store.list(key)}
                assert listed.get(key) == (None if data is None else len(data))
                if data is not None:
                    assert store.info(key).size == len(data)
                    start = chance.randrange(len(data) + 1)
                    assert store.get_range(key, start, start + 50) == data[start : start + 50]
        except BlobNotFoundError:
            assert None in held[key]
            held[key] = {None}
            continue
        except StoreUnavailableError:
            failed += 1
            for name, values in after.items():
                held[name] = held[name] | values
            continue
        answered += 1
        held.update(after)
    assert min(answered, failed) > 500
    store = LAYERS[layer](memory)
    assert all(store.get(key) in values for key, values in held.items())
    assert set(store) <= set(keys)


def test_what_layers_add_to_a_blob() -> None:
    """As docs/composing.md has it."""
    for layer, size, added in (
        ("encrypted", 0, 80),
        ("encrypted", 65_536, 80),
        ("encrypted", 200_000, 80 + 3 * 16),
        ("sha256", 0, 48),
        ("sha256", 1000, 48),
        ("zstd", 0, 37),
        ("lz4", 0, 36),
        ("gzip", 0, 54),
    ):
        below = MemoryStore()
        store = LAYERS[layer](below)
        store["key"] = bytes(size)
        [name] = blobs(below)
        assert below.info(name).size == size + added, layer


def test_a_checksum_is_of_bytes_and_not_of_their_place() -> None:
    below = MemoryStore()
    store = LAYERS["sha256"](below)
    store["a"], store["b"] = b"of a", b"of b"
    below["a"], below["b"] = below["b"], below["a"]
    assert store["a"] == b"of b"
    below["c"] = b"put without the layer"
    assert store.info("c").size == 0
