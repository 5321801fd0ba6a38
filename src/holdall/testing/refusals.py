"""Check that a store refuses each call that it can't do."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from holdall.errors import UnsupportedOperation
from holdall.store import ABSENT, Can, Store
from holdall.testing.helped import get_tested
from holdall.testing.samples import bind_calls

T = TypeVar("T")


async def _await(call: Awaitable[T]) -> T:
    return await call


_Calls = Mapping[Can, Sequence[Callable[[], object]]]


def needs(flags: Can) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a test of what only some stores can do; a store that lacks a flag must refuse its calls."""

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


def _list_calls(store: Store, key: str, new: str, etag: str) -> _Calls:
    bind = functools.partial(bind_calls, store)
    return {
        Can.WRITE: [
            *bind("put __setitem__", key, b"x"),
            *bind("put setdefault", new, b"x"),
            *bind("update put_many", {key: b"x", new: b"x"}),
            *bind("put", key, iter([b"x"])),
            *bind("open", key, "wb"),
            *bind("open", new, "w"),
            *bind("copy move", key, new),
            *bind("touch", key),
            *bind("local", key, write=True),
            lambda: asyncio.run(_await(store.aio.put(key, b"x"))),
        ],
        Can.DELETE: [
            *bind("delete __delitem__ pop", key),
            *bind("pop", key, b"default"),
            *bind("delete_many", [key]),
            *bind("clear popitem"),
            *bind("delete_prefix", f"{key}/"),
            *bind("move", key, new),
            lambda: asyncio.run(_await(store.aio.delete(key))),
        ],
        Can.LIST: [
            *bind("__len__ __bool__ keys values items list iterate_keys children popitem clear"),
            *bind("split", 2),
            *bind("delete_prefix", f"{key}/"),
            lambda: list(store),
        ],
        **_list_conditions(store, key, new, etag),
        Can.EXPIRE: [
            *(call for ttl in (60, timedelta(hours=1)) for call in bind("put", key, b"x", ttl=ttl)),
            *bind("put_many", {key: b"x"}, ttl=60),
            *bind("open", key, "wb", ttl=60),
            *bind("touch", key, ttl=60),
            *bind("put", key, b"x", expires=datetime(9000, 1, 1, tzinfo=UTC)),
        ],
        Can.ATTRIBUTES: [
            *bind("put", key, b"x", content_type="text/plain"),
            *bind("put_many", {key: b"x"}, content_type="text/plain"),
            *bind("open", key, "wb", content_type="text/plain"),
        ],
        Can.METADATA: [
            *bind("put", key, b"x", metadata={"owner": "ana"}),
            *bind("put_many", {key: b"x"}, metadata={"owner": "ana"}),
            *bind("open", key, "wb", metadata={"owner": "ana"}),
        ],
        Can.SIGN: [*bind("sign", key), *bind("sign", key, method="PUT", expires=60)],
        # These three have fallbacks, whose behaviour other tests see.
        **dict.fromkeys((Can.RANGE, Can.COPY, Can.BULK), ()),
    }


def _list_conditions(store: Store, key: str, new: str, etag: str) -> _Calls:
    """Return the calls that change a blob only as what it is expected to be."""
    bind = functools.partial(bind_calls, store)
    return {
        Can.CREATE: [
            *(call for each in (new, key) for call in bind("put", each, b"x", expect=ABSENT)),
            *bind("open", new, "xb"),
            *bind("open", new, "wb", expect=ABSENT),
            *bind("copy move", key, new, expect=ABSENT),
            *bind("modify", new, bytes, default=b""),
            *_share_calls(store, new),
        ],
        Can.SWAP: [
            *bind("put", key, b"x", expect=etag),
            *bind("modify", key, bytes),
            *_share_calls(store, key),
            *bind("local", key, write=True),
            *bind("open", key, "wb", expect=etag),
            *bind("copy", key, key, expect=etag),
            *bind("copy move", key, new, expect=etag),
        ],
        Can.CONDITIONAL_DELETE: [
            *bind("delete", key, expect=etag),
            *bind("delete", new, expect=etag),
            # A store whose puts keep conditions loses no write by a delete that can't.
            *(_take_calls(store, key, new) if Can.SWAP in store.can else ()),
        ],
    }


def _share_calls(store: Store, key: str) -> Sequence[Callable[[], object]]:
    return [lambda: store.lock(key).__enter__(), lambda: store.counter(key).increment()]


def _take_calls(store: Store, key: str, new: str) -> Sequence[Callable[[], object]]:
    bind = functools.partial(bind_calls, store)
    return [
        *bind("pop", key),
        *bind("pop", new, b"default"),
        *bind("popitem"),
        *bind("move", key, new),
        *bind("move", key, key),
        lambda: asyncio.run(_await(store.aio.pop(key))),
    ]


def check_refusals(store: Store, flag: Can, key: str) -> None:
    """Check that each call that needs a flag, which the store lacks, raises `UnsupportedOperation`.

    Args:
        store: The store.
        flag: One flag.
        key: The key of a blob that is there, which must stay as it is.

    >>> from holdall import Can, MemoryStore
    >>> from holdall.testing import Limited
    >>> check_refusals(Limited(MemoryStore({"a": b"1"}), Can.LIST), Can.WRITE, "a")
    """
    etag = store.info(key).etag
    before = store[key]
    new = f"{key}-new"
    for call in _list_calls(store, key, new, etag)[flag]:
        with pytest.raises(UnsupportedOperation):
            call()
    assert store[key] == before, f"a call that needs {flag} was refused, but changed the blob"
    assert store.info(key).etag == etag
    assert new not in store, f"a call that needs {flag} was refused, but wrote"
