"""The file that a person can read: all rows as indented JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from sys import intern
from typing import Any, Final, NamedTuple, cast

from holdall.catalog.jsonfile.state import Tables
from holdall.catalog.row import Alias, Blob, Lease, Row
from holdall.errors import IntegrityError, StoreUnavailableError, UnsupportedOperation

_FORMAT: Final = "holdall catalogue"
_VERSION: Final = 1
_ABOUT: Final = (
    "Entries of a holdall catalogue. Later changes are in the file next to this one whose name ends in .log. "
    "Edit this one only while no program uses it, and if that file is missing or has one line."
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WIDTH: Final = 90
"""The longest metadata that stay on one line."""

_quote = json.encoder.encode_basestring
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_LONE = re.compile("[\ud800-\udfff]")


class Title(NamedTuple):
    """What a main file says of itself.

    Attributes:
        identity: The catalogue's own, which stays.
        generation: That of this file, a random str: the journal that belongs to it has the same.
        previous: That of the file before, whose journal is in this one, or an empty str.
    """

    identity: str
    generation: str
    previous: str


def compose(title: Title, tables: Tables) -> bytes:
    """Return the bytes of a main file."""
    head = {
        "format": _FORMAT,
        "version": _VERSION,
        "about": _ABOUT,
        "identity": title.identity,
        "generation": title.generation,
        "previous": title.previous,
        "number": tables.number,
    }
    parts = [f"  {_quote(name)}: {_encode(value)}" for name, value in head.items()]
    blobs = dict(sorted(tables.blobs.items()))
    rows = (tables.rows[key] for key in sorted(tables.rows))
    parts.append(_object("entries", (f"{_quote(row.key)}: {_entry(row, blobs)}" for row in rows)))
    earlier = (
        f'{{\n      "key": {_quote(key)},{_entry(row, blobs)[1:]}'
        for key, versions in sorted(tables.earlier.items())
        for _, row in sorted(versions.items())
    )
    parts.append(_object("earlier_versions", earlier, "[]"))
    others = (f'"{number}": {_blob(tables, blob)}' for number, blob in blobs.items())
    parts.append(_object("other_blobs", others))
    suspects = (f'"{number}": {_time(since)}' for number, since in sorted(tables.suspects.items()))
    parts.append(_object("suspected_blobs", suspects))
    aliases = (
        f'{_quote(name)}: {{"key": {_quote(each.key)}, "version": {each.version}, '
        f'"sequence": {each.sequence}}}'
        for name, each in sorted(tables.aliases.items())
    )
    parts.append(_object("aliases", aliases))
    leases = (
        f'{_quote(name)}: {{"blob": {each.blob}, "until": {_time(each.until)}}}'
        for name, each in sorted(tables.leases.items())
    )
    parts.append(_object("leases", leases))
    whole = "{\n" + ",\n".join(parts) + "\n}\n"
    try:
        return whole.encode()
    except UnicodeEncodeError:
        # Only strings have any; JSON has its own way for them.
        return _LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", whole).encode()


def _object(name: str, items: Iterator[str], brackets: str = "{}") -> str:
    inner = ",\n    ".join(items)
    return f'  "{name}": ' + (f"{brackets[0]}\n    {inner}\n  {brackets[1]}" if inner else brackets)


def _entry(row: Row, blobs: dict[int, Blob]) -> str:
    """Return an entry. It has its blob too, which is taken out of the others, if that says the same."""
    named = [f"{_quote(name)}: {_value(value)}" for name, value in row.metadata.items()]
    if sum(map(len, named)) <= _WIDTH:
        metadata = f"{{{', '.join(named)}}}"
    else:
        metadata = "{\n        " + ",\n        ".join(named) + "\n      }"
    blob = blobs.get(row.blob)
    its = ""
    if blob is not None and _shared(blob) == _shared(row) and not blob.inline and not blob.until:
        its = f',\n      "crc": {blob.crc},\n      "extension": {_quote(blob.extension)}'
        del blobs[row.blob]
    inputs = f',\n      "inputs": {_encode(row.inputs)}' if row.inputs else ""
    return (
        f'{{\n      "version": {row.version},\n      "metadata": {metadata},\n'
        f'      "type": {_quote(row.type)},\n      "size": {row.size},\n'
        f'      "digest": {_quote(row.digest)},\n'
        f'      "created": {_time(row.created)},\n      "updated": {_time(row.updated)},\n'
        f'      "format": {_quote(row.format)},\n      "codec": {_quote(row.codec)},\n'
        f'      "library": {_quote(row.library)},\n'
        f'      "blob": {row.blob},\n      "sequence": {row.sequence}{its}{inputs}\n    }}'
    )


_shared = cast(
    Callable[[Any], tuple[Any, ...]], attrgetter("digest", "size", "type", "format", "codec", "library")
)
"""What an entry says of its blob."""


def _value(value: Any) -> str:
    """Return JSON in one line."""
    kind = cast(type[Any], type(value))
    if kind is str:
        return _quote(value)
    return repr(value) if kind is int or kind is float else _encode(value)


def _blob(tables: Tables, blob: Blob) -> str:
    data = tables.data.get(blob.number) if blob.inline else None
    inline = "" if data is None else f', "data": "{base64.b64encode(data).decode()}"'
    until = f', "until": {_time(blob.until)}' if blob.until else ""
    return (
        f'{{"digest": {_quote(blob.digest)}, "size": {blob.size}, "crc": {blob.crc}, '
        f'"extension": {_quote(blob.extension)}, "type": {_quote(blob.type)}, '
        f'"format": {_quote(blob.format)}, "codec": {_quote(blob.codec)}, '
        f'"library": {_quote(blob.library)}{until}{inline}}}'
    )


def _time(micros: int) -> str:
    """Return a time as ISO 8601, or the microseconds themselves where a calendar doesn't reach."""
    try:
        return f'"{(_EPOCH + timedelta(microseconds=micros)).isoformat()}"'
    except OverflowError:
        return str(micros)


def parse(data: bytes, path: str) -> tuple[Title, Tables]:
    """Return what a main file holds.

    Raises:
        IntegrityError: It is cut or damaged, or was edited into something else.
        StoreUnavailableError: It is another program's.
        UnsupportedOperation: A newer version of holdall wrote it.
    """
    advice = "nothing was changed: correct it, or restore it from a backup, with the .log file next to it"
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path!r} isn't whole JSON ({error}); {advice}") from error
    if not isinstance(found, dict) or cast(dict[str, Any], found).get("format") != _FORMAT:
        raise StoreUnavailableError(
            f"{path!r} isn't a catalogue of holdall, but another program's file; nothing was changed: choose "
            "another folder, or move that file away"
        )
    parts = cast(dict[str, Any], found)
    version = parts.get("version")
    if version != _VERSION:
        raise UnsupportedOperation(
            f"{path!r} has version {version!r} of the format, and this holdall reads version {_VERSION}; "
            "nothing was changed: install a newer holdall"
        )
    place = ["its head"]
    try:
        title = Title(parts["identity"], parts["generation"], parts["previous"])
        _check_kinds(title, (str, str, str))
        return title, _read_tables(parts, place)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is wrong: {error}"
        raise IntegrityError(f"{place[0]} in {path!r} {what}; {advice}") from error


def _check_kinds(values: tuple[Any, ...], kinds: tuple[type, ...]) -> None:
    if tuple(map(type, values)) != kinds:
        for value, kind in zip(values, kinds, strict=True):
            if type(value) is not kind:
                raise TypeError(f"expected {kind.__name__}, not {value!r:.80}")


_ROW_KINDS: Final = (str, int, int, int, str, int, str, str, str, str, int, int, dict)
_BLOB_KINDS: Final = (int, str, int, int, str, str, str, str, str, bool)


def _read_tables(parts: dict[str, Any], place: list[str]) -> Tables:
    tables = Tables()

    def each(name: str) -> Iterator[tuple[str, Any]]:
        for key, value in parts[name].items():
            place[0] = f"{key!r} of {name!r}"
            yield key, value

    for key, fields in each("entries"):
        row = _read_row(key, fields)
        tables.put_row(row)
        _read_its_blob(tables, row, fields)
    for at, fields in enumerate(parts["earlier_versions"]):
        place[0] = f"number {at} of 'earlier_versions'"
        row = _read_row(fields["key"], fields)
        tables.put_earlier(row)
        _read_its_blob(tables, row, fields)
    for number, fields in each("other_blobs"):
        tables.put_blob(_read_blob(int(number), fields))
    for number, since in each("suspected_blobs"):
        tables.suspect(int(number), _micros(since))
    for name, fields in each("aliases"):
        alias = Alias(name, fields["key"], fields["version"], fields["sequence"])
        _check_kinds((alias.key, alias.version, alias.sequence), (str, int, int))
        tables.put_alias(alias)
    for name, fields in each("leases"):
        lease = Lease(name, fields["blob"], _micros(fields["until"]))
        _check_kinds((lease.blob,), (int,))
        tables.put_lease(lease)
    place[0] = "'number'"
    _check_kinds((parts["number"],), (int,))
    # Somebody may have edited the file.
    sequences = [row.sequence for row in tables.rows.values()]
    tables.number = max(parts["number"], *tables.blobs, *sequences, 0)
    return tables


def _read_row(key: str, fields: dict[str, Any]) -> Row:
    digest, kind, form, codec, library = _read_strings(fields)
    inputs = fields.get("inputs")
    row = Row(
        key, fields["version"], fields["sequence"], fields["blob"], digest, fields["size"], kind, form, codec,
        library, _micros(fields["created"]), _micros(fields["updated"]), fields["metadata"],
        tuple((name, number, made) for name, number, made in inputs) if inputs else (),
    )  # fmt: skip
    _check_kinds(
        (
            key, row.version, row.sequence, row.blob, digest, row.size, kind, form, codec, library,
            row.created, row.updated, row.metadata,
        ),
        _ROW_KINDS,
    )  # fmt: skip
    for each in row.inputs:
        _check_kinds(each, (str, int, str))
    return row


def _read_strings(fields: dict[str, Any]) -> Iterator[str]:
    """Return what an entry and its blob both say, as one str each: the same come again and again."""
    return map(
        intern, (fields["digest"], fields["type"], fields["format"], fields["codec"], fields["library"])
    )


def _read_its_blob(tables: Tables, row: Row, fields: dict[str, Any]) -> None:
    """Take in the blob that an entry has with it, if it has one."""
    if "crc" in fields:
        crc, extension = fields["crc"], fields["extension"]
        _check_kinds((crc, extension), (int, str))
        blob = Blob(
            row.blob, row.digest, row.size, crc, intern(extension), row.type, row.format, row.codec,
            row.library,
        )  # fmt: skip
        tables.put_blob(blob)


def _read_blob(number: int, fields: dict[str, Any]) -> Blob:
    digest, kind, form, codec, library = _read_strings(fields)
    extension, data, until = intern(fields["extension"]), fields.get("data"), fields.get("until", 0)
    blob = Blob(
        number, digest, fields["size"], fields["crc"], extension, kind, form, codec, library,
        data is not None, None if data is None else base64.b64decode(data, validate=True),
        until and _micros(until),
    )  # fmt: skip
    _check_kinds(
        (number, digest, blob.size, blob.crc, extension, kind, form, codec, library, blob.inline),
        _BLOB_KINDS,
    )
    return blob


def _micros(time: Any) -> int:
    if type(time) is int:
        return time
    when = datetime.fromisoformat(time)
    if when.tzinfo is None:
        raise ValueError(f"the time {time!r} lacks its zone, such as +00:00")
    return (when - _EPOCH) // timedelta(microseconds=1)
