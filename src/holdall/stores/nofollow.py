"""Calls of the system that Python has not.

Files are opened without following any symbolic link on the way: Linux does it in one call, openat2(2) with
RESOLVE_NO_SYMLINKS; elsewhere each folder on the way is looked at first. A file is moved to where nothing is
by renameat2(2) with RENAME_NOREPLACE, or by a second link.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable

__all__ = ["NEW", "READ", "has_link", "link_and_unlink", "move_new", "open_by_steps", "open_file"]

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""To read a file; it doesn't wait for the writer of a pipe."""
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
"""To write a file that is not there."""

_OPENAT2 = 437  # the same on every architecture
_AT_FDCWD = -100
_RESOLVE_NO_SYMLINKS = 0x04
_RENAME_NOREPLACE = 0x01


def has_link(path: str, start: int) -> bool:
    """Whether a part of an absolute path is a symbolic link, from the one that begins at `start` on."""
    while True:
        end = path.find("/", start)
        part = path if end < 0 else path[:end]
        try:
            if stat.S_ISLNK(os.lstat(part).st_mode):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        if end < 0:
            return False
        start = end + 1


def open_by_steps(path: str, flags: int) -> int:
    """Open a file whose path holds no symbolic link: its descriptor, or a negative errno."""
    folder = path.rpartition("/")[0]
    try:
        if folder and has_link(folder, 1):
            return -errno.ELOOP
        return os.open(path, flags, 0o666)
    except OSError as error:
        return -(error.errno or errno.EIO)


class _How(ctypes.Structure):
    """struct open_how"""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _native() -> Callable[[str, int], int] | None:
    """`open_by_steps` in one system call, where the system has it."""
    if sys.platform != "linux" or sys.getfilesystemencoding() != "utf-8":
        return None
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    call.restype = ctypes.c_long
    # Made once, since ctypes takes its time to make what a call is given.
    number, here = ctypes.c_long(_OPENAT2), ctypes.c_int(_AT_FDCWD)
    size = ctypes.c_size_t(ctypes.sizeof(_How))
    hows = {
        READ: _How(READ, 0, _RESOLVE_NO_SYMLINKS),
        NEW: _How(NEW, 0o666, _RESOLVE_NO_SYMLINKS),
    }
    addresses = {flags: ctypes.c_void_p(ctypes.addressof(how)) for flags, how in hows.items()}
    get_errno = ctypes.get_errno

    def open_at_once(path: str, flags: int, _alive: object = hows) -> int:
        fd = call(number, here, path.encode("utf-8", "surrogateescape"), addresses[flags], size)
        return fd if fd >= 0 else -get_errno()

    # A kernel before 5.6, or a sandbox, refuses the call itself.
    fd = open_at_once("/", READ)
    if fd < 0:
        return None
    os.close(fd)
    return open_at_once


open_file: Callable[[str, int], int] = _native() or open_by_steps
"""Open a file whose absolute path holds no symbolic link: its descriptor, or a negative errno."""


def link_and_unlink(old: str, new: str) -> int:
    """Move a file to where nothing is, by a second link: 0, or a negative errno, and all is as it was."""
    try:
        os.link(old, new)
    except OSError as error:
        return -(error.errno or errno.EIO)
    os.unlink(old)
    return 0


def _native_move() -> Callable[[str, str], int] | None:
    """`link_and_unlink` in one system call, where the system has it."""
    if sys.platform != "linux" or sys.getfilesystemencoding() != "utf-8":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call.restype = ctypes.c_int
    get_errno = ctypes.get_errno

    def move_at_once(old: str, new: str) -> int:
        names = old.encode("utf-8", "surrogateescape"), new.encode("utf-8", "surrogateescape")
        if not call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE):
            return 0
        error = get_errno()
        # Some file systems and sandboxes know renames that replace only.
        return link_and_unlink(old, new) if error in (errno.EINVAL, errno.ENOSYS, errno.EPERM) else -error

    return move_at_once


move_new: Callable[[str, str], int] = _native_move() or link_and_unlink
"""Move a file to where nothing is, atomically: 0, or a negative errno, which leaves all as it was."""
