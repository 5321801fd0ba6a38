"""Locks: between processes of holdall by flock(2), and git's own, which are files.

A lock of git's is taken by a link to a file of ours, so that one that a killed process left is known as ours.
A living git's is never taken from it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager

from holdall.errors import StoreUnavailableError

__all__ = ["Busy", "alone", "give_back", "is_ours", "take"]

_WAIT = 10.0
_held: set[int] = set()
"""The locks of this process, by descriptor."""


def _after_fork() -> None:
    """A lock belongs to an open file, which parent and child would share."""
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)


class Busy(Exception):
    """Somebody holds the lock for long."""


@contextmanager
def alone(fd: int, patience: float | None) -> Generator[None]:
    """Hold the lock of an open file, which is closed afterwards.

    Args:
        fd: The file.
        patience: How many seconds it waits; None is as long as it takes.

    Raises:
        Busy: It took longer.
    """
    _held.add(fd)
    try:
        if patience is None:
            fcntl.flock(fd, fcntl.LOCK_EX)
        else:
            _flock(fd, patience)
        yield
    finally:
        _held.discard(fd)
        # A child that was forked just now may have it open too.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _flock(fd: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy from None
            time.sleep(0.002)  # flock(2) waits for ever, or not at all


def take(draft: str, lock: str, keep: bool = False) -> None:
    """Take one of git's locks.

    Args:
        draft: The file of ours to link to.
        lock: The path of the lock.
        keep: Whether the file of ours is kept for the next time.

    Raises:
        StoreUnavailableError: Another git has held it for ten seconds.
    """
    if not keep:
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            give_back(draft, lock)
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        os.close(fd)
    deadline = time.monotonic() + _WAIT
    pause = 0.0005
    while True:
        try:
            os.link(draft, lock)
            return
        except FileNotFoundError:
            os.makedirs(lock[: lock.rindex("/")], exist_ok=True)
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            if keep and is_ours(draft, lock):
                return  # the holder of the other lock was killed
            if time.monotonic() > deadline:
                if not keep:
                    os.unlink(draft)
                raise StoreUnavailableError(
                    f"another git holds {lock!r}; if none runs, one was killed: remove that file"
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def give_back(draft: str, lock: str, keep: bool = False) -> None:
    """Give back a lock that is ours, and only then."""
    if is_ours(draft, lock):
        os.unlink(lock)
    if not keep:
        try:
            os.unlink(draft)
        except FileNotFoundError:
            return


def is_ours(draft: str, lock: str) -> bool:
    """Whether one of git's locks was taken by this file."""
    try:
        return os.path.samestat(os.lstat(draft), os.lstat(lock))
    except FileNotFoundError:
        return False
