"""The open database of a folder, which all handles of a process share, since LMDB allows one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakSet

import lmdb

from holdall import StoreError, StoreUnavailableError

__all__ = ["Database", "translated"]

T = TypeVar("T")

_SWEPT_AFTER = 3600  # seconds
_opened: dict[tuple[int, int], Database] = {}
"""By the device and the inode of the file, since the folder may have several names, or be made anew."""
_lock = threading.Lock()


class Database:
    """An LMDB environment with three tables.

    `infos` has a JSON object for each blob, `chunks` its bytes, by its ETag and the number of the chunk, and
    `drafts` the ETag of each long blob that is being written, with the time at which that began.

    Args:
        folder: The folder; it is made if it is missing.
        map_size: The most bytes that the database may have.
    """

    def __init__(self, folder: str, map_size: int) -> None:
        os.makedirs(folder, exist_ok=True)
        self.users: WeakSet[object] = WeakSet()
        self.running = 0
        self.inherited = False
        self.env: Any = lmdb.open(folder, map_size=map_size, max_dbs=3, max_readers=1024, mode=0o666)
        # Readers that were killed keep pages from being used again.
        self.env.reader_check()
        with self.env.begin(write=True) as txn:
            self.infos = self.env.open_db(b"infos", txn)
            self.chunks = self.env.open_db(b"chunks", txn)
            self.drafts = self.env.open_db(b"drafts", txn)
            for etag, begun in list(txn.cursor(self.drafts)):
                if float(begun) < time.time() - _SWEPT_AFTER:
                    self.drop_draft(txn, etag)

    @classmethod
    def open(cls, folder: str, map_size: int, user: object) -> Database:
        """Return the database of a folder for one more user, who releases it."""
        with _lock, translated():
            found = _opened.get(_place(folder))
            if found is None:
                found = cls(folder, map_size)
                _opened[_place(folder)] = found
            found.check_process()
            found.users.add(user)
            return found

    def release(self, user: object) -> None:
        """Close the database with its last user."""
        with _lock:
            self.users.discard(user)
            self._close_unused()

    @contextmanager
    def begin(self, write: bool = False) -> Generator[Any]:
        """A transaction, which is committed at the end of the block unless that raises."""
        with _lock:
            self.running += 1
        try:
            with translated():
                txn = None
                try:
                    txn = self.env.begin(write=write)
                    yield txn
                    self.check_process()
                    txn.commit()
                except BaseException:
                    if txn is not None and not self.inherited:
                        txn.abort()
                    raise
        finally:
            with _lock:
                self.running -= 1
                self._close_unused()

    def write(self, change: Callable[[Any], T]) -> T:
        """Call a function with a transaction, and return what it returns."""
        try:
            with self.begin(write=True) as txn:
                return change(txn)
        except StoreUnavailableError as error:
            if not isinstance(error.__cause__, lmdb.MapFullError):
                raise
        # LMDB uses what a transaction has freed from the next but one on: there may be room after one more.
        with self.begin(write=True) as txn:
            txn.put(b"-", str(time.time()).encode(), db=self.drafts)
        with self.begin(write=True) as txn:
            return change(txn)

    def check_process(self) -> None:
        """Refuse a database in which the parent of this process had a transaction when it forked."""
        if self.inherited:
            message = (
                "a read or a write was under way when this process was forked; "
                "fork when there is none, or use multiprocessing's method spawn"
            )
            raise StoreUnavailableError(message)

    def _close_unused(self) -> None:
        # Not while a thread is in a transaction, which would crash.
        if not self.users and not self.running and not self.inherited:
            self.env.close()
            for place, each in list(_opened.items()):
                if each is self:
                    del _opened[place]

    def drop_draft(self, txn: Any, etag: bytes) -> bool:
        """Delete the chunks of a draft, unless it is published; return whether it was one."""
        found = txn.delete(etag, db=self.drafts)
        if found:
            self.drop_chunks(txn, etag)
        return found

    def drop_chunks(self, txn: Any, etag: bytes) -> None:
        """Delete the bytes of a blob."""
        with txn.cursor(self.chunks) as cursor:
            there = cursor.set_range(etag)
            while there and cursor.key().startswith(etag):
                there = cursor.delete()


def _place(folder: str) -> tuple[int, int]:
    try:
        found = os.stat(os.path.join(folder, "data.mdb"))
    except FileNotFoundError:
        return (0, 0)
    return found.st_dev, found.st_ino


@contextmanager
def translated() -> Generator[None]:
    """Raise errors of LMDB and of the system as errors of a store."""
    try:
        yield
    except StoreError:
        raise  # some of them are errors of the system too
    except lmdb.MapFullError as error:
        message = "the database is full; open it with a larger map_size, in bytes"
        raise StoreUnavailableError(message) from error
    except lmdb.Error as error:
        raise StoreUnavailableError(f"the database can't be used: {error}") from error
    except OSError as error:
        raise StoreUnavailableError(f"the folder can't be used: {error.strerror}") from error


def _after_fork() -> None:
    # The child may not use what its parent opened, and LMDB doesn't open a file twice in a process. To close
    # it would end the parent's transactions, whose pages other writers could then use again.
    global _lock
    _lock = threading.Lock()
    for place, each in list(_opened.items()):
        if each.running:
            each.inherited = True
        else:
            each.env.close()
            del _opened[place]


os.register_at_fork(after_in_child=_after_fork)
