"""A catalogue's rows in SQLite."""

from __future__ import annotations

from pathlib import Path

from holdall.catalog.backend import MetadataBackend
from holdall.catalog.sqlite import SqliteBackend
from holdall.testing import BackendSuite


class TestSqlite(BackendSuite):
    def make(self, place: Path) -> MetadataBackend:
        return SqliteBackend(place / "cache_metadata.db")
