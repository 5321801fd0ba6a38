"""What is special to a store in PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.postgresql import PostgresServer

from holdall import AsyncSqlStore, BlobNotFoundError, Store
from holdall.stores.sql import SqlStore
from holdall.testing import StoreSuite


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer("max_connections=200") as server:
        yield server


def table_of(place: Path) -> str:
    return f"t_{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"


class TestSql(StoreSuite):
    url: str

    @pytest.fixture(autouse=True)
    def _at(self, server: PostgresServer) -> None:
        self.url = server.url

    def make(self, place: Path) -> Store:
        return SqlStore(self.url, table=table_of(place))


def test_it_has_an_async_name(server: PostgresServer) -> None:
    async def main() -> None:
        async with AsyncSqlStore(server.url, table="awaited") as store:
            assert type(store.store) is SqlStore
            assert (await store.put("a", b"1")).size == await store.len() == 1
            assert [await store["a"], store.store["a"]] == [b"1", b"1"]

    asyncio.run(main())


def test_touch_of_a_large_blob(server: PostgresServer) -> None:
    with SqlStore(server.url, table="touched") as store:
        before = store.put("large", bytes(5 << 20), ttl=60)
        after = store.touch("large", ttl=3600)
        assert (after.etag, after.size) == (before.etag, 5 << 20)
        assert after.modified > before.modified
        assert store["large"] == bytes(5 << 20)
    with SqlStore(server.url, table="missing") as store, pytest.raises(BlobNotFoundError):
        store.touch("a")
