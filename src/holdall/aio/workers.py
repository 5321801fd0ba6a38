"""The threads that run the calls of async stores."""

from __future__ import annotations

import contextvars
import enum
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, cast

from holdall.forks import begin_anew
from holdall.stopping import Stop, Stopped, current
from holdall.threads import start

T = TypeVar("T")


class Cancel(enum.Enum):
    """What becomes of a call whose await is cancelled. One that hasn't begun is dropped, but for `FINISH`."""

    LEAVE = "leave"
    """It changes nothing: it is stopped, and the await ends at once."""
    STOP = "stop"
    """It is stopped, and the await ends with it, so that nothing is written later."""
    FINISH = "finish"
    """It closes something: it runs to its end."""


class Job(Generic[T]):
    """A call on its way to a thread, with its outcome on the way back.

    Args:
        function: The call, which runs in the context of this constructor's caller.
        wake: Called on the thread once the outcome is there.
    """

    def __init__(self, function: Callable[[], T], wake: Callable[[], object]) -> None:
        self.stop = Stop()
        self.done = False
        self.error: BaseException | None = None
        self.value: T | None = None
        self._function: Callable[[], T] | None = function
        self._context = contextvars.copy_context()
        self._wake = wake
        self._claims = [True]

    def drop(self) -> bool:
        """Make sure that it never begins; return False if it has begun."""
        try:
            return self._claims.pop()
        except IndexError:
            return False

    def run(self) -> None:
        function, self._function = self._function, None
        if function is None or not self.drop():
            return
        try:
            self._context.run(current.set, self.stop)
            # No event loop runs in this thread, whatever the caller's context says.
            sniffio = cast(Any, sys.modules.get("sniffio"))
            if sniffio is not None:
                self._context.run(sniffio.current_async_library_cvar.set, None)
            self.value = self._context.run(function)
        except Stopped as stopped:
            # Nobody takes it, and with its traceback, which leads here, it would keep all that the call held,
            # such as a connection, until the collector comes.
            self.error = stopped.with_traceback(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            self.error = error
        self.done = True
        del function
        self._wake()

    def outcome(self) -> T:
        """Return what the call returned, or raise what it raised."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
            return cast(T, self.value)
        finally:
            # A traceback leads to this frame: together they would be garbage only for the collector.
            del error

    @property
    def failure(self) -> BaseException | None:
        """What the call raised, unless it was stopped."""
        return None if isinstance(self.error, Stopped) else self.error


class Workers:
    """A bounded number of threads, started when calls wait.

    They are daemons, so that a call that hangs, and whose caller is gone, doesn't keep the process alive, as
    those of Python's executors would.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begin()
        begin_anew(self, Workers._begin)

    def _begin(self) -> None:
        self._jobs: SimpleQueue[Job[Any]] = SimpleQueue()
        self._lock = threading.Lock()
        self._free = self._threads = 0

    def submit(self, job: Job[Any]) -> None:
        """Run a job as soon as a thread is free."""
        self._jobs.put(job)
        with self._lock:
            if self._free:
                self._free -= 1
                return
            if self._threads == self._most:
                return
            self._threads += 1
        try:
            start(threading.Thread(target=self._serve, name="holdall", daemon=True))
        except BaseException:
            with self._lock:
                self._threads -= 1
                alone = not self._threads
            if alone:
                job.drop()
                raise

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                with self._lock:
                    self._free += 1
                job = self._jobs.get()
            job.run()
            # Its outcome may be large.
            del job


class Spare(Workers):
    """A thread for each job."""

    def __init__(self) -> None:
        super().__init__(0)

    def submit(self, job: Job[Any]) -> None:
        start(threading.Thread(target=job.run, name="holdall", daemon=True))


calls = Workers(64)
"""The threads that all calls share."""

streams = Workers(64)
"""The threads of puts of async iterables. They wait for a coroutine, which may wait for a call: with the
threads of the calls, 64 of them would wait for each other."""

spare = Spare()
"""The threads of such puts within the body of another."""
