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
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.effort import effort
from tests.interop.corrupted import Corrupted
from tests.servers.valkey import ValkeyServer
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
    ValkeyStore,
    ZipStore,
)
from holdall.interop.zarr import ZarrStore
from holdall.testing import Corrupting

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


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


class TestValkey(Suite):
    @pytest.fixture
    def under(self, valkey: ValkeyServer, tmp_path: Path) -> Iterator[Store]:
        with ValkeyStore(valkey.url, prefix=f"{tmp_path}:") as store:
            yield store


class TestCorrupted(Corrupted, Suite):
    reading = frozenset(["test_get_many", "test_set_many"])
    # They compare two reads, which are damaged alike.
    test_get_partial_values = test_get_sync_byte_range_parity = None


@pytest.mark.parametrize("machine", [ZarrStoreStateMachine, ZarrHierarchyStateMachine])
@pytest.mark.parametrize("kind", [TestMemory, TestFiles, TestSqlite, TestZip, TestStack, TestValkey])
def test_state_machines(machine: Any, kind: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    number = itertools.count()
    url = request.getfixturevalue("valkey").url if kind is TestValkey else ""
    with contextlib.ExitStack() as stack:

        def begin() -> Any:
            place = tmp_path / f"{next(number)}"
            made = ValkeyStore(url, prefix=f"{place}:") if url else kind.make(place)
            return machine(ZarrStore(stack.enter_context(made)))

        run_state_machine_as_test(
            begin, settings=settings(max_examples=effort(50, 6), stateful_step_count=15, deadline=None)
        )


@pytest.mark.parametrize("machine", [ZarrStoreStateMachine, ZarrHierarchyStateMachine])
def test_state_machines_fail_over_a_store_that_corrupts_every_read(machine: Any) -> None:
    def begin() -> Any:
        return machine(ZarrStore(Corrupting(MemoryStore(), rate=1)))

    with pytest.raises(BaseException):  # noqa: B017, PT011 - which one depends on what is read first
        run_state_machine_as_test(
            begin,
            settings=settings(
                max_examples=50,
                stateful_step_count=15,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                print_blob=False,
            ),
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
    with pytest.raises(FileNotFoundError):
        zarr.core.sync.sync(store.getsize("x" * 2000))


def test_an_uri(tmp_path: Path) -> None:
    with ZarrStore(f"sqlite:///{tmp_path}/a.db") as store:
        zarr.create_array(store, shape=(2,), dtype="i1")[:] = 1
    with SqliteStore(tmp_path / "a.db") as below:
        assert list(below) == ["c/0", "zarr.json"]
