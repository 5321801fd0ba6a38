"""A call whose caller was cancelled: what runs it on a thread ends at the next chunk."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Stopped(BaseException):
    """The call was stopped, since nobody waits for it; this isn't the error of a blob."""


class Stop(threading.Event):
    """Stops one call. What waits for a server can ask to be called back.

    >>> stop = Stop()
    >>> stop.then(lambda: print("stopped"))
    >>> stop.set()
    stopped
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Callable[[], object]] = []

    def set(self) -> None:
        super().set()
        while self._calls:
            try:
                call = self._calls.pop()
            except IndexError:
                return
            call()

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


current: contextvars.ContextVar[Stop | None] = contextvars.ContextVar("holdall_stop", default=None)
"""What stops the call that runs in this context; None where nothing does."""


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
