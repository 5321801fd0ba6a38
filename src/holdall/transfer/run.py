"""A transfer: its plan, its copies, its deletes and its report."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from holdall.arguments import check_count, check_type
from holdall.errors import DeleteRefusedError, InvalidArgumentError
from holdall.identity import identity, name_of
from holdall.paths import absolute
from holdall.spans import Span
from holdall.store import Can, Info, LeftOut, Store
from holdall.transfer.act import Act
from holdall.transfer.compare import Compare, Globs, Selection, judge, pairs
from holdall.transfer.journal import Journal
from holdall.transfer.leftout import protect
from holdall.transfer.options import Progress
from holdall.transfer.place import (
    has_ttl_of_its_own,
    is_folder,
    is_in_memory,
    missing_place,
    refuse_overlap,
)
from holdall.transfer.plan import Plan
from holdall.transfer.report import Report
from holdall.transfer.shard import Shard
from holdall.transfer.spread import Stopped, new_stop, spread
from holdall.transfer.step import Kind, Outcome, Rules, Status, Step
from holdall.transfer.tally import Tally
from holdall.transfer.work import Worker

if TYPE_CHECKING:
    from holdall.transfer.elsewhere import Executor

_log = logging.getLogger("holdall.transfer")

_PAGE = 1000
_MAX_PROCESSES = 8
_NONE = ("", "", "")


class Job:
    """One transfer. Its arguments are those of `copy_store`, checked here before anything is touched."""

    def __init__(
        self,
        kind: str,
        source: Store,
        target: Store,
        *,
        prefix: str | Span = "",
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
        max_delete: float = 1.0,
    ) -> None:
        for store in (source, target):
            check_type(store, Store, "source and target must be stores", hint="of a ValueStore give .store")
        if jobs is not None:
            check_count(jobs, "jobs, the number of threads,")
        _check_executor(executor, jobs, source, target)
        self._kind = kind
        self._outlines = True
        self._source = source
        self._target = target
        self._selection = selection = Selection(prefix, glob, where, exclude)
        self._judge = judge(compare)
        self._compare = compare
        self._known = compare == "auto"
        self._rules = Rules(bool(verify), kind == "move", compare == "auto", bool(replace_unreadable))
        self._jobs = jobs
        self._journal = _check_journal(journal)
        check_type(progress, Callable | None, "progress must be a function")
        self._progress = progress
        self._executor = None if executor == "process" else executor
        self._shares = executor == "process" and is_folder(source) and is_folder(target)
        self._max_delete = _check_limit(max_delete)
        self._stop = new_stop()
        self._options: dict[str, object] = {
            "kind": kind,
            "prefix": prefix,
            "glob": selection.globs[0] if len(selection.globs) == 1 else selection.globs or None,
            "where": None if where is None else name_of(where),
            "compare": name_of(compare) if callable(compare) else compare,
        }
        if selection.excluded:
            self._options["exclude"] = selection.excluded
        _check_abilities(kind, source, target)
        if kind == "verify":
            return
        refuse_overlap(source, target, selection, self._journal, deep=kind == "move", deletes=kind != "copy")

    def run(self) -> Report:
        """Plan and run the transfer. A run that was stopped is finished first; then both stores are listed
        again, so that the target ends up as the source is listed in this run."""
        begun = time.perf_counter()
        with Journal(self._journal) as journal:
            tally = Tally(journal, self._progress, move=self._kind == "move")
            act = self._act(journal, tally)
            transfer = [identity(self._source), identity(self._target)]
            finished = 0
            if journal.begin(transfer, self._options):
                # This run may have been allowed less than the one that was stopped.
                self._guard(journal, "nothing was touched")
                tally.resume()
                act.finish()
                finished = tally.finish()
                journal.restart({})
            self._list(journal, journal)
            conflicts = protect(journal)
            self._guard(journal, "nothing was deleted" if finished else "nothing was touched")
            journal.note(phase="act")
            tally.start(journal.fact("counts")["equal"] - finished, len(conflicts))
            tally.take([Outcome(step, Status.FAILED, error=error) for step, error in conflicts])
            act.run()
            journal.finish()
        tally.report.seconds = time.perf_counter() - begun
        return tally.report

    def plan(self) -> Plan:
        """Only plan; compare contents where they decide."""
        known = None
        # A plan says what each step is about.
        self._outlines = False
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
            for step, status, _, _, _, error, _ in outcomes:
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
        compares = ([step] for step in journal.steps(Kind.COMPARE))
        inline = self._source.inline and self._target.inline
        spread(worker, compares, take, jobs=self._jobs, inline=inline, stop=self._stop)
        settle()
        return Plan(self._source, self._target, self._rules, journal, equal, failures)

    def _list(self, journal: Journal, known: Journal | None) -> None:
        """List both stores side by side, and record the steps."""
        equal = selected = deletes = 0
        steps: list[tuple[int, int, str, int, str | None, str | None]] = []
        left_out: list[tuple[bool, LeftOut]] = []

        def record() -> None:
            if self._stop.is_set():
                raise Stopped
            journal.note_left_out(left_out)
            journal.add(steps)
            left_out.clear()
            steps.clear()

        def note(of_source: bool, entry: LeftOut) -> None:
            left_out.append((of_source, entry))

        for number, (kind, key, one, other) in enumerate(self._decide(known, note)):
            if other is not None:
                selected += 1
            if kind is None:
                equal += 1
                if self._kind == "move":
                    kind = Kind.REMOVE
            elif kind is Kind.DELETE:
                if self._kind != "sync":
                    kind = None
                else:
                    deletes += 1
            if kind is not None:
                size = (one or cast(Info, other)).size
                # That of an outline is empty.
                etags = None if one is None else one.etag or None, None if other is None else other.etag
                steps.append((0, kind.value, key, size, *etags))
            if number % _PAGE == _PAGE - 1 or len(left_out) >= _PAGE:
                record()
        record()
        journal.note(counts={"equal": equal, "selected": selected, "deletes": deletes})

    def _decide(
        self, known: Journal | None, noted: Callable[[bool, LeftOut], object]
    ) -> Iterator[tuple[Kind | None, str, Info | None, Info | None]]:
        """Yield the step for each key; None if both blobs are equal."""
        if self._kind == "verify":
            where = self._selection.where
            for one in self._selection.scan(self._source, lambda entry: noted(True, entry)):
                if where is None or where(one):
                    yield Kind.CHECK, one.key, one, None
            return
        equal: Iterator[tuple[str, str, str]] = iter(())
        if self._known and known is not None and known.kept:
            equal = known.pairs(self._selection.span)
        known_key, *etags = next(equal, _NONE)
        expires = (
            self._compare in ("auto", "content")
            and Can.EXPIRE in self._source.can & self._target.can
            and not has_ttl_of_its_own(self._target)
        )
        outline = self._outlines and self._kind in ("copy", "sync")
        for one, other in pairs(self._source, self._target, self._selection, noted, outline=outline):
            if one is None:
                yield Kind.DELETE, cast(Info, other).key, None, other
                continue
            key = one._key
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
        if missing is None and deletes <= (limit if isinstance(limit, int) else limit * selected):
            return
        # The next run lists both stores again, after the user has found the cause.
        journal.restart({})
        if missing is not None:
            why = f"there is nothing at {missing!r}, where the source is"
            hint = "Check the path, and whether its disk is mounted"
        else:
            allowed = f"{limit}" if isinstance(limit, int) else f"{limit:.0%} of them"
            why = f"max_delete allows {allowed}"
            hint = f"If the source is as it should be, pass max_delete={deletes} or 1.0"
        message = f"{deletes} of {selected} blobs of the target would be deleted, and {why}: {done}. {hint}"
        raise DeleteRefusedError(message, deletes=deletes, selected=selected)

    def _act(self, journal: Journal, tally: Tally) -> Act:
        stores = self._source, self._target
        copy = partial(self._copy_elsewhere, tally)
        return Act(*stores, self._rules, journal, tally, self._stop, jobs=self._jobs, copy_elsewhere=copy)

    def _copy_elsewhere(self, tally: Tally, steps: Iterator[Step]) -> bool:
        """Have the copies made by the executor, or by processes of our own; return False if this process is
        to make them."""
        left = tally.total - tally.done
        count = min(_processors(), _MAX_PROCESSES) if self._shares and left >= _PAGE else 1
        if self._executor is None and count == 1:
            return False
        # The import takes a sixth of the time of a small transfer.
        from holdall.transfer.elsewhere import Executor, Pool

        if self._executor is not None:
            executor = Executor(self._executor, self._jobs)
            self._submit(executor, steps, left // (4 * executor.workers), tally)
            return True
        try:
            pool = Pool(count, self._stop)
        except (OSError, AssertionError) as error:  # the latter in a daemon of multiprocessing
            _log.warning("the transfer stays in one process, since no other can be started: %r", error)
            return False
        with pool:
            # If this process is killed, what is in the pool is done again: small parts of the whole.
            self._submit(pool, steps, tally.total // (400 * count), tally)
        return True

    def _submit(self, executor: Executor, steps: Iterator[Step], size: int, tally: Tally) -> None:
        from holdall.transfer.elsewhere import copy_shards

        size = max(1, min(_PAGE, size))
        parts = iter(lambda: list(islice(steps, size)), [])
        shards = (Shard(self._source, self._target, self._rules, part) for part in parts)
        copy_shards(executor, shards, tally.take, self._stop)


def _expire_alike(one: Info, other: Info) -> bool:
    """Return whether two blobs expire at the same moment, or never: a copy expires a little later."""
    if one.expires is None or other.expires is None:
        return one.expires is other.expires
    return abs((one.expires - other.expires).total_seconds()) < 2


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
            raise InvalidArgumentError('pass jobs= (threads) or executor="process", not both')
        return
    if not hasattr(executor, "submit"):
        raise InvalidArgumentError(
            f'executor must be "process", or an executor as those of concurrent.futures, not {executor!r}'
        )
    threads = sys.modules.get("concurrent.futures.thread")
    if threads is not None and type(executor) is threads.ThreadPoolExecutor:
        return  # its shards stay in this process
    import pickle

    for store in stores:
        try:
            if is_in_memory(store):
                raise InvalidArgumentError("it is in the memory of this process")
            pickle.dumps(store)
        except Exception as error:
            raise InvalidArgumentError(
                f"executor= sends the stores to other processes by pickle, and {store!r} can't be sent "
                f"({error}); leave executor= out, or use stores that other processes can open"
            ) from error


def _check_journal(journal: str | os.PathLike[str] | None) -> str | None:
    if journal is None:
        return None
    if not isinstance(journal, str | os.PathLike) or not os.fspath(journal):
        raise InvalidArgumentError(f"journal must be the path of a file, not {journal!r}")
    return absolute(journal)


def _check_limit(max_delete: float) -> float:
    """Return the limit of deletes: a float is a share, an int a count."""
    fine = isinstance(max_delete, int | float) and not isinstance(max_delete, bool)
    if not fine or max_delete < 0 or (isinstance(max_delete, float) and not max_delete <= 1):
        raise InvalidArgumentError(
            f"max_delete must be a share from 0.0 to 1.0 (a float) or a number of blobs (an int), not "
            f"{max_delete!r}"
        )
    return max_delete


def _processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
