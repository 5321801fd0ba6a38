"""The registry: who is asked, in which order, and how others join it; and what importing it costs."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.packages import install

from holdall import InvalidArgumentError, MissingDependencyError, SerializationError
from holdall.values import Serializer, Serializers, register, serializers
from holdall.values.json import JsonSerializer
from holdall.values.pickles import PickleSerializer
from holdall.values.raw import BytesSerializer, TextSerializer
from holdall.values.registry import joined


class Fraction:
    pass


class FractionSerializer:
    name = "fraction"
    media_type = "application/x-fraction"
    extensions: tuple[str, ...] = (".fraction", ".tar.fraction")

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Fraction)

    def encode(self, value: Any) -> tuple[bytes]:
        return (b"1/2",)

    def decode(self, data: Any) -> Any:
        return Fraction()


@pytest.fixture
def own() -> Serializers:
    return Serializers(serializers)


def test_every_serializer_keeps_the_protocol() -> None:
    names = [each.name for each in serializers]
    assert len(names) == len(set(names)) == len(serializers)
    for each in serializers:
        assert isinstance(each, Serializer)
        assert each.media_type == each.media_type.lower()
        assert each.extensions
        assert all(extension.startswith(".") and extension.islower() for extension in each.extensions)
        assert serializers.named(each.name) is each
        assert serializers.for_media_type(each.media_type) is not None
        assert not each.accepts(object())


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"a", "bytes"),
        (bytearray(b"a"), "bytes"),
        ("a", "text"),
        ({"a": 1}, "json"),
        ([1], "json"),
        (None, "json"),
        (True, "json"),
        (1.5, "json"),
        ((1, "a"), "json"),
        ({1, 2}, "json"),
        ({}, "json"),
    ],
)
def test_a_value_finds_its_format(value: object, name: str) -> None:
    assert serializers.for_value(value).name == name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b.json", "json"),
        ("A.JSON", "json"),
        ("notes.txt", "text"),
        ("a.bin", "bytes"),
        ("a.yaml", "yaml"),
        ("a.yml", "yaml"),
        ("a.b2nd", "b2nd"),
        ("a.npy", "npy"),
        ("a.npy.zst", "npy.zst"),
        ("a.parquet", "parquet"),
        ("a.safetensors", "safetensors"),
        ("a.pkl", "pickle"),
        (".json", None),
        ("folder.json/a", None),
        ("json", None),
        ("a.unknown", None),
    ],
)
def test_a_key_finds_its_format(key: str, name: str | None) -> None:
    found = serializers.for_key(key)
    assert (found and found.name) == name


def test_a_media_type_finds_its_format() -> None:
    for media_type in ("application/json", "Application/JSON; charset=utf-8", " application/json "):
        assert serializers.for_media_type(media_type).name == "json"  # type: ignore[union-attr]
    assert serializers.for_media_type("application/unknown") is None


def test_what_nobody_accepts_says_so(own: Serializers) -> None:
    with pytest.raises(SerializationError, match="Fraction"):
        own.for_value(Fraction())
    with pytest.raises(InvalidArgumentError, match="json"):
        own.named("fraction")


def test_a_registered_serializer_is_asked_first(own: Serializers) -> None:
    class Greedy(FractionSerializer):
        name = "greedy"

        def accepts(self, value: Any) -> bool:
            return True

    own.register(FractionSerializer())
    assert own.for_value(Fraction()).name == "fraction"
    assert own.for_key("a.tar.fraction").name == "fraction"  # type: ignore[union-attr]
    own.register(Greedy())
    assert own.for_value(Fraction()).name == own.for_value(b"").name == "greedy"
    assert own.for_media_type("application/x-fraction").name == "greedy"  # type: ignore[union-attr]


def test_one_of_the_same_name_is_replaced_in_its_place(own: Serializers) -> None:
    names = [each.name for each in own]
    pickles = PickleSerializer(b"k" * 32)
    own.register(pickles)
    assert [each.name for each in own] == names
    assert own.for_value({"a": 1}).name == "json"
    assert own.for_value(Fraction()) is pickles


def test_half_a_serializer_is_refused(own: Serializers) -> None:
    for half in (object(), "json"):
        with pytest.raises(InvalidArgumentError, match="accepts"):
            own.register(half)  # type: ignore[arg-type]


def test_what_would_claim_the_wrong_values_is_refused(own: Serializers) -> None:
    with pytest.raises(InvalidArgumentError, match=r"is a class; .* FractionSerializer\(\)"):
        own.register(FractionSerializer)  # type: ignore[arg-type]
    for extensions in (".fraction", ("fraction",), (".FRACTION",), (1,)):
        each = FractionSerializer()
        each.extensions = extensions  # type: ignore[assignment]
        with pytest.raises(InvalidArgumentError, match="extensions"):
            own.register(each)
    each = FractionSerializer()
    each.name = None  # type: ignore[assignment]
    with pytest.raises(InvalidArgumentError, match="name"):
        own.register(each)
    assert [each.name for each in own] == [each.name for each in serializers]


def test_one_that_fails_when_it_is_asked_is_named(own: Serializers) -> None:
    class Failing(FractionSerializer):
        name = "failing"

        def accepts(self, value: Any) -> bool:
            return bool(1 / 0)

    own.register(Failing())
    with pytest.raises(SerializationError, match=r"'failing' fails .* builtins\.int: ZeroDivisionError"):
        own.for_value(1)
    assert own.named("json").name == "json"


def test_registering_from_many_threads_loses_none() -> None:
    own = Serializers([JsonSerializer()])
    start = threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        for at in range(50):
            each = FractionSerializer()
            each.name = f"{number}-{at}"
            own.register(each)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(own) == 401


def test_register_changes_what_everybody_uses() -> None:
    code = """
from holdall.values import register, serializers
from holdall.values.pickles import PickleSerializer
register(PickleSerializer(b"k" * 32))
assert serializers.for_value(object()).name == "pickle"
assert serializers.for_value([1]).name == "json"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(InvalidArgumentError):
        register(object())  # type: ignore[arg-type]


def package(folder: Path, name: str, code: str, **entries: str) -> None:
    """An installed package with entry points."""
    (folder / f"{name}.py").write_text(code)
    install(folder, name, "1.0", {"holdall.serializers": entries})


def test_a_package_joins_by_an_entry_point(tmp_path: Path) -> None:
    package(
        tmp_path,
        "halves",
        "class Half:\n    name, media_type, extensions = 'half', 'application/x-half', ('.half',)\n"
        "    def accepts(self, value): return value == 0.5\n"
        "    def encode(self, value): return (b'1/2',)\n"
        "    def decode(self, data): return 0.5\n"
        "other = Half()\nother.name = 'other'\n",
        half="halves:Half",
        other="halves:other",
    )
    code = """
from holdall.values import serializers
assert {"half", "other", "json"} <= {each.name for each in serializers}
assert serializers.for_value(0.5).name == "half"
assert serializers.for_value(0.25).name == "json"
assert serializers.for_key("a.half").decode(b"") == 0.5
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(tmp_path)})


OWN = """
from holdall.values import register, serializers
class Own:
    extensions = ()
    def __init__(self, name):
        self.name, self.media_type = name, "application/x-" + name
    def accepts(self, value): return True
    def encode(self, value): return (b"",)
    def decode(self, data): return 0.5
"""


def test_a_package_that_registers_more_as_it_is_imported_loses_none(tmp_path: Path) -> None:
    code = OWN + "assert serializers.named('json')\nregister(Own('second'))\nfirst = Own('first')\n"
    package(tmp_path, "more", code, first="more:first")
    code = """
from holdall.values import serializers
assert [each.name for each in serializers][:3] == ["first", "second", "bytes"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("", "no attribute 'one'"),
        ("one = 5", "isn't a serializer"),
        ("class one:\n    def __init__(self): raise RuntimeError('no licence')", "no licence"),
    ],
    ids=["import", "name", "kind", "call"],
)
def test_a_package_that_fails_is_named_and_left_out(tmp_path: Path, code: str, says: str) -> None:
    package(tmp_path, "broken", code, one="broken:one")
    code = """
import warnings
from holdall.values import serializers
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert serializers.for_value({"a": 1}).name == "json"
    assert serializers.for_value(b"").name == "bytes"
[warning] = caught
print(warning.category.__name__, warning.message)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.startswith(
        "RuntimeWarning the serializer 'one' of the package broken 1.0 (broken:one) is left out: "
    )
    assert says in result.stdout


OPTIONAL = "numpy blosc2 pandas polars pyarrow yaml pydantic msgspec safetensors torch PIL soundfile moviepy"


def test_importing_and_asking_imports_no_optional_package() -> None:
    code = f"""
import sys
import holdall.values
from holdall.values import serializers
list(serializers)
for value in (b"", "", 1, {{}}, [1], {{"a": 1}}, (1, 2)):
    serializer = serializers.for_value(value)
    serializer.decode(b"".join(serializer.encode(value)))
try:
    serializers.for_value(object())
except Exception as error:
    if "register" not in str(error):
        raise
serializers.for_key("a.npy"), serializers.for_media_type("application/yaml")
found = set({OPTIONAL!r}.split()) & sys.modules.keys()
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("yaml", "yaml", "yaml"),
        ("b2nd", "blosc2", "arrays"),
        ("parquet", "pyarrow", "frames"),
        ("npy", "numpy", "arrays"),
        ("npy", "numpy.lib.format", "arrays"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serializer = serializers.named(name)
    data = b"a: 1" if name == "yaml" else b""
    if name == "npy":
        import numpy

        data = b"".join(serializer.encode(numpy.zeros(1)))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"holdall\[{extra}\]"):
        serializer.decode(data)


def test_joined_copies_no_more_than_it_must() -> None:
    data = bytes(1000)
    assert joined((data,)) is data
    assert joined([b"a", memoryview(b"b"), bytearray(b"c")]) == b"abc"
    assert joined([]) == b""
    held = bytearray(1)

    def reused() -> Any:
        for number in range(3):
            held[0] = number
            yield held

    assert joined(reused()) == b"\0\1\2"
    assert [each.decode(b"a") for each in (BytesSerializer(), TextSerializer())] == [b"a", "a"]
