"""What a handle remembers of its replicas: which missed a change of a key, and which failed to read it."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from holdall.forks import begin_anew
from holdall.store import ANY, Expect

_MAX_FAILURES = 1 << 12
"""Remember at most this many failures to read."""
_REMEMBERED = 10.0
"""Seconds for which a failure to read is remembered."""

Witnesses: TypeAlias = "Mapping[str, Expect | None]"
"""The replicas that took a change, with the ETags that it got there: None for a delete, `ANY` for whatever
they hold now."""


class Memory:
    """Which replicas, of those with these names, are behind, and which failed lately, by key.

    >>> memory = Memory(["a", "b"])
    >>> memory.note_change("k", {"a": "1"}, ["b"])
    >>> memory.current("k"), memory.report()
    (['a'], {'k': ['b']})
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._missed: dict[str, dict[str, Witnesses]] = {}
        # By key and replica, until when. Asked last, so that many reads of one blob, such as of its end and
        # then of its frames, find one version and not two in turn.
        self._failures: dict[tuple[str, str], float] = {}
        self._begin()
        begin_anew(self, Memory._begin)

    def _begin(self) -> None:
        self._mutex = threading.Lock()

    def missed(self, key: str) -> Mapping[str, Witnesses]:
        """Return the replicas that are behind, each with those that aren't."""
        return self._missed.get(key, {})

    def current(self, key: str) -> Sequence[str]:
        """Return the replicas that aren't known to be behind."""
        missed = self._missed.get(key)
        return self._names if missed is None else [name for name in self._names if name not in missed]

    def readers(self, key: str) -> Sequence[str]:
        """Return the same, in the order in which they are asked: those that failed lately are last."""
        names = self.current(key)
        if not self._failures:
            return names
        now = time.monotonic()
        return sorted(names, key=lambda name: now < self._failures.get((key, name), 0.0))

    def report(self) -> dict[str, list[str]]:
        """Return the keys that some replicas are behind at, with the names of these, in order."""
        with self._mutex:
            return {key: list(missed) for key, missed in sorted(self._missed.items())}

    def note_change(self, key: str, held: Mapping[str, str | None], failures: Collection[str]) -> None:
        """Note which took a change and which missed it; if none took it, nothing is known. What failed to be
        read is replaced."""
        self.forget_failures(key)
        if not failures and key not in self._missed:
            return
        missed: dict[str, Witnesses] = {name: {**held} for name in failures}
        with self._mutex:
            if not missed:
                self._missed.pop(key, None)
            elif held:
                self._missed[key] = missed

    def note_mended(self, key: str, name: str) -> None:
        """Note that a replica isn't behind any more."""
        with self._mutex:
            missed = {other: each for other, each in self._missed.get(key, {}).items() if other != name}
            if missed:
                self._missed[key] = missed
            else:
                self._missed.pop(key, None)

    def note_doubt(self, key: str) -> None:
        """Note a failed change: what the replicas hold is unknown, but one that was behind still is."""
        with self._mutex:
            if missed := self._missed.get(key):
                witnesses: Witnesses = dict.fromkeys(
                    (each for each in self._names if each not in missed), ANY
                )
                self._missed[key] = dict.fromkeys(missed, witnesses)

    def note_failure(self, key: str, name: str) -> None:
        """Note that a replica failed to read a blob."""
        if len(self._failures) >= _MAX_FAILURES:
            self._failures.clear()
        self._failures[key, name] = time.monotonic() + _REMEMBERED

    def forget_failures(self, key: str) -> None:
        """Ask all replicas of this key in order again."""
        if self._failures:
            for name in self._names:
                self._failures.pop((key, name), None)
