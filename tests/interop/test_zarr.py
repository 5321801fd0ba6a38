"""zarr's own tests of stores, over ours."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from tests.effort import effort
from zarr.core.buffer import Buffer, cpu
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine
from zarr.testing.store import StoreTests

from holdall import (
    CachingStore,
    CompressedStore,
    FilesystemStore,
    MemoryStore,
    ReadOnlyStore,
    SqliteStore,
    Store,
    ZipStore,
)
from holdall.interop.zarr import ZarrStore

pytestmark = pytest.mark.filterwarnings(
    # What zarr says of data types and metadata that its specification lacks.
    "ignore::zarr.errors.UnstableSpecificationWarning",
    "ignore::zarr.errors.ZarrUserWarning",
)


class Suite(StoreTests[ZarrStore, cpu.Buffer]):
    store_cls = ZarrStore
    buffer_cls = cpu.Buffer
    make: Callable[[Path], Store]

    @pytest.fixture
    def under(self, tmp_path: Path) -> Iterator[Store]:
        with type(self).make(tmp_path / "store") as store:
            yield store

    @pytest.fixture
    def store_kwargs(self, under: Store) -> dict[str, Any]:
        return {"store": under}

    async def set(self, store: ZarrStore, key: str, value: Buffer) -> None:
        store.store.put(key, value.to_bytes())

    async def get(self, store: ZarrStore, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(store.store[key])

    def test_store_repr(self, store: ZarrStore) -> None:
        assert repr(store) == f"ZarrStore({store.store!r})"

    def test_store_supports_writes(self, store: ZarrStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: ZarrStore) -> None:
        assert store.supports_listing


class TestFiles(Suite):
    make = FilesystemStore


class TestSqlite(Suite):
    make = SqliteStore


class TestZip(Suite):
    make = ZipStore


class TestMemory(Suite):
    make = staticmethod(lambda place: MemoryStore())


class TestStack(Suite):
    make = staticmethod(
        lambda place: CachingStore(CompressedStore(SqliteStore(place)), MemoryStore()) / "arrays"
    )


@pytest.mark.parametrize("machine", [ZarrStoreStateMachine, ZarrHierarchyStateMachine])
@pytest.mark.parametrize("make", [lambda place: MemoryStore(), SqliteStore], ids=["memory", "sqlite"])
def test_state_machines(machine: Any, make: Callable[[Path], Store], tmp_path: Path) -> None:
    number = itertools.count()
    with contextlib.ExitStack() as stack:

        def begin() -> Any:
            store = ZarrStore(stack.enter_context(make(tmp_path / f"{next(number)}")))
            return machine(store)

        run_state_machine_as_test(
            begin, settings=settings(max_examples=effort(50, 4), stateful_step_count=15, deadline=None)
        )


def test_arrays(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "data.db") as below:
        root = zarr.create_group(ZarrStore(below / "run"))
        array = root.create_array("x", shape=(100, 100), chunks=(10, 10), shards=(50, 50), dtype="f8")
        array[:] = np.arange(10_000.0).reshape(100, 100)
        assert len([key for key in below if key.startswith("run/x/c/")]) == 4
        again = zarr.open_group(ZarrStore(below / "run", read_only=True), mode="r")
        assert np.array_equal(again["x"][13:57, 40:60], array[13:57, 40:60])
        zarr.consolidate_metadata(ZarrStore(below / "run"))
        assert zarr.open_consolidated(ZarrStore(below / "run"))["x"].shape == (100, 100)
        readonly = ZarrStore(ReadOnlyStore(below / "run"))
        assert readonly.read_only
        with pytest.raises(ValueError, match="read-only"):
            zarr.open_array(readonly, path="x", mode="r+")[0, 0] = 1.0


def test_a_key_that_no_store_can_have() -> None:
    store = ZarrStore(MemoryStore())
    assert not zarr.core.sync.sync(store.exists("a/../b"))
    assert zarr.core.sync.sync(store.get("x" * 2000)) is None


def test_an_uri(tmp_path: Path) -> None:
    with ZarrStore(f"sqlite:///{tmp_path}/a.db") as store:
        zarr.create_array(store, shape=(2,), dtype="i1")[:] = 1
    with SqliteStore(tmp_path / "a.db") as below:
        assert list(below) == ["c/0", "zarr.json"]
