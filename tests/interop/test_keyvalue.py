"""py-key-value's store over ours."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from key_value.aio.errors import DeserializationError, InvalidTTLError, SerializationError
from key_value.aio.protocols.key_value import (
    AsyncCullProtocol,
    AsyncDestroyCollectionProtocol,
    AsyncDestroyStoreProtocol,
    AsyncEnumerateCollectionsProtocol,
    AsyncEnumerateKeysProtocol,
    AsyncKeyValueProtocol,
)
from key_value.aio.wrappers.compression import CompressionWrapper
from key_value.aio.wrappers.prefix_collections import PrefixCollectionsWrapper
from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper
from key_value.aio.wrappers.ttl_clamp import TTLClampWrapper
from tests.interop.corrupted import FirstByte, noticed
from tests.servers.valkey import ValkeyServer

from holdall import (
    CachingStore,
    Can,
    CompressedStore,
    FilesystemStore,
    InvalidArgumentError,
    InvalidTypeError,
    MemoryStore,
    ReadOnlyError,
    ReadOnlyStore,
    SqliteStore,
    Store,
    StoreClosedError,
    UnsupportedOperation,
    ValkeyStore,
)
from holdall.interop.keyvalue import HoldallKeyValue
from holdall.layers.layer import Transparent
from holdall.store import ANY, Info
from holdall.testing import Limited

Check = Callable[[HoldallKeyValue], Awaitable[None]]
CHECKS: dict[str, Check] = {}
ONE, TWO = {"test": "test"}, {"test": "test_2"}
IN = {"collection": "test"}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


# What the `BaseStoreTests` of today's py-key-value ask for. No package brings them; `test_keyvalue_own` runs
# those of its first version. Each has a check of the same name without `test_`, but `not_unbounded`, which
# only its stores that forget entries pass.


@check
async def store(entries: HoldallKeyValue) -> None:
    protocols = (
        *(AsyncKeyValueProtocol, AsyncCullProtocol, AsyncEnumerateKeysProtocol, AsyncDestroyStoreProtocol),
        *(AsyncEnumerateCollectionsProtocol, AsyncDestroyCollectionProtocol),
    )
    assert all(isinstance(entries, protocol) for protocol in protocols)


@check
async def empty_get(entries: HoldallKeyValue) -> None:
    assert await entries.get("test", **IN) is None


@check
async def empty_put(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, **IN)


@check
async def empty_ttl(entries: HoldallKeyValue) -> None:
    assert await entries.ttl("test", **IN) == (None, None)


@check
async def put_serialization_errors(entries: HoldallKeyValue) -> None:
    with pytest.raises(SerializationError):
        await entries.put("test", {"test": Path()}, **IN)


@check
async def get_put_get(entries: HoldallKeyValue) -> None:
    assert await entries.get("test", **IN) is None
    await entries.put("test", ONE, **IN)
    assert await entries.get("test", **IN) == ONE


ID = "12345678-1234-5678-1234-567812345678"
VALUES: list[dict[str, Any]] = [
    *({"key": value} for value in (None, [None] * 3, {"a": None, "b": None}, "null", True, False, "true")),
    *({"key": value} for value in ([True, False], {"a": True}, 1, -42, 10**18, "1", 1.0, 1.2345e10, "1.0")),
    *({"key": value} for value in ("text", "a" * 1024, "Hello 世界 🌍 émojis", "Line1\nLine2\tTabbed", ID)),
    *({key: "value"} for key in ("null", "true", "1", "1.0", ID)),
]


@check
async def models_put_get(entries: HoldallKeyValue) -> None:
    for value in VALUES:
        await entries.put("test", value, **IN)
        assert await entries.get("test", **IN) == value


@check
async def negative_models_put_get(entries: HoldallKeyValue) -> None:
    for value in (datetime.now(UTC), date(2025, 1, 1), datetime.now(UTC).time(), UUID(ID)):
        with pytest.raises(SerializationError):
            await entries.put("test", {"key": value}, **IN)
    assert await entries.get("test", **IN) is None


@check
async def get_large_put_get(entries: HoldallKeyValue) -> None:
    for value in ("a" * 10_000, 10**18, 1e63, list(range(1000))):
        await entries.put("test", {"key": value}, **IN)
        assert await entries.get("test", **IN) == {"key": value}


@check
async def put_many_get(entries: HoldallKeyValue) -> None:
    await entries.put_many(["test", "test_2"], [ONE, TWO], **IN)
    assert [await entries.get(key, **IN) for key in ("test", "test_2")] == [ONE, TWO]


@check
async def put_many_get_many(entries: HoldallKeyValue) -> None:
    await entries.put_many(["test", "test_2"], [ONE, TWO], **IN)
    assert await entries.get_many(["test", "test_2"], **IN) == [ONE, TWO]


@check
async def put_put_get_many(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, **IN)
    await entries.put("test_2", TWO, **IN)
    assert await entries.get_many(["test", "test_2"], **IN) == [ONE, TWO]


@check
async def put_put_get_many_missing_one(entries: HoldallKeyValue) -> None:
    await put_put_get_many(entries)
    assert await entries.get_many(["test", "test_2", "test_3", "test"], **IN) == [ONE, TWO, None, ONE]


@check
async def put_get_delete_get(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, **IN)
    assert await entries.get("test", **IN) == ONE
    assert await entries.delete("test", **IN) is True
    assert await entries.get("test", **IN) is None


@check
async def put_many_get_get_delete_many_get_many(entries: HoldallKeyValue) -> None:
    await put_many_get(entries)
    assert await entries.delete_many(["test", "test_2"], **IN) == 2
    assert await entries.get_many(["test", "test_2"], **IN) == [None, None]


@check
async def put_many_get_many_delete_many_get_many(entries: HoldallKeyValue) -> None:
    await put_many_get_many(entries)
    assert await entries.delete_many(["test", "test_2"], **IN) == 2
    assert await entries.get_many(["test", "test_2"], **IN) == [None, None]


@check
async def put_many_tuple_get_many(entries: HoldallKeyValue) -> None:
    await entries.put_many(("test", "test_2"), (ONE, TWO), **IN)
    assert await entries.get_many(("test", "test_2"), **IN) == [ONE, TWO]


@check
async def delete(entries: HoldallKeyValue) -> None:
    assert await entries.delete("test", **IN) is False


@check
async def put_delete_delete(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, **IN)
    assert await entries.delete("test", **IN) is True
    assert await entries.delete("test", **IN) is False


@check
async def delete_many(entries: HoldallKeyValue) -> None:
    assert await entries.delete_many(["test", "test_2"], **IN) == 0


@check
async def put_delete_many(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, **IN)
    assert await entries.delete_many(["test", "test_2"], **IN) == 1


@check
async def delete_many_delete_many(entries: HoldallKeyValue) -> None:
    await put_delete_many(entries)
    assert await entries.delete_many(["test", "test_2"], **IN) == 0


@check
async def get_put_get_delete_get(entries: HoldallKeyValue) -> None:
    assert await entries.get("test", **IN) is None
    await put_get_delete_get(entries)


@check
async def get_put_get_put_delete_get(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, **IN)
    assert await entries.get("test", **IN) == ONE
    await entries.put("test", TWO, **IN)
    assert await entries.get("test", **IN) == TWO
    assert await entries.delete("test", **IN)
    assert await entries.get("test", **IN) is None


@check
async def put_many_delete_delete_get_many(entries: HoldallKeyValue) -> None:
    await put_many_get_many(entries)
    assert [await entries.delete(key, **IN) for key in ("test", "test_2")] == [True, True]
    assert await entries.get_many(["test", "test_2"], **IN) == [None, None]


@check
async def put_ttl_get_ttl(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, ttl=100, **IN)
    value, ttl = await entries.ttl("test", **IN)
    assert value == ONE
    assert 0 < ttl <= 100
    assert [value for value, _ in await entries.ttl_many(["test", "test_2"], **IN)] == [ONE, None]


@check
async def negative_ttl(entries: HoldallKeyValue) -> None:
    for ttl in (-100, 0, True):
        with pytest.raises(InvalidTTLError):
            await entries.put("test", ONE, ttl=ttl, **IN)


@check
async def put_expired_get_none(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, ttl=0.02, **IN)
    await entries.put("test_2", TWO, ttl=3600, **IN)
    await asyncio.sleep(0.03)
    assert await entries.get_many(["test", "test_2"], **IN) == [None, TWO]


@check
async def long_collection_name(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, collection="test_collection" * 100)
    assert await entries.get("test", collection="test_collection" * 100) == ONE


@check
async def special_characters_in_collection_name(entries: HoldallKeyValue) -> None:
    await entries.put("test", ONE, collection="test_collection!@#$%^&*()")
    assert await entries.get("test", collection="test_collection!@#$%^&*()") == ONE


@check
async def long_key_name(entries: HoldallKeyValue) -> None:
    await entries.put("test_key" * 100, ONE, **IN)
    assert await entries.get("test_key" * 100, **IN) == ONE


@check
async def special_characters_in_key_name(entries: HoldallKeyValue) -> None:
    await entries.put("test_key!@#$%^&*()", ONE, **IN)
    assert await entries.get("test_key!@#$%^&*()", **IN) == ONE


@check
async def concurrent_operations(entries: HoldallKeyValue) -> None:
    async def work(worker: int) -> None:
        for number in range(5):
            key = f"test_{worker}_{number}"
            assert await entries.get(key, **IN) is None
            for value in (ONE, TWO):
                await entries.put(key, value, **IN)
                assert await entries.get(key, **IN) == value
            assert await entries.delete(key, **IN)
            assert await entries.get(key, **IN) is None

    await asyncio.gather(*map(work, range(3)))


@check
async def minimum_put_many_get_many_performance(entries: HoldallKeyValue) -> None:
    keys = [f"test_{number}" for number in range(10)]
    values = [{"test": key} for key in keys]
    await entries.put_many(keys, values, **IN)
    assert await entries.get_many(keys, **IN) == values


@check
async def minimum_put_many_delete_many_performance(entries: HoldallKeyValue) -> None:
    await minimum_put_many_get_many_performance(entries)
    assert await entries.delete_many([f"test_{number}" for number in range(10)], **IN) == 10


NAMES = [
    "",
    ".",
    "..",
    "/",
    "a/b",
    "%",
    "%2F",
    "déjà vu",
    "nul\0",
    "\ud800",
    "long" * 200,
    "🌍" * 60,
    " ",
    "A",
]


@check
async def any_name(entries: HoldallKeyValue) -> None:
    for collection in NAMES[1:]:
        for key in NAMES:
            await entries.put(
                key, {"is": f"{NAMES.index(collection)} {NAMES.index(key)}"}, collection=collection
            )
    assert sorted(await entries.collections()) == sorted(NAMES[1:])
    for collection in NAMES[1:]:
        assert sorted(await entries.keys(collection)) == sorted(NAMES)
        found = await entries.get_many(NAMES, collection=collection)
        assert [each["is"] for each in found] == [
            f"{NAMES.index(collection)} {number}" for number in range(len(NAMES))
        ]


@check
async def lists_and_destroys(entries: HoldallKeyValue) -> None:
    keys = [f"{number:03}" for number in range(300)]
    await entries.put_many(keys, [ONE] * 300, collection="a")
    await entries.put_many(["x", "y"], [ONE, TWO], collection="b")
    assert await entries.keys("a") == keys
    assert (await entries.keys("a", limit=2), await entries.keys("a", limit=0)) == (keys[:2], [])
    assert (await entries.collections(), await entries.collections(limit=1)) == (["a", "b"], ["a"])
    assert await entries.destroy_collection("a") is True
    assert await entries.destroy_collection("a") is False
    assert (await entries.keys("a"), await entries.keys("b")) == ([], ["x", "y"])
    assert await entries.destroy()
    assert await entries.collections() == []


@check
async def what_has_expired_is_absent(entries: HoldallKeyValue) -> None:
    await entries.put_many(["a", "b", "c"], [ONE] * 3, ttl=0.02, **IN)
    await entries.put("c", TWO, **IN)
    await entries.put("d", TWO, ttl=3600, **IN)
    await asyncio.sleep(0.03)
    assert await entries.keys("test") == ["c", "d"]
    assert await entries.delete("a", **IN) is False
    assert await entries.delete_many(["a", "b", "c"], **IN) == 1
    await entries.cull()
    assert list(entries.store) == ["test/d"]
    assert await entries.ttl("a", **IN) == (None, None)
    await entries.put("a", ONE, **IN)
    assert await entries.keys("test") == ["a", "d"]


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "valkey", "stack", "little"])
async def entries(
    request: pytest.FixtureRequest, tmp_path: Path, server: ValkeyServer
) -> AsyncIterator[HoldallKeyValue]:
    place = tmp_path / "store"
    makers: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "sqlite": lambda: SqliteStore(place),
        "valkey": lambda: ValkeyStore(f"valkey://127.0.0.1:{server.port}/0", prefix=f"{tmp_path}:"),
        "stack": lambda: CachingStore(CompressedStore(FilesystemStore(place)), MemoryStore()) / "entries",
        "little": lambda: Limited(
            MemoryStore(), Can.WRITE | Can.DELETE | Can.LIST | Can.SWAP | Can.CONDITIONAL_DELETE
        ),
    }
    with makers[request.param]() as store:
        async with HoldallKeyValue(store) as made:
            yield made


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
async def test_a_store(check: Check, entries: HoldallKeyValue) -> None:
    await check(entries)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
async def test_a_store_that_corrupts_every_read_is_noticed(check: Check) -> None:
    store = FirstByte(MemoryStore())
    with noticed(store, reads=check in (get_put_get, put_many_get_many, any_name)):
        await check(HoldallKeyValue(store))


async def test_an_entry_is_a_blob_of_json() -> None:
    store = MemoryStore()
    entries = HoldallKeyValue(store.aio, default_collection="mine", seed={"mine": {"b": {"x": 1}}})
    await entries.put("a/b", {"x": 2}, ttl=100)
    assert list(store) == ["mine/a%2Fb", "mine/b"]
    assert store["mine/b"].startswith(b'{"collection": "mine", "created_at": "2')
    expires = store.info("mine/a%2Fb").expires
    assert expires is not None
    assert timedelta(seconds=90) < expires - datetime.now(UTC) < timedelta(seconds=101)
    assert repr(entries) == f"HoldallKeyValue({store!r})"


async def test_what_can_not_become_json_is_refused_before_anything_is_written() -> None:
    store = MemoryStore()
    entries = HoldallKeyValue(store)
    with pytest.raises(SerializationError):
        await entries.put_many(["a", "b"], [ONE, {"b": object()}])
    with pytest.raises(ValueError, match="different number"):
        await entries.put_many(["a", "b"], [ONE])
    with pytest.raises(TypeError):
        await entries.put("a", {1: "b"})  # type: ignore[dict-item]
    assert list(store) == []
    await entries.put_many([], [])
    assert (await entries.get_many([]), await entries.delete_many([])) == ([], 0)


async def test_wrong_limits() -> None:
    entries = HoldallKeyValue(MemoryStore())
    with pytest.raises(InvalidArgumentError, match="a limit must be an int of at least 1, not -1"):
        await entries.keys(limit=-1)
    with pytest.raises(InvalidArgumentError, match="a limit"):
        await entries.collections(limit=-1)


async def test_what_others_keep_there(tmp_path: Path) -> None:
    for store in (MemoryStore(), FilesystemStore(tmp_path)):
        entries = HoldallKeyValue(store)
        await entries.put("a", ONE, collection="c")
        for key in ("readme", "c/%zz", "%/b/c", "c/d/e", "%-x/b", "c/damaged"):
            store[key] = b"[]"
        with pytest.raises(DeserializationError, match="the blob 'c/damaged' isn't an entry"):
            await entries.get("damaged", collection="c")
        assert await entries.keys("c") == ["a", "damaged"]
        del store["%-x/b"]
        assert await entries.collections() == ["", "c"]
        store["c/naive"] = b'{"value": {}, "expires_at": "2025-01-01T00:00:00"}'
        with pytest.raises(DeserializationError, match="c/naive"):
            await entries.get("naive", collection="c")
        store["c/naive"] = b'{"value": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_001
        with pytest.raises(DeserializationError, match="c/naive"):
            await entries.get("naive", collection="c")
        assert await entries.delete_many(["naive", "damaged"], collection="c") == 2
        assert await entries.keys("c") == ["a"]
        await entries.cull()
        assert len(store) == 5


class Losing(Transparent):
    """Each listed blob but the last is deleted by somebody else before it is read."""

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        found = [*super()._scan(prefix, after)]
        for info in found[:-1] if prefix else []:
            super()._delete(info.key, ANY)
        yield from found


async def test_a_collection_whose_first_entry_is_deleted_meanwhile() -> None:
    entries = HoldallKeyValue(Losing(MemoryStore()))
    await entries.put_many(["a", "b"], [ONE, TWO], collection="long" * 100)
    assert await entries.collections() == ["long" * 100]


async def test_cull_never_deletes_what_is_new() -> None:
    entries = HoldallKeyValue(Limited(MemoryStore(), Can.WRITE | Can.DELETE | Can.LIST))
    with pytest.raises(UnsupportedOperation, match="can't delete by ETag"):
        await entries.cull()
    with pytest.raises(ReadOnlyError, match="can't cull"):
        await HoldallKeyValue(ReadOnlyStore(MemoryStore())).cull()


async def test_what_a_uri_opened_is_closed(tmp_path: Path) -> None:
    entries = HoldallKeyValue(f"sqlite:///{tmp_path}/a.db")
    await entries.put("a", ONE)
    await entries.close()
    with pytest.raises(StoreClosedError):
        await entries.get("a")
    unused = HoldallKeyValue(str(tmp_path / "folder"))
    await unused.close()
    with pytest.raises(StoreClosedError):
        list(unused.store)
    store = MemoryStore()
    async with HoldallKeyValue(store) as entries:
        await entries.put("a", ONE)
    assert len(store) == 1
    with pytest.raises(InvalidTypeError, match=r"HoldallKeyValue takes a store, .*, not dict"):
        HoldallKeyValue({})  # type: ignore[arg-type]


async def test_wrappers(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "a.db") as store:
        clamped = TTLClampWrapper(HoldallKeyValue(store), min_ttl=1, max_ttl=60)
        wrapped = PrefixKeysWrapper(PrefixCollectionsWrapper(CompressionWrapper(clamped), "app"), "v1")
        await wrapped.put("a", {"text": "x" * 100_000}, collection="c", ttl=10_000)
        value, ttl = await wrapped.ttl("a", collection="c")
        assert value == {"text": "x" * 100_000}
        assert 50 < ttl <= 60
        assert [(info.key, info.size < 1000) for info in store.list()] == [("app__c/v1__a", True)]


WRITER = """
import asyncio, sys
from holdall.interop.keyvalue import HoldallKeyValue

async def main():
    async with HoldallKeyValue(sys.argv[1]) as entries:
        for number in range(20):
            await entries.put(str(number), {"text": sys.argv[2] * 5000})
            assert (await entries.get(str(number)))["text"] in ("x" * 5000, "y" * 5000)

asyncio.run(main())
"""


async def test_two_processes(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/a.db"
    others = [subprocess.Popen([sys.executable, "-c", WRITER, place, text]) for text in "xy"]
    assert [other.wait() for other in others] == [0, 0]
    async with HoldallKeyValue(place) as entries:
        assert len(await entries.keys()) == 20
