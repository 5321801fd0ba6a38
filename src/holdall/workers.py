"""Threads that are made when they are needed, and kept for a while."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar, cast

from holdall.forks import in_child
from holdall.stopping import Stop, current
from holdall.threads import start

T = TypeVar("T")

_IDLE = 10.0
"""Seconds after which an idle thread ends."""
_LOOK = 0.1
"""Seconds between two looks for an interrupt."""


class Call(Generic[T]):
    """A call that another thread makes, for one thread to wait for."""

    # Not a `Future`: an interrupt in one of its methods can leave its lock held, and the other thread hangs.

    __slots__ = ("_error", "_function", "_over", "_result", "_signal", "begun")

    def __init__(self, function: Callable[[], T]) -> None:
        self.begun = False
        """Whether it was handed to a thread."""
        self._function: Callable[[], T] | None = function
        self._over = False
        self._signal = threading.Lock()
        self._signal.acquire()
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self, context: Context) -> None:
        """Make the call, and keep its result or its error."""
        function, self._function = self._function, None
        assert function is not None
        try:
            self._result = context.run(function)
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._error = error
            # The traceback leads to this frame, and would hold all that the call was given for the collector.
            del self

    def end(self) -> None:
        """Let the waiting thread go on."""
        self._over = True
        self._signal.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over, for at most some seconds; return whether it is."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._over:
            left = _LOOK if end is None else end - time.monotonic()
            if left <= 0:
                break
            # A Ctrl-C that comes just before this doesn't end it: Python looks again after it.
            self._signal.acquire(timeout=min(left, _LOOK))
        return self._over

    def error(self) -> BaseException | None:
        """Wait until it is over; return what it raised, if anything."""
        self.wait()
        return self._error

    def result(self) -> T:
        """Wait until it is over; return what it returned, or raise what it raised."""
        self.wait()
        if self._error is None:
            return cast(T, self._result)
        try:
            raise self._error
        finally:
            # The traceback leads to this frame.
            del self


_Job: TypeAlias = tuple[Call[Any], Context]


class Workers:
    """Threads for calls that must all run at the same time: no call ever waits for another to end, which a
    pool of limited size can't promise. They don't keep the process alive.

    >>> workers = Workers()
    >>> workers.submit(lambda: 6 * 7).result()
    42
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job | None]] = []
        self._closed = False

    def submit(self, function: Callable[[], T]) -> Call[T]:
        """Begin a call, in the context of this one."""
        call = Call(function)
        self.begin(call)
        return call

    def begin(self, call: Call[Any]) -> None:
        """Begin a call that its maker holds already, to wait for it also if an interrupt comes here."""
        job = call, copy_context()
        inbox: SimpleQueue[_Job | None] | None = None
        try:
            with self._lock:
                if self._idle:
                    # Not by a call, after which an interrupt may come before its result is kept.
                    inbox = self._idle[-1]
                    del self._idle[-1]
            if inbox is None:
                inbox = SimpleQueue[_Job | None]()
                start(threading.Thread(target=self._work, args=(inbox,), name="holdall-worker", daemon=True))
        except BaseException:
            # Else the thread, if it has begun, would wait for ever.
            if inbox is not None:
                inbox.put(None)
            raise
        # No interrupt comes between these two.
        call.begun = True
        inbox.put(job)

    def close(self) -> None:
        """Let the threads end, each once its call is done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _work(self, inbox: SimpleQueue[_Job | None]) -> None:
        while True:
            try:
                job = inbox.get(timeout=_IDLE)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                # Somebody has just taken this thread: the call is on its way.
                continue
            if job is None:
                return
            call, context = job
            call.run(context)
            del job, context
            with self._lock:
                closed = self._closed
                if not closed:
                    # Before the result is known, so that the thread that waits for it finds this one idle.
                    self._idle.append(inbox)
            call.end()
            del call
            if closed:
                return


_shared = Workers()


def shared() -> Workers:
    """Return the threads of this process that any call may use."""
    return _shared


def aside(function: Callable[[], T], patience: float = 0.0) -> T:
    """Call a function on a thread that no signal interrupts, and wait for what it returns.

    An interrupt only ends the wait: the call goes on to its end, for which this waits at most some seconds.
    Signals interrupt the main thread alone, so that another one makes the call itself.
    """
    if threading.get_ident() != threading.main_thread().ident or sys.is_finalizing():
        return function()
    call = Call(function)
    try:
        try:
            shared().begin(call)
        except RuntimeError:
            # The interpreter is about to end, and lets no thread begin.
            return function()
        return call.result()
    except BaseException:
        if call.begun:
            call.wait(patience)
        raise
    finally:
        # A traceback leads to this frame.
        del call


@contextmanager
def beside(function: Callable[[], T]) -> Generator[Call[T]]:
    """Call a function on a thread while a block runs; it is stopped if the block ends before it.

    >>> with beside(lambda: 6 * 7) as call:
    ...     call.result()
    42
    """
    stop, context = Stop(), copy_context()
    context.run(current.set, stop)
    try:
        yield context.run(shared().submit, function)
    finally:
        stop.set()


@in_child
def _anew() -> None:
    global _shared
    _shared = Workers()
