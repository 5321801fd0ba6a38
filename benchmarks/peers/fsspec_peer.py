"""fsspec: file systems behind one face."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

import fsspec

from benchmarks.contenders import FILES, MEMORY, Contender, absent, file_chunks


class _Fsspec(Contender):
    scheme: ClassVar[str]

    def __init__(self, folder: str) -> None:
        self.fs = fsspec.filesystem(self.scheme)
        self.base = folder + "/"
        self.fs.makedirs(folder, exist_ok=True)
        self.miss = absent(FileNotFoundError, self.get)

    def put(self, key: str, data: bytes) -> None:
        self.fs.pipe_file(self.base + key, data)

    def get(self, key: str) -> bytes:
        return self.fs.cat_file(self.base + key)

    def exists(self, key: str) -> bool:
        return self.fs.exists(self.base + key)

    def info(self, key: str) -> object:
        return self.fs.info(self.base + key)

    def delete(self, key: str) -> None:
        self.fs.rm_file(self.base + key)

    def keys(self, prefix: str) -> Iterator[str]:
        start = self.base + prefix
        return (path for path in self.fs.find(os.path.dirname(start)) if path.startswith(start))

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        with self.fs.open(self.base + key, "wb") as file:
            for piece in pieces:
                file.write(piece)

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(self.fs.open(self.base + key, "rb"))


class FsspecFile(_Fsspec):
    name, medium, promise, scheme = "fsspec file", FILES, "L", "file"
    note = "writes in place"
    plain = True


class FsspecMemory(_Fsspec):
    name, medium, promise, scheme = "fsspec memory", MEMORY, "W", "memory"
    note = "no compare-and-swap; a missing key scans all of them"
    limit = 500


CONTENDERS: list[type[Contender]] = [FsspecFile, FsspecMemory]
