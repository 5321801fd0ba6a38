"""The calls of a value store as coroutines."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from holdall import (
    BlobNotFoundError,
    InvalidTypeError,
    Item,
    MemoryStore,
    SerializationError,
    SqliteStore,
    Store,
    ValueStore,
    get_store,
)
from holdall.aio import AsyncValueStore
from holdall.errors import StoreClosedError


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_values_are_put_and_read(kind: str, loop: str, tmp_path: Path) -> None:
    store: Store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "a.db")

    async def main() -> None:
        async with ValueStore(store, "json").aio as values:
            info = await values.put("a", {"x": [1]}, ttl=timedelta(hours=1))
            assert info.expires is not None
            assert await values["a"] == await values.get("a") == {"x": [1]}
            assert await values.get("none") is None
            assert await values.get("a", serialization_mode="raw") == b'{"x":[1]}'
            await values.update({"b": Item(2, ttl=60), "c": 3})
            assert await values.setdefault("d", 4) == 4
            assert [key async for key in values] == ["a", "b", "c", "d"]
            assert [key async for key in values.keys()] == ["a", "b", "c", "d"]  # noqa: SIM118
            assert [value async for value in values.iterate_values("b")] == [2]
            assert [value async for value in values.values()] == [{"x": [1]}, 2, 3, 4]
            assert [pair async for pair in values.items()][1:3] == [("b", 2), ("c", 3)]
            assert await values.len() == 4
            assert await values.pop("d") == 4
            assert (await values.popitem())[0] == "a"
            assert await values.exists("b")
            assert (await values.info("b")).size == 1
            async with values.open("rows", "w") as file:
                await file.write("1\n2\n")
            assert [row async for row in values.stream("rows")] == [1, 2]
            async with values.local("rows") as path:
                assert path.read_text() == "1\n2\n"
            async with values.lock("job") as lock:
                assert lock.token
            assert await values.counter("n").increment() == 1
            assert await values.checksum("c", "md5") == values._values.checksum("c", "md5")
            assert (await values.touch("c")).size == 1
            assert await values.delete("c")
            with pytest.raises(BlobNotFoundError):
                await values["c"]
            with pytest.raises(SerializationError) as caught:
                await values.put("bad", object())
            assert caught.value.key == "bad"
            await values.clear()
            assert await values.len() == 0
            wrong: Any = values
            for call in (lambda: "a" in wrong, lambda: len(wrong), lambda: wrong.__setitem__("a", 1)):
                with pytest.raises(TypeError, match="await"):
                    call()

    anyio.run(main, backend=loop)
    assert store.put("open", b"").size == 0
    store.close()


def test_it_has_the_calls_of_a_value_store() -> None:
    names = {name for name in dir(ValueStore) if not name.startswith("_")}
    assert names - {name for name in dir(AsyncValueStore) if not name.startswith("_")} == {
        *("aio", "serialization_mode", "store")
    }
    for name in names - {"aio", "serialization_mode", "store", "values", "keys", "items"}:
        given = inspect.signature(getattr(ValueStore, name)).parameters
        own = inspect.signature(getattr(AsyncValueStore, name)).parameters
        assert list(own)[: len(given)] == list(given)[: len(own)] or "options" in own, name


def test_the_store_that_get_store_opened_is_closed(tmp_path: Path) -> None:
    async def main() -> ValueStore:
        values = get_store(f"sqlite:///{tmp_path}/a.db")
        async with values.aio as face:
            await face.put("a", 1)
        return values

    values = anyio.run(main)
    with pytest.raises(StoreClosedError):
        values.get("a")


def test_a_store_of_bytes_is_refused() -> None:
    wrong: Any = MemoryStore()
    with pytest.raises(InvalidTypeError, match="expected a ValueStore, not MemoryStore; a Store has store"):
        AsyncValueStore(wrong)
