"""The commands that write: put, cp, mv."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, BinaryIO

import typer

from holdall.cli.completion import complete_key
from holdall.cli.errors import UsageFault, describe
from holdall.cli.options import IfAbsent, IfMatch, Json, Key, StoreOption, expectation, is_store, opened
from holdall.cli.output import Output
from holdall.cli.progress import Meter
from holdall.cli.transferring import (
    Compare,
    DryRun,
    Glob,
    Jobs,
    Journal,
    KeyPrefix,
    NoVerify,
    Quiet,
    Resume,
    Wishes,
    transfer,
)
from holdall.errors import BlobNotFoundError
from holdall.keys import check_key
from holdall.ranges import CHUNK
from holdall.store import Expect, Info, Store

__all__ = ["cp", "mv", "put"]

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        autocompletion=complete_key,
        help="A key; with --recursive, a folder such as a/. Or a whole store.",
    ),
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        autocompletion=complete_key,
        help="A key, or a folder such as b/ to keep the name. Or another store.",
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Everything under the folder SOURCE.")]


def put(
    context: typer.Context,
    key: Key,
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="VALUE", show_default=False, help="The bytes themselves; - for standard input."
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", show_default=False, help="Read this file."),
    ] = None,
    if_absent: IfAbsent = False,
    if_match: IfMatch = None,
    ttl: Annotated[
        float | None,
        typer.Option("--ttl", metavar="SECONDS", show_default=False, help="Let it expire after so long."),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            "--content-type", metavar="TYPE", show_default=False, help="Its media type, such as text/csv."
        ),
    ] = None,
    print_etag: Annotated[bool, typer.Option("--print-etag", help="Print the ETag of what was put.")] = False,
    store: StoreOption = None,
) -> None:
    """Put a blob: VALUE, a file, or what is piped in.

    It is put whole or not at all: readers see the old blob until all of the new one is there. With neither
    VALUE nor --file, standard input is read.

    Examples:
      holdall put greeting hello
      holdall put reports/may.pdf --file may.pdf --content-type application/pdf
      mysqldump shop | holdall put backups/shop.sql
      holdall put lock "$HOSTNAME" --if-absent
    """
    expect = expectation(if_absent, if_match)
    if value is not None and file is not None:
        raise UsageFault("give VALUE or --file, not both")
    if value is not None and value != "-":
        with opened(context, store) as target:
            info = target.put(key, os.fsencode(value), expect=expect, ttl=ttl, content_type=content_type)
    else:
        with (
            _input(file, asked=value == "-") as source,
            opened(context, store) as target,
            Meter(f"put {key}", _size(source)) as meter,
        ):
            body = meter.through(_chunks(source))
            info = target.put(key, body, expect=expect, ttl=ttl, content_type=content_type)
    if print_etag:
        Output().line(info.etag)


def _input(file: str | None, *, asked: bool) -> BinaryIO:
    if file is not None and file != "-":
        try:
            return open(file, "rb")
        except OSError as error:
            raise UsageFault(f"can't read --file {describe(error)}") from error
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise UsageFault("standard input is closed; give VALUE or --file")
    if sys.stdin.isatty() and not (asked or file == "-"):
        raise UsageFault("what is to be put? Give VALUE, --file FILE, or pipe it in (- to type it here)")
    # Another object over the same descriptor, so that closing it leaves standard input as it was.
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:
        return sys.stdin.buffer


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    while piece := source.read(CHUNK):
        yield piece
        if len(piece) < CHUNK:
            return  # a terminal would have to be told twice that this was all


def _size(source: BinaryIO) -> int | None:
    """How much there is to read, where that is known: pipes and devices have no size."""
    try:
        return os.fstat(source.fileno()).st_size or None
    except OSError:
        return None


def cp(
    context: typer.Context,
    source: Source,
    target: Target,
    recursive: Recursive = False,
    if_absent: IfAbsent = False,
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
    store: StoreOption = None,
) -> None:
    """Copy a blob within the store, or a whole store to another.

    Between keys: a TARGET that ends in / is a folder; the blob keeps its name there, and its content type and
    expiry. A blob that is at TARGET is replaced, unless --if-absent.

    Between stores: each is a URI, a configured name with a colon, or a path that begins with ./ ../ or /, so
    that it can't be taken for a key. What TARGET lacks or holds with other bytes is copied; see sync. The
    options from --prefix to --quiet are for stores.

    Examples:
      holdall cp config config.bak --if-absent
      holdall cp --recursive reports/ archive/2026/
      holdall cp ./data sqlite:///data.db --prefix reports/
    """
    wishes = Wishes(prefix, glob, compare, dry_run, jobs, resume, journal, no_verify, json, quiet)
    if _are_stores("cp", source, target):
        _refuse_key_options("cp", recursive, if_absent, context.obj or store)
        from holdall.transfer import copy_store

        transfer(context, "cp", copy_store, source, target, wishes)
        return
    _refuse_no_store("cp", context.obj or store)
    _refuse_store_options("cp", wishes)
    with opened(context, store) as place:
        _transfer(place, place.copy, "cp", source, target, expectation(if_absent, None), recursive)


def mv(
    context: typer.Context,
    source: Source,
    target: Target,
    recursive: Recursive = False,
    if_absent: IfAbsent = False,
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
    store: StoreOption = None,
) -> None:
    """Move a blob within the store, or a whole store to another.

    Between keys: a TARGET that ends in / is a folder; the blob keeps its name there, and its content type and
    expiry. The target is whole before the source goes. A blob that is at TARGET is replaced, unless
    --if-absent.

    Between stores, which are written as for cp: a blob goes from SOURCE once TARGET holds it and it was read
    back. The options from --prefix to --quiet are for stores.

    Examples:
      holdall mv draft.txt final.txt --if-absent
      holdall mv --recursive inbox/ archive/inbox/
      holdall mv ./inbox zip://inbox.zip --glob '*.eml'
    """
    wishes = Wishes(prefix, glob, compare, dry_run, jobs, resume, journal, no_verify, json, quiet)
    if _are_stores("mv", source, target):
        _refuse_key_options("mv", recursive, if_absent, context.obj or store)
        from holdall.transfer import move_store

        transfer(context, "mv", move_store, source, target, wishes)
        return
    _refuse_no_store("mv", context.obj or store)
    _refuse_store_options("mv", wishes)
    with opened(context, store) as place:
        _transfer(place, place.move, "mv", source, target, expectation(if_absent, None), recursive)


def _are_stores(name: str, source: str, target: str) -> bool:
    """Whether both ends are stores, or both keys."""
    stores = [is_store(end) for end in (source, target)]
    if any(stores) and not all(stores):
        place, key = (source, target) if stores[0] else (target, source)
        raise UsageFault(
            f"{place!r} is a store and {key!r} is a key: {name} works within one store by keys, or from a "
            f"whole store to another (a path then begins with ./); for one blob between two stores: "
            "holdall -s A get KEY | holdall -s B put KEY"
        )
    return all(stores)


def _refuse_no_store(name: str, store: str | None) -> None:
    if not (store or os.environ.get("HOLDALL_URI")):
        raise UsageFault(
            "which store are these keys of? Give --store URI or set HOLDALL_URI; a folder that is a store "
            f"begins with ./, as in holdall {name} ./photos ./copy"
        )


def _refuse_key_options(name: str, recursive: bool, if_absent: bool, store: str | None) -> None:
    if store is not None:
        raise UsageFault(f"{name} between two stores is given both as arguments; leave --store out")
    for option, given in (("--recursive", recursive), ("--if-absent", if_absent)):
        if given:
            raise UsageFault(f"{option} is for keys; between stores, {name} takes everything")


def _refuse_store_options(name: str, wishes: Wishes) -> None:
    for option, value, default in zip(Wishes._fields, wishes, Wishes(), strict=True):
        if value != default:
            raise UsageFault(
                f"--{option.replace('_', '-')} is for {name} from a store to another, not for keys"
            )


def _transfer(
    store: Store,
    act: Callable[..., Info],
    name: str,
    source: str,
    target: str,
    expect: Expect,
    recursive: bool,
) -> None:
    if not recursive:
        if source.endswith("/"):
            raise UsageFault(f"{source!r} is a folder; say --recursive for everything in it")
        act(source, target + source.rpartition("/")[2] if target.endswith("/") else target, expect=expect)
        return
    if not (source.endswith("/") and target.endswith("/")):
        raise UsageFault(f"{name} --recursive goes from a folder to a folder: both end in '/', as in a/ b/")
    check_key(target[:-1])
    if source.startswith(target) or target.startswith(source):
        raise UsageFault(f"{source!r} and {target!r} lie one within the other")
    count = 0
    with Meter(f"{name} {source}", blobs=True) as meter:
        for key in store.iterate_keys(source):
            act(key, target + key[len(source) :], expect=expect)
            count += 1
            meter.advance()
    if not count:
        raise BlobNotFoundError("no blob has a key that starts so", key=source)
