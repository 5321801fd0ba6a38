"""opendal: many services behind one operator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import opendal
from opendal.exceptions import NotFound

from benchmarks.contenders import FILES, MEMORY, Contender, absent, file_chunks


class _Opendal(Contender):
    limit = 1000

    def make(self, folder: str) -> Any:
        raise NotImplementedError

    def __init__(self, folder: str) -> None:
        operator = self.operator = self.make(folder)
        self.put = operator.write
        self.get = operator.read
        self.miss = absent(NotFound, operator.read)
        self.exists = operator.exists
        self.info = operator.stat
        self.delete = operator.delete

    def keys(self, prefix: str) -> Iterator[str]:
        for entry in self.operator.list(prefix, recursive=True):
            if not entry.path.endswith("/"):
                yield entry.path

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        with self.operator.open(key, "wb") as file:
            for piece in pieces:
                file.write(piece)

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(self.operator.open(key, "rb"))


class OpendalFs(_Opendal):
    name, medium, promise = "opendal fs", FILES, "WL"
    note = "with `atomic_write_dir`; no compare-and-swap"
    plain = True

    def make(self, folder: str) -> Any:
        os.makedirs(folder, exist_ok=True)
        return opendal.Operator("fs", root=folder, atomic_write_dir=folder + ".new")


class OpendalMemory(_Opendal):
    name, medium, promise = "opendal memory", MEMORY, "W"
    note = "no compare-and-swap"

    def make(self, folder: str) -> Any:
        return opendal.Operator("memory")


CONTENDERS: list[type[Contender]] = [OpendalFs, OpendalMemory]
