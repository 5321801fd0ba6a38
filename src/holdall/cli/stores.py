"""The store that a command line names: from its text to an open store."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdall.cli.errors import UsageFault, describe, warn
from holdall.errors import StoreError
from holdall.opening import from_uri, open_default
from holdall.store import Store
from holdall.uri import reference

if TYPE_CHECKING:
    from holdall.catalog import BlobStore


class Default(str):
    """The URI of the store that is used where none is named: it comes with options, or is relative to the
    folder of `holdall.toml`."""


@contextmanager
def open_at(place: str) -> Generator[Store]:
    """Open the store at a URI, a path or a configured name, and always close it; a close that fails is an
    error."""
    store = open_default() if isinstance(place, Default) else from_uri(address(place))
    with closed_at_end(store):
        yield store


@contextmanager
def closed_at_end(store: Store | BlobStore) -> Generator[None]:
    """Close a store at the end of the block; where the block raised, an error of that is only a warning."""
    try:
        yield
    except BaseException:
        try:
            store.close()
        except StoreError as second:
            warn(describe(second))
        raise
    store.close()


def address(text: str) -> str:
    """Return the URI or path that a command line means by a store; a bare name may be in `holdall.toml`."""
    if isinstance(text, Default) or text.startswith((".", "~")) or {"/", ":"} & set(text):
        return text
    # The file is read even for a text that can't be a name: it is refused if it has a store of such a name,
    # and no folder of that name is made.
    from holdall import config

    path = config.find()
    if path is None:
        return text
    stores = config.load(path)
    if text in stores:
        return f"{text}:"
    from difflib import get_close_matches

    near = get_close_matches(text, stores.names(), 1)
    if near and not os.path.lexists(text):
        raise UsageFault(
            f"{text!r} isn't a folder, and {path} has no store of that name; did you mean {near[0]!r}? "
            f"To make a new folder, write './{text}'"
        )
    return text


_OPTIONS = "HOLDALL_BACKEND_CONFIG__"
_address = re.compile(r"([\w+.-]+://)(?:[^/?#]*@)?([^?#]*)(.*)", re.DOTALL).fullmatch


def spoken(place: str) -> str:
    """Return a URI, a path or a name as messages have it: without a user, a password and options.

    >>> spoken("postgresql://me:secret@host/data"), spoken("s3://bucket/a?secret=x"), spoken("./data")
    ('postgresql://host/data', 's3://bucket/a', './data')
    """
    parts = _address(place)
    return place if parts is None else parts[1] + parts[2]


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


def store_name(option: str | None, argument: str | None = None) -> str:
    """Return the URI, path or configured name that --store, an argument, HOLDALL_URI, or `[defaults]` in
    `holdall.toml` gives."""
    if option is not None and argument is not None:
        raise UsageFault("name the store as an argument or by --store, not both; leave --store out")
    # An empty name, as of a variable that isn't set, must not mean another store.
    given = option if argument is None else argument
    name = default_name() if given is None else given
    if not name:
        raise UsageFault(
            "no store was named: give --store URI (such as ./data or sqlite:///file.db), or set HOLDALL_URI"
        )
    return name


def default_name() -> str | None:
    """Return the store that is used where none is named, as `get_store` has it; None if there is none."""
    name = os.environ.get("HOLDALL_URI")
    if name and "${" not in name and not any(each.startswith(_OPTIONS) for each in os.environ):
        return name
    from holdall import config

    if not name and config.find() is None:
        return None
    from holdall.settings import read_settings

    uri = read_settings().uri
    return None if uri is None else Default(uri)
