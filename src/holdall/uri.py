"""From a URI to a store: the registry of schemes, open to third parties."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, get_args, get_type_hints
from urllib.parse import parse_qsl, unquote

from holdall.errors import InvalidArgumentError
from holdall.store import Store

__all__ = ["from_uri", "register", "schemes"]

ENTRY_POINTS = "holdall.stores"
"""The entry point group: a scheme, and the `Store` class or the function that opens it."""

_BUILT_IN: Mapping[str, str] = {
    "memory": "holdall.stores.memory:MemoryStore",
    "file": "holdall.stores.filesystem:FilesystemStore",
    "hashdir": "holdall.stores.hashdir:HashdirStore",
    "sqlite": "holdall.stores.sqlite:SqliteStore",
    "zip": "holdall.stores.zip:ZipStore",
}

Opener = Callable[..., Store]
"""Called with the location (a str) and the options as keywords."""

_registered: dict[str, Opener] = {}

_uri = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^?]*)(?:\?(.*))?", re.DOTALL).fullmatch
_schemelike = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):(?!/?/)").match


def register(scheme: str, opener: Opener) -> None:
    """Make `scheme://` known in this process; a package does it by the entry point group `holdall.stores`.

    Args:
        scheme: Letters, digits, `+`, `.` and `-` (RFC 3986, section 3.1).
        opener: A `Store` class or a function. It is called with what stands after `scheme://` and before
            `?`, percent-decoded, and with the options as keywords; its keyword parameters with annotations
            of bool, int, float or str are the options that a URI may give.

    >>> from holdall import MemoryStore, Store
    >>> register("scratch", lambda location: MemoryStore(name=location))
    >>> Store.from_uri("scratch://pad")
    MemoryStore(name='pad')
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.\-]*", scheme):
        raise InvalidArgumentError(f"{scheme!r} is no URI scheme")
    _registered[scheme.lower()] = opener


def schemes() -> list[str]:
    """Every scheme that a store can be opened by here."""
    return sorted({*_BUILT_IN, *_registered, *_entry_points()})


def from_uri(uri: str | os.PathLike[str], /, **options: Any) -> Store:
    """The store that a URI or a path names; see `Store.from_uri`."""
    try:
        uri = os.fspath(uri)
    except TypeError:
        raise InvalidArgumentError(f"a URI is a str, not {type(uri).__name__}") from None
    if not isinstance(uri, str) or not uri:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError("a URI is a str such as './data' or 'sqlite:///file.db'")
    match = _uri(uri)
    if match is None:
        wrong = _schemelike(uri)
        if wrong and not os.path.exists(uri):
            raise InvalidArgumentError(
                f"{uri!r} is neither a URI nor a path: a URI begins with {wrong[1]}://; "
                f"for a path with a colon write './{uri}'"
            )
        return _open(_built_in("file"), "file", uri, {}, options)
    scheme, location, query = match[1].lower(), match[2], match[3]
    opener = _opener(scheme)
    if scheme == "sqlite":
        location = _third_slash(uri, location)
    return _open(opener, scheme, unquote(location), _parsed(query), options)


def _third_slash(uri: str, location: str) -> str:
    # As SQLAlchemy has it: three slashes for a relative path, four for an absolute one.
    if not location.startswith("/"):
        raise InvalidArgumentError(
            f"{uri!r}: write sqlite:///relative/file.db, or sqlite:////absolute/file.db"
        )
    return location[1:]


def _parsed(query: str | None) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for name, value in parse_qsl(query or "", keep_blank_values=True):
        if name in parsed:
            raise InvalidArgumentError(f"the option {name!r} is given twice")
        parsed[name] = value
    return parsed


def _opener(scheme: str) -> Opener:
    if scheme in _registered:
        return _registered[scheme]
    if scheme in _BUILT_IN:
        return _built_in(scheme)
    found = _entry_points().get(scheme)
    if found is None:
        raise InvalidArgumentError(
            f"nobody knows the scheme {scheme!r}; known are a path and {', '.join(schemes())}"
        )
    return found.load()


def _built_in(scheme: str) -> Opener:
    module, _, name = _BUILT_IN[scheme].partition(":")
    return getattr(import_module(module), name)


def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {entry.name.lower(): entry for entry in entry_points(group=ENTRY_POINTS)}


def _open(
    opener: Opener, scheme: str, location: str, query: dict[str, str], options: dict[str, Any]
) -> Store:
    make = getattr(opener, "_from_uri", opener)
    known = _options(make)
    for name in (*query, *options):
        if name not in known:
            listed = f"known are {', '.join(sorted(known))}" if known else "it takes none"
            raise InvalidArgumentError(f"{scheme}:// has no option {name!r}; {listed}")
    for name in query:
        if name in options:
            raise InvalidArgumentError(f"the option {name!r} is given twice")
    typed = {name: _typed(name, text, known[name]) for name, text in query.items()}
    return make(location, **typed, **options)


def _options(make: Callable[..., object]) -> dict[str, object]:
    """The names of an opener's options, each with its type."""
    function = make.__init__ if isinstance(make, type) else make
    hints = get_type_hints(function)
    return {
        parameter.name: hints.get(parameter.name, str)
        for parameter in inspect.signature(make).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _typed(name: str, text: str, hint: object) -> object:
    kinds = get_args(hint) or (hint,)
    try:
        if bool in kinds:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                text.lower()
            ]
        for kind in (int, float, str):
            if kind in kinds:
                return kind(text)
    except (KeyError, ValueError):
        wanted = "true or false" if bool in kinds else "a number"
        raise InvalidArgumentError(f"the option {name!r} is {wanted}, not {text!r}") from None
    raise InvalidArgumentError(f"the option {name!r} can't be given in a URI; pass it as a keyword")
