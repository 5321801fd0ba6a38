"""Reads of several statements that every database shares, without a transaction that stays open between two:
listings page by page, and the search for a version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from holdall.catalog.row import Blob, Row
from holdall.catalog.sql import is_text, past
from holdall.catalog.sql_transaction import COLUMNS, GET_BLOB, blob_of_row, row_of

__all__ = ["blobs", "earlier", "find_version", "keys", "suspects"]

Ask = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
"""Runs a statement, and returns its rows."""

_PAGE: Final = 1000
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


def _pages(ask: Ask, sql: str, at: tuple[Any, ...], *more: object) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a statement that follow a position: the first columns of a row are its own."""
    count = len(at)
    while True:
        found = ask(sql, (*at, *more, _PAGE))
        yield from found
        if len(found) < _PAGE:
            return
        at = found[-1][:count]


def keys(ask: Ask, prefix: str) -> Iterator[str]:
    """Yield the keys that start with a prefix."""
    if prefix and not is_text(prefix):
        return
    end = past(prefix)
    bound, ends = ("", ()) if end is None else (" AND key < ?", (end,))
    sql = "SELECT key FROM holdall_catalog_v1_entries WHERE key {} ?{} ORDER BY key LIMIT ?"
    first = ask(sql.format(">=", bound), (prefix, *ends, 64))
    yield from (key for (key,) in first)
    if len(first) == 64:
        yield from (key for (key,) in _pages(ask, sql.format(">", bound), first[-1], *ends))


def earlier(ask: Ask) -> Iterator[Row]:
    """Yield the earlier versions of all keys."""
    sql = (
        f"SELECT {COLUMNS} FROM holdall_catalog_v1_versions WHERE (key, version) > (?, ?) "
        "ORDER BY key, version LIMIT ?"
    )
    return map(row_of, _pages(ask, sql, ("", 0)))


def blobs(
    ask: Ask, after: int, sql: str = f"{GET_BLOB} b.number > ? ORDER BY b.number LIMIT ?"
) -> Iterator[Blob]:
    """Yield the blobs with a larger number."""
    return map(blob_of_row, _pages(ask, sql, (after,)))


def suspects(ask: Ask, before: int) -> Iterator[int]:
    """Yield the blobs that are suspected since a moment before this one."""
    sql = (
        "SELECT since, blob FROM holdall_catalog_v1_suspects WHERE (since, blob) > (?, ?) AND since < ? "
        "ORDER BY since, blob LIMIT ?"
    )
    return (blob for _, blob in _pages(ask, sql, (-(2**63), 0), before))
