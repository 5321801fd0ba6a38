"""The connections that one handle has to its file: opened when needed, closed before a fork, let go when the
file is replaced."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from holdall.errors import IntegrityError, StoreError, StoreUnavailableError
from holdall.stores.sqlite.connections import (
    BLOBS,
    Connection,
    Tables,
    closing,
    code_of,
    connect,
    translated,
)
from holdall.stores.sqlite.file import UnchangingFile
from holdall.stores.sqlite.rows import now

T = TypeVar("T")

_IDLE = 4
"""The number of connections that are kept for later streams."""

_turns: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()
"""By file, the lock of its writers in this process: a thread that waits for a lock here sleeps no longer than
needed, one that waits in SQLite polls."""
_databases: WeakSet[Database] = WeakSet()
_opening = threading.RLock()
"""Held while a connection is opened, so that no fork comes in the middle of it."""
_held: list[threading.RLock] = []


def _before_fork() -> None:
    # A connection must never be carried into a child, and leaking it there doesn't help: SQLite keeps its
    # locks in tables of the process, and a connection that the child opens would take the parent's locks for
    # its own. So the parent has no connection at the moment of the fork; both open theirs at the next call.
    # Each lock is noted before it is taken, so that an interrupt between the two leaves none locked.
    _held.append(_opening)
    _opening.acquire()
    databases = list(_databases)
    for turn in {database.turn for database in databases}:
        _held.append(turn)
        turn.acquire()
    for database in databases:
        for connection in list(database.connections):
            with connection.lock:
                connection.shut()
        database.readers.clear()
    _held.append(closing)
    closing.acquire()


def _after_fork() -> None:
    while _held:
        try:
            _held.pop().release()
        except RuntimeError:
            # An interrupt came before it was taken.
            continue


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class _ThreadConnection:
    """Closes a thread's connection when the thread ends; sqlite3 would keep it until garbage collection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __del__(self) -> None:
        self._connection.shut()


class Database:
    """The connections of one handle: one for each thread, and some for streams. The path is absolute."""

    def __init__(self, path: str, *, durable: bool, timeout: float, tables: Tables = BLOBS) -> None:
        self.path = path
        self._tables = tables
        self.durable = durable
        self.timeout = timeout
        self.local = threading.local()
        self.connections: WeakSet[Connection] = WeakSet()
        self.readers: deque[Connection] = deque()
        self._closed_error: Callable[[], StoreError] | None = None
        with _opening:
            self.turn = _turns.setdefault(os.path.realpath(path), threading.RLock())
            _databases.add(self)

    def close(self, error: Callable[[], StoreError]) -> None:
        """Close all connections; `error` makes what later calls raise."""
        self._closed_error = error
        self._shut_all()

    def _shut_all(self, but: Connection | None = None) -> None:
        with _opening:
            connections = [each for each in self.connections if each is not but]
        for connection in connections:
            with self.turn, connection.lock:
                connection.shut()
        self.readers.clear()

    def one(self, sql: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return self.run(lambda connection: connection.execute(sql, parameters).fetchone(), None)

    def all(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self.run(lambda connection: connection.execute(sql, parameters).fetchall(), [])

    def transaction(self, act: Callable[[Connection], T], missing: T, *, create: bool = False) -> T:
        return self.run(lambda connection: connection.transaction(act), missing, write=True, create=create)

    def run(
        self,
        act: Callable[[Connection], T],
        missing: T,
        *,
        write: bool = False,
        create: bool = False,
    ) -> T:
        """Return the result of `act` on this thread's connection, or `missing` if there is no table.

        It is called again if the connection was closed by a fork before it began, if the file was locked, or
        if the file at the path is another one by now.
        """
        deadline = 0.0
        while True:
            connection = None
            try:
                connection = self._connection(create)
                if connection is None:
                    return missing
                with self.turn if write else connection.lock:
                    if write:
                        connection.settle()
                    result = act(connection)
                    file = connection.file
                    if write and (file.stands() or self.leave(connection)):
                        return result
                if not write:
                    if file.seems_to_stand(now()):
                        return result
                    self.leave(connection)
            except sqlite3.Error as error:
                deadline = self.wait(error, connection, deadline)

    def wait(self, error: sqlite3.Error, connection: Connection | None, deadline: float = 0.0) -> float:
        """Wait a little if trying again may help, until the deadline; return the deadline.

        Raises:
            StoreError: What the error means, if it doesn't help.
        """
        if connection is not None and not connection.alive:
            return deadline
        if code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            if connection is not None and error.sqlite_errorcode == sqlite3.SQLITE_BUSY_SNAPSHOT:
                # An interrupt left a statement unfinished, which still reads an older version.
                connection.shut()
                return deadline
            deadline = deadline or time.monotonic() + self.timeout
            if time.monotonic() < deadline:
                time.sleep(0.01)
                return deadline
        raise self.error(error) from error

    def error(self, error: sqlite3.Error) -> StoreError:
        if self._closed_error is not None:
            return self._closed_error()
        return translated(error, self.path, self.timeout)

    def _open_connection(self, create: bool) -> Connection | None:
        """Open a connection; return None if the file or its table is missing and shouldn't be made."""
        with _opening:
            if self._closed_error is not None:
                raise self._closed_error()
            connection = connect(
                self.path,
                create=create,
                durable=self.durable,
                timeout=self.timeout,
                tables=self._tables,
            )
            if connection is not None:
                self.connections.add(connection)
            return connection

    def _connection(self, create: bool) -> Connection | None:
        local = self.local
        connection: Connection | None = getattr(local, "connection", None)
        if connection is None or not connection.alive:
            local.__dict__.pop("quick", None)
            connection = self._open_connection(create)
            if connection is None:
                return None
            local.connection = connection
            local.held = _ThreadConnection(connection)
        if not hasattr(local, "quick") and not isinstance(connection.file, UnchangingFile):
            # A fork closes connections with their locks held. Of one that it has closed by now there is no
            # cursor, and the caller finds that out and begins anew.
            with connection.lock:
                if connection.alive:
                    # A cursor that stays spares each fast call one of its own.
                    local.quick = connection.lock, connection.cursor().execute, connection
        return connection

    def drop_quick(self) -> None:
        """Finish a statement that an interrupt or an error left unfinished: it would keep its snapshot, and
        the files open when the connection is closed."""
        quick = self.local.__dict__.pop("quick", None)
        if quick is not None:
            try:
                quick[1].__self__.close()
            except sqlite3.ProgrammingError:
                return  # a fork has closed the connection, and all its statements with it

    def reader(self) -> Connection | None:
        """Return a connection for a stream; None if there is no table."""
        while True:
            try:
                reader = self.readers.pop()
            except IndexError:
                return self._open_connection(False)
            if reader.alive:
                return reader

    def release(self, reader: Connection) -> None:
        """Take back the connection of a stream that has ended."""
        try:
            with reader.lock:
                if not reader.alive:
                    return
                if reader.in_transaction:
                    reader.execute("COMMIT")
                if len(self.readers) < _IDLE and self._closed_error is None:
                    self.readers.append(reader)
                else:
                    reader.shut()
        except sqlite3.Error:
            reader.shut()

    def leave(self, connection: Connection) -> bool:
        """Let go of a file that was replaced, deleted or cut, or whose log was removed, while it was open.
        Return whether what was written before is in the file at the path all the same.

        The log goes into the file that it belongs to, wherever that is now: were it left, the next program
        to open the file at the path would apply it to that one.

        Raises:
            StoreUnavailableError: Other programs have it open, too, so that the log can't be copied.
            IntegrityError: The file was cut.
        """
        path, file = self.path, connection.file
        with self.turn:
            for database in list(_databases):
                if database.turn is self.turn:
                    database._shut_all(but=connection)
            fixed = isinstance(file, UnchangingFile)
            copied = fixed or not connection.alive or connection.copy_log()
            replaced, cut = file.is_replaced(), file.is_cut()
            if replaced and copied and not fixed:
                file.unlink_log()
            connection.shut()
        if not copied:
            what = f"{path} was replaced or deleted" if replaced else f"{path}-wal was deleted"
            raise StoreUnavailableError(
                f"{what} while it was open here and in other programs; this call may or may not have been "
                f"done; end the other programs (fuser -v {path}), "
                + (f"delete {path}-wal and {path}-shm, " if replaced else "")
                + "then open it again"
            )
        if fixed or replaced:
            return False
        if cut and self._is_damaged():
            raise IntegrityError(f"{path} was cut short while it was open; restore a backup")
        return True

    def _is_damaged(self) -> bool:
        """Whether a file that became shorter is damaged; after a `VACUUM` it isn't."""
        fresh = None
        try:
            fresh = self._open_connection(False)
            if fresh is None:
                return True
            with fresh.lock:
                sound = fresh.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
                fresh.shut()
            return not sound
        except sqlite3.DatabaseError:
            # If a fork has closed the connection, this says nothing about the file.
            return fresh is None or fresh.alive or self._is_damaged()
