"""Text, JSON, YAML and models as blobs."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field

from holdall.blobs import BytesBlob, JsonDictBlob, JsonModelBlob, StrBlob, YamlDictBlob
from holdall.errors import InvalidArgumentError, SerializationError

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
dicts = st.dictionaries(st.text(max_size=6), plain, max_size=5)


@given(st.text())
def test_text_comes_back(text: str) -> None:
    blob = StrBlob(text)
    assert blob.as_str() == str(blob) == text
    assert StrBlob(text.encode()) == blob


def test_what_is_no_text_is_named() -> None:
    with pytest.raises(SerializationError, match="UTF-8"):
        StrBlob(b"\xff").as_str()
    with pytest.raises(SerializationError, match="surrogate"):
        StrBlob("\ud800")


@pytest.mark.parametrize(
    ("blob", "shown"),
    [
        (BytesBlob(b"short"), "BytesBlob(b'short')"),
        (BytesBlob(b"x" * 5000), f"BytesBlob({b'x' * 32!r}..., 5,000 bytes)"),
        (StrBlob("zwölf"), "StrBlob('zwölf')"),
        (StrBlob("ö" * 5000), f"StrBlob({'ö' * 60!r}..., 10,000 bytes)"),
        (StrBlob(b"\xff"), "StrBlob(b'\\xff')"),
        (JsonDictBlob({"a": 1}), "JsonDictBlob('{\"a\":1}')"),
        (JsonDictBlob(b"{broken"), "JsonDictBlob('{broken')"),
    ],
)
def test_a_repr_shows_the_beginning(blob: BytesBlob, shown: str) -> None:
    assert repr(blob) == shown


@given(dicts)
def test_json_comes_back_and_is_plain(value: dict[str, Any]) -> None:
    blob = JsonDictBlob(value)
    assert blob.as_dict() == value
    if "$holdall" not in blob.as_str():
        assert json.loads(blob.as_str()) == value
    assert JsonDictBlob(json.dumps(value)).as_dict() == JsonDictBlob(json.dumps(value).encode()).as_dict()


def test_json_keeps_what_plain_json_lacks() -> None:
    value = {"seen": {1, 2}, "at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\0"}
    assert JsonDictBlob(value).as_dict() == value


@pytest.mark.parametrize("kind", [JsonDictBlob, YamlDictBlob])
def test_a_dict_that_cannot_be_kept_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(SerializationError):
        kind({"a": object()})


@pytest.mark.parametrize("data", [b"", b"{", b"nothing", b"\xff", b"[1]", b"1", b'"text"'])
def test_what_is_no_object_of_json_is_named(data: bytes) -> None:
    with pytest.raises(SerializationError, match=r"JSON|json"):
        JsonDictBlob(data).as_dict()
    with pytest.raises(SerializationError, match=r"JSON|json"):
        JsonModelBlob(data).as_dict()


@given(dicts)
def test_yaml_comes_back(value: dict[str, Any]) -> None:
    try:
        blob = YamlDictBlob(value)
    except SerializationError:
        return  # what YAML would change, it refuses
    assert blob.as_dict() == value
    assert yaml.safe_load(blob.as_bytes()) == value


def test_yaml_of_nothing_is_an_empty_dict() -> None:
    for text in ("", "# nothing yet\n", "{}"):
        assert YamlDictBlob(text).as_dict() == {}
    assert YamlDictBlob({}).as_dict() == {}


@pytest.mark.parametrize("text", ["- a\n- b", "just text", "a: [", "\x00", "!!python/object:os.system {}"])
def test_what_is_no_mapping_of_yaml_is_named(text: str) -> None:
    with pytest.raises(SerializationError, match="YAML"):
        YamlDictBlob(text).as_dict()


def test_a_suffix_decides_between_json_and_yaml(tmp_path: Path) -> None:
    value = {"name": "Ada", "tags": ["a", "b"]}
    for kind in (JsonDictBlob, YamlDictBlob):
        for name in ("a.json", "a.yaml", "a.yml", "A.YAML"):
            kind(value).dump(tmp_path / name)
            text = (tmp_path / name).read_text()
            assert yaml.safe_load(text) == value
            assert text.startswith("{") == (name == "a.json"), name
            assert kind.load(tmp_path / name).as_dict() == value
            other = YamlDictBlob if kind is JsonDictBlob else JsonDictBlob
            assert other.load(tmp_path / name).as_dict() == value


class User(BaseModel):
    name: str
    born: datetime | None = None
    tags: set[str] = set()


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: str = Field(alias="@type")
    sides: int = 3

    @computed_field
    @property
    def corners(self) -> int:
        return self.sides


class Point(msgspec.Struct):
    x: int
    y: float = 0.5


@pytest.mark.parametrize(
    "model",
    [
        User(name="Ada", born=datetime(1815, 12, 10, tzinfo=UTC), tags={"a", "b"}),
        User(name=""),
        Aliased(**{"@type": "thing"}),
        Point(1),
    ],
)
def test_a_model_comes_back(model: Any) -> None:
    blob = JsonModelBlob(model)
    assert blob.as_model() == model
    assert JsonModelBlob(blob.as_bytes()).as_model(type(model)) == model
    assert JsonModelBlob(blob.as_str(), model_class=type(model)).as_model() == model
    assert JsonModelBlob(blob.as_dict(), model_class=type(model)).as_model() == model
    assert BytesBlob(blob.as_bytes()).as_blob(JsonModelBlob, {"model_class": type(model)}).as_model() == model
    assert JsonModelBlob(blob).as_model() == model
    assert pickle.loads(pickle.dumps(blob)).as_model() == model
    assert isinstance(blob.as_dict(), dict)


def test_a_model_of_unknown_class_says_so() -> None:
    with pytest.raises(InvalidArgumentError, match="as_model"):
        JsonModelBlob(b"{}").as_model()
    with pytest.raises(ValueError, match="as_model"):
        JsonModelBlob(b"{}").as_model()
    for wrong in (BaseModel, msgspec.Struct, dict, "User", User(name="")):
        with pytest.raises(InvalidArgumentError, match="BaseModel"):
            JsonModelBlob(b"{}", model_class=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [User, Point])
@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"[]", b"\xff", b'{"x": "a", "name": 1}', b"[" * 5000])
def test_what_is_no_such_model_is_named(kind: Any, data: bytes) -> None:
    with pytest.raises(SerializationError, match=f"JSON of a {kind.__name__}"):
        JsonModelBlob(data).as_model(kind)


def test_a_model_that_json_cannot_hold_is_refused() -> None:
    class Raw(BaseModel):
        data: bytes

    with pytest.raises(SerializationError, match="Raw"):
        JsonModelBlob(Raw(data=b"\xff"))


class Dated(BaseModel):
    born: date
    tags: set[str] = set()


class DatedStruct(msgspec.Struct):
    born: date
    tags: set[str] = set()


@pytest.mark.parametrize("kind", [Dated, DatedStruct])
def test_a_dict_of_fields_is_read_as_the_model(kind: Any) -> None:
    fields = {"born": date(1815, 12, 10), "tags": {"a"}}
    blob = JsonModelBlob(fields, model_class=kind)
    assert blob.as_model() == kind(**fields)
    assert blob.as_dict() == {"born": "1815-12-10", "tags": ["a"]}
    with pytest.raises(SerializationError, match="model_class"):
        JsonModelBlob(fields)
    with pytest.raises(SerializationError, match=kind.__name__):
        JsonModelBlob({"born": {1}}, model_class=kind)
    assert JsonModelBlob({"born": "1815-12-10"}).as_model(kind).born == date(1815, 12, 10)
    assert JsonModelBlob({"text": "$holdall"}).as_dict() == {"text": "$holdall"}


def test_media_types() -> None:
    assert BytesBlob(b"").media_type == "application/octet-stream"
    assert StrBlob("").media_type == "text/plain"
    assert JsonDictBlob({}).media_type == JsonModelBlob(b"").media_type == "application/json"
    assert YamlDictBlob({}).media_type == "application/yaml"
