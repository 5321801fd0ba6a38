"""A catalogue's rows in a SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from holdall.catalog.backend import Transaction
from holdall.catalog.query import Path, Query, parse_field
from holdall.catalog.row import Blob, Row, Small
from holdall.catalog.sql_listings import SqlReads, find_version
from holdall.catalog.sql_transaction import (
    FETCH_EARLIER,
    make_blob,
    row_of,
)
from holdall.catalog.sqlite_carried import (
    ADD,
    ADD_IN_TURN,
    FETCH,
    LARGEST,
    LIST_BLOBS,
    LOAD,
    OVERWRITE,
    REMOVE,
    REPLACEABLE,
    SCHEMA,
    SqliteTransaction,
    found_of,
    values_to_add,
)
from holdall.catalog.sqlite_find import FieldsOfSqlite, find
from holdall.errors import InvalidArgumentError, StoreClosedError
from holdall.stores.sqlite.connections import Connection, Tables
from holdall.stores.sqlite.database import Database
from holdall.stores.sqlite.file import file_path
from holdall.stores.sqlite.rows import now

T = TypeVar("T")

_PATIENCE: Final = 60.0
"""How long to wait for another writer, in seconds."""
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
    # New rows come last, so that a put fills a page before it begins another. By the key itself, without
    # ids, it would split pages in the middle, which takes twice the time among 100,000 entries.
    f"(id INTEGER PRIMARY KEY, {_ENTRY}, crc INTEGER, extension TEXT, data BLOB, UNIQUE (key))",
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
    "entries_blob ON holdall_catalog_v1_entries (blob) WHERE data IS NULL",
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
    made += [*SCHEMA, *(f"CREATE INDEX IF NOT EXISTS holdall_catalog_v1_{each}" for each in _INDEXES)]
    made.append("INSERT OR IGNORE INTO holdall_catalog_v1_state VALUES (1, lower(hex(randomblob(16))), 0)")
    # A put changes four pages, and writes each to the log: with pages of 8 KiB it takes a quarter more time.
    return Tables("holdall_catalog_v", "holdall_catalog_v1_", "holdall_catalog_v1_carried", tuple(made), 4096)


class _NotNewError(Exception):
    """A key or a digest is there already."""


class SqliteBackend(SqlReads):
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
    _list_blobs = LIST_BLOBS

    def __init__(
        self, path: str | os.PathLike[str], *, durable: bool = False, timeout: float = _PATIENCE
    ) -> None:
        self._database = Database(file_path(path), durable=durable, timeout=timeout, tables=_schema())
        self._local, self._turn = self._database.local, self._database.turn
        self._fields = FieldsOfSqlite()
        self._largest = 0  # the last number that this handle knows to be given

    @property
    def path(self) -> str:
        """The file."""
        return self._database.path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __reduce__(self) -> tuple[Callable[..., SqliteBackend], tuple[Any, ...]]:
        settings = {"durable": self._database.durable, "timeout": self._database.timeout}
        return partial(type(self), **settings), (self.path,)

    def close(self) -> None:
        self._database.close(_closed_error)

    @property
    def identity(self) -> str:
        sql = "SELECT identity FROM holdall_catalog_v1_state"
        # The file is made, so that it has one.
        return self._database.run(lambda connection: connection.execute(sql).fetchone()[0], "", create=True)

    def exists(self) -> bool:
        return os.path.lexists(self.path)

    def transact(self, act: Callable[[Transaction], T]) -> T:
        def within(connection: Connection) -> T:
            transaction = SqliteTransaction(connection.execute)
            result = act(transaction)
            transaction.finish()
            self._largest = max(self._largest, transaction.given)
            return result

        missing: Any = None
        return self._database.transaction(within, missing, create=True)

    def add_small(self, small: Small) -> int | None:
        with self._turn:
            number = self._largest + 1
            if self._quickly(ADD, values_to_add(small, number), small.now):
                self._largest = number
                return number
        numbers = self.add_all((small,))
        return None if numbers is None else numbers[0]

    def add_all(self, smalls: Sequence[Small]) -> list[int] | None:
        def within(connection: Connection) -> list[int]:
            (largest,) = connection.execute(LARGEST).fetchone()
            numbers = [*range(largest + 1, largest + 1 + len(smalls))]
            added = connection.executemany(ADD_IN_TURN, map(values_to_add, smalls, numbers)).rowcount
            if added < len(smalls):
                raise _NotNewError
            self._largest = numbers[-1]
            return numbers

        missing: Any = None
        try:
            return self._database.transaction(within, missing, create=True)
        except _NotNewError:
            return None

    def overwrite(self, small: Small) -> tuple[int, int] | None:
        with self._turn:
            found = self._one(REPLACEABLE, (small.key,))
            if found is None:
                return None
            old, version = found
            number = self._largest + 1
            values = *values_to_add(small, number, version + 1), old
            if not self._quickly(OVERWRITE, values, small.now):
                return None
            self._largest = number
            return number, version + 1

    def remove(self, key: str) -> bool:
        with self._turn:
            return self._quickly(REMOVE, (key,), now())

    def _quickly(self, sql: str, values: tuple[Any, ...], when: int) -> bool:
        """Run a statement that is a transaction of its own, in one's turn; return whether it has changed a
        row. It may be that it can't be run, or that another program has changed what the caller relied on:
        then the long way waits, or says what it is."""
        try:
            _, _, connection = self._local.quick
            if connection.in_transaction:
                return False
            done = connection.execute(sql, values).rowcount
            return done > 0 and (connection.file.seems_to_stand(when) or self._database.leave(connection))
        except (AttributeError, UnicodeEncodeError, sqlite3.Error):
            return False

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

    def _all(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, likewise."""
        try:
            lock, execute, connection = self._local.quick
            with lock:
                found = execute(sql, values).fetchall()
            if connection.file.seems_to_stand(now()):
                return found
        except (AttributeError, sqlite3.Error):
            pass  # the long way waits, or says what it is
        except BaseException:
            self._database.drop_quick()
            raise
        return self._database.all(sql, values)

    def fetch(self, key: str, version: int | None = None) -> tuple[Row, Blob] | None:
        is_newest = True
        if version is None:
            found = self._one(FETCH, (key,))
        else:
            found, is_newest = find_version(self._one, FETCH, FETCH_EARLIER, key, version)
        if found is None or is_newest:
            return None if found is None else found_of(found)
        return row_of(found), make_blob(*found[14:23], found[23] is not None, *found[23:])

    def load_small(self, key: str) -> tuple[Any, ...] | None:
        found = self._one(LOAD, (key,))
        return None if found is None or found[0] is None else found

    def find(self, query: Query) -> Iterator[Row]:
        return find(self._all, self._fields, query, self._indexed)

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
        self._declared = 0.0, frozenset()

    def drop_index(self, path: Path) -> None:
        sql = f"DROP INDEX IF EXISTS {_index_of(path)}"
        self._database.transaction(lambda connection: connection.execute(sql) and None, None)

    def indexes(self) -> list[Path]:
        found = self._all(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND name GLOB ?", (f"{_INDEX}*",)
        )
        return sorted(tuple(json.loads(bytes.fromhex(name[len(_INDEX) :]))) for (name,) in found)


def _index_of(path: Path) -> str:
    # Names in SQL don't tell upper case from lower case.
    return _INDEX + json.dumps(path).encode().hex()


def _closed_error() -> StoreClosedError:
    return StoreClosedError("this catalogue is closed; open it again")
