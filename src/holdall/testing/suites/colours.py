"""The asynchronous face does what the store does."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from holdall.errors import InvalidDataError, StoreError
from holdall.store import ABSENT, Can, Info, Store
from holdall.testing.running import run_within, wait_until
from holdall.testing.samples import MIB, BodyError, is_whole, make_noise, read_all, seal, without_times
from holdall.testing.suites.base import SuiteBase


class AsyncTests(SuiteBase):
    """The asynchronous face does what the store does."""

    def test_written_in_one_colour_and_read_in_the_other(self, store: Store, other: Store) -> None:
        aio = other.aio

        async def stream() -> AsyncIterator[bytes]:
            for number in range(20):
                await asyncio.sleep(0)
                yield bytes([number]) * 50_000

        async def main() -> None:
            info = await aio.put("a", b"1")
            assert info == store.info("a") == await aio.info("a")
            assert store["a"] == await aio["a"] == await aio.get("a") == b"1"
            store["b/c"] = make_noise(3 * MIB)
            assert await aio.get("b/c") == make_noise(3 * MIB)
            assert await aio.get_range("b/c", 5, -7) == make_noise(3 * MIB)[5:-7]
            assert b"".join([chunk async for chunk in aio.chunks("b/c", 99_999)]) == make_noise(3 * MIB)
            await aio.put("stream", stream())
            assert store["stream"] == b"".join(bytes([number]) * 50_000 for number in range(20))
            keys = ["a", "b/c", "stream"]
            assert [key async for key in aio] == [key async for key in aio.keys()] == list(store) == keys  # noqa: SIM118
            assert [key async for key in aio.iterate_keys(None, "b", "*")] == ["a", "stream"]
            assert [each async for each in aio.list()] == list(store.list())
            assert [each async for each in aio.list("b", glob="b/*")] == [store.info("b/c")]
            assert [each async for each in aio.children()] == list(store.children())
            assert [value async for value in aio.values()] == list(store.values())
            assert {key: value async for key, value in aio.items()} == read_all(store)
            assert (await aio.len(), await aio.exists("a"), await aio.exists("z")) == (3, True, False)
            assert await aio.get_many(["a", "z"]) == {"a": b"1"}
            many = await aio.put_many({"m/1": b"x", "m/2": b"y"})
            assert many == {key: store.info(key) for key in ("m/1", "m/2")}
            assert await aio.delete_many(["m/1", "z"]) == 1
            await aio.update({"m/2": b"z"}, more=b"w")
            assert (store["m/2"], store.pop("more")) == (b"z", b"w")
            assert await aio.setdefault("m/2", b"x") == await aio.pop("m/2") == b"z"
            assert await aio.pop("m/2", None) is None
            assert await aio.delete("m/2") is False
            async with aio.open("file", "w") as text:
                await text.write("eins\nzwei")
                assert "file" not in store
            assert store["file"] == b"eins\nzwei"
            async with aio.open("file") as file:
                assert await file.readline() == b"eins\n"
                await file.seek(-4, os.SEEK_END)
                assert (file.tell(), await file.read()) == (5, b"zwei")
            assert (await aio.copy("file", "copied")) == store.info("copied")
            assert (await aio.move("copied", "moved")) == store.info("moved")
            assert (await aio.popitem())[0] == "a"
            await aio.clear()
            assert not store

        asyncio.run(main())

    def test_both_colours_raise_the_same(self, store: Store) -> None:
        aio: Any = store.aio
        wrong: Any = store
        store["key"] = b"before"
        calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
            *((name, ("absent",), {}) for name in ("info", "pop", "open")),
            ("modify", ("absent", bytes), {}),
            *(
                (name, ("../a",), {})
                for name in ("get", "delete", "exists", "info", "pop", "setdefault", "open")
            ),
            ("get_range", ("absent", 0), {}),
            ("get_range", ("key", "1"), {}),
            ("put", ("key", "text"), {}),
            ("put", ("key", 1), {}),
            ("put", ("a//b", b"x"), {}),
            ("put", ("key", b"x"), {"expect": "stale"}),
            ("put", ("key", b"x"), {"expect": ABSENT}),
            ("put", ("key", b"x"), {"ttl": -1}),
            ("put_many", ([("a", b"x"), ("", b"x")],), {}),
            ("copy", ("absent", "b"), {}),
            ("move", ("absent", "b"), {}),
            ("open", ("key", "q"), {}),
            ("sign", ("a//b",), {}),
        ]

        def outcome(function: Callable[[], object]) -> object:
            try:
                return without_times(function())
            except (StoreError, TypeError) as error:
                return type(error), str(error)

        async def awaited(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> object:
            return await getattr(aio, name)(*arguments, **options)

        async def failing() -> AsyncIterator[Any]:
            yield b"x" * 100_000
            raise BodyError

        async def text() -> AsyncIterator[Any]:
            yield b"x" * 100_000
            yield "text"

        for name, arguments, options in calls:
            plain = outcome(lambda: getattr(wrong, name)(*arguments, **options))  # noqa: B023
            assert outcome(lambda: asyncio.run(awaited(name, arguments, options))) == plain, name  # noqa: B023
            assert isinstance(plain, tuple), f"{name}{arguments} does not raise"
        with pytest.raises(BodyError):
            asyncio.run(awaited("put", ("key", failing()), {}))
        with pytest.raises(InvalidDataError):
            asyncio.run(awaited("put", ("key", text()), {}))
        assert read_all(store) == {"key": b"before"}

    def test_many_coroutines_share_a_store(self, store: Store, other: Store) -> None:
        def add(old: bytes) -> bytes:
            return b"%d" % (int(old) + 1)

        async def work(number: int) -> None:
            aio = (store, other)[number % 2].aio
            await aio.put(f"key/{number}", b"%d" % number)
            assert await aio.get(f"key/{number}") == b"%d" % number
            if Can.SWAP in store.can and Can.CREATE in store.can:
                await aio.modify("count", add, b"0")

        async def main() -> None:
            await asyncio.gather(*(work(number) for number in range(many)))

        many = self._effort(40, 16, 16)
        run_within(lambda: asyncio.run(main()))
        assert len(list(store.list("key/"))) == many
        if Can.SWAP in store.can and Can.CREATE in store.can:
            assert store["count"] == b"%d" % many

    def test_a_cancelled_put_tears_nothing(self, store: Store, other: Store) -> None:
        old, new = seal(make_noise(200_000, 1)), seal(make_noise(2_000_000, 2))

        async def cancelled(put: Callable[[], Coroutine[Any, Any, Info]], turns: int) -> None:
            task = asyncio.ensure_future(put())
            for _ in range(turns):
                await asyncio.sleep(0.001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert other["key"] in (old, new)

        async def stream() -> AsyncIterator[bytes]:
            for at in range(0, len(new), 250_000):
                yield new[at : at + 250_000]
                await asyncio.sleep(0.001)

        async def stuck() -> AsyncIterator[bytes]:
            yield new[:250_000]
            await asyncio.Event().wait()

        aio = store.aio
        for turns in range(6):
            store["key"] = old
            asyncio.run(cancelled(lambda: aio.put("key", stream()), turns))
            wait_until(lambda: is_whole(other["key"]))
            # A thread of the put may end later; what it writes is whole too.
            store["key"] = old
            asyncio.run(cancelled(lambda: aio.put("key", iter([new[:1000], new[1000:]])), turns))
        run_within(lambda: asyncio.run(cancelled(lambda: aio.put("key", stuck()), 5)))
        assert other["key"] in (old, new)
        assert list(other) == ["key"]
