"""The files of a work tree, and what is to become of them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from holdall.errors import KeyConflictError
from holdall.stores.git.index import Index

__all__ = ["Change", "Draft", "WorkTree", "is_placed", "remove_empty"]

_FILE = 0o100644


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


class Change(NamedTuple):
    """A path that is to be another file, or none."""

    path: str
    draft: Draft | None
    mode: int = _FILE


class WorkTree:
    """Makes room for files in a work tree.

    Args:
        top: The folder.
    """

    def __init__(self, top: str) -> None:
        self._top = top

    def make_room(self, index: Index, path: bytes, gone: Mapping[bytes, object]) -> None:
        """Make the folder of a file.

        Args:
            index: What git tracks.
            path: The file.
            gone: Files that go in the same commit.

        Raises:
            KeyConflictError: Something is in the way that git doesn't track, or that is no file.
        """
        index.check_room(path, gone)
        name = os.fsdecode(path)
        where = f"{self._top}/{name}"
        if any(name.startswith(os.fsdecode(other) + "/") for other in gone):
            return
        self.make_folder(where[: where.rindex("/")])
        if index.find(path) < 0:
            self._check_inside(name)
        try:
            found = os.lstat(where)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            if any(other.startswith(path + b"/") for other in gone):
                return
            try:
                remove_empty(where)
            except OSError:
                raise KeyConflictError(f"{name!r} is a folder with files that git doesn't track") from None
        elif not stat.S_ISREG(found.st_mode):
            raise KeyConflictError(f"{name!r} is a symbolic link or the like, which is not replaced")
        elif index.find(path) < 0:
            raise KeyConflictError(
                f"{name!r} is a file that git doesn't track: `git add` it, or move it away"
            )

    def make_folder(self, folder: str) -> None:
        """Make a folder of the work tree, and those above it, none through a symbolic link."""
        path = self._top
        for name in folder[len(self._top) + 1 :].split("/"):
            if not name:
                continue
            path = f"{path}/{name}"
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                os.mkdir(path)
                continue
            if stat.S_ISLNK(found.st_mode):
                raise KeyConflictError(f"{path!r} is a symbolic link, and links are not followed")
            if not stat.S_ISDIR(found.st_mode):
                raise KeyConflictError(
                    f"{path!r} is a file, and a work tree can't hold both it and blobs below"
                )

    def _check_inside(self, name: str) -> None:
        """Refuse a path in another repository, of which git would track nothing here."""
        end = name.find("/")
        while end > 0:
            folder = f"{self._top}/{name[:end]}"
            if os.path.lexists(f"{folder}/.git"):
                raise KeyConflictError(f"{folder!r} is a repository of its own: open a GitStore there")
            end = name.find("/", end + 1)

    def tidy(self, folder: str) -> None:
        """Remove a folder, and those above it, while they are empty."""
        while len(folder) > len(self._top):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = folder[: folder.rindex("/")]


def is_placed(path: str, draft: Draft) -> bool:
    """Whether a draft has moved to a place."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_ino == draft.inode and found.st_mtime_ns == draft.stamp


def remove_empty(folder: str) -> None:
    """Remove a folder in which there are no files.

    Raises:
        OSError: There are, or it is a link.
    """
    if os.path.islink(folder):
        raise NotADirectoryError(errno.ENOTDIR, "a symbolic link is not followed", folder)
    for name in os.listdir(folder):
        remove_empty(f"{folder}/{name}")
    os.rmdir(folder)
