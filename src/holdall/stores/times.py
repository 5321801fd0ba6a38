"""The times of files, which make their ETags: no two changes of a blob carry the same.

A file system keeps times to the nanosecond, to 100 ns (NTFS, SMB), or to one or two seconds (FAT, HFS+, ext4
with small inodes, many network mounts). Where they are coarse, a blob that replaces another gets a time past
that of the other, all writers are kept away for it, and the latest time of what was deleted is kept as the
time of a file of our own.
"""

from __future__ import annotations

import os
import time
from functools import partial
from itertools import count

from holdall.stores.nofollow import Descriptors

COARSE = 10_000
"""A file system that rounds times by more nanoseconds than this may give two changes the same time."""

_CLOCK = ".holdall~clock"
ticks = count(int.from_bytes(os.urandom(2), "little"))


def new_stamp() -> int:
    """A time in nanoseconds that no other change carries: two of them within one tick of the kernel's clock
    would otherwise be the same."""
    return (time.time_ns() & ~1023) | (next(ticks) & 1023)


def floor_of(root: int) -> int:
    """Return the latest time of a file deleted from a store's folder, where times are coarse; otherwise 0."""
    try:
        return os.stat(_CLOCK, dir_fd=root, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0


def raise_floor(root: int, stamp: int) -> None:
    """Keep the time of a blob that is about to be deleted, so that none that comes after it has the same."""
    if floor_of(root) >= stamp:
        return
    with Descriptors() as fds:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fds.extend(map(partial(os.open, _CLOCK, flags, dir_fd=root), (0o666,)))
        os.utime(fds[0], ns=(stamp, stamp))
