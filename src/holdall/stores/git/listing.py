"""Listing a work tree: the entries that git tracks, with what is at their paths."""

from __future__ import annotations

import logging
import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from holdall.store import LeftOut
from holdall.stores.git.index import LINK, Entry, Index
from holdall.stores.git.program import Git
from holdall.stores.git.repository import Repository
from holdall.stores.oserrors import kind_of

_log = logging.getLogger("holdall")

_BATCH = 64
_MANY = 10_000
Listed: TypeAlias = "tuple[str, Entry, os.stat_result | None]"
"""A key, what git tracks there, and what lies there; None where a sparse checkout leaves it out."""


def survey(
    repository: Repository, index: Index, prefix: str, after: str, left: Left
) -> Iterator[Listed | LeftOut]:
    """The blobs of a work tree, and what is left out of a listing, in the order of the keys."""
    found = _each(repository, index, prefix, after)
    others = [
        each for each in index.left if each.path.startswith(prefix) and (not after or each.path > after)
    ]
    if others:
        found = merge(found, others, key=itemgetter(0))
    for each in found:
        if isinstance(each, LeftOut):
            left.warn(each)
        yield each


def _each(repository: Repository, index: Index, prefix: str, after: str) -> Iterator[Listed | LeftOut]:
    keys = index.keys
    place = max(bisect_left(keys, prefix), bisect_right(keys, after))
    while place < len(keys):
        batch = [key for key in keys[place : place + _BATCH] if key.startswith(prefix)]
        if not batch:
            return
        place += _BATCH
        entries = [index.entries[key] for key in batch]
        looked: list[os.stat_result | None] = []
        for folder, inner in groupby(entries, lambda entry: entry.path.rpartition("/")[0]):
            names = [entry.path[len(folder) + 1 if folder else 0 :] for entry in inner]
            looked += repository.tree.look_many(folder, names)
        for key, entry, found in zip(batch, entries, looked, strict=True):
            if found is None and not entry.skip and repository.wait_for_git():
                found = repository.tree.look(entry.path)
            if found is not None and stat.S_ISREG(found.st_mode):
                yield key, entry, found
            elif found is not None:
                is_folder = stat.S_ISDIR(found.st_mode)
                yield LeftOut(key, "folder where git tracks a file" if is_folder else kind_of(found.st_mode))
            elif entry.skip:
                yield key, entry, None
            elif entry.unmerged:
                yield LeftOut(key, "conflict that isn't resolved")
            elif repository.tree.is_linked(entry.path):
                yield LeftOut(key, LINK)


class Left:
    """Warns of what listings of a work tree leave out, once for each kind."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._kinds: set[str] = set()

    def warn(self, left: LeftOut) -> None:
        """Warn of something, if it is the first of its kind."""
        if left.kind not in self._kinds:
            self._kinds.add(left.kind)
            _log.warning(
                "%s: %r isn't listed, since it can't be a blob: it is a %s (each kind is warned of once)",
                self._top,
                left.path,
                left.kind,
            )

    def warn_of_untracked(self, git: Git | None, prefix: str) -> None:
        """Warn, once, if nothing is listed though there are files that git doesn't track. `git` is None if
        the work tree lacks a repository."""
        if "untracked" in self._kinds:
            return
        folder = f"{self._top}/{prefix.rpartition('/')[0]}"
        count = _count_files(folder, 1 if git else _MANY)
        if not count:
            return
        self._kinds.add("untracked")
        if git is not None:
            code, printed, _ = git.call(
                "ls-files", "--others", "--exclude-standard", "-z", "--", f":(literal){folder}"
            )
            count = printed.count(b"\0") if code == 0 else 0
        if count:
            files = "1 file is" if count == 1 else f"{count:,} files are"
            why = "that git doesn't track; `git add` makes blobs" if git else "and no git repository"
            _log.warning("%s: nothing is listed, but %s there %s", self._top, files, why)


def _count_files(folder: str, most: int) -> int:
    """Count the files in and below a folder, without git's own, up to a limit."""
    count = 0
    for _, folders, names in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
        count += len(names)
        if count >= most:
            return most
    return count
