"""Calls of a bucket that the event loop runs itself, without threads."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from tests.forks import forked, succeeds
from tests.servers.buckets import ask_once, name_for
from tests.servers.ceph import CREDENTIALS
from tests.servers.gcs import gcs_alone, make_bucket, service_account
from tests.servers.moto import moto
from tests.servers.scripted import Fault, Scripted, scripted
from tests.test_async_kit import AsyncSuite

from holdall import (
    BlobExistsError,
    BlobNotFoundError,
    BucketStore,
    ConcurrencyError,
    InvalidKeyError,
    MemoryStore,
    ReadOnlyError,
    ReadOnlyStore,
    Store,
    StoreClosedError,
)
from holdall.aio import AsyncStore, native
from holdall.stopping import in_loop
from holdall.store import ABSENT
from holdall.stores.bucket.access import Access
from holdall.stores.bucket.waking import begin

SECONDS = 60
MIB = 1 << 20


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), SECONDS))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, moto() as url:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield url


def made(url: str, name: str) -> str:
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=name)
    return name


@pytest.fixture
def proxy(url: str) -> Iterator[Scripted]:
    with scripted(int(url.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def store(url: str, proxy: Scripted) -> Iterator[BucketStore]:
    """A store behind a proxy, which has asked what the server can do."""
    with BucketStore(f"s3://{made(url, uuid4().hex)}/in", endpoint=proxy.url) as store:
        assert store.can
        yield store


@pytest.fixture(autouse=True)
def _greenlets() -> None:
    assert native._greenlets() is not None, "greenlet isn't installed: pip install 'holdall[bucket]'"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that goes to a thread fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr("holdall.aio.store.on_thread", refuse)
    monkeypatch.setattr("holdall.aio.native.on_thread", refuse)


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, gcs_alone() as url:
        patch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_account(url))
        yield url


class TestBucketOnAsyncio(AsyncSuite):
    """On the fastest server there is."""

    url: str

    @pytest.fixture(autouse=True)
    def _at(self, google: str, monkeypatch: pytest.MonkeyPatch) -> None:
        ask_once(monkeypatch, self)
        self.url = google

    def below(self, place: Path) -> Store:
        make_bucket(self.url, name_for(place))
        return BucketStore(f"gs://{name_for(place)}")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("layers", ["bare", "prefix"])
def test_short_calls_need_no_thread(store: BucketStore, layers: str) -> None:
    top: Store = store if layers == "bare" else store / "logs"
    assert top.can
    view = top.aio

    async def main() -> None:
        first = await view.put("a", b"one", expect=ABSENT)
        assert (await view.put("a", b"two", expect=first.etag)).size == 3
        with pytest.raises(ConcurrencyError):
            await view.put("a", b"three", expect=first.etag)
        with pytest.raises(BlobExistsError):
            await view.put("a", b"", expect=ABSENT)
        assert (await view.get("a"), await view["a"], await view.get("b", b"-")) == (b"two", b"two", b"-")
        assert (await view.exists("a"), await view.exists("b")) == (True, False)
        assert (await view.info("a")).size == 3
        assert await view.get_range("a", 1) == b"wo"
        assert (await view.delete("a"), await view.delete("a")) == (True, False)
        with pytest.raises(BlobNotFoundError, match="'a'"):
            await view["a"]

    run(main)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("layers", ["bare", "prefix", "read-only"])
def test_a_small_blob_is_one_request(store: BucketStore, proxy: Scripted, layers: str) -> None:
    below: Store = store if layers == "bare" else store / "logs"
    top = ReadOnlyStore(below) if layers == "read-only" else below
    assert top.can

    async def main() -> None:
        assert (await below.aio.put("a", b"one")).key == "a"
        assert (await top.aio.get("a"), await top.aio["a"], await top.aio.get("b", b"-")) == (
            b"one",
            b"one",
            b"-",
        )
        with pytest.raises(BlobNotFoundError, match="'b'"):
            await top.aio["b"]

    proxy.requests.clear()
    run(main)
    assert [method for method, _ in proxy.requests] == ["PUT", "GET", "GET", "GET", "GET"]


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_bytes_of_any_size_come_whole(store: BucketStore, size: int) -> None:
    """Before and after one that isn't small, which changes how the next ones are asked for."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]

    async def main() -> None:
        await store.aio.put("a", data)
        await store.aio.put("small", b"small")
        for _ in range(20):
            assert await store.aio.get("a") == data
            assert await store.aio.get("small") == b"small"

    run(main)


@pytest.mark.usefixtures("alone")
def test_after_large_blobs_small_ones_are_one_request_again(store: BucketStore, proxy: Scripted) -> None:
    store["large"], store["small"] = bytes(MIB + 1), b"small"
    # Two threads may have counted the last one.
    for left in (0, -1):
        store._reader._wholes = left
        proxy.requests.clear()
        assert run(lambda: store.aio.get("small")) == b"small"
        assert len(proxy.requests) == 1
        assert run(lambda: store.aio.get("large")) == bytes(MIB + 1)
        assert store._reader._wholes > 0


def test_what_another_store_found_out_is_known(store: BucketStore, proxy: Scripted) -> None:
    store["a"] = b"one"
    ranges: list[str | None] = []
    proxy.script = lambda _, __, headers: ranges.append(headers.get("range", headers.get("Range")))
    new = BucketStore(f"s3://{store._access.settings.bucket}/in", endpoint=proxy.url)
    assert run(lambda: new.aio.get("a")) == b"one"
    assert not new._knows_can
    assert len(ranges) == 1
    assert ranges[0] is not None


def test_a_put_shows_that_there_is_the_bucket(store: BucketStore, proxy: Scripted) -> None:
    new = BucketStore(f"s3://{store._access.settings.bucket}/new", endpoint=proxy.url)

    async def main() -> None:
        await new.aio.put("a", b"")
        proxy.requests.clear()
        assert not await new.aio.exists("b")

    run(main)
    assert [method for method, _ in proxy.requests] == ["HEAD"]


def test_an_item_is_got_as_the_class_says() -> None:
    class Own(MemoryStore):
        def __getitem__(self, key: str) -> bytes:
            return key.encode()

    async def main() -> bytes:
        return await Own().aio["a"]

    assert run(main) == b"a"


def test_a_server_without_ranges_is_asked_for_the_whole(store: BucketStore, proxy: Scripted) -> None:
    """It answered a range when it was asked what it can do."""
    headers = (("ETag", '"x"'), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"))
    proxy.script = lambda *_: Fault(200, b"whole", headers)
    proxy.requests.clear()
    assert [run(lambda: store.aio.get("a")) for _ in range(3)] == [b"whole"] * 3
    assert len(proxy.requests) == 4


def test_short_calls_report_what_is_wrong(store: BucketStore) -> None:
    logs, long = store / "logs", "x" * 1022

    async def main() -> None:
        for view in (store.aio, logs.aio):
            for call in (view.get, lambda key, view=view: view.put(key, b"")):
                for key in ("", "a//b", "../a"):
                    with pytest.raises(InvalidKeyError) as caught:
                        await call(key)
                    assert caught.value.key == key
                with pytest.raises(InvalidKeyError, match="int"):
                    await call(7)
        for call in (logs.aio.get(long), logs.aio.put(long, b"")):
            with pytest.raises(InvalidKeyError, match="folder"):
                await call
        with pytest.raises(ReadOnlyError, match="'a'"):
            await ReadOnlyStore(logs).aio.put("a", b"")
        logs.close()
        for call in (logs.aio.get("a"), logs.aio.put("a", b""), ReadOnlyStore(logs).aio.get("a")):
            with pytest.raises(StoreClosedError):
                await call

    run(main)


def test_a_call_cancelled_before_its_turn_has_begun_nothing(
    store: BucketStore, proxy: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdall.aio.native._AT_ONCE", 1)
    came = threading.Event()

    def script(*_: object) -> Fault:
        came.set()
        return Fault(silent=True)

    async def main() -> None:
        first = asyncio.ensure_future(store.aio.get("a"))
        while not came.is_set():
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(call) for call in (store.aio.get("b"), store.aio.put("b", b""))]
        await asyncio.sleep(0)
        for call in (*others, first):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        proxy.ended.set()
        proxy.script = lambda *_: None
        assert await store.aio.get("b", b"-") == b"-"

    proxy.script = script
    run(main)
    gc.collect()


def test_one_of_many_deletes_finds_the_blob(store: BucketStore) -> None:
    async def main() -> None:
        await store.aio.put("a", b"")
        assert sum(await asyncio.gather(*(store.aio.delete("a") for _ in range(30)))) == 1

    run(main)


def test_what_may_block_goes_to_threads(
    store: BucketStore, proxy: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(BucketStore):
        """It may do anything."""

    blocking = threading.Event()
    run_on_thread = native.on_thread

    def noted(*args: Any, **options: Any) -> Any:
        blocking.set()
        return run_on_thread(*args, **options)

    async def main() -> None:
        # One that has asked nothing yet.
        new = BucketStore(f"s3://{store._access.settings.bucket}/in", endpoint=proxy.url)
        assert new._in_loop
        assert not new._knows_can
        assert await new.aio.delete("absent") is False
        assert new._knows_can
        # Large bodies.
        large = bytes(range(256)) * 4 * 20 * 1024
        await store.aio.put("large", large)
        monkeypatch.setattr("holdall.aio.native.on_thread", noted)
        assert await store.aio.get("large") == large
        assert await store.aio.get_range("large", 7, 9 * MIB) == large[7 : 9 * MIB]
        assert blocking.is_set()
        # A request of our own.
        blocking.clear()
        info = await store.aio.put("a", b"x")
        assert not blocking.is_set()
        assert await store.aio.delete("a", expect=info.etag) is True
        assert blocking.is_set()

    run(main)
    assert not Own("s3://bucket", endpoint=proxy.url)._in_loop


def test_without_greenlet_threads_wait(store: BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "greenlet", None)
    native._greenlets.cache_clear()
    try:
        assert not native.can_run()
        assert run(lambda: store.aio.put("a", b"x")).size == 1
        assert run(lambda: store.aio.get("a")) == b"x"
    finally:
        native._greenlets.cache_clear()


@pytest.mark.parametrize(
    "call",
    [
        lambda view: view.get("a"),
        lambda view: view.put("a", b"x"),
        lambda view: view.put("a", b"x", expect=ABSENT),
        lambda view: view.delete("a"),
        lambda view: view.delete("a", expect="0" * 32),
        lambda view: view.get_range("a", 0, 9),
    ],
)
def test_the_loop_goes_on_and_a_cancelled_call_is_over(
    store: BucketStore, proxy: Scripted, call: Callable[[AsyncStore], Awaitable[object]]
) -> None:
    came = threading.Event()

    def script(*_: object) -> Fault:
        came.set()
        return Fault(silent=True)

    async def main() -> None:
        waiting = asyncio.ensure_future(call(store.aio))
        turns = 0
        while not came.is_set():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns
        proxy.ended.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        # Whatever it held is free again.
        proxy.script = lambda *_: None
        await store.aio.put("a", b"after")
        assert await store.aio.delete("a") is True

    proxy.script = script
    run(main)


def test_each_loop_has_a_limit(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.aio.native._AT_ONCE", 20)

    async def main() -> None:
        most, under_way, go = 0, 0, asyncio.Event()
        writers: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            with suppress(asyncio.IncompleteReadError):
                await answer(reader, writer)
            writer.close()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal most, under_way
            while await reader.readuntil(b"\r\n\r\n"):
                under_way += 1
                most = max(most, under_way)
                if under_way == 20:
                    go.set()
                await go.wait()
                under_way -= 1
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: "x"\r\n')
                writer.write(b"Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nx")

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            view = BucketStore("s3://bucket", endpoint=endpoint).aio
            assert await asyncio.gather(*(view.get(f"{key}") for key in range(100))) == [b"x"] * 100
            for writer in writers:
                writer.close()
                await writer.wait_closed()
        assert most == 20

    run(main)


def test_variables_and_tracebacks(store: BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen: list[tuple[str, bool, int]] = []
    ask = Access.ask

    def asked(self: Access, *args: Any, **options: Any) -> Any:
        seen.append((variable.get(), in_loop(), threading.get_ident()))
        variable.set("changed")
        return ask(self, *args, **options)

    monkeypatch.setattr(Access, "ask", asked)

    async def main() -> None:
        variable.set("own")
        with pytest.raises(BlobNotFoundError) as caught:
            await store.aio.info("absent")
        assert variable.get() == "own"
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names.index("main") < names.index("info") < names.index("described")
        assert isinstance(caught.value.__cause__, FileNotFoundError)

    run(main)
    assert seen[0] == ("own", True, threading.get_ident())
    assert not in_loop()


def test_an_interrupt_comes_out_as_itself(store: BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Access.ask

    def interrupted(self: Access, what: str, function: str, *args: Any, **options: Any) -> Any:
        if function == "delete":
            raise KeyboardInterrupt
        return ask(self, what, function, *args, **options)

    async def main() -> None:
        await store.aio.put("a", b"")
        monkeypatch.setattr(Access, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await store.aio.delete("a")
        monkeypatch.setattr(Access, "ask", ask)
        assert await store.aio.delete("a") is True

    run(main)


def test_a_loop_that_is_closed_keeps_no_descriptor(store: BucketStore) -> None:
    def opened() -> int:
        # Connections stay open for the next loop.
        numbers = [number for number in os.listdir("/proc/self/fd") if _is_open(number)]
        return sum("event" in os.readlink(f"/proc/self/fd/{number}") for number in numbers)

    run(lambda: store.aio.put("a", b""))
    gc.collect()
    before = opened()
    for _ in range(5):
        run(lambda: store.aio.put("a", b""))
    gc.collect()
    assert opened() == before


def _is_open(number: str) -> bool:
    # The folder that is listed is open itself.
    return os.path.lexists(f"/proc/self/fd/{number}")


def test_without_an_eventfd_a_loop_is_woken_as_ever(
    store: BucketStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "eventfd", raising=False)

    async def main() -> None:
        await asyncio.gather(*(store.aio.put(f"{key}", b"x") for key in range(20)))
        assert await asyncio.gather(*(store.aio.get(f"{key}") for key in range(20))) == [b"x"] * 20
        assert (await store.aio.info("1")).size == 1

    run(main)


def test_with_too_many_files_open_a_loop_is_woken_as_ever(
    store: BucketStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "eventfd", refuse, raising=False)

    async def main() -> None:
        await store.aio.put("a", b"x")
        assert await store.aio.get("a") == b"x"

    run(main)


def test_what_runs_while_a_call_begins_finds_its_loop() -> None:
    """A finalizer or a signal handler may begin a task there."""

    async def work() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def main() -> None:
        assert await begin(lambda: asyncio.create_task(work())) is asyncio.get_running_loop()

    run(main)


def test_several_loops_on_threads(store: BucketStore) -> None:
    async def work(number: int) -> None:
        await store.aio.put(f"{number}", b"%d" % number)
        assert await store.aio.get(f"{number}") == b"%d" % number
        # All of them at once.
        await store.aio.delete("shared")

    def loop(number: int) -> None:
        asyncio.run(gathered(number))

    async def gathered(number: int) -> None:
        await asyncio.gather(*(work(10 * number + each) for each in range(10)))

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 40


def test_a_forked_child_runs_calls_of_its_own(store: BucketStore) -> None:
    run(lambda: store.aio.put("a", b"parent"))

    async def child() -> None:
        assert await store.aio.get("a") == b"parent"
        assert await store.aio.delete("a") is True

    succeeds(forked(lambda: run(child)))
    assert run(lambda: store.aio.exists("a")) is False


def test_a_call_that_is_forgotten_leaves_nothing(store: BucketStore, proxy: Scripted) -> None:
    """Closed by the loop's thread, and by another one, as the garbage collector may."""
    proxy.script = lambda *_: Fault(silent=True)

    async def main() -> None:
        for _ in range(3):
            call = store.aio.delete("a")
            call.send(None)
            call.close()
        call = store.aio.get("a")
        call.send(None)
        closer = threading.Thread(target=call.close)
        closer.start()
        closer.join()
        del call
        gc.collect()

    run(main)
    proxy.ended.set()
    proxy.script = lambda *_: None
    assert store.delete("a") is False


ENDING = """
import asyncio, sys
from holdall import BucketStore

async def main():
    view = BucketStore("s3://bucket", endpoint=sys.argv[1], key="a", secret="b").aio
    dropped = view.get("a")
    dropped.send(None)
    global kept
    kept = view.get("b")
    kept.send(None)
    waiting = asyncio.ensure_future(view.put("c", b""))
    await asyncio.sleep(0.05)

asyncio.run(main())
"""


def test_nothing_warns_or_hangs_at_the_end(proxy: Scripted) -> None:
    proxy.script = lambda *_: Fault(silent=True)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENDING, proxy.url], capture_output=True, timeout=60, check=False
    )
    proxy.ended.set()
    assert (done.stderr, done.returncode) == (b"", 0)
