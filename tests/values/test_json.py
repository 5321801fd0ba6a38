"""JSON: plain values stay plain, others come back equal and of their type, and nothing else is read."""

import io
import json
import math
import struct
import subprocess
import sys
from collections import Counter, OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import SerializationError
from holdall.values import fastjson
from holdall.values.json import JsonSerializer
from holdall.values.same import same

serializer = JsonSerializer()


def encoded(value: object) -> bytes:
    return b"".join(serializer.encode(value))


def again(value: object) -> Any:
    return serializer.decode(encoded(value))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.just("$x"), inner, max_size=5),
    max_leaves=20,
)
zones = (
    st.none() | st.just(UTC) | st.timezones() | st.just(timezone(timedelta(hours=5, minutes=30, seconds=7)))
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=st.none() | st.just(UTC))
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
)
keys = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates() | st.just("$holdall")
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys | st.just("value") | st.just("$holdall"), inner, max_size=4)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(plain)
def test_plain_values_are_plain_json(value: object) -> None:
    text = encoded(value)
    assert same(json.loads(text), value)
    assert same(serializer.decode(text), value)


@settings(deadline=None)
@given(values)
def test_any_value_comes_back_equal_and_of_its_type(value: object) -> None:
    assert same(again(value), value)
    json.loads(encoded(value), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@settings(deadline=None)
@given(st.binary())
def test_bytes_give_a_value_or_a_serialization_error(data: bytes) -> None:
    try:
        serializer.decode(data)
    except SerializationError as error:
        if "JSON" not in str(error):
            raise


@settings(deadline=None)
@given(
    st.sampled_from(
        [
            "tuple",
            "set",
            "frozenset",
            "bytes",
            "bytearray",
            "datetime",
            "date",
            "time",
            "timedelta",
            "uuid",
            "decimal",
            "path",
            "posixpath",
            "windowspath",
            "float",
            "complex",
            "int",
            "dict",
            "later",
            "os.system",
        ]
    )
    | st.none()
    | st.lists(st.integers(), max_size=1),
    plain,
)
def test_a_marker_with_any_value_is_read_or_refused(kind: object, value: object) -> None:
    for document in (
        {"$holdall": kind, "value": value},
        {"$holdall": kind},
        {"$holdall": kind, "v": 1, "w": 2},
    ):
        try:
            read = serializer.decode(json.dumps(document).encode())
        except SerializationError as error:
            if "JSON" not in str(error):
                raise
        else:
            assert not isinstance(read, dict) or kind == "dict"


@settings(deadline=None)
@given(values, st.data())
def test_damaged_json_gives_a_value_or_a_serialization_error(value: object, data: st.DataObject) -> None:
    text = bytearray(encoded(value))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        serializer.decode(text)
    except SerializationError as error:
        if "JSON" not in str(error):
            raise


class Colour(Enum):
    RED = "red"
    MARK = "$holdall"
    MANY = (1, [2])


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    tags: set[str]


@dataclass(frozen=True)
class Place:
    x: int


class User(pydantic.BaseModel):
    name: str
    born: date


class Pair(msgspec.Struct):
    a: int


Named = namedtuple("Named", "x y")


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ({Colour.RED: [Level.HIGH]}, {"red": [3]}),
        (Point(1, {"a"}), {"x": 1, "tags": {"a"}}),
        ([User(name="Ada", born=date(1815, 12, 10))], [{"name": "Ada", "born": date(1815, 12, 10)}]),
        ([Pair(1)], [{"a": 1}]),
        (np.float32(0.1), float(np.float32(0.1))),
        ({"a": np.int64(3), "b": np.bool_(True)}, {"a": 3, "b": True}),
        (np.float64(0.5), 0.5),
        (Named(1, 2), (1, 2)),
        (OrderedDict(a=1), {"a": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (float("nan"), float("nan")),
        ([float("inf"), -math.inf], [math.inf, -math.inf]),
        (1 << 100_000, 1 << 100_000),
        (-(3**20_000), -(3**20_000)),
        (Decimal("NaN"), Decimal("NaN")),
        (Decimal("-0E+5"), Decimal("-0E+5")),
        (complex("nan+infj"), complex("nan+infj")),
        (bytearray(b"\xff"), bytearray(b"\xff")),
        (Path("/a/b"), Path("/a/b")),
        (PurePosixPath("a/b"), PurePosixPath("a/b")),
        (PureWindowsPath("C:\\a"), PureWindowsPath("C:\\a")),
        (UUID(int=5), UUID(int=5)),
        (time(1, 2, tzinfo=UTC), time(1, 2, tzinfo=UTC)),
        ({1: "a", "1": "b", None: "c", (1, 2): "d"}, {1: "a", "1": "b", None: "c", (1, 2): "d"}),
        ({"$holdall": "set", "value": [1]}, {"$holdall": "set", "value": [1]}),
        ({"$holdall": 1}, {"$holdall": 1}),
        ({"$ref": "#/a", "$date": 1}, {"$ref": "#/a", "$date": 1}),
        ({(): frozenset({frozenset({1})})}, {(): frozenset({frozenset({1})})}),
        ({Colour.MARK: "tuple", "value": [1]}, {"$holdall": "tuple", "value": [1]}),
        ({Colour.MARK: 1}, {"$holdall": 1}),
        ({Colour.RED, Level.HIGH, np.int64(4)}, {"red", 3, 4}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_stated_form(value: object, back: object) -> None:
    read = again(value)
    assert type(read) is type(back)
    assert same(read, back) or repr(read) == repr(back)


def test_a_time_zone_comes_back_by_its_name_even_in_the_hour_that_comes_twice() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        moment = datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=fold)
        read = again(moment)
        assert read == moment
        assert read.tzinfo is zone
        assert read.utcoffset() == moment.utcoffset()
        assert read.fold == fold


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 10, 25, 2, 30, fold=1),
        time(2, 30, fold=1),
        time(2, 30, tzinfo=UTC, fold=1),
        time(2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    ],
    ids=repr,
)
def test_the_second_of_two_equal_hours_comes_back_as_that(moment: datetime | time) -> None:
    for value in (moment, moment.replace(fold=0)):
        read = again(value)
        assert (read, read.fold, read.tzinfo) == (value, value.fold, value.tzinfo)


def test_a_set_has_the_same_bytes_in_every_process() -> None:
    code = (
        "from holdall.values.json import JsonSerializer\n"
        "print(JsonSerializer().encode({'a', 'b', 'c', 'd', 1, (2, 3)})[0])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    "value",
    [
        object(),
        [print],
        {"a": int},
        "\ud800",
        {"a": "\udc80"},
        np.zeros(3),
        [memoryview(b"a")],
        Point,
        range(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_it_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(SerializationError, match="JSON"):
        encoded(value)


@pytest.mark.parametrize(
    "value",
    [
        {Colour.RED: 1, "red": 2},
        {Colour.RED, "red"},
        {frozenset({Colour.RED}), frozenset({"red"})},
        {Colour.MANY: 1},
        {Colour.MANY},
        {Place(1)},
        {Place(1): "here"},
        {(Place(1), 2): "here"},
    ],
    ids=["key", "member", "inner", "list", "list member", "record", "record key", "record in a key"],
)
def test_no_key_or_member_is_lost_to_another(value: object) -> None:
    with pytest.raises(SerializationError, match="would become equal, or a dict"):
        encoded({"deep": [value]})


def test_each_nan_stays_one_of_its_own() -> None:
    two = float("nan"), float("nan")
    assert len(again(set(two))) == 2
    assert sorted(again(dict(zip(two, (1, 2), strict=True))).values()) == [1, 2]


@pytest.mark.parametrize("unit", ["ns", "s", "Y"])
def test_a_unit_of_numpy_is_not_lost_in_silence(unit: Any) -> None:
    with pytest.raises(SerializationError, match="timedelta64"):
        encoded([np.timedelta64(5, unit)])


def test_a_time_zone_without_a_name_is_refused() -> None:
    # The shortest file of a zone: one type of local time (RFC 8536).
    content = struct.pack(">4s16x6llbb", b"TZif", 0, 0, 0, 0, 1, 4, 0, 0, 0) + b"UTC\0"
    for name in (None, "of my own"):
        zone = ZoneInfo.from_file(io.BytesIO(content), key=name)
        with pytest.raises(SerializationError, match="ZoneInfo that lacks a key"):
            encoded(datetime(2026, 1, 1, tzinfo=zone))
    with pytest.raises(SerializationError, match="No time zone found with key Nowhere/City"):
        serializer.decode(b'{"$holdall": "datetime", "value": "2026-01-01T00:00:00+01:00[Nowhere/City]"}')


def test_nanoseconds_are_not_lost_in_silence() -> None:
    assert again([pd.Timestamp("2026-01-01 00:00:00.000001")]) == [datetime(2026, 1, 1, 0, 0, 0, 1)]
    for value in (pd.Timestamp("2026-01-01 00:00:00.000000001"), pd.Timedelta(1, "ns")):
        with pytest.raises(SerializationError, match="without loss"):
            encoded(value)


@pytest.mark.parametrize("marked", [False, True])
def test_cycles_and_depth_are_refused(marked: bool) -> None:
    inner: list[Any] = [{1}] if marked else []
    cycle = [*inner]
    cycle += [cycle, cycle]
    deep: Any = inner
    for _ in range(100_000):
        deep = [deep]
    members: dict[str, Any] = {"a": inner}
    members["b"] = members
    for value in (cycle, deep, members):
        with pytest.raises(SerializationError, match="levels"):
            encoded(value)
    with pytest.raises(SerializationError, match="nested"):
        serializer.decode(b"[" * 1_000_000)
    shared = ["x"]
    assert again([shared, shared]) == [["x"], ["x"]]


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nul", b"{'a': 1}", b"[1,]", b"\xff", b"1 2", b'"\n"', b"1" * 5000, b'{"a"}'],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="JSON"):
        serializer.decode(data)


def test_json_from_elsewhere_is_read() -> None:
    assert serializer.decode(b'\xef\xbb\xbf {"a" : [1, 2.5e3, "\\u00e9\\ud83d\\ude00"]}\n') == {
        "a": [1, 2500.0, "é😀"]
    }
    assert math.isnan(serializer.decode(json.dumps(math.nan).encode()))
    assert serializer.decode(b'{"\\u0024holdall": "set", "value": [1]}') == {1}
    assert serializer.decode(memoryview(b"[1]")) == [1]


@pytest.mark.parametrize("offset", [500_000, -500_000, 1, -1, 86_399_999_999, 3_600_000_001])
def test_an_offset_below_a_second_comes_back(offset: int) -> None:
    zone = timezone(timedelta(microseconds=offset))
    for value in (
        datetime(2026, 1, 1, 1, 2, 3, 4, tzinfo=zone),
        time(1, 2, 3, tzinfo=zone),
        time(tzinfo=zone),
    ):
        back = JsonSerializer().decode(JsonSerializer().encode(value)[0])
        assert back == value
        assert back.utcoffset() == value.utcoffset()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_the_ends_of_the_calendar_come_back_with_their_zones(zone: str) -> None:
    for value in (datetime.min, datetime.max):
        value = value.replace(tzinfo=ZoneInfo(zone))
        back = JsonSerializer().decode(JsonSerializer().encode(value)[0])
        assert (back.replace(tzinfo=None), back.tzinfo) == (value.replace(tzinfo=None), value.tzinfo)


def test_what_json_cannot_hold_is_named_with_its_place() -> None:
    with pytest.raises(
        SerializationError, match=r"JSON can't hold an object \(at \['a'\]\[1\]\['b'\]\); convert"
    ):
        JsonSerializer().encode({"a": [1, {"b": object()}]})


@settings(deadline=None)
@given(plain | values)
def test_msgspec_writes_and_reads_the_same_values(value: Any) -> None:
    """Where it is installed, plain JSON is written and read by msgspec, which takes other values too."""
    quick = fastjson.write_plain(value, b'"$holdall"', 200)
    if quick is not None:
        assert same(json.loads(quick), value)
        assert same(fastjson.read_plain(quick), value)


class Word(str):
    """A str that isn't one by its type."""


@dataclass(eq=False)
class Alike:
    """What equals all else, so that a comparison alone says nothing."""

    field: Any

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("more", [0, 400])
@pytest.mark.parametrize(
    "value",
    [
        (1,),
        {"a": (1,)},
        [{1: "a"}],
        {"a": {None: 1}},
        [float("nan"), None],
        {"a": "null", "b": float("inf")},
        [b"x"],
        [date(2026, 1, 1)],
        [{"$holdall": 1}],
        [[{1, 2}]],
        [IntEnum("E", "A").A],  # type: ignore[attr-defined]
        OrderedDict(a=1),
        [Word("a")],
        {Word("a"): 1},
        {"a": Alike(1)},
        ["a\ud800"],
        pytest.param(10**5000, id="huge"),
        [msgspec.UNSET],
        [memoryview(b"abcd")[::2]],
    ],
)
def test_what_msgspec_would_change_is_left_to_others(value: Any, more: int) -> None:
    # Short values and long ones are checked in two ways.
    value = [value, "x" * more]
    assert fastjson.write_plain(value, b'"$holdall"', 200) is None


def test_what_contains_itself_or_is_deep_is_left_to_others() -> None:
    loop: list[Any] = [1]
    loop += [loop, loop]
    deep: Any = 1
    for _ in range(201):
        deep = [deep]
    for value in (loop, deep, {"a": loop}):
        assert fastjson.write_plain(value, b'"$holdall"', 200) is None
        with pytest.raises(SerializationError, match="200 levels"):
            serializer.encode(value)
    assert again(deep[0]) == deep[0]


def test_dicts_of_every_make_are_written() -> None:
    class Thing:
        def __init__(self) -> None:
            self.a = 1
            self.b = [2]

    emptied: dict[Any, Any] = {1: 2, "a": 3}
    del emptied[1]
    thing = Thing()
    del thing.a
    for value in (emptied, vars(Thing()), vars(thing), {}, [{}], {"a": {}}, dict.fromkeys("ab"), [[], {}]):
        assert json.loads(encoded(value)) == value
        assert fastjson.write_plain(value, b'"$holdall"', 200) in (None, encoded(value))


def test_nulls_in_text_are_no_nans() -> None:
    value = {"a": "null", "b": 1.5, "c": [None, "null,null"]}
    assert fastjson.write_plain(value, b'"$holdall"', 200) == msgspec.json.encode(value)


@pytest.mark.parametrize("text", ["NaN", "[1e400]", '"\\ud800"', "9" * 5000, "[1,]", "", "\ufeff1", "01"])
def test_without_msgspec_the_same_is_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> object:
        try:
            return repr(serializer.decode(text.encode()))
        except SerializationError as error:
            return str(error)

    with_it = read()
    monkeypatch.setattr(fastjson, "library", None)
    monkeypatch.setattr(fastjson, "_calls", -1)
    assert read() == with_it
