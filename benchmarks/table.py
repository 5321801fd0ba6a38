"""A table of samples: contenders by calls, a sample a round."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median


@dataclass
class Goal:
    """At most so many times the figure of another contender."""

    what: str
    name: str
    column: str
    limit: float
    other: str
    words: str


@dataclass
class Table:
    section: str
    """`small`, `nested`, `durable`, `mib`, `stream`, `list`, ..."""
    medium: str
    place: str
    """`tmpfs`, `disk` or `memory`."""
    title: str
    unit: str
    columns: list[str]
    bare: str = ""
    """The contender that the others are divided by."""
    names: list[str] = field(default_factory=list)
    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    seconds: float = 0.0
    """How long it took to fill, with all that was made for it."""

    def add(self, name: str, column: str, value: float) -> None:
        self.samples.setdefault((name, column), []).append(value)

    def fail(self, name: str, column: str, why: str) -> None:
        self.reasons.setdefault((name, column), " ".join(why.split())[:120])
        self.samples.pop((name, column), None)

    def goal(
        self, what: str, name: str, column: str, limit: float, other: str | None = None, words: str = ""
    ) -> None:
        """Say what must be reached, which is at most `limit` times what the other contender takes.

        Args:
            what: What is held against it, as in "joblib, files: a hit".
            name: Whose figure.
            column: Which figure.
            limit: How many times the other's at most.
            other: The other contender; by default the bare one.
            words: The goal, where another sentence than "<= 1.3x OTHER" is clearer.
        """
        other = self.bare if other is None else other
        default = f"<= {limit:g}x {other}" if limit != 1 else f"no slower than {other}"
        self.goals.append(Goal(what, name, column, limit, other, words or default))

    def median(self, name: str, column: str) -> float | None:
        found = self.samples.get((name, column))
        return median(found) if found else None

    def ratio(self, name: str, column: str, other: str | None = None) -> float | None:
        """How many times the other's value: the median of the rounds' own ratios, run side by side."""
        mine = self.samples.get((name, column))
        theirs = self.samples.get((self.bare if other is None else other, column))
        if not mine or not theirs:
            return None
        if len(mine) == len(theirs):
            return median(a / b for a, b in zip(mine, theirs, strict=True))
        return median(mine) / median(theirs)

    def added(self, name: str, column: str) -> float | None:
        """How much more than the bare value: the median of the rounds' own differences."""
        mine, theirs = self.samples.get((name, column)), self.samples.get((self.bare, column))
        if not mine or not theirs:
            return None
        return median(a - b for a, b in zip(mine, theirs, strict=True))
