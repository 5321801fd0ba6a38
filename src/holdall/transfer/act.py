"""The acts of a transfer: the copies, then the deletes, if nothing has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from holdall.stopping import Stop
from holdall.store import Store
from holdall.transfer.journal import RETRY, Journal
from holdall.transfer.spread import spread
from holdall.transfer.step import COPIES, DELETES, Kind, Outcome, Rules, Step
from holdall.transfer.tally import Tally
from holdall.transfer.work import SMALL, Worker

_FEW = 16
_MOST = 1 << 24
"""The most bytes of a group, about."""


class Act(NamedTuple):
    """Does the steps that a journal holds; a tally counts and records their outcomes."""

    source: Store
    target: Store
    rules: Rules
    journal: Journal
    tally: Tally
    stop: Stop
    """Ends all when it is set."""
    jobs: int | None = None
    """The number of threads; None decides by how long calls wait."""
    copy_elsewhere: Callable[[Iterator[Step]], bool] | None = None
    """Makes the copies instead of this process, such as by an executor, or returns False."""

    def run(self, obstacle: Callable[[], Outcome | None] | None = None) -> None:
        """Do all steps.

        Args:
            obstacle: Called if there are deletes; returns a failure that forbids them, or None.
        """
        journal, tally = self.journal, self.tally
        try:
            self._copy()
            # A blob in the way may be deleted later. Otherwise it stays there, and this failure must be known
            # before anything is deleted.
            hopeless = ([step] for step in journal.steps(state=RETRY) if not journal.is_in_the_way(step.key))
            tally.retrying = True
            self._spread(self._worker(final=True), hopeless)
            tally.flush()
            deletes = self._count_deletes() if tally.failed or obstacle is not None else 0
            if deletes and not tally.failed and obstacle is not None and (found := obstacle()) is not None:
                tally.take([found])
            if tally.failed:
                tally.report.withheld += deletes
            else:
                self._delete(journal.steps(*DELETES))
            # The blob in the way may be gone now.
            self._spread(self._worker(final=True), ([step] for step in journal.steps(state=RETRY)))
        finally:
            tally.flush()

    def finish(self) -> None:
        """Make the copies of a run that was stopped, and a move's deletes: the copies are known to be whole.
        Other deletes are left to the next listing."""
        try:
            self._copy()
            if not self.tally.failed:
                self._delete(self.journal.steps(Kind.GIVE_UP))
        finally:
            self.tally.flush()

    def _copy(self) -> None:
        steps, tally = self.journal.steps(*COPIES), self.tally
        if self.copy_elsewhere is None or not self.copy_elsewhere(steps):
            worker = self._worker()
            # Threads read a source that waits; each of them has a batch of its own.
            near = self.source.inline or self.source._near
            if worker.bulk and near and (whole := self.target._together):
                units = units_of(steps, True, lambda: whole, grow=False)
            else:
                # Without batches, units of a few steps are passed to the threads and back less often.
                batch = (lambda: tally.batch) if worker.bulk else lambda: min(tally.batch, _FEW)
                units = units_of(steps, worker.bulk, batch)
            self._spread(worker, units)
        tally.flush()

    def _delete(self, steps: Iterator[Step]) -> None:
        """Delete in this process, where the first failure is known at once and ends it."""
        worker = self._worker()
        worker.bulk = False
        self._spread(worker, units_of(steps, False, lambda: min(self.tally.batch, _FEW)))
        self.tally.flush()

    def _count_deletes(self) -> int:
        counts = self.journal.counts()
        return sum(counts[kind][0] for kind in DELETES)

    def _worker(self, *, final: bool = False) -> Worker:
        return Worker(self.source, self.target, self.rules, self.stop, final=final)

    def _spread(self, worker: Worker, units: Iterator[list[Step]]) -> None:
        inline = self.source.inline and self.target.inline
        tally = self.tally
        spread(
            worker, units, tally.take, jobs=self.jobs, inline=inline, stop=self.stop, on_threads=tally.widen
        )


def units_of(
    steps: Iterable[Step], bulk: bool, batch: Callable[[], int], *, grow: bool = True
) -> Iterator[list[Step]]:
    """Yield small steps in groups; with `bulk` only copies of new blobs, which are then put together.

    With `grow` the groups grow slowly, so that the first few show whether the stores wait.
    """
    held: list[Step] = []
    size = 0
    for count, step in enumerate(steps):
        if step.size > SMALL or (bulk and (step.kind != Kind.COPY or step.target_etag is not None)):
            yield [step]
            continue
        held.append(step)
        size += step.size
        if size > _MOST or len(held) >= (min(batch(), max(1, count // 8)) if grow else batch()):
            yield held
            held, size = [], 0
    if held:
        yield held
