"""What stores do with open files: read them on, write them whole, copy a part, sync a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial

from holdall.blob import Piece
from holdall.errors import StoreUnavailableError
from holdall.ranges import CHUNK
from holdall.stores.nofollow import close_all
from holdall.stores.oserrors import translate


class FilePieces(Iterator[bytes]):
    """A part of an open file, in chunks. It closes the file at the end, or when it is dropped, and takes
    it out of the list."""

    def __init__(self, fds: list[int], start: int, stop: int) -> None:
        self._fds = fds
        self._position = start
        self._stop = stop

    def __next__(self) -> bytes:
        if not self._fds:
            raise StopIteration
        try:
            size = min(CHUNK, self._stop - self._position)
            piece = os.pread(self._fds[0], size, self._position)
        except OSError as error:
            raise translate(error, "read") from error
        self._position += len(piece)
        if not piece or self._position >= self._stop:
            self.close()
            if not piece:
                raise StopIteration
        return piece

    def close(self) -> None:
        close_all(self._fds)

    def __del__(self) -> None:
        self.close()


def write_at(fd: int, data: Piece | bytearray, offset: int) -> None:
    view = memoryview(data)
    while len(view):
        done = os.pwrite(fd, view, offset)
        offset += done
        view = view[done:]


def copy_range(source: int, start: int, target: int, at: int, length: int) -> None:
    """Copy bytes from one file to another, inside the system where it can.

    Raises:
        OSError: One of the files can't be used, or the source ends too early.
    """
    copy = getattr(os, "copy_file_range", None)
    while length > 0 and copy is not None:
        try:
            done = copy(source, target, min(length, 1 << 30), start, at)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            break
        if not done:
            break
        start, at, length = start + done, at + done, length - done
    while length > 0:
        data = os.pread(source, min(length, CHUNK), start)
        if not data:
            raise OSError(errno.EIO, "another program cut the file while it was copied")
        write_at(target, data, at)
        start, at, length = start + len(data), at + len(data), length - len(data)


def sync_folder(folder: int | str, done: str = "") -> None:
    """Write to the disk the entries of a folder, which is open or named by its path. `done` is the change
    that was made already, for the error.

    Raises:
        OSError: The folder can't be synced, and `done` is empty.
        StoreUnavailableError: The disk failed; what was done may not outlive a power failure.
    """
    # A folder that was opened only to reach files can't be synced itself.
    path, above = (folder, None) if isinstance(folder, str) else (".", folder)
    fds: list[int] = []
    try:
        fds.extend(map(partial(os.open, path, dir_fd=above), (os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,)))
        os.fsync(fds[0])
    except OSError as error:
        if above is not None and isinstance(error, FileNotFoundError):
            return  # another process removed the last blob, and the folder with it
        if not done:
            raise
        raise StoreUnavailableError(
            f"{done}, but the folder can't be synced ({error.strerror}): it may not outlive a power failure"
        ) from error
    finally:
        close_all(fds)
