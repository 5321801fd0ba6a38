"""A transfer between folders that a second process shares."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from holdall import (
    BlobNotFoundError,
    FilesystemStore,
    HashdirStore,
    KeyConflictError,
    MemoryStore,
    ReadOnlyStore,
)
from holdall.store import Store
from holdall.transfer import copy_store, move_store, sync_stores
from holdall.transfer import run as run_module
from holdall.transfer.helper import Helper

COUNT = 2500


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_processors", lambda: 2)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that the other process was given."""
    keys: list[str] = []
    hand = Helper.hand

    def noting(self: Helper, unit: list[Any]) -> bool:
        taken = hand(self, unit)
        if taken:
            keys.extend(step.key for step in unit)
        return taken

    monkeypatch.setattr(Helper, "hand", noting)
    return keys


def blobs_of(count: int = COUNT, seed: int = 0) -> dict[str, bytes]:
    dice = random.Random(seed)
    blobs = {f"d{number % 7}/{number:05}": dice.randbytes(dice.randrange(300)) for number in range(count)}
    return blobs | {"big/one": dice.randbytes(3 << 20), "big/other": dice.randbytes(70_000), "ünïcode": b"1"}


def filled(path: Path, blobs: dict[str, bytes]) -> FilesystemStore:
    store = FilesystemStore(path)
    store.put_many(blobs)
    return store


def litter(path: Path) -> list[str]:
    return [os.path.join(at, name) for at, _, names in os.walk(path) for name in names if ".new-" in name]


def litter_at_last(path: Path) -> list[str]:
    """What is left of what a killed process was writing, once that is old and nobody holds it."""
    end = time.monotonic() + 60
    while (left := litter(path)) and time.monotonic() < end:
        for name in left:
            with suppress(FileNotFoundError):
                os.utime(name, (0, 0))
        assert len(FilesystemStore(path))
        time.sleep(0.05)
    return left


@pytest.mark.parametrize("kind", [FilesystemStore, HashdirStore])
def test_both_do_a_part_and_the_target_is_right(kind: type[Any], handed: list[str], tmp_path: Path) -> None:
    blobs = blobs_of()
    source, target = filled(tmp_path / "s", blobs), kind(tmp_path / "t")
    old = dict(list(blobs_of(seed=1).items())[:1200])
    target.put_many(old | {"gone": b"1"})
    told: list[tuple[int, int, int, str]] = []
    report = sync_stores(source, target, executor="process", progress=lambda *each: told.append(each))
    assert report.ok
    assert dict(target.items()) == blobs
    same = sum(old.get(key) == data for key, data in blobs.items())
    assert (report.copied, report.skipped, report.deleted) == (len(blobs) - same, same, 1)
    assert report.bytes == sum(len(data) for key, data in blobs.items() if old.get(key) != data)
    # All but what was equal when it was listed, each told once.
    assert len({key for *_, key in told}) == len(told) == told[-1][1]
    assert 0 < len(handed) < len(blobs)
    assert not litter(tmp_path / "t")


def test_parts_of_folders_and_read_only_ones(handed: list[str], tmp_path: Path) -> None:
    blobs = blobs_of()
    filled(tmp_path / "s", {f"in/{key}": data for key, data in blobs.items()})
    source = ReadOnlyStore(FilesystemStore(tmp_path / "s") / "in")
    target = FilesystemStore(tmp_path / "t") / "a/b"
    assert copy_store(source, target, executor="process").copied == len(blobs)
    assert dict(target.items()) == blobs
    assert handed


def test_a_move_leaves_nothing(handed: list[str], tmp_path: Path) -> None:
    blobs = blobs_of()
    source, target = filled(tmp_path / "s", blobs), FilesystemStore(tmp_path / "t")
    assert move_store(source, target, executor="process").deleted == len(blobs)
    assert not list(source)
    assert dict(target.items()) == blobs
    assert handed


@pytest.mark.parametrize(
    ("source", "count"),
    [
        (lambda path: FilesystemStore(path), 200),
        (lambda path: MemoryStore(), COUNT),
    ],
)
def test_no_process_is_started_where_it_is_no_help(
    source: Callable[[Path], Store], count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    store = source(tmp_path / "s")
    store.put_many({f"{number}": b"1" for number in range(count)})
    assert copy_store(store, FilesystemStore(tmp_path / "t"), executor="process").copied == count


def test_one_processor_is_left_to_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_module, "_processors", lambda: 1)
    monkeypatch.setattr(subprocess, "Popen", None)
    source = filled(tmp_path / "s", blobs_of())
    assert copy_store(source, FilesystemStore(tmp_path / "t"), executor="process").ok


def test_what_fails_there_is_told_here(tmp_path: Path, handed: list[str]) -> None:
    blobs = {f"{number:05}/x": b"1" for number in range(COUNT)}
    source, target = filled(tmp_path / "s", blobs), FilesystemStore(tmp_path / "t")
    # In the first places, which it is handed before it is up, and in every tenth is a blob where a folder is
    # needed; the last thousand go once all are listed.
    taken = [f"{number:05}" for number in [*range(100), *range(100, COUNT - 1000, 10)]]
    target.put_many(dict.fromkeys(taken, b"in the way"))
    gone = list(blobs)[-1000:]

    def progress(done: int, total: int, size: int, key: str) -> None:
        if done == 1:
            source.delete_many(gone)

    report = copy_store(source, target, executor="process", progress=progress)
    assert sorted(report.failures) == sorted([f"{name}/x" for name in taken] + gone)
    assert report.copied == COUNT - len(taken) - len(gone)
    assert set(handed) & set(report.failures)
    for key, error in report.failures.items():
        assert isinstance(error, BlobNotFoundError if key in gone else KeyConflictError)
        assert error.key == key


class Unpicklable(FilesystemStore):
    """A folder that can't go to another process."""

    def _settings(self) -> dict[str, object]:
        return super()._settings() | {"path": lambda: None}


@pytest.mark.parametrize("fault", ["no interpreter", "it ends at once", "no pickle", "not importable"])
def test_without_another_process_this_one_does_it_all(
    fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = blobs_of()
    source: Store = filled(tmp_path / "s", blobs)
    if fault == "no interpreter":
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    elif fault == "it ends at once":
        monkeypatch.setattr(sys, "executable", "/bin/true")
    elif fault == "no pickle":
        source = Unpicklable(tmp_path / "s")
    else:
        monkeypatch.setattr(sys, "path", [])
    target = FilesystemStore(tmp_path / "t")
    with caplog.at_level(logging.WARNING, "holdall"):
        report = copy_store(source, target, executor="process")
    assert report.ok
    assert report.copied == len(blobs)
    assert dict(target.items()) == blobs
    assert [record.message for record in caplog.records if "goes on in one process" in record.message]


@pytest.mark.parametrize("act", [copy_store, move_store])
@pytest.mark.parametrize("after", [1, 300, 1200])
def test_it_dies_and_nothing_is_lost(
    act: Any, after: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blobs = blobs_of()
    source, target = filled(tmp_path / "s", blobs), FilesystemStore(tmp_path / "t")
    helpers: list[Helper] = []
    hand = Helper.hand

    def noting(self: Helper, unit: list[Any]) -> bool:
        helpers[:] = [self]
        return hand(self, unit)

    monkeypatch.setattr(Helper, "hand", noting)
    killed: list[int] = []

    def progress(done: int, total: int, size: int, key: str) -> None:
        process = helpers[0]._process if helpers else None
        if done >= after and process is not None and not killed:
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)

    report = act(source, target, executor="process", progress=progress)
    assert killed
    assert report.ok, report.failures
    assert dict(target.items()) == blobs
    assert report.copied + report.skipped == len(blobs)
    assert len(list(source)) == (0 if act is move_store else len(blobs))
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)


def test_what_progress_raises_ends_both(tmp_path: Path, handed: list[str]) -> None:
    source, target = filled(tmp_path / "s", blobs_of()), FilesystemStore(tmp_path / "t")

    def progress(done: int, total: int, size: int, key: str) -> None:
        if done > 1000:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        copy_store(source, target, executor="process", progress=progress)
    there = len(target)
    assert 1000 < there < 1400
    time.sleep(0.3)
    assert len(target) == there
    assert not litter(tmp_path / "t")


RUN = """
import os, signal, sys
from holdall import FilesystemStore
from holdall.transfer import copy_store, move_store
from holdall.transfer import run
run._processors = lambda: 2
place, act, half = sys.argv[1], sys.argv[2], int(sys.argv[3])

def progress(done, total, size, key):
    if done >= half:
        os.kill(os.getpid(), signal.SIGKILL)

source, target = FilesystemStore(place + "/s"), FilesystemStore(place + "/t")
globals()[act](source, target, journal=place + "/j", progress=progress, executor="process")
"""


@pytest.mark.parametrize("act", [copy_store, move_store])
def test_a_kill_at_half_copies_less_than_a_hundredth_again(act: Any, tmp_path: Path) -> None:
    count = 4000
    blobs = {f"d{index % 7}/{index:04}": b"%d" % index for index in range(count)}
    source = filled(tmp_path / "s", blobs)
    run = [sys.executable, "-c", RUN, str(tmp_path), act.__name__, str(count // 2)]
    assert subprocess.run(run).returncode == -signal.SIGKILL
    # At once, while the other process may still be at its last steps.
    target = FilesystemStore(tmp_path / "t")
    report = act(source, target, journal=tmp_path / "j", executor="process")
    assert report.ok, report.failures
    assert report.resumed >= count // 2 - count // 100
    assert report.copied + report.skipped + report.resumed == count
    assert report.skipped < count / 100
    assert dict(target.items()) == blobs
    assert not litter_at_last(tmp_path / "t")


def test_killed_at_random_moments_it_ends_right(tmp_path: Path) -> None:
    dice = random.Random(5)
    blobs = blobs_of()
    filled(tmp_path / "s", blobs)
    target = FilesystemStore(tmp_path / "t")
    run = [sys.executable, "-c", RUN, str(tmp_path), "copy_store"]
    for done in sorted(dice.sample(range(len(blobs)), 12)):
        assert subprocess.run([*run, str(done)]).returncode == -signal.SIGKILL
    assert subprocess.run([*run, "1000000"]).returncode == 0
    assert dict(target.items()) == blobs


def test_ctrl_c_ends_the_command_and_its_helper(tmp_path: Path) -> None:
    blobs = blobs_of(6000)
    filled(tmp_path / "s", blobs)
    process = subprocess.Popen(
        [sys.executable, "-m", "holdall", "sync", "s", "t"], cwd=tmp_path, stderr=subprocess.PIPE
    )
    end = time.monotonic() + 30
    while time.monotonic() < end and sum(len(names) for _, _, names in os.walk(tmp_path / "t")) < 1500:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.decode().count("\n") == 1
    assert b"stopped; what was copied is whole" in errors
    there = dict(FilesystemStore(tmp_path / "t").items())
    assert there.items() <= blobs.items()
    assert not litter(tmp_path / "t")
    time.sleep(0.3)
    assert len(FilesystemStore(tmp_path / "t")) == len(there)
