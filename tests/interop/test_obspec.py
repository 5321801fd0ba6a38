"""obspec's protocols over our stores, side by side with obstore's own memory."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import obspec
import obstore.store
import pytest
from obspec import exceptions
from tests.interop.corrupted import FirstByte, noticed

from holdall import (
    Can,
    FilesystemStore,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidTypeError,
    MemoryStore,
    SqliteStore,
    Store,
)
from holdall.interop.obspec import ObspecStore


@pytest.fixture(params=["obstore", "memory", "files", "sqlite"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "obstore":
        yield obstore.store.MemoryStore()
        return
    makers = {"memory": MemoryStore, "files": FilesystemStore, "sqlite": SqliteStore}
    with makers[request.param](*(() if request.param == "memory" else (tmp_path / "store",))) as store:
        yield ObspecStore(store)


def mapped(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        call()
    return type(exceptions.map_exception(raised.value)).__name__


PROTOCOLS = [
    each for each in vars(obspec).values() if isinstance(each, type) and getattr(each, "_is_protocol", False)
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.__name__)
def test_signatures(protocol: type) -> None:
    """Every call of every protocol is there, with its arguments, and is a coroutine where that one is."""
    of_result = protocol.__name__.startswith("GetResult")
    ours = type(ObspecStore(MemoryStore({"a": b""})).get("a")) if of_result else ObspecStore
    calls = {name: call for name, call in vars(protocol).items() if not name.startswith("_")}
    assert calls
    for base in protocol.__mro__[1:]:
        if base.__name__ in ("Iterable", "AsyncIterable"):
            assert issubclass(ours, base)
    for name, call in calls.items():
        own = getattr(ours, name, None)
        if isinstance(call, property):
            assert of_result  # attributes that are set, as the tests of `get` see
            continue
        assert inspect.iscoroutinefunction(own) == inspect.iscoroutinefunction(call), name
        found = inspect.signature(own).parameters
        for argument in inspect.signature(call).parameters.values():
            assert found[argument.name].kind == argument.kind, (name, argument)
            if argument.default is not Ellipsis:
                assert found[argument.name].default == argument.default, (name, argument)
    assert len(PROTOCOLS) >= 20


def test_put_and_get(objects: Any) -> None:
    typed = not isinstance(objects, ObspecStore) or Can.ATTRIBUTES in objects.store.can
    attributes = {"Content-Type": "text/plain"} if typed else {}
    written = objects.put("a/b", b"0123456789", attributes=attributes)
    result = objects.get("a/b")
    assert bytes(result.buffer()) == b"0123456789"
    assert dict(result.attributes) == attributes
    assert result.meta["path"] == "a/b"
    assert (result.meta["size"], result.meta["e_tag"], result.range) == (10, written["e_tag"], (0, 10))
    for found, expected in [
        ((2, 5), b"234"),
        ({"offset": 7}, b"789"),
        ({"suffix": 2}, b"89"),
        ((8, 99), b"89"),
    ]:
        assert b"".join(map(bytes, objects.get("a/b", options={"range": found}))) == expected
    assert bytes(objects.get_range("a/b", start=1, end=3)) == b"12"
    assert bytes(objects.get_range("a/b", start=1, length=3)) == b"123"
    assert [bytes(each) for each in objects.get_ranges("a/b", starts=[0, 8], lengths=[1, 2])] == [b"0", b"89"]
    assert objects.head("a/b")["size"] == 10
    objects.put("empty", b"")
    assert bytes(objects.get("empty", options={"range": {"suffix": 1}}).buffer()) == b""
    objects.put("stream", iter([b"1", b"2"]))
    assert bytes(objects.get("stream").buffer()) == b"12"


def test_conditions(objects: Any) -> None:
    etag = objects.put("a", b"1", mode="create")["e_tag"]
    assert mapped(lambda: objects.put("a", b"2", mode="create")) == "AlreadyExistsError"
    assert mapped(lambda: objects.put("a", b"2", mode={"e_tag": "other"})) == "PreconditionError"
    assert bytes(objects.get("a", options={"if_match": etag}).buffer()) == b"1"
    assert mapped(lambda: objects.get("a", options={"if_match": "other"})) == "PreconditionError"
    assert mapped(lambda: objects.get("a", options={"if_none_match": etag})) == "NotModifiedError"
    moment = objects.head("a")["last_modified"]
    hour = timedelta(hours=1)
    assert (
        mapped(lambda: objects.get("a", options={"if_modified_since": moment + hour})) == "NotModifiedError"
    )
    assert (
        mapped(lambda: objects.get("a", options={"if_unmodified_since": moment - hour}))
        == "PreconditionError"
    )
    assert objects.put("a", b"2", mode={"e_tag": etag})["e_tag"] != etag
    assert mapped(lambda: objects.get("absent")) == "NotFoundError"
    assert mapped(lambda: objects.head("absent")) == "NotFoundError"
    assert mapped(lambda: objects.copy("a", "a2/../b")) != "NotFoundError"


def test_list(objects: Any) -> None:
    for path in ("a/b", "a/c/d", "ab", "z"):
        objects.put(path, b"")
    assert sorted(meta["path"] for page in objects.list() for meta in page) == [
        "a/b",
        "a/c/d",
        "ab",
        "z",
    ]
    assert sorted(meta["path"] for page in objects.list("a") for meta in page) == ["a/b", "a/c/d"]
    assert sorted(meta["path"] for page in objects.list(offset="a/b") for meta in page) == [
        "a/c/d",
        "ab",
        "z",
    ]
    found = objects.list_with_delimiter("a/")
    assert [*found["common_prefixes"]] == ["a/c"]
    assert [meta["path"] for meta in found["objects"]] == ["a/b"]


def test_copy_rename_delete(objects: Any) -> None:
    objects.put("a", b"1")
    objects.put("b", b"2")
    assert mapped(lambda: objects.copy("a", "b", overwrite=False)) == "AlreadyExistsError"
    objects.copy("a", "c")
    objects.rename("c", "d")
    assert bytes(objects.get("d").buffer()) == b"1"
    objects.delete(["a", "b"])
    objects.delete("d")
    assert [*objects.list()] in ([], [[]])


def test_coroutines(objects: Any) -> None:
    async def pieces() -> Any:
        yield b"1"
        yield b"23"

    async def run() -> None:
        await objects.put_async("a", pieces())
        result = await objects.get_async("a")
        assert b"".join([bytes(piece) async for piece in result]) == b"123"
        assert bytes(await (await objects.get_async("a")).buffer_async()) == b"123"
        assert bytes(await objects.get_range_async("a", start=1, end=2)) == b"2"
        assert [bytes(each) for each in await objects.get_ranges_async("a", starts=[0], ends=[2])] == [b"12"]
        assert (await objects.head_async("a"))["size"] == 3
        await objects.copy_async("a", "b/c")
        await objects.rename_async("b/c", "b/d")
        assert [meta["path"] async for page in objects.list_async("b") for meta in page] == ["b/d"]
        assert [*(await objects.list_with_delimiter_async())["common_prefixes"]] == ["b"]
        await objects.delete_async(["a", "b/d"])

    asyncio.run(run())


def test_a_subclass_overrides_both_of_a_call() -> None:
    class Spelled(ObspecStore):
        def head(self, path: str) -> dict[str, Any]:
            return super().head(path.lower())

    objects = Spelled(MemoryStore({"a": b"123"}))
    assert asyncio.run(objects.head_async("A")) == objects.head("A")


@pytest.mark.parametrize(
    "test", [test_put_and_get, test_conditions, test_copy_rename_delete, test_coroutines]
)
def test_they_notice_a_store_that_corrupts_every_read(test: Callable[[ObspecStore], None]) -> None:
    store = FirstByte(MemoryStore())
    with noticed(store):
        test(ObspecStore(store))


def test_bytes_are_read_once(objects: Any) -> None:
    objects.put("a", b"123")
    for first in (lambda result: result.buffer(), list):
        result = objects.get("a")
        first(result)
        for again in (lambda result: result.buffer(), list):
            with pytest.raises(ValueError, match=r"once|disposed"):
                again(result)


def test_a_result_is_written_elsewhere(tmp_path: Path) -> None:
    async def run() -> None:
        here, there = ObspecStore(MemoryStore({"a": b"123"})), ObspecStore(FilesystemStore(tmp_path))
        await there.put_async("b", await here.get_async("a"))
        there.put("c", here.get("a"))
        (tmp_path / "file").write_bytes(b"456")
        await there.put_async("d", tmp_path / "file", mode="create", chunk_size=1, use_multipart=True)
        assert dict(there.store.items()) == {"b": b"123", "c": b"123", "d": b"456", "file": b"456"}

    asyncio.run(run())


def test_a_condition_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "store.db") as store:
        store["a"] = bytes(3 << 20)  # which is streamed by a connection of its own
        objects = ObspecStore(store)
        closed: list[bool] = []
        read = store._read_part

        def noting(*place: Any) -> Any:
            info, pieces = read(*place)

            def pass_on() -> Iterator[Any]:
                try:
                    yield from pieces
                finally:
                    closed.append(True)

            passed = pass_on()
            next(passed)
            return info, passed

        store._read_part = noting  # pyright: ignore[reportAttributeAccessIssue]
        assert mapped(lambda: objects.get("a", options={"if_match": "other"})) == "PreconditionError"
        assert closed == [True]


def test_what_a_store_lacks() -> None:
    objects = ObspecStore(MemoryStore())
    assert mapped(lambda: objects.put("a", b"", tags={"a": "b"})) == "NotSupportedError"
    assert mapped(lambda: objects.put("a", b"", attributes={"Cache-Control": "x"})) == "NotSupportedError"
    assert mapped(lambda: objects.put("../a", b"")) == "InvalidPathError"
    objects.put("a", b"")
    assert mapped(lambda: objects.get("a", options={"version": "1"})) == "NotSupportedError"
    for wrong in ({"rnge": (0, 1)}, {"range": 3}, {"range": (0, 0)}):
        with pytest.raises(InvalidArgumentError):
            objects.get("a", options=wrong)
    for wrong in ({"offset": -1}, {"suffix": -1}, (-1, 3)):
        with pytest.raises(InvalidArgumentError, match="a range"):
            objects.get("a", options={"range": wrong})
    with pytest.raises(InvalidArgumentError, match="time zone"):
        objects.get("a", options={"if_modified_since": datetime.now()})
    with pytest.raises(InvalidArgumentError, match="either an end or a length"):
        objects.get_range("a", start=0)
    with pytest.raises(InvalidTypeError, match="if_match is an ETag, a str, not int"):
        objects.get("a", options={"if_match": 5})
    with pytest.raises(InvalidTypeError, match="options of get are a dict, not list"):
        objects.get("a", options=["range"])
    for start, end in (("0", 1), (0, 1.5)):
        with pytest.raises(InvalidTypeError, match="ends of a range are ints"):
            objects.get_range("a", start=start, end=end)
        with pytest.raises(InvalidTypeError, match="ends of a range are ints"):
            objects.get_ranges("a", starts=[start], ends=[end])
    for call in (objects.head, objects.list_with_delimiter, lambda prefix: list(objects.list(prefix))):
        with pytest.raises(InvalidTypeError, match="a path is a str"):
            call(5)
    with pytest.raises(InvalidArgumentError, match="as many ends"):
        objects.get_ranges("a", starts=[0, 1], ends=[1])
    with pytest.raises(InvalidArgumentError, match="a name in metadata"):
        objects.put("a", b"", attributes={"Owner": "ann"})
    objects.put("a", b"", attributes={"owner": "ann"})
    assert objects.get("a").attributes == {"owner": "ann"}
    objects.delete("a")
    with pytest.raises(InvalidKeyError):
        objects.delete(["b", "c//d"])
    objects.put("a", b"")
    with pytest.raises(InvalidArgumentError, match="mode is"):
        objects.put("a", b"", mode="append")
    assert isinstance(objects.store, Store)
