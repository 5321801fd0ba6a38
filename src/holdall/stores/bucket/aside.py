"""Blocking calls that the main thread has made by other threads, so that an interrupt ends its wait."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from holdall.forks import in_child
from holdall.threads import start

T = TypeVar("T")

_LOOK = 0.1
"""Seconds between two looks for an interrupt."""


def aside(call: Callable[[], T]) -> T:
    """Make a call on another thread, and wait for it.

    After an interrupt the call goes on until it ends by itself: it must be one that changes nothing.
    """
    if sys.is_finalizing():
        # No other thread goes on.
        return call()
    try:
        helper = _idle.pop() if _idle else _Helper()
    except RuntimeError:
        # The interpreter is about to end, and lets no thread begin.
        return call()
    try:
        value, error = helper.make(call)
    except BaseException:
        helper.leave()
        raise
    _idle.append(helper)
    try:
        if error is not None:
            raise error
        return cast(T, value)
    finally:
        # A traceback leads to this frame.
        del value, error


class _Helper:
    """A thread that makes one call after the other. It is a daemon, for which no interpreter waits."""

    def __init__(self) -> None:
        # Bare locks: what the standard library makes of them, such as a future or a queue, takes longer than
        # all the rest.
        self._begun, self._done = threading.Lock(), threading.Lock()
        self._begun.acquire()
        self._done.acquire()
        self._call: Callable[[], Any] | None = None
        self._outcome: tuple[Any, BaseException | None] = None, None
        try:
            start(threading.Thread(target=self._serve, name="holdall-aside", daemon=True))
        except BaseException:
            # It may have begun.
            self.leave()
            raise

    def make(self, call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        self._call = call
        self._begun.release()
        # A signal that comes just before the wait doesn't end it: Python looks again after it.
        while not self._done.acquire(timeout=_LOOK):
            continue
        outcome, self._outcome = self._outcome, (None, None)
        return outcome

    def leave(self) -> None:
        """End the thread, once it has made its call."""
        self._call = None
        if self._begun.locked():
            self._begun.release()

    def _serve(self) -> None:
        while True:
            self._begun.acquire()
            call, self._call = self._call, None
            if call is None:
                return
            try:
                self._outcome = call(), None
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was asked for
                self._outcome = None, error
            del call
            self._done.release()


_idle: list[_Helper] = []

# The child lacks their threads.
in_child(_idle.clear)
