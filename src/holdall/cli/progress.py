"""A progress bar on standard error, for work that turns out to be long, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from threading import Lock, Timer
from time import monotonic
from typing import TYPE_CHECKING, Self

from holdall.cli.output import human

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE = 0.5
"""Seconds of work before there is a bar."""
_PAUSE = 0.1
"""Seconds between two updates of the bar."""


_visible: Meter | None = None
"""The meter whose bar is on the screen."""


def hide_bar() -> None:
    """Remove the bar that is on the screen, so that something else can be printed."""
    if _visible is not None:
        _visible.hide()


class Meter:
    """Counts bytes or blobs, and shows them once the work has lasted half a second.

    Args:
        label: What is being done.
        total: How much there is to do, where that is known.
        blobs: Whether it counts blobs; else bytes.
    """

    def __init__(self, label: str, total: int | None = None, *, blobs: bool = False) -> None:
        self._label = label
        self._total = total
        self._blobs = blobs
        self._done = 0
        self._size: int | None = None
        self._bar: tuple[Progress, TaskID] | None = None
        self._begun = self._since = monotonic()
        self._next = 0.0
        self._timer: Timer | None = None
        self._lock = Lock()
        self._seen = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def advance(self, amount: int = 1) -> None:
        """Count bytes or blobs as done."""
        self._done += amount
        if not self._seen:
            return
        with self._lock:
            if self._bar is None:
                if monotonic() - self._since < _PATIENCE:
                    return
                self._bar = self._begin_bar()
            if self._bar is not None:
                self._bar[0].update(
                    self._bar[1], completed=self._done, total=self._total, reached=self._format_progress()
                )

    def start_soon(self) -> None:
        """Show a bar even if nothing is counted yet; `progress` counts."""
        self._size = 0
        if self._seen:
            self._timer = Timer(_PATIENCE, self.advance, (0,))
            self._timer.daemon = True
            self._timer.start()

    @property
    def progress(self) -> Callable[[int, int, int, str], object] | None:
        """The `progress=` of a transfer: it takes the numbers of blobs done, of all blobs, and of bytes. None
        where nobody sees a bar."""
        return self._count if self._seen else None

    def _count(self, done: int, total: int, size: int, _key: str) -> None:
        self._done, self._total, self._size = done, total, size
        # A bar drawn for each of many small blobs would take longer than they do.
        if monotonic() >= self._next:
            self._next = monotonic() + _PAUSE
            self.advance(0)

    def _format_progress(self) -> str:
        if self._size is None:
            return ""
        if self._total is None:
            return "listing"
        rate = self._size / max(monotonic() - self._begun, 0.001)
        return f"{self._done:,}/{self._total:,} blobs  {human(self._size)}  {human(round(rate))}/s"

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the same pieces, and count their bytes."""
        for piece in pieces:
            yield piece
            self.advance(len(piece))

    def hide(self) -> None:
        """Remove the bar, so that something else can be printed; it returns after half a second of work."""
        global _visible
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._bar is not None:
                self._bar[0].stop()
                self._bar = _visible = None
            self._since = monotonic()

    def _begin_bar(self) -> tuple[Progress, TaskID] | None:
        try:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                ProgressColumn,
                TextColumn,
                TimeElapsedColumn,
                TransferSpeedColumn,
            )
        except ModuleNotFoundError:
            # Typer may be installed without rich; the work is done without a bar.
            self._seen = False
            return None
        columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
        if self._total is not None or self._size is not None:
            columns.append(BarColumn())
        if self._size is not None:
            columns.append(TextColumn("{task.fields[reached]}", markup=False))
        elif not self._blobs:
            columns += [DownloadColumn(), TransferSpeedColumn()]
        elif self._total is not None:
            columns.append(MofNCompleteColumn())
        else:
            columns.append(TextColumn("{task.completed:,.0f} blobs"))
        columns.append(TimeElapsedColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        task = progress.add_task(
            self._label, total=self._total, completed=self._done, reached=self._format_progress()
        )
        progress.start()
        global _visible
        _visible = self
        return progress, task
