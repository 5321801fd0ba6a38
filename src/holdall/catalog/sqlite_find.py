"""Queries in SQLite's SQL: by its index of an expression where there is one, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from holdall.catalog.query import (
    EVERYTHING,
    Compare,
    Negation,
    Node,
    Path,
    Query,
    arrange,
    compile_after,
    value_at,
)
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

_OTHERS: Final = b"\2"
_LARGE: Final = 1.7e308
_WIDE: Final = 2**53
"""From here on floats aren't all the integers."""


class FieldsOfSqlite(Narrowing):
    """Conditions on the table of entries.

    A field of the metadata is one expression, whose values SQLite sorts as an `Order` wants them: numbers
    come before text, and text before bytes, as which False, True and all other values are written. So one
    index serves each comparison with the field and the order by it.
    """

    def __init__(self) -> None:
        super().__init__("?")

    @staticmethod
    @lru_cache(256)
    def expression(path: Path) -> str | None:
        """Return the expression of a field, or None if SQLite can't name it."""
        if path[0] != "metadata":
            return path[0]
        at = _location(path)
        if at is None:
            return None
        found = f"json_extract(metadata, {at})"
        return (
            f"CASE json_type(metadata, {at}) WHEN 'real' THEN {found} WHEN 'integer' THEN {found} "
            f"WHEN 'text' THEN {found} WHEN 'false' THEN x'00' WHEN 'true' THEN x'01' ELSE x'02' END"
        )

    def metadata(self, node: Compare) -> Part | None:
        field, operator, value = self.expression(node.path), node.operator, node.value
        if field is None:
            return None
        if operator == "exists":
            there = f"json_type(metadata, {_location(node.path)})"
            return Part(f"{there} IS NOT NULL" if value else f"{field} = x'02' AND {there} IS NULL")
        if operator == "in":
            parts = [_equals(field, each) for each in value]
            # One list of values is looked up in the index at once.
            plain = [part for part in parts if part.sql == f"{field} = ?"]
            if len(plain) > 1:
                marks = ", ".join("?" * len(plain))
                values = tuple(part.values[0] for part in plain)
                exact = all(part.exact for part in plain)
                parts = [part for part in parts if part.sql != f"{field} = ?"]
                parts.append(Part(f"{field} IN ({marks})", values, exact))
            return self.any(parts)
        if operator == "==":
            return _equals(field, value)
        if operator == "!=":
            return negated(_equals(field, value))
        if operator == "prefix":
            if not is_text(value):
                return NEVER
            end = past_start(value)
            if end is None:
                return Part(f"{field} >= ? AND {field} < x''", (value,))
            return Part(f"{field} >= ? AND {field} < ?", (value, end))
        return _compare_order(field, operator, value)


@lru_cache(256)
def _location(path: Path) -> str | None:
    """Return the literal of a path of SQLite's JSON functions, or None if it can't be written.

    Versions of SQLite differ on names with an escape in JSON; none takes a quote, or an empty name.
    """
    for name in path[1:]:
        if not is_text(name) or not name or json.dumps(name, ensure_ascii=False) != f'"{name}"':
            return None
    where = "".join(f'."{name}"' for name in path[1:]).replace("'", "''")
    return f"'${where}'"


def _bounds(value: Any) -> tuple[Any, Any]:
    """Return between which values a number in JSON may be for SQLite, if it is this one.

    It reads integers of more than 64 bits as floats, and older versions read a float with an error in the
    last bit.
    """
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value, value
    try:
        near = float(value)
    except OverflowError:
        near = float("inf") if value > 0 else float("-inf")
    if near.is_integer() and abs(near) <= _WIDE:
        return near, near
    wide = min(abs(near), _LARGE) * 1e-14 + 1e-300
    return min(near - wide, _LARGE), max(near + wide, -_LARGE)


def _equals(field: str, value: Any) -> Part:
    if value is True or value is False:
        return Part(f"{field} = x'0{int(value)}'")
    if is_number(value):
        low, high = _bounds(value)
        if low == high:
            return Part(f"{field} = ?", (low,), False)
        return Part(f"{field} BETWEEN ? AND ?", (low, high), False)
    if isinstance(value, str):
        return Part(f"{field} = ?", (value,)) if is_text(value) else NEVER
    return Part(f"{field} = x'02'", (), False)


def _compare_order(field: str, operator: str, value: Any) -> Part | None:
    below = operator[0] == "<"
    if is_number(value):
        low, high = _bounds(value)
        if below:
            # Of two bounds the planner expects fewer rows than of one.
            return Part(f"{field} BETWEEN -9e999 AND ?", (high,), False)
        return Part(f"{field} >= ? AND {field} < ''", (low,), False)
    if not is_text(value):
        return None
    if below:
        return Part(f"{field} >= '' AND {field} {operator} ?", (value,))
    return Part(f"{field} {operator} ? AND {field} < x''", (value,))


def find(
    ask: Ask, fields: FieldsOfSqlite, query: Query, indexed: Callable[[], frozenset[Path]]
) -> Iterator[Row]:
    """Yield at least the rows that match a query; see `MetadataBackend.find`."""
    if query.order.path == ("key",):
        # Rows lie in the order in which they were put. Where all matches are wanted and no index finds them,
        # one look at all rows as they lie takes a quarter of the time of one by key.
        scans = query.limit is None and indexed().isdisjoint(_paths_of(query.where))
        return _by_key(ask, fields, query, scans=scans)
    part = ALWAYS if query.where is EVERYTHING else fields.narrow(query.where)
    if part == NEVER:
        return iter(())
    field = fields.expression(query.order.path)
    if field is None or not _fits(query):
        return _sort_here(ask, fields, query)
    found = _by_field(ask, part, field, query)
    return found if query.after is None else filter(compile_after(query.order, query.after), found)


def _fits(query: Query) -> bool:
    """Return whether SQLite compares the position with the field as it is: a column of integers takes a str
    of digits for a number."""
    name = query.order.path[0]
    if query.after is None or name == "metadata":
        return True
    return isinstance(query.after[0], str) if name in TEXTS else is_number(query.after[0])


def _paths_of(node: Node) -> Iterator[Path]:
    if isinstance(node, Compare):
        yield node.path
    else:
        for each in (node.node,) if isinstance(node, Negation) else node.nodes:
            yield from _paths_of(each)


def _by_key(ask: Ask, fields: FieldsOfSqlite, query: Query, *, scans: bool = False) -> Iterator[Row]:
    """Yield rows by key."""
    of_keys, others = fields.split(query.where)
    if NEVER in (of_keys, others):
        return iter(())
    # The sign hides the column from the index of keys, and below the condition from others.
    first = "+key" if scans and of_keys == ALWAYS != others else "key"

    def select(bound: str, by_key: bool) -> str:
        sign, order = ("+", "key") if by_key else ("", first)
        where = f"({of_keys.sql}) AND {sign}({others.sql}){bound}"
        return f"SELECT {COLUMNS} FROM holdall_catalog_v1_entries WHERE {where} ORDER BY {order}"

    return rows_by_key(ask, query, of_keys.values + others.values, select, "?", others == ALWAYS)


def _sort_here(ask: Ask, fields: FieldsOfSqlite, query: Query) -> Iterator[Row]:
    """Yield rows in an order that SQLite can't name."""
    everything = list(_by_key(ask, fields, Query(query.where)))
    follows = compile_after(query.order, query.after)
    yield from filter(follows, arrange(everything, query.order))


class _Pages:
    """The statements that read the pages of an order by a field, with the values that follow those of the
    condition."""

    def __init__(self, condition: str, field: str, descending: bool) -> None:
        condition = "" if condition == ALWAYS.sql else f"({condition}) AND "
        self.begin = f"SELECT {COLUMNS} FROM holdall_catalog_v1_entries WHERE {condition}"
        self.field = field
        self.descending = descending
        self.first = self.following(None)

    def equal(self, value: Any, key: str) -> tuple[str, tuple[Any, ...]]:
        """The rows with a value, after a key."""
        return f"{self.begin}{self.field} = ? AND key > ? ORDER BY key LIMIT ?", (value, key)

    def following(self, value: Any, *, itself: bool = False) -> tuple[str, tuple[Any, ...]]:
        """The rows after a value, which has an order of its own."""
        same = "=" if itself else ""
        if not self.descending:
            order = f"ORDER BY {self.field}, key LIMIT ?"
            if value is None:
                return f"{self.begin}1 = 1 {order}", ()
            return f"{self.begin}{self.field} >{same} ? {order}", (value,)
        order = f"ORDER BY {self.field} DESC, key LIMIT ?"
        sign = f"<{same}"
        if value is None:
            value, sign = _OTHERS, "<"
        return f"{self.begin}{self.field} {sign} ? {order}", (value,)


_pages = lru_cache(256)(_Pages)


def _by_field(ask: Ask, part: Part, field: str, query: Query) -> Iterator[Row]:
    pages = _pages(part.sql, field, query.order.descending)
    path = query.order.path
    held: list[Row] = []
    for rows, more in _pages_of(ask, pages, part.values, query):
        if not rows:
            continue
        last = value_at(rows[-1], path)
        if more and _is_wide(last):
            # SQLite takes integers of more than 64 bits for the floats next to them: they are sorted here,
            # once all with this value are there.
            held += rows
        elif held or _is_wide(last) or (len(rows) > 1 and _has_wide(rows, path, last)):
            yield from arrange([*held, *rows], query.order)
            held = []
        else:
            yield from rows
    yield from arrange(held, query.order)


def _has_wide(rows: list[Row], path: Path, last: Any) -> bool:
    """Return whether a value of rows in order is wide, where the last one isn't."""
    first = value_at(rows[0], path)
    if is_number(first) and is_number(last):
        return abs(first) >= _WIDE  # those between them are narrower
    return any(_is_wide(value_at(row, path)) for row in rows)


def _is_wide(value: Any) -> bool:
    return is_number(value) and abs(value) >= _WIDE


def _pages_of(
    ask: Ask, pages: _Pages, given: tuple[Any, ...], query: Query
) -> Iterator[tuple[list[Row], bool]]:
    """Yield the rows of each page, and whether more may have a value that sorts with its last."""
    limit = first_page(query)
    statement, values = pages.first
    ending = False  # whether the rest, without an order of their own, are on their way
    tied: Any = None
    if query.after is not None:
        value, key = query.after
        tied = _as_expressed(value)
        if tied is None:
            low, high = _bounds(value) if is_number(value) else ("", b"")
            statement, values = pages.following(high if pages.descending else low, itself=True)
        else:
            ending = tied == _OTHERS
            statement, values = pages.equal(tied, key)
    while True:
        rows = [row_of(each) for each in ask(statement, (*given, *values, limit))]
        full = len(rows) == limit
        yield rows, full or tied is not None
        if full:
            value = value_at(rows[-1], query.order.path)
            tied = _as_expressed(value)
            if tied is None:
                # As SQLite reads it.
                ((tied,),) = ask("SELECT json_extract(?, '$')", (encode(value),))
            statement, values = pages.equal(tied, rows[-1].key)
            limit = min(4 * limit, LONGEST)
            ending = ending or tied == _OTHERS
        elif tied is not None and not ending:
            statement, values = pages.following(tied)
            tied = None
        elif pages.descending and not ending:
            statement, values = pages.equal(_OTHERS, "")
            ending, tied = True, None
        else:
            return


def _as_expressed(value: Any) -> Any:
    """Return the value of a field as its expression has it, or None if that isn't certain."""
    if value is True or value is False:
        return bytes([value])
    if is_number(value):
        low, high = _bounds(value)
        return value if low == high or (isinstance(value, float) and abs(value) < _WIDE) else None
    if isinstance(value, str):
        return value if is_text(value) else None
    return _OTHERS
