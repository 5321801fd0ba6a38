"""The store over a repository: what a key is there, how it is read, and what is committed."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, overload

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
)
from holdall.paths import checked_path
from holdall.ranges import CHUNK, span
from holdall.store import ABSENT, ANY, Attributes, Body, Can, Expect, Info, LeftOut, Piece, Store
from holdall.stores.git.checkout import converted_together
from holdall.stores.git.creation import check_place, is_made, make
from holdall.stores.git.files import failed, typed
from holdall.stores.git.listing import Left, Listed, survey
from holdall.stores.git.names import key_of, path_of
from holdall.stores.git.program import Git
from holdall.stores.git.repository import Moved, Repository
from holdall.stores.git.revision import GitRevision, Known, Revision, read_log
from holdall.stores.git.worktree import Change, Draft
from holdall.stores.nofollow import READ, open_file

if TYPE_CHECKING:
    from holdall.stores.git.index import Entry, Index
    from holdall.stores.git.remote import Remote

__all__ = ["GitStore"]

T = TypeVar("T")

_GUESS = 1 << 16
# A place in a stat_result is found sooner than a name.
_INODE, _SIZE = stat.ST_INO, stat.ST_SIZE
_SMALL = 1 << 20
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""What opening a file says where none is, but at most a folder, a link or a socket."""
_GC = 1000
_LONGEST = 2_000_000
"""Seconds; the system waits for 24 days at most."""


class GitStore(Store):
    """A store in a git repository: the files that git tracks in a work tree are the blobs, and every put and
    delete is a commit (`Add a/b`, `Update a/b`, `Delete a/b`).

    A put of what is there already commits nothing; `put_many` and `delete_many` are one commit each. After a
    call the work tree is as clean as before it: what a person has edited or staged elsewhere stays so, and
    is not part of the commit. Keys are spelled as in `FilesystemStore`; a segment that some system takes for
    `.git` is escaped too. Links and submodules are no blobs, nor are files that git doesn't track, which are
    never overwritten: a put there raises `KeyConflictError`, and `InvalidKeyError` where git ignores it.

    The ETag is the name of git's object and the time of the file. Processes lock each other out while they
    commit, and take git's own locks, so that people may use git in the same work tree.

    Args:
        path: The work tree. Where no repository is, the first put makes one; until then the store is empty.
        author: Who writes, such as `Ann <ann@example.org>`; by default the person that git's configuration
            names.
        init: Whether a repository may be made inside the work tree of another one.
        durable: Whether a commit is on the disk when it is acknowledged (fsync).
        remote: A remote of the repository to keep up with, by its name; True is `origin`.
        pull_interval: After how many seconds a read fetches first; 0 is always, None never.
        push: When commits are pushed: `background`, `now` (before the call returns), or None (by `sync`).
        timeout: In seconds, for what waits for the remote.

    Raises:
        StoreUnavailableError: It can't be opened, or git isn't installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with GitStore(folder, author="Ann <ann@example.org>") as store:
    ...         store["notes/today.txt"] = b"hello"
    ...         store["notes/today.txt"] = b"bye"
    ...         [revision.message for revision in store.history()], store.at("HEAD~1")["notes/today.txt"]
    (['Update notes/today.txt', 'Add notes/today.txt'], b'hello')
    """

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.CREATE | Can.SWAP | Can.BULK
    schemes = ("git+file",)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        author: str | None = None,
        durable: bool = False,
        remote: bool | str = False,
        pull_interval: float | None = 60.0,
        push: str | None = "background",
        timeout: float = 60.0,
        init: bool = False,
    ) -> None:
        given = checked_path(path)
        if author is not None and not _is_person(author):
            raise InvalidArgumentError(f"an author is 'Name <mail>', not {author!r}")
        if push not in ("background", "now", None):
            raise InvalidArgumentError(f"push is 'background', 'now' or None, not {push!r}")
        if not isinstance(remote, bool | str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"remote is the name of one, True or False, not {remote!r}")
        if remote == "":
            raise InvalidArgumentError("remote is the name of one; an empty one is none")
        if pull_interval is not None and not _is_time(pull_interval, least=0.0):
            raise InvalidArgumentError("pull_interval is seconds, 0 or more, or None")
        if not _is_time(timeout) or timeout > _LONGEST:
            raise InvalidArgumentError(f"a timeout is more than zero seconds, and at most {_LONGEST:,}")
        self._given = os.path.abspath(os.path.expanduser(given))
        self._author, self._durable, self._timeout = author, durable, timeout
        self._remote_given, self._pull_interval, self._push = remote, pull_interval, push
        self._init = init
        self._top = os.path.realpath(self._given)
        self._base = self._top + "/"
        # Where it begins is by chance, so that many short processes tidy up now and then too.
        self._commits = int.from_bytes(os.urandom(2), "little") % _GC
        self._known: dict[bytes, Known] = {}
        self._local = threading.local()
        self._left = Left(self._top)
        self._remote: Remote | None = None
        self._opening = threading.Lock()
        self._opened_repository: Repository | None = None
        self._index_path = ""
        if self._found() is None:
            check_place(self._top, init)
            if remote:
                raise InvalidArgumentError(
                    f"{given!r} isn't a repository, and so has no remote: run `git clone`, or `git init` and "
                    "`git remote add`"
                )

    @classmethod
    def _from_uri(
        cls,
        path: str,
        *,
        author: str | None = None,
        durable: bool = False,
        remote: str | None = None,
        pull_interval: float = 60.0,
        push: str | None = "background",
        timeout: float = 60.0,
        init: bool = False,
    ) -> GitStore:
        named = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        return cls(
            path,
            author=author,
            durable=durable,
            remote=named.get(remote.lower(), remote) if remote else False,
            pull_interval=pull_interval,
            push=None if push in ("none", "") else push,
            timeout=timeout,
            init=init,
        )

    def _settings(self) -> dict[str, object]:
        return {
            "path": self._given,
            "author": self._author,
            "durable": self._durable,
            "remote": self._remote_given,
            "pull_interval": self._pull_interval,
            "push": self._push,
            "timeout": self._timeout,
            "init": self._init,
        }

    # --- the repository -------------------------------------------------------------------------------

    @typed("open the repository")
    def _found(self) -> Repository | None:
        """The repository, if there is one by now."""
        if self._opened_repository is None and is_made(self._top):
            with self._opening:
                if self._opened_repository is None:
                    self._open()
        return self._opened_repository

    def _open(self) -> None:
        repository = Repository(self._top, self._author, self._durable, self._timeout)
        if self._remote_given:
            from holdall.stores.git.remote import Remote

            name = "origin" if self._remote_given is True else self._remote_given
            self._remote = Remote(repository, name, self._pull_interval, self._push, self._locked)
        self._index_path = repository.index_path
        self._opened_repository = repository

    @property
    def _repository(self) -> Repository:
        """The repository; what asks for it is done only where there is one."""
        repository = self._found()
        if repository is None:
            raise BlobNotFoundError
        return repository

    @typed("make a repository")
    def _made(self) -> Repository:
        """The repository, which is made if there is none."""
        repository = self._found()
        if repository is None:
            check_place(self._top, self._init)
            make(self._top, Git("/", self._timeout, self._durable), self._durable)
            repository = self._repository
        return repository

    # --- reading --------------------------------------------------------------------------------------

    @overload
    def get(self, key: str, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: str, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str, default: T) -> bytes | T: ...
    def get(self, key: str, default: Any = None) -> Any:
        data = self._whole(key)
        return super().get(key, default) if data is None else data

    def __getitem__(self, key: str) -> bytes:
        data = self._whole(key)
        return super().__getitem__(key) if data is None else data

    def _whole(self, key: str) -> bytes | None:
        """The bytes of a blob that is small and as git knows it, the quick way; None says nothing of it."""
        if self._closed:
            raise self._closed_error()
        if self._remote is not None:
            self._remote.before_read()
        # What is in the index is a valid key, and its file holds a whole blob: nothing else is looked at.
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
        except (KeyError, TypeError):
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
        fd, info = self._opened(key)
        try:
            if fd < 0:
                # A sparse checkout leaves the file out.
                return self.at("HEAD")._read(key, start, stop)  # pyright: ignore[reportPrivateUsage]
            start, stop = span(start, stop, info.size)
            if stop - start > CHUNK:
                pieces = _Pieces(fd, start, stop)
                fd = -1
                return info, pieces
            return info, iter((os.pread(fd, stop - start, start),))
        finally:
            if fd >= 0:
                os.close(fd)

    @typed("read")
    def _open_read(self, key: str) -> BinaryIO:
        fd, _ = self._opened(key)
        return super()._open_read(key) if fd < 0 else open(fd, "rb", buffering=_GUESS)

    @typed("read")
    def _info(self, key: str) -> Info:
        self._fresh()
        entry = self._repository.index().entries.get(key)
        if entry is not None:
            found = self._stat(entry)
            if found is not None and entry.is_clean(found):
                return self._described(key, entry, found)
        fd, info = self._opened(key)
        if fd >= 0:
            os.close(fd)
        return info

    @typed("read")
    def exists(self, key: str) -> bool:
        key = self._checked(key)
        self._fresh()
        repository = self._found()
        if repository is None:
            return False
        entry = repository.index().entries.get(key)
        if entry is not None and self._stat(entry) is not None:
            return True
        return super().exists(key)

    def _fresh(self) -> None:
        if self._remote is not None:
            self._remote.before_read()

    def _stat(self, entry: Entry) -> os.stat_result | None:
        found = self._repository.tree.look(entry.path)
        return found if found is not None and stat.S_ISREG(found.st_mode) else None

    def _opened(self, key: str) -> tuple[int, Info]:
        """The open file of a blob; -1 where a sparse checkout leaves it out."""
        self._fresh()
        repository = self._repository
        entry = self._index().entries.get(key)
        if entry is not None:
            fd = open_file(self._base + entry.path, READ)
            if fd >= 0:
                found = os.fstat(fd)
                if entry.is_clean(found) and stat.S_ISREG(found.st_mode):
                    return fd, self._described(key, entry, found)
                os.close(fd)
        elif not repository.pending():
            raise BlobNotFoundError(key=key)
        # A writer is at it or was killed at it, or a person edits the file: the lock shows which.
        return self._locked(lambda: self._dirty(key))

    def _index(self) -> Index:
        repository = self._repository
        index = repository.index()
        if repository.is_suspect() and not getattr(self._local, "locked", False):
            repository.compare()
            index = repository.index()
        return index

    def _locked(self, act: Callable[[], T]) -> T:
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

    def _dirty(self, key: str) -> tuple[int, Info]:
        while True:
            entry = self._repository.index().entries.get(key)
            if entry is None:
                raise BlobNotFoundError(key=key)
            fd = open_file(self._base + entry.path, READ)
            found = os.fstat(fd) if fd >= 0 else None
            if fd < 0 and -fd not in _ABSENT:
                raise failed(OSError(-fd, os.strerror(-fd)), "read")
            if found is not None and entry.is_clean(found) and stat.S_ISREG(found.st_mode):
                return fd, self._described(key, entry, found)
            # A checkout may be half-way through it.
            waited = not entry.skip and self._repository.wait_for_git()
            if found is not None and stat.S_ISREG(found.st_mode) and not waited:
                return fd, self._described(key, entry, found)
            if fd >= 0:
                os.close(fd)
            if entry.skip:
                return -1, self.at("HEAD")._info(key)  # pyright: ignore[reportPrivateUsage]
            if waited:
                continue
            if entry.unmerged:
                raise StoreUnavailableError(
                    "a merge or the like has a conflict there and left no file: resolve it, and `git add` or "
                    "`git rm` it",
                    key=key,
                )
            raise BlobNotFoundError(key=key)

    @staticmethod
    def _described(key: str, entry: Entry, found: os.stat_result) -> Info:
        stamp = found.st_mtime_ns
        # The object's name alone would be the same after a put of the same bytes, whose writer must not think
        # that the version is still there which two can replace.
        name = entry.oid.hex() if entry.is_clean(found) else f"{found.st_size:x}"
        return Info(key, found.st_size, f"{name}-{stamp:x}", stamp / 1e9)

    # --- listing --------------------------------------------------------------------------------------

    def _listed(self, prefix: str, after: str) -> Iterator[Listed | LeftOut]:
        self._fresh()
        repository = self._found()
        none = True
        if repository is not None:
            index = self._locked(repository.index) if repository.pending() else self._index()
            for each in survey(repository, index, prefix, after, self._left):
                none = False
                yield each
        if none and not after:
            self._left.warn_of_untracked(None if repository is None else repository.git, prefix)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        try:
            for each in self._listed(prefix, after):
                if isinstance(each, LeftOut):
                    yield each
                    continue
                key, entry, found = each
                if found is not None and entry.is_clean(found):
                    yield self._described(key, entry, found)
                    continue
                try:
                    info = self._info(key)
                except BlobNotFoundError:
                    continue  # deleted meanwhile
                yield info
        except OSError as error:
            raise failed(error, "list") from error

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (each for each in self._survey(prefix, after) if isinstance(each, Info))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        try:
            for each in self._listed(prefix, after):
                if not isinstance(each, LeftOut):
                    yield each[0]
        except OSError as error:
            raise failed(error, "list") from error

    # --- writing --------------------------------------------------------------------------------------

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        draft = self._draft(key, body)
        try:
            return self._commit([(key, draft, expect)])[0]
        finally:
            self._repository.drop(draft)

    def _put_many(self, items: Iterable[tuple[str, Body]], attributes: Attributes) -> Iterator[Info]:
        drafts: dict[str, Draft] = {}
        order: list[str] = []
        try:
            for key, body in items:
                try:
                    draft = self._draft(key, body)
                except StoreError as error:
                    error.key = key
                    raise
                if key in drafts:
                    self._repository.drop(drafts[key])
                drafts[key] = draft
                order.append(key)
            if any(key.endswith(".gitattributes") for key in drafts):
                paths = {key: self._path_of(key) for key in drafts}
                try:
                    made = converted_together(self._repository, {paths[key]: drafts[key] for key in drafts})
                except OSError as error:
                    raise failed(error, "write") from error
                drafts = {key: made[path] for key, path in paths.items()}
            infos = self._commit([(key, draft, ANY) for key, draft in drafts.items()]) if drafts else []
        finally:
            for draft in drafts.values():
                self._repository.drop(draft)
        told = {info.key: info for info in infos}
        return iter([told[key] for key in order])

    def _delete(self, key: str, expect: Expect) -> bool:
        return bool(self._commit([(key, None, expect)]))

    def _delete_many(self, keys: Iterable[str]) -> int:
        return len(self._commit([(key, None, ANY) for key in keys]))

    def _clear(self) -> None:
        self._delete_many(list(self._keys("", "")))

    @typed("write")
    def _move(self, source: str, target: str, expect: Expect) -> Info:
        while True:
            info, pieces = self._read(source, 0, None)
            draft = self._draft(target, pieces)
            try:
                steps = [(target, draft, expect), (source, None, info.etag)]
                return self._commit(steps, f"Move {source} to {target}")[0]
            except ConcurrencyError as error:
                if error.key != source:
                    raise
                # It changed meanwhile: the newer bytes are the ones to move.
            finally:
                self._repository.drop(draft)

    def _path_of(self, key: str) -> str:
        entry = self._repository.index().entries.get(key)
        return path_of(key, self._repository.fold) if entry is None else entry.path

    @typed("write")
    def _draft(self, key: str, body: Body) -> Draft:
        repository = self._made()
        repository.learn()
        entry, path = repository.index().entries.get(key), self._path_of(key)
        if entry is None and repository.configuration.is_ignored(path):
            raise InvalidKeyError(
                "git ignores this path (`git check-ignore -v` says why): change the rule, or "
                "`git add --force` it"
            )
        return repository.draft(body, path)

    @typed("write")
    def _commit(
        self, steps: Sequence[tuple[str, Draft | None, Expect]], message: str | None = None
    ) -> list[Info]:
        """Put and delete, in one commit; what was put, and for what was deleted what it was."""
        repository = self._found()
        if repository is None:
            # Nothing is there to be deleted; what is put has made the repository.
            for key, _, expect in steps:
                if isinstance(expect, str):
                    raise ConcurrencyError(key=key, expected=expect)
            return []
        repository.learn()
        while True:
            try:
                infos, made = self._locked(lambda: self._try(steps, message))
                break
            except Moved:
                continue
        if made is not None:
            self._commits += 1
            if self._commits % _GC == 0:
                # As git does after a commit: thousands of loose objects become a pack, in the background.
                repository.git.call("gc", "--auto", "--quiet")
            if self._remote is not None:
                self._remote.after_write()
        return infos

    def _try(
        self, steps: Sequence[tuple[str, Draft | None, Expect]], message: str | None
    ) -> tuple[list[Info], bytes | None]:
        repository = self._repository
        index = repository.index()
        changes: list[Change] = []
        said: list[str] = []
        told: list[Info] = []
        for key, draft, expect in steps:
            entry = index.entries.get(key)
            if entry is not None and entry.unmerged:
                raise KeyConflictError(
                    "a merge or the like has a conflict there: resolve it, and `git add` or `git rm` it",
                    key=key,
                )
            now = None if entry is None else self._now(key)
            if now is None and expect is not ANY and expect is not ABSENT:
                raise ConcurrencyError(key=key, expected=expect)
            if now is not None and expect is ABSENT:
                raise BlobExistsError(key=key, actual=now.etag)
            if now is not None and isinstance(expect, str) and now.etag != expect:
                raise ConcurrencyError(key=key, expected=expect, actual=now.etag)
            if draft is None:
                # What a person has put in its place, such as a link, is not the blob.
                if entry is not None and (now is not None or not os.path.lexists(self._base + entry.path)):
                    changes.append(Change(entry.path, None, entry.mode))
                    said.append(f"Delete {key}")
                if now is not None:
                    told.append(now)
                continue
            path = path_of(key, repository.fold) if entry is None else entry.path
            if entry is None and index.find(os.fsencode(path)) >= 0:
                raise KeyConflictError("git tracks a symbolic link or a submodule there", key=key)
            if entry is not None and now is not None and expect is ANY and self._is_same(entry, draft):
                told.append(now)
                continue
            changes.append(Change(path, draft, 0o100644 if entry is None else entry.mode))
            said.append(f"{'Add' if entry is None else 'Update'} {key}")
            told.append(Info(key, draft.size, f"{draft.oid.hex()}-{draft.stamp:x}", draft.stamp / 1e9))
        made = None
        if changes:
            try:
                made = repository.commit(changes, message or _message(said))
            except KeyConflictError as error:
                if error.key is not None:
                    error.key = key_of(os.fsencode(error.key), repository.fold)
                raise
        return told, made

    def _now(self, key: str) -> Info | None:
        try:
            fd, info = self._dirty(key)
        except BlobNotFoundError:
            return None
        if fd >= 0:
            os.close(fd)
        return info

    def _is_same(self, entry: Entry, draft: Draft) -> bool:
        """Whether a draft is what is committed, what is staged and what is in the file."""
        repository = self._repository
        if entry.oid != draft.oid:
            return False
        found = self._stat(entry)
        if found is None or not entry.is_clean(found) or found.st_size != draft.size:
            return False
        if draft.raw != draft.oid:
            fd = open_file(self._base + entry.path, READ)
            if fd < 0:
                return False
            try:
                if repository.objects.hash_file(fd, found.st_size) != draft.raw:
                    return False
            finally:
                os.close(fd)
        head = repository.refs.head().commit
        if head is None:
            return False
        objects = repository.objects
        return objects.find(objects.root(head), os.fsencode(entry.path)) == (b"%o" % entry.mode, entry.oid)

    # --- the past -------------------------------------------------------------------------------------

    @typed("read")
    def at(self, revision: str) -> GitRevision:
        """The store as it was at a revision, to be read.

        Args:
            revision: What `git rev-parse` takes: a commit, a tag, a branch, `HEAD~3`.

        Raises:
            InvalidArgumentError: It names no commit.
        """
        if self._closed:
            raise self._closed_error()
        if not isinstance(revision, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"a revision is a str, not {type(revision).__name__}")
        self._fresh()
        repository = self._found()
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
            limit: How many at most.

        Raises:
            InvalidArgumentError: The limit is below 0.
        """
        if limit is not None and limit < 0:
            raise InvalidArgumentError(f"a limit is 0 or more, not {limit}")
        arguments = [
            "log",
            "--encoding=UTF-8",
            "--no-show-signature",
            "--no-follow",
            "--format=%H%x00%an%x00%ae%x00%at%x00%B%x00",
        ]
        if limit is not None:
            arguments.append(f"--max-count={limit}")
        if self._closed:
            raise self._closed_error()
        if key is not None:
            key = self._checked(key)
        self._fresh()
        repository = self._found()
        if repository is None:
            return []
        if key is not None:
            entry = repository.index().entries.get(key)
            path = path_of(key, repository.fold) if entry is None else entry.path
            arguments += ["--", f":(top,literal){path}"]
        if repository.refs.head().commit is None:
            return []
        return list(read_log(repository.git.run(*arguments)))

    @typed("write")
    def revert(self, key: str, revision: str) -> Info | None:
        """Let a key be what it was at a revision, by a new commit; None where it was absent.

        Args:
            key: Which.
            revision: As `at` takes it.

        Raises:
            InvalidArgumentError: The revision names no commit.
        """
        key = self._checked(key)
        past = self.at(revision)
        message = f"Revert {key} to {revision}"
        try:
            pieces: Iterator[Piece] = self._as_checked_out(past, key)
            draft = self._draft(key, pieces)
        except BlobNotFoundError:
            self._commit([(key, None, ANY)], message)
            return None
        try:
            return self._commit([(key, draft, ANY)], message)[0]
        except StoreError as error:
            error.key = key
            raise
        finally:
            self._repository.drop(draft)

    def _as_checked_out(self, past: GitRevision, key: str) -> Iterator[Piece]:
        path = path_of(key, self._repository.fold)
        if not self._repository.converts(path):
            return past._read(key, 0, None)[1]  # pyright: ignore[reportPrivateUsage]
        oid = past._blob(key)  # pyright: ignore[reportPrivateUsage]
        return self._repository.git.streaming("cat-file", "--filters", f"--path={path}", oid.hex())

    # --- remotes --------------------------------------------------------------------------------------

    @typed("sync")
    def sync(self, *, prefer: str | None = None) -> None:
        """Fetch, take over what is new there, and push what is new here.

        Args:
            prefer: What to do with keys that changed on both sides: `ours` or `theirs` wins (the other side
                stays in the history or under a ref); None raises.

        Raises:
            ConcurrencyError: A key changed on both sides. Both are kept; see the message.
            StoreUnavailableError: The remote can't be reached. What is to be pushed waits.
            InvalidArgumentError: The store was opened without a remote.
        """
        if self._closed:
            raise self._closed_error()
        if self._remote is None:
            raise InvalidArgumentError("this store has no remote; open it with remote=True")
        if prefer not in (None, "ours", "theirs"):
            raise InvalidArgumentError(f"prefer is 'ours', 'theirs' or None, not {prefer!r}")
        self._remote.sync(prefer)

    def _close(self) -> None:
        try:
            if self._remote is not None:
                self._remote.close()
        finally:
            if self._opened_repository is not None:
                self._opened_repository.close()


def _message(said: Sequence[str]) -> str:
    if len(said) == 1:
        return said[0]
    shown = list(said[:100])
    if len(said) > len(shown):
        shown.append(f"and {len(said) - len(shown)} more")
    verbs = {word: sum(line.startswith(word) for line in said) for word in ("Add", "Update", "Delete")}
    head = " and ".join(f"{word} {count}" for word, count in verbs.items() if count)
    return f"{head} blobs\n\n" + "\n".join(shown)


def _is_time(seconds: object, least: float = 5e-324) -> bool:
    return isinstance(seconds, int | float) and seconds >= least


def _is_person(author: object) -> bool:
    if not isinstance(author, str) or any(char in author for char in "\n\0"):
        return False
    name, opening, mail = author.partition("<")
    return bool(name.strip() and opening and mail.endswith(">") and not set("<>") & {*name, *mail[:-1]})


class _Pieces(Iterator[bytes]):
    """What is left of an open file, in chunks; it closes the file at the end, or when it is dropped."""

    def __init__(self, fd: int, start: int, stop: int) -> None:
        self._fd = fd
        self._position = start
        self._stop = stop

    def __next__(self) -> bytes:
        if self._fd < 0:
            raise StopIteration
        try:
            piece = os.pread(self._fd, min(CHUNK, self._stop - self._position), self._position)
        except OSError as error:
            raise failed(error, "read") from error
        self._position += len(piece)
        if not piece or self._position >= self._stop:
            self.close()
            if not piece:
                raise StopIteration
        return piece

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()
