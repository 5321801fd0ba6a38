"""What is special to a store in SQLite."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.forks import forked, succeeds

from holdall.errors import (
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    ReadOnlyError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from holdall.store import ABSENT, Info, Store
from holdall.stores.sqlite import SqliteStore, connections
from holdall.stores.sqlite.file import file_system

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as store:
        yield store


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def chunks(path: Path) -> int:
    return rows(path, "holdall_v1_chunks")


def stages(path: Path) -> int:
    return rows(path, "holdall_v1_stages")


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "folder" / "blobs.db") as store:
        assert store.get("a") is None
        assert "a" not in store
        assert not store
        assert len(store) == 0
        assert list(store.list()) == list(store.children()) == []
        assert store.get_many(["a"]) == {}
        assert not store.delete("a")
        assert store.delete_many(["a"]) == 0
        store.clear()
        assert os.listdir(tmp_path) == []
        store["a"] = b"1"
        assert store["a"] == b"1"


def test_the_side_files_go_when_it_is_closed(path: Path) -> None:
    with SqliteStore(path) as store:
        store["a"] = b"1"
        store.put("large", b"x" * 2 * MIB)
        thread = threading.Thread(target=store.get, args=("a",))
        thread.start()
        thread.join()
        half = store.chunks("large")
        next(half)
    assert os.listdir(path.parent) == [path.name]
    with pytest.raises(StoreClosedError):
        list(half)


def test_a_store_dropped_unclosed_frees_its_files(path: Path) -> None:
    store = SqliteStore(path)
    store["a"] = b"1"
    del store
    gc.collect()
    assert os.listdir(path.parent) == [path.name]


def test_the_path_is_absolute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with Store.from_uri("sqlite:///blobs.db?durable=true") as store:
        store["a"] = b"1"
        monkeypatch.chdir("/")
        with pickle.loads(pickle.dumps(store)) as other:
            assert other["a"] == b"1"
            assert repr(other) == repr(store) == f"SqliteStore({str(path)!r}, durable=True)"


@pytest.mark.parametrize("name", ["a b?mode=memory#%41.db", "é\udcff.db", "file:x"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    with SqliteStore(tmp_path / name) as store:
        store["a"] = b"1"
        assert store["a"] == b"1"
    assert os.listdir(tmp_path) == [name]


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    for wrong in ("", ":memory:", "a\0b", 3):
        with pytest.raises(InvalidArgumentError):
            SqliteStore(wrong)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailableError, match="folder"):
        SqliteStore(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreUnavailableError, match="regular"):
        SqliteStore(tmp_path / "pipe")
    (tmp_path / "file").touch()
    with SqliteStore(tmp_path / "file" / "blobs.db") as store:
        for call in (lambda: store.get("a"), lambda: store.put("a", b"")):
            with pytest.raises(StoreUnavailableError, match="reached"):
                call()


@pytest.mark.parametrize("content", [b"x", b"x" * 600, b"These are notes.\n" * 1000])
def test_a_file_of_something_else_is_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with SqliteStore(path) as store:
        for call in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: list(store)):
            with pytest.raises(StoreUnavailableError, match="isn't a SQLite database"):
                call()
    assert path.read_bytes() == content


def test_an_empty_file_is_an_empty_store(path: Path) -> None:
    path.touch()
    with SqliteStore(path) as store:
        assert len(store) == 0
        store["a"] = b"1"
        assert store["a"] == b"1"


def test_a_truncated_file_is_told(path: Path) -> None:
    with SqliteStore(path) as store:
        store.put_many({f"key-{number}": b"x" * 1000 for number in range(1000)})
    os.truncate(path, path.stat().st_size // 2)
    with SqliteStore(path) as store, pytest.raises(IntegrityError, match="damaged") as caught:
        list(store.items())
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_a_lost_chunk_is_told(store: SqliteStore, path: Path) -> None:
    store["large"] = b"x" * 3 * MIB
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM holdall_v1_chunks WHERE number = 5")
    with pytest.raises(IntegrityError, match="missing"):
        store.get("large")


def test_the_tables_of_others_stay_as_they_are(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 7")
        connection.execute("CREATE TABLE notes (key TEXT, data BLOB)")
        connection.execute("INSERT INTO notes VALUES ('a', 'theirs')")
    before = path.read_bytes()
    with SqliteStore(path) as store:
        assert "a" not in store
        assert len(store) == 0
        assert path.read_bytes() == before
        store["a"] = b"ours"
        assert list(store) == ["a"]
        store.clear()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM notes").fetchall() == [("a", "theirs")]
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)


def test_a_database_in_utf_16_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE notes (a)")
    with SqliteStore(path) as store, pytest.raises(StoreUnavailableError, match="UTF-16"):
        store["a"] = b"1"


def test_a_network_file_system_is_told(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "file_system", lambda path: "nfs4")
    with caplog.at_level(logging.WARNING, "holdall"):
        store["a"] = b"1"
    assert "nfs4" in caplog.text


def test_the_file_system_is_known() -> None:
    assert file_system("/proc") == "proc"


def as_nobody(function: Callable[[], object]) -> None:
    def run() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        function()

    succeeds(forked(run))


def test_without_permission_to_write() -> None:
    # Not below the folder of pytest, which only its owner may enter.
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "blobs.db")
        with SqliteStore(path) as store:
            store["a"] = b"1"
        os.chmod(path, 0o444)
        os.chmod(folder, 0o777)

        def read_only() -> None:
            with SqliteStore(path) as store:
                assert store["a"] == b"1"
                for body in (b"2", b"2" * 5 * MIB):
                    with pytest.raises(ReadOnlyError, match="permissions"):
                        store["a"] = body
                assert store["a"] == b"1"

        as_nobody(read_only)
        with SqliteStore(path) as store:
            # Whoever can't write leaves the side files to the next who can.
            assert store["a"] == b"1"
        assert os.listdir(folder) == ["blobs.db"]
        os.chmod(folder, 0o555)

        def closed_folder() -> None:
            with SqliteStore(path) as store:
                assert store["a"] == b"1"
                assert list(store) == ["a"]
                with pytest.raises(ReadOnlyError, match="permissions"):
                    store["a"] = b"2"
            with SqliteStore(os.path.join(folder, "other.db")) as store:
                assert store.get("a") is None
                with pytest.raises(StoreUnavailableError, match="permissions"):
                    store["a"] = b"1"

        as_nobody(closed_folder)
        os.chmod(folder, 0o700)
        with SqliteStore(path) as store:
            assert store["a"] == b"1"


FULL = """
import resource, sys
from holdall.errors import StoreUnavailableError
from holdall.stores.sqlite import SqliteStore

with SqliteStore(sys.argv[1]) as store:
    store["a"] = b"before"
    store["large"] = b"before" * 500_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
    bodies = [b"x" * 20_000_000, iter([b"x" * 1_000_000] * 30)]
    for key in ("a", "large", "new"):
        for body in bodies:
            try:
                store.put(key, body)
            except StoreUnavailableError as error:
                assert error.__cause__ is not None and error.key == key
            else:
                raise AssertionError("there was room")
    try:
        store.put_many({f"key-{number}": b"x" * 500_000 for number in range(40)})
    except StoreUnavailableError:
        pass
    assert store["a"] == b"before" and store["large"] == b"before" * 500_000
    assert sorted(store) == ["a", "large"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
"""


def test_a_full_disk_keeps_the_old_blob(path: Path) -> None:
    # A limit on the size of a file stops a write half-way, as a full disk does.
    subprocess.run([sys.executable, "-W", "error", "-c", FULL, str(path)], check=True, timeout=60)
    with SqliteStore(path) as store:
        assert store["large"] == b"before" * 500_000
        store["a"] = b"after"
        assert store["a"] == b"after"
        assert stages(path) == 0
        assert chunks(path) == 12


def test_a_body_may_use_the_store(store: SqliteStore, path: Path) -> None:
    def body(key: str) -> Iterator[bytes]:
        for number in range(20):
            store[f"other/{number}"] = b"x"
            with SqliteStore(path) as other:
                other["mine"] = store["other/0"]
            assert key not in store
            yield b"%02d" % number * (MIB // 2)

    assert store.put("large", body("large")).size == 20 * MIB
    assert store["large"][-2:] == b"19"
    assert len(store) == 22
    assert stages(path) == 0
    assert store.put_many([("many", body("many")), ("large", b"")])["many"].size == 20 * MIB


@pytest.mark.parametrize("size", [1, 10])
def test_a_body_that_raises_leaves_the_old_blob(store: SqliteStore, path: Path, size: int) -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * size * MIB
        raise RuntimeError

    store["key"] = b"before" * MIB
    before = chunks(path)
    with pytest.raises(RuntimeError):
        store.put("key", body())
    with pytest.raises(RuntimeError):
        store.put_many([("a", b"x"), ("b", iter([b"x" * 10 * MIB])), ("key", body())])
    assert list(store) == ["key"]
    assert store["key"] == b"before" * MIB
    assert (chunks(path), stages(path)) == (before, 0)


def test_a_stream_refused_leaves_nothing(store: SqliteStore, path: Path) -> None:
    store["key"] = b"before"
    for expect in (ABSENT, "stale"):
        with pytest.raises(ConcurrencyError):
            store.put("key", iter([b"x" * MIB] * 9), expect=expect)
    assert store["key"] == b"before"
    assert (chunks(path), stages(path)) == (0, 0)


def test_chunks_go_with_their_last_blob(store: SqliteStore, path: Path) -> None:
    data = os.urandom(3 * MIB)
    store["a"] = data
    store.copy("a", "b")
    store.move("a", "c")
    assert chunks(path) == 12
    store["b"] = b"small"
    assert store["c"] == data
    store.delete("c")
    assert chunks(path) == 0
    store["a"] = data
    store["a"] = data
    store.put_many([("a", data), ("a", data)])
    assert chunks(path) == 12
    store.delete_many(["a"])
    assert chunks(path) == 0
    store["a"] = data
    store.clear()
    assert chunks(path) == 0


def test_a_reader_keeps_its_version(store: SqliteStore) -> None:
    store["key"] = b"1" * 5 * MIB
    info, pieces = store._read("key", MIB - 1, None)
    store["key"] = b"2" * 5 * MIB
    store.delete("key")
    assert b"".join(pieces) == b"1" * (4 * MIB + 1)
    assert info.size == 5 * MIB


def test_a_reader_that_is_dropped_frees_its_snapshot(store: SqliteStore, path: Path) -> None:
    store["key"] = b"1" * 5 * MIB
    never = store.chunks("key")
    half = store.chunks("key")
    next(half)
    whole = list(store.chunks("key"))
    store["key"] = b"2" * 5 * MIB
    del never, half
    assert len(whole) == 5
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_many_readers_at_once(store: SqliteStore) -> None:
    store["key"] = bytes(range(256)) * 8 * 1024
    readers = [store.chunks("key", 100_000) for _ in range(10)]
    for parts in zip(*readers, strict=True):
        assert len(set(parts)) == 1


MEMORY = """
import resource, sys
from holdall.stores.sqlite import SqliteStore

with SqliteStore(sys.argv[1]) as store:
    store.put("warm", iter([b"x" * (1 << 20)] * 24))
    list(map(len, store.chunks("warm")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    piece = bytes(1 << 20)
    store.put("large", (piece for _ in range(256)))
    assert sum(map(len, store.chunks("large"))) == 256 << 20
    store.copy("large", "copy")
    assert len(store.get_range("copy", 200 << 20, (200 << 20) + 5)) == 5
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_stream_takes_little_memory(path: Path) -> None:
    out = subprocess.check_output([sys.executable, "-W", "error", "-c", MEMORY, str(path)], timeout=120)
    assert int(out) < 16 * 1024


STREAMING = """
import sys, time
from holdall.stores.sqlite import SqliteStore

def body():
    for _ in range(12):
        yield b"x" * (1 << 20)
    print("half", flush=True)
    sys.stdin.readline()
    yield b"y"

store = SqliteStore(sys.argv[1])
store.put("key", body())
"""


def streaming(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", STREAMING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    return process


def test_what_a_killed_writer_left_is_swept(path: Path) -> None:
    with SqliteStore(path) as store:
        store["key"] = b"before"
        with streaming(path) as process:
            process.kill()
        assert store["key"] == b"before"
        assert list(store) == ["key"]
        assert (chunks(path) > 0, stages(path)) == (True, 1)
    with SqliteStore(path) as store:
        assert store["key"] == b"before"
        store["other"] = b""
        assert (chunks(path), stages(path)) == (0, 0)


def test_a_living_writer_is_not_swept(path: Path) -> None:
    with SqliteStore(path) as store, streaming(path) as process:
        store["other"] = b""
        store["large"] = iter([b"x" * MIB] * 9)
        store.clear()
        process.communicate(b"\n")
        assert process.returncode == 0
        assert store.info("key").size == 12 * MIB + 1
        assert store.get_range("key", -2) == b"xy"


@pytest.mark.parametrize(
    "change",
    # Of another host, without a sign of life for a day; and of a process whose id this one has now.
    ["owner = 'another/host 1 1', beat = 0", "owner = rtrim(owner, '0123456789') || '1'"],
)
def test_a_writer_that_was_given_up_says_so(store: SqliteStore, path: Path, change: str) -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * 9 * MIB
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE holdall_v1_stages SET {change}")
        with SqliteStore(path) as other:
            other["other"] = b""
        assert (chunks(path), stages(path)) == (0, 0)
        yield b"x"

    store["key"] = b"before"
    with pytest.raises(StoreUnavailableError, match="swept"):
        store.put("key", body())
    assert store["key"] == b"before"


def test_after_a_fork_both_go_on(store: SqliteStore, path: Path) -> None:
    store["key"] = b"1"
    store["large"] = bytes(range(256)) * 16 * 1024
    stream = store.chunks("large")
    begun = next(stream)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            store["busy"] = store["key"]

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()

    def child() -> None:
        assert store["key"] == b"1"
        assert begun + b"".join(stream) == store["large"]
        for number in range(100):
            store[f"child/{number}"] = b"c"

    try:
        for _ in range(5):
            succeeds(forked(child))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert begun + b"".join(stream) == store["large"]
    assert len(list(store.iterate_keys("child/"))) == 100
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("what", ["put", "get", "delete", "info"])
def test_a_fork_just_as_a_connection_was_opened(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    store["key"] = b"1"
    real, forks = store._database._open_connection, 0

    def opened(create: bool) -> Any:
        nonlocal forks
        connection = real(create)
        if forks < 3:
            forks += 1
            succeeds(forked(lambda: None))  # it closes the connection in the parent, too
        return connection

    succeeds(forked(lambda: None))
    monkeypatch.setattr(store._database, "_open_connection", opened)
    if what == "put":
        store["key"] = b"2"
    elif what == "get":
        assert store["key"] == b"1"
    elif what == "delete":
        assert store.delete("key")
    else:
        assert store.info("key").size == 1
    assert forks == 3


def test_a_fork_while_a_cut_file_is_checked(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store["key"] = b"1"
    real, forks = store._database._open_connection, 0

    def opened(create: bool) -> Any:
        nonlocal forks
        connection, forks = real(create), forks + 1
        if forks == 1:
            succeeds(forked(lambda: None))
        return connection

    monkeypatch.setattr(store._database, "_open_connection", opened)
    assert not store._database._is_damaged()
    assert forks == 2


def test_a_fork_as_an_interrupt_comes_hides_it_behind_no_error(store: SqliteStore) -> None:
    store["key"] = b"1"
    succeeds(forked(lambda: None))
    assert hasattr(store._local, "quick")
    store._database.drop_quick()
    assert store["key"] == b"1"


def test_a_stream_replaced_after_a_fork_is_told(store: SqliteStore) -> None:
    store["large"] = b"1" * 5 * MIB
    stream = store.chunks("large")
    next(stream)
    succeeds(forked(lambda: store.put("large", b"2" * 5 * MIB)))
    with pytest.raises(ConcurrencyError, match="replaced"):
        list(stream)


def test_a_child_makes_other_etags(store: SqliteStore) -> None:
    store["key"] = b"0"
    succeeds(forked(lambda: store.put("child", b"c")))
    assert store.put("parent", b"p").etag != store.info("child").etag


def test_a_fork_leaves_the_log_to_its_writers(store: SqliteStore, path: Path) -> None:
    """A child whose connections took the parent's locks for its own would lose its log to the parent."""
    store["key"] = b"0"
    ready, go = os.pipe(), os.pipe()

    def work() -> None:
        store["child"] = b"1"
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        store["child"] = b"2"

    child = forked(work)
    os.read(ready[0], 1)
    store["parent"] = b"1"
    store.close()
    assert (path.parent / "blobs.db-wal").exists()
    os.write(go[1], b"x")
    succeeds(child)
    for end in (*ready, *go):
        os.close(end)
    with SqliteStore(path) as again:
        assert dict(again.items()) == {"key": b"0", "child": b"2", "parent": b"1"}


def test_threads_that_end_free_their_files(store: SqliteStore) -> None:
    store["key"] = b"1"
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        thread = threading.Thread(target=lambda: store.put("key", store["key"]))
        thread.start()
        thread.join()
    # SQLite keeps one for the next to come: closing it would drop the locks of the others.
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_it_may_be_closed_beside_threads_that_use_it(path: Path) -> None:
    for _ in range(10):
        store = SqliteStore(path)
        store["large"] = b"x" * 3 * MIB
        wrong: list[BaseException] = []
        started = threading.Barrier(5)

        def work(store: SqliteStore = store, wrong: list[BaseException] = wrong) -> None:
            started.wait()  # noqa: B023
            try:
                while True:
                    store["key"] = b"x"
                    store.get("key")
                    for _ in store.chunks("large"):
                        pass
                    list(store)
            except StoreClosedError:
                pass
            except BaseException as error:  # noqa: BLE001
                wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        time.sleep(0.02)
        store.close()
        for thread in threads:
            thread.join()
        assert wrong == []
    assert os.listdir(path.parent) == [path.name]


def test_what_expired_is_absent_everywhere_and_swept_later(store: SqliteStore, path: Path) -> None:
    store.put("kept", b"1", ttl=3600)
    put = store.put("gone", b"x", ttl=3600)
    store.put("large", b"x" * 3 * MIB, ttl=3600)
    half = store.chunks("large")
    next(half)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE holdall_v1_blobs SET expires = 1 WHERE key IN ('gone', 'large')")
    assert list(store) == [info.key for info in store.list()] == ["kept"]
    assert len(store) == 1
    assert [child.key for child in store.children() if isinstance(child, Info)] == ["kept"]
    for key in ("gone", "large"):
        assert store.get(key) is None
        assert not store.exists(key)
        with pytest.raises(KeyError):
            store.info(key)
        with pytest.raises(KeyError):
            store.get_range(key, 0, 1)
        with pytest.raises(KeyError):
            store.copy(key, "copy")
        with pytest.raises(ConcurrencyError):
            store.put(key, b"", expect=put.etag)
        assert not store.delete(key)
    assert store.get_many(["gone", "large"]) == {}
    assert store.delete_many(["gone", "large"]) == 0
    assert sum(map(len, half)) == 2 * MIB
    assert rows(path, "holdall_v1_blobs") == 3
    assert store.put("gone", b"again", expect=ABSENT).expires is None
    with SqliteStore(path) as other:
        other["new"] = b""
    assert rows(path, "holdall_v1_blobs") == 3
    assert chunks(path) == 0
    assert sorted(store) == ["gone", "kept", "new"]


def test_children_seek_past_folders(store: SqliteStore) -> None:
    store.put_many({f"folder-{folder:02}/{number}": b"" for folder in range(50) for number in range(200)})
    store.put_many({f"leaf-{number:04}": b"" for number in range(3000)})
    children = list(store.children())
    assert children[:50] == [f"folder-{folder:02}/" for folder in range(50)]
    assert [child.key for child in children[50:] if isinstance(child, Info)] == [
        f"leaf-{number:04}" for number in range(3000)
    ]


def test_a_prefix_that_no_key_can_have(store: SqliteStore) -> None:
    store["a"] = b""
    for prefix in ("\ud800", "a\0", "\U0010ffff" * 300):
        assert (
            list(store.iterate_keys(prefix)) == list(store.list(prefix)) == list(store.children(prefix)) == []
        )


def test_only_a_str_is_a_key(store: SqliteStore) -> None:
    store["1"] = b"x"
    for call in (store.get, store.exists):
        for key in (1, b"1", None, "\ud800", ""):
            with pytest.raises(InvalidArgumentError):
                call(key)  # type: ignore[operator]


def test_no_error_of_sqlite_is_bare(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE holdall_v1_blobs (something, else_)")
    with SqliteStore(path) as store, pytest.raises(StoreError):
        store["a"] = b"1"
