"""The calls of a store as coroutines, each run whole on a worker thread."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from typing import IO, Any, Self, TypeAlias, TypeVar, cast

from holdall.ranges import CHUNK
from holdall.store import ANY, Can, Data, Expect, Info, Store

__all__ = ["AsyncFile", "AsyncStore"]

T = TypeVar("T")

AsyncData: TypeAlias = "Data | AsyncIterable[bytes]"
"""What may be put: all that a store takes, and an async iterable of buffers."""

_WORKERS = 64
_BATCH = 256

_pool: tuple[int, ThreadPoolExecutor] | None = None
_making = threading.Lock()


def _workers() -> ThreadPoolExecutor:
    """The threads that all async stores share; a forked child has its own."""
    global _pool
    with _making:
        if _pool is None or _pool[0] != os.getpid():
            _pool = os.getpid(), ThreadPoolExecutor(_WORKERS, thread_name_prefix="holdall")
        return _pool[1]


def _renew_lock() -> None:
    global _making
    _making = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class AsyncStore:
    """A store whose calls are coroutines and async iterators, with the same names, arguments and errors.

    Each call runs the whole stack on one of 64 shared worker threads; a store that touches neither disk nor
    network runs inline. A cancelled `await` leaves the blob as it was or as it was to be, never torn: what
    has begun on the thread ends there.

    Args:
        store: The store under it. `store.aio` makes the same.

    >>> import asyncio, holdall
    >>> async def main():
    ...     store = holdall.MemoryStore().aio
    ...     await store.put("a", b"1")
    ...     return await store.get("a"), [key async for key in store]
    >>> asyncio.run(main())
    (b'1', ['a'])
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def store(self) -> Store:
        """The store under it."""
        return self._store

    @property
    def can(self) -> Can:
        """What the store does natively and atomically."""
        return self._store.can

    async def _run(self, function: Callable[[], T]) -> T:
        if self._store.inline:
            return function()
        return await on_thread(function)

    async def run(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run a call that only this kind of store has, as the others are run.

        >>> import asyncio, holdall
        >>> cached = holdall.CachingStore(holdall.MemoryStore(), holdall.MemoryStore())
        >>> asyncio.run(cached.aio.run(cached.invalidate, prefix="logs/"))
        0
        """
        return await self._run(lambda: call(*args, **options))

    async def get(self, key: str, default: Any = None) -> Any:
        """As `Store.get`."""
        return await self._run(lambda: self._store.get(key, default))

    def __getitem__(self, key: str) -> _Awaitable:
        """`await store[key]`, as `Store.__getitem__`."""
        return _Awaitable(lambda: self._run(lambda: self._store[key]))

    async def get_range(self, key: str, start: int, stop: int | None = None) -> bytes:
        """As `Store.get_range`."""
        return await self._run(lambda: self._store.get_range(key, start, stop))

    async def put(
        self,
        key: str,
        data: AsyncData,
        *,
        expect: Expect = ANY,
        ttl: float | timedelta | None = None,
        content_type: str | None = None,
    ) -> Info:
        """As `Store.put`; takes an async iterable of buffers too, which is streamed."""

        def put(body: Data) -> Info:
            return self._store.put(key, body, expect=expect, ttl=ttl, content_type=content_type)

        if isinstance(data, AsyncIterable):
            return await _bridged(data, put)
        return await self._run(lambda: put(data))

    async def delete(self, key: str, *, expect: Expect = ANY) -> bool:
        """As `Store.delete`."""
        return await self._run(lambda: self._store.delete(key, expect=expect))

    async def pop(self, key: str, *default: Any) -> Any:
        """As `Store.pop`."""
        return await self._run(lambda: self._store.pop(key, *default))

    async def popitem(self) -> tuple[str, bytes]:
        """As `Store.popitem`."""
        return await self._run(self._store.popitem)

    async def setdefault(self, key: str, default: Data = b"") -> bytes:
        """As `Store.setdefault`."""
        return await self._run(lambda: self._store.setdefault(key, default))

    async def update(
        self, other: Mapping[str, Data] | Iterable[tuple[str, Data]] = (), /, **more: Data
    ) -> None:
        """As `Store.update`."""
        await self._run(lambda: self._store.update(other, **more))

    async def clear(self) -> None:
        """As `Store.clear`."""
        await self._run(self._store.clear)

    async def exists(self, key: str) -> bool:
        """As `Store.exists`."""
        return await self._run(lambda: self._store.exists(key))

    async def info(self, key: str) -> Info:
        """As `Store.info`."""
        return await self._run(lambda: self._store.info(key))

    async def len(self) -> int:
        """How many blobs there are."""
        return await self._run(lambda: len(self._store))

    def list(self, prefix: str = "", *, glob: str | None = None) -> AsyncIterator[Info]:
        """As `Store.list`."""
        return self._iterate(lambda: self._store.list(prefix, glob=glob))

    def iterate_keys(
        self, prefix: str | None = None, exclude_prefix: str | None = None, glob: str | None = None
    ) -> AsyncIterator[str]:
        """As `Store.iterate_keys`."""
        return self._iterate(lambda: self._store.iterate_keys(prefix, exclude_prefix, glob))

    def __aiter__(self) -> AsyncIterator[str]:
        return self.iterate_keys()

    def keys(self) -> AsyncIterator[str]:
        """As iterating `Store.keys`."""
        return self.iterate_keys()

    def values(self) -> AsyncIterator[bytes]:
        """As iterating `Store.values`."""
        return self._iterate(lambda: iter(self._store.values()), 1)

    def items(self) -> AsyncIterator[tuple[str, bytes]]:
        """As iterating `Store.items`."""
        return self._iterate(lambda: iter(self._store.items()), 1)

    def children(self, prefix: str = "") -> AsyncIterator[str | Info]:
        """As `Store.children`."""
        return self._iterate(lambda: self._store.children(prefix))

    async def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """As `Store.get_many`."""
        return await self._run(lambda: self._store.get_many(keys))

    async def put_many(
        self,
        items: Mapping[str, Data] | Iterable[tuple[str, Data]],
        *,
        ttl: float | timedelta | None = None,
        content_type: str | None = None,
    ) -> dict[str, Info]:
        """As `Store.put_many`."""
        return await self._run(lambda: self._store.put_many(items, ttl=ttl, content_type=content_type))

    async def delete_many(self, keys: Iterable[str]) -> int:
        """As `Store.delete_many`."""
        return await self._run(lambda: self._store.delete_many(keys))

    def chunks(self, key: str, size: int = CHUNK) -> AsyncIterator[bytes]:
        """As `Store.chunks`."""
        return self._iterate(lambda: self._store.chunks(key, size), 1)

    def open(self, key: str, mode: str = "rb", **options: Any) -> _Opening:
        """As `Store.open`: `async with store.open(key) as file: await file.read()`."""
        return _Opening(self, lambda: self._store.open(key, mode, **options))

    async def modify(self, key: str, function: Callable[[bytes], Data], *default: bytes) -> Info:
        """As `Store.modify`; the function is a plain one and runs on the worker thread."""
        return await self._run(lambda: self._store.modify(key, function, *default))

    async def copy(self, source: str, target: str, *, expect: Expect = ANY) -> Info:
        """As `Store.copy`."""
        return await self._run(lambda: self._store.copy(source, target, expect=expect))

    async def move(self, source: str, target: str, *, expect: Expect = ANY) -> Info:
        """As `Store.move`."""
        return await self._run(lambda: self._store.move(source, target, expect=expect))

    async def sign(self, key: str, *, method: str = "GET", expires: float | timedelta = 3600) -> str:
        """As `Store.sign`."""
        return await self._run(lambda: self._store.sign(key, method=method, expires=expires))

    async def close(self) -> None:
        """As `Store.close`."""
        await self._run(self._store.close)

    async def __aenter__(self) -> Self:
        await self._run(self._store.__enter__)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncStore({self._store!r})"

    async def _iterate(self, begin: Callable[[], Iterator[T]], batch: int = _BATCH) -> AsyncIterator[T]:
        # A hop to a thread costs more than an entry, so that listings come in batches.
        iterator = await self._run(begin)
        while entries := await self._run(lambda: list(islice(iterator, batch))):
            for entry in entries:
                yield entry


async def on_thread(function: Callable[[], T]) -> T:
    context = contextvars.copy_context()
    run = cast("Callable[[Callable[[], T]], T]", context.run)
    return await asyncio.get_running_loop().run_in_executor(_workers(), run, function)


async def _bridged(source: AsyncIterable[bytes], put: Callable[[Data], T]) -> T:
    """Put an async iterable from a thread: one piece at a time is asked of the loop."""
    loop = asyncio.get_running_loop()
    iterator = aiter(source)
    cancelled = threading.Event()
    asked: list[Future[bytes | None]] = []

    async def next_piece() -> bytes | None:
        return await anext(iterator, None)

    def pieces() -> Iterator[bytes]:
        while True:
            asked[:] = [asyncio.run_coroutine_threadsafe(next_piece(), loop)]
            if cancelled.is_set():
                asked[0].cancel()
            piece = asked[0].result()
            if piece is None:
                return
            yield piece

    writing = asyncio.ensure_future(on_thread(lambda: put(pieces())))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        # The thread, which may wait for a piece, is told; it drops what it wrote, or has just published it.
        cancelled.set()
        for waiting in asked:
            waiting.cancel()
        await asyncio.wait([writing])
        if not writing.cancelled():
            writing.exception()
        raise
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


class _Awaitable:
    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin

    def __await__(self) -> Any:
        return self._begin().__await__()


class AsyncFile:
    """A file over a blob, whose calls are coroutines."""

    def __init__(self, owner: AsyncStore, file: IO[Any]) -> None:
        self._owner = owner
        self._file = file

    async def read(self, size: int = -1) -> Any:
        """Up to `size` bytes or characters; all by default."""
        return await self._owner._run(lambda: self._file.read(size))  # pyright: ignore[reportPrivateUsage]

    async def readline(self) -> Any:
        """One line."""
        return await self._owner._run(self._file.readline)  # pyright: ignore[reportPrivateUsage]

    async def write(self, data: Any) -> int:
        """Write bytes or text; seen when the file is closed."""
        return await self._owner._run(lambda: self._file.write(data))  # pyright: ignore[reportPrivateUsage]

    async def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position, as `io.IOBase.seek`."""
        return await self._owner._run(lambda: self._file.seek(offset, whence))  # pyright: ignore[reportPrivateUsage]

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._owner._iterate(lambda: iter(self._file))  # pyright: ignore[reportPrivateUsage]

    async def close(self) -> None:
        """Close; what was written is seen whole from now on."""
        await self._owner._run(self._file.close)  # pyright: ignore[reportPrivateUsage]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._owner._run(lambda: self._file.__exit__(*error))  # pyright: ignore[reportPrivateUsage]


class _Opening:
    """What `open` gives: to be awaited, or entered by `async with`."""

    def __init__(self, owner: AsyncStore, begin: Callable[[], IO[Any]]) -> None:
        self._owner = owner
        self._begin = begin
        self._file: AsyncFile | None = None

    async def _open(self) -> AsyncFile:
        self._file = AsyncFile(self._owner, await self._owner._run(self._begin))  # pyright: ignore[reportPrivateUsage]
        return self._file

    def __await__(self) -> Any:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncFile:
        return await self._open()

    async def __aexit__(self, *error: Any) -> None:
        if self._file is not None:
            await self._file.__aexit__(*error)
