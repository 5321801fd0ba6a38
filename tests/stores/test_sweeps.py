"""Puts, copies and moves while others sweep their temporary files and remove their folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from holdall import ABSENT, FilesystemStore, HashdirStore
from holdall.stores import drafts, nameless, places, root, shortway, steps, together

STEPS = {module.__file__ for module in (drafts, nameless, places, root, shortway, steps, together)}

CHANGES: dict[str, Callable[[FilesystemStore, str], object]] = {
    "put": lambda store, key: store.put(key, b"new"),
    "many": lambda store, key: store.put_many({"source/0": b"new", key: b"new", "source/1": b"new"}),
    "stream": lambda store, key: store.put(key, iter([b"n", b"ew"])),
    "create": lambda store, key: store.put(key, b"new", expect=ABSENT),
    "copy": lambda store, key: store.copy("source/0", key),
    "move": lambda store, key: store.move("source/0", key),
}


def disturbed(act: Callable[[], object], disturb: Callable[[], object], at: int) -> bool:
    """Call a function, and another one before it comes to the line of this number; whether it has one."""
    seen: set[tuple[str, int]] = set()
    came = False

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal came
        if frame.f_code.co_filename not in STEPS:
            return None
        if not came and event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) > at:
                came = True
                disturb()  # what it calls isn't traced
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return came


CASES = [
    *[("in/folders", there, what) for there in ("nothing", "blob", "folders") for what in CHANGES],
    *[("flat", there, what) for there in ("nothing", "blob") for what in ("put", "create", "move")],
]


@pytest.mark.parametrize(
    ("kind", "key", "there", "what"),
    [(FilesystemStore, *case) for case in CASES if case[1:] != ("blob", "create")]
    + [(HashdirStore, "flat", "nothing", what) for what in ("put", "move")],
)
def test_a_change_begins_anew_when_its_file_was_swept(
    tmp_path: Path, kind: type[FilesystemStore], key: str, there: str, what: str
) -> None:
    store, other = kind(tmp_path), kind(tmp_path)
    store["first"] = b"old"
    assert not store._slow

    def disturb() -> None:
        list(other)
        for folder in sorted(tmp_path.glob("**/"), reverse=True)[:-1]:
            if not os.listdir(folder):
                folder.rmdir()

    def change(at: int, misses: int) -> bool:
        store["source/0"] = b"new"
        store.delete(key)
        if there == "blob":
            store[key] = b"old"
        elif there == "folders":
            (tmp_path / key / "empty").mkdir(parents=True)
        store._local.lock.misses = misses
        came = disturbed(lambda: CHANGES[what](store, key), disturb, at)
        assert store[key] == b"new"
        return came

    for misses in (0, 100):  # after many new ones the next is taken for new
        assert next(at for at in count() if not change(at, misses)) > 10
    assert not [path for path in tmp_path.rglob("*") if ".new-" in path.name]


def test_a_first_put_whose_probe_is_swept(tmp_path: Path) -> None:
    for at in count():
        (place := tmp_path / str(at)).mkdir()
        store = FilesystemStore(place)
        put, sweep = partial(store.put, "a", b"1"), FilesystemStore(place).list
        if not disturbed(put, lambda sweep=sweep: list(sweep()), at):
            break
        assert store["a"] == b"1"
        assert os.listdir(place) == ["a"]
    assert at > 10
