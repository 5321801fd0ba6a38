"""A catalogue's rows in a SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.query import Path, Query, parse_field
from holdall.catalog.row import Blob, Row
from holdall.catalog.sql import is_text, past
from holdall.catalog.sql_transaction import (
    ADD_BLOB,
    ADD_ROW,
    ADDABLE,
    COLUMNS,
    EARLIER,
    FETCH,
    FETCH_EARLIER,
    GET_BLOB,
    LOAD,
    ROW,
    SqlTransaction,
    blob_of_row,
    encode,
    make_blob,
    row_of,
)  # fmt: skip
from holdall.catalog.sqlite_find import FieldsOfSqlite, find
from holdall.errors import InvalidArgumentError, StoreClosedError
from holdall.stores.sqlite.connections import Connection, Tables
from holdall.stores.sqlite.database import Database
from holdall.stores.sqlite.file import file_path

__all__ = ["SqliteBackend"]

T = TypeVar("T")

_PATIENCE: Final = 60.0
"""How long to wait for another writer, in seconds."""
_PAGE: Final = 1000
_INDEX: Final = "holdall_catalog_v1_by_"
"""What the name of a declared index begins with; the field follows, in hexadecimal."""

_ENTRY = """key TEXT NOT NULL, version INTEGER NOT NULL, sequence INTEGER NOT NULL, blob INTEGER NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, type TEXT NOT NULL, format TEXT NOT NULL,
    codec TEXT NOT NULL, library TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    inputs TEXT"""
# The data are last, so that no listing reads the pages that they overflow to.
_TABLES = (
    "entries",
    # By the key itself, which spares a put the page of an index, and a get a step.
    f"({_ENTRY}, PRIMARY KEY (key)) WITHOUT ROWID",
    "versions",
    f"({_ENTRY}, UNIQUE (key, version))",
    "blobs",
    """(number INTEGER PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL, crc INTEGER NOT NULL,
    extension TEXT NOT NULL, type TEXT NOT NULL, format TEXT NOT NULL, codec TEXT NOT NULL,
    library TEXT NOT NULL, until INTEGER NOT NULL, data BLOB)""",
    "suspects",
    "(blob INTEGER PRIMARY KEY, since INTEGER NOT NULL)",
    "aliases",
    "(name TEXT NOT NULL UNIQUE, key TEXT NOT NULL, version INTEGER NOT NULL, sequence INTEGER NOT NULL)",
    "leases",
    "(name TEXT NOT NULL UNIQUE, blob INTEGER NOT NULL, until INTEGER NOT NULL)",
    "state",
    "(id INTEGER PRIMARY KEY CHECK (id = 1), identity TEXT NOT NULL, counter INTEGER NOT NULL)",
)
_INDEXES = (
    "entries_blob ON holdall_catalog_v1_entries (blob)",
    "versions_blob ON holdall_catalog_v1_versions (blob)",
    "digests ON holdall_catalog_v1_blobs (digest) WHERE until = 0",
    "since ON holdall_catalog_v1_suspects (since)",
    "aliased ON holdall_catalog_v1_aliases (key)",
    "leased ON holdall_catalog_v1_leases (blob)",
)


def _schema() -> Tables:
    made = [
        f"CREATE TABLE IF NOT EXISTS holdall_catalog_v1_{name} {columns}"
        for name, columns in zip(_TABLES[::2], _TABLES[1::2], strict=True)
    ]
    made += [f"CREATE INDEX IF NOT EXISTS holdall_catalog_v1_{each}" for each in _INDEXES]
    made.append("INSERT OR IGNORE INTO holdall_catalog_v1_state VALUES (1, lower(hex(randomblob(16))), 0)")
    # A put changes seven pages, and writes each to the log: with pages of 8 KiB it takes a quarter more time.
    return Tables("holdall_catalog_v", "holdall_catalog_v1_", "holdall_catalog_v1_leased", tuple(made), 4096)


class SqliteBackend(MetadataBackend):
    """A catalogue's rows in tables of one SQLite file; other tables in the file are left alone.

    Args:
        path: The file. The first write makes it, and its folder.
        durable: Whether a change also survives a loss of power (`PRAGMA synchronous=FULL`).
        timeout: How long a call waits for another program that has the file locked, in seconds.

    Threads and processes of one host may share the file, which is kept in WAL mode.

    Raises:
        StoreUnavailableError: A folder or a special file lies at the path.

    >>> import tempfile
    >>> from holdall.catalog.sqlite import SqliteBackend
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backend = SqliteBackend(os.path.join(folder, "cache_metadata.db"))
    ...     numbers = backend.transact(lambda transaction: transaction.next_number())
    ...     backend.close()
    >>> numbers
    1
    """

    # Measured: at 32 KiB a put into the row takes a sixth of the time of a put into a file, with its two
    # transactions more, and a get half of it; at 512 KiB both take as long. The line is lower, since a
    # database writes bytes twice, keeps the space of those that are deleted, and can't map them.
    inline = 32 << 10

    def __init__(
        self, path: str | os.PathLike[str], *, durable: bool = False, timeout: float = _PATIENCE
    ) -> None:
        self._database = Database(file_path(path), durable=durable, timeout=timeout, tables=_schema())
        self._local, self._turn = self._database.local, self._database.turn
        self._fields = FieldsOfSqlite()

    @property
    def path(self) -> str:
        """The file."""
        return self._database.path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __reduce__(self) -> tuple[Callable[..., SqliteBackend], tuple[Any, ...]]:
        return _reopen, (self.path, self._database.durable, self._database.timeout)

    def close(self) -> None:
        self._database.close(_closed)

    @property
    def identity(self) -> str:
        sql = "SELECT identity FROM holdall_catalog_v1_state"
        # The file is made, so that it has one.
        return self._database.run(lambda connection: connection.execute(sql).fetchone()[0], "", create=True)

    def transact(self, act: Callable[[Transaction], T]) -> T:
        def within(connection: Connection) -> T:
            transaction = SqlTransaction(connection.execute)
            result = act(transaction)
            transaction.finish()
            return result

        missing: Any = None
        return self._database.transaction(within, missing, create=True)

    def add(self, row: Row, blob: Blob) -> int | None:
        key, digest, metadata = row.key, blob.digest, encode(row.metadata)

        def within(connection: Connection) -> int | None:
            run = connection.execute
            number, is_there = run(ADDABLE, (key, digest)).fetchone()
            if is_there:
                return None
            number += 1
            run(
                ADD_BLOB,
                (
                    number, digest, blob.size, blob.crc, blob.extension, blob.type, blob.format, blob.codec,
                    blob.library, blob.until, blob.data,
                ),
            )  # fmt: skip
            run(
                ADD_ROW,
                (
                    key, row.version, number, number, row.digest, row.size, row.type, row.format, row.codec,
                    row.library, row.created, row.updated, metadata,
                    encode(row.inputs) if row.inputs else None,
                ),
            )  # fmt: skip
            return number

        try:
            _, _, connection = self._local.quick
            with self._turn:
                if not connection.in_transaction:
                    number = connection.transaction(within)
                    if connection.file.seems_to_stand(row.updated) or self._database.leave(connection):
                        return number
        except (AttributeError, sqlite3.Error):
            pass  # the long way waits, or says what it is
        return self._database.transaction(within, None, create=True)

    # --- reading ---

    def _one(self, sql: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the first row of a statement, in as few steps as can be."""
        try:
            lock, execute, _ = self._local.quick
            with lock:
                return execute(sql, values).fetchone()
        except UnicodeEncodeError:
            return None
        except (AttributeError, sqlite3.Error):
            return self._database.one(sql, values)
        except BaseException:
            self._database.drop_quick()
            raise

    def fetch(self, key: str, version: int | None = None) -> tuple[Row, Blob] | None:
        found = self._one(FETCH, (key,))
        if version is not None and (found is None or found[1] != version):
            found = self._one(FETCH_EARLIER, (key, version))
        if found is None:
            return None
        data = found[23]
        return row_of(found), make_blob(*found[14:23], data is not None, data, found[24])

    def load(self, key: str, version: int | None = None) -> Blob | None:
        if version is not None:
            return super().load(key, version)
        found = self._one(LOAD, (key,))
        return None if found is None else make_blob(*found[:9], found[9] is not None, *found[9:])

    def row(self, key: str, version: int | None = None) -> Row | None:
        found = self._one(ROW, (key,))
        if version is not None and (found is None or found[1] != version):
            found = self._one(f"{EARLIER} AND version = ?", (key, version))
        return None if found is None else row_of(found)

    # --- listings: page by page, so that no transaction stays open between two of them ---

    def keys(self, prefix: str = "") -> Iterator[str]:
        if prefix and not is_text(prefix):
            return
        sql = "SELECT key FROM holdall_catalog_v1_entries WHERE key {} ?{} ORDER BY key LIMIT ?"
        end = past(prefix)
        bound, ends = ("", ()) if end is None else (" AND key < ?", (end,))
        sign, at, limit = ">=", prefix, 64
        while True:
            found = self._database.all(sql.format(sign, bound), (at, *ends, limit))
            yield from (key for (key,) in found)
            if len(found) < limit:
                return
            sign, at, limit = ">", found[-1][0], _PAGE

    def find(self, query: Query) -> Iterator[Row]:
        return find(self._database.all, self._fields, query)

    def earlier(self) -> Iterator[Row]:
        sql = (
            f"SELECT {COLUMNS} FROM holdall_catalog_v1_versions WHERE (key, version) > (?, ?) "
            "ORDER BY key, version LIMIT ?"
        )
        at: tuple[Any, ...] = ("", 0)
        while True:
            found = self._database.all(sql, (*at, _PAGE))
            yield from map(row_of, found)
            if len(found) < _PAGE:
                return
            at = found[-1][:2]

    def blobs(self, after: int = 0) -> Iterator[Blob]:
        sql = f"{GET_BLOB} b.number > ? ORDER BY b.number LIMIT ?"
        while True:
            found = self._database.all(sql, (after, _PAGE))
            yield from map(blob_of_row, found)
            if len(found) < _PAGE:
                return
            after = found[-1][0]

    def suspects(self, before: int) -> Iterator[int]:
        sql = (
            "SELECT since, blob FROM holdall_catalog_v1_suspects WHERE (since, blob) > (?, ?) AND since < ? "
            "ORDER BY since, blob LIMIT ?"
        )
        at: tuple[Any, ...] = (-(2**63), 0)
        while True:
            found = self._database.all(sql, (*at, before, _PAGE))
            yield from (blob for _, blob in found)
            if len(found) < _PAGE:
                return
            at = found[-1]

    # --- indexes ---

    def create_index(self, path: Path) -> None:
        expression = self._fields.expression(parse_field(path))
        if expression is None:
            raise InvalidArgumentError(
                f"{'.'.join(path)!r} can't have an index: SQLite's JSON functions take no name that is "
                "empty, or has a quote, a backslash or a control character"
            )
        # With the key behind it, the index has the whole order.
        end = "" if path == ("key",) else ", key"
        sql = (
            f"CREATE INDEX IF NOT EXISTS {_index_of(path)} ON holdall_catalog_v1_entries ({expression}{end})"
        )
        self._database.transaction(lambda connection: connection.execute(sql) and None, None, create=True)

    def drop_index(self, path: Path) -> None:
        sql = f"DROP INDEX IF EXISTS {_index_of(path)}"
        self._database.transaction(lambda connection: connection.execute(sql) and None, None)

    def indexes(self) -> list[Path]:
        found = self._database.all(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND name GLOB ?", (f"{_INDEX}*",)
        )
        return sorted(tuple(json.loads(bytes.fromhex(name[len(_INDEX) :]))) for (name,) in found)


def _index_of(path: Path) -> str:
    # Names in SQL don't tell upper case from lower case.
    return _INDEX + json.dumps(path).encode().hex()


def _closed() -> StoreClosedError:
    return StoreClosedError("this catalogue is closed; open it again")


def _reopen(path: str, durable: bool, timeout: float) -> SqliteBackend:
    return SqliteBackend(path, durable=durable, timeout=timeout)
