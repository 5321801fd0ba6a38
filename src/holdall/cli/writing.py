"""The commands that write: put, cp, mv."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from shlex import quote
from typing import Annotated, BinaryIO

from holdall.cli.completion import complete_key
from holdall.cli.durations import parse_duration
from holdall.cli.errors import UsageFault, describe
from holdall.cli.options import IfAbsent, IfMatch, Json, Key, StoreOption, expectation
from holdall.cli.output import Output, as_json, dumps
from holdall.cli.parameters import Parameter
from holdall.cli.progress import Meter
from holdall.cli.stores import default_name, is_store, open_at, spoken, store_name
from holdall.cli.streams import is_closed
from holdall.cli.transferring import Wishes, transfer
from holdall.cli.values import Mode, put_value
from holdall.errors import BlobNotFoundError
from holdall.keys import check_key
from holdall.ranges import CHUNK
from holdall.store import Expect, Info, Store

Source = Annotated[
    str,
    Parameter(
        metavar="SOURCE",
        complete=complete_key,
        help="A key; with --recursive, a folder such as a/. Or a whole store.",
    ),
]
Target = Annotated[
    str,
    Parameter(
        metavar="TARGET",
        complete=complete_key,
        help="A key, or a folder such as b/ to keep the name. Or another store.",
    ),
]
Recursive = Annotated[bool, Parameter("--recursive", "-r", help="Everything under the folder SOURCE.")]


def put(
    key: Key,
    value: Annotated[
        str | None, Parameter(metavar="VALUE", help="The bytes themselves; - reads standard input.")
    ] = None,
    file: Annotated[
        str | None, Parameter("--file", "-f", metavar="FILE", help="Put the contents of a file.")
    ] = None,
    text: Annotated[
        str | None,
        Parameter(
            "--text", metavar="TEXT", help="Put these characters, even if they are the name of a file."
        ),
    ] = None,
    if_absent: IfAbsent = False,
    if_match: IfMatch = None,
    ttl: Annotated[
        str | None,
        Parameter(
            "--ttl", metavar="TIME", help="Let it expire after this time: seconds, or 30s, 5m, 1h30m, 7d."
        ),
    ] = None,
    content_type: Annotated[
        str | None, Parameter("--content-type", metavar="TYPE", help="Its media type, such as text/csv.")
    ] = None,
    print_etag: Annotated[bool, Parameter("--print-etag", help="Print the ETag of what was put.")] = False,
    json: Json = False,
    mode: Mode = None,
    store: StoreOption = None,
) -> None:
    """Put a blob: VALUE, a file, or what is piped in.

    It is put whole or not at all: readers see the old blob until all of the new one is there. Without VALUE,
    --file and --text, standard input is read if it is a pipe or a file. --json prints what info does.
    With --serialization-mode what is given is the JSON of a value, which is kept in that mode: it is checked
    first, and read into memory.

    Examples:
      holdall put greeting hello
      holdall put may.pdf --file may.pdf --content-type application/pdf
      mysqldump shop | holdall put backups/shop.sql
      holdall put lock "$HOSTNAME" --if-absent
      holdall put settings '{"volume": 11}' -m json
    """
    if print_etag and json:
        raise UsageFault("--json prints the ETag too; leave --print-etag out")
    expect = expectation(if_absent, if_match)
    seconds = None if ttl is None else parse_duration(ttl)
    with _body(key, value, file, text) as body, open_at(store_name(store)) as target:
        if mode is None:
            info = target.put(key, body, expect=expect, ttl=seconds, content_type=content_type)
        else:
            info = put_value(target, key, body, mode, expect=expect, ttl=seconds, content_type=content_type)
    if print_etag or json:
        Output().line(dumps(as_json(info)) if json else info.etag)


@contextmanager
def _body(
    key: str, value: str | None, file: str | None, text: str | None
) -> Generator[bytes | Iterator[bytes]]:
    """Yield what is put: the characters, or the bytes of the file or of standard input."""
    if sum(given is not None for given in (value, file, text)) > 1:
        raise UsageFault("give only one of VALUE, --file and --text")
    if text is None and value is not None and value != "-":
        _check_not_a_file(value)
        text = value
    if text is not None:
        yield os.fsencode(text)
        return
    with input_of(file, asked=value == "-") as source, Meter(f"put {key}", size_of(source)) as meter:
        yield meter.through(chunks_of(source))


def _check_not_a_file(value: str) -> None:
    """Refuse a VALUE that looks like the name of a file: copying commands take one in this place."""
    if os.path.lexists(value):
        kind = "folder" if os.path.isdir(value) else "file"
        way = f"--file {quote(value)} puts its contents, " if kind == "file" else ""
        raise UsageFault(f"{value!r} is a {kind} here: {way}--text {quote(value)} puts these characters")
    if value.startswith(("/", "./", "../", "~/")) and "\n" not in value:
        raise UsageFault(
            f"{value!r} looks like the name of a file that doesn't exist: check the name, or put these "
            "characters by --text"
        )


def input_of(file: str | None, *, asked: bool, name: str = "--file") -> BinaryIO:
    """Open a file, or standard input if it has something to read or was asked for."""
    if file is not None and file != "-":
        try:
            return open(file, "rb")
        except OSError as error:
            raise UsageFault(f"{name} can't be read: {describe(error)}") from error
    if is_closed(0):
        raise UsageFault(
            f"standard input is closed; give {'VALUE, --file or --text' if file is None else 'a file'}"
        )
    mode = os.fstat(0).st_mode
    if not (asked or file == "-" or stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        # A terminal; or the null device, which a script inherits from cron: the blob would become empty.
        raise UsageFault(
            "there is nothing to put: give VALUE, --file FILE or --text TEXT, or pipe it in; - reads "
            "standard input of any kind"
        )
    # Another object over the same descriptor, so that closing it doesn't close standard input.
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:
        return sys.stdin.buffer


def chunks_of(source: BinaryIO) -> Iterator[bytes]:
    while piece := source.read(CHUNK):
        yield piece
        if len(piece) < CHUNK:
            return  # at a terminal the user would have to type the end twice


def size_of(source: BinaryIO) -> int | None:
    """Return the number of bytes to read, where it is known: pipes and devices have no size."""
    try:
        return os.fstat(source.fileno()).st_size or None
    except OSError:
        return None


def cp(
    source: Source,
    target: Target,
    recursive: Recursive = False,
    if_absent: IfAbsent = False,
    *,
    wishes: Wishes,
    store: StoreOption = None,
) -> int:
    """Copy a blob within the store, or a whole store to another.

    Between keys: a TARGET that ends in / is a folder, and the blob keeps its name in it. The blob keeps its
    content type and expiry. A blob at TARGET is replaced, unless --if-absent is given. --json prints each
    copy.

    Between stores: each is a URI, a configured name with a colon, or a path that begins with ./ ../ or /, so
    that it can't be taken for a key. What TARGET lacks, or holds with other bytes, is copied; see sync. The
    other options, except --json, are for stores.

    Examples:
      holdall cp config config.bak --if-absent
      holdall cp --recursive reports/ archive/2026/
      holdall cp ./data sqlite:///data.db --prefix reports/
    """
    return _copy_or_move("cp", source, target, recursive, if_absent, wishes, store)


def mv(
    source: Source,
    target: Target,
    recursive: Recursive = False,
    if_absent: IfAbsent = False,
    *,
    wishes: Wishes,
    store: StoreOption = None,
) -> int:
    """Move a blob within the store, or a whole store to another.

    Between keys: a TARGET that ends in / is a folder, and the blob keeps its name in it. The blob keeps its
    content type and expiry. The target is whole before the source is deleted. A blob at TARGET is replaced,
    unless --if-absent is given. --json prints each copy.

    Between stores, which are written as for cp: a blob is deleted from SOURCE after it was read back from
    TARGET. The other options, except --json, are for stores.

    Examples:
      holdall mv draft.txt final.txt --if-absent
      holdall mv --recursive inbox/ archive/inbox/
      holdall mv ./inbox zip://inbox.zip --include '*.eml'
    """
    return _copy_or_move("mv", source, target, recursive, if_absent, wishes, store)


def _copy_or_move(
    name: str, source: str, target: str, recursive: bool, if_absent: bool, wishes: Wishes, store: str | None
) -> int:
    if _are_stores(name, source, target):
        _refuse_key_options(name, recursive, if_absent, store)
        from holdall.transfer import copy_store, move_store

        return transfer(name, copy_store if name == "cp" else move_store, source, target, wishes)
    _refuse_no_store(name, store)
    _refuse_store_options(name, wishes)
    with open_at(store_name(store)) as place:
        act = place.copy if name == "cp" else place.move
        done = _act_on_keys(place, act, name, source, target, expectation(if_absent, None), recursive)
        output = Output()
        for info in done:
            if wishes.json:
                output.line(dumps(as_json(info)))
    return 0


def _are_stores(name: str, source: str, target: str) -> bool:
    """Return whether both ends are stores; otherwise both are keys."""
    stores = [is_store(end) for end in (source, target)]
    if any(stores) and not all(stores):
        place, key = (source, target) if stores[0] else (target, source)
        is_path = place.startswith(("/", "./", "../"))
        if is_path and not os.path.isdir(place) and not place.endswith("/"):
            other = f"put {quote(key)} --file" if stores[0] else f"get {quote(key)} --output"
            raise UsageFault(
                f"{name} goes from key to key, or from store to store; for the file {place!r}: "
                f"holdall {other} {quote(place)}"
            )
        raise UsageFault(
            f"{spoken(place)!r} is a store and {key!r} is a key: {name} works within one store by keys, or "
            "from a whole store to another (a path then begins with ./); for one blob between two stores: "
            "holdall -s A get KEY | holdall -s B put KEY"
        )
    return all(stores)


def _refuse_no_store(name: str, store: str | None) -> None:
    if not (default_name() if store is None else store):
        raise UsageFault(
            "no store was named for these keys: give --store URI, or set HOLDALL_URI; a folder as a store "
            f"begins with ./, as in holdall {name} ./photos ./copy"
        )


def _refuse_key_options(name: str, recursive: bool, if_absent: bool, store: str | None) -> None:
    if store is not None:
        raise UsageFault(f"{name} between two stores takes both as arguments; leave --store out")
    for option, given in (("--recursive", recursive), ("--if-absent", if_absent)):
        if given:
            raise UsageFault(f"{option} is for keys; between stores, {name} takes everything")


def _refuse_store_options(name: str, wishes: Wishes) -> None:
    for option, value, default in zip(Wishes._fields, wishes, Wishes(), strict=True):
        if value != default and option != "json":
            raise UsageFault(f"--{option.replace('_', '-')} is for {name} between stores, not between keys")


def _act_on_keys(
    store: Store,
    act: Callable[..., Info],
    name: str,
    source: str,
    target: str,
    expect: Expect,
    recursive: bool,
) -> Iterator[Info]:
    """Copy or move a blob or a folder, and yield what is at the target then."""
    if not recursive:
        if source.endswith("/"):
            raise UsageFault(f"{source!r} is a folder; add --recursive for everything in it")
        kept = source.rpartition("/")[2] if target.endswith("/") else ""
        yield act(source, target + kept, expect=expect)
        return
    if not (source.endswith("/") and target.endswith("/")):
        raise UsageFault(f"{name} --recursive goes from a folder to a folder; both end in '/', as in a/ b/")
    check_key(target[:-1])
    if source.startswith(target) or target.startswith(source):
        raise UsageFault(f"one of {source!r} and {target!r} lies in the other; name two separate folders")
    count = 0
    with Meter(f"{name} {source}", blobs=True) as meter:
        for key in store.iterate_keys(source):
            yield act(key, target + key[len(source) :], expect=expect)
            count += 1
            meter.advance()
    if not count:
        raise BlobNotFoundError("no key starts with this", key=source)
