"""Locks by flock(2), which no interrupt leaves behind.

A lock belongs to an open file, so that each thread opens the folder for itself, and a forked child anew. What
is locked is unlocked in the same `try` that locks it, and once more if anything is raised in there: an
interrupt may come between any two steps of Python, and a second release does no harm. A `finally` or an
`__exit__` alone would not do, since the interrupt may come as it begins; nor would one `except`, since it may
come as an error has just led there.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TypeVar
from weakref import WeakSet

from holdall.errors import StoreUnavailableError, UnsupportedOperation
from holdall.forks import in_child
from holdall.stores.nofollow import can_be_nameless, close_all, fstat
from holdall.stores.spelling import PRIVATE

T = TypeVar("T")

WAIT = 60.0
"""Seconds that a writer waits for a lock."""

CANNOT = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)
"""What flock fails with where a file system has no locks."""

TRIES = 8
"""After how many failures in a row no put of a thread uses a file without a name any more."""

_generation = 0
_drafts = f"{PRIVATE}{os.urandom(6).hex()}.new-"
_numbers = count()


def generation() -> int:
    """The number of forks behind this process: a lock of another generation is the parent's."""
    return _generation


def draft_name() -> str:
    """A name for a temporary file that no other process, thread or call has."""
    return f"{_drafts}{next(_numbers)}"


def take(fd: int, how: int, where: str, longest: float = 0.01) -> None:
    """Lock an open file, and wait at most `WAIT` seconds for its holder.

    Args:
        longest: The longest pause between two tries, in seconds.

    Raises:
        StoreUnavailableError: Another program held it all the while.
    """
    deadline, pause = 0.0, 1e-4
    while True:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            now = time.monotonic()
            if not deadline:
                deadline = now + WAIT
            elif now > deadline:
                raise StoreUnavailableError(
                    f"another program has held the lock of {where!r} for {WAIT:.0f} seconds; nothing was "
                    "changed: find it with lslocks(8), end it, then try again"
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, longest)


class FolderMoved(Exception):
    """The path is another folder by now, whose lock is another."""


class FolderLock:
    """A thread's own descriptor of a store's folder, for flock."""

    __slots__ = (
        "__weakref__",
        "_fds",
        "device",
        "direct",
        "drafts",
        "fd",
        "misses",
        "nameless",
        "open",
        "path",
        "place",
        "room",
        "start",
    )

    def __init__(self, path: str) -> None:
        self.fd = -1
        self._fds: list[int] = []
        _all.add(self)
        self._fds.extend(map(os.open, (path,), (os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,)))
        self.fd = self._fds[0]
        found = os.fstat(self.fd)
        self.place = found.st_dev, found.st_ino
        self.path = path
        self.start = path.rstrip("/") + "/"
        self.direct = os.path.realpath(path) == path
        """Whether no part of the path is a link."""
        self.room = (ctypes.c_uint64 * 32)()
        """Room for what fstat(2) says, which begins with the file system."""
        self.nameless = TRIES if can_be_nameless(path) and not fstat(self.fd, self.room) else 0
        """How often a put may still try, and fail, to use a file without a name."""
        self.device = self.room[0]
        self.open = partial(os.open, dir_fd=self.fd)
        """os.open(2) in the folder."""
        self.drafts = map(f"{draft_name()}-".__add__, map(str, count()))
        """Names of temporary files, as `draft_name` gives them, without its step of Python."""
        self.misses = 0
        """How many short puts in a row have found nothing where their blobs belong."""

    def moved(self, path: str) -> bool:
        """Whether the path is another folder by now, or none."""
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        return (found.st_dev, found.st_ino) != self.place

    def run(self, how: int, path: str, act: Callable[[int], T]) -> T:
        """Call a function with the folder's descriptor while the folder is locked: `LOCK_SH` keeps those away
        who compare and swap, `LOCK_EX` all writers.

        Raises:
            FolderMoved: Another folder is there by now; nothing was done.
            StoreUnavailableError: Another program held the lock for too long; nothing was done.
            UnsupportedOperation: The file system has no locks, and `how` is `LOCK_EX`.
        """
        try:
            try:
                self._lock(how, path)
                if self.moved(path):
                    raise FolderMoved
                result = act(self.fd)
                release(self.fd)
                return result
            except Exception:
                release(self.fd)
                raise
        except BaseException:
            # An interrupt may have come as an error was about to unlock the folder.
            release(self.fd)
            raise

    def _lock(self, how: int, path: str) -> None:
        try:
            take(self.fd, how, path)
        except OSError as error:
            if error.errno not in CANNOT:
                raise
            # A compare-and-swap needs the lock; a put or a delete goes on without it.
            if how == fcntl.LOCK_EX:
                raise UnsupportedOperation(
                    f"this file system can't lock a folder ({error.strerror}), so it has no compare-and-swap"
                ) from error

    def close(self) -> None:
        self.fd = -1
        # An interrupt may come before there are any.
        close_all(getattr(self, "_fds", []))

    def __del__(self) -> None:
        self.close()


def release(fd: int) -> None:
    """Unlock an open file, whether it is locked or not."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in CANNOT:
            raise


_all: WeakSet[FolderLock] = WeakSet()


@in_child
def _after_fork() -> None:
    """Parent and child would share an open file, and so its lock: the child opens its own."""
    global _generation, _drafts
    _generation += 1
    _drafts = f"{PRIVATE}{os.urandom(6).hex()}.new-"
    for lock in list(_all):
        lock.close()
