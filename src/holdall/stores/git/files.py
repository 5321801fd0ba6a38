"""Small things that are done with files."""

from __future__ import annotations

import errno
import os
import time
from itertools import count

from holdall.errors import (
    InvalidKeyError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
)
from holdall.ranges import CHUNK

__all__ = ["failed", "new_stamp", "signature", "text", "write"]

_ticks = count(int.from_bytes(os.urandom(2), "little"))


def text(path: str) -> str:
    """What a file says, without the end of its line; nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
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


def new_stamp() -> int:
    """The time now, in nanoseconds, as no other change of this process has it: two within one tick of the
    kernel's clock would else carry the same."""
    return (time.time_ns() & ~1023) | (next(_ticks) & 1023)


def failed(error: OSError, what: str) -> StoreError:
    """The error of the contract for one of the system."""
    if isinstance(error, StoreError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreUnavailableError("the disk is full, or a quota is; the old blob stays")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreUnavailableError(f"no permission to {what}: look at the owner and mode of the repository")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidKeyError("the path of its file is too long for the system")
    if error.errno in (errno.ENOTDIR, errno.EISDIR):
        return KeyConflictError("a work tree can't hold both a blob and blobs below it")
    return StoreUnavailableError(f"the file system can't {what}: {error.strerror or error}")
