"""The calls of a catalogue as coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from holdall.aio.listing import Listing
from holdall.aio.waiting import on_thread
from holdall.aio.workers import Cancel
from holdall.catalog.entry import Entry
from holdall.catalog.store import BlobStore

T = TypeVar("T")
P = ParamSpec("P")

_BATCH = 256


def _awaited(
    call: Callable[Concatenate[BlobStore, P], T], cancel: Cancel = Cancel.STOP
) -> Callable[Concatenate[AsyncCatalog, P], Coroutine[Any, Any, T]]:
    """Return a call of a catalogue as a coroutine, with the same arguments."""

    @wraps(call)
    async def run(self: AsyncCatalog, /, *args: P.args, **options: P.kwargs) -> T:
        return await on_thread(lambda: call(self.store, *args, **options), cancel)

    run.__qualname__, run.__doc__ = f"AsyncCatalog.{call.__name__}", f"As `BlobStore.{call.__name__}`."
    return run


class AsyncCatalog:
    """A `BlobStore` whose calls are coroutines, with the same names, arguments and errors; `find` is an async
    iterator. Each call runs on a worker thread, under asyncio and under trio.

    Args:
        store: The catalogue under it. `store.aio` makes the same.

    >>> import asyncio, tempfile
    >>> async def main(folder):
    ...     async with BlobStore(folder, backend="sqlite").aio as store:
    ...         await store.put([1, 2], key="a")
    ...         return await store.get("a"), [entry.key async for entry in store.find()]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    ([1, 2], ['a'])
    """

    def __init__(self, store: BlobStore) -> None:
        self.store = store

    put = _awaited(BlobStore.put)
    put_file = _awaited(BlobStore.put_file)
    put_many = _awaited(BlobStore.put_many)
    get = _awaited(BlobStore.get, Cancel.LEAVE)
    exists = _awaited(BlobStore.exists, Cancel.LEAVE)
    get_metadata = _awaited(BlobStore.get_metadata, Cancel.LEAVE)
    entry = _awaited(BlobStore.entry, Cancel.LEAVE)
    list = _awaited(BlobStore.list, Cancel.LEAVE)
    update_metadata = _awaited(BlobStore.update_metadata)
    delete = _awaited(BlobStore.delete)
    clear = _awaited(BlobStore.clear)
    history = _awaited(BlobStore.history, Cancel.LEAVE)
    restore = _awaited(BlobStore.restore)
    alias = _awaited(BlobStore.alias)
    resolve = _awaited(BlobStore.resolve, Cancel.LEAVE)
    aliases = _awaited(BlobStore.aliases, Cancel.LEAVE)
    delete_alias = _awaited(BlobStore.delete_alias)
    lineage = _awaited(BlobStore.lineage, Cancel.LEAVE)
    collect = _awaited(BlobStore.collect)
    verify = _awaited(BlobStore.verify)
    usage = _awaited(BlobStore.usage, Cancel.LEAVE)
    close = _awaited(BlobStore.close, Cancel.FINISH)

    def find(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        order_by: str | tuple[str, ...] = "key",
        limit: int | None = None,
        after: str | Entry | None = None,
    ) -> AsyncIterator[Entry]:
        """As `BlobStore.find`."""
        store = self.store
        return Listing(
            on_thread, lambda: store.find(where, order_by=order_by, limit=limit, after=after), _BATCH
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncCatalog({self.store!r})"
