"""The commands that compare: diff and verify."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from holdall.cli.completion import complete_store
from holdall.cli.errors import DIFFERENT, UNAVAILABLE, describe, warn
from holdall.cli.options import Json, KeyPrefix, StoreArgument, StoreOption
from holdall.cli.output import Output, amount
from holdall.cli.parameters import Parameter
from holdall.cli.places import check_there, read_from
from holdall.cli.progress import Meter
from holdall.cli.reports import Failures, difference_as_json, difference_line, log_failures, print_report
from holdall.cli.stores import open_at, spoken, store_name
from holdall.cli.transferring import (
    Compare,
    Exclude,
    Include,
    Jobs,
    Quiet,
    Source,
    Target,
    check_place,
)
from holdall.errors import StoreUnavailableError
from holdall.store import Info


class _Wishes(NamedTuple):
    """Which keys are compared; the commands take these options."""

    prefix: KeyPrefix = ""
    include: Include = None
    exclude: Exclude = None


def diff(
    source: Source,
    target: Target,
    *,
    wishes: _Wishes,
    compare: Compare = "auto",
    jobs: Jobs = None,
    json: Json = False,
    quiet: Annotated[bool, Parameter("--quiet", "-q", help="Print nothing; only set the exit code.")] = False,
) -> int:
    """List what differs between two stores.

    There is a line for each key: + only SOURCE has it, - only TARGET has it, ~ both have it with different
    bytes; sync --delete would add, delete and replace them. A line with ! names what can't be a blob, such as
    a symbolic link. The exit code is 0 if nothing differs, 1 if something does, 4 if a blob can't be read.

    Examples:
      holdall diff ./data sqlite:///backup.db
      holdall diff ./data backup: --prefix reports/ --compare size
    """
    return _compare("diff", source, target, wishes, compare, jobs, json, quiet)


def verify(
    source: StoreArgument = None,
    target: Annotated[
        str | None,
        Parameter(
            metavar="OTHER",
            complete=complete_store,
            check=check_place,
            help="A store that must hold the same.",
        ),
    ] = None,
    *,
    wishes: _Wishes,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    store: StoreOption = None,
) -> int:
    """Read every blob of a store, or compare every blob of two stores.

    Each blob of one store is read whole and checked against its size and any digest that is kept with it. The
    failures are printed, and the exit code is 4. Two stores are compared by content: it is 1 if they differ,
    with lines as in diff, and 4 if a blob can't be read.

    Examples:
      holdall verify zip://photos.zip
      holdall verify ./data sqlite:///backup.db
    """
    place = store_name(store, source)
    if target is None:
        return _check(place, wishes, jobs, json, quiet)
    return _compare("verify", place, target, wishes, "content", jobs, json, quiet)


def _check(place: str, wishes: _Wishes, jobs: int | None, json: bool, quiet: bool) -> int:
    """Read every blob of a store."""
    from holdall.transfer import verify_store

    with read_from(place) as store, Meter("verify", blobs=True) as meter, log_failures():
        meter.start_soon()
        report = verify_store(
            store,
            prefix=wishes.prefix,
            glob=wishes.include,
            exclude=wishes.exclude,
            jobs=jobs,
            progress=meter.progress,
        )
        meter.hide()
        print_report(report, spoken(place), json, quiet, Output())
    return UNAVAILABLE if report.failures else 0


def _compare(
    name: str,
    source: str,
    target: str,
    wishes: _Wishes,
    compare: str,
    jobs: int | None,
    json: bool,
    quiet: bool,
) -> int:
    """Print what differs between two stores, and return the exit code."""
    from holdall.transfer import diff_stores

    output = Output()
    compared = different = failed = 0

    def seen(_: Info) -> bool:
        nonlocal compared
        compared += 1
        meter.advance()
        return True

    with (
        read_from(source) as first,
        open_at(target) as second,
        Meter(name, blobs=True) as meter,
        Failures() as failures,
    ):
        try:
            check_there(second, target)
        except StoreUnavailableError as error:
            warn(describe(error))
        for each in diff_stores(
            first,
            second,
            prefix=wishes.prefix,
            glob=wishes.include,
            exclude=wishes.exclude,
            where=seen,
            compare=compare,
            jobs=jobs,
        ):
            meter.hide()
            if each.error is not None:
                failed += 1
                failures.report(describe(each.error))
            elif each.kind != "left out":
                different += 1
            if json:
                output.line(difference_as_json(each))
            elif not (quiet or each.error):
                output.line(difference_line(each))
        meter.hide()
    if name == "verify" and not (json or quiet):
        counts = [f"{different:,} differ{'s' if different == 1 else ''}"] if different else []
        counts += [f"{failed:,} can't be read"] if failed else []
        output.line(f"{amount(compared, 'key')} compared, {' and '.join(counts) or 'all are the same'}")
    return UNAVAILABLE if failed else DIFFERENT if different else 0
