"""The commands that copy between two stores: sync and mirror, and what cp and mv of whole stores share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

from holdall.cli.completion import complete_store
from holdall.cli.errors import UNAVAILABLE, UsageFault, warn
from holdall.cli.options import DryRun, Json, KeyPrefix
from holdall.cli.output import Output, amount, dumps
from holdall.cli.parameters import Parameter
from holdall.cli.places import read_from
from holdall.cli.progress import Meter
from holdall.cli.reports import log_failures, print_plan, print_report
from holdall.cli.stores import open_at, spoken
from holdall.errors import DeleteRefusedError
from holdall.store import Store

if TYPE_CHECKING:
    # Most commands don't need it: it is imported when a transfer is made.
    from holdall.transfer import Plan, Report

T = TypeVar("T")

_WAYS = ("auto", "size", "modified", "etag", "content")


def _complete_compare(incomplete: str) -> list[str]:
    return [way for way in _WAYS if way.startswith(incomplete)]


def _check_compare(compare: str) -> str:
    if compare not in _WAYS:
        raise UsageFault(f"--compare takes one of {', '.join(_WAYS)}, not {compare!r}")
    return compare


def check_place(place: T) -> T:
    """Refuse an empty name of a store, as of a variable that isn't set."""
    if place == "":
        raise UsageFault("a store is a path, a URI or a configured name, but one of those given is empty")
    return place


Source = Annotated[
    str,
    Parameter(
        metavar="SOURCE",
        complete=complete_store,
        check=check_place,
        help="A store: a URI, a path, or a configured name.",
    ),
]
Target = Annotated[
    str, Parameter(metavar="TARGET", complete=complete_store, check=check_place, help="Another store.")
]
Include = Annotated[
    list[str] | None,
    Parameter(
        "--include",
        "--glob",
        "-g",
        metavar="GLOB",
        help="Only keys that match: * stays within a folder, **/ crosses any number of them. "
        "May be repeated.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    Parameter(
        "--exclude",
        "-x",
        metavar="GLOB",
        help="No keys that match, nor any under a folder that matches; they are left alone in TARGET too. "
        "May be repeated.",
    ),
]
Jobs = Annotated[
    int | None, Parameter("--jobs", "-j", metavar="N", least=1, help="Copy up to N blobs at a time.")
]
MaxDelete = Annotated[
    str | None,
    Parameter(
        "--max-delete",
        metavar="SHARE",
        help="Refuse to delete more of the target: a share such as 10% or 0.1, or a number of blobs. "
        "Without it, 50%.",
    ),
]
Quiet = Annotated[bool, Parameter("--quiet", "-q", help="Print nothing but failures.")]
Compare = Annotated[
    str,
    Parameter(
        "--compare",
        metavar="HOW",
        complete=_complete_compare,
        check=_check_compare,
        help="When blobs are equal: size, modified (same size, and the target isn't older), etag, content, "
        "or auto: same size and digest where both stores know it, otherwise content.",
    ),
]


class Wishes(NamedTuple):
    """What the options of a transfer ask for; the commands take them all."""

    prefix: KeyPrefix = ""
    include: Include = None
    exclude: Exclude = None
    compare: Compare = "auto"
    dry_run: DryRun = False
    jobs: Jobs = None
    resume: Annotated[
        bool,
        Parameter(
            "--resume",
            help="Keep a journal in $XDG_STATE_HOME/holdall, and go on where the same command was stopped.",
        ),
    ] = False
    journal: Annotated[
        str | None,
        Parameter("--journal", metavar="FILE", help="As --resume, with the journal in this file."),
    ] = None
    no_verify: Annotated[bool, Parameter("--no-verify", help="Don't read back what was copied.")] = False
    replace_unreadable: Annotated[
        bool,
        Parameter(
            "--replace-unreadable",
            help="Replace blobs of TARGET that can't be read, such as damaged ones. Without it, each of them "
            "is a failure.",
        ),
    ] = False
    json: Json = False
    quiet: Quiet = False


def sync(
    source: Source,
    target: Target,
    delete: Annotated[
        bool, Parameter("--delete", help="Delete from TARGET what SOURCE lacks; see --max-delete.")
    ] = False,
    max_delete: MaxDelete = None,
    *,
    wishes: Wishes,
) -> int:
    """Copy to one store what differs in another.

    Only what TARGET lacks, or holds with other bytes, is copied, and read back. If a blob fails, the error is
    printed, the others are copied, nothing is deleted, and the exit code is 4. Without --delete nothing is
    deleted at all. It is an error if the folder or file of SOURCE doesn't exist.

    Examples:
      holdall sync ./data sqlite:///backup.db
      holdall sync ./photos zip://p.zip --glob '**/*.jpg' --exclude .git -n
      holdall sync ./data models: --resume --delete --max-delete 10%
    """
    if max_delete is not None and not delete:
        raise UsageFault("--max-delete goes with --delete")
    name = "sync --delete" if delete else "sync"
    return _sync(name, source, target, delete, max_delete, wishes)


def mirror(source: Source, target: Target, max_delete: MaxDelete = None, *, wishes: Wishes) -> int:
    """Make one store the same as another: sync --delete.

    What TARGET has and SOURCE lacks is deleted after everything was copied, unless something failed. If that
    would be more than half of TARGET, nothing is changed and the exit code is 3; --max-delete sets another
    limit. Keys that --prefix, --include or --exclude leave out stay in TARGET.

    Examples:
      holdall mirror ./site hashdir:///srv/site --dry-run
      holdall mirror ./site hashdir:///srv/site --max-delete 100
    """
    return _sync("mirror", source, target, True, max_delete, wishes)


def transfer(name: str, act: Callable[..., Report | Plan], source: str, target: str, wishes: Wishes) -> int:
    """Run a command from store to store, print what was done, and return the exit code; `act` is
    `copy_store`, or a function with its signature."""
    from holdall.transfer import Plan

    output = Output()
    with (
        read_from(source) as first,
        open_at(target) as second,
        Meter(name, blobs=True) as meter,
        log_failures(),
    ):
        meter.start_soon()
        try:
            result = act(
                first,
                second,
                prefix=wishes.prefix,
                glob=wishes.include,
                exclude=wishes.exclude,
                compare=wishes.compare,
                verify=not wishes.no_verify,
                replace_unreadable=wishes.replace_unreadable,
                jobs=wishes.jobs,
                dry_run=wishes.dry_run,
                journal=_journal(name, first, second, wishes),
                progress=meter.progress,
            )
        except DeleteRefusedError as error:
            blobs = amount(error.selected, "blob")
            error.message = (
                f"{error.deletes:,} of {blobs} in {spoken(target)} would be deleted, so nothing was changed; "
                f"if SOURCE is right, run it with --max-delete {error.deletes}"
            )
            raise
        except (KeyboardInterrupt, SystemExit):
            meter.hide()
            again = "run it again" if wishes.resume or wishes.journal else "run it again (with --resume)"
            warn(f"stopped; what was copied is whole; {again} to go on")
            raise
        meter.hide()
        if isinstance(result, Plan):
            print_plan(result, wishes.json, wishes.quiet, output)
        else:
            print_report(result, spoken(source), wishes.json, wishes.quiet, output)
    return UNAVAILABLE if result.failures else 0


def _sync(name: str, source: str, target: str, delete: bool, max_delete: str | None, wishes: Wishes) -> int:
    limit = _limit(max_delete)
    from holdall.transfer import sync_stores

    return transfer(name, partial(sync_stores, delete=delete, max_delete=limit), source, target, wishes)


def _limit(text: str | None) -> float | int:
    """Return what --max-delete allows: a share, or a number of blobs."""
    if text is None:
        return 0.5
    if text.isascii() and text.isdecimal():
        return int(text)
    return parse_share(text, "a share such as 10% or 0.1, or a number of blobs")


def parse_share(text: str, expected: str = "a share such as 10% or 0.1") -> float:
    """Return the share of all blobs that --max-delete gives, from 0 to 1.

    >>> parse_share("10%"), parse_share("0.1"), parse_share("1")
    (0.1, 0.1, 1.0)
    """
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageFault(f"--max-delete takes {expected}, not {text!r}")
    return share


def _journal(name: str, source: Store, target: Store, wishes: Wishes) -> str | None:
    """Return the file in which this transfer, and no other, is recorded."""
    if wishes.journal is not None or not wishes.resume:
        return wishes.journal
    return journal_of(name, source, target, wishes.prefix, wishes.include, wishes.exclude, wishes.compare)


def journal_of(name: str, source: Store, target: Store, *selection: object) -> str:
    """Return the path of the journal of a command from one store to another, and make its folder."""
    from hashlib import sha256

    from holdall.identity import identity

    which = [name, identity(source), identity(target), *selection]
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = os.path.join(state, "holdall")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, f"{sha256(dumps(which).encode()).hexdigest()[:32]}.journal")
