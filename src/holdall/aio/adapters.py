"""Where an `AsyncBlobStore` finds its containers."""

from __future__ import annotations

from os import PathLike
from typing import Protocol

from holdall.aio.store import AsyncStore, store_below
from holdall.arguments import check_type
from holdall.errors import InvalidArgumentError, InvalidKeyError, UnsupportedOperation
from holdall.keys import check_key
from holdall.layers.prefix import PrefixStore
from holdall.opening import from_uri
from holdall.store import Store
from holdall.stores.filesystem import FilesystemStore

__all__ = ["BlobAdapter", "LocalFileAdapter", "StoreAdapter"]


class BlobAdapter(Protocol):
    """What an `AsyncBlobStore` is given: anything that opens a container by its name."""

    def get_container(self, container_name: str) -> Store:
        """Return the blobs of a container as a store, which its caller closes.

        Raises:
            InvalidArgumentError: A container can't have this name.
        """
        ...


class StoreAdapter:
    """Containers in any store: each is a folder of it.

    Args:
        store: A store, or an `AsyncStore`, which stays open; or a URI or a path as `Store.from_uri` takes it,
            which each container opens for itself, and closes.

    >>> from holdall import MemoryStore
    >>> store = MemoryStore()
    >>> StoreAdapter(store).get_container("team/data")["a"] = b"1"
    >>> list(store)
    ['team/data/a']
    """

    def __init__(self, store: Store | AsyncStore | str | PathLike[str]) -> None:
        check_type(store, (Store, AsyncStore, str, PathLike), "a StoreAdapter takes a store, a URI or a path")
        self._store = store_below(store) if isinstance(store, Store | AsyncStore) else store

    def get_container(self, container_name: str) -> Store:
        """Return a folder of the store."""
        if isinstance(self._store, Store):
            return _folder(self._store, container_name, owned=False)
        check_container(container_name)
        return _folder(from_uri(self._store), container_name, owned=True)

    def __repr__(self) -> str:
        return f"StoreAdapter({'...' if self._may_be_secret() else repr(self._store)})"

    def __reduce__(self) -> tuple[object, ...]:
        if self._may_be_secret():
            raise UnsupportedOperation(
                "a URI may hold a password, which is never pickled; make the adapter where it is used, or "
                "make it of a store"
            )
        return StoreAdapter, (self._store,)

    def _may_be_secret(self) -> bool:
        return isinstance(self._store, str) and ":/" in self._store


class LocalFileAdapter:
    """Containers in the file system: each is a folder, and each blob a file.

    Args:
        path: The folder of the containers. It is made by the first write.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        # Opened here too, so that a wrong path is an error at once. It is made absolute.
        self._path = FilesystemStore(path)._given

    def get_container(self, container_name: str) -> Store:
        """Return the folder of this name. Neither `..` nor a symbolic link leads out of it."""
        return _folder(FilesystemStore(self._path), container_name, owned=True)

    def __repr__(self) -> str:
        return f"LocalFileAdapter({str(self._path)!r})"


def check_container(name: object) -> str:
    """Return the name of a container if it can be a folder.

    >>> check_container("../data")
    Traceback (most recent call last):
    holdall.errors.InvalidArgumentError: '../data' can't be the name of a container: a key has no segment '..'
    """
    check_type(name, str, "the name of a container must be a str")
    try:
        return check_key(name)
    except InvalidKeyError as error:
        raise InvalidArgumentError(f"{name!r} can't be the name of a container: {error.message}") from None


def _folder(store: Store, name: str, owned: bool) -> Store:
    folder = PrefixStore(store, check_container(name))
    if owned:
        folder._own(store)
    return folder
