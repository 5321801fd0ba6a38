"""A store in those of py-key-value."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from key_value.aio.stores.memory import MemoryStore
from key_value.aio.stores.redis import RedisStore
from key_value.aio.wrappers.base import BaseWrapper
from key_value.aio.wrappers.read_only import ReadOnlyWrapper
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from tests.again import Again
from tests.servers.ports import free_port
from tests.servers.valkey import ValkeyServer

from holdall import (
    Can,
    CompressedStore,
    IntegrityError,
    InvalidArgumentError,
    InvalidTypeError,
    Item,
    ReadOnlyError,
    Store,
    StoreClosedError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.interop.keyvalue import HoldallKeyValue, KeyValueStore
from holdall.testing import check_refusals, race


class TestRedis(Again):
    server: ClassVar[ValkeyServer]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _served(cls) -> Iterator[None]:
        with ValkeyServer() as cls.server:
            yield

    def make(self, place: Path) -> Store:
        collection = hashlib.sha256(str(place).encode()).hexdigest()[:16]
        return KeyValueStore(partial(RedisStore, port=self.server.port), collection)


class PassThrough(BaseWrapper):
    def __init__(self, key_value: MemoryStore) -> None:
        self.key_value = key_value


@pytest.fixture
def store() -> Iterator[KeyValueStore]:
    with KeyValueStore(MemoryStore) as store:
        yield store


def test_a_store_that_does_not_list() -> None:
    """As py-key-value's stores on disks and in databases, and all of its wrappers. Kits try all else."""
    with KeyValueStore(lambda: PassThrough(MemoryStore())) as store:
        assert (Can.LIST in store.can, Can.BULK in store.can) == (False, True)
        blobs = {"a": b"1", "b": b"x" * 3_000_000}
        store.put_many({**blobs, "c": b"2"})
        check_refusals(store, Can.LIST, "a")
        assert store.get_many(["a", "b", "c", "d"]) == {**blobs, "c": b"2"}
        assert store.delete_many(["c", "d"]) == 1
        store.put("c", b"3", ttl=0.01, content_type="text/plain", metadata={"owner": "ana"})
        deadline = time.monotonic() + 60
        while "c" in store:
            assert time.monotonic() < deadline
        assert (store.get_range("b", -2), store.pop("b"), "b" in store) == (b"xx", blobs["b"], False)


def test_the_bytes_of_a_large_blob_go_with_it() -> None:
    made = MemoryStore()
    with KeyValueStore(lambda: made) as store:
        store["a"] = b"x" * 3_000_000
        store["b"] = b"small"
        assert len(chunks(made)) == 3
        assert store.get_range("a", 1_048_570, 1_048_580) == b"x" * 10
        store["a"] = b"x" * 1_500_000
        assert len(chunks(made)) == 2
        store.put_many({"b": b"y" * 20_000, "c": b"z"})
        assert len(chunks(made)) == 3

        def fails() -> Iterator[bytes]:
            yield b"x" * 3_000_000
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.put("a", fails())
        assert len(chunks(made)) == 3

        def begins_to_fail() -> Iterator[bytes]:
            raise ZeroDivisionError
            yield b""

        with pytest.raises(ZeroDivisionError):
            store.put_many({"d": b"x" * 20_000, "e": begins_to_fail()})
        found = "d" in store
        assert len(chunks(made)) == 3 + found
        store.delete("d")
        store.put_many([("b", b"y" * 20_000), ("b", b"y")])
        assert len(chunks(made)) == 2
        assert store.delete_many(["a", "b", "d"]) == 2
        assert (chunks(made), list(store)) == ([], ["c"])


def chunks(made: MemoryStore) -> list[str]:
    return asyncio.run(made.keys("holdall-chunks"))


def test_a_chunk_that_is_missing_or_damaged_is_noticed() -> None:
    made = MemoryStore()
    with KeyValueStore(lambda: made) as store:
        store["a"] = b"x" * 3_000_000
        last = sorted(chunks(made))[-1]
        asyncio.run(made.put(last, {"data": "eA=="}, collection="holdall-chunks"))
        with pytest.raises(IntegrityError, match="1 bytes, not 902,848"):
            store.get("a")
        asyncio.run(made.delete(last, collection="holdall-chunks"))
        with pytest.raises(IntegrityError, match="a chunk of the blob is missing"):
            store.get("a")
        assert store.get_range("a", 0, 5) == b"xxxxx"


def test_what_others_keep_in_the_collection() -> None:
    made = MemoryStore(seed={"holdall": {"a": {"x": 1}, "/": {}, "b": {"data": "=", "etag": "", "size": 1}}})
    with KeyValueStore(lambda: made) as store:
        store["c"] = b"1"
        assert list(store) == ["c"]
        assert [found.path for found in store.left_out()] == ["/", "a", "b"]
        with pytest.raises(IntegrityError, match="isn't a blob that holdall put"):
            store.get("a")
        assert store.delete("a")
        store["b"] = b"2"
        assert list(store) == ["b", "c"]


WHOLE = {"size": 1, "etag": "e", "modified": "2026-01-01T00:00:00+00:00", "data": "eA=="}
CHUNKED = {**{name: value for name, value in WHOLE.items() if name != "data"}, "chunk": 1}


@pytest.mark.parametrize(
    "entry",
    [
        {**WHOLE, "data": 1},
        {**WHOLE, "size": -1},
        {**WHOLE, "etag": ""},
        {**WHOLE, "modified": "2026-01-01"},
        {**WHOLE, "expires": "2999-01-01"},
        {**WHOLE, "content_type": 1},
        {**WHOLE, "metadata": {"a": 1}},
        {**CHUNKED, "chunk": 1.5},
        {**CHUNKED, "chunk": 0},
        {**CHUNKED, "size": 1 << 70},
    ],
)
def test_a_damaged_entry_is_an_error_and_can_be_replaced(entry: dict[str, object]) -> None:
    made = MemoryStore()
    with KeyValueStore(lambda: made) as store:
        for repair in (lambda: store.delete("a"), lambda: store.put("a", b"1")):
            asyncio.run(made.put("a", entry, collection="holdall"))
            with pytest.raises(IntegrityError):
                store.get("a")
            repair()
        assert store["a"] == b"1"


def test_a_listing_is_never_short(store: KeyValueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.interop.entries._PAGE", 3)
    store.put_many({"a": b"", "b": b""})
    assert list(store) == ["a", "b"]
    store["c"] = b""
    with pytest.raises(UnsupportedOperation, match="lists at most 3 keys"):
        list(store)


def test_wrong_arguments() -> None:
    with pytest.raises(InvalidTypeError, match=r"such as lambda: RedisStore\(url=...\), not MemoryStore"):
        KeyValueStore(MemoryStore())  # type: ignore[arg-type]
    with KeyValueStore(lambda: None) as nothing, pytest.raises(InvalidTypeError, match="returned NoneType"):  # type: ignore[arg-type,return-value]
        nothing["a"] = b"1"
    with pytest.raises(InvalidTypeError, match="not NoneType"):
        KeyValueStore(MemoryStore, None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        KeyValueStore(MemoryStore, "")


def test_errors_are_of_this_package() -> None:
    store = KeyValueStore(lambda: ReadOnlyWrapper(MemoryStore()))
    with pytest.raises(
        UnsupportedOperation, match=r"can't list here: this store of py-key-value lacks keys\(\)"
    ):
        list(store)
    with pytest.raises(ReadOnlyError):
        store.put("a", b"")
    assert store.get("a") is None
    client = Redis(port=free_port(), password="secret", retry=Retry(NoBackoff(), 0))
    away = KeyValueStore(partial(RedisStore, client=client))
    with pytest.raises(StoreUnavailableError, match="'a': the store of py-key-value failed: Connection"):
        away.get("a")
    assert "secret" not in repr(away)
    away.close()

    def broken() -> MemoryStore:
        raise ZeroDivisionError

    with pytest.raises(StoreUnavailableError, match="ZeroDivisionError"):
        KeyValueStore(broken).get("a")


def test_a_store_is_made_and_closed_once() -> None:
    """Whatever calls and closes it at the same time."""
    made: list[str] = []

    class Kept(MemoryStore):
        def __init__(self) -> None:
            made.append("made")
            super().__init__()

        async def close(self) -> None:
            made.append("closed")

    for _ in range(20):
        store = KeyValueStore(Kept)

        def use(store: Store = store) -> None:
            with contextlib.suppress(StoreClosedError):
                for number in range(20):
                    store[f"{number}"] = b""

        race(use, use, lambda store=store: store.close())
        assert made in ([], ["made", "closed"])
        made.clear()
    dropped = KeyValueStore(Kept)
    dropped["a"] = b""
    del dropped
    gc.collect()
    assert KeyValueStore(MemoryStore).get("a") is None  # after it, in the same loop
    assert made == ["made", "closed"]


def test_each_handle_has_a_token(store: KeyValueStore) -> None:
    with KeyValueStore(MemoryStore) as another:
        assert another.token != store.token == store.token
        assert not another.same_place(store)
        assert store.same_place(CompressedStore(store))


def test_a_coroutine_in_the_loop_does_not_wait_for_itself() -> None:
    class Waits(MemoryStore):
        async def get(self, key: str, **options: Any) -> Any:
            return store.get("another")

        async def get_many(self, *arguments: Any, **options: Any) -> Any:
            raise asyncio.CancelledError

    with KeyValueStore(Waits) as store:
        with pytest.raises(UnsupportedOperation, match="own event loop"):
            store.get("a")
        with pytest.raises(StoreUnavailableError, match="was cancelled"):
            store["a"] = b""


def test_both_faces_over_each_other(tmp_path: Path) -> None:
    with KeyValueStore(partial(HoldallKeyValue, f"sqlite:///{tmp_path}/a.db")) as store:
        store["a/b"] = b"1" * 100_000
        assert (list(store), store["a/b"]) == (["a/b"], b"1" * 100_000)

    async def look() -> None:
        async with HoldallKeyValue(KeyValueStore(MemoryStore)) as entries:
            await entries.put("a", {"x": 1}, ttl=100)
            assert await entries.get("a") == {"x": 1}
            assert await entries.keys() == ["a"]

    asyncio.run(look())


def test_a_cancelled_call_ends() -> None:
    class Slow(MemoryStore):
        async def get(self, key: str, **options: Any) -> Any:
            await asyncio.sleep(3600)

    async def get() -> None:
        with KeyValueStore(Slow) as slow:
            task = asyncio.create_task(slow.aio.put("a", b""))
            await task
            task = asyncio.create_task(slow.aio.pop("a"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(get(), 30))


class Held(MemoryStore):
    """Its puts into one collection don't end, or fail."""

    def __init__(self, collection: str, error: BaseException | None = None) -> None:
        super().__init__()
        self.held, self.error, self.reached = collection, error, threading.Event()
        self.puts = 0

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: Any = None) -> None:
        self.puts += 1
        if collection == self.held and self.puts > 1:
            await self._hold()
        await super().put(key, value, collection=collection, ttl=ttl)

    async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
        if collection == self.held:
            await self._hold()
        return await super().get_many(keys, collection=collection)

    async def delete_many(self, keys: Any, *, collection: str | None = None) -> int:
        if self.error is not None:
            raise ConnectionError("away")
        return await super().delete_many(keys, collection=collection)

    async def _hold(self) -> None:
        self.reached.set()
        if self.error is not None:
            raise self.error
        await asyncio.sleep(3600)


@pytest.mark.parametrize("place", ["holdall", "holdall-chunks"])
def test_a_put_that_is_cancelled_leaves_no_chunks(place: str) -> None:
    made = Held(place)

    async def put() -> None:
        with KeyValueStore(lambda: made) as store:
            task = asyncio.create_task(store.aio.put("a", b"x" * 3_000_000))
            await asyncio.to_thread(made.reached.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert store.get("a") is None

    asyncio.run(asyncio.wait_for(put(), 30))
    assert chunks(made) == []


@pytest.mark.parametrize("place", ["holdall", "holdall-chunks"])
def test_an_error_is_not_hidden_by_one_of_what_cleans_up(place: str) -> None:
    with KeyValueStore(partial(Held, place, SystemExit("stop"))) as store:
        with pytest.raises(SystemExit, match="stop"):
            store["a"] = b"x" * 3_000_000
        # The loop that all share goes on.
        assert store.get("a") is None


PROGRAM = """
from holdall.interop.keyvalue import KeyValueStore
from key_value.aio.stores.memory import MemoryStore

class Late:
    def __del__(self):
        for call in (lambda: store.get("a"), store.close):
            try:
                print(call())
            except Exception as error:
                print(type(error).__name__, error)

store = KeyValueStore(MemoryStore)
store["a"] = b"1"
import builtins
builtins.late = Late()  # it is dropped after the threads have stopped
"""


def test_a_call_after_the_last_line_of_a_program_does_not_hang() -> None:
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "StoreUnavailableError 'a': Python is ending, and its event loops with it: use the store earlier",
        "None",
    ]


def test_each_of_many_has_its_own_time(store: KeyValueStore) -> None:
    items: dict[str, bytes | Item] = {f"{number}": b"" for number in range(40)}
    store.put_many({**items, "7": Item(b"x" * 20_000, ttl=50), "8": Item(b"", ttl=5000)}, ttl=100)
    now = datetime.now(UTC)
    left = {info.key: (info.expires or now) - now for info in store.list()}
    assert {key: round(each.total_seconds() / 50) for key, each in left.items()} == {
        **dict.fromkeys(items, 2),
        "7": 1,
        "8": 100,
    }
