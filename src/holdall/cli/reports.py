"""What a transfer prints: its plan, its report, its failures, and what differs between two stores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from holdall.cli.errors import describe, warn
from holdall.cli.logs import print_logs
from holdall.cli.output import Output, as_json, dumps, human
from holdall.errors import StoreError

if TYPE_CHECKING:
    from holdall.transfer import Difference, Plan, Report

_SHOWN = 10
"""How many failures that differ only in names are printed before they are only counted."""
_find_names = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\d+")


class Failures:
    """Prints failures on standard error: ten of those that are alike, at the end the number of the rest."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for kind, count in self._counts.items():
            if count > _SHOWN:
                warn(f"and {count - _SHOWN:,} more failures like this: {kind}")

    def report(self, text: str) -> None:
        """Print a failure, unless ten like it were printed."""
        kind = _find_names.sub("...", text)
        self._counts[kind] += 1
        if self._counts[kind] <= _SHOWN:
            warn(text)


def print_plan(plan: Plan, json: bool, quiet: bool, output: Output) -> None:
    """Print what a transfer would do, a line for each action."""
    with Failures() as failures:
        for key, error in plan.failures.items():
            failures.report(describe(error) if isinstance(error, StoreError) else f"{key!r}: {error!r}")
    for action in plan:
        if json:
            output.line(dumps(action._asdict()))
        elif not quiet:
            sign = "-" if action.kind == "delete" else "~" if action.target_etag is not None else "+"
            output.line(f"{sign} {action.key}  ({human(action.size)})")
    if not (json or quiet):
        counts = f"{plan.copies:,} to copy ({human(plan.bytes)}), {plan.deletes:,} to delete"
        output.line(f"{counts}, {plan.equal:,} equal; nothing was done")


def report_as_json(report: Report) -> dict[str, object]:
    """Return a report for `dumps`."""
    counts = ("copied", "skipped", "deleted", "checked", "resumed", "failed", "withheld", "left_out")
    counts += ("bytes", "seconds", "rate")
    failures = {key: describe(error) for key, error in report.failures.items()}
    return {**{name: getattr(report, name) for name in counts}, "failures": failures}


def print_report(report: Report, source: str, json: bool, quiet: bool, output: Output) -> None:
    """Print what a transfer did."""
    from holdall.transfer import Report

    if json:
        output.line(dumps(report_as_json(report)))
    elif not quiet:
        # An empty source isn't an error, but often a mistake in the arguments.
        empty = report == Report(seconds=report.seconds)
        output.line(f"nothing to do: {source} has no blobs that match" if empty else str(report))


def difference_line(each: Difference) -> str:
    """Return the line of one difference: + only in the source, - only in the target, ~ in both, ! in none."""
    if each.kind == "left out":
        # A name that can't be a key may not be printable either.
        name = each.key if each.key.isprintable() else ascii(each.key)
        return f"! {name}  (left out: {each.left_out})"
    if each.source is not None and each.target is not None:
        before, after = human(each.target.size), human(each.source.size)
        return f"~ {each.key}  ({after})" if before == after else f"~ {each.key}  ({before} -> {after})"
    if each.source is not None:
        return f"+ {each.key}  ({human(each.source.size)})"
    return f"- {each.key}  ({human(each.target.size) if each.target else ''})"


def difference_as_json(each: Difference) -> str:
    """Return one difference as JSON."""
    source = None if each.source is None else as_json(each.source)
    target = None if each.target is None else as_json(each.target)
    fields: dict[str, object] = {"kind": each.kind, "key": each.key, "source": source, "target": target}
    if each.left_out is not None:
        fields["left_out"] = each.left_out
    if each.error is not None:
        fields["error"] = describe(each.error)
    return dumps(fields)


@contextmanager
def log_failures() -> Generator[None]:
    """Print what the library logs when it happens, past the progress bar: the failures of a transfer."""
    with Failures() as failures, print_logs(failures.report):
        yield
