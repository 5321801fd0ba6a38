"""Stores that fail under a cache, and what is in one."""

import threading
from collections.abc import Iterator
from typing import Any

from holdall import (
    Info,
    Store,
    StoreUnavailableError,
)
from holdall.layers.caching import CacheMode, CachingStore
from holdall.store import Piece
from holdall.testing import Counting

MIB = 1 << 20
FRESH: list[Any] = ["etag", 3600, "immutable"]


class Broken(Counting):
    """A store that fails while it is told to."""

    down = False

    def _count(self, call: str) -> None:
        if self.down:
            raise StoreUnavailableError("it is down")
        super()._count(call)


class Gate(Counting):
    """A source whose next read stops after the bytes were read, until it is let go."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.armed, self.reached, self.go = False, threading.Event(), threading.Event()

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, start, stop)
        data = b"".join(pieces)
        if self.armed:
            self.armed = False
            self.reached.set()
            assert self.go.wait(60)
        return info, iter((data,))


def entries(cache: Store) -> list[str]:
    return [key for key in cache if key.startswith(("cached-", "dirty-", "sent-"))]


def taken(cache: Store) -> int:
    return sum(info.size for info in cache.list() if info.key.startswith(("cached-", "dirty-")))


def back(source: Store, cache: Store, **options: Any) -> CachingStore:
    return CachingStore(source, cache, CacheMode.WRITE_BACK, **options)
