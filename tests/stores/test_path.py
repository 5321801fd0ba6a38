"""What is special to a store in the folder of a pathlib-like object."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.forks import forked, succeeds
from upath import UPath

from holdall.dicts import LocalPath, PathBlobDict
from holdall.errors import ConcurrencyError, InvalidArgumentError, ReadOnlyError, StoreUnavailableError
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.fsspec import FsspecStore
from holdall.stores.memory import MemoryStore
from holdall.stores.path import PathStore


@pytest.mark.parametrize("kind", [str, Path, LocalPath, UPath, lambda path: UPath(f"file://{path}")])
def test_a_local_folder_is_a_filesystem_store(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    with PathStore(kind(tmp_path)) as store:
        assert type(store) is FilesystemStore
        store["a/b"] = b"1"
        assert (tmp_path / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize("wrong", [None, 5, b"x", "s3://bucket/folder", MemoryStore()])
def test_what_is_no_folder(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        PathStore(wrong)


def test_what_can_not_be_replaced_whole_is_only_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a/b.txt", b"0123456789")
        archive.writestr("in/c", b"")
    with PathStore(UPath("zip://in", fo=str(tmp_path / "x.zip"))) as store:
        assert list(store) == ["a/b.txt", "c"]
        assert store["a/b.txt"] == b"0123456789"
        assert store.get_range("a/b.txt", 2, -2) == b"234567"
        assert store.info("c").size == 0
        assert store.get("in/c") is None
        assert pickle.loads(pickle.dumps(store))["a/b.txt"] == b"0123456789"
        calls: list[Callable[[], object]] = [
            lambda: store.put("d", b""),
            lambda: store.delete("c"),
            store.clear,
        ]
        for call in calls:
            with pytest.raises(ReadOnlyError, match="zip:// can only be read"):
                call()


def test_a_folder_in_memory(tmp_path: Path) -> None:
    path = UPath(f"memory://{tmp_path}/in")
    beside = path.parent / "inner"
    beside.write_bytes(b"beside")
    with PathStore(path) as store, PathBlobDict(path) as d:
        assert isinstance(store, FsspecStore)
        assert repr(store) == f"PathStore({path!r})"
        first = store.put("a/b", b"1")
        store.put("a/b", b"2", expect=first.etag)
        with pytest.raises(ConcurrencyError):
            store.delete("a/b", expect=first.etag)
        assert (path / "a" / "b").read_bytes() == b"2"
        assert pickle.loads(pickle.dumps(store))["a/b"] == b"2"
        (path / "empty").mkdir()
        d.delete()
        assert not path.exists()
        assert beside.read_bytes() == b"beside"
        d.delete()

        def work() -> None:
            with pytest.raises(StoreUnavailableError, match="can't be opened in another process"):
                pickle.loads(pickled)

        pickled = pickle.dumps(store)
        succeeds(forked(work))


def test_a_file_system_that_does_not_open(tmp_path: Path) -> None:
    for path in (UPath("abfs://box/in", anon=True), UPath("zip://in", fo=str(tmp_path / "absent.zip"))):
        with pytest.raises(InvalidArgumentError, match="can't be opened"):
            PathStore(path)
