"""The base of a suite: its settings, and the fixtures of its tests."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest

from holdall.keys import MAX_KEY_BYTES
from holdall.store import Store
from holdall.stores import memory
from holdall.testing.helped import open_handle
from holdall.testing.keys import GOOD_KEYS

T = TypeVar("T")


class SuiteBase:
    """The settings of a suite, and the fixtures of its tests."""

    persistent: ClassVar[bool] = True
    """Whether another process sees the blobs."""

    kills: ClassVar[int] = 200
    """How many writing processes are killed, if the store is persistent and the environment variable
    `HOLDALL_KIT` is `full`, and 30 otherwise."""

    interrupts: ClassVar[int] = 500
    """How many times a writer is interrupted, as Ctrl-C does, if `HOLDALL_KIT` is `full`, and 60 times
    otherwise."""

    interruptible: ClassVar[bool] = True
    """Whether an interrupt may come at any moment of a call. If a driver below the store swallows interrupts,
    they come only where a body is read."""

    keeps_what_is_read: ClassVar[bool] = False
    """Whether a read may make files, as a cache does."""

    laws: ClassVar[int] = 80
    """How many sequences of steps the store and its model are driven through, if `HOLDALL_KIT` is `full`, and
    20 otherwise."""

    reduced: ClassVar[bool] = False
    """Whether the store keeps nothing of its own, such as a layer over stores that have their own suites: the
    tests of chance then try less, and others a fifth of their keys and prefixes, unless `HOLDALL_KIT` is
    `full`. If it is `quick`, every suite is reduced further."""

    respells: ClassVar[bool] = False
    """Whether a reduced store changes keys for the store below, so that all awkward keys are tried on it."""

    longest: ClassVar[int] = MAX_KEY_BYTES
    """The longest key in UTF-8 bytes: a layer that makes keys longer leaves less room."""

    expires: ClassVar[bool] = False
    """Whether a blob that is put without a ttl expires too, as its info then says."""

    same_infos: ClassVar[bool] = True
    """Whether the store and the one of `fill` return equal infos of a blob, with equal ETags and times. If
    not, the suite asks the store for the info of each blob after it was written."""

    def make(self, place: Path) -> Store:
        """Return a new handle on the store in this folder, which is at first empty and only for this test;
        every call with the same folder returns a handle on the same blobs."""
        raise NotImplementedError

    def fill(self, place: Path) -> Store:
        """Return another handle on the same blobs that can write, delete and list; by default one of `make`.

        A store that can't do one of the three is tested with the help of this handle: `store` and `other`
        make each call on the store under test if it can do it, otherwise here. What is put here is read
        there, and the suite checks that the store refuses each call that it can't do, with nothing changed.
        """
        return self.make(place)

    def _grade(self) -> str:
        grade = os.environ.get("HOLDALL_KIT")
        return grade if grade in ("full", "quick") else "reduced" if self.reduced else "usual"

    def _effort(self, full: int, reduced: int, quick: int, usual: int | None = None) -> int:
        """Return how often to try what is a matter of chance; `usual` is for a store that isn't reduced,
        unless `HOLDALL_KIT` is `full`, and by default the mean of `full` and `reduced`."""
        usual = (full + reduced) // 2 if usual is None else usual
        return min(full, {"full": full, "usual": usual, "reduced": reduced, "quick": quick}[self._grade()])

    def _choose(self, given: Sequence[T]) -> Sequence[T]:
        """Choose what to try: all, a fifth, or a tenth; which ones differs by the name of the suite."""
        step = {"reduced": 5, "quick": 10}.get(self._grade(), 1)
        return given[zlib.crc32(type(self).__name__.encode()) % step :: step]

    def _choose_keys(self) -> Sequence[str]:
        """Choose the awkward keys to try."""
        return GOOD_KEYS if self.respells else self._choose(GOOD_KEYS)

    def _handle(self, place: Path) -> Store:
        return open_handle(self.make, self.fill, place, self.same_infos)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Path]:
        """The folder for `make`."""
        place = tmp_path / "place"
        place.mkdir()
        named = set(memory.named)
        yield place
        # A named store in memory stays until its process ends.
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
