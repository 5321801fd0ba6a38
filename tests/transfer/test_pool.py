"""A transfer between folders whose copies processes of its own make."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing.spawn
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import resource_tracker
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
from holdall.aio import transfer as aio
from holdall.store import Store
from holdall.transfer import copy_store, elsewhere, move_store, sync_stores
from holdall.transfer import run as run_module
from holdall.transfer.elsewhere import Pool
from holdall.transfer.shard import Shard

COUNT = 1500


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_processors", lambda: 2)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that the processes were given."""
    keys: list[str] = []
    submit = Pool.submit

    def noting(self: Pool, shard: Shard) -> Any:
        keys.extend(step.key for step in shard.copies)
        return submit(self, shard)

    monkeypatch.setattr(Pool, "submit", noting)
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
def test_they_copy_and_the_target_is_right(kind: type[Any], handed: list[str], tmp_path: Path) -> None:
    blobs = blobs_of()
    source, target = filled(tmp_path / "s", blobs), kind(tmp_path / "t")
    old = dict(list(blobs_of(seed=1).items())[:400])
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
    assert sorted(handed) == sorted(key for *_, key in told if key != "gone")
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
    monkeypatch.setattr(elsewhere, "Pool", None)
    store = source(tmp_path / "s")
    store.put_many({f"{number}": b"1" for number in range(count)})
    assert copy_store(store, FilesystemStore(tmp_path / "t"), executor="process").copied == count


def test_one_processor_is_left_to_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_module, "_processors", lambda: 1)
    monkeypatch.setattr(elsewhere, "Pool", None)
    source = filled(tmp_path / "s", blobs_of())
    assert copy_store(source, FilesystemStore(tmp_path / "t"), executor="process").ok


def test_what_fails_there_is_told_here(tmp_path: Path, handed: list[str]) -> None:
    blobs = {f"{number:05}/x": b"1" for number in range(COUNT)}
    source, target = filled(tmp_path / "s", blobs), FilesystemStore(tmp_path / "t")
    # In the first places, which they are given before they are up, and in every tenth is a blob where a
    # folder is needed; the last hundred go once all are listed.
    taken = [f"{number:05}" for number in [*range(100), *range(100, COUNT - 100, 10)]]
    target.put_many(dict.fromkeys(taken, b"in the way"))
    gone = list(blobs)[-100:]

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


# A thread of Python's pool ends its processes, and raises if the next one is added at that moment; the calls
# that wait have got their error by then.
@pytest.mark.filterwarnings("ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fault", ["no interpreter", "it ends at once", "no pickle", "not importable"])
def test_without_other_processes_this_one_does_it_all(
    fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = blobs_of()
    source: Store = filled(tmp_path / "s", blobs)
    resource_tracker.ensure_running()  # or it would be started with that interpreter too
    python = sys.executable
    if fault == "no interpreter":
        python = str(tmp_path / "nothing")
    elif fault == "it ends at once":
        python = "/bin/true"
    elif fault == "no pickle":
        source = Unpicklable(tmp_path / "s")
    else:
        monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(python))
    target = FilesystemStore(tmp_path / "t")
    with caplog.at_level(logging.WARNING, "holdall"):
        report = copy_store(source, target, executor="process")
    assert report.ok
    assert report.copied == len(blobs)
    assert dict(target.items()) == blobs
    assert [record.message for record in caplog.records if "goes on in one process" in record.message]


@pytest.mark.parametrize("act", [copy_store, move_store])
@pytest.mark.parametrize("after", [1, 900])
def test_it_dies_and_nothing_is_lost(
    act: Any, after: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blobs = blobs_of()
    source, target = filled(tmp_path / "s", blobs), FilesystemStore(tmp_path / "t")
    pools: list[Pool] = []
    submit = Pool.submit

    def noting(self: Pool, shard: Shard) -> Any:
        pools[:] = [self]
        return submit(self, shard)

    monkeypatch.setattr(Pool, "submit", noting)
    killed: list[int] = []

    def progress(done: int, total: int, size: int, key: str) -> None:
        if done >= after and pools and not killed:
            killed.append(next(iter(pools[0]._executor._processes)))
            os.kill(killed[0], signal.SIGKILL)

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
        if done > 500:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        copy_store(source, target, executor="process", progress=progress)
    there = len(target)
    assert 500 < there < 900
    time.sleep(0.3)
    assert len(target) == there
    assert not litter(tmp_path / "t")


RUN = """
import os, signal, sys, time
from holdall import FilesystemStore
from holdall.transfer import copy_store, move_store
from holdall.transfer import elsewhere, run
run._processors = lambda: 2
place, act, half = sys.argv[1], sys.argv[2], int(sys.argv[3])

def progress(done, total, size, key):
    if done < half:
        return
    if pools:
        print(*pools[0]._executor._processes, flush=True)
    if len(sys.argv) < 5:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

pools = []
submit = elsewhere.Pool.submit
elsewhere.Pool.submit = lambda self, shard: (pools.append(self), submit(self, shard))[1]
source, target = FilesystemStore(place + "/s"), FilesystemStore(place + "/t")
globals()[act](source, target, journal=place + "/j", progress=progress, executor="process")
"""


def assert_gone(pids: list[str]) -> None:
    """None of these processes goes on."""
    end = time.monotonic() + 60
    while alive := [pid for pid in pids if os.path.exists(f"/proc/{pid}/fd")]:
        assert time.monotonic() < end, f"{alive} are left"
        time.sleep(0.02)


@pytest.mark.parametrize("act", [copy_store, move_store])
def test_a_kill_at_half_copies_less_than_a_hundredth_again(act: Any, tmp_path: Path) -> None:
    count = 4000
    blobs = {f"d{index % 7}/{index:04}": b"%d" % index for index in range(count)}
    source = filled(tmp_path / "s", blobs)
    run = [sys.executable, "-c", RUN, str(tmp_path), act.__name__, str(count // 2)]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    # At once, while the other processes may still be at their last steps.
    target = FilesystemStore(tmp_path / "t")
    report = act(source, target, journal=tmp_path / "j", executor="process")
    assert report.ok, report.failures
    assert report.resumed >= count // 2 - count // 100
    assert report.copied + report.skipped + report.resumed == count
    assert report.skipped < count / 100
    assert dict(target.items()) == blobs
    assert not litter_at_last(tmp_path / "t")
    assert_gone(done.stdout.split())


def test_killed_at_random_moments_it_ends_right(tmp_path: Path) -> None:
    dice = random.Random(5)
    blobs = blobs_of()
    filled(tmp_path / "s", blobs)
    target = FilesystemStore(tmp_path / "t")
    run = [sys.executable, "-c", RUN, str(tmp_path), "copy_store"]
    # The later ones have too little left to do to start processes.
    for done in sorted(dice.sample(range(len(blobs)), 6)):
        assert subprocess.run([*run, str(done)]).returncode == -signal.SIGKILL
    assert subprocess.run([*run, "1000000"]).returncode == 0
    assert dict(target.items()) == blobs


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    blobs = blobs_of(3000)
    filled(tmp_path / "s", blobs)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path), "copy_store", "1000", "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    pids = process.stdout.readline().split()
    assert pids
    # As a terminal does: to all of them.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1
    assert_gone(pids)
    there = dict(FilesystemStore(tmp_path / "t").items())
    assert len(there) >= 1000
    assert there.items() <= blobs.items()
    assert not litter(tmp_path / "t")


def test_a_cancelled_transfer_stops_them(tmp_path: Path) -> None:
    blobs = blobs_of()
    source, target = filled(tmp_path / "s", blobs), FilesystemStore(tmp_path / "t")

    cancelled = threading.Event()

    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int, size: int, key: str) -> None:
            loop.call_soon_threadsafe(begun.set)
            cancelled.wait()

        task = asyncio.create_task(
            aio.copy_store(source, target, executor="process", journal=tmp_path / "j", progress=progress)
        )
        await begun.wait()
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert 0 < len(target) < len(blobs)
    assert copy_store(source, target, journal=tmp_path / "j").resumed
    assert dict(target.items()) == blobs


@pytest.mark.parametrize("guard", ["", "if __name__ == '__main__':\n    "])
def test_a_program_without_a_guard_does_it_once(guard: str, tmp_path: Path) -> None:
    blobs = blobs_of()
    filled(tmp_path / "s", blobs)
    program = tmp_path / "program.py"
    program.write_text(
        "from holdall import FilesystemStore\nfrom holdall.transfer import copy_store, run\n"
        "run._processors = lambda: 2\n"
        f"{guard}print(copy_store(FilesystemStore('s'), FilesystemStore('t'), executor='process').copied)\n"
    )
    done = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{len(blobs)}\n")
    assert ("attempt has been made to start a new process" in done.stderr) == (not guard)
    assert dict(FilesystemStore(tmp_path / "t").items()) == blobs
