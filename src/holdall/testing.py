"""The conformance kit: one subclass with one factory is a store's whole test.

    from holdall.testing import StoreSuite

    class TestMyStore(StoreSuite):
        def make(self, place):
            return MyStore(place / "data")

pytest finds and runs it. A store that can't write, delete or list returns in `fill` a store that does it. For
readable failures, `pytest.register_assert_rewrite("holdall.testing")` in a `conftest.py`. The kit forks,
kills and looks at `/proc`: it runs on POSIX systems.
"""

# The kit calls primitives, which others must not.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import array
import asyncio
import atexit
import contextlib
import csv
import functools
import gc
import hashlib
import importlib
import io
import json
import os
import pickle
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import UTC, datetime, timedelta
from inspect import getattr_static
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidDataError,
    InvalidKeyError,
    KeyConflictError,
    MissingDependencyError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.keys import MAX_KEY_BYTES
from holdall.layers.layer import Transparent
from holdall.store import ABSENT, ANY, Attributes, Body, Can, Expect, Info, Piece, Store
from holdall.stores import memory
from holdall.stores.memory import MemoryStore

try:
    import hypothesis
    import pytest
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
except ImportError:
    raise MissingDependencyError(
        "the conformance kit needs pytest and hypothesis: pip install 'holdall[testing]'"
    ) from None

__all__ = [
    "BAD_KEYS",
    "GOOD_KEYS",
    "Corrupting",
    "Counting",
    "Flaky",
    "Hanging",
    "Limited",
    "Slow",
    "StoreSuite",
    "assert_whole",
    "check_laws",
    "check_refusals",
    "race",
]

T = TypeVar("T")

_DEADLINE = 120.0
"""Seconds after which a wait is a deadlock."""
_MIB = 1 << 20

# --- keys ---------------------------------------------------------------------------------------------


def _words(*lines: str) -> list[str]:
    """What stands in some lines, which no formatter spreads over a hundred."""
    return " ".join(lines).split(" ")


def _bad_keys() -> tuple[object, ...]:
    bad: list[object] = ["", "/", "//", "///", "/a", "a/", "//a", "a//", "a//b", "/a/b", "a/b/", "a///b"]
    for dots in (".", ".."):
        bad += [
            shape.format(dots)
            for shape in _words(
                "{} {}/ /{} {}/a a/{} a/{}/b a/b/{} {}/a/b {0}/{0} a/{0}/{0}/b",
                "{}/.git/config a/{}/.git/config {}/data-2/x {}/data2 v2.1/{}/v2.2 %2e/{}",
            )
        ]
    for depth in (1, 2, 3, 8, 64):
        up = "../" * depth
        bad += [up + "etc/passwd", "a/" + up + "etc/passwd", "/" + up + "etc/passwd", up + "..", up + "a/.."]
    controls = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
    surrogates = ["\ud800", "\udbff", "\udc00", "\udcff", "\udfff", "\ude00\ud83d"]
    for char in (*controls, *surrogates):
        bad += [char, char + "a", "a" + char + "b", "a" + char, "a/" + char + "/b", "a/b" + char]
    bad += ["a" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2 + 1), "水" * (MAX_KEY_BYTES // 3 + 1)]
    bad += ["😀" * (MAX_KEY_BYTES // 4 + 1), "a/" * (MAX_KEY_BYTES // 2) + "b", "a" * 100_000]
    bad += ["é" * (MAX_KEY_BYTES // 2) + "a", "😀" * (MAX_KEY_BYTES // 4) + "/a"]
    bad += [b"a", b"", bytearray(b"a"), memoryview(b"a"), None, 0, 1, -1, 1.5, True, False, ..., str]
    bad += [
        object(),
        (),
        ("a",),
        ["a"],
        [],
        {"a": 1},
        {},
        {"a"},
        frozenset("a"),
        Path("a"),
        PurePosixPath("a"),
        1j,
    ]
    return tuple(bad)


BAD_KEYS: tuple[object, ...] = _bad_keys()
"""What is no key; every call refuses each with `InvalidKeyError`."""


def _good_keys() -> tuple[str, ...]:
    segments = _words(
        r"a. a.. ... .... .a ..a ~ ~a a.tmp .tmp .tmp-1 .holdall .holdall~tmp a~ - -rf -- a-b lock",
        r"a.lock a\b \ \\ ..\..\etc \.. C:\x C: a:b a:$DATA : :: c|d | < > ? * \" ' ` $HOME ${a}",
        r"$(a) a;b a&b ! # #a @ ^ = + , ( ) [ ] [a] [!a] { } _ % %% a_b axb a%b a*b a?b %2e%2e%2f",
        r"%2E%2E %2e %252e %252e%252e %00 %2f %5C %5c a%5Cb %41 %25 %2525 %zz %u002e =2e &amp;",
        r"&#46; \x2e \u002e +2e %C3%A9 ~2e CON con Con PRN AUX NUL nul nul.txt NUL.tar.gz COM1",
        r"com9 LPT1 con. COM¹ CONIN$ aux.h desktop.ini Thumbs.db .DS_Store lost+found A a README",
        r"Readme readme ß SS ss s S İ i̇ I i é ﬁ fi Ω 가 水 😀 🇺🇸 שלום مرحبا 0 00 1 -1 1e5 None null",
        r"true NaN key info rowid etag SELECT '; \0 \n <!-- <a> a.zip a.sqlite a.db-wal v2.1 v2.2",
        r"v2 data data2 data-2 logs.json .git .gitignore __init__.py META-INF mimetype index",
        r"manifest",
    )
    segments += [
        "a b",
        " a",
        "a ",
        "  ",
        " ",
        ".. ",
        " ..",
        ". .",
        "con ",
        "'; DROP TABLE blobs; --",
        'a" "b',
    ]
    # Forms and cases that normalizing or folding would make one, and what looks like a separator.
    segments += [
        "\u017f",
        "\u0131",
        "\xc5",
        "A\u030a",
        "\u212b",
        "e\u0301",
        "\u2126",
        "\u1100\u1161",
        "\uff0e\uff0e",
    ]
    segments += [
        "\u202eabc",
        "\u200b",
        "\ufeff",
        "\ufeffa",
        "\xa0",
        "\u2028",
        "\u2029",
        "\u3000",
        "\uff0f",
        "\uff0e",
    ]
    segments += ["\ufffd", "\uffff", "\U0010ffff", "\ue000", "\uff71", "\U0001f469\u200d\U0001f467"]
    for letter in ("x", ".", "%", "A", " ", "\\"):
        segments += [letter * size for size in (251, 254, 255, 256, 257)]
    segments += ["é" * 127, "é" * 128, "水" * 85, "水" * 86, "😀" * 64, "y" * 1000, "\\" * 86]
    segments += ["z" * 250 + ".", "z" * 255 + ".", "CON" + "." * 252]
    keys = [*segments, *(f"in/{segment}/x" for segment in segments)]
    keys += [f"under/{segment}" for segment in segments]
    keys += [".git.d/config", ".holdall.d/x", ".holdall.d/.tmp/x", "k/" + "é" * 511]
    keys += ["deep/" + "/".join("d" * 500)]
    keys += [letter * MAX_KEY_BYTES for letter in ("x", "X", "\\", "%", ".", " ", "~", "_", "-")]
    keys += ["é" * (MAX_KEY_BYTES // 2), "水" * (MAX_KEY_BYTES // 3), "😀" * (MAX_KEY_BYTES // 4)]
    keys += ["q" * 255 + "/" + "q" * 255 + "/" + "q" * 512, "long/" + "/".join(["n" * 100] * 10)]
    keys += ["e/CON/PRN/aux.c", "e/a./b /c", "e/..a/b", "e/a\\..\\b", "e/%2e%2e/b", "e/ /  /b"]
    return tuple(dict.fromkeys(keys))


GOOD_KEYS: tuple[str, ...] = _good_keys()
"""Awkward keys that every store takes and gives back exactly; none is a folder of another."""

# --- fault layers -------------------------------------------------------------------------------------


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


# --- tools --------------------------------------------------------------------------------------------


def race(*tasks: Callable[[], T], seconds: float = _DEADLINE) -> list[T]:
    """Run tasks at the same moment, each in its own thread; return their results in order.

    The first error is raised here. Threads change places as often as they can meanwhile.

    Raises:
        AssertionError: A task still runs after so many seconds.

    >>> race(lambda: 1, lambda: 2)
    [1, 2]
    """
    barrier = threading.Barrier(len(tasks))
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(index: int, task: Callable[[], T]) -> None:
        try:
            barrier.wait(seconds)
            results[index] = task()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked
            errors.append(error)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(tasks)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    finally:
        sys.setswitchinterval(interval)
    errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), f"a deadlock: tasks still run after {seconds} s"
    return [results[index] for index in range(len(tasks))]


def _within(function: Callable[[], T], seconds: float = _DEADLINE) -> T:
    """What the function returns, which must not hang."""
    return race(function, seconds=seconds)[0]


def _in_step(parties: int) -> Callable[[], object]:
    """A call that returns once so many threads have made it; a thread that dies frees the others."""
    barrier = threading.Barrier(parties)
    return lambda: barrier.wait(_DEADLINE)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


def _noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{size} {seed}").randbytes(size)


def _sealed(payload: bytes) -> bytes:
    """A value that tells whether it is whole: a digest, then what it is the digest of."""
    return hashlib.sha256(payload).digest() + payload


def _is_whole(value: bytes) -> bool:
    return hashlib.sha256(value[32:]).digest() == value[:32]


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _one_shot(*pieces: Any) -> Iterator[Any]:
    yield from pieces


def _failing(*pieces: bytes, error: Exception | None = None) -> Iterator[bytes]:
    yield from pieces
    raise error or _BodyError("the body failed")


class _BodyError(Exception):
    """What a failing body raises."""


def _contents(store: Store) -> dict[str, bytes]:
    return dict(store.items())


def _listed(store: Store, prefix: str = "", **options: Any) -> list[str]:
    keys = [info.key for info in store.list(prefix, **options)]
    assert keys == list(store.iterate_keys(prefix, **options)), "list and iterate_keys disagree"
    return keys


def _file_of(store: Store, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()


async def _awaited(call: Awaitable[T]) -> T:
    return await call


def _child(child: str | Info) -> str:
    return child if isinstance(child, str) else child.key


def _read_whole(store: Store, key: str) -> tuple[Info, bytes]:
    """A blob's info with its bytes, from one read."""
    info, pieces = store._read(key, 0, None)
    return info, b"".join(pieces)


def _resident() -> int:
    """The bytes of memory that this process holds beside mapped files; 0 where nobody tells."""
    try:
        with open("/proc/self/status") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon")), 0)
    except OSError:
        return 0


def needs(flags: Can) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a test of what only some stores can: one that lacks a flag is tested to refuse the calls."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def marked(self: StoreSuite, store: Store, *rest: Any, **fixtures: Any) -> None:
            missing = flags & ~store.can
            if not missing:
                test(self, store, *rest, **fixtures)
                return
            store["there"] = b"before"
            for flag in missing:
                check_refusals(_tested(store), flag, "there")

        return marked

    return mark


def check_refusals(store: Store, flag: Can, key: str) -> None:
    """Check that each call that needs a flag, which the store lacks, raises `UnsupportedOperation`.

    Args:
        store: The store.
        flag: One flag.
        key: The key of a blob that is there; it must come out untouched.

    >>> from holdall import Can, MemoryStore
    >>> check_refusals(Limited(MemoryStore({"a": b"1"}), Can.LIST), Can.WRITE, "a")
    """
    etag = store.info(key).etag
    before = store[key]
    put, new = store.put, f"{key}-new"
    calls: Mapping[Can, Sequence[Callable[[], object]]] = {
        Can.WRITE: [
            lambda: put(key, b"x"),
            lambda: put(new, b"x"),
            lambda: store.__setitem__(key, b"x"),
            lambda: store.setdefault(new, b"x"),
            lambda: store.update({key: b"x"}),
            lambda: store.put_many({new: b"x"}),
            lambda: store.put(key, iter([b"x"])),
            lambda: store.open(key, "wb"),
            lambda: store.open(new, "w"),
            lambda: asyncio.run(_awaited(store.aio.put(key, b"x"))),
            lambda: store.copy(key, new),
            lambda: store.move(key, new),
        ],
        Can.DELETE: [
            lambda: store.delete(key),
            lambda: store.__delitem__(key),
            lambda: store.pop(key),
            lambda: store.pop(key, b"default"),
            lambda: store.delete_many([key]),
            lambda: asyncio.run(_awaited(store.aio.delete(key))),
            lambda: store.clear(),
            lambda: store.popitem(),
            lambda: store.move(key, new),
        ],
        Can.LIST: [
            lambda: list(store),
            lambda: len(store),
            lambda: bool(store),
            lambda: list(store.keys()),
            lambda: list(store.values()),
            lambda: list(store.items()),
            lambda: list(store.list()),
            lambda: list(store.iterate_keys()),
            lambda: list(store.children()),
            lambda: store.popitem(),
            lambda: store.clear(),
        ],
        Can.CREATE: [
            lambda: put(new, b"x", expect=ABSENT),
            lambda: put(key, b"x", expect=ABSENT),
            lambda: store.open(new, "xb"),
            lambda: store.open(new, "wb", expect=ABSENT),
            lambda: store.copy(key, new, expect=ABSENT),
            lambda: store.move(key, new, expect=ABSENT),
            lambda: store.modify(new, bytes, default=b""),
        ],
        Can.SWAP: [
            lambda: put(key, b"x", expect=etag),
            lambda: store.delete(key, expect=etag),
            lambda: store.modify(key, lambda _: b"x"),
            lambda: store.open(key, "wb", expect=etag),
            lambda: store.copy(key, key, expect=etag),
            lambda: store.copy(key, new, expect=etag),
            lambda: store.move(key, new, expect=etag),
        ],
        Can.EXPIRE: [
            lambda: put(key, b"x", ttl=60),
            lambda: put(key, b"x", ttl=timedelta(hours=1)),
            lambda: store.put_many({key: b"x"}, ttl=60),
            lambda: store.open(key, "wb", ttl=60),
        ],
        Can.ATTRIBUTES: [
            lambda: put(key, b"x", content_type="text/plain"),
            lambda: store.put_many({key: b"x"}, content_type="text/plain"),
            lambda: store.open(key, "wb", content_type="text/plain"),
        ],
        Can.SIGN: [lambda: store.sign(key), lambda: store.sign(key, method="PUT", expires=60)],
        # These three have fallbacks, whose behaviour other tests see.
        Can.RANGE: [],
        Can.COPY: [],
        Can.BULK: [],
    }
    for call in calls[flag]:
        with pytest.raises(UnsupportedOperation):
            call()
    assert store[key] == before, f"a call that needs {flag} was refused, but changed the blob"
    assert store.info(key).etag == etag
    assert new not in store, f"a call that needs {flag} was refused, but wrote"


def assert_whole(*suites: type[StoreSuite]) -> None:
    """Check that suites run every test of `StoreSuite` as it is: none is overridden, skipped or expected to
    fail, and no fewer writers are killed.

    >>> class TestStore(StoreSuite):
    ...     make = staticmethod(lambda place: MemoryStore(name=str(place)))
    ...     persistent = False
    >>> assert_whole(TestStore)
    """
    for suite in suites:
        for name in _fixed():
            assert getattr_static(suite, name, None) is vars(StoreSuite)[name], (
                f"{suite.__name__} changes {name}"
            )
        for name in ("", *(name for name in dir(suite) if name.startswith("test"))):
            marked: Any = getattr(suite, name) if name else suite
            marks: Any = getattr(marked, "pytestmark", [])
            for mark in cast("list[Any]", marks if isinstance(marks, list) else [marks]):
                kind = mark.name
                assert kind not in ("skip", "skipif", "xfail"), f"{suite.__name__} has a {kind} on {name}"
        assert getattr(suite, "__test__", True), f"{suite.__name__} is not collected"
        for name in ("kills", "interrupts", "laws"):
            least: int = getattr(StoreSuite, name)
            assert getattr(suite, name) >= least, f"{suite.__name__} tries fewer {name} than {least}"
        assert suite.longest >= MAX_KEY_BYTES // 2, f"{suite.__name__} allows too short keys only"


def _fixed() -> list[str]:
    """The attributes of `StoreSuite` that no suite may change."""
    return [
        name
        for name in vars(StoreSuite)
        if name.startswith("test") or name in ("place", "store", "other", "_handle", "_effort")
    ]


# --- laws ---------------------------------------------------------------------------------------------

_LAW_KEYS = ("a", "b", "d/x", "d/y", "d.z", "d-z", "d0", "d/e/f", "é", "Ω%_", "B", "a\\b")
_PUTS = ("put", "stream", "file", "create", "swap", "stale", "setdefault")
_keys = st.sampled_from(_LAW_KEYS)
# A size stands for a blob of noise, which no failure is to print.
_values = st.one_of(st.binary(max_size=40), st.sampled_from((70_000, 200_000)))
_ends = st.one_of(st.none(), st.integers(-50, 50))
_prefixes = st.sampled_from(("", "d", "d/", "d.", "d/e", "x", "_", "%", "Ω%", "*", "a\\", "é"))
_steps = st.one_of(
    st.tuples(st.sampled_from(_PUTS), _keys, _values),
    st.tuples(
        st.sampled_from(("delete", "delete same", "delete stale", "pop", "get", "info", "modify")), _keys
    ),
    st.tuples(st.just("range"), _keys, st.integers(-50, 50), _ends),
    st.tuples(st.sampled_from(("copy", "move", "copy new")), _keys, _keys),
    st.tuples(st.sampled_from(("list", "children", "exclude", "glob")), _prefixes),
    st.tuples(st.just("put many"), st.dictionaries(_keys, _values, max_size=4)),
    st.tuples(st.sampled_from(("get many", "delete many")), st.lists(_keys, max_size=5)),
    st.tuples(st.sampled_from(("popitem", "clear", "reopen", "other"))),
)


def _outcome(store: Store, stale: dict[str, str], step: tuple[Any, ...]) -> object:
    """What a step gives or raises, in terms that two stores share."""
    try:
        return _shared(_take(store, stale, *step))
    except StoreError as error:
        return type(error), error.key


def _shared(value: object) -> object:
    if isinstance(value, Info):
        return value.key, value.size
    if isinstance(value, dict):
        return {key: _shared(each) for key, each in cast("dict[object, object]", value).items()}
    return value


def _take(store: Store, stale: dict[str, str], action: str, *rest: Any) -> object:
    key: Any = rest[0] if rest else ""
    rest = tuple(_noise(value) if action in _PUTS and isinstance(value, int) else value for value in rest[1:])

    def current() -> str:
        return store.info(key).etag if key in store else "none"

    if action in ("put", "stream", "file", "swap") and isinstance(key, str):
        stale.setdefault(key, current())
    match action:
        case "put":
            return store.put(key, rest[0])
        case "stream":
            return store.put(key, (rest[0][at : at + 1000] for at in range(0, len(rest[0]), 1000)))
        case "file":
            with store.open(key, "wb") as file:
                file.write(rest[0])
            return store.info(key)
        case "create":
            return store.put(key, rest[0], expect=ABSENT)
        case "swap":
            return store.put(key, rest[0], expect=current())
        case "stale":
            etag = stale.get(key, "none")
            # The bytes may be those of old again, and with them the ETag of a store that hashes.
            return store.put(key, rest[0], expect="stale" if etag == current() else etag)
        case "setdefault":
            return store.setdefault(key, rest[0])
        case "delete":
            return store.delete(key)
        case "delete same":
            return store.delete(key, expect=current())
        case "delete stale":
            return store.delete(key, expect="stale")
        case "pop":
            return store.pop(key)
        case "get":
            return store.get(key), key in store, b"".join(store.chunks(key, 7))
        case "info":
            return store.info(key)
        case "modify":
            return store.modify(key, lambda old: old[::-1] + b".", default=b"new")
        case "range":
            return store.get_range(key, *rest)
        case "copy":
            return store.copy(key, rest[0])
        case "copy new":
            return store.copy(key, rest[0], expect=ABSENT)
        case "move":
            return store.move(key, rest[0])
        case "list":
            return [_shared(info) for info in store.list(key)], list(store.iterate_keys(key))
        case "children":
            return [_child(child) for child in store.children(key)]
        case "exclude":
            return list(store.iterate_keys(exclude_prefix=key))
        case "glob":
            return list(store.iterate_keys(glob=key + "*"))
        case "put many":
            many = cast("dict[str, bytes | int]", key).items()
            return store.put_many(
                {key: _noise(data) if isinstance(data, int) else data for key, data in many}
            )
        case "get many":
            return store.get_many(key)
        case "delete many":
            return store.delete_many(key)
        case "popitem":
            return store.popitem()
        case "clear":
            return store.clear()
        case _:
            raise AssertionError(action)


def check_laws(
    make: Callable[[Path], Store],
    place: Path,
    *,
    fill: Callable[[Path], Store] | None = None,
    same_infos: bool = True,
    examples: int = 80,
    seed: int = 0,
) -> None:
    """Drive a store and a `MemoryStore` through the same steps, made up by hypothesis, on two handles that
    are closed and opened again, and compare what each step gives and what is there at the end.

    Args:
        make: Opens a store in a folder.
        place: An empty folder.
        fill: Opens, for a store that can't write, delete or list, one that can, as `StoreSuite.fill`.
        same_infos: As `StoreSuite.same_infos`.
        examples: How many sequences of steps.
        seed: Which ones: another number gives others, the same number the same.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_laws(lambda place: MemoryStore(name=str(place)), Path(folder), examples=3)
    """

    def open_one(folder: Path) -> Store:
        return _opened(make, fill or make, folder, same_infos)

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    @given(st.sets(_keys, min_size=3), st.lists(_steps, min_size=12, max_size=40))
    def check(first: set[str], steps: list[tuple[Any, ...]]) -> None:
        folder = Path(tempfile.mkdtemp(dir=place))
        handles = [open_one(folder), open_one(folder)]
        model = Limited(MemoryStore(), handles[0].can | Can.RANGE)
        stale: tuple[dict[str, str], dict[str, str]] = {}, {}
        try:
            for step in [("put many", {key: key.encode() * 9 for key in sorted(first)}), *steps]:
                if step[0] == "other":
                    handles.reverse()
                elif step[0] == "reopen":
                    # One handle stays open, for a medium that lives only as long as somebody holds it.
                    handles[0].close()
                    handles[0] = open_one(folder)
                else:
                    assert _outcome(handles[0], stale[0], step) == _outcome(model, stale[1], step), step
            for handle in handles:
                assert _contents(handle) == _contents(model)
                assert [_shared(info) for info in handle.list()] == [_shared(info) for info in model.list()]
        finally:
            for handle in handles:
                handle.close()

    check()


# --- stores that can't do all that the kit needs --------------------------------------------------------

_FILLING = Can.WRITE | Can.DELETE | Can.LIST
"""What the kit itself needs, to fill a store and to see what is in it."""

# Which flags each call needs. One that the store under test lacks, its helper has.
_NEEDED: Mapping[str, Can] = {
    **dict.fromkeys(
        _words("get __getitem__ __contains__ exists info get_range get_many chunks sign"), Can(0)
    ),
    **dict.fromkeys(_words("_read _info _digest"), Can(0)),
    **dict.fromkeys(_words("put __setitem__ setdefault update put_many copy modify _write"), Can.WRITE),
    **dict.fromkeys(_words("delete __delitem__ delete_many pop _delete"), Can.DELETE),
    **dict.fromkeys(_words("list iterate_keys children left_out __iter__ __len__ __bool__"), Can.LIST),
    **dict.fromkeys(_words("_scan _survey"), Can.LIST),
    **dict.fromkeys(_words("keys values items"), Can.LIST),
    "move": Can.WRITE | Can.DELETE,
    **dict.fromkeys(_words("popitem clear"), Can.DELETE | Can.LIST),
}


class _Helped(Store):
    """A store under test that can't write, delete or list, with a helper over the same blobs that can: each
    call is made on the store, if it can do it, else on the helper.

    What the helper puts is thus read through the store, and every test is run on a store of any kind.

    Args:
        tested: The store under test.
        helper: A handle that can write, delete and list.
        same_infos: Whether what the helper tells of a blob is what the store tells of it.
    """

    def __init__(self, tested: Store, helper: Store, same_infos: bool = True) -> None:
        lacking = _FILLING & ~tested.can
        assert lacking in helper.can, f"fill gives a store that can't {lacking & ~helper.can}"
        self._tested, self._helper, self._same_infos = tested, helper, same_infos
        self.inline = tested.inline and helper.inline
        self.can = tested.can | lacking
        if Can.WRITE in lacking:
            # What is kept with a blob is read too; who may replace which version is the helper's affair.
            self.can |= helper.can & (Can.EXPIRE | Can.ATTRIBUTES)
        self._acting = Limited(helper, self.can | Can.RANGE)

    def _settings(self) -> dict[str, object]:
        return {"tested": self._tested, "helper": self._helper, "same_infos": self._same_infos}

    def _routed(self, name: str, *arguments: Any, **options: Any) -> Any:
        needed = _NEEDED[name]
        if needed in self._tested.can:
            return getattr(self._tested, name)(*arguments, **options)
        if needed is Can.LIST and name in ("keys", "values", "items"):
            # The view lists through the helper, and looks and reads through the store.
            return getattr(super(), name)()
        if self._same_infos or name.startswith("_") or needed is Can.LIST:
            return getattr(self._acting, name)(*arguments, **options)
        with _telling:
            return self._told(getattr(self._acting, name)(*arguments, **options))

    def _told(self, written: Any) -> Any:
        """What the store under test tells of what was written."""
        if isinstance(written, Info):
            return self._tested.info(written.key)
        if isinstance(written, dict):
            return {key: self._told(info) for key, info in cast("dict[str, Info]", written).items()}
        return written

    def open(self, key: str, mode: str = "rb", **options: Any) -> Any:
        writes = isinstance(mode, str) and not {"w", "x"}.isdisjoint(mode)  # pyright: ignore[reportUnnecessaryIsInstance]
        store = self._acting if writes and Can.WRITE not in self._tested.can else self._tested
        return store.open(key, mode, **options)

    def close(self) -> None:
        try:
            self._tested.close()
        finally:
            self._helper.close()

    def __enter__(self) -> _Helped:
        assert self._tested.__enter__() is self._tested
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._tested.__exit__(*error)
        finally:
            self._helper.close()

    def __repr__(self) -> str:
        return repr(self._tested)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._tested, name)


def _route(name: str) -> Callable[..., Any]:
    def call(self: _Helped, *arguments: Any, **options: Any) -> Any:
        return self._routed(name, *arguments, **options)

    return call


for _name in _NEEDED:
    setattr(_Helped, _name, _route(_name))

_telling = threading.RLock()
"""Held from a write by the helper until the store under test has told of it."""


def _tested(store: Store) -> Store:
    """The store under test itself, where it has a helper."""
    return store._tested if isinstance(store, _Helped) else store


def _opened(
    make: Callable[[Path], Store], fill: Callable[[Path], Store], place: Path, same_infos: bool = True
) -> Store:
    """A handle on which every call can be made that the kit needs."""
    store = make(place)
    return store if _FILLING in store.can else _Helped(store, fill(place), same_infos)


# --- other processes ----------------------------------------------------------------------------------

Say = Callable[[object], None]


class _Order(NamedTuple):
    """What the other interpreter is asked to do."""

    role: str
    store: bytes
    modules: list[str]
    seeds: list[int]
    journals: list[str]
    kill: float | None
    """Seconds after which the workers are killed; None waits for them."""
    opened: bool
    """Whether these seconds begin once a worker has said something, or when it is made."""
    wait: bool
    """Whether to answer when the workers have ended, or as soon as they run."""
    paths: list[str]
    environment: dict[str, str]
    folder: str


class _Interpreter:
    """A single-threaded interpreter that forks workers: one for all tests of this process, since it takes
    longer to start than most of what it is asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            paths = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from holdall import testing; testing._serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": paths},
            )
        return self._process

    def ask(self, order: _Order) -> list[int]:
        """Have an order carried out; returns what each worker ended with."""
        process = self._started()
        source, sink = process.stdin, process.stdout
        assert source is not None
        assert sink is not None
        timer = threading.Timer(_DEADLINE + 10, process.kill)
        timer.start()
        try:
            pickle.dump(order, source)
            source.flush()
            return pickle.load(sink)
        except (EOFError, BrokenPipeError):
            self.end()
            raise AssertionError(f"the workers that {order.role} hang or died") from None
        finally:
            timer.cancel()
            timer.join()

    def end(self) -> None:
        """End the interpreter and free its pipes."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()


_interpreter = _Interpreter()
atexit.register(_interpreter.end)


class _Workers:
    """Workers in processes of their own, each with a store out of a pickle, which are killed when told to."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._pickled, self._modules = pickle.dumps(store), [type(_tested(store)).__module__]
        self._folder = folder
        self._count = 0

    def warm(self) -> None:
        """Import what a worker imports before it writes, so that each begins sooner."""
        own, self._modules = self._modules, self.run("warm", [0])[0][0]
        self.run("warm", [])
        self._modules = own

    def run(
        self,
        role: str,
        seeds: Iterable[int],
        *,
        kill: float | None = None,
        opened: bool = True,
        wait: bool = True,
        folder: Path | None = None,
    ) -> list[list[Any]]:
        """Run a worker for each seed, in a folder; returns what each said."""
        journals: list[str] = []
        for _ in (seeds := list(seeds)):
            self._count += 1
            journals.append(str(self._folder / f"journal-{self._count}"))
        order = _Order(
            role,
            self._pickled,
            self._modules,
            seeds,
            journals,
            kill,
            opened,
            wait,
            paths=sys.path[:],
            environment=dict(os.environ),
            folder=str(folder or os.getcwd()),
        )
        codes = _interpreter.ask(order)
        if not wait:
            return []
        expected = 0 if kill is None else -signal.SIGKILL
        assert codes == [expected] * len(seeds), f"the workers that {role} ended with {codes}"
        said: list[list[Any]] = []
        for journal in journals:
            with open(journal, "a+") as file:
                file.seek(0)
                said.append([json.loads(line) for line in file])
            os.unlink(journal)
        return said


def _serve() -> None:  # pyright: ignore[reportUnusedFunction] - the other interpreter calls it
    # Workers that nobody waits for are reaped by the kernel only if this process asks it to; those that
    # somebody waits for must stay until then. So: look for ended ones between two orders.
    while True:
        try:
            order = cast(_Order, pickle.load(sys.stdin.buffer))
        except EOFError:
            return
        pickle.dump(_carry_out(order), sys.stdout.buffer)
        sys.stdout.buffer.flush()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _carry_out(order: _Order) -> list[int]:
    sys.path[:] = order.paths
    for module in order.modules:
        if module not in sys.modules:
            # Not every name in sys.modules can be imported: some packages put others there. Nothing is lost
            # by one that fails: a worker that needs it imports it, and reports.
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    start, go = os.pipe()
    workers = [
        _fork(functools.partial(_work, order, seed, journal, start, go))
        for seed, journal in zip(order.seeds, order.journals, strict=True)
    ]
    os.close(start)
    os.close(go)
    if order.kill is not None:
        if order.opened:
            _until(lambda: all(os.path.exists(path) and os.path.getsize(path) for path in order.journals))
        time.sleep(order.kill)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
    return [_ended(worker) for worker in workers] if order.wait else []


def _fork(work: Callable[[], None]) -> int:
    worker = os.fork()
    if worker:
        return worker
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _work(order: _Order, seed: int, journal: str, start: int, go: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)  # the pipes are the interpreter's own: its end must be seen at their other ends
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.folder)
    # What was written to a file outlives a kill, so that no more than the last word is lost.
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = cast(Store, pickle.loads(order.store))
    os.close(go)
    os.read(start, 1)
    _ROLES[order.role](store, seed, lambda word: _append(file, word))
    store.close()


def _append(file: int, word: object) -> None:
    os.write(file, json.dumps(word).encode() + b"\n")


def _ended(worker: int) -> int:
    deadline = time.monotonic() + _DEADLINE
    while True:
        done, status = os.waitpid(worker, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            return 99
        time.sleep(0.001)


def _write_for_ever(store: Store, seed: int, say: Say) -> None:
    """Write in every way there is; say before each what keys are to hold, and after it that it is done."""
    rng = random.Random(seed)
    small = [f"small/{number}" for number in range(8)]

    def value(limit: int) -> bytes:
        return rng.randbytes(rng.randrange(limit))

    while True:
        key, data = rng.choice(small), value(20_000)
        match rng.randrange(9):
            case 0 | 1:
                say({key: _digest(data)})
                store.put(key, data)
            case 2:
                key, data = rng.choice(("large/0", "large/1")), value(3 * _MIB)
                say({key: _digest(data)})
                store.put(key, (data[at : at + 300_000] for at in range(0, len(data), 300_000)))
            case 3:
                many = {key: value(3000) for key in rng.sample(small, 4)} | {f"many/{seed % 5}": data}
                say({key: _digest(each) for key, each in many.items()})
                store.put_many(many)
            case 4:
                say({key: None})
                store.delete(key)
            case 5:
                say({key: _digest(data)})
                with store.open(key, "wb") as file:
                    file.write(data[:100])
                    file.write(data[100:])
            case 6:
                target = rng.choice([other for other in small if other != key])
                held = store.get(key)
                if held is None:
                    continue
                say({target: _digest(held), key: None})
                store.move(key, target)
            case 7:
                target = rng.choice(small)
                held = store.get(key)
                if held is None:
                    continue
                say({target: _digest(held)})
                store.copy(key, target)
            case _:
                gone = rng.sample(small, 2)
                say(dict.fromkeys(gone))
                store.delete_many(gone)
        say("done")


def _write_until_interrupted(store: Store, seed: int) -> list[Any]:
    """Write, and interrupt the last put where its body is read; returns what a writer would say."""
    rng = random.Random(seed)
    words: list[Any] = []
    for _ in range(2):
        key, data = f"small/{rng.randrange(8)}", rng.randbytes(rng.randrange(20_000))
        words.append({key: _digest(data)})
        store.put(key, data)
        words.append("done")
    key, data = f"small/{rng.randrange(8)}", rng.randbytes(20_000)
    words.append({key: _digest(data)})
    with pytest.raises(KeyboardInterrupt):
        store.put(key, chain((data[:9000], data[9000:]), _interrupting()))
    return words


def _interrupting() -> Iterator[bytes]:
    raise KeyboardInterrupt
    yield b""  # makes it an iterator


def _warm_up(store: Store, seed: int, say: Say) -> None:
    store.put_many({f"warm/{number}": b"%d" % number for number in range(3)})
    with store.open("warm/3", "wb") as file:
        file.write(b"3")
    store.copy("warm/3", "warm/4")
    store.delete_many(key for key, _ in list(store.items()) if key.startswith("warm/"))
    say(list(sys.modules))


def _count_up(store: Store, seed: int, say: Say) -> None:
    for _ in range(15):
        store.modify("count", lambda old: b"%d" % (int(old) + 1), default=b"0")
    say(seed)


def _create_all(store: Store, seed: int, say: Say) -> None:
    for number in range(15):
        with contextlib.suppress(BlobExistsError):
            store.put(f"create/{number}", b"%d" % seed, expect=ABSENT)
            say(number)


def _pop_all(store: Store, seed: int, say: Say) -> None:
    for number in range(15):
        if store.pop(f"pop/{number}", None) is not None:
            say(number)


def _look(store: Store, seed: int, say: Say) -> None:
    say({key: _digest(data) for key, data in store.items()})
    store.put("seen", b"%d" % seed)


def _go_through_forks(store: Store, seed: int, say: Say) -> None:
    store["before"] = b"1"
    child = _fork(lambda: _use(store, "child", say))
    _use(store, "parent", say)
    assert _ended(child) == 0, "the forked child failed"
    assert store["child/29"] == b"29"


def _answer(store: Store, seed: int, say: Say) -> None:
    """Get through as often as the test asks for it, and answer whether that worked."""
    with open("asked") as asked, open("answers", "w") as answers:
        for line in asked:
            answer = ""
            try:
                _get_through(store, bytes.fromhex(line))
            except Exception:  # noqa: BLE001 - the test raises it
                answer = traceback.format_exc()
            print(json.dumps(answer), file=answers, flush=True)


def _get_through(store: Store, alive: bytes) -> None:
    """See what another handle acknowledged last, and write: both must work whatever happened to it."""
    assert store.get("alive") == alive, "what was acknowledged after an interrupt isn't there"
    etag = store.put("other", alive).etag
    if Can.SWAP in store.can:
        store.put("other", alive + b"!", expect=etag)
    store.delete("other")


class _Witness:
    """Somebody else with a handle of its own on the same blobs, who must get through whenever it is asked to:
    a process, or a thread where the store lives in this process only."""

    def __init__(self, store: Store, other: Store, folder: Path, persistent: bool) -> None:
        self._other = other
        self._pipes: tuple[int, int] | None = None
        if not persistent:
            return
        for name in ("asked", "answers"):
            os.mkfifo(folder / name)
        # Opened for both, an end waits for nobody.
        self._pipes = os.open(folder / "asked", os.O_RDWR), os.open(folder / "answers", os.O_RDWR)
        _Workers(store, folder).run("answer", [0], wait=False, folder=folder)

    def get_through(self, alive: bytes) -> None:
        """Fail unless the witness sees what was acknowledged last, and can write."""
        if self._pipes is None:
            _within(functools.partial(_get_through, self._other, alive))
            return
        asked, answers = self._pipes
        os.write(asked, alive.hex().encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            assert select.select([answers], [], [], _DEADLINE)[0], "another process can't get through"
            answer += os.read(answers, 1 << 16)
        assert not json.loads(answer), f"another process failed:\n{json.loads(answer)}"

    def __enter__(self) -> _Witness:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes or ():
            os.close(pipe)


def _use(store: Store, name: str, say: Say) -> None:
    assert store["before"] == b"1"
    for number in range(30):
        store[f"{name}/{number}"] = b"%d" % number
    assert len(list(store.list(f"{name}/"))) == 30
    say(name)


_ROLES: Mapping[str, Callable[[Store, int, Say], None]] = {
    "warm": _warm_up,
    "write": _write_for_ever,
    "count": _count_up,
    "create": _create_all,
    "pop": _pop_all,
    "look": _look,
    "fork": _go_through_forks,
    "answer": _answer,
}

# --- interrupts ---------------------------------------------------------------------------------------


class _Enough(Exception):
    """Raised by `say` to end a writer that would write for ever."""


class _Interrupts:
    """Raises KeyboardInterrupt in this thread, as Ctrl-C does, at moments within the length of some calls."""

    def __init__(self) -> None:
        self._length = 0.0
        self._raised = self._ignored = 0
        self._armed = False

    def __enter__(self) -> _Interrupts:
        assert threading.current_thread() is threading.main_thread(), (
            "interrupts come to the main thread only"
        )
        self._handler = signal.signal(signal.SIGALRM, self._raise)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._ignore
        # A file that is opened and interrupted before its `with` begins is dropped unclosed, and says so.
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore", ResourceWarning)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGALRM, self._handler)
        gc.collect()
        self._warnings.__exit__(None, None, None)
        sys.unraisablehook = self._hook

    def _raise(self, *_: object) -> None:
        # Where another thread gets the signal, Python calls this some time after the timer was stopped.
        if self._armed:
            self._raised += 1
            raise KeyboardInterrupt

    def _ignore(self, unraisable: Any) -> None:
        # In a finalizer Python itself drops every exception; no library can do anything about it. Nor about a
        # finalizer of the standard library that fails since its constructor was interrupted.
        module = str(getattr(unraisable.object, "__module__", "")).partition(".")[0]
        if unraisable.exc_type is KeyboardInterrupt:
            self._ignored += 1
        elif module not in sys.stdlib_module_names:
            self._hook(unraisable)

    def during(self, write: Callable[[Say], None], moment: float) -> list[Any]:
        """Interrupt a writer; returns what it said until then.

        Args:
            write: Writes for ever, and says what; as `_write_for_ever`.
            moment: When, from 0 to 1.
        """
        words: list[Any] = []
        if not self._length:
            self._length = self._measure(write, words)
        ended = 0

        def say(word: object) -> None:
            nonlocal ended
            words.append(word)
            if self._raised:
                # It was raised, and the writer goes on: it may only have been in a finalizer.
                ended += 1
                if ended > 4:
                    assert self._ignored, "a KeyboardInterrupt was swallowed"
                    raise _Enough

        self._raised = self._ignored = 0
        with contextlib.suppress(KeyboardInterrupt, _Enough):
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, max(1e-5, moment * self._length))
                write(say)
            finally:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        return words

    def _measure(self, write: Callable[[Say], None], words: list[Any]) -> float:
        """The seconds that a few calls take."""

        def say(word: object) -> None:
            words.append(word)
            if len(words) > 40:
                raise _Enough

        start = time.perf_counter()
        with contextlib.suppress(_Enough):
            write(say)
        return (time.perf_counter() - start) / 10


def _settle(
    store: Store, known: dict[str, str | None], pending: dict[str, str | None], late: dict[str, str | None]
) -> None:
    """Check the blobs that were under way, and make what happened to them known. `_check_after_kill` looks at
    all blobs."""
    for key, digest in pending.items():
        data = store.get(key)
        found = data if data is None else _digest(data)
        assert found in (known.get(key), digest, late.get(key)), (
            f"{key!r} is neither the old nor the new blob"
        )
        late.pop(key, None)
        known[key] = found
        if found != digest:
            late[key] = digest


# --- the suite ----------------------------------------------------------------------------------------


class StoreSuite:
    """The whole test of a store: subclass it, name the class `Test...`, and define `make`.

    No test may be overridden: a class that tries isn't made. A store that can't write, delete or list is
    filled by `fill`.

    >>> class TestStore(StoreSuite):
    ...     persistent = False
    ...     def make(self, place):
    ...         return MemoryStore(name=str(place))
    """

    persistent: ClassVar[bool] = True
    """Whether another process sees the blobs."""

    kills: ClassVar[int] = 200
    """How many writing processes are killed, of a store that is persistent."""

    interrupts: ClassVar[int] = 500
    """How many times a writer is interrupted, as Ctrl-C does it."""

    interruptible: ClassVar[bool] = True
    """Whether an interrupt may come at any moment of a call. Where it may not, since a driver of others below
    the store swallows it, it comes where a body is read."""

    keeps_what_is_read: ClassVar[bool] = False
    """Whether a read may make files, as a cache does."""

    laws: ClassVar[int] = 80
    """How many sequences of steps the store and its model are driven through."""

    reduced: ClassVar[bool] = False
    """Whether the store keeps nothing of its own, as a layer over stores that have suites of their own: fewer
    writers are killed then, and fewer sequences of steps are tried, unless the environment variable
    `HOLDALL_KIT` is `full`. Where it is `quick`, every suite is reduced further, for a first look."""

    longest: ClassVar[int] = MAX_KEY_BYTES
    """The longest key in UTF-8 bytes: a layer that makes keys longer below leaves less room."""

    expires: ClassVar[bool] = False
    """Whether a blob that is put without a ttl expires all the same, which its info then tells."""

    same_infos: ClassVar[bool] = True
    """Whether the store tells of a blob what `fill` tells of it, its ETag and times too. Of a store that
    can't write and has ETags of its own, each blob is asked for there once it is written."""

    def make(self, place: Path) -> Store:
        """Return a new handle on the store in this folder, which is empty at first and only for this test;
        every call with the same folder returns a handle on the same blobs."""
        raise NotImplementedError

    def fill(self, place: Path) -> Store:
        """Another handle on the same blobs that can write, delete and list; by default one that `make` gives.

        A store that can't do one of the three is tested with its help: `store` and `other` are then the
        store under test for every call that it can do, and this handle for the rest. What is put here is
        read there, and each call that the store lacks is tested to be refused, with nothing changed.
        """
        return self.make(place)

    def _effort(self, full: int, reduced: int, quick: int) -> int:
        """How often to try what is a matter of chance."""
        match os.environ.get("HOLDALL_KIT"):
            case "full":
                return full
            case "quick":
                return min(full, quick)
            case _:
                return min(full, reduced) if self.reduced else full

    def _handle(self, place: Path) -> Store:
        return _opened(self.make, self.fill, place, self.same_infos)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        changed = [name for name in _fixed() if getattr_static(cls, name) is not vars(StoreSuite)[name]]
        if changed:
            raise TypeError(f"{cls.__name__} overrides {', '.join(changed)}; a suite is run whole")

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Path]:
        """The folder that `make` is given."""
        place = tmp_path / "place"
        place.mkdir()
        named = set(memory.named)
        yield place
        # A store in memory that has a name stays as long as its process.
        for name in set(memory.named) - named:
            del memory.named[name]

    @pytest.fixture
    def store(self, place: Path) -> Iterator[Store]:
        """A handle on an empty store, helped by `fill` where it can't write, delete or list."""
        with contextlib.closing(self._handle(place)) as store:
            yield store

    @pytest.fixture
    def other(self, place: Path, store: Store) -> Iterator[Store]:
        """A second handle on the same store."""
        with contextlib.closing(self._handle(place)) as other:
            yield other

    def test_the_suite_is_whole(self) -> None:
        assert_whole(type(self))

    # --- a mapping ---

    def test_a_new_store_is_empty(self, store: Store) -> None:
        assert not store
        assert len(store) == 0
        assert list(store) == list(store.list()) == list(store.children()) == []

    def test_it_works_as_a_dict(self, store: Store, other: Store) -> None:
        store["b"] = b"2"
        store["a"] = b"1"
        store.update({"c": b"3"}, d=b"4")
        store.update([("e", b"5")])
        assert store["a"] == b"1"
        assert type(store["a"]) is bytes
        assert ("a" in store, "z" in store, store.exists("a"), store.exists("z")) == (
            True,
            False,
            True,
            False,
        )
        assert (len(store), bool(store)) == (5, True)
        assert list(store) == list(store.keys()) == ["a", "b", "c", "d", "e"]
        assert list(store.values()) == [b"1", b"2", b"3", b"4", b"5"]
        assert list(store.items()) == list(zip("abcde", store.values(), strict=True))
        assert "a" in store.keys()  # noqa: SIM118 - the view is what is tested
        assert "z" not in store.keys()  # noqa: SIM118
        assert b"5" in store.values()
        assert b"6" not in store.values()
        assert ("a", b"1") in store.items()
        assert ("a", b"2") not in store.items()
        assert (len(store.keys()), len(store.values()), len(store.items())) == (5, 5, 5)
        assert _contents(other) == _contents(store)
        del store["a"]
        assert "a" not in other
        assert other.pop("b") == b"2"
        assert other.setdefault("c", b"x") == b"3"
        assert other.setdefault("new", b"x") == b"x"
        assert other.setdefault("empty") == b""
        assert other.popitem() == ("c", b"3")
        assert _contents(store) == {"d": b"4", "e": b"5", "empty": b"", "new": b"x"}
        store.clear()
        assert not other
        assert _contents(store) == {}

    def test_every_read_sees_the_last_write(self, store: Store, other: Store) -> None:
        def check(handle: Store, data: bytes | None) -> None:
            there = [] if data is None else [data]
            assert handle.get("d/key") == data
            assert list(handle.get_many(["d/key"]).values()) == list(handle.values()) == there
            assert ("d/key" in handle, len(handle), bool(handle)) == (bool(there), len(there), bool(there))
            assert [info.size for info in handle.list()] == [len(each) for each in there]
            assert [_child(child) for child in handle.children("d/")] == ["d/key"] * len(there)
            for read in (
                lambda: handle["d/key"],
                lambda: handle.get_range("d/key", 0),
                lambda: b"".join(handle.chunks("d/key")),
                lambda: _file_of(handle, "d/key"),
                lambda: _read_whole(handle, "d/key")[1],
            ):
                if data is None:
                    with pytest.raises(BlobNotFoundError):
                        read()
                else:
                    assert read() == data
            if data is not None:
                assert handle.info("d/key") == _read_whole(handle, "d/key")[0]

        # Each value is read before it changes, of one size and then of another, gone and there again.
        for number, data in enumerate((b"1", b"2", b"3", None, b"4", b"5555", b"", b"6", None, None, b"7")):
            for writer in (store, other):
                if data is None:
                    assert writer.delete("d/key") is (writer is store and number != 9)
                else:
                    writer["d/key"] = data
                for handle in (other, store, other):
                    check(handle, data)

    def test_it_equals_only_itself(self, store: Store, other: Store) -> None:
        store["a"] = b"1"
        assert store == store
        assert store != other
        assert store != {"a": b"1"}
        assert len({store, other, store}) == 2
        assert _tested(store) == _tested(store)
        assert _tested(store) != _tested(other)

    def test_an_absent_key(self, store: Store) -> None:
        store["there"] = b""
        marker = object()
        assert store.get("absent") is None
        assert store.get("absent", marker) is marker
        assert store.get("absent", b"x") == b"x"
        assert store.pop("absent", marker) is marker
        assert store.pop("absent", b"x") == b"x"
        assert store.delete("absent") is False
        assert store.delete("there") is True
        assert store.delete("there") is False
        assert store.get_many(["absent", "there"]) == {}
        assert store.delete_many(["absent", "there"]) == 0
        assert store.exists("absent") is False
        calls: list[Callable[[], object]] = [
            lambda: store["absent"],
            lambda: store.__delitem__("absent"),
            lambda: store.pop("absent"),
            lambda: store.get_range("absent", 0),
            lambda: store.get_range("absent", -5, 1),
            lambda: store.info("absent"),
            lambda: store.open("absent"),
            lambda: store.open("absent", "r"),
            lambda: store.chunks("absent"),
            lambda: store.copy("absent", "target"),
            lambda: store.copy("absent", "absent"),
            lambda: store.move("absent", "target"),
            lambda: store.move("absent", "absent"),
        ]
        for call in calls:
            with pytest.raises(BlobNotFoundError) as caught:
                call()
            assert isinstance(caught.value, KeyError)
            assert isinstance(caught.value, FileNotFoundError)
            assert caught.value.key == "absent"
            assert "'absent'" in str(caught.value)
        with pytest.raises(BlobNotFoundError):
            store.popitem()
        assert list(store) == []

    @needs(Can.SWAP)
    def test_modify_of_an_absent_key(self, store: Store) -> None:
        with pytest.raises(BlobNotFoundError) as caught:
            store.modify("absent", lambda old: old + b"x")
        assert caught.value.key == "absent"
        assert "absent" not in store

    def test_an_empty_value_is_a_value(self, store: Store, other: Store) -> None:
        for empty in (b"", bytearray(), [], _one_shot(), io.BytesIO(), [b"", b""]):
            info = store.put("empty", empty)
            assert info.size == 0
            assert other["empty"] == b""
            assert other.get("empty", b"default") == b""
            assert "empty" in other
            assert other.info("empty") == info
            assert list(other.chunks("empty")) == []
            assert other.get_range("empty", 0) == other.get_range("empty", 3, 9) == b""
            assert other.setdefault("empty", b"x") == b""
            assert other.get_many(["empty"]) == {"empty": b""}
            with other.open("empty") as file:
                assert file.read() == b""
            assert other.pop("empty", b"default") == b""

    def test_listing_and_looking_read_no_values(self, store: Store) -> None:
        store.put_many({"a": b"1", "b/c": b"2", "b/d": b"3"})

        def tripwire(key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            raise AssertionError("a call read a value that nobody asked for")

        tested = _tested(store)
        tested._read = tripwire
        try:
            assert (len(store), bool(store), list(store)) == (3, True, ["a", "b/c", "b/d"])
            assert "a" in store
            assert "z" not in store
            assert store.exists("a")
            assert store.info("a").size == 1
            assert [info.size for info in store.list()] == [1, 1, 1]
            assert [_child(child) for child in store.children()] == ["a", "b/"]
            assert "a" in store.keys()  # noqa: SIM118
            assert store.delete("a")
            assert store.delete_many(["b/c"]) == 1
            store.clear()
        finally:
            del tested._read
        assert not store

    # --- what is put ---

    def test_every_kind_of_data(self, store: Store, other: Store) -> None:
        numbers = array.array("i", range(100))
        table = memoryview(bytes(range(24))).cast("B", (4, 6))
        with tempfile.TemporaryFile() as file:
            file.write(b"skipped, stored")
            file.seek(9)
            kinds: list[tuple[Any, bytes]] = [
                (b"bytes", b"bytes"),
                (bytearray(b"bytearray"), b"bytearray"),
                (memoryview(b"view"), b"view"),
                (memoryview(b"0123456789")[::2], b"02468"),
                (memoryview(b"0123456789")[::-1], b"9876543210"),
                (memoryview(bytearray(b"0123456789"))[2:5], b"234"),
                (numbers, numbers.tobytes()),
                (memoryview(numbers), numbers.tobytes()),
                (memoryview(numbers)[::3], numbers[::3].tobytes()),
                (table, bytes(range(24))),
                (array.array("d"), b""),
                (io.BytesIO(b"a file"), b"a file"),
                (file, b"stored"),
                (_one_shot(b"one", b"", b"two"), b"onetwo"),
                ([b"a", bytearray(b"b"), memoryview(b"c"), numbers], b"abc" + numbers.tobytes()),
                ((b"tu", b"ple"), b"tuple"),
                (map(bytes, [[1], [2]]), b"\x01\x02"),
                (iter([memoryview(b"0123456789")[::3]]), b"0369"),
            ]
            for number, (data, expected) in enumerate(kinds):
                info = store.put(f"kind/{number}", data)
                assert info.size == len(expected)
                assert other[f"kind/{number}"] == expected
                assert other.info(f"kind/{number}") == info
        assert store.put_many((f"kind/{number}", kinds[number][0]) for number in range(11)).keys() == {
            f"kind/{number}" for number in range(11)
        }
        for number in range(11):
            assert other[f"kind/{number}"] == kinds[number][1]

    def test_a_large_blob(self, store: Store, other: Store) -> None:
        data = _noise(20 * _MIB)
        assert store.put("large", data).size == len(data)
        assert other["large"] == data
        other.put("large", io.BytesIO(data[1:]))
        assert store["large"] == data[1:]
        other.put("large", (data[at : at + 1_234_567] for at in range(0, len(data), 1_234_567)))
        assert _digest(store["large"]) == _digest(data)
        other.put("large", iter([data]))
        assert _digest(store["large"]) == _digest(data)

    def test_sizes_around_the_limits_of_a_medium(self, store: Store, other: Store) -> None:
        sizes = {
            base + by
            for power in (8, 10, 12, 14, 16, 17, 18, 20, 21)
            for base in (1 << power,)
            for by in (-1, 0, 1)
        }
        for size in sorted({0, 1, 2, *sizes}):
            data = _noise(size)
            store.put(f"size/{size}", data)
            assert other[f"size/{size}"] == data
            other.put(f"size/{size}", (data[at : at + 65_537] for at in range(0, size, 65_537)))
            assert store[f"size/{size}"] == data
            assert store.info(f"size/{size}").size == size
        store["one"] = b""
        for size in (1 << 20, 10, 1 << 16, 0, 3 << 20, 1):
            store["one"] = _noise(size)
            assert other["one"] == _noise(size)

    def test_the_callers_buffer_is_copied(self, store: Store) -> None:
        buffer, large = bytearray(b"before"), bytearray(_noise(3 * _MIB))
        kept = bytes(large)
        store.put("buffer", buffer)
        store.put("view", memoryview(buffer))
        store.put("list", [buffer])
        store.put("pieces", iter([buffer, memoryview(buffer)]))
        store.put("large", large)
        store.put_many({"many": buffer})
        assert store.setdefault("default", buffer) == b"before"
        with store.open("file", "wb") as file:
            file.write(buffer)
            buffer[:] = b"during"
        buffer[:] = b"later!"
        large[:] = bytes(len(large))
        for key in ("buffer", "view", "list", "many", "default", "file"):
            assert store[key] == b"before", key
        assert store["pieces"] == b"beforebefore"
        assert store["large"] == kept

    def test_a_buffer_that_is_used_again_for_each_piece(self, store: Store) -> None:
        def pieces() -> Iterator[memoryview]:
            buffer = bytearray(100_000)
            for number in range(30):
                buffer[:] = bytes([number]) * len(buffer)
                yield memoryview(buffer)[: 100_000 - number]

        store.put("reused", pieces())
        expected = b"".join(bytes([number]) * (100_000 - number) for number in range(30))
        assert _digest(store["reused"]) == _digest(expected)

    def test_what_is_no_bytes_is_refused(self, store: Store, place: Path) -> None:
        wrong: Any = store
        store["key"] = b"before"
        text = place.parent / "text"
        text.write_text("text")
        with text.open() as file:
            kinds: list[Callable[[], Any]] = [
                *(
                    lambda data=data: data
                    for data in ("text", {"a": b"1"}, 1, 1.5, None, True, object(), file)
                ),
                *(
                    lambda data=data: data
                    for data in ([b"good", "text"], [1, 2], [None], [[b"nested"]], [b"", 0])
                ),
                lambda: io.StringIO("text"),
                lambda: iter(["text"]),
                lambda: _one_shot(b"good", "text"),
                lambda: _one_shot(_noise(9 * _MIB), "text"),
            ]
            for kind in kinds:
                for call, key in (
                    *((wrong.put, key) for key in ("key", "absent")),
                    *((wrong.__setitem__, key) for key in ("key", "absent")),
                    (wrong.setdefault, "absent"),
                ):
                    with pytest.raises(InvalidDataError):
                        call(key, kind())
                    assert _contents(store) == {"key": b"before"}

    def test_a_body_that_fails_leaves_the_old_blob(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        info = store.info("key")
        for pieces in ([], [b"new"], [b"new"] * 10, [_noise(200_000)] * 3, [_noise(_MIB)] * 10):
            for key in ("key", "absent", "a/b/absent"):
                with pytest.raises(_BodyError):
                    store.put(key, _failing(*pieces))
                with pytest.raises(StoreUnavailableError):
                    store.put(key, _failing(*pieces, error=StoreUnavailableError("a layer above")))
                assert other.info("key") == info
                assert _contents(other) == {"key": b"before"}
                assert [_child(child) for child in other.children()] == ["key"]
        with pytest.raises(_BodyError):
            store.put_many({"key": _failing(b"new")})
        assert other["key"] == b"before"
        store["key"] = b"after"
        assert other["key"] == b"after"

    def test_a_body_may_use_the_store(self, store: Store) -> None:
        store["source"] = _noise(3 * _MIB)

        def body() -> Iterator[bytes]:
            for chunk in store.chunks("source", 500_000):
                assert store["source"][:10] == chunk[:0] + _noise(3 * _MIB)[:10]
                yield chunk

        _within(lambda: store.put("target", body()))
        assert store["target"] == store["source"]
        _within(lambda: store.put("source", store.chunks("source")))
        assert store["source"] == store["target"]

    def test_info_tells_what_was_written(self, store: Store, other: Store) -> None:
        begun = datetime.now(UTC)
        put = store.put("key", b"four")
        assert (put.key, put.size, put.content_type) == ("key", 4, None)
        assert (put.expires is not None) is self.expires
        assert isinstance(put.etag, str)
        assert put.etag
        assert put.modified.utcoffset() == timedelta(0)
        assert abs(put.modified - begun) < timedelta(seconds=30)
        assert store.info("key") == other.info("key") == put
        assert list(store.list()) == list(other.list()) == [put]
        assert list(store.children()) == [put]
        assert _read_whole(other, "key") == (put, b"four")
        with store.open("file", "wb") as file:
            file.write(b"content")
        assert store.info("file").size == 7
        assert store.put_many({"many": b"12345"}) == {"many": other.info("many")}
        assert store.copy("key", "copied") == other.info("copied")
        assert store.move("key", "moved") == other.info("moved")

    # --- ranges, chunks, files ---

    def test_ranges_are_slices(self, store: Store) -> None:
        blobs = {"ten": b"0123456789", "one": b"x", "none": b"", "large": _noise(2 * _MIB + 77)}
        store.put_many(blobs)

        @settings(max_examples=150, derandomize=True, deadline=None, database=None)
        @given(
            st.sampled_from(sorted(blobs)),
            st.one_of(st.integers(-12, 12), st.integers(-3 * _MIB, 3 * _MIB)),
            st.one_of(st.none(), st.integers(-12, 12), st.integers(-3 * _MIB, 3 * _MIB), st.just(1 << 70)),
        )
        def check(key: str, start: int, stop: int | None) -> None:
            assert store.get_range(key, start, stop) == blobs[key][start:stop]

        check()
        assert store.get_range("ten", 1 << 70) == b""
        assert store.get_range("ten", 3) == b"3456789"
        assert store.get_range("ten", 7, 3) == b""
        assert store.get_range("ten", -10, -1) == b"012345678"

    def test_wrong_ranges(self, store: Store) -> None:
        wrong: Any = store
        store["key"] = b"0123456789"
        for ends in (
            ("1",),
            (1.0,),
            (0, "2"),
            (0, 2.5),
            (b"1",),
            (None,),
            (True,),
            (0, False),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                wrong.get_range("key", *ends)
            assert isinstance(caught.value, TypeError)
        assert store.get_range("key", -11) == store.get_range("key", -10) == b"0123456789"
        assert store.get_range("key", -11, 2) == b"01"
        assert store.get_range("key", 0, -11) == b""

    def test_chunks(self, store: Store) -> None:
        wrong: Any = store
        data = _noise(2 * _MIB + 5)
        store["key"] = data
        for size in (1000, 65_536, _MIB - 1, _MIB, _MIB + 1, 2 * _MIB + 5, 5 * _MIB):
            chunks = list(store.chunks("key", size))
            assert b"".join(chunks) == data
            assert {len(chunk) for chunk in chunks[:-1]} <= {size}
            assert 0 < len(chunks[-1]) <= size
            assert all(type(chunk) is bytes for chunk in chunks)
        assert b"".join(store.chunks("key")) == data
        for size in (0, -1, 1.5, "1", True, None):
            with pytest.raises(InvalidArgumentError):
                wrong.chunks("key", size)
        dropped = store.chunks("key", 10)
        assert next(dropped) == data[:10]
        del dropped
        assert store.delete("key")

    def test_a_file_reads_as_any_file(self, store: Store) -> None:
        data = b"\n".join(_noise(50, seed).replace(b"\n", b"") for seed in range(60_000))
        store["key"] = data
        model, rng = io.BytesIO(data), random.Random(7)
        with store.open("key") as file:
            assert (file.readable(), file.writable(), file.seekable()) == (True, False, True)
            for _ in range(300):
                whence = rng.choice((0, 0, 1, 2))
                offset = rng.randrange(-3000, 3000) if whence else rng.randrange(len(data) + 100)
                base = model.tell() if whence == 1 else len(data)
                if whence == 0 or base + offset >= 0:
                    assert file.seek(offset, whence) == model.seek(offset, whence)
                match rng.randrange(5):
                    case 0:
                        assert file.readline() == model.readline()
                    case 1:
                        buffers = bytearray(777), bytearray(777)
                        assert cast(Any, file).readinto(buffers[0]) == model.readinto(buffers[1])
                        assert buffers[0] == buffers[1]
                    case 2:
                        assert [next(file, b"") for _ in range(3)] == [next(model, b"") for _ in range(3)]
                    case _:
                        size = rng.choice((0, 1, 100, 70_000, 1_500_000))
                        assert file.read(size) == model.read(size)
                assert file.tell() == model.tell()
            assert file.seek(-10, os.SEEK_END) == len(data) - 10
            assert file.read() == data[-10:]
            assert file.read() == b""
            with pytest.raises((ValueError, OSError)):
                file.seek(-1)
            with pytest.raises((io.UnsupportedOperation, OSError)):
                file.write(b"x")
        assert file.closed
        with pytest.raises(ValueError, match="closed"):
            file.read()
        with store.open("key") as file:
            assert list(file) == list(io.BytesIO(data))

    def test_a_file_that_is_written_is_seen_at_its_close(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        with store.open("key", "wb") as file:
            assert (file.readable(), file.writable()) == (False, True)
            for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef"), array.array("B", b"gh")):
                assert file.write(cast(Any, piece)) == 2
            assert file.tell() == 8
            file.flush()
            file.writelines([b"i", b"j"])
            assert other["key"] == b"before"
            assert list(other) == ["key"]
        assert file.closed
        assert other["key"] == b"abcdefghij"
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.write(b"x")
        with store.open("empty", "wb"):
            pass
        assert other["empty"] == b""
        data = _noise(20 * _MIB)
        with store.open("large", "wb") as file:
            for at in range(0, len(data), 700_001):
                file.write(data[at : at + 700_001])
            assert "large" not in other
        assert other["large"] == data

    def test_a_file_whose_with_raises_is_not_stored(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        for key in ("key", "absent", "a/b/absent"):
            for size in (0, 10, 9 * _MIB):
                for mode, data in (("wb", bytes(size)), ("w", "x" * size)):
                    with pytest.raises(_BodyError), store.open(key, mode) as file:  # noqa: PT012
                        file.write(data)
                        raise _BodyError
                    assert file.closed
                    assert _contents(other) == {"key": b"before"}

    def test_a_file_that_is_dropped_unclosed_is_not_stored(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for mode, data in (("wb", b"half"), ("w", "half"), ("wb", bytes(9 * _MIB))):
                for key in ("key", "absent"):
                    file: Any = store.open(key, mode)
                    file.write(data)
                    del file
                    gc.collect()
        assert _contents(other) == {"key": b"before"}

    def test_text_files(self, store: Store) -> None:
        text = "née\nzwei\r\n水😀\n"
        with store.open("utf8", "w") as file:
            assert file.write(text) == len(text)
        assert store["utf8"] == text.encode()
        with store.open("utf8", "r", newline="") as file:
            assert file.read() == text
        with store.open("utf8", "rt") as file:
            assert list(file) == ["née\n", "zwei\n", "水😀\n"]
        with store.open("latin", "wt", encoding="latin-1", errors="replace", newline="\r\n") as file:
            file.write("né\n水")
        assert store["latin"] == b"n\xe9\r\n?"
        with store.open("latin", "r", encoding="latin-1") as file:
            assert file.readline() == "né\n"
            file.seek(0)
            assert file.read() == "né\n?"
        with store.open("latin", "r") as file, pytest.raises(UnicodeDecodeError):
            file.read()
        with pytest.raises(UnicodeEncodeError), store.open("utf8", "w", encoding="ascii") as file:  # noqa: PT012
            file.write("ok")
            file.write("é")
        assert store["utf8"] == text.encode()

    def test_wrong_ways_to_open(self, store: Store) -> None:
        wrong: Any = store
        store["key"] = b"before"
        for mode in (
            "",
            "a",
            "ab",
            "r+",
            "rb+",
            "w+",
            "wb+",
            "rw",
            "rr",
            "b",
            "t",
            "rbt",
            "U",
            "q",
            None,
            1,
            b"rb",
        ):
            with pytest.raises(InvalidArgumentError):
                wrong.open("key", mode)
        for options in ({"encoding": "utf-8"}, {"errors": "strict"}, {"newline": ""}):
            for mode in ("rb", "wb"):
                with pytest.raises(InvalidArgumentError):
                    wrong.open("key", mode, **options)
        for options in ({"expect": ABSENT}, {"ttl": 1}, {"content_type": "a/b"}):
            with pytest.raises(InvalidArgumentError):
                wrong.open("key", "rb", **options)
        with pytest.raises(InvalidArgumentError):
            wrong.open("key", "xb", expect="etag")
        assert _contents(store) == {"key": b"before"}

    @needs(Can.CREATE)
    def test_a_file_that_is_created(self, store: Store, other: Store) -> None:
        for mode, data in (("xb", b"new"), ("x", "new")):
            with store.open("key", mode) as file:
                file.write(data)
            assert other["key"] == b"new"
            with pytest.raises(BlobExistsError):
                store.open("key", mode)
            assert other.pop("key") == b"new"
        with pytest.raises(BlobExistsError), store.open("key", "wb", expect=ABSENT) as file:  # noqa: PT012
            file.write(b"late")
            other["key"] = b"first"
        assert _contents(store) == {"key": b"first"}

    @needs(Can.SWAP)
    def test_a_file_that_replaces_one_version(self, store: Store, other: Store) -> None:
        etag = store.put("key", b"1").etag
        with store.open("key", "wb", expect=etag) as file:
            file.write(b"2")
        assert other["key"] == b"2"
        with pytest.raises(ConcurrencyError), store.open("key", "wb", expect=other.info("key").etag) as file:  # noqa: PT012
            file.write(b"3")
            other["key"] = b"other"
        assert store["key"] == b"other"

    def test_the_library_reads_and_writes_through_files(self, store: Store) -> None:
        with store.open("table.csv", "w", newline="") as file:
            csv.writer(file).writerows([["a", "b"], ["1", "zwei\nzeilen"]])
        with store.open("table.csv", "r", newline="") as file:
            assert list(csv.reader(file)) == [["a", "b"], ["1", "zwei\nzeilen"]]
        with store.open("value.json", "w") as file:
            json.dump({"é": [1, None]}, file)
        with store.open("value.json") as file:
            assert json.load(file) == {"é": [1, None]}
        with store.open("all.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("inner", _noise(100_000))
        with store.open("all.zip") as file, zipfile.ZipFile(file) as archive:
            assert archive.read("inner") == _noise(100_000)
            assert archive.testzip() is None

    def test_a_read_never_mixes_two_blobs(self, store: Store, other: Store) -> None:
        old, new = _noise(4 * _MIB, 1), _noise(4 * _MIB, 2)

        def replace() -> None:
            other["key"] = new

        def delete() -> None:
            del other["key"]

        for change in (replace, delete):
            for seek in (False, True):
                store["key"] = old
                with store.open("key") as file:
                    assert file.read(10) == old[:10]
                    change()
                    with contextlib.suppress(ConcurrencyError, BlobNotFoundError):
                        at = file.seek(3 * _MIB) if seek else 10
                        assert file.read() == old[at:], "a file gave bytes of two blobs"
                store["key"] = old
                chunks = store.chunks("key", 100_000)
                read = [next(chunks)]
                change()
                with contextlib.suppress(ConcurrencyError, BlobNotFoundError):
                    read.extend(chunks)
                    assert b"".join(read) == old, "chunks gave bytes of two blobs"

    def test_memory_is_bounded(self, store: Store) -> None:
        size, count = _MIB, 64
        expected = hashlib.sha256()
        held: list[int] = []

        def body() -> Iterator[bytes]:
            for number in range(count):
                piece = _noise(size // 8, number) * 8
                expected.update(piece)
                held.append(_resident())
                yield piece

        gc.collect()
        before = _resident()
        tracemalloc.start()
        try:
            store.put("streamed", body())
            read = hashlib.sha256()
            for chunk in store.chunks("streamed"):
                read.update(chunk)
                held.append(_resident())
            assert read.digest() == expected.digest()
            copied = store.copy("streamed", "copied")
            with store.open("copied") as source, store.open("rewritten", "wb") as target:
                while piece := source.read(size):
                    target.write(piece)
                    held.append(_resident())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert copied.size == store.info("rewritten").size == size * count
        assert store.get_range("rewritten", -10) == (_noise(size // 8, count - 1) * 8)[-10:]
        if store.inline:
            # What lives in memory holds the blobs there, each once, and one while it is gathered.
            assert peak < 5 * size * count
        else:
            assert peak < 16 * _MIB, f"a stream of {count} MiB took {peak / _MIB:.0f} MiB of Python's memory"
            grown = max(held) - before
            assert grown < 40 * _MIB, f"a stream of {count} MiB took {grown / _MIB:.0f} MiB of memory"

    # --- copy, move, conditions ---

    def test_copy(self, store: Store, other: Store) -> None:
        store["a"] = data = _noise(3 * _MIB)
        info = store.copy("a", "b")
        assert info == other.info("b")
        assert (info.key, info.size) == ("b", len(data))
        assert other["b"] == other["a"] == data
        store["b"] = b"changed"
        assert other["a"] == data
        assert store.copy("b", "a").size == 7
        assert other["a"] == b"changed"
        assert store.copy("a", "a") == other.info("a")
        assert store.copy("a", "x/y/z").key == "x/y/z"
        with pytest.raises(BlobNotFoundError) as caught:
            store.copy("absent", "a")
        assert caught.value.key == "absent"
        assert _contents(other) == {"a": b"changed", "b": b"changed", "x/y/z": b"changed"}

    def test_move(self, store: Store, other: Store) -> None:
        store["a"] = data = _noise(3 * _MIB)
        store["b"] = b"replaced"
        info = store.move("a", "b")
        assert info == other.info("b")
        assert (info.key, info.size) == ("b", len(data))
        assert _contents(other) == {"b": data}
        assert store.move("b", "b") == other.info("b")
        assert other["b"] == data
        store.move("b", "x/y/z")
        assert _contents(other) == {"x/y/z": data}
        with pytest.raises(BlobNotFoundError) as caught:
            store.move("absent", "x/y/z")
        assert caught.value.key == "absent"
        assert _contents(other) == {"x/y/z": data}

    @needs(Can.CREATE)
    def test_expect_absent(self, store: Store, other: Store) -> None:
        store.put("key", b"first", expect=ABSENT)
        held = store.info("key")
        store["source"] = b"source"
        for call in (
            lambda: other.put("key", b"second", expect=ABSENT),
            lambda: other.put("key", b"first", expect=ABSENT),
            lambda: other.put("key", _one_shot(b"second"), expect=ABSENT),
            lambda: other.copy("source", "key", expect=ABSENT),
            lambda: other.move("source", "key", expect=ABSENT),
            lambda: other.copy("key", "key", expect=ABSENT),
        ):
            with pytest.raises(BlobExistsError) as caught:
                call()
            assert isinstance(caught.value, ConcurrencyError)
            assert isinstance(caught.value, FileExistsError)
            assert caught.value.key == "key"
            assert store.info("key") == held
        assert _contents(store) == {"key": b"first", "source": b"source"}
        del other["key"]
        assert store.copy("source", "key", expect=ABSENT).size == 6
        del other["key"]
        assert store.move("source", "key", expect=ABSENT).size == 6
        assert _contents(other) == {"key": b"source"}

    @needs(Can.SWAP)
    def test_expect_an_etag(self, store: Store, other: Store) -> None:
        first = store.put("key", b"1")
        second = store.put("key", b"2", expect=first.etag)
        assert second.etag != first.etag
        assert other["key"] == b"2"
        store["source"] = b"source"
        for key, etag in (("key", first.etag), ("key", "made up"), ("key", ""), ("absent", second.etag)):
            for call in (
                lambda key=key, etag=etag: other.put(key, b"3", expect=etag),
                lambda key=key, etag=etag: other.put(key, _one_shot(b"3"), expect=etag),
                lambda key=key, etag=etag: other.delete(key, expect=etag),
                lambda key=key, etag=etag: other.copy("source", key, expect=etag),
                lambda key=key, etag=etag: other.move("source", key, expect=etag),
            ):
                with pytest.raises(ConcurrencyError) as caught:
                    call()
                assert not isinstance(caught.value, BlobExistsError)
                assert caught.value.key == key
                assert caught.value.actual == (second.etag if key == "key" else None)
                assert store.info("key") == second
        assert _contents(store) == {"key": b"2", "source": b"source"}
        with pytest.raises(ConcurrencyError):
            store.copy("key", "key", expect=first.etag)
        assert store.copy("key", "key", expect=second.etag).size == 1
        copied = store.copy("source", "key", expect=store.info("key").etag)
        assert other["key"] == b"source"
        assert other.move("source", "key", expect=copied.etag).size == 6
        assert other.delete("key", expect=store.info("key").etag) is True
        assert _contents(store) == {}

    def test_wrong_conditions(self, store: Store) -> None:
        wrong: Any = store
        store["key"] = b"before"
        for expect in (None, 1, b"etag", True, ["etag"], datetime.now(UTC)):
            with pytest.raises(InvalidArgumentError):
                wrong.put("key", b"x", expect=expect)
            with pytest.raises(InvalidArgumentError):
                wrong.delete("key", expect=expect)
            with pytest.raises(InvalidArgumentError):
                wrong.open("key", "wb", expect=expect)
            with pytest.raises(InvalidArgumentError):
                wrong.copy("key", "new", expect=expect)
        with pytest.raises(InvalidArgumentError):
            store.delete("key", expect=ABSENT)
        assert store.put("key", b"after", expect=ANY).size == 5
        assert store.delete("key", expect=ANY) is True
        assert _contents(store) == {}

    def test_the_etag_changes_whenever_the_bytes_do(self, store: Store, other: Store) -> None:
        seen: dict[str, bytes] = {}
        for number in range(150):
            data = b"%08d" % number
            handle = store if number % 3 else other
            if number % 10 == 9:
                handle.delete("key")
            if number % 7 == 6:
                handle["draft"] = data
                info = handle.move("draft", "key")
            else:
                info = handle.put("key", data)
            assert info.etag not in seen, f"{data!r} has the ETag of {seen[info.etag]!r}"
            seen[info.etag] = data
            assert store.info("key").etag == other.info("key").etag == info.etag

    @needs(Can.SWAP)
    def test_an_etag_that_was_and_is_again(self, store: Store, other: Store) -> None:
        first = store.put("key", b"A")
        between = other.put("key", b"B")
        again = store.put("key", b"A")
        assert between.etag not in (first.etag, again.etag)
        with pytest.raises(ConcurrencyError):
            other.put("key", b"C", expect=between.etag)
        if first.etag != again.etag:
            with pytest.raises(ConcurrencyError):
                other.put("key", b"C", expect=first.etag)
        del store["key"]
        with pytest.raises(ConcurrencyError):
            other.put("key", b"C", expect=again.etag)
        assert _contents(store) == {}

    @needs(Can.SWAP | Can.CREATE)
    def test_modify(self, store: Store, other: Store) -> None:
        info = store.modify("key", lambda old: old + b"1", default=b"0")
        assert info == other.info("key")
        assert other["key"] == b"01"
        assert store.modify("key", lambda old: [old, b"2"], default=b"0").size == 3
        assert other["key"] == b"012"
        calls: list[bytes] = []

        def late(old: bytes) -> bytes:
            calls.append(old)
            if len(calls) == 1:
                other["key"] = b"theirs"
            return old + b"+mine"

        store.modify("key", late)
        assert calls == [b"012", b"theirs"]
        assert other["key"] == b"theirs+mine"

        def fail(_: bytes) -> bytes:
            raise _BodyError

        with pytest.raises(_BodyError):
            store.modify("key", fail)
        with pytest.raises(InvalidDataError):
            store.modify("key", cast(Any, lambda _: "text"))  # pyright: ignore[reportUnknownLambdaType]
        assert _contents(other) == {"key": b"theirs+mine"}

    def test_what_it_can_not_do_raises(self, store: Store) -> None:
        store["key"] = b"before"
        info, tested = store.info("key"), _tested(store)
        for flag in Can:
            if flag not in tested.can:
                check_refusals(tested, flag, "key")
                assert _contents(store) == {"key": b"before"}
                assert store.info("key") == info

    # --- time to live, attributes ---

    @needs(Can.EXPIRE)
    def test_an_expired_blob_is_absent_for_every_call(self, store: Store, other: Store) -> None:
        begun = datetime.now(UTC)
        keys = [f"gone/{number}" for number in range(12)]
        info = store.put(keys[0], b"0", ttl=0.05)
        for key in keys[1:]:
            info = store.put(key, b"x", ttl=timedelta(milliseconds=50))
        store["stays"] = b"stays"
        assert info.expires is not None
        assert begun < info.expires < datetime.now(UTC) + timedelta(seconds=1)
        last = info.expires
        _until(lambda: datetime.now(UTC) > last)
        for handle in (store, other):
            assert handle.get(keys[0]) is None
            assert keys[0] not in handle
            assert len(handle) == 1
            assert _listed(handle) == list(handle) == ["stays"]
            assert _listed(handle, "gone/") == []
            assert [_child(child) for child in handle.children()] == ["stays"]
            assert handle.get_many(keys) == {}
            assert list(handle.values()) == [b"stays"]
            for call in (handle.info, handle.__getitem__, handle.open, handle.chunks, handle.__delitem__):
                with pytest.raises(BlobNotFoundError):
                    call(keys[0])
            with pytest.raises(BlobNotFoundError):
                handle.get_range(keys[0], 0)
            with pytest.raises(BlobNotFoundError):
                handle.copy(keys[0], "copy")
            with pytest.raises(BlobNotFoundError):
                handle.move(keys[0], "move")
        assert store.delete(keys[1]) is False
        assert store.pop(keys[2], None) is None
        assert store.delete_many(keys[3:5]) == 0
        assert store.setdefault(keys[5], b"new") == b"new"
        if Can.SWAP in store.can:
            with pytest.raises(ConcurrencyError):
                other.put(keys[11], b"x", expect=info.etag)
            with pytest.raises(ConcurrencyError):
                other.delete(keys[11], expect=info.etag)
            with pytest.raises(BlobNotFoundError):
                other.modify(keys[6], lambda old: old)
        if Can.CREATE in store.can:
            assert (store.put(keys[7], b"new", expect=ABSENT).expires is not None) is self.expires
            assert other[keys[7]] == b"new"
            del store[keys[7]]
        store[keys[8]] = b"for ever"
        assert (other.info(keys[8]).expires is not None) is self.expires
        assert _listed(other) == [keys[5], keys[8], "stays"]
        assert store.popitem()[0] == keys[5]
        store.delete_many([keys[8], "stays"])
        assert not other
        with pytest.raises(BlobNotFoundError):
            store.popitem()

    @needs(Can.EXPIRE)
    def test_a_time_to_live(self, store: Store, other: Store) -> None:
        wrong: Any = store
        for ttl in (60, 60.0, timedelta(minutes=1)):
            begun = datetime.now(UTC)
            info = store.put("key", b"x", ttl=ttl)
            assert info == other.info("key") == next(other.list())
            assert info.expires is not None
            assert info.expires.utcoffset() == timedelta(0)
            assert abs(info.expires - begun - timedelta(minutes=1)) < timedelta(seconds=30)
        assert other["key"] == b"x"
        copied, moved = store.copy("key", "copied"), store.move("key", "moved")
        assert copied.expires == moved.expires == info.expires
        put = store.put("moved", b"y")
        assert put.expires == other.info("moved").expires != info.expires
        assert (put.expires is not None) is self.expires
        with store.open("file", "wb", ttl=60) as file:
            file.write(b"x")
        assert other.info("file").expires is not None
        many = store.put_many({"m/1": b"", "m/2": b""}, ttl=60)
        assert all(each.expires is not None and other.info(key) == each for key, each in many.items())
        if Can.SWAP in store.can:
            assert store.modify("file", lambda _: b"y").expires == other.info("file").expires is not None
        before = _contents(store)
        for ttl in (0, -1, float("nan"), float("inf"), "60", b"1", True, timedelta(0), timedelta(-1), 1e300):
            with pytest.raises(InvalidArgumentError):
                wrong.put("bad", b"x", ttl=ttl)
            with pytest.raises(InvalidArgumentError):
                wrong.put_many({"bad": b"x"}, ttl=ttl)
            with pytest.raises(InvalidArgumentError):
                wrong.open("bad", "wb", ttl=ttl)
        assert _contents(other) == before

    @needs(Can.ATTRIBUTES)
    def test_a_content_type_is_kept(self, store: Store, other: Store) -> None:
        wrong: Any = store
        kind = "text/plain; charset=utf-8"
        info = store.put("key", b"x", content_type=kind)
        assert info.content_type == kind
        assert other.info("key") == next(other.list()) == info
        assert store.copy("key", "copied").content_type == kind
        assert store.move("key", "moved").content_type == kind
        assert [each.content_type for each in other.list()] == [kind, kind]
        assert store.put("moved", b"y").content_type is None
        assert other.info("moved").content_type is None
        with store.open("file", "wb", content_type="image/png") as file:
            file.write(b"x")
        assert other.info("file").content_type == "image/png"
        assert store.put_many({"many": b"x"}, content_type=kind)["many"].content_type == kind
        assert other.info("many").content_type == kind
        if Can.SWAP in store.can:
            store.modify("many", lambda old: old + b"y")
            assert other.info("many").content_type == kind
        for bad in (1, b"text/plain", ["text/plain"], True):
            with pytest.raises(InvalidArgumentError):
                wrong.put("key", b"x", content_type=bad)
        assert "key" not in store

    # --- listing ---

    def test_listing_is_in_order_of_code_points(self, store: Store, other: Store) -> None:
        keys = [
            *(
                "a-b",
                "a b",
                "a.b",
                "a/b",
                "a/b/c.d",
                "a/b/c-d",
                "a/b/c/d",
                "a0",
                "aa",
                "a!b",
                "a.b.c",
                "a0/x",
            ),
            *(
                "B",
                "Z/z",
                "b",
                "_",
                "~",
                "é",
                "z",
                "\uffff",
                "\U00010000",
                "水/é",
                "水.x",
                "水0",
                "%",
                "d/e f/g",
            ),
            *("d/e", "d.e/f", "d-e/f", "d\\e/f", "CON.x", "CON/y", "con0", "a\\", "a:", "a%", "e\u0301"),
        ]
        keys = [key for key in keys if not any(other.startswith(f"{key}/") for other in keys)]
        for key in random.Random(3).sample(keys, len(keys)):
            store[key] = key.encode()
        assert _listed(store) == _listed(other) == list(store) == sorted(keys)
        for prefix in {key[:end] for key in keys for end in range(len(key) + 1)}:
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert _listed(store, prefix) == expected, prefix
            tree = {
                key[: slash + 1] if (slash := key.find("/", len(prefix))) >= 0 else key for key in expected
            }
            assert [_child(child) for child in store.children(prefix)] == sorted(tree), prefix

    def test_a_prefix_is_a_string_prefix_and_literal(self, store: Store) -> None:
        keys = [
            *(
                "a_b",
                "axb",
                "a%b",
                "a%%b",
                "a*b",
                "a?b",
                "a[b]",
                "a]b",
                "ab",
                "aB",
                "A_b",
                "a_/x",
                "a\\b",
                "a'b",
            ),
            *("logs.json", "logs/1", "logs/2", "logs2/1", "logs-1", "v2.1/x", "v2.2/x", "v2x1/x", "model_v1"),
            *("data/x", "data2/x", "data-2/x", "é/x", "e\u0301/x", "percent%20/x", "percent /x"),
        ]
        store.put_many(dict.fromkeys(keys, b""))
        for prefix in (
            *(
                "a_",
                "a%",
                "a%%",
                "a*",
                "a?",
                "a[",
                "a]",
                "a[b",
                "a\\",
                "a'",
                "A",
                "a",
                "_",
                "%",
                "*",
                "?",
                "[",
            ),
            *(
                "logs",
                "logs/",
                "logs.",
                "log",
                "v2.",
                "v2.1",
                "v2.1/",
                "model_",
                "data",
                "data/",
                "data2",
                "é",
            ),
            *(
                "e",
                "percent%",
                "percent ",
                "zzz",
                "/",
                "//",
                "a//",
                "..",
                ".",
                "../",
                "\x00",
                "a\x00",
                "\ud800",
            ),
            *("logs/1", "logs/1/", "a" * 2000, "logs/../data/", "\U0010ffff"),
        ):
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert _listed(store, prefix) == expected, prefix
            excluded = sorted(key for key in keys if not key.startswith(prefix))
            assert list(store.iterate_keys(exclude_prefix=prefix)) == excluded, prefix
            assert list(store.iterate_keys("a", prefix)) == [key for key in excluded if key.startswith("a")]
            both = list(store.children(prefix))
            assert all(_child(child).startswith(prefix) for child in both), prefix
        assert list(store.iterate_keys(None, None)) == list(store.iterate_keys("", "")) == sorted(keys)
        wrong: Any = store
        for prefix in (1, b"a", ["a"], Path("a")):
            for call in (wrong.list, wrong.iterate_keys, wrong.children):
                with pytest.raises(InvalidArgumentError):
                    list(call(prefix))
        assert len(store) == len(keys)

    def test_a_glob_picks_keys(self, store: Store) -> None:
        keys = [
            "a.pdf",
            "a.txt",
            "b/a.pdf",
            "b/c/a.pdf",
            "b/c/d.txt",
            "[x]",
            "x",
            "b*",
            "c/.pdf",
            "B/a.pdf",
            "a^",
            "a-",
        ]
        store.put_many(dict.fromkeys(keys, b""))
        for glob, expected in {
            "*.pdf": ["a.pdf"],
            "**/*.pdf": ["B/a.pdf", "a.pdf", "b/a.pdf", "b/c/a.pdf", "c/.pdf"],
            "b/*.pdf": ["b/a.pdf"],
            "b/**": ["b/a.pdf", "b/c/a.pdf", "b/c/d.txt"],
            "b/**/a.pdf": ["b/a.pdf", "b/c/a.pdf"],
            "*/*/*": ["b/c/a.pdf", "b/c/d.txt"],
            "?": ["x"],
            "[[]x]": ["[x]"],
            "[ax]": ["x"],
            "[!a]": ["x"],
            "a[.]*": ["a.pdf", "a.txt"],
            "a[\\^-]": ["a-", "a^"],
            "b[*]": ["b*"],
            "x": ["x"],
            "nothing": [],
            "**": sorted(keys),
        }.items():
            assert _listed(store, glob=glob) == expected, glob
        assert _listed(store, "b/", glob="**/*.txt") == ["b/c/d.txt"]
        assert _listed(store, "b/c/d", glob="b/*/*") == ["b/c/d.txt"]
        assert _listed(store, "c", glob="b/*") == []
        assert list(store.iterate_keys(exclude_prefix="b/", glob="**/a.pdf")) == ["B/a.pdf", "a.pdf"]
        for glob in (1, b"*", ["*"], "[b-a]"):
            with pytest.raises(InvalidArgumentError):
                list(store.list(glob=cast(Any, glob)))

    def test_children_show_one_level(self, store: Store) -> None:
        keys = [
            "logs.json",
            "logs/1",
            "logs/2/x",
            "logs/2/y",
            "logs-old",
            "logs0",
            "readme",
            "a/b/c/d",
            "z!/x",
            "z/x",
        ]
        infos = store.put_many({key: key.encode() for key in keys})
        for prefix, expected in {
            "": ["a/", "logs-old", "logs.json", "logs/", "logs0", "readme", "z!/", "z/"],
            "logs/": ["logs/1", "logs/2/"],
            "logs/2/": ["logs/2/x", "logs/2/y"],
            "logs": ["logs-old", "logs.json", "logs/", "logs0"],
            "a/": ["a/b/"],
            "a/b": ["a/b/"],
            "z": ["z!/", "z/"],
            "readme": ["readme"],
            "readme/": [],
            "nothing": [],
        }.items():
            children = list(store.children(prefix))
            assert [_child(child) for child in children] == expected, prefix
            assert all(child == infos[child.key] for child in children if isinstance(child, Info))

    def test_a_survey_is_the_listing_and_what_it_leaves_out(self, store: Store) -> None:
        store.update(dict.fromkeys(["a", "b/c", "b/d", "e"], b"1"))
        for prefix in ("", "b", "b/", "x"):
            surveyed = [entry for entry in store._survey(prefix, "") if isinstance(entry, Info)]
            assert surveyed == list(store._scan(prefix, "")), (
                "a transfer would see other blobs than a listing"
            )
        assert list(store.left_out()) == list(store.left_out("b/")) == []

    def test_reading_makes_nothing(self, place: Path) -> None:
        with self._handle(place) as store:
            before = sorted(place.rglob("*"))
            assert store.get("key") is None
            assert "key" not in store
            assert list(store.list()) == list(store.children()) == list(store.left_out()) == []
            assert store.get_many(["key"]) == {}
            for read in (store.info, store.open, store.chunks):
                with pytest.raises(BlobNotFoundError):
                    read("key")
            made = set(place.rglob("*")).difference(before)
            assert self.keeps_what_is_read or not made

    def test_a_folder_that_is_empty_again_is_gone(self, store: Store, other: Store) -> None:
        store["a/b/c/d"] = b"1"
        store["a/x"] = b"2"
        del store["a/b/c/d"]
        assert [_child(child) for child in other.children("a/")] == ["a/x"]
        other.delete_many(["a/x"])
        assert list(store.children()) == []
        assert not store
        store["a/b"] = b"3"
        store.move("a/b", "moved")
        store["a"] = b"where a folder was"
        assert _contents(other) == {"a": b"where a folder was", "moved": b"3"}
        store.clear()
        other["moved/x/y"] = b"where a blob was"
        assert _contents(store) == {"moved/x/y": b"where a blob was"}

    def test_listing_while_the_store_changes(self, store: Store, other: Store) -> None:
        store.put_many({f"{number:04d}/x": b"" for number in range(0, 400, 2)})
        stable = {f"{number:04d}/x" for number in range(0, 400, 4)}
        for listing in (store.iterate_keys, lambda: (info.key for info in store.list()), store.children):
            seen: list[str] = []
            for child in listing():
                at = int(_child(child)[:4])
                seen.append(f"{at:04d}/x")
                # Behind the listing and before it, what comes and goes moves the rest to other places.
                if at % 4:
                    other.delete(f"{at:04d}/x")
                elif at % 3 == 0:
                    other[f"{at + 1:04d}/x"] = b"new"
                    other.delete(f"{at + 6:04d}/x")
                else:
                    other[f"{max(at - 1, 0):04d}/x"] = b"new"
            assert seen == sorted(set(seen)), "a listing repeated a key or lost its order"
            assert stable <= set(seen), "a listing lost a key that was there all the while"
            listed = list(store)
            assert listed == list(other) == _listed(store) == _listed(other)
            assert set(listed) == store.get_many(listed).keys(), "a listing shows what is gone"

    def test_a_listing_that_is_dropped(self, store: Store) -> None:
        store.put_many({f"{number}": b"" for number in range(50)})
        for call in (store.list, store.iterate_keys, store.children, store.values):
            iterator = iter(call())
            next(iterator)
            del iterator
        gc.collect()
        store.clear()
        assert not store

    # --- keys ---

    def test_what_is_no_key_is_refused_before_anything_is_touched(self, store: Store, place: Path) -> None:
        wrong: Any = store
        tested: Any = _tested(store)
        store["there"] = b"before"
        info = store.info("there")
        outside = sorted(place.parent.iterdir())
        assert len(BAD_KEYS) >= 500
        for bad in BAD_KEYS:
            calls: list[Callable[[Any], object]] = [
                *(
                    wrong.get,
                    wrong.__getitem__,
                    wrong.__delitem__,
                    wrong.exists,
                    wrong.info,
                ),
                *(wrong.delete, wrong.pop, wrong.open, wrong.chunks),
                lambda bad: wrong.get(bad, b"default"),
                lambda bad: wrong.pop(bad, b"default"),
                lambda bad: wrong.__setitem__(bad, b"x"),
                lambda bad: wrong.put(bad, b"x"),
                lambda bad: wrong.put(bad, _one_shot(b"x")),
                lambda bad: wrong.setdefault(bad, b"x"),
                lambda bad: wrong.get_range(bad, 0, 1),
                lambda bad: wrong.open(bad, "wb"),
                lambda bad: wrong.copy("there", bad),
                lambda bad: wrong.copy(bad, "new"),
                lambda bad: wrong.copy(bad, bad),
                lambda bad: wrong.move("there", bad),
                lambda bad: wrong.move(bad, "new"),
                lambda bad: wrong.get_many(["there", bad]),
                lambda bad: wrong.put_many([("new", b"x"), (bad, b"x")]),
                lambda bad: wrong.update([("new", b"x"), (bad, b"x")]),
                lambda bad: wrong.delete_many(["there", bad]),
            ]
            if Can.SWAP in store.can:
                calls.append(lambda bad: wrong.modify(bad, bytes))
            for call in calls:
                with pytest.raises(InvalidKeyError) as caught:
                    call(bad)
                assert isinstance(caught.value, ValueError)
            assert bad not in wrong
            assert bad not in wrong.keys()  # noqa: SIM118
            if tested is not store:
                # It may say first that it can't do this at all.
                for call in (tested.put, tested.__setitem__, tested.setdefault):
                    with pytest.raises((InvalidKeyError, UnsupportedOperation)):
                        call(bad, b"x")
                for call in (tested.delete, tested.__delitem__, tested.pop):
                    with pytest.raises((InvalidKeyError, UnsupportedOperation)):
                        call(bad)
        assert _contents(store) == {"there": b"before"}
        assert store.info("there") == info
        assert sorted(place.parent.iterdir()) == outside

    def test_awkward_keys_come_back_exactly(self, store: Store, other: Store) -> None:
        long = [key for key in GOOD_KEYS if len(key.encode()) > self.longest]
        for key in long:
            with pytest.raises(InvalidKeyError):
                store.put(key, b"x")
            with pytest.raises(InvalidKeyError):
                store.put_many({"short": b"x", key: b"x"})
        assert not other
        keys = [key for key in GOOD_KEYS if key not in long]
        expected = {key: f"value of {number}".encode() for number, key in enumerate(keys)}
        for key, value in list(expected.items())[::2]:
            assert store.put(key, value).key == key
        many = dict(list(expected.items())[1::2])
        assert list(store.put_many(many)) == list(many)
        assert _listed(other) == sorted(expected)
        assert list(other) == sorted(expected)
        assert _contents(other) == expected
        for key, value in expected.items():
            assert other[key] == value, key
            assert other.info(key).key == key
            assert key in other
        assert [_child(child) for child in other.children("in/")] == sorted(
            {key[: key.index("/", 3) + 1] for key in expected if key.startswith("in/")}
        )
        for number, key in enumerate(keys[::40]):
            assert _listed(store, key)[0] == key
            store.copy(key, f"copied/{number}")
            assert store.pop(f"copied/{number}") == expected[key]
        for key in keys[::3]:
            assert other.delete(key)
            del expected[key]
        assert _listed(store) == sorted(expected)
        assert store.delete_many(expected) == len(expected)
        assert not other

    def test_a_str_of_another_class_is_a_key(self, store: Store) -> None:
        class Name(str):
            __slots__ = ()

        store[Name("key")] = b"1"
        assert store[Name("key")] == store["key"] == b"1"
        assert type(next(store.iterate_keys())) is str
        assert type(store.info(Name("key")).key) is str

    def test_a_blob_where_a_folder_is(self, store: Store, other: Store) -> None:
        for first, second in (("a", "a/b"), ("d/e/f", "d"), ("g/h", "g/h/i/j"), ("k/l/m/n", "k/l")):
            store[first] = b"first"
            info = store.info(first)
            for write in (
                lambda second=second: store.put(second, b"second"),
                lambda second=second: store.put(second, _one_shot(b"second")),
                lambda second=second: store.put_many({second: b"second"}),
                lambda first=first, second=second: store.copy(first, second),
            ):
                conflict: str | None = ""
                try:
                    write()
                except KeyConflictError as error:
                    conflict = error.key
                if conflict != "":
                    assert conflict == second
                    assert second not in other
                    assert other.get(second) is None
                    assert other.delete(second) is False
                else:
                    assert other[second] in (b"second", b"first")
                    assert other.delete(second) is True
                assert other.info(first) == info
                assert _contents(other) == {first: b"first"}
            del store[first]
            store[second] = b"now it fits"
            assert _contents(other) == {second: b"now it fits"}
            store.clear()

    # --- many at once ---

    def test_many_at_once(self, store: Store, other: Store) -> None:
        blobs = {f"many/{number:04d}": b"%d" % number for number in range(1000)}
        infos = store.put_many(blobs)
        assert list(infos) == list(blobs)
        assert other.get_many(blobs) == blobs
        assert [other.info(key) for key in list(blobs)[::97]] == [infos[key] for key in list(blobs)[::97]]
        assert other.get_many(iter(["many/0003", "absent", "many/0001", "many/0003"])) == {
            "many/0001": b"1",
            "many/0003": b"3",
        }
        assert other.get_many([]) == {}
        assert store.put_many({}) == {}
        assert store.put_many(iter([("twice", b"1"), ("twice", b"2")]))["twice"] == other.info("twice")
        assert other["twice"] == b"2"
        assert store.put_many({"mixed/1": iter([b"a", b"b"]), "mixed/2": io.BytesIO(b"cd")}).keys() == {
            "mixed/1",
            "mixed/2",
        }
        assert (other["mixed/1"], other["mixed/2"]) == (b"ab", b"cd")
        assert other.delete_many(key for key in ("many/0000", "many/0000", "absent")) == 1
        assert other.delete_many([]) == 0
        assert other.delete_many(dict.fromkeys(blobs)) == 999
        assert _listed(store) == ["mixed/1", "mixed/2", "twice"]

    def test_many_are_checked_before_the_first_is_written(self, store: Store) -> None:
        wrong: Any = store
        store["old"] = b"before"
        for pair in (("", b"x"), ("../a", b"x"), (1, b"x"), ("a", "text"), ("a", 1), ("a", None)):
            for call in (wrong.put_many, wrong.update):
                with pytest.raises((InvalidKeyError, InvalidDataError)):
                    call([("old", b"new"), ("new", b"x"), pair])
                with pytest.raises((InvalidKeyError, InvalidDataError)):
                    call(_one_shot(("old", b"new"), pair, ("new", b"x")))
        for bad in ("", "..", "a//b", 1, None):
            with pytest.raises(InvalidKeyError):
                wrong.delete_many(["old", bad])
        for call in (wrong.get_many, wrong.delete_many):
            with pytest.raises(InvalidArgumentError):
                call("old")
        assert _contents(store) == {"old": b"before"}

    # --- its life ---

    def test_a_closed_store_raises(self, store: Store, place: Path) -> None:
        handle: Any = self._handle(place)
        closed: Any = _tested(handle)
        handle["key"] = b"x"
        started = [iter(call()) for call in (handle.list, handle.iterate_keys, handle.children)]
        handle["other"] = b"x"
        for iterator in started:
            assert next(iterator)
        kept = closed.keys()
        handle.close()
        handle.close()
        calls: list[Callable[[], object]] = [
            lambda: closed["key"],
            lambda: closed.__setitem__("key", b"y"),
            lambda: closed.__delitem__("key"),
            lambda: "key" in closed,
            lambda: list(closed),
            lambda: len(closed),
            lambda: bool(closed),
            lambda: closed.get("key"),
            lambda: closed.get("absent"),
            lambda: closed.get_range("key", 0),
            lambda: closed.put("key", b"y"),
            lambda: closed.put("key", _one_shot(b"y")),
            lambda: closed.delete("key"),
            lambda: closed.pop("key"),
            lambda: closed.popitem(),
            lambda: closed.setdefault("key", b"y"),
            lambda: closed.update({"key": b"y"}),
            lambda: closed.clear(),
            lambda: list(kept),
            lambda: list(closed.values()),
            lambda: list(closed.items()),
            lambda: closed.exists("key"),
            lambda: closed.info("key"),
            lambda: list(closed.list()),
            lambda: list(closed.iterate_keys()),
            lambda: list(closed.children()),
            lambda: closed.get_many(["key"]),
            lambda: closed.put_many({"key": b"y"}),
            lambda: closed.delete_many(["key"]),
            lambda: closed.open("key"),
            lambda: closed.open("key", "wb"),
            lambda: closed.open("key", "w"),
            lambda: closed.chunks("key"),
            lambda: closed.modify("key", bytes),
            lambda: closed.copy("key", "new"),
            lambda: closed.copy("key", "key"),
            lambda: closed.move("key", "new"),
            lambda: closed.sign("key"),
            lambda: closed.__enter__(),
        ]
        for number, call in enumerate(calls):
            with pytest.raises(StoreClosedError):
                pytest.fail(f"the call numbered {number} of a closed store gives {call()!r}")
        for iterator in started:
            # A listing that was under way may end well or badly, but not with a driver's own error.
            with contextlib.suppress(StoreError):
                list(iterator)
        assert repr(closed)
        assert _contents(store) == {"key": b"x", "other": b"x"}

    def test_a_with_block_closes_it(self, store: Store, place: Path) -> None:
        with self._handle(place) as entered:
            entered["key"] = b"x"
        with pytest.raises(StoreClosedError):
            entered.get("key")
        with pytest.raises(_BodyError), self._handle(place):
            raise _BodyError
        assert store["key"] == b"x"

    def test_files_of_a_closed_store(self, store: Store, place: Path) -> None:
        closed = self._handle(place)
        store["key"] = data = _noise(3 * _MIB)
        reading, chunks, writing = closed.open("key"), closed.chunks("key", 1000), closed.open("key", "wb")
        assert reading.read(10) == data[:10]
        assert next(chunks) == data[:1000]
        writing.write(b"new")
        closed.close()
        with contextlib.suppress(StoreClosedError, ValueError):
            assert reading.read() == data[10:]
        with contextlib.suppress(StoreClosedError):
            assert b"".join(chunks) == data[1000:]
        reading.close()
        with contextlib.suppress(StoreClosedError):
            writing.close()
        assert store["key"] in (data, b"new")

    def test_the_data_outlive_the_handle(self, store: Store, place: Path) -> None:
        with self._handle(place) as first:
            first["key"] = b"1"
            put = first.info("key")
        with self._handle(place) as second:
            assert second["key"] == b"1"
            assert second.info("key") == put
            second["key"] = b"2"
        assert _contents(store) == {"key": b"2"}

    def test_a_pickle_opens_the_store_again(self, store: Store) -> None:
        tested = _tested(store)
        store["key"] = b"1"
        pickled = pickle.dumps(tested)
        assert len(pickled) < 10_000
        store["big"] = _noise(_MIB)
        assert len(pickle.dumps(tested)) < 10_000, "a pickle holds settings, not blobs"
        again = cast(Store, pickle.loads(pickled))
        try:
            assert type(again) is type(tested)
            assert again.can == tested.can
            assert again["key"] == b"1"
            (again if Can.WRITE in again.can else store)["key"] = b"2"
            assert store["key"] == again["key"] == b"2"
            again.close()
            assert store["key"] == b"2"
        finally:
            again.close()
        if not self.persistent:
            reading = "import pickle, sys\ntry: pickle.load(sys.stdin.buffer)['key']\n"
            telling = "except Exception as error: print(isinstance(error, holdall.StoreError))"
            program = f"import holdall\n{reading}{telling}"
            done = subprocess.run(
                [sys.executable, "-c", program],
                input=pickled,
                capture_output=True,
                timeout=_DEADLINE,
                check=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
            assert done.stdout.strip() == b"True", "another process opened what it can't see"

    def test_other_processes(self, store: Store, other: Store, place: Path) -> None:
        if not self.persistent:
            with pytest.raises(AssertionError, match="ended with"):
                _Workers(store, place.parent).run("look", [0])
            return
        blobs = {"key": b"1", "a\\b/CON": _noise(100_000), "empty": b""}
        store.put_many(blobs)
        workers = _Workers(store, place.parent)
        assert workers.run("look", [7]) == [[{key: _digest(data) for key, data in blobs.items()}]]
        assert other["seen"] == b"7"
        said = sorted(workers.run("fork", [0])[0])
        assert said == ["child", "parent"]
        assert len(list(other.list("child/"))) == len(list(store.list("parent/"))) == 30
        if Can.SWAP in store.can and Can.CREATE in store.can:
            workers.run("count", range(4))
            assert other["count"] == b"60"
        if Can.SWAP in store.can:
            store.put_many({f"pop/{number}": b"x" for number in range(15)})
            popped = workers.run("pop", range(4))
            assert sorted(chain(*popped)) == list(range(15)), "two processes popped the same blob"
        if Can.CREATE in store.can:
            created = workers.run("create", range(4))
            assert sorted(chain(*created)) == list(range(15)), "two processes created the same blob"
            for seed, numbers in enumerate(created):
                assert all(other[f"create/{number}"] == b"%d" % seed for number in numbers)

    def test_killed_writers_lose_nothing_that_was_acknowledged(
        self, store: Store, other: Store, place: Path
    ) -> None:
        if not self.persistent:
            assert not _persists(store, place), "the store is persistent; say so, and have its writers killed"
            return
        rng = random.Random()
        known: dict[str, str | None] = {}
        late: dict[str, str | None] = {}
        acknowledged = interrupted = 0
        workers = _Workers(store, place.parent)
        workers.warm()
        for number in range(self._effort(self.kills, 24, 10)):
            moment = rng.random() * 0.03
            words = workers.run("write", [number], kill=moment, opened=number % 4 != 0)[0]
            pending = _note(words, known, late)
            acknowledged += words.count("done")
            interrupted += bool(pending)
            if number % 2:
                with self._handle(place) as fresh:
                    _within(functools.partial(_check_after_kill, fresh, known, pending, late))
            else:
                _within(functools.partial(_check_after_kill, other, known, pending, late))
            store["alive"] = b"%d" % number
            known["alive"] = _digest(b"%d" % number)
        assert acknowledged > 0
        assert interrupted > 0, "no writer was killed while it wrote"
        store.clear()
        assert not other

    def test_an_interrupt_leaves_nothing_behind(self, store: Store, other: Store, place: Path) -> None:
        known: dict[str, str | None] = {}
        late: dict[str, str | None] = {}
        # Where the moments aren't a matter of chance, few of them are as good as many.
        rounds = self._effort(self.interrupts, self.interrupts, 40) if self.interruptible else 20
        moments = random.Random(type(self).__name__)
        alive = store["alive"] = b"at first"
        with _Witness(store, other, place.parent, self.persistent) as witness, _Interrupts() as interrupts:
            for number in range(rounds):
                words = (
                    interrupts.during(functools.partial(_write_for_ever, store, number), moments.random())
                    if self.interruptible
                    else _write_until_interrupted(store, number)
                )
                pending = _note(words, known, late)
                # The interrupted handle does nothing more, and must be in nobody's way.
                witness.get_through(alive)
                # What it acknowledges from now on must not end with what was interrupted.
                alive = store["alive"] = b"%d" % number
                known["alive"] = _digest(alive)
                witness.get_through(alive)
                if number % 20:
                    _settle(other, known, pending, late)
                else:
                    _within(functools.partial(_check_after_kill, other, known, pending, late))
            with self._handle(place) as fresh:
                _check_after_kill(fresh, known, {}, late)

    # --- threads ---

    def test_threads_share_a_store(self, store: Store) -> None:
        def work(name: int) -> None:
            for number in range(40):
                key = f"{name}/{number}"
                store[key] = b"%d" % number
                assert store[key] == b"%d" % number
                assert store.info(key).size == len(b"%d" % number)
                if number % 4 == 3:
                    del store[key]
                    assert key not in store

        race(*(functools.partial(work, name) for name in range(8)))
        assert len(store) == 240

    def test_one_key_that_all_write_delete_and_list(self, store: Store, other: Store) -> None:
        def work(handle: Store, name: int) -> None:
            for number in range(30):
                match (name + number) % 5:
                    case 0:
                        handle.delete("d/key")
                    case 1:
                        assert [info.key for info in handle.list("d/")] in ([], ["d/key"])
                    case 2:
                        value = handle.get("d/key")
                        assert value is None or _is_whole(value)
                    case _:
                        handle["d/key"] = _sealed(b"%d" % number)

        race(*(functools.partial(work, handle, name) for name in range(4) for handle in (store, other)))
        assert _is_whole(store.setdefault("d/key", _sealed(b"")))

    def test_readers_never_see_a_torn_blob(self, store: Store, other: Store) -> None:
        sizes = (0, 10, 5000, 70_000, 1_200_000, 3_000_000)
        etags: dict[str, str] = {}
        first = _sealed(b"first")
        etags[store.put("key", first).etag] = _digest(first)
        seen: list[tuple[Info, str]] = []
        writing = [2]

        def write(handle: Store, seed: int) -> None:
            try:
                for number in range(18):
                    data = _sealed(_noise(sizes[(number + seed) % 6], number * 2 + seed))
                    if number % 3 == 0:
                        info = handle.put("key", data)
                    elif number % 3 == 1:
                        info = handle.put(
                            "key", (data[at : at + 65_000] for at in range(0, len(data), 65_000))
                        )
                    else:
                        handle[f"draft-{seed}"] = data
                        info = handle.move(f"draft-{seed}", "key")
                    etags[info.etag] = _digest(data)
            finally:
                writing[0] -= 1

        def read(handle: Store, way: int) -> None:
            while writing[0] > 0:
                if way == 0:
                    assert _is_whole(handle["key"]), "get gave a torn blob"
                    assert _is_whole(handle.get_range("key", 0)), "get_range gave a torn blob"
                elif way == 1:
                    with contextlib.suppress(ConcurrencyError):
                        with handle.open("key") as file:
                            data = file.read()
                        assert _is_whole(data), "a file gave a torn blob"
                else:
                    info, data = _read_whole(handle, "key")
                    assert len(data) == info.size, "the size belongs to other bytes"
                    seen.append((info, _digest(data)))
                    assert _is_whole(b"".join(handle.chunks("key", 65_536))), "chunks gave a torn blob"

        race(
            functools.partial(write, store, 0),
            functools.partial(write, other, 1),
            *(functools.partial(read, handle, way) for handle in (store, other) for way in range(3)),
        )
        assert seen
        for info, digest in seen:
            # A move shows the source's ETag under the draft's key only, so that each one seen was told.
            assert etags.get(info.etag) == digest, "an ETag belongs to other bytes"
        info, last = _read_whole(store, "key")
        assert _read_whole(other, "key") == (info, last)
        assert store["key"] == other["key"] == last
        written = store.put("key", b"the last")
        for handle in (store, other):
            assert _read_whole(handle, "key") == (written, b"the last"), "a read gives what was there before"

    def test_listing_beside_writers(self, store: Store, other: Store) -> None:
        stable = [f"{number:03d}/stable" for number in range(60)]
        store.put_many(dict.fromkeys(stable, b"x"))
        there = set(stable)
        writing = [2]

        def write(handle: Store, seed: int) -> None:
            rng = random.Random(seed)
            try:
                for _ in range(60):
                    number = rng.randrange(60)
                    came = f"{number:03d}/{seed}/passing", f"{number:03d}.{seed}"
                    went = f"{rng.randrange(60):03d}/{seed}/passing", f"{rng.randrange(60):03d}.{seed}"
                    for key in came:
                        handle[key] = b"y"
                    there.update(came)
                    for key in went:
                        assert handle.delete(key) is (key in there)
                    there.difference_update(went)
            finally:
                writing[0] -= 1

        def read(handle: Store, way: int) -> None:
            while writing[0] > 0:
                if way == 0:
                    listed = list(handle)
                elif way == 1:
                    infos = list(handle.list())
                    assert all(info.size == 1 and info.etag for info in infos)
                    listed = [info.key for info in infos]
                else:
                    listed = [_child(child) for child in handle.children()]
                    assert {f"{number:03d}/" for number in range(60)} <= set(listed)
                assert listed == sorted(set(listed)), "a listing repeated a key or lost its order"
                assert way == 2 or set(stable) <= set(listed), "a listing lost a key that was there"

        race(
            functools.partial(write, store, 1),
            functools.partial(write, other, 2),
            *(functools.partial(read, handle, way) for handle in (store, other) for way in range(3)),
        )
        assert list(store) == list(other) == sorted(there)

    @needs(Can.CREATE)
    def test_of_many_creators_one_wins(self, store: Store, other: Store) -> None:
        rounds, step = 15, _in_step(8)
        winners: list[list[bytes]] = [[] for _ in range(rounds)]

        def create(handle: Store, name: int) -> None:
            for number in range(rounds):
                data = b"%d in %d" % (name, number)
                step()
                try:
                    if name < 4:
                        handle.put(f"key/{number}", data, expect=ABSENT)
                    else:
                        with handle.open(f"key/{number}", "xb") as file:
                            file.write(data)
                    winners[number].append(data)
                except BlobExistsError:
                    pass

        race(*(functools.partial(create, (store, other)[name % 2], name) for name in range(8)))
        for number, won in enumerate(winners):
            assert len(won) == 1, f"{len(won)} creators won"
            assert store[f"key/{number}"] == won[0]

    @needs(Can.SWAP | Can.CREATE)
    def test_a_counter_that_many_raise_is_exact(self, store: Store, other: Store) -> None:
        def count(handle: Store) -> None:
            for _ in range(15):
                handle.modify("count", lambda old: b"%d" % (int(old) + 1), default=b"0")

        race(*(functools.partial(count, handle) for _ in range(4) for handle in (store, other)))
        assert int(store["count"]) == int(other["count"]) == 120

    @needs(Can.SWAP)
    def test_swaps_beside_plain_puts_and_deletes(self, store: Store, other: Store) -> None:
        swaps: list[tuple[bytes, bytes]] = []
        turns = [0, 0, 0]
        done = threading.Event()
        present = "a swap overwrote a put that it had not seen"
        absent = "a swap brought back what was deleted"

        def swap(handle: Store, name: int) -> None:
            while not done.is_set():
                turns[name] += 1
                token, seen = b" %d.%d" % (name, turns[name]), list[bytes]()

                def add(old: bytes, token: bytes = token, seen: list[bytes] = seen) -> bytes:
                    seen.append(old)
                    # The value is what stood there, and who came: a lost put is a lost word.
                    return old + token if len(old) < 400 else old[:40] + token

                with contextlib.suppress(BlobNotFoundError):
                    handle.modify("key", add)
                    swaps.append((seen[-1], add(seen[-1])))

        def settle() -> None:
            # Whoever was about to swap when the put or delete came has done so two turns later.
            before = list(turns)
            _until(lambda: done.is_set() or all(turns[name] >= before[name] + 2 for name in range(3)))

        def put(handle: Store) -> None:
            try:
                for number in range(30):
                    word = b"%040d" % number
                    handle["key"] = word
                    settle()
                    assert store["key"].startswith(word), present
                    if number % 3 == 2:
                        assert handle.delete("key"), "a blob that was there is gone"
                        settle()
                        assert "key" not in store, absent
                handle["key"] = b"%040d" % 99
            finally:
                done.set()

        race(
            functools.partial(put, other),
            *(functools.partial(swap, handle, name) for name, handle in enumerate((store, other, store))),
        )
        replaced = [old for old, _ in swaps]
        assert len(replaced) == len(set(replaced)), "two swaps replaced the same version"
        assert store["key"].startswith(b"%040d" % 99), present

    @needs(Can.SWAP)
    def test_of_many_who_swap_or_delete_one_version_one_wins(self, store: Store, other: Store) -> None:
        rounds, step = 12, _in_step(6)
        etags = {number: store.put(f"key/{number}", b"0").etag for number in range(rounds)}
        winners: list[list[int]] = [[] for _ in range(rounds)]

        def act(handle: Store, name: int) -> None:
            for number, etag in etags.items():
                step()
                try:
                    if name < 3:
                        handle.put(f"key/{number}", b"%d" % name, expect=etag)
                    else:
                        handle.delete(f"key/{number}", expect=etag)
                    winners[number].append(name)
                except ConcurrencyError:
                    pass

        race(*(functools.partial(act, (store, other)[name % 2], name) for name in range(6)))
        for number, won in enumerate(winners):
            assert len(won) == 1, f"{len(won)} had the version"
            assert store.get(f"key/{number}") == (b"%d" % won[0] if won[0] < 3 else None)

    def test_of_many_deleters_one_is_told_that_it_was_there(self, store: Store, other: Store) -> None:
        rounds, step = 15, _in_step(8)
        store.put_many({f"d/{number}": b"x" for number in range(rounds)})
        told: list[list[bool]] = [[] for _ in range(rounds)]

        def delete(handle: Store) -> None:
            for number in range(rounds):
                step()
                told[number].append(handle.delete(f"d/{number}"))

        race(*(functools.partial(delete, handle) for _ in range(4) for handle in (store, other)))
        assert [sorted(each) for each in told] == [[False] * 7 + [True]] * rounds
        assert not store

    @needs(Can.SWAP)
    def test_what_many_pop_one_gets(self, store: Store, other: Store) -> None:
        rounds, step = 15, _in_step(8)
        store.put_many({f"p/{number}": b"%d" % number for number in range(rounds)})
        got: list[list[bytes]] = [[] for _ in range(rounds)]
        taken: list[tuple[str, bytes]] = []

        def pop(handle: Store) -> None:
            for number in range(rounds):
                step()
                value = handle.pop(f"p/{number}", None)
                if value is not None:
                    got[number].append(value)

        race(*(functools.partial(pop, handle) for _ in range(4) for handle in (store, other)))
        assert got == [[b"%d" % number] for number in range(rounds)]
        store.put_many({f"i/{number:02d}": b"%d" % number for number in range(30)})

        def pop_items(handle: Store) -> None:
            with contextlib.suppress(BlobNotFoundError):
                while True:
                    taken.append(handle.popitem())

        race(*(functools.partial(pop_items, handle) for _ in range(2) for handle in (store, other)))
        assert sorted(taken) == [(f"i/{number:02d}", b"%d" % number) for number in range(30)]

    @needs(Can.CREATE)
    def test_setdefault_gives_everyone_the_same(self, store: Store, other: Store) -> None:
        rounds, step = 15, _in_step(8)
        values: list[set[bytes]] = [set() for _ in range(rounds)]

        def default(handle: Store, name: int) -> None:
            for number in range(rounds):
                step()
                values[number].add(handle.setdefault(f"key/{number}", b"%d" % name))

        race(*(functools.partial(default, (store, other)[name % 2], name) for name in range(8)))
        assert [{store[f"key/{number}"]} for number in range(rounds)] == values

    def test_moves_lose_nothing(self, store: Store, other: Store) -> None:
        values = {f"m/{number}": _sealed(b"%d" % number) for number in range(10)}
        store.put_many(values)

        def move(handle: Store, seed: int) -> None:
            for number in range(10):
                with contextlib.suppress(BlobNotFoundError, ConcurrencyError):
                    handle.move(f"m/{number}", f"to/{number}")

        race(*(functools.partial(move, handle, seed) for seed in range(2) for handle in (store, other)))
        assert {key.replace("to/", "m/"): value for key, value in _contents(store).items()} == values
        assert len(store) == 10

    def test_a_flaky_writer_destroys_nothing(self, store: Store) -> None:
        for seed in range(4):
            flaky = Flaky(store, rate=0.4, seed=seed)
            held: dict[str, bytes | None] = {}
            for number in range(40):
                key, data = f"f/{seed}/{number % 5}", _sealed(b"%d" % number)
                fault = ""
                try:
                    if number % 3 == 0:
                        flaky.put(key, iter([data[:7], data[7:]]))
                    elif number % 3 == 1:
                        with flaky.open(key, "wb") as file:
                            file.write(data)
                    else:
                        flaky.copy(key, f"{key}-copy")
                except StoreUnavailableError as error:
                    fault = error.message
                except BlobNotFoundError:
                    continue
                if number % 3 == 2:
                    copied = store.get(f"{key}-copy")
                    assert copied is None or _is_whole(copied)
                    continue
                if fault in ("", "after"):
                    held[key] = data
                assert store.get(key) == held.get(key), f"a put that failed {fault} left something else"
            stored = _contents(store)
            assert all(_is_whole(value) for value in stored.values())
            assert {key for key in stored if "-copy" not in key and key.startswith(f"f/{seed}/")} == set(held)

    def test_the_laws_hold(self, place: Path) -> None:
        check_laws(
            self.make,
            place,
            fill=self.fill,
            same_infos=self.same_infos,
            examples=self._effort(self.laws, 30, 10),
            seed=zlib.crc32(type(self).__name__.encode()),
        )

    # --- in the other colour ---

    def test_written_in_one_colour_and_read_in_the_other(self, store: Store, other: Store) -> None:
        aio = other.aio

        async def stream() -> AsyncIterator[bytes]:
            for number in range(20):
                await asyncio.sleep(0)
                yield bytes([number]) * 50_000

        async def main() -> None:
            info = await aio.put("a", b"1")
            assert info == store.info("a") == await aio.info("a")
            assert store["a"] == await aio["a"] == await aio.get("a") == b"1"
            store["b/c"] = _noise(3 * _MIB)
            assert await aio.get("b/c") == _noise(3 * _MIB)
            assert await aio.get_range("b/c", 5, -7) == _noise(3 * _MIB)[5:-7]
            assert b"".join([chunk async for chunk in aio.chunks("b/c", 99_999)]) == _noise(3 * _MIB)
            await aio.put("stream", stream())
            assert store["stream"] == b"".join(bytes([number]) * 50_000 for number in range(20))
            keys = ["a", "b/c", "stream"]
            assert [key async for key in aio] == [key async for key in aio.keys()] == list(store) == keys  # noqa: SIM118
            assert [key async for key in aio.iterate_keys(None, "b", "*")] == ["a", "stream"]
            assert [each async for each in aio.list()] == list(store.list())
            assert [each async for each in aio.list("b", glob="b/*")] == [store.info("b/c")]
            assert [each async for each in aio.children()] == list(store.children())
            assert [value async for value in aio.values()] == list(store.values())
            assert {key: value async for key, value in aio.items()} == _contents(store)
            assert (await aio.len(), await aio.exists("a"), await aio.exists("z")) == (3, True, False)
            assert await aio.get_many(["a", "z"]) == {"a": b"1"}
            many = await aio.put_many({"m/1": b"x", "m/2": b"y"})
            assert many == {key: store.info(key) for key in ("m/1", "m/2")}
            assert await aio.delete_many(["m/1", "z"]) == 1
            await aio.update({"m/2": b"z"}, more=b"w")
            assert (store["m/2"], store.pop("more")) == (b"z", b"w")
            assert await aio.setdefault("m/2", b"x") == await aio.pop("m/2") == b"z"
            assert await aio.pop("m/2", None) is None
            assert await aio.delete("m/2") is False
            async with aio.open("file", "w") as text:
                await text.write("eins\nzwei")
                assert "file" not in store
            assert store["file"] == b"eins\nzwei"
            async with aio.open("file") as file:
                assert await file.readline() == b"eins\n"
                await file.seek(-4, os.SEEK_END)
                assert (file.tell(), await file.read()) == (5, b"zwei")
            assert (await aio.copy("file", "copied")) == store.info("copied")
            assert (await aio.move("copied", "moved")) == store.info("moved")
            assert (await aio.popitem())[0] == "a"
            await aio.clear()
            assert not store

        asyncio.run(main())

    def test_both_colours_raise_the_same(self, store: Store) -> None:
        aio: Any = store.aio
        wrong: Any = store
        store["key"] = b"before"
        calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
            *((name, ("absent",), {}) for name in ("info", "pop", "open")),
            ("modify", ("absent", bytes), {}),
            *(
                (name, ("../a",), {})
                for name in ("get", "delete", "exists", "info", "pop", "setdefault", "open")
            ),
            ("get_range", ("absent", 0), {}),
            ("get_range", ("key", "1"), {}),
            ("put", ("key", "text"), {}),
            ("put", ("key", 1), {}),
            ("put", ("a//b", b"x"), {}),
            ("put", ("key", b"x"), {"expect": "stale"}),
            ("put", ("key", b"x"), {"expect": ABSENT}),
            ("put", ("key", b"x"), {"ttl": -1}),
            ("put_many", ([("a", b"x"), ("", b"x")],), {}),
            ("copy", ("absent", "b"), {}),
            ("move", ("absent", "b"), {}),
            ("open", ("key", "a"), {}),
            ("sign", ("key",), {}),
        ]

        def outcome(function: Callable[[], object]) -> object:
            try:
                return _shared(function())
            except (StoreError, TypeError) as error:
                return type(error), str(error)

        async def awaited(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> object:
            return await getattr(aio, name)(*arguments, **options)

        async def failing() -> AsyncIterator[Any]:
            yield b"x" * 100_000
            raise _BodyError

        async def text() -> AsyncIterator[Any]:
            yield b"x" * 100_000
            yield "text"

        for name, arguments, options in calls:
            plain = outcome(lambda: getattr(wrong, name)(*arguments, **options))  # noqa: B023
            assert outcome(lambda: asyncio.run(awaited(name, arguments, options))) == plain, name  # noqa: B023
            assert isinstance(plain, tuple), f"{name}{arguments} does not raise"
        with pytest.raises(_BodyError):
            asyncio.run(awaited("put", ("key", failing()), {}))
        with pytest.raises(InvalidDataError):
            asyncio.run(awaited("put", ("key", text()), {}))
        assert _contents(store) == {"key": b"before"}

    def test_many_coroutines_share_a_store(self, store: Store, other: Store) -> None:
        def add(old: bytes) -> bytes:
            return b"%d" % (int(old) + 1)

        async def work(number: int) -> None:
            aio = (store, other)[number % 2].aio
            await aio.put(f"key/{number}", b"%d" % number)
            assert await aio.get(f"key/{number}") == b"%d" % number
            if Can.SWAP in store.can and Can.CREATE in store.can:
                await aio.modify("count", add, b"0")

        async def main() -> None:
            await asyncio.gather(*(work(number) for number in range(40)))

        _within(lambda: asyncio.run(main()))
        assert len(list(store.list("key/"))) == 40
        if Can.SWAP in store.can and Can.CREATE in store.can:
            assert store["count"] == b"40"

    def test_a_cancelled_put_tears_nothing(self, store: Store, other: Store) -> None:
        old, new = _sealed(_noise(200_000, 1)), _sealed(_noise(2_000_000, 2))

        async def cancelled(put: Callable[[], Coroutine[Any, Any, Info]], turns: int) -> None:
            task = asyncio.ensure_future(put())
            for _ in range(turns):
                await asyncio.sleep(0.001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert other["key"] in (old, new)

        async def stream() -> AsyncIterator[bytes]:
            for at in range(0, len(new), 250_000):
                yield new[at : at + 250_000]
                await asyncio.sleep(0.001)

        async def stuck() -> AsyncIterator[bytes]:
            yield new[:250_000]
            await asyncio.Event().wait()

        aio = store.aio
        for turns in range(6):
            store["key"] = old
            asyncio.run(cancelled(lambda: aio.put("key", stream()), turns))
            _until(lambda: _is_whole(other["key"]))
            # What began may end later, so that the next turn has a key of its own.
            store["key"] = old
            asyncio.run(cancelled(lambda: aio.put("key", iter([new[:1000], new[1000:]])), turns))
        _within(lambda: asyncio.run(cancelled(lambda: aio.put("key", stuck()), 5)))
        assert other["key"] in (old, new)
        assert list(other) == ["key"]


def _persists(store: Store, place: Path) -> bool:
    """Whether another process sees what is put here."""
    store["seen"] = b"here"
    try:
        return bool(_Workers(store, place.parent).run("look", [0])[0])
    except AssertionError:
        return False


def _note(
    words: Iterable[Any], known: dict[str, str | None], late: dict[str, str | None]
) -> dict[str, str | None]:
    """Note what a writer said that was acknowledged, in `known`; returns what was under way at its end."""
    pending: dict[str, str | None] = {}
    for word in words:
        if word == "done":
            known |= pending
            for key in pending:
                late.pop(key, None)
            pending = {}
        else:
            pending = word
    return pending


def _check_after_kill(
    store: Store, known: dict[str, str | None], pending: dict[str, str | None], late: dict[str, str | None]
) -> None:
    """Check every blob that was acknowledged by its digest, and make what the last writer left known.

    A server may yet carry out what a writer asked of it just before the kill: `late` is what the writer
    before this one asked for and nobody has seen; it becomes what this one did.
    """
    looks = 0
    while True:
        looks += 1
        infos = {info.key: info for info in store.list()}
        held = {key: data for key in {*infos, *known, *pending} if (data := store.get(key)) is not None}
        sizes = {key: info.size for key, info in infos.items()}
        differ = sizes.items() ^ {key: len(data) for key, data in held.items()}.items()
        if not differ or looks == 10 or not {key for key, _ in differ} <= {*pending, *late}:
            break
    assert list(infos) == sorted(infos)
    assert infos.keys() == held.keys(), "a killed writer left something that listing shows, and get doesn't"
    for key, data in held.items():
        assert infos[key].size == len(data)
    for key in {*held, *known, *pending}:
        found = _digest(held[key]) if key in held else None
        allowed = {known.get(key), *(asked[key] for asked in (pending, late) if key in asked)}
        assert found in allowed, f"{key!r} is neither what was acknowledged nor what was under way"
    if len(pending) == 2 and None in pending.values():
        # A move: the target is whole before the source goes.
        target, source = sorted(pending, key=lambda key: pending[key] is None)
        if pending[target] is not None:
            assert source in held or _digest(held[target]) == pending[target], "a move lost the blob"
    for key in {*pending, *late}:
        known[key] = _digest(held[key]) if key in held else None
    late.clear()
    late |= {key: digest for key, digest in pending.items() if known[key] != digest}
