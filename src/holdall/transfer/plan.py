"""What a transfer is going to do, as data."""

from __future__ import annotations

import enum
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from holdall.errors import InvalidArgumentError
from holdall.store import Store
from holdall.transfer.report import Report

if TYPE_CHECKING:
    from holdall.transfer.journal import Journal

__all__ = ["Action", "Kind", "Plan", "Rules", "Shard", "Step"]


class Action(NamedTuple):
    """One thing that a transfer does."""

    kind: Literal["copy", "delete"]
    """`copy` writes the target, and in a move deletes the source afterwards. `delete` is of the target in
    a sync, and of the source, whose blob the target holds already, in a move."""
    key: str
    size: int
    """Of the blob that is copied or deleted, in bytes."""
    source_etag: str | None
    """As it was listed; None where the source has no such blob."""
    target_etag: str | None
    """As it was listed; None where the target has no such blob."""


class Kind(enum.IntEnum):
    """What a step does."""

    COPY = 0
    COMPARE = 1
    """Copy unless the contents are equal."""
    DELETE = 2
    REMOVE = 3
    """Delete from the source: the target holds it."""
    CHECK = 4
    """Read it whole."""


class Step(NamedTuple):
    """An action with its number in the journal; a plain tuple, since there may be millions."""

    number: int
    kind: int
    key: str
    size: int
    source_etag: str | None
    target_etag: str | None


class Rules(NamedTuple):
    """How the steps of one transfer are done."""

    verify: bool = True
    move: bool = False
    digests: bool = True
    """Whether equal digests that both stores know make two blobs equal."""


class Shard:
    """A part of a plan, to be run anywhere: it pickles, its stores as their settings.

    It is called without arguments and returns a `Report`.
    """

    def __init__(self, source: Store, target: Store, rules: Rules, steps: list[Step]) -> None:
        self._stores: tuple[Store, Store] | bytes = source, target
        self._rules = rules
        self._steps = steps

    @property
    def source(self) -> Store:
        """From where."""
        return self._opened()[0]

    @property
    def target(self) -> Store:
        """To where."""
        return self._opened()[1]

    def _opened(self) -> tuple[Store, Store]:
        if isinstance(self._stores, bytes):
            self._stores = cast("tuple[Store, Store]", pickle.loads(self._stores))
        return self._stores

    def __reduce__(self) -> tuple[object, ...]:
        # A store that can't be opened over there is to raise in the call, where it can be told: while it
        # arrives, it would take the worker down.
        stores = self._stores if isinstance(self._stores, bytes) else pickle.dumps(self._stores)
        return _arrived, (stores, self._rules, self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Action]:
        return map(action_of, self._steps)

    def __call__(self) -> Report:
        from holdall.transfer.run import run_shard

        return run_shard(self)[0]

    @property
    def work(self) -> tuple[Rules, list[Step]]:
        """How to do what."""
        return self._rules, self._steps

    def __repr__(self) -> str:
        return f"<Shard of {len(self)} actions, {self.source!r} to {self.target!r}>"


def _arrived(stores: bytes, rules: Rules, steps: list[Step]) -> Shard:
    shard = Shard.__new__(Shard)
    shard.__dict__.update(_stores=stores, _rules=rules, _steps=steps)
    return shard


class Plan:
    """What a transfer would do: its actions in key order.

    It is a view of a temporary database, so that it may be longer than memory.

    >>> from holdall import MemoryStore
    >>> from holdall.transfer import copy_store
    >>> plan = copy_store(MemoryStore({"a": b"1", "b": b"22"}), MemoryStore(), dry_run=True)
    >>> plan
    <Plan: 2 to copy (3 bytes), 0 to delete, 0 equal>
    >>> [action.key for action in plan]
    ['a', 'b']
    """

    def __init__(self, source: Store, target: Store, rules: Rules, journal: Journal, equal: int) -> None:
        self.source = source
        self.target = target
        self.equal = equal
        """How many blobs are equal already."""
        self.failures: dict[str, Exception] = {}
        """For each key that could not be compared, why; it is in no action."""
        self._rules = rules
        self._journal = journal
        counts = journal.counts()
        self.copies: int = counts[Kind.COPY][0]
        """How many blobs are to be copied."""
        self.deletes: int = counts[Kind.DELETE][0] + counts[Kind.REMOVE][0]
        """How many blobs are to be deleted; a move deletes what it copies besides."""
        self.bytes: int = counts[Kind.COPY][1]
        """How many bytes are to be copied."""

    def __len__(self) -> int:
        return self.copies + self.deletes

    def __iter__(self) -> Iterator[Action]:
        return map(action_of, self._journal.steps())

    def shards(self, count: int) -> list[Shard]:
        """The plan in at most `count` parts of about equal work, to be run anywhere, in any order.

        >>> from holdall import MemoryStore
        >>> from holdall.transfer import copy_store
        >>> target = MemoryStore()
        >>> plan = copy_store(MemoryStore({"a": b"1", "b": b"22"}), target, dry_run=True)
        >>> [shard().copied for shard in plan.shards(2)], len(target)
        ([1, 1], 2)
        """
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"a plan is cut in one shard or more, not {count!r}")
        total = sum(_weight(step) for step in self._journal.steps())
        shards: list[list[Step]] = [[]]
        done = 0
        # A delete is kept back if a copy of its size failed, which only its own shard knows.
        deleted = {step.size for step in self._journal.steps(Kind.DELETE) if step.size}
        homes: dict[int, int] = {}
        for step in self._journal.steps():
            weight = _weight(step)
            # A step goes to the part in which its middle lies.
            if shards[-1] and done + weight / 2 >= total * len(shards) / count and len(shards) < count:
                shards.append([])
            last = len(shards) - 1
            shards[homes.setdefault(step.size, last) if step.size in deleted else last].append(step)
            done += weight
        return [Shard(self.source, self.target, self._rules, steps) for steps in shards if steps]

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
    from holdall.transfer.journal import Journal

    journal = Journal(None)
    journal.add(steps)
    plan = Plan(source, target, rules, journal, equal)
    plan.failures = failures
    return plan


def action_of(step: Step) -> Action:
    """What a step is to a user."""
    kind = "copy" if step.kind in (Kind.COPY, Kind.COMPARE) else "delete"
    return Action(kind, step.key, step.size, step.source_etag, step.target_etag)


def _weight(step: Step) -> int:
    # A call costs about as much as this many bytes.
    return (1 << 16) + (step.size if step.kind == Kind.COPY else 0)
