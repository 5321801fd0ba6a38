"""Reads of several statements that every database shares, without a transaction that stays open between two:
listings page by page, and the search for a version."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Final

from holdall.catalog.backend import MetadataBackend
from holdall.catalog.query import Path, Query, compile_after
from holdall.catalog.row import Blob, Row
from holdall.catalog.sql import LONGEST, PAGE, Ask, first_page, is_text
from holdall.catalog.sql_transaction import COLUMNS, EARLIER, GET_BLOB, ROW, blob_of_row, row_of
from holdall.spans import past_start

_FRESH: Final = 60.0
"""Seconds for which a handle relies on the declared indexes that it has seen."""
Found = tuple[Any, ...] | None


def find_version(
    one: Callable[[str, tuple[Any, ...]], Found], newest: str, earlier: str, key: str, version: int
) -> tuple[Found, bool]:
    """Return the row of a version, and whether it is the newest one of its key.

    Args:
        one: Runs a statement, and returns its first row.
        newest: Reads the newest row of a key.
        earlier: Reads one of the earlier rows.
    """
    found = one(newest, (key,))
    while True:
        if found is not None and found[1] == version:
            return found, True
        before = found
        found = one(earlier, (key, version))
        if found is not None:
            return found, False
        # A version moves to the other table as the newest one is deleted, and back as another one is put. It
        # was in neither if the newest row, by its sequence, was the same before and after.
        found = one(newest, (key,))
        if (None if found is None else found[2]) == (None if before is None else before[2]):
            return None, False


def rows_by_key(
    ask: Ask,
    query: Query,
    values: tuple[Any, ...],
    select: Callable[[str, bool], str],
    mark: str,
    by_key: bool,
) -> Iterator[Row]:
    """Yield rows by key.

    A planner may take the index of the keys where rows match so rarely that another index is a thousand times
    as fast. So the first pages are sorted after all matches were found. Of many matches that would be too
    much for each page: later pages read the table by key, each row once.

    Args:
        ask: Runs a statement.
        query: The query, whose order is that of the keys.
        values: Those of the condition's parameters.
        select: Returns a statement up to the key that orders it, of a condition to add, and whether the table
            is read by key.
        mark: A parameter.
        by_key: Whether the table is read by key from the first page on.
    """
    at, limit = None, first_page(query)
    if query.after is not None:
        at = query.after[1]
        if at != query.after[0] or not is_text(at):
            everything = rows_by_key(ask, Query(query.where, query.order), values, select, mark, by_key)
            yield from filter(compile_after(query.order, query.after), everything)
            return
    sign, way = ("<", "DESC") if query.order.descending else (">", "ASC")
    while True:
        bound, given = ("", values) if at is None else (f" AND key {sign} {mark}", (*values, at))
        rows = ask(f"{select(bound, by_key)} {way} LIMIT {mark}", (*given, limit))
        yield from map(row_of, rows)
        if len(rows) < limit:
            return
        at = rows[-1][0]
        if by_key or limit == LONGEST:
            by_key, limit = True, PAGE
        else:
            limit = LONGEST


class SqlReads(MetadataBackend):
    """The reads of a backend whose rows are in a database."""

    _list_blobs = f"{GET_BLOB} b.number > ? ORDER BY b.number LIMIT ?"
    _declared: tuple[float, frozenset[Path]] = (0.0, frozenset())

    @abstractmethod
    def _one(self, sql: str, values: tuple[Any, ...]) -> Found:
        """Return the first row of a statement."""

    @abstractmethod
    def _all(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""

    def row(self, key: str, version: int | None = None) -> Row | None:
        if version is None:
            found = self._one(ROW, (key,))
        else:
            found, _ = find_version(self._one, ROW, f"{EARLIER} AND version = ?", key, version)
        return None if found is None else row_of(found)

    def _pages(self, sql: str, at: tuple[Any, ...], *more: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement that follow a position: the first columns of a row are its own."""
        count = len(at)
        while True:
            found = self._all(sql, (*at, *more, PAGE))
            yield from found
            if len(found) < PAGE:
                return
            at = found[-1][:count]

    def keys(self, prefix: str = "") -> Iterator[str]:
        if prefix and not is_text(prefix):
            return
        end = past_start(prefix)
        bound, ends = ("", ()) if end is None else (" AND key < ?", (end,))
        sql = "SELECT key FROM holdall_catalog_v1_entries WHERE key {} ?{} ORDER BY key LIMIT ?"
        first = self._all(sql.format(">=", bound), (prefix, *ends, 64))
        yield from (key for (key,) in first)
        if len(first) == 64:
            yield from (key for (key,) in self._pages(sql.format(">", bound), first[-1], *ends))

    def earlier(self) -> Iterator[Row]:
        sql = (
            f"SELECT {COLUMNS} FROM holdall_catalog_v1_versions WHERE (key, version) > (?, ?) "
            "ORDER BY key, version LIMIT ?"
        )
        return map(row_of, self._pages(sql, ("", 0)))

    def blobs(self, after: int = 0) -> Iterator[Blob]:
        return map(blob_of_row, self._pages(self._list_blobs, (after,)))

    def suspects(self, before: int) -> Iterator[int]:
        sql = (
            "SELECT since, blob FROM holdall_catalog_v1_suspects WHERE (since, blob) > (?, ?) AND since < ? "
            "ORDER BY since, blob LIMIT ?"
        )
        return (blob for _, blob in self._pages(sql, (-(2**63), 0), before))

    def _indexed(self) -> frozenset[Path]:
        """Return the declared indexes, as they were some time ago: they only decide how rows are read."""
        seen, paths = self._declared
        if not seen or time.monotonic() - seen > _FRESH:
            paths = frozenset(self.indexes())
            self._declared = time.monotonic(), paths
        return paths
