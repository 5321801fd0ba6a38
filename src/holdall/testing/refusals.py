"""Check that a store refuses the calls that it can't do."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from holdall.errors import UnsupportedOperation
from holdall.store import ABSENT, Can, Store
from holdall.testing.helped import get_tested

T = TypeVar("T")


async def _awaited(call: Awaitable[T]) -> T:
    return await call


_Calls = Mapping[Can, Sequence[Callable[[], object]]]


def needs(flags: Can) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a test of what only some stores can: one that lacks a flag is tested to refuse the calls."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def marked(self: object, store: Store, *rest: Any, **fixtures: Any) -> None:
            missing = flags & ~store.can
            if not missing:
                test(self, store, *rest, **fixtures)
                return
            store["there"] = b"before"
            for flag in missing:
                check_refusals(get_tested(store), flag, "there")

        return marked

    return mark


def _plain_calls(store: Store, key: str, new: str) -> _Calls:
    put = store.put
    return {
        Can.WRITE: [
            lambda: put(key, b"x"),
            lambda: put(new, b"x"),
            lambda: store.__setitem__(key, b"x"),
            lambda: store.setdefault(new, b"x"),
            lambda: store.update({key: b"x"}),
            lambda: store.put_many({new: b"x"}),
            lambda: store.put(key, iter([b"x"])),
            lambda: store.open(key, "wb"),
            lambda: store.open(new, "w"),
            lambda: asyncio.run(_awaited(store.aio.put(key, b"x"))),
            lambda: store.copy(key, new),
            lambda: store.move(key, new),
        ],
        Can.DELETE: [
            lambda: store.delete(key),
            lambda: store.__delitem__(key),
            lambda: store.pop(key),
            lambda: store.pop(key, b"default"),
            lambda: store.delete_many([key]),
            lambda: asyncio.run(_awaited(store.aio.delete(key))),
            lambda: store.clear(),
            lambda: store.popitem(),
            lambda: store.move(key, new),
        ],
        Can.LIST: [
            lambda: list(store),
            lambda: len(store),
            lambda: bool(store),
            lambda: list(store.keys()),
            lambda: list(store.values()),
            lambda: list(store.items()),
            lambda: list(store.list()),
            lambda: list(store.iterate_keys()),
            lambda: list(store.children()),
            lambda: store.popitem(),
            lambda: store.clear(),
        ],
    }


def _calls_with_options(store: Store, key: str, new: str, etag: str) -> _Calls:
    put = store.put
    return {
        Can.CREATE: [
            lambda: put(new, b"x", expect=ABSENT),
            lambda: put(key, b"x", expect=ABSENT),
            lambda: store.open(new, "xb"),
            lambda: store.open(new, "wb", expect=ABSENT),
            lambda: store.copy(key, new, expect=ABSENT),
            lambda: store.move(key, new, expect=ABSENT),
            lambda: store.modify(new, bytes, default=b""),
        ],
        Can.SWAP: [
            lambda: put(key, b"x", expect=etag),
            lambda: store.delete(key, expect=etag),
            lambda: store.modify(key, lambda _: b"x"),
            lambda: store.open(key, "wb", expect=etag),
            lambda: store.copy(key, key, expect=etag),
            lambda: store.copy(key, new, expect=etag),
            lambda: store.move(key, new, expect=etag),
        ],
        Can.EXPIRE: [
            lambda: put(key, b"x", ttl=60),
            lambda: put(key, b"x", ttl=timedelta(hours=1)),
            lambda: store.put_many({key: b"x"}, ttl=60),
            lambda: store.open(key, "wb", ttl=60),
        ],
        Can.ATTRIBUTES: [
            lambda: put(key, b"x", content_type="text/plain"),
            lambda: store.put_many({key: b"x"}, content_type="text/plain"),
            lambda: store.open(key, "wb", content_type="text/plain"),
        ],
        Can.SIGN: [lambda: store.sign(key), lambda: store.sign(key, method="PUT", expires=60)],
        # These three have fallbacks, whose behaviour other tests see.
        Can.RANGE: [],
        Can.COPY: [],
        Can.BULK: [],
    }


def check_refusals(store: Store, flag: Can, key: str) -> None:
    """Check that each call that needs a flag, which the store lacks, raises `UnsupportedOperation`.

    Args:
        store: The store.
        flag: One flag.
        key: The key of a blob that is there; it must come out untouched.

    >>> from holdall import Can, MemoryStore
    >>> from holdall.testing import Limited
    >>> check_refusals(Limited(MemoryStore({"a": b"1"}), Can.LIST), Can.WRITE, "a")
    """
    etag = store.info(key).etag
    before = store[key]
    new = f"{key}-new"
    calls = {**_plain_calls(store, key, new), **_calls_with_options(store, key, new, etag)}
    for call in calls[flag]:
        with pytest.raises(UnsupportedOperation):
            call()
    assert store[key] == before, f"a call that needs {flag} was refused, but changed the blob"
    assert store.info(key).etag == etag
    assert new not in store, f"a call that needs {flag} was refused, but wrote"
