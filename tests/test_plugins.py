"""What other packages bring by entry points, and what is said where it can't be used."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.packages import install

from holdall import (
    InvalidArgumentError,
    InvalidTypeError,
    MemoryStore,
    MissingDependencyError,
    Store,
    StoreUnavailableError,
    ValueStore,
    plugins,
)
from holdall.cli.packages import Brought, read_brought
from holdall.config import load
from holdall.layers.layer import Layer
from holdall.plugins import LAYERS, SERIALIZERS, STORES
from holdall.uri import schemes
from holdall.values import Serializers
from holdall.values.registry import _Default

Package = Callable[..., None]

CODE = """
from __future__ import annotations
from typing import TYPE_CHECKING
import holdall
from holdall.layers.layer import Transparent

if TYPE_CHECKING:
    from pathlib import Path

class Own(holdall.MemoryStore):
    @classmethod
    def _from_uri(cls, location, *, color: str = "red"):
        return cls({location: color.encode()})

class Two(holdall.MemoryStore):
    def __init__(self, host, port):
        super().__init__()

class Typed(holdall.MemoryStore):
    def __init__(self, location: str, *, folder: Path | None = None):
        super().__init__()

def dictionary(location):
    return {}

def fail(location):
    return {}[location]

def lack(location):
    raise ConnectionError(location)

class Loud(Transparent):
    def __init__(self, store, words: int = 1, *, voice: str = "high"):
        super().__init__(store)
        self.said = words, voice

class Needy(Transparent):
    def __init__(self, store, need: int):
        super().__init__(store)

def lays_nothing(store):
    return store

class Half:
    name, media_type, extensions = "half", "text/x-half", (".half",)
    def accepts(self, value): return value == 0.5
    def encode(self, value): return (b"1/2",)
    def decode(self, data): return 0.5

class Json(Half):
    name = "json"

class ModeTyped(Half):
    name = "typed"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Makes a package as pip would install it, with the module `NAME_code` unless code is given."""
    monkeypatch.setattr(plugins, "_found", {})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())

    def make(name: str, group: str, code: str = CODE, **entries: str) -> None:
        (tmp_path / f"{name}_code.py").write_text(code)
        install(tmp_path, name, "1.0", {group: {key: f"{name}_{value}" for key, value in entries.items()}})
        importlib.invalidate_caches()

    return make


def fault(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_a_store_is_opened_by_its_scheme_as_soon_as_its_package_is_there(package: Package) -> None:
    assert "unknown scheme 'own'" in fault(InvalidArgumentError, lambda: Store.from_uri("own://a"))
    said = fault(InvalidArgumentError, lambda: Store.from_uri("sqlit:///a.db"))
    assert said.startswith("unknown scheme 'sqlit' (did you mean 'sqlite'?); expected a path, or one of abfs")
    package("third", STORES, Own="code:Own")
    assert Store.from_uri("own://a?color=blue")["a"] == b"blue"
    assert Store.from_uri("OWN://b")["b"] == b"red"
    assert "own" in schemes()
    assert "has no option 'colour'" in fault(
        InvalidArgumentError, lambda: Store.from_uri("own://a", colour=1)
    )


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ("code:Gone", InvalidArgumentError, "no attribute 'Gone'"),
        ("code.Own", InvalidArgumentError, "must have the form 'module:name'"),
        ("cod:Own", InvalidArgumentError, "No module named 'third_cod'"),
        ("code", InvalidArgumentError, "must be a subclass of holdall.Store, or a function"),
        ("code:Half", InvalidArgumentError, "must be a subclass of holdall.Store, or a function"),
        ("code:Half.name", InvalidArgumentError, "must be a subclass of holdall.Store, or a function"),
        ("code:Own:", InvalidArgumentError, "must have the form 'module:name'"),
    ],
)
def test_an_entry_point_that_is_no_store_names_its_package(
    package: Package, value: str, kind: type[Exception], says: str
) -> None:
    package("third", STORES, own=value)
    said = fault(kind, lambda: Store.from_uri("own://a"))
    assert f"the store 'own' of the package third 1.0 (third_{value})" in said
    assert says in said
    Store.from_uri("memory://")


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("import nothing_of_this_name", MissingDependencyError, "module 'nothing_of_this_name', which isn't"),
        ("from holdall import Nothing", InvalidArgumentError, "Nothing"),
        ("raise RuntimeError('no licence')", InvalidArgumentError, "RuntimeError('no licence')"),
        ("class Own(", InvalidArgumentError, "SyntaxError"),
        ("raise SystemExit(3)", InvalidArgumentError, "SystemExit(3)"),
    ],
)
def test_a_module_that_can_not_be_imported_names_its_package(
    package: Package, code: str, kind: type[Exception], says: str
) -> None:
    package("third", STORES, code, own="code:Own")
    said = fault(kind, lambda: Store.from_uri("own://a"))
    assert "the package third 1.0" in said
    assert says in said


def test_an_opener_that_can_not_take_a_location_is_refused(package: Package) -> None:
    package("third", STORES, two="code:Two", typed="code:Typed", dictionary="code:dictionary")
    said = fault(InvalidArgumentError, lambda: Store.from_uri("two://a"))
    assert "missing a required argument: 'port'. Two is called with the text after '://'" in said
    assert "_from_uri" in said
    assert "must return a Store, not dict" in fault(InvalidTypeError, lambda: Store.from_uri("dictionary://"))
    assert "'Path' is not defined" in fault(InvalidArgumentError, lambda: Store.from_uri("typed://?folder=a"))
    Store.from_uri("typed://")


def test_an_opener_that_fails_shows_no_password(package: Package) -> None:
    package("third", STORES, bad="code:fail", away="code:lack")
    said = fault(InvalidArgumentError, lambda: Store.from_uri("bad://user:geheim@host"))
    assert said == "bad:// can't be opened: fail raised KeyError"
    assert "lack raised ConnectionError" in fault(StoreUnavailableError, lambda: Store.from_uri("away://"))


def test_two_packages_with_one_scheme_are_refused(package: Package) -> None:
    package("first", STORES, own="code:Own", other="code:Own")
    package("second", STORES, OWN="code:Own")
    said = fault(InvalidArgumentError, lambda: Store.from_uri("own://a"))
    assert said == (
        "first 1.0 and second 1.0 each bring a store 'own'; uninstall all but one of these packages"
    )
    Store.from_uri("other://a")


def test_what_is_built_in_stays(package: Package) -> None:
    package("third", STORES, memory="code:Own", my_own="code:Own")
    assert type(Store.from_uri("memory://a")) is MemoryStore
    said = fault(InvalidArgumentError, lambda: Store.from_uri("my_own://a"))
    assert said.startswith(
        "'my_own' can't be a URI scheme, which is a letter, then letters, digits, '+', '-'"
    )
    assert "my_own" not in schemes()


def test_a_layer_is_a_key_of_a_stack(package: Package, tmp_path: Path) -> None:
    package("third", LAYERS, loud="code:Loud", above="code:Loud", needy="code:Needy", cache="code:Loud")
    (tmp_path / "holdall.toml").write_text("""
[stores.full]
readonly = true
loud = { words = 3, voice = "low" }
ttl = 60
above = 2
uri = "memory://"
[stores.bare]
uri = "memory://"
loud = true
[stores.off]
uri = "memory://"
loud = false
[stores.wrong]
uri = "memory://"
loud = { word = 3 }
[stores.unknown]
uri = "memory://"
laud = true
[stores.missing]
uri = "memory://"
needy = {}
""")
    stores = load(tmp_path / "holdall.toml")
    layers: list[Store] = [stores.open("full")]
    while isinstance(layers[-1], Layer):
        layers += layers[-1]._below
    assert [type(each).__name__ for each in layers] == [
        *("ReadOnlyStore", "Loud", "Loud", "ExpiringStore", "MemoryStore"),
    ]
    assert [vars(each)["said"] for each in layers[1:3]] == [(3, "low"), (2, "high")]
    assert vars(stores.open("bare"))["said"] == (1, "high")
    assert type(stores.open("off")) is MemoryStore
    assert "stores.wrong.loud.word: unknown" in fault(InvalidArgumentError, lambda: stores.open("wrong"))
    said = fault(InvalidArgumentError, lambda: stores.open("unknown"))
    assert said.endswith("trace, above, loud, needy; did you mean 'loud'?")
    assert "needy: the option 'need' is missing" in fault(
        InvalidArgumentError, lambda: stores.open("missing")
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("code:Own", "must be a subclass of holdall.layers.layer.Layer, or a function that makes one"),
        ("code:Gone", "no attribute 'Gone'"),
        ("code:fail", "fail raised KeyError"),
        ("code:lays_nothing", "expected a Layer of the package, got MemoryStore"),
    ],
)
def test_what_is_no_layer_is_named_by_its_key(
    package: Package, tmp_path: Path, value: str, says: str
) -> None:
    package("third", LAYERS, loud=value)
    (tmp_path / "holdall.toml").write_text('stores.one = { uri = "memory://", loud = true }')
    said = fault(InvalidArgumentError, lambda: load(tmp_path / "holdall.toml").open("one"))
    assert f"{tmp_path}/holdall.toml: stores.one.loud: " in said
    assert says in said


def in_default(*says: str) -> Serializers:
    """The serializers of a process that has just begun, which warn once."""
    made = _Default()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert made.for_value({"a": 1}).decode(b"[]") == []
    said = "\n".join(str(each.message) for each in caught)
    assert all(each in said for each in says), said
    return made


def test_a_serializer_never_takes_the_place_of_a_built_in_one(package: Package) -> None:
    package("third", SERIALIZERS, own="code:Json", half="code:Half")
    package("modes", SERIALIZERS, typed="code:ModeTyped")
    made = in_default(
        "the serializer 'own' of the package third 1.0 (third_code:Json) is left out: holdall",
        "(modes_code:ModeTyped) is left out: holdall itself uses this name",
    )
    assert made.for_value(0.5).name == "half"


def test_two_serializers_of_one_name_are_left_out(package: Package) -> None:
    package("first", SERIALIZERS, half="code:Half")
    package("second", SERIALIZERS, half="code:Half")
    made = in_default("first 1.0 and second 1.0 each bring one of this name")
    assert made.for_value(0.5).name == "json"
    values = ValueStore(MemoryStore(), serializers=made)
    for use in (lambda: made.named("half"), lambda: values.get("a", serialization_mode="half")):
        assert "each bring one of this name" in fault(InvalidArgumentError, use)


def test_doctor_lists_what_packages_bring(package: Package) -> None:
    package("third", STORES, own="code:Own", memory="code:Own", my_own="code:Own", gone="code:Gone")
    package("layers", LAYERS, loud="code:Loud", ttl="code:Loud")
    found = {(each.kind, each.name): each for each in read_brought() if each.package[-3:] == "1.0"}
    assert found["store", "own"] == Brought("third 1.0", "store", "own", "third_code:Own", None)
    assert found["layer", "loud"].error is None
    for kind, name, says in (
        ("store", "memory", "memory:// is built in"),
        ("store", "my_own", "can't be a URI scheme"),
        ("store", "gone", "no attribute 'Gone'"),
        ("layer", "ttl", "'ttl' is a key of holdall's own"),
    ):
        assert says in str(found[kind, name].error)


@pytest.mark.parametrize("text", [b"[holdall.stores]\nnot a pair\n", b"\xff\xfe"])
def test_a_package_whose_entry_points_are_damaged_leaves_the_others(
    package: Package, tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    package("damaged", STORES, own="code:Own")
    (tmp_path / "damaged-1.0.dist-info/entry_points.txt").write_bytes(text)
    package("third", STORES, own="code:Own")
    assert Store.from_uri("own://a")["a"] == b"red"
    assert "the entry points of damaged can't be read" in caplog.text


def test_nothing_is_read_before_it_is_needed(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    package("third", STORES, "raise RuntimeError", own="code:Own")
    monkeypatch.setattr(plugins, "read_plugins", None)
    Store.from_uri("memory://?readonly=1")
    with pytest.raises(TypeError):
        Store.from_uri("own://a")
