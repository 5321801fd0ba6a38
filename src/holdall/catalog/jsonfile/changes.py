"""Changes of the rows as JSON, each a list of the name of a method of `Tables` and what that takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, cast

from holdall.catalog.jsonfile.state import Tables
from holdall.catalog.row import Alias, Blob, Lease, Row
from holdall.errors import InvalidArgumentError

_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_FIELDS: Final[dict[type[Any], Callable[[Any], tuple[Any, ...]]]] = {
    kind: attrgetter(*(each.name for each in fields(kind))) for kind in (Row, Blob, Alias, Lease)
}


def change(name: str, *arguments: Any) -> str:
    """Return a change as JSON in one line of ASCII; of a row, a blob, an alias or a lease it has the fields.

    Raises:
        InvalidArgumentError: JSON doesn't hold it.
    """
    fields_of = _FIELDS.get(cast("type[Any]", type(arguments[0])))
    values = arguments if fields_of is None else fields_of(arguments[0])
    if name == "put_blob":
        *others, data, until = values
        values = *others, None if data is None else base64.b64encode(data).decode(), until
    try:
        return _encode((name, *values))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"a catalogue keeps JSON, and this isn't JSON: {error}") from error


def row_of(values: list[Any]) -> Row:
    values[13] = tuple((key, version, digest) for key, version, digest in values[13])
    return Row(*values)


def _blob_of(values: list[Any]) -> Blob:
    values[10] = None if values[10] is None else base64.b64decode(values[10])
    return Blob(*values)


_READ: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "put_row": row_of,
    "put_earlier": row_of,
    "put_blob": _blob_of,
    "put_alias": lambda values: Alias(*values),
    "put_lease": lambda values: Lease(*values),
}
_PLAIN: Final = frozenset(
    {"drop_row", "drop_earlier", "drop_blob", "suspect", "acquit", "drop_alias", "drop_lease"}
)


def replay(tables: Tables, number: int, changes: list[list[Any]]) -> None:
    """Make the changes of a transaction.

    Raises:
        KeyError, TypeError, ValueError: They aren't changes.
    """
    for name, *values in changes:
        if name in _PLAIN:
            getattr(tables, name)(*values)
        else:
            getattr(tables, name)(_READ[name](values))
    tables.number = max(tables.number, number)
