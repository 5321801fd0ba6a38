"""The commands on one object of a catalogue: put, get, rm, tag, alias."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from holdall.cli.catalog.conditions import parse_pairs
from holdall.cli.catalog.place import Create, Place, complete_entry, find_entry, open_catalog
from holdall.cli.catalog.showing import Key, entry_as_json
from holdall.cli.errors import NOT_FOUND, UsageFault, describe, warn
from holdall.cli.options import Force, Json, expectation
from holdall.cli.output import Output, dumps
from holdall.cli.parameters import Parameter
from holdall.cli.reading import To, write_out
from holdall.cli.writing import input_of
from holdall.errors import BlobNotFoundError, SerializationError
from holdall.ranges import CHUNK

if TYPE_CHECKING:
    from holdall.catalog import BlobStore

_KINDS: Final = ("bytes", "text", "json", "npy", "parquet")
_SAID: Final = ("version", "etag", "digest", "is_new", "is_shared")
"""What `put --json` says of what was stored, besides its key."""

IfAbsent = Annotated[bool, Parameter("--if-absent", help="Only if the key is new; otherwise exit with 3.")]
IfMatch = Annotated[
    str | None,
    Parameter(
        "--if-match",
        metavar="ETAG",
        help="Only if the entry has this ETag (see 'holdall catalog show'); otherwise exit with 3.",
    ),
]


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in _KINDS if kind.startswith(incomplete)]


_Kind = Annotated[
    str,
    Parameter(
        "--as",
        metavar="KIND",
        complete=_complete_kind,
        help="What the file holds: bytes, text, json, npy or parquet.",
    ),
]
_Inputs = Annotated[
    list[str] | None,
    Parameter("--input", metavar="KEY", help="What it was made from, such as a or a@2. May be repeated."),
]


class _Manner(NamedTuple):
    """How a catalogue keeps what is put."""

    keep: Annotated[
        int | None,
        Parameter("--keep", metavar="N", least=1, help="Keep N versions of KEY, with this one; else all."),
    ] = None
    compression: Annotated[
        str | None,
        Parameter(
            "--compression",
            metavar="CODEC",
            help="lz4, zstd, gzip, blosclz or none. Without it, lz4 with --as, and none for a plain file.",
        ),
    ] = None
    level: Annotated[
        int, Parameter("--level", metavar="1-9", least=1, help="From the fastest to the smallest.")
    ] = 3


def put(
    key: Annotated[str, Parameter(metavar="KEY", complete=complete_entry, help="Under which key.")],
    file: Annotated[str, Parameter(metavar="FILE", help="What is put; - reads standard input.")],
    metadata: Annotated[
        list[str] | None,
        Parameter(
            metavar="NAME=VALUE", help="Its metadata, as for tag. Without any, an equal object keeps its own."
        ),
    ] = None,
    kind: _Kind = "bytes",
    inputs: _Inputs = None,
    if_absent: IfAbsent = False,
    if_match: IfMatch = None,
    create: Create = False,
    json: Json = False,
    *,
    manner: _Manner,
    place: Place,
) -> None:
    """Put the contents of a file, or with --as the object that it holds.

    Python gets back bytes, a str, what the JSON says, a NumPy array or a data frame. Equal contents are
    stored once. Earlier versions of KEY stay, unless --keep is given. With --as or --compression, the file is
    read into memory.

    Examples:
      holdall catalog put report may.pdf author=alice --create
      holdall catalog put weights weights.npy --as npy loss=0.12 'shape=[3, 4]'
      holdall catalog put run/table - --as parquet --input run/raw < table.parquet
    """
    expect = expectation(if_absent, if_match)
    pairs = parse_pairs(metadata or [])
    if kind not in _KINDS:
        raise UsageFault(f"--as takes one of {', '.join(_KINDS)}, not {kind!r}")
    if os.path.exists(key) and file != "-" and not os.path.lexists(file):
        raise UsageFault(f"there is no file {file!r}, but {key!r} is one: the key comes first, then the file")
    is_plain = kind == "bytes" and manner.compression in (None, "none")
    with input_of(file, asked=file == "-", name="FILE") as source:
        value = None if is_plain else _decode_file(source, file, kind)
        with open_catalog(
            place,
            create=create,
            keep=True if manner.keep is None else manner.keep,
            compression="lz4" if manner.compression is None else manner.compression,
            compression_level=manner.level,
        ) as store:
            made_from = [find_entry(store, each) for each in inputs or []]
            said = pairs if metadata else None
            if is_plain:
                stored = store.put_file(source, key, said, expect=expect, inputs=made_from)
            else:
                stored = store.put(value, key, said, expect=expect, inputs=made_from)
    if json:
        Output().line(dumps({"key": str(stored), **{name: getattr(stored, name) for name in _SAID}}))


def _decode_file(source: Any, file: str, kind: str) -> Any:
    from holdall.values import serializers

    try:
        return serializers.named(kind).decode(source.read())
    except SerializationError as error:
        raise UsageFault(f"{file!r} isn't {kind}: {error.message}") from error


def get(
    key: Key,
    to: To = None,
    force: Force = False,
    *,
    place: Place,
) -> None:
    """Write the bytes of an object to standard output, or to a file.

    They are those of its format, as 'holdall catalog show' names it: an array is a .b2nd file, a frame a
    Parquet file, and what was put as bytes is those bytes. Nothing is unpickled.

    Examples:
      holdall catalog get report --output may.pdf
      holdall catalog get settings@1 | jq .
      holdall catalog get "$(holdall catalog alias prod)" -o model.b2nd
    """
    if to == "":
        raise UsageFault("--output needs the name of a file")
    with open_catalog(place) as store:
        entry = find_entry(store, key)
        with store.open(entry.key, version=entry.version) as file:
            write_out(to, key, force, None, lambda: iter(partial(file.read, CHUNK), b""))


def rm(
    keys: Annotated[
        list[str],
        Parameter(metavar="KEY", complete=complete_entry, help="Which entries; KEY@2 is one version."),
    ],
    json: Json = False,
    *,
    place: Place,
) -> int:
    """Delete entries with all their versions, or single versions.

    What an alias points at is refused. The bytes stay until they are collected. A key that doesn't exist is
    reported, the others are deleted, and the exit code is 1.

    Examples:
      holdall catalog rm old draft@1
      holdall catalog collect --yes
    """
    missing = False
    output = Output()
    with open_catalog(place) as store:
        for key in keys:
            done = False
            try:
                entry = find_entry(store, key)
            except BlobNotFoundError as error:
                missing = True
                warn(describe(error))
            else:
                done = store.delete(entry.key, version=None if entry.key == key else entry.version)
            if json:
                output.line(dumps({"key": key, "deleted": int(done)}))
    return NOT_FOUND if missing else 0


def tag(
    key: Annotated[str, Parameter(metavar="KEY", complete=complete_entry, help="Which entry.")],
    metadata: Annotated[
        list[str],
        Parameter(
            metavar="NAME=VALUE",
            help="A value is JSON where it can be, else text: 0.95, true, null, [1, 2], alice. Quote a text "
            "that is JSON too: 'version=\"2.1\"'. NAME= is an empty text.",
        ),
    ],
    if_match: IfMatch = None,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Add names to the metadata of an object, or replace their values.

    Its other names stay as they are.

    Examples:
      holdall catalog tag model deployed=true env=production
      holdall catalog tag model 'params={"rate": 0.001, "epochs": 100}'
    """
    pairs = parse_pairs(metadata)
    with open_catalog(place) as store:
        if not store.update_metadata(key, pairs, expect=expectation(False, if_match)):
            find_entry(store, key)
            raise BlobNotFoundError("metadata is that of the newest version; name it without @", key=key)
        entry = store.entry(key) if json else None
    if entry is not None:
        Output().line(dumps(entry_as_json(entry)))


def alias(
    name: Annotated[str | None, Parameter(metavar="NAME", help="Which alias; else all are listed.")] = None,
    key: Annotated[
        str | None,
        Parameter(
            metavar="KEY",
            complete=complete_entry,
            help="What it points at from now on: the newest version, or KEY@2.",
        ),
    ] = None,
    delete: Annotated[bool, Parameter("--delete", help="Delete the alias, not what it points at.")] = False,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Print an alias as KEY@VERSION, make one, move one, or delete one.

    An alias points at one version until it is moved, and what it points at can't be deleted. With --json, one
    that is made or moved is printed too.

    Examples:
      holdall catalog alias prod model@3
      holdall catalog alias prod
      holdall catalog alias --delete prod
    """
    if delete and (name is None or key is not None):
        raise UsageFault("--delete takes the name of an alias, and nothing else")
    output = Output()
    with open_catalog(place) as store:
        if name is None:
            for each, entry in store.aliases().items():
                _print_alias(each, f"{entry.key}@{entry.version}", json, output, named=True)
        elif delete:
            if not store.delete_alias(name):
                raise BlobNotFoundError("there is no alias of this name", key=name)
        elif key is None:
            entry = store.resolve(name)
            if entry is None:
                raise BlobNotFoundError("there is no alias of this name", key=name)
            _print_alias(name, f"{entry.key}@{entry.version}", json, output, named=False)
        else:
            points_at = _move_alias(store, name, key)
            if json:
                _print_alias(name, points_at, json, output, named=False)


def _print_alias(name: str, points_at: str, json: bool, output: Output, *, named: bool) -> None:
    key, _, version = points_at.rpartition("@")
    if json:
        output.line(dumps({"alias": name, "key": key, "version": int(version)}))
    else:
        output.line(f"{name}  {points_at}" if named else points_at)


def _move_alias(store: BlobStore, name: str, key: str) -> str:
    """Let an alias point at an entry, and return that as KEY@VERSION."""
    try:
        entry = find_entry(store, key)
    except BlobNotFoundError as error:
        if store.entry(name) is not None:
            error.message += f"; {name!r} is a key: the name of the alias comes first"
        raise
    store.alias(name, entry.key, entry.version)
    return f"{entry.key}@{entry.version}"
