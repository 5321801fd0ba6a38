"""What one reader has seen of the two files: the rows, and the place in the journal up to which they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from zlib import crc32

from holdall.catalog.jsonfile.changes import replay
from holdall.catalog.jsonfile.journal import Damaged, Header, lines, read_header
from holdall.catalog.jsonfile.mainfile import Title, parse
from holdall.catalog.jsonfile.state import Tables
from holdall.errors import IntegrityError, StoreUnavailableError
from holdall.ranges import CHUNK
from holdall.stores.nofollow import Descriptors, close_all
from holdall.stores.oserrors import kind_of

Place = tuple[int, int]
"""The device and the inode of a file."""

_TRIES: Final = 100
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_HEADER: Final = 4096
"""More than the first line of a journal has."""


def find_file(path: str) -> os.stat_result | None:
    """Return what stat(2) says of a file, or None if it isn't there."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def place_of(found: os.stat_result | None) -> Place | None:
    return None if found is None else (found.st_dev, found.st_ino)


def _mark(found: os.stat_result | None) -> tuple[int, ...] | None:
    """Return what changes when somebody edits or replaces a file."""
    return None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class View:
    """The rows up to a place in the journal. Its journal stays open, so that no other file gets its inode.

    Attributes:
        tables: The rows.
        title: The main file's; None if there is none.
        place: The journal; None if there is none, or an empty one.
        end: The size of the journal that the rows are of.
        lines: How many transactions of the journal they have.
        check: The check of the last line.
        size: The size of the main file.
        torn: Whether changes were begun on the rows, and not ended.
        stale: Whether the journal must be replaced before the next change.
    """

    __slots__ = (
        "_fds", "_main", "_path", "check", "end", "lines", "place", "size", "stale", "tables", "title",
        "torn",
    )  # fmt: skip

    def __init__(self, path: str) -> None:
        self._fds: list[int] = []
        self._path = path
        self._main: tuple[int, ...] | None = None
        self.tables = Tables()
        self.title: Title | None = None
        self.place: Place | None = None
        self.end = self.lines = self.check = self.size = 0
        self.torn = False
        self.stale = True

    def is_current(self, journal: os.stat_result | None) -> bool:
        """Return whether nothing was committed since, by what stat(2) says of the journal."""
        if self.torn:
            return False
        if journal is None or journal.st_size == 0:
            return self.place is None and not self.is_edited()
        return journal.st_size == self.end and self.place == (journal.st_dev, journal.st_ino)

    def is_edited(self) -> bool:
        """Return whether the main file is another one by now."""
        return self._main != _mark(find_file(self._path))

    def catch_up(self, journal: os.stat_result | None) -> bool:
        """Take in what was committed since, and return whether that was possible.

        Raises:
            IntegrityError: A line of the journal is damaged.
        """
        if self.torn or journal is None or journal.st_size == 0:
            return False
        if self.place == place_of(journal):
            return not self.stale and journal.st_size >= self.end and self._replay(self.end)
        with Descriptors() as fds:
            _open_into(fds, self._path + ".log")
            found = _read_header(fds, self._path)
            if found is None or self.title is None:
                return False
            header, end, check = found
            before, length = header.follows
            if header.generation == self.title.generation and not self.lines and not self.is_edited():
                # The main file has got a journal, or a new one.
                self._follow(fds, end, check)
                return self._replay(end)
            if self.stale or before != self.title.generation or length < self.end:
                return False
            # The journal was folded into a new main file: what is left of it is read from the open file.
            if self.place is None or not self._replay(self.end, length):
                return False
            self.title = Title(self.title.identity, header.generation, before)
            self._main, self.size = _mark(find_file(self._path)), header.main[0]
            self._follow(fds, end, check)
            return self._replay(end)

    def _follow(self, fds: list[int], end: int, check: int) -> None:
        """Take over an open journal, from the end of its first line on."""
        self._fds, fds[:] = fds[:], self._fds
        self.place = place_of(os.fstat(self._fds[0]))
        self.end, self.check, self.lines, self.stale = end, check, 0, False

    def _replay(self, start: int, stop: int | None = None) -> bool:
        """Make the changes of the journal from a place on, up to another one or its end. Return whether the
        other one was reached."""
        fd = self._fds[0]
        data = _read_from(fd, start, os.fstat(fd).st_size if stop is None else stop)
        try:
            for line in lines(data, self.check):
                self.torn = True
                replay(self.tables, line.content["number"], line.content["changes"])
                self.end, self.check, self.lines = start + line.end, line.check, self.lines + 1
                self.torn = False
        except (Damaged, ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                f"line {self.lines + 2} of {self._path + '.log'!r} is damaged; nothing was changed: restore "
                f"both {os.path.basename(self._path)} and its .log file from a backup, or delete this line "
                "and all after it, whose changes are then lost"
            ) from error
        return stop is None or self.end == stop

    def advance(
        self, start: int, line: bytes, check: int, number: int, calls: list[tuple[Callable[..., None], Any]]
    ) -> None:
        """Make the changes of a transaction that has just been written."""
        if self.end != start or self.torn:
            return  # another thread has read them, or will read all anew
        self.torn = True
        for call, arguments in calls:
            call(*arguments)
        self.tables.number = max(self.tables.number, number)
        self.end, self.check, self.lines = start + len(line), check, self.lines + 1
        self.torn = False

    def close(self) -> None:
        close_all(getattr(self, "_fds", []))

    def __del__(self) -> None:
        self.close()

    def read(self) -> bool:
        """Read both files; return False if others changed them meanwhile.

        Raises:
            IntegrityError: One of them is damaged, or they don't belong together.
        """
        with Descriptors() as fds, Descriptors() as main:
            _open_into(fds, self._path + ".log")
            found = _read_header(fds, self._path)
            _open_into(main, self._path)
            if not main:
                if found is not None and not self._is_there(fds):
                    return False
                if found is not None:
                    raise IntegrityError(
                        f"{self._path!r} is missing, and its .log file is there; nothing was changed: "
                        "restore it from a backup, or delete the .log file too to begin an empty catalogue"
                    )
                return True
            self._main = _mark(os.fstat(main[0]))
            data = _read_from(main[0], 0, os.fstat(main[0]).st_size)
            self.title, self.tables = parse(data, self._path)
            self.size = len(data)
            return found is None or self._read_journal(fds, *found, (len(data), crc32(data)))

    def _read_journal(
        self, fds: list[int], header: Header, end: int, check: int, main: tuple[int, int]
    ) -> bool:
        assert self.title is not None
        path = self._path
        if header.generation == self.title.previous:
            # Case 1: its writer was killed after it had written the main file, which has all of this journal.
            # Case 2: it is about to replace the journal.
            self._follow(fds, end, check)
            self.end, self.stale = os.fstat(self._fds[0]).st_size, True
            return True
        if header.generation != self.title.generation:
            if not self._is_there(fds):
                return False
            raise IntegrityError(
                f"{path!r} and its .log file don't belong together: one was restored or copied without the "
                "other; nothing was changed: restore both of the same moment, or delete the .log file, whose "
                "changes are then lost"
            )
        self._follow(fds, end, check)
        self._replay(end)
        if header.main != main:
            if self.lines:
                raise IntegrityError(
                    f"{path!r} was edited while its .log file has {self.lines} later changes; nothing was "
                    "changed: undo the edit, or delete the .log file, whose changes are then lost"
                )
            self.stale = True
        return True

    def _is_there(self, fds: list[int]) -> bool:
        """Return whether an open journal is still the one at its path."""
        return place_of(os.fstat(fds[0])) == place_of(find_file(self._path + ".log"))


def load(path: str) -> View:
    """Return what is there now.

    Raises:
        IntegrityError, StoreUnavailableError, UnsupportedOperation: It can't be read; the message says why.
    """
    for _ in range(_TRIES):
        view = View(path)
        if view.read():
            return view
    raise StoreUnavailableError(f"{path!r} keeps being replaced by other programs; try again")


def _open_into(fds: list[int], path: str) -> None:
    """Open a file, if it is there, into a list.

    Raises:
        StoreUnavailableError: It isn't a file.
    """
    try:
        fds.extend(map(partial(os.open, path), (_READ,)))
    except (FileNotFoundError, NotADirectoryError):
        return
    mode = os.fstat(fds[0]).st_mode
    if not stat.S_ISREG(mode):
        raise StoreUnavailableError(
            f"{path!r} is a {kind_of(mode)}, and a JSON catalogue needs a file there; move it away"
        )


def _read_header(fds: list[int], path: str) -> tuple[Header, int, int] | None:
    """Return the first line of a journal, where it ends, and its check; None if there is none yet."""
    if not fds:
        return None
    first = _read_from(fds[0], 0, _HEADER).partition(b"\n")[0]
    if not first.strip(b"\0"):
        return None
    try:
        found = read_header(first + b"\n", path + ".log")
    except (Damaged, ValueError, TypeError, KeyError, AttributeError) as error:
        raise IntegrityError(
            f"line 1 of {path + '.log'!r} is damaged, or it is another program's file; nothing was changed: "
            "restore it from a backup, or delete it, if no changes of it may be lost"
        ) from error
    return None if found is None else (found[0], found[1].end, found[1].check)


def _read_from(fd: int, start: int, stop: int) -> bytes:
    """Read a part of a file, or what there is of it."""
    data = os.pread(fd, stop - start, start)
    if len(data) < stop - start:
        pieces = [data]
        while data and (start := start + len(data)) < stop:
            data = os.pread(fd, min(stop - start, CHUNK), start)
            pieces.append(data)
        return b"".join(pieces)
    return data
