"""A coroutine function whose results are kept: what is awaited is kept, not the coroutine.

Under asyncio a call is computed in a task of its own, for all who wait for it in any event loop. If one of
them is cancelled, the others still get the result; the task is cancelled once nobody waits. Under trio it is
computed in the task that called first; if that is cancelled, the next one begins anew.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from holdall.aio.waiting import on_thread, on_trio
from holdall.aio.workers import Cancel
from holdall.memoize.flights import LOOK, Flight, blocked, lead, leading
from holdall.memoize.function import Cached, Options
from holdall.store import _MISSING as MISSING

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_log = logging.getLogger("holdall.memoize")
_POLL: Final = 0.01


class CachedCoroutine(Cached[P, R]):
    """A coroutine function whose results are kept; `cached` makes it of a function with `async def`.

    A call returns a coroutine. `invalidate` and `cache_info` are plain calls.

    >>> import asyncio
    >>> from holdall import cached
    >>> @cached
    ... async def square(x):
    ...     return x * x
    >>> asyncio.run(square(3))
    9
    """

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        super().__init__(function, options)
        # What asks whether a call is to be awaited.
        mark: Any = getattr(inspect, "markcoroutinefunction", None)
        if mark is not None:
            mark(self)
        else:
            self._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]

    def _begin(self) -> None:
        super()._begin()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _answer(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        data = await self._away(lambda: self._look(key))
        if data is not None:
            if self._refresh_after is not None and self._is_old(data):
                self._begin_refresh(key, args, kwargs)
            found = self._read(key, data)
            if found is not MISSING:
                return found
        return await self._compute(key, args, kwargs)

    async def _away(self, function: Callable[[], T], cancel: Cancel = Cancel.STOP) -> T:
        """Make a call of the store, on a thread if it may take long."""
        try:
            store = self._shelf.store
        except Exception:  # noqa: BLE001
            # The call finds out, and reports it.
            return function()
        if store.inline or (store._near and cancel is Cancel.STOP):
            return function()
        return await on_thread(function, cancel)

    async def _compute(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        while True:
            mine = Flight()
            flight = self._flights.enter(key, mine)
            if flight is mine:
                if on_trio():
                    try:
                        return await self._lead(key, mine, args, kwargs)
                    finally:
                        self._flights.leave(key, mine)
                self._fly(key, mine, args, kwargs)
            with blocked(flight) as ends:
                if not ends:
                    return await self._run(args, kwargs)
                await _join(flight)
            if flight is mine and mine.value is not MISSING:
                return mine.value
            try:
                found = self._outcome(key, flight)
            finally:
                if flight is mine and mine.waiting == 0:
                    # Its traceback leads to this frame; see `Flights.leave`.
                    mine.error = None
            if found is not MISSING:
                return found

    def _fly(self, key: str, mine: Flight, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Compute a call in a task of its own."""
        mine.value = MISSING

        async def fly() -> None:
            try:
                mine.value = await self._lead(key, mine, args, kwargs)
            except Exception as error:  # noqa: BLE001 - it is raised where the call is awaited
                mine.error = error

        coroutine = fly()
        try:
            mine.loop = asyncio.get_running_loop()
            mine.task = task = asyncio.create_task(coroutine, name=f"holdall cached {self._keys.name}")
        except BaseException:
            coroutine.close()
            self._flights.leave(key, mine)
            raise
        # A task that is cancelled before it begins runs no `finally` of its own.
        task.add_done_callback(lambda _: self._flights.leave(key, mine))

    async def _lead(self, key: str, mine: Flight, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        generation = self._generation
        with lead(mine):
            lock = await self._away(lambda: self._lock(key))
            try:
                found = await self._take_lock(key, lock, mine)
                if found is not MISSING:
                    return found
                try:
                    value = await self._run(args, kwargs)
                except Exception as error:
                    mine.error = error
                    if isinstance(error, self._options.errors):
                        caught = error
                        await self._away(
                            lambda: self._keep(key, mine, caught, generation, raised=True), Cancel.FINISH
                        )
                    raise
                await self._away(lambda: self._keep(key, mine, value, generation), Cancel.FINISH)
                return value
            finally:
                if lock is not None:
                    await self._away(lambda: self._release(lock), Cancel.FINISH)

    async def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._misses += 1
        made: Any = self._function(*args, **kwargs)
        return self._check_result(await made)

    async def _take_lock(self, key: str, lock: Any, mine: Flight) -> Any:
        while lock is not None:
            try:
                if await self._away(lock.try_once, Cancel.FINISH):
                    break
                pause = lock.pause()
            except Exception as error:  # noqa: BLE001
                self._fail("can't be locked", error)
                break
            await _sleep(pause)
            found = await self._away(lambda: self._again(key, mine))
            if found is not MISSING:
                return found
        return await self._away(lambda: self._again(key, mine))

    def _begin_refresh(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if on_trio():
            # Nothing may run on past its nursery: the caller computes it once it is too old.
            return
        if key in self._refreshing or key in self._flights or len(self._refreshing) >= self._MOST:
            return
        self._refreshing.add(key)
        mine = Flight()
        coroutine = self._refresh_in(key, mine, args, kwargs)
        try:
            task = asyncio.create_task(coroutine, name=f"holdall refresh {self._keys.name}")
        except BaseException:
            coroutine.close()
            self._refreshing.discard(key)
            raise
        self._tasks.add(task)

        def end(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            self._refreshing.discard(key)
            self._flights.leave(key, mine)

        task.add_done_callback(end)

    async def _refresh_in(
        self, key: str, mine: Flight, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        leading.set(())
        mine.loop = asyncio.get_running_loop()
        if self._flights.enter(key, mine) is not mine:
            return
        lock: Any = None
        try:
            lock = await self._away(lambda: self._lock(key))
            if not await self._away(lambda: self._try(lock), Cancel.FINISH):
                return
            if await self._away(lambda: self._again(key, mine)) is not MISSING:
                return
            generation = self._generation
            with lead(mine):
                value = await self._run(args, kwargs)
            await self._away(lambda: self._keep(key, mine, value, generation), Cancel.FINISH)
        except Exception:  # noqa: BLE001 - there is nobody to raise it to
            _log.warning("a result of %s can't be refreshed", self._keys.name, exc_info=True)
        finally:
            if lock is not None:
                await self._away(lambda: self._release(lock), Cancel.FINISH)


async def _sleep(seconds: float) -> None:
    if on_trio():
        import anyio

        await anyio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def _join(flight: Flight) -> None:
    """Wait for a computation. If nobody waits any more, its task is cancelled."""
    if on_trio():
        while not (flight.over or flight.is_dead()):
            await _sleep(_POLL)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(ended.set)
        except RuntimeError:
            """That loop was closed: nobody waits in it."""

    flight.calls.append(wake)
    flight.wait_for(1)
    try:
        while not (flight.over or flight.is_dead()):
            look = loop.call_later(LOOK, ended.set)
            try:
                await ended.wait()
            finally:
                look.cancel()
            ended.clear()
    finally:
        if not flight.wait_for(-1) and not flight.over:
            _cancel(flight)


def _cancel(flight: Flight) -> None:
    if flight.task is not None:
        try:
            flight.loop.call_soon_threadsafe(flight.task.cancel)
        except RuntimeError:
            """Its loop was closed, and the task with it."""
