"""A temporary file next to its target, which becomes the blob when it is whole.

Its writer locks it while it is open. Any process may remove an unlocked one. Case 1: its writer is dead. Case
2: its writer hasn't locked it yet; once it has the lock, it checks that its file is still there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import cast

from holdall.blob import check_expected
from holdall.errors import BlobExistsError, StoreUnavailableError
from holdall.paths import keep_mode, set_mode
from holdall.store import ABSENT, ANY, Expect, Info, Piece, with_mode
from holdall.stores.litter import remove
from holdall.stores.local import copy_range, sync_folder
from holdall.stores.locks import CANNOT, draft_name, generation, take
from holdall.stores.nofollow import NEW, close_all, move_new
from holdall.stores.oserrors import conflict
from holdall.stores.places import TRIES, Place
from holdall.stores.root import Root
from holdall.stores.times import floor_of

Check = Callable[[os.stat_result | None, Expect], None]

_new_info = cast("Callable[[type[Info]], Info]", object.__new__)


def etag_of(found: os.stat_result) -> str:
    """The ETag of a file: the time of its last change, and its size."""
    return f"{found.st_mtime_ns << 48 | found.st_size:x}"


def describe(key: str, found: os.stat_result) -> Info:
    """What stat(2) says of a blob."""
    # Without the steps of `Info.__init__` and `with_mode`: a listing does this for each file.
    info = _new_info(Info)
    info._key = key
    info._size = size = found.st_size
    stamp = found.st_mtime_ns
    info._etag, info._modified = stamp << 48 | size, stamp / 1e9
    info._mode = found.st_mode & 0o777
    info._content_type = info._expires = info._metadata = None
    return info


def compare(found: os.stat_result | None, expect: Expect) -> None:
    """Check the file that is there against what the caller expects, as `check_expected` does."""
    check_expected(None if found is None else etag_of(found), expect)


class Draft:
    """A temporary file next to its target.

    Args:
        root: The store's folder.
        path: The target's path below the store's folder.
        most: The permission bits that it may have at most.
    """

    def __init__(self, root: Root, path: str, most: int = 0o777) -> None:
        self.size = 0
        self._root = root
        self._path = path
        self._fds: list[int] = []
        """The file itself, while it is open."""
        self._held: list[int] = []
        """The folders that it was made and put in."""
        self._place: Place | None = None
        self._name = ""
        self._mode = 0o600
        self._new_mode = 0o600
        self._most = most
        self._generation = generation()

    @property
    def _fd(self) -> int:
        if not self._fds or self._generation != generation():
            raise StoreUnavailableError("the file was begun in another process, or dropped; write it again")
        return self._fds[0]

    def begin(self) -> None:
        """Make it. The caller must drop or publish it, even if this raises."""
        for _ in range(TRIES):
            root = self._root.open_root(make=True)
            self._place = place = Place.make(
                self._held, root, self._path, base=self._root.base, durable=self._root.durable, own=True
            )
            found = place.check_free()
            self._name = draft_name()
            # What replaces a private file is private from the first. A new file shows what the umask leaves.
            mode = 0o666 if found is None else 0o600
            try:
                self._fds.extend(map(partial(os.open, self._name, NEW, dir_fd=place.folder), (mode,)))
            except FileNotFoundError:
                continue  # its folder was tidied away
            fd = self._fds[0]
            if found is None:
                self._new_mode = stat.S_IMODE(os.fstat(fd).st_mode)
                set_mode(fd, self._new_mode, 0o600)
            else:
                self._new_mode = found.st_mode & 0o777
            try:
                take(fd, fcntl.LOCK_EX, self._path)
            except OSError as error:
                if error.errno not in CANNOT:
                    raise
            if os.fstat(fd).st_nlink:
                return
            close_all(self._fds)  # it was swept before it was locked
        raise StoreUnavailableError(
            "its folder keeps being deleted by another program; nothing was stored: try again"
        )

    def add(self, piece: Piece) -> None:
        """Write a piece to its end."""
        written = os.write(self._fd, piece)
        self.size += written
        while written < len(piece):
            # The system takes at most 2 GiB at once, and a full disk takes a part.
            piece = memoryview(piece)[written:]
            written = os.write(self._fd, piece)
            self.size += written

    def clone(self, source: int, found: os.stat_result) -> None:
        """Take over another file's bytes, inside the file system where it can, and let no more people read
        them than could."""
        mode = found.st_mode & 0o777
        self._most = mode | 0o711
        self._new_mode |= mode & 0o111 & self._new_mode >> 2
        copy_range(source, 0, self._fd, 0, found.st_size)
        # The copy leaves the position at the start: what is added would overwrite it.
        self.size = os.lseek(self._fd, found.st_size, os.SEEK_SET)

    def publish(self, key: str, expect: Expect, check: Check) -> Info:
        """Put it where its blob belongs, if what is there is what `expect` says by `check`."""
        fd, root, place = self._fd, self._root, self._place
        assert place is not None
        self._fit(place.blob())
        stamp = root.note_times(fd)
        if root.durable:
            os.fsync(fd)
        alone = root.coarse or not (expect is ANY or expect is ABSENT)
        done = None
        try:
            if not alone:
                done = root.locked(fcntl.LOCK_SH, partial(self._put_in_place, expect, check, stamp, False))
            while done is None:
                done = root.locked(fcntl.LOCK_EX, partial(self._put_in_place, expect, check, stamp, True))
        except FileNotFoundError as error:
            raise StoreUnavailableError(
                "the store's folder was deleted or moved while the blob was written; nothing was stored: "
                "try again"
            ) from error
        stamp, target = done
        self._name = ""
        try:
            close_all(self._fds)
        except OSError as error:
            raise StoreUnavailableError(
                f"the blob is stored, but its file can't be closed ({error.strerror}): read it back"
            ) from error
        if root.durable:
            sync_folder(target.folder, "the blob is stored")
        close_all(self._held)
        return with_mode(Info(key, self.size, stamp << 48 | self.size, stamp / 1e9), self._mode)

    def _fit(self, found: os.stat_result | None) -> None:
        """Take over the permission bits of what it replaces."""
        if found is None:
            self._mode = set_mode(self._fd, self._mode, self._new_mode & self._most)
        else:
            self._mode = keep_mode(self._fd, self._mode, found, self._root.base + self._path, self._most)

    def _put_in_place(
        self, expect: Expect, check: Check, stamp: int, alone: bool, root: int
    ) -> tuple[int, Place] | None:
        """The step that publishes; None if other writers must be kept away for it."""
        source = self._place
        assert source is not None
        # Opened again: if its folder was moved, the blob goes where its key says.
        target = Place.make(self._held, root, self._path, base=self._root.base, durable=self._root.durable)
        found = target.look()
        if found is not None and not stat.S_ISREG(found.st_mode):
            if not alone:
                return None
            target.make_room()
            found = None
        if alone and expect is not ANY:
            check(found, expect)
        self._fit(found)
        if self._root.coarse:
            stamp = self._stamp_past(root, stamp, found)
        if expect is ABSENT:
            failed = move_new(self._name, target.name, source.folder, target.folder)
            if failed == -errno.EEXIST:
                if not alone:
                    return None
                raise BlobExistsError
            if failed == -errno.ENOENT:
                if _is_there(self._name, source.folder):
                    return None  # it is the target's folder that was tidied away
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if failed and not alone:
                return None
            if not failed:
                return stamp, target
            # Neither way is there; the lock still keeps away every writer of holdall.
        try:
            os.replace(self._name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)
        except FileNotFoundError:
            if _is_there(self._name, source.folder):
                return None  # it is the target's folder that was tidied away
            raise
        except OSError as error:
            now = target.look()
            if now is None or stat.S_ISREG(now.st_mode):
                raise
            raise conflict(self._root.base + self._path, now.st_mode) from error
        return stamp, target

    def _stamp_past(self, root: int, stamp: int, found: os.stat_result | None) -> int:
        """Set a time past that of what is replaced, or of all that was deleted, on a file system whose times
        don't tell two changes apart."""
        past = floor_of(root) if found is None else found.st_mtime_ns
        step = 1_000_000_000
        while stamp <= past:
            stamp = self._root.note_times(self._fd, past + step)
            step *= 2
        if self._root.durable:
            os.fsync(self._fd)
        return stamp

    def drop(self) -> None:
        """Take it away, unless it was published."""
        if self._generation != generation():
            close_all(self._fds + self._held)  # it is the parent's
            self._fds, self._held = [], []
            return
        name, place = self._name, self._place
        if name and place is not None:
            remove(name, place.folder)
        self._name = ""
        close_all(self._fds)
        close_all(self._held)


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
