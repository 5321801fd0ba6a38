"""A store over a git repository: blobs are committed files, and old versions can be restored."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from holdall.arguments import check_choice
from holdall.blob import ATOMIC, check_expected
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    naming,
)
from holdall.paths import absolute
from holdall.store import ANY, Attributes, Body, Can, Expect, Info, Piece, Put
from holdall.stores.git.checkout import convert_together
from holdall.stores.git.creation import check_place, make
from holdall.stores.git.index import Entry
from holdall.stores.git.names import key_of, path_of
from holdall.stores.git.options import check_options
from holdall.stores.git.program import Git
from holdall.stores.git.reading import WorkTreeStore
from holdall.stores.git.repository import Moved, Repository
from holdall.stores.git.revision import GitRevision
from holdall.stores.git.worktree import Draft, PathChange
from holdall.stores.nofollow import READ, open_file
from holdall.stores.oserrors import typed

_GC = 1000


class GitStore(WorkTreeStore):
    """A store in a git repository: the files that git tracks in a work tree are the blobs, and every put and
    delete is a commit (`Add a/b`, `Update a/b`, `Delete a/b`).

    A put of equal bytes commits nothing; `put_many` and `delete_many` are one commit each. After a call the
    work tree is as clean as before: files that a person has edited or staged stay so, and aren't part of
    the commit. Keys are spelled as in `FilesystemStore`; a segment that some system takes for
    `.git` is escaped too. Links and submodules aren't blobs (`left_out` lists them), nor are files that git
    doesn't track, which are never overwritten: a put there raises `KeyConflictError`, and `InvalidKeyError`
    where git ignores it. A key in conflict (after a merge) is a blob while it has a file, and can't be put.

    The ETag is the name of git's object and the time of the file. Processes lock each other out while they
    commit, and take git's own locks, so that people may use git in the same work tree.

    Args:
        path: The work tree. If it lacks a repository, the first put makes one; until then the store is empty.
        author: The author of commits, such as `Ann <ann@example.org>`; by default the person that git's
            configuration names.
        durable: Whether an acknowledged commit is on the disk (fsync).
        remote: A remote of the repository to keep up with, by its name; True is `origin`.
        pull_interval: Seconds after which a read fetches first; 0 means always, None never.
        push: When commits are pushed: `background`, `now` (before the call returns), or None (by `sync`).
        timeout: The longest that a call waits for the remote, in seconds.
        init: Whether a repository may be made inside the work tree of another one.

    Raises:
        StoreUnavailableError: It can't be opened, it is inside another work tree, or git isn't installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with GitStore(folder, author="Ann <ann@example.org>") as store:
    ...         store["notes/today.txt"] = b"hello"
    ...         store["notes/today.txt"] = b"bye"
    ...         [revision.message for revision in store.history()], store.at("HEAD~1")["notes/today.txt"]
    (['Update notes/today.txt', 'Add notes/today.txt'], b'hello')
    """

    can = ATOMIC | Can.BULK
    schemes = ("git+file",)
    _together = 1000  # they are one commit, which writes the index whole

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
        given = check_options(path, author, remote, pull_interval, push, timeout)
        self._given = absolute(given)
        self._author, self._durable, self._timeout = author, durable, timeout
        self._remote_given, self._pull_interval, self._push = remote, pull_interval, push
        self._init = init
        # Where it begins is by chance, so that many short processes tidy up now and then too.
        self._commits = int.from_bytes(os.urandom(2), "little") % _GC
        super().__init__(os.path.realpath(self._given))
        repository = self._find_repository()
        if repository is None:
            check_place(self._top, init)
            if remote:
                raise InvalidArgumentError(
                    f"{given!r} isn't a repository, and so has no remote: run `git clone`, or `git init` and "
                    "`git remote add`"
                )
        elif remote:
            from holdall.stores.git.remote import Remote

            name = "origin" if remote is True else remote
            self._remote = Remote(repository, name, pull_interval, push, self._run_locked)

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

    def _open(self) -> Repository:
        return Repository(self._top, self._author, self._durable, self._timeout)

    @typed("make a repository")
    def _make_repository(self) -> Repository:
        """The repository, which is made if there is none."""
        repository = self._find_repository()
        if repository is None:
            check_place(self._top, self._init)
            make(self._top, Git("/", self._timeout, self._durable), self._durable)
            repository = self._repository
        return repository

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        draft = self._draft(key, body)
        try:
            return self._commit([(key, draft, expect)])[0]
        finally:
            self._repository.drafts.drop(draft)

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        drafts: dict[str, Draft] = {}
        order: list[str] = []
        try:
            for key, body, _ in items:
                with naming(key):
                    draft = self._draft(key, body, learn=not drafts)
                if key in drafts:
                    self._repository.drafts.drop(drafts[key])
                drafts[key] = draft
                order.append(key)
            drafts = self._converted(drafts)
            infos = self._commit([(key, draft, ANY) for key, draft in drafts.items()]) if drafts else []
        finally:
            for draft in drafts.values():
                self._repository.drafts.drop(draft)
        by_key = {info.key: info for info in infos}
        return iter([by_key[key] for key in order])

    def _delete(self, key: str, expect: Expect) -> bool:
        return bool(self._commit([(key, None, expect)]))

    def _delete_many(self, keys: Iterable[str]) -> int:
        return len(self._commit([(key, None, ANY) for key in keys]))

    def _clear(self) -> None:
        self._delete_many(list(self._keys("", "")))

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        return self._move_together({source: target}, expect)[0]

    def _move_many(self, moves: Mapping[str, str]) -> bool:
        self._move_together(moves, ANY)
        return True

    @typed("write")
    def _move_together(self, moves: Mapping[str, str], expect: Expect) -> list[Info]:
        message = _message([f"Move {source} to {target}" for source, target in moves.items()])
        while True:
            drafts: dict[str, Draft] = {}
            etags: dict[str, Expect] = {}
            try:
                for source, target in moves.items():
                    info, pieces = self._read(source, 0, None)
                    etags[source] = info.etag
                    with naming(target):
                        drafts[target] = self._draft(target, pieces, learn=not drafts)
                drafts = self._converted(drafts)
                put = [(target, draft, expect) for target, draft in drafts.items()]
                return self._commit([*put, *((key, None, etag) for key, etag in etags.items())], message)
            except ConcurrencyError as error:
                if error.key not in moves:
                    raise
                # It changed since it was read: move the newer bytes.
            finally:
                for draft in drafts.values():
                    self._repository.drafts.drop(draft)

    @typed("write")
    def _draft(self, key: str, body: Body, learn: bool = True) -> Draft:
        repository = self._make_repository()
        if learn:
            repository.learn()
        entry = repository.index().entries.get(key)
        path = path_of(key, repository.fold) if entry is None else entry.path
        if entry is None and repository.configuration.is_ignored(path):
            raise InvalidKeyError(
                "git ignores this path (`git check-ignore -v` says why): change the rule, or "
                "`git add --force` it"
            )
        return repository.drafts.make(body, path)

    @typed("write")
    def _converted(self, drafts: dict[str, Draft]) -> dict[str, Draft]:
        """Return drafts as the files of attributes among them, if any, want them."""
        if not any(key.endswith(".gitattributes") for key in drafts):
            return drafts
        paths = {key: self._path_of(key) for key in drafts}
        made = convert_together(self._repository, {paths[key]: draft for key, draft in drafts.items()})
        return {key: made[path] for key, path in paths.items()}

    @typed("write")
    def _commit(
        self, steps: Sequence[tuple[str, Draft | None, Expect]], message: str | None = None
    ) -> list[Info]:
        """Put and delete, in one commit; what was put, and for what was deleted what it was."""
        repository = self._find_repository()
        if repository is None:
            # Nothing is there to be deleted; what is put has made the repository.
            for key, _, expect in steps:
                check_expected(None, expect, key)
            return []
        if all(draft is None for _, draft, _ in steps):
            repository.learn()  # a draft has learned
        while True:
            try:
                infos, made = self._run_locked(lambda: self._try(steps, message))
                break
            except Moved:
                continue
        if made is not None:
            self._commits += 1
            if self._commits % _GC == 0:
                # As git does after a commit: thousands of loose objects become a pack, in the background.
                repository.tidy_up()
            if self._remote is not None:
                self._remote.after_write()
        return infos

    def _try(
        self, steps: Sequence[tuple[str, Draft | None, Expect]], message: str | None
    ) -> tuple[list[Info], bytes | None]:
        repository = self._repository
        index = repository.index()
        changes: list[PathChange] = []
        lines: list[str] = []
        infos: list[Info] = []
        for key, draft, expect in steps:
            entry = index.entries.get(key)
            if entry is not None and entry.unmerged:
                raise KeyConflictError(
                    "the key is in conflict, as after a merge: resolve it, then `git add` or `git rm` it",
                    key=key,
                )
            now = None if entry is None else self._now(key)
            check_expected(None if now is None else now.etag, expect, key)
            if draft is None:
                # Something that a person has put in its place, such as a link, isn't the blob.
                if entry is not None and (now is not None or not os.path.lexists(self._base + entry.path)):
                    changes.append(PathChange(entry.path, None, entry.mode))
                    lines.append(f"Delete {key}")
                if now is not None:
                    infos.append(now)
                continue
            path = path_of(key, repository.fold) if entry is None else entry.path
            if entry is None and index.has(os.fsencode(path)):
                raise KeyConflictError(
                    "git tracks a link or a submodule there: `git rm` it, or use another key",
                    key=key,
                )
            if entry is not None and now is not None and expect is ANY and self._is_same(entry, draft):
                infos.append(now)
                continue
            changes.append(PathChange(path, draft, 0o100644 if entry is None else entry.mode))
            lines.append(f"{'Add' if entry is None else 'Update'} {key}")
            infos.append(Info(key, draft.size, f"{draft.oid.hex()}-{draft.stamp:x}", draft.stamp / 1e9))
        made = None
        if changes:
            try:
                made = repository.commit(changes, message or _message(lines))
            except KeyConflictError as error:
                if error.key is not None:
                    error.key = key_of(os.fsencode(error.key), repository.fold)
                raise
        return infos, made

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

    @typed("write")
    def revert(self, key: str, revision: str) -> Info | None:
        """Restore a key to its state at a revision by a new commit; return None if it was absent.

        Args:
            key: Which.
            revision: As `at` takes it.

        Raises:
            InvalidArgumentError: The revision doesn't name a commit.
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
            with naming(key):
                return self._commit([(key, draft, ANY)], message)[0]
        finally:
            self._repository.drafts.drop(draft)

    def _as_checked_out(self, past: GitRevision, key: str) -> Iterator[Piece]:
        path = path_of(key, self._repository.fold)
        if not self._repository.converts(path):
            return past._read(key, 0, None)[1]
        oid = past._blob(key)
        return self._repository.git.streaming("cat-file", "--filters", f"--path={path}", oid.hex())

    @typed("sync")
    def sync(self, *, prefer: str | None = None) -> None:
        """Fetch, merge the new commits of the remote, and push the new commits from here.

        Args:
            prefer: What to do with keys that changed on both sides: `ours` or `theirs` wins (the other side
                stays in the history or under a ref); None raises.

        Raises:
            ConcurrencyError: A key changed on both sides. Both are kept; see the message.
            StoreUnavailableError: The remote can't be reached. The commits wait to be pushed.
            InvalidArgumentError: The store was opened without a remote.
        """
        if self._closed:
            raise self._closed_error()
        if self._remote is None:
            raise InvalidArgumentError("this store has no remote; open it with remote=True")
        if prefer is not None:
            check_choice(prefer, "prefer", ("ours", "theirs"))
        self._remote.sync(prefer)

    def _close(self) -> None:
        try:
            if self._remote is not None:
                self._remote.close()
        finally:
            if self._opened_repository is not None:
                self._opened_repository.close()


def _message(lines: Sequence[str]) -> str:
    if len(lines) == 1:
        return lines[0]
    shown = list(lines[:100])
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    verbs = {
        word: sum(line.startswith(word) for line in lines) for word in ("Add", "Update", "Delete", "Move")
    }
    head = " and ".join(f"{word} {count}" for word, count in verbs.items() if count)
    return f"{head} blobs\n\n" + "\n".join(shown)
