"""The statements of a store, for its two tables, and what the values in a row mean."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

from holdall.blob import Attributes, Info
from holdall.errors import InvalidArgumentError
from holdall.keys import is_utf8

INLINE = 4 << 20
"""The size of the largest blob that is kept in its row; a larger one is cut into chunks of 1 MiB."""

_is_table = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,49}").fullmatch


def check_table(table: object) -> str:
    """Return a table's name if it can be one: letters, digits and `_`, with a schema before a dot or not.

    >>> check_table("app.blobs")
    'app.blobs'
    """
    if not isinstance(table, str) or not _is_table(table):
        raise InvalidArgumentError(
            "table must be a name of at most 50 letters, digits and '_', such as 'blobs' or 'schema.blobs'"
        )
    return table


_ALIVE = "(t.expires IS NULL OR t.expires > clock_timestamp())"
_ROW = (
    "t.etag, coalesce(t.size, octet_length(t.data)), date_part('epoch', t.modified), t.content_type, "
    "date_part('epoch', t.expires)"
)
_COLUMNS = "key, etag, modified, expires, content_type, size, stream, data"
_REPLACED = ", ".join(f"{each} = excluded.{each}" for each in _COLUMNS.split(", ")[1:])
_UNTIL = "clock_timestamp() + %s::double precision * interval '1 second'"
_VALUES = f"%s, %s::bigint, clock_timestamp(), {_UNTIL}, %s::text, %s::bigint, %s::bigint, %b::bytea"
_RETURNING = "RETURNING date_part('epoch', t.modified), date_part('epoch', t.expires)"


class Statements:
    """The statements of a store in one table. A bytes value is `%b`, since it goes to the server as it is."""

    def __init__(self, table: str) -> None:
        schema, _, name = table.rpartition(".")
        before = f'"{schema}".' if schema else ""
        blobs, chunks = f'{before}"{name}"', f'{before}"{name}_chunks"'
        self._add_tables(blobs, chunks, table)
        self._add_reading(blobs, chunks)
        self._add_writing(blobs, chunks)
        self._add_many(blobs)

    def _add_tables(self, blobs: str, chunks: str, table: str) -> None:
        # Two clients that make the tables at once wait for each other.
        self.alone = _sql(f"SELECT pg_advisory_xact_lock({int.from_bytes(table.encode()[-7:], 'big')})")
        self.create = [
            _sql(f"""CREATE TABLE IF NOT EXISTS {blobs} (
                key text COLLATE "C" PRIMARY KEY, etag bigint NOT NULL, modified timestamptz NOT NULL,
                expires timestamptz, content_type text, size bigint, stream bigint, data bytea)"""),
            # Bytes that aren't compressed are cut without the rest.
            _sql(f"ALTER TABLE {blobs} ALTER COLUMN data SET STORAGE EXTERNAL"),
            # For the sweep of what has expired.
            _sql(
                f'CREATE INDEX IF NOT EXISTS "{table.rpartition(".")[2]}_expires" ON {blobs} (expires) '
                "WHERE expires IS NOT NULL"
            ),
            _sql(f"""CREATE TABLE IF NOT EXISTS {chunks} (stream bigint, number integer, data bytea NOT NULL,
                PRIMARY KEY (stream, number))"""),
            _sql(f"ALTER TABLE {chunks} ALTER COLUMN data SET STORAGE EXTERNAL"),
        ]
        # A look into any table lets the server learn of those that were made since the transaction began.
        self.exists = _sql(
            f"SELECT to_regclass('{chunks}') IS NOT NULL, current_setting('server_encoding') "
            "FROM pg_class LIMIT 1"
        )
        self.clear = [_sql(f"DELETE FROM {blobs}"), _sql(f"DELETE FROM {chunks}")]
        self.turns = count()
        # Rows that another call has locked are left to the next sweep, so that none waits.
        self.sweep = _sql(
            f"""WITH dead AS (DELETE FROM {blobs} t WHERE t.key = ANY(ARRAY(
            SELECT s.key FROM {blobs} s WHERE s.expires <= clock_timestamp() ORDER BY s.expires
            LIMIT %s::integer FOR UPDATE SKIP LOCKED)) RETURNING t.stream)
            DELETE FROM {chunks} WHERE stream IN (SELECT dead.stream FROM dead)"""
        )

    def _add_reading(self, blobs: str, chunks: str) -> None:
        self.get = _sql(f"SELECT t.data, t.stream FROM {blobs} t WHERE t.key = %s AND {_ALIVE}")
        self.has = _sql(f"SELECT 1 FROM {blobs} t WHERE t.key = %s AND {_ALIVE}")
        self.info = _sql(f"SELECT {_ROW} FROM {blobs} t WHERE t.key = %s AND {_ALIVE}")
        self.read = _sql(f"SELECT {_ROW}, t.stream, t.data FROM {blobs} t WHERE t.key = %s AND {_ALIVE}")
        self.part = _sql(
            f"""SELECT {_ROW}, t.stream, substr(t.data, %s::integer, %s::integer)
            FROM {blobs} t WHERE t.key = %s AND {_ALIVE}"""
        )
        self.chunk = _sql(
            f"SELECT substr(data, %s::integer, %s::integer) FROM {chunks} WHERE stream = %s::bigint "
            "AND number = %s::integer"
        )
        span = (
            f"FROM {blobs} t WHERE t.key {{}} %s AND t.key <= %s AND {_ALIVE} "
            "ORDER BY t.key LIMIT %s::integer"
        )
        self.listed = {sign: _sql(f"SELECT t.key, {_ROW} {span.format(sign)}") for sign in (">", ">=")}
        self.keys = {sign: _sql(f"SELECT t.key {span.format(sign)}") for sign in (">", ">=")}
        self.get_many = _sql(
            f"""SELECT t.key, t.data, t.stream IS NOT NULL FROM {blobs} t
            WHERE t.key = ANY(%s::text[]) AND {_ALIVE}"""
        )
        self.sizes = _sql(
            f"SELECT t.key, coalesce(t.size, octet_length(t.data)) FROM {blobs} t "
            f"WHERE t.key = ANY(%s::text[]) AND {_ALIVE}"
        )

    def _add_writing(self, blobs: str, chunks: str) -> None:
        # A blob in chunks has to lose them in the same transaction: the long way does it.
        self.put = _sql(
            f"""INSERT INTO {blobs} AS t (key, etag, modified, data)
            VALUES (%s, %s::bigint, clock_timestamp(), %b::bytea) ON CONFLICT (key) DO UPDATE SET {_REPLACED}
            WHERE t.stream IS NULL RETURNING date_part('epoch', t.modified)"""
        )
        self.lock = _sql(
            f"SELECT t.key, t.etag, t.stream, {_ALIVE} FROM {blobs} t WHERE t.key = ANY(%s::text[]) "
            "ORDER BY t.key FOR UPDATE"
        )
        self.insert = _sql(
            f"INSERT INTO {blobs} AS t ({_COLUMNS}) VALUES ({_VALUES}) "
            f"ON CONFLICT (key) DO NOTHING {_RETURNING}"
        )
        self.update = _sql(
            f"UPDATE {blobs} t SET ({_COLUMNS}) = ROW({_VALUES}) WHERE t.key = %s {_RETURNING}"
        )
        self.add_chunk = _sql(f"INSERT INTO {chunks} VALUES (%s::bigint, %s::integer, %b::bytea)")
        self.drop_chunks = _sql(f"DELETE FROM {chunks} WHERE stream = ANY(%s::bigint[])")
        self.delete = _sql(f"DELETE FROM {blobs} t WHERE t.key = %s AND t.stream IS NULL RETURNING {_ALIVE}")
        self.delete_rows = _sql(f"DELETE FROM {blobs} t WHERE t.key = ANY(%s::text[])")
        self.touch = _sql(
            f"UPDATE {blobs} t SET modified = clock_timestamp(), expires = coalesce({_UNTIL}, t.expires) "
            f"WHERE t.key = %s AND {_ALIVE} RETURNING {_ROW}"
        )
        self.copy_row = _sql(
            f"""INSERT INTO {blobs} AS t ({_COLUMNS}) SELECT %s, %s::bigint, clock_timestamp(), s.expires,
            s.content_type, s.size, %s::bigint, s.data FROM {blobs} s WHERE s.key = %s
            ON CONFLICT (key) DO NOTHING RETURNING {_ROW}"""
        )
        self.copy_chunks = _sql(
            f"INSERT INTO {chunks} SELECT %s::bigint, number, data FROM {chunks} WHERE stream = %s::bigint"
        )

    def _add_many(self, blobs: str) -> None:
        # The new blobs wait in a table of this transaction, which COPY fills.
        self.stage = _sql(
            """CREATE TEMPORARY TABLE holdall_new (key text COLLATE "C", etag bigint,
            expires double precision, content_type text, size bigint, stream bigint, data bytea)
            ON COMMIT DROP"""
        )
        self.copy_in = _sql("COPY holdall_new FROM STDIN (FORMAT BINARY)")
        self.lock_staged = _sql(
            f"""SELECT t.stream FROM {blobs} t WHERE t.key IN (SELECT key FROM holdall_new)
            ORDER BY t.key FOR UPDATE"""
        )
        # Their expiry is by this process's clock, and so is the parameter.
        self.put_staged = _sql(
            f"""INSERT INTO {blobs} AS t ({_COLUMNS}) SELECT n.key, n.etag, clock_timestamp(),
            clock_timestamp() + (n.expires - %s::double precision) * interval '1 second',
            n.content_type, n.size, n.stream, n.data FROM holdall_new n ORDER BY n.key
            ON CONFLICT (key) DO UPDATE SET {_REPLACED} WHERE t.stream IS NULL OR t.stream = ANY(%s::bigint[])
            RETURNING t.key, {_ROW}"""
        )


def _sql(text: str) -> bytes:
    return text.encode()


def new_etag() -> int:
    """Return 62 fresh bits of the system: a sequence would repeat its numbers after a restore."""
    return int.from_bytes(os.urandom(8), "big") >> 2


def seconds_left(expires: datetime | None) -> float | None:
    """Return how long a blob that is written now has to live; the server's clock counts it."""
    return None if expires is None else (expires - datetime.now(UTC)).total_seconds()


def check_type_text(attributes: Attributes) -> None:
    kind = attributes.content_type
    if kind is None:
        return
    if not is_utf8(kind):
        raise InvalidArgumentError("content_type must not contain lone surrogates")
    if "\0" in kind:
        raise InvalidArgumentError("content_type must not contain NUL")


def info_of(key: str, row: Sequence[Any]) -> Info:
    """Return the `Info` of a row that begins with the columns of a listing."""
    return Info(key, row[1], row[0], row[2], row[3], row[4])
