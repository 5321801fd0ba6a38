"""The files of a work tree, and changes of them.

Every folder on the way to a file is opened by itself, and none through a symbolic link; what is looked at,
moved or removed is a name in the open folder. So a folder that is replaced by a link can't lead a call out of
the tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from holdall.errors import KeyConflictError
from holdall.stores.git.index import Index
from holdall.stores.git.names import folders_of

_FILE = 0o100644
_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Where the system has it, a folder whose names may not be listed can be gone through all the same.
_PASSED = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""The errnos where nothing is there, or a file or a link is in place of a folder."""


class Draft(NamedTuple):
    """A file that waits to be moved to its place."""

    path: str
    oid: bytes
    """Of the blob that git keeps of it."""
    raw: bytes
    """Of its own bytes: another one where attributes convert."""
    size: int
    stamp: int
    inode: int
    bits: int = 0o644
    """The permissions that its file will have."""


class Change(NamedTuple):
    """A change of a path: to another file, or to none."""

    path: str
    draft: Draft | None
    mode: int = _FILE


class WorkTree:
    """Looks at the files of a work tree, and changes them.

    Args:
        top: The folder.
    """

    def __init__(self, top: str) -> None:
        self._top = top

    # --- folders --------------------------------------------------------------------------------------

    def open_folder(self, path: str, make: bool = False) -> int:
        """Open a folder, for `dir_fd`; the caller closes it.

        Args:
            path: In the work tree; empty for the work tree itself.
            make: Whether it is made where it isn't there.

        Raises:
            OSError: It isn't there, or a file or a symbolic link is in the way.
            KeyConflictError: The same, if the folder should be made.
        """
        fd = os.open(self._top, _PASSED)
        try:
            done = 0
            for name in path.split("/") if path else ():
                done += len(name) + 1
                below = self._enter(fd, name, path[: done - 1], make)
                fd, above = below, fd
                os.close(above)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _enter(self, fd: int, name: str, path: str, make: bool) -> int:
        while True:
            try:
                return os.open(name, _PASSED, dir_fd=fd)
            except FileNotFoundError:
                if not make:
                    raise
            except OSError as error:
                if not make or error.errno not in _ABSENT:
                    raise
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISLNK(found.st_mode):
                    raise KeyConflictError(
                        f"{path!r} is a symbolic link, and links aren't followed"
                    ) from error
                raise KeyConflictError(
                    f"{path!r} is a file, and a work tree can't hold both it and blobs below it"
                ) from error
            try:
                os.mkdir(name, dir_fd=fd)
            except FileExistsError:
                continue  # another process was faster

    def look(self, path: str) -> os.stat_result | None:
        """Return the stat of a path; None for nothing."""
        if "/" not in path:
            return _look(f"{self._top}/{path}", None)
        folder, _, name = path.rpartition("/")
        return self.look_many(folder, (name,))[0]

    def look_many(self, folder: str, names: Sequence[str]) -> list[os.stat_result | None]:
        """Return the stats of some names in a folder; None for nothing."""
        try:
            fd = self.open_folder(folder)
        except OSError as error:
            if error.errno in _ABSENT:
                return [None] * len(names)
            raise
        try:
            return [_look(name, fd) for name in names]
        finally:
            os.close(fd)

    def is_linked(self, path: str) -> bool:
        """Whether a path, or a folder on the way to it, is a symbolic link."""
        for folder in folders_of(path, "/"):
            found = self.look(folder)
            if found is None or not stat.S_ISDIR(found.st_mode):
                return found is not None and stat.S_ISLNK(found.st_mode)
        found = self.look(path)
        return found is not None and stat.S_ISLNK(found.st_mode)

    # --- room -----------------------------------------------------------------------------------------

    def make_room(self, index: Index, path: bytes, gone: Mapping[bytes, object]) -> None:
        """Make the folder of a file.

        Args:
            index: What git tracks.
            path: The file.
            gone: Files that go in the same commit.

        Raises:
            KeyConflictError: Something is in the way that git doesn't track, or that isn't a file.
        """
        index.check_room(path, gone)
        text = os.fsdecode(path)
        if any(text.startswith(os.fsdecode(other) + "/") for other in gone):
            return
        folder, _, name = text.rpartition("/")
        fd = self.open_folder(folder, make=True)
        try:
            if not index.has(path):
                self._check_inside(text)
            found = _look(name, fd)
            if found is None:
                return
            if stat.S_ISDIR(found.st_mode):
                if any(other.startswith(path + b"/") for other in gone):
                    return
                try:
                    _remove_empty(name, fd)
                except OSError:
                    raise KeyConflictError(
                        f"{text!r} is a folder with files that git doesn't track: move it away"
                    ) from None
            elif not stat.S_ISREG(found.st_mode):
                raise KeyConflictError(
                    f"{text!r} is a symbolic link or a special file, which isn't replaced: move it away"
                )
            elif not index.has(path):
                raise KeyConflictError(
                    f"{text!r} is a file that git doesn't track: `git add` it, or move it away"
                )
        finally:
            os.close(fd)

    def _check_inside(self, path: str) -> None:
        """Refuse a path in another repository, where this repository can't track files."""
        for folder in folders_of(path, "/"):
            if os.path.lexists(f"{self._top}/{folder}/.git"):
                raise KeyConflictError(f"{folder!r} is a repository of its own: open a GitStore there")

    # --- files ----------------------------------------------------------------------------------------

    def place(self, change: Change, draft: Draft) -> os.stat_result:
        """Move a draft to its place, with the permissions of the file that was there; what lies there then.
        It may be there already.
        """
        folder, _, name = change.path.rpartition("/")
        fd = self.open_folder(folder, make=True)
        try:
            there = _look(name, fd)
            if there is not None and _is_draft(there, draft):
                return there
            bits = draft.bits | (draft.bits & 0o444) >> 2 if change.mode & 0o111 else draft.bits
            if there is not None and stat.S_ISREG(there.st_mode):
                bits = stat.S_IMODE(there.st_mode) & 0o777
                if change.mode & 0o111 and not bits & 0o111:
                    bits |= (bits & 0o444) >> 2
            os.chmod(draft.path, bits)
            try:
                os.rename(draft.path, name, dst_dir_fd=fd)
            except IsADirectoryError:
                _remove_empty(name, fd)
                os.rename(draft.path, name, dst_dir_fd=fd)
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)

    def remove(self, path: str) -> None:
        """Remove a file, and the folders that it leaves empty. It may be gone already, with its folder."""
        folder, _, name = path.rpartition("/")
        try:
            fd = self.open_folder(folder)
        except OSError as error:
            if error.errno in _ABSENT:
                return  # it is in the way, and not part of the work tree
            raise
        try:
            os.unlink(name, dir_fd=fd)
        except (FileNotFoundError, IsADirectoryError):
            return
        finally:
            os.close(fd)
        while folder:
            folder, _, name = folder.rpartition("/")
            try:
                fd = self.open_folder(folder)
            except OSError:
                return
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError:
                return
            finally:
                os.close(fd)

    def is_placed(self, path: str, draft: Draft) -> bool:
        """Whether a draft has moved to a place."""
        found = self.look(path)
        return found is not None and _is_draft(found, draft)

    def sync(self, folder: str) -> None:
        """Have the names in a folder on the disk."""
        try:
            fd = self.open_folder(folder)
        except OSError as error:
            if error.errno in _ABSENT:
                return  # it went with its last blob
            raise
        try:
            # A folder that was opened only to pass through can't be synced.
            listed = os.open(".", _LISTED, dir_fd=fd)
            try:
                os.fsync(listed)
            finally:
                os.close(listed)
        finally:
            os.close(fd)


def _look(name: str, fd: int | None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _is_draft(found: os.stat_result, draft: Draft) -> bool:
    return found.st_ino == draft.inode and found.st_mtime_ns == draft.stamp


def _remove_empty(name: str, above: int) -> None:
    """Remove a folder without files.

    Raises:
        OSError: There are, or it is a link.
    """
    fd = os.open(name, _LISTED, dir_fd=above)
    try:
        for inner in os.listdir(fd):
            _remove_empty(inner, fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=above)
