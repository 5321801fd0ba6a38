"""Where a file system of fsspec puts what it copies and moves. fsspec's own files are the model."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote

import fsspec
import pytest
from fsspec.callbacks import Callback

from holdall import (
    BlobNotFoundError,
    Can,
    ConcurrencyError,
    Info,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    MemoryStore,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.blob import ATOMIC
from holdall.interop.fsspec import HoldallFileSystem
from holdall.layers.layer import Transparent
from holdall.store import Expect, Piece
from holdall.stores.git import GitStore
from holdall.testing import Limited, Slow

FILES = {
    "a": b"1",
    "ab": b"2",
    "b#?.txt": b"3",
    "d/x y%20z": b"4",
    "d/e/f": b"5",
    "n/k": b"6",
    "n/d/old": b"7",
}
PATHS = [
    ("a", "z"),
    ("a", "n"),
    ("a", "n/"),
    ("a", "new/"),
    ("a", "new/z"),
    ("d/x y%20z", "n"),
    ("a*", "n"),
    ("b*", "n"),
    ("b*", "new"),
    ("d/*", "n"),
    ("d/*", "new"),
    (["a", "d/e/f"], "n"),
    (["a", "ab"], ["y", "z"]),
]
RECURSIVE = [
    ("d", "n"),
    ("d", "n/"),
    ("d/", "n"),
    ("d", "new"),
    ("d", "new/"),
    ("d/", "new"),
    ("d/e", "n"),
    ("d/*", "n"),
    ("d/*", "new"),
    ("d/e", "new/deep"),
]


SPELLINGS = {
    "plain": "{key}",
    "url": "holdall+memory://{place}#{quoted}",
    "options": "holdall+memory://{place}?readonly=false#{quoted}",
    "open": "holdall://{key}",
}


def fill(folder: Path) -> None:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def spelled(path: Any, form: str, place: str = "") -> Any:
    if isinstance(path, list):
        return [spelled(one, form, place) for one in cast("list[str]", path)]
    return form.format(place=place, key=path, quoted=quote(path, safe="/*"))


@pytest.mark.parametrize("paths", PATHS + RECURSIVE, ids=str)
@pytest.mark.parametrize("call", ["copy", "mv", "get", "put"])
def test_each_goes_where_fsspecs_own_files_go(tmp_path: Path, call: str, paths: tuple[Any, Any]) -> None:
    recursive = paths in RECURSIVE
    model: Any = fsspec.filesystem("file", auto_mkdir=True)
    disk, beside = tmp_path / "disk", tmp_path / "beside"
    fill(disk)
    fill(beside)
    from_disk, to_disk = (spelled(path, f"{disk}/{{key}}") for path in paths)
    from_beside, to_beside = (spelled(path, f"{beside}/{{key}}") for path in paths)
    given = {"get": (from_disk, to_beside), "put": (from_beside, to_disk)}.get(call, (from_disk, to_disk))
    found = [path for path in model.expand_path(from_disk, recursive=recursive) if model.isfile(path)]
    getattr(model, "copy" if call == "mv" else call)(*given, recursive=recursive)
    if call == "mv":  # by other rules, for local files
        for path in found:
            Path(path).unlink()
    expected = tree(beside if call == "get" else disk)
    for form, spelling in SPELLINGS.items():
        place = f"{tmp_path.name}-{form}"
        with MemoryStore(dict(FILES), name=place) as store:
            shutil.rmtree(beside)
            fill(beside)
            fs = HoldallFileSystem(store if form == "open" else f"memory://{place}?readonly=false")
            ours, to_ours = (spelled(path, spelling, place) for path in paths)
            given = {"get": (ours, to_beside), "put": (from_beside, to_ours)}.get(call, (ours, to_ours))
            getattr(fs, call)(*given, recursive=recursive)
            assert (tree(beside) if call == "get" else dict(store.items())) == expected, form


def test_the_root_is_a_folder(tmp_path: Path) -> None:
    store = MemoryStore({"a": b"1", "d/b": b"2"})
    fs = HoldallFileSystem(store)
    for root in ("", "/", "holdall://"):
        fs.copy("d/", root, recursive=True)
        assert store.pop("b") == b"2"
        fs.copy("d/b", root)
        assert store.pop("b") == b"2"
    fs.copy("", "all", recursive=True)
    assert sorted(store) == ["a", "all/a", "all/d/b", "d/b"]
    fs.makedirs("", exist_ok=True)
    assert fs.find("", withdirs=True) == ["a", "all", "all/a", "all/d", "all/d/b", "d", "d/b"]
    for remove in (fs.rm, fs.rm_file):
        with pytest.raises(IsADirectoryError, match="recursive=True"):
            remove("")
    with pytest.raises(InvalidArgumentError, match="as many targets as there are files"):
        fs.copy("d", ["x", "y", "z"], recursive=True)


class CopiesNothing(Transparent):
    """A store in which every copy fails."""

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        raise StoreUnavailableError("the disk is full")


def test_a_file_moves_in_one_step() -> None:
    # A copy and a delete would lose what others write in between.
    store = MemoryStore({"a": b"1"})
    HoldallFileSystem(CopiesNothing(store)).mv("a", "b")
    assert dict(store.items()) == {"b": b"1"}


def test_a_folder_that_can_not_be_copied_stays() -> None:
    store = MemoryStore({"d/a": b"1", "d/b": b"2"})
    with pytest.raises(StoreUnavailableError, match="full"):
        HoldallFileSystem(CopiesNothing(store)).mv("d", "full", recursive=True)
    assert dict(store.items()) == {"d/a": b"1", "d/b": b"2"}


@pytest.mark.parametrize(
    ("source", "target", "recursive"),
    [
        ("d/a", "d", False),
        ("d/a", "d/", False),
        ("d/*", "d", False),
        ("a", "/", False),
        ("s/d", "s", True),
        ("d", "", True),
        ("*", "", True),
        (["d/a"], "d", False),
        ("*", "s", True),
        (["d/a", "e/a"], "s", False),
        (["a", "d/a"], ["d/a", "b"], False),
        (["a", "d/a"], ["a", "b"], False),
        (["a", "d/a"], ["b"], False),
        (["a", "d/a"], ["b", "b"], False),
        ("", "b", True),
    ],
)
def test_a_move_loses_nothing(source: Any, target: Any, recursive: bool) -> None:
    blobs = {"a": b"1", "d/a": b"2", "e/a": b"3", "s/d/x": b"4"}
    store = MemoryStore(blobs)
    with contextlib.suppress(InvalidArgumentError):
        HoldallFileSystem(store).mv(source, target, recursive=recursive)
    assert sorted(store.values()) == sorted(blobs.values())


def test_a_folder_in_a_store_that_can_not_delete_is_not_copied() -> None:
    store = MemoryStore({"d/a": b"1", "d/b": b"2"})
    with pytest.raises(UnsupportedOperation, match="can't move"):
        HoldallFileSystem(Limited(store, Can.WRITE | Can.LIST)).mv("d", "e", recursive=True)
    assert dict(store.items()) == {"d/a": b"1", "d/b": b"2"}


def test_a_move_leaves_nothing_out_without_a_word() -> None:
    blobs = {"a": b"1", "d/a": b"2"}
    store = MemoryStore(blobs)
    fs = HoldallFileSystem(store)
    for source, target in (("d", "e"), ("d/", "e"), ("d*", "e"), (["d"], "e"), (["a", "d"], ["b", "e"])):
        with pytest.raises(IsADirectoryError, match="recursive=True moves it"):
            fs.mv(source, target)
    with pytest.raises(InvalidArgumentError, match="'a' can't move to both 'b' and 'c'"):
        fs.mv(["a", "a"], ["b", "c"])
    assert dict(store.items()) == blobs


def test_paths_and_positions_of_arguments(tmp_path: Path) -> None:
    store = MemoryStore({"d/a": b"1", "d/b": b"2", "d/s/c": b"3"})
    fs = HoldallFileSystem(store)
    seen = Callback()
    fs.get("d", str(tmp_path / "d"), True, seen, 1)
    assert (tree(tmp_path / "d"), seen.value) == ({"a": b"1", "b": b"2"}, 2)
    fs.copy("d", "e", True, "raise", 1)
    assert sorted(store) == ["d/a", "d/b", "d/s/c", "e/a", "e/b"]
    fs.get(PurePosixPath("d/a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"1"
    fs.copy(PurePosixPath("d/a"), PurePosixPath("c"))
    fs.mv(PurePosixPath("c"), PurePosixPath("d"))
    assert store["d/c"] == b"1"


def test_a_move_removes_what_it_has_copied() -> None:
    store = MemoryStore({"d/a": b"1", "d/b": b"2", "d/s/c": b"3"})
    fs = HoldallFileSystem(store)
    fs.mv("d", "e", recursive=True, maxdepth=1)
    assert dict(store.items()) == {"d/s/c": b"3", "e/a": b"1", "e/b": b"2"}
    fs.mv(["e/b", "d/s/c"], ["y", "x"])
    assert dict(store.items()) == {"e/a": b"1", "x": b"3", "y": b"2"}


def test_as_many_targets_as_sources() -> None:
    fs = HoldallFileSystem(MemoryStore({"a": b"1", "b": b"2"}))
    for call in (fs.copy, fs.mv, fs.get, fs.put):
        with pytest.raises(InvalidArgumentError, match="as many targets as sources: got 1 for 2"):
            call(["a", "b"], ["c"])


def test_a_folder_whose_name_no_key_can_begin_with() -> None:
    fs = HoldallFileSystem(MemoryStore())
    for name in ("../a", "a//b", "./a", "a\nb", "x" * 2000):
        for make in (fs.mkdir, fs.makedirs):
            with pytest.raises(InvalidKeyError):
                make(name)
        assert not fs.exists(name)


class ChangesOnceCopied(Transparent):
    """A store in which others change two blobs while they are copied: one is put, one is deleted."""

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        done = super()._copy(source, target, expect)
        if source == "d/put":
            self.put(source, b"newer")
        elif source == "d/deleted":
            self.delete(source)
        return done


@pytest.mark.parametrize("can", [ATOMIC, ATOMIC & ~Can.CONDITIONAL_DELETE])
def test_what_changed_while_its_folder_moved_is_not_deleted(can: Can) -> None:
    store = MemoryStore({"d/a": b"1", "d/put": b"2", "d/deleted": b"3", "d/z": b"4"})
    fs = HoldallFileSystem(ChangesOnceCopied(Limited(store, can)))
    with pytest.raises(ConcurrencyError, match=r"1 of 4 files changed .* the first of them 'd/put'"):
        fs.mv("d", "e", recursive=True)
    moved = {"e/a": b"1", "e/put": b"2", "e/deleted": b"3", "e/z": b"4"}
    assert dict(store.items()) == {"d/put": b"newer", **moved}


def subjects(store: GitStore) -> list[str]:
    return [revision.message.partition("\n")[0] for revision in store.history()]


def test_a_folder_in_git_moves_by_one_commit(tmp_path: Path) -> None:
    with GitStore(tmp_path, author="A <a@x>") as store:
        store.put_many({"p/d/a": b"1", "p/d/s/b": b"2\r\n", "p/e/a": b"old"})
        fs = HoldallFileSystem(store)
        fs.mkdir("p/d/empty")
        HoldallFileSystem(store / "p/").mv("d/", "e/", recursive=True)
        assert dict(store.items()) == {"p/e/a": b"1", "p/e/s/b": b"2\r\n"}
        fs.mv("p/e", "q", recursive=True)
        fs.mv(["q/a", "q/s/b"], ["x", "y"])
        assert dict(store.items()) == {"x": b"1", "y": b"2\r\n"}
        # The rules of a folder go with it.
        store.put_many({"d/.gitattributes": b"* text\n", "d/a": b"1\r\n"})
        fs.mv("d", "e", recursive=True)
        assert (store["e/a"], store.at("HEAD")["e/a"]) == (b"1\r\n", b"1\n")
        moves = ["Move 2 blobs"] * 4
        assert subjects(store) == [moves[0], "Add 2 blobs", *moves[1:], "Add 3 blobs"]
        assert store.history("x")[0].message == "Move 2 blobs\n\nMove q/a to x\nMove q/s/b to y"
        assert (
            subprocess.run(
                ["git", "status", "--porcelain"], cwd=tmp_path, check=True, capture_output=True
            ).stdout
            == b""
        )


def test_a_folder_with_folders_that_were_made_moves_whole(tmp_path: Path) -> None:
    with GitStore(tmp_path, author="A <a@x>") as store:
        store["d/a"] = b"1"
        fs = HoldallFileSystem(store)
        fs.mkdir("d/empty")
        fs.mv("d", "e", recursive=True)
        assert (fs.find("e", withdirs=True), fs.exists("d")) == (["e", "e/a", "e/empty"], False)


class ChangesOnceRead(GitStore):
    """A store in which others change a blob once it was read to be moved."""

    change: Any = None

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        read = super()._read(key, start, stop)
        if key == "d/b" and (change := self.change) is not None:
            self.change = None
            change()
        return read


def test_a_folder_in_git_moves_as_others_have_left_it(tmp_path: Path) -> None:
    with ChangesOnceRead(tmp_path, author="A <a@x>") as store, GitStore(tmp_path, author="B <b@x>") as other:
        fs = HoldallFileSystem(store)
        old = {"d/a": b"1", "d/b": b"2", "d/c": b"3"}
        store.put_many(old)
        store.change = lambda: other.put("d/b", b"newer")
        fs.mv("d", "e", recursive=True)
        assert dict(store.items()) == {"e/a": b"1", "e/b": b"newer", "e/c": b"3"}
        assert subjects(store)[:2] == ["Move 3 blobs", "Update d/b"]
        store.put_many(old)
        store.delete_many([*store.iterate_keys("e/")])
        store.change = lambda: other.delete("d/b")
        with pytest.raises(BlobNotFoundError) as caught:
            fs.mv("d", "e", recursive=True)
        assert caught.value.key == "d/b"
        assert dict(store.items()) == {"d/a": b"1", "d/c": b"3"}
        (tmp_path / "f").mkdir()
        (tmp_path / "f" / "c").write_bytes(b"somebody's")
        with pytest.raises(KeyConflictError, match="doesn't track"):
            fs.mv("d", "f", recursive=True)
        assert dict(store.items()) == {"d/a": b"1", "d/c": b"3"}
        with pytest.raises(InvalidKeyError):
            fs.mv("d", "e//f", recursive=True)
        assert [name for name in os.listdir(tmp_path / ".git/holdall") if name.startswith("draft")] == []


def test_an_interrupted_move_loses_nothing() -> None:
    main = threading.main_thread().ident
    assert main is not None

    class Interrupting(Transparent):
        copies = 0

        def _copy(self, source: str, target: str, expect: Expect) -> Info:
            self.copies += 1
            if self.copies == 1:
                signal.pthread_kill(main, signal.SIGINT)
            return super()._copy(source, target, expect)

    store = MemoryStore({f"d/{number}": b"%d" % number for number in range(100)})
    with pytest.raises(KeyboardInterrupt):
        HoldallFileSystem(Interrupting(Slow(store, 0.01)), batch_size=4).mv("d", "e", recursive=True)
    assert len([*store.iterate_keys("d/")]) == 100
    assert len([*store.iterate_keys("e/")]) < 100
