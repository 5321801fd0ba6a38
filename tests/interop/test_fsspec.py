"""fsspec's own tests of file systems, over our stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.tests import abstract
from tests.interop.corrupted import Corrupted

from holdall import FilesystemStore, MemoryStore, SqliteStore, Store, ZipStore
from holdall.interop.fsspec import HoldallFileSystem

_Fixtures: Any = abstract.AbstractFixtures


class Fixtures(_Fixtures):
    make: Callable[[Path], Store]

    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[HoldallFileSystem]:
        with type(self).make(tmp_path / "store") as store:
            yield HoldallFileSystem(store)

    @pytest.fixture
    def fs_path(self) -> str:
        return "base"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(part for part in parts if part)


class Suite(
    Fixtures,
    abstract.AbstractCopyTests,
    abstract.AbstractGetTests,
    abstract.AbstractPutTests,
    abstract.AbstractOpenTests,
    abstract.AbstractPipeTests,
):
    pass


class TestFiles(Suite):
    make = FilesystemStore


class WithoutGlobs(Suite):
    """What a pattern matches is found above the store, in the listings of which the other tests make use."""

    test_copy_glob_edge_cases = test_get_glob_edge_cases = test_put_glob_edge_cases = None


class TestMemory(WithoutGlobs):
    make = staticmethod(lambda place: MemoryStore())


class TestAtTheRoot(TestMemory):
    """Names without a slash: fsspec takes what is before the last one for the folder."""

    @pytest.fixture
    def fs_path(self) -> str:
        return ""


class TestSqlite(WithoutGlobs):
    make = SqliteStore


class TestZip(WithoutGlobs):
    make = ZipStore


class TestCorrupted(Corrupted, WithoutGlobs):
    """Most of the suite looks at names only; the tests of tools look at bytes."""

    reading = frozenset(
        [
            "test_open_exclusive",
            "test_pipe_exclusive",
            "test_get_with_source_and_destination_as_list",
            "test_copy_with_source_and_destination_as_list",
        ]
    )
