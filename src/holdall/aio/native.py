"""Calls that an event loop of asyncio runs itself, and that wait for a server without a thread.

The synchronous call, as it is, runs in a greenlet. Where it has to wait, it hands what it waits for to the
coroutine that began it, which awaits it and then goes on with the call. SQLAlchemy does the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from holdall.aio.waiting import on_thread, on_trio
from holdall.aio.workers import Cancel
from holdall.stopping import Stop, Stopped, current

T = TypeVar("T")

_AT_ONCE = 256
"""How many calls of a loop are under way: each has a connection, and a process may have 1,024 files."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


@cache
def _greenlets() -> Any:
    try:
        import greenlet
    except ImportError:
        # It comes with the extra `bucket`. Without it, threads wait.
        return None
    return greenlet


def can_run() -> bool:
    """Return whether calls can be run in the loop that runs now."""
    return _greenlets() is not None and not on_trio()


async def run(function: Callable[[], T], cancel: Cancel) -> T:
    """Run a call in this loop.

    Args:
        function: The call. It waits by `Stop.pause`, and what may block otherwise it runs by `away`.
        cancel: What a cancelled await does; not `FINISH`.
    """
    turns = turns_of_loop()
    if not turns.take():
        await turns.acquire()
    try:
        return await _Call(function, cancel).finish()
    finally:
        turns.release()


class Turns(asyncio.Semaphore):
    """What limits how many calls of a loop are under way."""

    def take(self) -> bool:
        """Take a turn if one is free, without the coroutine that `acquire` is."""
        if self._waiters or not self._value:
            return False
        self._value -= 1
        return True


def turns_of_loop() -> Turns:
    """Return the turns of the loop that runs now."""
    loop = asyncio.get_running_loop()
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns(_AT_ONCE)
    return found


class _Call(Stop):
    """A call in a greenlet."""

    def __init__(self, function: Callable[[], Any], cancel: Cancel) -> None:
        super().__init__()
        self._function, self._cancel = function, cancel
        self._value: Any = None
        self._error: BaseException | None = None
        self._done = False

    async def finish(self) -> Any:
        """Return what the call returns; await what it waits for."""
        idle: list[Any] = _threads.__dict__.setdefault("idle", [])
        own = self._own = idle.pop() if idle else _greenlets().greenlet(_serve)
        own.parent = self._loop = _greenlets().getcurrent()
        own.gr_context = context = copy_context()
        context.run(current.set, self)
        found: Any = None
        failed: Exception | None = None
        try:
            found = own.switch(self)
            while not self._done:
                try:
                    found = await found
                except Exception as error:  # noqa: BLE001 - it is raised where the call waits
                    failed = error
                found, failed = own.switch(found) if failed is None else own.throw(failed), None
        except BaseException as ended:
            self._end(ended, found, idle)
            raise
        error = self._free_greenlet(idle)
        try:
            if error is not None:
                raise error
            return self._value
        finally:
            # A traceback leads to this frame: together they would be garbage only for the collector.
            del error

    def carry_out(self) -> Any:
        """Make the call, in its greenlet; return the greenlet of the loop."""
        try:
            self._value = self._function()
        except (Exception, Stopped) as error:  # noqa: BLE001 - it is raised where the call is awaited
            self._error = error
        self._done = True
        return self._loop

    def _free_greenlet(self, idle: list[Any]) -> BaseException | None:
        """Free the greenlet for another call; return what this one raised."""
        self._own.gr_context = None
        idle.append(self._own)
        error, self._error = self._error, None
        return error

    def _end(self, ended: BaseException, asked: Any, idle: list[Any]) -> None:
        """Stop the call where it waits. It waits for nothing more, so that it has ended when this returns."""
        if self._own.dead:
            # An interrupt came while the call ran.
            return
        self.set()
        if hasattr(asked, "cancel"):
            # Of a coroutine that is forgotten, the loop may be closed.
            with suppress(RuntimeError):
                asked.cancel()
        try:
            self._own.throw(Stopped)
        except _greenlets().error:
            # A coroutine may be closed by any thread, where the greenlet can't go on.
            return
        error = self._free_greenlet(idle)
        if self._cancel is Cancel.STOP and isinstance(error, Exception):
            raise ended from error

    def in_loop(self) -> bool:
        # A thread that the call begins may run in a copy of its context.
        return _greenlets().getcurrent() is self._own

    def pause(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if self.is_set():
            raise Stopped
        asked = function(*arguments, **options)
        return self._loop.switch(asked) if hasattr(asked, "__await__") else asked

    def away(self, function: Callable[[], T]) -> T:
        context = copy_context()

        def call() -> T:
            context.run(current.set, current.get())
            return context.run(function)

        return self.pause(on_thread, call, self._cancel)


def _serve(call: _Call) -> None:
    """What a greenlet does: one call after the other, since a new one costs more than the rest of a call."""
    while True:
        loop = call.carry_out()
        del call
        call = loop.switch()


_threads = threading.local()
"""The greenlets of each thread that have no call."""
