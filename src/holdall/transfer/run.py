"""A transfer from its plan to its report."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    DeleteRefusedError,
    InvalidArgumentError,
    KeyConflictError,
    StoreError,
)
from holdall.store import Can, Info, Store
from holdall.transfer.compare import Compare, Difference, Selection, judge, pairs
from holdall.transfer.fork import Fork, can_fork
from holdall.transfer.journal import DONE, FAILED, RETRY, Journal
from holdall.transfer.options import Progress
from holdall.transfer.place import has_ttl_of_its_own, identity, refuse_overlap
from holdall.transfer.plan import Kind, Plan, Rules, Shard, Step
from holdall.transfer.report import Report
from holdall.transfer.spread import JOBS, Stopped, spread
from holdall.transfer.work import SMALL, Outcome, Status, Worker, portable

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from holdall.transfer.helper import Helper

__all__ = ["Job", "differences", "run_shard", "stopping"]

_log = logging.getLogger("holdall.transfer")

_PAGE = 1000
_FIRST = 250
_SECONDS = 0.25
_FEW = 16
_SAMPLES = 32
_NONE = ("", "", "")

stopping: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("stopping", default=None)
"""An event that stops the transfers which are begun in this context."""


class Job:
    """One transfer. Its arguments are those of `copy_store`, checked here before anything is touched."""

    def __init__(
        self,
        kind: str,
        source: Store,
        target: Store,
        prefix: str,
        glob: str | None,
        where: Callable[[Info], object] | None,
        compare: Compare,
        verify: bool,
        jobs: int | None,
        journal: str | os.PathLike[str] | None,
        progress: Progress | None,
        executor: Any,
    ) -> None:
        for store in (source, target):
            if not isinstance(store, Store):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArgumentError(f"a transfer is between two stores, not {type(store).__name__}")
        _check_jobs(jobs)
        if executor == "process":
            if jobs is not None:
                raise InvalidArgumentError(
                    'jobs are threads of this process: give them, or executor="process"'
                )
        elif executor is not None and not hasattr(executor, "submit"):
            raise InvalidArgumentError(
                'an executor is "process", or has a submit, as those of concurrent.futures'
            )
        self._kind = kind
        self._source = source
        self._target = target
        self._selection = Selection(prefix, glob, where)
        self._judge = judge(compare)
        self._compare = compare
        self._known = compare == "auto"
        self._rules = Rules(bool(verify), kind == "move", compare == "auto")
        self._jobs = jobs
        self._journal = _checked_path(journal)
        self._progress = progress
        self._executor = None if executor == "process" else executor
        self._shares = (
            executor == "process"
            and source._reachable
            and target._reachable
            and Can.BULK not in target.can
            and _processors() > 1
        )
        self._helper: Helper | None = None
        self._max_delete: float | None = None
        self._stop = stopping.get() or threading.Event()
        self._options: dict[str, object] = {
            "kind": kind,
            "prefix": prefix,
            "glob": glob,
            "where": None if where is None else _name(where),
            "compare": _name(compare) if callable(compare) else compare,
        }
        source._need(Can.LIST, "list, which a transfer begins with")
        if kind == "verify":
            return
        target._need(Can.WRITE, "put")
        if kind == "sync":
            target._need(Can.LIST, "list, which a sync needs")
            target._need(Can.DELETE, "delete, which a sync does; give delete=False to copy only")
        if kind == "move":
            source._need(Can.DELETE, "delete, which a move does")
        refuse_overlap(
            source, target, self._selection, self._journal, deep=kind == "move", deletes=kind != "copy"
        )

    def limit(self, max_delete: float) -> None:
        """How much may be deleted: a float is a share, an int a count."""
        fine = isinstance(max_delete, int | float) and not isinstance(max_delete, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not fine or max_delete < 0 or (isinstance(max_delete, float) and not max_delete <= 1):
            raise InvalidArgumentError(
                f"max_delete is a share from 0.0 to 1.0, or a count of blobs as an int, not {max_delete!r}"
            )
        self._max_delete = max_delete

    def run(self) -> Report:
        """Plan, then do it."""
        begun = time.perf_counter()
        with Journal(self._journal) as journal, ExitStack() as stack:
            stack.callback(self._part)
            transfer = [identity(self._source), identity(self._target)]
            phase = journal.begin(transfer, self._options)
            resumed = phase == "act"
            if resumed and not self._kept(journal):
                _log.warning("the target has lost what an earlier run copied; both stores are listed anew")
                journal.restart({})
                resumed = False
            if not resumed:
                if self._kind != "verify" and not self._began(journal):
                    journal.restart({})
                self._list(journal, journal)
            # A run that goes on may have been allowed less than the one that was killed.
            self._guard(journal)
            if not resumed:
                journal.note(phase="act")
            run = _Run(journal, self._progress)
            run.report.skipped = 0 if resumed else journal.fact("counts")["equal"]
            run.report.resumed = run.done
            self._act(journal, run, resumed)
            run.flush()
            journal.finish()
        run.report.seconds = time.perf_counter() - begun
        return run.report

    def plan(self) -> Plan:
        """Only plan, comparing contents where they decide."""
        known = None
        if self._journal is not None and os.path.exists(self._journal):
            known = Journal(self._journal)
        journal = Journal(None)
        try:
            journal.restart({})
            self._list(journal, known)
        finally:
            if known is not None:
                known.close()
        equal: int = journal.fact("counts")["equal"]
        failures: dict[str, Exception] = {}
        kinds: list[tuple[int, int]] = []
        gone: list[tuple[int]] = []

        def took(outcomes: list[Outcome]) -> None:
            nonlocal equal
            for step, status, *_, error in outcomes:
                if status == Status.DIFFERS:
                    kinds.append((Kind.COPY, step.number))
                elif status == Status.SKIPPED and self._rules.move:
                    kinds.append((Kind.REMOVE, step.number))
                else:
                    gone.append((step.number,))
                if status == Status.SKIPPED:
                    equal += 1
                elif error is not None:
                    failures[step.key] = error
            if len(kinds) + len(gone) >= _PAGE:
                settle()

        def settle() -> None:
            journal.resolve(kinds, gone)
            kinds.clear()
            gone.clear()

        worker = Worker(self._source, self._target, self._rules, self._stop, dry=True)
        self._spread(worker, ([step] for step in journal.steps(Kind.COMPARE)), took)
        settle()
        plan = Plan(self._source, self._target, self._rules, journal, equal)
        plan.failures = failures
        return plan

    # --- phase 1: the plan ---

    def _list(self, journal: Journal, known: Journal | None) -> None:
        """List both stores side by side, from where a killed run stopped, and record what is to be done."""
        cursor: str = journal.fact("cursor") or ""
        counts: dict[str, int] = {"equal": 0, "selected": 0, "deletes": 0, **(journal.fact("counts") or {})}
        found = 0
        page = _Page(cursor)
        for page in self._planned(cursor, known):
            if self._stop.is_set():
                raise Stopped
            counts["equal"] += page.equal
            counts["selected"] += page.selected
            counts["deletes"] += page.deletes
            if page.steps or journal.kept:
                journal.add(page.steps, cursor=page.key, counts=counts)
                found += len(page.steps)
                if found >= _PAGE:
                    self._call_help(resumed=False)
        journal.add((), cursor=page.key, counts=counts)

    def _planned(self, cursor: str, known: Journal | None) -> Iterator[_Page]:
        """What is to be done, page by page. Where that is little of much, another process looks at half."""
        splits = (
            self._shares
            and self._selection.where is None
            and not callable(self._compare)
            and not (self._known and known is not None and known.kept)
            and can_fork()
        )
        pages = self._pages(cursor, known, full=_FIRST if splits else _PAGE)
        first = next(pages, None)
        if first is None:
            return
        yield first
        middle = None
        if splits and first.listed == _FIRST and len(first.steps) < _FIRST // 2:
            middle = self._source._middle(self._selection.prefix, first.key)
        if middle is None or middle <= first.key:
            yield from pages
            return
        try:
            other = Fork(lambda: self._pages(middle, None), self._stop)
        except OSError as error:
            _log.warning("the listing stays in one process, since no other could be started: %r", error)
            yield from pages
            return
        with other:
            pages.close()
            yield from self._pages(first.key, None, middle)
            last = middle
            for page in other:
                yield page
                last = page.key
        if not other.whole:
            _log.warning("the listing goes on in one process, since the other one ended early")
            yield from self._pages(last, None)

    def _pages(
        self, cursor: str, known: Journal | None, until: str = "", full: int = _PAGE
    ) -> Generator[_Page, None, None]:
        """What is to be done for the keys past one, and up to another; `full` is the first page's length."""
        move, sync = self._kind == "move", self._kind == "sync"
        page = _Page(cursor)
        for kind, key, one, other in self._decided(cursor, known):
            if until and key > until:
                break
            page.listed += 1
            page.key = key
            if other is not None:
                page.selected += 1
            if kind is None:
                page.equal += 1
                if move:
                    kind = Kind.REMOVE
            elif kind is Kind.DELETE:
                if not sync:
                    kind = None
                else:
                    page.deletes += 1
            if kind is not None:
                size = (one or cast(Info, other)).size
                etags = None if one is None else one.etag, None if other is None else other.etag
                page.steps.append((0, kind.value, key, size, *etags))
            if page.listed == full:
                yield page
                page, full = _Page(key), _PAGE
        if page.listed:
            yield page

    def _decided(
        self, cursor: str, known: Journal | None
    ) -> Iterator[tuple[Kind | None, str, Info | None, Info | None]]:
        """What is to be done for each key; None where both blobs are equal."""
        if self._kind == "verify":
            where = self._selection.where
            for one in self._selection.scan(self._source, cursor):
                if where is None or where(one):
                    yield Kind.CHECK, one.key, one, None
            return
        equal: Iterator[tuple[str, str, str]] = iter(())
        if self._known and known is not None and known.kept:
            equal = known.pairs(self._selection.prefix, cursor)
        known_key, *etags = next(equal, _NONE)
        expires = (
            self._compare in ("auto", "content")
            and Can.EXPIRE in self._source.can & self._target.can
            and not has_ttl_of_its_own(self._target)
        )
        for one, other in pairs(self._source, self._target, self._selection, cursor):
            if one is None:
                yield Kind.DELETE, cast(Info, other).key, None, other
                continue
            key = one.key
            if other is None:
                yield Kind.COPY, key, one, None
                continue
            verdict = self._judge(one, other)
            if verdict is None:
                while known_key and known_key < key:
                    known_key, *etags = next(equal, _NONE)
                if known_key == key and etags == [one.etag, other.etag]:
                    verdict = True
            if expires and not _expire_alike(one, other):
                verdict = False
            yield (Kind.COMPARE if verdict is None else None if verdict else Kind.COPY), key, one, other

    def _guard(self, journal: Journal) -> None:
        counts = journal.fact("counts")
        deletes, selected = counts["deletes"], counts["selected"]
        limit = self._max_delete
        if limit is None or not deletes or deletes <= (limit if isinstance(limit, int) else limit * selected):
            return
        # Whoever looks into it and tries again wants to have it listed again.
        journal.restart({})
        allowed = f"{limit}" if isinstance(limit, int) else f"{limit:.0%} of them"
        raise DeleteRefusedError(
            f"{deletes} of {selected} blobs of the target would be deleted, and max_delete allows {allowed}: "
            f"nothing was touched. If the source is as it should be, give max_delete={deletes} or 1.0",
            deletes=deletes,
            selected=selected,
        )

    def _began(self, journal: Journal) -> bool:
        """Whether the stores still have anything of what a killed run listed. A source that is empty since
        then, such as a disk that isn't mounted, would seem to lack the rest only, little enough to be
        deleted; a target that was emptied would not get back what was equal."""
        cursor = journal.fact("cursor")
        if not cursor:
            return True
        stores = [self._source] if self._kind == "sync" else []
        if journal.fact("counts")["selected"] and Can.LIST in self._target.can:
            stores.append(self._target)
        firsts = [next(self._selection.scan(store, ""), None) for store in stores]
        return all(first is not None and first.key <= cursor for first in firsts)

    def _kept(self, journal: Journal) -> bool:
        """Whether the target still holds what a killed run put there: some of it is looked for."""
        try:
            for key in journal.samples(Kind.COPY, Kind.COMPARE, count=_SAMPLES):
                self._target._info(key)
        except BlobNotFoundError:
            return False
        return True

    def _call_help(self, *, resumed: bool) -> None:
        """Start the process that helps, if there is to be one: while this one lists on, it gets ready."""
        if self._shares and self._helper is None:
            from holdall.transfer.helper import Helper

            self._helper = Helper(self._source, self._target, self._rules, self._stop, resumed=resumed)

    def _part(self) -> None:
        if self._helper is not None:
            self._helper.close()

    # --- phases 2 and 3: copies, then deletes ---

    def _act(self, journal: Journal, run: _Run, resumed: bool) -> None:
        copies = (Kind.COPY, Kind.COMPARE, Kind.CHECK)
        try:
            if run.total - run.done >= _PAGE:
                self._call_help(resumed=resumed)
            if self._helper is not None:
                run.widen(2)
            self._do(journal.steps(*copies), run, resumed, self._helper)
            run.flush()
            deletes = run.withheld(journal.steps(Kind.DELETE, Kind.REMOVE))
            self._do(deletes, run, resumed)
            run.flush()
            # What was in the way may be gone now.
            worker = Worker(self._source, self._target, self._rules, self._stop, resumed=resumed, final=True)
            self._spread(worker, ([step] for step in journal.steps(state=RETRY)), run.took)
        except BaseException:
            run.flush()
            raise

    def _do(self, steps: Iterator[Step], run: _Run, resumed: bool, helper: Helper | None = None) -> None:
        if self._executor is not None and self._kind != "verify":
            self._submit(steps, run)
            return
        worker = Worker(self._source, self._target, self._rules, self._stop, resumed=resumed)
        worker.bulk = worker.bulk and self._kind != "verify"
        bulk = worker.bulk
        # Without batches, a few at a time spare the threads the passing to and fro.
        units = _units(steps, bulk, lambda: run.batch if bulk else min(run.batch, _FEW))
        self._spread(worker, units, run.took, run.widen, helper)

    def _spread(
        self,
        worker: Worker,
        units: Iterator[list[Step]],
        took: Callable[[list[Outcome]], None],
        widen: Callable[[int], object] = id,
        helper: Helper | None = None,
    ) -> None:
        inline = self._source.inline and self._target.inline
        spread(
            worker, units, took, jobs=self._jobs, inline=inline, stop=self._stop, widen=widen, other=helper
        )

    def _submit(self, steps: Iterator[Step], run: _Run) -> None:
        executor = cast(Any, self._executor)
        workers: int = self._jobs or getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        size = max(1, min(_PAGE, -(-(run.total - run.done) // (workers * 4))))
        flying: deque[tuple[list[Step], Any]] = deque()

        def take() -> None:
            part, future = flying.popleft()
            try:
                if isinstance(future, Exception):
                    raise future
                outcomes: list[Outcome] = future.result()[1]
            except Exception as error:  # noqa: BLE001 - a worker that died is told for each of its keys
                outcomes = [
                    Outcome(step, Status.FAILED, error=_shard_error(error, step.key)) for step in part
                ]
            run.took(outcomes)

        try:
            while part := list(islice(steps, size)):
                shard = Shard(self._source, self._target, self._rules, part)
                try:
                    flying.append((part, executor.submit(run_shard, shard, False)))
                except Exception as error:  # noqa: BLE001 - it is told for each of its keys
                    flying.append((part, error))
                if len(flying) >= 2 * workers:
                    take()
            while flying:
                take()
        except BaseException:
            for _, future in flying:
                if hasattr(future, "cancel"):
                    future.cancel()
            raise


class _Page:
    """A part of a plan: what is to be done for some keys, the last of which it names."""

    __slots__ = ("deletes", "equal", "key", "listed", "selected", "steps")

    def __init__(self, key: str) -> None:
        self.key = key
        self.listed = self.equal = self.selected = self.deletes = 0
        self.steps: list[tuple[int, int, str, int, str | None, str | None]] = []


class _Run:
    """What was done so far: counted, recorded and told."""

    def __init__(self, journal: Journal, progress: Progress | None) -> None:
        self.report = Report()
        self.done = sum(count for count, _ in journal.counts(DONE).values())
        self.total = self.done + sum(count for count, _ in journal.counts().values())
        # What a kill makes to be done again is a batch that was put, and marks that weren't written: small
        # parts of the whole.
        self.batch = max(4, min(256, self.total // 500))
        self.often = 2 * self.batch
        self._journal = journal
        self._progress = progress
        self._states: list[tuple[int, int]] = []
        self._pairs: list[tuple[str, str, str]] = []
        self._gone: list[tuple[str]] = []
        self._sizes: dict[int, str] = {}
        self._written = time.monotonic()

    def took(self, outcomes: list[Outcome]) -> None:
        """Take in what came of some steps."""
        report, kept, progress = self.report, self._journal.kept, self._progress
        told: list[tuple[int, int, int, str]] = []
        for step, status, size, source_etag, target_etag, removed, error in outcomes:
            state = DONE
            if status == Status.AGAIN:
                self._states.append((RETRY, step.number))
                continue
            if status == Status.COPIED:
                report.copied += 1
                report.bytes += size
            elif status == Status.SKIPPED:
                # A blob that was equal when it was listed is counted there.
                if step.kind != Kind.REMOVE:
                    report.skipped += 1
            elif status == Status.DELETED:
                report.deleted += 1
            elif status == Status.CHECKED:
                report.checked += 1
                report.bytes += size
            else:
                state = FAILED
                assert error is not None
                report.failures[step.key] = error
                if _loses(step, error):
                    self._sizes.setdefault(step.size, step.key)
                _log.warning("%s", error if isinstance(error, StoreError) else f"{step.key!r}: {error!r}")
            report.deleted += removed
            self.done += 1
            if kept:
                self._states.append((state, step.number))
                if source_etag is not None and target_etag is not None and not removed:
                    self._pairs.append((step.key, source_etag, target_etag))
                elif step.kind == Kind.DELETE or removed:
                    self._gone.append((step.key,))
            if progress is not None:
                told.append((self.done, self.total, report.bytes, step.key))
        if len(self._states) >= self.often or (self._states and time.monotonic() - self._written > _SECONDS):
            self.flush()
        if progress is not None:
            for each in told:
                progress(*each)

    def withheld(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps but for the deletes that would take the last copy of what could not be copied."""
        for step in steps:
            if step.kind == Kind.DELETE and (outcome := _withheld(step, self._sizes)) is not None:
                self.took([outcome])
            else:
                yield step

    def widen(self, jobs: int) -> None:
        """Share the batch among threads, each of which may hold one when the process is killed."""
        self.batch = max(1, self.batch // jobs)

    def flush(self) -> None:
        """Record what was done."""
        if self._states:
            self._journal.mark(self._states, self._pairs, self._gone)
            self._states.clear()
            self._pairs.clear()
            self._gone.clear()
        self._written = time.monotonic()


def _loses(step: Step, error: Exception) -> bool:
    """Whether what could not be copied may be lost at the source, so that the target's is the last copy."""
    mine = isinstance(error, ConcurrencyError | KeyConflictError)
    return step.kind in (Kind.COPY, Kind.COMPARE) and not mine


def _withheld(step: Step, failed: dict[int, str]) -> Outcome | None:
    """A delete that isn't done, since a blob of the same size, which may be the same by a new name, could not
    be copied: the target would hold it no more."""
    key = failed.get(step.size) if step.size else None
    if key is None:
        return None
    error = StoreError(
        f"it was not deleted, since {key!r} could not be copied, which may be the same blob by a new name; "
        "run again once that can be",
        key=step.key,
    )
    return Outcome(step, Status.FAILED, error=error)


def _expire_alike(one: Info, other: Info) -> bool:
    """Whether two blobs expire at the same moment, or never: what was copied does a little later."""
    if one.expires is None or other.expires is None:
        return one.expires is other.expires
    return abs((one.expires - other.expires).total_seconds()) < 2


def _units(steps: Iterator[Step], bulk: bool, batch: Callable[[], int]) -> Iterator[list[Step]]:
    """Small steps in groups; with `bulk` only copies to where nothing was, which are then put together."""
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
    """Do what a shard says, here; what came of each step, too."""
    begun = time.perf_counter()
    rules, steps = shard.work
    stop = threading.Event()
    report = Report()
    outcomes: list[Outcome] = []
    again: list[Step] = []

    def took(done: list[Outcome]) -> None:
        for outcome in done:
            if outcome.status == Status.AGAIN and final:
                again.append(outcome.step)
                continue
            if outcome.error is not None:
                outcome = outcome._replace(error=portable(outcome.error, outcome.step.key))
            outcomes.append(outcome)

    def do(some: Iterable[Step], last: bool) -> None:
        worker = Worker(shard.source, shard.target, rules, stop, resumed=True, final=last)
        units = _units(iter(some), worker.bulk, lambda: 64)
        inline = shard.source.inline and shard.target.inline
        spread(worker, units, took, jobs=None, inline=inline, stop=stop)

    deletes = (Kind.DELETE, Kind.REMOVE)
    do((step for step in steps if step.kind not in deletes), False)
    failed = {
        step.size: step.key for step, *_, error in outcomes if error is not None and _loses(step, error)
    }
    left: list[Step] = []
    for step in steps:
        if step.kind in deletes:
            kept = _withheld(step, failed) if step.kind == Kind.DELETE else None
            if kept is None:
                left.append(step)
            else:
                took([kept])
    do(left, False)
    if again:
        do(list(again), True)
    for outcome in outcomes:
        report.copied += outcome.status == Status.COPIED
        report.skipped += outcome.status == Status.SKIPPED
        report.deleted += (outcome.status == Status.DELETED) + outcome.removed
        report.bytes += outcome.size
        if outcome.error is not None:
            report.failures[outcome.step.key] = outcome.error
    report.seconds = time.perf_counter() - begun
    return report, outcomes


def _shard_error(error: Exception, key: str) -> StoreError:
    lost = StoreError(
        f"the worker that was to do it died, or could not be reached ({type(error).__name__}: {error}); "
        "it may be done or not: run again",
        key=key,
    )
    lost.__cause__ = error
    return lost


def differences(
    source: Store,
    target: Store,
    prefix: str,
    glob: str | None,
    where: Callable[[Info], object] | None,
    compare: Compare,
    jobs: int | None,
) -> Iterator[Difference]:
    """What differs, in key order; arguments are checked at once."""
    _check_jobs(jobs)
    selection = Selection(prefix, glob, where)
    decide = judge(compare)
    for store in (source, target):
        store._need(Can.LIST, "list, which a comparison needs")
    stop = stopping.get() or threading.Event()
    worker = Worker(source, target, Rules(digests=compare == "auto"), stop, dry=True)
    inline = source.inline and target.inline
    return _differences(pairs(source, target, selection), decide, worker, 1 if inline else jobs)


def _differences(
    both: Iterator[tuple[Info | None, Info | None]],
    decide: Callable[[Info, Info], bool | None],
    worker: Worker,
    jobs: int | None,
) -> Iterator[Difference]:
    flying: deque[tuple[Difference, Future[Difference | None] | None]] = deque()
    pool: ThreadPoolExecutor | None = None
    waited, asked = 0.0, 0

    def compared(difference: Difference) -> Difference | None:
        one, other = cast(Info, difference.source), cast(Info, difference.target)
        step = Step(0, Kind.COMPARE, difference.key, one.size, one.etag, other.etag)
        outcome = worker([step])[0]
        if outcome.error is not None:
            return difference._replace(kind="failed", error=outcome.error)
        return difference if outcome.status == Status.DIFFERS else None

    try:
        for one, other in both:
            if one is None or other is None:
                there = one or cast(Info, other)
                found = Difference("target" if one is None else "source", there.key, one, other)
                verdict: bool | None = False
            else:
                found = Difference("differs", one.key, one, other)
                verdict = decide(one, other)
            if verdict:
                continue
            if pool is None and verdict is None:
                # Threads where calls wait, as in `spread`.
                begun, used = time.perf_counter(), time.thread_time()
                alone = jobs is None or jobs == 1
                different = compared(found) if alone else None
                waited += time.perf_counter() - begun - (time.thread_time() - used)
                asked += 1
                if jobs != 1 and (jobs is not None or (asked >= 4 and waited / asked > 0.002)):
                    from concurrent.futures import ThreadPoolExecutor

                    pool = ThreadPoolExecutor(jobs or JOBS, thread_name_prefix="holdall-diff")
                if different is not None:
                    yield different
                if alone:
                    continue
            if pool is None:
                yield found
                continue
            flying.append((found, None if verdict is not None else pool.submit(compared, found)))
            while flying and (len(flying) > 4 * (jobs or JOBS) or _is_ready(flying[0][1])):
                first, future = flying.popleft()
                last = first if future is None else future.result()
                if last is not None:
                    yield last
        while flying:
            first, future = flying.popleft()
            last = first if future is None else future.result()
            if last is not None:
                yield last
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _is_ready(future: Future[Difference | None] | None) -> bool:
    return future is None or future.done()


def _checked_path(journal: str | os.PathLike[str] | None) -> str | None:
    if journal is None:
        return None
    if not isinstance(journal, str | os.PathLike) or not os.fspath(journal):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"a journal is the path of a file, not {journal!r}")
    return os.path.abspath(os.path.expanduser(os.fspath(journal)))


def _check_jobs(jobs: object) -> None:
    if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1):
        raise InvalidArgumentError(f"jobs is a number of threads, at least 1, not {jobs!r}")


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"
