"""What is special to files: names, links, strangers, permissions, full disks, litter."""

import dis
import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.again import Again
from tests.forks import succeeds_as_nobody

from holdall import (
    ABSENT,
    BlobNotFoundError,
    ConcurrencyError,
    FilesystemStore,
    HashdirStore,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    Store,
    StoreUnavailableError,
)
from holdall.stores import drafts, filesystem, listing, locks, nofollow, places, shortway, steps, together


class _Folded(FilesystemStore):
    """As on a disk that is blind to case."""

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        super().__init__(path, durable=durable)
        self._fold = True
        self._flat = False


class TestFoldedFilesystem(Again):
    respells = True

    def make(self, place: Path) -> Store:
        return _Folded(place / "store")


def test_a_disk_blind_to_case_whose_files_have_a_number_for_each_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exFAT with FUSE."""
    made = _Folded(tmp_path)
    made.update({"a": b"1", "Key": b"2"})
    real = os.lstat

    def lstat(path: str, **options: Any) -> os.stat_result:
        folder, name = os.path.split(path)
        for each in os.listdir(folder):
            if each.lower() == name.lower():
                found = list(real(f"{folder}/{each}"))
                found[stat.ST_INO] += each != name
                return os.stat_result(found)
        return real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", lstat)
        store = FilesystemStore(tmp_path)
    assert dict(store.items()) == {"a": b"1", "Key": b"2"}
    assert "key" not in store


@pytest.mark.parametrize("key", ["Key", "1/Key", "é"])
def test_a_reader_that_was_there_first_learns_that_a_disk_is_blind_to_case(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.lstat

    def lstat(path: str, **options: Any) -> os.stat_result:
        folder, name = os.path.split(path)
        names = {each.lower(): each for each in os.listdir(folder)}
        return real(f"{folder}/{names.get(name.lower(), name)}", **options)

    early = [FilesystemStore(tmp_path / "store") for _ in range(2)]
    _Folded(tmp_path / "store")[key] = b"1"
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", lstat)
        assert early[0].get(key) == b"1"
        assert list(early[1]) == [key]
        hashed = HashdirStore(tmp_path / "hashed")
        writer = HashdirStore(tmp_path / "hashed")
        writer._fold, writer._flat = True, False
        writer[key] = b"1"
        assert (hashed.get(key), list(hashed)) == (b"1", [key])


def test_names_that_differ_by_case_only_are_of_a_disk_that_tells_them_apart(tmp_path: Path) -> None:
    for name in ("a", "A"):
        (tmp_path / name).write_text(name)
    assert dict(FilesystemStore(tmp_path).items()) == {"a": b"a", "A": b"A"}


def test_a_file_over_the_limit_of_a_process_is_told(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from holdall import FilesystemStore
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        FilesystemStore(sys.argv[1])["a"] = b"1" * 2000
    """
    run = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert "StoreUnavailableError: 'a': the file would be larger than" in done.stderr
    assert os.listdir(tmp_path) == []


def _no(_: str) -> bool:
    return False


@pytest.fixture(params=["at once", "by steps"])
def opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to open a file, whatever the kernel has."""
    if request.param == "by steps":
        monkeypatch.setattr(filesystem, "open_file", nofollow.open_by_steps)
        for module in (filesystem, listing):
            monkeypatch.setattr(module, "open_into", nofollow.open_into_by_steps)
        for module in (shortway, places, together):
            monkeypatch.setattr(module, "open_below", nofollow.open_below_by_steps)
        for module in (drafts, shortway, steps, together):
            monkeypatch.setattr(module, "move_new", nofollow.link_and_unlink)
        monkeypatch.setattr(locks, "can_be_nameless", _no)
    else:
        assert nofollow.open_file is not nofollow.open_by_steps, "this kernel has no openat2"
        assert nofollow.move_new is not nofollow.link_and_unlink, "this C library has no renameat2"
    return str(request.param)


def _run(code: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    if before:
        program = ["unshare", "-Urm", "sh", "-c", f'{before} && exec "$@"', "sh", *program]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)


def test_plain_paths_are_plain_files(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    for key in ("a.txt", "run-7/weights", ".gitignore", "a b/c+d=(e)", "50%.csv", "Ünï/çødé", "x" * 255):
        store[key] = key.encode()
        assert (tmp_path / key).read_bytes() == key.encode()


def test_a_file_that_somebody_drops_in_is_a_blob(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    names = ["plain", "what?.txt", "a:b", "back\\slash", "%41", "100%25", "CON", "dot.", "a b ", "%C3", "x%~"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
        (tmp_path / f"folder {name}").mkdir()
        (tmp_path / f"folder {name}" / name).write_bytes(b"below")
    keys = list(store.iterate_keys())
    assert keys == sorted(keys)
    assert len(keys) == 2 * len(names)
    for key in keys:
        assert store[key] in (b"below", *(name.encode() for name in names))
        assert store.info(key).key == key
        assert key in store
    assert {key for key in keys if "/" not in key} == set(names)


def test_a_name_spelled_by_somebody_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "what?").write_bytes(b"old")
    store = FilesystemStore(tmp_path)
    store["what?"] = b"new"
    assert (tmp_path / "what?").read_bytes() == b"new"
    assert list(store.iterate_keys()) == ["what?"]
    assert store.delete("what?")
    assert os.listdir(tmp_path) == []
    store["what?"] = b"escaped"
    assert os.listdir(tmp_path) == ["what%3F"]
    # Where both spellings are, ours is the blob.
    (tmp_path / "what?").write_bytes(b"literal")
    assert (list(store.iterate_keys()), store["what?"]) == (["what?"], b"escaped")


def test_names_that_can_be_no_key_are_left_alone(tmp_path: Path) -> None:
    strange = [b"\xff\xfe", b"tab\there", b"new\nline", "\x9f".encode()]
    for name in strange:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"")
    store = FilesystemStore(tmp_path)
    assert list(store.list()) == list(store.children()) == []
    store["a"] = b""
    store.clear()
    assert len(os.listdir(tmp_path)) == len(strange)


def test_a_link_never_leads_out(tmp_path: Path, opening: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    store = FilesystemStore(root)
    store["real/blob"] = b"inside"
    (root / "file").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "real" / "up").symlink_to("../..")
    (root / "inner").symlink_to("real")
    for key in ("file", "folder/secret", "real/up/outside/secret", "inner/blob", "folder", "real/up"):
        assert store.get(key) is None
        assert key not in store
        assert not store.delete(key)
        for call in (store.info, store.open, store.chunks):
            with pytest.raises(BlobNotFoundError):
                call(key)
        with pytest.raises(BlobNotFoundError):
            store.copy(key, "copy")
        with pytest.raises(BlobNotFoundError):
            store.move(key, "moved")
    for key in ("folder/new", "folder/deep/er/new", "folder/secret", "real/up/new"):
        for data in (b"small", [b"a", b"stream"]):
            with pytest.raises(KeyConflictError, match="symbolic link"):
                store.put(key, data)
        with pytest.raises(KeyConflictError):
            store.put(key, b"", expect=ABSENT)
        with pytest.raises(KeyConflictError):
            store.copy("real/blob", key)
        with pytest.raises(KeyConflictError):
            store.move("real/blob", key)
        with pytest.raises(KeyConflictError):
            store.open(key, "wb")
    assert list(store.iterate_keys()) == ["real/blob"]
    assert list(store.iterate_keys("folder/")) == list(store.children("folder/")) == []
    assert (list(outside.iterdir()), (outside / "secret").read_bytes()) == ([outside / "secret"], b"secret")
    # Not even the link itself is replaced.
    with pytest.raises(KeyConflictError, match="symbolic link"):
        store["file"] = b"own"
    assert ((outside / "secret").read_bytes(), (root / "file").is_symlink()) == (b"secret", True)


def test_a_folder_that_becomes_a_link_leads_nowhere(tmp_path: Path, opening: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b").write_bytes(b"secret")
    store = FilesystemStore(tmp_path / "root")
    store["a/b"] = b"1"
    assert store["a/b"] == b"1"
    (tmp_path / "root" / "a" / "b").unlink()
    (tmp_path / "root" / "a").rmdir()
    (tmp_path / "root" / "a").symlink_to(tmp_path / "outside")
    assert store.get("a/b") is None
    assert not store.exists("a/b")
    with pytest.raises(KeyConflictError):
        store["a/b"] = b"2"
    assert (tmp_path / "outside" / "b").read_bytes() == b"secret"


def test_the_folder_itself_may_be_a_link_and_may_move(tmp_path: Path, opening: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to("one")
    store = FilesystemStore(tmp_path / "link")
    store["a"] = b"1"
    assert (tmp_path / "one" / "a").read_bytes() == b"1"
    other = FilesystemStore(tmp_path / "two")
    other["a"] = b"1"
    (tmp_path / "two").rename(tmp_path / "three")
    assert other.get("a") is None
    other["b"] = b"2"
    assert sorted(os.listdir(tmp_path / "two")) == ["b"]
    assert sorted(os.listdir(tmp_path / "three")) == ["a"]
    assert other.put("b", b"3", expect=other.info("b").etag).size == 1


def test_what_is_no_file_is_no_blob(tmp_path: Path, opening: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    store = FilesystemStore(tmp_path)
    for key in ("pipe", "folder"):
        assert store.get(key) is None
        assert key not in store
        with pytest.raises(BlobNotFoundError):
            store.info(key)
        with pytest.raises(BlobNotFoundError):
            store.open(key)
        assert not store.delete(key)
    assert list(store.list()) == []
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_a_blob_and_blobs_below_it(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"1"
    for data in (b"2", [b"2", b"3"]):
        with pytest.raises(KeyConflictError, match="both"):
            store.put("a/b/c", data)
    with pytest.raises(KeyConflictError):
        store.put("a/b", b"", expect=ABSENT)
    assert (store["a"], list(store.iterate_keys())) == (b"1", ["a"])
    assert store.get("a/b") is None
    assert "a/b" not in store
    store["x/y/z"] = b"1"
    for key in ("x", "x/y"):
        for data in (b"2", [b"2", b"3"]):
            with pytest.raises(KeyConflictError, match="both"):
                store.put(key, data)
        with pytest.raises(KeyConflictError):
            store.put(key, b"", expect=ABSENT)
        with pytest.raises(KeyConflictError):
            store.move("a", key)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a", "z"]


def test_empty_folders_are_nothing(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    (tmp_path / "empty" / "er").mkdir(parents=True)
    assert list(store.children()) == []
    store["empty"] = b"a blob takes its place"
    assert store["empty"] == b"a blob takes its place"
    store["deep/er/blob"] = b""
    del store["deep/er/blob"]
    assert os.listdir(tmp_path) == ["empty"]


def test_two_handles_tidy_and_fill_one_folder(tmp_path: Path) -> None:
    # A folder that one tidies away is made again by the other, however they meet.
    def fill(name: str) -> None:
        with FilesystemStore(tmp_path) as store:
            for number in range(300):
                store[f"a/b/{name}"] = b"%d" % number
                assert store.pop(f"a/b/{name}") == b"%d" % number

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(fill, "xyz", timeout=60))
    assert os.listdir(tmp_path) == []


def test_reading_creates_nothing(tmp_path: Path) -> None:
    with FilesystemStore(tmp_path / "none") as store:
        assert store.get("a") is None
        assert list(store.list()) == list(store.children()) == []
        assert not store.delete("a")
        with pytest.raises(ConcurrencyError):
            store.delete("a", expect="1-1")
        store.clear()
    assert os.listdir(tmp_path) == []


def test_wrong_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailableError, match="is a file"):
        FilesystemStore(tmp_path / "file")
    with pytest.raises(StoreUnavailableError, match="is a file"):
        FilesystemStore(tmp_path / "file" / "below")
    for wrong in (5, None, b"bytes", "", "nul\0"):
        with pytest.raises(InvalidArgumentError):
            FilesystemStore(wrong)  # type: ignore[arg-type]
    deep = FilesystemStore(tmp_path)
    with pytest.raises(InvalidKeyError, match="too long"):
        FilesystemStore(tmp_path / "/".join(["d" * 200] * 18)).put("k" * 1024, b"")
    assert list(deep.iterate_keys()) == ["file"]


def test_a_full_disk_leaves_the_old_blob(tmp_path: Path) -> None:
    done = _run(
        """
        import os, sys, holdall
        store = holdall.FilesystemStore(sys.argv[1])
        store["a"] = b"old" * 1000
        kept = store.put("b/c", b"x" * 200_000)
        def raises(call):
            try:
                call()
            except holdall.StoreUnavailableError as error:
                assert "full" in str(error) and isinstance(error.__cause__, OSError), error
            else:
                raise AssertionError("no error")
        def open_and_write():
            with store.open("b/c", "wb") as file:
                for _ in range(2000):
                    file.write(b"z" * 1000)
        for key in ("a", "b/c", "new/one"):
            raises(lambda: store.put(key, b"y" * 2_000_000))
            raises(lambda: store.put(key, [b"y" * 100_000] * 20))
            raises(lambda: store.put(key, iter([b"y" * 100_000] * 20)))
        raises(open_and_write)
        for number in range(10):
            try:
                store.copy("b/c", f"copy{number}")
            except holdall.StoreUnavailableError as error:
                assert "full" in str(error)
                break
        else:
            raise AssertionError("the disk never filled")
        assert store["a"] == b"old" * 1000
        assert store.info("b/c") == kept and store["b/c"] == b"x" * 200_000
        assert all(key in ("a", "b/c") or key.startswith("copy") for key in store.iterate_keys())
        files = [name for _, _, names in os.walk(sys.argv[1]) for name in names]
        assert not any(name.startswith(".holdall") for name in files), files
        """,
        str(tmp_path),
        before=f"mount -t tmpfs -o size=1m tmpfs {tmp_path}",
    )
    assert done.returncode == 0, done.stderr


def test_no_permission_is_said() -> None:
    # Not below tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        FilesystemStore(root).put_many({"a": b"1", "secret": b"1"})
        (root / "secret").chmod(0)
        root.chmod(0o555)
        Path(folder).chmod(0o755)
        done = _run(
            """
            import os, sys, holdall
            store = holdall.FilesystemStore(sys.argv[1])
            assert store["a"] == b"1"
            if os.getuid() == 0:
                os.setgroups([]); os.setgid(65534); os.setuid(65534)
            for call in (
                lambda: store.put("a", b"2"), lambda: store.put("new/b", [b"2"]), lambda: store.delete("a"),
                lambda: store["secret"], lambda: store.open("a", "wb"), lambda: store.move("a", "b"),
                lambda: store.copy("a", "b"), lambda: store.open("secret"),
            ):
                try:
                    call()
                except holdall.StoreUnavailableError as error:
                    assert "permission" in str(error), error
                else:
                    raise AssertionError("no error")
            assert store["a"] == b"1"
            assert sorted(store.iterate_keys()) == ["a", "secret"]
            """,
            str(root),
        )
        root.chmod(0o755)
    assert done.returncode == 0, done.stderr


def test_a_read_only_disk_is_said(tmp_path: Path) -> None:
    FilesystemStore(tmp_path)["a"] = b"1"
    done = _run(
        """
        import sys, holdall
        store = holdall.FilesystemStore(sys.argv[1])
        assert store["a"] == b"1"
        for call in (lambda: store.put("a", b"2"), lambda: store.delete("a"), lambda: store.move("a", "b")):
            try:
                call()
            except holdall.ReadOnlyError as error:
                assert "read-only" in str(error)
            else:
                raise AssertionError("no error")
        """,
        str(tmp_path),
        before=f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}",
    )
    assert done.returncode == 0, done.stderr


def test_litter_is_swept_if_its_writer_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the age of a file nor the time of day tells whether its writer lives."""
    store = FilesystemStore(tmp_path)
    store["a/b"] = b""
    dead = [
        tmp_path / name for name in (".holdall~dead.new-1", "a/.holdall~dead.new-1", "a/.holdall~dead.new-2")
    ]
    for path in dead:
        path.write_bytes(b"half")
    os.utime(dead[0], (1, 1))
    other = FilesystemStore(tmp_path)

    def body() -> Iterator[bytes]:
        yield b"first"
        assert list(store.iterate_keys()) == ["a/b"]
        yield b"second"

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    with other.open("a/c", "wb") as idle, other.open("a/d", "wb") as busy:
        busy.write(b"1" * (3 << 19))
        for path in (tmp_path / "a").glob(".holdall~*"):
            os.utime(path, (1, 1))
        other.put("a/e", body())
        assert list(store.iterate_keys()) == ["a/b", "a/e"]
        assert not any(path.exists() for path in dead)
        idle.write(b"last")
    assert [store.info(key).size for key in ("a/c", "a/d", "a/e")] == [4, 3 << 19, 11]


def test_a_writer_that_was_killed_leaves_nothing_after_a_listing(tmp_path: Path) -> None:
    code = """
        import os, sys, holdall
        store = holdall.FilesystemStore(sys.argv[1])
        file = store.open("a/b", "wb")
        file.write(b"x" * (3 << 20))
        os._exit(7)
        """
    assert _run(code, str(tmp_path)).returncode == 7
    assert len(os.listdir(tmp_path / "a")) == 1
    assert list(FilesystemStore(tmp_path)) == []
    assert os.listdir(tmp_path / "a") == []


def test_a_draft_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"old"
    swept: list[str] = []
    take, rename = locks.take, os.rename

    def take_late(fd: int, how: int, where: str) -> None:
        if not swept:
            swept.append(where)
            list(FilesystemStore(tmp_path))
        take(fd, how, where)

    monkeypatch.setattr(drafts, "take", take_late)
    assert store.put("a", iter([b"n", b"ew"])).size == 3

    def rename_late(*args: Any, **options: Any) -> None:
        if len(swept) == 1:
            swept.append("short")
            list(FilesystemStore(tmp_path))
        rename(*args, **options)

    monkeypatch.setattr(os, "rename", rename_late)
    assert store.put("a", b"newer").size == 5
    assert (store["a"], len(swept), os.listdir(tmp_path)) == (b"newer", 2, ["a"])


def test_durable_is_synced_before_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(fd: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        sync(fd)

    def publish(*args: Any, **options: Any) -> None:
        steps.append("rename")
        replace(*args, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", publish)
    store = FilesystemStore(tmp_path / "root", durable=True)
    store["first"] = b""
    steps.clear()
    store["a"] = b"1"
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    store["new/folder/a"] = b"1"
    assert steps == ["folder", "folder", "file", "rename", "folder"]
    steps.clear()
    del store["a"]
    assert steps == ["folder"]
    steps.clear()
    FilesystemStore(tmp_path / "root")["b"] = b"1"
    assert steps == ["rename"]


def test_every_folder_that_a_durable_store_makes_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    FilesystemStore(tmp_path / "one" / "two" / "three", durable=True)["a"] = b"1"
    folders = [str(tmp_path), str(tmp_path / "one"), str(tmp_path / "one" / "two")]
    assert sorted(name for name in synced[:3]) == folders


def test_a_copy_that_the_system_gives_up_half_way_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, calls = os.copy_file_range, 0

    def half(source: int, target: int, count: int, start: int, at: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.EXDEV, "two file systems")
        return copy(source, target, 1000, start, at)

    store = FilesystemStore(tmp_path)
    store["a"] = bytes(range(256)) * 20
    monkeypatch.setattr(os, "copy_file_range", half)
    store.copy("a", "b")
    assert (calls, store["b"]) == (2, store["a"])


def test_a_copy_of_a_file_that_is_cut_meanwhile_stores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = os.copy_file_range

    def cut(source: int, target: int, count: int, start: int, at: int) -> int:
        os.truncate(tmp_path / "a", 1000)
        return copy(source, target, count, start, at)

    store = FilesystemStore(tmp_path)
    store["a"] = b"x" * 5000
    monkeypatch.setattr(os, "copy_file_range", cut)
    with pytest.raises(StoreUnavailableError, match="cut the file"):
        store.copy("a", "b")
    assert list(store) == ["a"]


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"x" * (5 << 20)

    def use() -> None:
        store["b"] = b"1"
        next(store.chunks("a"))
        store.open("a").close()

    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    use()
    assert len(os.listdir("/proc/self/fd")) == before
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="a system without /proc")
def test_what_was_read_before_does_not_change_what_is_read(tmp_path: Path) -> None:
    store = FilesystemStore("/")
    long, short = (str(tmp_path.resolve() / name)[1:] for name in ("long", "short"))
    Path("/", long).write_bytes(b"x" * 200_000)
    Path("/", short).write_bytes(b"y")
    # A file of /proc doesn't say its size.
    expected = {
        "proc/version": Path("/proc/version").read_bytes(),
        long: b"x" * 200_000,
        short: b"y",
        "proc/filesystems": Path("/proc/filesystems").read_bytes(),
    }
    for key in [*expected, *reversed(expected), long, "proc/version", "proc/version"]:
        assert store[key] == expected[key]


def test_another_programs_write_changes_the_etag(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    etag = store.put("a", b"one").etag
    (tmp_path / "a").write_bytes(b"two")
    assert store.info("a").etag != etag
    with pytest.raises(ConcurrencyError):
        store.put("a", b"new", expect=etag)
    assert store["a"] == b"two"


@pytest.mark.parametrize("move", [nofollow.move_new, nofollow.link_and_unlink])
def test_a_file_is_moved_only_to_where_nothing_is(move: Callable[[str, str], int], tmp_path: Path) -> None:
    old, new = str(tmp_path / "öld"), str(tmp_path / "new")
    Path(old).write_bytes(b"1")
    assert move(old, new) == 0
    assert (os.path.exists(old), Path(new).read_bytes()) == (False, b"1")
    Path(old).write_bytes(b"2")
    for there in (new, str(tmp_path)):
        assert move(old, there) == -errno.EEXIST
    assert move(old, str(tmp_path / "nowhere/new")) == -errno.ENOENT
    assert move(str(tmp_path / "nothing"), str(tmp_path / "other")) == -errno.ENOENT
    assert (Path(old).read_bytes(), Path(new).read_bytes()) == (b"2", b"1")


def test_a_file_that_is_swept_as_it_is_moved_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = store["b"] = b""
    link = os.link

    def swept(*args: Any, **options: Any) -> None:
        link(*args, **options)
        list(FilesystemStore(tmp_path))

    monkeypatch.setattr(os, "link", swept)
    monkeypatch.setattr(shortway, "move_new", nofollow.link_and_unlink)
    assert store.put("new", b"1", expect=ABSENT).size == 1
    assert (sorted(os.listdir(tmp_path)), store["new"]) == (["a", "b", "new"], b"1")


_NOP = dis.opmap["NOP"]


class _Interrupt:
    """Raise at one step of the interpreter in the library's own code, as Ctrl-C may; at none if there are
    fewer."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, frame: Any, event: str, _: object) -> Any:
        # What is raised in a destructor never comes out, wherever it is.
        if "/holdall/" not in frame.f_code.co_filename:
            return None
        above = frame
        while above is not None:
            if above.f_code.co_name == "__del__":
                return None
            above = above.f_back
        frame.f_trace_opcodes = True
        # None comes at an instruction that does nothing, as there may be one before a `try`.
        if event == "opcode" and frame.f_code.co_code[frame.f_lasti] != _NOP:
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

    def comes(self, call: Callable[[], object]) -> bool:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def _open_and_write(store: Store, key: str) -> None:
    with store.open(key, "wb") as file:
        file.write(b"new")


def _put_new(store: Store, key: str) -> None:
    store._local.lock.misses = 100  # type: ignore[attr-defined]
    store.put(key, b"new")


def _fail(store: Store, key: str) -> None:
    with pytest.raises(ConcurrencyError):
        store.put(key, b"new", expect="another")


_CHANGES: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("a", b"new"),
    "put below": lambda store: store.put("d/e", b"new"),
    "put of what is new": lambda store: _put_new(store, "d/f"),
    "put of what is new in a folder that isn't there": lambda store: _put_new(store, "new/one"),
    "put where something is after all": lambda store: _put_new(store, "a"),
    "pieces": lambda store: store.put("a", iter([b"n", b"ew"])),
    "create": lambda store: store.put("new/one", b"new", expect=ABSENT),
    "create in a folder that is there": lambda store: store.put("d/f", b"new", expect=ABSENT),
    "swap": lambda store: store.put("a", b"new", expect=store.info("a").etag),
    "swap of another": lambda store: _fail(store, "a"),
    "swap of another below": lambda store: _fail(store, "d/e"),
    "modify": lambda store: store.modify("a", lambda _: b"new"),
    "file": lambda store: _open_and_write(store, "a"),
    "copy": lambda store: store.copy("other", "a"),
    "move": lambda store: store.move("d/e", "moved/to"),
    "delete": lambda store: store.delete("d/e"),
    "delete of nothing": lambda store: (store.delete("nothing"), store.delete("no/thing")),
    "put_many": lambda store: store.put_many({"a": b"new", "d/e": b"new", "d/f": b"new"}),
    "first put": lambda store: type(store)(store._given).put("a", b"new"),  # type: ignore[attr-defined]
}


# What is interrupted before its `with` begins is closed as it is dropped.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("kind", [FilesystemStore, HashdirStore])
@pytest.mark.parametrize("change", _CHANGES)
def test_an_interrupt_at_any_step_leaves_no_lock_and_no_file(
    kind: type[FilesystemStore], change: str, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    store = kind(root)
    store.put_many({"a": b"old", "other": b"old", "d/e": b"old"})
    # Python 3.12 traces the steps of what was traced before only.
    _Interrupt(1 << 30).comes(lambda: _CHANGES[change](store))
    step, came = 1, True
    while came:
        store.put_many({"a": b"old", "other": b"old", "d/e": b"old"})
        store.delete_many(["new/one", "d/f", "moved/to"])
        interrupt = _Interrupt(step)
        came = interrupt.comes(lambda: _CHANGES[change](store))
        assert came == (interrupt.left == 0), f"step {step} swallowed it"
        another = os.open(root, os.O_RDONLY)
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(another)
        if change.startswith("swap of another"):
            list(kind(root))  # after an error, it may come just before the file would be removed
        left = [name for _, _, names in os.walk(root) for name in names if ".new-" in name]
        assert left == [], f"step {step}"
        for key, data in store.items():
            assert data in (b"old", b"new"), f"{key} after step {step}"
        assert {"a", "other"} <= set(store)
        assert "d/e" in store or change in ("move", "delete")
        step += 31
    assert step > 50


def test_an_interrupt_as_a_file_is_closed_comes_out_as_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemStore(tmp_path)
    flush = filesystem._Writer.flush  # pyright: ignore[reportPrivateUsage]
    calls: list[object] = []

    def interrupted(self: Any) -> None:
        calls.append(self)
        if len(calls) == 1:
            raise KeyboardInterrupt
        flush(self)

    monkeypatch.setattr(filesystem._Writer, "flush", interrupted)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(KeyboardInterrupt):
        _open_and_write(store, "a")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_may_not_be_searched_is_told() -> None:
    """A copy of the rest would look like one of all."""

    def work(folder: Path) -> None:
        store = FilesystemStore(folder / "store")
        store.put_many({"a": b"0", "d/e/f": b"1", "d/g": b"2"})
        (folder / "store" / "d").chmod(0o600)
        calls: list[Callable[[], object]] = [
            *(lambda: list(store.list()), lambda: list(store.children("d/")), lambda: store.info("d/e/f")),
            *(lambda: store.get("d/e/f"), lambda: "d/e/f" in store, lambda: store.put("d/e/f", b"2")),
            *(lambda: store.put("d/e/f", iter([b"2"])), lambda: store.delete("d/e/f")),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError):
                call()
        (folder / "store" / "d").chmod(0o700)
        assert dict(store.items()) == {"a": b"0", "d/e/f": b"1", "d/g": b"2"}

    succeeds_as_nobody(work)


def test_a_file_whose_name_is_no_key_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"1"
    for name in (b"r\xe9sum\xe9", b"two\nlines"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    for _ in range(2):
        assert list(store) == ["a"]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "left out 2" in told[0]
    (tmp_path / "link").symlink_to("a")
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"")
    assert list(store) == ["a"]
    assert len(caplog.records) == len(told) + 2


def test_text_that_is_appended_has_no_second_mark(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    for text in ("one", "two"):
        with store.open("a.txt", "a", encoding="UTF-8-SIG") as file:
            file.write(text)
    assert store["a.txt"] == b"\xef\xbb\xbfonetwo"
