"""The calls of a value store as coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from holdall.aio.locks import AsyncCounter, AsyncLock
from holdall.aio.store import AsyncStore, Awaited, NoOperators
from holdall.aio.workers import Cancel
from holdall.arguments import check_type
from holdall.store import ANY, Expect
from holdall.values.store import ValueStore

T = TypeVar("T")
P = ParamSpec("P")


def _awaited(
    call: Callable[Concatenate[ValueStore, P], T], cancel: Cancel = Cancel.STOP
) -> Callable[Concatenate[AsyncValueStore, P], Coroutine[Any, Any, T]]:
    """Return a call of a value store as a coroutine, with the same arguments."""
    name = call.__name__

    @wraps(call)
    async def run(self: AsyncValueStore, /, *args: P.args, **options: P.kwargs) -> T:
        # By its name, since the class of the store may override it.
        return await self.store._run(lambda: getattr(self._values, name)(*args, **options), cancel)

    run.__qualname__, run.__doc__ = f"AsyncValueStore.{name}", f"As `ValueStore.{name}`."
    return run


class AsyncValueStore(NoOperators):
    """A `ValueStore` whose calls are coroutines and async iterators, with the same names, arguments and
    errors, as in `AsyncStore`.

    Args:
        values: The value store under it. `values.aio` makes the same.

    >>> import asyncio
    >>> from holdall import MemoryStore
    >>> async def main():
    ...     values = ValueStore(MemoryStore()).aio
    ...     await values.put("ada", {"born": 1815})
    ...     return await values.get("ada"), [key async for key in values]
    >>> asyncio.run(main())
    ({'born': 1815}, ['ada'])
    """

    def __init__(self, values: ValueStore) -> None:
        check_type(values, ValueStore, "expected a ValueStore", hint="a Store has store.aio")
        self._values = values
        self.store: AsyncStore = values.store.aio
        """The store of the values, whose values are bytes."""

    get = _awaited(ValueStore.get, Cancel.LEAVE)
    put = _awaited(ValueStore.put)
    pop = _awaited(ValueStore.pop)
    popitem = _awaited(ValueStore.popitem)
    setdefault = _awaited(ValueStore.setdefault)
    update = _awaited(ValueStore.update)
    delete = _awaited(ValueStore.delete)
    clear = _awaited(ValueStore.clear)
    exists = _awaited(ValueStore.exists, Cancel.LEAVE)
    info = _awaited(ValueStore.info, Cancel.LEAVE)
    checksum = _awaited(ValueStore.checksum, Cancel.LEAVE)
    touch = _awaited(ValueStore.touch)
    close = _awaited(ValueStore.close, Cancel.FINISH)

    def __getitem__(self, key: str) -> Awaitable[Any]:
        """`await values[key]`, as `ValueStore.__getitem__`."""
        return Awaited(lambda: self.store._run(lambda: self._values[key], Cancel.LEAVE))

    async def len(self) -> int:
        """Return the number of values, as `len(values)` does."""
        return await self.store.len()

    def iterate_keys(
        self, prefix: str | None = None, exclude_prefix: str | None = None, glob: str | None = None
    ) -> AsyncIterator[str]:
        """As `ValueStore.iterate_keys`."""
        return self.store.iterate_keys(prefix, exclude_prefix, glob)

    def __aiter__(self) -> AsyncIterator[str]:
        return self.iterate_keys()

    def keys(self) -> AsyncIterator[str]:
        """As iterating `ValueStore.keys`."""
        return self.iterate_keys()

    def values(self) -> AsyncIterator[Any]:
        """As iterating `ValueStore.values`."""
        return self.iterate_values()

    def items(self) -> AsyncIterator[tuple[str, Any]]:
        """As iterating `ValueStore.items`."""
        return self.store._iterate(lambda: iter(self._values.items()), 1)

    def iterate_values(
        self,
        prefix: str | None = None,
        exclude_prefix: str | None = None,
        glob: str | None = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """As `ValueStore.iterate_values`."""
        return self.store._iterate(
            lambda: self._values.iterate_values(prefix, exclude_prefix, glob, **options), 1
        )

    def stream(self, key: str, **options: Any) -> AsyncIterator[Any]:
        """As `ValueStore.stream`."""
        return self.store._iterate(lambda: self._values.stream(key, **options))

    def open(self, key: str, mode: str = "rb", **options: Any) -> Any:
        """As `AsyncStore.open`. No serialization mode is applied."""
        return self.store.open(key, mode, **options)

    def local(self, key: str, *, write: bool = False, expect: Expect = ANY) -> Any:
        """As `AsyncStore.local`."""
        return self.store.local(key, write=write, expect=expect)

    def lock(
        self, key: str, *, ttl: float | timedelta = 30, wait: float | timedelta | None = None
    ) -> AsyncLock:
        """As `AsyncStore.lock`."""
        return self.store.lock(key, ttl=ttl, wait=wait)

    def counter(self, key: str) -> AsyncCounter:
        """As `AsyncStore.counter`. No serialization mode is applied."""
        return self.store.counter(key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncValueStore({self._values!r})"
