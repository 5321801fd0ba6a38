"""Blobs in chunks: staged in short transactions while their body is read, and read in one snapshot."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from holdall.blob import Body, Piece
from holdall.errors import ConcurrencyError, IntegrityError, StoreError, StoreUnavailableError
from holdall.forks import processes
from holdall.pieces import regroup
from holdall.stores.sqlite.connections import Connection
from holdall.stores.sqlite.database import Database
from holdall.stores.sqlite.file import UnchangingFile
from holdall.stores.sqlite.rows import EXPIRED, READ, new_etag, now

_CHUNK = 1 << 18
"""How long every chunk but the last is; part of the format. SQLite reads a chunk whole to cut a range from
it, so that shorter ones make ranges faster: 4 KiB cost 0.08 ms here, of a chunk of 1 MiB 0.3 ms."""
_HELD = 16
"""The number of chunks of a stream that are held before they are written."""
_ABANDONED = 24 * 3600
"""Seconds without a sign of life after which a write is given up, if its process can't be looked at."""
_BATCH = 1000

_PART = "SELECT substr(data, ?, ?) FROM holdall_v1_chunks WHERE stream = ? AND number = ?"
_WHOLE = "SELECT data FROM holdall_v1_chunks WHERE stream = ? AND number = ?"
_ADD = "INSERT INTO holdall_v1_chunks (stream, number, data) VALUES (?, ?, ?)"
_BEGIN = "INSERT INTO holdall_v1_stages (stream, owner, beat) VALUES (?, ?, ?)"
_BEAT = "UPDATE holdall_v1_stages SET beat = ? WHERE stream = ?"
_END = "DELETE FROM holdall_v1_stages WHERE stream = ?"
_SWEEP = """DELETE FROM holdall_v1_blobs WHERE rowid IN
    (SELECT rowid FROM holdall_v1_blobs WHERE expires <= ? LIMIT ?)"""


class Staged:
    """A body that was read: all as `data`, or chunks, the first `number` of which are in the file."""

    __slots__ = ("__weakref__", "begun", "data", "held", "number", "size", "stream")

    def __init__(self, size: int = 0, *, data: Piece | None = None) -> None:
        self.size = size
        self.begun = False
        self.data = data
        self.held: list[Piece] = []
        self.number = 0
        self.stream = 0 if data is not None else new_etag()


_staged: WeakValueDictionary[int, Staged] = WeakValueDictionary()
"""What this process is writing, by its stream: a stage of this process that isn't here was left behind by an
interrupt."""


class Stages:
    """The chunks of one handle's unfinished writes, and the sweep of those that others left behind."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.swept = False

    def take(self, staged: Staged, body: Body, inline: int, *, flush: bool = False) -> None:
        """Read a body: what is short is held, the rest staged in short transactions, so that a body may take
        its time, and use this store, while others write.

        The last chunks are left for the transaction that publishes them, unless all are to be flushed.
        """
        for chunk in regroup(body, _CHUNK):
            staged.held.append(chunk)
            staged.size += len(chunk)
            if len(staged.held) == _HELD:
                self._stage(staged)
        if not staged.begun and staged.size <= inline:
            staged.data, staged.held = b"".join(staged.held), []
        elif flush:
            self._stage(staged)

    def _stage(self, staged: Staged) -> None:
        begun = staged.begun
        if not begun:
            self._sweep()
            _staged[staged.stream] = staged
            # Before the first chunk is written, so that an interrupt finds it to be taken back.
            staged.begun = True

        def write(connection: Connection) -> None:
            if begun:
                _still(connection, _BEAT, now(), staged.stream)
            else:
                connection.execute(_BEGIN, (staged.stream, _owner(os.getpid()), now()))
            _add(connection, staged)

        self._database.transaction(write, None, create=True)
        staged.number += len(staged.held)
        staged.held = []

    def discard(self, staged: Staged) -> None:
        """Delete the chunks of a write that failed."""
        if staged.begun:
            try:
                self._drop(staged.stream)
            except StoreError:
                # The error that led here is the one to report; a later sweep takes what is left.
                return

    def _drop(self, stream: int) -> None:
        def drop(connection: Connection) -> None:
            # Only of a write that isn't published: an interrupt may have come right after it was.
            if connection.execute(_END, (stream,)).rowcount:
                connection.execute("DELETE FROM holdall_v1_chunks WHERE stream = ?", (stream,))

        self._database.transaction(drop, None)

    def sweep_once(self) -> None:
        """Sweep before the first write of a handle."""
        if not self.swept:
            self.swept = True
            self._sweep()

    def _sweep(self) -> None:
        """Delete what has expired, and what killed writers have left."""
        database, mine = self._database, _owner(os.getpid())
        try:
            for stream, owner, beat in database.all("SELECT stream, owner, beat FROM holdall_v1_stages", ()):
                if stream not in _staged if owner == mine else not _lives(owner, beat):
                    self._drop(stream)
            while database.all(EXPIRED, (now(),)):
                database.run(lambda connection: connection.execute(_SWEEP, (now(), _BATCH)), None, write=True)
        except StoreError:
            # Whatever is wrong, the write that follows finds it too, and reports it.
            return


def unstage(connection: Connection, staged: Staged) -> None:
    """Write the last chunks, in the transaction that publishes them."""
    if staged.begun:
        _still(connection, _END, staged.stream)
    _add(connection, staged)


def _still(connection: Connection, sql: str, *parameters: int) -> None:
    if not connection.execute(sql, parameters).rowcount:
        raise StoreUnavailableError(
            "the first part of this write is gone: nothing was written for too long, so it was swept, "
            "or the file was replaced; put the blob again"
        )


def _add(connection: Connection, staged: Staged) -> None:
    rows = [(staged.stream, staged.number + index, chunk) for index, chunk in enumerate(staged.held)]
    connection.executemany(_ADD, rows)


def _owner(pid: int) -> str:
    """Return the identity of a process: within which boot and namespace its id means something, the id, and
    when it began, because the id may be given to another process. Without /proc, host and id."""
    realm = processes()
    if not realm:
        return f"{os.uname().nodename.replace(' ', '-')} {pid} "
    try:
        with open(f"/proc/{pid}/stat", "rb") as process:
            return f"{realm} {pid} {process.read().rpartition(b')')[2].split()[19].decode()}"
    except (OSError, IndexError):
        return f"{realm} {pid} gone"


def _lives(owner: str, beat: int) -> bool:
    realm, _, process = owner.partition(" ")
    pid, _, started = process.partition(" ")
    if started and pid.isdecimal():
        seen = _owner(int(pid))
        if seen.startswith(f"{realm} "):
            return seen == owner
    return now() - beat < _ABANDONED * 1_000_000


class Chunks(Iterator[Piece]):
    """The bytes of one stream from `at` to `stop`, on a connection that keeps its snapshot.

    It isn't a generator, because one that was never started runs no `finally` when it is dropped.
    """

    _reader: Connection | None = None

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stream = 0
        self._resumed = False
        self.at = self.stop = 0

    def begin(self, key: str) -> tuple[Any, ...] | None:
        """Take a connection and a snapshot; return the blob's row in it."""
        deadline = 0.0
        while True:
            try:
                self._reader = self._database.reader()
                if self._reader is None:
                    return None
                with self._reader.lock:
                    self._reader.execute("BEGIN")
                    row = self._reader.execute(READ, (key, now())).fetchone()
                if row is not None:
                    self._stream = row[5]
                return row
            except sqlite3.Error as error:
                deadline = self._database.wait(error, self._reader, deadline)
                self.close()

    def __next__(self) -> Piece:
        if self.at >= self.stop:
            self.close()
            raise StopIteration
        number, offset = divmod(self.at, _CHUNK)
        length = min(_CHUNK - offset, self.stop - self.at)
        if length == _CHUNK:
            row = self._row(_WHOLE, (self._stream, number))
        else:
            row = self._row(_PART, (offset + 1, length, self._stream, number))
        if len(row[0]) != length:
            raise IntegrityError("a chunk of this blob is shorter than it was written; restore a backup")
        self.at += length
        return row[0]

    def _row(self, sql: str, parameters: tuple[int, ...]) -> tuple[bytes]:
        reader, row, stands = self._reader, None, False
        try:
            if reader is not None and not reader.alive:
                # A fork closed it, and its snapshot is gone; but the chunks of a stream never change.
                reader, self._resumed = None, True
                reader = self._reader = self._database.reader()
            if reader is not None:
                with reader.lock:
                    row = reader.execute(sql, parameters).fetchone()
                stands = not isinstance(reader.file, UnchangingFile) or reader.file.stands()
        except sqlite3.Error as error:
            if reader is None or reader.alive:
                raise self._database.error(error) from error
            return self._row(sql, parameters)
        if stands and row is not None:
            return row
        if stands and not self._resumed:
            raise IntegrityError("a chunk of this blob is missing; restore a backup")
        raise ConcurrencyError(
            "the blob was replaced after a fork, or the file was replaced, while it was read; read it again"
        )

    def close(self) -> None:
        """Give the connection back."""
        reader, self._reader = self._reader, None
        if reader is not None:
            try:
                self._database.release(reader)
            except BaseException:
                reader.shut()
                raise

    def __del__(self) -> None:
        self.close()
