"""Futures of obstore: how its threads wake an event loop with them, and when the interpreter may end.

A loop of asyncio is woken by a byte in a socket, which it reads by two calls and an exception, and makes a
handle for each outcome. Where the system has an eventfd, outcomes come by one call, several together.

A thread of obstore holds a future for a moment after the future is done or cancelled. If the thread releases
it after the interpreter has been finalized, the process aborts or prints a fatal error.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import time
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary, ref

from holdall.forks import in_child


def begin(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a coroutine function of obstore in the loop that runs; return its future."""
    loop = asyncio.get_running_loop()
    found = _wakers.get(loop)
    waker = _make_waker(loop) if found is None else found() or _make_waker(loop)
    # In the `try` itself: an interrupt between two calls must not leave the thread with another loop.
    try:
        events._set_running_loop(waker)  # pyright: ignore[reportArgumentType]
        future = function(*arguments, **options)
    finally:
        events._set_running_loop(loop)
    if hasattr(future, "add_done_callback"):
        watch(future)
    return future


class _Waker:
    """As much of an event loop as obstore's futures need, in front of the one that runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.create_future = loop.create_future
        self._handed: deque[tuple[Callable[..., object], tuple[Any, ...], Context | None]] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # The loop holds this object, until it is closed, and nothing of the caller's context.
        Context().run(loop.add_reader, self._bell, self._step)

    def __del__(self) -> None:
        if "_bell" in vars(self):
            os.close(self._bell)

    def __getattr__(self, name: str) -> Any:
        # A signal handler, or a finalizer, that Python runs meanwhile may ask for the loop that runs.
        return getattr(vars(self)["_loop"], name)

    def call_soon_threadsafe(
        self, function: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> None:
        self._handed.append((function, arguments, context))
        os.eventfd_write(self._bell, 1)

    def _step(self) -> None:
        try:
            os.eventfd_read(self._bell)
            while self._handed:
                function, arguments, context = self._handed.popleft()
                if context is None:
                    function(*arguments)
                else:
                    context.run(function, *arguments)
        finally:
            if self._handed:
                # An interrupt came: what is left has its turn if the loop runs again.
                os.eventfd_write(self._bell, 1)


_wakers: WeakKeyDictionary[asyncio.AbstractEventLoop, Callable[[], Any]] = WeakKeyDictionary()


def _make_waker(loop: asyncio.AbstractEventLoop) -> Any:
    """Return what obstore shall take for the loop: the loop itself, where the system has nothing better."""
    try:
        waker = _Waker(loop)
    except (AttributeError, NotImplementedError, OSError):
        # Only Linux has an eventfd, and too many files may be open.
        _wakers[loop] = ref(loop)
        return loop
    _wakers[loop] = ref(waker)
    return waker


_MOST = 1.0
"""Seconds that the end of the interpreter waits at most."""
_latest: deque[ref[Any]] = deque(maxlen=4096)


def watch(future: Any) -> None:
    """Let the interpreter end only after obstore has let the future go, if it has an outcome by then."""
    _latest.append(ref(future))


def _settle() -> None:
    end = time.monotonic() + _MOST
    while _latest and time.monotonic() < end:
        future = _latest[-1]()
        if future is None or not future.done():
            _latest.pop()
        else:
            del future
            time.sleep(0.001)


atexit.register(_settle)
# The threads that held them are the parent's.
in_child(_latest.clear)
