"""Where the results of one function are kept: their keys in a store, their age, and how many there may be.

The result of a call is the blob `holdall.cached/1/<module>/<function>/<key of the call>`. Its lock, while the
call is computed, is `holdall.cached/lock/<key of the call>`.

Of the results, those go first that weren't used for longest. A use is noted in this process, and in the store
where it was noted there last more than a minute ago: a hit stays a read. Every process lists the results
itself now and then, to find what others put and deleted; see `_is_due`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any, Final, cast

from holdall.errors import InvalidTypeError
from holdall.forks import begin_anew, in_child
from holdall.memoize.entry import HEAD, MAGIC, SIZE
from holdall.store import Can, Info, Store

_log = logging.getLogger("holdall.memoize")

PREFIX: Final = "holdall.cached/1/"
LOCKS: Final = "holdall.cached/lock/"

_SLACK: Final = 10
"""One part of this many is made free at once, so that not every put lists."""
_NOTE: Final = 60.0
_FEW: Final = 1000
"""Uses that are known of at any rate."""
_LOOK: Final = 1.0
_SHARE: Final = 50
"""Of the time, one part of this many goes to listing for what other processes do."""

_opened: dict[tuple[str, str], Store] = {}
"""By the working directory, which a relative path begins at, and the URI."""
_opening = threading.Lock()


class Shelf:
    """The results of one function.

    Args:
        store: A store, what has one as its `store`, such as a `ValueStore`, or a URI, which is opened when it
            is needed; None for the memory of this process.
        folder: What the keys begin with, after `PREFIX`.
        ttl: Seconds after which a result is too old; None for never.
        max_bytes: How many bytes the results may have; None for any number.
        max_entries: How many results there may be; None for any number.
    """

    def __init__(
        self, store: object, folder: str, ttl: float | None, max_bytes: int | None, max_entries: int | None
    ) -> None:
        self.prefix = PREFIX + folder
        self.ttl, self.max_bytes, self.max_entries = ttl, max_bytes, max_entries
        self.private = store is None
        self._uri: str | None = None
        self._store: Store | None = None
        if store is None:
            from holdall.stores.memory import MemoryStore

            self._store = MemoryStore()
        elif isinstance(store, (str, os.PathLike)):
            self._uri = os.fspath(cast("str | os.PathLike[str]", store))
        else:
            below = store if isinstance(store, Store) else getattr(store, "store", None)
            if not isinstance(below, Store):
                raise InvalidTypeError(
                    "cached takes a store, a URI or None as its store, such as cached('sqlite:///calls.db'), "
                    f"not {type(store).__name__}"
                )
            self._store = below
        self._limited = max_bytes is not None or max_entries is not None
        self._watched = self._limited or ttl is not None
        self._used: dict[str, float] = {}
        """When this process last used a result."""
        self._noted: dict[str, float] = {}
        """When the store last heard of it from here."""
        self._begin()
        begin_anew(self, Shelf._begin)

    def _begin(self) -> None:
        self._trimming = threading.Lock()
        self._count = self._bytes = 0
        self._most = _FEW
        self._listed: float | None = None
        self._took = 0.0

    @property
    def store(self) -> Store:
        """The store, opened."""
        store = self._store
        if store is None:
            store = self._store = _open(cast(str, self._uri))
        return store

    @property
    def place(self) -> str:
        """The store as people read it."""
        if self.private:
            return "the memory of this process"
        return repr(self._store) if self._uri is None or self._store is not None else "a store not opened yet"

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a result; None if there is none, or it is too old.

        Raises:
            StoreError: The store fails.
        """
        store = self._store
        # A store's own truth is whether it holds anything, which takes a look.
        data = (self.store if store is None else store).get(self.prefix + key)
        if data is None or not self._watched or len(data) < SIZE:
            return data
        now = time.time()
        left: float | None = None
        if self.ttl is not None:
            magic, created, _ = HEAD.unpack_from(data)
            left = cast(float, created) + self.ttl - now
            if magic == MAGIC and left <= 0:
                return None
        if self._limited:
            self._used[key] = now
            if now - self._noted.get(key, 0.0) > _NOTE:
                self._note(key, now, left)
        return data

    def _note(self, key: str, now: float, left: float | None) -> None:
        """Tell the store of a use, for other processes and for later ones."""
        self._noted[key] = now
        if len(self._noted) > self._most:
            self._forget(now)
        store: Any = self.store
        try:
            if left is not None and Can.EXPIRE in store.can:
                store.touch(self.prefix + key, ttl=max(left, 0.001))
            else:
                store.touch(self.prefix + key)
        # It was just deleted, or can't be touched here, as in a store that takes no writes: a hit is a hit.
        except Exception as error:  # noqa: BLE001
            _log.debug("the use of a result isn't noted: %s", error)

    def _forget(self, now: float) -> None:
        """Forget uses that the store has, since a process that only reads never makes room. Their next use is
        noted in any case."""
        for key, noted in self._noted.copy().items():
            if now - noted > _NOTE:
                self._noted.pop(key, None)
                self._used.pop(key, None)
        self._most = max(_FEW, 2 * len(self._noted))

    def put(self, key: str, data: bytes) -> bool:
        """Keep the bytes of a result; return whether they are kept, which those that are too long aren't.

        Raises:
            StoreError: The store fails.
        """
        if self.max_bytes is not None and len(data) > self.max_bytes:
            return False
        store = self.store
        if self.ttl is not None and Can.EXPIRE in store.can:
            store.put(self.prefix + key, data, ttl=self.ttl)
        else:
            store.put(self.prefix + key, data)
        if self._limited:
            self._used[key] = self._noted[key] = time.time()
            self._trim(len(data))
        return True

    def _trim(self, size: int) -> None:
        with self._trimming:
            self._count += 1
            self._bytes += size
            if self._is_due():
                begun = time.monotonic()
                self._make_room()
                self._listed = time.monotonic()
                self._took = self._listed - begun

    def _is_due(self) -> bool:
        """Return whether to list: at first, where there is too much as far as is known, and after a while,
        since other processes put results too."""
        if self._listed is None:
            return True
        if self.max_entries is not None and self._count > self.max_entries:
            return True
        if self.max_bytes is not None and self._bytes > self.max_bytes:
            return True
        return time.monotonic() - self._listed > max(_LOOK, self._took * _SHARE)

    def _make_room(self) -> None:
        infos = self.entries()
        now = time.time()
        kept: list[tuple[float, Info]] = []
        gone: list[str] = []
        for info in infos:
            key = info.key[len(self.prefix) :]
            modified = info.modified.timestamp()
            # What is touched is older than it says, and leaves when it is read.
            if self.ttl is not None and now - modified > self.ttl:
                gone.append(info.key)
            else:
                kept.append((max(modified, self._used.get(key, 0.0)), info))
        size, count = sum(info.size for _, info in kept), len(kept)
        most, largest = self.max_entries, self.max_bytes
        if (most is not None and count > most) or (largest is not None and size > largest):
            # A little more than must be, but never the last one.
            most = None if most is None else most - most // _SLACK
            largest = None if largest is None else largest - largest // _SLACK
            kept.sort(key=lambda each: each[0], reverse=True)
            while len(kept) > 1 and (
                (most is not None and count > most) or (largest is not None and size > largest)
            ):
                _, info = kept.pop()
                gone.append(info.key)
                size, count = size - info.size, count - 1
        if gone:
            self.store.delete_many(gone)
        self._count, self._bytes = count, size
        known = {info.key[len(self.prefix) :] for _, info in kept}
        # Of copies, since other threads note their uses meanwhile.
        self._used = {key: used for key, used in self._used.copy().items() if key in known}
        self._noted = {key: noted for key, noted in self._noted.copy().items() if key in known}

    def entries(self) -> list[Info]:
        """Return what is kept, with what is too old."""
        return list(self.store.list(self.prefix))

    def delete(self, key: str) -> bool:
        """Delete a result; return whether it was there."""
        return self.store.delete(self.prefix + key)

    def clear(self) -> int:
        """Delete all results; return how many there were."""
        with self._trimming:
            self._count = self._bytes = 0
            self._used.clear()
            self._noted.clear()
        return self.store.delete_many([info.key for info in self.entries()])

    def can_lease(self) -> bool:
        """Return whether the store can hold the lock of a call, and others can see it."""
        needed = Can.WRITE | Can.CREATE | Can.SWAP
        return not self.private and self.store.can & needed == needed


def _open(uri: str) -> Store:
    """Return the store of a URI, one in this process for all functions that name it."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = ""  # it was deleted
    with _opening:
        found = _opened.get((folder, uri))
        if found is None or found._closed:
            found = _opened[folder, uri] = Store.from_uri(uri)
        return found


@in_child
def _after_fork() -> None:
    global _opening
    _opening = threading.Lock()
