"""A plan of which a copy of the process makes one half."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from holdall import FilesystemStore
from holdall.transfer import diff_stores

# In a process of its own, since one with threads, as those that run tests have, is not copied.
RUN = """
import logging, os, sys, threading
from holdall import FilesystemStore, StoreUnavailableError
from holdall.transfer import fork, run, sync_stores

logging.basicConfig()
place, kind = sys.argv[1:]
run._processors = lambda: 2
here, forks = os.getpid(), []

class Noted(run.Fork):
    def __init__(self, *args):
        super().__init__(*args)
        forks.append(self._pid)

run.Fork = Noted
if kind == "dies":
    pages = run.Job._pages
    def some(self, *args, **options):
        for number, page in enumerate(pages(self, *args, **options)):
            if os.getpid() != here and number == 1:
                os._exit(9)
            yield page
    run.Job._pages = some
elif kind == "none":
    os.fork = lambda: (_ for _ in ()).throw(BlockingIOError("no more processes"))
elif kind == "fails":
    survey = FilesystemStore._survey
    def failing(self, prefix, after):
        if os.getpid() != here:
            raise StoreUnavailableError("this disk is gone", key="k")
        return survey(self, prefix, after)
    FilesystemStore._survey = failing
elif kind == "thread":
    threading.Thread(target=threading.Event().wait, daemon=True).start()

source, target = FilesystemStore(place + "/s"), FilesystemStore(place + "/t")
journal = place + "/j" if kind == "journal" else None
try:
    report = sync_stores(source, target, compare="size", executor="process", max_delete=1.0, journal=journal)
except StoreUnavailableError as error:
    print(len(forks), error)
else:
    print(len(forks), report.copied, report.deleted, report.skipped, len(report.failures))
for pid in forks:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        continue
    print("is left behind")
"""


def blobs_of(shape: str) -> dict[str, bytes]:
    dice = random.Random(3)
    names = {
        "flat": [f"{dice.randrange(10**6):06}" for _ in range(4000)],
        "folders": [f"d{number % 41}/{number:05}" for number in range(4000)],
        "deep": [f"a/b/c/d{number % 9}/e/{number:05}" for number in range(4000)],
        "uneven": [f"{'a' if number % 10 else 'ü'}/{number:05}" for number in range(4000)],
    }[shape]
    return {name: dice.randbytes(dice.randrange(50)) for name in names}


def changed(blobs: dict[str, bytes]) -> dict[str, bytes]:
    """The same but for one in thirty."""
    dice = random.Random(4)
    found = dict(blobs)
    for name in dice.sample(sorted(blobs), len(blobs) // 30):
        del found[name]
        if dice.random() < 0.5:
            found[name + dice.choice(["", "-new"])] = dice.randbytes(60)
    return found


def filled(path: Path, blobs: dict[str, bytes]) -> None:
    FilesystemStore(path).put_many(blobs)


def ran(place: Path, kind: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(place), kind],
        capture_output=True,
        text=True,
        check=True,
    )


def expected(source: dict[str, bytes], target: dict[str, bytes]) -> str:
    copied = sum(key not in target or len(target[key]) != len(data) for key, data in source.items())
    return f"{copied} {len(target.keys() - source.keys())} {len(source) - copied} 0\n"


@pytest.mark.parametrize("shape", ["flat", "folders", "deep", "uneven"])
@pytest.mark.parametrize("kind", ["plain", "journal"])
def test_both_halves_are_planned_whole(shape: str, kind: str, tmp_path: Path) -> None:
    blobs = blobs_of(shape)
    source = changed(blobs)
    filled(tmp_path / "s", source)
    filled(tmp_path / "t", blobs)
    assert ran(tmp_path, kind).stdout == "1 " + expected(source, blobs)
    found = diff_stores(FilesystemStore(tmp_path / "s"), FilesystemStore(tmp_path / "t"), compare="size")
    assert list(found) == []
    assert ran(tmp_path, kind).stdout == f"1 0 0 {len(source)} 0\n"


def test_a_half_that_dies_is_planned_by_the_other(tmp_path: Path) -> None:
    blobs = blobs_of("folders")
    source = changed(blobs)
    filled(tmp_path / "s", source)
    filled(tmp_path / "t", blobs)
    done = ran(tmp_path, "dies")
    assert done.stdout == "1 " + expected(source, blobs)
    assert "the other one ended early" in done.stderr


def test_what_fails_there_is_raised_here(tmp_path: Path) -> None:
    blobs = blobs_of("folders")
    filled(tmp_path / "s", changed(blobs))
    filled(tmp_path / "t", blobs)
    assert ran(tmp_path, "fails").stdout == "1 'k': this disk is gone\n"
    assert dict(FilesystemStore(tmp_path / "t").items()) == blobs


@pytest.mark.parametrize("kind", ["thread", "none"])
def test_without_a_copy_this_one_plans_it_all(kind: str, tmp_path: Path) -> None:
    blobs = blobs_of("folders")
    source = changed(blobs)
    filled(tmp_path / "s", source)
    filled(tmp_path / "t", blobs)
    assert ran(tmp_path, kind).stdout == "0 " + expected(source, blobs)


def test_a_half_begins_past_a_key_and_parts_what_is_left(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    assert store._middle("", "") is None
    store.put_many({f"a/b/{number:02}": b"" for number in range(40)} | {"a/b/c/x": b"", "a/ü %2f": b""})
    keys = list(store)
    for prefix in ("", "a", "a/b/", "a/b/1", "nothing/"):
        for after in ["", *keys]:
            left = [key for key in keys if key.startswith(prefix) and key > after]
            middle = store._middle(prefix, after)
            if middle is not None and left:
                assert middle > after
    assert store._middle("a/b/", "") == "a/b/20"
    assert store._middle("a/b/", "a/b/20") == "a/b/31"
    assert store._middle("", "a/b/20") == "a/b/31"
    assert store._middle("", "a/b/c/x") is None
