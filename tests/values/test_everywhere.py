"""Values of every kind, in the modes that keep them, in stores of every kind, by many threads."""

import collections
import datetime
import decimal
import enum
import math
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.servers.moto import moto
from tests.servers.valkey import ValkeyServer
from tests.values.test_json import values as json_values

from holdall import MemoryStore, SerializationError, StoreError, ValueStore, get_store
from holdall.values import Serializers, serializers
from holdall.values.raw import TextSerializer
from holdall.values.same import same

KEY = bytes(range(32))


class Level(enum.IntEnum):
    LOW = 1


class Color(enum.StrEnum):
    RED = "red"


Pair = collections.namedtuple("Pair", "x y")


@dataclass(frozen=True)
class Point:
    x: int
    more: tuple[int, ...] = ()


class User(pydantic.BaseModel):
    name: str
    tags: set[str] = set()


class Team(pydantic.BaseModel):
    members: list[User]


class Spot(msgspec.Struct):
    x: int


class Text(str):
    __slots__ = ()


class Thing:
    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and same(self.held, other.held)

    __hash__ = None  # type: ignore[assignment]


VALUES: list[Any] = [
    None,
    True,
    -(2**9000),
    math.nan,
    -0.0,
    "",
    "123",
    "null",
    "hldpick2",
    "a\0b\u2028",
    b"",
    b"text",
    b'{"a": 1}',
    b"hldpick2" + bytes(60),
    b"hldtype1\x04text",
    bytearray(b"\xff"),
    {"$holdall": "tuple", "value": []},
    {1: "a", "1": "b"},
    {(1, 2): {3}, None: [b"x", (4,)]},
    [Level.LOW, Color.RED],
    {Color.RED: 1},
    Pair(1, [2]),
    [Pair(1, 2)],
    Point(1, (2,)),
    [User(name="a")],
    User(name="a", tags={"x"}),
    Team(members=[User(name="a")]),
    Spot(1),
    {"spots": [Spot(1)]},
    Text("a"),
    [Text("a")],
    collections.OrderedDict(b=1, a=2),
    collections.deque([1], maxlen=2),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    decimal.Decimal("1.10"),
    1 + 2j,
    range(3),
    Thing([1, {2}]),
    np.arange(6.0).reshape(2, 3),
    np.float32(1.5),
    {"weights": np.arange(3)},
    [np.arange(3)],
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HOLDALL_PICKLE_KEY", raising=False)


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ValueStore]]:
    with ExitStack() as stack:
        valkey, url = stack.enter_context(ValkeyServer()), stack.enter_context(moto())
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield [
            stack.enter_context(get_store(uri))
            for uri in (
                tmp_path / "files",
                f"sqlite:///{tmp_path}/data.db",
                f"zip://{tmp_path}/data.zip",
                f"redis://127.0.0.1:{valkey.port}",
                "s3://bucket/values",
            )
        ]


def test_stores_of_every_kind(stores: list[ValueStore]) -> None:
    keys = [f"{number:02}/value" for number in range(len(VALUES))]
    for store in stores:
        for mode in ("typed", "pickle"):
            typed = ValueStore(store.store, mode)
            typed.update(dict(zip(keys, VALUES, strict=True)))
            assert list(typed) == keys
            for value, back in zip(VALUES, typed.values(), strict=True):
                assert same(value, back), (store, mode, value)
        assert list(store.iterate_keys("0", glob="*/value")) == keys[:10]
        with store.open("lines", "w") as file:
            file.writelines(f'{{"n": {number}}}\n' for number in range(50_000))
        assert sum(row["n"] for row in store.stream("lines")) == sum(range(50_000))


@pytest.mark.parametrize("value", VALUES, ids=[str(number) for number in range(len(VALUES))])
def test_every_mode_gives_a_value_back_or_refuses_it(value: Any) -> None:
    values = ValueStore(MemoryStore())
    for mode in ("raw", "auto", "json", "pickle", "typed", "text", "bytes", "yaml", "npy", "pydantic"):
        values["a"] = "kept"
        error = None
        try:
            values.put("a", value, serialization_mode=mode)
        except StoreError as raised:
            error = raised
        if error is not None:
            assert mode not in ("pickle", "typed")
            assert error.key == "a"
            assert values["a"] == "kept"
        else:
            back = values.get("a", serialization_mode=mode)
            assert mode not in ("pickle", "typed", "npy") or same(value, back)


def test_frames_and_images_keep_their_own_format() -> None:
    values = ValueStore(MemoryStore(), "typed")
    frame = pd.DataFrame({"a": [1, 2]})
    values["frame"] = frame
    assert values.store["frame"].startswith(b"hldtype1\x07parquetPAR1")
    pd.testing.assert_frame_equal(values["frame"], frame)
    values["image"] = Image.new("RGB", (2, 2), "red")
    assert values.store["image"].startswith(b"hldtype1\x05image")
    assert values["image"].getpixel((0, 0)) == (255, 0, 0)


@settings(deadline=None)
@given(json_values | st.builds(Pair, json_values, json_values) | st.builds(Text, st.text()))
def test_typed_gives_any_value_back(value: Any) -> None:
    values = ValueStore(MemoryStore(), "typed", pickle_key=KEY)
    values["a"] = value
    assert same(values["a"], value)


@settings(deadline=None)
@given(st.binary().map(lambda data: b"hldtype1" + data) | st.binary())
def test_damaged_typed_values_are_errors(data: bytes) -> None:
    values = ValueStore(MemoryStore({"a": data}), "typed", pickle_key=KEY)
    said = "mode 'typed'"
    try:
        values["a"]
    except StoreError as error:
        said = str(error)
    assert "mode 'typed'" in said


class Shouting(TextSerializer):
    name = "text"

    def decode(self, data: Any) -> str:
        return super().decode(data).upper()


class Listed:
    name = "listed"
    media_type = "text/x-listed"
    extensions = (".listed",)

    def accepts(self, value: object) -> bool:
        return type(value) is list

    def encode(self, value: list[Any]) -> Iterator[bytes]:
        yield repr(value).encode()

    def decode(self, data: Any) -> list[Any]:
        return eval(bytes(data))


def test_typed_asks_the_serializers_that_were_registered() -> None:
    known = Serializers(serializers)
    values = ValueStore(MemoryStore(), "typed", serializers=known)
    values["a"], values["b"] = "text", [1]
    known.register(Listed())
    values["c"] = [1]
    assert values.store["b"] != values.store["c"] == b"hldtype1\x06listed[1]"
    assert values["b"] == values["c"] == [1]
    known.register(Shouting())
    assert values["a"] == "TEXT"


def test_many_threads_use_one_store_from_its_first_moment(tmp_path: Path) -> None:
    """The user's key is made by the first of them, and the codecs of the modes too."""
    with get_store(tmp_path / "files") as store:
        begin = threading.Barrier(8)

        def work(number: int) -> None:
            begin.wait()
            for mode in ("typed", "pickle", "auto", "json"):
                value = range(number) if mode in ("auto", "pickle") else [number]
                store.put(f"{mode}/{number}", value, serialization_mode=mode)
                assert store.get(f"{mode}/{number}", serialization_mode=mode) == value
            assert store.setdefault("first", "one") == "one"

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        with ThreadPoolExecutor(8) as pool:
            popped = list(pool.map(lambda _: store.pop("first", None), range(8)))
        assert sorted(popped, key=str) == [None] * 7 + ["one"]


def test_a_line_that_is_long_or_has_no_end_is_read_whole() -> None:
    values = ValueStore(MemoryStore({"a": b'["' + b"x" * 3_000_000 + b'"]\n1'}), "json")
    assert [type(each) for each in values.stream("a")] == [list, int]
    lines = values.stream("a")
    next(lines)
    del values.store["a"]
    assert next(lines) == 1


@pytest.mark.parametrize("mode", ["json", "raw", "auto", "csv"])
def test_the_memory_of_a_stream_is_bounded(mode: str, tmp_path: Path) -> None:
    with get_store(tmp_path / "files") as store:
        store.store["a"] = (
            b'"some text in a line",1,2\n' * 1_000_000 if mode == "csv" else b"[1,2]\n" * 4_000_000
        )
        lines = store.stream("a", serialization_mode=mode)
        next(lines)
        tracemalloc.start()
        try:
            count = sum(1 for _ in islice(lines, 100_000))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert count == 100_000
        # A piece of a MiB, cut in short lines, each of which is an object.
        assert peak < 20_000_000


def test_lines_before_a_bad_one_are_yielded_once() -> None:
    values = ValueStore(MemoryStore({"a": b'1\n2\n\nNaN\n{"$holdall": "x"}\n3'}), "json")
    seen: list[Any] = []
    with pytest.raises(SerializationError, match=r"'a': line 5: .*marker"):
        collections.deque(map(seen.append, values.stream("a")), maxlen=0)
    assert seen[:2] == [1, 2]
    assert math.isnan(seen[2])
    assert seen[3:] == []
