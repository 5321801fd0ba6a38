"""A blob's digest, its times renewed, and the blob as a real file."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidDataError,
)
from holdall.store import ABSENT, Can, Store
from holdall.testing.refusals import needs
from holdall.testing.running import race
from holdall.testing.samples import MIB, BodyError, make_noise, read_all
from holdall.testing.suites.base import SuiteBase


class LocalTests(SuiteBase):
    """A blob's digest, its times renewed, and the blob as a real file."""

    def test_checksums(self, store: Store) -> None:
        wrong: Any = store
        for data in (b"", b"abc", make_noise(200_005)):
            store["key"] = data
            assert store.checksum("key") == hashlib.sha256(data).hexdigest()
            assert store.checksum("key", "md5") == hashlib.md5(data, usedforsecurity=False).hexdigest()
        for algorithm in ("", "sha257", "shake_128", None, 256):
            with pytest.raises(InvalidArgumentError):
                wrong.checksum("key", algorithm)
        with pytest.raises(BlobNotFoundError):
            store.checksum("absent")

    @needs(Can.SWAP)
    def test_touch_renews_the_times_and_nothing_else(self, store: Store, other: Store) -> None:
        options: dict[str, Any] = {"content_type": "text/plain"} if Can.ATTRIBUTES in store.can else {}
        if Can.METADATA in store.can:
            options["metadata"] = {"owner": "ana"}
        if Can.EXPIRE in store.can:
            options["ttl"] = 600
        blobs = {"a/small": b"x", "large": make_noise(MIB + 1), "none": b""}
        for key, data in blobs.items():
            before = store.put(key, data, **options)
            after = store.touch(key)
            assert (after.key, after.size, after.content_type) == (key, len(data), before.content_type)
            # A bucket returns whole seconds, here or there.
            assert after.modified >= before.modified - timedelta(seconds=1)
            assert other.info(key) == after
            if not self.expires:
                assert after.expires == before.expires
            assert other.info(key).metadata == store.info(key).metadata
            if Can.EXPIRE in store.can and before.expires is not None:
                longer = store.touch(key, ttl=timedelta(hours=2)).expires
                assert longer is not None
                assert longer - before.expires > timedelta(minutes=100)
                assert other.info(key).expires == longer
        for key in ("absent", "a"):
            with pytest.raises(BlobNotFoundError):
                store.touch(key)
        assert read_all(other) == blobs

    @needs(Can.SWAP)
    def test_touch_loses_no_put(self, store: Store, other: Store) -> None:
        count = self._effort(20, 8, 4)
        store["key"] = b"0"

        def put() -> None:
            for number in range(count):
                store["key"] = b"%d" % number

        def touch() -> None:
            for _ in range(count):
                other.touch("key")

        race(put, touch)
        assert store["key"] == b"%d" % (count - 1)

    def test_a_blob_as_a_file(self, store: Store) -> None:
        wrong: Any = store
        blobs = {"a/b.tar.gz": make_noise(200_003), "a/-x y": b"", f"{'é' * 120}z.csv": b"1,2"}
        for key, data in blobs.items():
            store[key] = data
            with store.local(key) as path, store.local(key) as second:
                assert path.is_absolute()
                assert path.suffixes == Path(key).suffixes
                assert path.read_bytes() == second.read_bytes() == data
            own = path.exists()
            assert path.parent.exists() == own == second.exists()
            with pytest.raises(BodyError), store.local(key) as path:
                raise BodyError
            assert path.exists() == own
        with pytest.raises(BlobNotFoundError), store.local("absent"):
            pass
        for options in ({"expect": ABSENT}, {"expect": "etag"}, {"write": 1}, {"write": None}):
            with pytest.raises(InvalidArgumentError):
                wrong.local("a/b.tar.gz", **options)
        assert read_all(store) == blobs

        async def read() -> bytes:
            async with store.aio.local("a/b.tar.gz") as path:
                return path.read_bytes()

        assert asyncio.run(read()) == blobs["a/b.tar.gz"]

    @needs(Can.SWAP)
    def test_a_file_that_is_put_back(self, store: Store, other: Store) -> None:
        before = store.put("a/key.txt", b"before")
        with store.local("a/key.txt", write=True) as path:
            path.chmod(0o600)
        assert store.info("a/key.txt").etag == before.etag, "what wasn't changed was put"
        with store.local("a/key.txt", write=True, expect=before.etag) as path:
            new = path.with_name("new")
            new.write_bytes(b"edited")
            os.replace(new, path)
            assert other["a/key.txt"] == b"before"
        assert other["a/key.txt"] == b"edited"
        assert not path.parent.exists()
        with pytest.raises(BodyError), store.local("a/key.txt", write=True) as path:  # noqa: PT012
            path.write_bytes(b"half")
            raise BodyError
        with pytest.raises(InvalidDataError), store.local("a/key.txt", write=True) as path:
            path.unlink()
        assert not path.parent.exists()
        with pytest.raises(ConcurrencyError) as caught, store.local("a/key.txt", write=True) as path:  # noqa: PT012
            path.write_bytes(b"mine")
            other["a/key.txt"] = b"theirs"
        kept = Path(str(caught.value).rpartition("kept as ")[2].strip("'"))
        assert kept.read_bytes() == b"mine"
        kept.unlink()
        kept.parent.rmdir()
        with pytest.raises(ConcurrencyError), store.local("a/key.txt", write=True, expect=before.etag):
            pass
        assert read_all(other) == {"a/key.txt": b"theirs"}

    @needs(Can.SWAP | Can.CREATE)
    def test_a_file_that_is_new(self, store: Store, other: Store) -> None:
        with pytest.raises(BlobNotFoundError), store.local("new.txt", write=True):
            pass
        with store.local("new.txt", write=True, expect=ABSENT) as path:
            assert not path.exists()
            path.write_bytes(b"made")
        assert other["new.txt"] == b"made"
        with pytest.raises(BlobExistsError), store.local("new.txt", write=True, expect=ABSENT):
            pass
        assert read_all(other) == {"new.txt": b"made"}
