"""Files that are put into a catalogue as they are."""

from __future__ import annotations

import io
import os
import random
import re
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    BlobStore,
    ConcurrencyError,
    FilesystemStore,
    InvalidArgumentError,
    InvalidKeyError,
    StoreUnavailableError,
)
from holdall.errors import InvalidTypeError
from holdall.store import Attributes, Body, Expect, Info

Make = Callable[..., BlobStore]
NOISE = random.Random(5).randbytes(3_000_000)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if re.match("[0-9a-f]{64}-", path.name))


def left(folder: Path) -> list[Path]:
    """All files but the catalogue's own."""
    return [path for path in folder.rglob("*") if path.is_file() and "holdall-catalog" not in path.name]


@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_a_file_is_the_bytes_in_it(make: Make, tmp_path: Path, size: int) -> None:
    store = make()
    path = tmp_path / "report.pdf"
    path.write_bytes(NOISE[:size])
    before = path.stat()
    stored = store.put_file(path, "report", {"pages": 3}, expect=ABSENT)
    assert (stored, stored.version, stored.is_new) == ("report", 1, True)
    assert store.get("report") == NOISE[:size]
    with store.open("report") as file:
        assert file.read() == NOISE[:size]
    said = store.get_metadata("report")
    assert said is not None
    assert (said["type"], said["format"], said["codec"], said["file_size"]) == ("bytes", "bytes", "", size)
    assert said["metadata"] == {"pages": 3}
    # The same bytes are the same object, wherever they come from.
    assert store.put(NOISE[:size], "again").digest == stored.digest
    assert store.put_file(str(path), "report").is_new is False
    with open(path, "rb") as file:
        file.seek(min(size, 5))
        assert store.put_file(file, "rest", on_same="version").version == 1
    assert store.get("rest") == NOISE[min(size, 5) : size]
    assert store.put_file(io.BytesIO(NOISE[:size]), "memory").digest == stored.digest
    with pytest.raises(BlobExistsError):
        store.put_file(path, "report", expect=ABSENT)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (before.st_mtime_ns, NOISE[:size])
    assert store.verify().ok


def test_what_compresses_is_stored_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"line\n" * 200_000)
    with BlobStore(tmp_path / "store", "sqlite", content_addressable=True) as store:
        key = store.put_file(path)
        assert key == key.digest
        (name,) = files(tmp_path / "store")
        assert name.endswith(".bin")
        with store.open(key) as file:
            assert file.read() == path.read_bytes()
        assert store.put(path.read_bytes(), "other").is_shared


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store", "sqlite")
    for size in (10, 3_000_000):
        read, write = os.pipe()
        writer = threading.Thread(target=feed, args=(write, NOISE[:size]))
        writer.start()
        with os.fdopen(read, "rb") as file:
            store.put_file(file, "piped")
        writer.join()
        assert store.get("piped") == NOISE[:size]
    store.close()


def feed(end: int, data: bytes) -> None:
    with os.fdopen(end, "wb") as file:
        file.write(data)


def test_a_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(60_000_000)
    with BlobStore(tmp_path / "store", "json") as store:
        tracemalloc.start()
        store.put_file(path, "large")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (store.get_metadata("large") or {})["file_size"] == 60_000_000
    assert peak < 12_000_000


class Changing(io.BytesIO):
    """A file that is changed once it has been read to its end."""

    def __init__(self, data: bytes, after: Callable[[Changing], object]) -> None:
        super().__init__(data)
        self._after: Callable[[Changing], object] | None = after

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        if not piece and self._after is not None:
            after, self._after = self._after, None
            after(self)
        return piece


def flip(file: Changing) -> None:
    file.getbuffer()[2_000_000] ^= 1


def cut(file: Changing) -> None:
    file.truncate(1_500_000)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store", "sqlite")
    store.put("old", "key")
    for change in (flip, cut):
        with pytest.raises(ConcurrencyError, match="changed while it was read") as caught:
            store.put_file(Changing(NOISE, change), "key")
        assert caught.value.key == "key"
        assert (store.get("key"), left(tmp_path / "store/blobs")) == ("old", [])
        small = Changing(NOISE[:100], lambda file: file.truncate(50))
        with pytest.raises(ConcurrencyError, match="changed while it was read"):
            store.put_file(small, "key")
    # What is appended is another file's worth.
    grown = Changing(NOISE, lambda file: (file.seek(0, 2), file.write(b"more")))
    store.put_file(grown, "key")
    assert store.get("key") == NOISE
    store.close()


def test_a_disk_that_fails_or_is_full_leaves_nothing(tmp_path: Path) -> None:
    class Full(FilesystemStore):
        full = True

        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            def some() -> Any:
                for number, piece in enumerate(body):
                    if number == 2 and self.full:
                        raise StoreUnavailableError("the disk is full")
                    yield piece

            return super()._write(key, some(), expect, attributes)

    class Failing(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            if self.reads == 6:
                raise OSError(5, "Input/output error")
            return super().read(size)

    blobs = Full(tmp_path / "blobs")
    store = BlobStore(tmp_path / "store", "sqlite", blob_backend=blobs)
    path = tmp_path / "file"
    path.write_bytes(NOISE)
    with pytest.raises(StoreUnavailableError, match="full"):
        store.put_file(path, "key")
    blobs.full = False
    with pytest.raises(StoreUnavailableError, match="can't read the file: Input/output error"):
        store.put_file(Failing(NOISE), "key")
    assert (len(store), left(tmp_path / "blobs")) == (0, [])
    store.put_file(path, "key")
    assert (store.get("key"), len(left(tmp_path / "blobs"))) == (NOISE, 1)
    store.close()


def test_what_is_no_file(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    for wrong in (b"bytes", None, 5, io.StringIO("text"), ["a"]):
        with pytest.raises(InvalidTypeError):
            store.put_file(wrong, "key")  # type: ignore[arg-type]
    with pytest.raises(BlobNotFoundError, match="the file comes first"):
        store.put_file("key", "file")
    with pytest.raises(InvalidArgumentError, match="is a folder"):
        store.put_file(tmp_path, "key")
    with pytest.raises(InvalidArgumentError, match="can't be the path"):
        store.put_file("a\0b", "key")
    path = tmp_path / "file"
    path.write_bytes(b"1")
    with NamedTemporaryFile("w+") as text:
        text.write("text")
        text.seek(0)
        with pytest.raises(InvalidTypeError, match="gave str, not bytes: open it with mode 'rb'"):
            store.put_file(text, "key")  # type: ignore[arg-type]
    with path.open("rb") as closed:
        pass
    with pytest.raises(InvalidArgumentError, match="closed"):
        store.put_file(closed, "key")
    with pytest.raises(InvalidKeyError):
        store.put_file(path, path)  # type: ignore[arg-type]
    assert not (tmp_path / "store").exists()
    store.close()
