"""A repository with a work tree, in which files, index and branch change together or not at all.

A change is written down in a journal (`.git/holdall/journal`), then done: files, branch, index, each by a
rename under git's own locks. The next process that holds `.git/holdall/lock` and finds a journal finishes
what it says if any of it can be seen, and else forgets it.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from holdall.errors import (
    IntegrityError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.stores.git.commits import Commits
from holdall.stores.git.configuration import Configuration
from holdall.stores.git.creation import discover
from holdall.stores.git.drafts import Drafts
from holdall.stores.git.files import signature, text
from holdall.stores.git.index import EMPTY, Index, read_index
from holdall.stores.git.indexfile import IndexFile
from holdall.stores.git.journal import Journal
from holdall.stores.git.locks import Busy, is_ours, release, run_alone, run_under
from holdall.stores.git.mending import find_undone
from holdall.stores.git.objects import Objects
from holdall.stores.git.program import Git
from holdall.stores.git.refs import Head, Refs
from holdall.stores.git.worktree import PathChange, WorkTree, check_apart
from holdall.stores.oserrors import typed

_log = logging.getLogger("holdall")

_PATIENCE = 1.0
_PATIENCE_IN_HOOK = 10.0
_BUSY = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")
T = TypeVar("T")


class Moved(Exception):
    """Another program moved the branch or the index: begin again."""


class Repository:
    """A repository that is there; the arguments are those of `GitStore`."""

    def __init__(self, folder: str, author: str | None, durable: bool, timeout: float) -> None:
        self.top = folder
        self.git = Git(folder, timeout, durable)
        self.durable = durable
        self.algorithm, self.private = discover(self.git)
        private = self.private
        # See gitrepository-layout(5) on linked work trees.
        self.shared = os.path.normpath(os.path.join(private, text(f"{private}/commondir")))
        self.objects = Objects(self.git, f"{self.shared}/objects", self.algorithm, durable)
        self.own = f"{private}/holdall"
        self.index_path = f"{private}/index"
        self._index_lock = f"{self.own}/index.lock", f"{private}/index.lock"
        self._index_file = IndexFile(self.index_path, f"{self.own}/index", durable)
        self.configuration = Configuration(self.git, folder, private, self.shared, author)
        self.refs = Refs(self.configuration, private, self.shared, self.own, durable)
        self.commits = Commits(self.configuration, self.git, self.objects, self.own)
        self.tree = WorkTree(folder)
        self.drafts = Drafts(self)
        there = os.stat(private)
        # A folder that others may write to is one that people share: they finish each other's changes.
        mode = 0o600 | (there.st_mode & 0o022) | (there.st_mode & 0o022) << 1
        self._journal = Journal(self.own, self.tree, durable, mode)
        self._identity = there.st_dev, there.st_ino
        self.pending = self._journal.pending
        self.latest: Index = EMPTY
        """The index as it was read or written last; `index` looks for a newer one."""
        self._after: list[Callable[[], object]] = []
        self._outwaited: object = None
        self._mended: object = None
        self._given_up: object = None
        if self.configuration.get("extensions.refstorage") not in (None, "files"):
            raise UnsupportedOperation(
                "expected a repository that keeps its refs as files, got another extensions.refStorage"
            )
        self.fold = self.configuration.is_on("core.ignorecase")
        try:
            os.makedirs(self.own, exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self._writable = False
            return  # it can be read at least
        if os.stat(self.own).st_dev != os.stat(folder).st_dev:
            raise StoreUnavailableError(
                "the work tree and its .git are on two file systems, and files can't be moved between them"
            )
        self._writable = os.access(self.own, os.W_OK)
        self.drafts.sweep()
        if (self.pending() or self._is_locked()) and self._writable:
            self.locked(lambda: self._unlock_all(self.refs.head().ref))

    def close(self) -> None:
        self.objects.close()
        self.configuration.close()

    def index(self) -> Index:
        """Return what git tracks now."""
        while True:
            try:
                found = os.stat(self.index_path)
            except FileNotFoundError:
                if self.pending() or self.refs.head().commit is None:
                    return EMPTY
                # Unless the first commit came just now, what was committed would seem to be deleted.
                if os.path.exists(self.index_path):
                    continue
                raise IntegrityError(
                    "the repository has commits and no index: `git reset` makes one, and `git checkout .` "
                    "brings the files"
                ) from None
            index = self.latest
            if index.signature == (found.st_mtime_ns, found.st_ino, found.st_size):
                return index
            index = self.latest = read_index(self.index_path, self.algorithm, self.fold)
            return index

    def learn(self) -> None:
        """Read git's configuration, if it is another one by now."""
        try:
            self.configuration.learn()
        except StoreUnavailableError:
            self.check_same()
            raise

    def converts(self, path: str) -> bool:
        """Whether git would keep other bytes of a file than those in it."""
        return self.configuration.converts(path, self.latest.has_attributes)

    def is_suspect(self) -> bool:
        """Whether the index that was read last is git's, and was not compared yet with what was committed."""
        return self.latest.by_git and self._writable and self.latest.signature != self._mended

    def compare(self) -> None:
        """Look whether the index has what was committed, unless another process holds the lock for long."""
        if self.latest.signature == self._given_up:
            return
        try:
            self.locked(lambda: None, _PATIENCE)
        except Busy:
            self._given_up = self.latest.signature

    def locked(self, act: Callable[[], T], patience: float | None = None) -> T:
        """Call a function while all others of holdall are kept away, once what a killed one left is finished.

        Raises:
            Busy: Waiting for the lock took longer than `patience`, in seconds; None waits forever.
            StoreUnavailableError: The repository isn't there any more.
        """
        after: list[Callable[[], object]] = []

        def work() -> T:
            self.check_same()
            if self.pending():
                self._recover()
            self.index()
            if self.is_suspect():
                self._mend()
            self._after = after
            return act()

        # The commit that a hook belongs to holds the lock, and waits for the hook.
        in_hook = patience is None and os.environ.get("HOLDALL_IN_HOOK") == self.own
        try:
            with typed("write"):
                result = run_alone(self._lock_file(), _PATIENCE_IN_HOOK if in_hook else patience, work)
        except Busy:
            if not in_hook:
                raise
            raise StoreUnavailableError(
                "the commit that calls this hook holds the lock until the hook ends: a hook can't write to "
                "its own store"
            ) from None
        for action in after:
            try:
                action()
            except StoreError as error:
                _log.warning("the commit was made, but a step after it failed: %s", error)
        return result

    def _lock_file(self) -> io.FileIO:
        self.check_same()
        try:
            return io.FileIO(f"{self.own}/lock", "ab")
        except FileNotFoundError:
            os.makedirs(self.own, exist_ok=True)
            return io.FileIO(f"{self.own}/lock", "ab")

    def check_same(self) -> None:
        """Refuse to go on in a repository that was removed, or that another one was put in place of."""
        try:
            found = os.stat(self.private)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            what = "was removed" if found is None else "was replaced"
            raise StoreUnavailableError(
                f"the repository {self.private!r} {what} since this store was opened: open the store again"
            )

    def commit(self, changes: Sequence[PathChange], message: str) -> bytes | None:
        """Change files, and commit that; the commit, or None where none is needed. The lock is held.

        Raises:
            KeyConflictError: Something is in the way.
            Moved: Another program moved the branch or the index.
        """
        check_apart(changes)
        head = self.refs.head()
        before = None if head.commit is None else self.objects.root(head.commit)
        after = self._graft_tree(before, changes)
        unchanged = not self.objects.tree(after).raws if before is None else before == after
        made = None if unchanged else self._commit_object(after, head.commit, message)
        self.land(head, made, changes, f"commit: {message.splitlines()[0]}")
        return made

    def _graft_tree(self, root: bytes | None, changes: Sequence[PathChange]) -> bytes:
        """Write the tree that a tree becomes by changes."""
        entries = {
            os.fsencode(path): None if draft is None else (b"%o" % mode, draft.oid)
            for path, draft, mode in changes
        }
        return self.objects.graft(root, entries)

    def check_idle(self) -> None:
        """Refuse to go on while a person merges, rebases or the like, which moves the branch."""
        name = self._under_way()
        if name is not None:
            raise StoreUnavailableError(
                f"a person's merge or rebase is under way in this work tree ({name}): finish it first"
            )

    def _under_way(self) -> str | None:
        return next((name for name in _BUSY if os.path.exists(f"{self.private}/{name}")), None)

    def _commit_object(self, tree: bytes, parent: bytes | None, message: str) -> bytes:
        self.configuration.identity()
        self.check_idle()
        if self.configuration.hook("post-commit"):
            self._after.append(lambda: self.git.call("hook", "run", "--ignore-missing", "post-commit"))
        return self.commits.make(
            tree, [] if parent is None else [parent], self.commits.ask_hooks(tree, message)
        )

    def land(self, head: Head, made: bytes | None, changes: Sequence[PathChange], reflog: str) -> None:
        """Let files, branch and index be what a commit says; None leaves the branch. The lock is held.

        Raises:
            Moved: The branch isn't `head` any more, or the index was changed.
        """
        index = self.index()
        begun: list[bool] = []
        try:
            run_under([self._index_lock], lambda: self._land(index, head, made, changes, reflog, begun))
        except BaseException as error:
            # Whatever came in between, an interrupt included: no change is left half-done.
            if not self._settle(error, bool(begun)):
                raise
            _log.warning("the change was made, although %s", error)

    def _land(
        self,
        index: Index,
        head: Head,
        made: bytes | None,
        changes: Sequence[PathChange],
        reflog: str,
        begun: list[bool],
    ) -> None:
        if self.index().signature != index.signature or self.is_suspect():
            raise Moved
        gone = {os.fsencode(change.path): None for change in changes if change.draft is None}
        for change in changes:
            if change.draft is not None:
                try:
                    self.tree.make_room(index, os.fsencode(change.path), gone)
                except KeyConflictError as error:
                    # The path, which the store knows the key of.
                    error.key = change.path
                    raise
        if len(changes) > 1:
            # Half of a commit that the other half can't follow could never be finished.
            for folder in {f"{self.top}/{change.path}".rpartition("/")[0] for change in changes}:
                if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, "Permission denied", folder)

        def write() -> None:
            # The old value is checked while git can't change it, as `git update-ref` does.
            if self.refs.head() != head:
                raise Moved
            self._journal.write(head, made, changes, reflog)
            begun.append(True)
            self._move(head, made, changes, reflog)

        if made is None or self.configuration.hook("reference-transaction"):
            write()  # git itself takes the lock of the branch
        else:
            self.refs.locked(head.ref, write)

    def _settle(self, error: BaseException, begun: bool) -> bool:
        """Finish or forget a change that an error stopped; whether it is made, so that the error is none.

        `begun` says whether the journal was written. What can't be finished now is finished by the next call.
        """
        of_system = isinstance(error, OSError) and not isinstance(error, StoreError)
        try:
            if not self.pending():
                return begun and of_system
            return self._recover() and isinstance(error, Exception)
        except (OSError, StoreError) as again:
            begun_only = "; the change was begun and may be visible: the next call finishes it"
            if isinstance(error, OSError) and of_system:
                # Not by `translate`, which says of a full disk that nothing was changed.
                is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                why = f"the file system can't write: {error.strerror or error}"
                kind = ReadOnlyError if error.errno == errno.EROFS else StoreUnavailableError
                raise kind(f"{'the disk or a quota is full' if is_full else why}{begun_only}") from again
            if isinstance(error, StoreError):
                error.message += begun_only
            return False

    def _move(self, head: Head, made: bytes | None, changes: Sequence[PathChange], reflog: str) -> None:
        """Do the rest once the journal is written and all locks are held; it can be repeated."""
        by_git = made is not None and self.configuration.hook("reference-transaction")
        if by_git and made is not None and self.refs.ref_or_head(head.ref) != made:
            old = head.commit.hex() if head.commit else "0" * (2 * self.objects.width)
            try:
                self.git.run("update-ref", "-m", reflog, "HEAD", made.hex(), old, HOLDALL_IN_HOOK=self.own)
            except StoreError:
                self._journal.forget()
                raise
        entries: dict[bytes, tuple[int, bytes, os.stat_result] | None] = {}
        for change in sorted(changes, key=lambda change: change.draft is not None):
            if change.draft is None:
                self.tree.remove(change.path)
                entries[os.fsencode(change.path)] = None
            else:
                place = self.tree.place(change, change.draft)
                entries[os.fsencode(change.path)] = change.mode, change.draft.oid, place
        if made is not None and not by_git and self.refs.ref_or_head(head.ref) != made:
            self.refs.move(head, made, reflog)
        if self.durable:
            for folder in {change.path.rpartition("/")[0] for change in changes}:
                self.tree.sync(folder)
        self._write_index(self.index().changed(entries, self.fold))
        self._journal.forget()

    def tidy_up(self) -> None:
        """Let git make a pack of loose objects, if there are many."""
        try:
            self.git.call("gc", "--auto", "--quiet")
        except StoreError as error:
            _log.warning("git gc: %s", error)

    def wait_for_git(self) -> bool:
        """Wait until no other git is changing the work tree, a second at most for each; whether one was."""
        waited, (_, lock) = False, self._index_lock
        deadline = time.monotonic() + _PATIENCE
        while (found := signature(lock)) is not None and found != self._outwaited:
            if time.monotonic() > deadline:
                # A person may be writing a commit message, or a killed git left it.
                self._outwaited = found
                return False
            time.sleep(0.0005)  # git's lock is a file, and nothing signals its removal
            waited = True
        return waited

    def _is_locked(self) -> bool:
        """Return whether a lock of git is ours: a holdall process commits, or was killed while it did."""
        return self.refs.is_locked() or is_ours(*self._index_lock)

    def _unlock_all(self, ref: str) -> None:
        """Give back the locks of a killed writer. Ours is held."""
        release([self._index_lock])
        self.refs.unlock(ref)

    def _write_index(self, index: Index) -> None:
        index.signature = self._index_file.write(index.packed(self.algorithm))
        self.latest = index

    def _recover(self) -> bool:
        """Finish the change of a killed writer if any of it is visible, otherwise discard it; return
        which."""
        record = self._journal.read()
        if record is None:
            self._unlock_all(self.refs.head().ref)
            self._journal.forget()
            return False
        (ref, old), made, reflog, changes, seen = record
        now = self.refs.ref_or_head(ref)
        seen |= made is not None and now == made
        self._unlock_all(ref)
        if not seen:
            self._journal.forget()
            for change in changes:
                if change.draft is not None:
                    self.drafts.drop(change.draft)
            _log.info("discarded a change that a killed writer hadn't begun: %s", reflog)
            return False
        changes = [found for change in changes if (found := self.drafts.find(change)) is not None]

        def finish() -> None:
            after = made
            if after is not None and now not in (old, after):
                # Another program committed since: this comes on top of that.
                root = None if now is None else self.objects.root(now)
                tree = self._graft_tree(root, changes)
                after = self._commit_object(tree, now, reflog.partition(": ")[2])
            if after is None or after == now:
                self._move(Head(ref, now), None, changes, reflog)
            else:
                self.refs.locked(ref, lambda: self._move(Head(ref, now), after, changes, reflog))

        run_under([self._index_lock], finish)
        _log.info("finished a change that a killed writer had begun: %s", reflog)
        return True

    def _mend(self) -> None:
        """Restore what a `git commit` took out of the index, which read the index before our change and wrote
        it after that: git reads the index before it locks it, and finds out too late that the branch moved.
        """
        index = self.latest
        head = self.refs.head()
        if index.signature is None or index.unmerged or self._under_way():
            self._mended = index.signature
            return
        entries = find_undone(self, head.commit, index.signature[0] / 1e9)
        if not entries:
            self._mended = index.signature
            return

        def write() -> None:
            # If it is another one by now, the next call looks again.
            if self.index() is index and self.refs.head() == head:
                self._write_index(index.changed(entries, self.fold))
                _log.info("restored %d changes in the index that a slower git had undone", len(entries))

        run_under([self._index_lock], write)
