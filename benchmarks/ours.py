"""The stores of holdall."""

from __future__ import annotations

from typing import ClassVar

import holdall
from benchmarks.contenders import FILES, HOLDALL, MEMORY, SQLITE, ZIP, Contender


class _Ours(Contender):
    kind = HOLDALL
    durable: ClassVar[bool] = False

    def make(self, folder: str) -> holdall.Store:
        raise NotImplementedError

    def __init__(self, folder: str) -> None:
        store = self.store = self.make(folder)
        self.put = self.overwrite = store.put
        self.get = self.miss = store.get
        self.exists = store.exists
        self.info = store.info
        self.delete = store.delete
        self.put_many = store.put_many
        self.get_many = store.get_many
        self.keys = store.iterate_keys
        self.write = store.put
        self.read = store.chunks

    def close(self) -> None:
        self.store.close()


class Memory(_Ours):
    name, medium, promise = "holdall MemoryStore", MEMORY, "WS"

    def make(self, folder: str) -> holdall.Store:
        return holdall.MemoryStore()


class Filesystem(_Ours):
    name, medium, promise = "holdall FilesystemStore", FILES, "WLS"
    plain = True

    def make(self, folder: str) -> holdall.Store:
        return holdall.FilesystemStore(folder, durable=self.durable)


class Hashdir(_Ours):
    name, medium, promise = "holdall HashdirStore", FILES, "WLS"

    def make(self, folder: str) -> holdall.Store:
        return holdall.HashdirStore(folder, durable=self.durable)


class Sqlite(_Ours):
    name, medium, promise = "holdall SqliteStore", SQLITE, "WLS"

    def make(self, folder: str) -> holdall.Store:
        return holdall.SqliteStore(f"{folder}/blobs.db", durable=self.durable)


class Zip(_Ours):
    name, medium, promise = "holdall ZipStore", ZIP, "WLS"

    def make(self, folder: str) -> holdall.Store:
        return holdall.ZipStore(f"{folder}/blobs.zip", durable=self.durable)


class DurableFilesystem(Filesystem):
    durable = True


class DurableSqlite(Sqlite):
    durable = True


CONTENDERS: list[type[Contender]] = [Memory, Filesystem, Hashdir, Sqlite, Zip]
