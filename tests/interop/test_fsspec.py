"""fsspec's own tests of file systems, over our stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.tests import abstract

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


class TestMemory(Suite):
    make = staticmethod(lambda place: MemoryStore())


class TestSqlite(Suite):
    make = SqliteStore


class TestZip(Suite):
    make = ZipStore
