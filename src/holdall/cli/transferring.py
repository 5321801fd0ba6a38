"""The commands between two stores: sync, mirror, diff, verify, and cp and mv of whole stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import unquote

import typer

from holdall.cli.completion import complete_store
from holdall.cli.errors import DIFFERENT, UNAVAILABLE, UsageFault, describe, warn
from holdall.cli.options import Json, address, opened_at
from holdall.cli.output import Output, amount, as_json, dumps, human
from holdall.cli.progress import Meter
from holdall.errors import DeleteRefusedError, StoreError, StoreUnavailableError, UnsupportedOperation
from holdall.layers.layer import Layer
from holdall.store import Info, Store

if TYPE_CHECKING:
    # What copies is imported when it is needed: it brings sqlite3, which most commands do without.
    from holdall.transfer import Difference, Plan, Report

__all__ = [
    "Compare",
    "DryRun",
    "Glob",
    "Jobs",
    "Journal",
    "KeyPrefix",
    "NoVerify",
    "Quiet",
    "Resume",
    "Wishes",
    "diff",
    "mirror",
    "sync",
    "transfer",
    "verify",
]


_WAYS = ("auto", "size", "modified", "etag", "content")


def _complete_compare(incomplete: str) -> list[str]:
    return [way for way in _WAYS if way.startswith(incomplete)]


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", autocompletion=complete_store, help="A store: a URI, a path, or a configured name."
    ),
]
Target = Annotated[
    str, typer.Argument(metavar="TARGET", autocompletion=complete_store, help="Another store.")
]
KeyPrefix = Annotated[
    str, typer.Option("--prefix", "-p", show_default=False, help="Only keys that start with this.")
]
Glob = Annotated[
    str | None,
    typer.Option(
        "--glob",
        "-g",
        show_default=False,
        help="Only keys that match: * stays within a folder, **/ crosses any number of them.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Change nothing; print what would be done.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=1, show_default=False, help="So many blobs at once."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Keep a journal in $XDG_STATE_HOME/holdall, and go on where the same command was stopped.",
    ),
]
Journal = Annotated[
    str | None,
    typer.Option(
        "--journal", metavar="FILE", show_default=False, help="As --resume, with the journal in this file."
    ),
]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Don't read back what was copied.")]
MaxDelete = Annotated[
    str | None,
    typer.Option(
        "--max-delete",
        metavar="SHARE",
        show_default=False,
        help="Refuse to delete more of the target: a share such as 10% or 0.1, or a number of blobs. "
        "Without it, 50%.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but failures.")]
Compare = Annotated[
    str,
    typer.Option(
        "--compare",
        metavar="HOW",
        autocompletion=_complete_compare,
        help="What makes blobs equal: size, modified (size, and the target isn't older), etag, content, or "
        "auto: sizes and known digests, else contents.",
    ),
]


class Wishes(NamedTuple):
    """What the options of a transfer ask for."""

    prefix: str = ""
    glob: str | None = None
    compare: str = "auto"
    dry_run: bool = False
    jobs: int | None = None
    resume: bool = False
    journal: str | None = None
    no_verify: bool = False
    json: bool = False
    quiet: bool = False


def sync(
    context: typer.Context,
    source: Source,
    target: Target,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete from TARGET what SOURCE has not; see --max-delete.")
    ] = False,
    max_delete: MaxDelete = None,
    prefix: KeyPrefix = "",
    glob: Glob = None,
    compare: Compare = "auto",
    dry_run: DryRun = False,
    jobs: Jobs = None,
    resume: Resume = False,
    journal: Journal = None,
    no_verify: NoVerify = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy to one store what differs in another.

    Only what TARGET lacks, or holds with other bytes, is copied, and read back. A blob that fails is told,
    the others are copied, and the exit code is 4. Nothing is deleted, unless with --delete. A SOURCE whose
    folder or file isn't there is an error.

    Examples:
      holdall sync ./data sqlite:///backup.db
      holdall sync ./photos zip://photos.zip --glob '**/*.jpg' --dry-run
      holdall sync ./data models: --resume --delete --max-delete 10%
    """
    if max_delete is not None and not delete:
        raise UsageFault("--max-delete goes with --delete")
    wishes = Wishes(prefix, glob, compare, dry_run, jobs, resume, journal, no_verify, json, quiet)
    _sync(context, "sync", source, target, delete, max_delete, wishes)


def mirror(
    context: typer.Context,
    source: Source,
    target: Target,
    max_delete: MaxDelete = None,
    prefix: KeyPrefix = "",
    glob: Glob = None,
    compare: Compare = "auto",
    dry_run: DryRun = False,
    jobs: Jobs = None,
    resume: Resume = False,
    journal: Journal = None,
    no_verify: NoVerify = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make one store the same as another: sync --delete.

    What TARGET has and SOURCE has not is deleted, once all is copied. If that is more than half of TARGET,
    nothing is touched and the exit code is 3; --max-delete sets another limit. With --prefix or --glob, keys
    that aren't selected stay.

    Examples:
      holdall mirror ./site hashdir:///srv/site --dry-run
      holdall mirror ./site hashdir:///srv/site --max-delete 100
    """
    wishes = Wishes(prefix, glob, compare, dry_run, jobs, resume, journal, no_verify, json, quiet)
    _sync(context, "mirror", source, target, True, max_delete, wishes)


def diff(
    context: typer.Context,
    source: Source,
    target: Target,
    prefix: KeyPrefix = "",
    glob: Glob = None,
    compare: Compare = "auto",
    jobs: Jobs = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the exit code.")] = False,
) -> None:
    """List what differs between two stores.

    There is a line for each key: + only SOURCE has it, - only TARGET has it, ~ both have it and differ; as
    sync --delete would add, delete and replace. The exit code is 0 if nothing differs, 1 if something does,
    4 if a blob can't be read.

    Examples:
      holdall diff ./data sqlite:///backup.db
      holdall diff ./data backup: --prefix reports/ --compare size
    """
    _differences(context, "diff", source, target, prefix, glob, compare, jobs, json, quiet)


def verify(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="STORE", autocompletion=complete_store, help="A URI, a path, or a configured name."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="OTHER",
            autocompletion=complete_store,
            show_default=False,
            help="A store that must hold the same.",
        ),
    ] = None,
    prefix: KeyPrefix = "",
    glob: Glob = None,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read every blob of a store, or of two stores to compare them.

    Of one store each blob is read whole, and checked against its size and what digest is kept with it; what
    fails is told, and the exit code is 4. Of two stores all contents are compared; it is 1 if they differ,
    in lines as those of diff, and 4 if a blob can't be read.

    Examples:
      holdall verify zip://photos.zip
      holdall verify ./data sqlite:///backup.db
    """
    if target is None:
        _verify(context, source, prefix, glob, jobs, json, quiet)
        return
    _differences(context, "verify", source, target, prefix, glob, "content", jobs, json, quiet)


def transfer(
    context: typer.Context,
    name: str,
    act: Callable[..., Report | Plan],
    source: str,
    target: str,
    wishes: Wishes,
) -> None:
    """Copy from store to store, and tell what was done; what `act` is called as, `copy_store` shows."""
    _check_places(context, name, source, target)
    _check_compare(wishes.compare)
    output = Output()
    with (
        _read_from(source) as first,
        opened_at(target) as second,
        Meter(name, blobs=True) as meter,
        _failures_told(meter),
    ):
        meter.soon()
        try:
            result = act(
                first,
                second,
                prefix=wishes.prefix,
                glob=wishes.glob,
                compare=wishes.compare,
                verify=not wishes.no_verify,
                jobs=wishes.jobs,
                executor="process" if wishes.jobs is None else None,
                dry_run=wishes.dry_run,
                journal=_journal(name, first, second, wishes),
                progress=meter.reached,
            )
        except DeleteRefusedError as error:
            error.message = (
                f"{error.deletes:,} of {amount(error.selected, 'blob')} of {target} would be deleted, so "
                f"nothing was touched; if SOURCE is as it should be, say --max-delete {error.deletes}"
            )
            raise
        except (KeyboardInterrupt, SystemExit):
            meter.hide()
            again = "run it again" if wishes.resume or wishes.journal else "run it again (with --resume)"
            warn(f"stopped; what was copied is whole; {again} to go on")
            raise
        meter.hide()
        failed = bool(result.failures)
        if wishes.dry_run:
            _print_plan(result, wishes, output)  # pyright: ignore[reportArgumentType]
        else:
            _print_report(result, source, wishes.json, wishes.quiet, output)  # pyright: ignore[reportArgumentType]
    if failed:
        raise typer.Exit(UNAVAILABLE)


def _sync(
    context: typer.Context,
    name: str,
    source: str,
    target: str,
    delete: bool,
    max_delete: str | None,
    wishes: Wishes,
) -> None:
    limit = _limit(max_delete)

    def act(*stores: Store, **options: Any) -> Report | Plan:
        from holdall.transfer import sync_stores

        return sync_stores(*stores, delete=delete, max_delete=limit, **options)

    transfer(context, "sync --delete" if delete and name == "sync" else name, act, source, target, wishes)


def _limit(text: str | None) -> float | int:
    """A share, or a number of blobs."""
    if text is None:
        return 0.5
    try:
        if text.endswith("%"):
            limit: float | int = float(text[:-1]) / 100
        else:
            limit = int(text) if text.isdigit() else float(text)
    except ValueError:
        limit = -1.0
    if limit < 0 or (isinstance(limit, float) and not limit <= 1):
        raise UsageFault(f"--max-delete is a share such as 10% or 0.1, or a number of blobs, not {text!r}")
    return limit


def _verify(
    context: typer.Context,
    place: str,
    prefix: str,
    glob: str | None,
    jobs: int | None,
    json: bool,
    quiet: bool,
) -> None:
    from holdall.transfer import verify_store

    _check_places(context, "verify", place)
    output = Output()
    with _read_from(place) as store, Meter("verify", blobs=True) as meter, _failures_told(meter):
        meter.soon()
        report = verify_store(store, prefix=prefix, glob=glob, jobs=jobs, progress=meter.reached)
        meter.hide()
        _print_report(report, place, json, quiet, output)
    if report.failures:
        raise typer.Exit(UNAVAILABLE)


def _differences(
    context: typer.Context,
    name: str,
    source: str,
    target: str,
    prefix: str,
    glob: str | None,
    compare: str,
    jobs: int | None,
    json: bool,
    quiet: bool,
) -> None:
    """Print what differs; exit with what a script is to know."""
    from holdall.transfer import diff_stores

    _check_places(context, name, source, target)
    _check_compare(compare)
    output = Output()
    compared = different = failed = 0
    with _read_from(source) as first, opened_at(target) as second, Meter(name, blobs=True) as meter:

        def seen(_: Info) -> bool:
            nonlocal compared
            compared += 1
            meter.advance()
            return True

        for each in diff_stores(
            first, second, prefix=prefix, glob=glob, where=seen, compare=compare, jobs=jobs
        ):
            meter.hide()
            if each.error is not None:
                failed += 1
                warn(describe(each.error))
            elif each.kind != "left out":
                different += 1
            if json or not (quiet or each.error):
                output.line(_difference_as_json(each) if json else _difference(each))
        meter.hide()
    if name == "verify" and not (json or quiet):
        counts = [f"{different:,} of them differ"] if different else []
        counts += [f"{failed:,} can't be read"] if failed else []
        output.line(f"{amount(compared, 'key')} compared, {' and '.join(counts) or 'all are the same'}")
    if failed:
        raise typer.Exit(UNAVAILABLE)
    if different:
        raise typer.Exit(DIFFERENT)


def _difference(each: Difference) -> str:
    if each.kind == "left out":
        # A name that can't be a key may not be printable either.
        return f"! {each.key if each.key.isprintable() else ascii(each.key)}  (left out; {each.left_out})"
    if each.source is not None and each.target is not None:
        before, after = human(each.target.size), human(each.source.size)
        return f"~ {each.key}  ({after})" if before == after else f"~ {each.key}  ({before} -> {after})"
    if each.source is not None:
        return f"+ {each.key}  ({human(each.source.size)})"
    return f"- {each.key}  ({human(each.target.size) if each.target else ''})"


def _difference_as_json(each: Difference) -> str:
    source = None if each.source is None else as_json(each.source)
    target = None if each.target is None else as_json(each.target)
    told: dict[str, object] = {"kind": each.kind, "key": each.key, "source": source, "target": target}
    if each.left_out is not None:
        told["left_out"] = each.left_out
    if each.error is not None:
        told["error"] = describe(each.error)
    return dumps(told)


def _print_plan(plan: Plan, wishes: Wishes, output: Output) -> None:
    for key, error in plan.failures.items():
        warn(describe(error) if isinstance(error, StoreError) else f"{key!r}: {error!r}")
    for action in plan:
        if wishes.json:
            output.line(dumps(action._asdict()))
        elif not wishes.quiet:
            sign = "-" if action.kind == "delete" else "~" if action.target_etag is not None else "+"
            output.line(f"{sign} {action.key}  ({human(action.size)})")
    if not (wishes.json or wishes.quiet):
        counts = f"{plan.copies:,} to copy ({human(plan.bytes)}), {plan.deletes:,} to delete"
        output.line(f"{counts}, {plan.equal:,} equal; nothing was done")


def _print_report(report: Report, source: str, json: bool, quiet: bool, output: Output) -> None:
    from holdall.transfer import Report

    if json:
        counts = ("copied", "skipped", "deleted", "checked", "resumed", "failed", "withheld", "left_out")
        counts += ("bytes", "seconds", "rate")
        failures = {key: describe(error) for key, error in report.failures.items()}
        output.line(dumps({**{name: getattr(report, name) for name in counts}, "failures": failures}))
    elif not quiet:
        # An empty source is no error, but often a slip of the pen.
        empty = report == Report(seconds=report.seconds)
        output.line(f"nothing to do: {source} has no blob that was asked for" if empty else str(report))


def _check_compare(compare: str) -> None:
    if compare not in _WAYS:
        raise UsageFault(f"--compare is one of {', '.join(_WAYS)}, not {compare!r}")


@contextmanager
def _read_from(place: str) -> Generator[Store]:
    """The store at a place, unless that is a folder or a file that isn't there.

    Python takes such for a store without blobs, which it is. In a crontab it is a path that was mistyped or
    moved, and a backup that does nothing must not look like one that had nothing to do.
    """
    scheme, _, location = address(place).partition("://")
    # To open it makes a repository.
    if scheme.lower() == "git+file":
        _check_path(os.path.expanduser(unquote(location.partition("?")[0])), place)
    with opened_at(place) as store:
        _check_there(store, place)
        yield store


def _check_there(store: Store, place: str) -> None:
    if isinstance(store, Layer):
        from holdall.layers.caching import CachingStore

        below = store._below  # pyright: ignore[reportPrivateUsage]
        if isinstance(store, CachingStore):
            below = below[:1]
        for number, each in enumerate(below):
            try:
                _check_there(each, place)
                return  # one of several replicas is enough; and nothing may have been put along a route yet
            except StoreUnavailableError:
                if number + 1 == len(below):
                    raise
        return
    # Elsewhere a path may be another host's.
    if not type(store).__module__.startswith("holdall.stores."):
        return
    try:
        path = store._settings().get("path")  # pyright: ignore[reportPrivateUsage]
    except UnsupportedOperation:
        return
    if isinstance(path, str):
        _check_path(path, place)


def _check_path(path: str, place: str) -> None:
    if not _exists(path):
        raise StoreUnavailableError(
            f"there is nothing at {path!r}, where {place} is to be read; look at the path, and whether its "
            "disk is mounted"
        )


def _exists(path: str) -> bool:
    try:
        os.stat(path)  # through links: one to a disk that isn't mounted leads nowhere
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # it is there, and the store says what is wrong with it
    return True


def _check_places(context: typer.Context, name: str, *places: str) -> None:
    if context.obj is not None:
        raise UsageFault(f"{name} is given its stores as arguments; leave --store out")
    if not all(places):
        raise UsageFault(f"{name} takes paths, URIs or configured names, and one is empty")


def _journal(name: str, source: Store, target: Store, wishes: Wishes) -> str | None:
    """The file in which this transfer, and no other, is recorded."""
    if wishes.journal is not None or not wishes.resume:
        return wishes.journal
    from hashlib import sha256

    from holdall.transfer.place import identity

    which = [name, identity(source), identity(target), wishes.prefix, wishes.glob, wishes.compare]
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = os.path.join(state, "holdall")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, f"{sha256(dumps(which).encode()).hexdigest()[:32]}.journal")


@contextmanager
def _failures_told(meter: Meter) -> Generator[None]:
    """What is logged meanwhile, each failure among it, is told when it happens, past the progress bar."""
    import logging

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            meter.hide()
            warn(record.getMessage())

    logger = logging.getLogger("holdall")
    teller, propagates = Teller(logging.WARNING), logger.propagate
    logger.addHandler(teller)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(teller)
        logger.propagate = propagates
