"""A git store as it is read: what a key is in a work tree, its bytes, the listing, and what it once was."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from holdall.arguments import check_type
from holdall.errors import BlobNotFoundError, InvalidArgumentError, StoreUnavailableError
from holdall.files import BlobFile
from holdall.ranges import CHUNK, span
from holdall.store import Info, LeftOut, Piece, Store
from holdall.stores.git.creation import is_made
from holdall.stores.git.listing import Left, Listed, survey
from holdall.stores.git.names import path_of
from holdall.stores.git.repository import Repository
from holdall.stores.git.revision import GitRevision, Known, Revision, read_log
from holdall.stores.local import FilePieces
from holdall.stores.nofollow import READ, open_file
from holdall.stores.oserrors import typed

if TYPE_CHECKING:
    from holdall.stores.git.index import Entry, Index
    from holdall.stores.git.remote import Remote

T = TypeVar("T")

_GUESS = 1 << 16
# A place in a stat_result is found sooner than a name.
_INODE, _SIZE = stat.ST_INO, stat.ST_SIZE
_SMALL = 1 << 20
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""What opening a file says where none is, but at most a folder, a link or a socket."""


class WorkTreeStore(Store):
    """What of `GitStore` reads; `top` is an absolute path without symbolic links."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._base = top + "/"
        self._known: dict[bytes, Known] = {}
        self._local = threading.local()
        self._left = Left(top)
        self._remote: Remote | None = None
        self._opened_repository: Repository | None = None
        self._index_path = ""

    def _open(self) -> Repository:
        """Open the repository, which is there."""
        raise NotImplementedError

    @typed("open the repository")
    def _find_repository(self) -> Repository | None:
        """The repository, if there is one by now."""
        if self._opened_repository is None and is_made(self._top):
            repository = self._open()
            self._index_path = repository.index_path
            self._opened_repository = repository
        return self._opened_repository

    @property
    def _repository(self) -> Repository:
        """The repository; what asks for it is done only where there is one."""
        repository = self._find_repository()
        if repository is None:
            raise BlobNotFoundError
        return repository

    def _path_of(self, key: str) -> str:
        entry = self._repository.index().entries.get(key)
        return path_of(key, self._repository.fold) if entry is None else entry.path

    def _get(self, key: str) -> bytes | None:
        data = self._get_small(key)
        return super()._get(key) if data is None else data

    def _get_small(self, key: str) -> bytes | None:
        """Return the bytes of a blob that is small and as git knows it; None may mean any other."""
        if self._remote is not None:
            self._remote.before_read()
        # A key in the index is valid, and its file holds a whole blob, so there are no other checks.
        repository = self._opened_repository
        if repository is None:
            return None
        index = repository.latest
        try:
            found = os.stat(self._index_path)
            if index.signature != (found.st_mtime_ns, found[_INODE], found[_SIZE]):
                index = repository.index()
        except OSError:
            return None
        try:
            path, _, _, _, _, size, _, _ = index.entries[key]
        except KeyError:
            return None
        if not 0 < size < _SMALL:
            return None
        fd = open_file(self._base + path, READ)
        if fd < 0:
            return None
        try:
            try:
                data = os.read(fd, size + 1)
            finally:
                os.close(fd)
        except OSError:
            return None  # the long way reports it
        # A file of another length is one that a person edits, or that git is writing.
        return data if len(data) == size else None

    @typed("read")
    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        fd, info = self._open_blob(key)
        try:
            if fd < 0:
                # A sparse checkout leaves the file out.
                return self.at("HEAD")._read(key, start, stop)
            start, stop = span(start, stop, info.size)
            if stop - start > CHUNK:
                pieces = FilePieces([fd], start, stop)
                fd = -1
                return info, pieces
            return info, iter((os.pread(fd, stop - start, start),))
        finally:
            if fd >= 0:
                os.close(fd)

    @typed("read")
    def _open_read(self, key: str) -> BinaryIO:
        fd, info = self._open_blob(key)
        return super()._open_read(key) if fd < 0 else BlobFile(io.FileIO(fd), _GUESS, info)

    @typed("read")
    def _info(self, key: str) -> Info:
        self._fresh()
        entry = self._repository.index().entries.get(key)
        if entry is not None:
            found = self._stat(entry)
            if found is not None and entry.is_clean(found):
                return self._info_of(key, entry, found)
        fd, info = self._open_blob(key)
        if fd >= 0:
            os.close(fd)
        return info

    @typed("read")
    def _has(self, key: str) -> bool:
        self._fresh()
        repository = self._find_repository()
        if repository is None:
            return False
        entry = repository.index().entries.get(key)
        if entry is not None and self._stat(entry) is not None:
            return True
        return super()._has(key)

    def _fresh(self) -> None:
        if self._remote is not None:
            self._remote.before_read()

    def _stat(self, entry: Entry) -> os.stat_result | None:
        found = self._repository.tree.look(entry.path)
        return found if found is not None and stat.S_ISREG(found.st_mode) else None

    def _open_blob(self, key: str) -> tuple[int, Info]:
        """The open file of a blob; -1 where a sparse checkout leaves it out."""
        self._fresh()
        repository = self._repository
        entry = self._index().entries.get(key)
        if entry is not None:
            fd = open_file(self._base + entry.path, READ)
            if fd >= 0:
                found = os.fstat(fd)
                if entry.is_clean(found) and stat.S_ISREG(found.st_mode):
                    return fd, self._info_of(key, entry, found)
                os.close(fd)
        elif not repository.pending():
            raise BlobNotFoundError(key=key)
        # A writer is at it or was killed at it, or a person edits the file: the lock shows which.
        return self._run_locked(lambda: self._dirty(key))

    def _index(self) -> Index:
        repository = self._repository
        index = repository.index()
        if repository.is_suspect() and not getattr(self._local, "locked", False):
            repository.compare()
            index = repository.index()
        return index

    def _run_locked(self, act: Callable[[], T]) -> T:
        """Call a function under the lock, which this thread may hold already."""
        if getattr(self._local, "locked", False):
            return act()

        def work() -> T:
            self._local.locked = True
            try:
                return act()
            finally:
                self._local.locked = False

        return self._repository.locked(work)

    @typed("read")
    def _dirty(self, key: str) -> tuple[int, Info]:
        while True:
            entry = self._repository.index().entries.get(key)
            if entry is None:
                raise BlobNotFoundError(key=key)
            fd = open_file(self._base + entry.path, READ)
            found = os.fstat(fd) if fd >= 0 else None
            if fd < 0 and -fd not in _ABSENT:
                raise OSError(-fd, os.strerror(-fd))
            if found is not None and entry.is_clean(found) and stat.S_ISREG(found.st_mode):
                return fd, self._info_of(key, entry, found)
            # A checkout may be half-way through it.
            waited = not entry.skip and self._repository.wait_for_git()
            if found is not None and stat.S_ISREG(found.st_mode) and not waited:
                return fd, self._info_of(key, entry, found)
            if fd >= 0:
                os.close(fd)
            if entry.skip:
                return -1, self.at("HEAD")._info(key)
            if waited:
                continue
            if entry.unmerged:
                raise StoreUnavailableError(
                    "the key is in conflict, as after a merge, and lacks a file: resolve it, then `git add` "
                    "or `git rm` it",
                    key=key,
                )
            raise BlobNotFoundError(key=key)

    @staticmethod
    def _info_of(key: str, entry: Entry, found: os.stat_result) -> Info:
        stamp = found.st_mtime_ns
        # The object's name alone would be the same after a put of the same bytes, whose writer must not think
        # that the version is still there which two can replace.
        name = entry.oid.hex() if entry.is_clean(found) else f"{found.st_size:x}"
        return Info(key, found.st_size, f"{name}-{stamp:x}", stamp / 1e9)

    def _list_tree(self, prefix: str, after: str) -> Iterator[Listed | LeftOut]:
        self._fresh()
        repository = self._find_repository()
        none = True
        if repository is not None:
            index = self._run_locked(repository.index) if repository.pending() else self._index()
            for each in survey(repository, index, prefix, after, self._left):
                none = False
                yield each
        if none and not after:
            self._left.warn_of_untracked(None if repository is None else repository.git, prefix)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        with typed("list"):
            for each in self._list_tree(prefix, after):
                if isinstance(each, LeftOut):
                    yield each
                    continue
                key, entry, found = each
                if found is not None and entry.is_clean(found):
                    yield self._info_of(key, entry, found)
                    continue
                try:
                    info = self._info(key)
                except BlobNotFoundError:
                    continue  # deleted in between
                yield info

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (each for each in self._survey(prefix, after) if isinstance(each, Info))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        with typed("list"):
            for each in self._list_tree(prefix, after):
                if not isinstance(each, LeftOut):
                    yield each[0]

    @typed("read")
    def at(self, revision: str) -> GitRevision:
        """The store as it was at a revision, to be read.

        Args:
            revision: A name that `git rev-parse` takes: a commit, a tag, a branch, `HEAD~3`.

        Raises:
            InvalidArgumentError: It doesn't name a commit.
        """
        if self._closed:
            raise self._closed_error()
        check_type(revision, str, "a revision must be a str")
        self._fresh()
        repository = self._find_repository()
        commit = None if repository is None else repository.objects.resolve(revision)
        if repository is None or commit is None:
            raise InvalidArgumentError(f"{revision!r} doesn't name a commit of {self._top!r}")
        known = self._known.get(commit)
        if known is None:
            if len(self._known) >= 16:
                self._known.clear()
            known = self._known[commit] = Known(commit, repository.objects.root(commit))
        return GitRevision(self, revision, _known=known)

    @typed("read")
    def history(self, key: str | None = None, *, limit: int | None = None) -> list[Revision]:
        """The commits that changed a key, the newest first; without a key, all of them.

        Args:
            key: Which.
            limit: The most commits to yield.

        Raises:
            InvalidArgumentError: The limit is below 0, or not an int.
        """
        if limit is not None:
            check_type(limit, int, "a limit must be an int of 0 or more")
            if limit < 0:
                raise InvalidArgumentError(f"a limit must be an int of 0 or more, not {limit}")
        if self._closed:
            raise self._closed_error()
        key = None if key is None else self._checked(key)
        self._fresh()
        repository = self._find_repository()
        if repository is None or repository.refs.head().commit is None:
            return []
        most = () if limit is None else (f"--max-count={limit}",)
        paths = () if key is None else ("--", f":(top,literal){self._path_of(key)}")
        return list(read_log(repository.git, *most, *paths))
