"""The branches and other refs of a repository, as files."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from holdall.errors import IntegrityError
from holdall.stores.git.commits import now
from holdall.stores.git.configuration import Configuration
from holdall.stores.git.files import signature, text, write
from holdall.stores.git.locks import is_ours, release, run_under
from holdall.stores.local import sync_folder
from holdall.stores.nofollow import exchange

T = TypeVar("T")

_DEEP = 5
"""The number of symbolic refs that git follows in a chain."""
_LOOKS = 10
"""How often a ref that seems to be damaged is read before it is taken for damaged."""


class Head(NamedTuple):
    """Where a commit goes."""

    ref: str
    """The branch, such as `refs/heads/main`, or `HEAD` where none is checked out."""
    commit: bytes | None


class Refs:
    """What refs name, and how the one that is checked out is moved.

    `private` is the folder of git that is the work tree's own, `shared` the one that it shares with linked
    work trees, `own` that of holdall, where drafts and locks lie.
    """

    def __init__(
        self, configuration: Configuration, private: str, shared: str, own: str, durable: bool
    ) -> None:
        self._configuration = configuration
        self._private, self._shared, self._own = private, shared, own
        self._durable = durable
        self._packed: tuple[object, dict[str, bytes]] = (None, {})

    def head(self) -> Head:
        """Return the branch that is checked out, and its last commit."""
        content = text(f"{self._private}/HEAD")
        if content.startswith("ref: "):
            ref = content[5:].strip()
            return Head(ref, self.ref(ref))
        return Head("HEAD", _oid("HEAD", content))

    def ref(self, name: str, depth: int = 0) -> bytes | None:
        """Return the commit that a ref names; None if the ref is missing."""
        if not name.startswith("refs/") or ".." in name or depth > _DEEP:
            raise IntegrityError(_DAMAGED.format(name))
        path = f"{self._shared}/{name}"
        for attempt in range(_LOOKS):
            # A ref that is packed in between was a file before, and is in the pack now. One that was made in
            # between, or written while it was read, is read again.
            content = text(path)
            if content.startswith("ref: "):
                return self.ref(content[5:].strip(), depth + 1)
            try:
                if content or _is_regular(path):
                    return _oid(name, content)
            except IntegrityError:
                if attempt == _LOOKS - 1:
                    raise
                time.sleep(0.001)
                continue
            found = self._packed_refs().get(name)
            if found is not None:
                return found
            if attempt >= 2:
                break
        return None

    def _packed_refs(self) -> dict[str, bytes]:
        path = f"{self._shared}/packed-refs"
        state = signature(path)
        if state is None:
            return {}
        if self._packed[0] != state:
            refs: dict[str, bytes] = {}
            for line in text(path).splitlines():
                if line[:1] not in ("#", "^", ""):
                    oid, _, name = line.partition(" ")
                    refs[name] = _oid("packed-refs", oid)
            self._packed = state, refs
        return self._packed[1]

    def ref_or_head(self, name: str) -> bytes | None:
        """Return the commit that a ref, or HEAD itself, names."""
        return self.head().commit if name == "HEAD" else self.ref(name)

    def _path(self, ref: str) -> str:
        return f"{self._private}/HEAD" if ref == "HEAD" else f"{self._shared}/{ref}"

    def _locks(self, ref: str) -> list[tuple[str, str]]:
        """The locks that git takes to move a branch that is checked out, each by a file of ours."""
        locks = [(f"{self._own}/head.lock", f"{self._private}/HEAD.lock")]
        return locks if ref == "HEAD" else [*locks, (f"{self._own}/ref.lock", f"{self._shared}/{ref}.lock")]

    def locked(self, ref: str, act: Callable[[], T]) -> T:
        """Call a function while git is kept away from a branch that is checked out."""
        return run_under(self._locks(ref), act)

    def is_locked(self) -> bool:
        """Whether a lock on the branch that is checked out is ours, of a writer who may have been killed."""
        return any(is_ours(draft, lock) for draft, lock in self._locks(self.head().ref))

    def unlock(self, ref: str) -> None:
        """Give back the locks of a killed writer."""
        release(self._locks(ref))

    def move(self, head: Head, made: bytes, reflog: str) -> None:
        """Let a branch, which is locked, name the commit `made`; `reflog` is the message in the reflog."""
        path = self._path(head.ref)
        # The file that was the branch before the last commit becomes the branch again: no file is made.
        spare = f"{self._own}/ref"
        value = made.hex().encode() + b"\n"
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            write(fd, value)
            os.ftruncate(fd, len(value))
            if self._durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        if self._configuration.is_on("core.logallrefupdates", default=True):
            old = head.commit.hex() if head.commit else "0" * (2 * len(made))
            line = f"{old} {made.hex()} {self._configuration.mover()} {now()}\t{reflog}\n".encode()
            logs = {f"{self._private}/logs/HEAD"}
            if head.ref != "HEAD":
                logs.add(f"{self._shared}/logs/{head.ref}")
            for log in logs:
                try:
                    _append(log, line)
                except FileNotFoundError:
                    os.makedirs(log[: log.rindex("/")], exist_ok=True)
                    _append(log, line)
        if not _is_regular(path) or not exchange(spare, path):
            os.rename(spare, path)
        if self._durable:
            sync_folder(path[: path.rindex("/")])
            sync_folder(self._own)


_DAMAGED = "the ref {} of the repository is damaged: `git fsck` and `git reflog` show what it should name"


def _oid(name: str, content: str) -> bytes:
    try:
        oid = bytes.fromhex(content)
    except ValueError:
        oid = b""
    if len(oid) not in (20, 32):
        raise IntegrityError(_DAMAGED.format(name))
    return oid


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _append(path: str, line: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)
