"""What the tests of the catalogue share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers.postgresql import PostgresServer

from holdall import BlobStore
from holdall.catalog.postgresql import PostgresqlBackend


@pytest.fixture(autouse=True, scope="session")
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the keys that sign pickles in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        patch.delenv("HOLDALL_PICKLE_KEY", raising=False)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer("max_connections=200") as server:
        yield server


@pytest.fixture(params=["json", "sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., BlobStore]]:
    """Make handles on one catalogue, on each backend of metadata."""
    made: list[BlobStore | PostgresqlBackend] = []

    def backend() -> Any:
        if request.param != "postgresql":
            return request.param
        server = request.getfixturevalue("postgres")
        schema = f"s_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]}"
        made.append(PostgresqlBackend(server.url, schema=schema))
        return made[-1]

    def open_one(**options: Any) -> BlobStore:
        given = options if "backend" in options else {"backend": backend(), **options}
        store = BlobStore(tmp_path / "store", **given)
        made.append(store)
        return store

    yield open_one
    for each in made:
        each.close()
