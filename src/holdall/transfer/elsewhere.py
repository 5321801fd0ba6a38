"""Copies that other processes make, in shards: those of an executor, or our own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from multiprocessing.connection import Connection
from typing import Any

from holdall.errors import StoreError
from holdall.stopping import Stop, Stopped
from holdall.transfer.shard import Shard, copy_shard
from holdall.transfer.step import Outcome, Status

_log = logging.getLogger("holdall.transfer")

_GRACE = 10.0
_busy = threading.Lock()
_stop = Stop()
"""Stops the copies that this process makes for the one that started it."""


class Executor:
    """The executor that the caller gave."""

    def __init__(self, executor: Any, jobs: int | None) -> None:
        self._executor = executor
        self.workers: int = jobs or getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        """How many shards it does at a time."""

    def submit(self, shard: Shard) -> Any:
        """Have the copies of a shard made; return the future outcomes."""
        return self._executor.submit(copy_shard, shard)

    def result(self, future: Any) -> list[Outcome]:
        """Return the outcomes when they are there."""
        return future.result()

    def replace(self, shard: Shard, error: Exception) -> list[Outcome]:
        """Return the outcomes of a shard that wasn't done, or perhaps in part: all have failed."""
        return [Outcome(step, Status.FAILED, error=_lost_error(error, step.key)) for step in shard.copies]


class Pool(Executor):
    """Processes of this machine, which end with this one. If they fail, this one does their shards.

    It is a context manager. At its end, and when this process ends for any reason, the processes stop between
    two blobs, or two pieces of one.

    Raises:
        OSError: The system can't start a process.
        RuntimeError: This process only imports the main module of another one, which has started it.
    """

    def __init__(self, count: int, stop: Stop) -> None:
        # Not by a fork: a copy of this process would lack its threads, and keep the locks that they hold.
        context = multiprocessing.get_context("spawn")
        # Nothing is sent: the other end is closed when this process ends.
        ended, self._alive = context.Pipe(duplex=False)
        super().__init__(ProcessPoolExecutor(count, context, _begin, (ended,)), count)
        self._stop = stop
        self._warned = False
        # One is started at once: a process that can't start others fails here, before it does their work.
        self._submit(os.getpid)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._alive.close()
        self._executor.shutdown(cancel_futures=True)
        self._alive.close()

    def submit(self, shard: Shard) -> Future[list[Outcome]]:
        return self._submit(_serve, shard)

    def _submit(self, call: Callable[..., Any], *args: object) -> Future[Any]:
        # Ctrl-C must reach only this process, which then stops the others: they inherit the mask.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._executor.submit(call, *args)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def result(self, future: Future[list[Outcome]]) -> list[Outcome]:
        while not wait([future], 0.1).done:
            if self._stop.is_set():
                raise Stopped
        return future.result()

    def replace(self, shard: Shard, error: Exception) -> list[Outcome]:
        if not self._warned:
            _log.warning("the transfer goes on in one process, since the others failed: %r", error)
        self._warned = True
        return copy_shard(shard)


def copy_shards(
    executor: Executor, shards: Iterator[Shard], take: Callable[[list[Outcome]], None], stop: Stop
) -> None:
    """Have the copies of all shards made, and take the outcomes, a few shards at a time."""
    flying: deque[tuple[Shard, Any]] = deque()

    def take_next() -> None:
        if stop.is_set():
            raise Stopped
        shard, future = flying.popleft()
        try:
            if isinstance(future, Exception):
                raise future
            outcomes = executor.result(future)
        except Exception as error:  # noqa: BLE001 - the steps of a shard fail, or are done in another way
            outcomes = executor.replace(shard, error)
        take(outcomes)

    try:
        for shard in shards:
            try:
                flying.append((shard, executor.submit(shard)))
            except Exception as error:  # noqa: BLE001 - as above
                flying.append((shard, error))
            if len(flying) >= 2 * executor.workers:
                take_next()
        while flying:
            take_next()
    except BaseException:
        for _, future in flying:
            if hasattr(future, "cancel"):
                future.cancel()
        raise


def _lost_error(error: Exception, key: str) -> StoreError:
    lost = StoreError(
        f"the worker that ran this shard died or couldn't be reached ({type(error).__name__}: {error}), so "
        "the blob may be copied or not; run again",
        key=key,
    )
    lost.__cause__ = error
    return lost


def _begin(ended: Connection) -> None:
    """Prepare a process of a pool."""
    threading.Thread(target=_end, args=(ended,), daemon=True).start()


def _end(ended: Connection) -> None:
    """End a process of a pool when the one that started it has ended, or stops early."""
    ended.poll(None)
    # Copies stop between two blobs, or two pieces of one.
    _stop.set()
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A parent that is alive ends this process in order, unless a call hangs here.
    parent.join(_GRACE)
    if not parent.is_alive():
        _busy.acquire(timeout=_GRACE)
    os._exit(0)


def _serve(shard: Shard) -> list[Outcome]:
    with _busy:
        return copy_shard(shard, _stop)
