"""One computation of a call at a time, in this process: who comes while it runs waits for its outcome.

A call that is made again within its own computation would wait for itself. So would two computations that
each call the other. Who finds that computes the call without waiting, as without a cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from holdall.forks import in_child

LOOK: Final = 1.0
"""Seconds after which a waiting call looks whether the computing thread is still alive."""


class Flight:
    """A computation that is under way."""

    __slots__ = (
        "_blocked",
        "_signal",
        "_thread",
        "calls",
        "data",
        "error",
        "joined",
        "loop",
        "over",
        "task",
        "value",
        "waiting",
    )

    def __init__(self) -> None:
        self.over = False
        self.data: bytes | None = None
        """The outcome as it is stored."""
        self.error: Exception | None = None
        """What it raised. Without data and without an error, whoever waits computes for themselves."""
        self.value: Any = None
        """Of a coroutine, what it returned, for the call that began it."""
        self.task: Any = None
        """Of a coroutine, the task of asyncio that computes it."""
        self.loop: Any = None
        self.joined = False
        """Whether anybody waited for it."""
        self.waiting = 0
        """How many coroutines wait for it."""
        self._thread = threading.current_thread()
        self.calls: list[Callable[[], object]] = []
        """What is called when it is over, on any thread."""
        # Not an Event: an interrupt in its `wait` can come out as a RuntimeError.
        self._signal = threading.Lock()
        self._signal.acquire()
        self._blocked: list[Flight] = []
        """What those wait for who compute this."""

    def finish(self) -> None:
        """Let all who wait go on."""
        if self.over:
            return
        self.over = True
        self._signal.release()
        while self.calls:
            self.calls.pop()()

    def wait_for(self, change: int) -> int:
        """Note that one more coroutine waits, or one less; return how many do."""
        self.joined = True
        with _lock:
            self.waiting += change
            return self.waiting

    def is_dead(self) -> bool:
        """Return whether it never ends, since its thread or its event loop has ended."""
        if self.loop is not None:
            return self.loop.is_closed()
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Wait for it in a thread."""
        self.joined = True
        while not (self.over or self.is_dead()):
            if self._signal.acquire(timeout=LOOK):
                self._signal.release()


leading: ContextVar[tuple[Flight, ...]] = ContextVar("holdall.memoize.leading", default=())
"""The computations that the code which runs now is part of, from the outermost in."""

_lock = threading.Lock()


@in_child
def _after_fork() -> None:
    # A thread that isn't in the child may have had it.
    global _lock
    _lock = threading.Lock()


class Flights:
    """The computations of one function that are under way, by the keys of their calls."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def enter(self, key: str, mine: Flight) -> Flight:
        """Return the computation of a call, which is the one given if there was none."""
        return self._flights.setdefault(key, mine)

    def leave(self, key: str, mine: Flight) -> None:
        """End one, if it was entered."""
        if self._flights.get(key) is mine:
            # `drop` may come in between.
            self._flights.pop(key, None)
        mine.finish()
        if not mine.joined:
            # Its traceback leads to frames that hold this: together they would be garbage for the collector.
            # Who comes between these lines finds neither a result nor an error, and computes.
            mine.error = None

    def drop(self, key: str | None = None) -> None:
        """Let calls from now on be computed anew, whatever is under way."""
        if key is None:
            self._flights.clear()
        else:
            self._flights.pop(key, None)

    def __contains__(self, key: str) -> bool:
        return key in self._flights


@contextmanager
def lead(mine: Flight) -> Generator[None]:
    """Note that the block computes this."""
    token = leading.set((*leading.get(), mine))
    try:
        yield
    finally:
        leading.reset(token)


@contextmanager
def blocked(flight: Flight) -> Generator[bool]:
    """Note in the block that this code waits for a computation; give False if that would never end, since the
    computation waits for this code."""
    mine = leading.get()
    if not mine:
        yield True
        return
    with _lock:
        endless = _reaches(flight, mine)
        if not endless:
            for each in mine:
                each._blocked.append(flight)
    try:
        yield not endless
    finally:
        if not endless:
            with _lock:
                for each in mine:
                    each._blocked.remove(flight)


def _reaches(flight: Flight, mine: tuple[Flight, ...]) -> bool:
    seen: list[Flight] = []
    waiting = [flight]
    while waiting:
        each = waiting.pop()
        if each in mine:
            return True
        if each not in seen:
            seen.append(each)
            waiting += each._blocked
    return False
