"""The store: what a call asks for, as statements on this thread's connection."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice, repeat
from typing import cast

from holdall.blob import (
    ABSENT,
    ANY,
    ATOMIC,
    Attributes,
    Body,
    Can,
    Expect,
    Info,
    LeftOut,
    Piece,
    Put,
    check_expected,
)
from holdall.errors import BlobNotFoundError, InvalidArgumentError
from holdall.keys import check_key
from holdall.pieces import only_piece
from holdall.ranges import span
from holdall.store import Store
from holdall.stores.sqlite import listing, rows
from holdall.stores.sqlite.connections import Connection
from holdall.stores.sqlite.database import Database
from holdall.stores.sqlite.file import file_path
from holdall.stores.sqlite.rows import DELETE, EXISTS, GET, INLINE, PUT, info_of, mismatch, new_etag, now
from holdall.stores.sqlite.streams import Chunks, Staged, Stages, unstage

_SPOOL = 16 << 20
"""The bytes of small streamed blobs that `put_many` holds before it stages the next ones."""
_PATIENCE = 60.0
"""How long to wait for another writer by default, in seconds."""
_PARAMETERS = 500
"""The number of keys in one statement; SQLite before 3.32 takes at most 999 parameters."""
_SMALL = 1 << 16
"""The bytes of a blob that `get_many` reads together with others, so that it holds 32 MiB at most."""


class SqliteStore(Store):
    """A store in a table of one SQLite file; other tables in the file are left alone.

    Args:
        path: The file. The first write makes it, and its folder; reading makes nothing.
        durable: Whether a put also survives a loss of power (`PRAGMA synchronous=FULL`).
        timeout: How long a call waits for another program that has the file locked, in seconds.

    Threads and processes of one host may share the file. It is kept in WAL mode: writers take turns, and
    readers never wait. A blob of more than 1 MiB is cut into chunks, so that blobs of any size are streamed.
    The space of deleted blobs is used again; SQL's `VACUUM` returns it to the disk.

    Raises:
        StoreUnavailableError: A folder or a special file lies at the path.
        InvalidArgumentError: The path isn't valid, or the timeout isn't a number of seconds.

    >>> import os, tempfile
    >>> from holdall.stores.sqlite import SqliteStore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with SqliteStore(os.path.join(folder, "blobs.db")) as store:
    ...         store["a"] = b"1"
    ...         store["a"]
    b'1'
    """

    can = ATOMIC | Can.EXPIRE | Can.COPY | Can.BULK | Can.ATTRIBUTES
    schemes = ("sqlite",)

    def __init__(
        self, path: str | os.PathLike[str], *, durable: bool = False, timeout: float = _PATIENCE
    ) -> None:
        path = file_path(path)
        if not isinstance(timeout, int | float) or not 0 <= timeout < 1e9:
            raise InvalidArgumentError(
                f"timeout must be a number of seconds from 0, such as 5, not {timeout!r}"
            )
        self._near = not durable
        self._database = Database(path, durable=durable, timeout=timeout)
        self._local, self._turn = self._database.local, self._database.turn
        self._stages = Stages(self._database)

    def _settings(self) -> dict[str, object]:
        database = self._database
        return {"path": database.path, "durable": database.durable, "timeout": database.timeout}

    def _close(self) -> None:
        self._database.close(self._closed_error)

    def __del__(self) -> None:
        database: Database | None = self.__dict__.get("_database")
        for reader in database.readers if database is not None else ():
            reader.shut()

    # The next ones don't check the key: one that is found was valid when it was put.

    def _get(self, key: str) -> bytes | None:
        try:
            lock, execute, _ = self._local.quick
            with lock:
                row = execute(GET, (key,)).fetchone()
        except (AttributeError, UnicodeEncodeError):
            return super()._get(key)
        except sqlite3.Error:
            self._database.drop_quick()
            return super()._get(key)
        except BaseException:
            self._database.drop_quick()
            raise
        if row is None:
            return None
        data, expires = row
        if type(data) is not bytes or (expires is not None and type(expires) is not int):
            # A blob in chunks, or a row of another program.
            return super()._get(key)
        if expires is not None and expires <= now():
            return None
        return data

    def _has(self, key: str) -> bool:
        try:
            lock, execute, _ = self._local.quick
            with lock:
                row = execute(EXISTS, (key,)).fetchone()
        except (AttributeError, UnicodeEncodeError):
            return super()._has(key)
        except sqlite3.Error:
            self._database.drop_quick()
            return super()._has(key)
        except BaseException:
            self._database.drop_quick()
            raise
        return row is not None and (type(row[0]) is not int or row[0] > now())

    def _put(self, key: str, data: bytes) -> Info:
        # The usual put in one statement; whatever is in its way leads to the long way.
        if self._stages.swept and len(data) <= INLINE:
            check_key(key)
            etag, modified = new_etag(), time.time_ns() // 1000
            try:
                _, execute, connection = self._local.quick
                with self._turn:
                    if not connection.in_transaction:
                        execute(PUT, (key, etag, modified, data))
                        if connection.file.seems_to_stand(modified):
                            return Info(key, len(data), etag, modified / 1e6)
            except AttributeError:
                pass
            except sqlite3.Error:
                self._database.drop_quick()
        return super()._put(key, data)

    def __len__(self) -> int:
        self._need(Can.LIST, "list")
        row = self._database.run(lambda connection: connection.execute(rows.COUNT, (now(),)).fetchone(), (0,))
        return row[0]

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if (start > 0 or (start == 0 and stop is not None)) and (stop is None or stop >= 0):
            length = INLINE if stop is None else max(stop - start, 0)
            row = self._database.one(
                rows.READ_PART, (min(start, INLINE) + 1, min(length, INLINE), key, now())
            )
        else:
            row = self._database.one(rows.READ, (key, now()))
        if row is None:
            raise BlobNotFoundError(key=key)
        if row[5] is not None:
            return self._read_stream(key, start, stop)
        return rows.inline(key, row, start, stop)

    def _read_stream(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        # On a connection of its own, whose snapshot lasts as long as the iterator, while this thread writes.
        pieces = Chunks(self._database)
        try:
            row = pieces.begin(key)
            if row is None:
                raise BlobNotFoundError(key=key)
            if row[5] is None:
                pieces.close()
                return rows.inline(key, row, start, stop)
            info = info_of(key, row)
            pieces.at, pieces.stop = span(start, stop, info.size)
            return info, pieces
        except BaseException:
            pieces.close()
            raise

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._stages.sweep_once()
        data = only_piece(body, INLINE)
        if data is not None:
            # sqlite3 takes an empty view for NULL.
            return self._publish(key, Staged(len(data), data=data or b""), expect, attributes)
        staged = Staged()
        try:
            self._stages.take(staged, body, INLINE)
            return self._publish(key, staged, expect, attributes)
        except BaseException:
            self._stages.discard(staged)
            raise

    def _delete(self, key: str, expect: Expect) -> bool:
        if expect is ANY:
            moment = now()
            quick = getattr(self._local, "quick", None)
            if quick is not None:
                _, execute, connection = quick
                try:
                    with self._turn:
                        if not connection.in_transaction:
                            found = execute(DELETE, (key, moment)).rowcount > 0
                            if connection.file.seems_to_stand(moment) or self._database.leave(connection):
                                return found
                except sqlite3.Error as error:
                    self._database.drop_quick()
                    self._database.wait(error, connection)
            return self._run_delete(DELETE, (key, moment))
        if self._run_delete(rows.DELETE_SWAP, (key, rows.number_of(expect), now())):
            return True
        row = self._database.one(rows.ETAG, (key, now()))
        raise mismatch(key, expect, row)

    def _run_delete(self, sql: str, parameters: tuple[str | int, ...]) -> bool:
        return self._database.run(lambda c: c.execute(sql, parameters).rowcount > 0, False, write=True)

    def _info(self, key: str) -> Info:
        row = self._database.one(rows.INFO, (key, now()))
        if row is None:
            raise BlobNotFoundError(key=key)
        return info_of(key, row)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (entry for entry in self._survey(prefix, after) if type(entry) is Info)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        return listing.survey(self._database, prefix, after)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return listing.keys(self._database, prefix, after)

    def _children(self, prefix: str) -> Iterator[str | Info]:
        return listing.children(self._database, prefix)

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        keys = iter(keys)
        while batch := list(islice(keys, _PARAMETERS)):
            marks = ", ".join("?" * len(batch))
            small = f"CASE WHEN length(data) <= {_SMALL} THEN data END"
            sql = f"SELECT key, {small} FROM holdall_v1_blobs WHERE key IN ({marks}) AND {rows.ALIVE}"
            found = dict(self._database.all(sql, (*batch, now())))
            for key in batch:
                if key in found:
                    data = found[key]
                    if type(data) is not bytes:
                        # One that is long or in chunks, unless it has gone since.
                        data = self.get(key)
                    if data is not None:
                        yield key, data

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        self._stages.sweep_once()
        taken: list[tuple[str, Piece | Staged, Attributes]] = []
        plain, last = True, None
        room = _SPOOL
        try:
            for key, body, attributes in items:
                if attributes is not last:
                    last = attributes
                    plain = plain and attributes.content_type is None and attributes.expires is None
                # As `only_piece`, without a call for each of many.
                if isinstance(body, tuple) and len(body) == 1 and len(body[0]) <= INLINE:
                    taken.append((key, body[0] or b"", attributes))
                    continue
                # The pieces of a stream are held until all is written; past a limit they are staged in the
                # file.
                staged = Staged()
                taken.append((key, staged, attributes))
                self._stages.take(staged, body, min(INLINE, room), flush=True)
                plain = False
                if staged.data is not None:
                    room -= staged.size
            if plain:
                return self._put_plain(cast("list[tuple[str, Piece, Attributes]]", taken))
            return self._put_all(taken)
        except BaseException:
            for _, staged, _ in taken:
                if isinstance(staged, Staged):
                    self._stages.discard(staged)
            raise

    def _put_plain(self, taken: Sequence[tuple[str, Piece, Attributes]]) -> Iterator[Info]:
        modified = now()
        keys, pieces, _ = zip(*taken, strict=True) if taken else ((), (), ())
        written = list(zip(keys, rows.new_etags(len(keys)), repeat(modified), pieces, strict=False))
        rest = len(written) % rows.ROWS

        def put(connection: Connection) -> None:
            connection.executemany(PUT, written[:rest])
            # Many rows a statement cost a third less than one each.
            for at in range(rest, len(written), rows.ROWS):
                connection.execute(rows.PUT_ROWS, [*chain.from_iterable(written[at : at + rows.ROWS])])

        self._database.transaction(put, None, create=True)
        when = modified / 1e6
        return iter([Info(key, len(data), etag, when) for key, etag, _, data in written])

    def _put_all(self, taken: list[tuple[str, Piece | Staged, Attributes]]) -> Iterator[Info]:
        bodies = [body if isinstance(body, Staged) else Staged(len(body), data=body) for _, body, _ in taken]
        written = [
            (key, self._row(staged, attributes))
            for (key, _, attributes), staged in zip(taken, bodies, strict=True)
        ]

        def put(connection: Connection) -> None:
            for staged in bodies:
                if staged.data is None:
                    unstage(connection, staged)
            connection.executemany(rows.PUT_ALL, ((key, *row.stored()) for key, row in written))

        self._database.transaction(put, None, create=True)
        return (info_of(key, row) for key, row in written)

    def _delete_many(self, keys: Iterable[str]) -> int:
        listed = list(keys)
        batches = [listed[at : at + _PARAMETERS] for at in range(0, len(listed), _PARAMETERS)]

        def delete(connection: Connection) -> int:
            deleted = 0
            for batch in batches:
                marks = ", ".join("?" * len(batch))
                sql = f"DELETE FROM holdall_v1_blobs WHERE key IN ({marks}) AND {rows.ALIVE}"
                deleted += connection.execute(sql, (*batch, now())).rowcount
            return deleted

        return self._database.transaction(delete, 0)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        return self._duplicate(source, target, expect, move=False)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        return self._duplicate(source, target, expect, move=True)

    def _duplicate(self, source: str, target: str, expect: Expect, *, move: bool) -> Info:
        etag, moment = new_etag(), now()

        def duplicate(connection: Connection) -> Info | None:
            found = connection.execute(rows.COPIED, (source, moment)).fetchone()
            if found is None:
                return None
            info_of(source, found)
            if found[5] not in ("blob", "null"):
                raise rows.odd_row(source)
            if expect is not ANY:
                found = connection.execute(rows.ETAG, (target, moment)).fetchone()
                check_expected(None if found is None else f"{found[0]:x}", expect, target)
            connection.execute(rows.COPY, (target, etag, moment, source))
            if move:
                connection.execute("DELETE FROM holdall_v1_blobs WHERE key = ?", (source,))
            return info_of(target, connection.execute(rows.INFO, (target, moment)).fetchone())

        info = self._database.transaction(duplicate, None)
        if info is None:
            raise BlobNotFoundError(key=source)
        return info

    def _touch(self, key: str, expires: datetime | None) -> Info:
        moment, until = now(), rows.until(expires)

        def touch(connection: Connection) -> Info | None:
            if not connection.execute(rows.TOUCH, (moment, until, key, moment)).rowcount:
                return None
            return info_of(key, connection.execute(rows.INFO, (key, 0)).fetchone())

        info = self._database.transaction(touch, None)
        if info is None:
            raise BlobNotFoundError(key=key)
        return info

    def _clear(self) -> None:
        self._database.transaction(lambda c: c.execute("DELETE FROM holdall_v1_blobs") and None, None)

    def _publish(self, key: str, staged: Staged, expect: Expect, attributes: Attributes) -> Info:
        row = self._row(staged, attributes)
        if expect is ANY:
            sql, parameters = rows.PUT_ALL, (key, *row.stored())
        elif expect is ABSENT:
            sql, parameters = rows.CREATE, (key, *row.stored(), now())
        else:
            sql, parameters = rows.SWAP, (key, *row.stored(), key, rows.number_of(expect), now())

        def put(connection: Connection) -> bool:
            return connection.execute(sql, parameters).rowcount > 0

        def put_stream(connection: Connection) -> bool:
            unstage(connection, staged)
            if not put(connection):
                raise mismatch(key, expect, connection.execute(rows.ETAG, (key, now())).fetchone())
            return True

        if staged.data is None:
            self._database.transaction(put_stream, False, create=True)
        elif not self._database.run(put, False, write=True, create=True):
            raise mismatch(key, expect, self._database.one(rows.ETAG, (key, now())))
        return info_of(key, row)

    def _row(self, staged: Staged, attributes: Attributes) -> rows.Row:
        stream = staged.stream if staged.data is None else None
        row = rows.new_row(staged.size, stream, staged.data, attributes)
        if row.expires is not None and row.etag % 256 == 0:
            # What has expired since is swept by a later write.
            self._stages.swept = False
        return row
