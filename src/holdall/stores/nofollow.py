"""Calls of the system that Python lacks.

Files are opened without following any symbolic link on the way: Linux does it in one call, openat2(2) with
RESOLVE_NO_SYMLINKS; elsewhere each folder on the way is opened in the one before. A file is moved to where
nothing is by renameat2(2) with RENAME_NOREPLACE, or by a second link; two files change names with
RENAME_EXCHANGE. A file without a name is given one by linkat(2) with AT_EMPTY_PATH.

A descriptor that the system returns is put into a list by the interpreter's own C code, with no step of
Python between: an interrupt can't lose it, and the maker of the list closes what is in it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Self

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""To read a file; it doesn't wait for the writer of a pipe."""
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
"""To write a file that is not there."""
LIST = READ | os.O_DIRECTORY
"""To list a folder."""
FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
"""To reach what lies in a folder, which needn't be readable."""
NEAR = FOLDER | os.O_NONBLOCK
"""The same, but through no mount point."""
LIST_NEAR = LIST | os.O_NOCTTY
"""To list a folder that is reached through no mount point."""
NAMELESS = os.O_RDWR | getattr(os, "O_TMPFILE", 0) | os.O_CLOEXEC
"""To write a file that has no name as yet, in a folder that is opened by this."""

HERE = -100
"""AT_FDCWD: paths are taken from the working folder."""

_PLAIN = {NEAR: FOLDER, LIST_NEAR: LIST}
_OPENAT2 = 437  # the same on every architecture
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 0x01, 0x02

AT_EMPTY_PATH = 0x1000
_AT_REMOVEDIR = 0x200

_LOCAL = {
    0xEF53,  # ext4
    0x58465342,  # XFS
    0x9123683E,  # Btrfs
    0xF2F52010,  # F2FS
    0x2FC12FC1,  # ZFS
    0x01021994,  # tmpfs
    0x794C7630,  # overlayfs
}
"""The file systems of Linux, as statfs(2) names them, whose files no other host can have open."""

_system: ctypes.CDLL | None = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_renameat2: Callable[..., int] | None = getattr(_system, "renameat2", None)


def _missing(*_: object) -> int:
    return -1


linkat: Callable[..., int] = getattr(_system, "linkat", _missing)
"""linkat(2), of what ctypes takes as it is: ints and bytes."""
fstat: Callable[..., int] = getattr(_system, "fstat", _missing)
"""fstat(2), into an array."""
_unlinkat: Callable[..., int] | None = getattr(_system, "unlinkat", None)


def close_all(fds: list[int]) -> None:
    """Close descriptors and forget them. No interrupt comes between the two, so that none is closed twice."""
    any(map(os.close, map(fds.pop, [-1] * len(fds))))


class Descriptors(list[int]):
    """Descriptors that are closed at the end of a `with` block. Each is opened into the list, so that no
    interrupt loses it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        any(map(os.close, map(self.pop, [-1] * len(self))))


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


def open_below_by_steps(fds: list[int], folder: int, path: str, flags: int) -> int:
    """Open what lies below an open folder, and on no way through a link, into a list: 0, or a negative
    errno."""
    steps: list[int] = []
    above = folder
    *names, last = path.split("/")
    try:
        for name in names:
            steps.extend(map(partial(os.open, name, dir_fd=above), (FOLDER,)))
            above = steps[-1]
        fds.extend(map(partial(os.open, last, dir_fd=above), (_PLAIN.get(flags, flags),)))
        if flags in _PLAIN and os.fstat(fds[-1]).st_dev != os.fstat(folder).st_dev:
            close_all(fds)
            return -errno.EXDEV
        return 0
    except OSError as error:
        return -(error.errno or errno.EIO)
    finally:
        close_all(steps)


def open_by_steps(path: str, flags: int) -> int:
    """Open a file whose absolute path holds no symbolic link: its descriptor, or a negative errno."""
    fds: list[int] = []
    root = os.open("/", FOLDER)
    try:
        failed = open_below_by_steps(fds, root, path[1:] or ".", flags)
    finally:
        os.close(root)
    if failed == -errno.ENOTDIR and has_link(path, 1):
        return -errno.ELOOP
    return failed or fds[0]


class _How(ctypes.Structure):
    """struct open_how"""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_into_by_steps(fds: list[int], path: str, flags: int) -> int:
    """`open_by_steps` into a list: 0, or a negative errno."""
    fd = open_by_steps(path, flags)
    if fd >= 0:
        fds.append(fd)
    return min(fd, 0)


_Open = Callable[[str, int], int]
_OpenInto = Callable[[list[int], str, int], int]
_OpenBelow = Callable[[list[int], int, str, int], int]


def _find_openat2() -> tuple[_Open, _OpenInto, _OpenBelow] | None:
    """The three ways to open in one system call, where the system has it."""
    if sys.platform != "linux" or sys.getfilesystemencoding() != "utf-8":
        return None
    call = ctypes.CDLL(None, use_errno=True).syscall
    # Each argument must be of the right type: to declare them would make ctypes check them, which takes time.
    call.restype = ctypes.c_long
    # Made once, since ctypes takes its time to make what a call is given.
    number, here = ctypes.c_long(_OPENAT2), ctypes.c_int(HERE)
    size = ctypes.c_size_t(ctypes.sizeof(_How))
    hows = {flags: _How(flags, 0, _RESOLVE_NO_SYMLINKS) for flags in (READ, LIST, FOLDER)}
    hows[NEW] = _How(NEW, 0o666, _RESOLVE_NO_SYMLINKS)
    addresses = {flags: ctypes.c_void_p(ctypes.addressof(how)) for flags, how in hows.items()}
    inside = _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH
    hows_below = {
        READ: _How(READ, 0, inside),
        LIST: _How(LIST, 0, inside),
        FOLDER: _How(FOLDER, 0, inside),
    }
    for near, flags in _PLAIN.items():
        hows_below[near] = _How(flags, 0, inside | _RESOLVE_NO_XDEV)
    addresses_below = {flags: ctypes.c_void_p(ctypes.addressof(how)) for flags, how in hows_below.items()}
    numbers, heres, sizes, is_open = (number,), (here,), (size,), (-1).__lt__
    get_errno = ctypes.get_errno

    def open_at_once(path: str, flags: int, _alive: object = hows) -> int:
        fd = call(number, here, path.encode("utf-8", "surrogateescape"), addresses[flags], size)
        return fd if fd >= 0 else -get_errno()

    def open_into_at_once(fds: list[int], path: str, flags: int) -> int:
        before = len(fds)
        name = path.encode("utf-8", "surrogateescape")
        fds.extend(filter(is_open, map(call, numbers, heres, (name,), (addresses[flags],), sizes)))
        return 0 if len(fds) > before else -get_errno()

    def open_below_at_once(
        fds: list[int], folder: int, path: str, flags: int, _alive: object = hows_below
    ) -> int:
        if flags == FOLDER and "/" not in path and path != "..":
            # Of one name O_NOFOLLOW says as much, and `os` calls faster than ctypes.
            try:
                fds.extend(map(partial(os.open, dir_fd=folder), (path,), (FOLDER,)))
                return 0
            except OSError as error:
                return -(error.errno or errno.EIO)
        before = len(fds)
        name = path.encode("utf-8", "surrogateescape")
        fds.extend(filter(is_open, map(call, numbers, (folder,), (name,), (addresses_below[flags],), sizes)))
        return 0 if len(fds) > before else -get_errno()

    # A kernel before 5.6, or a sandbox, refuses the call itself.
    fd = open_at_once("/", READ)
    if fd < 0:
        return None
    os.close(fd)
    return open_at_once, open_into_at_once, open_below_at_once


_calls = _find_openat2() or (open_by_steps, open_into_by_steps, open_below_by_steps)

open_file: _Open = _calls[0]
"""Open a file whose absolute path holds no symbolic link: its descriptor, or a negative errno."""

open_into: _OpenInto = _calls[1]
"""The same into a list: 0, or a negative errno."""

open_below: _OpenBelow = _calls[2]
"""Open what lies below an open folder, and on no way through a link, into a list: 0, or a negative errno."""


def link_and_unlink(old: str, new: str, old_folder: int = HERE, new_folder: int = HERE) -> int:
    """Move a file to where nothing is, by a second link: 0, or a negative errno, and all is as it was."""
    try:
        os.link(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder, follow_symlinks=False)
    except OSError as error:
        return -(error.errno or errno.EIO)
    # A sweep may have taken away the old name of a file that isn't locked.
    with suppress(FileNotFoundError):
        os.unlink(old, dir_fd=old_folder)
    return 0


_Move = Callable[[str, str, int, int], int]


def _native_move() -> _Move | None:
    """`link_and_unlink` in one system call, where the system has it."""
    call, get_errno = _renameat2, ctypes.get_errno
    if call is None or sys.getfilesystemencoding() != "utf-8":
        return None

    def move_at_once(old: str, new: str, old_folder: int = HERE, new_folder: int = HERE) -> int:
        source, target = old.encode("utf-8", "surrogateescape"), new.encode("utf-8", "surrogateescape")
        if not call(old_folder, source, new_folder, target, _RENAME_NOREPLACE):
            return 0
        error = get_errno()
        # Some file systems and sandboxes know renames that replace only.
        if error in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            return link_and_unlink(old, new, old_folder, new_folder)
        return -error

    return move_at_once


move_new: _Move = _native_move() or link_and_unlink
"""Move a file to where nothing is, atomically: 0, or a negative errno, which leaves all as it was. The paths
are taken from two open folders."""


def exchange(one: str, other: str) -> bool:
    """Let two files change names, atomically, where the system can; whether they did.

    What replaces a file by rename(2) has its bytes forced to the disk by ext4 (`auto_da_alloc`), which costs
    as much as the rest of a commit of git; two files that both were there already need none of that.
    """
    call = _renameat2
    return call is not None and call(HERE, os.fsencode(one), HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0


def is_local(path: str) -> bool:
    """Whether a path is known to lie on a disk, or in the memory, of this machine alone."""
    found = (ctypes.c_long * 64)()
    return _system is not None and not _system.statfs(os.fsencode(path), found) and found[0] in _LOCAL


def can_be_nameless(path: str) -> bool:
    """Whether a file below a path may get its name once it is whole. On other file systems than local ones
    its close may say that it could not be written, and only then."""
    at_all = hasattr(os, "O_TMPFILE") and sys.getfilesystemencoding() == "utf-8"
    return at_all and is_local(path)


def remove_folder(name: str, above: int) -> bool:
    """Remove a folder if it is empty; whether it was. Most aren't, and to raise that takes `os.rmdir` as long
    as to find it out."""
    if _unlinkat is not None:
        return not _unlinkat(above, name.encode("utf-8", "surrogateescape"), _AT_REMOVEDIR)
    try:
        os.rmdir(name, dir_fd=above)
        return True
    except OSError:
        return False
