"""Any value comes back from any store, or is refused before anything is written."""

import datetime
import gc
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pydantic import BaseModel

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    Can,
    FilesystemStore,
    InvalidArgumentError,
    InvalidDataError,
    InvalidKeyError,
    InvalidTypeError,
    Item,
    MemoryStore,
    MissingDependencyError,
    SerializationError,
    SqliteStore,
    Store,
    StoreError,
    UntrustedDataError,
    ValueStore,
)
from holdall.values import serializers
from holdall.values.modes import MODES
from holdall.values.pickles import PickleSerializer


class Point(BaseModel):
    x: int


def test_put_takes_a_moment_of_expiry() -> None:
    values = ValueStore(MemoryStore())
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    assert values.put("a", 5, expires=until).expires == until
    assert values["a"] == 5
    with pytest.raises(InvalidArgumentError, match="one of them"):
        values.put("a", 6, expires=until, ttl=60)
    assert values["a"] == 5


@pytest.mark.parametrize("reversing", [False, True])
def test_iterate_values_reads_many_at_once_in_order(reversing: bool) -> None:
    calls: list[int] = []

    class Bulk(MemoryStore):
        can = MemoryStore.can | Can.BULK  # type: ignore[assignment]

        def _get_many(self, keys: Any) -> Any:
            keys = list(keys)
            calls.append(len(keys))
            yield from super()._get_many(reversed(keys) if reversing else keys)

        def _get(self, key: str) -> bytes | None:
            return None if key == "099" else super()._get(key)  # one that is deleted meanwhile

    store = Bulk({f"{number:03}": b"%d" % number for number in range(1, 251)})
    values = ValueStore(store, "json").iterate_values()
    assert (next(values), calls) == (1, [8])
    assert list(values) == [number for number in range(2, 251) if number != 99]
    assert calls == [8, 16, 32, 64, 100, 30]
    # Of long values few are asked for at once, since some servers send them in one reply.
    calls.clear()
    store.update({f"{number:03}": bytes(1 << 20) for number in range(20)})
    assert sum(1 for _ in ValueStore(store, "raw").iterate_values(glob="0[01]?")) == 20
    assert calls == [8, 8, 4]


class Given(Exception):
    """What a caller throws into a generator."""


@pytest.mark.parametrize(
    "error", [Given, Given("text"), SerializationError("the caller's"), UnicodeDecodeError]
)
@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b'{"a": 1}\n{"a": 2}\n{"a": 3}\n', {}),
        (b'{"x": 1}\n{"x": 2}\n', {"model": Point}),
        (b"a,b\nc,d\n", {"serialization_mode": "csv"}),
        (b"a,b\nc,d\n", {"serialization_mode": "csv", "deserialization_func": tuple}),
        (b"text\nmore\n", {"serialization_mode": "text"}),
    ],
)
def test_an_exception_thrown_into_stream_is_the_callers(error: Any, data: bytes, options: Any) -> None:
    thrown = UnicodeDecodeError("utf-8", b"", 0, 1, "") if error is UnicodeDecodeError else error
    rows: Any = ValueStore(MemoryStore({"rows": data})).stream("rows", **options)
    next(rows)
    with pytest.raises(thrown if isinstance(thrown, type) else type(thrown)) as caught:
        rows.throw(thrown)
    assert isinstance(thrown, type) or caught.value is thrown
    assert "line" not in str(caught.value)
    assert list(rows) == []


def test_messages_of_models_show_no_values() -> None:
    values = ValueStore(MemoryStore({"a": b'{"x": "hunter2"}', "rows": b"x\nhunter2\n"}))
    wrong: Any = {"x": "hunter2"}
    calls: list[Any] = [
        lambda: values.get("a", model=Point),
        lambda: values.put("b", wrong, model=Point),
        lambda: list(values.stream("rows", serialization_mode="csv", model=Point)),
    ]
    for call in calls:
        with pytest.raises(SerializationError) as caught:
            call()
        assert "Point" in caught.value.message
        assert "hunter2" not in str(caught.value).partition("; read")[0]


def test_an_update_takes_values_with_attributes_of_their_own() -> None:
    puts: list[Any] = []

    class Once(MemoryStore):
        def put_many(self, items: Any, **options: Any) -> Any:
            puts.append(items)
            return super().put_many(items, **options)

    values = ValueStore(Once(name="items"), "json")
    values.update(
        {"a": Item([1], ttl=60, metadata={"owner": "ana"}), "b": [2]}, c=Item(3, content_type="x/y")
    )
    assert dict(values.items()) == {"a": [1], "b": [2], "c": 3}
    infos = {info.key: info for info in values.store.list()}
    assert infos["a"].expires is not None
    assert infos["a"].metadata == {"owner": "ana"}
    assert infos["b"].expires is infos["b"].content_type is None
    assert infos["c"].content_type == "x/y"
    assert len(puts) == 1
    for bad in (Item(object()), Item(4, ttl=-1)):
        with pytest.raises(StoreError) as caught:
            values.update({"a": 5, "bad": bad})
        assert caught.value.key == "bad"
    for mode in ("auto", "json", "pickle", "raw", "typed"):
        with pytest.raises(InvalidDataError, match=r"'a': an Item is for update.*put takes ttl="):
            values.put("a", Item(b"", ttl=60), serialization_mode=mode)
    assert values["a"] == [1]


class Spot(msgspec.Struct):
    x: int


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, where the key of the user's pickles is made."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HOLDALL_PICKLE_KEY", raising=False)
    return tmp_path


@pytest.fixture(params=["sqlite", "files"])
def store(request: Any, tmp_path: Path) -> Iterator[Store]:
    """One that keeps media types, and one that doesn't."""
    made: Any = (
        SqliteStore(tmp_path / "a.db") if request.param == "sqlite" else FilesystemStore(tmp_path / "files")
    )
    with made:
        assert (Can.ATTRIBUTES in made.can) == (request.param == "sqlite")
        yield made


GIVEN: dict[str, Any] = {
    "a": {"when": datetime.date(2026, 11, 21), "tags": {"a"}},
    "null": None,
    "false": False,
    "text": "zwölf",
    "empty": "",
    "number": "123",
    "bytes": b"\0\xff",
    "range": range(3),
    "array": np.arange(6).reshape(2, 3),
}


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(np.array_equal(one, other))


@pytest.mark.parametrize("mode", ["auto", "pickle", "typed"])
def test_every_value_comes_back(store: Store, mode: str) -> None:
    values = ValueStore(store, mode)
    for key, value in GIVEN.items():
        values[key] = value
        assert same(values[key], value)
        assert same(values.get(key, 5), value)
    assert list(values) == sorted(GIVEN)
    assert len(values) == len(GIVEN)
    assert all(same(value, GIVEN[key]) for key, value in values.items())
    assert len(list(values.values())) == len(GIVEN)
    again = pickle.loads(pickle.dumps(values))
    assert same(again["null"], None)
    assert again.serialization_mode == mode
    for key, value in GIVEN.items():
        assert same(values.pop(key, 5), value)
        assert values.pop(key, 5) == 5
    assert not values
    with pytest.raises(BlobNotFoundError, match="ValueStore is empty"):
        values.popitem()


def test_none_is_a_value(store: Store) -> None:
    values = ValueStore(store)
    with pytest.raises(BlobNotFoundError):
        values["a"]
    assert values.setdefault("a", None) is None
    assert values.setdefault("a", 5) is None
    assert values.get("a", 5) is None
    assert ("a", None) in values.items()
    assert list(values.values()) == [None]
    assert values.pop("a") is None
    with pytest.raises(BlobNotFoundError):
        values.pop("a")
    values["a"] = None
    assert values.popitem() == ("a", None)


def test_many_are_put_at_once_or_none_of_them(store: Store) -> None:
    values = ValueStore(store, "json")
    values.update({"a": 1, "b": [2]}, other="x")
    assert dict(values.items()) == {"a": 1, "b": [2], "other": "x"}
    with pytest.raises(SerializationError):
        values.update({"new": 1, "x": object()})
    with pytest.raises(InvalidKeyError):
        values.update({"new": 1, "../x": 1})
    assert "new" not in values
    values.clear()
    assert not list(store)


def test_raw_takes_what_a_store_takes_and_a_str_as_utf_8(store: Store) -> None:
    values = ValueStore(store, "raw")
    for value in ("zwölf", b"zw\xc3\xb6lf", bytearray(b"zw\xc3\xb6lf"), io.BytesIO(b"zw\xc3\xb6lf")):
        values["a"] = value
        assert values["a"] == b"zw\xc3\xb6lf"
    values["a"] = (piece for piece in (b"1", b"2"))
    assert values["a"] == b"12"
    assert values.setdefault("b", "text") == values["b"] == b"text"
    for wrong in (5, None, ["a"], {"a": 1}, 1.5, "a\ud800", [b"a"]):
        with pytest.raises(SerializationError, match="'a'"):
            values["a"] = wrong
    assert values["a"] == b"12"


def test_a_call_has_its_own_mode(store: Store) -> None:
    values = ValueStore(store, "raw")
    values.put("a", {"x": 1}, serialization_mode="json")
    assert values["a"] == b'{"x":1}'
    assert values.get("a", serialization_mode="auto") == {"x": 1}
    assert values.pop("a", serialization_mode="json") == {"x": 1}
    values.update(a=b"1", b=b"2", c=b"3")
    assert list(values.iterate_values(serialization_mode="json")) == [1, 2, 3]
    assert list(values.iterate_values(exclude_prefix="b", glob="[bc]")) == [b"3"]


def test_functions_of_a_call(store: Store) -> None:
    values = ValueStore(store, "json")
    values.put("a", [1, 2], serialization_func=lambda value: bytes(value))
    assert store["a"] == b"\1\2"
    assert values.get("a", deserialization_func=list) == [1, 2]
    values.put("a", range(3), serialization_func=list)
    assert store["a"] == b"[0,1,2]"
    assert values.get("a", serialization_mode="json", deserialization_func=sum) == 3
    values.put("a", 4, serialization_func=lambda value: b"x" * value, serialization_mode="json")
    assert values["a"] == b"xxxx"
    with pytest.raises(InvalidTypeError, match="serialization_func must be a function, not str"):
        values.put("a", 4, serialization_func="json")  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="deserialization_func must be a function, not str"):
        values.get("a", deserialization_func="json")  # type: ignore[arg-type]


def test_a_typed_text_with_a_lone_surrogate_comes_back(store: Store) -> None:
    values = ValueStore(store, "typed", pickle_key=b"k" * 32)
    for text in ("a\ud800", "a"):
        values["a"] = text
        assert values["a"] == text


def test_an_error_of_a_function_names_its_own_key(store: Store) -> None:
    values, other = ValueStore(store), ValueStore(MemoryStore())
    values["a"] = "old"
    with pytest.raises(BlobNotFoundError, match="'missing'"):
        values.put("a", "new", serialization_func=lambda _: other["missing"])
    with pytest.raises(BlobNotFoundError, match="'missing'"):
        values.get("a", 5, deserialization_func=lambda _: other["missing"])
    assert values["a"] == "old"


def test_unions_of_models_are_read_in_their_order(store: Store) -> None:
    class Other(Point):
        pass

    values = ValueStore(store)
    store["a"], store["many"] = b'{"x":1}', b'[{"x":1}]'
    # They are equal, but what fits both is read as the first.
    for first, second in ((Point, Other), (Other, Point), (Point, Other)):
        assert type(values.get("a", model=first | second)) is first
        assert type(values.get("many", model=list[first | second])[0]) is first


@pytest.mark.parametrize("model", [Point, Spot])
def test_models(store: Store, model: Any) -> None:
    values = ValueStore(store)
    values.put("a", model(x=1), model=model)
    assert store["a"] == b'{"x":1}'
    assert values.get("a", model=model) == model(x=1)
    assert values["a"] == {"x": 1}
    values["a"] = model(x=2)
    assert values.pop("a", model=model) == model(x=2)
    values.put("many", [model(x=3)], model=list[model])
    assert values.get("many", model=list[model]) == [model(x=3)]
    assert [each.x for each in values.iterate_values(model=list[model]) for each in each] == [3]
    store["rows"] = b'{"x": 1}\n\n{"x": 2}\r\n'
    assert list(values.stream("rows", model=model)) == [model(x=1), model(x=2)]
    store["rows.csv"] = b"x\n1\n\n2"
    assert list(values.stream("rows.csv", serialization_mode="csv", model=model)) == [model(x=1), model(x=2)]
    for wrong in ({"x": 1}, 5, None):
        with pytest.raises(SerializationError, match="'a'"):
            values.put("a", wrong, model=model)
    store["a"] = b'{"y": 5}'
    with pytest.raises(SerializationError, match=rf"(?s)'a': .*{model.__name__}.*look like JSON, beginning"):
        values.get("a", model=model)
    with pytest.raises(InvalidTypeError, match="model must be a class"):
        values.get("a", model=model(x=1))
    with pytest.raises(InvalidArgumentError, match="leave one of them out"):
        values.get("a", model=model, deserialization_func=list)
    with pytest.raises(InvalidArgumentError, match="not in mode 'yaml'"):
        values.put("a", model(x=1), model=model, serialization_mode="yaml")


def test_the_library_of_a_type_is_that_of_its_models(store: Store) -> None:
    values = ValueStore(store)
    for model, value in (
        (dict[str, Point], {"a": Point(x=1)}),
        (dict[str, list[Spot]], {"a": [Spot(x=1)]}),
        (list[int] | None, [1]),
        (list[int] | None, None),
        (datetime.date, datetime.date(2026, 1, 1)),
    ):
        values.put("a", value, model=model)
        assert values.get("a", model=model) == value
    for model, value in ((list[int], ["x"]), (list[Point], [Spot(x=1)]), (Point, Spot(x=1)), (int, "1")):
        with pytest.raises(SerializationError, match="'a'"):
            values.put("a", value, model=model)


def test_what_is_absent() -> None:
    store = MemoryStore()
    for raises, get, pop in ((None, None, True), (True, True, True), (False, None, None)):
        values = ValueStore(store, raise_on_nonexist=raises)
        assert values.get("a", 5) == values.pop("a", 5) == 5
        assert values.get("a", None) is values.pop("a", None) is None
        for call, wanted in ((values.get, get), (values.pop, pop)):
            assert call("a", raise_on_nonexist=False) is None
            assert call("a", 5, raise_on_nonexist=False) == 5
            with pytest.raises(BlobNotFoundError, match="'a'"):
                call("a", raise_on_nonexist=True)
            with pytest.raises(BlobNotFoundError, match="'a'"):
                call("a", 5, raise_on_nonexist=True)
            if wanted:
                with pytest.raises(BlobNotFoundError):
                    call("a")
            else:
                assert call("a") is None
        with pytest.raises(BlobNotFoundError):
            values["a"]
        assert values.delete("a") is False
        assert list(values.stream("a", raise_on_nonexist=False)) == []
    with pytest.raises(BlobNotFoundError):
        ValueStore(store).stream("a")
    with pytest.raises(InvalidTypeError, match="raise_on_nonexist must be True, False or None, not str"):
        ValueStore(store, raise_on_nonexist="no")  # type: ignore[arg-type]


def test_puts_keep_the_promises_of_the_store(store: Store) -> None:
    values = ValueStore(store)
    first = values.put("a", 1, expect=ABSENT)
    with pytest.raises(BlobExistsError):
        values.put("a", 2, expect=ABSENT)
    assert values.put("a", 2, expect=first.etag).size == 1
    if Can.EXPIRE in store.can:
        assert values.put("a", 2, ttl=60, content_type="text/plain").expires is not None
        assert values.info("a").content_type == "text/plain"
    assert values.exists("a")
    with values.open("a", "w") as file:
        file.write('"text"')
    assert values["a"] == "text"
    assert values.delete("a")
    assert not values.exists("a")


def test_lines(store: Store) -> None:
    values = ValueStore(store)
    store["a"] = b'1\n\ntext\r\n{"a": 1}\n\xff'
    assert list(values.stream("a")) == [1, "", "text", {"a": 1}, b"\xff"]
    assert list(values.stream("a", serialization_mode="raw")) == [b"1", b"", b"text", b'{"a": 1}', b"\xff"]
    assert list(values.stream("a", deserialization_func=len)) == [1, 0, 4, 8, 1]
    with pytest.raises(SerializationError, match=r"'a': line 3: .*mode 'json': 4 bytes that look like text"):
        list(values.stream("a", serialization_mode="json"))
    # A line goes over the ends of pieces, and a line end too.
    long = b"x" * (2**20 - 1)
    store["a"] = long + b"\r\n" + long * 2 + b"\n\n" + long
    assert list(values.stream("a", serialization_mode="raw")) == [long, long * 2, b"", long]
    store["a"] = b'a,"b\n1"\r\n1,""'
    assert list(values.stream("a", serialization_mode="csv")) == [["a", "b\n1"], ["1", ""]]
    assert list(values.stream("a", serialization_mode="csv", deserialization_func=len)) == [2, 2]
    store["a"] = b'a\n"b'
    with pytest.raises(SerializationError, match=r"'a': line 2: .*mode 'csv'"):
        list(values.stream("a", serialization_mode="csv"))
    store["a"] = b"a,b,a\n1,2,3\n"
    with pytest.raises(SerializationError, match=r"'a': line 1: the first row names the field 'a' twice"):
        list(values.stream("a", serialization_mode="csv", model=dict[str, str]))
    store["a"] = b"a,b\n1,\xff\n"
    with pytest.raises(SerializationError, match=r"'a': after line 0: .*0xff"):
        list(values.stream("a", serialization_mode="csv"))
    # Bad arguments are refused by the call, not by the first row.
    with pytest.raises(InvalidTypeError, match="model must be a class"):
        values.stream("a", serialization_mode="csv", model=5)
    with pytest.raises(InvalidArgumentError, match="leave one of them out"):
        values.stream("a", serialization_mode="csv", model=dict[str, str], deserialization_func=len)
    # One that nobody reads leaves no file open, of which Python would warn.
    values.stream("a", serialization_mode="csv")
    gc.collect()
    store["a"] = b""
    assert list(values.stream("a")) == list(values.stream("a", serialization_mode="csv")) == []
    for mode in ("pickle", "typed"):
        with pytest.raises(InvalidArgumentError, match=f"a line can't be read in mode '{mode}'"):
            values.stream("a", serialization_mode=mode)


def test_an_unknown_mode_lists_those_known(store: Store) -> None:
    values = ValueStore(store)
    for call in (
        lambda: ValueStore(store, "jsn"),
        lambda: values.get("a", serialization_mode="jsn"),
        lambda: values.put("a", 1, serialization_mode="jsn"),
        lambda: values.pop("a", serialization_mode="jsn"),
        lambda: values.stream("a", serialization_mode="jsn"),
        lambda: values.iterate_values(serialization_mode="jsn"),
    ):
        with pytest.raises(InvalidArgumentError, match="not 'jsn'") as caught:
            call()
        assert all(repr(name) in str(caught.value) for name in (*MODES, *(each.name for each in serializers)))
    with pytest.raises(InvalidArgumentError, match=r"a mode of stream\(\) only"):
        values.get("a", serialization_mode="csv")
    with pytest.raises(InvalidTypeError, match="not 5"):
        ValueStore(store, 5)  # type: ignore[arg-type]
    assert "a" not in values


def test_a_serializer_that_isnt_installed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ruamel.yaml", None)
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    values = ValueStore(store, "yaml")
    with pytest.raises(MissingDependencyError, match=r"holdall\[yaml\]"):
        values["a"] = {"x": 1}
    assert "a" not in values


UNHELD = [
    ("json", object()),
    ("json", "a\ud800"),
    ("auto", lambda: 5),
    ("auto", "a\ud800"),
    ("typed", lambda: 5),
    ("pickle", lambda: 5),
    ("yaml", ("a",)),
    ("text", 5),
    ("npy", {"a": 1}),
]


@pytest.mark.parametrize(("mode", "value"), UNHELD)
def test_what_a_mode_cant_hold_is_refused_before_anything_is_written(
    store: Store, mode: str, value: Any
) -> None:
    values = ValueStore(store)
    values["a"] = "kept"
    for call in (
        lambda: values.put("a", value, serialization_mode=mode),
        lambda: ValueStore(store, mode).update({"b": "x", "a": value}),
        lambda: ValueStore(store, mode).setdefault("b", value),
    ):
        with pytest.raises(SerializationError):
            call()
    assert dict(values.items()) == {"a": "kept"}


@pytest.mark.parametrize(
    ("mode", "data", "looks"),
    [
        ("json", b"{", "1 byte that looks like JSON, beginning with b'{'"),
        ("json", b"", "no bytes at all"),
        ("json", pickle.dumps(5), "look like a pickle"),
        ("yaml", b"\x89PNG\r\n", "a PNG image"),
        ("pickle", b"{}", "look like JSON"),
        ("pickle", pickle.dumps(5), "look like a pickle"),
        ("typed", b"text", "look like text"),
        ("typed", b"hldtype1", "a typed value"),
        ("typed", b"hldtype1\x04jso", "a typed value"),
        ("typed", b"hldtype1\x03foox", "a typed value"),
        ("typed", b"hldtype1\x06picklex", "a typed value"),
        ("text", b"\xff", "nothing that is known here"),
        ("auto", b'{"$holdall": "new", "value": 1}', "look like JSON"),
        ("auto", b"hldpick2" + bytes(8) + pickle.dumps(5) + bytes(32), "a signed pickle"),
    ],
)
def test_what_a_mode_cant_read_names_the_key_the_mode_and_the_bytes(
    store: Store, mode: str, data: bytes, looks: str
) -> None:
    values = ValueStore(store, mode)
    store["a/b"] = data
    for call in (
        lambda: values["a/b"],
        lambda: values.get("a/b", 5),
        lambda: values.pop("a/b", 5),
        lambda: list(values.values()),
        lambda: list(values.iterate_values()),
    ):
        with pytest.raises((SerializationError, UntrustedDataError)) as caught:
            call()
        said = str(caught.value)
        assert said.startswith("'a/b': ")
        assert f"mode {mode!r}: " in said
        assert looks in said
    assert store["a/b"] == data


def test_auto_unpickles_only_what_this_user_signed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    values = ValueStore(store)
    values["a"] = range(3)
    assert values["a"] == range(3)
    bare = pickle.dumps(range(3))
    store["bare"] = bare
    assert values["bare"] == bare
    stranger = PickleSerializer(PickleSerializer.generate_key())
    store["theirs"] = b"".join(stranger.encode(range(3)))
    with pytest.raises(UntrustedDataError, match=r"'theirs': .*another key.* a signed pickle"):
        values["theirs"]
    key = PickleSerializer.generate_key()
    other = ValueStore(store, pickle_key=key)
    with pytest.raises(UntrustedDataError):
        other["a"]
    other["b"] = range(4)
    with pytest.raises(UntrustedDataError):
        values["b"]
    assert ValueStore(store, pickles="trust")["b"] == range(4)
    never = ValueStore(store, pickles="never")
    with pytest.raises(UntrustedDataError):
        never["a"]
    with pytest.raises(UntrustedDataError):
        never["c"] = range(3)
    assert key.hex() not in repr(other)
    assert "pickle_key" in repr(other)
    with pytest.raises(InvalidArgumentError, match="takes no pickle_key"):
        ValueStore(store, pickles="trust", pickle_key=key)


def test_what_is_no_store_is_refused() -> None:
    with pytest.raises(InvalidTypeError, match="ValueStore must be given a store, not dict"):
        ValueStore({})  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(serializers)) is serializers


def test_a_value_is_looked_for_while_another_is_deleted(store: Store) -> None:
    class Third:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            values.pop("b", None)
            return other == 3

    values = ValueStore(store)
    values.update({"a": 1, "b": 2, "c": 3})
    assert Third() in values.values()
    assert list(values.items()) == [("a", 1), ("c", 3)]
