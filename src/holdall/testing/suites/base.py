"""What every test of a suite is given: the store under test, and how hard to try."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from holdall.keys import MAX_KEY_BYTES
from holdall.store import Store
from holdall.stores import memory
from holdall.testing.helped import open_handle


class SuiteBase:
    """The store under test, and how hard it is tested."""

    persistent: ClassVar[bool] = True
    """Whether another process sees the blobs."""

    kills: ClassVar[int] = 200
    """How many writing processes are killed, of a store that is persistent."""

    interrupts: ClassVar[int] = 500
    """How many times a writer is interrupted, as Ctrl-C does it."""

    interruptible: ClassVar[bool] = True
    """Whether an interrupt may come at any moment of a call. Where it may not, since a driver of others below
    the store swallows it, it comes where a body is read."""

    keeps_what_is_read: ClassVar[bool] = False
    """Whether a read may make files, as a cache does."""

    laws: ClassVar[int] = 80
    """How many sequences of steps the store and its model are driven through."""

    reduced: ClassVar[bool] = False
    """Whether the store keeps nothing of its own, as a layer over stores that have suites of their own: tests
    of chance try less then, and a fifth of the awkward keys, unless the environment variable `HOLDALL_KIT` is
    `full`. Where it is `quick`, every suite is reduced further."""

    respells: ClassVar[bool] = False
    """Whether a reduced store spells keys in its own way below, so that all awkward keys are tried on it."""

    longest: ClassVar[int] = MAX_KEY_BYTES
    """The longest key in UTF-8 bytes: a layer that makes keys longer below leaves less room."""

    expires: ClassVar[bool] = False
    """Whether a blob that is put without a ttl expires all the same, which its info then tells."""

    same_infos: ClassVar[bool] = True
    """Whether the store tells of a blob what `fill` tells of it, its ETag and times too. Of a store that
    can't write and has ETags of its own, each blob is asked for there once it is written."""

    def make(self, place: Path) -> Store:
        """Return a new handle on the store in this folder, which is empty at first and only for this test;
        every call with the same folder returns a handle on the same blobs."""
        raise NotImplementedError

    def fill(self, place: Path) -> Store:
        """Another handle on the same blobs that can write, delete and list; by default one that `make` gives.

        A store that can't do one of the three is tested with its help: `store` and `other` are then the
        store under test for every call that it can do, and this handle for the rest. What is put here is
        read there, and each call that the store lacks is tested to be refused, with nothing changed.
        """
        return self.make(place)

    def _grade(self) -> str:
        grade = os.environ.get("HOLDALL_KIT")
        return grade if grade in ("full", "quick") else "reduced" if self.reduced else "full"

    def _effort(self, full: int, reduced: int, quick: int) -> int:
        """How often to try what is a matter of chance."""
        return min(full, {"full": full, "reduced": reduced, "quick": quick}[self._grade()])

    def _choose(self, keys: Sequence[str]) -> Sequence[str]:
        """Choose the keys to try: all, or a fifth, which differs by the name of the suite."""
        if self.respells or self._grade() == "full":
            return keys
        return keys[zlib.crc32(type(self).__name__.encode()) % 5 :: 5]

    def _handle(self, place: Path) -> Store:
        return open_handle(self.make, self.fill, place, self.same_infos)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Path]:
        """The folder that `make` is given."""
        place = tmp_path / "place"
        place.mkdir()
        named = set(memory.named)
        yield place
        # A store in memory that has a name stays as long as its process.
        for name in set(memory.named) - named:
            del memory.named[name]

    @pytest.fixture
    def store(self, place: Path) -> Iterator[Store]:
        """A handle on an empty store, helped by `fill` where it can't write, delete or list."""
        with contextlib.closing(self._handle(place)) as store:
            yield store

    @pytest.fixture
    def other(self, place: Path, store: Store) -> Iterator[Store]:
        """A second handle on the same store."""
        with contextlib.closing(self._handle(place)) as other:
            yield other
