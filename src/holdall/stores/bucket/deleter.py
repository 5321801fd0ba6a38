"""Deletes of objects, with their outcome: whether there was one, and which."""

from __future__ import annotations

import re
import threading

from holdall.errors import BlobNotFoundError, ConcurrencyError, StoreUnavailableError
from holdall.forks import in_child
from holdall.stopping import away, in_loop
from holdall.stores.bucket.access import Access
from holdall.stores.bucket.clouds import GOOGLE, tag_of
from holdall.stores.bucket.deleting import delete_version
from holdall.stores.bucket.errors import UnknownError

_TRIES = 20
_NOT_XML = re.compile("[\ufffe\uffff]")
# A delete returns whether there was a blob, which no object storage reports: of the threads that delete a key
# of this process, one at a time looks.
_turns = [threading.Lock() for _ in range(1024)]


@in_child
def _after_fork() -> None:
    # Other threads of the parent may have held some.
    _turns[:] = [threading.Lock() for _ in _turns]


class Deleter:
    """The deletes of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def delete(self, name: str) -> bool:
        """Delete an object, whatever version it is; return whether there was one."""
        if not self._access.cloud.silent:
            return self._delete_told(name)
        lock = _turns[hash(name) % len(_turns)]
        if not in_loop():
            with lock:
                return self._delete_if_there(name)
        if not lock.acquire(blocking=False):
            return away(lambda: self.delete(name))
        try:
            return self._delete_if_there(name)
        finally:
            lock.release()

    def _delete_if_there(self, name: str) -> bool:
        try:
            self._access.head(name)
        except BlobNotFoundError:
            return False
        self._access.ask("delete", "delete", name)
        return True

    def _delete_told(self, name: str) -> bool:
        """Delete where the answer says whether there was an object. The request isn't repeated unasked: the
        answer to the second one would be about the first one."""
        for _ in range(_TRIES):
            try:
                self._access.delete(name)
            except BlobNotFoundError:
                return False
            except UnknownError as error:
                try:
                    self._access.head(name)
                except BlobNotFoundError:
                    raise StoreUnavailableError(
                        f"{error.message}; the object is gone, and nobody can tell who deleted it"
                    ) from error
                continue
            return True
        raise StoreUnavailableError(f"{self._access.clients().place} failed {_TRIES} times to delete")

    def delete_if(self, name: str, tag: str) -> bool:
        """Delete an object if it is the version of an ETag; return True.

        Raises:
            ConcurrencyError: It is another version, or there is none.
            StoreUnavailableError: The outcome isn't known.
        """
        for _ in range(_TRIES):
            condition = self._access.condition(name, tag)
            deleted = delete_version(self._access.clients().client, name, condition)
            if deleted:
                return True
            if deleted is None:
                break
            try:
                actual = tag_of(self._access.head(name))
            except BlobNotFoundError:
                break
            if actual != tag:
                raise ConcurrencyError(expected=tag, actual=actual)
            # On Google the same bytes may have been put once more.
            if self._access.cloud is not GOOGLE:
                raise StoreUnavailableError(
                    f"{self._access.clients().place} refuses to delete this version, though it is "
                    "the present one; does another client hold a lease on it?"
                )
        raise ConcurrencyError(expected=tag)

    def delete_all(self, names: list[str]) -> None:
        """Delete objects, in one request but for those whose names XML can't spell."""
        for name in [name for name in names if _NOT_XML.search(name)]:
            self._access.ask("delete", "delete", name)
        if rest := [name for name in names if not _NOT_XML.search(name)]:
            self._access.ask("delete", "delete", rest, by="bulk")
