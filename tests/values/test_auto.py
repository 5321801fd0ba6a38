"""The rules of the mode `auto` are those of the tables in the guide."""

import pickle
import re
from collections import namedtuple
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.test_docs import table
from tests.values.test_json import values as json_values

from holdall import MemoryStore, SerializationError, UntrustedDataError, ValueStore
from holdall.values.pickles import MAGIC, PickleSerializer
from holdall.values.same import same

PAGE = Path(__file__).parents[2] / "docs/get-store.md"


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


Pair = namedtuple("Pair", "x y")


@dataclass
class Point:
    x: int
    y: int


class User(pydantic.BaseModel):
    name: str


SIGNED = object()
WRITTEN: list[tuple[Any, Any, Any]] = [
    ("buy milk", b"buy milk", "buy milk"),
    ("123", b'"123"', "123"),
    (Color("red"), b"red", "red"),
    (b"\x89PNG", b"\x89PNG", b"\x89PNG"),
    (b"buy milk", b"buy milk", "buy milk"),
    (b"[1, 2]", b"[1, 2]", [1, 2]),
    (bytearray(b"\xff"), b"\xff", b"\xff"),
    ({"a": [1, 2.5, None]}, b'{"a":[1,2.5,null]}', {"a": [1, 2.5, None]}),
    (
        {1: (2, b"3")},
        (
            b'{"$holdall":"dict","value":[[1,{"$holdall":"tuple","value":'
            b'[2,{"$holdall":"bytes","value":"Mw=="}]}]]}'
        ),
        {1: (2, b"3")},
    ),
    (Level.HIGH, b"3", 3),
    (Pair(1, 2), b'{"$holdall":"tuple","value":[1,2]}', (1, 2)),
    (np.float64(1.5), b"1.5", 1.5),
    (Point(1, 2), b'{"x":1,"y":2}', {"x": 1, "y": 2}),
    (User(name="Ada"), b'{"name":"Ada"}', {"name": "Ada"}),
    (range(3), SIGNED, range(3)),
]
"""What is put, its bytes, and what comes back."""
READ: list[tuple[bytes, Any]] = [
    (b' {"a": 1}\n', {"a": 1}),
    (b"2026-11-21", "2026-11-21"),
    (b"\x80\x04N.", b"\x80\x04N."),
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HOLDALL_PICKLE_KEY", raising=False)


def shown(cell: str) -> Any:
    """What the last code of a cell says."""
    return eval(re.findall(r"`([^`]+)`", cell)[-1])


def test_the_table_of_the_guide_is_this_one() -> None:
    rows = table(PAGE, "you put")[1:]
    assert len(rows) == len(WRITTEN)
    for (put, stored, back), (value, data, result) in zip(rows, WRITTEN, strict=True):
        assert same(shown(put), value)
        assert ("pickle" in stored and "`" not in stored) if data is SIGNED else shown(stored) == data
        unchanged = back == "the same"
        assert same(value if unchanged else shown(back), result)
        # What doesn't come back as it was is in bold.
        assert unchanged != back.startswith("**")
        assert unchanged == same(value, result)
    rows = [row for row in table(PAGE, "the bytes")[1:] if "pickle that" not in row[0] or "nobody" in row[0]]
    assert [(shown(data), shown(value)) for data, value in rows] == READ


@pytest.mark.parametrize(("value", "data", "back"), WRITTEN, ids=[repr(each[0]) for each in WRITTEN])
def test_what_is_put(value: Any, data: Any, back: Any) -> None:
    values = ValueStore(MemoryStore())
    values["a"] = value
    if data is SIGNED:
        assert values.store["a"].startswith(MAGIC)
    else:
        assert values.store["a"] == data
    assert same(values["a"], back)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        *READ,
        (b"", ""),
        (b"NaN", "NaN"),
        (b"-Infinity", "-Infinity"),
        (b'"a', '"a'),
        (b"01", "01"),
        (b"[1,]", "[1,]"),
        (b"true", True),
        (b"true ", True),
        (b"truethat", "truethat"),
        (b"true that", "true that"),
        (b" null", None),
        (b"\xef\xbb\xbf1", "\ufeff1"),
        (b"1\x00", "1\x00"),
        (b"9" * 5000, "9" * 5000),
        (b"1e400", float("inf")),
        (b'"\\ud800"', "\ud800"),
        (b'"\\u0024holdall"', "$holdall"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"\xff", b"\xff"),
        (b"\xed\xa0\x80", b"\xed\xa0\x80"),
        (b"hldpick2", "hldpick2"),
        (b"hldtype1\x04textabc", "hldtype1\x04textabc"),
    ],
)
@pytest.mark.parametrize("quick", [True, False])
def test_what_is_read(data: bytes, value: Any, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not quick:
        # As without msgspec.
        monkeypatch.setattr("holdall.values.fastjson.library", None)
        monkeypatch.setattr("holdall.values.fastjson._calls", -1)
    values = ValueStore(MemoryStore({"a": data}))
    assert same(values["a"], value)
    if b"\n" not in data and data:
        assert same(list(values.stream("a")), [value])


def test_what_isnt_read() -> None:
    theirs = b"".join(PickleSerializer(PickleSerializer.generate_key()).encode(1))
    values = ValueStore(MemoryStore({"a": theirs, "b": b'{"$holdall":"x"}', "c": b"[" * 100_000}))
    with pytest.raises(UntrustedDataError, match="'a'"):
        values["a"]
    for key in "bc":
        with pytest.raises(SerializationError, match=f"'{key}'"):
            values[key]


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    values = ValueStore(MemoryStore())
    values["a"] = text
    assert values["a"] == text


@settings(deadline=None)
@given(json_values.filter(lambda value: not isinstance(value, bytes)))
def test_what_json_holds_comes_back(value: Any) -> None:
    values = ValueStore(MemoryStore())
    values["a"] = value
    assert same(values["a"], value)
    text = values.store["a"].decode()
    # A text that looks like the JSON of a value is a text all the same.
    values["b"] = text
    assert values["b"] == text


@settings(deadline=None)
@given(st.binary())
def test_bytes_come_back_unless_they_are_text(data: bytes) -> None:
    values = ValueStore(MemoryStore())
    values["a"] = data
    assert values.store["a"] == data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert values["a"] == data
    else:
        assert values["a"] == text or not isinstance(values["a"], (str, bytes))


def test_no_bare_pickle_is_ever_read() -> None:
    for protocol in range(6):
        data = pickle.dumps(Bomb(), protocol)
        values = ValueStore(
            MemoryStore({"a": data, "b": MAGIC + data, "c": MAGIC + bytes(8) + data + bytes(32)})
        )
        for key in "abc":
            try:
                assert isinstance(values[key], (bytes, str))
            except UntrustedDataError:
                pass
            assert list(values.stream(key, raise_on_nonexist=True, deserialization_func=len))


def test_every_pickle_is_read_if_all_are_trusted() -> None:
    values = ValueStore(MemoryStore(), pickles="trust")
    values["a"] = {1: range(3)}
    assert values["a"] == {1: range(3)}
    for protocol in range(2, 6):
        values.store["a"] = pickle.dumps(range(3), protocol)
        assert values["a"] == range(3)
    values["a"] = b"\x80\x04 and more"
    assert values["a"] == b"\x80\x04 and more"


def test_a_pickle_of_a_newer_version_is_never_taken_for_bytes() -> None:
    values = ValueStore(MemoryStore({"a": b"hldpick3" + bytes(range(100, 200))}), pickle_key=b"k" * 32)
    with pytest.raises(UntrustedDataError, match="newer version of holdall"):
        values["a"]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)
