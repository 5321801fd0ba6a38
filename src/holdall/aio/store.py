"""The calls of a store as coroutines, each run whole on a worker thread."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    AnyStr,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Self,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from holdall.aio import native
from holdall.aio.listing import Listing
from holdall.aio.locks import AsyncCounter, AsyncLock
from holdall.aio.streaming import put_stream
from holdall.aio.waiting import on_thread
from holdall.aio.workers import Cancel
from holdall.blob import TextOptions, WriteOptions
from holdall.errors import BlobNotFoundError, StoreError
from holdall.ranges import CHUNK
from holdall.store import _MISSING, ANY, Can, Data, Expect, Info, LeftOut, Span, Store, _Missing

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["AsyncFile", "AsyncStore"]

T = TypeVar("T")
C = TypeVar("C", bound=AbstractAsyncContextManager[Any])
P = ParamSpec("P")

AsyncData: TypeAlias = "Data | AsyncIterable[Buffer]"
"""What may be put: all that a store takes, and an async iterable of buffers."""

_BATCH = 256
_LITTLE = CHUNK
"""What is put without a thread, if the store needs none."""


class _Short(enum.Enum):
    """A call that makes a request or two, of a small body or none."""

    PLAIN = "plain"
    ASKING = "asking"
    """It asks for `can`, which the store may have to find out first."""


def _awaited(
    call: Callable[Concatenate[Store, P], T], cancel: Cancel = Cancel.STOP, short: _Short | None = None
) -> Callable[Concatenate[AsyncStore, P], Coroutine[Any, Any, T]]:
    """Return a call of a store as a coroutine, with the same arguments."""
    name = call.__name__

    @wraps(call)
    async def run(self: AsyncStore, /, *args: P.args, **options: P.kwargs) -> T:
        # By its name, since the class of the store may override it.
        return await self._run(lambda: getattr(self._store, name)(*args, **options), cancel, short=short)

    run.__qualname__, run.__doc__ = f"AsyncStore.{name}", f"As `Store.{name}`."
    return run


class NoOperators:
    """The operators that Python can't await raise an error that says what to write."""

    if not TYPE_CHECKING:
        # Hidden from type checkers, which then report each use. Without __contains__ and __iter__ Python
        # would ask __getitem__ for 0, 1, 2, ..., and never end.

        def __contains__(self, key: object) -> NoReturn:
            raise TypeError("`in` can't be awaited; write: await store.exists(key)")

        def __iter__(self) -> NoReturn:
            raise TypeError("an async store is iterated by: async for key in store")

        def __len__(self) -> NoReturn:
            raise TypeError("len() can't be awaited; write: await store.len()")

        def __bool__(self) -> NoReturn:
            raise TypeError(
                "an async store can't be tested by `if`; write: await store.len() > 0, or `store is not None`"
            )

        def __setitem__(self, key: object, value: object) -> NoReturn:
            raise TypeError("an assignment can't be awaited; write: await store.put(key, data)")

        def __delitem__(self, key: object) -> NoReturn:
            raise TypeError("`del` can't be awaited; write: await store.delete(key)")

        def __enter__(self) -> NoReturn:
            raise TypeError("an async store is closed by: async with store")

        def __exit__(self, *_: object) -> None:
            """Never called: `with` fails at its begin."""


class AsyncStore(NoOperators):
    """A store whose calls are coroutines and async iterators, with the same names, arguments and errors.

    Operators that Python can't await are calls by name: `await store.exists(key)` in place of `key in store`,
    `await store.len()` in place of `len(store)`, `await store.put(key, data)` in place of `store[key] =
    data`. These operators raise a `TypeError` that says so.

    Each call runs the whole stack on one of 64 shared worker threads; a store that touches neither disk nor
    network runs inline, and short calls of a bucket run in the event loop, if that is asyncio's. They run
    under asyncio and under trio.

    A cancelled `await` leaves the blob as it was or as it should become, never torn. A call that waits for a
    thread is dropped. One that runs is stopped before its next chunk: the `await` of one that only reads ends
    at once, that of another once it has stopped, so that nothing is written later. `close` runs to its end.

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
    def token(self) -> str:
        """The token of the store, as `Store.token`."""
        return self._store.token

    def __dask_tokenize__(self) -> str:
        return f"async-{self.token}"

    def same_place(self, other: AsyncStore | Store) -> bool:
        """As `Store.same_place`; it looks at paths only, and waits for nothing."""
        return self._store.same_place(store_below(other))

    @property
    def can(self) -> Can:
        """The capabilities of the store, as in `Store.can`."""
        return self._store.can

    async def _run(
        self,
        function: Callable[[], T],
        cancel: Cancel = Cancel.STOP,
        undo: Callable[[T], object] | None = None,
        short: _Short | None = None,
    ) -> T:
        store = self._store
        if store.inline:
            return function()
        # While one thread asks the server what it can do, others wait for it.
        known = short is _Short.PLAIN or (short is _Short.ASKING and store._knows_can)
        if known and store._in_loop and native.can_run():
            return await native.run(function, cancel)
        return await on_thread(function, cancel, undo=undo)

    # The calls whose types a type checker can take over from `Store`; overloads it can't, in part.

    get_range = _awaited(Store.get_range, Cancel.LEAVE, _Short.ASKING)
    delete = _awaited(Store.delete, Cancel.STOP, _Short.ASKING)
    popitem = _awaited(Store.popitem)
    setdefault = _awaited(Store.setdefault)
    update = _awaited(Store.update)
    clear = _awaited(Store.clear)
    exists = _awaited(Store.exists, Cancel.LEAVE, _Short.PLAIN)
    info = _awaited(Store.info, Cancel.LEAVE, _Short.PLAIN)
    get_many = _awaited(Store.get_many, Cancel.LEAVE)
    read = _awaited(Store.read, Cancel.LEAVE)
    get_ranges = _awaited(Store.get_ranges, Cancel.LEAVE)
    delete_prefix = _awaited(Store.delete_prefix)
    put_many = _awaited(Store.put_many)
    delete_many = _awaited(Store.delete_many)
    move = _awaited(Store.move)
    checksum = _awaited(Store.checksum, Cancel.LEAVE)
    touch = _awaited(Store.touch)
    sign = _awaited(Store.sign, Cancel.LEAVE)
    close = _awaited(Store.close, Cancel.FINISH)

    async def run(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run a call that only this kind of store has, in the same way as the others.

        >>> import asyncio, holdall
        >>> cached = holdall.CachingStore(holdall.MemoryStore(), holdall.MemoryStore())
        >>> asyncio.run(cached.aio.run(cached.invalidate, prefix="logs/"))
        0
        """
        return await self._run(lambda: call(*args, **options))

    @overload
    async def get(self, key: str, default: None = None) -> bytes | None: ...
    @overload
    async def get(self, key: str, default: bytes) -> bytes: ...
    @overload
    async def get(self, key: str, default: T) -> bytes | T: ...
    async def get(self, key: str, default: Any = None) -> Any:
        """As `Store.get`."""
        store = self._store
        if store._in_loop and type(key) is str and native.can_run():
            turns = native.turns_of_loop()
            if not turns.take():
                await turns.acquire()
            try:
                begun = store._begin_get(key)
                found = None if begun is None else await begun
            except BlobNotFoundError:
                store._checked(key)
                return default
            except StoreError as error:
                store._name_key(error, key)
                raise
            finally:
                turns.release()
            if found is not None:
                return found
        return await self._run(lambda: self._store.get(key, default), Cancel.LEAVE, short=_Short.PLAIN)

    def __getitem__(self, key: str) -> Awaitable[bytes]:
        """`await store[key]`, as `Store.__getitem__`."""
        return Awaited(lambda: self._item(key))

    async def _item(self, key: str) -> bytes:
        if not self._store._in_loop:
            return await self._run(lambda: self._store[key], Cancel.LEAVE, short=_Short.PLAIN)
        found = await self.get(key, _MISSING)
        if found is _MISSING:
            raise BlobNotFoundError(key=key)
        return found

    async def put(
        self,
        key: str,
        data: AsyncData,
        *,
        expect: Expect = ANY,
        ttl: float | timedelta | None = None,
        expires: datetime | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Info:
        """As `Store.put`; takes an async iterable of buffers too, which is streamed."""
        plain = (
            expect is ANY and ttl is None and expires is None and content_type is None and metadata is None
        )
        short = None
        if type(data) is bytes and len(data) <= _LITTLE:
            store, short = self._store, _Short.PLAIN if plain else _Short.ASKING
            if plain and store._in_loop and type(key) is str and native.can_run():
                turns = native.turns_of_loop()
                if not turns.take():
                    await turns.acquire()
                try:
                    begun = store._begin_put(key, data, key)
                    info = None if begun is None else await begun
                except StoreError as error:
                    store._name_key(error, key)
                    raise
                finally:
                    turns.release()
                if info is not None:
                    return info

        def put(body: Data) -> Info:
            return self._store.put(
                key,
                body,
                expect=expect,
                ttl=ttl,
                expires=expires,
                content_type=content_type,
                metadata=metadata,
            )

        if isinstance(data, AsyncIterable):
            return await put_stream(data, put)
        return await self._run(lambda: put(data), short=short)

    @overload
    async def pop(self, key: str) -> bytes: ...
    @overload
    async def pop(self, key: str, default: bytes) -> bytes: ...
    @overload
    async def pop(self, key: str, default: T) -> bytes | T: ...
    async def pop(self, key: str, default: Any = _MISSING) -> Any:
        """As `Store.pop`."""
        return await self._run(lambda: self._store.pop(key, default))

    async def len(self) -> int:
        """Return the number of blobs, as `len(store)` does."""
        return await self._run(lambda: len(self._store), Cancel.LEAVE)

    split = _awaited(Store.split, Cancel.LEAVE)

    def list(self, prefix: str | Span = "", *, glob: str | None = None) -> AsyncIterator[Info]:
        """As `Store.list`."""
        return self._iterate(lambda: self._store.list(prefix, glob=glob))

    def iterate_keys(
        self, prefix: str | Span | None = None, exclude_prefix: str | None = None, glob: str | None = None
    ) -> AsyncIterator[str]:
        """As `Store.iterate_keys`."""
        return self._iterate(lambda: self._store.iterate_keys(prefix, exclude_prefix, glob))

    def left_out(self, prefix: str = "") -> AsyncIterator[LeftOut]:
        """As `Store.left_out`."""
        return self._iterate(lambda: self._store.left_out(prefix))

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

    def iterate_many(self, keys: Iterable[str]) -> AsyncIterator[tuple[str, bytes]]:
        """As `Store.iterate_many`."""
        return self._iterate(lambda: self._store.iterate_many(keys), 1)

    def children(self, prefix: str = "") -> AsyncIterator[str | Info]:
        """As `Store.children`."""
        return self._iterate(lambda: self._store.children(prefix))

    def chunks(self, key: str, size: int = CHUNK) -> AsyncIterator[bytes]:
        """As `Store.chunks`."""
        return self._iterate(lambda: self._store.chunks(key, size), 1)

    @overload
    def open(
        self,
        key: str,
        mode: Literal["rb", "wb", "xb", "ab", "br", "bw", "bx", "ba"] = "rb",
        **options: Unpack[WriteOptions],
    ) -> Opening[AsyncFile[bytes]]: ...
    @overload
    def open(
        self,
        key: str,
        mode: Literal["r", "w", "x", "a", "rt", "wt", "xt", "at"],
        **options: Unpack[TextOptions],
    ) -> Opening[AsyncFile[str]]: ...
    @overload
    def open(self, key: str, mode: str, **options: Unpack[TextOptions]) -> Opening[AsyncFile[Any]]: ...
    def open(
        self,
        key: str,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        expect: Expect = ANY,
        ttl: float | timedelta | None = None,
        expires: datetime | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[AsyncFile[Any]]:
        """As `Store.open`: `async with store.open(key) as file: await file.read()`."""
        # A copy: a debugger that looks at this frame puts its variables into what `locals` returned.
        given: dict[str, Any] = {**locals()}
        del given["self"]

        async def begin() -> AsyncFile[Any]:
            return AsyncFile(self, await self._run(partial(self._store.open, **given), undo=_discard))

        return Opening(begin)

    def local(self, key: str, *, write: bool = False, expect: Expect = ANY) -> _Local:
        """As `Store.local`: `async with store.local(key) as path: ...`."""
        return _Local(lambda: self._store.local(key, write=write, expect=expect))

    async def modify(
        self, key: str, function: Callable[[bytes], Data], default: bytes | _Missing = _MISSING
    ) -> Info:
        """As `Store.modify`; the function is a plain one and runs on the worker thread."""
        return await self._run(lambda: self._store.modify(key, function, default))

    @overload
    async def copy(self, source: str, target: str, *, expect: Expect = ANY) -> Info: ...
    @overload
    async def copy(self, source: str = "") -> NoReturn: ...
    async def copy(
        self, source: str = "", target: str | _Missing = _MISSING, *, expect: Expect = ANY
    ) -> Info:
        """As `Store.copy`."""
        return await self._run(lambda: self._store.copy(source, cast(str, target), expect=expect))

    def lock(
        self, key: str, *, ttl: float | timedelta = 30, wait: float | timedelta | None = None
    ) -> AsyncLock:
        """As `Store.lock`: `async with store.lock(key) as lock`. A coroutine that waits takes no thread."""
        return AsyncLock(self._run, self._store.lock(key, ttl=ttl, wait=wait))

    def counter(self, key: str) -> AsyncCounter:
        """As `Store.counter`: `await counter.increment()`, `await counter.value`."""
        return AsyncCounter(self._run, self._store.counter(key))

    async def __aenter__(self) -> Self:
        await self._run(self._store.__enter__)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncStore({repr(self._store) if hasattr(self, '_store') else '...'})"

    def _iterate(
        self, begin: Callable[[], Iterator[T]], batch: int = _BATCH, cancel: Cancel = Cancel.LEAVE
    ) -> AsyncIterator[T]:
        return Listing(self._run, begin, batch, cancel)


def store_below(store: Store | AsyncStore) -> Store:
    """Return a store itself, or the one under an async store."""
    return store.store if isinstance(store, AsyncStore) else store


class Awaited(Awaitable[T]):
    """Begins when it is awaited, so that one that is dropped has done nothing and warns of nothing."""

    def __init__(self, begin: Callable[[], Awaitable[T]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begin().__await__()


class Opening(Awaited[C]):
    """What opens something: to be awaited, or entered by `async with`, which closes it at its end."""

    _opened: C | None = None

    async def __aenter__(self) -> C:
        self._opened = await self
        return self._opened

    async def __aexit__(self, *error: Any) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(*error)


class AsyncFile(Generic[AnyStr]):
    """A file over a blob, whose calls are coroutines."""

    def __init__(self, owner: AsyncStore, file: IO[AnyStr]) -> None:
        self._owner = owner
        self._file = file

    async def read(self, size: int = -1) -> AnyStr:
        """Return up to `size` bytes or characters; all by default."""
        return await self._owner._run(lambda: self._file.read(size))

    async def readline(self) -> AnyStr:
        """Return one line, with its end."""
        return await self._owner._run(self._file.readline)

    async def write(self, data: AnyStr) -> int:
        """Write bytes or text, which become visible when the file is closed."""
        return await self._owner._run(lambda: self._file.write(data))

    async def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position, as `io.IOBase.seek`."""
        return await self._owner._run(lambda: self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def __aiter__(self) -> AsyncIterator[AnyStr]:
        return self._owner._iterate(lambda: iter(self._file), cancel=Cancel.STOP)

    async def close(self) -> None:
        """Close the file; what was written becomes visible, whole."""
        await self._owner._run(self._file.close, Cancel.FINISH)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._owner._run(lambda: self._file.__exit__(*error), Cancel.FINISH)


def _discard(file: IO[Any]) -> None:
    """Close a file that nobody took, without publishing it."""
    file.__exit__(asyncio.CancelledError, None, None)


class _Local:
    """What `local` returns, to be entered by `async with`."""

    def __init__(self, begin: Callable[[], AbstractContextManager[Path]]) -> None:
        self._begin = begin
        self._block: AbstractContextManager[Path] | None = None

    # On a thread even for a store in memory, since the file isn't.

    async def __aenter__(self) -> Path:
        block = self._block = self._begin()
        return await on_thread(block.__enter__, undo=lambda _: _leave(block))

    async def __aexit__(self, *error: Any) -> bool | None:
        block = cast("AbstractContextManager[Path]", self._block)
        return await on_thread(lambda: block.__exit__(*error), Cancel.FINISH)


def _leave(block: AbstractContextManager[Any]) -> None:
    """Leave a block that nobody entered, as if it had raised."""
    block.__exit__(asyncio.CancelledError, asyncio.CancelledError(), None)
