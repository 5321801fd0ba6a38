"""Layers that fail on purpose, or do less than the store below."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, TypeVar

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


class _Tampering(Transparent):
    """A layer that does something before each primitive, with each of its streams, and after each write and
    delete."""

    def _before(self, call: str) -> str:
        """Do what comes before a call; return what its stream and its end need to know."""
        raise NotImplementedError

    def _stream(self, mark: str, pieces: Iterable[T]) -> Iterable[T]:
        return pieces

    def _end(self, mark: str) -> None:
        pass

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        mark = self._before("read")
        info, pieces = super()._read(key, start, stop)
        return info, iter(self._stream(mark, pieces))

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        mark = self._before("write")
        info = super()._write(key, self._stream(mark, body), expect, attributes)
        self._end(mark)
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        mark = self._before("delete")
        found = super()._delete(key, expect)
        self._end(mark)
        return found

    def _info(self, key: str) -> Info:
        self._before("info")
        return super()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        mark = self._before("scan")
        return iter(self._stream(mark, super()._scan(prefix, after)))


class Counting(_Tampering):
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

    def _before(self, call: str) -> str:
        self._count(call)
        return {"read": "bytes_read", "write": "bytes_written"}.get(call, "")

    def _stream(self, mark: str, pieces: Iterable[T]) -> Iterable[T]:
        return self._count_pieces(mark, pieces) if mark else pieces

    def _count_pieces(self, counter: str, pieces: Iterable[Any]) -> Iterator[Any]:
        for piece in pieces:
            with self._lock:
                setattr(self, counter, getattr(self, counter) + len(piece))
            yield piece


class Slow(_Tampering):
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

    def _before(self, call: str) -> str:
        # A write and a listing wait for their pieces.
        if call not in ("write", "scan"):
            time.sleep(self._seconds)
        return call

    def _stream(self, mark: str, pieces: Iterable[T]) -> Iterator[T]:
        for piece in pieces:
            time.sleep(self._seconds)
            yield piece


class _Failing(_Tampering):
    """A layer in which a share of the calls meet a fault, chosen by a seed."""

    _moments: ClassVar[dict[str, tuple[str, ...]]] = {
        "read": ("before", "halfway"),
        "write": ("before", "halfway", "after"),
        "delete": ("before", "after"),
        "info": ("before",),
        "scan": ("before", "halfway"),
    }
    """When each call may meet it."""

    def __init__(self, store: Store, rate: float, seed: int) -> None:
        super().__init__(store)
        self._rate, self._seed = rate, seed
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "rate": self._rate, "seed": self._seed}

    def _fail(self, moment: str) -> None:
        raise NotImplementedError

    def _before(self, call: str) -> str:
        with self._lock:
            fault = self._random.choice(self._moments[call]) if self._random.random() < self._rate else ""
        if fault == "before":
            self._fail(fault)
        return fault

    def _stream(self, mark: str, pieces: Iterable[T]) -> Iterable[T]:
        return self._break(pieces) if mark == "halfway" else pieces

    def _break(self, pieces: Iterable[T]) -> Iterator[T]:
        iterator = iter(pieces)
        with contextlib.suppress(StopIteration):
            yield next(iterator)
        self._fail("halfway")
        yield from iterator

    def _end(self, mark: str) -> None:
        if mark == "after":
            self._fail(mark)


class Flaky(_Failing):
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
        super().__init__(store, rate, seed)

    def _fail(self, moment: str) -> None:
        raise StoreUnavailableError(moment)


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
        rates = {"store": self._store, "rate": self._rate, "seed": self._seed}
        return {**rates, "reads": self._reads, "writes": self._writes}

    def _fault(self) -> tuple[str, float]:
        """Choose what happens to a blob, and how far into its first piece."""
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


class Hanging(_Failing):
    """A store whose calls hang now and then, before they begin or halfway through a body, as networks do.
    When the time is over, or all are released, they go on as if nothing had happened.

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

    _moments: ClassVar = {**_Failing._moments, "write": ("before", "halfway"), "delete": ("before",)}

    def __init__(self, store: Store, rate: float = 0.1, seconds: float = 60.0, seed: int = 0) -> None:
        super().__init__(store, rate, seed)
        self._seconds = seconds
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

    def _fail(self, moment: str) -> None:
        with self._lock:
            self.hanging += 1
            self.hung += 1
        self._released.wait(self._seconds)
        with self._lock:
            self.hanging -= 1
