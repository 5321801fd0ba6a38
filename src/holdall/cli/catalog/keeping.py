"""The commands that keep a catalogue in order, and move it: index, verify, collect, migrate, export and
import."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from holdall.cli.catalog.conditions import Conditions, Where, parse_conditions
from holdall.cli.catalog.place import Create, Place, named_place, open_at, open_catalog
from holdall.cli.durations import parse_duration
from holdall.cli.errors import DIFFERENT, UsageFault, warn
from holdall.cli.options import Json
from holdall.cli.output import Output, amount, dumps, human
from holdall.cli.parameters import Parameter
from holdall.cli.progress import Meter
from holdall.cli.transferring import parse_share

if TYPE_CHECKING:
    from holdall.catalog import Moved


@contextmanager
def _progress(label: str) -> Generator[Callable[[int], object]]:
    with Meter(label, blobs=True) as meter:
        yield lambda _: meter.advance()


def index(
    field: Annotated[
        str | None,
        Parameter(metavar="FIELD", help="Such as metadata.loss; else the fields with an index are listed."),
    ] = None,
    delete: Annotated[bool, Parameter("--delete", help="Delete the index, not the metadata.")] = False,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """List the indexes of a catalogue, or make or delete one.

    An index makes conditions on a field, and orders by it, fast among many entries. A catalogue in JSON has
    none, and refuses them.

    Examples:
      holdall catalog index metadata.loss
      holdall catalog index
      holdall catalog index --delete metadata.loss
    """
    if delete and field is None:
        raise UsageFault("--delete takes the field of the index")
    output = Output()
    with open_catalog(place) as store:
        if field is not None:
            (store.drop_index if delete else store.create_index)(field)
        names = [".".join(path) for path in store.indexes()]
    if field is not None and not delete and field not in names:
        warn(f"{field} isn't indexed, since it is fast without that")
    if json or field is None:
        for name in names:
            output.line(dumps({"field": name}) if json else name)


def verify(
    repair: Annotated[
        bool,
        Parameter("--repair", help="Move damaged and unknown blobs into quarantine/ of their store."),
    ] = False,
    digests: Annotated[
        bool, Parameter("--digests", help="Read each object too, and compute its digest again.")
    ] = False,
    json: Json = False,
    *,
    place: Place,
) -> int:
    """Read all bytes, compare them with what was put, and look for bytes that no entry knows.

    The exit code is 1 if anything is wrong.

    Examples:
      holdall catalog verify
      holdall catalog verify --repair
      holdall catalog verify --digests
    """
    output = Output()
    with open_catalog(place) as store, _progress("verify") as progress:
        found = store.verify(repair, digests=digests, progress=progress)
    kinds = {
        name: [f"{key}@{version}" for key, version in getattr(found, name)]
        for name in ("missing", "damaged", "differing", "unread")
    }
    kinds["unknown"] = list(found.unknown)
    if json:
        output.line(dumps({"checked": found.checked, **kinds, "repaired": found.repaired}))
    else:
        for kind, names in kinds.items():
            for name in names:
                output.line(f"{kind}  {name}")
        counts = ", ".join(f"{len(names):,} {kind}" for kind, names in kinds.items() if names)
        rest = f"; {amount(len(found.repaired), 'blob')} moved into quarantine/" if repair else ""
        output.line(f"{amount(found.checked, 'blob')} checked: {counts or 'all is well'}{rest}")
    return 0 if found.ok else DIFFERENT


def collect(
    grace: Annotated[
        str,
        Parameter("--grace", metavar="TIME", help="Leave what was let go in this time: 30s, 5m, 1h30m, 7d."),
    ] = "1d",
    max_share: Annotated[
        str,
        Parameter(
            "--max-delete",
            "--max-share",
            metavar="SHARE",
            help="Refuse to delete more of the blobs: a share such as 10% or 0.1.",
        ),
    ] = "0.2",
    yes: Annotated[bool, Parameter("--yes", "-y", help="Delete them; else they are only counted.")] = False,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Delete the bytes that no entry names any more.

    Without --yes nothing is deleted, and the number of blobs that would go is printed.

    Examples:
      holdall catalog collect
      holdall catalog collect --grace 7d --yes
    """
    seconds = parse_duration(grace)
    share = parse_share(max_share)
    with open_catalog(place) as store:
        found = store.collect(seconds, dry_run=not yes, max_share=share)
    output = Output()
    if json:
        counts = {"blobs": found.blobs, "bytes": found.bytes, "kept": found.kept, "dry_run": found.dry_run}
        output.line(dumps(counts))
        return
    what = f"{amount(found.blobs, 'blob')} ({human(found.bytes)})"
    stays = f"; {found.kept:,} more within the grace, leased or under way" if found.kept else ""
    if yes:
        output.line(f"{what} deleted{stays}")
    else:
        output.line(f"{what} would be deleted{stays}. Nothing was done; --yes deletes them")


def migrate(
    to: Annotated[
        str | None,
        Parameter("--to", metavar="FOLDER", help="The folder of the other catalogue; else the same one."),
    ] = None,
    to_backend: Annotated[
        str | None,
        Parameter("--to-backend", metavar="KIND", help="json, sqlite, or postgresql://...; else the same."),
    ] = None,
    to_blobs: Annotated[
        str | None, Parameter("--to-blobs", metavar="URI", help="The store of the bytes; else the folder.")
    ] = None,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Copy a catalogue to another backend, folder or store, which is made: all entries, versions and aliases.

    Each blob is read back. After an interruption, the same command goes on. In the same folder only the
    metadata moves; the old catalogue can't collect after that.

    Examples:
      holdall catalog migrate --to-backend sqlite
      holdall catalog migrate --to ./new --to-blobs s3://bucket/models
    """
    if to is None and to_backend is None and to_blobs is None:
        raise UsageFault("say where to: --to FOLDER, --to-backend KIND, or --to-blobs URI")
    source = named_place(place)
    target = Place(to or source.catalog, to_backend or source.backend, to_blobs)
    if to is None and to_blobs is None:
        target = target._replace(blobs=source.blobs)
    with (
        open_at(source) as store,
        open_at(target, create=True, beside=True) as other,
        _progress("migrate") as progress,
    ):
        moved = store.migrate(other, progress=progress)
    _print_moved(moved, json)
    if to is None and not json:
        warn(f"the old metadata is still in {source.catalog!r}: delete its file, or always give --backend")


def _print_moved(moved: Moved, json: bool) -> None:
    if json:
        names = ("entries", "present", "blobs", "bytes")
        Output().line(dumps({name: getattr(moved, name) for name in names}))
        return
    there = f", {moved.present:,} were there" if moved.present else ""
    what = f"{amount(moved.entries, 'version')} written"
    Output().line(f"{what}{there}; {amount(moved.blobs, 'blob')} copied ({human(moved.bytes)})")


def export(
    file: Annotated[str, Parameter(metavar="FILE", help="The file, which is replaced.")],
    conditions: Conditions = None,
    where: Where = None,
    format: Annotated[  # noqa: A002 - as BlobStore.export names it
        str | None,
        Parameter("--format", metavar="KIND", help="zip or parquet; else what the name ends in."),
    ] = None,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Write entries into a zip file, with their bytes, metadata and versions; or their metadata as a table.

    A zip file can be imported, and read by any unzip: catalog.json in it says what each file is. A Parquet
    file is a table for pandas or DuckDB. Conditions are those of find.

    Examples:
      holdall catalog export models.zip 'key^=fraud/'
      holdall catalog export models.parquet
    """
    kind = format or os.path.splitext(file)[1].lstrip(".")
    if kind not in ("zip", "parquet"):
        raise UsageFault(
            f"{file!r} ends in neither .zip nor .parquet: say which it is by --format"
            if format is None
            else f"--format takes zip or parquet, not {format!r}"
        )
    question = parse_conditions(conditions or [], where)
    with open_catalog(place) as store:
        count = store.export(file, question, format="zip" if kind == "zip" else "parquet")
    if json:
        Output().line(dumps({"entries": count}))
    elif count:
        Output().line(f"{count:,} {'entry' if count == 1 else 'entries'} written")
    else:
        warn("no entry matches; the export is empty")


def import_(
    file: Annotated[str, Parameter(metavar="FILE", help="A zip file that export wrote.")],
    create: Create = False,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Add the entries of an exported zip file, with their versions and aliases.

    A version that is there with the same object is left as it is; with another one, it is a conflict.

    Example:
      holdall catalog import models.zip --catalog ./copy --create
    """
    if not os.path.isfile(file):
        raise UsageFault(f"there is no file {file!r}")
    with open_catalog(place, create=create) as store, _progress("import") as progress:
        moved = store.import_from(file, progress=progress)
    _print_moved(moved, json)
