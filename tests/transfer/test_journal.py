"""A transfer that is stopped goes on where it was."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.effort import effort

from holdall.errors import DeleteRefusedError, InvalidArgumentError, StoreUnavailableError
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Expect, Info, Piece, Store
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.memory import MemoryStore
from holdall.stores.sqlite import SqliteStore
from holdall.stores.zip import ZipStore
from holdall.testing import Counting
from holdall.transfer import Report, copy_store, move_store, sync_stores


def counted(
    act: Callable[..., Any], source: Store, target: Store, journal: Path, **options: Any
) -> tuple[Any, dict[str, int], dict[str, int]]:
    """What a transfer did, and what it asked of both stores."""
    # The layer would be another store to the journal.
    calls: list[dict[str, int]] = []
    undo: list[Store] = []
    for store in (source, target):
        known = dict.fromkeys(("_survey", "_read", "_write", "_put_many", "_delete"), 0)
        calls.append(known)
        undo.append(store)
        for name in known:
            setattr(store, name, _counting(getattr(store, name), known, name))
    try:
        return act(source, target, journal=journal, **options), calls[0], calls[1]
    finally:
        for store, known in zip(undo, calls, strict=True):
            for name in known:
                delattr(store, name)


def _counting(method: Callable[..., Any], known: dict[str, int], name: str) -> Callable[..., Any]:
    def count(*arguments: Any) -> Any:
        known[name] += 1
        return method(*arguments)

    return count


def test_a_second_run_only_lists(tmp_path: Path) -> None:
    blobs = {f"{index:03}": b"%d" % index for index in range(100)}
    source, target = FilesystemStore(tmp_path / "source"), SqliteStore(tmp_path / "target")
    source.update(blobs)
    target.update({"000": b"0", "001": b"x"})
    assert sync_stores(source, target, journal=tmp_path / "j").copied == 99
    report, asked, answered = counted(sync_stores, source, target, tmp_path / "j")
    assert (report.skipped, report.copied) == (100, 0)
    assert (asked["_survey"], answered["_survey"]) == (1, 1)
    assert asked["_read"] == answered["_read"] == answered["_write"] == 0
    source["007"] = b"7"
    target["008"] = b"y"
    target["009"] = b"9"
    del source["010"]
    report, asked, _ = counted(sync_stores, source, target, tmp_path / "j")
    assert (report.copied, report.skipped, report.deleted) == (1, 98, 1)
    assert asked["_read"] == 3
    assert dict(target.items()) == dict(source.items())
    report, asked, _ = counted(sync_stores, source, target, tmp_path / "j")
    assert (report.skipped, asked["_read"]) == (99, 0)
    source["010"] = b"10"
    assert counted(sync_stores, source, target, tmp_path / "j")[0].copied == 1


def test_other_comparisons_and_selections_of_the_same_stores(tmp_path: Path) -> None:
    source, target = FilesystemStore(tmp_path / "source"), FilesystemStore(tmp_path / "target")
    source.update({"a/1": b"1", "b/1": b"2"})
    copy_store(source, target, journal=tmp_path / "j", prefix="a/")
    report, asked, _ = counted(copy_store, source, target, tmp_path / "j")
    assert (report.copied, report.skipped, asked["_read"]) == (1, 1, 1)
    assert counted(copy_store, source, target, tmp_path / "j", prefix="b/")[1]["_read"] == 0
    assert counted(copy_store, source, target, tmp_path / "j", compare="content")[1]["_read"] == 2
    plan, asked, _ = counted(copy_store, source, target, tmp_path / "j", dry_run=True)
    assert (len(plan), plan.equal, asked["_read"]) == (0, 2, 0)


def test_a_dry_run_makes_no_journal_and_changes_none(tmp_path: Path) -> None:
    source, target = MemoryStore({"a": b"1"}), MemoryStore()
    copy_store(source, target, journal=tmp_path / "j", dry_run=True)
    assert not (tmp_path / "j").exists()
    copy_store(source, target, journal=tmp_path / "j")
    before = (tmp_path / "j").read_bytes()
    source["b"] = b"2"
    assert [action.key for action in copy_store(source, target, journal=tmp_path / "j", dry_run=True)] == [
        "b"
    ]
    assert (tmp_path / "j").read_bytes() == before


class Stop(Exception):
    pass


def stop_at(count: int) -> Callable[..., None]:
    def progress(done: int, total: int, size: int, key: str) -> None:
        if done >= count:
            raise Stop

    return progress


@pytest.mark.parametrize("jobs", [None, 4])
@pytest.mark.parametrize("act", [copy_store, sync_stores, move_store])
def test_what_was_stopped_goes_on(act: Callable[..., Report], jobs: int | None, tmp_path: Path) -> None:
    blobs = {f"{index:03}": b"%d" % index for index in range(300)}
    source, target = FilesystemStore(tmp_path / "source"), FilesystemStore(tmp_path / "target")
    source.update(blobs)
    target.update({"000": b"0", "001": b"x", "old": b""})
    with pytest.raises(Stop):
        act(source, target, journal=tmp_path / "j", progress=stop_at(100), jobs=jobs)
    told: list[int] = []
    report, asked, answered = counted(
        act, source, target, tmp_path / "j", jobs=jobs, progress=lambda done, *_: told.append(done)
    )
    # It finishes the old plan, and then lists once for what has changed since.
    assert asked["_survey"] == answered["_survey"] == 1
    assert report.resumed >= 100
    assert told == list(range(report.resumed + 1, (301 if act is sync_stores else 300) + 1))
    assert report.ok
    assert report.copied + report.resumed + report.skipped == 300
    assert asked["_read"] <= 300 - report.resumed
    expected = blobs if act is sync_stores else blobs | {"old": b""}
    assert dict(target.items()) == expected
    assert dict(source.items()) == ({} if act is move_store else blobs)


@pytest.mark.parametrize("act", [copy_store, sync_stores, move_store])
def test_what_changed_since_a_run_was_stopped_is_taken_over(
    act: Callable[..., Report], tmp_path: Path
) -> None:
    blobs = {f"{index:03}": b"%d" % index for index in range(300)}
    source, target = FilesystemStore(tmp_path / "source"), FilesystemStore(tmp_path / "target")
    source.update(blobs)
    with pytest.raises(Stop):
        act(source, target, journal=tmp_path / "j", progress=stop_at(100))
    changes = {"000": b"changed after it was copied", "299": b"changed before", "999": b"new"}
    source.update(changes)
    del source["001"], source["298"]
    report = act(source, target, journal=tmp_path / "j")
    assert report.ok, report.failures
    expected = {**blobs, **changes}
    for key in ("001", "298"):
        del expected[key]
    if act is sync_stores:
        assert dict(target.items()) == expected
        assert dict(source.items()) == expected
    else:
        assert {key: target[key] for key in expected} == expected
        assert (act is move_store) == (len(source) == 0)


def test_a_resumed_run_deletes_nothing_after_a_failure(tmp_path: Path) -> None:
    class Failing(FilesystemStore):
        broken = True

        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            if key == "040" and self.broken:
                raise StoreUnavailableError("gone")
            return super()._read(key, start, stop)

    for act in (sync_stores, move_store):
        source = Failing(tmp_path / f"source {act.__name__}")
        target = FilesystemStore(tmp_path / f"target {act.__name__}")
        journal = tmp_path / act.__name__
        allowed: dict[str, Any] = {"max_delete": 1} if act is sync_stores else {}
        source.broken = False
        source.update({f"{index:03}": b"%d" % index for index in range(50)})
        target["old"] = b""
        with pytest.raises(Stop):
            act(source, target, journal=journal, progress=stop_at(20), **allowed)
        held = dict(source.items()) if act is sync_stores else {}
        source.broken = True
        report = act(source, target, journal=journal, **allowed)
        assert (list(report.failures), report.deleted) == (["040"], 0)
        assert report.withheld == (1 if act is sync_stores else 49)
        assert "old" in target
        assert len(source) == 50
        source.broken = False
        report = act(source, target, journal=journal, **allowed)
        assert report.ok
        assert dict(source.items()) == held
        assert ("old" in target) == (act is move_store)


def test_a_listing_that_was_stopped_is_begun_again(tmp_path: Path) -> None:
    class Failing(MemoryStore):
        stop: str | None = None
        begun: ClassVar[list[str]] = []

        def _scan(self, prefix: str, after: str) -> Iterator[Info]:
            self.begun.append(after)
            for info in super()._scan(prefix, after):
                if info.key == self.stop:
                    raise StoreUnavailableError("gone")
                yield info

    source, target = Failing(), MemoryStore()
    source.update({f"{index:04}": b"" for index in range(1500)})
    source.stop = "1300"
    with pytest.raises(StoreUnavailableError):
        copy_store(source, target, journal=tmp_path / "j")
    assert not target
    source.stop = None
    # Otherwise what came in the meantime to the part that was listed would be missing.
    source["0000 new"] = b""
    assert copy_store(source, target, journal=tmp_path / "j").copied == 1501
    assert source.begun == ["", ""]


def test_what_failed_before_it_was_stopped_is_tried_again(tmp_path: Path) -> None:
    class Failing(FilesystemStore):
        broken = True

        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            if key == "002" and self.broken:
                raise StoreUnavailableError("gone")
            return super()._write(key, body, expect, attributes)

    source, target = FilesystemStore(tmp_path / "source"), Failing(tmp_path / "target")
    source.update({f"{index:03}": b"" for index in range(50)})
    with pytest.raises(Stop):
        copy_store(source, target, journal=tmp_path / "j", progress=stop_at(20))
    target.broken = False
    report = copy_store(source, target, journal=tmp_path / "j")
    assert report.ok
    assert len(target) == 50


def _stopped_at_half(source: Store, target: Store, journal: Path, **options: Any) -> None:
    def progress(done: int, total: int, size: int, key: str) -> None:
        if done >= total // 2:
            raise Stop

    with pytest.raises(Stop):
        sync_stores(source, target, journal=journal, progress=progress, **options)


def test_a_target_that_was_wiped_meanwhile_is_filled_anew(tmp_path: Path) -> None:
    source, target = MemoryStore({f"{index:03}": b"%d" % index for index in range(200)}), MemoryStore()
    _stopped_at_half(source, target, tmp_path / "j")
    target.clear()
    report = sync_stores(source, target, journal=tmp_path / "j")
    assert (report.copied, report.ok) == (200, True)
    assert dict(target) == dict(source)


def test_what_came_to_the_source_meanwhile_is_not_deleted(tmp_path: Path) -> None:
    source, target = MemoryStore({f"{index:03}": b"%d" % index for index in range(200)}), MemoryStore()
    target.update({"old": b"1", "again": b"2"})
    _stopped_at_half(source, target, tmp_path / "j", max_delete=1.0)
    source["again"] = b"2"
    report = sync_stores(source, target, journal=tmp_path / "j", max_delete=1.0)
    assert (report.ok, report.deleted) == (True, 1)
    assert dict(target) == dict(source)


def test_a_source_that_is_empty_since_the_listing_was_stopped_empties_no_target(tmp_path: Path) -> None:
    blobs = {f"{index:05}": b"" for index in range(5000)}
    source, target = MemoryStore(blobs), MemoryStore(blobs)

    def where(info: Info) -> bool:
        if info.key == "04000" and len(source):
            raise Stop
        return True

    with pytest.raises(Stop):
        sync_stores(source, target, journal=tmp_path / "j", where=where)
    source.clear()
    # The fifth that wasn't listed would be little enough to go.
    with pytest.raises(DeleteRefusedError, match="5000 of 5000"):
        sync_stores(source, target, journal=tmp_path / "j", where=where)
    assert len(target) == 5000


def test_a_target_that_was_wiped_since_the_listing_was_stopped_is_filled_anew(tmp_path: Path) -> None:
    blobs = {f"{index:05}": b"" for index in range(5000)}
    source, target = MemoryStore(blobs), MemoryStore(blobs)

    def where(info: Info) -> bool:
        if info.key == "04000" and len(target):
            raise Stop
        return True

    for act in (sync_stores, copy_store):
        target.update(blobs)
        journal = tmp_path / act.__name__
        with pytest.raises(Stop):
            act(source, target, journal=journal, where=where)
        target.clear()
        assert act(source, target, journal=journal, where=where).copied == 5000
        assert dict(target) == blobs


def test_who_goes_on_may_allow_less(tmp_path: Path) -> None:
    source = MemoryStore({f"{index:03}": b"%d" % index for index in range(200)})
    target = MemoryStore({f"old{index}": b"" for index in range(5)})
    _stopped_at_half(source, target, tmp_path / "j", max_delete=1.0)
    with pytest.raises(DeleteRefusedError):
        sync_stores(source, target, journal=tmp_path / "j", max_delete=4)
    assert len([key for key in target if key.startswith("old")]) == 5
    assert sync_stores(source, target, journal=tmp_path / "j", max_delete=5).deleted == 5


def test_the_journal_of_other_stores_is_refused(tmp_path: Path) -> None:
    source, target, other = (FilesystemStore(tmp_path / name) for name in ("source", "target", "other"))
    source["a"] = b"1"
    copy_store(source, target, journal=tmp_path / "j")
    for one, two in ((source, other), (other, target), (target, source), (source / "x", target)):
        with pytest.raises(InvalidArgumentError, match="other stores"):
            copy_store(one, two, journal=tmp_path / "j")
    with pytest.raises(Stop):
        copy_store(source, other, journal=tmp_path / "k", progress=stop_at(1))
    for options in ({"prefix": "a"}, {"glob": "*"}, {"where": bool}, {"compare": "size"}):
        with pytest.raises(InvalidArgumentError, match=next(iter(options))):
            copy_store(source, other, journal=tmp_path / "k", **options)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="kind"):
        sync_stores(source, other, journal=tmp_path / "k")
    assert copy_store(source, other, journal=tmp_path / "k", verify=False, jobs=2).ok
    # What is known to be equal serves another selection, but a transfer of another kind has its own journal.
    assert copy_store(source, other, journal=tmp_path / "k", exclude="b").ok
    for act in (sync_stores, move_store):
        with pytest.raises(InvalidArgumentError, match="another kind"):
            act(source, other, journal=tmp_path / "k")


def test_what_is_excluded_belongs_to_a_stopped_run(tmp_path: Path) -> None:
    source, target = MemoryStore({"a": b"1", "b": b"2", "c": b"3"}), MemoryStore()
    with pytest.raises(Stop):
        copy_store(source, target, journal=tmp_path / "j", exclude=["c"], progress=stop_at(1))
    for exclude in (None, "b", ["c", "b"]):
        with pytest.raises(InvalidArgumentError, match="exclude"):
            copy_store(source, target, journal=tmp_path / "j", exclude=exclude)
    assert copy_store(source, target, journal=tmp_path / "j", exclude="c").ok
    assert dict(target) == {"a": b"1", "b": b"2"}


def test_a_journal_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    source, target, journal = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore(), tmp_path / "j"
    modes: dict[str, int] = {}

    def progress(done: int, total: int, size: int, key: str) -> None:
        modes.update({path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()})

    before = os.umask(0)
    try:
        copy_store(source, target, journal=journal, progress=progress)
        assert modes == {"j": 0o600, "j-wal": 0o600}
        # One that an earlier version made is closed to others.
        journal.chmod(0o644)
        source["c"] = b"3"
        modes.clear()
        copy_store(source, target, journal=journal, progress=progress)
        assert modes == {"j": 0o600, "j-wal": 0o600}
    finally:
        os.umask(before)


def test_what_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a diary, of a good length, that is no database" * 100)
    with SqliteStore(tmp_path / "blobs") as store:
        store["a"] = b"1"
    with sqlite3.connect(tmp_path / "new") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for name in ("text", "blobs", "new"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InvalidArgumentError, match="journal of holdall"):
            copy_store(MemoryStore(), MemoryStore(), journal=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    for path in (tmp_path, tmp_path / "missing" / "j"):
        with pytest.raises(StoreUnavailableError):
            copy_store(MemoryStore(), MemoryStore(), journal=path)


def test_stores_of_this_process_are_not_taken_for_those_of_another(tmp_path: Path) -> None:
    source, target = MemoryStore({"a": b"1"}), MemoryStore()
    copy_store(source, target, journal=tmp_path / "j")
    assert counted(copy_store, source, target, tmp_path / "j")[1]["_read"] == 0
    with pytest.raises(InvalidArgumentError, match="other stores"):
        copy_store(source, MemoryStore({"a": b"2"}), journal=tmp_path / "j")
    script = (
        "import sys; from holdall.stores.memory import MemoryStore; from holdall.transfer import copy_store\n"
        "copy_store(MemoryStore({'a': b'1'}, name='x'), MemoryStore(name='y'), journal=sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "k")], check=True)
    with pytest.raises(InvalidArgumentError, match="other stores"):
        copy_store(MemoryStore({"a": b"2"}, name="x"), MemoryStore(name="y"), journal=tmp_path / "k")


def test_no_secret_is_in_the_journal(tmp_path: Path) -> None:
    class Secret(Transparent):
        _secrets = frozenset({"password"})

        def _settings(self) -> dict[str, object]:
            return {"store": self._store, "password": "hunter2", "ttl": 3, "names": ["a"], "on": print}

    source, target = Secret(FilesystemStore(tmp_path / "a")), Secret(SqliteStore(tmp_path / "b"))
    source["x"] = b"1"
    copy_store(source, target, journal=tmp_path / "j")
    assert b"hunter2" not in (tmp_path / "j").read_bytes()
    again = Secret(FilesystemStore(tmp_path / "a"))
    assert copy_store(again, target, journal=tmp_path / "j").skipped == 1
    with pytest.raises(InvalidArgumentError):
        copy_store(source, SqliteStore(tmp_path / "b"), journal=tmp_path / "j")


def test_a_store_without_settings_is_known_while_it_lives(tmp_path: Path) -> None:
    class Plain(Counting):
        def _settings(self) -> dict[str, object]:
            return super(Transparent, self)._settings()

    source, target = Plain(MemoryStore({"a": b"1"})), MemoryStore()
    copy_store(source, target, journal=tmp_path / "j")
    assert copy_store(source, target, journal=tmp_path / "j").skipped == 1
    with pytest.raises(InvalidArgumentError):
        copy_store(Plain(MemoryStore({"a": b"1"})), target, journal=tmp_path / "j")


def test_two_runs_on_one_journal(tmp_path: Path) -> None:
    source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore()
    refused: list[BaseException] = []

    def again() -> None:
        try:
            copy_store(source, target, journal=tmp_path / "j")
        except StoreUnavailableError as error:
            refused.append(error)

    def progress(done: int, total: int, size: int, key: str) -> None:
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
        script = (
            "import sys; from holdall import MemoryStore; from holdall.transfer import copy_store\n"
            "copy_store(MemoryStore(), MemoryStore(), journal=sys.argv[1])"
        )
        done_there = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "j")], capture_output=True, text=True
        )
        assert "StoreUnavailableError: another run is using the journal" in done_there.stderr

    assert copy_store(source, target, journal=tmp_path / "j", progress=progress).copied == 2
    assert len(refused) == 2
    assert "another run is using the journal" in str(refused[0])
    assert copy_store(source, target, journal=tmp_path / "j").skipped == 2


MAKE = """
import os, random, signal, sys, threading
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.sqlite import SqliteStore
from holdall.stores.zip import ZipStore
from holdall.transfer import *
place, kind, act, jobs, when = sys.argv[1:]
kinds = {"files": FilesystemStore, "sqlite": SqliteStore, "zip": ZipStore}
source, target = FilesystemStore(place + "/source"), kinds[kind](place + "/target")
"""

HALF_WAY = """
def progress(done, total, size, key):
    if done >= int(when):
        os.kill(os.getpid(), signal.SIGKILL)
globals()[act](source, target, journal=place + "/j", progress=progress, jobs=int(jobs) or None)
"""

AT_RANDOM = """
import pickle, time
dice = random.Random(kind)
blobs = {}

def change():
    # Some keys come, some go, some change; few sizes, so that most are compared by reading.
    for _ in range(300):
        key = f"d{dice.randrange(9)}/{dice.randrange(600):04}"
        if key in blobs and dice.random() < 0.3:
            del blobs[key], source[key]
        else:
            blobs[key] = source[key] = b"%d" % dice.randrange(1000)

def open_target():
    return kinds[kind](place + "/target")

def sync():
    with open_target() as target:
        return sync_stores(source, target, journal=place + "/j", jobs=int(jobs) or None, max_delete=1.0)

target.close()
change()
kills = finished = 0
longest = 0.12
while kills < int(when) or not finished:
    child = os.fork()
    if child == 0:
        sync()
        os._exit(0)
    time.sleep(dice.uniform(0.0, longest))
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    kills += code != 0
    # On a machine that is busy, too, one gets to its end.
    longest = 0.12 if code == 0 else longest * 1.06
    if code == 0:
        finished += 1
        # What was left unmarked by a kill, and changed meanwhile, is a conflict of that run alone.
        with open_target() as target:
            if dict(target.items()) != blobs:
                assert sync().ok
                assert dict(target.items()) == blobs
        change()
sync()
report = sync()
assert report.ok, report.failures
with open_target() as target:
    assert dict(target.items()) == blobs
"""

KINDS: dict[str, Any] = {"files": FilesystemStore, "sqlite": SqliteStore, "zip": ZipStore}


@pytest.mark.parametrize(
    ("kind", "act", "jobs"),
    [
        ("files", "sync_stores", 0),
        ("files", "sync_stores", 8),
        ("files", "move_store", 0),
        ("sqlite", "copy_store", 0),
        ("sqlite", "move_store", 4),
        ("zip", "copy_store", 0),
    ],
)
def test_a_kill_at_half_copies_less_than_a_hundredth_again(
    kind: str, act: str, jobs: int, tmp_path: Path
) -> None:
    count = 4000
    blobs = {f"d{index % 7}/{index:04}": b"%d" % index for index in range(count)}
    source = FilesystemStore(tmp_path / "source")
    source.put_many(blobs)
    run = [sys.executable, "-c", MAKE + HALF_WAY, str(tmp_path), kind, act, str(jobs), str(count // 2)]
    assert subprocess.run(run).returncode == -signal.SIGKILL
    with KINDS[kind](tmp_path / "target") as target:
        present = len(target)
        assert present >= count // 2
        report, asked, answered = counted(
            globals()[act], source, target, tmp_path / "j", **({"jobs": jobs} if jobs else {})
        )
        assert report.ok
        # Once, for what has changed since.
        assert asked["_survey"] == answered["_survey"] == 1
        # Those that were copied, but not yet marked.
        assert asked["_read"] - (count - present) < count / 100
        assert report.copied + report.skipped + report.resumed == count
        assert dict(target.items()) == blobs


@pytest.mark.parametrize(("kind", "jobs"), [("files", 0), ("sqlite", 4)])
def test_a_sync_that_is_killed_many_times_ends_right(kind: str, jobs: int, tmp_path: Path) -> None:
    script = [sys.executable, "-c", MAKE + AT_RANDOM, str(tmp_path), kind, "", str(jobs), effort("50", "25")]
    ran = subprocess.run(script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert not [name for name in os.listdir(tmp_path) if name.startswith("j-")]


def test_a_transfer_with_nothing_to_do_needs_no_database() -> None:
    script = (
        "import sys, holdall\n"
        "stores = holdall.MemoryStore({'a': b'1'}), holdall.MemoryStore({'a': b'1'})\n"
        "assert holdall.sync_stores(*stores, compare='size').skipped == 1\n"
        "assert 'sqlite3' not in sys.modules\n"
        "assert holdall.sync_stores(*stores, compare='content').skipped == 1\n"
        "assert 'sqlite3' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
