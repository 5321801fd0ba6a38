"""Processes that use one catalogue at once, and are killed: nothing acknowledged is lost, nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.catalog.chaos import chaos
from tests.effort import effort
from tests.servers.postgresql import PostgresServer

from holdall import BlobStore
from holdall.catalog.postgresql import PostgresqlBackend
from holdall.catalog.query import Query


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer("max_connections=200") as server:
        yield server


@pytest.mark.parametrize("backend", ["json", "sqlite"])
def test_no_update_is_lost_and_no_blob_is_left(tmp_path: Path, backend: str) -> None:
    do_chaos(lambda place, keep: BlobStore(place / "store", backend, keep=keep), tmp_path)


def test_no_update_is_lost_in_postgresql(tmp_path: Path, server: PostgresServer) -> None:
    def make(place: Path, keep: int) -> BlobStore:
        backend = PostgresqlBackend(server.url, schema=place.name)
        store = BlobStore(place / "store", backend, keep=keep)
        store._owns = True, True
        return store

    do_chaos(make, tmp_path)


def do_chaos(make: Callable[[Path, int], BlobStore], folder: Path) -> None:
    """Let there be chaos until each kind of act was acknowledged, which takes longer on a busy machine."""
    counts: Counter[str] = Counter()
    for number in range(20):
        place = folder / f"round{number}"
        place.mkdir()
        counts += chaos(partial(make, place), place, effort(400, 6), number)
        if min(counts[kind] for kind in ("own", "count", "swap", "free", "killed")) > 0:
            return
    pytest.fail(f"{counts}: some kind of act was never acknowledged")


@pytest.mark.parametrize("backend", ["json", "sqlite"])
def test_verify_finds_a_row_whose_blob_no_row_tells_of(tmp_path: Path, backend: str) -> None:
    with BlobStore(tmp_path, backend, keep=True) as store:
        for size in (10, 100_000):
            store.put(b"0" * size, f"{size}")
            store.put(b"1" * size, f"{size}")
        assert store.verify().ok
        for row in (*store._backend.find(Query()), *store._backend.earlier()):
            store._backend.transact(lambda tx, row=row: tx.drop_blob(row.blob))
        assert sorted(store.verify().missing) == [("10", 1), ("10", 2), ("100000", 1), ("100000", 2)]
