"""The differences between two stores, key by key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from holdall.arguments import check_type
from holdall.stopping import Stop
from holdall.store import Can, Info, LeftOut, Store
from holdall.transfer.compare import Compare, Difference, Selection, above, judge, pairs
from holdall.transfer.spread import JOBS, Gauge
from holdall.transfer.step import Kind, Rules, Status, Step
from holdall.transfer.work import Worker

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


def differences(
    source: Store,
    target: Store,
    selection: Selection,
    compare: Compare,
    jobs: int | None,
    stop: Stop,
) -> Iterator[Difference]:
    """Yield the differences in key order; check the arguments at once."""
    decide = judge(compare)
    for store in (source, target):
        check_type(store, Store, "source and target must be stores", hint="of a ValueStore give .store")
        store._need(Can.LIST, "list, which a comparison needs")
    worker = Worker(source, target, Rules(digests=compare == "auto"), stop, dry=True)
    inline = source.inline and target.inline
    paired = _pair(source, target, selection)
    return _differences(paired, decide, worker, 1 if inline else jobs)


def _pair(source: Store, target: Store, selection: Selection) -> Iterator[Difference]:
    """Yield each key that one of the stores has or leaves out. The blobs of a key that both have aren't
    compared yet."""
    left: dict[str, str] = {}
    new: list[Difference] = []

    def noted(of_source: bool, entry: LeftOut) -> None:
        side = f"{'source' if of_source else 'target'}: {entry.kind}"
        path = entry.path.rstrip("/")
        known = left.get(path)
        if known is not None and side in known:
            return
        left[path] = side if known is None else f"{known}; {side}"
        new.append(Difference("left out", entry.path, None, None, None, side))

    for one, other in pairs(source, target, selection, noted):
        key = (one or cast(Info, other)).key
        if new:
            # The listings are read one entry ahead.
            new.sort(key=lambda each: each.key)
            while new and new[0].key <= key:
                entry = new.pop(0)
                if entry.key != key:
                    yield entry
        at = next((left[path] for path in above(key) if path in left), None) if left else None
        if at is not None:
            yield Difference("left out", key, one, other, None, at)
        elif one is None or other is None:
            yield Difference("target" if one is None else "source", key, one, other)
        else:
            yield Difference("differs", key, one, other)
    yield from new


def _differences(
    found: Iterator[Difference],
    decide: Callable[[Info, Info], bool | None],
    worker: Worker,
    jobs: int | None,
) -> Iterator[Difference]:
    flying: deque[Difference | Future[Difference | None]] = deque()
    pool: ThreadPoolExecutor | None = None
    gauge = Gauge()

    def compared(unit: tuple[Difference]) -> Difference | None:
        (difference,) = unit
        one, other = cast(Info, difference.source), cast(Info, difference.target)
        step = Step(0, Kind.COMPARE, difference.key, one.size, one.etag, other.etag)
        outcome = worker([step])[0]
        if outcome.error is not None:
            return difference._replace(kind="failed", error=outcome.error)
        return difference if outcome.status == Status.DIFFERS else None

    def taken(most: int) -> Iterator[Difference]:
        """Yield what is known, in order; wait while there are more than `most`."""
        while flying and (len(flying) > most or isinstance(flying[0], Difference) or flying[0].done()):
            first = flying.popleft()
            different = first if isinstance(first, Difference) else first.result()
            if different is not None:
                yield different

    try:
        for each in found:
            verdict: bool | None = False
            if each.kind == "differs":
                verdict = decide(cast(Info, each.source), cast(Info, each.target))
            if verdict:
                continue
            if pool is None and (gauge.waits if jobs is None else jobs > 1):
                from concurrent.futures import ThreadPoolExecutor

                pool = ThreadPoolExecutor(jobs or JOBS, thread_name_prefix="holdall-diff")
            if verdict is False:
                flying.append(each)
            elif pool is not None:
                flying.append(pool.submit(compared, (each,)))
            elif (different := gauge.run(compared, (each,))) is not None:
                flying.append(different)
            yield from taken(4 * (jobs or JOBS))
        yield from taken(0)
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
