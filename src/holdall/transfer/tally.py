"""The outcomes of the steps of a transfer: counted, recorded and reported."""

from __future__ import annotations

import logging
import time
from typing import cast

from holdall.errors import StoreError
from holdall.transfer.journal import DONE, FAILED, RETRY, Journal
from holdall.transfer.options import Progress
from holdall.transfer.report import Report
from holdall.transfer.step import COPIES, Kind, Outcome, Status, Step

_log = logging.getLogger("holdall.transfer")

_SECONDS = 0.25


class Tally:
    """The progress of a transfer; in a move, copies are deleted from the source afterwards."""

    def __init__(self, journal: Journal, progress: Progress | None, *, move: bool) -> None:
        self.report = Report()
        self.done = self.total = 0
        self.retrying = False
        """Whether these steps were tried before; then a temporary journal records their states, too."""
        self._move = move
        self._journal = journal
        self._progress = progress
        self._finishing = False
        self._states: list[tuple[int, int]] = []
        self._pairs: list[tuple[str, str, str]] = []
        self._gone: list[tuple[str]] = []
        self._proven: list[tuple[str, str, int]] = []
        self._failed = False
        self._expect(0)

    def resume(self) -> None:
        """Resume a run that was stopped."""
        self._finishing = True
        done, pending = self._journal.counts(DONE), self._journal.counts()
        # In a move, what was copied and is still to be deleted from the source counts as done.
        self.report.resumed = self.done = sum(count for count, _ in done.values()) + pending[Kind.GIVE_UP][0]
        self._expect(sum(pending[kind][0] for kind in COPIES))

    def finish(self) -> int:
        """End a resumed run; return how many blobs it found or made equal."""
        self._finishing = self._failed = False
        counts = self._journal.counts(DONE)
        return counts[Kind.COPY][0] + counts[Kind.COMPARE][0]

    def start(self, equal: int = 0, conflicts: int = 0) -> None:
        """Begin with a new plan, without the steps that can't be done."""
        self.report.skipped += max(0, equal)
        counts = self._journal.counts()
        self._expect(conflicts + sum(count for count, _ in counts.values()))
        for kind, (count, paths) in self._journal.left_out(True).items():
            self.report.left_out[kind] = count
            self.report.left_out_paths[kind] = paths

    def _expect(self, pending: int) -> None:
        self.total = self.done + pending
        # After a kill, a batch whose marks weren't written is done again: if a journal outlives this run,
        # batches are small parts of the whole.
        self._batch = max(4 if self._journal.kept else 64, min(256, self.total // 500))
        self._often = 2 * self._batch
        self.batch = self._batch
        """How many steps may be done together."""
        self._written = time.monotonic()

    @property
    def failed(self) -> bool:
        """Whether something failed; then nothing more is deleted."""
        return self._failed

    def take(self, outcomes: list[Outcome]) -> None:
        """Count, record and report the outcomes of some steps."""
        report, kept, progress = self.report, self._journal.kept, self._progress
        reached: list[tuple[int, int, int, str]] = []
        for step, status, size, source_etag, target_etag, error, left_out in outcomes:
            state = DONE
            if status == Status.AGAIN:
                self._states.append((RETRY, step.number))
                continue
            if status == Status.WITHHELD:
                report.withheld += 1
                continue
            if status == Status.COPIED:
                report.copied += 1
                report.bytes += size
            elif status == Status.SKIPPED:
                report.skipped += 1
            elif status == Status.DELETED:
                report.deleted += 1
            elif left_out is not None:
                report.merge(Report(left_out={left_out: 1}, left_out_paths={left_out: [step.key]}))
            elif status == Status.CHECKED:
                report.checked += 1
                report.bytes += size
            else:
                assert error is not None
                self._fail(step, error)
                if self._finishing:
                    continue
                state = FAILED
            proven = source_etag is not None and target_etag is not None
            if self._move and proven:
                self._proven.append((cast(str, source_etag), cast(str, target_etag), step.number))
            elif kept or self.retrying:
                self._states.append((state, step.number))
            if kept and proven:
                self._pairs.append((step.key, cast(str, source_etag), cast(str, target_etag)))
            elif kept and status == Status.DELETED:
                self._gone.append((step.key,))
            if step.kind != Kind.GIVE_UP:
                self.done += 1
                if progress is not None:
                    reached.append((self.done, self.total, report.bytes, step.key))
        waiting = len(self._states) + len(self._proven)
        if waiting >= self._often or (waiting and time.monotonic() - self._written > _SECONDS):
            self.flush()
        if progress is not None:
            for each in reached:
                progress(*each)

    def _fail(self, step: Step, error: Exception) -> None:
        self._failed = True
        if self._finishing:
            # The next listing finds it again, unless it was mended or deleted.
            _log.debug("%r failed, and is tried again: %r", step.key, error)
            return
        self.report.failures[step.key] = error
        _log.warning("%s", error if isinstance(error, StoreError) else f"{step.key!r}: {error!r}")

    def widen(self, jobs: int) -> None:
        """Share the batch among threads, each of which may hold one when the process is killed."""
        self.batch = max(1, self._batch // jobs)

    def flush(self) -> None:
        """Write the recorded outcomes to the journal."""
        if self._states or self._proven:
            self._journal.mark(self._states, self._pairs, self._gone, self._proven)
            self._states.clear()
            self._pairs.clear()
            self._gone.clear()
            self._proven.clear()
        self._written = time.monotonic()
