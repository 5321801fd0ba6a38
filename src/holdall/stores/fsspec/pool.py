"""File systems that are ready for use: each call has one for itself, since few drivers bear two threads.

The handles of one process that are opened with the same options share them. The child of a fork opens its
own.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from holdall.blob import Can
from holdall.errors import StoreError
from holdall.forks import begin_anew
from holdall.workers import Call, aside, shared

T = TypeVar("T")

_log = logging.getLogger("holdall")

PATIENCE = 0.15
"""Seconds that a call which is interrupted has to end."""
_KEPT = 16
"""How many file systems that nobody uses stay open."""


def run(function: Callable[[], T]) -> T:
    """Call a function that no interrupt ends: in the midst of a driver it would leave its connection in a
    state that nobody knows."""
    return aside(function, PATIENCE)


def begin(function: Callable[[], object]) -> Call[Any]:
    """Begin a call that nobody has to wait for."""
    return shared().submit(function)


class Loan:
    """A file system that one call has for itself, until it gives it back."""

    __slots__ = ("fs", "kept", "pool")

    def __init__(self, pool: Pool, fs: Any) -> None:
        self.pool, self.fs = pool, fs
        self.kept = False
        """Whether it outlives the call: a stream or a draft gives it back."""

    def give_back(self) -> None:
        self.pool.take_back(self.fs)

    def discard(self) -> None:
        """Close it, since its state isn't known."""
        self.pool.discard(self.fs)


class Pool:
    """File systems with the same options.

    Args:
        make: Opens one.
        close: Closes one.
        disown: Makes one harmless that belongs to the parent of a fork.
        is_alive: Whether one that was idle can be used.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        close: Callable[[Any], object],
        disown: Callable[[Any], object],
        is_alive: Callable[[Any], bool],
    ) -> None:
        self._make, self._close, self._disown, self._is_alive = make, close, disown, is_alive
        self.users = 0
        self.can: Can | None = None
        """What the server does, once it was asked."""
        self.why = ""
        """Why it can only be read."""
        self._parents: list[Any] = []
        self._idle: deque[Any] = deque()
        self._open: dict[int, Any] = {}
        self._dropped: deque[tuple[Loan, object]] = deque()
        begin_anew(self, Pool._begin)

    def _begin(self) -> None:
        # They stay, so that no finalizer of theirs writes to a connection of the parent.
        self._parents.append((self._idle, self._open, self._dropped))
        for fs in self._open.values():
            self._disown(fs)
        self._idle, self._open, self._dropped = deque(), {}, deque()

    def lend(self) -> Loan:
        """Return one that is idle, or a new one."""
        self._sweep()
        while True:
            try:
                fs = self._idle.pop()
            except IndexError:
                break
            if self._is_alive(fs):
                return Loan(self, fs)
            self.discard(fs)
        fs = self._make()
        self._open[id(fs)] = fs
        return Loan(self, fs)

    def take_back(self, fs: Any) -> None:
        if id(fs) not in self._open:
            return  # it is the parent's
        if self.users and len(self._idle) < _KEPT:
            self._idle.append(fs)
        else:
            self.discard(fs)

    def discard(self, fs: Any) -> None:
        if self._open.pop(id(fs), None) is None:
            return
        try:
            self._close(fs)
        except Exception as error:  # noqa: BLE001 - a driver may raise anything, and nothing depends on it
            _log.debug("a connection can't be closed: %s", type(error).__name__)

    def drop(self, loan: Loan, held: object) -> None:
        """Let the next call close a file system, and only then forget what it holds; a finalizer may call
        this."""
        self._dropped.append((loan, held))

    def _sweep(self) -> None:
        while True:
            try:
                loan, held = self._dropped.popleft()
            except IndexError:
                return
            loan.discard()
            del held

    def end(self) -> None:
        """Close all that are idle; those in use are closed when they are given back."""
        self._sweep()
        while True:
            try:
                self.discard(self._idle.pop())
            except IndexError:
                return


class _Shared:
    def __init__(self) -> None:
        self.pools: dict[object, Pool] = {}
        self._begin()
        begin_anew(self, _Shared._begin)

    def _begin(self) -> None:
        self.lock = threading.Lock()


_shared = _Shared()


def join(token: object, make: Callable[[], Pool]) -> Pool:
    """Return the pool of these options, which the caller leaves later."""
    with _shared.lock:
        pool = _shared.pools.get(token)
        if pool is None:
            pool = _shared.pools[token] = make()
        pool.users += 1
        return pool


def leave(token: object, pool: Pool) -> None:
    """Close what no other handle uses."""
    with _shared.lock:
        pool.users -= 1
        if pool.users:
            return
        if _shared.pools.get(token) is pool:
            del _shared.pools[token]
    run(pool.end)


def with_loan(pool: Pool, function: Callable[[Loan], T]) -> T:
    """Call a function with a file system of its own, which is given back unless the function keeps it."""
    return run(partial(_lent, pool, function))


_ANSWERS = (
    StoreError,
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
)
"""The errors that are answers, after which a connection is as good as before."""


def _lent(pool: Pool, function: Callable[[Loan], T]) -> T:
    loan = pool.lend()
    try:
        result = function(loan)
    except _ANSWERS:
        loan.give_back()
        raise
    except BaseException:
        loan.discard()
        raise
    if not loan.kept:
        loan.give_back()
    return result
