"""A transaction in SQL: its statements, which are the same in every database, and what their rows mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from holdall.catalog.backend import Transaction
from holdall.catalog.canonical import make_dumps
from holdall.catalog.row import Alias, Blob, Lease, Row
from holdall.catalog.sql import is_text
from holdall.errors import IntegrityError, InvalidArgumentError

COLUMNS: Final = (
    "key, version, sequence, blob, digest, size, type, format, codec, library, created, updated, metadata, "
    "inputs"
)
_decoder: Any = json.JSONDecoder()
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once
make_row: Callable[..., Row] = Row


def row_of(values: Sequence[Any]) -> Row:
    """Return the row of `COLUMNS`."""
    text, inputs = values[12], values[13]
    try:
        # As a backend writes it: without the white space that `json.loads` looks for.
        metadata, end = _scan(text, 0)
    except (StopIteration, ValueError, TypeError):
        metadata, end = None, -1
    if end != len(text):
        metadata = _read(values[0], text)
    if inputs is None:
        return make_row(*values[:12], metadata)
    made_of = tuple((key, version, digest) for key, version, digest in json.loads(inputs))
    return make_row(*values[:12], metadata, made_of)


def _read(key: str, text: object) -> Any:
    """Return metadata that another program wrote."""
    try:
        return json.loads(cast(str, text))
    except (ValueError, TypeError) as error:
        raise IntegrityError(
            f"the metadata of this entry aren't JSON ({error}); mend them with SQL, or restore a backup",
            key=key,
        ) from error


def _refuse(value: object) -> object:
    raise InvalidArgumentError(f"metadata is JSON, which has no {type(value).__name__}")


encode = make_dumps(_refuse)
"""Write JSON as a backend keeps it."""

_MARKS = ", ".join("?" * 14)
_REPLACED = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ")[1:])
_BLOB = "b.number, b.digest, b.size, b.crc, b.extension, b.type, b.format, b.codec, b.library"

# Upserts, never INSERT OR REPLACE, which deletes the row and what the indexes have of it first.
_PUT_ROW = (
    f"INSERT INTO holdall_catalog_v1_entries ({COLUMNS}) VALUES ({_MARKS}) "
    f"ON CONFLICT (key) DO UPDATE SET {_REPLACED}"
)
_PUT_EARLIER = (
    f"INSERT INTO holdall_catalog_v1_versions ({COLUMNS}) VALUES ({_MARKS}) "
    f"ON CONFLICT (key, version) DO UPDATE SET {_REPLACED}"
)
_PUT_BLOB = """INSERT INTO holdall_catalog_v1_blobs
    (number, digest, size, crc, extension, type, format, codec, library, until, data)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET digest = excluded.digest,
    size = excluded.size, crc = excluded.crc, extension = excluded.extension, type = excluded.type,
    format = excluded.format, codec = excluded.codec, library = excluded.library, until = excluded.until"""
ROW = f"SELECT {COLUMNS} FROM holdall_catalog_v1_entries WHERE key = ?"
EARLIER = f"SELECT {COLUMNS} FROM holdall_catalog_v1_versions WHERE key = ?"
_OF_BOTH = "e." + COLUMNS.replace(", ", ", e.")
FETCH = (
    f"SELECT {_OF_BOTH}, {_BLOB}, b.data, b.until FROM holdall_catalog_v1_entries e "
    "JOIN holdall_catalog_v1_blobs b ON b.number = e.blob WHERE e.key = ?"
)
FETCH_EARLIER = FETCH.replace("v1_entries", "v1_versions") + " AND e.version = ?"
GET_BLOB = f"SELECT {_BLOB}, b.data IS NOT NULL, b.until FROM holdall_catalog_v1_blobs b WHERE "

COUNTER: Final = """(SELECT max(number) FROM (SELECT max(number) AS number FROM holdall_catalog_v1_blobs
    UNION ALL SELECT counter FROM holdall_catalog_v1_state) given)"""
"""The largest number that was given: that of a blob, unless it was dropped or used otherwise."""
RAISE_COUNTER: Final = "UPDATE holdall_catalog_v1_state SET counter = ? WHERE counter < ?"
ADD_BLOB = _PUT_BLOB.partition("ON CONFLICT")[0]
ADDABLE = f"""SELECT {COUNTER},
    EXISTS (SELECT 1 FROM holdall_catalog_v1_entries WHERE key = ?)
    OR EXISTS (SELECT 1 FROM holdall_catalog_v1_blobs WHERE digest = ? AND until = 0)"""
LOAD = (
    f"SELECT {_BLOB}, b.data, b.until FROM holdall_catalog_v1_entries e "
    "JOIN holdall_catalog_v1_blobs b ON b.number = e.blob WHERE e.key = ?"
)


make_blob: Callable[..., Blob] = Blob


def values_of(row: Row) -> tuple[Any, ...]:
    return (
        row.key, row.version, row.sequence, row.blob, row.digest, row.size, row.type, row.format, row.codec,
        row.library, row.created, row.updated, encode(row.metadata),
        encode(row.inputs) if row.inputs else None,
    )  # fmt: skip


def blob_of_row(values: tuple[Any, ...]) -> Blob:
    """Return the blob of a row that ends with whether there are data, and until when it is written."""
    return make_blob(*values[:9], bool(values[9]), None, values[10])


class SqlTransaction(Transaction):
    """What may be done within one transaction of one connection.

    Args:
        run: Executes a statement with its values, and returns a cursor.
    """

    __slots__ = ("_kept", "_run", "given")
    counter = COUNTER
    by_number = f"{GET_BLOB} b.number = ?"
    by_digest = f"{GET_BLOB} b.digest = ? AND b.until = 0 ORDER BY b.number LIMIT 1"

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run
        self.given = 0  # the last number
        self._kept = 0  # the largest one that the table of blobs keeps, of those that were given here

    def finish(self) -> None:
        """Keep the last number, if no blob does. In a put the blob does, and spares a page."""
        if self.given > self._kept:
            self._run(RAISE_COUNTER, (self.given, self.given))

    def _row(self, sql: str, *values: object) -> Row | None:
        found = self._run(sql, values).fetchone()
        return None if found is None else row_of(found)

    def row(self, key: str, version: int | None = None) -> Row | None:
        if not is_text(key):
            return None
        row = self._row(ROW, key)
        if version is None or (row is not None and row.version == version):
            return row
        return self._row(f"{EARLIER} AND version = ?", key, version)

    def earlier(self, key: str) -> list[Row]:
        found = self._run(f"{EARLIER} ORDER BY version DESC", (key,)).fetchall()
        return [row_of(each) for each in found]

    def put_row(self, row: Row) -> None:
        self._run(_PUT_ROW, values_of(row))

    def put_earlier(self, row: Row) -> None:
        self._run(_PUT_EARLIER, values_of(row))

    def drop_row(self, key: str) -> None:
        self._run("DELETE FROM holdall_catalog_v1_entries WHERE key = ?", (key,))

    def drop_earlier(self, key: str, version: int) -> None:
        self._run("DELETE FROM holdall_catalog_v1_versions WHERE key = ? AND version = ?", (key, version))

    def next_number(self, above: int = 0) -> int:
        if not self.given:
            (self.given,) = self._run(f"SELECT {self.counter}").fetchone()
            self._kept = self.given
        self.given = max(self.given, above) + 1
        return self.given

    def _blob(self, sql: str, value: object) -> Blob | None:
        found = self._run(sql, (value,)).fetchone()
        return None if found is None else blob_of_row(found)

    def blob(self, number: int) -> Blob | None:
        return self._blob(self.by_number, number)

    def blob_of(self, digest: str) -> Blob | None:
        return self._blob(self.by_digest, digest)

    def put_blob(self, blob: Blob) -> None:
        data = blob.data
        # Without data of its own, an inline blob keeps those that are there.
        sql = _PUT_BLOB if data is None and blob.inline else f"{_PUT_BLOB}, data = excluded.data"
        self._run(
            sql,
            (
                blob.number, blob.digest, blob.size, blob.crc, blob.extension, blob.type, blob.format,
                blob.codec, blob.library, blob.until, data,
            ),
        )  # fmt: skip
        if self._kept < blob.number <= self.given:
            self._kept = blob.number

    def drop_blob(self, number: int) -> None:
        # Its number is never given again.
        self._run(RAISE_COUNTER, (number, number))
        self._run("DELETE FROM holdall_catalog_v1_blobs WHERE number = ?", (number,))
        self.acquit(number)

    def is_named(self, blob: int) -> bool:
        found = self._run(
            "SELECT 1 FROM holdall_catalog_v1_entries WHERE blob = ? "
            "UNION ALL SELECT 1 FROM holdall_catalog_v1_versions WHERE blob = ? LIMIT 1",
            (blob, blob),
        )
        return found.fetchone() is not None

    def suspect(self, blob: int, since: int) -> None:
        self._run(
            "INSERT INTO holdall_catalog_v1_suspects VALUES (?, ?) "
            "ON CONFLICT (blob) DO UPDATE SET since = excluded.since",
            (blob, since),
        )

    def suspected(self, blob: int) -> int | None:
        found = self._run("SELECT since FROM holdall_catalog_v1_suspects WHERE blob = ?", (blob,)).fetchone()
        return None if found is None else found[0]

    def acquit(self, blob: int) -> None:
        self._run("DELETE FROM holdall_catalog_v1_suspects WHERE blob = ?", (blob,))

    def alias(self, name: str) -> Alias | None:
        found = self._run("SELECT * FROM holdall_catalog_v1_aliases WHERE name = ?", (name,)).fetchone()
        return None if found is None else Alias(*found)

    def aliases(self, key: str | None = None) -> list[Alias]:
        sql = "SELECT * FROM holdall_catalog_v1_aliases"
        if key is None:
            found = self._run(f"{sql} ORDER BY name")
        else:
            found = self._run(f"{sql} WHERE key = ? ORDER BY name", (key,))
        return [Alias(*each) for each in found.fetchall()]

    def put_alias(self, alias: Alias) -> None:
        self._run(
            "INSERT INTO holdall_catalog_v1_aliases VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "key = excluded.key, version = excluded.version, sequence = excluded.sequence",
            (alias.name, alias.key, alias.version, alias.sequence),
        )

    def drop_alias(self, name: str) -> None:
        self._run("DELETE FROM holdall_catalog_v1_aliases WHERE name = ?", (name,))

    def leases(self, blob: int | None = None) -> list[Lease]:
        sql = "SELECT * FROM holdall_catalog_v1_leases"
        found = self._run(sql) if blob is None else self._run(f"{sql} WHERE blob = ?", (blob,))
        return [Lease(*each) for each in found.fetchall()]

    def put_lease(self, lease: Lease) -> None:
        self._run(
            "INSERT INTO holdall_catalog_v1_leases VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET blob = excluded.blob, until = excluded.until",
            (lease.name, lease.blob, lease.until),
        )

    def drop_lease(self, name: str) -> None:
        self._run("DELETE FROM holdall_catalog_v1_leases WHERE name = ?", (name,))
