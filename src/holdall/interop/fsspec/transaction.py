"""The files of a transaction of fsspec, which are put together at its end."""

from __future__ import annotations

from typing import Any, BinaryIO, cast

from holdall.blob import Item
from holdall.errors import BlobExistsError, ConcurrencyError, StoreError, UnsupportedOperation
from holdall.files import SpooledWriter
from holdall.interop.loading import load
from holdall.store import ABSENT, Info, Store

_Transaction: Any = load("fsspec.transaction").Transaction


class Deferred(SpooledWriter):
    """A file that is written in a transaction: closing it puts nothing, and discarding it leaves it out.

    Args:
        key: Which.
        new: Whether no blob may be there at the end of the transaction.
        attributes: The options of `Store.put` for its time to live, content type and metadata.
    """

    def __init__(self, key: str, new: bool, attributes: dict[str, Any]) -> None:
        super().__init__(lambda pieces: None)
        self.key, self.new, self.attributes = key, new, attributes
        self.finished: BinaryIO | None = None
        """What was written, once the file is closed."""

    def _publish(self) -> None:
        self._spool.seek(0)
        self.finished = self._spool

    def forget(self) -> None:
        """Free what was written."""
        self.discard()
        self._spool.close()


class Transaction(_Transaction):
    """Puts all blobs at its end, in one transaction of the store if it has one.

    Its `files` are pairs: what the caller writes to, which may encode text or compress, and the `Deferred`
    below it.
    """

    def start(self) -> None:
        """Begin it.

        Raises:
            UnsupportedOperation: Another one of this file system, perhaps in another thread, has begun.
        """
        mine = object()
        # Two threads may begin at the same time; fsspec would forget the files of the first.
        if cast("dict[str, object]", self.fs._begun).setdefault("by", mine) is not mine:
            raise UnsupportedOperation(
                "a transaction of this file system has begun already, here or in another thread: end it "
                "first, or use another HoldallFileSystem(store) for this one"
            )
        parent: Any = super()
        parent.start()

    def complete(self, commit: bool = True) -> None:
        """End it: put all files, or none."""
        files: list[tuple[Any, Deferred]] = [*self.files]
        self.files.clear()
        try:
            if commit:
                for file, _ in files:
                    # One that is still open ends with the transaction.
                    file.close()
                _put_all(self.fs.store, [deferred for _, deferred in files])
        finally:
            for file, deferred in files:
                file.discard()
                deferred.forget()
            self.fs._intrans = False
            self.fs._transaction = None
            self.fs._begun.clear()


def _put_all(store: Store, files: list[Deferred]) -> None:
    last: dict[str, Deferred] = {}
    for file in files:
        if file.finished is None:  # it was discarded
            continue
        key = cast(str, file.key)
        if key in last:
            if file.new:
                raise BlobExistsError("this transaction writes the blob already", key=key)
            # What the first expects, with the bytes of the last.
            file.new = last[key].new
        last[key] = file
    created: list[Info] = []
    many: dict[str, Item[BinaryIO]] = {}
    try:
        for key, file in last.items():
            data = cast(BinaryIO, file.finished)
            if file.new:
                created.append(store.put(key, data, expect=ABSENT, **file.attributes))
            else:
                many[key] = Item(data, **file.attributes)
        if many:
            store.put_many(many)
    except BaseException as error:
        _take_back(store, created, error)
        raise


def _take_back(store: Store, created: list[Info], error: BaseException) -> None:
    """Delete new blobs, unless somebody else has replaced them, and note in the error those that stay."""
    for info in created:
        try:
            store.delete(info.key, expect=info.etag)
        except ConcurrencyError:
            continue
        except StoreError as why:
            error.add_note(f"{info.key!r} was put before, and couldn't be deleted again: {why}")
