"""What becomes of a store in SQLite by interrupts, and by what others do to its files."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.forks import succeeds_as_nobody
from tests.interrupts import Interrupts, interrupting

from holdall.errors import ConcurrencyError, IntegrityError, InvalidArgumentError, ReadOnlyError, StoreError
from holdall.errors import StoreUnavailableError as Unavailable
from holdall.store import LeftOut, Store
from holdall.stores.sqlite import SqliteStore, connections
from holdall.stores.sqlite.file import lock_holders

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as store:
        yield store


def elsewhere(path: Path) -> dict[str, bytes]:
    """What another process reads."""
    code = "import sys; from holdall import SqliteStore; print(dict(SqliteStore(sys.argv[1]).items()))"
    return eval(subprocess.check_output([sys.executable, "-c", code, str(path)]))


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    with interrupting() as interrupts:
        yield interrupts


def test_an_interrupt_leaves_no_lock_and_undoes_nothing(
    store: SqliteStore, path: Path, interrupts: Interrupts
) -> None:
    large = b"x" * (5 * MIB)
    store["large"] = large
    kept: dict[str, bytes] = {}
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:

        def look() -> None:
            # No lock is left, and no snapshot that keeps the log from being emptied.
            other.execute("BEGIN IMMEDIATE")
            other.execute("COMMIT")

        calls: list[tuple[Callable[[], object], float]] = [
            (lambda: store.put("a", b"1"), 6e-5),
            (lambda: store.put_many({f"b{n}": b"x" for n in range(30)}), 3e-4),
            (lambda: store.get("a"), 1e-5),
            (lambda: list(store.list()), 2e-4),
            (lambda: store.put("c", iter([b"y" * MIB] * 5)), 3e-2),
            (lambda: next(store.chunks("large")), 1e-3),
            (lambda: store.copy("large", "d"), 1e-4),
            (lambda: store.delete("a"), 5e-5),
            (lambda: store.delete_many(["a", "b1", "b2"]), 1e-4),
        ]
        for turn in range(600):
            # The large one takes a hundred times as long as the others.
            call, length = (
                calls[turn % len(calls)] if turn % 63 == 4 else random.choice(calls[:4] + calls[5:])
            )
            interrupts.during(call, length)
            look()
            store[f"kept/{turn % 50}"] = kept[f"kept/{turn % 50}"] = b"%d" % turn
            seen = other.execute(
                "SELECT data FROM holdall_v1_blobs WHERE key = ?", (f"kept/{turn % 50}",)
            ).fetchone()
            assert seen == (b"%d" % turn,)
        assert interrupts.count > 100
        # An interrupt at the first step of a destructor leaves a snapshot to the garbage collection.
        gc.collect()
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert store["large"] == large
    store["new stream"] = iter([b"z" * MIB] * 5)
    with closing(sqlite3.connect(path)) as other:
        # Nothing is left of the streams that were interrupted.
        assert other.execute("SELECT count(*) FROM holdall_v1_stages").fetchone() == (0,)
        assert other.execute(
            """SELECT count(*) FROM holdall_v1_chunks WHERE stream NOT IN
            (SELECT stream FROM holdall_v1_blobs WHERE stream IS NOT NULL)"""
        ).fetchone() == (0,)
    found = dict(store.items())
    assert {key: found[key] for key in kept} == kept
    assert "c" not in found or found["c"] == b"y" * (5 * MIB)


def test_an_interrupt_right_after_a_stream_was_published_keeps_its_chunks(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = SqliteStore._publish

    def interrupted(*arguments: object) -> object:
        publish(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    data = b"x" * (9 * MIB)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "_publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store["large"] = iter([data])
    assert store["large"] == data


def test_an_interrupt_while_it_waits_for_a_lock(store: SqliteStore, path: Path) -> None:
    store["first"] = b"0"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            store.put_many({"a": b"1", "b": b"2"})
        # The other still holds its lock: the interrupt came out at once.
        assert other.in_transaction
        other.execute("COMMIT")
        store["later"] = b"acknowledged"
        other.execute("BEGIN IMMEDIATE")
        other.execute("COMMIT")
    assert elsewhere(path) == {"first": b"0", "later": b"acknowledged"}


def test_a_put_never_joins_a_transaction_of_another_call(store: SqliteStore, path: Path) -> None:
    store["first"] = b"0"
    connection = store._local.connection
    for write in (
        lambda: store.put("a", b"1"),
        lambda: store.put_many({"a": b"1"}),
        lambda: store.delete("x"),
    ):
        connection.execute("BEGIN")
        connection.execute("DELETE FROM holdall_v1_blobs")
        write()
        assert not connection.in_transaction
        assert store["first"] == b"0"

    # A signal handler that writes in the midst of a transaction would end it half-way.
    def handler() -> object:
        for again in (lambda: store.put("b", b""), lambda: store.put_many({"b": b""}), store.clear):
            with pytest.raises(Unavailable, match="signal handler"):
                again()
        return connection.execute("DELETE FROM holdall_v1_blobs WHERE key = 'a'")

    store._database.transaction(lambda connection: handler(), None)
    assert elsewhere(path) == {"first": b"0"}


def test_waiting_ends_when_it_should_and_says_who_to_look_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteStore(path) as first:
        first["a"] = b"1"
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds + 0.1  # SQLite has waited, too

    monkeypatch.setattr(time, "sleep", sleep)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for call in (
            lambda store: store.put("a", b"2"),
            lambda store: store.put_many({"a": b"2"}),
            lambda store: store.delete("a"),
        ):
            with SqliteStore(path, timeout=0.5) as store:
                began = now[0]
                with pytest.raises(Unavailable, match=r"0\.5 seconds.*fuser"):
                    call(store)
                assert now[0] - began < 0.8
                assert store["a"] == b"1"
    with Store.from_uri(f"sqlite:///{path}?timeout=5") as store:
        assert repr(store).endswith("timeout=5.0)")
    for wrong in (-1, "5", float("nan")):
        with pytest.raises(InvalidArgumentError, match="timeout"):
            SqliteStore(path, timeout=wrong)  # type: ignore[arg-type]


def test_the_holder_of_a_lock_is_named(store: SqliteStore, path: Path) -> None:
    store["a"] = b"1"
    code = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
print(flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert other.pid in lock_holders(str(path))
        with SqliteStore(path, timeout=0) as impatient, pytest.raises(Unavailable, match=str(other.pid)):
            impatient["a"] = b"2"
        other.communicate(b"\n")
    assert other.pid not in lock_holders(str(path))


def test_a_file_that_was_replaced_is_noticed(store: SqliteStore, path: Path) -> None:
    store.update({"k": b"old", "mine": b"m"})
    restored = path.with_name("restored.db")
    with SqliteStore(restored) as other:
        other.update({"k": b"restored", "only": b"r"})
    os.link(path, path.with_name("moved.db"))
    os.replace(restored, path)
    assert store.put("later", b"x").size == 1
    assert dict(store.items()) == {"k": b"restored", "only": b"r", "later": b"x"}
    assert elsewhere(path) == {"k": b"restored", "only": b"r", "later": b"x"}
    # What was in the log went into the file that it belongs to.
    moved = elsewhere(path.with_name("moved.db"))
    assert (moved["k"], moved["mine"]) == (b"old", b"m")
    for write in (
        lambda: store.put_many({"more": b"1"}),
        lambda: store.put("only", b"2", expect=store.info("only").etag),
        lambda: store.delete("k"),
    ):
        with SqliteStore(restored) as other:
            other.update({"k": b"restored", "only": b"r"})
        os.replace(restored, path)
        write()
        assert elsewhere(path) == dict(store.items())
    with pytest.raises(ConcurrencyError):
        store.put("only", b"3", expect="1")


def test_a_file_that_was_deleted_is_noticed(store: SqliteStore, path: Path) -> None:
    for write in (lambda: store.put("b", b"2"), lambda: store.put_many({"b": b"2"})):
        store["a"] = b"1"
        path.unlink()
        write()
        assert elsewhere(path) == {"b": b"2"} == dict(store.items())
    path.unlink()
    assert not store.delete("b")
    assert list(store) == []
    assert os.listdir(path.parent) == []
    store["b"] = b"2"
    shutil.rmtree(path.parent)
    store["c"] = b"3"
    assert elsewhere(path) == {"c": b"3"}


def test_a_stream_into_a_file_that_was_replaced_raises(store: SqliteStore, path: Path) -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * (9 * MIB)
        path.unlink()
        yield b"y"

    store["a"] = b"1"
    with pytest.raises(Unavailable, match="replaced"):
        store["large"] = body()
    assert "large" not in store


def test_a_log_that_was_deleted_is_noticed(store: SqliteStore, path: Path) -> None:
    store["a"] = b"1"
    for number, write in enumerate((lambda: store.put("b", b"2"), lambda: store.put_many({"b": b"2"}))):
        Path(f"{path}-wal").unlink()
        write()
        store[f"c{number}"] = b"3"
        # As after a kill: what was acknowledged is in the files at the paths.
        assert elsewhere(path)["b"] == b"2"
        store.delete("b")
    with SqliteStore(path) as other:
        assert dict(other.items()) == {"a": b"1", "c0": b"3", "c1": b"3"}


def test_a_log_that_was_deleted_while_others_have_it_open_raises(store: SqliteStore, path: Path) -> None:
    store["a"] = b"1"
    code = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN")
print(other.execute("SELECT count(*) FROM holdall_v1_blobs").fetchone(), flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"(1,)\n"
        Path(f"{path}-wal").unlink()
        with pytest.raises(Unavailable, match="-wal was deleted"):
            store["b"] = b"2"
        other.communicate(b"\n")


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_file_that_was_cut_is_noticed(store: SqliteStore, path: Path, size: int) -> None:
    store.put_many({f"k{n}": b"x" * 1000 for n in range(100)})
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store["before"] = b"1"
    os.truncate(path, size)
    with pytest.raises(StoreError) as caught:
        store.put_many({"after": b"2"})
    assert isinstance(caught.value, IntegrityError | Unavailable)


def test_a_vacuum_changes_nothing(store: SqliteStore, path: Path) -> None:
    store.put_many({f"k{n}": b"x" * 1000 for n in range(1000)})
    store["a"] = b"1"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store["a"] = b"2"
        other.execute("DELETE FROM holdall_v1_blobs WHERE key GLOB 'k*'")
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store["b"] = b"3"
    assert elsewhere(path) == {"a": b"2", "b": b"3"} == dict(store.items())


def test_a_newer_format_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE holdall_v2_blobs (key TEXT)")
    before = path.read_bytes()
    with SqliteStore(path) as store:
        for call in (lambda: store.get("a"), lambda: store.put("a", b"")):
            with pytest.raises(Unavailable, match="newer version"):
                call()
    assert path.read_bytes() == before


def test_names_that_other_programs_wrote_are_left_out_not_absent(store: SqliteStore, path: Path) -> None:
    store.update({"a": b"1", "z": b"2", "é/.b": b"3"})
    odd = ["a//b", "/c", "d/", "..", "", "n\0l", "x" * 1025]
    with closing(sqlite3.connect(path)) as other, other:
        for key in [*odd, b"bytes"]:
            other.execute(
                "INSERT INTO holdall_v1_blobs (key, etag, modified, data) VALUES (?, 1, 1, x'')", (key,)
            )
    assert list(store) == [info.key for info in store.list()] == ["a", "z", "é/.b"]
    assert sorted(store.left_out()) == sorted(
        LeftOut(key, "name that can't be a key") for key in [*odd, "bytes"]
    )
    assert "" not in [each if isinstance(each, str) else each.key for each in store.children()]
    assert [entry.path for entry in store.left_out("a")] == ["a//b"]


_CLONED = """
import ctypes, os, sys
from holdall import SqliteStore, ZipStore
store = {"sqlite": SqliteStore, "zip": ZipStore}[sys.argv[1]](sys.argv[2])
# As a machine that is cloned: both go on with one memory, and Python isn't asked.
child = ctypes.CDLL(None).fork()
name = "child" if child == 0 else "parent"
if sys.argv[1] == "sqlite":
    store._database.path += name
else:
    store._path += name
    store._files = type(store._files)(store._path)
tags = [store.put(str(n), b"x").etag for n in range(3)]
tags += [info.etag for info in store.put_many({"a": b"", "b": b""}).values()]
os.write(1, "".join(tag + "\\n" for tag in tags).encode())
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("kind", ["sqlite", "zip"])
def test_the_etags_of_a_cloned_machine_differ(path: Path, kind: str) -> None:
    tags = subprocess.check_output([sys.executable, "-c", _CLONED, kind, str(path)]).split()
    assert len(set(tags)) == 10


def test_what_others_write_is_seen_where_this_process_can_only_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteStore(path) as owner:
        owner.put_many({"a": b"1", "large": b"x" * (3 * MIB)})
    with monkeypatch.context() as patch:
        # For root every folder can be written to.
        patch.setattr(connections, "is_writable", lambda folder: False)
        reader = SqliteStore(path)
        assert reader["a"] == b"1"
        assert len(reader["large"]) == 3 * MIB
        half = reader.chunks("large", MIB)
        next(half)
    with pytest.raises(ReadOnlyError, match="permissions"):
        reader["a"] = b"mine"
    with SqliteStore(path) as owner:
        owner["a"] = b"2"
        assert reader["a"] == b"2"
        owner["large"] = b"y" * (3 * MIB)
        with pytest.raises(ConcurrencyError, match="replaced"):
            list(half)
    assert reader["large"] == b"y" * (3 * MIB)
    reader.close()


@pytest.mark.parametrize(
    "row",
    [
        (1, 1, None, None, None, None, "text"),
        (1, 1, None, None, None, None, 5),
        (1, 1, None, None, None, None, None),
        ("x", 1, None, None, None, None, b"1"),
        (1, "soon", None, None, None, None, b"1"),
        (1.5, 1.5, None, None, None, None, b"1"),
        (1, 1, None, 1 << 62, None, None, b"1"),
        (1, 1, None, "never", None, None, b"1"),
        (1, 1, -5, None, None, None, b"1"),
        (1, 1, "big", None, None, None, b"1"),
    ],
)
def test_a_row_that_another_program_wrote_is_a_typed_error(
    store: SqliteStore, path: Path, row: tuple[object, ...]
) -> None:
    store["good"] = b"1"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO holdall_v1_blobs VALUES ('odd', ?, ?, ?, ?, ?, ?, ?)", row)
    reads: list[Callable[[], object]] = [
        lambda: store["odd"],
        lambda: store.get_range("odd", 0, 1),
        lambda: list(store.chunks("odd")),
        lambda: store.info("odd"),
        lambda: store.get_many(["odd"]),
        lambda: store.copy("odd", "copy"),
        lambda: list(store.list()),
    ]
    wrong = 0
    for read in reads:
        try:
            found = read()
        except IntegrityError as error:
            wrong += "never writes" in str(error)
        else:
            assert found != {"odd": row[-1]} or type(row[-1]) is bytes
    assert wrong
    assert store["good"] == b"1"
    store["odd"] = b"mended"
    assert dict(store.items()) == {"good": b"1", "odd": b"mended"} | (
        {"copy": b"1"} if "copy" in store else {}
    )


@pytest.mark.parametrize("call", ["put", "delete"])
def test_a_call_that_fails_keeps_no_file_open(path: Path, call: str) -> None:
    store = SqliteStore(path, timeout=0.05)
    store["a"] = b"1"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="has kept"):
            store.put("a", b"2") if call == "put" else store.delete("a")
        other.execute("COMMIT")
    store.close()
    # The last one to close it removes its log.
    assert os.listdir(path.parent) == [path.name]


def test_a_side_file_of_another_user_is_named(tmp_path: Path) -> None:
    """As a reader leaves it who may write the folder, and not the database."""

    def work(folder: Path) -> None:
        path = folder / "a.db"
        with SqliteStore(path) as store:
            store["a"] = b"1"
        path.chmod(0o444)
        reader = sqlite3.connect(path)
        assert reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reader.close()
        for side in (folder / "a.db-wal", folder / "a.db-shm"):
            side.touch()
            side.chmod(0o444)
        path.chmod(0o644)
        with SqliteStore(path) as store, pytest.raises(ReadOnlyError, match="which SQLite keeps for"):
            store["a"] = b"2"
        for side in (folder / "a.db-wal", folder / "a.db-shm"):
            side.chmod(0o644)
        with SqliteStore(path) as store:
            store["a"] = b"2"

    with SqliteStore(tmp_path / "imports") as store:  # what nobody might not read
        store["a"] = b"1"
    succeeds_as_nobody(work)
