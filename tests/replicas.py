"""Replicas with faults, for the tests of the fan-out."""

import threading
from collections.abc import Iterable, Iterator

import pytest

from holdall import (
    MemoryStore,
    Store,
    StoreUnavailableError,
)
from holdall.layers.fanout import FanoutStore
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Expect, Info, Piece

MIB = 1 << 20


class Faulty(Transparent):
    """A replica that does something bad in the primitives named in `bad`."""

    def __init__(self, store: Store | None = None, *bad: str, error: Exception | None = None) -> None:
        super().__init__(MemoryStore() if store is None else store)
        self.bad = set(bad)
        self.error = error or StoreUnavailableError("the disk is gone")

    def _settings(self) -> dict[str, object]:
        return {"store": self._store}

    def act(self, call: str) -> None:
        if call in self.bad:
            raise self.error

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self.act("read")
        info, pieces = super()._read(key, start, stop)
        return info, self._halfway(pieces)

    def _halfway(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for number, piece in enumerate(pieces):
            if number:
                self.act("half read")
            yield piece
        self.act("end of read")

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self.act("write")

        def halfway() -> Iterator[Piece]:
            for piece in body:
                yield piece
                self.act("half write")

        info = super()._write(key, halfway(), expect, attributes)
        self.act("after write")
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        self.act("delete")
        return super()._delete(key, expect)

    def _info(self, key: str) -> Info:
        self.act("info")
        return super()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        self.act("scan")
        for number, info in enumerate(super()._scan(prefix, after)):
            if number:
                self.act("half scan")
            yield info


ALL = ("read", "write", "delete", "info", "scan")


class Hanging(Faulty):
    """A replica whose bad primitives hang until they are let go."""

    def __init__(self, store: Store | None = None, *bad: str) -> None:
        super().__init__(store, *bad)
        self.inline = self._near = False
        self.let_go = threading.Event()

    def act(self, call: str) -> None:
        if call in self.bad:
            assert self.let_go.wait(60)


def threaded(*stores: Store) -> list[Store]:
    """The same stores, which the layer calls in threads."""
    for store in stores:
        store.inline = store._near = False
    return list(stores)


def same(store: FanoutStore) -> bool:
    return not list(store.verify())


def apart(store: FanoutStore) -> FanoutStore:
    """The same layer, which calls all its replicas in threads."""
    store._replicas.near = False
    return store


WAYS = pytest.mark.parametrize("inline", [True, False], ids=["inline", "threads"])
