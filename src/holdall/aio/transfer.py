"""Copy, sync, move, compare and check whole stores, as coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, TypeAlias, Unpack, overload

from holdall import transfer
from holdall.aio.listing import Listing
from holdall.aio.store import AsyncStore, store_below
from holdall.aio.waiting import on_thread
from holdall.spans import Span
from holdall.store import Store
from holdall.transfer import Difference, Plan, Report
from holdall.transfer.compare import Compare, Globs
from holdall.transfer.options import Options, Progress, SyncOptions, Where

__all__ = ["copy_store", "diff_stores", "move_store", "sync_stores", "verify_store"]

AnyStore: TypeAlias = "Store | AsyncStore"

_BATCH = 64


@overload
async def copy_store(
    source: AnyStore, target: AnyStore, *, dry_run: Literal[False] = False, **options: Unpack[Options]
) -> Report: ...
@overload
async def copy_store(
    source: AnyStore, target: AnyStore, *, dry_run: Literal[True], **options: Unpack[Options]
) -> Plan: ...
@overload
async def copy_store(
    source: AnyStore, target: AnyStore, *, dry_run: bool, **options: Unpack[Options]
) -> Report | Plan: ...
async def copy_store(
    source: AnyStore, target: AnyStore, *, dry_run: bool = False, **options: Unpack[Options]
) -> Report | Plan:
    """As `holdall.transfer.copy_store`, on a worker thread, which calls `progress` too. A cancelled `await`
    stops it between two blobs, or two pieces of one; with a journal the next run finishes it.

    >>> import asyncio
    >>> from holdall import MemoryStore
    >>> asyncio.run(copy_store(MemoryStore({"a": b"1"}), MemoryStore())).copied
    1
    """
    return await on_thread(
        lambda: transfer.copy_store(store_below(source), store_below(target), dry_run=dry_run, **options)
    )


@overload
async def sync_stores(
    source: AnyStore, target: AnyStore, *, dry_run: Literal[False] = False, **options: Unpack[SyncOptions]
) -> Report: ...
@overload
async def sync_stores(
    source: AnyStore, target: AnyStore, *, dry_run: Literal[True], **options: Unpack[SyncOptions]
) -> Plan: ...
@overload
async def sync_stores(
    source: AnyStore, target: AnyStore, *, dry_run: bool, **options: Unpack[SyncOptions]
) -> Report | Plan: ...
async def sync_stores(
    source: AnyStore, target: AnyStore, *, dry_run: bool = False, **options: Unpack[SyncOptions]
) -> Report | Plan:
    """As `holdall.transfer.sync_stores`; see `copy_store`.

    >>> import asyncio
    >>> from holdall import MemoryStore
    >>> asyncio.run(sync_stores(MemoryStore({"a": b"1"}), MemoryStore({"a": b"2", "b": b""}))).deleted
    1
    """
    return await on_thread(
        lambda: transfer.sync_stores(store_below(source), store_below(target), dry_run=dry_run, **options)
    )


@overload
async def move_store(
    source: AnyStore, target: AnyStore, *, dry_run: Literal[False] = False, **options: Unpack[Options]
) -> Report: ...
@overload
async def move_store(
    source: AnyStore, target: AnyStore, *, dry_run: Literal[True], **options: Unpack[Options]
) -> Plan: ...
@overload
async def move_store(
    source: AnyStore, target: AnyStore, *, dry_run: bool, **options: Unpack[Options]
) -> Report | Plan: ...
async def move_store(
    source: AnyStore, target: AnyStore, *, dry_run: bool = False, **options: Unpack[Options]
) -> Report | Plan:
    """As `holdall.transfer.move_store`; see `copy_store`.

    >>> import asyncio
    >>> from holdall import MemoryStore
    >>> asyncio.run(move_store(MemoryStore({"a": b"1"}), MemoryStore())).deleted
    1
    """
    return await on_thread(
        lambda: transfer.move_store(store_below(source), store_below(target), dry_run=dry_run, **options)
    )


async def verify_store(
    store: AnyStore,
    *,
    prefix: str | Span = "",
    glob: Globs = None,
    exclude: Globs = None,
    where: Where | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """As `holdall.transfer.verify_store`; see `copy_store`.

    >>> import asyncio
    >>> from holdall import MemoryStore
    >>> asyncio.run(verify_store(MemoryStore({"a": b"1"}))).checked
    1
    """
    given: dict[str, Any] = {**locals(), "store": store_below(store)}
    return await on_thread(lambda: transfer.verify_store(**given))


def diff_stores(
    source: AnyStore,
    target: AnyStore,
    *,
    prefix: str | Span = "",
    glob: Globs = None,
    exclude: Globs = None,
    where: Where | None = None,
    compare: Compare = "auto",
    jobs: int | None = None,
) -> AsyncIterator[Difference]:
    """As `holdall.transfer.diff_stores`, an async iterator.

    >>> import asyncio
    >>> from holdall import MemoryStore
    >>> async def main():
    ...     return [found.key async for found in diff_stores(MemoryStore({"a": b"1"}), MemoryStore())]
    >>> asyncio.run(main())
    ['a']
    """
    given: dict[str, Any] = {**locals(), "source": store_below(source), "target": store_below(target)}
    return Listing(on_thread, lambda: transfer.diff_stores(**given), _BATCH)
