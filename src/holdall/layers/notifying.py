"""A store that reports each change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Literal, NamedTuple, TypeAlias

from holdall.arguments import check_type
from holdall.layers.layer import Transparent, pass_on, reopen
from holdall.store import Attributes, Body, Can, Expect, Info, Put, Store

__all__ = ["Change", "NotifyingStore"]


class Change(NamedTuple):
    """A change of one blob. A `Change` can't be changed.

    >>> Change("delete", "a")
    Change(kind='delete', key='a', info=None)
    """

    kind: Literal["put", "delete"]
    """`put` where the blob is new or has new bytes, `delete` where it has gone."""
    key: str
    """Which blob."""
    info: Info | None = None
    """The blob that was written; None for a delete."""


Callback: TypeAlias = Callable[[Change], object]

_log = logging.getLogger("holdall.notify")


class NotifyingStore(Transparent):
    """Another store, which calls back after each change that is made through this one.

    Each callback is called with a `Change`, once for each key that really changed, in the thread that made
    the change, after it was acknowledged and before the call returns; what it returns is ignored. A callback
    that raises is logged with its traceback (logger `holdall.notify`), and neither hides what the call
    returns nor keeps the others from being called. A move is a put of the target and a delete of the source.
    Changes that others or a signed URL make to the store below aren't reported, nor are blobs that expire.

    Since no bulk delete says which of its keys were there, `delete_many` and `clear` delete one by one.

    Args:
        store: The store below.
        callbacks: The callbacks. A pickle includes them, but not those added by `subscribe`.

    Raises:
        InvalidArgumentError: A callback isn't callable.

    >>> from holdall import MemoryStore
    >>> store = NotifyingStore(MemoryStore(), lambda change: print(change.kind, change.key))
    >>> store["a"] = b"1"
    put a
    >>> store.delete("a"), store.delete("a")
    delete a
    (True, False)
    """

    def __init__(self, store: Store, *callbacks: Callback) -> None:
        super().__init__(store)
        self._given = callbacks
        # In order; a callback may subscribe twice. Each change of it, and a copy of it, is one step for all
        # threads.
        self._subscriptions = {object(): callback for callback in map(_check_callback, callbacks)}

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "callbacks": self._given}

    def __reduce__(self) -> tuple[object, ...]:
        # The callbacks are positional arguments of the constructor, so they have no name.
        return reopen, (partial(type(self), self._store, *self._given), dict[str, object]())

    @cached_property
    def can(self) -> Can:
        return self._store.can

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Add a callback; return a function that removes it.

        Args:
            callback: Called with each `Change`.

        >>> from holdall import MemoryStore
        >>> store = NotifyingStore(MemoryStore())
        >>> seen = []
        >>> unsubscribe = store.subscribe(lambda change: seen.append(change.key))
        >>> store["a"] = b"1"
        >>> unsubscribe()
        >>> store["b"] = b"2"
        >>> seen
        ['a']
        """
        subscription = object()
        self._subscriptions[subscription] = _check_callback(callback)

        def unsubscribe() -> None:
            self._subscriptions.pop(subscription, None)

        return unsubscribe

    def _report(self, kind: Literal["put", "delete"], key: str, info: Info | None = None) -> None:
        change = Change(kind, key, info)
        for callback in tuple(self._subscriptions.values()):
            try:
                callback(change)
            except Exception:  # noqa: BLE001 - the change is made, whatever a callback does
                name = getattr(callback, "__qualname__", type(callback).__name__)
                _log.exception("the callback %s failed after the %s of %r, which is done", name, kind, key)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        info = self._store._write(key, body, expect, attributes)
        self._report("put", key, info)
        return info

    def _put(self, key: str, data: bytes) -> Info:
        info = self._store._put(key, data)
        self._report("put", key, info)
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        deleted = self._store._delete(key, expect)
        if deleted:
            self._report("delete", key)
        return deleted

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        infos: list[Info] = []
        try:
            # Reported once the store below is done: a callback may use it, and locks may be held till then.
            for info in self._store._put_many(items):
                infos.append(info)  # noqa: PERF402 - those before an error are kept
        finally:
            for info in {info.key: info for info in infos}.values():
                self._report("put", info.key, info)
        yield from infos

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        info = self._store._copy(source, target, expect)
        self._report("put", target, info)
        return info

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        if Can.COPY not in self.can:
            return super()._move(source, target, expect)
        info = self._store._move(source, target, expect)
        self._report("put", target, info)
        self._report("delete", source)
        return info

    _sign = pass_on("_sign")


def _check_callback(callback: Callback) -> Callback:
    check_type(callback, Callable, "a callback must be a function of a Change")
    return callback
