"""One body that several stores read at the same time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

from holdall.store import Piece

__all__ = ["Tee"]

_AHEAD = 2
"""How many pieces the fastest reader is ahead of the slowest, at most."""


class Tee:
    """Hands each piece to all readers, and lets none of them see the end before it is told.

    A store publishes a blob once it has seen the end of its body. So the writer feeds all pieces, then opens
    the end for one reader after another, in the order in which the blob is to appear; or it fails them, and
    nothing appears.

    Args:
        readers: Their names.
        timeout: Seconds that a reader may take over a piece before it is given up; None waits.

    >>> tee = Tee(["a"])
    >>> tee.feed(b"1"), tee.open("a"), list(tee.reader("a"))
    (True, None, [b'1'])
    """

    def __init__(self, readers: Iterable[str], timeout: float | None = None) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[Piece] = deque()
        self._dropped = 0
        self._positions = dict.fromkeys(readers, 0)
        self._open: set[str] = set()
        self._errors: dict[str, BaseException] = {}
        self._timeout = timeout

    def reader(self, name: str) -> Iterator[Piece]:
        """The body, as this reader sees it."""
        position = 0
        while True:
            with self._changed:
                if name in self._positions:
                    self._positions[name] = position
                    self._trim()
                while name not in self._errors and position >= self._dropped + len(self._pieces):
                    if name in self._open:
                        return
                    self._changed.wait()
                if name in self._errors:
                    raise self._errors[name]
                piece = self._pieces[position - self._dropped]
            yield piece
            del piece
            position += 1

    def feed(self, piece: Piece) -> bool:
        """Hand on a piece, once there is room; False when nobody reads any more."""
        with self._changed:
            began, before = time.monotonic(), dict(self._positions)
            while self._positions and len(self._pieces) >= _AHEAD:
                if self._timeout is None:
                    self._changed.wait()
                    continue
                self._changed.wait(max(0.0, began + self._timeout - time.monotonic()))
                if time.monotonic() >= began + self._timeout:
                    for name, position in before.items():
                        if self._positions.get(name) == position == self._dropped:
                            self._give_up(name, TimeoutError(f"no progress within {self._timeout:g} s"))
                    began, before = time.monotonic(), dict(self._positions)
            if not self._positions:
                return False
            self._pieces.append(piece)
            self._changed.notify_all()
            return True

    def open(self, *readers: str) -> None:
        """Let these see the end."""
        with self._changed:
            self._open.update(readers)
            self._changed.notify_all()

    def fail(self, error: BaseException, *readers: str) -> None:
        """Raise this where these read on."""
        with self._changed:
            for name in readers:
                self._give_up(name, error)

    def gone(self, reader: str) -> None:
        """This one reads no more."""
        with self._changed:
            self._positions.pop(reader, None)
            self._trim()

    def error(self, reader: str) -> BaseException | None:
        """Why this one was given up, if it was."""
        with self._changed:
            return self._errors.get(reader)

    def _give_up(self, reader: str, error: BaseException) -> None:
        self._errors.setdefault(reader, error)
        self._positions.pop(reader, None)
        self._trim()

    def _trim(self) -> None:
        low = min(self._positions.values(), default=self._dropped + len(self._pieces))
        while self._dropped < low:
            self._pieces.popleft()
            self._dropped += 1
        self._changed.notify_all()
