"""Threads that make calls to a server, for which the end of the interpreter doesn't wait."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from holdall.stopping import Stop, current
from holdall.threads import start

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

_LOOK = 0.1


class Crew:
    """Up to `size` threads, each of which makes the next call as soon as it is free. A pool of Python's would
    be waited for at the end of the interpreter, however long a server is silent.

    What stops the call that made it stops the calls of the crew, too.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._stop, self._outer = Stop(), current.get()
        if self._outer is not None:
            self._outer.then(self._stop.set)
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self, call: Callable[[], T]) -> Future[T]:
        """Have a call made."""
        from concurrent.futures import Future

        future: Future[T] = Future()
        context = copy_context()
        context.run(current.set, self._stop)

        def make() -> None:
            settle(future, lambda: context.run(call))

        if len(self._threads) < self._size:
            thread = threading.Thread(target=_work, args=(self._calls,), name="holdall-crew", daemon=True)
            try:
                start(thread)
            except RuntimeError:
                # The interpreter is about to end, and lets no thread begin.
                make()
                return future
            self._threads.append(thread)
        self._calls.put(make)
        return future

    def stop(self) -> None:
        """Stop the calls that are under way, where they can be stopped."""
        self._stop.set()

    def dismiss(self, *, wait: bool) -> None:
        """End the threads, once each has made the call that it is at; begin no other."""
        try:
            while True:
                self._calls.get_nowait()
        except Empty:
            self._calls.put(None)
        if wait and not sys.is_finalizing():
            for thread in self._threads:
                thread.join()
        if self._outer is not None:
            self._outer.forget(self._stop.set)

    def __del__(self) -> None:
        # An interrupt may have come before `dismiss`, or left it half made.
        if hasattr(self, "_calls"):
            self._calls.put(None)


def _work(calls: SimpleQueue[Callable[[], object] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        # It may hold the bytes of a blob.
        del call
    # For the others: an interrupt may have left one that no list names.
    calls.put(None)


def settle(future: Future[Any], call: Callable[[], object]) -> None:
    """Make a call, and keep its outcome."""
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)


def wait_for(future: Future[T]) -> T:
    """Return the result of a call once it is made."""
    # A wait of the future's own is one of a condition, where an interrupt may find the lock given away.
    done = threading.Lock()
    done.acquire()
    future.add_done_callback(lambda _: done.release())
    # A signal that comes just before the wait doesn't end it: Python looks again after it.
    while not future.done():
        done.acquire(timeout=_LOOK)
    return future.result()
