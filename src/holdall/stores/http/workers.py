"""Threads that ask ahead of need, as long as a listing goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from holdall import threads

T = TypeVar("T")


class Workers:
    """A few threads. The interpreter doesn't wait for them at its end, since each waits for an answer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun = 0
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._ended = False

    def submit(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        if self._most == 1:
            _run(future, function)
            return future
        self._jobs.put((future, function))
        if self._begun < self._most:
            self._begun += 1
            try:
                threads.start(threading.Thread(target=self._work, name="holdall-http", daemon=True))
            except RuntimeError:
                # The interpreter is about to end, and lets no thread begin.
                self._most = 1
                self._drain()
        return future

    def _drain(self) -> None:
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                _run(*job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._ended:
                _run(*job)

    def end(self) -> None:
        """Begin no other job, and wait for none."""
        self._ended = True
        for _ in range(self._begun):
            self._jobs.put(None)


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    try:
        future.set_result(function())
    except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)
