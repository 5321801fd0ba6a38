"""Waiting in a coroutine for a call on a thread, whichever library runs the event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar, cast

from holdall.aio.workers import Cancel, Job, Workers, calls

T = TypeVar("T")


def on_trio() -> bool:
    """Return whether trio runs the coroutine that calls this. Nothing is imported for it."""
    sniffio = cast(Any, sys.modules.get("sniffio"))
    return sniffio is not None and sniffio.thread_local.name == "trio"


async def on_thread(
    function: Callable[[], T],
    cancel: Cancel = Cancel.STOP,
    workers: Workers = calls,
    *,
    on_stop: Callable[[], object] | None = None,
    undo: Callable[[T], object] | None = None,
) -> T:
    """Run a call on a thread.

    Args:
        function: The call.
        cancel: What a cancelled await does.
        workers: The threads.
        on_stop: Called when the call is stopped.
        undo: Called, on a thread, with a value that nobody took.
    """
    if on_trio():
        from holdall.aio.trio import wait
    else:
        wait = _wait
    return await wait(function, cancel, workers, on_stop, undo)


async def _wait(
    function: Callable[[], T],
    cancel: Cancel,
    workers: Workers,
    on_stop: Callable[[], object] | None,
    undo: Callable[[T], object] | None,
) -> T:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(ended.set)
        except RuntimeError:
            """The loop was closed: nobody waits."""

    job = Job(function, wake)
    if on_stop is not None:
        job.stop.then(on_stop)
    workers.submit(job)
    try:
        await ended.wait()
    except asyncio.CancelledError as cancelled:
        if cancel is not Cancel.FINISH:
            if job.drop():
                job.stop.set()
                raise
            job.stop.set()
        if cancel is not Cancel.LEAVE:
            with _shield():
                await ended.wait()
            if undo is not None and job.error is None:
                return_value(workers, job, undo)
            if job.failure is not None:
                raise cancelled from job.failure
        raise
    return job.outcome()


def return_value(workers: Workers, job: Job[T], undo: Callable[[T], object]) -> None:
    """Hand what a job returned to the function that undoes it."""
    workers.submit(Job(lambda: undo(job.outcome()), lambda: None))


def _shield() -> Any:
    """A scope of anyio, if the program uses it, cancels each await in it again and again."""
    anyio = cast(Any, sys.modules.get("anyio"))
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)
