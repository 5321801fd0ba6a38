"""What comes back is compared with what was given: types and places, beyond what `==` looks at."""

import dataclasses
import enum
import re
from collections import OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from pydantic import BaseModel, Field

from holdall.values.same import difference, place_of, same

BERLIN = ZoneInfo("Europe/Berlin")
TWICE = datetime(2026, 10, 25, 2, 30)
NAN = float("nan")


class Role(enum.StrEnum):
    ADMIN = "admin"


class Level(enum.IntEnum):
    LOW = 1


class Node(msgspec.Struct, eq=False):
    value: Any


@dataclasses.dataclass(eq=False)
class Plain:
    value: Any


@dataclasses.dataclass
class Half:
    value: Any
    note: Any = dataclasses.field(default=None, compare=False)


class Model(BaseModel):
    value: Any = None
    other: int = 1
    hidden: int = Field(default=0, exclude=True)


class Rows(list[int]):
    pass


class Opaque:
    def __init__(self, value: Any) -> None:
        self.value = value


def rows(*members: int, **attributes: object) -> Rows:
    made = Rows(members)
    made.__dict__.update(attributes)
    return made


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("given", "back", "words"),
    [
        (1, 1.0, "it would come back as a float, not as an int"),
        (1, True, "a bool"),
        (
            [{"roles": [Role.ADMIN]}],
            [{"roles": ["admin"]}],
            r"\[0\]\['roles'\]\[0\] would come back as a str",
        ),
        ({Role.ADMIN}, {"admin"}, "a member of it"),
        ({1}, {True}, "a bool, not as an int"),
        (frozenset({(1,)}), frozenset({(1.0,)}), "a float"),
        ({NAN}, {1.0}, "lost or changed"),
        ({1: "a"}, {1.0: "a"}, "the key 1 of it"),
        ({Level.LOW: "a"}, {1: "a"}, "an int"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "another order"),
        ({"a": 1}, {}, "0 members, not 1"),
        (OrderedDict(a=1), {"a": 1}, "a dict"),
        (defaultdict(int), defaultdict(list), "default_factory"),
        (deque([1], 2), deque([1]), "maxlen"),
        (0.0, -0.0, "another float"),
        (0j, complex(0, -0.0), "another complex"),
        (Decimal("1.0"), Decimal("1.00"), "another Decimal"),
        (b"a", bytearray(b"a"), "bytearray"),
        ((1,), [1], "a list"),
        (Pair(1, 2), (1, 2), "a tuple"),
        (time(9, tzinfo=BERLIN), time(9), "without its time zone"),
        (time(9, tzinfo=BERLIN), time(9, tzinfo=ZoneInfo("Europe/Paris")), "another time"),
        (TWICE, TWICE.replace(fold=1), "fold=1, not 0"),
        (TWICE.replace(tzinfo=BERLIN), TWICE.replace(tzinfo=BERLIN, fold=1), "fold=1"),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 13, tzinfo=BERLIN), "another datetime"),
        (datetime(2026, 1, 1), date(2026, 1, 1), "a datetime.date, not as a datetime.datetime"),
        (Node([1]), Node([2]), r"value\[0\] would come back as another int"),
        (Plain(1), Plain(1.0), "value would come back as a float"),
        (Half(1, 2), Half(1, 3), "note would"),
        (Opaque([1]), Opaque([2]), "another Opaque"),
        (rows(1, unit="m"), rows(1), "__dict__"),
        (Model(value=1), Model(value=1, other=1), "other would come back as set, which it wasn't"),
        (Model(value=1), Model(), "value would come back as not set"),
        (Model(value=[Model()]), Model(value=[Model(other=1)]), r"value\[0\].other"),
        (np.arange(3), np.arange(3.0), "another ndarray"),
        (np.array([1, "a"], object), np.array([1.0, "a"], object), "another ndarray"),
    ],
)
def test_what_differs_is_named(given: Any, back: Any, words: str) -> None:
    found = difference(given, back)
    assert found is not None
    assert re.search(words, found), found
    assert difference(back, given) is not None
    assert not same([given], [back])


@pytest.mark.parametrize(
    "make",
    [
        lambda: [1, 1.0, True, None, "a", b"b", bytearray(b"c"), 2j, Decimal("NaN"), Decimal("sNaN"), NAN],
        lambda: {(1, float("nan")), (1, 2), frozenset({3})},
        lambda: {float("nan"), float("nan")},
        lambda: {TWICE.replace(tzinfo=BERLIN), TWICE.replace(tzinfo=BERLIN, fold=1)},
        lambda: [datetime.min.replace(tzinfo=BERLIN), datetime.max.replace(tzinfo=BERLIN)],
        lambda: {Role.ADMIN: Level.LOW, 3: [Node(Plain(Opaque({1})))]},
        lambda: Model(value={"a": Model(other=2)}),
        lambda: (np.array([1.0, float("nan")]), np.array([], "M8[s]"), np.array([{"a": 1}], object)),
        lambda: [rows(1, unit="m"), Pair(1, 2), deque([1], 3), defaultdict(int, a=1)],
    ],
)
def test_what_is_made_alike_is_the_same(make: Any) -> None:
    assert difference(make(), make()) is None


def test_of_an_aware_time_the_clock_and_the_offset_count() -> None:
    # PEP 495: in the hours of a clock change, == says no to all but its own zone.
    for fold, hours in ((0, 2), (1, 1)):
        given = TWICE.replace(tzinfo=BERLIN, fold=fold)
        back = TWICE.replace(tzinfo=timezone(timedelta(hours=hours)))
        assert given != back
        assert same(given, back)
        assert same({given}, {back})
    assert same(time(9, tzinfo=UTC), time(9, tzinfo=timezone(timedelta(0))))


def test_cycles_and_depth_end() -> None:
    one: list[Any] = []
    one.append(one)
    other: list[Any] = []
    other.append(other)
    assert difference(one, other) == "[0] contains itself"
    deep: list[Any] = []
    deeper: list[Any] = []
    for _ in range(100_000):
        deep, deeper = [deep], [deeper]
    assert difference(deep, deeper) == "it is nested too deep to be compared"


def test_what_compares_to_nothing_differs() -> None:
    class Angry:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    assert difference([Angry()], [Angry()]) is not None


def test_no_value_is_shown_since_it_may_be_a_secret() -> None:
    found = difference({"password": "hunter2"}, {"password": "hunter3"})
    assert found == "['password'] would come back as another str"


def test_an_object_is_found_in_a_value() -> None:
    wanted = object()
    assert place_of({"a": [1, Node({"b": wanted})]}, wanted) == "['a'][1].value['b']"
    assert place_of([1], wanted) == ""
