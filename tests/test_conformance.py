"""Every store passes the whole kit."""

from pathlib import Path

from holdall import Can, FilesystemStore, HashdirStore, MemoryStore, SqliteStore, Store, ZipStore
from holdall.testing import Counting, Limited, StoreSuite


class TestMemoryStore(StoreSuite):
    persistent = False

    def make(self, place: Path) -> Store:
        return MemoryStore(name=str(place))


class TestFilesystemStore(StoreSuite):
    def make(self, place: Path) -> Store:
        return FilesystemStore(place)


class TestHashdirStore(StoreSuite):
    def make(self, place: Path) -> Store:
        return HashdirStore(place)


class TestSqliteStore(StoreSuite):
    def make(self, place: Path) -> Store:
        return SqliteStore(place / "blobs.sqlite")


class TestZipStore(StoreSuite):
    def make(self, place: Path) -> Store:
        return ZipStore(place / "blobs.zip")


class TestCountingLayer(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return Counting(MemoryStore(name=str(place)))


class TestTheLeastAStoreCanDo(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return Limited(MemoryStore(name=str(place)), Can.WRITE | Can.DELETE | Can.LIST)


class TestAStoreThatSwapsButDeletesWhateverIsThere(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return Limited(MemoryStore(name=str(place)), ~Can.CONDITIONAL_DELETE)
