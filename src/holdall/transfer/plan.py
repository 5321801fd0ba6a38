"""The plan of a transfer, which can be looked at, sent to other processes, and cut into shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from holdall.arguments import check_count
from holdall.store import Store
from holdall.transfer.journal import Journal
from holdall.transfer.shard import Shard
from holdall.transfer.step import Action, Kind, Rules, Step, action_of


class Plan:
    """The actions of a transfer in key order.

    It is a view of a temporary database, so it may be larger than memory.

    >>> from holdall import MemoryStore
    >>> from holdall.transfer import copy_store
    >>> plan = copy_store(MemoryStore({"a": b"1", "b": b"22"}), MemoryStore(), dry_run=True)
    >>> plan
    <Plan: 2 to copy (3 bytes), 0 to delete, 0 equal>
    >>> [action.key for action in plan]
    ['a', 'b']
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        rules: Rules,
        journal: Journal,
        equal: int,
        failures: dict[str, Exception],
    ) -> None:
        self.source = source
        self.target = target
        self.equal = equal
        """The number of blobs that are equal already."""
        self.failures = failures
        """For each key that can't be compared or copied, why; it is in no action."""
        self.withheld = 0
        """The number of deletes that aren't in the plan, since `failures` isn't empty."""
        self._rules = rules
        self._journal = journal
        if failures:
            self.withheld = journal.withhold_deletes()
        counts = journal.counts()
        self.copies: int = counts[Kind.COPY][0]
        """The number of blobs to be copied."""
        self.deletes: int = counts[Kind.DELETE][0] + counts[Kind.REMOVE][0]
        """The number of blobs to be deleted, without those that a move copies and then deletes."""
        self.bytes: int = counts[Kind.COPY][1]
        """The number of bytes to be copied."""

    def __len__(self) -> int:
        return self.copies + self.deletes

    def __iter__(self) -> Iterator[Action]:
        return map(action_of, self._journal.steps())

    def shards(self, count: int) -> list[Shard]:
        """Cut the plan into at most `count` parts of about equal work, which can run anywhere, in any order.
        The last part makes the deletes, if there are any, and must run after the others: it deletes nothing
        unless all of their copies are in the target.

        Args:
            count: 1 or more.

        Raises:
            InvalidArgumentError: `count` isn't an int of at least 1.

        >>> from holdall import MemoryStore
        >>> from holdall.transfer import copy_store
        >>> target = MemoryStore()
        >>> plan = copy_store(MemoryStore({"a": b"1", "b": b"22"}), target, dry_run=True)
        >>> [shard().copied for shard in plan.shards(2)], len(target)
        ([1, 1], 2)
        """
        check_count(count, "count")
        copies = list(self._journal.steps(Kind.COPY))
        deletes = list(self._journal.steps(Kind.DELETE, Kind.REMOVE))
        if count == 1 or not (deletes or self._rules.move):
            parts = _divide_steps(copies, count)
            return [self._shard(part, deletes) for part in parts or ([[]] if deletes else [])]
        # A blob that takes the place of a deleted one is copied by the shard that deletes.
        late = {step.number for step in copies if self._journal.is_in_the_way(step.key)}
        early = [step for step in copies if step.number not in late]
        last = self._shard([step for step in copies if step.number in late], deletes, early)
        return [*map(self._shard, _divide_steps(early, count - 1)), last]

    def _shard(
        self, copies: list[Step], deletes: list[Step] | None = None, awaited: list[Step] | None = None
    ) -> Shard:
        return Shard(self.source, self.target, self._rules, copies, deletes, awaited)

    def __repr__(self) -> str:
        return (
            f"<Plan: {self.copies:,} to copy ({self.bytes:,} bytes), {self.deletes:,} to delete, "
            f"{self.equal:,} equal>"
        )

    def __reduce__(self) -> tuple[Callable[..., Plan], tuple[Any, ...]]:
        steps = list(self._journal.steps())
        return _restored, (self.source, self.target, self._rules, steps, self.equal, self.failures)


def _restored(
    source: Store,
    target: Store,
    rules: Rules,
    steps: Iterable[Step],
    equal: int,
    failures: dict[str, Exception],
) -> Plan:
    journal = Journal(None)
    journal.add(steps)
    return Plan(source, target, rules, journal, equal, failures)


def _divide_steps(steps: list[Step], count: int) -> list[list[Step]]:
    """Yield the steps in at most `count` parts of about equal work."""
    total = sum(map(_weight, steps))
    parts: list[list[Step]] = [[]]
    done = 0
    for step in steps:
        weight = _weight(step)
        # A step belongs to the part that contains its middle.
        if parts[-1] and done + weight / 2 >= total * len(parts) / count and len(parts) < count:
            parts.append([])
        parts[-1].append(step)
        done += weight
    return [part for part in parts if part]


def _weight(step: Step) -> int:
    # A call costs about as much as this many bytes.
    return (1 << 16) + (step.size if step.kind == Kind.COPY else 0)
