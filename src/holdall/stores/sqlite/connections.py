"""Connections to one SQLite file: opening them, their transactions, and what their errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from holdall.errors import IntegrityError, ReadOnlyError, StoreError, StoreUnavailableError
from holdall.stores.sqlite.file import (
    OpenFile,
    UnchangingFile,
    file_size,
    file_system,
    is_writable,
    lock_holders,
)

T = TypeVar("T")

_STEP = 0.1
"""How long SQLite waits for a lock by itself, in seconds: nothing can interrupt it meanwhile."""
_SMALLEST = 512
"""The size of the smallest database: one page."""
_NOWHERE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "ceph", "glusterfs", "lustre", "fuse.sshfs")
"""File systems of other hosts, which share neither SQLite's locks nor its memory."""

# The version of the format is in the names, because `PRAGMA user_version` belongs to the owner of the file.
# `etag` and `modified` (microseconds) come first and `data` last, so that no listing reads the pages a long
# blob overflows to. `size` is null where `length(data)` gives it, so that a plain put binds four values only.
# An ordinary rowid table: `WITHOUT ROWID` costs twice as much at 1 KiB.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS holdall_v1_blobs (
        key TEXT NOT NULL UNIQUE,
        etag INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        size INTEGER,
        expires INTEGER,
        content_type TEXT,
        stream INTEGER,
        data BLOB
    )""",
    """CREATE INDEX IF NOT EXISTS holdall_v1_expires
        ON holdall_v1_blobs (expires) WHERE expires IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS holdall_v1_streams
        ON holdall_v1_blobs (stream) WHERE stream IS NOT NULL""",
    # The chunks of a stream never change once a blob refers to it, so that copies share them.
    """CREATE TABLE IF NOT EXISTS holdall_v1_chunks (
        stream INTEGER NOT NULL,
        number INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (stream, number)
    )""",
    # Streams that are still written, by whom, and when they last were.
    """CREATE TABLE IF NOT EXISTS holdall_v1_stages (
        stream INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        beat INTEGER NOT NULL
    )""",
    """CREATE TRIGGER IF NOT EXISTS holdall_v1_replaced AFTER UPDATE OF stream ON holdall_v1_blobs
        WHEN OLD.stream IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM holdall_v1_blobs WHERE stream = OLD.stream)
        BEGIN DELETE FROM holdall_v1_chunks WHERE stream = OLD.stream; END""",
    """CREATE TRIGGER IF NOT EXISTS holdall_v1_deleted AFTER DELETE ON holdall_v1_blobs
        WHEN OLD.stream IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM holdall_v1_blobs WHERE stream = OLD.stream)
        BEGIN DELETE FROM holdall_v1_chunks WHERE stream = OLD.stream; END""",
)


class Tables(NamedTuple):
    """The tables of one kind of handle.

    Attributes:
        family: What the names of all versions of them begin with.
        version: What the names of this version begin with.
        last: The last one that is made: where it is, the others are.
        schema: The statements that make them.
        page: The size of a page in bytes, for a file that is made now.
    """

    family: str
    version: str
    last: str
    schema: tuple[str, ...]
    page: int


# Compared with pages of 4 KiB, a put of one small blob takes a tenth more time, many blobs at once and large
# ones take four fifths of it, and a delete takes a little over half.
BLOBS = Tables("holdall_v", "holdall_v1_", "holdall_v1_deleted", _SCHEMA, 8192)
"""The tables of a store."""


closing = threading.RLock()
"""Held while a connection is closed: of two that close at once neither is the last, which removes the log."""


class Connection(sqlite3.Connection):
    """A connection that is closed when it is dropped, and that any thread may close between two statements:
    it writes with the turn of the file's writers held, and reads with its own lock held."""

    alive: bool = True
    file: OpenFile

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # pyright: ignore[reportArgumentType]
        self.lock = threading.RLock()
        self._within = threading.Lock()

    def transaction(self, act: Callable[[Connection], T]) -> T:
        """Call `act` in a transaction.

        Both contexts are of C, which an interrupt can't come between: an interrupt before `BEGIN` finds
        nothing to undo, one after it leads through `__exit__`, and one after `COMMIT` changes nothing. With
        `try` and `except`, a second Ctrl-C during the first one's `ROLLBACK` would leave the transaction open
        for later puts to join.
        """
        with self._within, self:
            self.execute("BEGIN IMMEDIATE")
            return act(self)

    def settle(self) -> None:
        """Make sure that no write joins a transaction of another call.

        Raises:
            StoreUnavailableError: A signal handler, or a finalizer, writes in the middle of a transaction.
        """
        if self._within.locked():
            raise StoreUnavailableError(
                "the store was called by a signal handler or a finalizer while the same thread was writing "
                "to it; let the handler set a flag, and write later"
            )
        if self.in_transaction:
            self.rollback()

    def copy_log(self) -> bool:
        """Copy the log into the file, whatever its name is now; return whether all of it was copied."""
        try:
            return self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        except sqlite3.Error:
            return False

    def shut(self) -> None:
        self.alive = False
        # At the end of the interpreter no other thread runs any more, and one that Python stopped may have
        # stopped with the lock held.
        with contextlib.nullcontext() if sys.is_finalizing() else closing:
            self.close()

    def __del__(self) -> None:
        try:
            self.shut()
        except sqlite3.ProgrammingError:
            # It was never opened.
            pass


def connect(
    path: str, *, create: bool, durable: bool, timeout: float, tables: Tables = BLOBS
) -> Connection | None:
    """Open a connection; return None if the file or its table is missing and shouldn't be made."""
    while True:
        try:
            before = os.stat(path).st_ino
        except FileNotFoundError:
            if not create:
                return None
            before = None
        except OSError as error:
            raise StoreUnavailableError(f"{path} can't be reached: {error}") from error
        connection = None
        try:
            connection, fixed = _dial(path, create)
            if not _prepare(connection, path, create=create, durable=durable, timeout=timeout, tables=tables):
                connection.shut()
                return None
            connection.file = UnchangingFile(path) if fixed else OpenFile(path)
            if os.stat(path).st_ino == before:
                return connection
        except FileNotFoundError:
            pass
        except BaseException as error:
            if connection is not None:
                connection.shut()
            if isinstance(error, sqlite3.OperationalError) and not create and file_size(path) is None:
                return None
            raise
        # It was made, replaced or deleted in between: the open file may not be the one that is there.
        if connection is not None:
            connection.shut()


def _dial(path: str, create: bool) -> tuple[Connection, bool]:
    """Return a connection, and whether it takes no locks."""
    try:
        size = file_size(path)
        if size is None and create:
            os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        kind = ReadOnlyError if error.errno == errno.EROFS else StoreUnavailableError
        raise kind(f"{path} can't be reached: {error}") from error
    if size and size < _SMALLEST:
        # SQLite would take it for an empty database, and write over it.
        raise _not_a_database(path)
    # SQLite can't lock the file without permission to make its two side files, and where nobody writes it
    # needs no lock.
    real = os.path.realpath(path)
    fixed = bool(size) and not is_writable(os.path.dirname(real)) and not file_size(f"{real}-wal")
    mode = "immutable=1" if fixed else "mode=rwc" if create else "mode=rw"
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?{mode}",
        timeout=_STEP,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
        uri=True,
    )
    return connection, fixed


def _prepare(
    connection: Connection, path: str, *, create: bool, durable: bool, timeout: float, tables: Tables
) -> bool:
    """Return whether the connection has found, or made, the tables."""
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    # Some builds overwrite all that is deleted with zeros: 20 times the time of a large delete.
    connection.execute("PRAGMA secure_delete = OFF").fetchall()
    connection.execute(f"PRAGMA page_size = {tables.page}")
    # Four times the default: a put takes three quarters of the time, the log up to 16 MiB.
    connection.execute("PRAGMA wal_autocheckpoint = 4000").fetchall()
    # 8 MB. With the default of 2 MB a put among 5,000 blobs of 1 KiB takes a twentieth more time.
    connection.execute("PRAGMA cache_size = -8000")
    found = connection.execute("SELECT name FROM sqlite_master WHERE name GLOB ?", (f"{tables.family}*",))
    names = {name for (name,) in found.fetchall()}
    newer = sorted(name for name in names if not name.startswith(tables.version))
    if newer:
        raise StoreUnavailableError(
            f"{path} was made by a newer version of holdall (it has {newer[0]!r}, this version knows "
            f"{tables.version.rstrip('_')}); upgrade holdall"
        )
    made = tables.last in names
    if names and not made:
        # They were made in one transaction, so that none of them is on its way.
        raise StoreUnavailableError(
            f"{path} has tables of holdall without {tables.last}: a version before 0.1.0 made them, or "
            "another program changed them. Restore a backup, or copy what is in it with the version that "
            "made it"
        )
    if not made and not create:
        return False
    encoding = connection.execute("PRAGMA encoding").fetchone()[0]
    if encoding != "UTF-8":
        raise StoreUnavailableError(
            f"{path} keeps its text as {encoding}, which sorts keys in another order; "
            "use a database in UTF-8, SQLite's default"
        )
    _warn_once_of_network(path)
    if not made:
        _make_tables(connection, path, timeout, tables)
    return True


_looked_at: set[str] = set()


def _warn_once_of_network(path: str) -> None:
    if path in _looked_at:
        return
    _looked_at.add(path)
    kind = file_system(path)
    if kind in _NOWHERE:
        import logging

        logging.getLogger("holdall").warning(
            "%s is on a network file system (%s): SQLite's locks and its log work within one host only; "
            "never write to it from two hosts",
            path,
            kind,
        )


def _make_tables(connection: Connection, path: str, timeout: float, tables: Tables) -> None:
    def make(connection: Connection) -> None:
        for statement in tables.schema:
            connection.execute(statement)

    deadline = time.monotonic() + timeout
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreUnavailableError(
                    f"the file system of {path} can't share memory between processes, which SQLite's "
                    "write-ahead log needs; use another disk"
                )
            connection.transaction(make)
        except sqlite3.OperationalError as error:
            # SQLite doesn't wait by itself for the lock that a change of the journal needs.
            if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _not_a_database(path: str) -> StoreError:
    return StoreUnavailableError(
        f"{path} isn't a SQLite database, or it is damaged; give the path of a database, or of a new file"
    )


def code_of(error: sqlite3.Error) -> int:
    """Return the primary code of an error; 0 for one of the sqlite3 module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def translated(error: sqlite3.Error, path: str, timeout: float) -> StoreError:
    code = code_of(error)
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY or (
        code == sqlite3.SQLITE_CANTOPEN and _is_read_only_mount(os.path.dirname(path))
    ):
        for side in (f"{path}-wal", f"{path}-shm"):
            # A reader who may not write the database leaves both behind, as files of its own.
            if os.access(path, os.W_OK) and os.path.exists(side) and not os.access(side, os.W_OK):
                return ReadOnlyError(
                    f"{side}, which SQLite keeps for {path}, can't be written to: another user made it; "
                    "change its owner or its permissions (chown, chmod), and don't remove it, since it may "
                    "hold blobs"
                )
        return ReadOnlyError(
            f"{path} or its folder can't be written to ({error}); check the permissions of both"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return _not_a_database(path)
    if code == sqlite3.SQLITE_CORRUPT:
        return IntegrityError(
            f"the database {path} is damaged ({error}); restore a backup, "
            f"or save what is left with: sqlite3 {path} .recover"
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailableError(f"the disk of {path} is full; nothing was changed; free some space")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        # The extended codes of READONLY are of a reader that may not make what the log needs.
        return StoreUnavailableError(
            f"{path} can't be opened ({error}); check the permissions of the file and of its folder, "
            "where SQLite keeps two side files, and the number of open files (ulimit -n)"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        pids = lock_holders(path)
        own = " (this one, by another connection)" if os.getpid() in pids else ""
        who = f"process {', '.join(map(str, pids))}{own}" if pids else "another program"
        return StoreUnavailableError(
            f"{who} has kept {path} locked for more than {timeout:g} seconds, as a shell with an open "
            f"transaction does; end it, or wait longer with timeout= (fuser -v {path} shows who has it open)"
        )
    if code == sqlite3.SQLITE_TOOBIG:
        return StoreUnavailableError(f"SQLite doesn't take a value as large as this ({error})")
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailableError(
            f"the disk of {path} reports an error ({error}); the change may or may not have been made"
        )
    return StoreUnavailableError(f"SQLite can't use {path}: {error}")


def _is_read_only_mount(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
