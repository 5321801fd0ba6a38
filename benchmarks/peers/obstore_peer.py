"""obstore: object storage, and a local and a memory store for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import obstore
from obstore.store import LocalStore, MemoryStore

from benchmarks.contenders import FILES, MEMORY, MIB, Contender, absent


class _Obstore(Contender):
    def make(self, folder: str) -> Any:
        raise NotImplementedError

    def __init__(self, folder: str) -> None:
        self.store = self.make(folder)
        self.miss = absent(FileNotFoundError, self.get)

    def put(self, key: str, data: bytes) -> None:
        obstore.put(self.store, key, data)

    def get(self, key: str) -> bytes:
        return obstore.get(self.store, key).bytes().to_bytes()

    def info(self, key: str) -> object:
        return obstore.head(self.store, key)

    def exists(self, key: str) -> bool:
        try:
            obstore.head(self.store, key)
        except FileNotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        obstore.delete(self.store, key)

    def keys(self, prefix: str) -> Iterator[str]:
        """It knows whole segments only: list the folder past the prefix, and stop where it ends."""
        folder, _, _ = prefix.rpartition("/")
        if prefix.endswith("/") or not prefix:
            for batch in obstore.list(self.store, folder or None, chunk_size=1000):
                for meta in batch:
                    yield meta["path"]
            return
        for batch in obstore.list(self.store, folder or None, offset=prefix[:-1], chunk_size=1000):
            for meta in batch:
                if meta["path"].startswith(prefix):
                    yield meta["path"]

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        with obstore.open_writer(self.store, key) as writer:
            for piece in pieces:
                writer.write(piece)

    def read(self, key: str) -> Iterator[Any]:
        return iter(obstore.get(self.store, key).stream(min_chunk_size=MIB))


class ObstoreLocal(_Obstore):
    name, medium, promise = "obstore LocalStore", FILES, "WL"
    note = "no compare-and-swap on files"
    plain = True

    def make(self, folder: str) -> Any:
        os.makedirs(folder, exist_ok=True)
        return LocalStore(folder)


class ObstoreMemory(_Obstore):
    name, medium, promise = "obstore MemoryStore", MEMORY, "WS"

    def make(self, folder: str) -> Any:
        return MemoryStore()


CONTENDERS: list[type[Contender]] = [ObstoreLocal, ObstoreMemory]
