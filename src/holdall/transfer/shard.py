"""Running a part of a plan, in any process."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from holdall.errors import BlobNotFoundError, StoreError
from holdall.transfer.compare import above
from holdall.transfer.plan import Kind, Shard, Step
from holdall.transfer.report import Report
from holdall.transfer.spread import spread
from holdall.transfer.work import SMALL, Outcome, Status, Worker, portable

__all__ = ["run_shard", "units_of"]

_BATCH = 64


def units_of(steps: Iterable[Step], bulk: bool, batch: Callable[[], int]) -> Iterator[list[Step]]:
    """Yield small steps in groups; with `bulk` only copies of new blobs, which are then put together."""
    held: list[Step] = []
    for count, step in enumerate(steps):
        if step.size > SMALL or (bulk and (step.kind != Kind.COPY or step.target_etag is not None)):
            yield [step]
            continue
        held.append(step)
        # They grow slowly, so that stores which wait are known by the first few.
        if len(held) >= min(batch(), max(1, count // 8)):
            yield held
            held = []
    if held:
        yield held


def run_shard(shard: Shard, final: bool = True) -> tuple[Report, list[Outcome]]:
    """Run the steps of a shard; return the report, and the outcome of each step.

    Args:
        shard: Which.
        final: Whether a blob whose place is taken fails; otherwise its outcome is `AGAIN`.
    """
    begun = time.perf_counter()
    rules = shard.rules
    stop = threading.Event()
    outcomes: list[Outcome] = []
    again: list[Step] = []
    failed = False

    def take(done: list[Outcome]) -> None:
        nonlocal failed
        for outcome in done:
            if outcome.status == Status.AGAIN and final:
                again.append(outcome.step)
                continue
            if outcome.error is not None:
                failed = True
                outcome = outcome._replace(error=portable(outcome.error, outcome.step.key))
            outcomes.append(outcome)

    def do(steps: Iterable[Step], last: bool) -> None:
        worker = Worker(shard.source, shard.target, rules, stop, final=last)
        inline = shard.source.inline and shard.target.inline
        units = units_of(steps, worker.bulk, lambda: _BATCH)
        spread(worker, units, take, jobs=None, inline=inline, stop=stop)

    do(shard.copies, False)
    deletes = shard.deletes or []
    if final:
        # A blob that stays in the way is a failure, known before anything is deleted.
        hopeless = [step for step in again if not _is_in_the_way(step, deletes)]
        again[:] = [step for step in again if step not in hopeless]
        do(hopeless, True)
        if rules.move and shard.deletes is not None:
            deletes = [*deletes, *_given_up(shard, outcomes)]
    if deletes and not failed and (missing := _first_missing(shard)) is not None:
        take([Outcome(missing, Status.FAILED, error=_not_copied(missing))])
    if failed:
        withheld = len(deletes)
    else:
        withheld = 0
        do(deletes, False)
    do(list(again), True)
    report = _report_of(outcomes)
    report.withheld += withheld
    report.seconds = time.perf_counter() - begun
    return report, outcomes


def _is_in_the_way(step: Step, deletes: list[Step]) -> bool:
    folders = set(above(step.key))
    return any(
        each.kind == Kind.DELETE and (each.key in folders or each.key.startswith(f"{step.key}/"))
        for each in deletes
    )


def _given_up(shard: Shard, outcomes: list[Outcome]) -> Iterator[Step]:
    """Yield the deletes from the source for the copies of a move: for this shard's, which it has just
    compared, and for those of other shards, which it compares first."""
    for step, _, _, source_etag, target_etag, _ in outcomes:
        if source_etag is not None and target_etag is not None:
            yield step._replace(kind=Kind.GIVE_UP, source_etag=source_etag, target_etag=target_etag)
    for step in shard.awaited:
        yield step._replace(kind=Kind.REMOVE, target_etag=None)


def _first_missing(shard: Shard) -> Step | None:
    """Return the first copy of the other shards that isn't in the target: it failed, or wasn't done yet."""
    for step in shard.awaited:
        try:
            if shard.target._info(step.key).etag == step.target_etag:
                return step
        except BlobNotFoundError:
            return step
    return None


def _not_copied(step: Step) -> StoreError:
    return StoreError(
        "it wasn't copied yet, so nothing is deleted: run the last shard, which deletes, after the others",
        key=step.key,
    )


def _report_of(outcomes: list[Outcome]) -> Report:
    report = Report()
    for outcome in outcomes:
        report.copied += outcome.status == Status.COPIED
        report.skipped += outcome.status == Status.SKIPPED
        report.deleted += outcome.status == Status.DELETED
        report.withheld += outcome.status == Status.WITHHELD
        report.bytes += outcome.size
        if outcome.error is not None:
            report.failures[outcome.step.key] = outcome.error
    return report
