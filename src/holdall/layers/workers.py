"""Threads that are made when they are needed, and kept for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Workers"]

T = TypeVar("T")

_Job: TypeAlias = tuple["Future[Any]", Context, Callable[[], Any]]
_IDLE = 10.0
"""Seconds after which a thread that nobody needs ends."""


class Workers:
    """Threads for calls that must all run at the same time: no call ever waits for another to end, which a
    pool of so many threads can't promise. They don't keep the process alive.

    >>> workers = Workers()
    >>> workers.submit(lambda: 6 * 7).result()
    42
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job | None]] = []
        self._closed = False

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Begin a call, in the context of this one."""
        from concurrent.futures import Future

        future: Future[T] = Future()
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue[_Job | None]()
            threading.Thread(target=self._work, args=(inbox,), name="holdall-replica", daemon=True).start()
        inbox.put((future, copy_context(), function))
        return future

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
            future, context, function = job
            result, error = None, None
            try:
                result = context.run(function)
            except BaseException as caught:  # noqa: BLE001 - it is raised where the result is asked for
                error = caught
            del job, context, function
            with self._lock:
                closed = self._closed
                if not closed:
                    # Before the result is known, so that whoever waits for it finds this thread idle.
                    self._idle.append(inbox)
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
            del future, result, error
            if closed:
                return
