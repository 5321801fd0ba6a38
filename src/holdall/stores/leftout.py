"""Warnings of what listings leave out: a backup should not lack it in silence."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

from holdall.blob import LeftOut

T = TypeVar("T")

_log = logging.getLogger("holdall")


class LeftOutCounts:
    """How many of each kind the listings of a store left out.

    Args:
        place: What the warnings call the store.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._warned: Counter[str] = Counter()

    def pass_on(self, entries: Iterator[T | LeftOut]) -> Iterator[T]:
        """Yield the entries that aren't left out; warn of those that are."""
        left: Counter[str] = Counter()
        try:
            for entry in entries:
                if isinstance(entry, LeftOut):
                    left[entry.kind] += 1
                else:
                    yield entry
        finally:
            self.warn(left)

    def warn(self, left: Counter[str]) -> None:
        """Warn of what a listing left out, once for each kind unless there are more by now."""
        for kind, number in left.items():
            if number > self._warned[kind]:
                self._warned[kind] = number
                _log.warning(
                    "%r: left out %d of kind %r, which can't be blobs; store.left_out() lists them",
                    self._place,
                    number,
                    kind,
                )
