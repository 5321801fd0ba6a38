"""The steps of a delete and of a move that are taken while the store's folder is locked."""

from __future__ import annotations

import errno
import os

from holdall.errors import BlobNotFoundError, StoreUnavailableError
from holdall.store import ABSENT, ANY, Expect
from holdall.stores.drafts import Check
from holdall.stores.local import sync_folder
from holdall.stores.nofollow import Descriptors, move_new
from holdall.stores.places import TRIES, Place
from holdall.stores.root import Root
from holdall.stores.times import floor_of, new_stamp, raise_floor


def unlink(root: Root, path: str, expect: Expect, check: Check, alone: bool, fd: int) -> bool | None:
    """Delete a file below the open folder; return whether it was there, or None if other writers must be kept
    away for it, and aren't (`alone`)."""
    with Descriptors() as held:
        place = Place(held, fd, path)
        found = place.blob()
        if expect is not ANY:
            check(found, expect)
        if found is None:
            return False
        if root.is_coarse(found):
            if not alone:
                return None
            raise_floor(fd, found.st_mtime_ns)
        os.unlink(place.name, dir_fd=place.folder)
        return True


def rename(
    root: Root, source: str, origin: str, path: str, expect: Expect, check: Check, fd: int
) -> os.stat_result:
    """Move the file of a key from one path below the open folder to another, while other writers are kept
    away; return what stat(2) says of it.

    Raises:
        BlobNotFoundError: There is no such file.
    """
    with Descriptors() as held:
        try:
            old = Place(held, fd, origin)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobNotFoundError(key=source) from None
        found = old.blob()
        if found is None:
            raise BlobNotFoundError(key=source)
        new = Place.make(held, fd, path, base=root.base, durable=root.durable)
        there = new.check_free()
        if expect is not ANY:
            check(there, expect)
        if there is None:
            new.make_room()
        if root.is_coarse(found):
            raise_floor(fd, found.st_mtime_ns)
            past = max(floor_of(fd), 0 if there is None else there.st_mtime_ns, new_stamp())
            past += 2_000_000_000
            os.utime(old.name, ns=(past, past), dir_fd=old.folder, follow_symlinks=False)
            found = old.blob() or found
        for _ in range(TRIES):
            try:
                if expect is not ABSENT or not _move_new(old, new, check):
                    os.replace(old.name, new.name, src_dir_fd=old.folder, dst_dir_fd=new.folder)
                return found
            except FileNotFoundError:
                if old.look() is None:
                    raise BlobNotFoundError(key=source) from None
                # A delete, which takes no lock to tidy up, has removed the target's folder as empty.
                new = Place.make(held, fd, path, base=root.base, durable=root.durable)
        raise StoreUnavailableError(
            "its folder keeps being deleted by another program; nothing was moved: try again"
        )


def _move_new(old: Place, new: Place, check: Check) -> bool:
    """Move a file to where nothing is; False if the file system can't. The lock doesn't suffice: a short put
    of a new blob takes none.

    Raises:
        BlobExistsError: There is a blob by now.
        FileNotFoundError: The file or the folder isn't there any more, or an empty folder was in the way.
    """
    failed = move_new(old.name, new.name, old.folder, new.folder)
    if failed == -errno.EEXIST:
        check(new.check_free(), ABSENT)
        new.make_room()
    if failed in (-errno.EEXIST, -errno.ENOENT):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return not failed


def sync_below(fd: int, folder: str, done: str) -> None:
    """Sync a folder below an open one, if it is there."""
    with Descriptors() as held:
        try:
            sync_folder(Place(held, fd, f"{folder}/.").folder, done)
        except (FileNotFoundError, NotADirectoryError):
            return  # tidied away, and what was in it with it
