"""The command that takes everything to another store, which is used instead from then on: migrate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

from holdall.cli.errors import DIFFERENT, UNAVAILABLE, Refusal, UsageFault, describe, warn
from holdall.cli.options import DryRun, Json
from holdall.cli.output import Output, amount, dumps
from holdall.cli.parameters import Parameter
from holdall.cli.places import read_from
from holdall.cli.progress import Meter
from holdall.cli.reports import log_failures, print_plan, report_as_json
from holdall.cli.stores import open_at, spoken
from holdall.cli.transferring import Jobs, Quiet, Source, Target, journal_of
from holdall.spans import Span
from holdall.store import Can, Store

if TYPE_CHECKING:
    from holdall.transfer import Plan, Report

_SHOWN = 10


def migrate(
    source: Source,
    target: Target,
    merge: Annotated[
        bool, Parameter("--merge", help="Also into a store that has blobs: add those that it lacks.")
    ] = False,
    jobs: Jobs = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Take everything to another store, to use that one instead.

    All blobs are copied with their content types, metadata and times to live, and each copy is read back.
    Then both stores are compared once more. SOURCE isn't changed. After an interruption the same command goes
    on; run it again before you switch, for what was written meanwhile.

    TARGET must be empty, unless --merge is given. A blob that TARGET has with other bytes is never replaced:
    then nothing is done, and the exit code is 3. It is 1 if SOURCE was changed meanwhile, and 4 if a blob
    can't be copied. See sync for two stores that stay in use.

    Examples:
      holdall migrate ./data sqlite:///data.db
      holdall migrate sqlite:///data.db s3://bucket/data --dry-run
    """
    from holdall.transfer import copy_store

    output = Output()
    name = spoken(target)
    with (
        read_from(source) as first,
        open_at(target) as second,
        Meter("migrate", blobs=True) as meter,
        log_failures(),
    ):
        meter.start_soon()
        journal = journal_of("migrate", first, second)
        began = os.path.exists(journal)
        _check_room(first, second, name)
        if not (began or merge):
            _check_empty(second, name)
        if dry_run or began or merge:
            plan = copy_store(first, second, dry_run=True, jobs=jobs, journal=journal if began else None)
            _check_newer(plan, journal if began else None, name)
            if dry_run:
                meter.hide()
                print_plan(plan, json, quiet, output)
                return UNAVAILABLE if plan.failures else 0
        try:
            report = copy_store(first, second, jobs=jobs, journal=journal, progress=meter.progress)
        except (KeyboardInterrupt, SystemExit):
            meter.hide()
            warn("stopped; what was copied is whole; run it again to go on")
            raise
        # What the journal knows to be equal isn't read again.
        after = copy_store(first, second, dry_run=True, jobs=jobs, journal=journal)
        meter.hide()
        return _print_result(report, after, name, json, quiet, output)


def _check_room(source: Store, target: Store, name: str) -> None:
    """Refuse a target that can't keep what the blobs have; warn of what can be guessed again."""
    lost = source.can & ~target.can
    if Can.EXPIRE in lost:
        for info in source.list():
            if info.expires is not None:
                raise UsageFault(
                    f"{info.key!r} expires, and {name} can't keep times to live: put ttl = ... over it in "
                    "holdall.toml, or copy the blobs without them, by 'holdall cp'"
                )
    if Can.ATTRIBUTES in lost:
        warn(f"{name} can't keep content types; a blob that has one comes without it")
    if Can.METADATA in lost:
        warn(f"{name} can't keep metadata; a blob that has some comes without it")


def _check_empty(target: Store, name: str) -> None:
    key = next(target.iterate_keys(), None) if Can.LIST in target.can else None
    if key is not None:
        raise Refusal(
            f"{name} isn't empty: it has {key!r}, so nothing was done; name another store or an empty folder "
            "of this one, or give --merge to add what it lacks"
        )


def _check_newer(plan: Plan, journal: str | None, name: str) -> None:
    """Refuse to replace blobs of the target that an earlier run didn't put there."""
    found = list(_newer(plan, journal))
    if not found:
        return
    for key in found[:_SHOWN]:
        warn(f"{key!r}: {name} has other bytes")
    raise Refusal(
        f"{amount(len(found), 'blob')} in {name} would be replaced, so nothing was done; delete those that "
        "aren't needed, or replace them by 'holdall sync'"
    )


def _newer(plan: Plan, journal: str | None) -> Iterator[str]:
    from holdall.transfer.journal import Journal

    with closing(Journal(journal)) as known:
        pairs = known.pairs(Span())
        key, etag = "", None
        for action in plan:
            if action.target_etag is None:
                continue
            while key < action.key:
                key, _, etag = next(pairs, ("\U0010ffff", "", None))
            if key != action.key or etag != action.target_etag:
                yield action.key


def _print_result(report: Report, after: Plan, target: str, json: bool, quiet: bool, output: Output) -> int:
    changed = after.copies + len(after.failures.keys() - report.failures.keys())
    if json:
        output.line(dumps({**report_as_json(report), "in_target": after.equal, "changed": changed}))
    elif not quiet:
        output.line(str(report))
    for key, error in after.failures.items():
        if key not in report.failures:
            warn(describe(error))
    if report.failures:
        warn(f"{target} lacks {amount(report.failed, 'blob')}; run it again when that is mended")
        return UNAVAILABLE
    if changed:
        warn(f"{amount(changed, 'blob')} changed meanwhile; run it again, when nothing writes to SOURCE")
        return DIFFERENT
    if not (after.equal or json):
        warn("SOURCE has no blobs; is it the right one?")
    elif not (json or quiet):
        output.line(f"{amount(after.equal, 'blob')} in {target}, read back and compared")
    return 0
