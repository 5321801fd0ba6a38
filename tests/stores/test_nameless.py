"""New blobs in files that have no name before they are whole."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdall import ABSENT, BlobExistsError, FilesystemStore, KeyConflictError
from holdall.blob import mode_of
from holdall.stores import filesystem, nameless, nofollow


def ready(folder: Path) -> FilesystemStore:
    """A store whose next blob is taken for new."""
    store = FilesystemStore(folder)
    store["first"] = store["d/first"] = store["d/e/f/first"] = b""
    lock = store._local.lock
    if not lock.nameless:
        pytest.skip("this system has no such files")
    lock.misses = 1000
    return store


def no_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no short blob is put in another way."""

    def refuse(*_: object) -> None:
        raise AssertionError("it was put in another way")

    monkeypatch.setattr(filesystem, "put_short", refuse)


def drafts_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".new-" in path.name]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_blob_is_as_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int) -> None:
    store = ready(tmp_path)
    no_other_way(monkeypatch)
    before = os.umask(mask)
    try:
        for key in ("new", "d/new", "d/e/f/new", "folder/new", "ünï", "d/ünï"):
            info = store.put(key, key.encode())
            assert (store[key], store.info(key)) == (key.encode(), info)
            found = os.stat(tmp_path / key)
            assert stat.S_IMODE(found.st_mode) == 0o666 & ~mask
            assert mode_of(info) == (None if mask == 0o022 else 0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "folder").st_mode) == 0o777 & ~mask
    assert drafts_in(tmp_path) == []


@pytest.mark.parametrize("key", ["k", "d/k", "d/e/f/k"])
def test_what_is_there_is_replaced_and_keeps_its_mode(tmp_path: Path, key: str) -> None:
    store = ready(tmp_path)
    old = store.put(key, b"old")
    os.chmod(tmp_path / key, 0o640)
    new = store.put(key, b"new")
    assert (store[key], store.info(key)) == (b"new", new)
    assert new.etag != old.etag
    assert stat.S_IMODE(os.stat(tmp_path / key).st_mode) == 0o640
    assert store._local.lock.misses == 0
    assert drafts_in(tmp_path) == []


@pytest.mark.parametrize("key", ["k", "d/k", "d/e/f/k"])
def test_one_that_expects_nothing_finds_nothing_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    store = ready(tmp_path)
    store._local.lock.misses = 0
    with monkeypatch.context() as patch:
        no_other_way(patch)
        made = store.put(key, b"first", expect=ABSENT)
    with pytest.raises(BlobExistsError) as found:
        store.put(key, b"second", expect=ABSENT)
    assert (found.value.key, found.value.actual, store.info(key)) == (key, made.etag, made)
    assert store[key] == b"first"
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    assert store.put("folder", b"where empty folders were", expect=ABSENT).size == 24
    assert drafts_in(tmp_path) == []


@pytest.mark.parametrize("key", ["link/k", "d/link/k", "link", "d/link"])
@pytest.mark.parametrize("target", ["outside", "nothing"])
def test_no_link_is_followed(tmp_path: Path, key: str, target: str) -> None:
    (tmp_path / "outside").mkdir()
    store = ready(tmp_path / "store")
    place = tmp_path / "store" / (key.removesuffix("/k"))
    place.symlink_to(tmp_path / target)
    with pytest.raises(KeyConflictError):
        store.put(key, b"new")
    assert place.is_symlink()
    assert os.listdir(tmp_path / "outside") == []
    assert not (tmp_path / "nothing").exists()


def test_a_folder_that_becomes_a_link_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    store = ready(tmp_path / "store")
    link = nofollow.linkat

    def late(*args: Any) -> int:
        os.rename(tmp_path / "store/d", tmp_path / "moved")
        (tmp_path / "store/d").symlink_to(tmp_path / "outside")
        return link(*args)

    monkeypatch.setattr(nameless, "linkat", late)
    store["d/k"] = b"new"
    assert (tmp_path / "moved/k").read_bytes() == b"new"
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("key", ["k", "d/k", "d/e/f/k"])
def test_a_blob_is_put_where_the_folder_is_now(tmp_path: Path, key: str) -> None:
    store = ready(tmp_path / "store")
    os.rename(tmp_path / "store", tmp_path / "before")
    (tmp_path / "store").mkdir(mode=0o755)
    os.chmod(tmp_path / "store", 0o2755)
    store[key] = b"new"
    assert (tmp_path / "store" / key).read_bytes() == b"new"
    assert not (tmp_path / "before" / key).exists()
    assert os.stat(tmp_path / "store" / key).st_gid == os.stat(tmp_path / "store").st_gid


def test_a_link_to_the_folder_that_is_turned_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "store").symlink_to("one")
    store = ready(tmp_path / "store")
    no_other_way(monkeypatch)
    (tmp_path / "store").unlink()
    (tmp_path / "store").symlink_to("two")
    store["k"] = store["d/k"] = b"new"
    assert [(tmp_path / "two" / key).read_bytes() for key in ("k", "d/k")] == [b"new", b"new"]
    assert not (tmp_path / "one/k").exists()


def test_another_file_system_at_the_path_is_looked_at_first(tmp_path: Path) -> None:
    """How it keeps times isn't known before."""
    code = """
        import os, subprocess, sys
        from holdall import FilesystemStore
        from holdall.stores import nameless
        store = FilesystemStore(sys.argv[1])
        store["first"] = store["d/first"] = b""
        store._local.lock.misses = 1000
        for place in ("/d", ""):
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sys.argv[1] + place], check=True)
            key = place[1:] + "/k" if place else "k"
            assert nameless.put_nameless(store._local.lock, key, key, b"new") is None
            assert not os.listdir(sys.argv[1] + place)
            store[key] = b"new"
            assert store[key] == b"new"
    """
    program = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    if subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("this system lets nobody mount")
    subprocess.run(["unshare", "-Urm", *program], check=True, timeout=60)


@pytest.mark.parametrize("key", ["k", "d/k"])
@pytest.mark.parametrize("call", ["linkat", "open"])
def test_a_system_that_has_no_such_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, call: str
) -> None:
    store = ready(tmp_path)
    asked: list[object] = []
    open_file = os.open

    def refused(*args: object) -> int:
        asked.append(args)
        ctypes.set_errno(errno.ENOENT)
        return -1

    def unknown(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags == nofollow.NAMELESS:
            asked.append(path)
            raise OSError(errno.EOPNOTSUPP, "no")
        return open_file(path, flags, *args, **options)

    if call == "linkat":
        monkeypatch.setattr(nameless, "linkat", refused)
    else:
        monkeypatch.setattr(os, "open", unknown)
    for number in range(20):
        store[f"{key}{number}"] = b"%d" % number
        store._local.lock.misses = 1000
    assert [store[f"{key}{number}"] for number in range(20)] == [b"%d" % number for number in range(20)]
    assert len(asked) == 8
    assert drafts_in(tmp_path) == []


@pytest.mark.parametrize("key", ["k", "d/k"])
def test_a_disk_that_takes_a_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    store = ready(tmp_path)
    write = os.write
    parts: list[int] = []

    def part(fd: int, data: bytes) -> int:
        parts.append(fd)
        return write(fd, data[: len(data) // 2] if len(parts) == 1 else data)

    monkeypatch.setattr(os, "write", part)
    store[key] = b"whole"
    assert store[key] == b"whole"


def test_a_folder_that_goes_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ready(tmp_path)
    link = nofollow.linkat
    gone: list[Callable[[], None]] = [(tmp_path / "new").rmdir]

    def late(*args: Any) -> int:
        if gone:
            gone.pop()()
        return link(*args)

    monkeypatch.setattr(nameless, "linkat", late)
    store["new/k"] = b"1"
    store._local.lock.misses = 1000
    store["other/k"] = b"2"
    assert (store["new/k"], store["other/k"]) == (b"1", b"2")
    assert store._local.lock.nameless == 8
