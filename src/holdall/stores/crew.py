"""Calls to a server that several threads make, and that stop with the call that needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from holdall.stopping import Stop, Stopped, current
from holdall.workers import Call, shared

T = TypeVar("T")


class Crew:
    """Calls of which `size` are under way at a time. What stops the call that made the crew stops them."""

    def __init__(self, size: int) -> None:
        self._room = threading.Semaphore(size)
        self._over = False
        self._stop, self._outer = Stop(), current.get()
        if self._outer is not None:
            self._outer.then(self._stop.set)

    def prepare(self, function: Callable[[], T]) -> Call[T]:
        """Return a call that isn't begun yet."""

        def make() -> T:
            current.set(self._stop)
            with self._room:
                if self._over:
                    raise Stopped
                return function()

        return Call(make)

    def begin(self, call: Call[Any]) -> None:
        """Have a call made that `prepare` returned, and that its maker holds, to wait for it whenever an
        interrupt comes."""
        try:
            shared().begin(call)
        except RuntimeError:
            # The interpreter is about to end, and lets no thread begin.
            call.run(copy_context())
            call.end()

    def submit(self, function: Callable[[], T]) -> Call[T]:
        """Prepare a call, and begin it."""
        call = self.prepare(function)
        self.begin(call)
        return call

    def stop(self) -> None:
        """Stop the calls that are under way, where they can be stopped."""
        self._stop.set()

    def dismiss(self) -> None:
        """Begin no other call, and wait for none."""
        self._over = True
        if self._outer is not None:
            self._outer.forget(self._stop.set)
