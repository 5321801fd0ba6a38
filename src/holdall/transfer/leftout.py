"""Protecting blobs at and under the paths that the other store's listing leaves out."""

from __future__ import annotations

from holdall.errors import KeyConflictError, StoreError
from holdall.transfer.compare import above
from holdall.transfer.journal import Journal
from holdall.transfer.step import Kind, Step

_BATCH = 1000


def protect(journal: Journal) -> list[tuple[Step, StoreError]]:
    """Remove from a plan the deletes that must not be done, and the copies that can't; return why they can't.

    This runs after the listing, so the order in which a store lists what it leaves out doesn't matter.
    """
    failures: list[tuple[Step, StoreError]] = []
    if not journal.left_out(True) and not journal.left_out(False):
        return failures
    deletes: list[tuple[int]] = []
    for step in journal.steps(Kind.DELETE):
        # The source may hold what its listing couldn't show: under a link, or in an unreadable folder.
        if journal.find_left_out(True, above(step.key)) is not None:
            deletes.append((step.number,))
            if len(deletes) == _BATCH:
                journal.drop_deletes(deletes)
                deletes.clear()
    journal.drop_deletes(deletes)
    for step in journal.steps(Kind.COPY, Kind.COMPARE):
        replaces = step.target_etag is not None
        found = journal.find_left_out(replaces, above(step.key))
        if found is not None:
            failures.append((step, _conflict(step.key, replaces, *found)))
    journal.resolve((), [(step.number,) for step, _ in failures])
    return failures


def _conflict(key: str, replaces: bool, path: str, kind: str) -> KeyConflictError:
    where = "" if path == key else f" at {path!r}"
    side, so = ("source", "so the target's") if replaces else ("target", "which")
    return KeyConflictError(
        f"the {side} holds something{where} that isn't a blob ({kind}), {so} isn't replaced; move it away, "
        "then run again",
        key=key,
    )
