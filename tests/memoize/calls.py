"""Calls whose keys are kept in `golden.txt`: they are the same on every version of Python, from here on.

`python -m tests.memoize.calls` prints them.
"""

from __future__ import annotations

import enum
import functools
import itertools
from collections import OrderedDict, deque, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from holdall import cached


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    ADA = "ada"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


Pair = namedtuple("Pair", "one two")


class User:
    def __init__(self, number: int) -> None:
        self.number = number

    def __cache_key__(self) -> int:
        return self.number


class Service:
    @cached
    def rate(self, day: Any) -> None: ...

    @cached
    @classmethod
    def of(cls, day: Any) -> None: ...

    @cached
    @staticmethod
    def plain(day: Any) -> None: ...


class Better(Service):
    pass


class Owner(User):
    @cached
    def rate(self, day: Any) -> None: ...


@cached
def one(value: Any) -> None: ...


@cached
def many(a: Any, b: Any = 2, /, c: Any = (), *rest: Any, d: Any = None, **options: Any) -> None: ...


@cached(version="v2")
def versioned(value: Any) -> None: ...


@cached(ignore=("log", "c"))
def ignoring(a: Any, c: Any = 1, *, log: Any = None) -> None: ...


@cached(key=lambda value: str(value).lower())
def by_key(value: Any) -> None: ...


@cached
async def later(value: Any) -> None: ...


PARIS = ZoneInfo("Europe/Paris")
NIGHT = datetime(2026, 10, 25, 2, 30, tzinfo=PARIS)

VALUES: list[Any] = [
    None, True, False, ..., 0, 1, -1, 2, 127, 128, 255, 256, -128, -129, 2**31, -(2**31), 2**53,
    2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**100, -(10**100), 2**20_000,
    0.0, -0.0, 1.0, -1.0, 0.1, 1e300, 5e-324, float("inf"), float("-inf"), float("nan"),
    0j, 1 + 2j, complex(0.0, -0.0), complex(float("nan"), 1.0),
    "", "a", "A", "1", "1.0", "True", "None", " a", "a ", "\0", "é", "e\u0301", "ﬁ", "日本語", "😀", "\ud800",
    "a" * 300, b"", b"a", b"\0", bytearray(b"a"), bytearray(), b"a" * 300,
    (), [], {}, set(), frozenset(), (1,), [1], {1}, frozenset({1}), (1, 2), (2, 1), [1, 2], [[1], 2],
    [[1, 2]], [[], []], ((), ()), ("a", "b"), ("ab",), ("a", "", "b"), [None], [0], [False], ["0"],
    {"a": 1}, {"b": 1}, {"a": 1.0}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {1: "a"}, {"1": "a"}, {(1, 2): [3]},
    {"a", "b", "c", "d", "e"}, frozenset({"a", "b", "c", "d", "e"}), {1, 2.5, "x", None, (1,)},
    {"outer": {"inner": [1, {"deep": (True,)}]}}, OrderedDict(a=1, b=2), OrderedDict(b=2, a=1),
    deque([1, 2]), deque([1, 2], 5), range(3), range(0, 3, 2), slice(1, 2), slice(None),
    date(2026, 1, 2), datetime(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime(2026, 1, 2, tzinfo=UTC),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 1, 2, 1, tzinfo=PARIS),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1), "CET")), NIGHT, NIGHT.replace(fold=1),
    time(1, 2), time(1, 2, tzinfo=UTC), time(1, 2, fold=1), timedelta(0), timedelta(1, 2, 3), timedelta(-1),
    UTC, timezone(timedelta(hours=2)), PARIS, ZoneInfo("UTC"),
    Decimal(1), Decimal("1.0"), Decimal("1.00"), Decimal("-0"), Decimal("NaN"), Decimal("1E+5"),
    Fraction(1, 3), Fraction(2), UUID(int=1), UUID(int=2**127),
    PurePosixPath("a/b"), PurePosixPath("a"), PureWindowsPath("a\\b"),
    Colour.RED, Colour.GREEN, Level.LOW, Name.ADA, Right.READ, Right.READ | Right.WRITE, Right(0),
    Point(1), Point(1, 2.0), Pair(1, 2), Pair(2, 1), User(1), User(2), Point, Colour, int, str, dict,
    [Point(1)], {"p": Point(1)}, (User(1), "x"),
    *[2**bits for bits in range(65, 75)], *["x" * length for length in range(2, 14)],
]  # fmt: skip
"""No two of them have the same key."""

CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (many, (1,), {}),
    (many, (1, 3), {}),
    (many, (1, 2, (1,)), {}),
    (many, (1, 2, (), 4), {}),
    (many, (1, 2, (), (4,)), {}),
    (many, (1, 2, (), 4, 5), {}),
    (many, (1,), {"d": 1}),
    (many, (1,), {"e": 1}),
    (many, (1,), {"a": 1}),
    (many, (1,), {"b": 2}),
    (many, (1,), {"e": 1, "f": 2}),
    (many, (1, [2]), {"c": {"x": 1}, "d": "d", "z": None}),
    (versioned, (1,), {}),
    (ignoring, (1,), {}),
    (by_key, ("X",), {}),
    (later, (1,), {}),
    (Service().rate, (1,), {}),
    (Better().rate, (1,), {}),
    (Service.of, (1,), {}),
    (Better.of, (1,), {}),
    (Service.plain, (1,), {}),
    (Owner(1).rate, (1,), {}),
    (Owner(2).rate, (1,), {}),
]
"""No two of these have the same key either."""


DOUBLE, TRIPLE = lambda x: 2 * x, lambda x: 3 * x


def plain(x: int) -> int:
    return x


def _plus(more: int) -> Any:
    @functools.wraps(plain)
    def wrapped(x: int) -> int:
        return plain(x) + more

    return wrapped


plus_one, plus_two = _plus(1), _plus(2)


def with_keys() -> Iterator[tuple[str, str]]:
    """The calls, each with its key."""
    plain = ((one, (value,), {}) for value in VALUES)
    for number, (function, args, kwargs) in enumerate(itertools.chain(plain, CALLS)):
        given = ", ".join([type(each).__name__ for each in args] + [f"{name}=" for name in kwargs])
        yield f"{number} {function.__name__}({given})", function.key_for(*args, **kwargs)


if __name__ == "__main__":
    for shown, key in with_keys():
        print(key.removeprefix("holdall.cached/1/"), shown)
