"""The lock of all handles and processes, and what is done under it: appending records, and folding them."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import TypeVar
from weakref import WeakSet

from holdall.errors import KeyConflictError, StoreError
from holdall.forks import begin_anew
from holdall.store import Piece
from holdall.stores.local import copy_range, sync_folder, write_at
from holdall.stores.zip.draft import HELD, FilePart
from holdall.stores.zip.entry import CHECKED, File
from holdall.stores.zip.faults import failure
from holdall.stores.zip.fold import write_archive
from holdall.stores.zip.journal import BEGIN, HEAD, PUT, Change, make_heads, new_beginning, read_beginning
from holdall.stores.zip.view import Files, View

T = TypeVar("T")

_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class Writer:
    """What one handle does to the files. All calls need the mutex of the files. A journal of less than
    `fold_size` bytes isn't folded before `retire`."""

    def __init__(self, files: Files, durable: bool, fold_size: int) -> None:
        self._files = files
        self._durable = durable
        self.fold_size = fold_size
        self._fold_at = 0
        self._fd = -1
        """The journal, which is also the lock."""
        self._inode = 0
        self._dirty = False
        """Whether the journal holds what this handle wrote."""
        _writers.add(self)
        begin_anew(self, Writer.after_fork)

    def locked(self, act: Callable[[View], T]) -> T:
        """Call `act` with the lock of all handles and processes, which is on the journal, and what is there.

        The release covers the taking: wherever an interrupt comes, the next step is that call of C.
        """
        try:
            return act(self._begin())
        except StoreError:
            # Some are OSErrors too: a blob that isn't there is a FileNotFoundError.
            raise
        except OSError as error:
            raise failure(error, self._files.path) from error
        finally:
            if self._fd >= 0:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _begin(self) -> View:
        """Take the lock, and catch up with the others; the caller frees it, also after an error.

        The journal is unlinked when it is folded, so that a lock counts only while its file is still the one
        at the path.
        """
        while True:
            if self._fd < 0:
                self._open_journal()
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                if os.stat(self._files.journal_path).st_ino == self._inode:
                    break
            except FileNotFoundError:
                pass
            self._drop_lock()
        view = self._files.refresh(locked=True)
        if view.torn:
            os.ftruncate(self._fd, view.parsed)
            view.torn = False
        if view.parsed == 0:
            begin = new_beginning()
            write_at(self._fd, begin, 0)
            view.seed = int.from_bytes(begin[8:12], "little")
            view.parsed = BEGIN
        return view

    def _open_journal(self) -> None:
        # An archive that can't be read is refused before anything is made next to it.
        self._files.refresh()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._fd = os.open(self._files.journal_path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self._files.folder, exist_ok=True)
            self._fd = os.open(self._files.journal_path, flags, 0o600)
        self._inode = os.fstat(self._fd).st_ino
        if self._durable:
            sync_folder(self._files.folder)

    def _drop_lock(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def append(
        self,
        view: View,
        changes: Sequence[Change],
        pieces: Iterable[tuple[int, Piece]] = (),
        run: FilePart | None = None,
    ) -> None:
        """Write records to the end of the journal, make them count, and fold it where it has grown too long.

        Args:
            view: What `locked` gave.
            pieces: The data of the changes, each with its offset from the first record's start.
            run: Data in a file, which are written before the pieces.

        Raises:
            KeyConflictError: A member of that name isn't a blob; nothing was written.
        """
        for change in changes:
            if change.kind == PUT and change.key in view.left_out:
                raise KeyConflictError(
                    f"a {view.left_out[change.key]} of that name is in {self._files.path}, and isn't a blob; "
                    "remove it with a zip program, or use another key",
                    key=change.key,
                )
        journal, start = view.journal, view.parsed
        assert journal is not None
        heads = make_heads(changes, view.seed, start)
        parts = sorted([*heads, *pieces], key=itemgetter(0))
        end = parts[-1][0] + len(parts[-1][1])
        counts = False
        checked = all(each.entry is None or each.entry.length <= CHECKED for each in changes)
        try:
            if run is None and end <= HELD + CHECKED and checked:
                # Where it is torn, the check of a head or of its data shows it.
                write_at(self._fd, b"".join(part for _, part in parts), start)
            else:
                if run is not None:
                    copy_range(run.fd, run.start, self._fd, start + run.place, run.length)
                    end = max(end, run.place + run.length)
                # The first header makes everything after it count, so that it is the last to be written.
                parts[0] = HEAD, heads[0][1][HEAD:]
                for place, part in parts:
                    write_at(self._fd, part, start + place)
                if self._durable:
                    _fdatasync(self._fd)
                write_at(self._fd, heads[0][1][:HEAD], start)
            counts = True
            if self._durable:
                _fdatasync(self._fd)
        except OSError as error:
            self._withdraw(view, start, counts)
            raise failure(error, self._files.path) from error
        self._dirty = True
        for change in changes:
            if change.entry is not None:
                change.entry.file = journal
                change.entry.offset += start
        view.apply(changes)
        view.parsed = start + end
        self._fold_if_due(view, fresh=start == BEGIN)

    def _withdraw(self, view: View, start: int, counts: bool) -> None:
        """Take back records that couldn't be written, or not be made durable."""
        try:
            os.ftruncate(self._fd, start)
            if counts:
                # Others may have read them; a new journal file makes them begin again.
                self._fold(view, sync=True)
        except (OSError, StoreError):
            view.torn = True

    def flush(self) -> None:
        """Fold the journal, if there is one."""
        if os.access(self._files.journal_path, os.F_OK):
            self.locked(lambda view: self._fold(view, sync=True))

    def _fold_if_due(self, view: View, fresh: bool) -> None:
        """Fold a journal that is long for its archive, so that a write costs a constant share of the folds.

        The first write of a store is folded at once: from then on there is an archive, whatever happens.
        """
        if view.identity is not None:
            size = view.parsed
            if size < self.fold_size or size < view.identity[1] // 2 or size < self._fold_at:
                return
        try:
            self._fold(view, sync=self._durable or view.identity is not None or not fresh)
        except (OSError, StoreError) as error:
            # The write itself is safe in the journal. Trying again at each one would cost an archive each.
            self._fold_at = 2 * view.parsed
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        from logging import getLogger

        getLogger("holdall").warning(
            "%s couldn't be brought up to date; its journal keeps what was written: %s",
            self._files.path,
            error,
        )

    def _fold(self, view: View, *, sync: bool) -> None:
        """Write a new archive with what the journal says, put it in place of the old one, drop the journal.

        The lock is held. A kill at any point leaves the old archive with the journal, or the new one with
        the journal, which are the same blobs, or the new one alone.
        """
        from holdall.paths import keep_mode

        files = self._files
        while view.parsed > BEGIN:
            mode = 0o666 if view.archive is None else 0o600
            with contextlib.suppress(FileNotFoundError):
                # One name is enough under the lock: what a killed process left is in the way of the next.
                os.unlink(files.temporary)
            fd = os.open(files.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                write_archive(view, files.path, fd)
                if sync:
                    os.fsync(fd)
                # Another program may have changed the archive since; what it did must not be lost.
                if files.identity() != view.identity:
                    view = files.refresh(locked=True)
                    continue
                if view.archive is not None:
                    keep_mode(fd, mode, os.fstat(view.archive.fd), files.path)
                os.replace(files.temporary, files.path)
            except BaseException:
                # It is gone where an interrupt came just after it took the place of the archive.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(files.temporary)
                raise
            finally:
                os.close(fd)
            if sync:
                sync_folder(self._files.folder)
            break
        os.unlink(files.journal_path)
        # Those who wait for its lock see that the file has no name now, and open the next one.
        self._drop_lock()
        self._dirty = False
        self._fold_at = 0
        files.view = None

    def retire(self, wait: bool, tidy: bool) -> None:
        """Fold what this handle wrote, or if `tidy` is set what a killed process left, and free the lock.
        `wait` says whether to wait for another process that writes now, if this handle wrote."""
        journal_path = self._files.journal_path
        try:
            abandoned = self._fd < 0 and tidy and self._is_abandoned()
            if abandoned:
                self._open_journal()
            if self._fd >= 0:
                fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait and self._dirty else fcntl.LOCK_NB))
                # Another journal means that another process has folded ours.
                if os.stat(journal_path).st_ino == self._inode:
                    view = self._begin()
                    if self._dirty or abandoned or view.parsed <= BEGIN:
                        self._fold(view, sync=True)
        except (BlockingIOError, FileNotFoundError):
            pass
        except (OSError, StoreError) as error:
            # The journal keeps everything that was acknowledged; the next writer folds it.
            self._warn(error)
        finally:
            # Closing the file frees the lock. No call of Python comes first, which an interrupt could keep
            # from being made.
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def retire_now(self) -> None:
        """Retire, unless another thread, or a frame below this one, is at work."""
        if self._files.mutex.acquire(blocking=False):
            try:
                self.retire(wait=False, tidy=False)
            finally:
                self._files.mutex.release()

    def _is_abandoned(self) -> bool:
        """Whether there is a journal of a process that ended without folding it, and this one may."""
        files = self._files
        if not os.access(files.journal_path, os.R_OK | os.W_OK) or not os.access(files.folder, os.W_OK):
            return False
        journal = File(files.journal_path)
        made = read_beginning(journal.fd, files.journal_path)
        pid = 0 if made is None else made[1]
        if pid == os.getpid():
            return not any(other._fd >= 0 and other._files.path == files.path for other in list(_writers))
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def after_fork(self) -> None:
        """Begin anew: a lock belongs to an open file, which parent and child would share."""
        self._drop_lock()
        self._dirty = False
        self._files.forget()


_writers: WeakSet[Writer] = WeakSet()


def _at_exit() -> None:
    for writer in list(_writers):
        writer.retire_now()


atexit.register(_at_exit)
