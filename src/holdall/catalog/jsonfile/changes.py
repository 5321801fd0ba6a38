"""Changes of the rows as JSON, each a list of its name and what it takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Final

from holdall.catalog.jsonfile.state import Tables, fields_of, row_of
from holdall.catalog.row import Alias, Blob, Lease, Row
from holdall.errors import InvalidArgumentError

__all__ = ["Change", "alias_change", "blob_change", "change", "lease_change", "replay", "row_change"]

Change = tuple[str, Any]
"""The name of a method of `Tables`, and what it is called with: one object, or a tuple of arguments."""

_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


def encode(value: Any) -> str:
    """Return a value as JSON in one line of ASCII.

    Raises:
        InvalidArgumentError: JSON doesn't hold it.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"a catalogue keeps JSON, and this isn't JSON: {error}") from error


def row_change(name: str, row: Row) -> tuple[str, Row]:
    """Return the JSON of a change that has a row, and the row that is read from it."""
    text = encode((name, *fields_of(row)))
    return text, row_of(json.loads(text)[1:])


def blob_change(blob: Blob) -> str:
    data = None if blob.data is None else base64.b64encode(blob.data).decode()
    return encode((
        "put_blob", blob.number, blob.digest, blob.size, blob.crc, blob.extension, blob.type, blob.format,
        blob.codec, blob.library, blob.inline, data, blob.until,
    ))  # fmt: skip


def alias_change(alias: Alias) -> str:
    return encode(("put_alias", alias.name, alias.key, alias.version, alias.sequence))


def lease_change(lease: Lease) -> str:
    return encode(("put_lease", lease.name, lease.blob, lease.until))


def change(name: str, *arguments: str | int) -> str:
    return encode((name, *arguments))


def blob_of(fields: list[Any]) -> Blob:
    fields[10] = None if fields[10] is None else base64.b64decode(fields[10])
    return Blob(*fields)


_REPLAYED: Final[dict[str, Callable[[Tables, list[Any]], None]]] = {
    "put_row": lambda tables, fields: tables.put_row(row_of(fields)),
    "put_earlier": lambda tables, fields: tables.put_earlier(row_of(fields)),
    "drop_row": lambda tables, fields: tables.drop_row(*fields),
    "drop_earlier": lambda tables, fields: tables.drop_earlier(*fields),
    "put_blob": lambda tables, fields: tables.put_blob(blob_of(fields)),
    "drop_blob": lambda tables, fields: tables.drop_blob(*fields),
    "suspect": lambda tables, fields: tables.suspect(*fields),
    "acquit": lambda tables, fields: tables.acquit(*fields),
    "put_alias": lambda tables, fields: tables.put_alias(Alias(*fields)),
    "drop_alias": lambda tables, fields: tables.drop_alias(*fields),
    "put_lease": lambda tables, fields: tables.put_lease(Lease(*fields)),
    "drop_lease": lambda tables, fields: tables.drop_lease(*fields),
}


def replay(tables: Tables, number: int, changes: list[list[Any]]) -> None:
    """Make the changes of a transaction.

    Raises:
        KeyError, TypeError, ValueError: They aren't changes.
    """
    for name, *fields in changes:
        _REPLAYED[name](tables, fields)
    tables.number = max(tables.number, number)
