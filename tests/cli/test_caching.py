"""cache ls and cache prune."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from holdall import FilesystemStore, Store, cached


def fill(tmp_path: Path) -> Store:
    store = FilesystemStore(tmp_path / "store")

    @cached(store, version=1)
    def one(x: int) -> bytes:
        return bytes(100)

    @cached(store, version=1)
    def other(x: int) -> int:
        return x

    for x in range(5):
        one(x)
    other(1)
    store["mine"] = b"1"
    old = time.time() - 7 * 86_400
    for x in range(2):
        os.utime(tmp_path / "store" / one.key_for(x), (old, old))
    return store


def test_ls_lists_the_functions(holdall: Any, tmp_path: Path) -> None:
    fill(tmp_path)
    first, second = holdall("cache", "ls").decode().split()
    assert first.startswith("tests.cli.test_caching/fill.(locals).one-")
    assert ".other-" in second
    lines = [json.loads(line) for line in holdall("cache", "ls", "--json").splitlines()]
    assert [(line["function"], line["results"], line["size"]) for line in lines] == [
        (first, 5, 585),
        (second, 1, 18),
    ]
    assert holdall("cache", "ls", "--long", first).decode().split()[:2] == ["5", "585"]
    assert "nothing is kept of 'x/y'" in holdall.error("cache", "ls", "x/y", code=1)


def test_prune_deletes_what_it_is_told_and_nothing_else(holdall: Any, tmp_path: Path) -> None:
    store = fill(tmp_path)
    first, second = holdall("cache", "ls").decode().split()
    assert "say what goes" in holdall.error("cache", "prune", code=2)
    assert b"2 results (234 B) to delete; nothing was done" in holdall(
        "cache", "prune", "--unused-for", "1d", "-n"
    )
    assert len(store) == 7
    assert b"2 results (234 B) deleted" in holdall("cache", "prune", "--unused-for", "1d")
    assert len(store) == 5
    told = [
        json.loads(line) for line in holdall("cache", "prune", "--max-entries", "2", "--json").splitlines()
    ]
    assert told == [
        {"function": first, "deleted": 1, "size": 117},
        {"function": second, "deleted": 0, "size": 0},
    ]
    assert b"1 result " in holdall("cache", "prune", first, "--max-bytes", "200")
    assert b"1 result " in holdall("cache", "prune", second, "--all")
    assert b"1 result " in holdall("cache", "prune", "--all")
    assert list(store) == ["mine"]


def test_prune_sweeps_the_locks_of_killed_processes(holdall: Any, tmp_path: Path) -> None:
    store = fill(tmp_path)
    store["holdall.cached/lock/old"] = store["holdall.cached/lock/new"] = b"{}"
    os.utime(tmp_path / "store" / "holdall.cached/lock/old", (1, 1))
    holdall("cache", "prune", "--all")
    assert list(store) == ["holdall.cached/lock/new", "mine"]
