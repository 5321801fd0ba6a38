"""What all layers share: who closes what, and how a layer goes to another process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from heapq import merge
from typing import Any, cast

from holdall.errors import InvalidArgumentError
from holdall.store import Attributes, Body, Can, Expect, Info, LeftOut, Piece, Store

__all__ = ["Layer", "Transparent", "place_of"]


class Layer(Store):
    """A store made of stores.

    What it was given stays its maker's to close. Stores that nobody else holds, such as those that a URI or
    a pickle opened, are its own: `_own` says so, and they are closed after it.

    Args:
        stores: The stores below.
    """

    _owned: tuple[Store, ...] = ()

    def __init__(self, *stores: Store) -> None:
        for store in stores:
            if not isinstance(store, Store):  # pyright: ignore[reportUnnecessaryIsInstance]
                kind = type(cast(object, store)).__name__
                raise InvalidArgumentError(
                    f"a layer goes over a store, not over a {kind}; Store.from_uri opens one"
                )
        self._below = stores
        self.inline = all(store.inline for store in stores)
        self._near = all(store.inline or store._near for store in stores)

    def _own(self, *stores: Store) -> None:
        """Close these too when this layer is closed."""
        self._owned += stores

    def _place(self, tail: str) -> str:
        """What the keys in the stores below begin with, of those here that begin with `tail`."""
        return tail

    def close(self) -> None:
        """Free what this layer holds; the stores below stay open, unless they were opened for it."""
        # From the top down, all of them even where one fails; the error is raised at the end.
        with ExitStack() as stack:
            for store in reversed(self._owned):
                stack.callback(store.close)
            stack.callback(super().close)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (type(self), self._settings())


def _reopen(kind: Callable[..., Layer], settings: dict[str, Any]) -> Layer:
    layer = kind(**settings)
    layer._own(*layer._below)  # pyright: ignore[reportPrivateUsage]
    return layer


def place_of(entry: Info | LeftOut) -> str:
    """Where an entry of a survey belongs in the order of keys."""
    return entry.path if isinstance(entry, LeftOut) else entry.key


class Transparent(Layer):
    """A layer over one store, which passes on each primitive; a subclass changes those it is for.

    The hooks are not passed on: their fallbacks go through the primitives, so that a subclass which changes
    a primitive has changed every call. One that leaves keys and bytes as they are may pass on a hook, and
    adds the flag that goes with it to `can`.

    Args:
        store: The store below.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store

    # Asked for when it is needed, since a store may have to ask its server first; then kept.
    @cached_property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._store.can & ~(Can.COPY | Can.BULK | Can.SIGN)

    def _settings(self) -> dict[str, object]:
        return {"store": self._store}

    # The store below knows whether it is closed, and what it has room for in a key.

    def _checked(self, key: object) -> str:
        if self._closed:
            raise self._closed_error()
        return self._store._checked(key)

    def _need(self, flag: Can, call: str) -> None:
        super()._need(flag, call)
        if flag in self._store.can:
            self._store._need(flag, call)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        return self._store._read(key, start, stop)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        return self._store._write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        return self._store._delete(key, expect)

    def _info(self, key: str) -> Info:
        return self._store._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._adapt_listing(self._store._scan(prefix, after))

    def _adapt_listing(self, listing: Iterator[Info]) -> Iterator[Info]:
        """What this layer makes of a listing of the store below: a subclass overrides it to change one."""
        return listing

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        if type(self)._scan is not Transparent._scan:
            # A layer that lists in a way of its own: what is left out below is listed beside it.
            below = self._store._survey(prefix, after)
            left_out = (entry for entry in below if isinstance(entry, LeftOut))
            yield from merge(self._scan(prefix, after), left_out, key=place_of)
            return
        waiting: list[LeftOut] = []

        def blobs() -> Iterator[Info]:
            for entry in self._store._survey(prefix, after):
                if isinstance(entry, LeftOut):
                    waiting.append(entry)
                else:
                    yield entry

        for info in self._adapt_listing(blobs()):
            yield from waiting
            waiting.clear()
            yield info
        yield from waiting

    def _digest(self, key: str, algorithm: str) -> str | None:
        return self._store._digest(key, algorithm)
