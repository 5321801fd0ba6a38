"""The hooks behind get, put and exists: which of them a class has, and what they leave to the calls."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import (
    Can,
    ExpiringStore,
    FilesystemStore,
    InvalidKeyError,
    MemoryStore,
    NotifyingStore,
    PrefixStore,
    ReadOnlyError,
    ReadOnlyStore,
    RoutedStore,
    SqliteStore,
    StoreClosedError,
    TracedStore,
    UnsupportedOperation,
    ZipStore,
)
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Expect, Info, Piece, Store

Read = tuple[Info, Iterator[Piece]]

DOORS = (
    "get",
    "get_range",
    "put",
    "exists",
    "put_many",
    "get_many",
    "__getitem__",
    "__setitem__",
    "__contains__",
)

LAYERS: list[Callable[[Store], Store]] = [
    lambda store: store / "folder",
    ReadOnlyStore,
    NotifyingStore,
    TracedStore,
    lambda store: ExpiringStore(store, 60),
    lambda store: RoutedStore({"": store}),
]


def test_no_store_has_a_public_call_of_its_own() -> None:
    own: list[str] = []
    folder = Path(holdall.__file__).parent
    for path in [*folder.glob("stores/**/*.py"), *folder.glob("layers/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
                if methods & {"_read", "_write", "_info", "_scan", "_checked"}:
                    own += [f"{node.name}.{door}" for door in DOORS if door in methods]
    assert not own, "override _get, _put or _has instead, so that layers are as fast"


class Upper(MemoryStore):
    def _read(self, key: str, start: int, stop: int | None) -> Read:
        info, pieces = super()._read(key, start, stop)
        return info, iter([bytes(piece).upper() for piece in pieces])


class Hidden(MemoryStore):
    def _info(self, key: str) -> Info:
        raise holdall.BlobNotFoundError(key=key)


class Doubled(MemoryStore):
    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        return super()._write(key, (piece for piece in body for _ in range(2)), expect, attributes)


class UpperMixin:
    def _read(self: Any, key: str, start: int, stop: int | None) -> Read:
        info, pieces = MemoryStore._read(self, key, start, stop)
        return info, iter([bytes(piece).upper() for piece in pieces])


@pytest.mark.parametrize("over", [lambda store: store, *LAYERS[1:]])
def test_an_overridden_primitive_counts_for_every_call(over: Callable[[Store], Store]) -> None:
    upper = over(Upper({"a": b"x"}))
    assert (upper["a"], upper.get("a"), upper.get_many(["a"])) == (b"X", b"X", {"a": b"X"})
    assert not over(Hidden({"a": b"x"})).exists("a")
    assert "a" not in over(Hidden({"a": b"x"}))
    if not isinstance(upper, ReadOnlyStore):
        doubled = Doubled()
        over(doubled)["a"] = b"xy"
        assert doubled["a"] == b"xyxy"


def test_a_primitive_that_a_mixin_overrides_counts_too() -> None:
    class Mixed(UpperMixin, MemoryStore):  # type: ignore[misc]
        pass

    assert Mixed({"a": b"x"})["a"] == b"X"


def test_a_class_may_override_the_hook_as_well() -> None:
    class Both(Upper):
        def _get(self, key: str) -> bytes | None:
            return b"hook"

    class Further(Both):
        def _info(self, key: str) -> Info:
            return super()._info(key)

    assert Both({"a": b"x"})["a"] == Further({"a": b"x"})["a"] == b"hook"


class Recorded(MemoryStore):
    """Records which of its methods a layer calls."""

    def __init__(self, *rest: Any) -> None:
        self.calls: list[str] = []
        super().__init__(*rest)

    def _noted(self, name: str, *rest: Any) -> Any:
        self.calls.append(name)
        return getattr(MemoryStore, name)(self, *rest)

    def _get(self, key: str) -> bytes | None:
        return self._noted("_get", key)

    def _has(self, key: str) -> bool:
        return self._noted("_has", key)

    def _put(self, key: str, data: bytes) -> Info:
        return self._noted("_put", key, data)

    def _read(self, *rest: Any) -> Read:
        return self._noted("_read", *rest)

    def _write(self, *rest: Any) -> Info:
        return self._noted("_write", *rest)

    def _info(self, *rest: Any) -> Info:
        return self._noted("_info", *rest)


@pytest.mark.parametrize("over", LAYERS)
def test_a_layer_asks_the_store_below_once(over: Callable[[Store], Store]) -> None:
    below = Recorded({"a": b"1", "folder/a": b"1"})
    store = over(below)
    below.calls.clear()
    assert store["a"] == b"1"
    assert "a" in store
    assert store.get("absent") is None
    assert below.calls == ["_get", "_has", "_get"]
    below.calls.clear()
    if isinstance(store, ReadOnlyStore):
        with pytest.raises(ReadOnlyError):
            store["a"] = b"2"
        with pytest.raises(ReadOnlyError):
            store._put("a", b"2")
        assert below.calls == []
    else:
        store["a"] = b"2"
        # A ttl of the layer isn't plain.
        assert below.calls == ["_write" if isinstance(store, ExpiringStore) else "_put"]
        assert store["a"] == b"2"


def test_what_a_layer_overrides_isnt_passed_by() -> None:
    class Reading(Transparent):
        def _read(self, key: str, start: int, stop: int | None) -> Read:
            info, pieces = super()._read(key, start, stop)
            return info, iter([bytes(piece).upper() for piece in pieces])

    class Keys(Transparent):
        def _checked(self, key: object) -> str:
            key = super()._checked(key)
            if key.startswith("private"):
                raise InvalidKeyError("it is private", key=key)
            return key

    class Unwritable(Transparent):
        @property
        def can(self) -> Can:  # type: ignore[override]
            return super().can & ~Can.WRITE

    below = MemoryStore({"a": b"x", "private": b"y"})
    reading = Reading(below)
    with reading.open("a") as file:
        assert file.read() == b"X"
    assert (reading["a"], dict(reading.items())["a"], reading.get_many(["a"])["a"]) == (b"X",) * 3
    for call in (lambda store: store["private"], lambda store: store.put("private", b"")):
        with pytest.raises(InvalidKeyError, match="it is private"):
            call(Keys(below))
    assert "private" not in Keys(below)
    with pytest.raises(UnsupportedOperation, match="'a': an Unwritable can't put"):
        Unwritable(below)["a"] = b"3"
    assert dict(below.items()) == {"a": b"x", "private": b"y"}


def test_a_subclass_of_a_layer_changes_every_call() -> None:
    class Fewer(NotifyingStore):
        def _scan(self, prefix: str, after: str) -> Iterator[Info]:
            return (info for info in super()._scan(prefix, after) if info.key != "a")

    store = Fewer(MemoryStore({"a": b"1", "b": b"2"}))
    assert (list(store), [info.key for info in store.list()]) == (["b"], ["b"])
    assert [child.key for child in store.children() if isinstance(child, Info)] == ["b"]


CALLS: list[Callable[[Any, Any], object]] = [
    lambda store, key: store[key],
    lambda store, key: store.get(key, b"default"),
    lambda store, key: store.exists(key),
    lambda store, key: store.put(key, b"1"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("over", [lambda store: store, *LAYERS])
def test_what_is_closed_refuses_whatever_is_there(over: Any, call: Any, tmp_path: Path) -> None:
    for below in (
        MemoryStore({"a": b"1", "folder/a": b"1"}),
        MemoryStore({"a": b"1", "folder/a": b"1"}, name=str(tmp_path)),
        FilesystemStore(tmp_path / "files"),
        SqliteStore(tmp_path / "file.db"),
        ZipStore(tmp_path / "file.zip"),
    ):
        below.update({"a": b"1", "folder/a": b"1"})
        name = type(below).__name__
        top, middle = ReadOnlyStore(over(below)), over(below)
        assert (top["a"], middle["a"]) == (b"1", b"1")
        middle.close()
        with pytest.raises(StoreClosedError, match=f"this {type(middle).__name__} is closed") as caught:
            call(middle, "a")
        assert caught.value.key is None
        if middle is not below:
            with pytest.raises(StoreClosedError, match="this NotifyingStore is closed"):
                call(_closed(NotifyingStore(over(below))), "a")
            below.close()
            for layer in (over(below), NotifyingStore(over(below))):
                if not (isinstance(layer, ReadOnlyStore) and call is CALLS[-1]):
                    with pytest.raises((StoreClosedError, ReadOnlyError)) as refused:
                        call(layer, "a")
                    if isinstance(refused.value, StoreClosedError):
                        assert f"this {name} is closed" in str(refused.value)


def _closed(store: Store) -> Store:
    store.close()
    return store


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "a key has at least one character"),
        ("a//b", "a key has no empty segment"),
        ("../a", "a key has no segment '..'"),
        ("\ud800", "a key has no lone surrogates"),
        ("x" * 1020, "with its folder 'folder/' it can't be a key: a key has at most 1024 UTF-8 bytes"),
        (5, "a key must be a str, not int"),
        (b"a", "a key must be a str, not bytes; decode it"),
    ],
)
def test_a_folder_names_keys_as_its_caller_does(call: Any, key: Any, message: str, tmp_path: Path) -> None:
    for below in (MemoryStore(), FilesystemStore(tmp_path / "files"), SqliteStore(tmp_path / "file.db")):
        for store in (PrefixStore(below, "folder"), NotifyingStore(PrefixStore(below, "folder"))):
            with pytest.raises(InvalidKeyError) as caught:
                call(store, key)
            assert caught.value.message.startswith(message)
            assert caught.value.key == (key if isinstance(key, str) else None)
        assert list(below) == []


def test_a_str_of_a_class_of_its_own_is_a_key() -> None:
    class Name(str):
        def __hash__(self) -> int:
            return 0

    store = MemoryStore()
    store[Name("a")] = b"1"
    assert (store[Name("a")], store["a"], list(map(type, store))) == (b"1", b"1", [str])
