"""The asynchronous face's own: threads, cancelling, loops; what it shares is in the kit."""

import asyncio
import contextvars
import hashlib
import inspect
import re
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_overloads

import pytest

from holdall import AsyncStore, MemoryStore, Store, StoreClosedError
from holdall.errors import StoreUnavailableError
from holdall.testing import Counting, Flaky, Slow

SECONDS = 30


def slow(seconds: float = 0.002, **blobs: bytes) -> Store:
    return Slow(MemoryStore(blobs), seconds)


def run(main):
    return asyncio.run(asyncio.wait_for(main, SECONDS))


class Where(Counting):
    """Notes which thread its calls run on."""

    def __init__(self, store: Store, inline: bool) -> None:
        super().__init__(store)
        self.inline = inline
        self.threads: set[int] = set()

    def _count(self, call: str) -> None:
        self.threads.add(threading.get_ident())


def test_what_touches_nothing_runs_inline_and_the_rest_on_threads():
    for inline in (True, False):
        store = Where(MemoryStore(), inline)

        async def main(aio: AsyncStore) -> None:
            await aio.put("a", b"1")
            assert await aio.get("a") == b"1"
            assert [info.key async for info in aio.list()] == ["a"]

        run(main(store.aio))
        assert (store.threads == {threading.get_ident()}) is inline
        assert (threading.get_ident() in store.threads) is inline


def test_the_loop_goes_on_while_a_call_waits():
    async def main() -> None:
        aio, turns = slow(0.2, a=b"1").aio, 0
        call = asyncio.ensure_future(aio.get("a"))
        while not call.done():
            turns += 1
            await asyncio.sleep(0.001)
        assert await call == b"1"
        assert turns > 10

    run(main())


def test_calls_run_beside_each_other():
    held = threading.Barrier(20)

    class Meeting(Counting):
        def __init__(self, store: Store) -> None:
            super().__init__(store)
            self.inline = False

        def _count(self, call: str) -> None:
            if call == "info":
                held.wait(SECONDS)

    async def main() -> None:
        aio = Meeting(MemoryStore({"a": b"1"})).aio
        infos = await asyncio.gather(*(aio.info("a") for _ in range(20)))
        assert {info.size for info in infos} == {1}

    run(main())


def test_context_variables_reach_the_store():
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    seen: list[str] = []

    class Seeing(Counting):
        inline = False

        def __init__(self, store: Store) -> None:
            super().__init__(store)
            self.inline = False

        def _count(self, call: str) -> None:
            seen.append(name.get())

    async def main() -> None:
        name.set("mine")
        await Seeing(MemoryStore()).aio.put("a", b"1")

    run(main())
    assert seen == ["mine"]


def test_one_store_serves_one_loop_after_another():
    store = slow(a=b"1")
    for number in range(5):
        assert asyncio.run(store.aio.get("a")) == b"1"
        assert asyncio.run(store.aio.put("b", b"%d" % number)).size == 1
    loops = [threading.Thread(target=lambda: run(store.aio.put("c", b"x")), daemon=True) for _ in range(4)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert store["c"] == b"x"


def test_a_with_block_closes_the_store():
    store = slow()

    async def main() -> None:
        async with store.aio as aio:
            await aio.put("a", b"1")
            assert aio.store is store
            assert aio.can == store.can
        with pytest.raises(StoreClosedError):
            await aio.get("a")

    run(main())
    assert repr(store.aio).startswith("AsyncStore(Slow(")


def test_a_file_is_awaited_or_entered():
    store = slow(a=b"one\ntwo\n")

    async def main() -> None:
        file = await store.aio.open("a")
        assert [line async for line in file] == [b"one\n", b"two\n"]
        await file.close()
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with store.aio.open("a", "wb") as file:
                await file.write(b"half")
                1 / 0  # noqa: B018
        assert store["a"] == b"one\ntwo\n"

    run(main())


def test_a_listing_that_is_left():
    store = Counting(MemoryStore({f"{number:05d}": b"" for number in range(5000)}))
    store.inline = False

    async def main() -> None:
        listing = store.aio.list()
        assert (await anext(listing)).key == "00000"
        await listing.aclose()  # type: ignore[attr-defined]
        assert await store.aio.len() == 5000

    run(main())


def test_errors_of_the_store_reach_the_awaiter():
    async def main() -> None:
        aio = Flaky(slow(a=b"1"), rate=1).aio
        for call in (aio.get("a"), aio.put("a", b"2"), aio.delete("a"), aio.info("a"), aio.len()):
            with pytest.raises(StoreUnavailableError):
                await call

    run(main())


def sealed(size: int) -> bytes:
    payload = bytes(size)
    return hashlib.sha256(payload).digest() + payload


def whole(value: bytes) -> bool:
    return hashlib.sha256(value[32:]).digest() == value[:32]


def test_a_cancelled_put_leaves_old_or_new(tmp_path: Path):
    from holdall import FilesystemStore

    store = Slow(FilesystemStore(tmp_path), 0.001)
    old, new = sealed(10), sealed(50_000)

    async def main() -> None:
        cancelled = 0
        for turns in range(12):
            store["key"] = old
            pieces = (new[at : at + 5000] for at in range(0, len(new), 5000))
            task = asyncio.ensure_future(store.aio.put("key", pieces))
            for _ in range(turns):
                await asyncio.sleep(0.001)
            if task.cancel():
                cancelled += 1
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                # On a busy machine it may be done by now.
                assert (await task).size == len(new)
            assert await store.aio.get("key") in (old, new)
            # What began on a thread ends there; the next turn is not to race with it.
            await asyncio.to_thread(_wait_for_quiet, store)
        assert cancelled > 2
        assert list(store) == ["key"]

    run(main())


def _wait_for_quiet(store: Store) -> None:
    deadline = time.monotonic() + SECONDS
    seen = store.info("key").etag
    for _ in range(10):
        time.sleep(0.005)
        now = store.info("key").etag
        if now != seen:
            return
        assert time.monotonic() < deadline


def test_a_cancelled_stream_stores_nothing_and_frees_its_thread():
    """More of them than there are threads: a thread that waited on for a piece would be missed."""
    store = slow(0, key=b"old")

    async def stuck() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.Event().wait()

    async def main() -> None:
        tasks = [asyncio.ensure_future(store.aio.put("key", stuck())) for _ in range(100)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in done)
        assert await asyncio.wait_for(store.aio.get("key"), SECONDS / 6) == b"old"

    run(main())
    assert dict(store.items()) == {"key": b"old"}


def test_a_stream_whose_put_fails_is_closed():
    """The source's `finally` runs, on the loop, when the store refuses or the put is cancelled."""
    closed: list[str] = []

    async def source(name: str) -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x" * 100
        finally:
            closed.append(name)

    class Full(Counting):
        inline = False

        def _write(self, key, body, expect, attributes):
            for number, _ in enumerate(body):
                if number == 3:
                    raise StoreUnavailableError("the disk is full")
            raise AssertionError("the body ended")

    async def main() -> None:
        with pytest.raises(StoreUnavailableError):
            await Full(MemoryStore()).aio.put("key", source("refused"))
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert closed == ["refused"]

    run(main())


def test_an_async_body_may_await_the_same_store():
    store = slow(0.001, source=sealed(3_000_000))

    async def body() -> AsyncIterator[bytes]:
        async for chunk in store.aio.chunks("source", 500_000):
            assert await store.aio.exists("source")
            yield chunk

    async def main() -> None:
        await store.aio.put("target", body())
        assert store["target"] == store["source"]
        assert whole(store["target"])

    run(main())


def test_more_streams_than_threads():
    """Each source waits for the loop, not for a thread, so that a hundred at once end."""
    store = slow(0)

    async def body(number: int) -> AsyncIterator[bytes]:
        for _ in range(5):
            await asyncio.sleep(0.001)
            yield b"%d" % number

    async def main() -> None:
        await asyncio.gather(*(store.aio.put(f"{number}", body(number)) for number in range(150)))

    run(main())
    assert dict(store.items()) == {f"{n}": b"%d" % n * 5 for n in range(150)}


COROUTINES = {
    name for name, member in vars(Store).items() if inspect.isfunction(member) and not name.startswith("_")
}


def parameters(function):
    """Names, kinds, defaults and types; an async store takes all data of a store, and async iterables."""
    return [
        (
            each.name,
            each.kind,
            each.default,
            str(each.annotation).replace("Async", "").replace("Store | Store", "Store"),
        )
        for each in inspect.signature(function).parameters.values()
    ]


def plain(returned: str) -> str:
    """The return type of an async call as that of the call of a store."""
    returned = re.sub(r"^AsyncIterator\[(.*)\]$", r"Iterator[\1]", returned)
    files = {"bytes": "BlobBytesIO", "str": "BlobTextIO", "Any": "IO[Any]"}
    opened = {f"Opening[AsyncFile[{kind}]]": file for kind, file in files.items()}
    opened |= {"AsyncLock": "Lock", "AsyncCounter": "Counter", "_Local": "AbstractContextManager[Path]"}
    views = {"KeysView[str]": "Iterator[str]", "ValuesView[bytes]": "Iterator[bytes]"}
    views["ItemsView[str, bytes]"] = "Iterator[tuple[str, bytes]]"
    return opened.get(returned, views.get(returned, returned))


@pytest.mark.parametrize("name", sorted(COROUTINES))
def test_each_call_has_the_signature_and_the_types_of_the_store(name: str) -> None:
    ours, theirs = getattr(AsyncStore, name), getattr(Store, name)
    assert ours.__doc__
    assert parameters(ours) == parameters(theirs)
    pairs = [(ours, theirs)]
    if get_overloads(theirs):
        pairs = list(zip(get_overloads(ours), get_overloads(theirs), strict=True))
    for async_call, call in pairs:
        assert parameters(async_call) == parameters(call)
        returned = inspect.signature(async_call).return_annotation
        assert plain(returned) == plain(inspect.signature(call).return_annotation)
        if not returned.startswith(("Async", "Opening", "_Local")) and name != "same_place":
            assert inspect.iscoroutinefunction(async_call)


def test_what_can_not_be_awaited_says_what_to_write_at_once() -> None:
    store = MemoryStore({"a": b"1"})
    aio: Any = store.aio

    def assign() -> None:
        aio["a"] = b"2"

    def delete() -> None:
        del aio["a"]

    def enter() -> None:
        with aio:
            pass

    for call, hint in (
        (lambda: "a" in aio, "await store.exists(key)"),
        (lambda: list(aio), "async for key in store"),
        (lambda: bool(aio), "await store.len()"),
        (lambda: len(aio), "await store.len()"),
        (assign, "await store.put(key, data)"),
        (delete, "await store.delete(key)"),
        (enter, "async with store"),
    ):
        with pytest.raises(TypeError, match=re.escape(hint)):
            call()
    assert dict(store.items()) == {"a": b"1"}


def test_defaults_are_passed_on_by_name_and_by_place() -> None:
    async def main() -> None:
        aio = MemoryStore().aio
        assert await aio.pop("a", default=None) is None
        assert await aio.pop("a", b"d") == b"d"
        with pytest.raises(KeyError):
            await aio.pop("a")
        assert (await aio.modify("a", bytes.upper, default=b"x")).size == 1
        assert await aio["a"] == b"X"
        assert [each async for each in aio.left_out()] == []
        with pytest.raises(TypeError, match="copy_store"):
            await aio.copy()

    run(main())


def test_a_dropped_lookup_warns_of_nothing() -> None:
    MemoryStore().aio["never awaited"]
