"""The contents of a repository at one commit."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from holdall.blob import place_of
from holdall.errors import BlobNotFoundError
from holdall.keys import check_key
from holdall.ranges import cut, span
from holdall.store import Can, Info, LeftOut, Piece, Store
from holdall.stores.git.index import DOUBLE, UNSPELLABLE, kind_of
from holdall.stores.git.names import key_of, path_of
from holdall.stores.oserrors import typed

if TYPE_CHECKING:
    from holdall.stores.git.program import Git
    from holdall.stores.git.reading import WorkTreeStore


class Revision(NamedTuple):
    """A commit, as `history` yields it."""

    commit: str
    """Its name in hexadecimal, which `at` and `revert` take."""
    author: str
    email: str
    modified: datetime
    """When it was written; aware, in UTC."""
    message: str


class Everything(NamedTuple):
    """The contents of a commit."""

    keys: list[str]
    """Sorted."""
    blobs: dict[str, bytes]
    """By key."""
    left: list[LeftOut]
    """Entries that can't be blobs, sorted."""


@dataclass
class Known:
    """Cached facts about a commit, which never change."""

    commit: bytes
    root: bytes
    when: datetime | None = None
    everything: Everything | None = None


class GitRevision(Store):
    """A read-only store of a repository's state at one commit.

    `GitStore.at` makes it. It reads the bytes that git keeps: where attributes convert files (line ends,
    filters), these are in the form of the repository. The time of a blob is that of the commit.

    Args:
        store: The store.
        revision: A name that `git rev-parse` takes: a commit, a tag, a branch, `HEAD~3`. It is resolved once.

    Raises:
        InvalidArgumentError: It doesn't name a commit.
    """

    can = Can.LIST | Can.RANGE

    def __init__(self, store: WorkTreeStore, revision: str, *, _known: Known | None = None) -> None:
        self._store = store
        self._known = store.at(revision)._known if _known is None else _known
        self._repository = store._repository
        self._objects = self._repository.objects
        self._left = store._left

    @property
    def commit(self) -> str:
        """The commit's name in hexadecimal."""
        return self._known.commit.hex()

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "revision": self.commit}

    def _check_open(self) -> None:
        if self._store._closed:
            raise self._closed_error()

    def _read_time(self) -> datetime:
        if self._known.when is None:
            self._known.when = _moment(self._objects.time_and_parents(self._known.commit)[0])
        return self._known.when

    def _everything(self) -> Everything:
        self._check_open()
        if self._known.everything is None:
            blobs: dict[str, bytes] = {}
            paths: dict[str, bytes] = {}
            left: list[LeftOut] = []
            fold = self._repository.fold
            for mode, path, oid in self._objects.walk(self._known.root):
                key = key_of(path, fold)
                kind = kind_of(int(mode, 8), key)
                if kind is None and key in blobs:
                    # The spelling of our own hides a literal one.
                    is_ours = os.fsencode(path_of(key, fold)) == path
                    left.append(LeftOut(os.fsdecode(paths[key] if is_ours else path), DOUBLE))
                    if not is_ours:
                        continue
                if kind is not None or key is None:
                    left.append(LeftOut(key or os.fsdecode(path), kind or UNSPELLABLE))
                    continue
                blobs[key], paths[key] = oid, path
            self._known.everything = Everything(sorted(blobs), blobs, sorted(left))
        return self._known.everything

    def _blob(self, key: str) -> bytes:
        self._check_open()
        path = path_of(key, self._repository.fold)
        found = self._objects.find(self._known.root, os.fsencode(path))
        if found is not None and found[0][:3] == b"100":
            return found[1]
        # Another program may have spelled it in another way.
        if path == key or (oid := self._everything().blobs.get(key)) is None:
            raise BlobNotFoundError(key=key)
        return oid

    @typed("read")
    def _get(self, key: str) -> bytes | None:
        try:
            oid = self._blob(check_key(key))
        except BlobNotFoundError:
            return None
        return b"".join(self._objects.stream(oid))

    @typed("read")
    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        oid = self._blob(key)
        info = self._info_of(key, oid)
        start, stop = span(start, stop, info.size)
        pieces = self._objects.stream(oid, info.size)
        return info, pieces if (start, stop) == (0, info.size) else cut(pieces, start, stop)

    @typed("read")
    def _info(self, key: str) -> Info:
        return self._info_of(key, self._blob(key))

    def _info_of(self, key: str, oid: bytes) -> Info:
        return Info(key, self._objects.size(oid), oid.hex(), self._read_time())

    @typed("list")
    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        everything = self._everything()
        left = [each for each in everything.left if each.path.startswith(prefix) and each.path > after]
        for each in left:
            self._left.warn(each)
        infos = (self._info_of(key, everything.blobs[key]) for key in self._keys(prefix, after))
        return merge(infos, left, key=place_of) if left else infos

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (each for each in self._survey(prefix, after) if isinstance(each, Info))

    @typed("list")
    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        keys = self._everything().keys
        place = max(bisect_left(keys, prefix), bisect_right(keys, after))
        return takewhile(lambda key: key.startswith(prefix), islice(keys, place, None))


def read_log(git: Git, *arguments: str) -> Iterator[Revision]:
    """Yield the commits that `git log` prints."""
    form = ("--encoding=UTF-8", "--no-show-signature", "--format=%H%x00%an%x00%ae%x00%at%x00%B%x00")
    output = git.run("log", "--no-follow", *form, *arguments)
    fields = output.decode(errors="replace").split("\0")
    for at in range(0, len(fields) - 5, 5):
        commit, author, email, seconds, message = fields[at : at + 5]
        moment = _moment(int(seconds))
        yield Revision(commit.strip(), author, email, moment, message.strip())


def _moment(seconds: int) -> datetime:
    """A time, or the nearest one that Python has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return (datetime.max if seconds > 0 else datetime.min).replace(tzinfo=UTC)
