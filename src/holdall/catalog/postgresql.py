"""A catalogue's rows in PostgreSQL, so that many hosts share one catalogue."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, Final, TypeVar

from holdall.arguments import check_wait
from holdall.catalog.backend import Transaction
from holdall.catalog.postgresql_find import FieldsOfPostgresql, facts_of, find, index_columns
from holdall.catalog.query import Path, Query, parse_field
from holdall.catalog.row import Blob, Row
from holdall.catalog.sql import is_text
from holdall.catalog.sql_listings import SqlReads, find_version
from holdall.catalog.sql_transaction import (
    ADD_BLOB,
    ADDABLE,
    COLUMNS,
    FETCH,
    FETCH_EARLIER,
    LOAD,
    SqlTransaction,
    make_blob,
    row_of,
    values_of,
)  # fmt: skip
from holdall.errors import InvalidArgumentError, StoreClosedError, StoreUnavailableError
from holdall.stores.password import Password
from holdall.stores.sql.connecting import place_name, split_url, url_of
from holdall.stores.sql.connections import Session, Source
from holdall.stores.sql.errors import LostError, NoTableError
from holdall.stores.sql.watching import connector

T = TypeVar("T")

_PREFIX: Final = "holdall_catalog_v1_"
_is_schema = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}").fullmatch

_TEXT = 'text COLLATE "C" NOT NULL'
_ENTRY = (
    f"key {_TEXT}, version bigint NOT NULL, sequence bigint NOT NULL, blob bigint NOT NULL, digest {_TEXT}, "
    f"size bigint NOT NULL, type {_TEXT}, format {_TEXT}, codec {_TEXT}, library {_TEXT}, "
    "created bigint NOT NULL, updated bigint NOT NULL, metadata text NOT NULL, inputs text"
)
# The metadata come back from the text, to the last digit and in their order; JSONB, which keeps neither, is
# what queries compare.
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS {{}}entries ({_ENTRY}, facts jsonb NOT NULL, PRIMARY KEY (key))",
    f"CREATE TABLE IF NOT EXISTS {{}}versions ({_ENTRY}, PRIMARY KEY (key, version))",
    f"""CREATE TABLE IF NOT EXISTS {{}}blobs (number bigint PRIMARY KEY, digest {_TEXT}, size bigint NOT NULL,
        crc bigint NOT NULL, extension {_TEXT}, type {_TEXT}, format {_TEXT}, codec {_TEXT}, library {_TEXT},
        until bigint NOT NULL, data bytea)""",
    "CREATE TABLE IF NOT EXISTS {}suspects (blob bigint PRIMARY KEY, since bigint NOT NULL)",
    f"""CREATE TABLE IF NOT EXISTS {{}}aliases (name {_TEXT} PRIMARY KEY, key {_TEXT},
        version bigint NOT NULL, sequence bigint NOT NULL)""",
    f"""CREATE TABLE IF NOT EXISTS {{}}leases (name {_TEXT} PRIMARY KEY, blob bigint NOT NULL,
        until bigint NOT NULL)""",
    f"""CREATE TABLE IF NOT EXISTS {{}}state (id integer PRIMARY KEY CHECK (id = 1), identity {_TEXT},
        counter bigint NOT NULL)""",
    f"CREATE INDEX IF NOT EXISTS {_PREFIX}facts ON {{}}entries USING gin (facts jsonb_path_ops)",
    f"CREATE INDEX IF NOT EXISTS {_PREFIX}entries_blob ON {{}}entries (blob)",
    f"CREATE INDEX IF NOT EXISTS {_PREFIX}versions_blob ON {{}}versions (blob)",
    f"CREATE INDEX IF NOT EXISTS {_PREFIX}digests ON {{}}blobs (digest) WHERE until = 0",
    f"CREATE INDEX IF NOT EXISTS {_PREFIX}since ON {{}}suspects (since, blob)",
    f"CREATE INDEX IF NOT EXISTS {_PREFIX}aliased ON {{}}aliases (key)",
    f"CREATE INDEX IF NOT EXISTS {_PREFIX}leased ON {{}}leases (blob)",
    """INSERT INTO {}state VALUES (1, replace(gen_random_uuid()::text, '-', ''), 0)
        ON CONFLICT (id) DO NOTHING""",
)
_LOOK = f"""SELECT c.relname, current_setting('server_encoding') FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'
    AND (c.relname = '{_PREFIX}state' OR c.relname ~ '^holdall_catalog_v[0-9]+_')"""
_INDEXES = """SELECT obj_description(c.oid, 'pg_class') FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'i'
    AND c.relname LIKE 'holdall\\_catalog\\_v1\\_by\\_%%'"""
_PUT_FACTS = (
    f"INSERT INTO {_PREFIX}entries ({COLUMNS}, facts) VALUES ({', '.join('?' * 14)}, ?::jsonb) "
    "ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS.split(", ")[1:], "facts"))
)
_ADD = f"WITH added AS ({ADD_BLOB}) {_PUT_FACTS.partition(' ON CONFLICT')[0]}"


class _PostgresqlTransaction(SqlTransaction):
    """A transaction in PostgreSQL, where the metadata of entries are kept as JSONB, too."""

    __slots__ = ()

    def put_row(self, row: Row) -> None:
        values = values_of(row)
        self._run(_PUT_FACTS, (*values, facts_of(values[12])))


class PostgresqlBackend(SqlReads):
    """A catalogue's rows in tables of a PostgreSQL database (12 or later); other tables are left alone.

    Args:
        url: `postgresql://user:password@host:port/database`, with parameters of libpq such as
            `?sslmode=require`; what is left out comes from libpq's environment variables, such as PGHOST.
        schema: The schema of the tables, which is made if it isn't there.
        password: Replaces the one in the URL. In both places `env:NAME` means the password in an environment
            variable, and `file:PATH` the first line of a file.
        timeout: Seconds to wait for a connection, and for other writers. If the server sends nothing for as
            long during a call, it is asked on another connection whether it still runs.
        prepare: Whether statements are prepared in the server; false behind a connection pooler that doesn't
            know prepared statements (PgBouncer before 1.21).

    Raises:
        MissingDependencyError: psycopg isn't installed.
        InvalidArgumentError: An argument isn't valid, or a password refers to a missing variable or file.

    >>> PostgresqlBackend("postgresql://app:secret@db.example.org/models")
    PostgresqlBackend('postgresql://app@db.example.org/models', schema='public')
    """

    # As in SQLite. A row spares two round trips to the server, and those to the store of the bytes.
    inline = 32 << 10

    def __init__(
        self,
        url: str,
        *,
        schema: str = "public",
        password: str | Password | None = None,
        timeout: float = 30.0,
        prepare: bool = True,
    ) -> None:
        if not _is_schema(schema):
            raise InvalidArgumentError(
                "schema must be a name of at most 63 letters, digits and '_', such as 'public'"
            )
        # From here on no traceback shows it.
        secret = None if password is None else Password(password)
        password = None
        check_wait(timeout)
        parameters, literal = split_url(url)
        url = url_of(parameters)
        secret = literal if secret is None else secret
        self._url, self._schema = url, schema
        setting = None if secret is None else secret.setting
        self._reopens = {"schema": schema, "password": setting, "timeout": timeout, "prepare": prepare}
        self._tables = f'"{schema}".{_PREFIX}'
        self._source = Source(
            connector(parameters, secret, timeout),
            None,
            place_name(parameters),
            f"{schema}.{_PREFIX}entries",
            prepare,
        )
        # All writers of a catalogue take turns, by a lock of the server that ends with the transaction.
        self._lock = int.from_bytes(hashlib.sha256(self._tables.encode()).digest()[:8], "big", signed=True)
        self._begin = (
            "BEGIN ISOLATION LEVEL READ COMMITTED; "
            f"SET LOCAL lock_timeout = {round(timeout * 1000)}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {max(60_000, round(timeout * 1000))}; "
            f"SELECT pg_advisory_xact_lock({self._lock})"
        ).encode()
        self._state = ""  # "made", once the tables are known to be there
        self._closed = False
        self._int: Callable[[int], Any] = import_module("psycopg.types.numeric").Int8

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}, schema={self._schema!r})"

    def __reduce__(self) -> tuple[Callable[..., PostgresqlBackend], tuple[Any, ...]]:
        return partial(type(self), **self._reopens), (self._url,)

    def close(self) -> None:
        self._closed = True
        self._source.close()

    def _spelled(self, sql: str) -> bytes:
        return _spell(sql, self._tables)

    def _values(self, values: Sequence[Any]) -> list[Any]:
        # Of one type whatever their size, so that a statement is prepared once.
        whole = self._int
        return [whole(each) if type(each) is int and -(2**63) <= each < 2**63 else each for each in values]

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("this catalogue is closed; open it again")

    def _ask(self, sql: bytes, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; without tables, none."""
        self._check_open()
        if not self._state:
            self._look()
        given = self._values(values)
        try:
            return self._source.run(lambda session: session.all(sql, given))
        except NoTableError:
            self._state = ""
            return []

    def exists(self) -> bool:
        """Return whether the database has a catalogue; nothing is made."""
        self._check_open()
        return self._look()

    def _look(self) -> bool:
        """Look whether the tables are there, and are of this version."""
        found = self._source.run(lambda session: session.all(_LOOK.encode(), (self._schema,)))
        names = [name for name, _ in found]
        newer = sorted(name for name in names if not name.startswith(_PREFIX))
        if newer:
            raise StoreUnavailableError(
                f"the catalogue at {self._source.name} was made by a newer version of holdall (it has "
                f"{newer[0]!r}, this version knows {_PREFIX.rstrip('_')}); upgrade holdall"
            )
        if found and found[0][1] != "UTF8":
            raise StoreUnavailableError(
                f"the database at {self._source.name} keeps its text as {found[0][1]}; use one in UTF8"
            )
        there = f"{_PREFIX}state" in names
        if there:
            self._state = "made"
        return there

    def _make(self) -> None:
        """Make the tables, unless they are there."""
        if self._state or self._look():
            return

        asks = b"SELECT 1 FROM pg_namespace WHERE nspname = %s"
        there = self._source.run(lambda session: session.one(asks, (self._schema,)))
        schema = () if there else (f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"',)
        self._define(*schema, *(each.format(self._tables) for each in _SCHEMA))
        self._state = "made"

    def _define(self, *statements: str) -> None:
        """Run statements that make or drop something, in one transaction."""

        def define(session: Session) -> None:
            self._enter(session)
            session.simple(b"SET LOCAL client_min_messages = warning")
            for statement in statements:
                session.simple(statement.encode())
            session.simple(b"COMMIT")

        self._source.run(define, write=True)

    def _enter(self, session: Session) -> None:
        """Begin a transaction when it is its turn."""
        # In one message; the lock is taken before the first snapshot of `act`, so that all reads see what was
        # committed before.
        session.connection.execute(self._begin, prepare=False)

    def transact(self, act: Callable[[Transaction], T]) -> T:
        """Writers take turns: each transaction holds the catalogue's lock from its first statement to its
        commit, and each of its statements sees all that was committed before. So they are serial, without
        the retries that SERIALIZABLE takes where all raise one counter. A client that stays away for a minute
        in the middle loses its turn."""
        return self._write(lambda session: self._within(session, act))

    def add(self, row: Row, blob: Blob) -> int | None:
        # In four round trips instead of seven.
        values = values_of(row)

        def within(session: Session) -> int | None:
            self._enter(session)
            (found,) = session.all(self._spelled(ADDABLE), (row.key, blob.digest))
            number = None if found[1] else found[0] + 1
            if number is not None:
                of_blob = (
                    number, blob.digest, blob.size, blob.crc, blob.extension, blob.type, blob.format,
                    blob.codec, blob.library, blob.until, blob.data,
                )  # fmt: skip
                of_row = *values[:2], number, number, *values[4:], facts_of(values[12])
                session.run(self._spelled(_ADD), self._values((*of_blob, *of_row)))
            self._commit(session)
            return number

        return self._write(within)

    def _write(self, within: Callable[[Session], T]) -> T:
        self._check_open()
        self._make()
        try:
            return self._source.run(within, write=True)
        except NoTableError:
            self._state = ""
            self._make()
            return self._source.run(within, write=True)
        except LostError as lost:
            raise StoreUnavailableError(
                f"{lost.message}, and the client can't know whether it was done; look before you repeat it"
            ) from lost

    def _within(self, session: Session, act: Callable[[Transaction], T]) -> T:
        self._enter(session)

        def run(sql: str, values: Sequence[Any] = ()) -> Any:
            session.run(self._spelled(sql), self._values(values))
            return session.cursor

        transaction = _PostgresqlTransaction(run)
        result = act(transaction)
        transaction.finish()
        self._commit(session)
        return result

    def _commit(self, session: Session) -> None:
        session.simple(b"COMMIT")
        if session.cursor.statusmessage != "COMMIT":
            raise StoreUnavailableError(f"the server at {self._source.name} undid the change; try again")

    @property
    def identity(self) -> str:
        self._check_open()
        self._make()
        return self._ask(self._spelled(f"SELECT identity FROM {_PREFIX}state"))[0][0]

    def _one(self, sql: str, values: Sequence[Any]) -> tuple[Any, ...] | None:
        if not is_text(values[0]):
            self._check_open()
            return None
        found = self._ask(self._spelled(sql), values)
        return found[0] if found else None

    def fetch(self, key: str, version: int | None = None) -> tuple[Row, Blob] | None:
        if version is None:
            found = self._one(FETCH, (key,))
        else:
            found, _ = find_version(self._one, FETCH, FETCH_EARLIER, key, version)
        if found is None:
            return None
        data = found[23]
        return row_of(found), make_blob(*found[14:23], data is not None, data, found[24])

    def load(self, key: str, version: int | None = None) -> Blob | None:
        if version is not None:
            return super().load(key, version)
        found = self._one(LOAD, (key,))
        return None if found is None else make_blob(*found[:9], found[9] is not None, *found[9:])

    # Listings come page by page, so that no transaction stays open between two of them.

    def _all(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._ask(self._spelled(sql), values)

    def find(self, query: Query) -> Iterator[Row]:
        self._check_open()
        fields, table = FieldsOfPostgresql(self._indexed()), f"{self._tables}entries"
        return find(lambda sql, values: self._ask(sql.encode(), values), table, fields, query)

    def create_index(self, path: Path) -> None:
        columns = index_columns(parse_field(path))
        if columns is None:
            raise InvalidArgumentError(
                f"{'.'.join(path)!r} can't have an index: no name in metadata has a NUL or a lone surrogate"
            )
        if path == ("key",):
            return
        name = _index_of(path)
        listed = ", ".join(columns).replace("%%", "%")
        comment = json.dumps(path).replace("\\", "\\\\").replace("'", "''")
        self._change_indexes(
            f"CREATE INDEX IF NOT EXISTS {name} ON {self._tables}entries ({listed})",
            f"COMMENT ON INDEX \"{self._schema}\".{name} IS E'{comment}'",
            # What the planner knows of an expression comes from here.
            f"ANALYZE {self._tables}entries",
        )

    def drop_index(self, path: Path) -> None:
        self._change_indexes(f'DROP INDEX IF EXISTS "{self._schema}".{_index_of(path)}')

    def _change_indexes(self, *statements: str) -> None:
        self._check_open()
        self._make()
        self._define(*statements)
        self._declared = 0.0, frozenset()

    def indexes(self) -> list[Path]:
        found = self._ask(_INDEXES.encode(), (self._schema,))
        paths: list[Path] = []
        for (comment,) in found:
            with suppress(TypeError, ValueError):  # an index without our comment
                paths.append(tuple(json.loads(comment)))
        return sorted(paths)


@lru_cache(1024)
def _spell(sql: str, tables: str) -> bytes:
    """Return a statement that all databases share as PostgreSQL takes it."""
    return sql.replace("?", "%s").replace(_PREFIX, tables).encode()


def _index_of(path: Path) -> str:
    # A name has at most 63 bytes; the whole path is in the comment.
    return f"{_PREFIX}by_{hashlib.sha256(json.dumps(path).encode()).hexdigest()[:24]}"
