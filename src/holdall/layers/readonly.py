"""A store that is only read."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import cached_property

from holdall.errors import ReadOnlyError
from holdall.layers.layer import Layer, Transparent
from holdall.store import Attributes, Body, Can, Expect, Info, Store

__all__ = ["ReadOnlyStore"]

_CHANGING = (
    Can.WRITE
    | Can.DELETE
    | Can.CREATE
    | Can.SWAP
    | Can.CONDITIONAL_DELETE
    | Can.EXPIRE
    | Can.COPY
    | Can.ATTRIBUTES
    | Can.METADATA
)
_READING = Can.LIST | Can.RANGE | Can.BULK | Can.SIGN


class ReadOnlyStore(Transparent):
    """A read-only view of a store: calls that change it raise `ReadOnlyError` before anything happens.

    Args:
        store: The store below. Its owner may go on writing to it.

    Where the store below signs URLs, this one signs those that read.

    >>> from holdall import MemoryStore
    >>> store = ReadOnlyStore(MemoryStore({"a": b"1"}))
    >>> store["a"]
    b'1'
    >>> store["a"] = b"2"
    Traceback (most recent call last):
    holdall.errors.ReadOnlyError: 'a': this ReadOnlyStore is read-only, and can't put
    """

    _passes = True

    def _own(self, *stores: Store) -> None:
        super()._own(*stores)
        below = list(stores)
        while below:
            store = below.pop()
            store._tidies = False
            below += store._owned if isinstance(store, Layer) else ()

    @cached_property
    def can(self) -> Can:
        return self._store.can & _READING

    def _need(self, flag: Can, call: str) -> None:
        if flag in _CHANGING and not self._closed:
            raise self._refusal(call)
        super()._need(flag, call)

    def _refusal(self, call: str) -> ReadOnlyError:
        return ReadOnlyError(f"this {type(self).__name__} is read-only, and can't {call}")

    def _begin_get(self, key: str) -> Awaitable[bytes | None] | None:
        return self._store._begin_get(key)

    # Public calls never reach these two. A layer above that doesn't check `can` does.

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        raise self._refusal("put")

    def _delete(self, key: str, expect: Expect) -> bool:
        raise self._refusal("delete")

    def _sign(self, key: str, method: str, seconds: float) -> str:
        if method.upper() not in ("GET", "HEAD"):
            raise self._refusal(f"sign URLs that {method}")
        return self._store._sign(key, method, seconds)
