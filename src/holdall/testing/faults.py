"""Layers that fail on purpose, or do less than the store below."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from holdall.errors import StoreUnavailableError
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Can, Expect, Info, Piece, Store

T = TypeVar("T")


class Limited(Transparent):
    """A store that can do less than the one below.

    Args:
        store: The store below.
        can: The most that it can do.

    >>> from holdall import Can, MemoryStore
    >>> Can.SWAP in Limited(MemoryStore(), Can.WRITE).can
    False
    """

    def __init__(self, store: Store, can: Can) -> None:
        super().__init__(store)
        self._given = can

    @functools.cached_property
    def can(self) -> Can:
        return super().can & self._given

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "can": self._given}


class Counting(Transparent):
    """A store that counts its calls to the one below.

    >>> from holdall import MemoryStore
    >>> store = Counting(MemoryStore({"a": b"four"}))
    >>> "a" in store, store.calls["read"], store["a"], store.calls["read"], store.bytes_read
    (True, 0, b'four', 1, 4)
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._lock = threading.Lock()
        self.calls: dict[str, int] = dict.fromkeys(("read", "write", "delete", "info", "scan"), 0)
        """How often each primitive was called."""
        self.bytes_read = 0
        """How many bytes came up."""
        self.bytes_written = 0
        """How many bytes went down."""

    def _count(self, call: str) -> None:
        with self._lock:
            self.calls[call] += 1

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self._count("read")
        info, pieces = super()._read(key, start, stop)
        return info, self._counted(pieces, "bytes_read")

    def _counted(self, pieces: Iterable[Piece], counter: str) -> Iterator[Piece]:
        for piece in pieces:
            with self._lock:
                setattr(self, counter, getattr(self, counter) + len(piece))
            yield piece

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._count("write")
        return super()._write(key, self._counted(body, "bytes_written"), expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        self._count("delete")
        return super()._delete(key, expect)

    def _info(self, key: str) -> Info:
        self._count("info")
        return super()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        self._count("scan")
        return super()._scan(prefix, after)


class Slow(Transparent):
    """A store that delays each call and each piece.

    Args:
        store: The store below.
        seconds: How long each call and each piece waits.

    >>> from holdall import MemoryStore
    >>> Slow(MemoryStore({"a": b"1"}), 0.001)["a"]
    b'1'
    """

    def __init__(self, store: Store, seconds: float) -> None:
        super().__init__(store)
        self._seconds = seconds
        self.inline = False

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "seconds": self._seconds}

    def _slowed(self, pieces: Iterable[T]) -> Iterator[T]:
        for piece in pieces:
            time.sleep(self._seconds)
            yield piece

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        time.sleep(self._seconds)
        info, pieces = super()._read(key, start, stop)
        return info, self._slowed(pieces)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        return super()._write(key, self._slowed(body), expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        time.sleep(self._seconds)
        return super()._delete(key, expect)

    def _info(self, key: str) -> Info:
        time.sleep(self._seconds)
        return super()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._slowed(super()._scan(prefix, after))


class Flaky(Transparent):
    """A store whose calls fail now and then with `StoreUnavailableError`: before they begin, halfway through
    a body, or after they were done, as networks do. The message says which.

    Args:
        store: The store below.
        rate: The share of the calls that fail, from 0 to 1.
        seed: The same seed fails the same calls.

    >>> from holdall import MemoryStore
    >>> Flaky(MemoryStore(), rate=0)["a"] = b"1"
    """

    def __init__(self, store: Store, rate: float = 0.1, seed: int = 0) -> None:
        super().__init__(store)
        self._rate, self._seed = rate, seed
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "rate": self._rate, "seed": self._seed}

    def _fault(self, *moments: str) -> str:
        with self._lock:
            return self._random.choice(moments) if self._random.random() < self._rate else ""

    def _halfway(self, pieces: Iterable[T]) -> Iterator[T]:
        iterator = iter(pieces)
        with contextlib.suppress(StopIteration):
            yield next(iterator)
        raise StoreUnavailableError("halfway")

    def _call(self, fault: str, function: Callable[[], T]) -> T:
        if fault == "before":
            raise StoreUnavailableError(fault)
        result = function()
        if fault == "after":
            raise StoreUnavailableError(fault)
        return result

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        fault = self._fault("before", "halfway")
        info, pieces = self._call(fault, lambda: super(Flaky, self)._read(key, start, stop))
        return info, self._halfway(pieces) if fault else pieces

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        fault = self._fault("before", "halfway", "after")
        body = self._halfway(body) if fault == "halfway" else body
        return self._call(fault, lambda: super(Flaky, self)._write(key, body, expect, attributes))

    def _delete(self, key: str, expect: Expect) -> bool:
        fault = self._fault("before", "after")
        return self._call(fault, lambda: super(Flaky, self)._delete(key, expect))

    def _info(self, key: str) -> Info:
        return self._call(self._fault("before"), lambda: super(Flaky, self)._info(key))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        fault = self._fault("before", "halfway")
        listing = self._call(fault, lambda: super(Flaky, self)._scan(prefix, after))
        return self._halfway(listing) if fault else listing


class Corrupting(Transparent):
    """A store that damages bytes now and then, as bad disks and memory do: a bit is flipped, a byte is
    dropped, or the end is cut off. It does so silently, and `Info`s are those of the store below.

    Args:
        store: The store below.
        rate: The share of blobs that are damaged, from 0 to 1. An empty one stays as it is.
        seed: The same seed damages the same ones in the same way.
        reads: Whether reads are damaged; the blobs below aren't.
        writes: Whether what is written is damaged, and lies so below.

    >>> from holdall import MemoryStore
    >>> store = Corrupting(MemoryStore({"a": b"four"}), rate=1)
    >>> store["a"] == b"four", store.damaged
    (False, 1)
    """

    def __init__(
        self, store: Store, rate: float = 0.1, seed: int = 0, *, reads: bool = True, writes: bool = False
    ) -> None:
        super().__init__(store)
        self._rate, self._seed, self._reads, self._writes = rate, seed, reads, writes
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.damaged = 0
        """How many blobs were damaged so far."""

    def _settings(self) -> dict[str, object]:
        return {
            "store": self._store,
            "rate": self._rate,
            "seed": self._seed,
            "reads": self._reads,
            "writes": self._writes,
        }

    def _fault(self) -> tuple[str, float]:
        """What is to happen to a blob, and how far into the piece it happens to."""
        with self._lock:
            kind, where = self._random.choice(("flip", "drop", "cut")), self._random.random()
            return (kind if self._random.random() < self._rate else ""), where

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, start, stop)
        kind, where = self._fault() if self._reads else ("", 0.0)
        return info, self._damage(pieces, kind, where) if kind else pieces

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        kind, where = self._fault() if self._writes else ("", 0.0)
        return super()._write(key, self._damage(body, kind, where) if kind else body, expect, attributes)

    def _damage(self, pieces: Iterable[Piece], kind: str, where: float) -> Iterator[Piece]:
        done = False
        for piece in pieces:
            if done or not len(piece):
                yield piece
                continue
            done = True
            with self._lock:
                self.damaged += 1
            spoilt, at = bytearray(piece), int(where * len(piece))
            if kind == "cut":
                yield bytes(spoilt[:at])
                return
            if kind == "drop":
                del spoilt[at]
            else:
                spoilt[at] ^= 1 << int(where * 8 * len(piece)) % 8
            yield bytes(spoilt)


class Hanging(Transparent):
    """A store whose calls hang now and then, before they begin or halfway through a body, as networks do.
    When the time is over, or all are released, they go on as if nothing had been.

    Args:
        store: The store below.
        rate: The share of the calls that hang, from 0 to 1.
        seconds: How long they hang.
        seed: The same seed hangs the same calls.

    >>> from holdall import MemoryStore
    >>> store = Hanging(MemoryStore({"a": b"1"}), rate=1, seconds=0.01)
    >>> store["a"], store.hanging
    (b'1', 0)
    """

    def __init__(self, store: Store, rate: float = 0.1, seconds: float = 60.0, seed: int = 0) -> None:
        super().__init__(store)
        self._rate, self._seconds, self._seed = rate, seconds, seed
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._released = threading.Event()
        self.inline = False
        self.hanging = 0
        """How many calls hang now."""
        self.hung = 0
        """How many calls hung so far."""

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "rate": self._rate, "seconds": self._seconds, "seed": self._seed}

    def release(self) -> None:
        """Let hanging calls go on, and let no more calls hang."""
        self._released.set()

    def _close(self) -> None:
        self.release()

    def _fault(self, *moments: str) -> str:
        with self._lock:
            moment = self._random.choice(moments)
            return moment if self._random.random() < self._rate else ""

    def _hang(self) -> None:
        with self._lock:
            self.hanging += 1
            self.hung += 1
        self._released.wait(self._seconds)
        with self._lock:
            self.hanging -= 1

    def _before(self, *moments: str) -> bool:
        """Hang if a call is to hang before it begins; whether it is to hang halfway."""
        moment = self._fault("before", *moments)
        if moment == "before":
            self._hang()
        return moment == "halfway"

    def _halfway(self, pieces: Iterable[T]) -> Iterator[T]:
        iterator = iter(pieces)
        with contextlib.suppress(StopIteration):
            yield next(iterator)
        self._hang()
        yield from iterator

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        halfway = self._before("halfway")
        info, pieces = super()._read(key, start, stop)
        return info, self._halfway(pieces) if halfway else pieces

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        body = self._halfway(body) if self._before("halfway") else body
        return super()._write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        self._before()
        return super()._delete(key, expect)

    def _info(self, key: str) -> Info:
        self._before()
        return super()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        halfway = self._before("halfway")
        listing = super()._scan(prefix, after)
        return self._halfway(listing) if halfway else listing
