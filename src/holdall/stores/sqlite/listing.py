"""Listing the table of blobs page by page, so that no transaction stays open between two pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from holdall.blob import NOT_A_KEY, Info, LeftOut
from holdall.keys import MAX_KEY_BYTES, is_key, past
from holdall.stores.sqlite.database import Database
from holdall.stores.sqlite.rows import ALIVE, EXPIRED, ROW, info_of, now

_BATCH = 1000

_RANGE = "FROM holdall_v1_blobs WHERE key {} ? AND key <= ?"
_LISTED = f"SELECT key, {ROW} {_RANGE} AND {ALIVE} ORDER BY key LIMIT ?"
_KEYS_ALIVE = f"SELECT key {_RANGE} AND {ALIVE} ORDER BY key LIMIT ?"
_KEYS = f"SELECT key {_RANGE} ORDER BY key LIMIT ?"
_FROM, _PAST = ">=", ">"


def survey(database: Database, prefix: str, after: str) -> Iterator[Info | LeftOut]:
    """Yield all blobs of a prefix in order, and the names that can't be keys."""
    for rows in _pages(database, _LISTED, prefix, after):
        if _are_keys(rows):
            for row in rows:
                yield info_of(row[0], row[1:])
        else:
            for row in rows:
                yield info_of(row[0], row[1:]) if is_key(row[0]) else LeftOut(row[0], NOT_A_KEY)
    if not prefix:
        # SQLite sorts bytes after all text; the text of a key that another program wrote as such.
        for (key,) in database.all("SELECT key FROM holdall_v1_blobs WHERE key >= x''", ()):
            yield LeftOut(key.decode("utf-8", "backslashreplace"), NOT_A_KEY)


def keys(database: Database, prefix: str, after: str) -> Iterator[str]:
    for rows in _pages(database, _KEYS, prefix, after):
        sound = _are_keys(rows)
        for row in rows:
            if sound or is_key(row[0]):
                yield row[0]


def children(database: Database, prefix: str) -> Iterator[str | Info]:
    """Yield one level of the tree of keys, without reading what is in its folders."""
    after, limit = "", 16
    while True:
        rows = _page(database, _LISTED, prefix, after, limit)
        for row in rows:
            slash = row[0].find("/", len(prefix))
            if slash >= 0:
                folder = row[0][: slash + 1]
                yield folder
                after, limit = past(folder), 4
                break
            if is_key(row[0]):
                yield info_of(row[0], row[1:])
        else:
            if len(rows) < limit:
                return
            after, limit = rows[-1][0], min(2 * limit, _BATCH)


def _pages(database: Database, sql: str, prefix: str, after: str) -> Iterator[list[tuple[Any, ...]]]:
    # The first page is short, for those who only ask whether there is anything.
    limit = 32
    while True:
        rows = _page(database, sql, prefix, after, limit)
        yield rows
        if len(rows) < limit:
            return
        after, limit = rows[-1][0], _BATCH


def _page(database: Database, sql: str, prefix: str, after: str, limit: int) -> list[tuple[Any, ...]]:
    low, sign = (after, _PAST) if after and after >= prefix else (prefix, _FROM)
    time = now()
    try:
        if sql == _KEYS:
            # Where nothing has expired, the index of the keys is enough.
            if not database.all(EXPIRED, (time,)):
                return database.all(_KEYS.format(sign), (low, past(prefix), limit))
            sql = _KEYS_ALIVE
        return database.all(sql.format(sign), (low, past(prefix), time, limit))
    except UnicodeEncodeError:
        # A prefix with a lone surrogate begins no key.
        return []


def _are_keys(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether all rows surely begin with a key: one look at many is cheaper than one at each."""
    text = "/".join([row[0] for row in rows])
    return (
        text.isprintable()
        and "//" not in text
        and "/." not in text
        and not text.startswith((".", "/"))
        and not text.endswith("/")
        and max([len(row[0]) for row in rows], default=0) <= MAX_KEY_BYTES // 4
    )
