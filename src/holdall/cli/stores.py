"""The store that a command line names: from its text to an open store."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from holdall.cli.errors import UsageFault, describe, warn
from holdall.errors import StoreError
from holdall.opening import from_uri
from holdall.store import Store
from holdall.uri import reference


@contextmanager
def open_store(uri: str | None) -> Generator[Store]:
    """Open the store that the command line names, and close it whatever happens.

    A close that fails is an error.
    """
    with open_at(store_name(uri)) as store:
        yield store


@contextmanager
def open_at(place: str) -> Generator[Store]:
    """Open the store at a URI, a path or a configured name, and close it whatever happens."""
    store = from_uri(address(place))
    try:
        yield store
    except BaseException:
        try:
            store.close()
        except StoreError as second:
            warn(describe(second))
        raise
    store.close()


def address(text: str) -> str:
    """Return the URI or path that a command line means by a store; a bare name may be in `holdall.toml`."""
    if not text.startswith((".", "~")) and not {"/", ":"} & set(text):
        # Even what can't be a name: a file that names a store so is refused, and no such folder is made.
        from holdall import config

        path = config.find()
        if path is not None:
            stores = config.load(path)
            if text in stores:
                return f"{text}:"
            from difflib import get_close_matches

            near = get_close_matches(text, stores.names(), 1)
            if near and not os.path.lexists(text):
                raise UsageFault(
                    f"there is no folder {text!r}, and {path} names no such store; did you mean "
                    f"{near[0]!r}? A new folder is './{text}'"
                )
    return text


def is_store(text: str) -> bool:
    """Return whether this can only be a store, where a key may be given too.

    No key has an empty segment, or one of dots; a configured store takes precedence over a key with a colon.
    """
    if "://" in text or text in (".", "..") or text.startswith(("/", "./", "../")):
        return True
    named = reference(text)
    if named is None:
        return False
    from holdall import config

    path = config.find()
    return path is not None and named.name in config.load(path)


def store_name(uri: str | None) -> str:
    """Return the URI, path or configured name that the command line or HOLDALL_URI gives."""
    uri = uri or os.environ.get("HOLDALL_URI")
    if not uri:
        raise UsageFault(
            "no store was named: give --store URI (such as ./data or sqlite:///file.db), or set HOLDALL_URI"
        )
    return uri
