"""Connections to a server: taken for a call, given back after it, and discarded if it was interrupted."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar

from holdall.errors import InvalidArgumentError, StoreClosedError, StoreError, StoreUnavailableError
from holdall.forks import begin_anew
from holdall.stores.sql.connecting import driver
from holdall.stores.sql.errors import AgainError, LostError, SilentError, translate, unreachable

T = TypeVar("T")

_IDLE = 16
"""The number of idle connections that a handle keeps."""
_TRIES = 20
"""How often a call begins again that the server undid because of another client's."""
_GRACE = 5.0
"""Seconds to wait for the server to end a statement that was cancelled."""


class Session:
    """One connection, used by one call at a time."""

    def __init__(self, connection: Any, prepare: bool) -> None:
        self.connection = connection
        self.process = os.getpid()
        self.autocommit: bool = connection.autocommit
        if not self.autocommit:
            connection.autocommit = True
        self.cursor = connection.cursor(binary=True, row_factory=import_module("psycopg.rows").tuple_row)
        self._prepare = prepare
        self.poll = select.poll()
        self.poll.register(connection.fileno(), select.POLLIN)

    def __del__(self) -> None:
        # One that an interrupt dropped is closed; a child's copy of its parent's isn't.
        if self.__dict__.get("owned") and self.process == os.getpid():
            self.connection.close()

    owned = False

    def run(self, sql: bytes, parameters: Sequence[object] = ()) -> int:
        """Execute a statement; return the number of rows."""
        return self.cursor.execute(sql, parameters, prepare=self._prepare).rowcount

    def one(self, sql: bytes, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        return self.cursor.execute(sql, parameters, prepare=self._prepare).fetchone()

    def all(self, sql: bytes, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self.cursor.execute(sql, parameters, prepare=self._prepare).fetchall()

    def simple(self, sql: bytes) -> None:
        self.cursor.execute(sql, prepare=False)

    def is_lost(self) -> bool:
        return bool(self.connection.closed or self.connection.broken)

    def is_idle(self) -> bool:
        return self.connection.info.transaction_status == 0

    def is_quiet(self) -> bool:
        """Whether nothing came while it was idle: a server that ends a connection says so."""
        return not self.connection.closed and not self.poll.poll(0)

    def end(self) -> None:
        """Close the connection, after what runs in the server has ended: it must not end, and be seen, after
        what other clients do next."""
        psycopg = driver()
        connection = self.connection
        try:
            if not self.is_lost() and connection.info.transaction_status == 1:
                connection.cancel_safe(timeout=_GRACE)
                connection.wait(
                    import_module("psycopg.generators").fetch_many(connection.pgconn), timeout=_GRACE
                )
        except (psycopg.Error, OSError):
            # It is broken; closing it is all that is left.
            pass
        finally:
            connection.close()


class Source:
    """Connections of this process: made here, or taken from a pool or a connection that was passed in."""

    def __init__(
        self, connect: Callable[[], Any] | None, given: Any, name: str, table: str, prepare: bool
    ) -> None:
        self.name, self._table = name, table
        self._connect, self._given = connect, given
        self._prepare = prepare
        self._idle: deque[Session] = deque()
        self._turn = threading.Lock()
        self._holder = 0
        self._closed = False
        self._process = os.getpid()
        self._driver = driver()
        begin_anew(self, Source._after_fork)

    def _after_fork(self) -> None:
        self._turn, self._holder = threading.Lock(), 0
        old, self._idle = self._idle, deque()
        if old:
            null = os.open(os.devnull, os.O_RDWR)
            for session in old:
                # Closing would end the parent's session; so the copy of its socket goes first.
                os.dup2(null, session.connection.fileno())
            os.close(null)

    def close(self) -> None:
        self._closed = True
        self.drop()

    def drop(self) -> None:
        """Close the idle connections."""
        while True:
            try:
                session = self._idle.pop()
            except IndexError:
                return
            session.connection.close()

    def _take(self) -> Session:
        if self._closed:
            raise StoreClosedError("this SqlStore is closed; open the store again")
        if self._connect is None:
            return self._take_given()
        while True:
            try:
                session = self._idle.pop()
            except IndexError:
                break
            if session.is_quiet():
                return session
            session.connection.close()
        try:
            session = Session(self._connect(), self._prepare)
        except (self._driver.Error, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise unreachable(error, self.name) from error
        session.owned = True
        return session

    def _take_given(self) -> Session:
        if self._process != os.getpid():
            raise StoreUnavailableError(
                "a connection or pool that was passed in can't be used after a fork; open the store "
                "by its URL"
            )
        if hasattr(self._given, "getconn"):
            try:
                return Session(self._given.getconn(), self._prepare)
            except (self._driver.Error, OSError) as error:
                raise unreachable(error, self.name) from error
        if self._holder == threading.get_ident():
            raise StoreUnavailableError(
                "the connection that was passed in is in the middle of a call of this thread; pass a "
                "ConnectionPool instead"
            )
        if not self._turn.acquire(timeout=60):
            raise StoreUnavailableError("the connection that was passed in is in use for too long")
        self._holder = threading.get_ident()
        if self._given.closed or self._given.info.transaction_status != 0:
            self._release()
            raise StoreUnavailableError(
                "the connection that was passed in is closed, or in the middle of a transaction"
            )
        return Session(self._given, self._prepare)

    def _release(self) -> None:
        self._holder = 0
        self._turn.release()

    def _give(self, session: Session) -> None:
        """Take a session back, whatever its state."""
        connection = session.connection
        if self._connect is None:
            if not session.autocommit and not connection.closed:
                connection.autocommit = False
            if hasattr(self._given, "putconn"):
                self._given.putconn(connection)
            else:
                self._release()
        elif not connection.closed:
            if self._closed or len(self._idle) >= _IDLE:
                connection.close()
            else:
                self._idle.append(session)

    def run(self, act: Callable[[Session], T], *, write: bool = False, again: bool = True) -> T:
        """Return the result of `act` on a connection.

        It is called again after the server undid it because of another client's call, unless `again` is
        false; and a read once more if the connection was lost.

        Raises:
            LostError: The connection was lost, so that it is unknown whether a change was made.
        """
        tries = 0
        while True:
            try:
                return self._once(act)
            except AgainError:
                tries += 1
                if not again or tries == _TRIES:
                    raise
            except LostError as lost:
                self.drop()
                if write or tries or isinstance(lost, SilentError):
                    raise
                tries = _TRIES - 2

    def _once(self, act: Callable[[Session], T]) -> T:
        session = self._take()
        try:
            result = act(session)
        except self._driver.Error as error:
            lost = session.is_lost()
            self._restore(session)
            raise translate(error, self.name, self._table, lost=lost) from error
        except Exception:
            # Of a body, or one of ours.
            self._restore(session)
            raise
        except BaseException:
            session.end()
            self._give(session)
            raise
        self._give(session)
        return result

    def _restore(self, session: Session) -> None:
        if not session.is_lost() and not session.is_idle():
            try:
                if session.connection.info.transaction_status in (2, 3):
                    session.simple(b"ROLLBACK")
                else:
                    session.end()
            except self._driver.Error:
                session.end()
            except BaseException:
                session.end()
                self._give(session)
                raise
        self._give(session)

    def transaction(self, act: Callable[[Session], T], *, again: bool = True) -> T:
        """Return the result of `act` in a transaction."""

        def within(session: Session) -> T:
            session.simple(b"BEGIN ISOLATION LEVEL READ COMMITTED")
            result = act(session)
            session.simple(b"COMMIT")
            return result

        return self.run(within, write=True, again=again)


def check_given(given: object) -> None:
    """Refuse what isn't a connection or a pool of psycopg 3."""
    kinds = [kind.__module__.partition(".")[0] for kind in type(given).__mro__]
    if not {"psycopg", "psycopg_pool"} & set(kinds) or "Async" in type(given).__name__:
        raise InvalidArgumentError(
            "the server must be a URL such as postgresql://user@host/database, or a psycopg Connection or "
            f"ConnectionPool, not {type(given).__name__}"
        )
