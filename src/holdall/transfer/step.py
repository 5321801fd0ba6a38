"""The steps of a transfer, and their outcomes, as data."""

from __future__ import annotations

import enum
from typing import Literal, NamedTuple


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
    """The kinds of steps."""

    COPY = 0
    COMPARE = 1
    """Copy unless the contents are equal."""
    DELETE = 2
    REMOVE = 3
    """Delete from the source, once its contents are found in the target."""
    CHECK = 4
    """Read it whole."""
    GIVE_UP = 5
    """Delete from the source: this transfer has proven that the target holds it."""


COPIES = Kind.COPY, Kind.COMPARE, Kind.CHECK
DELETES = Kind.DELETE, Kind.REMOVE, Kind.GIVE_UP


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
    replace_unreadable: bool = False
    """Whether a blob of the target that can't be read is replaced."""


class Status:
    """The kinds of outcomes."""

    COPIED = 0
    SKIPPED = 1
    DELETED = 2
    CHECKED = 3
    FAILED = 4
    AGAIN = 5
    """Another blob is in the way, which may be deleted later."""
    DIFFERS = 6
    """Of a step that was only to be compared."""
    WITHHELD = 7
    """A delete that wasn't done, since something failed before."""
    LEFT_OUT = 8
    """Of a copy that was planned by an outline: it isn't a blob."""


class Outcome(NamedTuple):
    """The outcome of a step."""

    step: Step
    status: int
    size: int = 0
    source_etag: str | None = None
    target_etag: str | None = None
    """With the other one: of a pair that was found to be of equal bytes."""
    error: Exception | None = None
    left_out: str | None = None
    """The kind of what is left out."""


def action_of(step: Step) -> Action:
    """Return a step as a public action."""
    kind = "copy" if step.kind in (Kind.COPY, Kind.COMPARE) else "delete"
    return Action(kind, step.key, step.size, step.source_etag, step.target_etag)
