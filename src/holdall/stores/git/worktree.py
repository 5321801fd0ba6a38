"""The files of a work tree, and changes of them.

What is looked at, moved or removed is a name in an open folder, which was opened through no symbolic link. So
a folder that is replaced by a link can't lead a call out of the tree.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from holdall.errors import KeyConflictError
from holdall.paths import keep_mode, set_mode
from holdall.stores.git.index import Index
from holdall.stores.git.names import folders_of
from holdall.stores.nofollow import FOLDER, close_all, has_link, open_file
from holdall.stores.oserrors import GONE
from holdall.stores.places import Place, remove_empty, tidy
from holdall.stores.steps import sync_below


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


class PathChange(NamedTuple):
    """A change of a path: to another file, or to none."""

    path: str
    draft: Draft | None
    mode: int = 0o100644


def check_apart(changes: Sequence[PathChange]) -> None:
    """Refuse files of one commit that would have to be folders of others in it."""
    put = {change.path for change in changes if change.draft is not None}
    for path in put:
        for folder in folders_of(path, "/"):
            if folder in put:
                raise KeyConflictError(
                    f"{folder!r} is put with it, and a work tree can't hold blobs below a blob", key=path
                )


class WorkTree:
    """Looks at the files of a work tree, whose folder is `top`, and changes them."""

    def __init__(self, top: str) -> None:
        self._top = top

    @contextmanager
    def _at(self, path: str, make: bool = False) -> Generator[Place]:
        """Open the folder of a path. If `make` is set, it is made first, and what is in the way of it is a
        `KeyConflictError`."""
        held = [os.open(self._top, FOLDER)]
        try:
            if make:
                yield Place.make(held, held[0], path, base="", durable=False)
            else:
                yield Place(held, held[0], path)
        finally:
            close_all(held)

    def look(self, path: str) -> os.stat_result | None:
        """Return the stat of a path; None for nothing."""
        folder, _, name = path.rpartition("/")
        return self.look_many(folder, (name,))[0]

    def look_many(self, folder: str, names: Sequence[str]) -> list[os.stat_result | None]:
        """Return the stats of some names in a folder; None for nothing."""
        if not folder:
            return [_look(f"{self._top}/{name}") for name in names]
        fd = open_file(f"{self._top}/{folder}", FOLDER)
        if -fd in GONE:
            return [None] * len(names)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        try:
            return [_look(name, fd) for name in names]
        finally:
            os.close(fd)

    def is_linked(self, path: str) -> bool:
        """Whether a path, or a folder on the way to it, is a symbolic link."""
        return has_link(f"{self._top}/{path}", len(self._top) + 1)

    def make_room(self, index: Index, path: bytes, gone: Mapping[bytes, object]) -> None:
        """Make the folder of a file, unless something is in the way that git doesn't track, or that isn't a
        file, and that doesn't go in the same commit."""
        index.check_room(path, gone)
        text, is_tracked = os.fsdecode(path), index.has(path)
        if any(path.startswith(other + b"/") for other in gone):
            return
        with self._at(text, make=True) as place:
            if not is_tracked:
                self._check_inside(text)
            found = place.look()
            if found is None:
                return
            if stat.S_ISDIR(found.st_mode):
                if any(other.startswith(path + b"/") for other in gone):
                    return
                try:
                    remove_empty(place.name, place.folder)
                except OSError:
                    raise KeyConflictError(
                        f"{text!r} is a folder with files that git doesn't track: move it away"
                    ) from None
            elif not stat.S_ISREG(found.st_mode):
                raise KeyConflictError(
                    f"{text!r} is a symbolic link or a special file, which isn't replaced: move it away"
                )
            elif not is_tracked:
                raise KeyConflictError(
                    f"{text!r} is a file that git doesn't track: `git add` it, or move it away"
                )

    def _check_inside(self, path: str) -> None:
        """Refuse a path in another repository, where this repository can't track files."""
        for folder in folders_of(path, "/"):
            if os.path.lexists(f"{self._top}/{folder}/.git"):
                raise KeyConflictError(f"{folder!r} is a repository of its own: open a GitStore there")

    def place(self, change: PathChange, draft: Draft) -> os.stat_result:
        """Move a draft to its place, unless it is there already, with the permissions of the file that was
        there."""
        with self._at(change.path, make=True) as place:
            there = place.look()
            if there is not None and _is_draft(there, draft):
                return there
            _set_rights(draft, there, f"{self._top}/{place.path}", bool(change.mode & 0o111))
            try:
                os.rename(draft.path, place.name, dst_dir_fd=place.folder)
            except IsADirectoryError:
                remove_empty(place.name, place.folder)
                os.rename(draft.path, place.name, dst_dir_fd=place.folder)
            return os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove a file, and the folders that it leaves empty. It may be gone already, with its folder."""
        try:
            with self._at(path) as place:
                os.unlink(place.name, dir_fd=place.folder)
        except IsADirectoryError:
            return
        except OSError as error:
            if error.errno in GONE:
                return  # what is in the way isn't part of the work tree
            raise
        with self._at(".") as top:
            tidy(top.folder, path)

    def is_placed(self, path: str, draft: Draft) -> bool:
        """Whether a draft has moved to a place."""
        found = self.look(path)
        return found is not None and _is_draft(found, draft)

    def sync(self, folder: str) -> None:
        """Have the names in a folder on the disk."""
        with self._at(".") as top:
            sync_below(top.folder, folder or ".", "the change was made")


def _look(name: str, folder: int | None = None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise


def _set_rights(draft: Draft, there: os.stat_result | None, path: str, runs: bool) -> None:
    """Give a draft the rights of the file that is there, at a path, or bits of its own."""
    fd = os.open(draft.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        now, bits = -1, draft.bits
        if there is not None and stat.S_ISREG(there.st_mode):
            now = bits = keep_mode(fd, now, there, path)
        if runs and not bits & 0o111:
            bits |= (bits & 0o444) >> 2
        set_mode(fd, now, bits)
    finally:
        os.close(fd)


def _is_draft(found: os.stat_result, draft: Draft) -> bool:
    return found.st_ino == draft.inode and found.st_mtime_ns == draft.stamp
