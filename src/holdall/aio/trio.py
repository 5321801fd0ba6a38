"""Waiting for a thread, and feeding one, under trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
from trio.lowlevel import Abort, current_task, current_trio_token, reschedule, wait_task_rescheduled

from holdall.aio.workers import Cancel, Job, Workers

T = TypeVar("T")


async def wait(
    function: Callable[[], T],
    cancel: Cancel,
    workers: Workers,
    on_stop: Callable[[], object] | None,
    undo: Callable[[T], object] | None,  # of no use, since the value is returned
) -> T:
    """As `on_thread`. As in trio's own calls, a cancelled one that was done nevertheless returns."""
    if cancel is not Cancel.FINISH:
        await trio.lowlevel.checkpoint_if_cancelled()
    task, token, asleep = current_task(), current_trio_token(), True
    raise_cancelled: Callable[[], Any] | None = None

    def resume() -> None:
        nonlocal asleep
        if asleep:
            asleep = False
            reschedule(task)

    def wake() -> None:
        try:
            token.run_sync_soon(resume)
        except trio.RunFinishedError:
            """Nobody waits."""

    def abort(raise_cancel: Callable[[], Any]) -> Abort:
        nonlocal asleep, raise_cancelled
        if cancel is Cancel.FINISH:
            return Abort.FAILED
        dropped = job.drop()
        job.stop.set()
        if dropped or cancel is Cancel.LEAVE:
            asleep = False
            return Abort.SUCCEEDED
        raise_cancelled = raise_cancel
        return Abort.FAILED

    job = Job(function, wake)
    if on_stop is not None:
        job.stop.then(on_stop)
    workers.submit(job)
    await wait_task_rescheduled(abort)
    if raise_cancelled is not None and job.error is not None and job.failure is None:
        raise_cancelled()
    return job.outcome()


async def beside(pump: Callable[[], Awaitable[None]], call: Callable[[], Awaitable[T]]) -> T:
    """Return what a call returns, while a pump runs beside it; then end the pump."""
    failure: BaseException | None = None
    value: Any = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump)
        try:
            value = await call()
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - the nursery would wrap it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return value


def make_room(count: int) -> tuple[Callable[[], Awaitable[None]], Callable[[], None]]:
    """Return what takes one of `count` tokens, and what gives one back from a thread."""
    tokens, token = trio.Semaphore(count), current_trio_token()

    def give() -> None:
        try:
            token.run_sync_soon(tokens.release)
        except trio.RunFinishedError:
            """Nobody takes it."""

    return tokens.acquire, give
