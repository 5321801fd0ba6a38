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
FEW, MANY = 100, 5000
"""How many files a repository has that one commit changes."""

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


def sized(count: int) -> str:
    """The row of a repository of this many files."""
    return f"{HOLDALL}, {count:,} files"


def sizes(table: Table, folder: str, rounds: int) -> None:
    """Fill a table with what a commit of one blob of 1 KiB takes where there are few files and where many.

    Args:
        table: With the column "a commit".
        folder: An empty one.
        rounds: How many, of ten commits each.
    """
    from holdall.stores.git import GitStore

    table.notes.append("50 files in each folder, one of which is replaced")
    table.bare = sized(FEW)
    stores: dict[str, tuple[GitStore, int]] = {}
    for count in (FEW, MANY):
        store = GitStore(f"{folder}/{count}", author="Ann <ann@example.org>")
        store.put_many({_filed(index): os.urandom(1024) for index in range(count)})
        stores[sized(count)] = store, count
    table.names = list(stores)
    for number in range(-1, rounds):
        for name in table.names if number % 2 else table.names[::-1]:
            store, count = stores[name]
            bodies = [os.urandom(1024) for _ in range(10)]
            begin = time.perf_counter()
            for index, body in enumerate(bodies):
                # This has no divisor in common with the counts, so that every file has its turn, and the
                # files of a round lie in all parts of the index.
                store.put(_filed((number * 10 + index) * 2003 % count), body)
            spent = time.perf_counter() - begin
            if number >= 0:
                table.add(name, table.columns[0], spent * 1e6 / len(bodies))
    for store, _ in stores.values():
        store.close()


def _filed(index: int) -> str:
    return f"run-{index // 50:03}/file-{index:05}"


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
