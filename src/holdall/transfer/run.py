"""A transfer: its plan, its copies, its deletes and its report."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import contextvars
import logging
import os
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from holdall.errors import DeleteRefusedError, InvalidArgumentError, StoreError
from holdall.store import Can, Info, LeftOut, Store
from holdall.transfer.compare import Compare, Globs, Selection, judge, pairs
from holdall.transfer.fork import Fork, can_fork
from holdall.transfer.journal import DONE, FAILED, RETRY, Journal
from holdall.transfer.leftout import protect
from holdall.transfer.options import Progress
from holdall.transfer.place import has_ttl_of_its_own, identity, is_in_memory, missing_place, refuse_overlap
from holdall.transfer.plan import Kind, Plan, Rules, Shard, Step
from holdall.transfer.report import Report
from holdall.transfer.shard import run_shard, units_of
from holdall.transfer.spread import Stopped, spread
from holdall.transfer.work import Outcome, Status, Worker

if TYPE_CHECKING:
    from holdall.transfer.helper import Helper

__all__ = ["Job", "check_jobs", "stop_event", "stopping"]

_log = logging.getLogger("holdall.transfer")

_PAGE = 1000
_FIRST = 250
_SECONDS = 0.25
_FEW = 16
_NONE = ("", "", "")
_COPIES = (Kind.COPY, Kind.COMPARE, Kind.CHECK)
_DELETES = (Kind.DELETE, Kind.REMOVE, Kind.GIVE_UP)

stopping: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("stopping", default=None)
"""An event that stops the transfers which are begun in this context."""


def stop_event() -> threading.Event:
    """Return the event that stops the transfers that begin now."""
    return stopping.get() or threading.Event()


class Job:
    """One transfer. Its arguments are those of `copy_store`, checked here before anything is touched."""

    def __init__(
        self,
        kind: str,
        source: Store,
        target: Store,
        *,
        prefix: str = "",
        glob: Globs = None,
        exclude: Globs = None,
        where: Callable[[Info], object] | None = None,
        compare: Compare = "auto",
        verify: bool = True,
        replace_unreadable: bool = False,
        jobs: int | None = None,
        journal: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
        executor: Any = None,
    ) -> None:
        for store in (source, target):
            if not isinstance(store, Store):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArgumentError(f"a transfer is between two stores, not {type(store).__name__}")
        check_jobs(jobs)
        _check_executor(executor, jobs, source, target)
        self._kind = kind
        self._source = source
        self._target = target
        self._selection = selection = Selection(prefix, glob, where, exclude)
        self._judge = judge(compare)
        self._compare = compare
        self._known = compare == "auto"
        self._rules = Rules(bool(verify), kind == "move", compare == "auto", bool(replace_unreadable))
        self._jobs = jobs
        self._journal = _checked_path(journal)
        if progress is not None and not callable(progress):  # pyright: ignore[reportUnnecessaryComparison]
            raise InvalidArgumentError(f"progress is a function, not {progress!r}")
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
        self._stop = stop_event()
        self._options: dict[str, object] = {
            "kind": kind,
            "prefix": prefix,
            "glob": selection.globs[0] if len(selection.globs) == 1 else selection.globs or None,
            "where": None if where is None else _name(where),
            "compare": _name(compare) if callable(compare) else compare,
        }
        if selection.excluded:
            self._options["exclude"] = selection.excluded
        _check_abilities(kind, source, target)
        if kind == "verify":
            return
        refuse_overlap(source, target, selection, self._journal, deep=kind == "move", deletes=kind != "copy")

    def limit(self, max_delete: float) -> None:
        """Set the limit of deletes: a float is a share, an int a count."""
        fine = isinstance(max_delete, int | float) and not isinstance(max_delete, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not fine or max_delete < 0 or (isinstance(max_delete, float) and not max_delete <= 1):
            raise InvalidArgumentError(
                f"max_delete is a share from 0.0 to 1.0 (a float) or a number of blobs (an int), not "
                f"{max_delete!r}"
            )
        self._max_delete = max_delete

    def run(self) -> Report:
        """Plan and run the transfer. A run that was stopped is finished first; then both stores are listed
        again, so that the target ends up as the source is listed in this run."""
        begun = time.perf_counter()
        with Journal(self._journal) as journal, ExitStack() as stack:
            stack.callback(self._part)
            run = _Run(journal, self._progress, move=self._kind == "move")
            transfer = [identity(self._source), identity(self._target)]
            finished = 0
            if journal.begin(transfer, self._options):
                # This run may have been allowed less than the one that was stopped.
                self._guard(journal, "nothing was touched")
                finished = self._finish(journal, run)
                journal.restart({})
            self._list(journal, journal)
            conflicts = protect(journal)
            self._guard(journal, "nothing was deleted" if finished else "nothing was touched")
            journal.note(phase="act")
            run.start(journal.fact("counts")["equal"] - finished, len(conflicts))
            run.take([Outcome(step, Status.FAILED, error=error) for step, error in conflicts])
            self._act(journal, run)
            run.flush()
            journal.finish()
        run.report.seconds = time.perf_counter() - begun
        return run.report

    def plan(self) -> Plan:
        """Only plan; compare contents where they decide."""
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
        kinds: list[tuple[int, int]] = []
        gone: list[tuple[int]] = []
        failures: dict[str, Exception] = {step.key: error for step, error in protect(journal)}

        def take(outcomes: list[Outcome]) -> None:
            nonlocal equal
            for step, status, _, _, _, error in outcomes:
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
        self._spread(worker, ([step] for step in journal.steps(Kind.COMPARE)), take)
        settle()
        return Plan(self._source, self._target, self._rules, journal, equal, failures)

    # --- phase 1: the plan ---

    def _list(self, journal: Journal, known: Journal | None) -> None:
        """List both stores side by side, and record the steps."""
        counts = {"equal": 0, "selected": 0, "deletes": 0}
        found = 0
        for page in self._planned(known):
            if self._stop.is_set():
                raise Stopped
            counts["equal"] += page.equal
            counts["selected"] += page.selected
            counts["deletes"] += page.deletes
            if page.left_out:
                journal.note_left_out(page.left_out)
            if page.steps:
                journal.add(page.steps)
                found += len(page.steps)
                if found >= _PAGE:
                    self._call_help()
        journal.note(counts=counts)

    def _planned(self, known: Journal | None) -> Iterator[_Page]:
        """Yield the steps, page by page. If few of many blobs differ, another process compares half of
        them."""
        splits = (
            self._shares
            and self._selection.where is None
            and not callable(self._compare)
            and not (self._known and known is not None and known.kept)
            and can_fork()
        )
        pages = self._pages("", known, full=_FIRST if splits else _PAGE)
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
        """Yield the steps for the keys past one and up to another; `full` is the first page's length."""
        move, sync = self._kind == "move", self._kind == "sync"
        left_out: list[tuple[bool, LeftOut]] = []
        page = _Page(cursor, left_out)
        for kind, key, one, other in self._decided(
            cursor, known, lambda of_source, entry: left_out.append((of_source, entry))
        ):
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
                yield page.cut()
                page, full = _Page(key, left_out), _PAGE
            elif len(left_out) >= _PAGE:
                yield _Page(page.key, left_out).cut()
        if page.listed or left_out:
            yield page.cut()

    def _decided(
        self, cursor: str, known: Journal | None, noted: Callable[[bool, LeftOut], object]
    ) -> Iterator[tuple[Kind | None, str, Info | None, Info | None]]:
        """Yield the step for each key; None if both blobs are equal."""
        if self._kind == "verify":
            where = self._selection.where
            for one in self._selection.scan(self._source, cursor, lambda entry: noted(True, entry)):
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
        for one, other in pairs(self._source, self._target, self._selection, cursor, noted):
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

    def _guard(self, journal: Journal, done: str) -> None:
        counts = journal.fact("counts")
        deletes, selected = counts["deletes"], counts["selected"]
        if not deletes:
            return
        limit = self._max_delete
        missing = missing_place(self._source)
        if missing is None and (
            limit is None or deletes <= (limit if isinstance(limit, int) else limit * selected)
        ):
            return
        # It is listed anew when the user has looked into it.
        journal.restart({})
        if missing is not None:
            raise DeleteRefusedError(
                f"{deletes} of {selected} blobs of the target would be deleted, and there is nothing at "
                f"{missing!r}, where the source is: {done}. Check the path, and whether its disk is mounted",
                deletes=deletes,
                selected=selected,
            )
        allowed = f"{limit}" if isinstance(limit, int) else f"{limit:.0%} of them"
        raise DeleteRefusedError(
            f"{deletes} of {selected} blobs of the target would be deleted, and max_delete allows {allowed}: "
            f"{done}. If the source is as it should be, pass max_delete={deletes} or 1.0",
            deletes=deletes,
            selected=selected,
        )

    def _call_help(self) -> None:
        """Start the helper process if it pays: it gets ready while this one goes on listing."""
        if self._shares and self._helper is None:
            from holdall.transfer.helper import Helper

            self._helper = Helper(self._source, self._target, self._rules, self._stop)

    def _part(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    # --- phases 2 and 3: copies, then deletes ---

    def _finish(self, journal: Journal, run: _Run) -> int:
        """Finish the copies of a run that was stopped, and a move's deletes; return how many blobs the next
        listing will find equal because of it. Failures are left to that listing, as are the deletes of a
        sync."""
        run.resume()
        try:
            self._copy(journal, run)
            if not run.failed:
                self._delete(journal.steps(Kind.GIVE_UP), run)
        finally:
            self._part()
            run.flush()
        return run.finish()

    def _act(self, journal: Journal, run: _Run) -> None:
        try:
            self._copy(journal, run)
            # A blob in the way may be deleted later. Otherwise it stays there, which is a failure, known
            # before anything is deleted.
            hopeless = ([step] for step in journal.steps(state=RETRY) if not journal.is_in_the_way(step.key))
            run.retrying = True
            self._spread(self._worker(final=True), hopeless, run.take)
            run.flush()
            if run.failed:
                counts = journal.counts()
                run.withhold(sum(counts[kind][0] for kind in _DELETES))
            else:
                self._delete(journal.steps(*_DELETES), run)
                run.flush()
            # The blob in the way may be gone now.
            self._spread(self._worker(final=True), ([step] for step in journal.steps(state=RETRY)), run.take)
        finally:
            run.flush()

    def _copy(self, journal: Journal, run: _Run) -> None:
        if run.total - run.done >= _PAGE:
            self._call_help()
        if self._helper is not None:
            run.widen(2)
        steps = journal.steps(*_COPIES)
        if self._executor is not None and self._kind != "verify":
            self._submit(steps, run)
        else:
            worker = self._worker()
            bulk = worker.bulk = worker.bulk and self._kind != "verify"
            # Without batches, a few at a time spare the threads the passing to and fro.
            units = units_of(steps, bulk, lambda: run.batch if bulk else min(run.batch, _FEW))
            self._spread(worker, units, run.take, run.widen, self._helper)
        run.flush()

    def _delete(self, steps: Iterator[Step], run: _Run) -> None:
        """Delete in this process, where the first failure is known at once and ends it."""
        worker = self._worker()
        worker.bulk = False
        units = units_of(steps, False, lambda: min(run.batch, _FEW))
        self._spread(worker, units, run.take, run.widen)

    def _worker(self, *, final: bool = False) -> Worker:
        return Worker(self._source, self._target, self._rules, self._stop, final=final)

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
            except Exception as error:  # noqa: BLE001 - a worker that died fails each of its keys
                outcomes = [
                    Outcome(step, Status.FAILED, error=_shard_error(error, step.key)) for step in part
                ]
            run.take(outcomes)

        try:
            while part := list(islice(steps, size)):
                shard = Shard(self._source, self._target, self._rules, part)
                try:
                    flying.append((part, executor.submit(run_shard, shard, False)))
                except Exception as error:  # noqa: BLE001 - it fails each of its keys
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
    """A part of a plan: the steps for some keys, and the last of these keys."""

    __slots__ = ("deletes", "equal", "key", "left_out", "listed", "selected", "steps")

    def __init__(self, key: str, left_out: list[tuple[bool, LeftOut]]) -> None:
        self.key = key
        self.listed = self.equal = self.selected = self.deletes = 0
        self.steps: list[tuple[int, int, str, int, str | None, str | None]] = []
        self.left_out = left_out

    def cut(self) -> _Page:
        """Return this page, with what was left out so far."""
        collected, self.left_out = self.left_out, self.left_out.copy()
        collected.clear()
        return self


class _Run:
    """The progress so far: counted, recorded and reported."""

    def __init__(self, journal: Journal, progress: Progress | None, *, move: bool) -> None:
        self.report = Report()
        self.done = self.total = 0
        self.retrying = False
        """Whether these steps were tried before, so that it matters which they are."""
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
        self._expect(sum(pending[kind][0] for kind in _COPIES))

    def finish(self) -> int:
        """End a resumed run; return how many blobs it found or made equal."""
        self._finishing = self._failed = False
        counts = self._journal.counts(DONE)
        return counts[Kind.COPY][0] + counts[Kind.COMPARE][0]

    def start(self, equal: int, conflicts: int) -> None:
        """Begin with a new plan, without the steps that can't be done."""
        self.report.skipped += max(0, equal)
        counts = self._journal.counts()
        self._expect(conflicts + sum(count for count, _ in counts.values()))
        for kind, (count, paths) in self._journal.left_out(True).items():
            self.report.left_out[kind] = count
            self.report.left_out_paths[kind] = paths

    def _expect(self, pending: int) -> None:
        self.total = self.done + pending
        # After a kill a batch that was put without its marks being written is done again: small
        # parts of the whole.
        self.batch = max(4, min(256, self.total // 500))
        self.often = 2 * self.batch
        self._written = time.monotonic()

    @property
    def failed(self) -> bool:
        """Whether something failed; then nothing more is deleted."""
        return self._failed

    def withhold(self, count: int) -> None:
        """Count deletes that aren't done."""
        self.report.withheld += count

    def take(self, outcomes: list[Outcome]) -> None:
        """Count, record and report the outcomes of some steps."""
        report, kept, progress = self.report, self._journal.kept, self._progress
        reached: list[tuple[int, int, int, str]] = []
        for step, status, size, source_etag, target_etag, error in outcomes:
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
        if waiting >= self.often or (waiting and time.monotonic() - self._written > _SECONDS):
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
        self.batch = max(1, self.batch // jobs)

    def flush(self) -> None:
        """Write the recorded outcomes to the journal."""
        if self._states or self._proven:
            self._journal.mark(self._states, self._pairs, self._gone, self._proven)
            self._states.clear()
            self._pairs.clear()
            self._gone.clear()
            self._proven.clear()
        self._written = time.monotonic()


def _expire_alike(one: Info, other: Info) -> bool:
    """Return whether two blobs expire at the same moment, or never: a copy expires a little later."""
    if one.expires is None or other.expires is None:
        return one.expires is other.expires
    return abs((one.expires - other.expires).total_seconds()) < 2


def _shard_error(error: Exception, key: str) -> StoreError:
    lost = StoreError(
        f"the worker that ran this shard died or couldn't be reached ({type(error).__name__}: {error}), so "
        "the blob may be copied or not; run again",
        key=key,
    )
    lost.__cause__ = error
    return lost


def _check_abilities(kind: str, source: Store, target: Store) -> None:
    source._need(Can.LIST, "list, which a transfer begins with")
    if kind == "verify":
        return
    target._need(Can.WRITE, "put")
    if kind == "sync":
        target._need(Can.LIST, "list, which a sync needs")
        target._need(Can.DELETE, "delete, which a sync does; give delete=False to copy only")
    if kind == "move":
        source._need(Can.DELETE, "delete, which a move does")


def _check_executor(executor: Any, jobs: int | None, *stores: Store) -> None:
    if executor is None:
        return
    if executor == "process":
        if jobs is not None:
            raise InvalidArgumentError('jobs are threads of this process: pass them, or executor="process"')
        return
    if not hasattr(executor, "submit"):
        raise InvalidArgumentError(
            f'an executor is "process" or has a submit, as those of concurrent.futures, not {executor!r}'
        )
    threads = sys.modules.get("concurrent.futures.thread")
    if threads is not None and type(executor) is threads.ThreadPoolExecutor:
        return  # its shards stay in this process
    for store in stores:
        if is_in_memory(store):
            raise InvalidArgumentError(
                f"executor= sends the stores to other processes, and {store!r} is in the memory of this one; "
                "leave executor= out, or use stores that other processes can open"
            )
        try:
            pickle.dumps(store)
        except Exception as error:
            raise InvalidArgumentError(
                f"executor= sends the stores to other processes by pickle, and {store!r} can't be pickled "
                f"({error}); leave executor= out, or use stores that other processes can open"
            ) from error


def _checked_path(journal: str | os.PathLike[str] | None) -> str | None:
    if journal is None:
        return None
    if not isinstance(journal, str | os.PathLike) or not os.fspath(journal):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"a journal is the path of a file, not {journal!r}")
    return os.path.abspath(os.path.expanduser(os.fspath(journal)))


def check_jobs(jobs: object) -> None:
    if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1):
        raise InvalidArgumentError(f"jobs is the number of threads, 1 or more, not {jobs!r}")


def _processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"
