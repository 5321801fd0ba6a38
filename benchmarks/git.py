"""A repository of git: commits, reads of what is there, reads of the past; against git and bare files."""

from __future__ import annotations

import os
import subprocess
import time

from benchmarks.table import Table

HOLDALL, GIT, FILES = "holdall GitStore", "git add, git commit", "bare files"
COMMITS, CURRENT, OLD, NAMED = (
    "commits/s",
    "current reads/s",
    "old reads/s",
    "old reads by a revision's name/s",
)
COLUMNS = [COMMITS, CURRENT, OLD, NAMED]

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
}


def _git(folder: str, *arguments: str) -> None:
    environment = {**os.environ, **_IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, env=environment)


def _key(index: int) -> str:
    return f"run-{index % 10}/file-{index:05}"


def commits(table: Table, folder: str, count: int, rounds: int) -> None:
    """Fill a table with what a second holds, in alternated rounds: blobs of 1 KiB, each put a commit.

    Args:
        table: With the columns of this module.
        folder: An empty one.
        count: How many commits a round, for git itself a fifth of it.
        rounds: How many.
    """
    from holdall.stores.git import GitStore

    table.names = [HOLDALL, GIT, FILES]
    table.notes += [
        f"{GIT!r}: one of each a commit, in a repository of the same shape",
        f"{FILES!r}: one open(2), fstat(2), read(2) and close(2), as in the tables of files",
        f"{OLD!r}: a key of `store.at(revision)`; {NAMED!r}: `store.at(...)[key]`, its name looked up",
    ]
    for number in range(rounds):
        ours, theirs = f"{folder}/holdall-{number}", f"{folder}/git-{number}"
        bodies = [os.urandom(1024) for _ in range(count)]
        os.makedirs(theirs)
        _git(theirs, "init", "--quiet")
        with GitStore(ours, author="Ann <ann@example.org>") as store:
            if number % 2:
                _theirs(table, theirs, bodies[: count // 5])
            _ours(table, store, bodies)
            if number % 2 == 0:
                _theirs(table, theirs, bodies[: count // 5])
            _reads(table, store, ours, count)


def _ours(table: Table, store: object, bodies: list[bytes]) -> None:
    from holdall.stores.git import GitStore

    assert isinstance(store, GitStore)
    begin = time.perf_counter()
    for index, body in enumerate(bodies):
        store[_key(index)] = body
    table.add(HOLDALL, COMMITS, len(bodies) / (time.perf_counter() - begin))


def _theirs(table: Table, folder: str, bodies: list[bytes]) -> None:
    begin = time.perf_counter()
    for index, body in enumerate(bodies):
        path = f"{folder}/{_key(index)}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(body)
        _git(folder, "add", _key(index))
        _git(folder, "commit", "--quiet", "-m", f"Add {_key(index)}")
    table.add(GIT, COMMITS, len(bodies) / (time.perf_counter() - begin))


def _reads(table: Table, store: object, folder: str, count: int) -> None:
    from holdall.stores.git import GitStore

    assert isinstance(store, GitStore)
    keys = [_key(index) for index in range(count)]
    ours = bare = 0.0
    for _ in range(2):  # the first warms both
        begin = time.perf_counter()
        for key in keys:
            store[key]
        ours = count / (time.perf_counter() - begin)
        begin = time.perf_counter()
        for key in keys:
            fd = os.open(f"{folder}/{key}", os.O_RDONLY)
            os.read(fd, os.fstat(fd).st_size)
            os.close(fd)
        bare = count / (time.perf_counter() - begin)
    table.add(HOLDALL, CURRENT, ours)
    table.add(FILES, CURRENT, bare)
    past = store.at("HEAD~5")
    begin = time.perf_counter()
    for key in keys[:-5]:
        past[key]
    table.add(HOLDALL, OLD, (count - 5) / (time.perf_counter() - begin))
    begin = time.perf_counter()
    for index, key in enumerate(keys[: count // 2]):
        store.at(f"HEAD~{index % (count // 2)}")[key]
    table.add(HOLDALL, NAMED, (count // 2) / (time.perf_counter() - begin))
