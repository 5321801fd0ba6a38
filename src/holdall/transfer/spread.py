"""Doing many units of work, on the calling thread or on several."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sized
from queue import SimpleQueue
from typing import TypeVar

from holdall.stopping import Stop, Stopped, current
from holdall.threads import start

Unit = TypeVar("Unit", bound=Sized)
T = TypeVar("T")

JOBS = 16
"""The number of threads that are started if calls wait."""

_WAIT = 0.002
_SAMPLE = 5
_GRACE = 10.0


def new_stop() -> Stop:
    """Return what stops a transfer that begins now, as does what stops the call that it is part of."""
    stop, outer = Stop(), current.get()
    if outer is not None:
        outer.then(stop.set)
    return stop


class Gauge:
    """Measures whether calls wait, as for a network, more than they work: then threads pay.

    Small calls to a local disk are slower on threads, which pass the interpreter's lock around: 20,000 files
    of 1 KiB took twice as long on two idle processors by two threads as by one.
    """

    def __init__(self) -> None:
        self.waits = False
        self._waits: list[float] = []
        self._looking = 0

    def run(self, work: Callable[[Unit], T], unit: Unit) -> T:
        if self._looking:
            return self._look(work, unit)
        begun = time.perf_counter()
        result = work(unit)
        if time.perf_counter() - begun > _WAIT * len(unit):
            # It waited, or it was much work, or the machine is busy: the next few show which. To measure it
            # costs two system calls, too many for each unit.
            self._looking = _SAMPLE
        return result

    def _look(self, work: Callable[[Unit], T], unit: Unit) -> T:
        begun, used = time.perf_counter(), time.thread_time()
        result = work(unit)
        waited = time.perf_counter() - begun - (time.thread_time() - used)
        self._waits.append(waited / len(unit))
        self._looking -= 1
        if not self._looking:
            # The median, since on a busy machine any call may wait once in a while.
            self.waits = sorted(self._waits)[_SAMPLE // 2] > _WAIT
            self._waits.clear()
        return result


def spread(
    work: Callable[[Unit], T],
    units: Iterator[Unit],
    on_result: Callable[[T], None],
    *,
    jobs: int | None,
    inline: bool,
    stop: Stop,
    on_threads: Callable[[int], object] = id,
) -> None:
    """Do the work for each unit; pass on each result, in any order, on the calling thread.

    Args:
        work: Run on any thread.
        units: The units; iterated on the calling thread, a few ahead of the work.
        on_result: Called with each result.
        jobs: The number of threads; None decides by how long the first units wait.
        inline: Whether nothing can wait.
        stop: Ends all, with Stopped; it is set when an exception, such as a KeyboardInterrupt, ends this.
        on_threads: Called with the number of threads, before the first is started.
    """
    if jobs is None and not inline:
        gauge = Gauge()
        for unit in units:
            if stop.is_set():
                raise Stopped
            on_result(gauge.run(work, unit))
            if gauge.waits:
                break
        if not gauge.waits:
            return
        on_threads(JOBS)
        _run_threads(work, units, on_result, JOBS, stop)
        return
    if jobs is None or jobs == 1:
        for unit in units:
            if stop.is_set():
                raise Stopped
            on_result(work(unit))
        return
    on_threads(jobs)
    _run_threads(work, units, on_result, jobs, stop)


def _run_threads(
    work: Callable[[Unit], T],
    units: Iterator[Unit],
    on_result: Callable[[T], None],
    jobs: int,
    stop: Stop,
) -> None:
    inbox: SimpleQueue[Unit | None] = SimpleQueue()
    outbox: SimpleQueue[tuple[T] | BaseException] = SimpleQueue()

    def serve() -> None:
        while (unit := inbox.get()) is not None:
            try:
                if stop.is_set():
                    raise Stopped
                outbox.put((work(unit),))
            except BaseException as error:  # noqa: BLE001 - it is raised by the caller's thread
                outbox.put(error)

    threads: list[threading.Thread] = []
    flying = 0
    try:
        while True:
            # Twice as many as there are threads, so that none waits for this one.
            while flying < 2 * jobs and not stop.is_set():
                unit = next(units, None)
                if unit is None:
                    break
                inbox.put(unit)
                flying += 1
                if len(threads) < min(jobs, flying):
                    thread = threading.Thread(target=serve, name="holdall-transfer", daemon=True)
                    threads.append(thread)
                    start(thread)
            if not flying:
                break
            result = outbox.get()
            flying -= 1
            if isinstance(result, BaseException):
                raise result
            on_result(result[0])
        if stop.is_set():
            raise Stopped
    except BaseException:
        stop.set()
        raise
    finally:
        for _ in threads:
            inbox.put(None)
        # A call that hangs is left behind.
        deadline = time.monotonic() + _GRACE
        for thread in threads:
            # After an interrupt a thread may not have been started: it can't be joined.
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        # Work that was done just before the end is recorded too, so that it isn't repeated.
        while not outbox.empty():
            result = outbox.get()
            if not isinstance(result, BaseException):
                on_result(result[0])
