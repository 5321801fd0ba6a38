"""Keeping up with a remote: fetch, take over, push; what can't be sent waits, and nothing is lost.

What is new on both sides becomes one line of history: our commits are made again on top of theirs, as a
rebase does, without touching a file that is the same on both. Keys that changed on both sides stop that.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from holdall.errors import ConcurrencyError, InvalidArgumentError, StoreError, StoreUnavailableError
from holdall.ranges import CHUNK
from holdall.stores.git.names import key_of
from holdall.stores.git.objects import FOLDER
from holdall.stores.git.repository import Change, Draft, Head, Moved

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from holdall.stores.git.repository import Repository

__all__ = ["Remote"]

_log = logging.getLogger("holdall")

_TRIES = 8
_Entry = tuple[bytes, bytes]


class Remote:
    """One remote of a repository.

    Args:
        repository: The repository.
        name: The remote's.
        interval: After how many seconds a read fetches; None for never.
        push: `background`, `now` or None.
        locked: Locks the repository, as the store does.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        interval: float | None,
        push: str | None,
        locked: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._repository = repository
        self._name = name
        self._interval = interval
        self._push = push
        self._locked = locked
        self._pulled = -float("inf")
        self._syncing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Condition()
        self._asked = self._done = 0
        self._ending = False
        self._owner = os.getpid()
        code, _, _ = repository.git.call("remote", "get-url", name)
        if code:
            raise InvalidArgumentError(
                f"the repository has no remote {name!r}: run `git remote add {name} URL`"
            )

    # --- when -----------------------------------------------------------------------------------------

    def before_read(self) -> None:
        """Take over what is new there, if the last time is long enough ago."""
        if self._interval is None or time.monotonic() - self._pulled < self._interval:
            return
        if not self._syncing.acquire(blocking=self._interval == 0):
            return  # another thread is at it
        try:
            if time.monotonic() - self._pulled < self._interval:
                return
            try:
                self._pull(None)
            except (StoreUnavailableError, ConcurrencyError) as error:
                # The store goes on with what it has, and tries again later; `sync` tells.
                _log.warning("the remote %r can't be pulled: %s", self._name, error)
            finally:
                self._pulled = time.monotonic()
        finally:
            self._syncing.release()

    def after_write(self) -> None:
        """Send what is new here, now or soon."""
        if self._push == "now":
            try:
                self.sync(None)
            except StoreUnavailableError as error:
                _log.warning("the commits wait, since the remote %r can't be reached: %s", self._name, error)
        elif self._push == "background":
            with self._wake:
                if self._owner != os.getpid():
                    self._owner, self._thread = os.getpid(), None
                self._asked += 1
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="holdall-push", daemon=True)
                    self._thread.start()
                self._wake.notify_all()

    def _work(self) -> None:
        while True:
            with self._wake:
                while self._asked == self._done and not self._ending:
                    self._wake.wait()
                if self._asked == self._done:
                    return
                until = self._asked
            try:
                self.sync(None)
            except StoreError as error:
                _log.warning("the commits for %r wait: %s", self._name, error)
            with self._wake:
                self._done = until
                self._wake.notify_all()

    def close(self) -> None:
        """Let the push end that is under way or due."""
        thread = self._thread
        if thread is not None and self._owner == os.getpid():
            with self._wake:
                self._ending = True
                self._wake.notify_all()
            thread.join(self._repository.git.timeout * 2)

    # --- what -----------------------------------------------------------------------------------------

    def _branch(self) -> str:
        ref = self._repository.head().ref
        if not ref.startswith("refs/heads/"):
            raise StoreUnavailableError(
                "no branch is checked out, so none can be pushed: `git switch` to one"
            )
        return ref[len("refs/heads/") :]

    def _tracking(self, branch: str) -> str:
        return f"refs/remotes/{self._name}/{branch}"

    def sync(self, prefer: str | None) -> None:
        """Fetch, take over, push, until both sides are the same."""
        with self._syncing:
            for number in range(_TRIES):
                self._pull(prefer)
                branch = self._branch()
                head = self._repository.ref(f"refs/heads/{branch}")
                if head is None or head == self._repository.ref(self._tracking(branch)):
                    break
                code, printed, said = self._repository.git.call(
                    *("push", "--porcelain", self._name, f"{head.hex()}:refs/heads/{branch}"), network=True
                )
                if code == 0:
                    # A push by URL or by an old git leaves the tracking ref; the next fetch sets it.
                    break
                rejected = b"[rejected]" in printed or b"fetch first" in printed or b"lock" in printed
                rejected = rejected or "cannot lock ref" in said or "failed to update ref" in said
                if not rejected or b"hook declined" in printed:
                    told_by_git = said or printed.decode(errors="replace").strip()
                    raise StoreUnavailableError(f"git push to {self._name!r}: {told_by_git}")
                # Somebody was faster: again, on top of what they sent.
                time.sleep(0.01 * number)
            else:
                raise StoreUnavailableError(
                    f"{self._name!r} took commits of others {_TRIES} times meanwhile; what is here waits"
                )
            self._pulled = time.monotonic()

    def _pull(self, prefer: str | None) -> None:
        repository = self._repository
        branch = self._branch()
        tracking = self._tracking(branch)
        code, _, said = repository.git.call(
            *("fetch", "--quiet", "--no-write-fetch-head", self._name, f"+refs/heads/{branch}:{tracking}"),
            network=True,
        )
        if code:
            if "couldn't find remote ref" in said:
                return  # it is new there
            raise StoreUnavailableError(f"git fetch from {self._name!r}: {said}")
        theirs = repository.ref(tracking)
        if theirs is None:
            return
        while True:
            try:
                with self._locked():
                    self._take_over(theirs, tracking, prefer)
                return
            except Moved:
                continue

    def _take_over(self, theirs: bytes, tracking: str, prefer: str | None) -> None:
        """Let the branch be what is there, and what is new here on top. The lock is held."""
        repository, objects = self._repository, self._repository.objects
        head = repository.head()
        if head.commit == theirs:
            return
        base: bytes | None = None
        if head.commit is not None:
            code, printed, _ = repository.git.call("merge-base", head.commit.hex(), theirs.hex())
            base = bytes.fromhex(printed.split()[0].decode()) if code == 0 else None
            if base == theirs:
                return
        root = None if base is None else objects.root(base)
        ours_root = None if head.commit is None else objects.root(head.commit)
        there = {path: now for path, _, now in objects.differ(root, objects.root(theirs))}
        tip = theirs
        if head.commit is not None and head.commit != base:
            here = {path: now for path, _, now in objects.differ(root, ours_root)}
            clashing = _clashes(here, there)
            if clashing and prefer is None:
                keys = [key_of(path, repository.fold) or os.fsdecode(path) for path in sorted(clashing)]
                shown = ", ".join(map(repr, keys[:5])) + (", ..." if len(keys) > 5 else "")
                raise ConcurrencyError(
                    f"{shown} changed both here and at {self._name!r}. Both are kept: ours in "
                    f"HEAD, theirs in {tracking} (store.at({tracking!r})). Decide by sync(prefer='ours') or "
                    "sync(prefer='theirs'), or merge with git",
                    key=keys[0],
                )
            if clashing and prefer == "theirs":
                # What loses stays under a ref of its own.
                name = f"refs/holdall/replaced/{head.commit.hex()}"
                repository.git.run("update-ref", name, head.commit.hex())
            tip = self._replayed(head.commit, base, theirs, clashing if prefer == "theirs" else set())
        self._check_out(head, tip, ours_root)

    def _replayed(self, ours: bytes, base: bytes | None, onto: bytes, left_out: set[bytes]) -> bytes:
        """Our commits since the base, made again on top of another."""
        repository, objects = self._repository, self._repository.objects
        since = () if base is None else (f"^{base.hex()}",)
        printed = repository.git.run(
            "rev-list", "--reverse", "--topo-order", "--first-parent", ours.hex(), *since
        )
        _, committer = repository.identity()
        for name in printed.split():
            commit = bytes.fromhex(name.decode())
            content = objects.read(commit)
            header, _, message = content.partition(b"\n\n")
            lines = header.split(b"\n")
            parents = [bytes.fromhex(line[7:].decode()) for line in lines if line.startswith(b"parent ")]
            before = objects.root(parents[0]) if parents else None
            changes = {
                path: now
                for path, _, now in objects.differ(before, objects.root(commit))
                if not any(path == other or path.startswith(other + b"/") for other in left_out)
            }
            tree = objects.graft(objects.root(onto), changes) or objects.write(b"tree", b"")
            if tree == objects.root(onto):
                continue  # they have it already
            author = next(line for line in lines if line.startswith(b"author "))
            moment = next(line for line in lines if line.startswith(b"committer ")).rsplit(b" ", 2)[1:]
            kept = [line for line in lines if line.startswith(b"encoding ")]
            made = [
                b"tree " + tree.hex().encode(),
                b"parent " + onto.hex().encode(),
                author,
                b"committer " + committer.encode() + b" " + b" ".join(moment),
                *kept,
            ]
            onto = objects.write(b"commit", b"\n".join(made) + b"\n\n" + message)
        return onto

    def _check_out(self, head: Head, tip: bytes, before: bytes | None) -> None:
        """Let branch, index and files be what a commit holds, but for nothing that a person has changed."""
        repository, objects = self._repository, self._repository.objects
        # As git prints them: two letters, a space, the path.
        status = repository.git.run("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames")
        dirty = {line[3:] for line in status.split(b"\0")}
        changes: list[Change] = []
        drafts: list[Draft] = []
        try:
            for path, was, now in objects.differ(before, objects.root(tip)):
                for entry in (was, now):
                    if entry is not None and entry[0] in (FOLDER, b"120000", b"160000"):
                        raise StoreUnavailableError(
                            f"{os.fsdecode(path)!r} is a link or a submodule, which is not taken over: "
                            "run `git pull --rebase`"
                        )
                name = os.fsdecode(path)
                if path in dirty:
                    raise StoreUnavailableError(
                        f"{name!r} has changes that nobody committed, and {self._name!r} has a newer one: "
                        "commit or undo them"
                    )
                if now is None:
                    changes.append(Change(name, None))
                    continue
                pieces = self._checked_out(name, now[1])
                draft = repository.draft(pieces, name)
                drafts.append(draft)
                changes.append(Change(name, draft._replace(oid=now[1]), int(now[0], 8)))
            repository.land(head, tip, changes, f"pull: {self._name}")
        finally:
            for draft in drafts:
                repository.drop(draft)

    def _checked_out(self, name: str, oid: bytes) -> Iterator[bytes]:
        repository = self._repository
        if repository.converts(name):
            with repository.git.streaming("cat-file", "--filters", f"--path={name}", oid.hex()) as source:
                while piece := source.read(CHUNK):
                    yield piece
        elif repository.objects.size(oid) > CHUNK:
            yield from repository.objects.stream(oid)
        else:
            yield repository.objects.read(oid)


def _clashes(here: Mapping[bytes, _Entry | None], there: Mapping[bytes, _Entry | None]) -> set[bytes]:
    """The paths that can't be as both sides have them."""
    found = {path for path, now in here.items() if path in there and there[path] != now}
    for one, other in ((here, there), (there, here)):
        added = {path for path, now in other.items() if now is not None}
        for path, now in one.items():
            end = path.rfind(b"/")
            while now is not None and end > 0:
                # A blob on one side, a folder on the other.
                if path[:end] in added:
                    found |= {path, path[:end]}
                end = path.rfind(b"/", 0, end)
    return found
