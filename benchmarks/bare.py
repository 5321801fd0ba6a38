"""The bare calls with the same promise: what no library can be faster than."""

from __future__ import annotations

import errno
import os
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from typing import ClassVar

from benchmarks.contenders import BARE, FILES, MEMORY, MIB, SQLITE, ZIP, Contender, file_chunks


class Dict(Contender):
    """Methods that look a dict up."""

    name, medium, kind, promise = "bare dict in a class", MEMORY, BARE, "W"

    def __init__(self, folder: str) -> None:
        self.blobs: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.blobs[key] = data

    def get(self, key: str) -> bytes | None:
        return self.blobs.get(key)

    miss = get

    def exists(self, key: str) -> bool:
        return key in self.blobs

    def info(self, key: str) -> int:
        return len(self.blobs[key])

    def delete(self, key: str) -> bool:
        return self.blobs.pop(key, None) is not None

    def put_many(self, items: dict[str, bytes]) -> None:
        self.blobs.update(items)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: self.blobs[key] for key in keys if key in self.blobs}

    def keys(self, prefix: str) -> Iterable[str]:
        return sorted(key for key in self.blobs if key.startswith(prefix))


class Files(Contender):
    """open, write, close and rename; open, fstat, read and close."""

    name, medium, kind, promise = "bare open + rename", FILES, BARE, "WL"
    plain = True
    durable: ClassVar[bool] = False
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    old = os.O_RDONLY | os.O_CLOEXEC

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self.base = folder + "/"
        self.temporary = self.base + ".new"
        if self.durable:
            self.folder = os.open(folder, os.O_RDONLY)
            self.put = self.put_durably

    def put(self, key: str, data: bytes) -> None:
        temporary = self.temporary
        fd = os.open(temporary, self.new, 0o666)
        os.write(fd, data)
        os.close(fd)
        path = self.base + key
        try:
            os.replace(temporary, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path))
            os.replace(temporary, path)

    def put_durably(self, key: str, data: bytes) -> None:
        fd = os.open(self.temporary, self.new, 0o666)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        os.replace(self.temporary, self.base + key)
        os.fsync(self.folder)

    def get(self, key: str) -> bytes:
        fd = os.open(self.base + key, self.old)
        size = os.fstat(fd).st_size
        data = os.read(fd, size)
        os.close(fd)
        return data

    def miss(self, key: str) -> bytes | None:
        try:
            fd = os.open(self.base + key, self.old)
        except FileNotFoundError:
            return None
        os.close(fd)
        return b""

    def exists(self, key: str) -> bool:
        try:
            os.stat(self.base + key)
        except FileNotFoundError:
            return False
        return True

    def info(self, key: str) -> os.stat_result:
        return os.stat(self.base + key)

    def delete(self, key: str) -> None:
        os.unlink(self.base + key)

    def put_many(self, items: dict[str, bytes]) -> None:
        for key, data in items.items():
            self.put(key, data)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: self.get(key) for key in keys}

    def keys(self, prefix: str) -> Iterator[str]:
        """A walk by scandir, in no order, from the deepest folder that the prefix names."""
        folders = [prefix[: prefix.rfind("/") + 1]]
        while folders:
            folder = folders.pop()
            with os.scandir(self.base + folder) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        name = folder + entry.name
                        if name.startswith(prefix):
                            yield name
                    else:
                        folders.append(f"{folder}{entry.name}/")

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        fd = os.open(self.temporary, self.new, 0o666)
        for piece in pieces:
            os.write(fd, piece)
        os.close(fd)
        os.replace(self.temporary, self.base + key)

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(open(self.base + key, "rb", buffering=0))


class FilesInFolders(Files):
    """The same, and a folder goes with its last file."""

    def delete(self, key: str) -> None:
        path = self.base + key
        os.unlink(path)
        try:
            os.rmdir(os.path.dirname(path))
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


class DurableFiles(Files):
    durable = True


class Sqlite(Contender):
    """One prepared statement, each its own transaction, on a rowid table, with the settings holdall has."""

    name, medium, kind, promise = "bare sqlite3 statement", SQLITE, BARE, "WL"
    durable: ClassVar[bool] = False
    settings: ClassVar[tuple[str, ...]] = (
        "secure_delete = OFF",
        "wal_autocheckpoint = 4000",
        "cache_size = -8000",
    )

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        connection = self.connection = sqlite3.connect(f"{folder}/bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
        for setting in self.settings:
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v BLOB)")
        self.execute = connection.execute

    upsert = "INSERT INTO t (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"

    def put(self, key: str, data: bytes) -> None:
        self.execute(self.upsert, (key, data))

    def get(self, key: str) -> bytes | None:
        row = self.execute("SELECT v FROM t WHERE k = ?", (key,)).fetchone()
        return None if row is None else row[0]

    miss = get

    def exists(self, key: str) -> bool:
        return self.execute("SELECT 1 FROM t WHERE k = ?", (key,)).fetchone() is not None

    def info(self, key: str) -> int:
        return self.execute("SELECT length(v) FROM t WHERE k = ?", (key,)).fetchone()[0]

    def delete(self, key: str) -> bool:
        return self.execute("DELETE FROM t WHERE k = ?", (key,)).rowcount > 0

    def put_many(self, items: dict[str, bytes]) -> None:
        self.execute("BEGIN IMMEDIATE")
        self.connection.executemany(self.upsert, items.items())
        self.execute("COMMIT")

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        self.execute("BEGIN")
        for key in keys:
            row = self.execute("SELECT v FROM t WHERE k = ?", (key,)).fetchone()
            if row is not None:
                found[key] = row[0]
        self.execute("COMMIT")
        return found

    def keys(self, prefix: str) -> Iterator[tuple[str]]:
        if not prefix:
            return self.execute("SELECT k FROM t ORDER BY k")
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return self.execute("SELECT k FROM t WHERE k >= ? AND k < ? ORDER BY k", (prefix, end))

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        """Into a blob of zeros of the size that is known beforehand, in one transaction."""
        first = next(pieces)
        rest = [] if first is None else pieces
        size = self.stream_size
        self.execute("BEGIN IMMEDIATE")
        self.execute(
            "INSERT INTO t (k, v) VALUES (?, zeroblob(?)) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            (key, size),
        )
        row = self.execute("SELECT rowid FROM t WHERE k = ?", (key,)).fetchone()[0]
        with self.connection.blobopen("t", "v", row) as blob:
            blob.write(first)
            for piece in rest:
                blob.write(piece)
        self.execute("COMMIT")

    stream_size = 256 * MIB

    def read(self, key: str) -> Iterator[bytes]:
        row = self.execute("SELECT rowid FROM t WHERE k = ?", (key,)).fetchone()[0]
        return file_chunks(self.connection.blobopen("t", "v", row, readonly=True))

    def close(self) -> None:
        self.connection.close()


class DurableSqlite(Sqlite):
    durable = True


class PlainSqlite(Sqlite):
    """What a program without a library would write: SQLite's own settings, and INSERT OR REPLACE."""

    name = "a plain SQLite table"
    note = "SQLite's own settings but WAL and synchronous=NORMAL; INSERT OR REPLACE"
    settings = ()
    upsert = "INSERT OR REPLACE INTO t (k, v) VALUES (?, ?)"
    lacks: ClassVar[dict[str, str]] = dict.fromkeys(("keys", "write", "read"), "as the bare statement")
    keys = write = read = None


class Zip(Contender):
    """A `zipfile.ZipFile` that stays open: others see nothing, and a kill loses all, until it is closed."""

    name, medium, kind, promise = "bare zipfile, kept open", ZIP, BARE, ""
    note = "no promise at all until it is closed; it can't delete or overwrite"
    lacks: ClassVar[dict[str, str]] = {
        "overwrite": "an archive keeps both",
        "delete": "zipfile can't",
        "put_many": "zipfile has none",
        "get_many": "zipfile has none",
    }
    mode: ClassVar[str] = "a"

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self.path = f"{folder}/bare.zip"
        self.open()

    def open(self) -> None:
        self.archive = zipfile.ZipFile(self.path, "a")

    def put(self, key: str, data: bytes) -> None:
        self.archive.writestr(key, data)

    def get(self, key: str) -> bytes:
        return self.archive.read(key)

    def miss(self, key: str) -> bytes | None:
        try:
            return self.archive.read(key)
        except KeyError:
            return None

    def exists(self, key: str) -> bool:
        return key in self.archive.NameToInfo

    def info(self, key: str) -> zipfile.ZipInfo:
        return self.archive.getinfo(key)

    def keys(self, prefix: str) -> list[str]:
        return sorted(name for name in self.archive.NameToInfo if name.startswith(prefix))

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        with self.archive.open(key, "w", force_zip64=True) as file:
            for piece in pieces:
                file.write(piece)
        self.archive.close()

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(self.archive.open(key))

    def fresh(self) -> None:
        """Begin again, as it can't delete."""
        self.archive.close()
        os.unlink(self.path)
        self.open()

    def close(self) -> None:
        self.archive.close()


class ZipEach(Zip):
    """An archive opened and closed for each put, so that others see it."""

    name, promise = "zipfile, closed at each put", "L"
    note = "others see each put, but a kill while it closes tears the archive"
    limit = 200
    lacks: ClassVar[dict[str, str]] = {
        **Zip.lacks,
        "write": "as above",
        "read": "as above",
        "get": "as above",
        "miss": "as above",
        "exists": "as above",
        "info": "as above",
    }
    get = miss = exists = info = write = read = None

    def open(self) -> None:
        zipfile.ZipFile(self.path, "a").close()

    def put(self, key: str, data: bytes) -> None:
        with zipfile.ZipFile(self.path, "a") as archive:
            archive.writestr(key, data)

    def fresh(self) -> None:
        os.unlink(self.path)
        self.open()

    def close(self) -> None:
        pass


CONTENDERS: list[type[Contender]] = [Dict, Files, Sqlite, PlainSqlite, Zip, ZipEach]
