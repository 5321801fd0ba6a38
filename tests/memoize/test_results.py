"""What a hit gives, what is kept of a call, and what a failing store costs."""

from __future__ import annotations

import asyncio
import enum
import gc
import inspect
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import holdall
from holdall import (
    CacheInfo,
    FilesystemStore,
    Info,
    InvalidArgumentError,
    MemoryStore,
    MissingDependencyError,
    ReadOnlyStore,
    SerializationError,
    SqliteStore,
    Store,
    StoreUnavailableError,
    ZipStore,
    cached,
    get_store,
)
from holdall.memoize.entry import HEAD, SIZE
from holdall.store import Attributes, Body, Expect
from holdall.testing.running import wait_until
from holdall.values.same import same


class Colour(enum.Enum):
    RED = 1


class Row(NamedTuple):
    a: int


@dataclass
class Point:
    x: int


class Error(Exception):
    pass


class Odd(Exception):
    def __reduce__(self) -> Any:
        return ValueError, self.args


VALUES: list[Any] = [
    None, True, 0, 1, 1.5, float("nan"), -0.0, "", "text", "\ud800", b"", b"bytes", bytearray(b"x"), [], [1],
    (), (1, [2]), {}, {"a": None}, {1: 2}, {"b": 1, "a": 2}, {1, 2}, frozenset({1}), 2**9000, 1j,
    datetime(2026, 1, 1, tzinfo=UTC), timedelta(1), Decimal("1.10"), Path("a"), Colour.RED, Row(1), Point(1),
    [Point(1)], OrderedDict(a=1), range(3), {"$holdall": 1}, Ellipsis, np.arange(3), np.float32(1),
    {"a": np.arange(3)}, int, ["\ud800"], {"\ud800": 1}, [float("nan")], [[[2**9000]]],
]  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture(params=["memory", "none", "sqlite", "files", "zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store | None]:
    made: dict[str, Any] = {
        "memory": MemoryStore,
        "none": lambda: None,
        "sqlite": lambda: SqliteStore(tmp_path / "calls.db"),
        "files": lambda: FilesystemStore(tmp_path / "calls"),
        "zip": lambda: ZipStore(tmp_path / "calls.zip"),
    }
    opened = made[request.param]()
    yield opened
    if opened is not None:
        opened.close()


def test_every_value_comes_back_as_it_was(store: Store | None) -> None:
    called: list[int] = []

    @cached(store)
    def give(number: int) -> Any:
        called.append(number)
        return VALUES[number]

    for number, value in enumerate(VALUES):
        for back in (give(number), give(number)):
            assert same(back, value), (back, value)
    assert called == list(range(len(VALUES)))


def test_a_frame_comes_back_as_it_was() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])

    @cached(MemoryStore())
    def give() -> pd.DataFrame:
        return frame

    give()
    pd.testing.assert_frame_equal(give(), frame)


def test_a_hit_is_a_fresh_object(store: Store | None) -> None:
    @cached(store)
    def give() -> list[Any]:
        return [[1]]

    first = give()
    first[0].append("changed")
    second = give()
    assert second == [[1]]
    second.append("changed")
    assert give() == [[1]]
    assert give() is not give()


def test_the_ways_to_name_a_store(tmp_path: Path) -> None:
    memory = MemoryStore()
    for number, place in enumerate(
        [
            memory,
            get_store("memory://"),
            memory.aio,
            f"sqlite:///{tmp_path}/a.db",
            str(tmp_path / "b"),
            tmp_path / "c",
            None,
        ]
    ):

        @cached(place)
        def call(x: int, number: int = number) -> int:
            return x + number

        assert (call(1), call(1), call.cache_info().hits) == (1 + number, 1 + number, 1)
    assert {"a.db", "b", "c"} <= {each.name for each in tmp_path.iterdir()}


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    @cached(f"sqlite:///{tmp_path}/a.db")
    def call() -> None: ...

    assert "not opened" in repr(call)
    assert not list(tmp_path.iterdir())


def test_cache_info_says_what_is_kept_and_where(tmp_path: Path) -> None:
    @cached
    def here(x: int) -> int:
        return x

    here(1), here(1), here(2)
    info = here.cache_info()
    assert isinstance(info, CacheInfo)
    assert info[:3] == (1, 2, 2)
    assert (info.store, info.shared, info.bytes) == ("the memory of this process", False, 2 * (SIZE + 1))
    assert "the memory of this process" in repr(here)

    store = SqliteStore(tmp_path / "calls.db")

    @cached(store, ttl=timedelta(minutes=1), max_entries=5, max_bytes=10_000)
    def there(x: int) -> int:
        return x

    there(1)
    info = there.cache_info()
    assert (info.store, info.shared) == (repr(store), True)
    assert (info.ttl, info.max_entries, info.max_bytes) == (60.0, 5, 10_000)


def test_a_store_that_can_t_lock_says_so() -> None:
    class Plain(MemoryStore):
        can = MemoryStore.can & ~holdall.Can.SWAP

    @cached(Plain())
    def call() -> int:
        return 1

    assert (call(), call()) == (1, 1)
    assert call.cache_info().shared is False


def test_it_looks_like_the_function() -> None:
    def call(a: int, b: str = "x") -> float:
        """Say what it does."""
        return a

    made = cached(call)
    assert (made.__name__, made.__doc__, made.__module__) == (call.__name__, call.__doc__, call.__module__)
    assert made.__wrapped__ is call
    assert inspect.signature(made) == inspect.signature(call)
    assert made.__wrapped__(1) == 1


@cached
def module_level(x: int) -> int:
    return x + 1


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    @cached
    def add(self, x: int) -> int:
        """Add."""
        self.calls += 1
        return x + 1

    @cached
    @classmethod
    def made(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @cached
    async def later(self, x: int) -> int:
        self.calls += 1
        return x


def test_it_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(module_level)) is module_level
    assert pickle.loads(pickle.dumps(Counter.add)) is Counter.add


def test_a_method() -> None:
    counter = Counter()
    assert (counter.add(1), counter.add(x=1), counter.add(2), counter.calls) == (2, 2, 3, 2)
    assert (Counter.add(counter, 1), Counter.add.key_for(counter, 1)) == (2, counter.add.key_for(1))
    assert counter.calls == 2
    assert counter.add.__name__ == "add"
    assert counter.add.__doc__ == "Add."
    assert counter.add.__self__ is counter
    assert counter.add == counter.add
    assert len({counter.add, counter.add}) == 1
    assert counter.add.key_for(1) == counter.add.key_for(x=1)
    assert counter.add.invalidate(1) == 1
    assert counter.add(1) == 2
    assert counter.calls == 3
    assert counter.add.invalidate() == 2
    assert Counter.made(1) == ("Counter", 1)
    assert counter.made.key_for(1) == Counter.made.key_for(1)


def test_a_bound_method_can_be_cached() -> None:
    class Thing:
        def get(self, x: int) -> int:
            return x

    get = cached(Thing().get)
    assert (get(1), get(1)) == (1, 1)


class Alias:
    other = module_level


def test_a_function_that_a_class_refers_to_isn_t_its_method() -> None:
    assert (module_level(1), module_level(5)) == (2, 6)
    assert Alias.other(7) == 8
    with pytest.raises(TypeError):
        Alias().other(7)  # type: ignore[misc, arg-type]


def test_errors_are_not_kept_unless_asked(store: Store | None) -> None:
    called: list[str] = []

    @cached(store, errors=(Error, KeyError))
    def call(what: str) -> None:
        called.append(what)
        raise {"kept": Error("one"), "key": KeyError("k"), "not": ValueError("two")}[what]

    for _ in range(2):
        for what, kind in (("kept", Error), ("key", KeyError), ("not", ValueError)):
            with pytest.raises(kind):
                call(what)
    assert called == ["kept", "key", "not", "not"]
    with pytest.raises(Error, match="one") as caught:
        call("kept")
    assert caught.value.args == ("one",)


def test_an_error_that_pickle_would_change_is_raised_and_not_kept() -> None:
    @cached(MemoryStore(), errors=Odd)
    def call() -> None:
        raise Odd("x")

    with pytest.warns(RuntimeWarning, match="can't be kept"), pytest.raises(Odd):
        call()
    assert call.cache_info().entries == 0


def test_invalidate_forgets_one_call_or_all(store: Store | None) -> None:
    called: list[Any] = []

    @cached(store)
    def call(x: int, y: int = 0) -> int:
        called.append(x)
        return x

    @cached(store)
    def call_more(x: int) -> int:
        return x

    call(1), call(2), call_more(1)
    assert (call.invalidate(1, y=0), call.invalidate(1), call.invalidate(5)) == (1, 0, 0)
    call(1), call(2)
    assert called == [1, 2, 1]
    assert call.invalidate() == 2
    call(2)
    assert called == [1, 2, 1, 2]
    assert call_more.cache_info().entries == 1


def test_what_is_computed_from_before_an_invalidation_isn_t_kept_after_it() -> None:
    inside, go = threading.Event(), threading.Event()
    state = ["old"]
    store = MemoryStore()

    @cached(store)
    def read() -> str:
        seen = state[0]
        if seen == "old":
            inside.set()
            go.wait(10)
        return seen

    thread = threading.Thread(target=read)
    thread.start()
    inside.wait(10)
    state[0] = "new"
    read.invalidate()
    later: list[str] = []
    second = threading.Thread(target=lambda: later.append(read()))
    second.start()
    go.set()
    thread.join(), second.join()
    assert (later, read()) == (["new"], "new")


def grow_old(call: Any, seconds: float, *args: Any) -> None:
    """Let a result have been computed some seconds earlier."""
    store, key = call._shelf.store, call.key_for(*args)
    data = store[key]
    magic, created, letter = HEAD.unpack_from(data)
    store[key] = HEAD.pack(magic, created - seconds, letter) + data[SIZE:]


def test_a_result_that_is_too_old_is_computed_again(store: Store | None) -> None:
    called: list[int] = []

    @cached(store, ttl=100)
    def call() -> int:
        called.append(1)
        return len(called)

    assert (call(), call()) == (1, 1)
    grow_old(call, 90)
    assert call() == 1
    grow_old(call, 11)
    assert (call(), call()) == (2, 2)


def test_a_shorter_ttl_counts_for_older_results_too() -> None:
    store = MemoryStore()

    def call() -> float:
        return time.time()

    made = cached(store, ttl=1000)(call)
    first = made()
    grow_old(made, 50)
    assert cached(store, ttl=100)(call)() == first
    assert cached(store, ttl=10)(call)() != first


class Broken(MemoryStore):
    """A store that fails as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: set[str] = set()

    def _fail(self, what: str) -> None:
        if what in self.fails:
            raise StoreUnavailableError(f"the server is down for {what}")

    def _get(self, key: str) -> bytes | None:
        self._fail("get")
        return super()._get(key)

    def _read(self, key: str, start: int, stop: int | None) -> Any:
        self._fail("lock" if "/lock/" in key else "get")
        return super()._read(key, start, stop)

    def _put(self, key: str, data: bytes) -> Info:
        self._fail("put")
        return super()._put(key, data)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._fail("lock" if "/lock/" in key else "put")
        return super()._write(key, body, expect, attributes)


@pytest.mark.parametrize("what", ["get", "put", "lock"])
def test_a_store_that_fails_costs_the_cache_not_the_call(what: str) -> None:
    store = Broken()
    store.fails = {what}

    @cached(store)
    def call(x: int) -> int:
        return x

    @cached(store, strict=True)
    def strictly(x: int) -> int:
        return x

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [call(number) for number in range(5)] == list(range(5))
    assert [each.category for each in caught] == [RuntimeWarning]
    assert "the server is down" in str(caught[0].message)
    assert caught[0].filename == __file__
    with pytest.raises(StoreUnavailableError):
        strictly(1)
    store.fails.clear()
    call(7)
    assert (call(7), call.cache_info().hits >= 1) == (7, True)
    assert (strictly(1), strictly(1)) == (1, 1)


def test_a_store_that_can_t_be_opened_costs_the_cache_not_the_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    @cached(tmp_path / "file" / "below")
    def call(x: int) -> int:
        return x

    with pytest.warns(RuntimeWarning):
        assert (call(1), call(1)) == (1, 1)


def test_a_relative_path_begins_where_the_program_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two functions share the store of a URI, but not that of another working directory."""

    def made() -> Any:
        @cached("sqlite:///calls.db")
        def call(x: int) -> int:
            return x

        return call

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        first, second = made(), made()
        assert (first(1), second(1), first(1)) == (1, 1, 1)
        assert first._shelf.store is second._shelf.store
        first._shelf.store.close()
        assert (tmp_path / name / "calls.db").is_file()


def test_a_store_that_no_retry_would_open_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped URI, or a package that isn't installed, would cost the cache on every day."""

    @cached("sqllite:///calls.db")
    def mistyped(x: int) -> int:
        return x

    with pytest.raises(InvalidArgumentError, match="unknown scheme 'sqllite'"):
        mistyped(1)
    with pytest.raises(InvalidArgumentError, match="unknown scheme 'sqllite'"):
        asyncio.run(cached("sqllite:///calls.db")(_awaited)(1))

    monkeypatch.setitem(sys.modules, "httpx2", None)

    @cached("http://127.0.0.1/calls")
    def not_installed(x: int) -> int:
        return x

    with pytest.raises(MissingDependencyError, match=r"holdall\[http\]"):
        not_installed(1)


async def _awaited(x: int) -> int:
    return x


def test_a_store_that_raises_what_it_never_may_costs_the_cache_all_the_same() -> None:
    class Wild(MemoryStore):
        def _get(self, key: str) -> bytes | None:
            raise RuntimeError("a bug of the store")

        def _put(self, key: str, data: bytes) -> Info:
            raise OSError("a bug of the store")

    @cached(Wild())
    def call(x: int) -> int:
        return x

    with pytest.warns(RuntimeWarning, match="a bug of the store"):
        assert call(1) == 1


def test_a_store_that_takes_no_writes() -> None:
    @cached(ReadOnlyStore(MemoryStore()))
    def call(x: int) -> int:
        return x

    with pytest.warns(RuntimeWarning, match="can't be written"):
        assert (call(1), call(1)) == (1, 1)


def test_a_result_that_can_t_be_kept_is_returned_all_the_same() -> None:
    @cached(MemoryStore())
    def call() -> Any:
        return threading.Lock()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert call().acquire()
        assert call().acquire()
    assert ["can't be kept" in str(each.message) for each in caught] == [True]

    @cached(MemoryStore(), strict=True)
    def strictly() -> Any:
        return threading.Lock()

    with pytest.raises(SerializationError):
        strictly()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"{}",
        lambda data: data[: SIZE - 1],
        lambda data: data[:-1],
        lambda data: b"hldcall2" + data[8:],
        lambda data: data[:16] + b"?" + data[17:],
        lambda data: data + b"x",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:16] + b"e" + data[17:],
    ],
)
@pytest.mark.parametrize("kind", ["json", "pickle"])
def test_a_kept_result_that_can_t_be_read_is_computed_again(damage: Any, kind: str) -> None:
    store = MemoryStore()
    called: list[int] = []

    @cached(store)
    def call() -> Any:
        called.append(1)
        return [1, "x"] if kind == "json" else Point(1)

    call()
    key = call.key_for()
    store[key] = damage(store[key])
    with pytest.warns(RuntimeWarning, match="can't be read, so it is computed again"):
        call()
    call()
    assert len(called) == 2


class Boom:
    def __reduce__(self) -> Any:
        return os.abort, ()


def test_a_pickle_that_this_user_did_not_sign_for_this_call_is_never_loaded() -> None:
    store = MemoryStore()
    called: list[int] = []

    @cached(store)
    def call(x: int) -> Any:
        called.append(x)
        return Point(x)

    call(1), call(2)
    first, second = call.key_for(1), call.key_for(2)
    bare = HEAD.pack(b"hldcall1", time.time(), b"t") + b"hldtype1\x06pickle" + pickle.dumps(Boom())
    for planted in (bare, bare[: SIZE - 1] + b"e" + pickle.dumps(Boom()), store[second]):
        store[first] = planted
        with pytest.warns(RuntimeWarning):
            assert call(1) == Point(1)
        call._warned.clear()
    assert called == [1, 2, 1, 1, 1]


def test_nothing_is_signed_for_the_memory_of_this_process(tmp_path: Path) -> None:
    @cached
    def call() -> Any:
        return Point(1)

    assert (call(), call()) == (Point(1), Point(1))
    assert not (tmp_path / "home").exists()


def test_plain_arguments_need_no_heavy_package() -> None:
    program = (
        "import sys\nfrom holdall import cached, SqliteStore\n"
        "@cached\ndef f(a, b=(1, 2.5), *c, **d): return {'a': [a]}\n"
        "f(1); f('x', b={'k': None}); f(1)\n"
        "heavy = {'numpy', 'pandas', 'asyncio', 'pydantic', 'pyarrow', 'holdall.catalog'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


HEADED = "686c6463616c6c310000009a92e3da4174686c647479706531046a736f6e"
KEPT = {
    "bytes": ("686c6463616c6c310000009a92e3da41626162ff", b"ab\xff"),
    "text": ("686c6463616c6c310000009a92e3da4173c3a9", "é"),
    "json": ("686c6463616c6c310000009a92e3da416a7b2261223a5b312c6e756c6c5d7d", {"a": [1, None]}),
    "typed": (HEADED + "7b2224686f6c64616c6c223a227475706c65222c2276616c7565223a5b315d7d", (1,)),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_version_1_of_the_format_wrote_is_read(name: str) -> None:
    data, value = KEPT[name]
    store = MemoryStore()

    @cached(store)
    def call() -> object:
        raise AssertionError("it is kept")

    store[call.key_for()] = bytes.fromhex(data)
    assert same(call(), value)


def test_at_most_so_many_results_are_kept_and_the_last_used_stay(store: Store | None) -> None:
    called: list[int] = []

    @cached(store, max_entries=3)
    def call(x: int) -> int:
        called.append(x)
        return x

    for x in (1, 2, 3, 1, 4):
        call(x)
        assert call.cache_info().entries <= 3
    call(1), call(3), call(4)
    assert called == [1, 2, 3, 4]
    call(2)
    assert called == [1, 2, 3, 4, 2]


def test_at_most_so_many_bytes_are_kept(store: Store | None) -> None:
    @cached(store, max_bytes=1000)
    def call(x: int, size: int = 200) -> bytes:
        return bytes(size)

    for x in range(20):
        call(x)
        assert call.cache_info().bytes <= 1000
    assert call.cache_info().entries >= 3
    assert len(call(1, 5000)) == 5000
    assert call.cache_info().bytes <= 1000
    assert call.cache_info().entries >= 3


def test_all_limits_hold_at_once() -> None:
    store = MemoryStore()

    @cached(store, max_bytes=1000, max_entries=4, ttl=0.2)
    def call(x: int) -> bytes:
        return bytes(x)

    for x in (10, 20, 30, 40, 50):
        call(x)
        assert call.cache_info().entries <= 4
    call(900)
    assert call.cache_info().bytes <= 1000
    time.sleep(0.21)
    call(1)
    assert call.cache_info().entries == 1


def test_a_limit_counts_what_other_handles_put(tmp_path: Path) -> None:
    def call(x: int) -> int:
        return x

    first, second = (cached(SqliteStore(tmp_path / "a.db"), max_entries=5)(call) for _ in range(2))
    for x in range(5):
        first(x)
    for x in range(10, 15):
        second(x)
    assert second.cache_info().entries <= 5


def test_limits_of_one_function_leave_others_alone() -> None:
    store = MemoryStore({"mine": b"1"})

    @cached(store, max_entries=1)
    def one(x: int) -> int:
        return x

    @cached(store)
    def other(x: int) -> int:
        return x

    for x in range(5):
        one(x), other(x)
    assert (one.cache_info().entries, other.cache_info().entries, store["mine"]) == (1, 5, b"1")


def test_uses_are_noted_in_the_store_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(x: int) -> int:
        return x

    def made() -> Any:
        return cached(SqliteStore(tmp_path / "a.db"), max_entries=3)(call)

    first = made()
    for x in (1, 2, 3):
        first(x)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 120)
    made()(1)
    third = made()
    third(4)
    keys = set(SqliteStore(tmp_path / "a.db"))
    assert {x for x in (1, 2, 3, 4) if third.key_for(x) in keys} == {1, 3, 4}


def test_a_use_that_can_t_be_noted_is_a_hit_all_the_same() -> None:
    class Untouchable(MemoryStore):
        def _touch(self, key: str, expires: datetime | None) -> Info:
            raise StoreUnavailableError("no permission")

    called: list[int] = []

    @cached(Untouchable(), max_entries=5)
    def call(x: int) -> int:
        called.append(x)
        return x

    call(1)
    call._shelf._noted.clear()
    assert (call(1), called) == (1, [1])


def test_an_old_result_is_given_while_it_is_computed_again() -> None:
    go = threading.Event()
    called: list[int] = []

    @cached(MemoryStore(), refresh_after=60)
    def call() -> int:
        called.append(1)
        if len(called) > 1:
            go.wait(10)
        return len(called)

    assert call() == 1
    grow_old(call, 61)
    assert [call() for _ in range(10)] == [1] * 10
    go.set()
    wait_until(lambda: call() == 2)
    assert len(called) == 2


def test_a_refresh_that_fails_is_logged_and_the_old_result_stays(caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []

    @cached(MemoryStore(), refresh_after=60)
    def call() -> int:
        called.append(1)
        if len(called) > 1:
            raise Error("no answer")
        return 1

    call()
    grow_old(call, 61)
    with caplog.at_level(logging.WARNING, "holdall.memoize"):
        assert call() == 1
        wait_until(lambda: "no answer" in caplog.text)
    assert "can't be refreshed" in caplog.text
    assert call() == 1
    wait_until(lambda: not call._refreshing)


def test_the_interpreter_ends_once_its_refreshes_have(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time\nfrom holdall import cached\n"
        f"@cached('sqlite:///{tmp_path}/a.db', refresh_after=0.001)\n"
        "def call():\n    time.sleep(0.2)\n    return time.time()\n"
        "call(); time.sleep(0.01); call(); print(call())\n"
    )
    command = [sys.executable, "-W", "error", program]
    seen = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(2)
    ]
    assert seen[1] > seen[0]


def test_what_is_awaited_is_kept(store: Store | None) -> None:
    called: list[int] = []

    @cached(store)
    async def call(x: int) -> list[int]:
        await asyncio.sleep(0)
        called.append(x)
        return [x]

    assert asyncio.iscoroutinefunction(call)

    async def main() -> list[list[int]]:
        return [await call(1), await call(1), await call(x=2)]

    assert asyncio.run(main()) == [[1], [1], [2]]
    assert asyncio.run(main()) == [[1], [1], [2]]
    assert called == [1, 2]
    assert call.cache_info().hits == 4
    assert call.invalidate(1) == 1


def test_a_coroutine_method() -> None:
    counter = Counter()

    async def main() -> tuple[int, int]:
        return await counter.later(1), await counter.later(1)

    assert asyncio.run(main()) == (1, 1)
    assert counter.calls == 1


def test_an_error_of_a_coroutine() -> None:
    called: list[int] = []

    @cached(errors=Error)
    async def call(kept: bool) -> None:
        called.append(1)
        raise Error("x") if kept else ValueError("y")

    for _ in range(2):
        with pytest.raises(Error):
            asyncio.run(call(True))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="y"):
            asyncio.run(call(False))  # type: ignore[arg-type]
    assert len(called) == 3


def test_a_coroutine_under_trio() -> None:
    import trio

    called: list[int] = []
    results: list[int] = []

    @cached(MemoryStore())
    async def call(x: int) -> int:
        called.append(x)
        await trio.sleep(0.01)
        return x

    async def one() -> None:
        results.append(await call(1))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)

    trio.run(main)
    assert (called, results) == ([1], [1] * 5)


def test_an_old_result_of_a_coroutine() -> None:
    called: list[int] = []

    @cached(refresh_after=60)
    async def call() -> int:
        called.append(1)
        return len(called)

    async def main() -> list[int]:
        first = await call()
        grow_old(call, 61)
        second = await call()
        await asyncio.sleep(0.05)
        return [first, second, await call()]

    assert asyncio.run(main()) == [1, 1, 2]


def test_a_mistake_in_the_name_of_the_store_is_raised() -> None:
    @cached("sqlight:///calls.db")
    def call() -> int:
        return 1

    with pytest.raises(holdall.InvalidArgumentError, match="unknown scheme 'sqlight'"):
        call()


def test_a_kept_exception_is_refreshed_too() -> None:
    called: list[int] = []

    @cached(MemoryStore(), refresh_after=60, errors=Error)
    def call() -> int:
        called.append(1)
        if len(called) == 1:
            raise Error("x")
        return 2

    for _ in range(2):
        with pytest.raises(Error):
            call()
    grow_old(call, 61)
    with pytest.raises(Error):
        call()
    wait_until(lambda: not call._refreshing)
    assert call() == 2


def test_an_error_is_freed_with_its_last_reference() -> None:
    @cached
    def call() -> None:
        raise Error("x")

    gc.disable()
    try:
        with pytest.raises(Error) as caught:
            call()
        gone = weakref.ref(caught.value)
        del caught
        assert gone() is None
    finally:
        gc.enable()


def test_programs_of_one_function_name_share_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(
            f"from holdall import cached\n@cached({str(tmp_path / 'calls')!r})\n"
            f"def call(): return {name!r}\nprint(call())"
        )
    command = [sys.executable, "-W", "error"]
    told = [
        subprocess.run([*command, tmp_path / f"{name}.py"], capture_output=True, text=True, check=True).stdout
        for name in ("one", "two", "one")
    ]
    assert told == ["one\n", "two\n", "one\n"]
