"""What becomes content comes back: equal, and of its type."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Iterable
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from PIL import Image

from holdall import (
    InvalidArgumentError,
    SerializationError,
    UnsupportedOperation,
    UntrustedDataError,
)
from holdall.catalog import arrays
from holdall.catalog.arrays import encode_array
from holdall.catalog.canonical import array_digest
from holdall.catalog.content import Content, Formats
from holdall.stopping import Stopped, current
from holdall.values import Serializers, serializers
from holdall.values.same import same

sys.path.insert(0, str(Path(__file__).parent))
import samples

CODECS = ["lz4", "zstd", "gzip", "blosclz", None]


def stored(content: Content) -> bytes:
    data = b"".join([bytes(piece) for piece in content.pieces])
    assert content.size in (None, len(data))
    return data


def back(value: Any, formats: Formats | None = None) -> Any:
    formats = formats or Formats()
    content = formats.encode(value)
    return formats.decode(content.format, content.codec, content.library, stored(content))


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_freq=True)
        return one.attrs == other.attrs
    if isinstance(one, np.ma.MaskedArray):
        return (
            same(one.data, other.data) and same(one.mask, other.mask) and one.fill_value == other.fill_value
        )
    if hasattr(one, "equals"):
        return bool(one.equals(other))
    return same(one, other)


class Colour(StrEnum):
    RED = "red"


class Plain(Enum):
    ONE = 1


class Pair(NamedTuple):
    one: int
    two: int


class Sub(dict[str, int]):
    pass


@pytest.mark.parametrize("codec", CODECS)
def test_values_come_back(codec: str | None) -> None:
    formats = Formats(codec, 1 if codec == "gzip" else 3)
    for name, value in samples.values().items():
        again = back(value, formats)
        if name in ("array strided", "array fortran"):
            value = np.ascontiguousarray(value)
        assert type(again) is type(value), name
        assert alike(value, again), name


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED, Plain.ONE, Pair(1, 2), Sub(a=1), [Pair(1, 2)], {"a": Colour.RED}, {"a": np.float64(1)},
        range(3), slice(1, 2), "\ud800", {"\ud800": 1}, {"a": np.arange(3), "b": 1}, {"a": [np.arange(3)]},
        samples.Opaque({"a": 1}), np.array([None, "a"]), {"a": np.arange(3, dtype=">i4")}, NotImplemented,
        pd.Series([1, 2]), pd.DataFrame({"a": [1j]}), pd.DataFrame({"a": [{"b": 1}, {"c": 2}]}), len,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_json_or_parquet_would_change_is_pickled(value: Any) -> None:
    content = Formats().encode(value)
    assert content.format == "pickle"
    assert content.extension == ".pkl"
    again = back(value)
    assert type(again) is type(value)
    if isinstance(value, (pd.Series, pd.DataFrame)):
        assert again.equals(value)
    else:
        assert same(again, value)


def test_content_says_what_it_is() -> None:
    def said(value: Any, codec: str | None = "lz4") -> tuple[str, str, str, str, str]:
        made = Formats(codec).encode(value)
        assert len(made.digest) == 64
        return made.type, made.format, made.library.partition(" ")[0], made.codec, made.extension

    noise = np.random.default_rng(1).integers(0, 256, 1_000_000, dtype="u1")
    assert said(b"abc") == ("bytes", "bytes", "", "", ".bin")
    assert said("abc") == ("str", "text", "", "", ".txt")
    assert said("abc" * 1000) == ("str", "text", "", "lz4", ".txt.lz4")
    assert said("abc" * 1000, "zstd") == ("str", "text", "", "zstd", ".txt.zst")
    assert said("abc" * 1000, "gzip") == ("str", "text", "", "gzip", ".txt.gz")
    assert said("abc" * 1000, None) == ("str", "text", "", "", ".txt")
    assert said(noise.tobytes()) == ("bytes", "bytes", "", "", ".bin")
    assert said({"a": ["row"] * 999}) == ("dict", "json", "", "lz4", ".json.lz4")
    assert said(np.arange(9)) == ("numpy.ndarray", "b2nd", "blosc2", "lz4", ".b2nd")
    assert said(noise) == ("numpy.ndarray", "b2nd", "blosc2", "", ".b2nd")
    assert said(samples.records()) == ("numpy.ndarray", "npy", "numpy", "", ".npy")
    assert said({"w": np.ones(3)}) == ("dict", "safetensors", "numpy", "", ".safetensors")
    assert said(pd.DataFrame({"a": [1]})) == ("pandas.DataFrame", "parquet", "pyarrow", "lz4", ".parquet")
    assert said(pa.table({"a": [1]}), "gzip") == ("pyarrow.Table", "parquet", "pyarrow", "gzip", ".parquet")
    assert said(samples.Point(1, 2.0)) == ("samples.Point", "msgspec", "msgspec", "", ".json")
    assert said(samples.Opaque(1)) == ("samples.Opaque", "pickle", "", "", ".pkl")
    assert said(samples.Opaque([1] * 9999)) == ("samples.Opaque", "pickle", "", "lz4", ".pkl.lz4")
    image = Image.new("RGB", (200, 200), "navy")
    assert said(image) == ("PIL.Image.Image", "image", "pillow", "", ".png")


def test_nothing_is_written_of_what_no_format_holds() -> None:
    with pytest.raises(SerializationError, match="can't be pickled"):
        Formats().encode(lambda: 1)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match=r"200 levels.*pickled"):
        Formats().encode(deep)
    frame = pd.DataFrame({"a": [1j]})
    with pytest.raises(UntrustedDataError, match=r"complex.*'never'"):
        Formats(pickles="never").encode(frame)


def test_content_that_isnt_drawn_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    # Of 5 MB; in a temporary file, which warns if it isn't closed.
    for value in (np.zeros(2_000_000), Image.effect_noise((2500, 2500), 90)):
        assert Formats().encode(value).size
        assert list(tmp_path.iterdir()) == []


def test_what_is_hashed_for_a_put_that_failed_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = threading.Event(), threading.Event()
    outcomes: list[str | type[BaseException]] = []

    def digest(array: Any) -> str:
        begun.set()
        stop = current.get()
        if stop is not None:
            stop.wait(60)
        try:
            outcomes.append(array_digest(array))
        except Stopped:
            outcomes.append(Stopped)
        over.set()
        return ""

    def fail(*_: Any) -> Any:
        assert begun.wait(60)
        raise ValueError("the disk is full")

    monkeypatch.setattr(arrays, "array_digest", digest)
    monkeypatch.setattr(arrays, "_frame", fail)
    monkeypatch.setattr(arrays, "_IN_MEMORY", 0)
    with pytest.raises(SerializationError, match="the disk is full"):
        encode_array(np.arange(100.0), "", 0)
    assert over.wait(60)
    assert outcomes == [Stopped]


def test_models_are_of_classes_that_were_imported() -> None:
    formats = Formats()
    content = formats.encode(samples.User(name="Ada"))
    data = stored(content)
    assert data == b'{"$holdall":"pydantic","type":"samples.User","value":{"name":"Ada"}}'
    assert formats.decode("pydantic", "", "", data).model_fields_set == {"name"}
    for other in (b"samples.Point", b"samples.Gone", b"antigravity.Model", b"os.path", b"samples.User.name"):
        with pytest.raises(SerializationError, match=r"imported here.*pydantic 2\."):
            formats.decode("pydantic", "", content.library, data.replace(b"samples.User", other))
    assert "antigravity" not in sys.modules
    with pytest.raises(SerializationError, match="isn't the JSON of a User"):
        formats.decode("pydantic", "", "", data.replace(b'"Ada"', b"5"))

    class Local(pydantic.BaseModel):
        a: int

    with pytest.raises(SerializationError, match="can't be pickled"):
        formats.encode(Local(a=1))


def test_a_format_that_isnt_known_names_its_library() -> None:
    with pytest.raises(SerializationError, match=r"'feather'.*written by arrow 99\.1, which isn't installed"):
        Formats().decode("feather", "", "arrow 99.1", b"")
    with pytest.raises(SerializationError, match=r"written by numpy 99\.1; the installed .* is older"):
        Formats().decode("npy", "", "numpy 99.1", b"nothing")
    with pytest.raises(InvalidArgumentError, match="codec must be one of"):
        Formats().decode("text", "snappy", "", b"")


def test_serializers_of_others_are_asked_first() -> None:
    class Shout:
        name = "shout"
        media_type = "text/x-shout"
        extensions = (".shout",)

        def accepts(self, value: Any) -> bool:
            return isinstance(value, str) and value.isupper()

        def encode(self, value: Any) -> Iterable[bytes]:
            for letter in value:
                yield letter.encode()

        def decode(self, data: Any) -> str:
            return bytes(data).decode()

    mine = Serializers(serializers)
    formats = Formats(serializers=mine)
    assert formats.encode("ABC").format == "text"
    mine.register(Shout())
    content = formats.encode("ABC" * 1000)
    assert (content.format, content.extension) == ("shout", ".shout.lz4")
    assert formats.decode("shout", "lz4", "", stored(content)) == "ABC" * 1000
    assert formats.encode("abc").format == "text"
    # Those of the house are there, whatever others are.
    alone = Formats(serializers=Serializers([Shout()]))
    with pytest.raises(SerializationError, match="'shout'"):
        Formats().decode("shout", "", "", b"")
    assert back({"a": 1}, alone) == {"a": 1}


def test_formats_are_pickled_with_their_settings(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    formats = Formats("zstd", 7, pickle_key=f"file:{key}")
    again = pickle.loads(pickle.dumps(formats))
    assert repr(again) == repr(formats)
    assert (again.compression, again.level) == ("zstd", 7)
    content = formats.encode(range(3))
    assert again.decode("pickle", content.codec, "", stored(content)) == range(3)
    secret = Formats(pickle_key={"mine": b"0123456789abcdef" * 2})
    assert "0123456789" not in repr(secret)
    with pytest.raises(UnsupportedOperation, match="reference"):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"compression": "snappy"}, "compression must be one of 'lz4', 'zstd', 'gzip', 'blosclz', 'none'"),
        ({"compression": 3}, "compression must be one of"),
        ({"level": 0}, "from 1 to 9, not 0"),
        ({"level": 10}, "from 1 to 9, not 10"),
        ({"level": True}, "from 1 to 9, not True"),
        ({"level": "3"}, "from 1 to 9, not '3'"),
        ({"pickles": "always"}, "pickles must be one of"),
        ({"pickle_key": b"short"}, "isn't a key"),
        ({"pickle_key": {}}, "a mapping of names to keys"),
        ({"pickle_key": bytes(range(32)), "pickles": "trust"}, "takes no pickle_key"),
        ({"serializers": []}, "serializers must be"),
    ],
)
def test_bad_settings_are_refused_at_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        Formats(**settings)
