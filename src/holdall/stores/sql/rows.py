"""The statements of a store, for its two tables, and what the values in a row mean."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from holdall.blob import Attributes, Expect, Info
from holdall.errors import InvalidArgumentError

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


class Statements:
    """The statements of a store in one table. A bytes value is `%b`, since it goes to the server as it is."""

    def __init__(self, table: str) -> None:
        schema, _, name = table.rpartition(".")
        before = f'"{schema}".' if schema else ""
        blobs, chunks = f'{before}"{name}"', f'{before}"{name}_chunks"'
        alive = "(t.expires IS NULL OR t.expires > clock_timestamp())"
        row = (
            "t.etag, coalesce(t.size, octet_length(t.data)), date_part('epoch', t.modified), t.content_type, "
            "date_part('epoch', t.expires)"
        )
        columns = "key, etag, modified, expires, content_type, size, stream, data"
        replaced = ", ".join(f"{each} = excluded.{each}" for each in columns.split(", ")[1:])
        until = "clock_timestamp() + %s::double precision * interval '1 second'"
        values = f"%s, %s::bigint, clock_timestamp(), {until}, %s::text, %s::bigint, %s::bigint, %b::bytea"
        returning = "RETURNING date_part('epoch', t.modified), date_part('epoch', t.expires)"

        def sql(text: str) -> bytes:
            return text.encode()

        self.create = [
            # Two clients that make the tables at once wait for each other.
            sql(f"SELECT pg_advisory_xact_lock({int.from_bytes(table.encode()[-7:], 'big')})"),
            sql(f"""CREATE TABLE IF NOT EXISTS {blobs} (
                key text COLLATE "C" PRIMARY KEY, etag bigint NOT NULL, modified timestamptz NOT NULL,
                expires timestamptz, content_type text, size bigint, stream bigint, data bytea)"""),
            # Bytes that aren't compressed are cut without the rest.
            sql(f"ALTER TABLE {blobs} ALTER COLUMN data SET STORAGE EXTERNAL"),
            sql(f"""CREATE TABLE IF NOT EXISTS {chunks} (stream bigint, number integer, data bytea NOT NULL,
                PRIMARY KEY (stream, number))"""),
            sql(f"ALTER TABLE {chunks} ALTER COLUMN data SET STORAGE EXTERNAL"),
        ]
        self.exists = sql(f"SELECT to_regclass('{chunks}') IS NOT NULL, current_setting('server_encoding')")
        self.get = sql(f"SELECT t.data, t.stream FROM {blobs} t WHERE t.key = %s AND {alive}")
        self.has = sql(f"SELECT 1 FROM {blobs} t WHERE t.key = %s AND {alive}")
        self.info = sql(f"SELECT {row} FROM {blobs} t WHERE t.key = %s AND {alive}")
        self.read = sql(f"SELECT {row}, t.stream, t.data FROM {blobs} t WHERE t.key = %s AND {alive}")
        self.part = sql(
            f"""SELECT {row}, t.stream, substr(t.data, %s::integer, %s::integer)
            FROM {blobs} t WHERE t.key = %s AND {alive}"""
        )
        self.chunk = sql(
            f"SELECT substr(data, %s::integer, %s::integer) FROM {chunks} WHERE stream = %s::bigint "
            "AND number = %s::integer"
        )
        # A blob in chunks has to lose them in the same transaction: the long way does it.
        self.put = sql(
            f"""INSERT INTO {blobs} AS t (key, etag, modified, data)
            VALUES (%s, %s::bigint, clock_timestamp(), %b::bytea) ON CONFLICT (key) DO UPDATE SET {replaced}
            WHERE t.stream IS NULL RETURNING date_part('epoch', t.modified)"""
        )
        self.lock = sql(
            f"SELECT t.key, t.etag, t.stream, {alive} FROM {blobs} t WHERE t.key = ANY(%s::text[]) "
            "ORDER BY t.key FOR UPDATE"
        )
        self.insert = sql(
            f"INSERT INTO {blobs} AS t ({columns}) VALUES ({values}) ON CONFLICT (key) DO NOTHING {returning}"
        )
        self.update = sql(f"UPDATE {blobs} t SET ({columns}) = ROW({values}) WHERE t.key = %s {returning}")
        self.add_chunk = sql(f"INSERT INTO {chunks} VALUES (%s::bigint, %s::integer, %b::bytea)")
        self.drop_chunks = sql(f"DELETE FROM {chunks} WHERE stream = ANY(%s::bigint[])")
        self.delete = sql(f"DELETE FROM {blobs} t WHERE t.key = %s AND t.stream IS NULL RETURNING {alive}")
        self.delete_rows = sql(f"DELETE FROM {blobs} t WHERE t.key = ANY(%s::text[])")
        span = (
            f"FROM {blobs} t WHERE t.key {{}} %s AND t.key <= %s AND {alive} ORDER BY t.key LIMIT %s::integer"
        )
        self.listed = {sign: sql(f"SELECT t.key, {row} {span.format(sign)}") for sign in (">", ">=")}
        self.keys = {sign: sql(f"SELECT t.key {span.format(sign)}") for sign in (">", ">=")}
        self.get_many = sql(
            f"""SELECT t.key, t.data, t.stream IS NOT NULL FROM {blobs} t
            WHERE t.key = ANY(%s::text[]) AND {alive}"""
        )
        self.sizes = sql(
            f"SELECT t.key, coalesce(t.size, octet_length(t.data)) FROM {blobs} t "
            f"WHERE t.key = ANY(%s::text[]) AND {alive}"
        )
        self.copy_row = sql(
            f"""INSERT INTO {blobs} AS t ({columns}) SELECT %s, %s::bigint, clock_timestamp(), s.expires,
            s.content_type, s.size, %s::bigint, s.data FROM {blobs} s WHERE s.key = %s
            ON CONFLICT (key) DO NOTHING RETURNING {row}"""
        )
        self.copy_chunks = sql(
            f"INSERT INTO {chunks} SELECT %s::bigint, number, data FROM {chunks} WHERE stream = %s::bigint"
        )
        # The new blobs wait in a table of this transaction, which COPY fills.
        self.stage = sql(
            """CREATE TEMPORARY TABLE holdall_new (key text COLLATE "C", etag bigint, size bigint,
            stream bigint, data bytea) ON COMMIT DROP"""
        )
        self.copy_in = sql("COPY holdall_new FROM STDIN (FORMAT BINARY)")
        self.lock_staged = sql(
            f"""SELECT t.stream FROM {blobs} t WHERE t.key IN (SELECT key FROM holdall_new)
            ORDER BY t.key FOR UPDATE"""
        )
        self.put_staged = sql(
            f"""INSERT INTO {blobs} AS t ({columns}) SELECT n.key, n.etag, clock_timestamp(), {until},
            %s::text, n.size, n.stream, n.data FROM holdall_new n ORDER BY n.key
            ON CONFLICT (key) DO UPDATE SET {replaced} WHERE t.stream IS NULL OR t.stream = ANY(%s::bigint[])
            RETURNING t.key, {row}"""
        )
        self.clear = [sql(f"DELETE FROM {blobs}"), sql(f"DELETE FROM {chunks}")]


def new_etag() -> int:
    """Return 62 fresh bits of the system: a sequence would repeat its numbers after a restore."""
    return int.from_bytes(os.urandom(8), "big") >> 2


def number_of(etag: Expect) -> int:
    """Return the integer that an ETag was made of, or -1 if this store never made it."""
    try:
        number = int(cast(str, etag), 16)
    except ValueError:
        return -1
    return number if 0 <= number < 1 << 63 and f"{number:x}" == etag else -1


def seconds_left(attributes: Attributes) -> float | None:
    """Return how long a blob that is written now has to live; the server's clock counts it."""
    if attributes.expires is None:
        return None
    return (attributes.expires - datetime.now(UTC)).total_seconds()


def check_type_text(attributes: Attributes) -> None:
    kind = attributes.content_type
    if kind is None:
        return
    try:
        kind.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError("content_type must not contain lone surrogates") from None
    if "\0" in kind:
        raise InvalidArgumentError("content_type must not contain NUL")


def info_of(key: str, row: Sequence[Any]) -> Info:
    """Return the `Info` of a row that begins with the columns of a listing."""
    return Info(key, row[1], row[0], row[2], row[3], row[4])
