"""anystore: stores over fsspec, and over SQL by SQLAlchemy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import ClassVar

from anystore import get_store

from benchmarks.contenders import FILES, MEMORY, SQLITE, Contender, file_chunks


class _Anystore(Contender):
    limit = 500

    def uri(self, folder: str) -> str:
        raise NotImplementedError

    def __init__(self, folder: str) -> None:
        logging.disable(logging.INFO)
        store = self.store = get_store(self.uri(folder), serialization_mode="raw", raise_on_nonexist=False)
        self.put = store.put
        self.get = self.miss = store.get
        self.exists = store.exists
        self.info = store.info
        self.delete = store.delete

    def keys(self, prefix: str) -> Iterator[str]:
        """Its prefix is a folder."""
        if not prefix or prefix.endswith("/"):
            return self.store.iterate_keys(prefix=prefix.rstrip("/") or None)
        return (key for key in self.store.iterate_keys() if key.startswith(prefix))

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        with self.store.open(key, "wb") as file:
            for piece in pieces:
                file.write(piece)

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(self.store.open(key, "rb"))


class AnystoreFiles(_Anystore):
    name, medium, promise = "anystore files", FILES, "L"
    note = "writes in place"
    plain = True

    def uri(self, folder: str) -> str:
        return folder


class AnystoreSql(_Anystore):
    name, medium, promise = "anystore SQLite", SQLITE, "WL"
    note = "no compare-and-swap; SQLite's default journal"
    limit = 100
    whole = True
    lacks: ClassVar[dict[str, str]] = {"keys": "as slow to fill as it is to put to"}
    keys = None  # type: ignore[assignment]

    def uri(self, folder: str) -> str:
        import os

        os.makedirs(folder, exist_ok=True)
        return f"sqlite:///{folder}/any.db"


class AnystoreMemory(_Anystore):
    name, medium, promise = "anystore memory", MEMORY, "W"
    note = "no compare-and-swap; a missing key scans all of them"

    def uri(self, folder: str) -> str:
        return f"memory://{folder}"


CONTENDERS: list[type[Contender]] = [AnystoreFiles, AnystoreSql, AnystoreMemory]
