"""Any value comes back from any store, or is refused before anything is written."""

import datetime
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from holdall.errors import BlobNotFoundError, InvalidKeyError, InvalidTypeError, SerializationError
from holdall.store import Can, Store
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.sqlite import SqliteStore
from holdall.values import Serializers, serializers
from holdall.values.raw import BytesSerializer
from holdall.values.store import ValueStore
from holdall.values.yaml import YamlSerializer


class Point(BaseModel):
    x: int


@pytest.fixture(params=["sqlite", "files"])
def store(request: Any, tmp_path: Path) -> Iterator[Store]:
    """One that keeps media types, and one that doesn't."""
    made: Any = SqliteStore(tmp_path / "a.db") if request.param == "sqlite" else FilesystemStore(tmp_path)
    with made:
        assert (Can.ATTRIBUTES in made.can) == (request.param == "sqlite")
        yield made


GIVEN: dict[str, Any] = {
    "a.json": {"when": datetime.date(2026, 11, 21), "tags": {"a"}},
    "null.json": None,
    "false.json": False,
    "text.json": "text",
    "b.txt": "zwölf",
    "empty.txt": "",
    "c": b"\0\xff",
    "d.bin": b"",
    "e.yaml": {"hosts": ["a"]},
    "f.npy": np.arange(6).reshape(2, 3),
}


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(np.array_equal(one, other))


def test_every_value_comes_back(store: Store) -> None:
    values: ValueStore = ValueStore(store)
    for key, value in GIVEN.items():
        values[key] = value
        assert same(values[key], value)
        assert same(values.get(key, 5), value)
    assert list(values) == sorted(GIVEN)
    assert len(values) == len(GIVEN)
    assert all(same(value, GIVEN[key]) for key, value in values.items())
    assert len(list(values.values())) == len(GIVEN)
    again = pickle.loads(pickle.dumps(values))
    assert same(again["null.json"], None)
    for key, value in GIVEN.items():
        assert same(values.pop(key, 5), value)
        assert values.pop(key, 5) == 5
    assert not values
    with pytest.raises(BlobNotFoundError, match="ValueStore is empty"):
        values.popitem()


def test_none_is_a_value(store: Store) -> None:
    values: ValueStore = ValueStore(store)
    with pytest.raises(BlobNotFoundError):
        values["a.json"]
    assert values.setdefault("a.json", None) is None
    assert values.setdefault("a.json", 5) is None
    assert values.get("a.json", 5) is None
    assert ("a.json", None) in values.items()
    assert list(values.values()) == [None]
    assert values.pop("a.json") is None
    with pytest.raises(BlobNotFoundError):
        values.pop("a.json")
    values["a.json"] = None
    assert values.popitem() == ("a.json", None)


def test_many_are_put_at_once_or_none_of_them(store: Store) -> None:
    values: ValueStore = ValueStore(store)
    values.update(GIVEN, other=b"x")
    assert len(values) == len(GIVEN) + 1
    with pytest.raises(SerializationError):
        values.update({"new.json": 1, "x.json": object()})
    with pytest.raises(InvalidKeyError):
        values.update({"new.json": 1, "../x": 1})
    assert "new.json" not in values
    values.clear()
    assert not list(store)


def test_the_media_type_is_kept_or_the_key_has_to_say_it(store: Store) -> None:
    values: ValueStore = ValueStore(store)
    for key, value, end in (
        ("a", {"x": 1}, r"\.json"),
        ("a.txt", 5, r"\.json"),
        ("a", "text", r"\.txt"),
        ("a.json", np.arange(6), r"\.b2nd"),
        ("b.json", {1j: object}.keys, "no serializer accepts"),
    ):
        if Can.ATTRIBUTES in store.can and "serializer" not in end:
            values[key] = value
            assert same(values[key], value)
        else:
            with pytest.raises(SerializationError, match=end):
                values[key] = value
            assert key not in values


def test_what_would_come_back_as_something_else_is_refused(store: Store) -> None:
    values: ValueStore = ValueStore(store)
    with pytest.raises(SerializationError, match="written as pydantic, and 'point' would be read as"):
        values["point"] = Point(x=1)
    assert not list(store)


def test_other_serializers_are_used(store: Store) -> None:
    values: ValueStore = ValueStore(store, Serializers([YamlSerializer(), BytesSerializer()]))
    values["a.yaml"] = {"x": [1]}
    assert store["a.yaml"] == b"x:\n- 1\n"
    assert pickle.loads(pickle.dumps(values))["a.yaml"] == {"x": [1]}
    with pytest.raises(SerializationError, match="no serializer accepts"):
        values["a.json"] = 1.5j


def test_damaged_bytes_are_an_error_that_names_the_key(store: Store) -> None:
    values: ValueStore = ValueStore(store)
    store.put("a.json", b"{")
    for call in (values.get, values.__getitem__, values.pop):
        with pytest.raises(SerializationError, match=r"'a\.json'"):
            call("a.json")
    assert store["a.json"] == b"{"


def test_what_is_no_store_is_refused() -> None:
    with pytest.raises(InvalidTypeError, match="ValueStore must be given a store, not dict"):
        ValueStore({})  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(serializers)) is serializers


def test_a_value_is_looked_for_while_another_is_deleted(store: Store) -> None:
    class Third:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            values.pop("b.json", None)
            return other == 3

    values: ValueStore = ValueStore(store)
    values.update({"a.json": 1, "b.json": 2, "c.json": 3})
    assert Third() in values.values()
    assert list(values.items()) == [("a.json", 1), ("c.json", 3)]
