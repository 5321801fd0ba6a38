"""Queries in PostgreSQL's SQL: by its index of all metadata, or by that of a field, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, cast

from holdall.catalog.query import Compare, Path, Query, arrange, compile_after, rank, value_at
from holdall.catalog.row import Row
from holdall.catalog.sql import (
    ALWAYS,
    LONGEST,
    NEVER,
    TEXTS,
    Ask,
    Narrowing,
    Part,
    first_page,
    is_number,
    is_text,
    negated,
)  # fmt: skip
from holdall.catalog.sql_listings import rows_by_key
from holdall.catalog.sql_transaction import COLUMNS, encode, row_of
from holdall.spans import past_start

_LONG: Final = 250
"""The characters of a string that are in an index, whose rows have at most 2,704 bytes."""
_FARTHEST: Final = Decimal("1e5000")
"""Beyond each number in metadata."""


def facts_of(text: str) -> str:
    """Return metadata in JSON as PostgreSQL compares it.

    Its numbers are decimal: the float that is written `1e+23` isn't the integer 10**23, but a little less.
    """
    if "e+" not in text:
        return text
    return encode(_exact(json.loads(text)))


def _exact(value: Any) -> Any:
    """Return JSON in which floats that are integers are written with all their digits."""
    if isinstance(value, dict):
        return {name: _exact(each) for name, each in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_exact(each) for each in cast(list[Any], value)]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) >= 2**53 else value


def _decimal(value: int | float) -> Decimal:
    if isinstance(value, int):
        return Decimal(value)
    if value in (float("inf"), float("-inf")):
        return _FARTHEST if value > 0 else -_FARTHEST
    return Decimal(int(value)) if value.is_integer() else Decimal(repr(value))


@lru_cache(256)
def _field(path: Path) -> str | None:
    """Return the JSON of a field, or None if no row can have it."""
    if not all(is_text(name) for name in path):
        return None
    return "(facts" + "".join(f" -> {_literal(name)}" for name in path[1:]) + ")"


def _literal(text: str) -> str:
    # Of a backslash in a plain literal the meaning depends on a setting.
    quoted = text.replace("'", "''").replace("\\", "\\\\").replace("%", "%%")
    return f" E'{quoted}'::text"


@lru_cache(256)
def index_columns(path: Path) -> tuple[str, ...] | None:
    """Return what an index of a field holds, so that it sorts as an `Order` wants it: the rank of the value,
    the number, the string's beginning, and the key."""
    if path[0] != "metadata":
        return (path[0],) if path == ("key",) else (path[0], "key")
    field = _field(path)
    if field is None:
        return None
    kind = f"jsonb_typeof({field})"
    number = f"{field}::numeric WHEN 'boolean' THEN {field}::boolean::integer::numeric"
    return (
        f"(CASE {kind} WHEN 'number' THEN 0 WHEN 'string' THEN 1 WHEN 'boolean' THEN 2 ELSE 3 END)",
        f"(CASE {kind} WHEN 'number' THEN {number} ELSE 0 END)",
        f"(left({_text_of(path)}, {_LONG}))",
        "key",
    )


def _text_of(path: Path) -> str:
    field = _field(path)
    return f"(CASE jsonb_typeof({field}) WHEN 'string' THEN {field} #>> '{{}}' ELSE '' END COLLATE \"C\")"


class FieldsOfPostgresql(Narrowing):
    """Conditions on the table of entries, whose metadata are JSONB.

    Args:
        indexed: The fields that have an index of their own. Of the others, what a field equals is found by
            the index of all metadata.
    """

    def __init__(self, indexed: Collection[Path]) -> None:
        super().__init__("%s")
        self._indexed = indexed

    def metadata(self, node: Compare) -> Part | None:
        path, operator, value = node.path, node.operator, node.value
        field = _field(path)
        if field is None:
            # No row has it.
            if operator == "exists":
                return NEVER if value else ALWAYS
            return ALWAYS if operator == "!=" else NEVER
        if operator == "exists":
            return Part(f"{field} IS {'NOT ' if value else ''}NULL")
        if operator == "in":
            return self.any([self._equals(path, each) for each in value])
        if operator == "==":
            return self._equals(path, value)
        if operator == "!=":
            return negated(self._equals(path, value))
        kind, number, start, _ = cast(tuple[str, ...], index_columns(path))
        text = _text_of(path)
        if operator == "prefix":
            if not is_text(value):
                return NEVER
            end = past_start(value)
            if end is None:
                return Part(f"{kind} = 1 AND {start} >= %s AND {text} >= %s", (value[:_LONG], value))
            return Part(
                f"{kind} = 1 AND {start} >= %s AND {start} <= %s AND {text} >= %s AND {text} < %s",
                (value[:_LONG], end[:_LONG], value, end),
            )
        if is_number(value):
            return Part(f"{kind} = 0 AND {number} {operator} %s", (_decimal(value),))
        if not is_text(value):
            return None
        return Part(
            f"{kind} = 1 AND {start} {operator[0]}= %s AND {text} {operator} %s", (value[:_LONG], value)
        )

    def _equals(self, path: Path, value: Any) -> Part:
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            return NEVER
        if isinstance(value, str) and not is_text(value):
            return NEVER
        plain = isinstance(value, bool | int | float | str)
        if plain and path in self._indexed:
            kind, number, start, _ = cast(tuple[str, ...], index_columns(path))
            if isinstance(value, str):
                return Part(
                    f"{kind} = 1 AND {number} = 0 AND {start} = %s AND {_text_of(path)} = %s",
                    (value[:_LONG], value),
                )
            rank = 2 if isinstance(value, bool) else 0
            return Part(f"{kind} = {rank} AND {number} = %s", (_decimal(value),))
        wanted: Any = _exact(value)
        for name in reversed(path[1:]):
            wanted = {name: wanted}
        try:
            text = encode(wanted)
            text.encode()
        except (ValueError, UnicodeEncodeError):
            return NEVER
        if "\\u0000" in text:
            # PostgreSQL takes no NUL in JSON, and to tell one from a backslash isn't worth it.
            return Part("TRUE", (), False)
        # Of objects and lists this is true for those with more in them, too.
        return Part("facts @> %s::jsonb", (text,), plain or value is None)


def find(ask: Ask, table: str, fields: FieldsOfPostgresql, query: Query) -> Iterator[Row]:
    """Yield at least the rows that match a query; see `MetadataBackend.find`."""
    part = fields.narrow(query.where)
    if part == NEVER:
        return iter(())
    path = query.order.path
    if path == ("key",):
        return _by_key(ask, table, part, query)
    if index_columns(path) is None or not _fits(query):
        found = iter(arrange(list(_by_key(ask, table, part, Query(query.where))), query.order))
    else:
        found = _by_field(ask, _Pages(table, part, path, query.order.descending), query)
    return found if query.after is None else filter(compile_after(query.order, query.after), found)


def _fits(query: Query) -> bool:
    """Return whether PostgreSQL can compare the position with the field."""
    if query.after is None:
        return True
    value, key = query.after
    name = query.order.path[0]
    if not is_text(key):
        return False
    if name == "metadata":
        return not isinstance(value, str) or is_text(value)
    if name in TEXTS:
        return is_text(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _by_key(ask: Ask, table: str, part: Part, query: Query) -> Iterator[Row]:
    """Yield rows by key."""

    def select(bound: str, by_key: bool) -> str:
        source = f"SELECT {COLUMNS} FROM {table} WHERE ({part.sql}){bound}"
        # Behind this fence all matches are found before they are sorted.
        return f"{source if by_key else f'SELECT * FROM ({source} OFFSET 0) AS found'} ORDER BY key"

    return rows_by_key(ask, query, part.values, select, "%s", part == ALWAYS)


class _Pages:
    """The statements that read the pages of an order by a field: a segment for each rank of values, since the
    planner knows what is equal within one."""

    def __init__(self, table: str, part: Part, path: Path, descending: bool) -> None:
        self._way, self._sign = (" DESC", "<") if descending else ("", ">")
        self._begin = f"SELECT {COLUMNS} FROM {table} WHERE ({part.sql}) AND "
        self._values = part.values
        self._columns = cast(tuple[str, ...], index_columns(path))
        self._of_metadata = path[0] == "metadata"
        self._string = _text_of(path) if self._of_metadata else ""
        self.ranks: tuple[int, ...] = (
            ((2, 1, 0, 3) if descending else (0, 1, 2, 3)) if self._of_metadata else (0,)
        )

    def rank(self, value: Any) -> int:
        return rank(value)[0] if self._of_metadata else 0

    def equal(self, value: Any, key: str) -> tuple[str, tuple[Any, ...]]:
        """The rows with a value, after a key."""
        same, values = self._same(value)
        sql = f"{self._begin}{same} AND key > %s ORDER BY key LIMIT %s"
        return sql, (*self._values, *values, key)

    def _same(self, value: Any) -> tuple[str, tuple[Any, ...]]:
        if not self._of_metadata:
            return f"{self._columns[0]} = %s", (value,)
        kind, number, start, _ = self._columns
        found = self.rank(value)
        if found == 1:
            same = f"{kind} = 1 AND {number} = 0 AND {start} = %s AND {self._string} = %s"
            return same, (value[:_LONG], value)
        values = () if found == 3 else (_decimal(value),)
        return f"{kind} = {found} AND {number} = {'%s' if values else '0'} AND {start} = ''", values

    def following(self, of: int, *after: Any) -> tuple[str, tuple[Any, ...]]:
        """The rows of a rank, all or those after a value of it."""
        if not self._of_metadata:
            column = self._columns[0]
            sql = f"{column} {self._sign} %s" if after else "TRUE"
            return f"{self._begin}{sql} ORDER BY {column}{self._way}, key LIMIT %s", (*self._values, *after)
        if of == 3:
            return self.equal(None, "")
        kind, number, start, _ = self._columns
        values: tuple[Any, ...] = ()
        if of == 1:
            sql = f"{kind} = 1 AND {number} = 0"
            order = f"{start}{self._way}, {self._string}{self._way}"
            if after:
                sql += f" AND {start} {self._sign}= %s AND {self._string} {self._sign} %s"
                values = after[0][:_LONG], after[0]
        else:
            sql, order = f"{kind} = {of} AND {start} = ''", f"{number}{self._way}"
            if after:
                sql += f" AND {number} {self._sign} %s"
                values = (_decimal(after[0]),)
        return f"{self._begin}{sql} ORDER BY {order}, key LIMIT %s", (*self._values, *values)


def _by_field(ask: Ask, pages: _Pages, query: Query) -> Iterator[Row]:
    limit = first_page(query)
    tied: tuple[Any, ...] = ()  # the value that the statement is about, if it is one
    ranks = list(pages.ranks)
    statement, values = pages.following(ranks[0])
    if query.after is not None:
        tied = query.after[:1]
        ranks = ranks[ranks.index(pages.rank(*tied)) :]
        statement, values = pages.equal(tied[0], query.after[1])
    while True:
        rows = [row_of(each) for each in ask(statement, (*values, limit))]
        yield from rows
        if len(rows) == limit:
            value: Any = value_at(rows[-1], query.order.path)
            tied = (value,)
            statement, values = pages.equal(tied[0], rows[-1].key)
            limit = min(4 * limit, LONGEST)
        elif tied and ranks[0] != 3:
            statement, values = pages.following(ranks[0], *tied)
            tied = ()
        elif ranks[1:]:
            del ranks[0]
            statement, values = pages.following(ranks[0])
        else:
            return
