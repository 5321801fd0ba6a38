"""The usual put and delete in a folder, in the fewest system calls.

Both need the folder that this thread has locked before, and times that are kept to the nanosecond. At
whatever is unusual they give up, with nothing changed: the long way begins anew, and finds out what it was.

A put spares two looks. Whether the locked folder is still the one at the path: the temporary file is renamed
from its whole path, where it can't be found if another folder is there by now, since no other file has its
name (a new one for each put, because a copy of the folder may hold what was there before). And whether a blob
is replaced, whose permission bits stay: a failed look costs as much as two that find something, so after
many new blobs the next one is put without it, and the rename finds out whether something is there. A put that
expects nothing is always done so. Such a rename needs no lock. One that expects an ETag looks again while all
other writers are kept away, and so does one that had to wait for them.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from functools import partial
from time import time_ns

from holdall.errors import ConcurrencyError
from holdall.paths import keep_mode
from holdall.store import ABSENT, ANY, Expect, Info, Piece
from holdall.stores.drafts import compare
from holdall.stores.litter import remove
from holdall.stores.locks import FolderLock, release, take
from holdall.stores.nofollow import FOLDER, HERE, NEAR, NEW, move_new, open_below
from holdall.stores.times import ticks

_log = logging.getLogger("holdall")

SHORT = 1 << 22
"""The longest blob that is put this way: its draft isn't locked against sweepers, so it is to be brief."""

ENOUGH = 8
"""After how many puts of new blobs in a row the next one is taken for new as well."""
_NEW, _PRIVATE, _FOLDER = (NEW,), (0o600,), (FOLDER,)
_SHARED, _ALONE = fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_EX | fcntl.LOCK_NB


def put_short(
    lock: FolderLock, path: str, key: str, data: Piece, expect: Expect = ANY, most: int = 0o777
) -> Info | None:
    """Put a blob of at most `SHORT` bytes to a path below the folder, in a file with at most these permission
    bits; None if it is to go the long way.

    Raises:
        ConcurrencyError: Another blob is there than is expected.
    """
    folder, create = lock.fd, lock.open
    above, slash, name = path.rpartition("/")
    held: list[int] = []  # the folder, if it isn't the store's own
    draft, fd, size = "", -1, len(data)
    new = expect is ABSENT or (expect is ANY and lock.misses > ENOUGH)
    try:
        try:
            if slash:
                if open_below(held, folder, above, NEAR):
                    return None
                folder, create = held[0], partial(os.open, dir_fd=held[0])
            old = None if new else look(lock, name, folder, expect)
            draft = next(lock.drafts)
            # What replaces a private file is private from the first.
            [fd] = map(create, (draft,), _NEW, (0o666 & most,) if old is None else _PRIVATE)
            if os.write(fd, data) != size:
                return None  # the disk took a part only
            # `new_stamp`, without its step of Python: three in a hundred of the time that a put takes.
            stamp = (time_ns() & ~1023) | (next(ticks) & 1023)
            os.utime(fd, ns=(stamp, stamp))
            if old is not None:
                keep_mode(fd, 0o600, old, lock.start + path, most)
            written, fd = fd, -1  # an interrupt comes after a call, so not before the next one
            # Some network file systems say only now that it could not be written.
            os.close(written)
            if new:
                _create(f"{lock.start}{above}{slash}{draft}", name, folder, expect)
            else:
                _replace(lock, f"{lock.start}{above}{slash}{draft}", name, folder, expect, old)
            draft = ""
            info = Info(key, size, stamp << 48 | size, stamp / 1e9)
            info._mode = partial(mode_at, lock.start + path, stamp)
            return info
        except ConcurrencyError:
            raise  # though it may be an OSError, too
        except OSError as error:
            if expect is not ANY or not (new and isinstance(error, FileExistsError)):
                _log.debug("%r is put the long way: %s", key, error)
                return None
    except BaseException:
        release(lock.fd)  # an interrupt may have come as an error was about to do it
        raise
    finally:
        try:
            if draft:
                # An interrupt may come just as the file is made, or just as it got its new name.
                remove(draft, folder)
        finally:
            any(map(os.close, held if fd < 0 else [*held, fd]))
    lock.misses = 0
    return put_short(lock, path, key, data, most=most)  # now with a look first


def _create(draft: str, name: str, folder: int, expect: Expect) -> None:
    """Move the file to where nothing is. This needs no lock: of those who compare and swap, one that expects
    an ETag finds a blob there, and one that expects none moves its own file in this way too."""
    if failed := move_new(draft, name, HERE, folder):
        # Any other error may mean that this isn't the folder at the path any more.
        if expect is ABSENT and failed == -errno.EEXIST:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(there.st_mode):
                compare(there, expect)
        raise OSError(-failed, os.strerror(-failed))


def _replace(
    lock: FolderLock, draft: str, name: str, folder: int, expect: Expect, old: os.stat_result | None
) -> None:
    """Lock the folder, and move the file to its place if what is there is what is expected."""
    root, again = lock.fd, expect is not ANY
    how = _ALONE if again else _SHARED
    try:
        try:
            fcntl.flock(root, how)
        except BlockingIOError:
            # The file isn't locked, so that it may be swept meanwhile: then it can't be moved.
            take(root, how, lock.path)
            again = True
        if again:
            _look_again(draft, name, folder, expect, old)
        os.rename(draft, name, dst_dir_fd=folder)
        fcntl.flock(root, fcntl.LOCK_UN)
    except BaseException:
        # Once more if it was unlocked: see `holdall.stores.locks`.
        release(root)
        raise


def _look_again(draft: str, name: str, folder: int, expect: Expect, old: os.stat_result | None) -> None:
    """Check what is about to be replaced, while those who might change it are kept away: whether it is what
    is expected, and has the permission bits, the owner and the group that the new file was given."""
    there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if old is None or _rights(there) != _rights(old):
        raise OSError(errno.ESTALE, "another file is there by now")
    if expect is not ANY:
        try:
            compare(there, expect)
        except ConcurrencyError:
            # Not found if another folder is at the path by now, where the blob may be as expected.
            os.stat(draft, follow_symlinks=False)
            raise


def mode_at(path: str, stamp: int) -> int:
    """The permission bits of a file that was put here; the fewest if another is there by now.

    Only copies need them, and a look at each new file would take a tenth of its put.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return 0o600
    return found.st_mode & 0o777 if found.st_mtime_ns == stamp else 0o600


def look(lock: FolderLock, name: str, folder: int, expect: Expect) -> os.stat_result | None:
    """What a blob is about to replace.

    Raises:
        OSError: The put is to go the long way.
    """
    try:
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        lock.misses += 1
        if expect is not ANY:
            raise
        return None
    lock.misses = 0
    if not stat.S_ISREG(old.st_mode):
        raise OSError(errno.EPERM, "it isn't a file")
    return old


def _rights(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid


def delete_short(lock: FolderLock, path: str) -> bool:
    """Delete the file at a path below the folder, whatever its ETag; False if it is to go the long way, such
    as when it isn't there."""
    root = folder = lock.fd
    above, slash, name = path.rpartition("/")
    held: list[int] = []
    try:
        try:
            fcntl.flock(root, _SHARED)
            there = os.stat(lock.path)
            if (there.st_dev, there.st_ino) != lock.place:
                raise OSError(errno.ESTALE, "another folder is there by now")
            if slash:
                if "/" not in above:
                    # As `open_below` does, without its steps of Python: a thirtieth of the delete.
                    held.extend(map(lock.open, (above,), _FOLDER))
                elif failed := open_below(held, root, above, FOLDER):
                    raise OSError(-failed, os.strerror(-failed))
                [folder] = held
            if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise OSError(errno.EPERM, "it isn't a file")
            os.unlink(name, dir_fd=folder)
            fcntl.flock(root, fcntl.LOCK_UN)
            return True
        except OSError as error:
            release(root)
            _log.debug("%r is deleted the long way: %s", path, error)
            return False
    except BaseException:
        # Once more if it was unlocked: see `holdall.stores.locks`.
        release(root)
        raise
    finally:
        for each in held:  # at most one, and an interrupt comes after a call, so not before its close
            os.close(each)
