"""Drafts: new blobs, each as a temporary file that will be moved to its place, and as a blob of git."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from itertools import count
from typing import TYPE_CHECKING

from holdall.store import Body
from holdall.stores.git.files import write
from holdall.stores.git.names import key_of
from holdall.stores.git.program import Git
from holdall.stores.git.worktree import Draft, PathChange
from holdall.stores.litter import remove, sweep
from holdall.stores.nofollow import HERE
from holdall.stores.oserrors import typed
from holdall.stores.times import new_stamp

if TYPE_CHECKING:
    from holdall.stores.git.repository import Repository

_STALE = 3600.0
_POINTER = 1024
"""Bytes; a pointer of Git LFS has fewer (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""
_pointer = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?s:.*\n)?size ([0-9]+)\n").match
_names = count()


class Drafts:
    """Makes the drafts of a repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def make(self, body: Body, path: str, oid: bytes | None = None) -> Draft:
        """Write the pieces of a body as a file, and as a blob that git keeps, unless that is `oid`."""
        name = f"{self._repository.own}/draft-{os.getpid():x}-{next(_names):x}-{os.urandom(4).hex()}"
        with typed("write"):
            there = self._repository.tree.look(path)
            fd, bits = self._begin(name, there)
            try:
                try:
                    return self._fill(fd, name, body, path, oid, bits)
                finally:
                    os.close(fd)
            except BaseException:
                os.unlink(name)
                raise

    def _fill(self, fd: int, name: str, body: Body, path: str, oid: bytes | None, bits: int) -> Draft:
        repository = self._repository
        pieces = iter(body)
        first = next(pieces, b"")
        data = bytes(first) if type(first) is not bytes else first
        rest = next(pieces, None)
        if rest is not None:
            # A stream may last: the lock shows sweepers that its writer lives.
            fcntl.flock(fd, fcntl.LOCK_EX)
        size = write(fd, data)
        while rest is not None:
            size += write(fd, rest)
            data = b""
            rest = next(pieces, None)
        objects = repository.objects
        raw = objects.write(b"blob", data) if size == len(data) else objects.write_file(fd, size)
        if oid is None:
            is_other = repository.converts(path)
            oid = self.convert(name, path, size, repository.git) if is_other else raw
        stamp = new_stamp()
        os.utime(fd, ns=(stamp, stamp))
        if repository.durable:
            os.fsync(fd)
        # Where times are coarse the file has another one than was asked for.
        found = os.fstat(fd)
        return Draft(name, oid, raw, size, found.st_mtime_ns, found.st_ino, bits)

    def _begin(self, name: str, there: os.stat_result | None) -> tuple[int, int]:
        """A new file that only this user can read, and the permissions that it will have in its place."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        is_new = there is None or not stat.S_ISREG(there.st_mode)
        # A new blob gets the mode that the process gives to new files, which only a new file shows.
        mode = 0o666 if is_new else 0o600
        try:
            fd = os.open(name, flags, mode)
        except FileNotFoundError:
            self._repository.check_same()
            os.makedirs(self._repository.own, exist_ok=True)
            fd = os.open(name, flags, mode)
        if there is not None and not is_new:
            return fd, stat.S_IMODE(there.st_mode) & 0o777
        try:
            bits = stat.S_IMODE(os.fstat(fd).st_mode)
            os.fchmod(fd, 0o600)
        except BaseException:
            os.close(fd)
            raise
        return fd, bits

    def convert(self, draft: str, path: str, size: int, git: Git) -> bytes:
        """Return the blob that a git makes of a draft by the attributes of the path where it will lie."""
        with open(draft, "rb") as file:
            output = git.run("hash-object", "-w", "--stdin", f"--path={path}", data=file)
        oid = bytes.fromhex(output.strip().decode())
        objects = self._repository.objects
        pointer = _pointer(objects.read(oid)) if objects.size(oid) < _POINTER else None
        if pointer and int(pointer[1]) != size:
            # Git LFS goes by the size of the file that lies at the path, which this one has yet to replace.
            with open(draft, "rb") as file:
                oid = objects.write(b"blob", self._repository.git.run("lfs", "clean", data=file))
        return oid

    def find(self, change: PathChange) -> PathChange | None:
        """Return a change with its draft, made again if it is gone; None if another program has the file."""
        repository, draft = self._repository, change.draft
        place = repository.tree.look(change.path)
        if draft is None or repository.tree.is_placed(change.path, draft) or os.path.lexists(draft.path):
            return change
        if place is not None:
            key = key_of(os.fsencode(change.path), repository.fold)
            entry = None if key is None else repository.index().entries.get(key)
            if entry is None or not entry.is_clean(place):
                return None
        body = repository.objects.stream(draft.raw)
        return change._replace(draft=self.make(body, change.path, draft.oid))

    def drop(self, draft: Draft) -> None:
        """Delete a draft that isn't needed, unless it was moved to its place."""
        remove(draft.path, HERE)

    def sweep(self) -> None:
        """Remove what killed writers left: nothing of one that lives, nor what is younger than an hour, since
        its writer may be one of another host.
        """
        for name in os.listdir(self._repository.own):
            path = f"{self._repository.own}/{name}"
            if not name.startswith("draft-") or _is_alive(name.split("-")[1]):
                continue
            try:
                is_young = time.time() - os.lstat(path).st_ctime < _STALE
            except OSError:
                continue
            if not is_young and not self._repository.pending():
                sweep(path, HERE)


def _is_alive(pid: str) -> bool:
    """Whether a process of this host runs."""
    try:
        os.kill(int(pid, 16), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    return True
