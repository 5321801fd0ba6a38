"""The put of a new blob in a file that has no name before it is whole: O_TMPFILE of Linux.

Nobody sees one that isn't whole, and the system takes it away with its process. It is linked to where nothing
is, which needs no lock, as `holdall.stores.shortway` says of a file that is moved there. All paths are looked
up anew, so that the file is made and linked in the folder that is at the path now.
"""

from __future__ import annotations

import errno
import logging
import os
from ctypes import get_errno
from functools import partial
from time import time_ns

from holdall.store import Info, Piece
from holdall.stores.locks import TRIES, FolderLock
from holdall.stores.nofollow import AT_EMPTY_PATH, FOLDER, HERE, NAMELESS, fstat, linkat, open_into
from holdall.stores.shortway import mode_at
from holdall.stores.times import ticks

_log = logging.getLogger("holdall")

_SELF, _NAMELESS, _FOLDER, _MODE = (".",), (NAMELESS,), (FOLDER,), (0o666,)


def put_nameless(lock: FolderLock, path: str, key: str, data: Piece) -> Info | None:
    """Put a blob of at most `SHORT` bytes to a path below the folder where nothing is; None if it is to go
    another way."""
    held: list[int] = []
    target = lock.start + path
    size, room = len(data), lock.room
    try:
        if "/" in path:
            above, _, name = path.rpartition("/")
            if not _open(lock, held, above):
                return None
            folder, name = held[0], name.encode("utf-8", "surrogateescape")
            held.extend(map(partial(os.open, dir_fd=folder), _SELF, _NAMELESS, _MODE))
        else:
            folder, name = HERE, target.encode("utf-8", "surrogateescape")
            held.extend(map(os.open, (lock.start,), _NAMELESS, _MODE))
        fd = held[-1]
        if os.write(fd, data) != size:
            return None  # the disk took a part only
        # `new_stamp`, without its step of Python.
        stamp = (time_ns() & ~1023) | (next(ticks) & 1023)
        os.utime(fd, ns=(stamp, stamp))
        # As `os.fstat`, without an object that takes a twentieth of the put.
        if fstat(fd, room) or room[0] != lock.device:
            raise OSError(errno.EXDEV, "of another file system it isn't known how it keeps times")
        if linkat(fd, b"", folder, name, AT_EMPTY_PATH):
            failed = get_errno()
            if failed != errno.EEXIST:
                raise OSError(failed, os.strerror(failed))
            lock.misses = 0
            return None
        lock.nameless = TRIES
        info = Info(key, size, stamp << 48 | size, stamp / 1e9)
        info._mode = partial(mode_at, target, stamp)
        return info
    except OSError as error:
        # A folder was perhaps taken away just now; or the system is too old for this, or forbids it.
        lock.nameless -= 1
        _log.debug("%r isn't put in a file without a name: %s", key, error)
        return None
    finally:
        any(map(os.close, held))


def _open(lock: FolderLock, held: list[int], above: str) -> bool:
    """Open a folder below the locked one, through no link, into a list; false if it can't be."""
    path = lock.start + above
    if "/" in above:
        return lock.direct and not open_into(held, path, FOLDER)
    try:
        held.extend(map(os.open, (path,), _FOLDER))
    except FileNotFoundError:
        try:
            os.mkdir(path)
            held.extend(map(os.open, (path,), _FOLDER))
        except OSError:
            return False
    except OSError:
        return False
    return True
