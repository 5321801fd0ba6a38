"""The whole suite of a store whose calls go through its async face, under asyncio and under trio."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import trio
from tests.again import Again

from holdall import ChecksumStore, CompressedStore, FilesystemStore, MemoryStore, Store
from holdall.aio import AsyncFile, AsyncStore
from holdall.aio.locks import AsyncCounter, AsyncLock
from holdall.layers.layer import Transparent


class Loop:
    """An event loop on a thread of its own: no interrupt comes there, as none comes into a step of a loop."""

    _soon: Callable[..., object]
    _group: anyio.abc.TaskGroup

    def __init__(self, backend: str) -> None:
        ready = threading.Event()

        async def serve() -> None:
            async with anyio.create_task_group() as self._group:
                if backend == "trio":
                    self._soon = trio.lowlevel.current_trio_token().run_sync_soon
                else:
                    # In the context of this task: the one of the caller may say that no loop runs.
                    soon = asyncio.get_running_loop().call_soon_threadsafe
                    self._soon = partial(soon, context=contextvars.copy_context())
                ready.set()
                await anyio.sleep_forever()

        self._thread = threading.Thread(
            target=lambda: anyio.run(serve, backend=backend), name=backend, daemon=True
        )
        self._thread.start()
        ready.wait()

    def run(self, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Return what a coroutine returns. An interrupt cancels it and waits for its end, as in
        `asyncio.run`."""
        if threading.current_thread() is self._thread:
            return run_inline(function, *args, **options)
        call = Call(lambda: function(*args, **options))
        try:
            self._soon(self._group.start_soon, call.run)
            self._await(call)
        except BaseException:
            if not call.claim():
                self._soon(call.cancel)
                self._await(call)
            raise
        return call.outcome()

    def _await(self, call: Call) -> None:
        # An interrupt may come right after the lock was taken: then it isn't free again.
        while not (call.done or call.ended.acquire(timeout=1)):
            assert self._thread.is_alive(), "the event loop has ended"


def run_inline(function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    """Return what a coroutine returns that waits for nothing: the body of a put calls its store again."""
    try:
        function(*args, **options).__await__().send(None)  # type: ignore[attr-defined]
    except StopIteration as end:
        return end.value
    raise AssertionError("a call within a call of an inline store waits for the loop")


class Call:
    """A coroutine of a loop, with its outcome."""

    def __init__(self, begin: Callable[[], Awaitable[Any]]) -> None:
        self._begin = begin
        self._claims = [True]
        # Not an event: an interrupt within its methods would leave it locked, and the loop would wait for it.
        self.ended = threading.Lock()
        self.ended.acquire()
        self.done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def claim(self) -> bool:
        with suppress(IndexError):
            return self._claims.pop()
        return False

    async def run(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                if self.claim():
                    self._value = await self._begin()
        except BaseException as error:  # noqa: BLE001 - it would end the loop
            self._error = error
        finally:
            self.done = True
            self.ended.release()

    def cancel(self) -> None:
        self._scope.cancel()

    def outcome(self) -> Any:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return self._value
        finally:
            del error


@cache
def loop_of(backend: str, process: int) -> Loop:
    return Loop(backend)


class File:
    """A file whose calls are awaited ones."""

    def __init__(self, run: Callable[..., Any], file: AsyncFile[Any]) -> None:
        self._run, self._file = run, file
        self._lines: Any = None

    def read(self, size: int | None = -1) -> Any:
        return self._run(self._file.read, -1 if size is None else size)

    def readline(self) -> Any:
        return self._run(self._file.readline)

    def write(self, data: Any) -> int:
        return self._run(self._file.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._run(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._run(self._file.close)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._file.__aexit__, *error)

    def __iter__(self) -> Iterator[Any]:
        return draw(self._run, aiter(self._file))

    def __next__(self) -> Any:
        return next(self._file._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file._file, name)


class HeldLock:
    """A lock whose calls are awaited ones."""

    def __init__(self, run: Callable[..., Any], lock: AsyncLock) -> None:
        self._run, self._lock = run, lock

    def __enter__(self) -> HeldLock:
        self._run(self._lock.__aenter__)
        return self

    def __exit__(self, *error: Any) -> None:
        self._run(self._lock.__aexit__, *error)

    def check(self) -> None:
        self._run(self._lock.check)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


class Block:
    """A `with` block that is entered and left by awaiting."""

    def __init__(self, run: Callable[..., Any], block: Any) -> None:
        self._run, self._block = run, block

    def __enter__(self) -> Any:
        return self._run(self._block.__aenter__)

    def __exit__(self, *error: Any) -> Any:
        return self._run(self._block.__aexit__, *error)


class Number:
    """A counter whose calls are awaited ones."""

    def __init__(self, run: Callable[..., Any], counter: AsyncCounter) -> None:
        self._run, self._counter = run, counter

    def increment(self, by: int = 1) -> int:
        return self._run(self._counter.increment, by)

    def reset(self, to: int = 0) -> int:
        return self._run(self._counter.reset, to)

    @property
    def value(self) -> int:
        return self._run(lambda: self._counter.value)


def draw(run: Callable[..., Any], listing: Any) -> Iterator[Any]:
    while True:
        try:
            entry = run(listing.__anext__)
        except StopAsyncIteration:
            return
        yield entry
        # What was drawn together comes without the way through the loop.
        yield from listing._drawn


class Through(Transparent):
    """A store each of whose public calls is an awaited one of the store below."""

    def __init__(self, store: Store, backend: str) -> None:
        super().__init__(store)
        self._own(store)
        self.can = store.can
        self._backend = backend

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "backend": self._backend}

    @property
    def aio(self) -> AsyncStore:
        return self._store.aio

    def _run(self, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        return loop_of(self._backend, os.getpid()).run(function, *args, **options)

    def open(self, key: str, mode: str = "rb", **options: Any) -> Any:
        async def opened() -> AsyncFile[Any]:
            return await self.aio.open(key, mode, **options)

        return File(self._run, self._run(opened))

    def lock(self, key: str, **options: Any) -> Any:
        return HeldLock(self._run, self.aio.lock(key, **options))

    def counter(self, key: str) -> Any:
        return Number(self._run, self.aio.counter(key))

    def local(self, key: str, **options: Any) -> Any:
        self._store.local(key, **options)  # a wrong argument is refused at the call
        return Block(self._run, self.aio.local(key, **options))

    def close(self) -> None:
        self._run(self.aio.close)
        super().close()

    def __len__(self) -> int:
        return self._run(self.aio.len)


def awaited(name: str) -> Callable[..., Any]:
    def call(self: Through, *args: Any, **options: Any) -> Any:
        return self._run(getattr(self.aio, name), *args, **options)

    return call


def iterated(name: str) -> Callable[..., Any]:
    def call(self: Through, *args: Any, **options: Any) -> Iterator[Any]:
        getattr(self._store, name)(*args, **options)  # a wrong argument is refused at the call
        return draw(self._run, getattr(self.aio, name)(*args, **options))

    return call


VIEWS = {"keys", "values", "items"}

for _name, _call in inspect.getmembers(Store, inspect.isfunction):
    if not _name.startswith("_") and _name not in VIEWS and _name not in vars(Through):
        _returns = str(inspect.signature(_call).return_annotation)
        setattr(Through, _name, (iterated if _returns.startswith("Iterator") else awaited)(_name))


class AsyncSuite(Again):
    backend = "asyncio"

    def below(self, place: Path) -> Store:
        raise NotImplementedError

    def make(self, place: Path) -> Store:
        return Through(self.below(place), self.backend)


class TestFilesystemOnAsyncio(AsyncSuite):
    def below(self, place: Path) -> Store:
        return FilesystemStore(place / "store")


class TestMemoryOnTrio(AsyncSuite):
    backend = "trio"
    persistent = False

    def below(self, place: Path) -> Store:
        return MemoryStore(name=place.as_posix())


class TestStackOnTrio(AsyncSuite):
    backend = "trio"

    def below(self, place: Path) -> Store:
        return CompressedStore(ChecksumStore(FilesystemStore(place / "store")))
