"""URLs of fsspec for the values of a store: the URI of a value after `holdall+`, or `holdall://KEY`."""

from __future__ import annotations

import os
import re
from typing import Any, Final, cast
from urllib.parse import quote, unquote

from holdall.errors import InvalidTypeError
from holdall.resource import BUCKETS, split_uri
from holdall.settings import expand
from holdall.uri import _BUILT_IN

PREFIX: Final = "holdall+"
PROTOCOLS: Final = ("holdall", *(f"{PREFIX}{scheme}" for scheme in _BUILT_IN))
"""The protocols of the file system: of all stores, and of those that a URI opens."""
_FOLDERS: Final = ("file", "http", "https")
"""The schemes whose URIs have no mark between the place of the store and the key."""
_pattern = re.compile(r"[*\[]").search
_secret = re.compile(
    r"//[^/?#]*@|[?&][^=&]*(pass|secret|key|token|sas|cred)[^=&]*=(?!env:|file:)", re.IGNORECASE
).search


class Located(str):
    """The key of a URL, which remembers the store of the URL."""

    place: str


def strip(path: Any) -> Any:
    """Return the key of a path or a URL, or those of a list."""
    if isinstance(path, list):
        return [strip(each) for each in cast("list[Any]", path)]
    if isinstance(path, Located):
        return path
    text = cast(object, os.fspath(path))
    if not isinstance(text, str):
        raise InvalidTypeError(f"a path is a str or a Path, not {type(path).__name__}")
    if not is_url(text):
        return text.removeprefix("holdall://").strip("/")
    place, key = split(text)
    located = Located(key)
    located.place = place
    return located


def is_url(text: str) -> bool:
    """Return whether a text has the URI of a store, which no key has.

    >>> is_url("holdall+sqlite:///x.db"), is_url("holdall+notes.txt")
    (True, False)
    """
    return text.startswith(PREFIX) and "://" in text


def split(url: str) -> tuple[str, str]:
    """Return the URI of the store in a URL, and the key, which is empty in the URL of a store.

    >>> split("holdall+sqlite:///x.db#a/b.csv"), split("holdall+file:///data/*/a.csv")
    (('sqlite:///x.db', 'a/b.csv'), ('file:///data', '*/a.csv'))
    """
    uri = url.removeprefix(PREFIX)
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    if scheme in BUCKETS or scheme in _FOLDERS:
        whole, mark, query = uri.partition("?")
        whole = whole.rstrip("/")
        if scheme in BUCKETS:
            is_place = "/" not in rest.partition("?")[0].strip("/")
        else:
            is_place = not whole.partition("://")[2].strip("/")
            if scheme != "file":
                is_place = is_place or "/" not in whole.partition("://")[2]
            found = _pattern(whole)
            if found:
                # A pattern is for the names in a folder of the store, never of the folder of the store.
                start = whole.rindex("/", 0, found.start()) + 1
                return split_uri(f"{whole[:start]}-{mark}{query}")[0], unquote(whole[start:])
        if is_place:
            return expand(uri), ""
        return split_uri(f"{whole}{mark}{query}")
    place, _, key = uri.partition("#")
    key = key.strip("/")
    return split_uri(f"{place}#{key}") if key else (expand(place), "")


def join(place: str, key: str) -> str:
    """Return the URL of a key in the store of a URI."""
    whole, mark, query = place.partition("?")
    scheme = whole.partition("://")[0].lower()
    # DuckDB looks for the '=' of partitions.
    name = quote(key, safe="/*=,:@+")
    if scheme in BUCKETS or scheme in _FOLDERS:
        return f"{PREFIX}{whole.rstrip('/')}/{name}{mark}{query}"
    return f"{PREFIX}{place}#{name}" if key else f"{PREFIX}{place}"


def relative(place: str, key: str, store: str) -> str | None:
    """Return the key in a store of what has a place and a key in a folder of it; None if it is elsewhere."""
    folder = f"{store.rstrip('/')}/"
    if store.partition("://")[0].lower() not in _FOLDERS or not f"{place}/".startswith(folder):
        return None
    inner = unquote(place[len(folder) :].strip("/"))
    return f"{inner}/{key}" if inner else key


def holds_secret(uri: str) -> bool:
    """Return whether a URI may hold a password or the like, rather than a reference to one.

    >>> holds_secret("valkey://:pw@host"), holds_secret("valkey://host?password=env:PW&db=1")
    (True, False)
    """
    return _secret(uri) is not None
