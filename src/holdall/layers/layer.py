"""What all layers share: who closes what, and how a layer goes to another process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property, wraps
from heapq import merge
from operator import attrgetter
from typing import Any, ClassVar, Final

from holdall.arguments import check_type
from holdall.blob import place_of
from holdall.store import Attributes, Body, Can, Expect, Info, LeftOut, Piece, Store

__all__ = ["Layer", "Transparent", "place_of"]


_runs_in_loop = attrgetter("_in_loop")
_HINT = "Store.from_uri opens one, and a ValueStore has one as .store"


class Layer(Store):
    """A store made of stores.

    Its maker closes the stores that it was given. It closes those that only it holds, such as those that a
    URI or a pickle opened: they are passed to `_own`.

    Args:
        stores: The stores below.
    """

    _owned: tuple[Store, ...] = ()
    _compresses: ClassVar[bool] = False
    """Whether it makes bytes smaller."""
    _passes: ClassVar[bool] = False
    """Whether it does so little that an event loop may run its calls, if it may run those of the stores
    below. A subclass says it for itself."""

    def __init__(self, *stores: Store) -> None:
        for store in stores:
            check_type(store, Store, "a layer must be given a store", hint=_HINT)
        self._below = stores
        self.inline = all(store.inline for store in stores)
        self._near = all(store.inline or store._near for store in stores)
        self._together = max((store._together for store in stores), default=0)

    @property
    def _far(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        # A bucket finds it out when it is asked.
        return all(store._far for store in self._below)

    @property
    def _in_loop(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return vars(type(self)).get("_passes", False) and all(map(_runs_in_loop, self._below))

    @property
    def _knows_can(self) -> bool:
        return super()._knows_can and all(store._knows_can for store in self._below)

    def _own(self, *stores: Store) -> None:
        """Close these too when this layer is closed."""
        self._owned += stores

    def _place(self, tail: str) -> str:
        """Return what the keys in the stores below begin with, of those here that begin with `tail`."""
        return tail

    def close(self) -> None:
        """Free what this layer holds; the stores below stay open, unless they were opened for it."""
        # From the top down, all of them even where one fails; the error is raised at the end.
        with ExitStack() as stack:
            for store in reversed(self._owned):
                stack.callback(store.close)
            stack.callback(super().close)

    def __reduce__(self) -> tuple[object, ...]:
        return reopen, (type(self), self._settings())


def reopen(kind: Callable[..., Layer], settings: dict[str, Any]) -> Layer:
    """Make a layer of a pickle, which owns the stores below."""
    layer = kind(**settings)
    layer._own(*layer._below)
    return layer


def pass_on(hook: str, when: Callable[[Any], object] | None = None) -> Any:
    """Return a hook that calls that of the store below; for a layer where `when` is false, its fallback."""
    below, fallback = attrgetter(f"_store.{hook}"), getattr(Store, hook)

    @wraps(fallback)
    def call(self: Any, *arguments: Any) -> Any:
        if when is None or when(self):
            return below(self)(*arguments)
        return fallback(self, *arguments)

    return call


class _Passed(Layer):
    """The hooks of a layer that leaves alone what their fallbacks go through: the quickest ones are written
    out, the others are added below."""

    _store: Store

    def _get(self, key: str) -> bytes | None:
        return self._store._get(key)

    def _get_range(self, key: str, start: int, stop: int | None) -> bytes:
        return self._store._get_range(key, start, stop)

    def _has(self, key: str) -> bool:
        return self._store._has(key)

    def _put(self, key: str, data: bytes) -> Info:
        return self._store._put(key, data)


_LISTING = "_scan", "_adapt_listing"
_KEEPS: Final = {
    "_get": ("_read", "_checked"),
    "_get_range": ("_read",),
    "_read_spans": ("_read",),
    "_has": ("_info", "_checked"),
    "_put": ("_write", "_checked", "_need", "_conditions", "can"),
    "_keys": _LISTING,
    "_children": _LISTING,
    "_get_many": ("_read",),
    "_put_many": ("_write",),
    "_delete_many": ("_delete",),
    "_copy": ("_read", "_write"),
    "_move": ("_read", "_write", "_delete"),
    "_open_read": ("_read",),
    "_open_write": ("_write",),
    "_open_append": ("_read", "_write"),
    "_sign": ("_read", "_write"),
    "_digest": ("_read",),
    "_touch": ("_read", "_write"),
    "_local_path": ("_read",),
    "_clear": ("_delete", *_LISTING),
}
"""What a layer must leave alone so that a hook is passed on."""


def _has_flag(flag: Can) -> Callable[[Layer], bool]:
    return lambda layer: flag in layer.can


_CONDITIONS: Final = {
    **dict.fromkeys(("_get_many", "_put_many", "_delete_many"), _has_flag(Can.BULK)),
    **dict.fromkeys(("_copy", "_move"), _has_flag(Can.COPY)),
}
"""When a layer passes a hook on that goes with a flag."""

for _hook in _KEEPS.keys() - vars(_Passed).keys():
    setattr(_Passed, _hook, pass_on(_hook, _CONDITIONS.get(_hook)))


class Transparent(Layer):
    """A layer over one store, which passes on each primitive; a subclass changes those it is for.

    A hook is passed on too, unless the subclass overrides what its fallback goes through: a subclass that
    overrides `_read` has the fallbacks of `_get`, `_get_many`, `_open_read` and the like, so that one that
    changes a primitive has changed every call. It may then override the hook as well. Hooks that go with a
    flag, such as `_copy` with COPY, are passed on where the subclass adds the flag to `can`.

    Args:
        store: The store below.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store: Store = store

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Not as methods of this class, so that the super() of a subclass still finds the fallbacks.
        for hook, parts in _KEEPS.items():
            keeps = all(getattr(cls, part) is getattr(Transparent, part) for part in parts)
            fallback, passed = getattr(Store, hook), getattr(_Passed, hook)
            if hook not in vars(cls) and getattr(cls, hook) is (fallback if keeps else passed):
                setattr(cls, hook, passed if keeps else fallback)

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
        """Return what this layer makes of a listing of the store below."""
        return listing

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        if type(self)._scan is not Transparent._scan:
            # A layer that lists in its own way: what is left out below is merged in.
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
