"""A part of a plan, which any process can run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

from holdall.errors import BlobNotFoundError, StoreError
from holdall.stopping import Stop
from holdall.store import Store
from holdall.transfer.act import Act, units_of
from holdall.transfer.journal import Journal
from holdall.transfer.report import Report
from holdall.transfer.spread import new_stop, spread
from holdall.transfer.step import Action, Kind, Outcome, Rules, Status, Step, action_of
from holdall.transfer.tally import Tally
from holdall.transfer.work import Worker

_BATCH = 64


class Shard:
    """A part of a plan that can run in any process: it can be pickled, with its stores as their settings.

    It is called without arguments and returns a `Report`.

    Args:
        source: From where.
        target: To where.
        rules: How.
        copies: The steps that copy.
        deletes: The steps that delete afterwards, if nothing has failed; in a move also the copied blobs.
            None if another shard deletes.
        awaited: The copies of other shards that must be done before anything is deleted. A move deletes
            their sources, too.
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        rules: Rules,
        copies: list[Step],
        deletes: list[Step] | None = None,
        awaited: list[Step] | None = None,
    ) -> None:
        self._stores: tuple[Store, Store] | bytes = source, target
        self.rules = rules
        self.copies = copies
        self.deletes = deletes
        self.awaited = awaited or []

    @property
    def source(self) -> Store:
        """The store that is copied from."""
        return self._open_stores()[0]

    @property
    def target(self) -> Store:
        """The store that is copied to."""
        return self._open_stores()[1]

    def _open_stores(self) -> tuple[Store, Store]:
        if isinstance(self._stores, bytes):
            import pickle

            self._stores = cast("tuple[Store, Store]", pickle.loads(self._stores))
        return self._stores

    def __getstate__(self) -> dict[str, object]:
        # Most transfers send nothing, and its import takes as long as listing five hundred blobs.
        import pickle

        # A store that can't be opened there must raise in the call, where the error is reported: while the
        # shard is unpickled, it would end the worker.
        stores = self._stores if isinstance(self._stores, bytes) else pickle.dumps(self._stores)
        return {**self.__dict__, "_stores": stores}

    def __len__(self) -> int:
        return len(self.copies) + len(self.deletes or ())

    def __iter__(self) -> Iterator[Action]:
        return map(action_of, [*self.copies, *(self.deletes or ())])

    def __call__(self) -> Report:
        begun = time.perf_counter()
        moves = self.rules.move and self.deletes is not None
        with Journal(None) as journal:
            journal.add([*self.copies, *(self.deletes or ())])
            if moves:
                journal.add([step._replace(kind=Kind.REMOVE, target_etag=None) for step in self.awaited])
            tally = Tally(journal, None, move=moves)
            tally.start()
            tally.batch = _BATCH
            act = Act(self.source, self.target, self.rules, journal, tally, new_stop())
            act.run(self._first_missing)
        report = tally.report
        report.failures = {key: _portable(error, key) for key, error in report.failures.items()}
        report.seconds = time.perf_counter() - begun
        return report

    def _first_missing(self) -> Outcome | None:
        """Return the failure of the first copy of the other shards that isn't in the target."""
        for step in self.awaited:
            try:
                if self.target._info(step.key).etag != step.target_etag:
                    continue
            except BlobNotFoundError:
                pass
            error = StoreError(
                "it wasn't copied yet, so nothing is deleted: run the last shard, which deletes, after the "
                "others",
                key=step.key,
            )
            # The number of the step belongs to another journal.
            return Outcome(step._replace(number=0), Status.FAILED, error=error)
        return None

    def __repr__(self) -> str:
        return f"<Shard of {len(self)} actions, {self.source!r} to {self.target!r}>"


def copy_shard(shard: Shard, stop: Stop | None = None) -> list[Outcome]:
    """Make the copies of a shard; return the outcome of each step, which can be sent to another process."""
    outcomes: list[Outcome] = []
    stop = stop or new_stop()
    worker = Worker(shard.source, shard.target, shard.rules, stop)
    inline = shard.source.inline and shard.target.inline
    units = units_of(shard.copies, worker.bulk, lambda: _BATCH)
    spread(worker, units, outcomes.extend, jobs=None, inline=inline, stop=stop)
    return [
        outcome._replace(error=_portable(outcome.error, outcome.step.key)) if outcome.error else outcome
        for outcome in outcomes
    ]


def _portable(error: Exception, key: str) -> Exception:
    """Return an error that can be sent to another process."""
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - other packages' exceptions may do anything there
        return StoreError(f"{type(error).__qualname__}: {error}", key=key)
    return error
