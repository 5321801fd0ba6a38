"""Ranges, chunks and files read and write a blob in pieces."""

from __future__ import annotations

import array
import contextlib
import csv
import functools
import gc
import hashlib
import io
import json
import os
import random
import tracemalloc
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    UnsupportedOperation,
)
from holdall.store import ABSENT, Can, Store
from holdall.testing.keys import split_words
from holdall.testing.refusals import needs
from holdall.testing.running import race
from holdall.testing.samples import MIB, BodyError, make_noise, measure_memory, read_all
from holdall.testing.suites.base import SuiteBase


@functools.cache
def _make_lines() -> bytes:
    noise = make_noise(4_500_000)
    return b"\n".join(noise[at : at + 50].replace(b"\n", b"") for at in range(0, len(noise), 50))


class FileTests(SuiteBase):
    """Ranges, chunks and files read and write a blob in pieces."""

    def test_ranges_are_slices(self, store: Store) -> None:
        blobs = {"ten": b"0123456789", "one": b"x", "none": b"", "large": make_noise(2 * MIB + 77)}
        store.put_many(blobs)

        @settings(max_examples=self._effort(150, 50, 50), derandomize=True, deadline=None, database=None)
        @given(
            st.sampled_from(sorted(blobs)),
            st.one_of(st.integers(-12, 12), st.integers(-3 * MIB, 3 * MIB)),
            st.one_of(st.none(), st.integers(-12, 12), st.integers(-3 * MIB, 3 * MIB), st.just(1 << 70)),
        )
        def check(key: str, start: int, stop: int | None) -> None:
            assert store.get_range(key, start, stop) == blobs[key][start:stop]

        check()
        assert store.get_range("ten", 1 << 70) == b""
        assert store.get_range("ten", 3) == b"3456789"
        assert store.get_range("ten", 7, 3) == b""
        assert store.get_range("ten", -10, -1) == b"012345678"

    def test_wrong_ranges(self, store: Store) -> None:
        wrong: Any = store
        store["key"] = b"0123456789"
        for ends in (("1",), (1.0,), (0, "2"), (0, 2.5), (b"1",), (None,), (True,), (0, False)):
            with pytest.raises(InvalidArgumentError) as caught:
                wrong.get_range("key", *ends)
            assert isinstance(caught.value, TypeError)
        assert store.get_range("key", -11) == store.get_range("key", -10) == b"0123456789"
        assert store.get_range("key", -11, 2) == b"01"
        assert store.get_range("key", 0, -11) == b""

    def test_a_read_gives_bytes_with_their_info(self, store: Store, other: Store) -> None:
        data = make_noise(300_009)
        for key, blob in (("a/large", data), ("none", b"")):
            info = store.put(key, blob)
            assert other.read(key) == (info, blob)
            assert other.read(key, 7, -3) == (info, blob[7:-3])
            assert other.read(key, -5)[1] == blob[-5:]
        near = [(0, 10), (300_000, 300_004), (5, 20), (4, 4), (300_005, 1 << 40), (9, 2)]
        choices: Any = near, [*near, (-3, None), (-20, -10), (10, None)], [], [(5, 5)], ((1, 2), [3, 4])
        for ranges in choices:
            assert store.get_ranges("a/large", ranges) == [data[low:high] for low, high in ranges]
            assert store.get_ranges("none", ranges) == [b""] * len(ranges)
        wrong: Any = store
        for ranges in (None, "12", 5, [1, 2], [(1, 2, 3)], [("1", 2)], [(None, 2)], ["12"]):
            with pytest.raises(InvalidArgumentError):
                wrong.get_ranges("a/large", ranges)
        for ranges in ([], [(0, 1)], [(-1, None)]):
            with pytest.raises(BlobNotFoundError):
                store.get_ranges("absent", ranges)
        with pytest.raises(BlobNotFoundError):
            store.read("absent")
        pairs = list(store.iterate_many(iter(["none", "absent", "a/large"])))
        assert sorted(pairs) == [("a/large", data), ("none", b"")]

    def test_what_is_read_is_of_one_version(self, store: Store, other: Store) -> None:
        count = self._effort(12, 6, 3)
        blobs = [make_noise(300_000, number) for number in range(2)]
        store["key"] = blobs[0]

        def put() -> None:
            for number in range(count):
                store["key"] = blobs[number % 2]

        def read() -> None:
            for _ in range(count):
                first, last = other.get_ranges("key", [(0, 50), (299_950, 300_000)])
                assert (first, last) in [(blob[:50], blob[-50:]) for blob in blobs]

        with contextlib.suppress(ConcurrencyError):
            race(put, read)

    def test_chunks(self, store: Store) -> None:
        wrong: Any = store
        data = make_noise(2 * MIB + 5)
        store["key"] = data
        for size in (9000, 65_536, MIB - 1, MIB, MIB + 1, 2 * MIB + 5, 5 * MIB):
            chunks = list(store.chunks("key", size))
            assert b"".join(chunks) == data
            assert {len(chunk) for chunk in chunks[:-1]} <= {size}
            assert 0 < len(chunks[-1]) <= size
            assert all(type(chunk) is bytes for chunk in chunks)
        assert b"".join(store.chunks("key")) == data
        for size in (0, -1, 1.5, "1", True, None):
            with pytest.raises(InvalidArgumentError):
                wrong.chunks("key", size)
        dropped = store.chunks("key", 10)
        assert next(dropped) == data[:10]
        del dropped
        assert store.delete("key")

    def test_a_file_reads_as_any_file(self, store: Store) -> None:
        data = _make_lines()
        store["key"] = data
        model, rng = io.BytesIO(data), random.Random(7)
        with store.open("key") as file:
            assert (file.readable(), file.writable(), file.seekable()) == (True, False, True)
            for _ in range(self._effort(300, 100, 100)):
                whence = rng.choice((0, 0, 1, 2))
                offset = rng.randrange(-3000, 3000) if whence else rng.randrange(len(data) + 100)
                base = model.tell() if whence == 1 else len(data)
                if whence == 0 or base + offset >= 0:
                    assert file.seek(offset, whence) == model.seek(offset, whence)
                match rng.randrange(5):
                    case 0:
                        assert file.readline() == model.readline()
                    case 1:
                        buffers = bytearray(777), bytearray(777)
                        assert cast(Any, file).readinto(buffers[0]) == model.readinto(buffers[1])
                        assert buffers[0] == buffers[1]
                    case 2:
                        assert [next(file, b"") for _ in range(3)] == [next(model, b"") for _ in range(3)]
                    case _:
                        size = rng.choice((0, 1, 100, 70_000, 1_500_000))
                        assert file.read(size) == model.read(size)
                assert file.tell() == model.tell()
            assert file.seek(-10, os.SEEK_END) == len(data) - 10
            assert file.read() == data[-10:]
            assert file.read() == b""
            with pytest.raises((ValueError, OSError)):
                file.seek(-1)
            with pytest.raises((io.UnsupportedOperation, OSError)):
                file.write(b"x")
        assert file.closed
        with pytest.raises(ValueError, match="closed"):
            file.read()
        with store.open("key") as file:
            assert list(file) == list(io.BytesIO(data))

    def test_a_file_that_is_written_is_seen_at_its_close(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        with store.open("key", "wb") as file:
            assert (file.readable(), file.writable()) == (False, True)
            for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef"), array.array("B", b"gh")):
                assert file.write(cast(Any, piece)) == 2
            assert file.tell() == 8
            file.flush()
            file.writelines([b"i", b"j"])
            assert other["key"] == b"before"
            assert list(other) == ["key"]
        assert file.closed
        assert other["key"] == b"abcdefghij"
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.write(b"x")
        with store.open("empty", "wb"):
            pass
        assert other["empty"] == b""
        data = make_noise(self._effort(20, 12, 12) * MIB)
        with store.open("large", "wb") as file:
            for at in range(0, len(data), 700_001):
                file.write(data[at : at + 700_001])
            assert "large" not in other
        assert other["large"] == data

    def test_a_file_whose_with_raises_is_not_stored(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        for key in ("key", "absent", "a/b/absent"):
            for size in (0, 10, 9 * MIB):
                for mode, data in (("wb", bytes(size)), ("w", "x" * size)):
                    with pytest.raises(BodyError), store.open(key, mode) as file:  # noqa: PT012
                        file.write(data)
                        raise BodyError
                    assert file.closed
                    assert read_all(other) == {"key": b"before"}

    def test_a_file_that_is_dropped_unclosed_is_not_stored(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for mode, data in (("wb", b"half"), ("w", "half"), ("wb", bytes(9 * MIB))):
                for key in ("key", "absent"):
                    file: Any = store.open(key, mode)
                    file.write(data)
                    del file
                gc.collect()
        assert read_all(other) == {"key": b"before"}

    def test_text_files(self, store: Store) -> None:
        text = "née\nzwei\r\n水😀\n"
        with store.open("utf8", "w") as file:
            assert file.write(text) == len(text)
        assert store["utf8"] == text.encode()
        with store.open("utf8", "r", newline="") as file:
            assert file.read() == text
        with store.open("utf8", "rt") as file:
            assert list(file) == ["née\n", "zwei\n", "水😀\n"]
        for encoding in ("utf-8-sig", "utf-16", "utf-32", "utf-16-be"):
            with store.open(encoding, "w", encoding=encoding) as file:
                file.write("é")
                file.writelines(["\n", "2"])
            assert store[encoding] == "é\n2".encode(encoding)
            with store.open(encoding, "r", encoding=encoding) as file:
                assert file.read() == "é\n2"
        with store.open("latin", "wt", encoding="latin-1", errors="replace", newline="\r\n") as file:
            file.write("né\n水")
        assert store["latin"] == b"n\xe9\r\n?"
        with store.open("latin", "r", encoding="latin-1") as file:
            assert file.readline() == "né\n"
            file.seek(0)
            assert file.read() == "né\n?"
        with store.open("latin", "r") as file, pytest.raises(UnicodeDecodeError):
            file.read()
        with pytest.raises(UnicodeEncodeError), store.open("utf8", "w", encoding="ascii") as file:  # noqa: PT012
            file.write("ok")
            file.write("é")
        assert store["utf8"] == text.encode()

    def test_wrong_ways_to_open(self, store: Store) -> None:
        wrong: Any = store
        store["key"] = b"before"
        for mode in ("", *split_words("a+ wa r+ rb+ w+ wb+ rw rr b t rbt U q"), None, 1, b"rb"):
            with pytest.raises(InvalidArgumentError):
                wrong.open("key", mode)
        for options in ({"encoding": "utf-8"}, {"errors": "strict"}, {"newline": ""}):
            for mode in ("rb", "wb"):
                with pytest.raises(InvalidArgumentError):
                    wrong.open("key", mode, **options)
        for options in ({"expect": ABSENT}, {"ttl": 1}, {"content_type": "a/b"}, {"metadata": {"a": "b"}}):
            with pytest.raises(InvalidArgumentError):
                wrong.open("key", "rb", **options)
        with pytest.raises(InvalidArgumentError):
            wrong.open("key", "xb", expect="etag")
        assert read_all(store) == {"key": b"before"}

    def test_a_file_is_appended_to_or_it_is_refused(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        try:
            with store.open("key", "ab") as file:
                assert (file.tell(), file.write(b"+1")) == (6, 2)
                assert other["key"] == b"before"
        except UnsupportedOperation:
            for key, mode in (("key", "ab"), ("new", "a")):
                with pytest.raises(UnsupportedOperation):
                    store.open(key, mode)
            assert read_all(other) == {"key": b"before"}
            return
        assert other["key"] == b"before+1"
        with store.open("a/new", "a") as file:
            file.write("é")
        with pytest.raises(BodyError), store.open("key", "ab") as file:  # noqa: PT012
            file.write(b"half")
            raise BodyError
        with pytest.raises(ConcurrencyError), store.open("key", "ab") as file:  # noqa: PT012
            file.write(b"late")
            other["key"] = b"first"
        with pytest.raises(InvalidArgumentError):
            store.open("key", "ab", expect=ABSENT)
        assert read_all(other) == {"key": b"first", "a/new": "é".encode()}

    def test_a_file_knows_its_blob_and_can_be_discarded(self, store: Store, other: Store) -> None:
        info = store.put("key", b"before")
        for mode in ("rb", "r"):
            with cast(Any, other.open("key", mode)) as file:
                assert file.info == info
                assert file.info.key == "key"
        for mode, data in (("wb", b"half"), ("w", "half")):
            for key in ("key", "new"):
                file: Any = store.open(key, mode)
                file.write(data)
                file.discard()
                file.discard()
                file.close()
                assert file.closed
        assert read_all(other) == {"key": b"before"}

    @needs(Can.CREATE)
    def test_a_file_that_is_created(self, store: Store, other: Store) -> None:
        for mode, data in (("xb", b"new"), ("x", "new")):
            with store.open("key", mode) as file:
                file.write(data)
            assert other["key"] == b"new"
            with pytest.raises(BlobExistsError):
                store.open("key", mode)
            assert other.pop("key") == b"new"
        with pytest.raises(BlobExistsError), store.open("key", "wb", expect=ABSENT) as file:  # noqa: PT012
            file.write(b"late")
            other["key"] = b"first"
        assert read_all(store) == {"key": b"first"}

    @needs(Can.SWAP)
    def test_a_file_that_replaces_one_version(self, store: Store, other: Store) -> None:
        etag = store.put("key", b"1").etag
        with store.open("key", "wb", expect=etag) as file:
            file.write(b"2")
        assert other["key"] == b"2"
        with pytest.raises(ConcurrencyError), store.open("key", "wb", expect=other.info("key").etag) as file:  # noqa: PT012
            file.write(b"3")
            other["key"] = b"other"
        assert store["key"] == b"other"

    def test_the_library_reads_and_writes_through_files(self, store: Store) -> None:
        with store.open("table.csv", "w", newline="") as file:
            csv.writer(file).writerows([["a", "b"], ["1", "zwei\nzeilen"]])
        with store.open("table.csv", "r", newline="") as file:
            assert list(csv.reader(file)) == [["a", "b"], ["1", "zwei\nzeilen"]]
        with store.open("value.json", "w") as file:
            json.dump({"é": [1, None]}, file)
        with store.open("value.json") as file:
            assert json.load(file) == {"é": [1, None]}
        with store.open("all.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("inner", make_noise(100_000))
        with store.open("all.zip") as file, zipfile.ZipFile(file) as archive:
            assert archive.read("inner") == make_noise(100_000)
            assert archive.testzip() is None

    def test_a_read_never_mixes_two_blobs(self, store: Store, other: Store) -> None:
        old, new = make_noise(4 * MIB, 1), make_noise(4 * MIB, 2)

        def replace() -> None:
            other["key"] = new

        def delete() -> None:
            del other["key"]

        for change in (replace, delete):
            for seek in (False, True):
                store["key"] = old
                with store.open("key") as file:
                    assert file.read(10) == old[:10]
                    change()
                    with contextlib.suppress(ConcurrencyError, BlobNotFoundError):
                        at = file.seek(3 * MIB) if seek else 10
                        assert file.read() == old[at:], "a file gave bytes of two blobs"
                store["key"] = old
                chunks = store.chunks("key", 100_000)
                read = [next(chunks)]
                change()
                with contextlib.suppress(ConcurrencyError, BlobNotFoundError):
                    read.extend(chunks)
                    assert b"".join(read) == old, "chunks gave bytes of two blobs"

    def test_memory_is_bounded(self, store: Store) -> None:
        # More than the memory that it may take.
        size, count = MIB, self._effort(64, 12, 12) if store.inline else self._effort(64, 48, 24)
        expected = hashlib.sha256()
        held: list[int] = []

        def body() -> Iterator[bytes]:
            for number in range(count):
                piece = make_noise(size // 8, number) * 8
                expected.update(piece)
                held.append(measure_memory())
                yield piece

        gc.collect()
        before = measure_memory()
        tracemalloc.start()
        try:
            store.put("streamed", body())
            read = hashlib.sha256()
            for chunk in store.chunks("streamed"):
                read.update(chunk)
                held.append(measure_memory())
            assert read.digest() == expected.digest()
            copied = store.copy("streamed", "copied")
            with store.open("copied") as source, store.open("rewritten", "wb") as target:
                while piece := source.read(size):
                    target.write(piece)
                    held.append(measure_memory())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert copied.size == store.info("rewritten").size == size * count
        assert store.get_range("rewritten", -10) == (make_noise(size // 8, count - 1) * 8)[-10:]
        if store.inline:
            # A store in memory holds each blob once, and one more while it is joined; layers hold chunks.
            assert peak < 5 * size * count + 16 * MIB
        else:
            assert peak < 16 * MIB, f"a stream of {count} MiB took {peak / MIB:.0f} MiB of Python's memory"
            grown = max(held) - before
            assert grown < 40 * MIB, f"a stream of {count} MiB took {grown / MIB:.0f} MiB of memory"
