"""minimalkv: key-value stores, once simplekv."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

from minimalkv.fs import FilesystemStore
from minimalkv.memory import DictStore

from benchmarks.contenders import FILES, MEMORY, Contender, Pieces, absent, file_chunks


class _Minimalkv(Contender):
    nested = False
    lacks: ClassVar[dict[str, str]] = {"info": "it knows keys and values only"}

    def make(self, folder: str) -> Any:
        raise NotImplementedError

    def __init__(self, folder: str) -> None:
        store = self.store = self.make(folder)
        self.put = store.put
        self.get = store.get
        self.miss = absent(KeyError, store.get)
        self.exists = store.__contains__
        self.delete = store.delete
        self.keys = store.iter_keys

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        self.store.put_file(key, Pieces(pieces))

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(self.store.open(key))


class MinimalkvFiles(_Minimalkv):
    name, medium, promise = "minimalkv FilesystemStore", FILES, "L"
    note = "writes in place; a key has no `/`"
    plain = True

    def make(self, folder: str) -> Any:
        os.makedirs(folder, exist_ok=True)
        return FilesystemStore(folder)


class MinimalkvDict(_Minimalkv):
    name, medium, promise = "minimalkv DictStore", MEMORY, "W"
    note = "no compare-and-swap"

    def make(self, folder: str) -> Any:
        return DictStore()


CONTENDERS: list[type[Contender]] = [MinimalkvFiles, MinimalkvDict]
