"""Async calls on both event loops: names, cancelled calls, bodies, many at once, and the process's end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest
from upath import UPath

import holdall
from holdall import MemoryStore, Store, StoreClosedError, aio
from holdall.aio import workers
from holdall.errors import InvalidArgumentError
from holdall.stopping import Stopped
from holdall.testing import Counting, Slow
from holdall.transfer import verify_store

SECONDS = 30

LOOPS = ("asyncio", "trio")
pytestmark = pytest.mark.parametrize("loop", LOOPS)


def run(loop: str, main: Callable[[], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        with anyio.fail_after(SECONDS):
            return await main()

    return anyio.run(within, backend=loop)


def threaded(store: Store) -> Store:
    """The same store, whose async calls run on threads."""
    counting = Counting(store)
    counting.inline = False
    return counting


def test_a_store_is_opened_by_its_uri(loop: str, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/a.db"

    async def main() -> None:
        async with holdall.aio.open(uri, prefix="logs/") as store:
            await store.put("a", b"1")
        with pytest.raises(StoreClosedError):
            await store.get("a")
        async with await aio.open(uri) as store:
            assert await store["logs/a"] == b"1"
        with pytest.raises(InvalidArgumentError, match="sqlite"):
            await aio.open("sqlit://a.db")

    run(loop, main)


def test_each_name_opens_its_store(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        kinds: list[tuple[aio.AsyncStore, type[Store]]] = [
            (aio.AsyncFilesystemStore(tmp_path / "files", durable=True), holdall.FilesystemStore),
            (aio.AsyncHashdirStore(tmp_path / "hashed", width=3), holdall.HashdirStore),
            (aio.AsyncSqliteStore(tmp_path / "a.db"), holdall.SqliteStore),
            (aio.AsyncZipStore(tmp_path / "a.zip"), holdall.ZipStore),
            (aio.AsyncGitStore(tmp_path / "git", init=True), holdall.GitStore),
            (aio.AsyncMemoryStore(), MemoryStore),
            (aio.AsyncPathStore(UPath("memory://async-calls")), holdall.FsspecStore),
        ]
        for made, kind in kinds:
            async with made as store:
                assert isinstance(store.store, kind)
                await store.put("a", b"1")
                assert store.store["a"] == await store["a"] == b"1"
            with pytest.raises(StoreClosedError):
                await store.get("a")
        with pytest.raises(TypeError, match="pth"):
            aio.AsyncSqliteStore(pth="a.db")  # type: ignore[call-arg]

    run(loop, main)


def test_layers_take_stores_of_both_colours(loop: str, tmp_path: Path) -> None:
    near, far = holdall.SqliteStore(tmp_path / "a.db"), aio.AsyncFilesystemStore(tmp_path / "files")

    async def main() -> None:
        async with aio.AsyncFanoutStore({"near": near, "far": far}) as store:
            await store.put("a", b"1")
        assert near["a"] == await far["a"] == b"1"
        async with aio.AsyncCachingStore(far, MemoryStore(), fresh="immutable") as store:
            assert [await store["a"], await store["a"]] == [b"1", b"1"]
            assert store.store.stats().hits == 1
        report = await aio.sync_stores(far, near)
        assert (report.copied, report.deleted) == (0, 0)
        await far.close()

    run(loop, main)
    near.close()


class Held(Counting):
    """Its writes wait until they are let go, and note how they ended."""

    def __init__(self) -> None:
        super().__init__(MemoryStore({"key": b"old"}))
        self.inline = False
        self.begun, self.go = threading.Event(), threading.Event()
        self.ended: list[type[BaseException] | None] = []

    def _write(self, key: str, body: Any, expect: Any, attributes: Any) -> Any:
        try:
            for _ in range(3):
                next(body)
            self.begun.set()
            assert self.go.wait(SECONDS)
            return super()._write(key, body, expect, attributes)
        except BaseException as error:
            self.ended.append(type(error))
            raise


@pytest.mark.parametrize("body", ["plain", "async"])
def test_a_cancelled_put_stops_at_the_next_chunk_before_the_await_ends(loop: str, body: str) -> None:
    store = Held()

    def chunks() -> Any:
        while True:
            yield b"x" * 1000

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks():
            yield chunk

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cancel() -> None:
                    while not store.begun.is_set():
                        await anyio.sleep(0.001)
                    scope.cancel()
                    store.go.set()

                group.start_soon(cancel)
                await store.aio.put("key", chunks() if body == "plain" else stream())
        assert scope.cancelled_caught
        # It has ended by now, and no later write comes.
        assert store.ended == [Stopped]

    run(loop, main)
    assert store["key"] == b"old"


def test_a_cancelled_read_ends_at_once(loop: str) -> None:
    go = threading.Event()

    class Stuck(Counting):
        inline = False

        def __init__(self) -> None:
            super().__init__(MemoryStore({"key": b"old"}))
            self.inline = False

        def _count(self, call: str) -> None:
            assert go.wait(SECONDS)

    async def main() -> None:
        store = Stuck().aio
        for call in (store.get, store.info, store.exists):
            with anyio.move_on_after(0.02) as scope:
                await call("key")
            assert scope.cancelled_caught
        go.set()
        assert await store.get("key") == b"old"

    run(loop, main)


def test_a_call_that_waits_for_a_thread_is_dropped(loop: str) -> None:
    go = threading.Event()

    async def main() -> None:
        store = threaded(MemoryStore()).aio
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(store.run, lambda: go.wait(SECONDS))
            await anyio.sleep(0.05)
            with anyio.move_on_after(0.02) as scope:
                await store.put("key", b"1")
            assert scope.cancelled_caught
            go.set()
        assert await store.len() == 0

    run(loop, main)


def test_a_store_and_a_file_are_closed_though_the_task_is_cancelled(loop: str, tmp_path: Path) -> None:
    store = aio.AsyncFilesystemStore(tmp_path)

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with store, store.open("key", "wb") as file:
                await file.write(b"half")
                scope.cancel()
                await anyio.sleep(SECONDS)
        with pytest.raises(StoreClosedError):
            await store.get("key")

    run(loop, main)
    assert list(tmp_path.rglob("key*")) == []


def test_a_body_is_drawn_at_most_two_chunks_ahead(loop: str) -> None:
    drawn, ahead = 0, []

    class Slowly(Counting):
        def _write(self, key: str, body: Any, expect: Any, attributes: Any) -> Any:
            def counted() -> Any:
                for taken, piece in enumerate(body, 1):
                    threading.Event().wait(0.005)
                    ahead.append(drawn - taken)
                    yield piece

            return super()._write(key, counted(), expect, attributes)

    async def body() -> AsyncIterator[bytes]:
        nonlocal drawn
        for _ in range(30):
            drawn += 1
            yield b"x"

    async def main() -> None:
        await Slowly(MemoryStore()).aio.put("key", body())

    run(loop, main)
    assert len(ahead) == 30
    assert max(ahead) == 2


def test_a_body_runs_in_one_task(loop: str) -> None:
    """So that a timeout of the body's own may span its chunks."""

    async def body() -> AsyncIterator[bytes]:
        with anyio.fail_after(SECONDS):
            for _ in range(3):
                await anyio.sleep(0)
                yield b"x"

    async def main() -> None:
        store = threaded(MemoryStore()).aio
        await store.put("key", body())
        assert await store["key"] == b"xxx"

    run(loop, main)


def test_bodies_that_await_calls_never_wait_for_each_other(loop: str) -> None:
    """More of them than threads: each holds one while its body waits for another."""
    store = threaded(MemoryStore({"source": b"1"})).aio

    async def put(number: int, deeper: bool = True) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield await store["source"]
            if deeper:
                await put(number + 1000, deeper=False)

        await store.put(f"{number}", body())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(150):
                group.start_soon(put, number)
        assert await store.len() == 301

    run(loop, main)


def test_the_error_of_a_body_comes_out_as_itself(loop: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await threaded(MemoryStore()).aio.put("key", body())

    run(loop, main)


def test_a_thousand_calls_in_flight(loop: str) -> None:
    store = Slow(MemoryStore(), 0.0005)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(store.aio.put, f"{number}", b"1")

    run(loop, main)
    assert len(store) == 1000
    named = [thread for thread in threading.enumerate() if thread.name == "holdall"]
    assert len(named) <= 128


def test_synchronous_calls_work_while_a_loop_runs(loop: str, tmp_path: Path) -> None:
    """As in a notebook."""

    async def main() -> None:
        with Store.from_uri(f"sqlite:///{tmp_path}/a.db") as store:
            store["a"] = b"1"
            assert (store["a"], list(store)) == (b"1", ["a"])
            assert holdall.copy_store(store, MemoryStore()).copied == 1
            assert await store.aio["a"] == b"1"

    run(loop, main)


def test_a_call_may_run_an_event_loop_of_its_own(loop: str) -> None:
    """As `modify` does whose function is one of a program's own."""
    store = threaded(MemoryStore({"a": b"1"}))

    def change(old: bytes) -> bytes:
        return old + anyio.run(store.aio.get, "a", backend=loop)

    assert run(loop, lambda: store.aio.modify("a", change)).size == 2
    assert store["a"] == b"11"


def test_a_forked_child_has_threads_of_its_own(loop: str) -> None:
    store = threaded(MemoryStore({"a": b"1"}))
    assert run(loop, lambda: store.aio.get("a")) == b"1"
    assert workers.calls is not None
    child = os.fork()
    if not child:
        try:
            os._exit(int(asyncio.run(asyncio.wait_for(store.aio.get("a"), SECONDS)) != b"1"))
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


# A call that hangs, whose caller gave up; one that nobody awaited to the end; a listing that was left.
ENDING = """
import sys, threading
import anyio
from holdall import MemoryStore
from holdall.testing import Counting

store = Counting(MemoryStore({f"{n:04}": b"" for n in range(1000)}))
store.inline = False

async def main():
    async for info in store.aio.list():
        break
    with anyio.move_on_after(0.01):
        await store.aio.run(print)
    store._count = lambda call: threading.Event().wait()
    with anyio.move_on_after(0.01):
        await store.aio.get("a")
    listing = store.aio.list()
    with anyio.move_on_after(0.01):
        await anext(listing)

anyio.run(main, backend=sys.argv[1])
"""


def test_nothing_warns_or_hangs_at_the_end(loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENDING, loop],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == (b"", 0)


def test_a_debugger_may_look_at_every_frame(loop: str) -> None:
    def look(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_locals.get("given")
        return look

    async def main() -> None:
        store = MemoryStore({"a": b"1"})
        async with store.aio.open("a") as file:
            assert await file.read() == b"1"
        assert (await aio.verify_store(store)).checked == 1
        assert [found.key async for found in aio.diff_stores(store, MemoryStore())] == ["a"]
        assert verify_store(store).checked == 1

    before = sys.gettrace()
    sys.settrace(look)
    try:
        run(loop, main)
    finally:
        sys.settrace(before)
