"""The checks when a cache is opened: it must not be the same place as its source, and its contents must
fit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

from holdall.errors import InvalidArgumentError, StoreError, StoreUnavailableError
from holdall.layers.caching.entry import CLEAN, DIRTY, HOLD, SENT, digest_of, open_entry
from holdall.layers.layer import Layer
from holdall.store import Can, Store

_is_ours = re.compile(
    rf"({CLEAN}|{DIRTY}|{SENT})[0-9a-f]{{40}}|recency-[0-9a-f]{{16}}-[0-9a-f]{{8}}|holdall\.encryption.*"
).fullmatch
_LOOKED_AT = 100


def refuse_same_place(source: Store, cache: Store) -> None:
    """Refuse a cache that is the source, or lies among its blobs, where that can be seen.

    Raises:
        InvalidArgumentError: It does.
    """
    sources = list(_regions(source, ""))
    if any(_lies_in(inner, outer) for inner in _regions(cache, "") for outer in sources):
        raise InvalidArgumentError(
            "the cache is the same place as the source, or lies inside it, so that its entries would be "
            "listed as blobs of the source; give the cache a store, a file or a folder of its own"
        )


def refuse_shared_place(replicas: Mapping[str, Store]) -> None:
    """Refuse replicas of which two are one place, or one lies in another, where that can be seen: a blob
    would seem to be kept twice, and deleting or mending one copy would change the other.

    Raises:
        InvalidArgumentError: Two are.
    """
    seen: list[tuple[str, tuple[object, str]]] = []
    for name, store in replicas.items():
        found = list(_regions(store, ""))
        for other, region in seen:
            if any(_lies_in(region, each) or _lies_in(each, region) for each in found):
                raise InvalidArgumentError(
                    f"the replicas {other!r} and {name!r} are the same place, or one lies inside the other; "
                    "give each a store, a file or a folder of its own"
                )
        seen += [(name, each) for each in found]


def _lies_in(inner: tuple[object, str], outer: tuple[object, str]) -> bool:
    return inner[0] == outer[0] and inner[1].startswith(outer[1])


def _regions(store: Store, tail: str) -> Iterator[tuple[object, str]]:
    """Return the media below all layers, and the start of the names in each."""
    if isinstance(store, Layer):
        tail = store._place(tail)
        for below in store._below:
            yield from _regions(below, tail)
        return
    try:
        settings = store._settings()
    except StoreError:
        settings = {}
    path, server = settings.get("path"), settings.get("server")
    if isinstance(path, str):
        # A file may have many names, and lie in the folder of another store.
        real = os.path.realpath(path)
        # Also where nothing is yet, `data` isn't `data-cache`, nor `a.db` `a.db.cache`.
        yield "files", f"{real.rstrip('/')}/{tail}"
        if not os.path.isdir(real):
            with suppress(OSError):
                found = os.stat(real)
                yield (found.st_dev, found.st_ino), tail
    elif isinstance(server, str):
        yield ("server", server.rpartition("@")[2]), f"{settings.get('prefix', '')}{tail}"
    else:
        try:
            yield (type(store), repr(store.__reduce__()[1])), tail
        except StoreError:
            yield id(store), tail


def refuse_swapped(source: Store, cache: Store) -> None:
    """Refuse a source and a cache that were given in the wrong order, where that can be seen.

    Raises:
        InvalidArgumentError: The cache holds nothing but blobs that no cache wrote, and the source is empty,
            or holds what a cache wrote.
    """
    if Can.LIST not in cache.can & source.can:
        return
    try:
        keys = list(islice(cache._keys("", ""), 1))
        if not keys or _is_ours(keys[0]):
            return
        if any(map(_is_ours, islice(cache._keys("", ""), _LOOKED_AT))):
            return
        first = next(source._keys("", ""), None)
        # A write-back cache may hold records only.
        written = any(_is_ours(next(source._keys(kind, ""), "")) for kind in (CLEAN, DIRTY, SENT))
    except StoreError:
        # It is asked again, and raises, when it is needed.
        return
    if first is None or written:
        raise InvalidArgumentError(
            f"the second store is the cache, and holds blobs that no cache wrote, such as {keys[0]!r}; the "
            f"first one is the source, and {'is empty' if first is None else 'holds entries of a cache'}. If "
            "they aren't swapped, give the cache a folder of its own: cache / 'cache'"
        )


def refuse_records(cache: Store) -> None:
    """Refuse to open a cache without write-back that holds what isn't at the source yet.

    Raises:
        InvalidArgumentError: The cache holds such changes.
    """
    if Can.LIST not in cache.can:
        return
    try:
        waits = any(_waits(cache, name) for name in cache._keys(DIRTY, "") if _is_ours(name))
    except StoreError:
        return
    if waits:
        raise InvalidArgumentError(
            "this cache holds changes that a write-back handle recorded and that aren't at the source yet; "
            "open it with mode='write-back' and call sync() first"
        )


def refuse_pending(cache: Store, key: str) -> None:
    """Refuse to change a blob at the source while a recorded change of it isn't at the source yet.

    Raises:
        StoreUnavailableError: There is such a change.
    """
    name = DIRTY + digest_of(key)
    try:
        waits = cache.exists(name) and _waits(cache, name)
    except StoreError:
        # A cache that fails is done without.
        return
    if waits:
        raise StoreUnavailableError(
            "a write-back handle on this cache recorded a change of this blob that isn't at the source yet; "
            "call sync() on that handle first",
            key=key,
        )


def _waits(cache: Store, name: str) -> bool:
    opened = open_entry(cache, name, None, 0, 0, ranges=Can.RANGE in cache.can)
    return opened is not None and opened.head.kind != HOLD
