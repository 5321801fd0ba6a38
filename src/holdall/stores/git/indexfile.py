"""The file of the index, which two files are by turns.

What was the index before the last change is the draft of the next one, and only what differs is written into
it: to make the pages of a new file costs most of what a commit costs more where there are many files. Nobody
may see that who reads the old index still, so a file is written again only if it has no other name and no
other process has it open or mapped; otherwise a new one is made.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from holdall.stores.git.files import write, write_all
from holdall.stores.local import sync_folder
from holdall.stores.nofollow import exchange, is_local
from holdall.stores.times import new_stamp

Signature = tuple[int, int, int]
"""Of a file: time, inode, size."""

_AGAIN = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _Known(NamedTuple):
    """A file of which all bytes are known."""

    signature: Signature
    pieces: Sequence[bytes]


class IndexFile:
    """Writes the index `path`; `spare` is the path of the draft, in another folder of the file system."""

    def __init__(self, path: str, spare: str, durable: bool) -> None:
        self._path, self._spare, self._durable = path, spare, durable
        self._old: _Known | None = None
        """What lies at `spare`, unless another process has written since."""
        self._last: _Known | None = None
        self._is_local: bool | None = None

    def write(self, pieces: Sequence[bytes]) -> Signature:
        """Replace the index, which is locked."""
        old, last = self._old, self._last
        # If this is interrupted, nothing is known.
        self._old = self._last = None
        fd, there = self._begin(old)
        try:
            _fill(fd, there, pieces)
            stamp = new_stamp()
            os.utime(fd, ns=(stamp, stamp))
            if self._durable:
                os.fsync(fd)
            signature = signature_of(os.fstat(fd))
        finally:
            if there:
                _end_lease(fd)
            os.close(fd)
        if not exchange(self._spare, self._path):
            os.rename(self._spare, self._path)
        if self._durable:
            for path in (self._path, self._spare):
                sync_folder(os.path.dirname(path))
        self._old, self._last = last, _Known(signature, pieces)
        return signature

    def _begin(self, old: _Known | None) -> tuple[int, Sequence[bytes]]:
        """Open the draft, and return what is in it."""
        if old is not None:
            with suppress(OSError):  # whatever lies there, a new file takes its place
                fd = os.open(self._spare, _AGAIN)
                if self._is_free(fd, old):
                    return fd, old.pieces
                os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(self._spare)
        return os.open(self._spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), ()

    def _is_free(self, fd: int, old: _Known) -> bool:
        """Whether a file is what it was, and nobody can read it while this process has it open."""
        found = os.fstat(fd)
        if signature_of(found) != old.signature or found.st_nlink != 1:
            return False
        if self._is_local is None:
            self._is_local = is_local(self._spare)
        return self._is_local and _lease(fd)


def signature_of(found: os.stat_result) -> Signature:
    """Return what changes when a file is another one."""
    return found.st_mtime_ns, found.st_ino, found.st_size


def _fill(fd: int, there: Sequence[bytes], pieces: Sequence[bytes]) -> None:
    """Write pieces where a file has others, or none."""
    at = same = 0
    for was, piece in zip(there, pieces, strict=False):
        if len(was) != len(piece):
            break
        if was != piece:
            os.lseek(fd, at, os.SEEK_SET)
            write(fd, piece)
        at += len(piece)
        same += 1
    if same < max(len(there), len(pieces)):
        os.lseek(fd, at, os.SEEK_SET)
        write_all(fd, pieces[same:])
        os.ftruncate(fd, sum(map(len, pieces)))


if sys.platform == "linux":
    _SIGNAL = int(signal.SIGURG)

    def _lease(fd: int) -> bool:
        """Let others wait who open a file; false, and nothing is done, if one of them has it open."""
        try:
            # The signal that says that somebody waits is one that does nothing, unlike SIGIO.
            fcntl.fcntl(fd, fcntl.F_SETSIG, _SIGNAL)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False
        return True

    def _end_lease(fd: int) -> None:
        # Closing the file isn't enough: a child that was forked just now may have it open too.
        with suppress(OSError):  # the system has ended it, after 45 seconds
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

else:

    def _lease(fd: int) -> bool:
        return False

    def _end_lease(fd: int) -> None:
        pass
