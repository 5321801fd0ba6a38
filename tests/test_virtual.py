"""Blobs as real files: what is left behind, who owns what, and what programs do to a file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.forks import forked, succeeds, succeeds_as_nobody
from tests.interrupts import interrupting

import holdall
from holdall import (
    ABSENT,
    BlobNotFoundError,
    Can,
    ConcurrencyError,
    ExpiringStore,
    FilesystemStore,
    HashdirStore,
    InvalidArgumentError,
    InvalidDataError,
    InvalidTypeError,
    MemoryStore,
    ReadOnlyError,
    ReadOnlyStore,
    RoutedStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
    TracedStore,
    UnsupportedOperation,
    open_virtual,
    virtual,
)
from holdall.testing import Limited


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, which nobody else uses."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(virtual, "_swept", set())
    return folder


def let_in(folder: Path) -> None:
    """Let a child without the rights of root use a folder."""
    for each in (folder, *folder.parents):
        each.chmod(0o777)
        if each.name.startswith("pytest-of-"):
            break


def left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_local_store_gives_its_own_file(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "store/a").mkdir(parents=True)
    file = tmp_path / "store/a/b.txt"
    file.write_bytes(b"hello")
    file.chmod(0o640)
    store = FilesystemStore(tmp_path / "store")
    for layer, key in (
        (store, "a/b.txt"),
        (store / "a", "b.txt"),
        (ReadOnlyStore(store), "a/b.txt"),
        (TracedStore(ReadOnlyStore(store)) / "a", "b.txt"),
        (RoutedStore({"a/": store, "": MemoryStore()}), "a/b.txt"),
        (ExpiringStore(store, 60), "a/b.txt"),
    ):
        with layer.local(key) as path:
            assert path == file
        assert (file.stat().st_mode & 0o777, file.read_bytes()) == (0o640, b"hello")
        with pytest.raises(BlobNotFoundError), layer.local(f"{key}x"):
            pass
    hashed = HashdirStore(tmp_path / "hashed")
    hashed["x.csv"] = b"1,2"
    with hashed.local("x.csv") as path:
        assert path.is_relative_to(tmp_path / "hashed")
        assert path.read_bytes() == b"1,2"
    assert left(temporary) == []


def test_an_expired_blob_isn_t_given(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "store")
    store["a"] = b"old"
    os.utime(tmp_path / "store/a", (1, 1))
    with pytest.raises(BlobNotFoundError), ExpiringStore(store, 60).local("a"):
        pass


def test_a_file_that_is_spelled_with_another_extension_is_copied(tmp_path: Path, temporary: Path) -> None:
    store = FilesystemStore(tmp_path / "store")
    store["CON.a:b"] = b"1"
    with store.local("CON.a:b") as path:
        assert path.name == "CON.a:b"
        assert path.read_bytes() == b"1"


def test_a_layer_that_changes_bytes_gives_a_copy(tmp_path: Path, temporary: Path) -> None:
    below = FilesystemStore(tmp_path / "store")
    store = holdall.ChecksumStore(below)
    store["a"] = b"plain"
    with store.local("a") as path:
        assert path.read_bytes() == b"plain"
        assert path.is_relative_to(temporary)
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o400, 0o700)
    assert left(temporary) == []


@pytest.mark.parametrize(
    ("key", "suffix", "same"),
    [
        ("a/b.tar.gz", ".tar.gz", True),
        ("-rf", "", True),
        ("x" * 255, "", True),
        ("x" * 300 + ".csv", ".csv", False),
        ("é" * 200 + ".csv.gz", ".csv.gz", False),
        ("x" * 300 + ".é", "", False),
        ("a." + "x" * 300, "", False),
        (".profile", "", True),
        ("a\\b:c?.txt", ".txt", True),
    ],
)
def test_a_copy_has_the_name_or_at_least_the_extension(key: str, suffix: str, same: bool) -> None:
    with MemoryStore({key: b"1"}).local(key) as path:
        assert path.read_bytes() == b"1"
        assert "".join(path.suffixes) == suffix
        assert (path.name == key.rpartition("/")[2]) == same


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore({"a.txt": b"before"})


def test_a_program_that_fails_changes_nothing(store: Store, temporary: Path) -> None:
    with (
        pytest.raises(subprocess.CalledProcessError),
        store.local("a.txt", write=True) as path,
    ):
        subprocess.run(["sh", "-c", 'echo half >"$0"; exit 3', path], check=True)
    assert store["a.txt"] == b"before"
    assert left(temporary) == []


def test_programs_that_change_or_replace_the_file(store: Store, temporary: Path) -> None:
    for command, expected in (
        ('printf more >>"$0"', b"beforemore"),
        ('sed -i s/before/x/ "$0"', b"xmore"),
        ('echo 1 >"$0.new"; mv "$0.new" "$0"', b"1\n"),
        (': >"$0"', b""),
        ('printf ab >"$0"; touch -d 2001-01-01 "$0"', b"ab"),
        ('ln "$0" "$0.second"; printf cd >"$0.second"', b"cd"),
        ('chmod 000 "$0"' if os.getuid() == 0 else "true", b"cd"),
    ):
        with store.local("a.txt", write=True) as path:
            subprocess.run(["sh", "-c", command, path], check=True)
        assert store["a.txt"] == expected
    assert left(temporary) == []


def test_an_edit_within_a_tick_of_the_clock_and_through_a_memory_map(store: Store) -> None:
    import mmap

    with store.local("a.txt", write=True) as path:
        path.write_bytes(b"BEFORE")
    assert store["a.txt"] == b"BEFORE"
    with (
        store.local("a.txt", write=True) as path,
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as at,
    ):
        at[:3] = b"xyz"
        times = path.stat()
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store["a.txt"] == b"xyzORE"


def test_what_isn_t_changed_isn_t_put(store: Store) -> None:
    etag = store.info("a.txt").etag
    with store.local("a.txt", write=True) as path:
        path.write_bytes(b"other")
        path.write_bytes(b"before")
    assert store.info("a.txt").etag == etag


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inner").write_bytes(b"1")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "kind"), [(make_link, "symbolic link"), (make_folder, "folder"), (make_pipe, "named pipe")]
)
def test_what_isn_t_a_file_is_never_put(store: Store, temporary: Path, change: Any, kind: str) -> None:
    with pytest.raises(InvalidDataError, match=kind), store.local("a.txt", write=True) as path:
        change(path)
    assert store["a.txt"] == b"before"
    assert [name.startswith("holdall-kept-") for name in left(temporary)] == [True]


def test_a_program_that_deletes_the_file_or_its_folder(store: Store, temporary: Path) -> None:
    import shutil

    with pytest.raises(InvalidDataError, match="missing"), store.local("a.txt", write=True) as path:
        path.unlink()
    with pytest.raises(InvalidDataError, match="missing"), store.local("a.txt", write=True) as path:
        shutil.rmtree(path.parent)
    with store.local("a.txt") as path:
        shutil.rmtree(path.parent)
    with pytest.raises(InvalidDataError, match="missing"), store.local("n", write=True, expect=ABSENT):
        pass
    assert dict(store) == {"a.txt": b"before"}
    assert left(temporary) == []


def test_what_programs_leave_beside_the_file_goes(store: Store, temporary: Path) -> None:
    def work(_: Path) -> None:
        with store.local("a.txt", write=True) as path:
            (path.parent / "a.txt.swp").write_bytes(b"1")
            (path.parent / "closed/inner").mkdir(parents=True)
            (path.parent / "closed/inner/file").write_bytes(b"1")
            (path.parent / "link").symlink_to(outside, target_is_directory=True)
            for folder in ("closed/inner", "closed"):
                (path.parent / folder).chmod(0o000)
        assert not [name for name in left(temporary) if name.startswith("holdall-")]
        assert outside.stat().st_mode & 0o777 == 0o755

    outside = temporary.parent / "outside"
    outside.mkdir()
    outside.chmod(0o755)
    let_in(temporary)
    succeeds_as_nobody(work)


def kept_in(error: BaseException) -> Path:
    text = " ".join([str(error), *getattr(error, "__notes__", [])])
    return Path(text.rpartition("kept as ")[2].strip("'"))


def test_an_edit_that_conflicts_is_kept(store: Store) -> None:
    def edit(change: Callable[[], object]) -> None:
        with store.local("a.txt", write=True) as path:
            path.write_bytes(b"mine")
            change()

    def delete() -> None:
        del store["a.txt"]

    def make_anew() -> None:
        delete()
        store["a.txt"] = b"before"

    for change, message, there in ((make_anew, "changed since", [b"before"]), (delete, "deleted since", [])):
        with pytest.raises(ConcurrencyError, match=message) as caught:
            edit(change)
        assert kept_in(caught.value).read_bytes() == b"mine"
        assert kept_in(caught.value).name == "a.txt"
        assert caught.value.key == "a.txt"
        assert list(store.values()) == there


def test_an_edit_is_kept_when_the_store_fails(store: Store, temporary: Path) -> None:
    class Away(Limited):
        def _write(self, *_: Any) -> Any:
            raise self.error

        error: BaseException

    away = Away(store, ~Can(0))
    for away.error in (StoreUnavailableError("the host is away"), KeyboardInterrupt(), MemoryError()):
        with pytest.raises(type(away.error)) as caught, away.local("a.txt", write=True) as path:
            path.write_bytes(b"edited")
        assert kept_in(caught.value).read_bytes() == b"edited"
    assert len(left(temporary)) == 3


def test_nested_files_of_one_key(store: Store, temporary: Path) -> None:
    with pytest.raises(ConcurrencyError) as caught, store.local("a.txt", write=True) as outer:  # noqa: PT012
        with store.local("a.txt", write=True) as inner:
            assert inner != outer
            inner.write_bytes(b"inner")
        outer.write_bytes(b"outer")
    assert store["a.txt"] == b"inner"
    assert kept_in(caught.value).read_bytes() == b"outer"


def test_attributes_stay(store: Store) -> None:
    store.put("a.txt", b"1", ttl=500, content_type="text/plain", metadata={"owner": "ana"})
    before = store.info("a.txt")
    with store.local("a.txt", write=True) as path:
        path.write_bytes(b"2")
    after = store.info("a.txt")
    assert (after.content_type, dict(after.metadata), after.expires) == (
        *("text/plain", {"owner": "ana"}),
        before.expires,
    )


def test_a_file_that_is_put_back_keeps_the_mode_of_the_one_there(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "store")
    store["run.sh"] = b"1"
    (tmp_path / "store/run.sh").chmod(0o750)
    with store.local("run.sh", write=True) as path:
        assert not path.is_relative_to(tmp_path / "store")
        path.write_bytes(b"2")
    assert (tmp_path / "store/run.sh").stat().st_mode & 0o777 == 0o750
    assert store["run.sh"] == b"2"


def test_a_store_that_can_t_compare_or_write_refuses(store: Store, temporary: Path) -> None:
    with pytest.raises(UnsupportedOperation, match="overwriting"):
        Limited(store, ~Can.SWAP).local("a.txt", write=True)
    with pytest.raises(ReadOnlyError):
        ReadOnlyStore(store).local("a.txt", write=True)
    with pytest.raises(BlobNotFoundError), store.local("b.txt", write=True):
        pass
    assert left(temporary) == []


HOLDER = """
    import os, sys, time
    from holdall import MemoryStore
    with MemoryStore({"a.txt": b"secret"}).local("a.txt", write=True) as path:
        print(path, flush=True)
        time.sleep(60)
"""


def test_what_a_killed_process_left_is_swept_by_the_next(store: Store, temporary: Path) -> None:
    killed, alive = (
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(HOLDER)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    with killed, alive:
        assert killed.stdout is not None
        assert alive.stdout is not None
        paths = [Path(each.stdout.readline().strip()) for each in (killed, alive) if each.stdout]
        killed.kill()
        killed.wait()
        assert paths[0].read_bytes() == b"secret"
        link = temporary / (virtual._begin_of_names() + "0" * 24)
        link.symlink_to(temporary.parent)
        plain = temporary / (virtual._begin_of_names() + "1" * 24)
        plain.write_bytes(b"1")
        other = temporary / (virtual._begin_of_names() + "of somebody else")
        other.mkdir()
        try:
            with store.local("a.txt"):
                assert not paths[0].parent.exists()
                assert paths[1].read_bytes() == b"secret"
            assert left(temporary) == sorted((paths[1].parent.name, link.name, plain.name, other.name))
        finally:
            alive.kill()
    link.unlink()
    plain.unlink()


def test_a_kept_file_isn_t_swept(store: Store, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConcurrencyError) as caught, store.local("a.txt", write=True) as path:  # noqa: PT012
        path.write_bytes(b"mine")
        store["a.txt"] = b"theirs"
    monkeypatch.setattr(virtual, "_swept", set())
    with store.local("a.txt"):
        assert kept_in(caught.value).read_bytes() == b"mine"


def test_ctrl_c_in_the_block_leaves_nothing(temporary: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in child.communicate()[1]
    assert left(temporary) == []


def test_interrupts_at_any_moment_leave_nothing(store: Store, temporary: Path) -> None:
    def edit() -> None:
        with store.local("a.txt", write=True) as path:
            path.write_bytes(path.read_bytes() + b"x")

    with interrupting() as timer:
        tries = 0
        while timer.count < 60 and tries < 2000:
            tries += 1
            timer.during(edit, 5e-4)
    assert all(name.startswith("holdall-kept-") for name in left(temporary)), left(temporary)
    assert store["a.txt"].removeprefix(b"before").strip(b"x") == b""
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        edit()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_child_of_a_fork_neither_removes_nor_puts(store: Store, temporary: Path) -> None:
    file = FilesystemStore(temporary.parent / "store")
    file["a.txt"] = b"before"
    block = file.local("a.txt", write=True)
    with block as path:

        def leave() -> None:
            path.write_bytes(b"by the child")
            block.__exit__(None, None, None)

        succeeds(forked(leave))
        assert path.read_bytes() == b"by the child"
        assert file["a.txt"] == b"before"

        def use() -> None:
            with store.local("a.txt") as other:
                assert other.read_bytes() == b"before"

        succeeds(forked(use))
    assert file["a.txt"] == b"by the child"
    assert left(temporary) == []


def test_a_child_doesn_t_hold_the_lock_of_a_parent_that_is_killed(store: Store, temporary: Path) -> None:
    read, write = os.pipe()

    def parent() -> None:
        with store.local("a.txt"):
            os.write(write, b"%d\n" % forked(lambda: time.sleep(60)))
            time.sleep(60)

    first = forked(parent)
    second = int(os.read(read, 100))
    try:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        with store.local("a.txt"):
            assert len(left(temporary)) == 1
    finally:
        os.kill(second, signal.SIGKILL)
        os.close(read)
        os.close(write)


def test_threads(store: Store, temporary: Path) -> None:
    store["count"] = b"0"

    def count() -> None:
        for _ in range(10):
            while True:
                try:
                    with store.local("count", write=True) as path:
                        path.write_text(str(int(path.read_text()) + 1))
                    break
                except ConcurrencyError as error:
                    kept_in(error).unlink()
                    kept_in(error).parent.rmdir()

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store["count"] == b"50"
    assert left(temporary) == []


def test_a_full_disk_and_a_missing_temporary_folder(temporary: Path, tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from holdall import MemoryStore, StoreUnavailableError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        store = MemoryStore({"a": bytes(1_000_000)})
        for write in (False, True):
            try:
                with store.local("a", write=write):
                    raise SystemExit("a file past the limit was written")
            except StoreUnavailableError as error:
                assert "TMPDIR" in str(error), error
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    assert left(temporary) == []
    temporary.rmdir()
    with pytest.raises(StoreUnavailableError, match="TMPDIR"), MemoryStore({"a": b"1"}).local("a"):
        pass


def test_a_dropped_block_leaves_nothing(store: Store, temporary: Path) -> None:
    block = store.local("a.txt", write=True)
    block.__enter__().write_bytes(b"half")
    del block
    assert left(temporary) == []
    assert store["a.txt"] == b"before"


def test_a_coroutine_that_is_cancelled_leaves_nothing(store: Store, temporary: Path) -> None:
    async def main() -> None:
        async def edit() -> None:
            async with store.aio.local("a.txt", write=True) as path:
                path.write_bytes(b"half")
                entered.set()
                await asyncio.sleep(60)

        entered = asyncio.Event()
        task = asyncio.create_task(edit())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with store.aio.local("a.txt", write=True) as path:
            path.write_bytes(b"whole")

    asyncio.run(main())
    assert store["a.txt"] == b"whole"
    assert left(temporary) == []


def test_open_virtual(store: Store, temporary: Path) -> None:
    with open_virtual("a.txt", store) as file:
        assert os.path.basename(file.name) == "a.txt"
        assert os.read(file.fileno(), 100) == b"before"
    assert file.closed
    with open_virtual("a.txt", store, "r") as text:
        assert text.read() == "before"
    values = holdall.get_store(store)
    with open_virtual("a.txt", values) as file:
        assert file.read() == b"before"
    with pytest.raises(BlobNotFoundError), open_virtual("b.txt", store):
        pass
    assert left(temporary) == []


def test_wrong_ways_to_open_virtual(store: Store) -> None:
    wrong: Any = open_virtual
    with pytest.raises(InvalidTypeError, match="the key comes first"):
        wrong(store, "a.txt")
    for other in ("memory://", None, {"a.txt": b"1"}):
        with pytest.raises(InvalidTypeError, match="given a store"):
            wrong("a.txt", other)
    for mode in ("wb", "w", "r+", "x", "", None, 1):
        with pytest.raises(InvalidArgumentError, match="local"):
            wrong("a.txt", store, mode)


def test_a_blob_that_another_writer_deletes_as_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemStore(tmp_path / "store")
    store["a"] = b"1"
    real = store._local_path

    def late(key: str) -> str | None:
        path = real(key)
        del store[key]
        return path

    monkeypatch.setattr(store, "_local_path", late)
    with pytest.raises(BlobNotFoundError), open_virtual("a", store):
        pass


def test_touch_renews_the_time_of_a_file(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "store", durable=True)
    before = store.put("a", b"1")
    os.utime(tmp_path / "store/a", (1, 1))
    after = store.touch("a")
    assert after.modified >= before.modified
    assert store.info("a") == after
    with pytest.raises(ConcurrencyError):
        store.put("a", b"2", expect=before.etag)
    assert (tmp_path / "store/a").stat().st_ino == os.stat(tmp_path / "store/a").st_ino
    with pytest.raises(UnsupportedOperation):
        store.touch("a", ttl=60)
    with pytest.raises(BlobNotFoundError):
        FilesystemStore(tmp_path / "none").touch("a")


def test_touch_of_anothers_file_replaces_it(temporary: Path) -> None:
    (temporary / "store").mkdir()
    (temporary / "store/a").write_bytes(b"other")
    (temporary / "store/a").chmod(0o644)
    let_in(temporary / "store")

    def work(_: Path) -> None:
        store = FilesystemStore(temporary / "store")
        assert store.touch("a").size == 5
        assert store["a"] == b"other"

    succeeds_as_nobody(work)


def test_touch_without_a_ttl_keeps_the_expiry_and_renews_a_life_by_age(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    before = store.put("a", b"1", ttl=100)
    assert store.touch("a").expires == before.expires
    layer = ExpiringStore(FilesystemStore(tmp_path / "store"), 100)
    layer["a"] = b"1"
    os.utime(tmp_path / "store/a", (time.time() - 90,) * 2)
    assert (layer.touch("a").expires or before.modified) > before.modified
    os.utime(tmp_path / "store/a", (time.time() - 110,) * 2)
    with pytest.raises(BlobNotFoundError):
        layer.touch("a")
    native = ExpiringStore(store, 1000)
    assert (native.touch("a").expires or before.modified) > (before.expires or before.modified)


def test_touch_refuses_what_it_can_t_do_safely(store: Store) -> None:
    class Rewriting(Limited):
        _touch = Store._touch

    with pytest.raises(UnsupportedOperation, match="write it again"):
        Rewriting(store, ~Can.SWAP).touch("a.txt")
    with pytest.raises(ReadOnlyError):
        ReadOnlyStore(store).touch("a.txt")
    for ttl in (0, -1, "1", True):
        with pytest.raises(InvalidArgumentError):
            store.touch("a.txt", ttl=ttl)  # type: ignore[arg-type]


def test_an_unknown_digest_lists_the_known_ones(store: Store) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no digest is named 'sha'.*blake3, .*md5.*sha256"):
        store.checksum("a.txt", "sha")
    with pytest.raises(InvalidTypeError):
        store.checksum("a.txt", 256)  # type: ignore[arg-type]


def test_what_is_removed_is_never_what_a_link_in_its_place_leads_to(tmp_path: Path) -> None:
    inner = tmp_path / "others" / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "others")
    virtual._remove(str(link))
    assert inner.stat().st_mode & 0o777 == 0o755
