"""zict: mutable mappings made of mappings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import zict

from benchmarks.contenders import FILES, MEMORY, Contender


class _Zict(Contender):
    whole = True
    lacks: ClassVar[dict[str, str]] = {"info": "a mapping of values only"}

    def make(self, folder: str) -> Any:
        raise NotImplementedError

    def __init__(self, folder: str) -> None:
        mapping = self.mapping = self.make(folder)
        self.put = mapping.__setitem__
        self.get = mapping.__getitem__
        self.miss = mapping.get
        self.exists = mapping.__contains__
        self.delete = mapping.__delitem__

    def put_many(self, items: dict[str, bytes]) -> None:
        self.mapping.update(items)

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key in self.mapping if key.startswith(prefix))

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        self.mapping[key] = list(pieces)

    def read(self, key: str) -> Iterator[Any]:
        return iter((self.mapping[key],))

    def close(self) -> None:
        self.mapping.close()


class ZictFile(_Zict):
    name, medium, promise = "zict File", FILES, ""
    note = "written in place after the old value is dropped; its keys are a dict of one process"

    def make(self, folder: str) -> Any:
        return zict.File(folder)


class ZictLru(_Zict):
    name, medium, promise = "zict LRU", MEMORY, "W"
    note = "keeps the caller's object; no compare-and-swap"

    def make(self, folder: str) -> Any:
        return zict.LRU(1 << 40, {})


CONTENDERS: list[type[Contender]] = [ZictFile, ZictLru]
