"""Several stores as one: each key goes to the store of the first route that it matches."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from holdall.arguments import check_type
from holdall.blob import Put, place_of
from holdall.errors import ConcurrencyError, InvalidArgumentError, InvalidKeyError, UnsupportedOperation
from holdall.keys import check_key, glob_prefix, matcher, past
from holdall.layers.layer import Layer
from holdall.store import (
    ANY,
    PLAIN,
    Attributes,
    Body,
    Can,
    Expect,
    Info,
    LeftOut,
    Piece,
    Store,
    kind_name,
    mode_of,
)

__all__ = ["RoutedStore"]

T = TypeVar("T")


class _Route(NamedTuple):
    text: str
    literal: str
    """What every key that takes this route starts with."""
    matches: Callable[[str], object] | None
    """Whether a key matches the glob; None for a plain prefix."""
    store: Store


class RoutedStore(Layer):
    """Several stores as one, each holding the keys that are routed to it.

    A route is a string prefix, such as `logs/`, or a glob where it has one of `*?[`, such as `**/*.csv`; the
    empty one takes every key. The first route that matches a key counts. Keys aren't rewritten:
    the store of `logs/` holds `logs/a` as `logs/a`. A key without a route is refused with `InvalidKeyError`.

    Listings merge those of the stores in order, and ask only stores that can hold matching keys. Keys in a
    store that aren't routed to it are neither shown nor touched.

    It can do what all of the stores can. A copy from one store to another is streamed, so it can COPY only
    if all routes lead to one store. A move from one store to another is a copy and then a delete: killed in
    between, it leaves both blobs. A blob keeps its time to live if both stores keep one with each blob; if
    only the target can't, the move or copy is refused. Where a layer (`ExpiringStore`) counts the age, the
    rule of the target applies. Bulk calls go to one store after the other: each store's part is as atomic
    as the store makes it, but the whole isn't.

    Args:
        routes: Routes with their stores, in order. One store may have several routes.

    Raises:
        InvalidArgumentError: No routes are given, a route can't match any key, or it comes after a prefix
            that takes all of its keys.

    >>> from holdall import MemoryStore
    >>> logs, rest = MemoryStore(), MemoryStore()
    >>> store = RoutedStore({"logs/": logs, "": rest})
    >>> store["logs/a"] = store["b"] = b"1"
    >>> list(logs), list(rest), list(store)
    (['logs/a'], ['b'], ['b', 'logs/a'])
    """

    def __init__(self, routes: Mapping[str, Store]) -> None:
        self._routes = _check_routes(routes)
        stores = {id(route.store): route.store for route in self._routes}
        super().__init__(*stores.values())
        # A table for each length of prefix finds the first of any number of them in a few look-ups.
        tables: dict[int, dict[str, int]] = {}
        self._globs: list[tuple[int, Callable[[str], object]]] = []
        for index, route in enumerate(self._routes):
            if route.matches is None:
                tables.setdefault(len(route.text), {})[route.text] = index
            else:
                self._globs.append((index, route.matches))
        self._tables = list(tables.items())
        self._total = any(route.text == "" for route in self._routes)
        self._narrow = any(type(store)._checked is not Store._checked for store in stores.values())

    def _settings(self) -> dict[str, object]:
        return {"routes": {route.text: route.store for route in self._routes}}

    @cached_property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        can = ~Can(0) if len(self._below) == 1 else ~Can.COPY
        for store in self._below:
            can &= store.can
        return can

    @cached_property
    def _writes(self) -> bool:
        return Can.WRITE in self.can

    def _route(self, key: str) -> int:
        """Return the number of the key's route, or the number of routes if there is none."""
        first = len(self._routes)
        for length, table in self._tables:
            index = table.get(key[:length], first)
            if index < first:
                first = index
        for index, matches in self._globs:
            if index > first:
                break
            if matches(key):
                return index
        return first

    def _of(self, key: str) -> Store:
        """Return the store that a key is routed to."""
        index = self._route(key)
        if index == len(self._routes):
            raise self._unrouted_error(key)
        return self._routes[index].store

    def _unrouted_error(self, key: str) -> InvalidKeyError:
        routes = ", ".join([repr(route.text) for route in self._routes])
        return InvalidKeyError(
            f"no route takes this key; the routes are {routes}, and '' would take the rest", key=key
        )

    def _checked(self, key: object) -> str:
        key = super()._checked(key)
        if self._narrow or not self._total:
            # The store that takes it may have room for shorter keys only.
            self._of(key)._checked(key)
        return key

    def _group_by_store(self, items: Iterable[T], key_of: Callable[[T], str]) -> list[tuple[Store, list[T]]]:
        """Return what goes to each store, once every key is known to have a route."""
        groups: dict[int, tuple[Store, list[T]]] = {}
        for item in items:
            store = self._of(key_of(item))
            groups.setdefault(id(store), (store, []))[1].append(item)
        return list(groups.values())

    # The next ones don't check the key.

    def _get(self, key: str) -> bytes | None:
        index = self._route(key)
        return None if index == len(self._routes) else self._routes[index].store._get(key)

    def _has(self, key: str) -> bool:
        index = self._route(key)
        return index < len(self._routes) and self._routes[index].store._has(key)

    def _put(self, key: str, data: bytes) -> Info:
        index = self._route(key)
        if index == len(self._routes) or not self._writes:
            return super()._put(key, data)
        return self._routes[index].store._put(key, data)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        return self._of(key)._read(key, start, stop)

    def _read_spans(self, key: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Info, bytes]]:
        return self._of(key)._read_spans(key, spans)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        store = self._of(key)
        if attributes is not PLAIN:
            _check_kept(store, attributes)
        return store._write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        return self._of(key)._delete(key, expect)

    def _info(self, key: str) -> Info:
        return self._of(key)._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        store = self._only(prefix)
        if store is not None:
            return store._scan(prefix, after)
        return self._merge_parts(
            prefix, lambda store, part: store._scan(part, after), after, attrgetter("key")
        )

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        store = self._only(prefix)
        if store is not None:
            return store._survey(prefix, after)
        return self._merge_parts(prefix, lambda store, part: store._survey(part, after), after, place_of)

    def _candidates(self, prefix: str) -> tuple[list[_Route], bool]:
        """Return the routes that keys of this prefix may take, and whether each of these keys has one."""
        candidates: list[_Route] = []
        for route in self._routes:
            covers = prefix.startswith(route.literal)
            if covers or route.literal.startswith(prefix):
                candidates.append(route)
                if covers and route.matches is None:
                    return candidates, True
        return candidates, False

    def _only(self, prefix: str) -> Store | None:
        """Return the store that all keys of this prefix are routed to, if there is one."""
        candidates, total = self._candidates(prefix)
        if total and all(route.store is candidates[0].store for route in candidates):
            return candidates[0].store
        return None

    def _parts(self, prefix: str) -> Iterator[list[tuple[str, Store]]]:
        """Return the stores to list, and which part of each. Keys of one group all come before those of the
        next; in a group the first prefix is one that the others start with."""
        candidates = self._candidates(prefix)[0]
        wanted = [(max(prefix, route.literal, key=len), route.store) for route in candidates]
        wanted.sort(key=itemgetter(0))
        group: list[tuple[str, Store]] = []
        for part, store in wanted:
            if group and not part.startswith(group[0][0]):
                yield group
                group = []
            if not any(store is other and part.startswith(wider) for wider, other in group):
                group.append((part, store))
        if group:
            yield group

    def _merge_parts(
        self,
        prefix: str,
        scan: Callable[[Store, str], Iterator[T]],
        after: str,
        key_of: Callable[[T], str],
    ) -> Iterator[T]:
        for group in self._parts(prefix):
            # A store is asked once those before it have no more.
            if after and past(group[0][0]) <= after:
                continue
            listings = [self._select_routed(scan(store, part), store, key_of) for part, store in group]
            yield from listings[0] if len(listings) == 1 else heapq.merge(*listings, key=cast(Any, key_of))

    def _select_routed(self, listing: Iterator[T], store: Store, key_of: Callable[[T], str]) -> Iterator[T]:
        """Return the part of a store's listing that is routed to the store."""
        owners = [route.store for route in self._routes]
        owners.append(self)
        return (entry for entry in listing if owners[self._route(key_of(entry))] is store)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        store = self._only(prefix)
        if store is not None:
            return store._keys(prefix, after)
        return self._merge_parts(prefix, lambda store, part: store._keys(part, after), after, str)

    def _children(self, prefix: str) -> Iterator[str | Info]:
        store = self._only(prefix)
        return super()._children(prefix) if store is None else store._children(prefix)

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        keys = list(keys)
        groups = self._group_by_store(keys, str)
        if len(groups) == 1:
            ((store, _),) = groups
            yield from store._get_many(keys)
            return
        readings: dict[str, Iterator[tuple[str, bytes]]] = {}
        for store, part in groups:
            readings |= dict.fromkeys(part, store._get_many(part))
        # In the order asked for; few are held, unless one that comes early isn't there.
        held: dict[str, bytes] = {}
        for key in dict.fromkeys(keys):
            for found, data in readings[key] if key not in held else ():
                held[found] = data
                if found == key:
                    break
            if key in held:
                yield key, held.pop(key)

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        items = list(items)
        groups = self._group_by_store(items, itemgetter(0))
        if len(groups) == 1:
            ((store, _),) = groups
            yield from store._put_many(items)
            return
        written: dict[str, Info] = {}
        for store, part in groups:
            written.update((info.key, info) for info in store._put_many(part))
        for key in dict.fromkeys(key for key, _, _ in items):
            yield written[key]

    def _delete_many(self, keys: Iterable[str]) -> int:
        return sum(store._delete_many(part) for store, part in self._group_by_store(keys, str))

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        store, other = self._of(source), self._of(target)
        if other is store:
            return store._copy(source, target, expect)
        return self._copy_across(store, other, source, target, expect)[1]

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        store, other = self._of(source), self._of(target)
        if other is store:
            return store._move(source, target, expect)
        # The other stores may be unable to compare; this one is asked by what it can itself.
        exact = store._takes_exactly("move")
        while True:
            etag, moved = self._copy_across(store, other, source, target, expect)
            try:
                store._delete(source, etag if exact else ANY)
                return moved
            except ConcurrencyError as error:
                # It changed since it was read: move the newer bytes, over those just written.
                if error.actual is None and not store.exists(source):
                    return moved
                expect = moved.etag if Can.SWAP in other.can else ANY

    def _copy_across(
        self, store: Store, other: Store, source: str, target: str, expect: Expect
    ) -> tuple[str, Info]:
        """Copy a blob from one store to another; return its ETag and the `Info` of the copy."""
        info, pieces = store._read(source, 0, None)
        # Where a layer expires blobs by their age, the expiry isn't kept with the blob: in the other
        # store it lives by the rule of that one. The same holds for a content type that a store only guesses.
        expires = info.expires if Can.EXPIRE in store.can else None
        kind = info.content_type
        if Can.ATTRIBUTES not in store.can and Can.ATTRIBUTES not in other.can:
            kind = None
        attributes = Attributes(kind, expires, mode_of(info), info.metadata or None)
        _check_kept(other, attributes)
        return info.etag, other._write(target, pieces, expect, attributes)

    def _open_read(self, key: str) -> BinaryIO:
        return self._of(key)._open_read(key)

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        return self._of(key)._open_write(key, expect, attributes)

    def _open_append(self, key: str) -> BinaryIO:
        return self._of(key)._open_append(key)

    def _clear(self) -> None:
        store = self._only("")
        if store is None:
            super()._clear()
        else:
            store._clear()

    def _sign(self, key: str, method: str, seconds: float) -> str:
        return self._of(key)._sign(key, method, seconds)

    def _digest(self, key: str, algorithm: str) -> str | None:
        return self._of(key)._digest(key, algorithm)

    def _touch(self, key: str, expires: datetime | None) -> Info:
        return self._of(key)._touch(key, expires)

    def _local_path(self, key: str) -> str | None:
        return self._of(key)._local_path(key)


def _check_kept(store: Store, attributes: Attributes) -> None:
    """Refuse to copy a blob from another store to one that can't keep what is kept with it."""
    for name, value, flag in (
        ("ttl", attributes.expires, Can.EXPIRE),
        ("content_type", attributes.content_type, Can.ATTRIBUTES),
        ("metadata", attributes.metadata, Can.METADATA),
    ):
        if value is not None and flag not in store.can:
            raise UnsupportedOperation(
                f"{kind_name(store)}, to which this key is routed, can't keep the {name} of the blob; put "
                "the blob's bytes without one"
            )


def _check_routes(routes: object) -> list[_Route]:
    check_type(routes, Mapping, "routes must be a mapping from prefixes or globs to stores")
    if not routes:
        raise InvalidArgumentError("routes must not be empty; the route '' takes every key")
    checked: list[_Route] = []
    for text, store in cast("Mapping[str, Store]", routes).items():
        check_type(text, str, "a route must be a str")
        check_type(store, Store, f"the route {text!r} must lead to a store")
        route = _Route(text, *_pattern(text), store)
        for earlier in checked:
            if earlier.matches is None and route.literal.startswith(earlier.text):
                raise InvalidArgumentError(
                    f"the route {text!r} takes no key, since {earlier.text!r} comes before it; put it first"
                )
        checked.append(route)
    return checked


def _pattern(text: str) -> tuple[str, Callable[[str], object] | None]:
    literal = glob_prefix(text)
    for key in (f"{literal}x", literal):
        try:
            check_key(key)
            break
        except InvalidKeyError as error:
            fault = error.message
    else:
        raise InvalidArgumentError(f"the route {text!r} takes no key: {fault}")
    return literal, None if literal == text else matcher(text)
