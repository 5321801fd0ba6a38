"""A catalogue's rows in a JSON file and its journal: what no other backend has to keep."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.forks import forked, succeeds, succeeds_as_nobody
from tests.interrupts import interrupting

from holdall.catalog.backend import Transaction
from holdall.catalog.jsonfile import JsonBackend
from holdall.catalog.jsonfile import writing as writing_module
from holdall.catalog.jsonfile.view import View
from holdall.catalog.query import Query
from holdall.catalog.row import Alias, Blob, Lease, Row
from holdall.errors import (
    IntegrityError,
    InvalidArgumentError,
    ReadOnlyError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.testing import BackendSuite


class TestJson(BackendSuite):
    def make(self, place: Path) -> JsonBackend:
        return JsonBackend(place / "cache_metadata.json")


class TestFoldedOften(BackendSuite):
    """The journal is folded with each few transactions."""

    @pytest.fixture(autouse=True)
    def _fold_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writing_module, "_LEAST", 300)
        monkeypatch.setattr(View, "size", property(lambda view: 0, lambda view, size: None))

    def make(self, place: Path) -> JsonBackend:
        return JsonBackend(place / "cache_metadata.json")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "cache_metadata.json"


def log_of(path: Path) -> Path:
    return path.with_name(path.name + ".log")


def new_row(key: str = "a", version: int = 1, blob: int = 1, **metadata: Any) -> Row:
    return Row(
        key, version, version, blob, "d" * 64, 10, "builtins.dict", "json", "lz4", "", 1_700_000_000_000_000,
        1_700_000_000_123_456, metadata,
    )  # fmt: skip


def new_blob(number: int, **fields: Any) -> Blob:
    return Blob(number, f"{number:064x}", 5, 7, ".json", "builtins.dict", "json", "lz4", "", **fields)


def put(backend: JsonBackend, *rows: Row) -> None:
    def act(transaction: Transaction) -> None:
        for row in rows:
            transaction.put_row(row)

    backend.transact(act)


def everything(backend: JsonBackend) -> Any:
    aliases, leases = backend.transact(lambda t: (t.aliases(), sorted(t.leases(), key=lambda e: e.name)))
    return (
        backend.identity, list(backend.find(Query())), list(backend.earlier()), list(backend.blobs()),
        sorted(backend.suspects(2**62)), aliases, leases,
    )  # fmt: skip


def fill(backend: JsonBackend) -> None:
    """Write some of everything."""

    def act(t: Transaction) -> None:
        t.put_row(new_row("a", 2, 1, accuracy=0.95, nested={"é": [1, None, True]}))
        t.put_row(new_row("b/ü\n\"'\u2028", 1, 2, text="\ud800 \U0001f600", long="x" * 200))
        t.put_earlier(new_row("a", 1, 3))
        t.put_earlier(Row("a", 0, 5, 3, "", 0, "", "", "", "", -(2**70), 2**70, {}, (("b", 1, "e"),)))
        for number in (1, 2):
            t.put_blob(new_blob(number))
        # One that says the same as its entry, and is written with it.
        t.put_blob(replace(new_blob(3), digest="d" * 64, size=10, type="builtins.dict"))
        t.put_blob(new_blob(4, until=2**50))
        t.put_blob(new_blob(5, inline=True, data=b"\0\xff" * 9))
        t.suspect(4, 123)
        t.put_alias(Alias("prod", "a", 1, 6))
        t.put_lease(Lease("l", 2, 2**50))
        t.next_number()

    backend.transact(act)


def test_a_person_can_read_it(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("models/v2.1", accuracy=0.95, author="Zoë"))
    assert json.loads(path.read_text())["entries"] == {}
    assert log_of(path).read_text().count("\n") == 2
    backend.close()
    text = path.read_text()
    found = json.loads(text)
    assert found["entries"]["models/v2.1"] == {
        "version": 1, "metadata": {"accuracy": 0.95, "author": "Zoë"}, "type": "builtins.dict", "size": 10,
        "digest": "d" * 64, "created": "2023-11-14T22:13:20+00:00",
        "updated": "2023-11-14T22:13:20.123456+00:00", "format": "json", "codec": "lz4", "library": "",
        "blob": 1, "sequence": 1,
    }  # fmt: skip
    assert '"metadata": {"accuracy": 0.95, "author": "Zoë"},\n' in text
    assert log_of(path).read_text().count("\n") == 1
    assert sorted(os.listdir(path.parent)) == [path.name, log_of(path).name]


def test_all_of_it_is_in_the_file_and_in_the_journal(path: Path, tmp_path: Path) -> None:
    backend = JsonBackend(path)
    fill(backend)
    was = everything(backend)
    copied = JsonBackend(shutil.copytree(path.parent, tmp_path / "copy") / path.name)
    assert everything(copied) == was
    backend.close()
    json.loads(path.read_text())
    assert everything(JsonBackend(path)) == was
    # The main file alone is enough once it is folded, as is one that was written by hand.
    log_of(path).unlink()
    assert everything(JsonBackend(path)) == was
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert everything(JsonBackend(path)) == was


def test_an_edit_by_hand_is_read(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a", accuracy=0.95))
    backend.close()
    path.write_text(path.read_text().replace("0.95", "0.96").replace('"number": 0', '"number": -7'))
    backend = JsonBackend(path)
    found = backend.row("a")
    assert found is not None
    assert found.metadata == {"accuracy": 0.96}
    assert backend.transact(lambda t: t.next_number()) > 1
    # Also while it is open: the next write sees it.
    backend.close()
    backend = JsonBackend(path)
    assert backend.row("b") is None
    path.write_text(path.read_text().replace("0.96", "0.97"))
    put(backend, new_row("b"))
    assert [row.metadata for row in backend.find(Query())] == [{"accuracy": 0.97}, {}]
    assert [row.metadata for row in JsonBackend(path).find(Query())] == [{"accuracy": 0.97}, {}]


def test_an_edit_by_hand_under_a_journal_is_refused(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    path.write_text(path.read_text() + "\n")
    was = path.read_bytes(), log_of(path).read_bytes()
    for call in (lambda: put(backend, new_row("b")), lambda: JsonBackend(path).row("a")):
        with pytest.raises(IntegrityError, match=r"was edited while its \.log file has 1 later changes"):
            call()
    assert (path.read_bytes(), log_of(path).read_bytes()) == was
    path.write_text(path.read_text()[:-1])
    assert JsonBackend(path).row("a") == new_row("a")


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", IntegrityError, "isn't whole JSON"),
        ('{"format": "holdall catalogue", ', IntegrityError, "isn't whole JSON"),
        ("[" * 100_000, IntegrityError, "isn't whole JSON"),
        ("\xff", IntegrityError, "isn't whole JSON"),
        ("[]", StoreUnavailableError, "another program's"),
        ('{"a1b2": {"data_type": "object"}}', StoreUnavailableError, "another program's"),
        ('{"format": "holdall catalogue", "version": 2}', UnsupportedOperation, "install a newer holdall"),
        ('{"format": "holdall catalogue", "version": 1}', IntegrityError, "lacks 'identity'"),
    ],
)
def test_a_file_that_is_none_is_left_alone(path: Path, text: str, kind: type[Exception], says: str) -> None:
    path.parent.mkdir()
    path.write_text(text, "latin-1")
    backend = JsonBackend(path)
    for call in (lambda: backend.row("a"), lambda: put(backend, new_row()), lambda: backend.identity):
        with pytest.raises(kind, match=says):
            call()
    backend.close()
    assert path.read_text("latin-1") == text
    assert not log_of(path).exists()


@pytest.mark.parametrize("suffix", ["", ".log"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_not_a_file(path: Path, make: Callable[[str], None], suffix: str) -> None:
    path.parent.mkdir()
    make(f"{path}{suffix}")
    for call in (lambda: JsonBackend(path).row("a"), lambda: put(JsonBackend(path), new_row())):
        with pytest.raises(
            StoreUnavailableError, match=r"is a (folder|named pipe), and a JSON catalogue needs"
        ):
            call()
    assert os.listdir(path.parent) == [path.name + suffix]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"version": 2,', '"version": "2",', "'a' of 'entries' in .* expected int, not '2'"),
        ('"size": 10,', "", "'a' of 'entries' in .* lacks 'size'"),
        ("2023-11-14T22:13:20+00:00", "yesterday", "'a' of 'entries' in .* 'yesterday'"),
        ("2023-11-14T22:13:20+00:00", "2023-11-14T22:13:20", "lacks its zone"),
        ('"metadata": {', '"metadata": [], "was": {', "expected dict, not"),
        ('"suspected_blobs": {', '"suspected_blobs": [], "was": {', "is wrong"),
        ('"entries": {', '"entries": {"n": null, ', "'n' of 'entries'"),
        ('"data": "', '"data": "?', "'5' of 'other_blobs'"),
    ],
)
def test_a_wrong_edit_says_where(path: Path, old: str, new: str, says: str) -> None:
    backend = JsonBackend(path)
    fill(backend)
    backend.close()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(IntegrityError, match=says):
        JsonBackend(path).row("a")


def test_files_that_do_not_belong_together(path: Path, tmp_path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    old = path.read_bytes()
    backend.close()
    put(backend := JsonBackend(path), new_row("b"))
    new = path.read_bytes()
    path.write_bytes(old)
    with pytest.raises(IntegrityError, match="don't belong together"):
        put(backend, new_row("c"))
    with pytest.raises(IntegrityError, match="don't belong together"):
        JsonBackend(path).row("a")
    path.unlink()
    with pytest.raises(IntegrityError, match="is missing, and its"):
        JsonBackend(path).row("a")
    with pytest.raises(IntegrityError, match="is missing, and its"):
        put(backend, new_row("c"))
    path.write_bytes(new)
    assert list(backend.keys()) == list(JsonBackend(path).keys()) == ["a", "b"]


def test_a_torn_line_is_dropped_wherever_it_ends(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    whole = log_of(path).read_bytes()
    put(backend, new_row("b"))
    both = log_of(path).read_bytes()
    for length in range(len(whole), len(both)):
        log_of(path).write_bytes(both[:length])
        reader = JsonBackend(path)
        assert list(reader.keys()) == ["a"]
        put(reader, new_row("c"))
        assert list(JsonBackend(path).keys()) == ["a", "c"]
    # A loss of power leaves the length of the file, and zeros.
    for tail in (b"\0" * 40, b"\0" * 40 + b"}\n", both[len(whole) : -20] + b"\0" * 20):
        log_of(path).write_bytes(whole + tail)
        assert list(JsonBackend(path).keys()) == ["a"]
        put(JsonBackend(path), new_row("d"))
        assert list(JsonBackend(path).keys()) == ["a", "d"]


def test_a_reader_that_saw_a_torn_line_reads_the_next_one(path: Path) -> None:
    writer, reader = JsonBackend(path), JsonBackend(path)
    put(writer, new_row("a"))
    whole = log_of(path).read_bytes()
    put(writer, new_row("b"))
    line = log_of(path).read_bytes()[len(whole) :]
    log_of(path).write_bytes(whole + line[:-1])
    assert list(reader.keys()) == ["a"]
    put(JsonBackend(path), new_row("c"))
    assert len(log_of(path).read_bytes()) == len(whole + line)
    assert list(reader.keys()) == ["a", "c"]


def test_each_flipped_bit_is_seen(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    put(backend, new_row("b"))
    data = log_of(path).read_bytes()
    first, second, _ = data.splitlines(keepends=True)
    for at in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        log_of(path).write_bytes(flipped)
        number = 1 + (at >= len(first)) + (at >= len(first + second))
        if at == len(data) - 1 or bytes(flipped).count(b"\0"):
            continue  # this one looks torn
        with pytest.raises(
            IntegrityError, match=r"line \d of .*cache_metadata\.json\.log' is damaged"
        ) as caught:
            JsonBackend(path).row("a")
        assert f"line {number} of" in str(caught.value)
        with pytest.raises(IntegrityError, match="is damaged"):
            put(JsonBackend(path), new_row("c"))
        assert log_of(path).read_bytes() == flipped
    log_of(path).write_bytes(data)
    assert list(JsonBackend(path).keys()) == ["a", "b"]


def test_lines_that_were_moved_are_seen(path: Path) -> None:
    backend = JsonBackend(path)
    for key in "abc":
        put(backend, new_row(key))
    first, *lines = log_of(path).read_bytes().splitlines(keepends=True)
    for order in ([1, 0, 2], [0, 2], [0, 0, 1, 2], [1, 2]):
        log_of(path).write_bytes(first + b"".join(lines[at] for at in order))
        with pytest.raises(IntegrityError, match=r"line \d of"):
            JsonBackend(path).row("a")


def test_a_journal_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    log_of(path).write_text("2026-01-01 INFO started\n")
    for call in (lambda: put(JsonBackend(path), new_row()), lambda: JsonBackend(path).row("a")):
        with pytest.raises(IntegrityError, match="another program's file"):
            call()
    assert log_of(path).read_text() == "2026-01-01 INFO started\n"
    assert not path.exists()


def test_bad_values_leave_nothing(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    was = log_of(path).read_bytes()
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    for value in (float("nan"), float("inf"), {1}, b"", nested):
        with pytest.raises(InvalidArgumentError):
            put(backend, new_row("b"), new_row("c", value=value))
    assert log_of(path).read_bytes() == was
    assert list(backend.keys()) == ["a"]


def test_a_grown_journal_is_folded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing_module, "_LEAST", 2000)
    backend, other = JsonBackend(path), JsonBackend(path)
    folds = 0
    for number in range(200):
        was = path.stat().st_ino if number else 0
        put(backend if number % 3 else other, new_row(f"{number:03}", n=number))
        folds += path.stat().st_ino != was
        for each in (backend, other):
            found = each.row(f"{number:03}")
            assert found is not None
            assert found.metadata == {"n": number}
        json.loads(path.read_text())
    assert 3 <= folds < 20
    keys = [f"{number:03}" for number in range(200)]
    assert list(backend.keys()) == list(other.keys()) == list(JsonBackend(path).keys()) == keys


def test_who_is_behind_a_fold_reads_only_the_rest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, reader = JsonBackend(path), JsonBackend(path)
    put(writer, new_row("a"))
    assert list(reader.keys()) == ["a"]
    view = reader._view
    put(writer, new_row("b"))
    writer.close()
    put(JsonBackend(path), new_row("c"))
    assert list(reader.keys()) == ["a", "b", "c"]
    assert reader._view is view
    # Two folds later it has to read all.
    for key in "de":
        with_close = JsonBackend(path)
        put(with_close, new_row(key))
        with_close.close()
    assert list(reader.keys()) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("step", range(10))
def test_a_fold_that_is_killed_loses_and_repeats_nothing(path: Path, step: int) -> None:
    backend = JsonBackend(path)
    fill(backend)
    was = everything(backend)
    steps = iter(range(100))

    def killed(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return counted

    def work() -> None:
        mine = JsonBackend(path)
        mine.transact(lambda t: t.acquit(4))
        mine.transact(lambda t: t.suspect(4, 123))
        for name in ("replace", "fsync", "unlink"):
            setattr(os, name, killed(getattr(os, name)))
        mine.close()

    _, status = os.waitpid(forked(work), 0)
    assert os.WIFSIGNALED(status) or step > 6
    json.loads(path.read_text())
    assert everything(JsonBackend(path)) == everything(backend) == was
    put(backend, new_row("z"))
    assert JsonBackend(path).row("z") == new_row("z")
    backend.close()
    assert sorted(os.listdir(path.parent)) == [path.name, log_of(path).name]
    assert JsonBackend(path).row("z") == new_row("z")


def test_a_fold_that_fails_costs_no_put(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writing_module, "_LEAST", 2000)
    backend = JsonBackend(path)
    put(backend, new_row("first"))
    failing = Path(f"{path}.new")
    failing.mkdir()
    for number in range(60):
        put(backend, new_row(f"{number:02}"))
    assert caplog.text.count("can't be folded") == 3
    failing.rmdir()
    backend.close()
    assert len(json.loads(path.read_text())["entries"]) == 61


def test_permissions_stay(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    path.chmod(0o640)
    log_of(path).chmod(0o660)
    backend.close()
    assert (path.stat().st_mode & 0o777, log_of(path).stat().st_mode & 0o777) == (0o640, 0o660)


def test_the_journal_of_a_private_file_is_private(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    backend.close()
    log_of(path).unlink()
    path.chmod(0o600)
    put(JsonBackend(path), new_row("b"))
    assert log_of(path).stat().st_mode & 0o777 == 0o600


def test_a_full_disk_changes_nothing(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = log_of(path).stat().st_size
        for room in (0, 1, 50, 100):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
            with pytest.raises(StoreUnavailableError):
                put(backend, new_row("b", x="y" * 200))
            assert log_of(path).stat().st_size == size
            assert list(backend.keys()) == list(JsonBackend(path).keys()) == ["a"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        put(backend, new_row("c"))
        backend.close()

    succeeds(forked(work))
    assert list(backend.keys()) == list(JsonBackend(path).keys()) == ["a", "c"]


def test_a_line_that_is_written_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[: len(data) // 3 + 1]))
    put(backend, new_row("b"))
    monkeypatch.undo()
    assert list(backend.keys()) == list(JsonBackend(path).keys()) == ["a", "b"]


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_half_a_line_that_can_not_be_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    whole = os.write

    def write_half(fd: int, data: bytes) -> int:
        whole(fd, data[: len(data) // 2])
        raise kind(errno.ENOSPC, "full")

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(os, "write", write_half)
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises((StoreUnavailableError, KeyboardInterrupt)):
        put(backend, new_row("b"))
    assert log_of(path).read_bytes()[-1:] != b"\n"
    with pytest.raises(StoreUnavailableError):
        put(backend, new_row("b"))  # it can't be cut yet
    monkeypatch.undo()
    for each in (backend, JsonBackend(path)):
        assert list(each.keys()) == ["a"]
    put(backend, new_row("c"))
    assert list(backend.keys()) == list(JsonBackend(path).keys()) == ["a", "c"]


def test_a_disk_that_refuses_writes_for_a_while(path: Path) -> None:
    def work(folder: Path) -> None:
        path = folder / "store" / "cache_metadata.json"
        backend = JsonBackend(path)
        put(backend, new_row("a"))
        log_of(path).chmod(0o444)
        backend = JsonBackend(path)
        with pytest.raises(StoreUnavailableError, match="permission"):
            put(backend, new_row("b"))
        assert list(backend.keys()) == ["a"]
        log_of(path).chmod(0o644)
        put(backend, new_row("c"))
        assert list(backend.keys()) == list(JsonBackend(path).keys()) == ["a", "c"]

    succeeds_as_nobody(work)


def test_durable_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_size))
    backend = JsonBackend(path, durable=True)
    for key in "abc":
        put(backend, new_row(key))
        assert synced[-1] == log_of(path).stat().st_size
    assert len(synced) == 3
    put(JsonBackend(path), new_row("d"))
    assert len(synced) == 3

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StoreUnavailableError, match="the change is made, but"):
        put(backend, new_row("e"))
    assert list(backend.keys()) == list(JsonBackend(path).keys()) == ["a", "b", "c", "d", "e"]


def test_a_folder_without_write_permission_is_read(tmp_path: Path) -> None:
    def work(place: Path) -> None:
        path = place / "store" / "cache_metadata.json"
        backend = JsonBackend(path)
        fill(backend)
        was = everything(backend)
        for mode in (path, log_of(path), path.parent):
            mode.chmod(0o555)
        for each in (backend, JsonBackend(path)):
            assert each.row("a") == was[1][0]
        other = JsonBackend(path)
        assert everything(other) == was
        with pytest.raises(StoreUnavailableError, match="no permission to write the catalogue"):
            put(other, new_row("c"))
        other.close()
        path.parent.chmod(0o755)

    succeeds_as_nobody(work)
    assert issubclass(ReadOnlyError, StoreError)


def test_a_folder_that_is_deleted_or_moved(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))
    identity = backend.identity
    path.parent.rename(path.parent.with_name("moved"))
    assert backend.row("a") is None
    moved = JsonBackend(path.parent.with_name("moved") / path.name)
    assert moved.row("a") == new_row("a")
    assert moved.identity == identity
    put(backend, new_row("b"))
    assert list(backend.keys()) == ["b"]
    assert backend.identity != identity
    shutil.rmtree(path.parent)
    assert list(backend.keys()) == []
    shutil.copytree(path.parent.with_name("moved"), path.parent)
    assert list(backend.keys()) == ["a"]


def test_interrupts_leave_no_lock_and_no_half(path: Path) -> None:
    backend, other = JsonBackend(path), JsonBackend(path)
    put(backend, new_row("0"))
    number = 0

    def work() -> None:
        put(backend, new_row("a", n=number), new_row("b", n=number))

    with interrupting() as interrupts:
        while interrupts.count < 150:
            number += 1
            done = interrupts.during(work, 1e-4)
            found = other.row("a"), other.row("b")
            if found[0] is None or found[1] is None:
                assert found == (None, None)
                continue
            assert found[0].metadata == found[1].metadata
            assert not done or found[0].metadata == {"n": number}
            assert backend.row("a") == found[0]
            # Nothing is locked: another one writes at once.
            put(other, new_row("c", n=number))
            assert backend.row("c") == other.row("c")
    assert list(JsonBackend(path).find(Query())) == list(backend.find(Query()))


def test_a_child_of_a_fork_reads_and_locks_for_itself(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row("a"))

    def in_transaction(t: Transaction) -> int:
        t.put_row(new_row("b"))

        def work() -> None:
            assert list(backend.keys()) == ["a"]
            with pytest.raises(BlockingIOError):
                os.pread(ready, 1, 0)

        ready, end = os.pipe()
        os.set_blocking(ready, False)
        os.close(end)
        pid = forked(lambda: [backend.row("a"), put(backend, new_row("child"))])
        # The child waits for the lock, which is the parent's.
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.close(ready)
        return pid

    succeeds(backend.transact(in_transaction))
    assert list(backend.keys()) == ["a", "b", "child"]


def test_no_transaction_within_another_one(path: Path) -> None:
    backend = JsonBackend(path)
    with pytest.raises(StoreUnavailableError, match="within a transaction of the same thread"):
        backend.transact(lambda t: put(backend, new_row()))
    put(backend, new_row())
    assert backend.transact(lambda t: backend.row("a")) == new_row()


def test_killed_writers(path: Path) -> None:
    """What was acknowledged is there, whole; nothing is locked."""
    backend = JsonBackend(path)
    put(backend, new_row("count", n=0))
    ready, end = os.pipe()
    for turn in range(5):

        def work(turn: int = turn) -> None:
            for number in range(10_000):
                put(backend, new_row(f"{turn}-{number}"), new_row(f"{turn}", n=number))
                os.write(end, b"x")

        pid = forked(work)
        acknowledged = len(os.read(ready, 1 << 16))
        while acknowledged < 30:
            acknowledged += len(os.read(ready, 1 << 16))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.set_blocking(ready, False)
        try:
            acknowledged += len(os.read(ready, 1 << 20))
        except BlockingIOError:
            pass
        os.set_blocking(ready, True)
        keys = len(list(backend.keys(f"{turn}-")))
        assert acknowledged <= keys <= acknowledged + 1
        last = backend.row(f"{turn}")
        assert last is not None
        assert last.metadata == {"n": keys - 1}
        put(backend, new_row("count", n=turn))
        assert list(JsonBackend(path).find(Query())) == list(backend.find(Query()))


def test_a_closed_one(path: Path) -> None:
    backend = JsonBackend(path)
    put(backend, new_row())
    backend.close()
    backend.close()
    for call in (lambda: backend.row("a"), lambda: backend.keys(), lambda: put(backend, new_row())):
        with pytest.raises(StoreClosedError):
            call()


@pytest.fixture(autouse=True)
def _no_open_files_stay() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    import gc

    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 2
