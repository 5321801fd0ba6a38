"""Where a key lies: its folder, opened without following any link, and a name in there.

Files that are written, moved or removed are named by an open folder and one name (the `*at` calls of the
system), so no other program can lead a call elsewhere by replacing a folder by a link.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import partial

from holdall.errors import StoreUnavailableError
from holdall.stores.litter import is_draft, sweep
from holdall.stores.local import sync_folder
from holdall.stores.nofollow import FOLDER, LIST_NEAR, Descriptors, open_below, remove_folder
from holdall.stores.oserrors import GONE, conflict

TRIES = 64
"""How often a folder that others remove is made again."""


class Place:
    """A name in an open folder.

    Args:
        held: What the folder is added to, if it is opened; the caller closes it. (An object that closed it
            as it is dropped would swallow an interrupt that comes just then.)
        root: The store's folder, open.
        path: A path below it.
        base: Where the store's folder is, for errors.
        make: Whether folders on the way are made where there are none.
        durable: Whether those are synced to the disk.
        own: Whether the folder stays open when `root` is closed.

    Raises:
        FileNotFoundError: There is no such folder.
        KeyConflictError: A blob or a link is in the way, and `make` is set.
            NotADirectoryError: The same, without `make`.
    """

    __slots__ = ("folder", "name", "path")

    def __init__(
        self,
        held: list[int],
        root: int,
        path: str,
        *,
        base: str = "",
        make: bool = False,
        durable: bool = False,
        own: bool = False,
    ) -> None:
        self.path = base + path
        above, _, self.name = path.rpartition("/")
        self.folder = root
        if above or own:
            failed = open_below(held, root, above or ".", FOLDER)
            if failed and make and -failed in GONE:
                _make_folders(held, root, above, base, durable)
            elif failed:
                code = errno.ENOTDIR if failed == -errno.ELOOP else -failed
                raise OSError(code, os.strerror(code))
            self.folder = held[-1]

    @classmethod
    def make(
        cls, held: list[int], root: int, path: str, *, base: str, durable: bool, own: bool = False
    ) -> Place:
        """The same, in folders that are made where there are none, however often others remove them.

        Raises:
            KeyConflictError: A blob or a link is in the way.
        """
        for _ in range(TRIES):
            try:
                return cls(held, root, path, base=base, make=True, durable=durable, own=own)
            except FileNotFoundError:
                continue  # another process has removed it as empty
        raise StoreUnavailableError(
            "its folder keeps being deleted by another program; nothing was stored: try again"
        )

    def look(self) -> os.stat_result | None:
        """Return the stat of what is there, of a link itself; None for nothing."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def blob(self) -> os.stat_result | None:
        """Return the stat of what is there if it is a blob, otherwise None."""
        found = self.look()
        return found if found is not None and stat.S_ISREG(found.st_mode) else None

    def check_free(self) -> os.stat_result | None:
        """The blob that is there; None for nothing, or for empty folders.

        Raises:
            KeyConflictError: Something else is there.
        """
        for _ in range(TRIES):
            found = self.look()
            if found is None or stat.S_ISREG(found.st_mode):
                return found
            if not stat.S_ISDIR(found.st_mode):
                raise conflict(self.path, found.st_mode)
            try:
                remove_empty(self.name, self.folder, only_look=True)
                return None
            except FileNotFoundError:
                continue  # another process has removed an empty folder in the midst of the look
            except (OSError, RecursionError) as error:
                raise conflict(self.path, found.st_mode) from error
        raise StoreUnavailableError(
            "folders at its path keep being deleted by another program; nothing was stored: try again"
        )

    def make_room(self) -> None:
        """Remove the empty folders that are there.

        Raises:
            KeyConflictError: They aren't empty, or no folders.
        """
        for _ in range(TRIES):
            self.check_free()
            found = self.look()
            if found is None or stat.S_ISREG(found.st_mode):
                return
            try:
                remove_empty(self.name, self.folder)
                return
            except FileNotFoundError:
                continue  # another process was faster
            except OSError as error:
                raise conflict(self.path, found.st_mode) from error


def _make_folders(held: list[int], root: int, path: str, base: str, durable: bool) -> None:
    above, done = root, ""
    for name in path.split("/"):
        done = f"{done}/{name}" if done else name
        try:
            os.mkdir(name, dir_fd=above)
            if durable:
                sync_folder(above)
        except FileExistsError:
            pass
        try:
            held.extend(map(partial(os.open, name, dir_fd=above), (FOLDER,)))
        except NotADirectoryError:
            raise conflict(base + done, os.lstat(name, dir_fd=above).st_mode) from None
        above = held[-1]


def remove_empty(name: str, above: int, *, only_look: bool = False) -> None:
    """Remove a folder that holds nothing but such folders.

    Raises:
        OSError: It holds other files, or isn't a folder.
    """
    with Descriptors() as fds:
        failed = open_below(fds, above, name, LIST_NEAR)
        if failed:
            raise OSError(-failed, os.strerror(-failed))
        for inner in os.listdir(fds[0]):
            if is_draft(inner):
                sweep(inner, fds[0])
                continue
            remove_empty(inner, fds[0], only_look=only_look)
    if not only_look:
        os.rmdir(name, dir_fd=above)


def tidy(root: int, path: str) -> None:
    """Remove the folders above a path that are empty, up to the store's own."""
    folder = path.rpartition("/")[0]
    while "/" in folder:
        above, _, name = folder.rpartition("/")
        with Descriptors() as held:
            if open_below(held, root, above, FOLDER) or not remove_folder(name, held[0]):
                return
        folder = above
    if folder:
        remove_folder(folder, root)
