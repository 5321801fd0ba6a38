"""Finding rows in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from heapq import nlargest, nsmallest
from operator import attrgetter
from typing import Any

from holdall.catalog.jsonfile.order import starting_with
from holdall.catalog.jsonfile.state import Tables, own
from holdall.catalog.query import (
    All,
    Compare,
    Node,
    Order,
    Query,
    arrange,
    compile_after,
    compile_node,
    rank,
    value_at,
)
from holdall.catalog.row import Row

_FEW = 1000
"""Up to how many rows are found without a sort of all."""


def find(tables: Tables, query: Query) -> Iterator[Row]:
    """Yield the rows that match, in order, each with metadata of its own."""
    every, rows = tables.keys(), tables.rows
    keys = narrow(every, query.where)
    test = None if query.where == All(()) else compile_node(query.where)
    order, after = query.order, query.after
    if order.path == ("key",) and (after is None or after[0] == after[1]):
        if after is not None and order.descending:
            keys = keys[: bisect_left(keys, after[1])]
        elif after is not None:
            keys = keys[bisect_right(keys, after[1]) :]
        found = filter(None, map(rows.get, reversed(keys) if order.descending else keys))
        if test is None or query.limit is not None or keys is not every:
            return map(own, filter(test, found))
        # All rows are looked at, which takes half the time without their order.
        matching = list(filter(test, _narrow_rows(list(rows.values()), query.where)))
        matching.sort(key=attrgetter("key"), reverse=order.descending)
        return map(own, matching)
    # Rows never change, so that these are the ones of one moment, whatever is written later.
    return map(own, _arrange_found(list(filter(None, map(rows.get, keys))), test, query))


def _narrow_rows(rows: list[Row], where: Node) -> list[Row]:
    """Return those of the rows that the comparisons of a condition may match, without a call for each row."""
    if isinstance(where, All):
        for each in where.nodes:
            rows = _narrow_rows(rows, each)
    elif isinstance(where, Compare) and where.operator == "==" and len(where.path) == 2:
        # Python's equality holds wherever that of JSON does.
        name, wanted = where.path[1], where.value
        return [row for row in rows if row.metadata.get(name) == wanted]
    return rows


def narrow(keys: list[str], where: Node) -> list[str]:
    """Return those of the keys that a condition on keys may match, where it has a prefix or a key."""
    if isinstance(where, All):
        for each in where.nodes:
            keys = narrow(keys, each)
    elif isinstance(where, Compare) and where.path == ("key",) and isinstance(where.value, str):
        if where.operator == "prefix":
            start, stop = starting_with(keys, where.value)
            return keys[start:stop]
        if where.operator == "==":
            return keys[bisect_left(keys, where.value) : bisect_right(keys, where.value)]
    return keys


def _arrange_found(rows: list[Row], test: Callable[[Row], bool] | None, query: Query) -> Iterator[Row]:
    """Yield rows, which are in the order of their keys, in that of a query."""
    matching = list(filter(test, rows)) if test is not None else rows
    if query.after is not None:
        matching = list(filter(compile_after(query.order, query.after), matching))
    if query.limit is not None and query.limit <= _FEW < len(matching):
        yield from _first(matching, query.order, query.limit)
    else:
        yield from arrange(matching, query.order)


def _first(rows: list[Row], order: Order, limit: int) -> list[Row]:
    path = order.path
    last = rank(None)

    def place(row: Row) -> tuple[int, Any]:
        return rank(value_at(row, path))

    if not order.descending:
        return nsmallest(limit, rows, key=place)
    # Of equal ones both keep those that come first.
    found = nlargest(limit, [row for row in rows if place(row) != last], key=place)
    if len(found) < limit:
        found += [row for row in rows if place(row) == last][: limit - len(found)]
    return found
