"""The file of the index, which is written again only where nobody can see it."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.forks import forked, succeeds

from holdall.stores.git import GitStore
from holdall.stores.git import indexfile as module
from holdall.stores.git.indexfile import IndexFile, signature_of

pieces = st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=5)


def granted(_: int) -> bool:
    return True


def refused(_: int) -> bool:
    return False


def local(_: str) -> bool:
    return True


@pytest.fixture(params=[True, False], ids=["written again", "always new"])
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> IndexFile:
    """Where files can be written again if nobody has them open, and where they can't."""
    if not request.param:
        monkeypatch.setattr(module, "_lease", refused)
    (tmp_path / "own").mkdir()
    return IndexFile(str(tmp_path / "index"), str(tmp_path / "own/spare"), True)


def write(index: IndexFile, tmp_path: Path, *content: bytes) -> None:
    signature = index.write(content)
    assert (tmp_path / "index").read_bytes() == b"".join(content)
    assert signature_of((tmp_path / "index").stat()) == signature


@given(contents=st.lists(pieces, max_size=8))
def test_it_has_what_was_written_last(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    index = IndexFile(str(folder / "index"), str(folder / "spare"), False)
    for content in contents:
        write(index, folder, *content)


def test_a_file_that_nobody_reads_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run: where the system can't say that nobody reads it, they say so."""
    monkeypatch.setattr(module, "_lease", granted)
    monkeypatch.setattr(module, "is_local", local)
    index = IndexFile(str(tmp_path / "index"), str(tmp_path / "spare"), False)
    inodes: list[int] = []
    for number in range(6):
        write(index, tmp_path, b"%d" % number, b"the rest")
        inodes.append((tmp_path / "index").stat().st_ino)
    if (tmp_path / "spare").exists():  # files can change names here
        assert inodes == inodes[:2] * 3


def test_who_reads_an_old_one_never_sees_another(index: IndexFile, tmp_path: Path) -> None:
    for number in range(9):
        write(index, tmp_path, b"%d" % number, b"the rest")
        with open(tmp_path / "index", "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if number % 2 else None
            if mapped is None:
                for again in range(3):
                    write(index, tmp_path, b"abc"[again : again + 1], b"the rest")
                assert file.read() == b"%dthe rest" % number
        if mapped is not None:
            for again in range(3):
                write(index, tmp_path, b"abc"[again : again + 1], b"the rest")
            with mapped:
                assert mapped[:] == b"%dthe rest" % number


def test_a_copy_by_a_hard_link_stays(index: IndexFile, tmp_path: Path) -> None:
    for number in range(5):
        write(index, tmp_path, b"%d" % number, b"the rest")
        os.link(tmp_path / "index", tmp_path / f"copy-{number}")
        for again in range(3):
            write(index, tmp_path, b"abc"[again : again + 1], b"the rest")
    for number in range(5):
        assert (tmp_path / f"copy-{number}").read_bytes() == b"%dthe rest" % number


def gone(path: Path) -> None:
    path.unlink(missing_ok=True)


def other(path: Path) -> None:
    path.write_bytes(b"8the next")


def longer(path: Path) -> None:
    path.write_bytes(b"8the rest and more")


def link(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("elsewhere")


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [gone, other, longer, link, pipe])
def test_a_draft_that_another_program_changed_is_made_anew(
    index: IndexFile, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    (tmp_path / "own/elsewhere").write_bytes(b"mine")
    for number in range(5):
        write(index, tmp_path, b"%d" % number, b"the rest")
        spoil(tmp_path / "own/spare")
    assert (tmp_path / "own/elsewhere").read_bytes() == b"mine"


def test_two_writers_by_turns(index: IndexFile, tmp_path: Path) -> None:
    other = IndexFile(str(tmp_path / "index"), str(tmp_path / "own/spare"), False)
    for number in range(24):
        write((index, other)[number // 3 % 2], tmp_path, b"%d" % (number % 10), b"the rest")


def test_a_write_that_fails_leaves_the_index_and_the_next_one_succeeds(
    index: IndexFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(index, tmp_path, b"1", b"the rest")
    write(index, tmp_path, b"2", b"the rest")

    def fails(*arguments: object, **more: object) -> None:
        raise OSError("no")

    for name in ("utime", "fsync", "lseek", "write", "fstat"):
        with monkeypatch.context() as patch:
            patch.setattr(module.os, name, fails)
            try:
                index.write([b"3", b"the rest"])
            except OSError:
                assert (tmp_path / "index").read_bytes() == b"2the rest"
        write(index, tmp_path, b"4", b"the rest")
        write(index, tmp_path, b"2", b"the rest")


def test_a_child_that_was_forked_meanwhile_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has all files of its parent open."""
    index = IndexFile(str(tmp_path / "index"), str(tmp_path / "spare"), False)
    for number in range(4):
        write(index, tmp_path, b"%d" % number, b"the rest")
    fill, (held, let_go) = module._fill, os.pipe()
    children: list[int] = []

    def waits() -> None:
        os.close(let_go)
        os.read(held, 1)

    def fill_and_fork(fd: int, there: Sequence[bytes], pieces: Sequence[bytes]) -> None:
        children.append(forked(waits))
        fill(fd, there, pieces)

    monkeypatch.setattr(module, "_fill", fill_and_fork)
    try:
        index.write([b"4", b"the rest"])
        # Who mustn't wait would be refused.
        os.close(os.open(tmp_path / "index", os.O_RDONLY | os.O_NONBLOCK))
    finally:
        os.close(let_go)
        os.close(held)
    succeeds(children[0])


def test_the_index_is_one_that_git_reads_after_each_kind_of_change(tmp_path: Path) -> None:
    with GitStore(tmp_path, author="Ann <ann@example.org>") as store:
        store.put_many({f"run/{number:03}": b"%d" % number for number in range(600)})
        for number in range(12):
            store[f"run/{number * 37:03}"] = b"other %d" % number
            if number % 3 == 0:
                store[f"run/{number * 37:03}-new"] = b"new"
            if number % 4 == 0:
                del store[f"run/{number * 37 + 1:03}"]
            for command in (["status", "--porcelain"], ["fsck", "--strict"]):
                done = subprocess.run(["git", "-C", tmp_path, *command], capture_output=True, check=True)
                assert done.stdout == b""
