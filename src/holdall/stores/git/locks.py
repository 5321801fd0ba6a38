"""Locks: between processes of holdall by flock(2), and git's own, which are files.

A lock of git is taken as a link to one of our files, so a lock that a killed process left is known as ours.
A living git's is never taken from it.

No interrupt (Ctrl-C, a signal, a cancelled thread) leaves a lock behind. A function is given to be called
under the lock, since an interrupt that comes as a context manager of Python exits would end the exit before
it has done anything. The lock of flock(2) is a file object: its exit is one call of C, which an interrupt
comes before or after, never into.
"""

from __future__ import annotations

import fcntl
import io
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from holdall.errors import StoreUnavailableError
from holdall.forks import in_child

T = TypeVar("T")

_WAIT = 10.0
_held: set[io.FileIO] = set()
"""The locks of this process."""


@in_child
def _after_fork() -> None:
    """A lock belongs to an open file, which parent and child would share."""
    for file in _held:
        file.close()
    _held.clear()


class Busy(Exception):
    """Another process holds the lock for long."""


def run_alone(file: io.FileIO, patience: float | None, act: Callable[[], T]) -> T:
    """Call a function while this process holds the lock of a file, which is closed afterwards.

    Raises:
        Busy: Waiting took longer than `patience`, in seconds; None waits forever.
    """
    with file:
        try:
            _held.add(file)
            if patience is None:
                fcntl.flock(file, fcntl.LOCK_EX)
            else:
                _flock(file, patience)
            return act()
        finally:
            # A child that was forked just now may have it open too, so that closing it isn't enough.
            if not file.closed:
                fcntl.flock(file, fcntl.LOCK_UN)
            _held.discard(file)


def _flock(file: io.FileIO, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy from None
            time.sleep(0.002)  # flock(2) waits for ever, or not at all


def take(draft: str, lock: str) -> None:
    """Take one of git's locks, as a link to our draft, which is made if it is missing. The caller releases it
    in any case, even if an interrupt comes in here.

    Raises:
        StoreUnavailableError: Another git has held it for ten seconds.
    """
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
            if is_ours(draft, lock):
                return  # the holder of the other lock was killed
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"another git has held the lock {lock!r} for {_WAIT:g} seconds. Git never removes the "
                    "lock of a git that was killed: if no git is running there, delete that file"
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def run_under(locks: Sequence[tuple[str, str]], act: Callable[[], T]) -> T:
    """Call a function while git is kept away by some of its locks, each with our draft that it links to."""
    try:
        for draft, lock in locks:
            take(draft, lock)
        return act()
    finally:
        try:
            release(locks)
        except BaseException:
            release(locks)  # an interrupt may have come before any of it was done
            raise


def release(locks: Sequence[tuple[str, str]]) -> None:
    """Give back the locks that are ours; it may be called again."""
    for draft, lock in locks:
        if is_ours(draft, lock):
            os.unlink(lock)


def is_ours(draft: str, lock: str) -> bool:
    """Whether one of git's locks was taken by this file."""
    try:
        return os.path.samestat(os.lstat(draft), os.lstat(lock))
    except FileNotFoundError:
        return False
