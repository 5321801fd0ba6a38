"""What a handle sees: the archive with its journal laid over it, kept up with what other handles write."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Iterable

from holdall.errors import IntegrityError, StoreUnavailableError
from holdall.stores.zip.archive import ENCRYPTED, Directory, find_directory, read_members, refuse_overlaps
from holdall.stores.zip.entry import Entry, File
from holdall.stores.zip.faults import failure
from holdall.stores.zip.journal import BEGIN, CLEAR, Change, read_batches, read_beginning


class View:
    """The blobs of an archive and of its journal up to `parsed`."""

    def __init__(self) -> None:
        self.archive: File | None = None
        self.identity: tuple[int, int, int] | None = None
        self.directory = Directory()
        self.left_out: dict[str, str] = {}
        """The kind of each member that isn't a blob, by its path."""
        self.journal: File | None = None
        self.parsed = 0
        self.seed = 0
        self.torn = False
        """Whether the journal ends in a record that wasn't finished."""
        self.entries: dict[str, Entry] = {}
        self.order: list[str] | None = None
        """The keys in order, once they are asked for. The list is replaced, never changed, so that it can be
        walked while others write."""

    def read_archive(self, file: File, path: str) -> None:
        """Read the central directory."""
        now = os.fstat(file.fd)
        self.archive = file
        self.identity = (now.st_ino, now.st_size, now.st_mtime_ns)
        if not stat.S_ISREG(now.st_mode):
            raise StoreUnavailableError(f"{path} isn't a regular file; give the path of an archive")
        self.directory = find_directory(file.fd, now.st_size, path)
        members = list(read_members(file, self.directory, path))
        refuse_overlaps(members, self.directory, path)
        for member in members:
            key, kind = member.name, member.left_out()
            if kind is not None:
                # Of two members of one name the last one counts.
                if kind:
                    self.left_out[key] = kind
                    self.entries.pop(key, None)
                continue
            self.left_out.pop(key, None)
            entry = Entry(member.size, member.length, member.method, member.crc, *member.describe())
            entry.file, entry.offset = file, -1
            entry.header, entry.name = member.header, member.raw
            entry.encrypted = bool(member.flags & ENCRYPTED)
            self.entries[key] = entry

    def read_journal(self, journal: File, path: str, locked: bool) -> None:
        """Lay the records from `parsed` on over the entries."""
        self.journal = journal
        try:
            self._read_records(journal, path)
        except IntegrityError:
            if locked:
                raise
            # A writer may have been half-way through a record.
            try:
                fcntl.flock(journal.fd, fcntl.LOCK_SH)
                self._read_records(journal, path)
            finally:
                fcntl.flock(journal.fd, fcntl.LOCK_UN)

    def _read_records(self, journal: File, path: str) -> None:
        if self.parsed == 0:
            begin = read_beginning(journal.fd, path)
            if begin is None:
                self.torn = os.fstat(journal.fd).st_size > 0
                return
            self.seed = begin[0]
            self.parsed = BEGIN
        for end, batch in read_batches(journal, self.parsed, self.seed, path):
            self.apply(batch)
            self.parsed = end
        self.torn = self.parsed < os.fstat(journal.fd).st_size

    def apply(self, batch: Iterable[Change]) -> None:
        """Make changes that are in the journal."""
        entries = self.entries
        for kind, key, entry, _ in batch:
            if entry is not None:
                if key not in entries:
                    self.order = None
                entries[key] = entry
            elif kind == CLEAR:
                entries.clear()
                self.order = None
            elif entries.pop(key, None) is not None:
                self.order = None


class Files:
    """The archive and its journal, and the newest view of the two. The path is absolute and without links,
    since the journal lies next to the archive."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder, name = os.path.split(path)
        self.journal_path = f"{path}.journal"
        self.temporary = os.path.join(self.folder, f".{name}.holdall-fold")
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after a fork: another thread of the parent may have held the mutex."""
        self.mutex = threading.Lock()
        self.view: View | None = None

    def current(self) -> View | None:
        """Return the newest view, for the price of two system calls; None if another process has written
        since."""
        view = self.view
        if view is not None:
            try:
                if view.journal is None:
                    same = not os.access(self.journal_path, os.F_OK)
                else:
                    now = os.stat(self.journal_path)
                    same = now.st_size == view.parsed and now.st_ino == view.journal.inode
                if same:
                    now = os.stat(self.path)
                    if (now.st_ino, now.st_size, now.st_mtime_ns) == view.identity:
                        return view
            except OSError:
                pass
        return None

    def refresh(self, locked: bool = False) -> View:
        """Catch up with the files. The mutex is held; the lock of the processes need not be.

        A fold replaces the archive, then unlinks the journal, which replayed over the new archive changes
        nothing. The journal is therefore opened first: with an older archive than the journal's, what was
        folded would be missing. If either was replaced meanwhile, the two may not belong together: again.
        """
        try:
            while True:
                view = self.view
                journal = _open_file(self.journal_path, None if view is None else view.journal)
                identity = self.identity()
                if (
                    view is None
                    or identity != view.identity
                    or (view.journal is not None and view.journal is not journal)
                    or (journal is not None and os.fstat(journal.fd).st_size < view.parsed)
                ):
                    view = View()
                    archive = _open_file(self.path, None)
                    if archive is not None:
                        view.read_archive(archive, self.path)
                if journal is not None:
                    view.read_journal(journal, self.journal_path, locked)
                if self.identity() == view.identity and self._stands(journal):
                    self.view = view
                    return view
        except OSError as error:
            raise failure(error, self.path) from error

    def identity(self) -> tuple[int, int, int] | None:
        """What changes when the archive is replaced or changed; None if there is no archive."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return None
        return now.st_ino, now.st_size, now.st_mtime_ns

    def _stands(self, journal: File | None) -> bool:
        try:
            return os.stat(self.journal_path).st_ino == (-1 if journal is None else journal.inode)
        except FileNotFoundError:
            return journal is None


def _open_file(path: str, known: File | None) -> File | None:
    try:
        if known is not None and os.stat(path).st_ino == known.inode:
            return known
        return File(path)
    except FileNotFoundError:
        return None
