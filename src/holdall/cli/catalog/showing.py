"""The commands that say what is in a catalogue: ls, show, find, history, usage."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from holdall.cli.catalog.conditions import Conditions, Where, explain_nothing, parse_conditions
from holdall.cli.catalog.place import NO_ENTRY, Place, complete_entry, find_entry, open_catalog
from holdall.cli.errors import UsageFault
from holdall.cli.options import Json, one_prefix
from holdall.cli.output import Output, dumps, exact, human, iso, timestamp
from holdall.cli.parameters import Parameter
from holdall.errors import BlobNotFoundError

if TYPE_CHECKING:
    from holdall.catalog import Entry, Share, Usage

Key = Annotated[
    str, Parameter(metavar="KEY", complete=complete_entry, help="Which entry; KEY@2 is its version 2.")
]


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """Return an entry for `dumps`; times as ISO 8601."""
    return {
        name: iso(value) if isinstance(value, datetime) else value for name, value in entry.to_dict().items()
    }


def ls(
    start: Annotated[
        str,
        Parameter(
            metavar="PREFIX",
            complete=complete_entry,
            help="Only keys that start with these characters, such as run/.",
        ),
    ] = "",
    prefix: Annotated[
        str,
        Parameter(
            "--prefix",
            "-p",
            metavar="PREFIX",
            complete=complete_entry,
            help="Only keys that start with this.",
        ),
    ] = "",
    long: Annotated[
        bool, Parameter("--long", "-l", help="Print size, time in UTC, version and type before the key.")
    ] = False,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """List the keys of a catalogue.

    They are printed one per line, in order.

    Examples:
      holdall catalog ls --catalog ./models
      holdall catalog ls run/ --long
    """
    if long and json:
        raise UsageFault("--long and --json exclude each other")
    prefix = one_prefix(start, prefix)
    output = Output()
    with open_catalog(place) as store:
        if long or json:
            _print_entries(store.find({"key": {"prefix": prefix}} if prefix else None), json, output)
        else:
            for key in store.list(prefix):
                output.line(key)
    if prefix and output.empty:
        raise BlobNotFoundError("no key starts with this", key=prefix)


def find(
    conditions: Conditions = None,
    where: Where = None,
    order_by: Annotated[
        str | None,
        Parameter("--order-by", metavar="FIELD", help="In this order; -FIELD reverses it."),
    ] = None,
    limit: Annotated[int | None, Parameter("--limit", "-n", metavar="N", least=1, help="At most N.")] = None,
    after: Annotated[
        str | None, Parameter("--after", metavar="KEY", help="Begin after this entry, as the next page does.")
    ] = None,
    long: Annotated[
        bool,
        Parameter("--long", "-l", help="Print size, time, version and type before the key, metadata after."),
    ] = False,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Print the keys of the entries that match all conditions.

    Fields are key, version, size, type, format, codec, library, digest, created, updated and metadata.NAME.
    A value is JSON where it can be, so that 2.1 is a number and "2.1" a text. Entries without the field that
    orders them come last.

    Examples:
      holdall catalog find 'metadata.loss<0.1' type=dict
      holdall catalog find 'key^=run/' 'created>=2026-01-01' --long
      holdall catalog find --order-by -metadata.accuracy --limit 1
      holdall catalog find --where '{"metadata.stage": {"in": ["a", "b"]}}'
    """
    if long and json:
        raise UsageFault("--long and --json exclude each other")
    words = conditions or []
    question = parse_conditions(words, where)
    output = Output()
    with open_catalog(place) as store:
        found = store.find(question, order_by=order_by or "key", limit=limit, after=after)
        if long or json:
            _print_entries(found, json, output, with_metadata=True)
        else:
            for each in found:
                output.line(each.key)
        if output.empty and after is None:
            explain_nothing(store, words)


def _print_entries(
    found: Iterable[Entry], json: bool, output: Output, *, with_metadata: bool = False
) -> None:
    # The columns widen as they go, since a listing is printed as it comes.
    wide = width = 0
    for each in found:
        if json:
            output.line(dumps(entry_as_json(each)))
            continue
        version = f"v{each.version}"
        wide, width = max(wide, len(version)), max(width, len(each.type))
        more = f"  {dumps(each.metadata)}" if with_metadata and each.metadata else ""
        output.line(
            f"{human(each.file_size):>9}  {timestamp(each.updated)}  {version:<{wide}}  "
            f"{each.type:<{width}}  {each.key}{more}"
        )


def show(
    key: Key,
    lineage: Annotated[
        bool, Parameter("--lineage", help="Print what it was made from, and what that was made from.")
    ] = False,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Show what a catalogue says of one object: type, size, times, digest, aliases and metadata.

    Its bytes aren't read.

    Examples:
      holdall catalog show model
      holdall catalog show model@2 --json | jq .metadata
    """
    output = Output()
    with open_catalog(place) as store:
        entry = find_entry(store, key)
        if lineage:
            traced = store.lineage(entry.key, version=entry.version)
            if json:
                for step, made_from in traced.steps.items():
                    inputs = [f"{each.key}@{each.version}" for each in made_from]
                    output.line(dumps({"key": step.key, "version": step.version, "inputs": inputs}))
            else:
                output.line(str(traced))
            return
        names = [name for name, each in store.aliases(entry.key).items() if each.version == entry.version]
    if json:
        output.line(dumps({**entry_as_json(entry), "aliases": names}))
    else:
        _print_entry(entry, names, output)


def _print_entry(entry: Entry, aliases: list[str], output: Output) -> None:
    stored = entry.format + (f", {entry.codec}" if entry.codec else "")
    lines = {
        "key": entry.key,
        "version": str(entry.version),
        "aliases": ", ".join(aliases),
        "type": entry.type,
        "format": stored + (f", by {entry.library}" if entry.library else ""),
        "size": exact(entry.file_size),
        "digest": entry.digest,
        "etag": entry.etag,
        "created": timestamp(entry.created),
        "updated": timestamp(entry.updated),
        "made from": ", ".join(f"{each.key}@{each.version}" for each in entry.inputs),
    }
    for name, text in lines.items():
        if text:
            output.line(f"{f'{name}:':<11}{text}")
    if entry.metadata:
        output.line("metadata:")
    for name, value in entry.metadata.items():
        output.line(f"  {name}: {dumps(value)}")


def history(key: Key, json: Json = False, *, place: Place) -> None:
    """List the versions of an object that are kept, the newest first.

    Each line has the version, the time in UTC, the size, the start of the digest, and the aliases.

    Examples:
      holdall catalog history model
      holdall catalog get model@1 --output old.b2nd
    """
    output = Output()
    with open_catalog(place) as store:
        entries = store.history(key)
        if not entries:
            raise BlobNotFoundError(NO_ENTRY, key=key)
        names: dict[int, list[str]] = {}
        for name, each in store.aliases(key).items():
            names.setdefault(each.version, []).append(name)
    wide = len(f"v{entries[0].version}")
    for each in entries:
        aliases = names.get(each.version, [])
        if json:
            output.line(dumps({**entry_as_json(each), "aliases": aliases}))
        else:
            line = f"{f'v{each.version}':<{wide}}  {timestamp(each.updated)}  {human(each.file_size):>9}  "
            output.line(f"{line}{each.digest[:12]}  {', '.join(aliases)}".rstrip())


def usage(
    depth: Annotated[
        int,
        Parameter("--depth", "-d", "-L", metavar="N", least=1, help="Sum up by N segments of the keys."),
    ] = 1,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Sum up the stored bytes: by prefix, by type and by age.

    Bytes that only the entries of a line have are its own: deleting these entries and collecting frees them.
    Bytes that other entries have too are shared.

    Examples:
      holdall catalog usage
      holdall catalog usage --depth 2 --json
    """
    output = Output()
    with open_catalog(place) as store:
        found = store.usage(depth)
    _print_usage(found, json, output)


def _print_usage(found: Usage, json: bool, output: Output) -> None:
    groups = {"prefix": found.by_prefix, "type": found.by_type, "age": found.by_age}
    if json:
        for by, shares in groups.items():
            for name, share in shares.items():
                output.line(dumps({"by": by, "name": name, **_share_as_json(share)}))
        output.line(dumps({"by": None, "name": None, **_share_as_json(found.total)}))
        return
    for by, shares in groups.items():
        output.line(f"{'entries':>9}  {'own':>9}  {'shared':>9}  {by}")
        for name, share in shares.items():
            output.line(_share_line(share, name))
        output.line("")
    output.line(_share_line(found.total, "total"))


def _share_as_json(share: Share) -> dict[str, int]:
    return {"entries": share.entries, "own": share.own, "shared": share.shared}


def _share_line(share: Share, name: str) -> str:
    return f"{share.entries:>9,}  {human(share.own):>9}  {human(share.shared):>9}  {name}"
