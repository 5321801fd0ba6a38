"""What a change does within its transaction: the steps on the two tables, in an order that blocks nobody."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from holdall.blob import Attributes, Body, Expect, Info, Piece, check_expected
from holdall.errors import BlobNotFoundError
from holdall.pieces import only_piece, regroup
from holdall.ranges import CHUNK
from holdall.stores.sql.connections import Session
from holdall.stores.sql.rows import INLINE, Statements, info_of, new_etag, seconds_left

_BATCH = 1000
_HELD = 4 << 20
"""The bytes of small blobs that `put_rows` holds at once."""
_EVERY, _SWEPT = 16, 320
"""Each 16th put of a blob that will expire deletes up to 320 that have, which is more than were added."""


class Row(NamedTuple):
    """The bytes of a blob: in its row, or in chunks that are sent already."""

    etag: int
    length: int
    data: bytes | None

    @property
    def size(self) -> int | None:
        return self.length if self.data is None else None

    @property
    def stream(self) -> int | None:
        return self.etag if self.data is None else None


def hold(etag: int, data: bytes) -> Row:
    return Row(etag, len(data), data)


def send(session: Session, sql: Statements, stream: int, body: Body) -> Row:
    """Send a body as chunks, unless it is so short that it needs none."""
    held: list[Piece] = []
    size = number = 0
    for chunk in regroup(body, CHUNK):
        size += len(chunk)
        held.append(chunk)
        if size > INLINE:
            for each in held:
                session.run(sql.add_chunk, (stream, number, each))
                number += 1
            held = []
    return Row(stream, size, None if number else b"".join(held))


def put_row(
    session: Session, sql: Statements, key: str, new: Row, expect: Expect, attributes: Attributes
) -> Info:
    """Put a blob whose chunks are sent already."""
    kind = attributes.content_type
    while True:
        found = session.all(sql.lock, ([key],))
        old = found[0] if found else None
        check_expected(f"{old[1]:x}" if old is not None and old[3] else None, expect, key)
        left = seconds_left(attributes.expires)
        values = (key, new.etag, left, kind, new.size, new.stream, new.data)
        if old is None:
            row = session.one(sql.insert, values)
        else:
            if old[2] is not None:
                session.run(sql.drop_chunks, ([old[2]],))
            row = session.one(sql.update, (*values, key))
        if row is not None:
            if left is not None and next(sql.turns) % _EVERY == 0:
                session.run(sql.sweep, (_SWEPT,))
            return Info(key, new.length, new.etag, row[0], kind, row[1])
        # Another client put the first blob of this key meanwhile: now it is seen.


def drop(session: Session, sql: Statements, found: list[tuple[Any, ...]]) -> None:
    """Delete rows that are locked, and their chunks."""
    streams = [stream for _, _, stream, _ in found if stream is not None]
    if streams:
        session.run(sql.drop_chunks, (streams,))
    if found:
        session.run(sql.delete_rows, ([row[0] for row in found],))


def put_rows(
    session: Session, sql: Statements, blobs: Mapping[str, tuple[Body, Attributes]]
) -> list[tuple[Any, ...]]:
    """Put many blobs; return their rows."""
    session.simple(sql.stage)
    held: dict[str, tuple[Row, Attributes]] = {}
    size, expire = 0, False
    for key, (body, attributes) in blobs.items():
        etag, piece = new_etag(), only_piece(body, INLINE)
        row = hold(etag, bytes(piece)) if piece is not None else send(session, sql, etag, body)
        held[key] = row, attributes
        size += len(row.data or b"")
        expire = expire or attributes.expires is not None
        if size >= _HELD or len(held) >= _BATCH:
            _copy_in(session, sql, held)
            held, size = {}, 0
    _copy_in(session, sql, held)
    while True:
        # Those that another client makes between the two statements are seen in the next turn.
        streams = [stream for (stream,) in session.all(sql.lock_staged) if stream is not None]
        session.run(sql.drop_chunks, (streams,))
        rows = session.all(sql.put_staged, (time.time(), streams))
        if len(rows) == len(blobs):
            if expire:
                session.run(sql.sweep, (_SWEPT + len(blobs),))
            return rows
        session.simple(b"ROLLBACK TO SAVEPOINT staged")


def _copy_in(session: Session, sql: Statements, rows: dict[str, tuple[Row, Attributes]]) -> None:
    if rows:
        with session.cursor.copy(sql.copy_in) as copy:
            copy.set_types(["text", "int8", "float8", "text", "int8", "int8", "bytea"])
            for key, (row, (kind, expires, *_)) in rows.items():
                until = None if expires is None else expires.timestamp()
                copy.write_row((key, row.etag, until, kind, row.size, row.stream, row.data))
    session.simple(b"SAVEPOINT staged")


def copy_row(
    session: Session, sql: Statements, etag: int, source: str, target: str, expect: Expect, *, move: bool
) -> Info:
    """Copy a blob within the server, and delete the source if it is moved."""
    while True:
        found = {row[0]: row for row in session.all(sql.lock, ([source, target],))}
        origin, old = found.get(source), found.get(target)
        if origin is None or not origin[3]:
            raise BlobNotFoundError(key=source)
        check_expected(f"{old[1]:x}" if old is not None and old[3] else None, expect, target)
        drop(session, sql, [] if old is None else [old])
        stream = None if origin[2] is None else etag
        row = session.one(sql.copy_row, (target, etag, stream, source))
        if row is None:
            continue
        if stream is not None:
            session.run(sql.copy_chunks, (etag, origin[2]))
        if move:
            drop(session, sql, [origin])
        return info_of(target, row)
