"""Comparing the file that a connection to SQLite has open with the file at its path."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable

from holdall.errors import InvalidArgumentError, StoreUnavailableError
from holdall.paths import absolute, checked_path

_SOON = 200
"""Microseconds for which a look at the folder is enough: it misses that a file was cut, or that the folder
itself was replaced."""
_TICK = 20_000_000
"""Twice the longest tick of a kernel's clock, in nanoseconds."""


class OpenFile:
    """The database and the log that a connection writes to.

    SQLite never checks that they are still at their paths: once an administrator restores a backup, or a
    script deletes the log, everything that is written goes to files without a name.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "blobs.db")
    >>> with open(path, "wb") as file, open(path + "-wal", "wb"):
    ...     _ = file.write(b"x" * 512)
    >>> opened = OpenFile(path)
    >>> opened.stands()
    True
    >>> os.unlink(path + "-wal")
    >>> opened.stands(), opened.is_replaced(), opened.is_cut()
    (False, False, False)
    """

    def __init__(self, path: str) -> None:
        self._folder = self._seen = -1
        self._looked = 0
        now = os.stat(path)
        self._path = path
        # SQLite follows a link before it names the log.
        real = os.path.realpath(path)
        self._log_path, self._index_path = f"{real}-wal", f"{real}-shm"
        self._device, self._inode, self._size = now.st_dev, now.st_ino, now.st_size
        self._log, self._index = _inode(self._log_path), _inode(self._index_path)
        try:
            self._folder = os.open(os.path.dirname(real), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            # It may be a folder that can't be listed, or too many files are open: then each look is whole.
            pass

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # An interrupt may have come before it was set.
        folder = getattr(self, "_folder", -1)
        if folder >= 0:
            close(folder)

    def seems_to_stand(self, now: int) -> bool:
        """Return whether `stands` is true, at half its cost: nothing in the folder was replaced or deleted
        since `stands` last looked, which was less than `_SOON` ago. `now` is in microseconds."""
        return (
            self._seen >= 0
            and 0 <= now - self._looked < _SOON
            and os.fstat(self._folder).st_mtime_ns == self._seen
        ) or self.stands()

    def stands(self) -> bool:
        """Return whether what was written through this connection can be found at the paths."""
        now = time.time_ns()
        self._looked, self._seen = now // 1000, -1
        if self._folder >= 0:
            changed = os.fstat(self._folder).st_mtime_ns
            # Two changes within one tick of the clock may have the same time, so that one of just now says
            # nothing; a time of whole seconds is of a file system whose clock ticks that slowly.
            if now - changed > (_TICK if changed % 1_000_000_000 else 3_000_000_000):
                self._seen = changed
        try:
            now = os.stat(self._path)
            if now.st_ino != self._inode or now.st_dev != self._device or now.st_size < self._size:
                return False
            self._size = now.st_size
            # Without a log when it was opened, the file isn't in WAL mode.
            return self._log is None or os.stat(self._log_path).st_ino == self._log
        except OSError:
            return False

    def is_replaced(self) -> bool:
        """Return whether another file, or none, lies at the path."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (now.st_ino, now.st_dev) != (self._inode, self._device)

    def is_cut(self) -> bool:
        """Return whether the file has become shorter: it was truncated, or `VACUUM` gave back its space."""
        return not self.is_replaced() and os.stat(self._path).st_size < self._size

    def unlink_log(self) -> None:
        """Remove the log, and its index, of a file that was replaced, so that they aren't applied to the new
        one. What another program has made since stays."""
        if self._log is not None and _inode(self._log_path) == self._log:
            os.unlink(self._log_path)
        if self._index is not None and _inode(self._index_path) == self._index:
            os.unlink(self._index_path)


class UnchangingFile(OpenFile):
    """A database that is read without locks, in a folder that this process can't write to.

    Its owner may write to it all the same; then a log appears, or the file changes.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._changed = os.stat(path).st_mtime_ns

    def seems_to_stand(self, now: int) -> bool:
        return self.stands()

    def stands(self) -> bool:
        try:
            now = os.stat(self._path)
        except OSError:
            return False
        return (now.st_ino, now.st_size, now.st_mtime_ns) == (
            self._inode,
            self._size,
            self._changed,
        ) and not file_size(self._log_path)


def file_path(path: object) -> str:
    """Return the absolute path of what may become a database.

    Raises:
        InvalidArgumentError: It can't be a path of a file.
        StoreUnavailableError: A folder or a special file lies there.
    """
    if path == ":memory:":
        raise InvalidArgumentError("':memory:' isn't a file; use MemoryStore or memory://")
    name = absolute(checked_path(path, "a file, such as 'blobs.db'"))
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return name
    if stat.S_ISDIR(mode):
        raise StoreUnavailableError(f"{name} is a folder; give the path of a file in it, such as blobs.db")
    if not stat.S_ISREG(mode):
        raise StoreUnavailableError(f"{name} isn't a regular file; give the path of a database")
    return name


def file_size(path: str) -> int | None:
    """Return the size of a file, or None if there is no file; raise OSError if that can't be known."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def is_writable(folder: str) -> bool:
    """Return whether this process can make files in the folder; on a read-only mount it can't."""
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def file_system(path: str) -> str:
    """Return the kind of the file system, as Linux reports it; empty if it isn't known."""
    try:
        device = os.stat(path).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        pass
    return ""


def lock_holders(path: str) -> list[int]:
    """Return the processes that hold a lock on a database for writing, as far as Linux reports them."""
    real = os.path.realpath(path)
    inodes = {str(_inode(name)) for name in (real, f"{real}-shm")} - {"None"}
    found: set[int] = set()
    try:
        with open("/proc/locks", encoding="ascii") as locks:
            for line in locks:
                fields = line.split()
                if len(fields) == 8 and fields[3] == "WRITE" and fields[5].rpartition(":")[2] in inodes:
                    found.add(int(fields[4]))
    except (OSError, ValueError):
        return []
    return sorted(pid for pid in found if pid > 0)


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
