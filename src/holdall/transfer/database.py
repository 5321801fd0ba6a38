"""The database of a journal: SQLite, in a file that only its owner reads, or a temporary one."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any, TypeAlias

from holdall.errors import InvalidArgumentError, StoreError, StoreUnavailableError

Rows: TypeAlias = Sequence[Sequence[Any]]
"""The parameters of a statement that is run for each of them."""

_opening = threading.Lock()
_MARK = 0x68616C6A
"""SQLite's application_id of our files."""
_VERSION = 1
"""SQLite's user_version of our files."""

_TABLES = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE step (
    number INTEGER PRIMARY KEY, kind INTEGER NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL,
    source TEXT, target TEXT, state INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE pair (key TEXT PRIMARY KEY, source TEXT NOT NULL, target TEXT NOT NULL) WITHOUT ROWID;
"""
_LEFT_OUT = """
CREATE TABLE IF NOT EXISTS left_out (
    of_source INTEGER NOT NULL, path BLOB NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (of_source, path)
) WITHOUT ROWID
"""


class Database:
    """The tables of a journal.

    Args:
        name: The path of its file. If it is empty, the database is private and in memory, and in an unlinked
            file past 2 MiB.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # A plan may be walked by another thread than the one that made it.
        self._lock = threading.RLock()
        with _opening:
            if name:
                _create_private(name)
            try:
                self._connection = sqlite3.connect(
                    name, isolation_level=None, timeout=0, check_same_thread=False
                )
            except sqlite3.Error as error:
                raise self._failure(error) from error
            try:
                self._open()
            except sqlite3.Error as error:
                self._connection.close()
                raise self._failure(error) from error
            except BaseException:
                self._connection.close()
                raise

    def _open(self) -> None:
        run = self._connection.execute
        if not self._name:
            run("PRAGMA journal_mode = OFF")
            run("PRAGMA synchronous = OFF")
            self._connection.executescript(_TABLES)
            run(_LEFT_OUT)
            return
        # The system releases this lock when the process ends, in whatever way.
        run("PRAGMA locking_mode = EXCLUSIVE")
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and run("PRAGMA application_id").fetchone()[0] != _MARK:
            raise InvalidArgumentError(
                f"{self._name!r} is a database, but not a journal of holdall; give another path"
            )
        version = run("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise StoreUnavailableError(
                f"the journal {self._name!r} was written by a newer version of holdall; upgrade holdall, or "
                "give another path"
            )
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN EXCLUSIVE")
        if not run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _TABLES.split(";"):
                run(statement)
            run(f"PRAGMA application_id = {_MARK}")
            run(f"PRAGMA user_version = {_VERSION}")
        run(_LEFT_OUT)
        run("COMMIT")
        # It holds keys, also those of an encrypted store, which other users must not see. A journal of an
        # earlier version may be readable by them.
        for name in (self._name, f"{self._name}-wal"):
            if os.path.exists(name) and os.stat(name).st_uid == os.geteuid():
                os.chmod(name, 0o600)

    def _failure(self, error: sqlite3.Error) -> StoreError:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreUnavailableError(
                f"another run is using the journal {self._name!r}; wait until it ends, or give another path"
            )
        if code == sqlite3.SQLITE_NOTADB:
            return InvalidArgumentError(f"{self._name!r} isn't a journal of holdall; give another path")
        name = f"the journal {self._name!r}" if self._name else "the temporary journal"
        return StoreUnavailableError(f"{name} can't be used: {error}")

    def close(self) -> None:
        """Close it, so that others can use it."""
        with self._lock:
            self._connection.close()

    def __del__(self) -> None:
        # A plan doesn't close its journal.
        if hasattr(self, "_connection"):
            self._connection.close()

    def all(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        try:
            with self._lock, closing(self._connection.execute(sql, parameters)) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def do(self, statements: Sequence[tuple[str, Rows]]) -> None:
        """Run all statements or none, each for many rows."""
        try:
            with self._lock:
                run = self._connection.execute
                try:
                    run("BEGIN IMMEDIATE")
                    for sql, rows in statements:
                        if rows:
                            self._connection.executemany(sql, rows)
                    run("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        run("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise self._failure(error) from error


def _create_private(name: str) -> None:
    """Create the file of a journal, unless it is there: SQLite would create it readable by all.

    One that is there isn't opened: to close it would drop the locks that another run of this process holds on
    it.
    """
    try:
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreUnavailableError(f"the journal {name!r} can't be used: {error.strerror}") from error
