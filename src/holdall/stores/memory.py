"""A store in a dict of this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import count
from typing import TypeAlias
from weakref import WeakValueDictionary

from holdall.blob import ATOMIC, check_expected
from holdall.errors import BlobNotFoundError, StoreUnavailableError
from holdall.keys import check_key, positions
from holdall.pieces import join_pieces
from holdall.ranges import CHUNK, span
from holdall.store import ANY, PLAIN, Attributes, Body, Can, Data, Expect, Info, Piece, Store

__all__ = ["DictStore", "MemoryStore"]


# The bytes, when they expire, the ETag, when they were written, and the attributes: a plain tuple, since to
# look a field up by its name would take a fifth of a get.
_Entry: TypeAlias = tuple[bytes, float | None, int, float, Attributes]


class _Blobs:
    """What all handles of one name share."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.lock = threading.RLock()
        self.etags = count(1)
        self.order: list[str] | None = None
        """The keys, sorted; None when a key has come or gone since."""
        self.token: str | None = None
        """The name of an unnamed store in its pickles."""

    def sorted(self) -> list[str]:
        with self.lock:
            if self.order is None:
                self.order = sorted(self.entries)
            return self.order


named: dict[str, _Blobs] = {}
_unnamed: WeakValueDictionary[str, _Blobs] = WeakValueDictionary()
_naming = threading.Lock()


class MemoryStore(Store):
    """A store in a dict of this process, gone with it.

    Args:
        blobs: Blobs to begin with.
        name: Stores with the same name in one process are one store; a store without a name is its own.

    It copies the data that it is given. A pickle of it holds only its name, and works only in this process.

    >>> store = MemoryStore({"a": b"1"})
    >>> store["a"]
    b'1'
    >>> MemoryStore(name="shared")["b"] = b"2"
    >>> MemoryStore(name="shared")["b"]
    b'2'
    """

    can = ATOMIC | Can.EXPIRE | Can.COPY | Can.ATTRIBUTES | Can.METADATA
    schemes = ("memory",)
    inline = True

    def __init__(self, blobs: Mapping[str, Data] | None = None, *, name: str | None = None) -> None:
        self._name = name
        if name is None:
            self._shared = _Blobs()
        else:
            with _naming:
                self._shared = named.setdefault(name, _Blobs())
        self._entries = self._shared.entries
        if blobs:
            self.update(blobs)

    @classmethod
    def _from_uri(cls, location: str) -> MemoryStore:
        return cls(name=location or None)

    def _settings(self) -> dict[str, object]:
        return {"blobs": None, "name": self._name}

    def __reduce__(self) -> tuple[object, ...]:
        if self._name is not None:
            return _here, (os.getpid(), self._name, None)
        shared = self._shared
        if shared.token is None:
            shared.token = os.urandom(8).hex()
            _unnamed[shared.token] = shared
        return _here, (os.getpid(), None, shared.token)

    # The next ones don't check the key: one that is found was valid when it was put.

    def _get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None or (entry[1] is not None and entry[1] <= time.time()):
            return None
        return entry[0]

    def _has(self, key: str) -> bool:
        return self._live(key) is not None

    def _put(self, key: str, data: bytes) -> Info:
        shared = self._shared
        now = time.time()
        with shared.lock:
            if key not in self._entries:
                check_key(key)
                shared.order = None
            etag = next(shared.etags)
            self._entries[key] = data, None, etag, now, PLAIN
        return Info(key, len(data), etag, now)

    def delete(self, key: str, *, expect: Expect = ANY) -> bool:
        if expect is not ANY or type(key) is not str or self._closed:
            return super().delete(key, expect=expect)
        with self._shared.lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._shared.order = None
                return entry[1] is None or entry[1] > time.time()
        check_key(key)
        return False

    delete.__doc__ = Store.delete.__doc__

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        entry = self._find_entry(key)
        data = entry[0]
        if start == 0 and stop is None and len(data) <= CHUNK:
            return _info(key, entry), iter((data,))
        start, stop = span(start, stop, len(data))
        view = memoryview(data)
        pieces = (view[at : min(at + CHUNK, stop)] for at in range(start, stop, CHUNK))
        return _info(key, entry), pieces

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        data = join_pieces(iter(body))
        expires = None if attributes.expires is None else attributes.expires.timestamp()
        shared = self._shared
        with shared.lock:
            if expect is not ANY:
                self._expect(key, expect)
            entry = data, expires, next(shared.etags), time.time(), attributes
            if key not in self._entries:
                shared.order = None
            self._entries[key] = entry
        return _info(key, entry)

    def _delete(self, key: str, expect: Expect) -> bool:
        with self._shared.lock:
            if expect is not ANY:
                self._expect(key, expect)
            alive = self._live(key) is not None
            if self._entries.pop(key, None) is not None:
                self._shared.order = None
            return alive

    def _info(self, key: str) -> Info:
        return _info(key, self._find_entry(key))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (_info(key, entry) for key, entry in self._walk(prefix, after))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (key for key, _ in self._walk(prefix, after))

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        with self._shared.lock:
            data, *_, attributes = self._find_entry(source)
            return self._write(target, (data,), expect, attributes)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        with self._shared.lock:
            info = self._copy(source, target, expect)
            self._delete(source, ANY)
            return info

    def _touch(self, key: str, expires: datetime | None) -> Info:
        with self._shared.lock:
            data, until, etag, _, attributes = self._find_entry(key)
            if expires is not None:
                until, attributes = expires.timestamp(), attributes._replace(expires=expires)
            self._entries[key] = entry = data, until, etag, time.time(), attributes
        return _info(key, entry)

    def _clear(self) -> None:
        with self._shared.lock:
            self._entries.clear()
            self._shared.order = None

    def _close(self) -> None:
        if self._name is None:
            # A private dict goes with its only handle; one that was pickled may have others.
            self._entries = {}

    def _live(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None or (entry[1] is not None and entry[1] <= time.time()):
            return None
        return entry

    def _find_entry(self, key: str) -> _Entry:
        entry = self._live(key)
        if entry is None:
            raise BlobNotFoundError(key=key)
        return entry

    def _expect(self, key: str, expect: Expect) -> None:
        entry = self._live(key)
        check_expected(None if entry is None else f"{entry[2]:x}", expect, key)

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, _Entry]]:
        # The sorted list is replaced, never changed, so that it can be walked without the lock.
        order = self._shared.sorted()
        for index in positions(order, prefix, after):
            entry = self._live(order[index])
            if entry is not None:
                yield order[index], entry


DictStore = MemoryStore


def _info(key: str, entry: _Entry) -> Info:
    data, _, etag, written, kept = entry
    return Info(key, len(data), etag, written, kept.content_type, kept.expires, kept.metadata)


def _here(process: int, name: str | None, token: str | None) -> MemoryStore:
    if process != os.getpid():
        raise StoreUnavailableError(
            "a memory store can't be opened in another process; use a store in a folder, a file or a server"
        )
    if name is not None:
        return MemoryStore(name=name)
    store = MemoryStore()
    shared = _unnamed.get(token or "")
    if shared is None:
        raise StoreUnavailableError(
            "the memory store that was pickled no longer exists; give it a name, or keep it referenced"
        )
    store._shared, store._entries = shared, shared.entries
    return store
