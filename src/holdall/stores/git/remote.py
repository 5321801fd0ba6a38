"""Keeping up with a remote: fetch, take over, push; what can't be sent waits, and nothing is lost.

New commits on both sides become one line of history: our commits are made again on top of theirs, as a
rebase does, without touching a file that is the same on both. If a person has merged in between, it becomes
a merge. Keys that changed on both sides stop that.

Git's own merge (`git merge-tree --write-tree`) promises something else: it makes one file of the lines of
two, and brings a change of a file that the other side renamed to the new name, which can be switched off
since git 2.50 only. Nor does it let one side win key by key. To make 100 commits again among 5,000 files
takes it five times as long, since each needs a process.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from holdall.errors import (
    ConcurrencyError,
    InvalidArgumentError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
)
from holdall.forks import begin_anew
from holdall.stores.git.checkout import check_out
from holdall.stores.git.names import folders_of, is_allowed, key_of
from holdall.stores.git.objects import FOLDER
from holdall.stores.git.refs import Head
from holdall.stores.git.repository import Moved, Repository
from holdall.stores.git.worktree import Draft, PathChange
from holdall.stores.oserrors import typed
from holdall.threads import start

_log = logging.getLogger("holdall")

_TRIES = 8
_AGAIN, _LATER = 15.0, 600.0
"""Seconds until commits that could not be sent are tried again: at first, and at most."""
_Entry = tuple[bytes, bytes]


class Remote:
    """One remote of a repository.

    Args:
        repository: The repository.
        name: The remote's.
        interval: Seconds after which a read fetches; None for never.
        push: `background`, `now` or None.
        locked: Calls a function under the lock of the repository, as the store does.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        interval: float | None,
        push: str | None,
        locked: Callable[[Callable[[], None]], None],
    ) -> None:
        self._repository = repository
        self._name = name
        self._interval = interval
        self._push = push
        self._locked = locked
        self._pulled = -float("inf")
        self.begin()
        code, _, _ = repository.git.call("remote", "get-url", "--", name)
        if code:
            raise InvalidArgumentError(
                f"the repository has no remote {name!r}: run `git remote add {name} URL`"
            )
        begin_anew(self, Remote.begin)
        self._waiting = f"{repository.own}/unpushed"
        if push == "background" and os.path.exists(self._waiting):
            self.after_write()  # an earlier process could not send it

    def begin(self) -> None:
        """Begin without a thread, and with new locks."""
        self._syncing = threading.Lock()
        self._thread: threading.Thread | None = None
        # The lock itself is taken and given back in one step each, which no interrupt splits.
        self._awake = threading.Lock()
        self._wake = threading.Condition(self._awake)
        self._asked = self._done = 0
        self._ending = False

    def before_read(self) -> None:
        """Take over what is new there, if the last time is long enough ago."""
        if self._interval is None or time.monotonic() - self._pulled < self._interval:
            return
        if self._interval > 0 and self._syncing.locked():
            return  # another thread is at it
        # Only `with` takes a lock so that no interrupt keeps it.
        with self._syncing:
            if time.monotonic() - self._pulled < self._interval:
                return
            try:
                self._pull(None)
            except StoreError as error:
                # The store goes on with what it has, and tries again later; `sync` raises it.
                _log.warning("the remote %r can't be pulled: %s", self._name, error)
            finally:
                self._pulled = time.monotonic()

    def after_write(self) -> None:
        """Send what is new here, now or soon."""
        if self._push is not None:
            # So that another process sends it, should this one not come to it.
            try:
                os.close(os.open(self._waiting, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
            except OSError as error:
                _log.warning("other processes can't push the commits for %r: %s", self._name, error)
        if self._push == "now":
            try:
                self.sync(None)
            except StoreUnavailableError as error:
                _log.warning("the commits wait, since the remote %r can't be reached: %s", self._name, error)
        elif self._push == "background":
            with self._awake:
                self._asked += 1
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._work, name="holdall-push", daemon=True)
                    start(self._thread)
                self._wake.notify_all()

    def _work(self) -> None:
        pause: float | None = None
        while True:
            with self._awake:
                while self._asked == self._done and not self._ending:
                    if not self._wake.wait(pause):
                        break  # what could not be sent may be by now
                if self._ending and self._asked == self._done:
                    return
                until = self._asked
            try:
                self.sync(None)
                pause = None
            except StoreError as error:
                pause = _AGAIN if pause is None else min(2 * pause, _LATER)
                _log.warning("the commits for %r wait: %s", self._name, error)
            with self._awake:
                self._done = until
                self._wake.notify_all()

    def close(self) -> None:
        """Let the push end that is under way or due."""
        thread = self._thread
        if thread is not None:
            with self._awake:
                self._ending = True
                self._wake.notify_all()
            thread.join(self._repository.git.timeout * 2)

    def _branch(self) -> str:
        ref = self._repository.refs.head().ref
        if not ref.startswith("refs/heads/"):
            raise StoreUnavailableError(
                "no branch is checked out, so none can be pushed: `git switch` to one"
            )
        return ref[len("refs/heads/") :]

    def _tracking(self, branch: str) -> str:
        return f"refs/remotes/{self._name}/{branch}"

    @typed("sync")
    def sync(self, prefer: str | None) -> None:
        """Fetch, take over, push, until both sides are the same."""
        with self._syncing:
            for number in range(_TRIES):
                self._pull(prefer)
                branch = self._branch()
                head = self._repository.refs.ref(f"refs/heads/{branch}")
                if head is None or head == self._repository.refs.ref(self._tracking(branch)):
                    break
                code, output, errors = self._repository.git.call(
                    *("push", "--porcelain", self._name, f"{head.hex()}:refs/heads/{branch}"), network=True
                )
                if code == 0:
                    # A push by URL or by an old git leaves the tracking ref; the next fetch sets it.
                    break
                # A line of `--porcelain` for the ref: `!`, from and to, and why not.
                why = b"".join(line.split(b"\t")[-1] for line in output.splitlines() if line[:1] == b"!")
                rejected = b"[rejected]" in why or b"fetch first" in why or b"lock" in why
                rejected = rejected or "cannot lock ref" in errors or "failed to update ref" in errors
                if not rejected or b"hook declined" in why:
                    reason = errors or output.decode(errors="replace").strip()
                    raise StoreUnavailableError(f"git push to {self._name!r}: {reason}")
                # Another clone was faster: try again, on top of its commits.
                time.sleep(0.01 * number)
            else:
                raise StoreUnavailableError(
                    f"others pushed to {self._name!r} during each of {_TRIES} tries; the commits here "
                    "wait, so sync again"
                )
            self._pulled = time.monotonic()
            self._note_sent(f"refs/heads/{branch}", head)

    def _note_sent(self, ref: str, commit: bytes | None) -> None:
        try:
            os.unlink(self._waiting)
        except FileNotFoundError:
            return
        # A commit that came after the push, and before this, waits.
        if self._repository.refs.ref(ref) != commit:
            os.close(os.open(self._waiting, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))

    @typed("pull")
    def _pull(self, prefer: str | None) -> None:
        repository = self._repository
        branch = self._branch()
        tracking = self._tracking(branch)
        code, _, errors = repository.git.call(
            *("fetch", "--quiet", "--no-write-fetch-head", self._name, f"+refs/heads/{branch}:{tracking}"),
            network=True,
        )
        if code:
            if "couldn't find remote ref" in errors:
                return  # it is new there
            raise StoreUnavailableError(f"git fetch from {self._name!r}: {errors}")
        theirs = repository.refs.ref(tracking)
        if theirs is None:
            return
        while True:
            try:
                self._locked(lambda: self._take_over(branch, theirs, prefer))
                return
            except Moved:
                if self._branch() != branch:
                    # A person has switched to another one since the fetch.
                    self._pull(prefer)
                    return

    def _bases(self, ours: bytes, theirs: bytes) -> list[bytes]:
        """The last commits that both sides have."""
        repository = self._repository
        code, output, _ = repository.git.call("merge-base", "--all", ours.hex(), theirs.hex())
        if code and os.path.exists(f"{repository.shared}/shallow"):
            raise StoreUnavailableError(
                f"this clone is too shallow to see what it has in common with {self._name!r}: "
                f"run `git fetch --unshallow {self._name}`"
            )
        return [] if code else [bytes.fromhex(name.decode()) for name in output.split()]

    def _take_over(self, branch: str, theirs: bytes, prefer: str | None) -> None:
        """Let the branch be what is there, and what is new here on top. The lock is held."""
        repository, objects = self._repository, self._repository.objects
        tracking = self._tracking(branch)
        head = repository.refs.head()
        if head.ref != f"refs/heads/{branch}":
            raise Moved
        if head.commit == theirs:
            return
        bases = [] if head.commit is None else self._bases(head.commit, theirs)
        if theirs in bases:
            return
        repository.check_idle()
        ours_root = None if head.commit is None else objects.root(head.commit)
        tip = theirs
        if head.commit is not None and head.commit not in bases:
            # Branches that were merged both ways have several bases: what changed since any of them counts.
            here: dict[bytes, _Entry | None] = {}
            there: dict[bytes, _Entry | None] = {}
            for root in [objects.root(base) for base in bases] or [None]:
                here.update((path, now) for path, _, now in objects.differ(root, ours_root))
                there.update((path, now) for path, _, now in objects.differ(root, objects.root(theirs)))
            since = [f"^{base.hex()}" for base in bases]
            output = repository.git.run(
                "rev-list", "--reverse", "--topo-order", "--parents", head.commit.hex(), *since
            )
            lines = [[bytes.fromhex(name) for name in line.split()] for line in output.decode().splitlines()]
            merges = any(len(line) > 2 for line in lines)
            if not merges and ours_root is not None:
                # A file that was changed and changed back counts too: made again, it would undo their change.
                for commit, *_ in lines:
                    for path, _, _ in objects.changed_by(commit):
                        if path not in here:
                            here[path] = objects.find(ours_root, path)
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
            left_out = clashing if prefer == "theirs" else set[bytes]()
            if merges:
                # To make a merge again could bring back what they have changed since.
                tip = self._merge_commits(head.commit, theirs, here, left_out, branch)
            else:
                tip = self._replay_commits([line[0] for line in lines], theirs, left_out)
        self._check_out(head, tip, ours_root)

    def _merge_commits(
        self,
        ours: bytes,
        theirs: bytes,
        here: Mapping[bytes, _Entry | None],
        left_out: set[bytes],
        branch: str,
    ) -> bytes:
        """A commit of what both sides have changed, which keeps all of their commits."""
        repository, objects = self._repository, self._repository.objects
        tree = objects.graft(objects.root(theirs), _without(here, left_out))
        return repository.commits.make(tree, [ours, theirs], f"Merge branch {branch!r} of {self._name}")

    def _replay_commits(self, ours: Sequence[bytes], onto: bytes, left_out: set[bytes]) -> bytes:
        """Make our commits, each with one parent or none, again on top of another."""
        repository, objects = self._repository, self._repository.objects
        for commit in ours:
            header, _, message = objects.read(commit).partition(b"\n\n")
            made_here = {path: now for path, _, now in objects.changed_by(commit)}
            tree = objects.graft(objects.root(onto), _without(made_here, left_out))
            if made_here and tree == objects.root(onto):
                continue  # they have it already
            onto = repository.commits.remake(tree, onto, header.split(b"\n"), message)
        return onto

    def _check_out(self, head: Head, tip: bytes, before: bytes | None) -> None:
        """Set branch, index and files to a commit; refuse if a person has changed any of these files."""
        repository, objects = self._repository, self._repository.objects
        # As git prints them: two letters, a space, the path.
        status = repository.git.run("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames")
        dirty = {line[3:] for line in status.split(b"\0")}
        changes: list[PathChange] = []
        files: dict[str, tuple[bytes, bytes]] = {}
        drafts: list[Draft] = []
        try:
            for path, was, now in objects.differ(before, objects.root(tip)):
                for entry in (was, now):
                    if entry is not None and entry[0] in (FOLDER, b"120000", b"160000"):
                        raise StoreUnavailableError(
                            f"{os.fsdecode(path)!r} is a link or a submodule, which a store can't merge: "
                            "run `git pull --rebase`"
                        )
                name = os.fsdecode(path)
                if now is not None and not is_allowed(path):
                    raise StoreUnavailableError(
                        f"{self._name!r} has a file {name!r}, which isn't allowed in a work tree: "
                        "nothing was merged; rename it there"
                    )
                if path in dirty:
                    raise StoreUnavailableError(
                        f"{name!r} has uncommitted changes, and {self._name!r} has a newer version: commit "
                        "or undo the changes"
                    )
                if now is None:
                    changes.append(PathChange(name, None))
                    continue
                files[name] = now
            with check_out(repository, objects.root(tip), files) as contents:
                for name, (mode, oid) in files.items():
                    draft = repository.drafts.make(contents(name, oid), name, oid)
                    drafts.append(draft)
                    changes.append(PathChange(name, draft, int(mode, 8)))
            repository.land(head, tip, changes, f"pull: {self._name}")
        except KeyConflictError as error:
            raise StoreUnavailableError(
                f"{self._name!r} has {error.key!r}, which can't be stored here: {error.message}"
            ) from error
        finally:
            for draft in drafts:
                repository.drafts.drop(draft)


def _without(changes: Mapping[bytes, _Entry | None], left_out: set[bytes]) -> dict[bytes, _Entry | None]:
    """Changes, without those of some paths and of what is below them."""
    return {
        path: now
        for path, now in changes.items()
        if path not in left_out and left_out.isdisjoint(folders_of(path, b"/"))
    }


def _clashes(here: Mapping[bytes, _Entry | None], there: Mapping[bytes, _Entry | None]) -> set[bytes]:
    """The paths that can't be as both sides have them."""
    found = {path for path, now in here.items() if path in there and there[path] != now}
    for one, other in ((here, there), (there, here)):
        added = {path for path, now in other.items() if now is not None}
        for path, now in one.items():
            for folder in folders_of(path, b"/") if now is not None else ():
                # A blob on one side, a folder on the other.
                if folder in added:
                    found |= {path, folder}
    return found
