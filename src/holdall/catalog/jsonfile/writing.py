"""Writing the two files: a line to the journal while it is locked, and the journal into a new main file.

A journal is locked by flock(2), and the writer that has the lock checks that the journal is still the one at
the path. Only the writer with the lock replaces it. A fold takes two renames: that of the main file, which
names the generation before it, then that of the journal. A writer that is killed between the two leaves the
journal of the generation before, all of which is in the main file.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, TypeVar
from zlib import crc32

from holdall.catalog.jsonfile.journal import Header, header_line, line_of
from holdall.catalog.jsonfile.mainfile import Title, compose
from holdall.catalog.jsonfile.state import Tables
from holdall.catalog.jsonfile.view import Place, View, find_file, place_of
from holdall.errors import StoreError, StoreUnavailableError, UnsupportedOperation
from holdall.paths import keep_mode
from holdall.stores.local import sync_folder, write_at
from holdall.stores.locks import CANNOT, release, take
from holdall.stores.nofollow import NEW, Descriptors, close_all
from holdall.stores.oserrors import translate

T = TypeVar("T")

_log = logging.getLogger("holdall")

_TRIES: Final = 1000
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
_REFUSED: Final = (errno.EROFS, errno.EACCES, errno.EPERM)

_PAUSE: Final = 0.002
"""The longest pause between two tries to lock the journal, in seconds: a lock is held for less."""
_LEAST: Final = 1 << 20
"""The size from which a journal is folded by a put. A fold syncs the disk, which costs as much as many puts;
the lines of a smaller journal are read in some milliseconds."""
_SMALL: Final = 1 << 16
"""A main file of this size is folded by each `close`."""
_SHARE: Final = 4
"""`close` folds a journal of at least this part of a larger main file."""


class JournalWriter:
    """Writes to the files of one catalogue, one thread at a time.

    Args:
        path: The main file.
        durable: Whether a line must be on the disk before it counts.
        reading: The lock under which views are looked at.
    """

    def __init__(self, path: str, durable: bool, reading: AbstractContextManager[Any]) -> None:
        self._fds: list[int] = []
        self._path = path
        self._log = path + ".log"
        self._durable = durable
        self._reading = reading
        self._place: Place | None = None
        self._refused: OSError | None = None
        """Why nothing can be written."""
        self._wrote = False
        self._enough = _LEAST
        """The size below which a journal isn't folded, since that failed at a smaller one."""

    def run(self, look: Callable[..., View], act: Callable[[View], T]) -> T:
        """Call a function with the newest view while the journal is locked. Where nothing can be written,
        it is called without the lock, and `append` raises.

        Raises:
            OSError: The files can't be used.
            StoreUnavailableError: Another program held the lock for too long.
            UnsupportedOperation: The file system has no locks.
        """
        for _ in range(_TRIES):
            if not self._fds:
                look()  # what isn't a catalogue gets no journal
            try:
                fd = self._open()
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._refused = error
                with self._reading:
                    view = look()
                    if view.title is None:
                        raise
                    return act(view)
            try:
                self._take(fd)
                view = self._prepare(fd, look)
                if view is not None:
                    result = act(view)
                    release(fd)
                    return result
                release(fd)
            except BaseException:
                release(fd)
                raise
            self.close()
        raise StoreUnavailableError(
            f"{self._log!r} keeps being replaced by other programs; nothing was changed: try again"
        )

    def _open(self) -> int:
        if not self._fds:
            opening = map(partial(os.open, self._log, _FLAGS), (0o666,))
            try:
                self._fds.extend(opening)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._log), exist_ok=True)
                self._fds.extend(map(partial(os.open, self._log, _FLAGS), (0o666,)))
            self._place, self._refused = place_of(os.fstat(self._fds[0])), None
        return self._fds[0]

    def _take(self, fd: int) -> None:
        try:
            take(fd, fcntl.LOCK_EX, self._log, _PAUSE)
        except OSError as error:
            if error.errno not in CANNOT:
                raise
            raise UnsupportedOperation(
                f"the file system of {self._log!r} can't lock files ({error.strerror}), and a JSON catalogue "
                "needs locks: keep it on a local disk, or use SQLite or PostgreSQL"
            ) from error

    def _prepare(self, fd: int, look: Callable[..., View]) -> View | None:
        """Make the journal ready for a line. Return None if it is another file by now."""
        found = find_file(self._log)
        if found is None or place_of(found) != self._place:
            return None
        view = look()
        if view.is_edited():
            view = look(anew=True)
        if view.place not in (None, self._place):
            return None
        if view.stale:
            self._renew(view)
            return None
        if found.st_size > view.end:
            # Its writer was killed while it wrote the last line, which nobody was told of.
            os.ftruncate(fd, view.end)
        return view

    def _renew(self, view: View) -> None:
        """Put a journal without changes in place of one that is empty, or whose changes are in the main file.
        Make the main file too if there is none."""
        if view.title is None:
            title = Title(os.urandom(16).hex(), os.urandom(8).hex(), "")
            data = compose(title, Tables())
            self._publish(self._path, data)
        else:
            title = view.title
            with open(self._path, "rb") as file:
                data = file.read()
        header = Header(title.generation, (len(data), crc32(data)), ("", 0))
        # The journal of a private file is private too.
        self._publish(self._log, header_line(header), self._path)

    def append(self, view: View, text: bytes, done: Callable[[int, bytes, int], None]) -> None:
        """Append a line, then call a function with its place, itself and its check.

        Raises:
            OSError: It can't be written. Nothing was changed.
            StoreUnavailableError: It is written, and may not survive a loss of power.
        """
        if self._refused is not None:
            raise translate(self._refused, "write the catalogue") from self._refused
        self._wrote = True
        line, check = line_of(text, view.check)
        start, fd = view.end, self._fds[0]
        try:
            written = os.write(fd, line)
            while written < len(line):
                # The system takes at most 2 GiB at once, and a full disk takes a part.
                written += os.write(fd, memoryview(line)[written:])
        except BaseException:
            self._cut(fd, start, start + len(line))
            raise
        if not self._durable:
            done(start, line, check)
            return
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise StoreUnavailableError(
                f"the change is made, but {self._log!r} can't be synced ({error.strerror}): it may not "
                "outlive a power failure"
            ) from error
        done(start, line, check)

    def _cut(self, fd: int, start: int, stop: int) -> None:
        """Take a line away that isn't whole. If that can't be done, the next writer does it."""
        try:
            if os.fstat(fd).st_size < stop:
                os.ftruncate(fd, start)
        except OSError as error:
            _log.debug("%r ends in half a line, which the next writer cuts: %s", self._log, error)

    def fold_if_grown(self, view: View) -> None:
        """Fold the journal into the main file once it is the larger one: so a line costs a fold of its own
        size, whatever the size of the catalogue."""
        if view.end > max(view.size, self._enough):
            self._try_to_fold(view)

    def fold_if_small(self, look: Callable[..., View]) -> None:
        """Fold what this instance wrote to, if that takes little."""
        if self._wrote and self._refused is None:
            try:
                self.run(look, self._fold_small)
            except (OSError, StoreError) as error:
                _log.warning("%r stays as it is, with all changes: %s", self._log, error)

    def _fold_small(self, view: View) -> None:
        if view.lines and (view.size <= _SMALL or view.end * _SHARE >= view.size):
            self._try_to_fold(view)

    def _try_to_fold(self, view: View) -> None:
        """Fold, and go on with the journal if that fails, such as on a full disk: all changes are in it."""
        try:
            self._fold(view)
        except (OSError, StoreError) as error:
            self._enough = view.end * 2
            _log.warning("the journal %r can't be folded, and grows on: %s", self._log, error)

    def _fold(self, view: View) -> None:
        old = view.title
        assert old is not None
        title = Title(old.identity, os.urandom(8).hex(), old.generation)
        data = compose(title, view.tables)
        header = Header(title.generation, (len(data), crc32(data)), (old.generation, view.end))
        self._publish(self._path, data)
        # What follows costs the journal, so that the disk must have the main file, and under its name.
        sync_folder(os.path.dirname(self._path))
        self._publish(self._log, header_line(header))
        if self._durable:
            sync_folder(os.path.dirname(self._path))
        self._enough = _LEAST

    def _publish(self, path: str, data: bytes, like: str | None = None) -> None:
        """Replace a file, which stays the old one until the disk has the new one. The new one has the owner
        and the permission bits of the old one, or of another file."""
        draft = path + ".new"
        old = find_file(like or path)
        with Descriptors() as made:
            try:
                _remove(draft)  # of a writer that was killed
                made.extend(map(partial(os.open, draft, NEW), (0o666 if old is None else 0o600,)))
                write_at(made[0], data, 0)
                if old is not None:
                    keep_mode(made[0], 0o600, old, like or path)
                os.fsync(made[0])
                os.replace(draft, path)
            except BaseException:
                _remove(draft)
                raise

    def close(self) -> None:
        close_all(getattr(self, "_fds", []))

    def __del__(self) -> None:
        self.close()


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
