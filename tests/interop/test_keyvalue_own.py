"""py-key-value's own tests of stores, over ours."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsDatetime
from key_value.aio.errors import InvalidTTLError
from kv_store_adapter.adapters.single_collection import SingleCollectionAdapter
from kv_store_adapter.stores.base.unmanaged import BaseKVStore
from kv_store_adapter.types import TTLInfo
from tests.interop.corrupted import Corrupted
from tests.servers.valkey import ValkeyServer

from holdall import (
    CachingStore,
    CompressedStore,
    FilesystemStore,
    MemoryStore,
    SqliteStore,
    Store,
    ValkeyStore,
    ZipStore,
)
from holdall.interop.keyvalue import HoldallKeyValue

SOURCE = Path(sys.prefix, "kv-store-adapter")
"""The source of the last version of py-key-value under its first name. No later one comes with tests."""


def load(name: str) -> Any:
    """Import one of its files of tests. Their package has the name of ours."""
    path = SOURCE / "tests" / name
    if not path.exists():
        pytest.fail(f"{path} is missing; to get it: make .venv/.peers", pytrace=False)
    spec = importlib.util.spec_from_file_location(f"kv_store_adapter_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


base, pydantic, collections = (
    load("stores/conftest.py"),
    load("adapters/test_pydantic.py"),
    load("adapters/test_single_collection.py"),
)
# It allows two seconds, in which a busy machine may do nothing.
base.IsDatetime = partial(IsDatetime, delta=300)


class Translated(BaseKVStore):
    """The calls of the first version of the protocol, by those of today's."""

    def __init__(self, entries: HoldallKeyValue) -> None:
        self.entries = entries

    async def get(self, collection: str, key: str) -> dict[str, Any] | None:
        return await self.entries.get(key, collection=collection)

    async def put(
        self, collection: str, key: str, value: dict[str, Any], *, ttl: float | None = None
    ) -> None:
        await self.entries.put(key, value, collection=collection, ttl=ttl)

    async def delete(self, collection: str, key: str) -> bool:
        return await self.entries.delete(key, collection=collection)

    async def ttl(self, collection: str, key: str) -> TTLInfo | None:
        value, _ = await self.entries.ttl(key, collection=collection)
        if value is None:
            return None
        # Today's says how much is left of it, and no more.
        entry = json.loads(self.entries.store[f"{collection}/{key}"])
        created, expires = (datetime.fromisoformat(entry[name]) for name in ("created_at", "expires_at"))
        return TTLInfo(collection, key, created, (expires - created).total_seconds(), expires)

    async def exists(self, collection: str, key: str) -> bool:
        return await super().exists(collection, key)

    async def keys(self, collection: str) -> list[str]:
        return await self.entries.keys(collection)

    async def clear_collection(self, collection: str) -> int:
        count = len(await self.entries.keys(collection))
        assert await self.entries.destroy_collection(collection) == (count > 0)
        return count

    async def list_collections(self) -> list[str]:
        return await self.entries.collections()

    async def cull(self) -> None:
        await self.entries.cull()


class Fixtures:
    make: Callable[[Path], Store]

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Translated]:
        with type(self).make(tmp_path / "store") as store:
            async with HoldallKeyValue(store) as entries:
                yield Translated(entries)


class Suite(Fixtures, base.BaseStoreTests):
    # Of stores that forget the oldest entries, such as those that are caches.
    test_not_unbounded = None
    test_set_expired_get_none = pytest.mark.xfail(
        raises=InvalidTTLError, strict=True, reason="today's protocol refuses a ttl below zero"
    )(base.BaseStoreTests.test_set_expired_get_none)


class TestMemory(Suite):
    make = staticmethod(lambda place: MemoryStore())


class TestFiles(Suite):
    make = FilesystemStore


class TestSqlite(Suite):
    make = SqliteStore


class TestZip(Suite):
    make = ZipStore


class TestStack(Suite):
    make = staticmethod(
        lambda place: CachingStore(CompressedStore(SqliteStore(place)), MemoryStore()) / "entries"
    )


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


class TestValkey(Suite):
    @pytest.fixture
    async def store(self, valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[Translated]:
        with ValkeyStore(valkey.url, prefix=f"{tmp_path}:") as store:
            yield Translated(HoldallKeyValue(store))


class TestModels(Fixtures, pydantic.TestPydanticAdapter):
    make = staticmethod(lambda place: MemoryStore())


class TestOneCollection(Fixtures, collections.TestSingleCollectionAdapter):
    make = staticmethod(lambda place: MemoryStore())

    @pytest.fixture
    async def adapter(self, store: Translated) -> SingleCollectionAdapter:
        return SingleCollectionAdapter(store, "test")


class TestCorrupted(Corrupted, Suite):
    reading = frozenset(["test_get_set_get", "test_set_ttl_get_ttl", "test_concurrent_operations"])


class TestCorruptedModels(Corrupted, TestModels):
    reading = frozenset(["test_simple_adapter", "test_complex_adapter"])


class TestCorruptedCollection(Corrupted, TestOneCollection):
    reading = frozenset(["test_put_get", "test_put_exists_delete_exists"])
