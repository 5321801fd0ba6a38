"""Small things that are done with files."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import count
from typing import ParamSpec, TypeVar

from holdall.errors import (
    InvalidKeyError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
)
from holdall.ranges import CHUNK

P = ParamSpec("P")
T = TypeVar("T")

_VECTOR = 1024
"""The most pieces that every system takes in one call of writev(2)."""

_ticks = count(int.from_bytes(os.urandom(2), "little"))


def text(path: str) -> str:
    """Return the text of a file, without the white space around it; an empty text if the file is missing."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="surrogateescape").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def signature(path: str) -> tuple[int, int, int] | None:
    """What changes when a file is another one; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def write(fd: int, piece: bytes | memoryview) -> int:
    """Write a piece whole; its size."""
    size = done = os.write(fd, piece)
    while done < len(piece):
        size = os.write(fd, memoryview(piece)[done : done + 64 * CHUNK])
        done += size
    return done


def write_all(fd: int, pieces: Sequence[bytes]) -> None:
    """Write pieces, one after the other, without a copy of them all."""
    for at in range(0, len(pieces), _VECTOR):
        part = pieces[at : at + _VECTOR]
        done = os.writev(fd, part)
        if done < sum(map(len, part)):
            write(fd, memoryview(b"".join(part))[done:])


def new_stamp() -> int:
    """The time now, in nanoseconds, as no other change of this process has it: two within one tick of the
    kernel's clock would else carry the same."""
    return (time.time_ns() & ~1023) | (next(_ticks) & 1023)


def failed(error: OSError, what: str, maybe: bool = False) -> StoreError:
    """The error of the contract for one of the system.

    Args:
        error: The system's error.
        what: The action that failed.
        maybe: Whether the change was begun, so that the next call finishes it.
    """
    if isinstance(error, StoreError):
        return error
    state = (
        "; the change was begun and may be visible: the next call finishes it"
        if maybe
        else "; nothing was changed"
        if what == "write"
        else ""
    )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreUnavailableError(f"the disk is full, or a quota is used up{state}")
    if error.errno == errno.EROFS:
        return ReadOnlyError(f"the file system is mounted read-only{state}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StoreUnavailableError(
            f"no permission to {what}: look at the owner and the mode of the repository{state}"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StoreUnavailableError(f"too many open files: close some, or raise `ulimit -n`{state}")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidKeyError("the path of its file is too long for the system")
    if error.errno in (errno.ENOTDIR, errno.EISDIR):
        return KeyConflictError("a work tree can't hold both a blob and blobs below it")
    return StoreUnavailableError(f"the file system can't {what}: {error.strerror or error}{state}")


def typed(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Turn what the system raises in a call into an error of the contract.

    Args:
        what: The action of the call, in one word.
    """

    def wrap(call: Callable[P, T]) -> Callable[P, T]:
        @wraps(call)
        def typed_call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return call(*args, **kwargs)
            except OSError as error:
                if isinstance(error, StoreError):
                    raise
                raise failed(error, what) from error

        return typed_call

    return wrap
