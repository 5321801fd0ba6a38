"""Locks and counters whose calls are coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

from holdall.aio.waiting import on_trio
from holdall.aio.workers import Cancel
from holdall.locks import Counter, Lock


class RunCall(Protocol):
    """Runs a call of a store, as `AsyncStore` does."""

    def __call__(self, function: Any, cancel: Cancel = ..., undo: Any = ...) -> Awaitable[Any]: ...


class AsyncLock:
    """A lock in a store, which `async with` takes and releases. A cancelled coroutine releases it.

    Args:
        run: Runs calls of the store.
        lock: The lock.

    >>> import asyncio, holdall
    >>> async def main():
    ...     async with holdall.MemoryStore().aio.lock("job") as lock:
    ...         return lock.lost
    >>> asyncio.run(main())
    False
    """

    def __init__(self, run: RunCall, lock: Lock) -> None:
        self._run = run
        self._lock = lock

    @property
    def key(self) -> str:
        """As `Lock.key`."""
        return self._lock.key

    @property
    def token(self) -> int:
        """As `Lock.token`."""
        return self._lock.token

    @property
    def lost(self) -> bool:
        """As `Lock.lost`."""
        return self._lock.lost

    async def check(self) -> None:
        """As `Lock.check`."""
        await self._run(self._lock.check)

    async def __aenter__(self) -> Self:
        try:
            while not await self._run(self._lock.try_once, Cancel.STOP, self._drop):
                pause = self._lock.pause()
                if on_trio():
                    import trio

                    await trio.sleep(pause)
                else:
                    await asyncio.sleep(pause)
        except BaseException:
            # The next wait begins anew.
            self._lock._begun = None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._run(lambda: self._lock.__exit__(kind, error, traceback), Cancel.FINISH)

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError("an async lock is taken by: async with store.lock(...)")

        def __exit__(self, *_: object) -> None:
            """Never called: `with` fails at its begin."""

    def _drop(self, taken: bool) -> None:
        if taken:
            self._lock.end()

    def __repr__(self) -> str:
        return f"Async{self._lock!r}"


class AsyncCounter:
    """A number in a store, whose changes are coroutines.

    Args:
        run: Runs calls of the store.
        counter: The counter.

    >>> import asyncio, holdall
    >>> async def main():
    ...     hits = holdall.MemoryStore().aio.counter("hits")
    ...     return await hits.increment(), await hits.value
    >>> asyncio.run(main())
    (1, 1)
    """

    def __init__(self, run: RunCall, counter: Counter) -> None:
        self._run = run
        self._counter = counter

    @property
    def key(self) -> str:
        """As `Counter.key`."""
        return self._counter.key

    @property
    def value(self) -> Awaitable[int]:
        """As `Counter.value`: `await counter.value`."""
        return self._run(lambda: self._counter.value, Cancel.LEAVE)

    async def increment(self, by: int = 1) -> int:
        """As `Counter.increment`."""
        return await self._run(lambda: self._counter.increment(by))

    async def reset(self, to: int = 0) -> int:
        """As `Counter.reset`."""
        return await self._run(lambda: self._counter.reset(to))

    def __repr__(self) -> str:
        return f"Async{self._counter!r}"
