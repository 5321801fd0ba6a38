"""What other programs do to the folder of a store: links, pipes, modes, clocks, moves, odd trees."""

import errno
import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.forks import succeeds_as_nobody

from holdall import (
    ABSENT,
    ANY,
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    DeleteRefusedError,
    FilesystemStore,
    HashdirStore,
    InvalidArgumentError,
    KeyConflictError,
    MemoryStore,
    Store,
    StoreError,
    StoreUnavailableError,
    sync_stores,
)
from holdall.store import Attributes, Body, Expect, Info, LeftOut
from holdall.stores import drafts, filesystem, locks, nofollow, places, shortway, steps, together


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # the address of a socket is short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


_SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "link": (_link, "symbolic link"),
    "dangling": (_dangling, "symbolic link"),
    "pipe": (lambda path: os.mkfifo(path), "named pipe"),
    "socket": (_socket, "socket"),
}


@pytest.mark.parametrize("name", _SPECIAL)
@pytest.mark.parametrize("kind", [FilesystemStore, HashdirStore])
def test_what_isnt_a_file_is_absent_and_is_never_replaced(
    name: str, kind: type[FilesystemStore], tmp_path: Path
) -> None:
    make, words = _SPECIAL[name]
    store = kind(tmp_path)
    store["k"] = store["other"] = b"1"
    (path,) = tmp_path.rglob("k")
    path.unlink()
    make(path)
    before = os.lstat(path)
    assert (store.get("k"), store.get_many(["k"]), "k" in store, list(store)) == (None, {}, False, ["other"])
    assert list(store.left_out()) == [LeftOut("k", words)]
    assert not store.delete("k")
    reads: list[Callable[[], object]] = [
        *(lambda: store["k"], lambda: store.info("k"), lambda: store.open("k"), lambda: store.chunks("k")),
        *(lambda: store.get_range("k", 0), lambda: store.pop("k"), lambda: store.copy("k", "new")),
        *(lambda: store.move("k", "new"), lambda: store.modify("k", bytes)),
    ]
    for call in reads:
        with pytest.raises(BlobNotFoundError):
            call()
    writes: list[Callable[[], object]] = [
        *(lambda: store.put("k", b"2"), lambda: store.put("k", iter([b"2"]))),
        *(lambda: store.put("k", b"2", expect=ABSENT), lambda: store.setdefault("k", b"2")),
        *(lambda: store.modify("k", bytes, default=b"2"), lambda: store.open("k", "wb").close()),
        *(lambda: store.copy("other", "k"), lambda: store.move("other", "k")),
        *(lambda: store.put("k", b"2", expect="1"), lambda: store.update(k=b"2")),
        lambda: store.copy("other", "k", expect=ABSENT),
    ]
    for call in writes:
        with pytest.raises(KeyConflictError, match=words):
            call()
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert dict(store.items()) == {"other": b"1"}


def test_reading_takes_nothing_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    os.write(pipe, b"for another program")
    store = FilesystemStore(tmp_path)
    assert (store.get("pipe"), store.get_many(["pipe"]), list(store.values())) == (None, {}, [])
    assert os.read(pipe, 100) == b"for another program"
    os.close(pipe)


def test_a_listing_reports_what_it_leaves_out(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put_many({"a": b"", "d/b": b"", "z%": b""})
    (tmp_path / "d" / "link").symlink_to("b")
    (tmp_path / "folder").symlink_to("d")
    os.mkfifo(tmp_path / "d" / "pipe")
    for name in (b"r\xe9sum\xe9", b"two\nlines"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    (tmp_path / "x%3Ay").write_bytes(b"ours")
    (tmp_path / "x:y").write_bytes(b"hidden")
    left = {entry.path: entry.kind for entry in store.left_out()}
    key = "name that can't be a key"
    assert left == {
        "d/link": "symbolic link",
        "folder": "symbolic link",
        "d/pipe": "named pipe",
        "r\\udce9sum\\udce9": key,
        "two\nlines": key,
        "\\udcff": key,
        "x:y": "second file for one key",
    }
    found = store._survey("d/", "")  # pyright: ignore[reportPrivateUsage]
    entries = [entry if isinstance(entry, LeftOut) else entry.key for entry in found]
    assert entries == ["d/b", LeftOut("d/link", "symbolic link"), LeftOut("d/pipe", "named pipe")]
    # A prefix that leads through a link is left out as a whole.
    for prefix in ("folder/", "folder/b", "fold"):
        assert list(store.left_out(prefix)) == [LeftOut("folder", "symbolic link")]
    assert list(store.left_out("a/")) == list(store.left_out("none/x")) == []
    assert list(store) == ["a", "d/b", "x:y", "z%"]


def test_strangers_in_hashed_folders_are_reported(tmp_path: Path) -> None:
    store = HashdirStore(tmp_path)
    store["a"] = b""
    (tmp_path / "stranger").write_bytes(b"")
    (path,) = tmp_path.rglob("a")
    (path.parent / "b").symlink_to("a")
    (path.parent / os.fsdecode(b"\xff")).write_bytes(b"")
    assert sorted(entry.kind for entry in store.left_out()) == [
        *["file that isn't where its key belongs"] * 2,
        "symbolic link",
    ]
    assert list(store) == [info.key for info in store.list()] == ["a"]


def test_what_a_hashdir_leaves_out_is_not_deleted_from_a_target(tmp_path: Path) -> None:
    store = HashdirStore(tmp_path / "s")
    blobs = {key: key.encode() for key in ("a", "b", "folder/d", "e")}
    store.put_many(blobs)
    places = {path.name: path for path in (tmp_path / "s").rglob("*")}
    for name in ("a", "folder%2Fd"):
        places[name].rename(tmp_path / "moved")
        places[name].symlink_to(tmp_path / "moved")
    places["b"].rename(places["e"].parent / "b")
    assert sorted(entry.path for entry in store.left_out()) == ["a", "b", "folder/d"]
    target = MemoryStore({**blobs, "old": b""})
    report = sync_stores(store, target, max_delete=1.0)
    assert (report.ok, report.deleted, dict(target)) == (True, 1, blobs)


def test_a_link_in_the_place_of_a_hashed_folder_ends_a_listing(tmp_path: Path) -> None:
    store = HashdirStore(tmp_path / "s")
    store.put_many({"a": b"1", "b": b"2"})
    (path,) = (tmp_path / "s").rglob("a")
    folder = path.parent.parent
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    target = MemoryStore({"a": b"1", "b": b"2"})
    for call in (
        store.keys,
        store.list,
        store.left_out,
        lambda: [sync_stores(store, target, max_delete=1.0)],
    ):
        with pytest.raises(StoreUnavailableError, match="symbolic link"):
            list(call())
    assert dict(target) == {"a": b"1", "b": b"2"}
    assert store["b"] == b"2"


def test_paths_that_are_too_long_for_a_key_are_reported(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    folder = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 250
    for _ in range(40):  # 10 kB of path, twice what a call of the system takes
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        folder = inner
    os.close(folder)
    assert len(list(store)) == 4
    assert [entry.kind for entry in store.left_out()] == ["path too long for a key"]
    assert [info.key for info in store.list()] == list(store)
    with pytest.raises(KeyConflictError):
        store[name] = b""
    subprocess.run(["rm", "-rf", str(tmp_path / name)], check=True)
    deep = tmp_path / "/".join("x" * 500)
    os.makedirs(deep)
    (deep / "y").write_bytes(b"1")
    assert [len(key) for key in store] == [1001]
    assert store.delete(next(iter(store)))
    assert os.listdir(tmp_path) == []


def _swapping(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> list[str]:
    """Let another program put a link in the place of the folder `d` just before a call of the system."""
    real = getattr(module, name)
    done: list[str] = []

    def late(*args: object, **options: object) -> object:
        if not done:
            done.append(name)
            os.replace(root / "d", root.parent / "was")
            os.symlink(outside, root / "d")
        return real(*args, **options)

    monkeypatch.setattr(module, name, late)
    return done


_CALLS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("d/s", b"ours"),
    "new": lambda store: store.put("d/new/er", b"ours"),
    "pieces": lambda store: store.put("d/s", iter([b"ours"])),
    "create": lambda store: store.put("d/new", b"ours", expect=ABSENT),
    "swap": lambda store: store.put("d/s", b"ours", expect=store.info("d/s").etag),
    "delete": lambda store: store.delete("d/s"),
    "move": lambda store: store.move("d/s", "x"),
    "move into": lambda store: store.move("other", "d/s"),
    "copy": lambda store: store.copy("other", "d/s"),
    "over": lambda store: store.put("d", b"ours"),
}


@pytest.mark.parametrize("at", ["rename", "replace", "unlink", "rmdir", "mkdir", "stat", "utime", "open"])
@pytest.mark.parametrize("call", _CALLS)
def test_no_call_is_led_out_by_a_link(
    call: str, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outside = tmp_path / "store", tmp_path / "outside"
    (outside / "empty").mkdir(parents=True)
    (outside / "s").write_bytes(b"SECRET")
    store = FilesystemStore(root)
    store["other"] = store["d/s"] = b"1"
    if call == "over":
        del store["d/s"]
        (root / "d" / "inner").mkdir(parents=True)
    _swapping(root, outside, monkeypatch, os, at)
    try:
        _CALLS[call](store)
    except StoreError:
        pass  # it is refused, or done in the folder that was there
    monkeypatch.undo()
    assert (sorted(os.listdir(outside)), (outside / "s").read_bytes()) == (["empty", "s"], b"SECRET")


def test_no_race_leads_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "store", tmp_path / "outside"
    (outside / "empty").mkdir(parents=True)
    (outside / "s").write_bytes(b"SECRET")
    (outside / ".holdall~dead.new-1").write_bytes(b"")
    store = FilesystemStore(root)
    store["d/s"] = b"1"
    code = """
import os, sys
folder, link, spare = sys.argv[1:]
while True:
    try:
        os.replace(folder, spare)
        os.symlink(link, folder)
        os.unlink(folder)
        os.replace(spare, folder)
    except OSError:
        pass
"""
    racer = subprocess.Popen(
        [sys.executable, "-c", code, str(root / "d"), str(outside), str(tmp_path / "spare")]
    )
    try:
        for _ in range(60):
            for change in _CALLS.values():
                try:
                    change(store)
                    assert b"SECRET" not in (store.get("d/s"), *store.values())
                    assert "d/empty" not in set(store)
                except StoreError:
                    continue
    finally:
        racer.kill()
        racer.wait()
    left = [".holdall~dead.new-1", "empty", "s"]
    assert (sorted(os.listdir(outside)), (outside / "s").read_bytes()) == (left, b"SECRET")


def test_empty_folders_behind_a_link_stay(tmp_path: Path) -> None:
    (tmp_path / "outside" / "mount" / "inner").mkdir(parents=True)
    store = FilesystemStore(tmp_path / "store")
    (tmp_path / "store" / "a" / "empty").mkdir(parents=True)
    (tmp_path / "store" / "a" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(KeyConflictError):
        store["a"] = b""
    assert (tmp_path / "outside" / "mount" / "inner").is_dir()
    # A call that is refused removes nothing.
    assert (tmp_path / "store" / "a" / "empty").is_dir()


def test_folders_on_another_disk_stay(tmp_path: Path) -> None:
    for name in ("outside/inner", "store/a/b/mount"):
        (tmp_path / name).mkdir(parents=True)
    code = """
import os, sys, holdall
store = holdall.FilesystemStore(sys.argv[1] + "/store")
try:
    store["a"] = b"1"
except holdall.KeyConflictError:
    pass
else:
    raise AssertionError("no error")
store["a/b/mount/x"] = b"1"
store.put("a/b/mount/y", iter([b"2"]))
store.move("a/b/mount/y", "a/b/mount/z")
assert list(store) == ["a/b/mount/x", "a/b/mount/z"]
store.clear()
assert os.path.isdir(sys.argv[1] + "/outside/inner")
"""
    mount = f'mount --bind {tmp_path}/outside {tmp_path}/store/a/b/mount && exec "$@"'
    program = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", mount, "sh", *program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def umask() -> Iterator[None]:
    old = os.umask(0o022)
    yield
    os.umask(old)


_WRITES: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("a", b"new"),
    "pieces": lambda store: store.put("a", iter([b"new"])),
    "swap": lambda store: store.put("a", b"new", expect=store.info("a").etag),
    "modify": lambda store: store.modify("a", lambda _: b"new"),
    "file": lambda store: store.open("a", "wb").close(),
    "update": lambda store: store.update(a=b"new"),
}


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o444, 0o666])
@pytest.mark.parametrize("write", _WRITES)
@pytest.mark.parametrize("durable", [False, True])
def test_what_replaces_a_file_keeps_its_mode(
    write: str, mode: int, durable: bool, tmp_path: Path, umask: None
) -> None:
    store = FilesystemStore(tmp_path, durable=durable)
    store["a"] = b"old"
    assert _mode(tmp_path / "a") == 0o644
    (tmp_path / "a").chmod(mode)
    _WRITES[write](store)
    assert _mode(tmp_path / "a") == mode
    os.umask(0o077)
    _WRITES[write](store)
    store["new"] = b""
    store.put("newer", iter([b""]))
    assert [_mode(tmp_path / name) for name in ("a", "new", "newer")] == [mode, 0o600, 0o600]


def test_a_copy_is_never_wider_than_its_source(tmp_path: Path, umask: None) -> None:
    store = FilesystemStore(tmp_path)
    store.put_many({"secret": b"1", "run": b"2", "plain": b"3", "tool": b"4"})
    for name, mode in (("secret", 0o600), ("run", 0o755), ("tool", 0o755)):
        (tmp_path / name).chmod(mode)
    copies = {"secret": "a", "run": "b", "plain": "c"}
    for source, target in copies.items():
        store.copy(source, target)
    assert [_mode(tmp_path / name) for name in "abc"] == [0o600, 0o755, 0o644]
    store.copy("plain", "tool")
    store.copy("secret", "c")
    store.copy("plain", "secret")
    assert [_mode(tmp_path / name) for name in ("tool", "c", "secret")] == [0o755, 0o600, 0o600]
    store.move("secret", "moved/to")
    store.move("run", "plain")
    assert [_mode(tmp_path / name) for name in ("moved/to", "plain")] == [0o600, 0o755]


def test_a_temporary_file_is_private(tmp_path: Path, umask: None) -> None:
    store = FilesystemStore(tmp_path)
    store["old"] = b""
    (tmp_path / "old").chmod(0o666)
    for key in ("new", "old"):
        with store.open(key, "wb") as file:
            file.write(b"1" * (3 << 20))
            (draft,) = tmp_path.glob(".holdall~*")
            assert _mode(draft) == 0o600
    assert (_mode(tmp_path / "new"), _mode(tmp_path / "old")) == (0o644, 0o666)


def test_an_owner_is_kept_by_root(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"old"
    (tmp_path / "a").chmod(0o640)
    os.chown(tmp_path / "a", 12345, 23456)
    for data in (b"new", iter([b"newer"])):
        store.put("a", data)
        found = (tmp_path / "a").stat()
        assert (found.st_uid, found.st_gid, _mode(tmp_path / "a")) == (12345, 23456, 0o640)


def test_a_group_is_kept_in_a_folder_whose_new_files_get_another(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put_many({"a": b"old", "below/a": b"old"})
    for folder in (tmp_path, tmp_path / "below"):
        os.chown(folder, -1, 23456)
        folder.chmod(0o2775)
    puts: list[Callable[[str], object]] = [
        lambda key: store.put(key, b"new"),
        lambda key: store.put(key, b"newer", expect=store.info(key).etag),
        lambda key: store.put_many({key: b"newest", f"{key}-{len(store)}": b"", f"{key}-also": b""}),
        lambda key: store.put(key, iter([b"the newest"])),
    ]
    for key in ("a", "below/a"):
        (tmp_path / key).chmod(0o640)
        for put in puts:
            put(key)
            found = (tmp_path / key).stat()
            assert (found.st_gid, _mode(tmp_path / key)) == (os.getegid(), 0o640)
    assert (tmp_path / "a-also").stat().st_gid == 23456


def test_another_group_gets_no_more_than_all(tmp_path: Path) -> None:
    def work(folder: Path) -> None:
        store = FilesystemStore(folder / "store")
        (folder / "store").mkdir()
        (folder / "store" / "a").write_bytes(b"old")
        (folder / "store" / "a").chmod(0o664)
        with pytest.MonkeyPatch.context() as patch:
            real = os.stat

            def of_another(*args: object, **options: object) -> os.stat_result:
                found = real(*args, **options)  # type: ignore[arg-type]
                if stat.S_ISREG(found.st_mode):
                    fields = list(found)
                    fields[5] = 4242
                    found = os.stat_result(fields, {"st_mtime_ns": found.st_mtime_ns})
                return found

            patch.setattr(os, "stat", of_another)
            store["a"] = b"new"
        assert _mode(folder / "store" / "a") == 0o644

    succeeds_as_nobody(work)


class _Coarse:
    """A file system that keeps times to two seconds, as FAT does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.utime

        def utime(path: object, times: object = None, *, ns: tuple[int, int], **options: object) -> None:
            kept = [stamp // 2_000_000_000 * 2_000_000_000 for stamp in ns]
            real(path, ns=tuple(kept), **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "utime", utime)


@pytest.mark.parametrize("kind", [FilesystemStore, HashdirStore])
def test_coarse_times_make_different_etags(
    kind: type[FilesystemStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Coarse(monkeypatch)
    store, other = kind(tmp_path / "s"), kind(tmp_path / "s")
    seen: dict[tuple[str, str], bytes] = {}

    def note(key: str, data: bytes) -> None:
        etag = store.info(key).etag
        assert seen.setdefault((key, etag), data) == data

    for number in range(30):
        data = b"%02d" % number
        info = (store if number % 2 else other).put("k", data)
        assert info == store.info("k")
        note("k", data)
        if number % 3 == 0:
            assert other.delete("k")
        if number % 5 == 0:
            store.put("m", b"m" + data[:1])
            note("m", b"m" + data[:1])
            assert store.move("m", "k") == store.info("k")
            note("k", b"m" + data[:1])
    etag = store.put("k", b"1").etag
    store.put("k", b"2", expect=etag)
    with pytest.raises(ConcurrencyError):
        store.put("k", b"3", expect=etag)
    assert kind(tmp_path / "s").can == store.can


def test_coarse_times_lose_no_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _Coarse(monkeypatch)

    def count() -> None:
        mine = FilesystemStore(tmp_path)
        for _ in range(20):
            mine.modify("n", lambda old: b"%04d" % (int(old) + 1), default=b"0000")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert FilesystemStore(tmp_path)["n"] == b"0080"


def test_a_file_that_is_a_mount_point_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `docker run -v file:/data/file`."""

    def fails(*_: object, **__: object) -> object:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    store = FilesystemStore(tmp_path)
    store["a"] = b"1"
    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, fails)
    for call in (
        partial(store.put, "a", b"2"),
        partial(store.put, "a", iter([b"2"])),
        partial(store.delete, "a"),
    ):
        with pytest.raises(StoreUnavailableError, match="mount the whole folder"):
            call()
    assert store["a"] == b"1"


def test_times_of_ntfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.utime

    def utime(path: object, times: object = None, *, ns: tuple[int, int], **options: object) -> None:
        kept = [stamp // 100 * 100 for stamp in ns]
        real(path, ns=tuple(kept), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "utime", utime)
    now = 1_800_000_000_123_456_000
    monkeypatch.setattr("holdall.stores.root.new_stamp", lambda: now)
    store = FilesystemStore(tmp_path)
    store["a"] = b"at a time that NTFS keeps, too"
    for number in range(20):
        assert store.put("a", b"%d" % number) == store.info("a")
        assert store.put(f"new/{number}", b"1") == store.info(f"new/{number}")


def test_times_that_no_datetime_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(tmp_path)
    real = os.stat
    for year, stamp in (
        (9999, 910_692_730_085),
        (1, -(1 << 62) // 1_000_000_000 * 100),
        (1950, -600_000_000),
    ):
        store["odd"] = b"1"

        def odd(*args: object, stamp: int = stamp, **options: object) -> os.stat_result:
            found = real(*args, **options)  # type: ignore[arg-type]
            more = {"st_mtime_ns": stamp * 1_000_000_000, "st_mtime": float(stamp)}
            return os.stat_result(list(found), more)

        with monkeypatch.context() as patch:
            patch.setattr(os, "lstat", odd)
            patch.setattr(os, "stat", odd)
            info = store.info("odd")
            assert (info.modified.year, info.modified.tzinfo) == (year, UTC)
            assert [each.modified for each in store.list()] == [info.modified]
            assert "odd" in repr(info)
            assert info.etag == store.info("odd").etag
    assert datetime.max.year == 9999


def test_a_folder_that_is_replaced_is_locked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "s"
    old = FilesystemStore(base)
    old["k"] = b"v0"
    old["k"] = b"v1"
    base.rename(tmp_path / "backup")
    shutil.copytree(tmp_path / "backup", base)
    other = FilesystemStore(base)
    waits: list[Exception] = []
    compare = filesystem._compare  # pyright: ignore[reportPrivateUsage]

    def meanwhile(found: os.stat_result | None, expect: object) -> None:
        compare(found, expect)  # type: ignore[arg-type]
        if not waits:
            try:
                old.put("k", b"in between")
            except StoreUnavailableError as error:
                waits.append(error)

    monkeypatch.setattr(filesystem, "_compare", meanwhile)
    monkeypatch.setattr(locks, "WAIT", 0.05)
    other.put("k", b"swapped", expect=other.info("k").etag)
    assert (len(waits), other["k"], old["k"]) == (1, b"swapped", b"swapped")
    assert "lslocks" in str(waits[0])
    for data in (b"short", iter([b"long"])):
        old.put("k", data)
        assert other["k"] == old["k"]
    assert (tmp_path / "backup" / "k").read_bytes() == b"v1"


@pytest.mark.parametrize("key", ["k", "d/k"])
def test_a_copy_of_a_folder_in_which_a_put_was_under_way(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, copy = tmp_path / "s", tmp_path / "copy"
    store = FilesystemStore(base)
    store[key] = store[key] = b"v1"
    rename = os.rename

    def copying(*args: Any, **options: Any) -> None:
        shutil.copytree(base, copy, dirs_exist_ok=True)
        rename(*args, **options)

    monkeypatch.setattr(os, "rename", copying)
    store[key] = b"v2"
    monkeypatch.undo()
    base.rename(tmp_path / "backup")
    copy.rename(base)
    assert (base / key).read_bytes() == b"v1"
    store[key] = b"v3"
    assert ((base / key).read_bytes(), store[key]) == (b"v3", b"v3")
    assert (tmp_path / "backup" / key).read_bytes() == b"v2"


def test_what_is_there_after_many_new_blobs(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "s")
    for number in range(40):
        store[f"new-{number}"] = b"1"
    (tmp_path / "s" / "link").symlink_to(tmp_path / "s" / "new-1")
    with pytest.raises(KeyConflictError):
        store["link"] = b"2"
    for number in range(40, 80):
        store[f"new-{number}"] = b"1"
    private = tmp_path / "s" / "private"
    private.write_bytes(b"1")
    private.chmod(0o600)
    store["private"] = b"2"
    assert (private.read_bytes(), stat.S_IMODE(private.stat().st_mode)) == (b"2", 0o600)
    assert (store["new-1"], len(store), len(os.listdir(tmp_path / "s"))) == (b"1", 81, 82)


def test_a_folder_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "s")
    store["a"] = store["d/b"] = b"1"
    shutil.rmtree(tmp_path / "s")
    assert not store.delete("a")
    assert (list(store), store.get("a")) == ([], None)
    for key in ("a", "d/b"):
        store[key] = b"2"
        assert (tmp_path / "s" / key).read_bytes() == b"2"
        shutil.rmtree(tmp_path / "s")
    file = store.open("a", "wb")
    file.write(b"1" * (3 << 20))
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(StoreUnavailableError, match="deleted or moved"):
        file.close()
    assert store.get("a") is None
    with store.open("d/b", "wb") as file:
        file.write(b"3")
        (tmp_path / "s" / "d").rename(tmp_path / "moved")
    assert store["d/b"] == b"3"
    assert list((tmp_path / "moved").iterdir()) == []


def test_a_folder_that_is_a_file_by_now(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "s")
    store["a"] = store["a"] = b"1"
    shutil.rmtree(tmp_path / "s")
    (tmp_path / "s").write_bytes(b"a file")
    calls: list[Callable[[], object]] = [
        *(
            lambda: store.put("a", b"2"),
            lambda: store.put("d/b", iter([b"2"])),
            lambda: store.open("a", "wb"),
        ),
        lambda: FilesystemStore(tmp_path / "s" / "below"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match="file"):
            call()
    assert (store.get("a"), list(store), (tmp_path / "s").read_bytes()) == (None, [], b"a file")


def test_a_folder_that_is_a_link_to_another_by_now(tmp_path: Path) -> None:
    for name in ("one", "two"):
        FilesystemStore(tmp_path / name)["who"] = name.encode()
    (tmp_path / "link").symlink_to("one")
    store = FilesystemStore(tmp_path / "link")
    store["a"] = store["a"] = b"1"
    (tmp_path / "other").symlink_to("two")
    (tmp_path / "other").rename(tmp_path / "link")
    for key in ("b", "d/c"):
        store[key] = b"2"
        assert (tmp_path / "two" / key).read_bytes() == b"2"
    assert (store["who"], store.get("a"), sorted(store)) == (b"two", None, ["b", "d/c", "who"])
    assert sorted(os.listdir(tmp_path / "one")) == ["a", "who"]


def test_what_a_dead_writer_left_is_in_no_blobs_way(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / ".holdall~dead.new-1").write_bytes(b"half")
    store = FilesystemStore(tmp_path)
    store["a"] = b"1"
    assert (store["a"], os.listdir(tmp_path)) == (b"1", ["a"])
    file = store.open("x/y", "wb")
    with pytest.raises(KeyConflictError):
        store["x"] = b"1"
    file.close()
    assert list(store) == ["a", "x/y"]


def test_a_lock_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"old"
    etag = store.info("a").etag
    monkeypatch.setattr(locks, "WAIT", 0.02)
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    calls: list[Callable[[], object]] = [
        *(lambda: store.put("a", b"new"), lambda: store.put("a", b"new", expect=etag)),
        *(lambda: store.delete("a"), lambda: store.move("a", "b"), lambda: store.put("a", iter([b"new"]))),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match=str(tmp_path)):
            call()
    assert (store["a"], os.listdir(tmp_path)) == (b"old", ["a"])
    os.close(held)
    assert store.put("a", b"new", expect=etag).size == 3


def test_a_file_that_was_begun_before_a_fork_is_the_parents(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    file = store.open("a", "wb")
    file.write(b"parent")
    child = os.fork()
    if not child:
        try:
            file.write(b"child")
            file.close()
        except StoreUnavailableError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    file.close()
    assert store["a"] == b"parent"


@pytest.mark.parametrize(
    "code",
    [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG],
)
def test_no_error_of_the_system_comes_out_bare(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = store["d/b"] = b"old"

    def fails(*_: object, **__: object) -> object:
        raise OSError(code, os.strerror(code))

    def failing(*_: object) -> int:
        return -code

    calls: list[Callable[[], object]] = [
        *(
            lambda: store.put("a", b"new"),
            lambda: store.put("d/b", iter([b"new"])),
            lambda: store.delete("d/b"),
        ),
        *(lambda: store.move("a", "x"), lambda: store.copy("a", "x"), lambda: store.get("a")),
        *(
            lambda: list(store.list()),
            lambda: list(store),
            lambda: store.open("a").close(),
            lambda: store.info("a"),
        ),
        *(
            lambda: list(store.children()),
            lambda: list(store.left_out()),
            lambda: store.open("x", "wb").close(),
        ),
        lambda: FilesystemStore(tmp_path).put("a", b"new"),
    ]
    patches = [
        (os, name, fails)
        for name in ("open", "replace", "unlink", "utime", "write", "stat", "scandir", "pread")
    ]
    patches += [(filesystem, name, failing) for name in ("open_file", "open_into")]
    patches += [(module, "open_below", failing) for module in (places, shortway, together)]
    for module, name, fail in patches:
        for call in calls:
            with monkeypatch.context() as patch:
                patch.setattr(module, name, fail)
                try:
                    call()
                except StoreError:
                    pass
            if store.get("d/b") is None or store.get("a") is None:  # the fault didn't concern it
                store.put_many({"a": b"old", "d/b": b"old"})
    assert [name for name in os.listdir(tmp_path) if name.startswith(".holdall~")] == []


def test_paths_that_cant_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError):
        FilesystemStore("\ud800")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StoreUnavailableError, match="absolute"):
        FilesystemStore("relative")


def test_clear_keeps_a_git_repository(tmp_path: Path) -> None:
    for at in (".git/HEAD", "sub/.git"):
        store = FilesystemStore(tmp_path / at.replace("/", "-"))
        store.put_many({at: b"ref", "a": b"1", "sub/b": b"2"})
        with pytest.raises(DeleteRefusedError, match="Git repository"):
            store.clear()
        assert len(store) == 3
        store.delete_many(store.iterate_keys(glob="[!.]*"))
        store.delete(at)
        store["a"] = b""
        store.clear()
        assert list(store) == []
    hashed = HashdirStore(tmp_path / "hashed")
    hashed[".git/HEAD"] = b"a blob as others"
    hashed.clear()
    assert list(hashed) == []


def test_text_that_python_doesnt_know_is_refused_before_a_file_is_made(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"old"
    wrong: list[dict[str, str]] = [
        {"encoding": "nope"},
        {"encoding": "hex"},
        {"errors": "nope"},
        {"newline": "x"},
    ]
    for options in wrong:
        for mode in ("r", "w", "x"):
            with pytest.raises(InvalidArgumentError):
                store.open("a", mode, **options)  # type: ignore[arg-type]
    assert (os.listdir(tmp_path), store["a"]) == (["a"], b"old")


def test_a_file_of_which_a_part_is_missing_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"old"
    add = drafts.Draft.add
    failures = [OSError(errno.ENOSPC, "full")]

    def full(self: drafts.Draft, piece: bytes) -> None:
        if failures:
            raise failures.pop()
        add(self, piece)

    monkeypatch.setattr(drafts.Draft, "add", full)
    with pytest.raises(StoreUnavailableError), store.open("a", "w") as text:
        text.write("never seen")
    failures.append(OSError(errno.ENOSPC, "full"))
    file = store.open("a", "wb")
    with pytest.raises(StoreUnavailableError, match="full"):
        file.write(b"x" * (3 << 20))
    file.write(b"the rest")
    with pytest.raises(StoreUnavailableError, match="since a write failed: the disk or a quota is full"):
        file.close()
    assert (store["a"], os.listdir(tmp_path)) == (b"old", ["a"])


def test_who_opens_by_steps_finds_the_same(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to("b")
    (tmp_path / "file").write_bytes(b"")
    root = os.open(tmp_path, os.O_RDONLY)
    for open_below in (nofollow.open_below, nofollow.open_below_by_steps):
        for flags in (nofollow.FOLDER, nofollow.LIST, nofollow.NEAR, nofollow.LIST_NEAR):
            fds: list[int] = []
            codes = [open_below(fds, root, path, flags) for path in (".", "a", "a/b", "none/b", "file/x")]
            assert codes == [0, 0, 0, -errno.ENOENT, -errno.ENOTDIR]
            assert open_below(fds, root, "a/link/x", flags) in (-errno.ELOOP, -errno.ENOTDIR)
            assert open_below(fds, root, "a/link", flags) in (-errno.ELOOP, -errno.ENOTDIR)
            assert len(fds) == 3
            nofollow.close_all(fds)
    os.close(root)


def test_a_short_blob_is_put_on_condition(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    for key in ("first", "d/first"):
        store[key] = b""
    old = os.umask(0o022)
    try:
        for key in ("k", "d/k"):
            made = store.put(key, memoryview(b"1"), expect=ABSENT)
            with pytest.raises(BlobExistsError) as found:
                store.put(key, b"2", expect=ABSENT)
            assert (found.value.key, found.value.actual, store.info(key)) == (key, made.etag, made)
            os.chmod(tmp_path / key, 0o640)
            swapped = store.put(key, b"33", expect=made.etag)
            assert store.info(key) == swapped
            with pytest.raises(ConcurrencyError) as found:
                store.put(key, b"4", expect=made.etag)
            assert (found.value.key, found.value.actual, store[key]) == (key, swapped.etag, b"33")
            assert os.stat(tmp_path / key).st_mode & 0o777 == 0o640
            store.delete(key)
            store.put("d/other", b"")  # the folder stays
            with pytest.raises(ConcurrencyError) as found:
                store.put(key, b"4", expect=swapped.etag)
            assert (found.value.actual, key in store) == (None, False)
    finally:
        os.umask(old)
    assert not [path for path in tmp_path.rglob("*") if ".new-" in path.name]


def test_a_condition_is_checked_in_the_folder_that_is_at_the_path(tmp_path: Path) -> None:
    with FilesystemStore(tmp_path / "backup") as backup:
        restored = backup.put("d/k", b"restored")
    for expect in (ABSENT, restored.etag):
        store = FilesystemStore(tmp_path / "store")
        store["d/k"] = store["d/other"] = b"old"
        os.rename(tmp_path / "store", tmp_path / f"before-{expect}")
        if expect is ABSENT:
            (tmp_path / "store/d").mkdir(parents=True)
        else:
            shutil.copytree(tmp_path / "backup", tmp_path / "store")
        store.put("d/k", b"new", expect=expect)
        assert (tmp_path / "store/d/k").read_bytes() == b"new"
        shutil.rmtree(tmp_path / "store")
        assert (tmp_path / f"before-{expect}/d/k").read_bytes() == b"old"


@pytest.mark.parametrize("swaps", [False, True])
def test_a_put_that_waits_keeps_the_mode_that_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool
) -> None:
    store = FilesystemStore(tmp_path)
    store["k"] = b""
    old = store.put("k", b"old")
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    take = shortway.take

    def take_late(*args: Any) -> None:
        os.chmod(tmp_path / "k", 0o600)
        fcntl.flock(other, fcntl.LOCK_UN)
        take(*args)

    monkeypatch.setattr(shortway, "take", take_late)
    if swaps:
        store.put("k", b"new", expect=old.etag)
    else:
        store["k"] = b"new"
    os.close(other)
    assert (store["k"], _mode(tmp_path / "k")) == (b"new", 0o600)


def test_one_of_many_creates(tmp_path: Path) -> None:
    stores = [FilesystemStore(tmp_path) for _ in range(4)]
    won: list[int] = []

    def create(number: int) -> None:
        stores[number][f"d/own-{number}"] = b""  # from now on it goes the short way
        for turn in range(40):
            try:
                stores[number].put(f"d/{turn}", b"%d" % number, expect=ABSENT)
                won.append(turn)
            except BlobExistsError:
                continue

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(40))


def test_one_of_many_swaps(tmp_path: Path) -> None:
    stores = [FilesystemStore(tmp_path) for _ in range(4)]
    stores[0]["d/sum"] = b"0"

    def add(store: FilesystemStore) -> None:
        for _ in range(20):
            store.modify("d/sum", lambda data: b"%d" % (int(data) + 1))

    threads = [threading.Thread(target=add, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0]["d/sum"] == b"80"


def test_a_move_to_a_new_key_doesnt_replace_what_was_put_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = FilesystemStore(tmp_path), FilesystemStore(tmp_path)
    for number in range(20):
        other[f"new-{number}"] = b""  # the next one is taken for new, and so takes no lock
    move = steps.move_new

    def move_late(*args: Any) -> int:
        other["d/b"] = b"put"
        return move(*args)

    store["a"] = other["d/c"] = b"old"
    other["new"] = b""
    monkeypatch.setattr(steps, "move_new", move_late)
    with pytest.raises(BlobExistsError):
        store.move("a", "d/b", expect=ABSENT)
    assert (store["a"], store["d/b"]) == (b"old", b"put")


@pytest.mark.parametrize("expect", [ANY, ABSENT])
def test_a_move_to_another_file_system_below_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect: Expect
) -> None:
    store = FilesystemStore(tmp_path)
    store.put_many({"a": b"1", "mounted/b": b"2"})
    (tmp_path / "a").chmod(0o640)
    replace, move_new = os.replace, nofollow.move_new

    def crosses(source: str) -> bool:
        return not source.startswith(".holdall~")

    def refuse(source: str, target: str, **folders: int) -> None:
        if crosses(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target, **folders)

    def refuse_new(source: str, *rest: Any) -> int:
        return -errno.EXDEV if crosses(source) else move_new(source, *rest)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(steps, "move_new", refuse_new)
    moved = store.move("a", "mounted/a", expect=expect)
    assert moved == store.info("mounted/a")
    assert dict(store.items()) == {"mounted/a": b"1", "mounted/b": b"2"}
    assert _mode(tmp_path / "mounted/a") == 0o640


def test_a_move_to_a_new_key_where_only_replacing_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        return -errno.EPERM

    monkeypatch.setattr(steps, "move_new", refused)
    store = FilesystemStore(tmp_path)
    store["a"] = store["b"] = b"old"
    with pytest.raises(BlobExistsError):
        store.move("a", "b", expect=ABSENT)
    store.move("a", "c", expect=ABSENT)
    assert sorted(store) == ["b", "c"]


def _many(prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{number // 7}/{number}": b"%d" % number for number in range(50)}


def test_many_blobs_keep_their_order_and_their_modes(tmp_path: Path, umask: None) -> None:
    store = FilesystemStore(tmp_path)
    first = store.put_many(_many())
    assert list(first) == list(_many())
    assert {key: store.info(key) for key in first} == first
    for name, mode in (("0/1", 0o600), ("3/22", 0o444), ("6/48", 0o777)):
        (tmp_path / name).chmod(mode)
    second = store.put_many(_many() | {"new": b"1", "d/é": b"2", "none/x": b"3", "long": b"4" * (5 << 20)})
    assert {key: store.info(key) for key in second} == second
    assert not {info.etag for info in first.values()} & {info.etag for info in second.values()}
    modes = [_mode(tmp_path / name) for name in ("0/0", "0/1", "3/22", "6/48", "new", "d/é", "none/x")]
    assert modes == [0o644, 0o600, 0o444, 0o777, 0o644, 0o644, 0o644]
    assert not [path for path in tmp_path.rglob("*") if ".new-" in path.name]


def test_the_last_of_many_with_one_key_stays(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    for _ in range(3):
        for number in range(20):
            store.put_many(
                [("a", b"1"), (f"b{number}", b"2"), ("a", b"3"), ("c", b"4"), ("a", b"%d" % number)]
            )
            assert (store["a"], store["c"]) == (b"%d" % number, b"4")
        store.clear()


def test_of_many_blobs_those_before_one_that_fails_are_stored(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store["first"] = b""
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "file").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(KeyConflictError) as found:
            store.put_many({str(number): b"new" for number in range(12)})
        assert (found.value.key, sorted(store)) == ("9", sorted(["9/file", "first", *map(str, range(9))]))
    assert not [path for path in tmp_path.rglob("*") if ".new-" in path.name]


def test_many_blobs_wait_for_the_lock_and_go_where_their_keys_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemStore(tmp_path / "s")
    store.put_many(_many())
    held = os.open(tmp_path / "s", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr(locks, "WAIT", 0.02)
    with pytest.raises(StoreUnavailableError, match="lslocks"):
        store.put_many(dict.fromkeys(_many(), b"new"))
    assert dict(store.items()) == _many()
    os.close(held)
    make = together._make  # pyright: ignore[reportPrivateUsage]

    def make_and_move(*args: Any) -> None:
        make(*args)
        monkeypatch.undo()
        os.rename(tmp_path / "s" / "0", tmp_path / "moved")
        os.symlink(tmp_path / "elsewhere", tmp_path / "s" / "0")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(together, "_make", make_and_move)
    with pytest.raises(KeyConflictError):
        store.put_many(dict.fromkeys(_many(), b"new"))
    assert {(tmp_path / "moved" / str(number)).read_bytes() for number in range(7)} == {
        b"%d" % number for number in range(7)
    }
    assert os.listdir(tmp_path / "elsewhere") == []


def test_many_of_a_subclass_go_through_its_write(tmp_path: Path) -> None:
    written: list[str] = []

    class Noting(FilesystemStore):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            written.append(key)
            return super()._write(key, body, expect, attributes)

    Noting(tmp_path).put_many(_many())
    assert written == list(_many())
