"""One body that several stores read at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import TypeAlias

from holdall.store import Piece

_AHEAD = 2
"""The most pieces that may wait for a reader."""

_Message: TypeAlias = "Piece | None"
"""A piece; None for the end, or where there is no more because of an error."""


class Tee:
    """Hands each piece to all readers, and hides the end from each until `open` is called for it.

    A store publishes a blob once it has seen the end of its body. So the writer feeds all pieces, then opens
    the end for one reader after another, in the order in which the blob is to appear; or it fails them, and
    nothing appears. A reader that takes longer over a piece than `timeout` seconds is given up.

    >>> tee = Tee(["a"])
    >>> tee.feed(b"1"), tee.open("a"), list(tee.reader("a"))
    (True, None, [b'1'])
    """

    # Queues only, and no lock or condition: an interrupt of the writer can leave none of them held.

    def __init__(self, readers: Iterable[str], timeout: float | None = None) -> None:
        self._inboxes: dict[str, SimpleQueue[_Message]] = {name: SimpleQueue() for name in readers}
        self._reports: SimpleQueue[tuple[str, bool]] = SimpleQueue()
        """A reader that is done with a piece, and whether it is done with reading."""
        self._ahead = dict.fromkeys(self._inboxes, 0)
        """The number of pieces that wait for each active reader, as far as the writer knows."""
        self._errors: dict[str, BaseException] = {}
        self._timeout = timeout

    def reader(self, name: str) -> Iterator[Piece]:
        """Yield the body, as this reader sees it."""
        inbox = self._inboxes[name]
        while True:
            piece = inbox.get()
            # Also where the end was opened before: a late publication could replace what others have put.
            if name in self._errors:
                raise self._errors[name]
            if piece is None:
                return
            yield piece
            del piece
            self._reports.put((name, False))

    def feed(self, piece: Piece) -> bool:
        """Hand on a piece, once there is room; return False when no reader is left."""
        while not self._reports.empty():
            self._heard(*self._reports.get())
        began, moved = time.monotonic(), set[str]()
        while slow := [name for name, count in self._ahead.items() if count >= _AHEAD]:
            left = None if self._timeout is None else max(0.0, began + self._timeout - time.monotonic())
            try:
                name, done = self._reports.get(timeout=left)
            except Empty:
                for name in slow:
                    if name not in moved:
                        self.fail(TimeoutError(f"no progress within {self._timeout:g} s"), name)
                began = time.monotonic()
                moved.clear()
                continue
            moved.add(name)
            self._heard(name, done)
        for name in self._ahead:
            self._ahead[name] += 1
            self._inboxes[name].put(piece)
        return bool(self._ahead)

    def _heard(self, name: str, done: bool) -> None:
        if done:
            self._ahead.pop(name, None)
        elif name in self._ahead:
            self._ahead[name] -= 1

    def open(self, *readers: str) -> None:
        """Let these readers see the end."""
        for name in readers:
            self._inboxes[name].put(None)

    def fail(self, error: BaseException, *readers: str) -> None:
        """Raise an error in these readers at their next read."""
        for name in readers:
            self._errors.setdefault(name, error)
            self._inboxes[name].put(None)
            self._ahead.pop(name, None)

    def gone(self, reader: str) -> None:
        """Note that a reader has stopped; it calls this itself."""
        self._reports.put((reader, True))

    def error(self, reader: str) -> BaseException | None:
        """Return why this reader was given up, if it was."""
        return self._errors.get(reader)
