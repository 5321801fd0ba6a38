"""A progress bar on standard error, for work that turns out to be long, if a terminal is there to see it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Meter"]

_PATIENCE = 0.5
"""Seconds of work before there is a bar."""


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
        self._bar: tuple[Progress, TaskID] | None = None
        self._since = monotonic()
        self._seen = sys.stderr is not None and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def advance(self, amount: int = 1) -> None:
        """So much more is done."""
        self._done += amount
        if not self._seen:
            return
        if self._bar is None:
            if monotonic() - self._since < _PATIENCE:
                return
            self._bar = self._shown()
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=self._done)

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces, counted as they pass."""
        for piece in pieces:
            yield piece
            self.advance(len(piece))

    def hide(self) -> None:
        """Take the bar away, so that something else can be printed; it comes back after another while."""
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None
        self._since = monotonic()

    def _shown(self) -> tuple[Progress, TaskID] | None:
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
            # Typer comes without rich too; the work is done all the same.
            self._seen = False
            return None
        columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
        if self._total is not None:
            columns.append(BarColumn())
        if not self._blobs:
            columns += [DownloadColumn(), TransferSpeedColumn()]
        elif self._total is not None:
            columns.append(MofNCompleteColumn())
        else:
            columns.append(TextColumn("{task.completed:,.0f} blobs"))
        columns.append(TimeElapsedColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        task = progress.add_task(self._label, total=self._total, completed=self._done)
        progress.start()
        return progress, task
