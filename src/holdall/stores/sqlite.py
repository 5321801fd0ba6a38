"""A store in a table of one SQLite file."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, islice, repeat
from struct import Struct
from typing import Any, NamedTuple, TypeVar, cast
from weakref import WeakSet, WeakValueDictionary

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    StoreError,
    StoreUnavailableError,
)
from holdall.keys import MAX_KEY_BYTES, check_key, past
from holdall.ranges import span
from holdall.store import (
    ABSENT,
    ANY,
    Attributes,
    Body,
    Can,
    Expect,
    Info,
    LeftOut,
    Piece,
    Store,
)
from holdall.stores.sqlite_connection import Connection, closing, code_of, connect, translated
from holdall.stores.sqlite_file import UnchangingFile, file_path

__all__ = ["SqliteStore"]

T = TypeVar("T")

_INLINE = 1 << 20
"""The largest blob that is kept in its row; a larger one is cut in chunks."""
_CHUNK = 1 << 18
"""How long every chunk but the last is; part of the format. SQLite reads a chunk whole to cut a range from
it, so that shorter ones make ranges faster: 4 KiB cost 0.08 ms here, of a chunk of 1 MiB 0.3 ms."""
_HELD = 16
"""The number of chunks of a stream that are held before they are written."""
_SPOOL = 16 << 20
"""The bytes of small streamed blobs that `put_many` holds before it stages the next ones."""
_PATIENCE = 60.0
"""How long to wait for another writer by default, in seconds."""
_ABANDONED = 24 * 3600
"""Seconds without a sign of life after which a write is given up, if its process can't be looked at."""
_IDLE = 4
"""The number of connections that are kept for later streams."""
_BATCH = 1000
_ROWS = 200
"""The number of rows that one statement puts."""
_PARAMETERS = 500
"""The number of keys in one statement; SQLite before 3.32 takes at most 999 parameters."""

_COLUMNS = "key, etag, modified, size, expires, content_type, stream, data"
_ALIVE = "(expires IS NULL OR expires > ?)"
_ROW = "etag, modified, coalesce(size, length(data)), expires, content_type"
_REPLACE = "ON CONFLICT (key) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in _COLUMNS.split(", ")[1:]
)

# An upsert, never INSERT OR REPLACE, which deletes the row and its index entry first: 2.7 times as slow.
_PUT = """INSERT INTO holdall_v1_blobs (key, etag, modified, data) VALUES (?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET etag = excluded.etag, modified = excluded.modified, size = NULL,
    expires = NULL, content_type = NULL, stream = NULL, data = excluded.data"""
_PUT_ROWS = _PUT.replace("(?, ?, ?, ?)", ", ".join(["(?, ?, ?, ?)"] * _ROWS))
_PUT_ALL = f"INSERT INTO holdall_v1_blobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) {_REPLACE}"
_CREATE = f"{_PUT_ALL} WHERE holdall_v1_blobs.expires <= ?"
_SWAP = f"""UPDATE holdall_v1_blobs SET ({_COLUMNS}) = (?, ?, ?, ?, ?, ?, ?, ?)
    WHERE key = ? AND etag = ? AND {_ALIVE}"""
_COPY = f"""INSERT INTO holdall_v1_blobs ({_COLUMNS})
    SELECT ?, ?, ?, size, expires, content_type, stream, data FROM holdall_v1_blobs WHERE key = ?
    {_REPLACE}"""
_DELETE = f"DELETE FROM holdall_v1_blobs WHERE key = ? AND {_ALIVE}"
_DELETE_SWAP = f"DELETE FROM holdall_v1_blobs WHERE key = ? AND etag = ? AND {_ALIVE}"

_GET = "SELECT data, expires FROM holdall_v1_blobs WHERE key = ?"
_EXISTS = "SELECT expires FROM holdall_v1_blobs WHERE key = ?"
_INFO = f"SELECT {_ROW} FROM holdall_v1_blobs WHERE key = ? AND {_ALIVE}"
_COPIED = f"SELECT {_ROW}, typeof(data) FROM holdall_v1_blobs WHERE key = ? AND {_ALIVE}"
_READ = f"SELECT {_ROW}, stream, data FROM holdall_v1_blobs WHERE key = ? AND {_ALIVE}"
_READ_PART = f"SELECT {_ROW}, stream, substr(data, ?, ?) FROM holdall_v1_blobs WHERE key = ? AND {_ALIVE}"
_PART = "SELECT substr(data, ?, ?) FROM holdall_v1_chunks WHERE stream = ? AND number = ?"
_WHOLE = "SELECT data FROM holdall_v1_chunks WHERE stream = ? AND number = ?"
_ETAG = f"SELECT etag FROM holdall_v1_blobs WHERE key = ? AND {_ALIVE}"

# By the key's index and the partial one of `expires` alone; a count with a WHERE would read every row.
_COUNT = """SELECT (SELECT count(*) FROM holdall_v1_blobs)
    - (SELECT count(*) FROM holdall_v1_blobs WHERE expires <= ?)"""
_EXPIRED = "SELECT 1 FROM holdall_v1_blobs WHERE expires <= ? LIMIT 1"

_LISTED = f"""SELECT key, {_ROW} FROM holdall_v1_blobs
    WHERE key {{}} ? AND key <= ? AND {_ALIVE} ORDER BY key LIMIT ?"""
_KEYS_ALIVE = f"""SELECT key FROM holdall_v1_blobs
    WHERE key {{}} ? AND key <= ? AND {_ALIVE} ORDER BY key LIMIT ?"""
_KEYS = "SELECT key FROM holdall_v1_blobs WHERE key {} ? AND key <= ? ORDER BY key LIMIT ?"
_FROM, _PAST = ">=", ">"
_NOT_A_KEY = "name that can't be a key"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WORD = Struct(">Q")
_random: Callable[[int], bytes] = getattr(os, "getrandom", os.urandom)


class _ThreadConnection:
    """Closes a thread's connection when the thread ends; sqlite3 would keep it until garbage collection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __del__(self) -> None:
        self._connection.shut()


class _Writers:
    """The turn of one file's writers in this process: who waits for a lock here sleeps for no longer than
    needed, who waits in SQLite polls."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


_writers: WeakValueDictionary[str, _Writers] = WeakValueDictionary()
_stores: WeakSet[SqliteStore] = WeakSet()
_opening = threading.RLock()
"""Held while a connection is opened, so that none is opened in the midst of a fork."""
_held: list[threading.RLock] = []


def _before_fork() -> None:
    # A connection must never be carried into a child, and leaking it there would not do: SQLite keeps its
    # locks in tables of the process, and a connection that the child opens would take what the parent holds
    # for its own. So the parent has none at the moment of the fork; both open theirs anew at the next call.
    # Each lock is noted before it is taken, so that an interrupt between the two leaves none behind.
    _held.append(_opening)
    _opening.acquire()
    stores = list(_stores)
    for writers in {store._writers for store in stores}:  # pyright: ignore[reportPrivateUsage]
        _held.append(writers.lock)
        writers.lock.acquire()
    for store in stores:
        for connection in list(store._connections):  # pyright: ignore[reportPrivateUsage]
            with connection.lock:
                connection.shut()
        store._readers.clear()  # pyright: ignore[reportPrivateUsage]
    _held.append(closing)
    closing.acquire()


def _after_fork() -> None:
    while _held:
        try:
            _held.pop().release()
        except RuntimeError:
            # An interrupt came before it was taken.
            continue


def _after_fork_in_child() -> None:
    _after_fork()
    for store in list(_stores):
        store._renew()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


class _Row(NamedTuple):
    """The columns of a blob, without its key."""

    etag: int
    modified: int
    size: int
    expires: int | None
    content_type: str | None
    stream: int | None
    data: Piece | None


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

    can = (
        Can.WRITE
        | Can.DELETE
        | Can.LIST
        | Can.RANGE
        | Can.CREATE
        | Can.SWAP
        | Can.EXPIRE
        | Can.COPY
        | Can.BULK
        | Can.ATTRIBUTES
    )
    schemes = ("sqlite",)

    def __init__(
        self, path: str | os.PathLike[str], *, durable: bool = False, timeout: float = _PATIENCE
    ) -> None:
        self._path = file_path(path)
        self._durable = durable
        self._near = not durable
        if not isinstance(timeout, int | float) or not 0 <= timeout < 1e9:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"timeout is a number of seconds from 0, such as 5, not {timeout!r}")
        self._timeout = timeout
        self._local = threading.local()
        self._connections: WeakSet[Connection] = WeakSet()
        self._readers: deque[Connection] = deque()
        self._renew()
        with _opening:
            self._writers = _writers.setdefault(os.path.realpath(self._path), _Writers())
            self._turn = self._writers.lock
            _stores.add(self)

    def _renew(self) -> None:
        self._swept = False

    def _settings(self) -> dict[str, object]:
        return {"path": self._path, "durable": self._durable, "timeout": self._timeout}

    def _close(self) -> None:
        self._shut_all()

    def _shut_all(self, but: Connection | None = None) -> None:
        with _opening:
            connections = [each for each in self._connections if each is not but]
        for connection in connections:
            with self._turn, connection.lock:
                connection.shut()
        self._readers.clear()

    def __del__(self) -> None:
        for reader in self.__dict__.get("_readers", ()):
            reader.shut()

    # --- without a check of the key: one that is found was valid when it was put ---

    def _get(self, key: str) -> bytes | None:
        try:
            lock, execute, _ = self._local.quick
            with lock:
                row = execute(_GET, (key,)).fetchone()
        except (AttributeError, UnicodeEncodeError, sqlite3.Error):
            return super()._get(key)
        except BaseException:
            self._drop_quick()
            raise
        if row is None:
            return None
        data, expires = row
        if type(data) is not bytes or (expires is not None and type(expires) is not int):
            # A blob in chunks, or a row of another program.
            return super()._get(key)
        if expires is not None and expires <= _now():
            return None
        return data

    def _has(self, key: str) -> bool:
        try:
            lock, execute, _ = self._local.quick
            with lock:
                row = execute(_EXISTS, (key,)).fetchone()
        except (AttributeError, UnicodeEncodeError, sqlite3.Error):
            return super()._has(key)
        except BaseException:
            self._drop_quick()
            raise
        return row is not None and (type(row[0]) is not int or row[0] > _now())

    def _put(self, key: str, data: bytes) -> Info:
        # The usual put in one statement; whatever is in its way leads to the long way.
        if self._swept and len(data) <= _INLINE:
            check_key(key)
            etag, modified = _new_etag(), time.time_ns() // 1000
            try:
                _, execute, connection = self._local.quick
                with self._turn:
                    if not connection.in_transaction:
                        execute(_PUT, (key, etag, modified, data))
                        if connection.file.seems_to_stand(modified):
                            return Info(key, len(data), etag, modified / 1e6)
            except (AttributeError, sqlite3.Error):
                pass
        return super()._put(key, data)

    def __len__(self) -> int:
        self._need(Can.LIST, "list")
        row = self._run(lambda connection: connection.execute(_COUNT, (_now(),)).fetchone(), (0,))
        return row[0]

    # --- the primitives ---

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if start == 0 and stop is None:
            row = self._one(_READ, (key, _now()))
        elif start >= 0 and (stop is None or stop >= 0):
            length = _INLINE if stop is None else max(stop - start, 0)
            row = self._one(_READ_PART, (min(start, _INLINE) + 1, min(length, _INLINE), key, _now()))
        else:
            row = self._one(_READ, (key, _now()))
        if row is None:
            raise BlobNotFoundError(key=key)
        if row[5] is not None:
            return self._read_stream(key, start, stop)
        return _inline(key, row, start, stop)

    def _read_stream(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        # On a connection of its own, whose snapshot lasts as long as the iterator, while this thread writes.
        pieces = _Chunks(self)
        try:
            row = pieces.begin(key)
            if row is None:
                raise BlobNotFoundError(key=key)
            if row[5] is None:
                pieces.close()
                return _inline(key, row, start, stop)
            info = _info(key, row)
            pieces.at, pieces.stop = span(start, stop, info.size)
            return info, pieces
        except BaseException:
            pieces.close()
            raise

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        data = _whole(body)
        if data is not None:
            self._sweep_once()
            return self._publish(key, _Staged(len(data), data=data), expect, attributes)
        self._sweep_once()
        staged = _Staged(0)
        try:
            self._take(staged, body, _INLINE)
            return self._publish(key, staged, expect, attributes)
        except BaseException:
            self._discard(staged)
            raise

    def _delete(self, key: str, expect: Expect) -> bool:
        if expect is ANY:
            now = _now()
            quick = getattr(self._local, "quick", None)
            if quick is not None:
                _, execute, connection = quick
                try:
                    with self._turn:
                        if not connection.in_transaction:
                            found = execute(_DELETE, (key, now)).rowcount > 0
                            if connection.file.seems_to_stand(now) or self._leave(connection):
                                return found
                except sqlite3.Error as error:
                    self._wait(error, connection, 0.0)
            return self._run(lambda c: c.execute(_DELETE, (key, now)).rowcount > 0, False, write=True)
        condition = (key, _number(expect), _now())
        if self._run(lambda c: c.execute(_DELETE_SWAP, condition).rowcount > 0, False, write=True):
            return True
        row = self._one(_ETAG, (key, _now()))
        raise _mismatch(key, expect, row)

    def _info(self, key: str) -> Info:
        row = self._one(_INFO, (key, _now()))
        if row is None:
            raise BlobNotFoundError(key=key)
        return _info(key, row)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (entry for entry in self._survey(prefix, after) if type(entry) is Info)

    # --- hooks ---

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        for rows in self._pages(_LISTED, prefix, after):
            if _are_keys(rows):
                for row in rows:
                    yield _info(row[0], row[1:])
            else:
                for row in rows:
                    yield _info(row[0], row[1:]) if _is_key(row[0]) else LeftOut(row[0], _NOT_A_KEY)
        if not prefix:
            # SQLite sorts bytes after all text; the text of a key that another program wrote as such.
            for (key,) in self._all("SELECT key FROM holdall_v1_blobs WHERE key >= x''", ()):
                yield LeftOut(key.decode("utf-8", "backslashreplace"), _NOT_A_KEY)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        for rows in self._pages(_KEYS, prefix, after):
            sound = _are_keys(rows)
            for row in rows:
                if sound or _is_key(row[0]):
                    yield row[0]

    def _children(self, prefix: str) -> Iterator[str | Info]:
        after, limit = "", 16
        while True:
            rows = self._page(_LISTED, prefix, after, limit)
            for row in rows:
                slash = row[0].find("/", len(prefix))
                if slash >= 0:
                    folder = row[0][: slash + 1]
                    yield folder
                    after, limit = past(folder), 4
                    break
                if _is_key(row[0]):
                    yield _info(row[0], row[1:])
            else:
                if len(rows) < limit:
                    return
                after, limit = rows[-1][0], min(2 * limit, _BATCH)

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        keys = iter(keys)
        while batch := list(islice(keys, _PARAMETERS)):
            marks = ", ".join("?" * len(batch))
            sql = f"SELECT key, data FROM holdall_v1_blobs WHERE key IN ({marks}) AND {_ALIVE}"
            found = dict(self._all(sql, (*batch, _now())))
            for key in batch:
                if key in found:
                    data = found[key]
                    if type(data) is not bytes:
                        # A blob in chunks, unless it has gone since.
                        data = self.get(key)
                    if data is not None:
                        yield key, data

    def _put_many(self, items: Iterable[tuple[str, Body]], attributes: Attributes) -> Iterator[Info]:
        self._sweep_once()
        taken: list[tuple[str, Piece | _Staged]] = []
        plain = attributes.content_type is None and attributes.expires is None
        room = _SPOOL
        try:
            for key, body in items:
                data = _whole(body)
                if data is not None:
                    taken.append((key, data))
                    continue
                # The pieces of a stream are held until all is written; past a limit they are staged in the
                # file.
                staged = _Staged(0)
                taken.append((key, staged))
                self._take(staged, body, min(_INLINE, room), flush=True)
                plain = False
                if staged.data is not None:
                    room -= staged.size
            if plain:
                return self._put_plain(cast("list[tuple[str, Piece]]", taken))
            return self._put_all(taken, attributes)
        except BaseException:
            for _, staged in taken:
                if isinstance(staged, _Staged):
                    self._discard(staged)
            raise

    def _put_plain(self, taken: Sequence[tuple[str, Piece]]) -> Iterator[Info]:
        modified = _now()
        keys, pieces = zip(*taken, strict=True) if taken else ((), ())
        rows = list(zip(keys, _new_etags(len(keys)), repeat(modified), pieces, strict=False))
        rest = len(rows) % _ROWS

        def put(connection: Connection) -> None:
            connection.executemany(_PUT, rows[:rest])
            # Many rows a statement cost a third less than one each.
            for at in range(rest, len(rows), _ROWS):
                connection.execute(_PUT_ROWS, [*chain.from_iterable(rows[at : at + _ROWS])])

        self._transaction(put, None, create=True)
        when = modified / 1e6
        return iter([Info(key, len(data), etag, when) for key, etag, _, data in rows])

    def _put_all(self, taken: list[tuple[str, Piece | _Staged]], attributes: Attributes) -> Iterator[Info]:
        modified = _now()
        bodies = [
            (key, body if isinstance(body, _Staged) else _Staged(len(body), data=body)) for key, body in taken
        ]
        rows = [(key, self._row(staged, attributes, modified)) for key, staged in bodies]

        def put(connection: Connection) -> None:
            for _, staged in bodies:
                if staged.data is None:
                    self._unstage(connection, staged)
            connection.executemany(_PUT_ALL, ((key, *_stored(row)) for key, row in rows))

        self._transaction(put, None, create=True)
        return (_info(key, row) for key, row in rows)

    def _delete_many(self, keys: Iterable[str]) -> int:
        listed = list(keys)
        batches = [listed[at : at + _PARAMETERS] for at in range(0, len(listed), _PARAMETERS)]

        def delete(connection: Connection) -> int:
            deleted = 0
            for batch in batches:
                marks = ", ".join("?" * len(batch))
                sql = f"DELETE FROM holdall_v1_blobs WHERE key IN ({marks}) AND {_ALIVE}"
                deleted += connection.execute(sql, (*batch, _now())).rowcount
            return deleted

        return self._transaction(delete, 0)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        return self._duplicate(source, target, expect, move=False)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        return self._duplicate(source, target, expect, move=True)

    def _duplicate(self, source: str, target: str, expect: Expect, *, move: bool) -> Info:
        etag, now = _new_etag(), _now()

        def duplicate(connection: Connection) -> Info | None:
            found = connection.execute(_COPIED, (source, now)).fetchone()
            if found is None:
                return None
            _info(source, found)
            if found[5] not in ("blob", "null"):
                raise _odd_row(source)
            if expect is not ANY:
                found = connection.execute(_ETAG, (target, now)).fetchone()
                if (
                    (found is not None)
                    if expect is ABSENT
                    else (found is None or found[0] != _number(expect))
                ):
                    raise _mismatch(target, expect, found)
            connection.execute(_COPY, (target, etag, now, source))
            if move:
                connection.execute("DELETE FROM holdall_v1_blobs WHERE key = ?", (source,))
            return _info(target, connection.execute(_INFO, (target, now)).fetchone())

        info = self._transaction(duplicate, None)
        if info is None:
            raise BlobNotFoundError(key=source)
        return info

    def _clear(self) -> None:
        self._transaction(lambda c: c.execute("DELETE FROM holdall_v1_blobs") and None, None)

    # --- writing ---

    def _publish(self, key: str, staged: _Staged, expect: Expect, attributes: Attributes) -> Info:
        row = self._row(staged, attributes, _now())
        if expect is ANY:
            sql, parameters = _PUT_ALL, (key, *_stored(row))
        elif expect is ABSENT:
            sql, parameters = _CREATE, (key, *_stored(row), _now())
        else:
            sql, parameters = _SWAP, (key, *_stored(row), key, _number(expect), _now())

        def put(connection: Connection) -> bool:
            return connection.execute(sql, parameters).rowcount > 0

        def put_stream(connection: Connection) -> bool:
            self._unstage(connection, staged)
            if not put(connection):
                raise _mismatch(key, expect, connection.execute(_ETAG, (key, _now())).fetchone())
            return True

        if staged.data is None:
            self._transaction(put_stream, False, create=True)
        elif not self._run(put, False, write=True, create=True):
            raise _mismatch(key, expect, self._one(_ETAG, (key, _now())))
        return _info(key, row)

    def _row(self, staged: _Staged, attributes: Attributes, modified: int) -> _Row:
        expires = attributes.expires
        etag = _new_etag()
        if expires is not None and etag % 256 == 0:
            self._swept = False
        try:
            (attributes.content_type or "").encode()
        except UnicodeEncodeError:
            raise InvalidArgumentError("a content_type has no lone surrogates") from None
        return _Row(
            etag,
            modified,
            staged.size,
            None if expires is None else (expires - _EPOCH) // _MICROSECOND,
            attributes.content_type,
            staged.stream if staged.data is None else None,
            staged.data,
        )

    def _take(self, staged: _Staged, body: Body, inline: int, *, flush: bool = False) -> None:
        """Read a body: what is short is held, the rest staged in short transactions, so that a body may take
        its time, and use this store, without keeping anybody from writing.

        The last chunks are left for the transaction that publishes them, unless all are to be flushed.
        """
        for chunk in _cut(body):
            staged.held.append(chunk)
            staged.size += len(chunk)
            if len(staged.held) == _HELD:
                self._stage(staged)
        if not staged.begun and staged.size <= inline:
            held, staged.held = staged.held, []
            staged.data = bytes(held[0]) if len(held) == 1 else b"".join(held)
        elif flush:
            self._stage(staged)

    def _stage(self, staged: _Staged) -> None:
        begun = staged.begun
        if not begun:
            self._sweep()
            _staged[staged.stream] = staged
            # Before the first chunk is written, so that an interrupt finds it to be taken back.
            staged.begun = True

        def write(connection: Connection) -> None:
            if begun:
                self._still(
                    connection, staged, "UPDATE holdall_v1_stages SET beat = ? WHERE stream = ?", _now()
                )
            else:
                sql = "INSERT INTO holdall_v1_stages (stream, owner, beat) VALUES (?, ?, ?)"
                connection.execute(sql, (staged.stream, _owner(), _now()))
            self._add(connection, staged)

        self._transaction(write, None, create=True)
        staged.number += len(staged.held)
        staged.held = []

    def _unstage(self, connection: Connection, staged: _Staged) -> None:
        if staged.begun:
            self._still(connection, staged, "DELETE FROM holdall_v1_stages WHERE stream = ?")
        self._add(connection, staged)

    def _still(self, connection: Connection, staged: _Staged, sql: str, *more: object) -> None:
        if not connection.execute(sql, (*more, staged.stream)).rowcount:
            raise StoreUnavailableError(
                "the first part of this write is gone: nothing was written for too long, so it was swept, "
                "or the file was replaced; put the blob again"
            )

    def _add(self, connection: Connection, staged: _Staged) -> None:
        connection.executemany(
            "INSERT INTO holdall_v1_chunks (stream, number, data) VALUES (?, ?, ?)",
            [(staged.stream, staged.number + index, chunk) for index, chunk in enumerate(staged.held)],
        )

    def _discard(self, staged: _Staged) -> None:
        if staged.begun:
            try:
                self._transaction(lambda connection: _drop(connection, staged.stream), None)
            except StoreError:
                # The error that led here is the one to report; a later sweep takes what is left.
                return

    def _sweep_once(self) -> None:
        if not self._swept:
            self._swept = True
            self._sweep()

    def _sweep(self) -> None:
        """Delete what expired, and what writers left behind who are gone."""
        try:
            for stream, owner, beat in self._all("SELECT stream, owner, beat FROM holdall_v1_stages", ()):
                mine = owner == _owner()
                if stream not in _staged if mine else not _lives(owner, beat):
                    self._transaction(lambda connection, stream=stream: _drop(connection, stream), None)
            sql = """DELETE FROM holdall_v1_blobs WHERE rowid IN
                (SELECT rowid FROM holdall_v1_blobs WHERE expires <= ? LIMIT ?)"""
            while self._all(_EXPIRED, (_now(),)):
                self._run(lambda connection: connection.execute(sql, (_now(), _BATCH)), None, write=True)
        except StoreError:
            # Whatever is wrong, the call that came to write finds it too, and reports it.
            return

    # --- listing ---

    def _pages(self, sql: str, prefix: str, after: str) -> Iterator[list[tuple[Any, ...]]]:
        # The first page is short, for those who only ask whether there is anything.
        limit = 32
        while True:
            rows = self._page(sql, prefix, after, limit)
            yield rows
            if len(rows) < limit:
                return
            after, limit = rows[-1][0], _BATCH

    def _page(self, sql: str, prefix: str, after: str, limit: int) -> list[tuple[Any, ...]]:
        """Some rows, on from a key: no transaction stays open between two pages."""
        low, sign = (after, _PAST) if after and after >= prefix else (prefix, _FROM)
        now = _now()
        try:
            if sql == _KEYS:
                # Where nothing has expired, the index of the keys is enough.
                if not self._all(_EXPIRED, (now,)):
                    return self._all(_KEYS.format(sign), (low, past(prefix), limit))
                sql = _KEYS_ALIVE
            return self._all(sql.format(sign), (low, past(prefix), now, limit))
        except UnicodeEncodeError:
            # A prefix with a lone surrogate begins no key.
            return []

    # --- connections ---

    def _one(self, sql: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return self._run(lambda connection: connection.execute(sql, parameters).fetchone(), None)

    def _all(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._run(lambda connection: connection.execute(sql, parameters).fetchall(), [])

    def _run(
        self,
        act: Callable[[Connection], T],
        missing: T,
        *,
        write: bool = False,
        create: bool = False,
    ) -> T:
        """Return the result of `act` on this thread's connection, or `missing` if there is no table.

        It is called again if the connection was closed by a fork before it began, if the file was locked, or
        if the file at the path is another one by now.
        """
        deadline = 0.0
        while True:
            connection = None
            try:
                connection = self._connection(create)
                if connection is None:
                    return missing
                with self._turn if write else connection.lock:
                    if write:
                        connection.settle()
                    result = act(connection)
                    file = connection.file
                    if write and (file.stands() or self._leave(connection)):
                        return result
                if not write:
                    if file.seems_to_stand(_now()):
                        return result
                    self._leave(connection)
            except sqlite3.Error as error:
                deadline = self._wait(error, connection, deadline)

    def _wait(self, error: sqlite3.Error, connection: Connection | None, deadline: float) -> float:
        """Wait a little where trying again may help, until the deadline; raise what it means where not."""
        if connection is not None and not connection.alive:
            return deadline
        if code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            if connection is not None and error.sqlite_errorcode == sqlite3.SQLITE_BUSY_SNAPSHOT:
                # An interrupt left a statement unfinished, which still reads an older version.
                connection.shut()
                return deadline
            deadline = deadline or time.monotonic() + self._timeout
            if time.monotonic() < deadline:
                time.sleep(0.01)
                return deadline
        raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> StoreError:
        return self._closed_error() if self._closed else translated(error, self._path, self._timeout)

    def _leave(self, connection: Connection) -> bool:
        """Let go of a file that was replaced, deleted or cut, or whose log was removed, while it was open.
        Whether what was written before is in the file at the path all the same.

        The log goes into the file that it belongs to, wherever that is now: were it left, the next program
        to open the file at the path would apply it to that one.

        Raises:
            StoreUnavailableError: Other programs have it open, too, so that the log can't be copied.
            IntegrityError: The file was cut.
        """
        path, file = self._path, connection.file
        with self._turn:
            for store in list(_stores):
                if store._writers is self._writers:
                    store._shut_all(but=connection)
            fixed = isinstance(file, UnchangingFile)
            copied = fixed or not connection.alive or connection.copy_log()
            replaced, cut = file.is_replaced(), file.is_cut()
            if replaced and copied and not fixed:
                file.unlink_log()
            connection.shut()
        if not copied:
            what = f"{path} was replaced or deleted" if replaced else f"{path}-wal was deleted"
            raise StoreUnavailableError(
                f"{what} while it was open here and in other programs; this call may or may not have been "
                f"done; end the other programs (fuser -v {path}), "
                + (f"delete {path}-wal and {path}-shm, " if replaced else "")
                + "then open it again"
            )
        if fixed or replaced:
            return False
        if cut and self._cut_short():
            raise IntegrityError(f"{path} was cut short while it was open; restore a backup")
        return True

    def _cut_short(self) -> bool:
        """Whether a file that became shorter is damaged; after a `VACUUM` it isn't."""
        fresh = None
        try:
            fresh = self._opened(False)
            if fresh is None:
                return True
            with fresh.lock:
                sound = fresh.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
                fresh.shut()
            return not sound
        except sqlite3.DatabaseError:
            # A fork that closed it says nothing of the file.
            return fresh is None or fresh.alive or self._cut_short()

    def _transaction(self, act: Callable[[Connection], T], missing: T, *, create: bool = False) -> T:
        return self._run(lambda connection: connection.transaction(act), missing, write=True, create=create)

    def _connection(self, create: bool) -> Connection | None:
        local = self._local
        connection: Connection | None = getattr(local, "connection", None)
        if connection is None or not connection.alive:
            local.__dict__.pop("quick", None)
            connection = self._opened(create)
            if connection is None:
                return None
            local.connection = connection
            local.held = _ThreadConnection(connection)
        if not hasattr(local, "quick") and not isinstance(connection.file, UnchangingFile):
            # A fork closes connections with their locks held. Of one that it has closed by now there is no
            # cursor, and the caller finds that out and begins anew.
            with connection.lock:
                if connection.alive:
                    # A cursor that stays spares each fast call one of its own.
                    local.quick = connection.lock, connection.cursor().execute, connection
        return connection

    def _drop_quick(self) -> None:
        """Finish a statement that an interrupt left unfinished: it would keep its snapshot."""
        quick = self._local.__dict__.pop("quick", None)
        if quick is not None:
            try:
                quick[1].__self__.close()
            except sqlite3.ProgrammingError:
                return  # a fork has closed the connection, and all its statements with it

    def _reader(self) -> Connection | None:
        while True:
            try:
                reader = self._readers.pop()
            except IndexError:
                return self._opened(False)
            if reader.alive:
                return reader

    def _release(self, reader: Connection) -> None:
        """Take back a connection that a stream has done with."""
        try:
            with reader.lock:
                if not reader.alive:
                    return
                reader.execute("COMMIT")
                if len(self._readers) < _IDLE and not self._closed:
                    self._readers.append(reader)
                else:
                    reader.shut()
        except sqlite3.Error:
            reader.shut()

    def _opened(self, create: bool) -> Connection | None:
        """Open a connection; None if the file or its table is missing and shouldn't be made."""
        with _opening:
            if self._closed:
                raise self._closed_error()
            connection = connect(self._path, create=create, durable=self._durable, timeout=self._timeout)
            if connection is not None:
                self._connections.add(connection)
            return connection


class _Staged:
    """A body that was read: all as `data`, or chunks, the first `number` of which are in the file."""

    __slots__ = ("__weakref__", "begun", "data", "held", "number", "size", "stream")

    def __init__(self, size: int, *, data: Piece | None = None) -> None:
        self.size = size
        self.begun = False
        self.data = data
        self.held: list[Piece] = []
        self.number = 0
        self.stream = 0 if data is not None else _new_etag()


_staged: WeakValueDictionary[int, _Staged] = WeakValueDictionary()
"""What this process is writing, by its stream: a stage of this process that isn't here was left behind by an
interrupt."""


class _Chunks(Iterator[Piece]):
    """The bytes of one stream from `at` to `stop`, on a connection that keeps its snapshot.

    It isn't a generator, because one that was never started runs no `finally` when it is dropped.
    """

    _reader: Connection | None = None

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._stream = 0
        self.at = self.stop = 0

    def begin(self, key: str) -> tuple[Any, ...] | None:
        """Take a connection and a snapshot; the blob's row in it."""
        store, deadline = self._store, 0.0
        while True:
            try:
                self._reader = store._reader()  # pyright: ignore[reportPrivateUsage]
                if self._reader is None:
                    return None
                with self._reader.lock:
                    self._reader.execute("BEGIN")
                    row = self._reader.execute(_READ, (key, _now())).fetchone()
                if row is not None:
                    self._stream = row[5]
                return row
            except sqlite3.Error as error:
                deadline = store._wait(error, self._reader, deadline)  # pyright: ignore[reportPrivateUsage]
                self.close()

    def __next__(self) -> Piece:
        if self.at >= self.stop:
            self.close()
            raise StopIteration
        number, offset = divmod(self.at, _CHUNK)
        length = min(_CHUNK - offset, self.stop - self.at)
        if offset == 0 and (length == _CHUNK):
            row = self._row(_WHOLE, (self._stream, number))
        else:
            row = self._row(_PART, (offset + 1, length, self._stream, number))
        if len(row[0]) != length:
            raise IntegrityError("a chunk of this blob is shorter than it was written; restore a backup")
        self.at += length
        return row[0]

    def _row(self, sql: str, parameters: tuple[int, ...]) -> tuple[bytes]:
        store, resumed = self._store, False
        while self._reader is not None:
            reader = self._reader
            try:
                with reader.lock:
                    row = reader.execute(sql, parameters).fetchone()
            except sqlite3.Error as error:
                if reader.alive:
                    raise store._error(error) from error  # pyright: ignore[reportPrivateUsage]
                # A fork closed it, and its snapshot is gone; but the chunks of a stream never change.
                self._reader = self._resumed()
                resumed = True
                continue
            if isinstance(reader.file, UnchangingFile) and not reader.file.stands():
                break
            if row is not None:
                return row
            if resumed:
                break
            raise IntegrityError("a chunk of this blob is missing; restore a backup")
        raise ConcurrencyError(
            "the blob was replaced after a fork, or the file was replaced, while it was read; read it again"
        )

    def _resumed(self) -> Connection | None:
        try:
            reader = self._store._reader()  # pyright: ignore[reportPrivateUsage]
            if reader is not None:
                with reader.lock:
                    if reader.alive:
                        reader.execute("BEGIN")
            return reader
        except sqlite3.Error as error:
            raise self._store._error(error) from error  # pyright: ignore[reportPrivateUsage]

    def close(self) -> None:
        """Give the connection back."""
        reader, self._reader = self._reader, None
        if reader is not None:
            try:
                self._store._release(reader)  # pyright: ignore[reportPrivateUsage]
            except BaseException:
                reader.shut()
                raise

    def __del__(self) -> None:
        self.close()


def _whole(body: Body) -> Piece | None:
    """The one piece of a body that fits into a row."""
    if type(body) is tuple:
        pieces = cast("tuple[Piece, ...]", body)
        if len(pieces) == 1 and len(pieces[0]) <= _INLINE:
            # sqlite3 takes an empty view for NULL.
            return pieces[0] or b""
    return None


def _cut(body: Body) -> Iterator[Piece]:
    """A body in chunks that may be held: what is not `bytes` is copied, as its owner may fill it again."""
    held = bytearray()
    for piece in body:
        view, at = memoryview(piece), 0
        while at < len(view):
            part = view[at : at + _CHUNK - len(held)]
            at += len(part)
            if len(part) == _CHUNK:
                yield part if type(piece) is bytes else bytes(part)
                continue
            held += part
            if len(held) == _CHUNK:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)


def _are_keys(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether all rows begin with what is surely a key: one look at many is cheaper than one at each."""
    text = "/".join([row[0] for row in rows])
    return (
        text.isprintable()
        and "//" not in text
        and "/." not in text
        and not text.startswith((".", "/"))
        and not text.endswith("/")
        and max([len(row[0]) for row in rows], default=0) <= MAX_KEY_BYTES // 4
    )


def _is_key(text: str) -> bool:
    try:
        check_key(text)
    except InvalidKeyError:
        return False
    return True


def _now() -> int:
    return time.time_ns() // 1000


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _info(key: str, row: Sequence[Any]) -> Info:
    """From a row that begins with `_ROW`."""
    etag, modified, size = row[0], row[1], row[2]
    if type(etag) is type(modified) is type(size) is int and size >= 0:
        try:
            return Info(
                key,
                size,
                etag,
                modified / 1e6,
                row[4],
                None if row[3] is None else _time(row[3]),
            )
        except (TypeError, OverflowError):
            pass
    raise _odd_row(key)


def _odd_row(key: str) -> IntegrityError:
    return IntegrityError(
        "the row of this blob holds values that holdall never writes; put the blob again, or delete the row "
        "with SQL",
        key=key,
    )


def _inline(key: str, row: Sequence[Any], start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
    """Return the result of `_read` for a blob that is in its row: whole, or cut already."""
    # A cut from nothing is NULL.
    info, size, data = _info(key, row), row[2], row[6] or b""
    if type(data) is not bytes:
        raise _odd_row(key)
    low, high = span(start, stop, size)
    view: Piece = data
    if len(data) == size != high - low:
        view = memoryview(data)[low:high]
    elif len(data) != high - low:
        raise IntegrityError("the blob is shorter than it was written; restore a backup")
    return info, iter((view,) if len(view) else ())


def _stored(row: _Row) -> tuple[Any, ...]:
    return row if row.stream is not None else row._replace(size=None)  # pyright: ignore[reportArgumentType]


def _new_etag() -> int:
    """62 bits fresh from the system: numbers of a generator in the process would come again after a clone of
    the machine."""
    return int.from_bytes(_random(8), "big") >> 2


def _new_etags(number: int) -> Iterator[int]:
    return (word >> 2 for (word,) in _WORD.iter_unpack(os.urandom(8 * number)))


def _number(etag: Expect) -> int:
    """Return the integer that an ETag was made of, or -1 if this store never made it."""
    try:
        number = int(cast(str, etag), 16)
    except ValueError:
        return -1
    return number if 0 <= number < 1 << 63 and f"{number:x}" == etag else -1


def _mismatch(key: str, expect: Expect, row: Sequence[Any] | None) -> ConcurrencyError:
    actual = None if row is None else f"{row[0]:x}"
    if expect is ABSENT:
        return BlobExistsError(key=key, actual=actual)
    return ConcurrencyError(key=key, expected=str(expect), actual=actual)


def _drop(connection: Connection, stream: int) -> None:
    # Only of a write that isn't published: an interrupt may have come right after it was.
    if connection.execute("DELETE FROM holdall_v1_stages WHERE stream = ?", (stream,)).rowcount:
        connection.execute("DELETE FROM holdall_v1_chunks WHERE stream = ?", (stream,))


def _owner() -> str:
    """Return an identity of this process, by which another one sees whether it lives."""
    return f"{_realm()} {os.getpid()} {_started(os.getpid())}"


def _realm() -> str:
    """Within what a process id means something: one boot of one host, one namespace."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return f"{file.read().strip().decode()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return os.uname().nodename.replace(" ", "-") or "-"


def _started(pid: int) -> str:
    """When a process began, because its id may be given to another; empty where one can't see it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _lives(owner: str, beat: int) -> bool:
    realm, _, process = owner.partition(" ")
    pid, _, started = process.partition(" ")
    if realm != _realm() or not pid.isdecimal():
        return _now() - beat < _ABANDONED * 1_000_000
    if started:
        return _started(int(pid)) == started
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
