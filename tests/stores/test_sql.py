"""What is special to a store in PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.postgresql import PostgresServer

from holdall import Store
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
