"""An event loop on a thread of its own, for libraries of coroutines that are called from any thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

from holdall.errors import StoreClosedError, StoreUnavailableError, UnsupportedOperation
from holdall.forks import begin_anew, in_child
from holdall.stopping import Stopped, current
from holdall.threads import start

T = TypeVar("T")

_LOOK = 0.1
"""Seconds between two looks for an interrupt."""

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_inherited: list[object] = []
"""The loops that a fork inherited, and what lives in them. They are the parent's: to free one would take the
parent's files out of the parent's selector."""


class Home:
    """An object that is made in the loop, used there and closed there.

    All share one loop, which runs as long as the process, so that objects that share something don't come
    upon each other in two threads. A child of a fork begins with a loop and objects of its own.

    Args:
        make: Makes the object. It is called in the loop, by the first call that needs it.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._closed = False
        begin_anew(self, Home._begin)

    def _begin(self) -> None:
        _inherited.append(self._made)
        self._made = None

    def call(self, function: Callable[[Any], Awaitable[T]]) -> T:
        """Await what a function returns for the object, in the loop.

        An interrupt cancels it, and comes out once it has ended, so that nothing happens later.
        """
        return self._await(lambda: function(self._resident()))

    def _await(self, function: Callable[[], Awaitable[T]]) -> T:
        if sys.is_finalizing():
            # In a `__del__`, after the last line of the program. The loop's thread has stopped for ever.
            raise StoreUnavailableError(
                "Python is ending, and its event loops with it: use the store earlier"
            )
        loop = _running()
        if asyncio._get_running_loop() is loop:
            raise UnsupportedOperation("a coroutine in this store's own event loop can't wait for the store")
        call = _Call(function)
        stop = current.get()

        def cancel() -> None:
            loop.call_soon_threadsafe(call.cancel)

        if stop is not None:
            stop.then(cancel)
        try:
            loop.call_soon_threadsafe(call.begin, loop)
            call.wait()
        except BaseException:
            # It is asked to end after it was asked to begin, so that it never begins later.
            cancel()
            call.wait()
            raise
        finally:
            if stop is not None:
                stop.forget(cancel)
        if isinstance(call.error, asyncio.CancelledError):
            if stop is not None and stop.is_set():
                raise Stopped
            raise StoreUnavailableError("the call was cancelled by what it called") from call.error
        if call.error is not None:
            raise call.error
        return cast(T, call.result)

    def _resident(self) -> Any:
        if self._closed:
            raise StoreClosedError("the store is closed; open it again")
        if self._made is None:
            self._made = self._make()
        return self._made

    def close(self) -> None:
        """Close the object, if it was made and has a `close`."""
        self._closed = True
        if _loop is not None and not sys.is_finalizing():
            self._await(self._end)

    async def _end(self) -> None:
        # In the loop nothing else happens between these.
        made, self._made = self._made, None
        if made is not None:
            await _close(made)

    def drop(self) -> None:
        """Have the object closed by and by: nobody has closed it, or uses it any more."""
        made, self._made = self._made, None
        if made is not None and _loop is not None:
            asyncio.run_coroutine_threadsafe(_close(made), _loop)


def _running() -> asyncio.AbstractEventLoop:
    global _loop
    if _loop is not None:
        return _loop
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            try:
                start(threading.Thread(target=_run, args=(loop,), name="holdall-loop", daemon=True))
                _loop = loop
            except BaseException:
                loop.call_soon_threadsafe(loop.stop)
                raise
        return _loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            # Raised by a coroutine. It comes out of the call that waits for that; other calls go on.
            continue
        return


@in_child
def _after_fork() -> None:
    global _lock, _loop
    _inherited.append(_loop)
    _lock, _loop = threading.Lock(), None


async def _close(made: Any) -> None:
    close = getattr(made, "close", None)
    if close is not None:
        await close()


class _Call(Generic[T]):
    """A call that a thread waits for; until it is over, the rest is only used in the loop."""

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._signal = threading.Lock()
        self._signal.acquire()
        self.result: T | None = None
        self.error: BaseException | None = None
        self._function = function
        self._task: asyncio.Task[T] | None = None
        self._over = False

    def wait(self) -> None:
        """Wait until it is over."""
        # It looks again now and then, since a signal of the system that comes just before the wait doesn't
        # end it; and an interrupt may come after the acquire, which succeeds once.
        while not self._over:
            self._signal.acquire(timeout=_LOOK)

    async def _run(self) -> T:
        return await self._function()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin it, unless it was cancelled."""
        if not self._over:
            self._task = loop.create_task(self._run())
            self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """End it, or see to it that it never begins."""
        if self._task is not None:
            self._task.cancel()
        elif not self._over:
            self._end(None)

    def _end(self, task: asyncio.Task[T] | None) -> None:
        if task is None or task.cancelled():
            self.error = asyncio.CancelledError()
        elif (error := task.exception()) is not None:
            self.error = error
        else:
            self.result = task.result()
        self._over = True
        self._signal.release()
