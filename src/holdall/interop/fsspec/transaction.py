"""The files of a transaction of fsspec, which are put together at its end."""

from __future__ import annotations

from typing import IO, Any, cast

from holdall.files import SpooledWriter
from holdall.interop.loading import load
from holdall.store import ABSENT, Store

__all__ = ["Deferred", "Transaction"]

_Transaction: Any = load("fsspec.transaction").Transaction


class Deferred(SpooledWriter):
    """A file that is written in a transaction: closing it puts nothing, and discarding it leaves it out."""

    def __init__(self, key: str, new: bool) -> None:
        super().__init__(lambda pieces: None)
        self.key, self.new = key, new
        self.finished: IO[bytes] | None = None
        """What was written, once the file is closed."""

    def _publish(self) -> None:
        self._spool.seek(0)
        self.finished = self._spool

    def forget(self) -> None:
        """Free what was written."""
        self.discard()
        self._spool.close()


class Transaction(_Transaction):
    """Puts all blobs at its end, in one transaction of the store if it has one."""

    def complete(self, commit: bool = True) -> None:
        files: list[Deferred] = [*self.files]
        self.files.clear()
        try:
            if commit:
                for file in files:
                    # One that is still open ends with the transaction.
                    file.close()
                _put_all(self.fs.store, files)
        finally:
            for file in files:
                file.forget()
            self.fs._intrans = False
            self.fs._transaction = None


def _put_all(store: Store, files: list[Deferred]) -> None:
    finished = [(cast(str, file.key), file.new, file.finished) for file in files if file.finished]
    for key, new, data in finished:
        if new:
            # One that is there already fails the rest, of which nothing is put then.
            store.put(key, data, expect=ABSENT)
    many = {key: data for key, new, data in finished if not new}
    if many:
        store.put_many(many)
