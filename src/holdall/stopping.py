"""A call whose caller was cancelled: what runs it on a thread ends at the next chunk."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(BaseException):
    """The call was stopped, since nobody waits for it; this isn't the error of a blob."""


class Stop:
    """Stops one call. What waits for a server can ask to be called back.

    >>> stop = Stop()
    >>> stop.then(lambda: print("stopped"))
    >>> stop.set()
    stopped
    """

    def __init__(self) -> None:
        self._is_set = False
        self._calls: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        """Return whether the call shall stop."""
        return self._is_set

    def set(self) -> None:
        """Stop the call."""
        self._is_set = True
        while self._calls:
            try:
                call = self._calls.pop()
            except IndexError:
                return
            call()

    def wait(self, seconds: float) -> bool:
        """Wait for it for at most some seconds; return whether the call shall stop."""
        # An event for each call that might be stopped would cost more.
        woken = threading.Event()
        self.then(woken.set)
        try:
            woken.wait(seconds)
        finally:
            self.forget(woken.set)
        return self._is_set

    def then(self, call: Callable[[], object]) -> None:
        """Call this once it is set, on the thread that sets it, or now if it is set already."""
        self._calls.append(call)
        if self.is_set():
            self.set()

    def forget(self, call: Callable[[], object]) -> None:
        """Don't call this any more."""
        try:
            self._calls.remove(call)
        except ValueError:
            # It is being called.
            return

    # What follows is for a call that an event loop runs without a thread (`holdall.aio.native`).

    def in_loop(self) -> bool:
        """Return whether an event loop runs the code that asks, so that it must not block."""
        return False

    def pause(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a coroutine function, let the loop go on meanwhile, and return what it returns.

        Raises:
            Stopped: Nobody waits for the call any more.
        """
        raise NotImplementedError

    def away(self, function: Callable[[], T]) -> T:
        """Run what may block on a thread, and let the loop go on meanwhile."""
        raise NotImplementedError


current: contextvars.ContextVar[Stop | None] = contextvars.ContextVar("holdall_stop", default=None)
"""What stops the call that runs in this context; None where nothing does."""


def in_loop() -> bool:
    """Return whether an event loop runs this call without a thread, so that it must not block."""
    stop = current.get()
    return stop is not None and stop.in_loop()


def away(function: Callable[[], T]) -> T:
    """Run what may block: here, but on another thread if an event loop runs this call.

    >>> away(lambda: 1)
    1
    """
    stop = current.get()
    return function() if stop is None or not stop.in_loop() else stop.away(function)


def stoppable(pieces: Iterable[T]) -> Iterator[T]:
    """Yield the same, until the call that runs here is stopped: then raise `Stopped`.

    >>> list(stoppable([1, 2]))
    [1, 2]
    """
    stop = current.get()
    for piece in pieces:
        if stop is not None and stop.is_set():
            raise Stopped
        yield piece
