"""An iterator on threads as an async iterator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from holdall.aio.workers import Cancel
from holdall.stopping import stoppable

T = TypeVar("T")


class Listing(AsyncIterator[T], Generic[T]):
    """The entries of an iterator, drawn in batches, since a hop to a thread costs more than an entry.

    It isn't an async generator: trio warns of one that is left before its end.

    Args:
        run: What runs a call, as `on_thread` does.
        begin: Returns the iterator; called at the first step.
        batch: The number of entries that are drawn at once.
        cancel: What a cancelled step does; it ends the listing.
    """

    def __init__(
        self,
        run: Callable[[Callable[[], Any], Cancel], Awaitable[Any]],
        begin: Callable[[], Iterator[T]],
        batch: int,
        cancel: Cancel = Cancel.LEAVE,
    ) -> None:
        self._run, self._batch, self._cancel = run, batch, cancel
        self._begin: Callable[[], Iterator[T]] | None = begin
        self._iterator: Iterator[T] | None = None
        self._drawn: Iterator[T] = iter(())

    async def __anext__(self) -> T:
        for entry in self._drawn:
            return entry
        # Taken away meanwhile: a step that failed or was cancelled is the last one.
        begin, self._begin = self._begin, None
        iterator, self._iterator = self._iterator, None
        if begin is not None:
            iterator = await self._run(begin, self._cancel)
        if iterator is None:
            raise StopAsyncIteration
        entries: list[T] = await self._run(
            lambda: list(islice(stoppable(iterator), self._batch)), self._cancel
        )
        if not entries:
            raise StopAsyncIteration
        self._iterator, self._drawn = iterator, iter(entries[1:])
        return entries[0]

    async def aclose(self) -> None:
        """End it."""
        self._begin, self._iterator, self._drawn = None, None, iter(())
