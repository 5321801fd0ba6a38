"""The digest of a blob, with what it is the digest of."""

import hashlib
import tracemalloc
from collections.abc import Iterator

import pytest

from holdall import (
    BlobNotFoundError,
    IntegrityError,
    InvalidArgumentError,
    MemoryStore,
    MissingDependencyError,
)
from holdall.digests import digest, hasher
from holdall.layers.layer import Transparent
from holdall.store import Info, Piece, Store
from holdall.testing import Counting


class Knowing(Transparent):
    """A store that knows the digests of its blobs."""

    def _digest(self, key: str, algorithm: str) -> str | None:
        return hashlib.new(algorithm, self._store[key]).hexdigest() if algorithm == "sha256" else None


class Changing(Transparent):
    """A store in which a writer comes each time that a digest is asked for."""

    writes = 0

    def _digest(self, key: str, algorithm: str) -> str | None:
        known = hashlib.new(algorithm, self._store[key]).hexdigest()
        self.writes += 1
        self._store[key] = b"version %d" % self.writes
        return known


class Short(Transparent):
    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, _ = super()._read(key, start, stop)
        return info, iter((b"sho",))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5", "blake2b"])
@pytest.mark.parametrize("data", [b"", b"abc", bytes(3 << 20)])
def test_it_is_the_digest_of_the_bytes(algorithm: str, data: bytes) -> None:
    store = MemoryStore({"a": data})
    assert digest(store, "a", algorithm) == (store.info("a"), hashlib.new(algorithm, data).hexdigest())


def test_a_store_that_knows_it_is_not_read() -> None:
    counted = Counting(MemoryStore({"a": b"abc"}))
    store: Store = Knowing(counted)
    counted.bytes_read = 0
    assert Knowing(MemoryStore({"a": b"abc"}))._digest("a", "sha256") == digest(store, "a")[1]
    before = counted.calls["read"]
    assert digest(store, "a", "sha512")[1] == hashlib.sha512(b"abc").hexdigest()
    assert counted.calls["read"] == before + 1


def test_info_and_digest_are_of_one_version() -> None:
    below = MemoryStore({"a": b"version 0"})
    info, found = digest(Changing(below), "a")
    assert info == below.info("a")
    assert found == hashlib.sha256(below["a"]).hexdigest()


def test_an_absent_blob() -> None:
    for store in (MemoryStore(), Transparent(MemoryStore())):
        with pytest.raises(BlobNotFoundError) as caught:
            digest(store, "absent")
        assert caught.value.key == "absent"


def test_a_stream_that_ends_early_has_no_digest() -> None:
    with pytest.raises(IntegrityError, match="'a': the store returned 3 bytes of a blob of 5"):
        digest(Short(MemoryStore({"a": b"short"})), "a")


@pytest.mark.parametrize("algorithm", ["", "sha-what", "shake_128", None, 256])
def test_what_is_no_algorithm(algorithm: str) -> None:
    with pytest.raises(InvalidArgumentError):
        digest(MemoryStore({"a": b""}), "a", algorithm)


def test_blake3_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(MissingDependencyError, match=r"holdall\[blake3\]"):
        hasher("blake3")


def test_blake3() -> None:
    assert digest(MemoryStore({"a": b""}), "a", "blake3")[1].startswith("af1349b9f5f9a1a6")


def test_a_large_blob_is_read_in_pieces() -> None:
    store = MemoryStore({"a": bytes(64 << 20)})
    tracemalloc.start()
    digest(store, "a")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
