"""Whether there is anything where a store is read: a mistyped path must not look like an empty store."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from holdall.cli.errors import describe, warn
from holdall.cli.stores import address, open_at, spoken, store_name
from holdall.errors import BlobNotFoundError, StoreUnavailableError, UnsupportedOperation
from holdall.files import path_in
from holdall.layers.layer import Layer
from holdall.store import Store


@contextmanager
def read_from(place: str) -> Generator[Store]:
    """Open the store at a place; raise StoreUnavailableError if it is a folder or a file that doesn't exist.

    To Python such a store is empty. In a crontab its path was mistyped, or its disk isn't mounted, and a
    backup that does nothing must not look like one that had nothing to do.
    """
    scheme, _, location = address(place).partition("://")
    if scheme.lower() == "git+file":
        from urllib.parse import unquote

        # A repository that doesn't exist can't be opened for reading.
        _check_path(os.path.expanduser(unquote(location.partition("?")[0])), place)
    with open_at(place) as store:
        check_there(store, place)
        yield store


@contextmanager
def open_to_read(uri: str | None) -> Generator[Store]:
    """Open the store that the command line names, and warn if nothing is there: it is empty all the same."""
    place = store_name(uri)
    with open_at(place) as store:
        missing = ""
        try:
            check_there(store, place)
        except StoreUnavailableError as error:
            missing = describe(error)
        try:
            yield store
        except BlobNotFoundError as error:
            if missing:
                error.message += f"; {missing}"
            raise
        if missing:
            warn(missing)


def check_there(store: Store, place: str) -> None:
    """Raise StoreUnavailableError if the folder or the file of a store doesn't exist, which the user calls
    `place`."""
    if isinstance(store, Layer):
        from holdall.layers.caching import CachingStore

        below = store._below
        if isinstance(store, CachingStore):
            below = below[:1]
        for number, each in enumerate(below):
            try:
                check_there(each, place)
                return  # one of several replicas is enough; and perhaps a route wasn't used yet
            except StoreUnavailableError:
                if number + 1 == len(below):
                    raise
        return
    # A path of another kind of store may be another host's.
    if not type(store).__module__.startswith("holdall.stores."):
        return
    try:
        path = path_in(store._settings())
    except UnsupportedOperation:
        return
    if path is not None:
        _check_path(path, place)


def _check_path(path: str, place: str) -> None:
    try:
        os.stat(path)  # follows links: one to a disk that isn't mounted leads nowhere
    except (FileNotFoundError, NotADirectoryError):
        raise StoreUnavailableError(
            f"there is nothing at {path!r}, where {spoken(place)} would be read: check the spelling, and "
            "whether its disk is mounted"
        ) from None
    except OSError:
        return  # it exists, and the store reports what is wrong with it
