"""Run tasks in threads and in forked processes, and wait for them no longer than a deadline."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 120.0
"""Seconds after which a wait is a deadlock."""


def race(*tasks: Callable[[], T], seconds: float = DEADLINE) -> list[T]:
    """Run tasks at the same moment, each in its own thread; return their results in order.

    The first error is raised here. Python switches threads as often as it can meanwhile.

    Raises:
        AssertionError: A task still runs after that number of seconds.

    >>> race(lambda: 1, lambda: 2)
    [1, 2]
    """
    barrier = threading.Barrier(len(tasks))
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(index: int, task: Callable[[], T]) -> None:
        try:
            barrier.wait(seconds)
            results[index] = task()
        except BaseException as error:  # noqa: BLE001 - the calling thread raises it
            errors.append(error)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(tasks)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    finally:
        sys.setswitchinterval(interval)
    errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), f"a deadlock: tasks still run after {seconds} s"
    return [results[index] for index in range(len(tasks))]


def run_within(function: Callable[[], T], seconds: float = DEADLINE) -> T:
    """Return what the function returns; fail if it hangs."""
    return race(function, seconds=seconds)[0]


def step_together(parties: int) -> Callable[[], object]:
    """Return a function that waits until that number of threads have called it; if one dies, none waits."""
    barrier = threading.Barrier(parties)
    return lambda: barrier.wait(DEADLINE)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"it didn't happen within {DEADLINE} s"
        time.sleep(0.002)


def fork(work: Callable[[], None]) -> int:
    worker = os.fork()
    if worker:
        return worker
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait_for(worker: int) -> int:
    deadline = time.monotonic() + DEADLINE
    while True:
        done, status = os.waitpid(worker, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            return 99
        time.sleep(0.001)
