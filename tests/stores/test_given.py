"""Errors of the data that a caller gives: they come out of a put as they are, with the key that they have."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest

from holdall import (
    BlobNotFoundError,
    FilesystemStore,
    GitStore,
    HashdirStore,
    MemoryStore,
    PrefixStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
    ZipStore,
)

STORES: list[Callable[[Path], Store]] = [
    lambda path: MemoryStore(),
    lambda path: FilesystemStore(path / "files"),
    lambda path: HashdirStore(path / "hashed"),
    lambda path: SqliteStore(path / "a.db"),
    lambda path: ZipStore(path / "a.zip"),
    lambda path: GitStore(path / "git"),
    lambda path: PrefixStore(FilesystemStore(path / "below"), "some/"),
]


class File:
    """A file whose reads fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, size: int) -> bytes:
        raise self._error


def fail(error: Exception) -> Iterator[bytes]:
    yield b"some"
    raise error


@pytest.mark.parametrize("make", STORES)
def test_an_error_of_the_data_stays_what_it_is(make: Callable[[Path], Store], tmp_path: Path) -> None:
    source = MemoryStore()
    with make(tmp_path) as store:
        puts: list[Callable[[Any], object]] = [
            lambda data: store.put("a", data),
            lambda data: store.put_many({"a": data, "b": b"2"}),
            lambda data: store.setdefault("a", data),
        ]
        for put in puts:
            for given in (fail, File):
                full = OSError(ENOSPC, "another disk is full")
                with pytest.raises(OSError, match="another disk") as caught:
                    put(given(full))
                assert caught.value is full
                with pytest.raises(StoreUnavailableError) as nameless:
                    put(given(StoreUnavailableError("no answer")))
                assert nameless.value.key in (None, "a")
                with pytest.raises(BlobNotFoundError) as named:
                    put(given(BlobNotFoundError(key="theirs")))
                assert (named.value.key, str(named.value)) == ("theirs", "'theirs': no such blob")
                again = pickle.loads(pickle.dumps(named.value))
                assert (again.key, again.args, again.filename) == ("theirs", named.value.args, "theirs")
        with pytest.raises(BlobNotFoundError) as absent:
            store.put("a", (source[key] for key in ["theirs"]))
        assert absent.value.key == "theirs"
        assert list(store) == []
        # An error of the store itself still has the key of the call.
        with pytest.raises(BlobNotFoundError) as own:
            store.info("a")
        assert own.value.key == "a"
