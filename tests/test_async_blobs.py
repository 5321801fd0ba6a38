"""JSON and binary values in containers: what comes back, what conflicts, what waits for a sync."""

import asyncio
import gc
import logging
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import trio

from holdall import (
    AsyncBlobStore,
    BlobNotFoundError,
    CacheMode,
    ConcurrencyError,
    ConcurrencyMode,
    FilesystemStore,
    InvalidArgumentError,
    InvalidDataError,
    InvalidKeyError,
    InvalidTypeError,
    LocalFileAdapter,
    MemoryStore,
    PartialWriteError,
    ReadOnlyError,
    ReadOnlyStore,
    SerializationError,
    SqliteStore,
    StoreAdapter,
    StoreClosedError,
    StoreUnavailableError,
    SyncConflictError,
    UnsupportedOperation,
)
from holdall.testing import Counting, Slow

SECONDS = 60
NONE, THROUGH, BACK = CacheMode
ETAG = ConcurrencyMode.ETAG


def run(main):
    return asyncio.run(asyncio.wait_for(main, SECONDS))


def adapters(folder: Path) -> dict[str, Callable[[], Any]]:
    memory = MemoryStore()
    return {
        "memory": lambda: StoreAdapter(memory),
        "local": lambda: LocalFileAdapter(folder / "files"),
        "sqlite": lambda: StoreAdapter(f"sqlite:///{folder}/blobs.db"),
        "hashdir": lambda: StoreAdapter(f"hashdir://{folder}/hashed"),
    }


@pytest.fixture(params=["memory", "local", "sqlite", "hashdir"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return adapters(tmp_path)[request.param]()


def opened(adapter: Any, mode: CacheMode = NONE, concurrency: ConcurrencyMode = ETAG, name: str = "data"):
    return AsyncBlobStore(adapter, name, cache_mode=mode, concurrency_mode=concurrency)


class Moment(timezone.__base__):  # type: ignore[misc]
    """A time zone that isn't a ZoneInfo."""

    def utcoffset(self, _: object) -> timedelta:
        return timedelta(hours=2)

    def dst(self, _: object) -> None:
        return None

    def tzname(self, _: object) -> str:
        return "here"


VALUES = [
    {"learning_rate": 0.01, "layers": [64, 128, 256]},
    [],
    {},
    None,
    True,
    "ä\U0001f600\n",
    1.5,
    float("inf"),
    -0.0,
    10**400,
    (1, ("two", [3])),
    {1, 2, 3},
    frozenset({"a"}),
    {"nested": [{"deep": {1, (2, 3)}}]},
    datetime(2026, 1, 2, 3, 4, 5, 678901),
    datetime(2026, 1, 2, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    date(2026, 1, 2),
    time(3, 4, 5),
    timedelta(days=-1, microseconds=5),
    UUID("12345678123456781234567812345678"),
    Decimal("1.10"),
    b"\x00\xff",
    bytearray(b"abc"),
    Path("a/b"),
    1 + 2j,
    {1: "one", (2, 3): "two", None: "none"},
    {"$holdall": "not a marker", "value": 1},
    {"_bdtype_": "set", "items": [1]},
]


@pytest.mark.parametrize("mode", CacheMode)
def test_values_come_back_equal_and_of_their_type(mode: CacheMode):
    async def main() -> None:
        adapter = StoreAdapter(MemoryStore())
        async with opened(adapter, mode) as store:
            for number, value in enumerate(VALUES):
                await store.set_json(f"v{number}", value)
            for number, value in enumerate(VALUES):
                found = await store.get_json(f"v{number}")
                assert found == value
                assert type(found) is type(value)
                assert repr(found) == repr(value) or isinstance(value, set | frozenset | dict)
        async with opened(adapter) as other:
            for number, value in enumerate(VALUES):
                assert await other.get_json(f"v{number}") == value

    run(main())


def test_two_stores_see_the_same(adapter: Any):
    async def main() -> None:
        async with opened(adapter, THROUGH) as a, opened(adapter) as b:
            settings = {"theme": "dark", "tags": {"ml", "ai"}, "last_login": datetime(2026, 1, 2)}
            await a.set_json("settings", settings)
            assert await a.get_json("settings") == await b.get_json("settings") == settings
            await a.set_binary("model", pickle.dumps({"a": 1}))
            assert pickle.loads(await b.get_binary("model")) == {"a": 1}
            with pytest.raises(BlobNotFoundError):
                await b.get_json("nonexistent")
            with pytest.raises(ValueError, match="function"):
                await a.set_json("bad", lambda x: x)
            await a.delete("settings")
            with pytest.raises(BlobNotFoundError):
                await b.get_json("settings")
            await a.delete("settings")

    run(main())


def test_write_back_waits_for_the_sync(adapter: Any):
    async def main() -> None:
        async with opened(adapter, BACK) as a, opened(adapter) as b:
            await a.set_json("n", {"y": 42})
            assert await a.get_json("n") == {"y": 42}
            assert a.dirty() == {"n": "put"}
            with pytest.raises(BlobNotFoundError):
                await b.get_json("n")
            report = await a.sync()
            assert (report.uploaded, report.clean, report.bytes) == (("n",), True, 8)
            b.forget("n")
            assert await b.get_json("n") == {"y": 42}
            assert a.dirty() == {}

    run(main())


async def flushed(store: AsyncBlobStore, write: Awaitable[None] | None = None) -> None:
    """Write, and bring what was written to the container, or raise."""
    if write is not None:
        await write
    await store.sync("raise")


@pytest.mark.parametrize("mode", CacheMode)
def test_a_write_that_lost_the_race_is_an_error(adapter: Any, mode: CacheMode):
    async def main() -> None:
        async with opened(adapter, mode) as a, opened(adapter) as b:
            await flushed(a, a.set_json("n", 1))
            assert await b.get_json("n") == 1
            await b.set_json("n", 2)
            for _ in range(2):  # also without a read in between
                with pytest.raises(ConcurrencyError) as caught:
                    await flushed(a, a.set_json("n", 10))
                assert "'n'" in str(caught.value)
            a.forget("n")
            assert await a.get_json("n") == 2
            await flushed(a, a.set_json("n", 3))
            assert await a.get_json("n") == 3
            with pytest.raises(ConcurrencyError):
                await b.delete("n")
            assert await b.get_json("n") == 3
            await b.delete("n")
            with pytest.raises(ConcurrencyError):
                await flushed(a, a.set_json("n", 4))
            a.forget("n")

    run(main())


@pytest.mark.parametrize("mode", CacheMode)
def test_what_was_absent_is_only_created(adapter: Any, mode: CacheMode):
    async def main() -> None:
        async with opened(adapter, mode) as a, opened(adapter) as b:
            with pytest.raises(BlobNotFoundError):
                await a.get_binary("n")
            assert not await a.exists("other")
            await b.set_binary("n", b"theirs")
            await b.set_binary("other", b"theirs")
            for key in ("n", "other"):
                with pytest.raises(ConcurrencyError):
                    await flushed(a, a.set_binary(key, b"mine"))
                assert await b.get_binary(key) == b"theirs"
                with pytest.raises(ConcurrencyError):
                    await flushed(a, a.delete(key))
                assert await b.get_binary(key) == b"theirs"
                a.forget(key)
            # Its own delete is what it saw last.
            await flushed(a, a.delete("n"))
            await b.get_json("n") if await b.exists("n") else b.forget("n")
            await b.set_binary("n", b"again")
            with pytest.raises(ConcurrencyError):
                await flushed(a, a.set_binary("n", b"mine"))
            a.forget("n")

    run(main())


@pytest.mark.parametrize("mode", CacheMode)
def test_a_key_that_was_never_read_is_replaced(adapter: Any, mode: CacheMode):
    async def main() -> None:
        async with opened(adapter) as other:
            await other.set_json("n", 1)
            await other.set_json("m", 1)
        async with opened(adapter, mode) as store:
            assert await store.exists("n")
            await store.set_json("n", 2)
            await store.delete("m")
        async with opened(adapter) as other:
            assert await other.get_json("n") == 2
            assert await other.list_keys() == ["n"]

    run(main())


def test_exists_is_no_read():
    """What the caller holds is older than what was there at `exists`."""

    async def main() -> None:
        adapter = StoreAdapter(MemoryStore({"data/n": b"1"}))
        async with opened(adapter) as a, opened(adapter) as b:
            held = await a.get_json("n")
            await b.set_json("n", 5)
            assert await a.exists("n")
            with pytest.raises(ConcurrencyError):
                await a.set_json("n", held + 1)
            await b.delete("n")
            assert not await a.exists("n")
            with pytest.raises(ConcurrencyError):
                await a.set_json("n", held + 1)

    run(main())


@pytest.mark.parametrize("mode", CacheMode)
def test_without_etags_the_last_write_stays(mode: CacheMode):
    async def main() -> None:
        adapter = StoreAdapter(MemoryStore())
        async with (
            opened(adapter, mode, ConcurrencyMode.NONE) as a,
            opened(adapter, NONE, ConcurrencyMode.NONE) as b,
        ):
            await a.set_json("n", 1)
            await a.sync()
            await b.set_json("n", 2)
            await a.set_json("n", 3)
            assert (await a.sync("raise")).clean
            assert await b.get_json("n") == 3
            await b.set_json("n", 4)
            await a.delete("n")
            await a.sync()
            assert not await b.exists("n")

    run(main())


def test_a_store_that_compares_nothing_is_refused():
    class Blind(Counting):
        @property
        def can(self) -> Any:
            from holdall import Can

            return self._store.can & ~Can.SWAP

    async def main() -> None:
        for mode in CacheMode:
            store = opened(StoreAdapter(Blind(MemoryStore())), mode)
            with pytest.raises((UnsupportedOperation, PartialWriteError), match=r"SWAP|uploaded") as caught:
                await flushed(store, store.set_json("n", 1))
            assert "SWAP" in str(caught.value) or "SWAP" in str(caught.value.__cause__)
            store.forget("n")
            async with opened(StoreAdapter(Blind(MemoryStore())), mode, ConcurrencyMode.NONE) as plain:
                await plain.set_json("n", 1)

    run(main())


def test_a_read_only_store_says_that_it_is():
    adapter = StoreAdapter(ReadOnlyStore(MemoryStore({"data/a": b"1"})))

    async def main() -> None:
        for concurrency in ConcurrencyMode:
            async with opened(adapter, NONE, concurrency) as store:
                assert await store.get_json("a") == 1
                with pytest.raises(ReadOnlyError):
                    await store.set_json("a", 2)
                with pytest.raises(ReadOnlyError):
                    await store.delete("a")

    run(main())


async def increment(store: AsyncBlobStore, times: int) -> None:
    for _ in range(times):
        while True:
            try:
                try:
                    count = await store.get_json("n")
                except BlobNotFoundError:
                    count = 0
                await store.set_json("n", count + 1)
                await store.sync("raise")
                break
            except ConcurrencyError:
                store.forget("n")


@pytest.mark.parametrize("mode", CacheMode)
def test_handles_that_race_lose_nothing(adapter: Any, mode: CacheMode):
    async def main() -> None:
        handles = [opened(adapter, mode) for _ in range(4)]
        await asyncio.gather(*(increment(each, 10) for each in handles))
        for each in handles:
            await each.close()
        async with opened(adapter) as store:
            assert await store.get_json("n") == 40

    run(main())


@pytest.mark.parametrize("mode", CacheMode)
def test_processes_that_race_lose_nothing(tmp_path: Path, mode: CacheMode):
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from tests.test_async_blobs import CacheMode, LocalFileAdapter, increment, opened
async def main():
    async with opened(LocalFileAdapter({str(tmp_path)!r}), CacheMode({mode.value!r})) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        await increment(store, 15)
asyncio.run(main())
"""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.communicate("\n", timeout=SECONDS)
            assert racer.returncode == 0
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert run(opened(LocalFileAdapter(tmp_path)).get_json("n")) == 30


def test_writers_of_one_handle_never_conflict_with_each_other(adapter: Any):
    async def main() -> None:
        for mode in (NONE, THROUGH):
            async with opened(adapter, mode) as store:
                await asyncio.gather(*(store.set_json("n", number) for number in range(30)))
                last = await store.get_json("n")
                store.forget("n")
                assert await store.get_json("n") == last
                locks = store._container._turns._locks.values()
                assert not any(lock() for lock in locks)

    run(main())


@pytest.mark.parametrize("mode", [THROUGH, BACK])
def test_a_copy_is_read_without_a_call(mode: CacheMode):
    async def main() -> None:
        counting = Counting(MemoryStore({"data/n": b"1"}))
        async with opened(StoreAdapter(counting), mode) as store:
            assert await store.get_json("n") == 1
            before = sum(counting.calls.values())
            for _ in range(3):
                assert await store.get_json("n") == 1
                assert await store.get_binary("n") == b"1"
            assert sum(counting.calls.values()) == before
            await store.set_json("m", [1])
            await store.sync()
            before = sum(counting.calls.values())
            assert await store.get_json("m") == [1]
            assert sum(counting.calls.values()) == before

    run(main())


@pytest.mark.parametrize("mode", CacheMode)
def test_what_the_caller_changes_later_changes_nothing(mode: CacheMode):
    async def main() -> None:
        async with opened(StoreAdapter(MemoryStore()), mode) as store:
            value, data = {"a": [1]}, bytearray(b"abc")
            await store.set_json("v", value)
            await store.set_binary("b", data)
            value["a"].append(2)
            data[:] = b"xyz"
            first = await store.get_json("v")
            assert first == {"a": [1]}
            first["a"].append(3)
            assert await store.get_json("v") == {"a": [1]}
            assert await store.get_binary("b") == b"abc"

    run(main())


def test_a_write_through_that_fails_leaves_no_copy():
    async def main() -> None:
        memory = MemoryStore({"data/n": b"1"})
        async with opened(StoreAdapter(memory), THROUGH) as store:
            assert await store.get_json("n") == 1
            memory["data/n"] = b"2"
            with pytest.raises(ConcurrencyError):
                await store.set_json("n", 3)
            assert await store.get_json("n") == 2

    run(main())


def test_a_slow_read_never_replaces_what_was_written_meanwhile():
    """A read that began before the write of the same handle ends after it."""
    began, go_on = threading.Event(), threading.Event()

    class Held(Counting):
        inline = False

        def _read(self, key: str, start: int, stop: int | None) -> Any:
            found = super()._read(key, start, stop)
            if threading.current_thread() is not threading.main_thread() and not began.is_set():
                began.set()
                assert go_on.wait(SECONDS)
            return found

    async def main() -> None:
        held = Held(MemoryStore({"data/n": b"1"}))
        held.inline = False
        async with opened(StoreAdapter(held), THROUGH) as store:
            reading = asyncio.ensure_future(store.get_json("n"))
            while not began.is_set():
                await asyncio.sleep(0.001)
            await store.set_json("n", 2)
            go_on.set()
            assert await reading == 1
            assert await store.get_json("n") == 2
            await store.set_json("n", 3)

    run(main())


def test_what_sync_does_with_conflicts(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        memory = MemoryStore()
        adapter = StoreAdapter(memory)
        async with opened(adapter, BACK) as store:
            for key in ("a", "b", "c"):
                await store.set_json(key, 1)
            await store.sync()
            for key in ("a", "b", "c"):
                await store.set_json(key, 2)
            memory["data/b"] = b"9"
            with caplog.at_level(logging.WARNING, "holdall"):
                report = await store.sync()
            assert (report.uploaded, report.conflicts) == (("a", "c"), ("b",))
            assert "'b'" in caplog.text
            assert memory["data/b"] == b"9"
            assert store.dirty() == {"b": "put"}
            with pytest.raises(SyncConflictError) as caught:
                await store.sync(etag_behavior="raise")
            assert caught.value.conflicts == ("b",)
            assert (await store.sync(etag_behavior="overwrite")).uploaded == ("b",)
            assert memory["data/b"] == b"2"
            with pytest.raises(InvalidArgumentError, match="etag_behavior"):
                await store.sync("force")  # type: ignore[arg-type]

    run(main())


@pytest.mark.parametrize("cache_mode", [NONE, THROUGH])
@pytest.mark.parametrize("concurrency_mode", ConcurrencyMode)
def test_a_delete_says_whether_the_blob_was_there(adapter: Any, cache_mode: Any, concurrency_mode: Any):
    async def main() -> None:
        async with AsyncBlobStore(adapter, "data", cache_mode, concurrency_mode) as store:
            await store.set_json("a", None)
            assert [await store.delete(key) for key in ("a", "a", "other")] == [True, False, False]
        async with opened(adapter) as other, opened(adapter, cache_mode, concurrency_mode) as store:
            await other.set_json("a", 1)
            assert await store.get_json("a") == 1
            await other.delete("a")
            assert await store.delete("a") is False

    run(main())


def test_a_delete_that_waits_says_what_its_handle_knows(adapter: Any):
    async def main() -> None:
        async with opened(adapter) as other:
            for key in ("read", "unread"):
                await other.set_binary(key, b"")
        async with opened(adapter, BACK, ETAG) as store:
            await store.set_binary("put", b"")
            assert await store.get_binary("read") == b""
            assert not await store.exists("absent")
            keys = ("put", "put", "read", "absent", "unread")
            assert [await store.delete(key) for key in keys] == [True, False, True, False, None]

    run(main())


def test_deletes_wait_too(adapter: Any):
    async def main() -> None:
        async with opened(adapter) as other:
            for key in ("a", "b", "x/y"):
                await other.set_json(key, key)
        async with opened(adapter, BACK) as store, opened(adapter) as other:
            await store.delete("a")
            await store.set_json("c", 1)
            await store.delete("gone")
            assert await store.list_keys() == ["b", "c", "x/y"]
            assert await store.list_keys("x") == ["x/y"]
            assert await other.list_keys() == ["a", "b", "x/y"]
            assert not await store.exists("a")
            assert await store.exists("c")
            with pytest.raises(BlobNotFoundError, match="'a'"):
                await store.get_json("a")
            report = await store.sync()
            assert (report.uploaded, report.deleted) == (("c",), ("a", "gone"))
            assert await other.list_keys() == ["b", "c", "x/y"]

    run(main())


def test_a_clean_exit_syncs_and_one_that_cannot_says_so():
    async def main() -> None:
        memory = MemoryStore()
        adapter = StoreAdapter(memory)
        async with opened(adapter, BACK) as store:
            await store.set_json("a", 1)
        assert memory["data/a"] == b"1"
        store = opened(adapter, BACK)

        async def conflict() -> None:
            async with store:
                assert await store.get_json("a") == 1
                await store.set_json("a", 2)
                await store.set_json("b", 2)
                memory["data/a"] = b"9"

        with pytest.raises(PartialWriteError, match="'a'") as caught:
            await conflict()
        assert isinstance(caught.value.failures["a"], ConcurrencyError)
        assert caught.value.written == ("b",)
        # It is still open, with what it has.
        assert store.dirty() == {"a": "put"}
        await store.sync("overwrite")
        await store.close()
        assert memory["data/a"] == b"2"
        await store.close()
        for call in (
            lambda: store.get_json("a"),
            lambda: store.set_json("a", 1),
            lambda: store.list_keys(),
            lambda: store.sync(),
            lambda: store.exists("a"),
            lambda: store.delete("a"),
            lambda: store.__aenter__(),
        ):
            with pytest.raises(StoreClosedError):
                await call()

    run(main())


def test_a_failed_upload_keeps_the_change():
    async def main() -> None:
        memory = MemoryStore()

        class Full(Counting):
            full = True

            def _write(self, key: str, body: Any, expect: Any, attributes: Any) -> Any:
                if self.full and key.endswith("/b"):
                    raise StoreUnavailableError("the disk is full")
                return super()._write(key, body, expect, attributes)

        below = Full(memory)
        store = opened(StoreAdapter(below), BACK)
        for key in ("a", "b", "c"):
            await store.set_json(key, 1)
        for call in (store.sync, store.close):
            with pytest.raises(PartialWriteError, match=r"'b'.*the disk is full") as caught:
                await call()
            assert isinstance(caught.value.failures["b"], StoreUnavailableError)
        assert sorted(memory) == ["data/a", "data/c"]
        assert store.dirty() == {"b": "put"}
        below.full = False
        await store.close()
        assert sorted(memory) == ["data/a", "data/b", "data/c"]

    run(main())


def test_an_exception_in_the_body_uploads_nothing_and_warns():
    memory = MemoryStore()

    async def fail() -> None:
        async with opened(StoreAdapter(memory), BACK) as store:
            await store.set_json("b", 1)
            await store.set_json("a", 1)
            raise ZeroDivisionError

    def drop() -> None:
        run(opened(StoreAdapter(memory), BACK).set_json("a", 1))
        gc.collect()

    with pytest.warns(RuntimeWarning, match="'a', 'b'"), pytest.raises(ZeroDivisionError):
        run(fail())
    assert list(memory) == []
    with pytest.warns(RuntimeWarning, match="1 blob .*'a'.*closed"):
        drop()


def test_nothing_is_warned_of_where_nothing_is_lost():
    async def fail(mode: CacheMode) -> None:
        async with opened(StoreAdapter(MemoryStore()), mode) as store:
            await store.set_json("a", 1)
            await store.sync()
            raise ZeroDivisionError

    async def main() -> None:
        for mode in CacheMode:
            with pytest.raises(ZeroDivisionError):
                await fail(mode)
            store = opened(StoreAdapter(MemoryStore()), mode)
            await store.set_json("a", 1)
            await store.sync()
            del store
            gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())


def test_a_write_during_a_sync_waits_for_the_next():
    began, go_on = threading.Event(), threading.Event()
    memory = MemoryStore()

    class Held(Counting):
        def _write(self, key: str, body: Any, expect: Any, attributes: Any) -> Any:
            began.set()
            assert go_on.wait(SECONDS)
            return super()._write(key, body, expect, attributes)

    async def main() -> None:
        held = Held(memory)
        held.inline = False
        async with opened(StoreAdapter(held), BACK) as store:
            await store.set_json("n", 1)
            syncing = asyncio.ensure_future(store.sync())
            while not began.is_set():
                await asyncio.sleep(0.001)
            await store.set_json("n", 2)
            go_on.set()
            assert (await syncing).uploaded == ("n",)
            assert memory["data/n"] == b"1"
            assert store.dirty() == {"n": "put"}
            assert (await store.sync("raise")).uploaded == ("n",)
            assert memory["data/n"] == b"2"

    run(main())


@pytest.mark.parametrize("mode", CacheMode)
def test_a_cancelled_call_leaves_nothing_torn(tmp_path: Path, mode: CacheMode):
    async def main() -> None:
        adapter = StoreAdapter(Slow(FilesystemStore(tmp_path), 0.002))
        store = opened(adapter, mode)
        whole = {b"%d" % number * 100_000 for number in range(10)}
        for number in range(10):
            call = asyncio.ensure_future(store.set_binary("n", b"%d" % number * 100_000))
            await asyncio.sleep(0.001 * (number % 4))
            call.cancel()
            await asyncio.wait([call])
        # What it remembers is what the container has, or it asks.
        mine = None
        try:
            mine = await store.get_binary("n")
        except BlobNotFoundError:
            pass
        assert mine is None or mine in whole
        await store.set_binary("n", b"last")
        await store.close()
        assert (tmp_path / "data/n").read_bytes() == b"last"

    run(main())


def test_all_of_it_runs_under_trio(tmp_path: Path):
    adapter = LocalFileAdapter(tmp_path)

    async def leave() -> AsyncBlobStore:
        store = opened(adapter, BACK)
        with trio.move_on_after(0.01):
            async with store:
                await store.set_json("x", 1)
                await trio.sleep(SECONDS)
        return store

    async def main() -> None:
        async with opened(adapter, BACK) as store:
            await store.set_json("a", {1, 2})
            assert await store.get_json("a") == {1, 2}
            assert await store.list_keys() == ["a"]
            assert (await store.sync()).uploaded == ("a",)
        handles = [opened(adapter) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for each in handles:
                nursery.start_soon(increment, each, 5)
        assert await handles[0].get_json("n") == 15
        with pytest.warns(RuntimeWarning, match="1 blob .'x'."):
            left = await leave()
        with pytest.raises(StoreClosedError):
            await left.get_json("x")
        assert left._aio.store._closed
        assert await handles[0].list_keys() == ["a", "n"]

    trio.run(main)


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "/", "a/../b", "../data", "a/", "a//b", "a\x00b"])
def test_no_container_is_outside(tmp_path: Path, name: str):
    memory = MemoryStore()
    for adapter in (LocalFileAdapter(tmp_path), StoreAdapter(memory), StoreAdapter("memory://")):
        with pytest.raises(InvalidArgumentError, match="name of a container"):
            AsyncBlobStore(adapter, name)
    assert list(tmp_path.iterdir()) == []


def test_no_key_leads_out_of_its_container(adapter: Any):
    async def main() -> None:
        async with opened(adapter, name="data") as a, opened(adapter, name="data2") as b:
            await a.set_json("x", 1)
            await b.set_json("x", 2)
            assert await a.get_json("x") == 1
            assert await a.list_keys() == await b.list_keys() == ["x"]
            assert await a.list_keys("2") == []
            assert await a.list_keys("../data2") == []
            for key in ("../data2/x", "/x", "", "..", "a/../../data2/x", "x/", None, b"x", 5):
                for call, *more in (
                    (a.get_json,),
                    (a.get_binary,),
                    (a.set_json, 5),
                    (a.set_binary, b"5"),
                    (a.delete,),
                    (a.exists,),
                    (a.forget,),
                ):
                    with pytest.raises(InvalidKeyError):
                        await call(key, *more)
            assert await b.get_json("x") == 2

    run(main())


def test_a_link_leads_nowhere(tmp_path: Path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/x").write_text("1")
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    os.symlink(tmp_path / "secret", root / "linked")
    os.symlink(tmp_path / "secret", root / "data/linked")

    async def main() -> None:
        for name, key in (("linked", "x"), ("data", "linked/x")):
            async with opened(LocalFileAdapter(root), name=name) as store:
                with pytest.raises(BlobNotFoundError):
                    await store.get_json(key)
                assert await store.list_keys() == []

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(main())
    assert (tmp_path / "secret/x").read_text() == "1"


def test_listed_names_are_keys(adapter: Any):
    async def main() -> None:
        async with opened(adapter) as store:
            await store.set_json("a", 1)
            await store.set_json("b.json", 2)
            await store.set_binary("dir/ä b", b"3")
            await store.set_binary("A:*", b"4")
            keys = await store.list_keys()
            assert keys == ["A:*", "a", "b.json", "dir/ä b"]
            assert [int(await store.get_binary(key)) for key in keys] == [4, 1, 2, 3]

    run(main())


def test_the_adapter_closes_what_it_opened_and_nothing_else(tmp_path: Path):
    async def main() -> None:
        with SqliteStore(tmp_path / "blobs.db") as sqlite:
            adapter = StoreAdapter(sqlite.aio)
            async with opened(adapter) as store:
                await store.set_json("a", 1)
            assert list(sqlite) == ["data/a"]
        adapter = StoreAdapter(f"sqlite:///{tmp_path}/blobs.db")
        store = opened(adapter)
        below = store._aio.store._store  # type: ignore[attr-defined]
        async with store:
            assert await store.get_json("a") == 1
        assert below._closed

    run(main())


def test_mistakes_are_typed_errors():
    adapter = StoreAdapter(MemoryStore({"data/text": b"{not json"}))
    for wrong in ("./data", MemoryStore(), None, Path("data")):
        with pytest.raises(InvalidTypeError, match=r"LocalFileAdapter.*not "):
            AsyncBlobStore(wrong, "data")  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError):
        StoreAdapter(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="cache_mode"):
        AsyncBlobStore(adapter, "data", cache_mode="write_through")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="concurrency_mode"):
        AsyncBlobStore(adapter, "data", concurrency_mode=CacheMode.NONE)  # type: ignore[arg-type]
    for name in (None, b"data", 5):
        with pytest.raises(InvalidTypeError):
            AsyncBlobStore(adapter, name)  # type: ignore[arg-type]
    assert opened(adapter, "write-through", "etag").cache_mode is CacheMode.WRITE_THROUGH  # type: ignore[arg-type]

    async def main() -> None:
        async with opened(adapter, THROUGH) as store:
            for _ in range(2):  # from the container, then from the copy
                with pytest.raises(SerializationError, match="'text': this isn't JSON"):
                    await store.get_json("text")
            for value in ("text", 5, [b"a"], None, {"a": 1}):
                with pytest.raises(InvalidDataError, match="set_json"):
                    await store.set_binary("a", value)  # type: ignore[arg-type]
            loop: list[Any] = []
            loop.append(loop)
            for value in (loop, object(), {"deep": [object()]}, "\ud800"):
                with pytest.raises(SerializationError, match="'a'"):
                    await store.set_json("a", value)
            assert await store.list_keys() == ["text"]
            with pytest.raises(InvalidTypeError):
                await store.list_keys(5)  # type: ignore[arg-type]
            with pytest.raises(TypeError), store:  # type: ignore[attr-defined]
                pass

    run(main())


def test_a_uri_with_a_secret_is_never_shown():
    adapter = StoreAdapter("valkey://user:hunter2@127.0.0.1:1/0")
    store = opened(adapter, name=f"c{uuid4().hex}")
    assert "hunter2" not in repr(adapter) + repr(store) + str(vars(store))
    for each in (adapter, store, opened(StoreAdapter(MemoryStore()))):
        with pytest.raises(UnsupportedOperation, match="never pickled"):
            pickle.dumps(each)


def test_an_adapter_goes_to_another_process(tmp_path: Path):
    run(opened(LocalFileAdapter(tmp_path)).set_json("a", 1))
    for adapter in (
        LocalFileAdapter(tmp_path),
        StoreAdapter(tmp_path),
        StoreAdapter(str(tmp_path)),
        StoreAdapter(FilesystemStore(tmp_path)),
    ):
        again = pickle.loads(pickle.dumps(adapter))
        assert repr(again) == repr(adapter)
        assert run(opened(again).get_json("a")) == 1
