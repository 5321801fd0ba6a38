"""diskcache: SQLite, and files beside it for values above 32 KiB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from diskcache import Cache

from benchmarks.contenders import SQLITE, Contender, Pieces, file_chunks


class Diskcache(Contender):
    name, medium, promise = "diskcache", SQLITE, "WL"
    note = "no ETag, compare-and-swap only inside `transact()`; keys are listed unsorted, a prefix by a scan"
    lacks: ClassVar[dict[str, str]] = {"info": "it tells neither size nor time without the value"}

    def __init__(self, folder: str) -> None:
        cache = self.cache = Cache(folder, eviction_policy="none", cull_limit=0, size_limit=1 << 50)
        self.put = cache.set
        self.get = self.miss = cache.get
        self.exists = cache.__contains__
        self.delete = cache.delete

    def put_many(self, items: dict[str, bytes]) -> None:
        with self.cache.transact():
            for key, data in items.items():
                self.cache.set(key, data)

    def get_many(self, keys: list[str]) -> dict[str, bytes]:
        with self.cache.transact():
            return {key: self.cache.get(key) for key in keys}

    def keys(self, prefix: str) -> Iterator[str]:
        for key in self.cache.iterkeys():
            if key.startswith(prefix):
                yield key

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        self.cache.set(key, Pieces(pieces), read=True)

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(self.cache.get(key, read=True))

    def close(self) -> None:
        self.cache.close()


CONTENDERS: list[type[Contender]] = [Diskcache]
