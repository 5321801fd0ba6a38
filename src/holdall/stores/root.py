"""The folder of a store: found where it is now, made when it is needed, locked by one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from holdall.errors import StoreUnavailableError
from holdall.stores.litter import remove
from holdall.stores.local import sync_folder
from holdall.stores.locks import FolderLock, FolderMoved, draft_name
from holdall.stores.nofollow import NEW, close_all
from holdall.stores.places import TRIES
from holdall.stores.times import COARSE, new_stamp

T = TypeVar("T")


class Root:
    """The folder of a store: `path` may be a link to it, `base` has none and ends in `/`."""

    def __init__(self, path: str, base: str, durable: bool) -> None:
        self._path = path
        self.base = base
        self.durable = durable
        self.coarse: bool | None = None
        """Whether times are too coarse to tell two changes apart; None if that isn't known."""
        self.exact = False
        """Whether times are known to be kept to the nanosecond."""
        self.local = threading.local()

    def lock(self) -> FolderLock:
        """This thread's lock of the folder that was there when it was last looked for.

        Raises:
            FileNotFoundError: There was none.
            StoreUnavailableError: A file is there.
        """
        lock: FolderLock | None = getattr(self.local, "lock", None)
        if lock is None or lock.fd < 0:
            try:
                lock = self.local.lock = FolderLock(self._path)
            except NotADirectoryError as error:
                raise StoreUnavailableError(
                    f"{self._path!r} isn't a folder any more: a file is there, or in its path; move it away"
                ) from error
        return lock

    def open_root(self, *, make: bool) -> int:
        """The folder that is there now, open; it is closed when this thread asks again after it was moved.

        Raises:
            FileNotFoundError: There is none, and `make` is not set.
        """
        for _ in range(TRIES):
            try:
                lock = self.lock()
                if not lock.moved(self._path):
                    return lock.fd
                self._look_again()
            except FileNotFoundError:
                if not make:
                    raise
                self.make()
        raise self._keeps_moving()

    def locked(self, how: int, act: Callable[[int], T]) -> T:
        """Call a function with the folder that is there now, while that is locked: `LOCK_SH` keeps those away
        who compare and swap, `LOCK_EX` all writers.

        Raises:
            FileNotFoundError: There is no folder.
        """
        for _ in range(TRIES):
            try:
                return self.lock().run(how, self._path, act)
            except FolderMoved:
                self._look_again()
        raise self._keeps_moving()

    def _keeps_moving(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the folder {self._path!r} keeps being moved; nothing was changed: try again"
        )

    def _look_again(self) -> None:
        """Forget this thread's folder, since another is there now."""
        del self.local.lock
        self.base = os.path.realpath(self._path).rstrip("/") + "/"

    def forget(self) -> None:
        """Close the folders that threads hold, once no thread uses them."""
        self.local = threading.local()

    def make(self) -> None:
        folder = above = os.path.realpath(self._path)
        made: list[str] = []
        while self.durable and not os.path.isdir(above):
            above = os.path.dirname(above)
            made.append(above)
        os.makedirs(folder, exist_ok=True)
        for above in made:
            sync_folder(above)

    def probe(self) -> bool:
        """Whether the disk of the folder is blind to case, by a file that is made and removed; how fine its
        times are is noted, too."""
        for _ in range(TRIES):
            root = self.open_root(make=True)
            name = draft_name()
            fds: list[int] = []
            try:
                fds.extend(map(partial(os.open, name, NEW, dir_fd=root), (0o600,)))
                self.note_times(fds[0])
                try:
                    os.stat(name.upper(), dir_fd=root, follow_symlinks=False)
                    return True
                except FileNotFoundError:
                    # A listing may sweep the file, which isn't locked, and then this says nothing.
                    if os.fstat(fds[0]).st_nlink:
                        return False
            except FileNotFoundError:
                continue  # the folder was deleted before the file was made
            finally:
                remove(name, root)
                close_all(fds)
        raise StoreUnavailableError(
            f"temporary files in {self._path!r} keep being deleted by another program; nothing was changed: "
            "try again"
        )

    def is_coarse(self, found: os.stat_result) -> bool:
        """Whether times are too coarse to tell two changes apart, by the time of a file, or of a new one."""
        if self.coarse is None and found.st_mtime_ns % 10_000_000:
            return False  # no file system that is coarse keeps such a time
        if self.coarse is None:
            self.probe()
        return bool(self.coarse)

    def note_times(self, fd: int, stamp: int | None = None) -> int:
        """Set a file's time, and return what the file system kept of it."""
        stamp = new_stamp() if stamp is None else stamp
        os.utime(fd, ns=(stamp, stamp))
        kept = os.fstat(fd).st_mtime_ns
        if abs(kept - stamp) > COARSE:
            self.coarse = True
        elif self.coarse is None:
            self.coarse = False
        # A time without a part of a microsecond is the same where times are kept to 100 ns, as by NTFS.
        if kept != stamp or stamp % 1000:
            self.exact = kept == stamp and not self.coarse
        return kept
