"""The identities of stores, and where their bytes lie."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary

from holdall.errors import UnsupportedOperation
from holdall.files import path_in
from holdall.layers.layer import Layer
from holdall.layers.prefix import PrefixStore
from holdall.store import Store
from holdall.stores.filesystem import FilesystemStore

_process = os.urandom(8).hex()
_tokens: WeakKeyDictionary[Store, str] = WeakKeyDictionary()


def identity(store: Store, *, resolve: bool = False) -> object:
    """Return the identity of a store in any process, as JSON, without its secrets.

    The identity of a store in the memory of this process is valid as long as the store exists. With `resolve`
    links in a path are resolved; journals were written without.
    """
    kind = type(store)
    here = [kind.__qualname__, _process, os.getpid()]
    try:
        made, settings = store.__reduce__(), store._settings()
    except UnsupportedOperation:
        return [*here, _tokens.setdefault(store, os.urandom(8).hex())]
    known = {name: _spell(value, resolve) for name, value in settings.items() if name not in kind._secrets}
    if kind.__reduce__ not in (Store.__reduce__, Layer.__reduce__):
        # Such as one in the memory of this process, or over an object that only this process has.
        plain = all(_is_plain(value) for name, value in settings.items() if name not in kind._secrets)
        if not plain or cast("tuple[object, ...]", made[1])[:1] != (kind,):
            return [*here, known, repr(made[1])]
    if resolve and (path := path_in(settings)) is not None:
        known["path"] = os.path.realpath(path)
    return [kind.__qualname__, known]


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _spell(value: object, resolve: bool) -> object:
    if isinstance(value, Store):
        return identity(value, resolve=resolve)
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {
            str(name): _spell(each, resolve) for name, each in cast("Mapping[object, object]", value).items()
        }
    if isinstance(value, list | tuple):
        return [_spell(each, resolve) for each in cast("list[object]", value)]
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    # The address of a function or an object differs in each process.
    return name_of(value if callable(value) else type(value))


def name_of(function: Any) -> str:
    """Return the module and the name of a function, a class or an object that can be called."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"


FILES = "files"


def region(store: Store, tail: str = "") -> tuple[object, str]:
    """Return the store at the bottom, and the start of its keys, or of the paths of its files."""
    if isinstance(store, PrefixStore):
        return region(store._store, store._prefix + tail)
    if type(store) is FilesystemStore:
        return FILES, os.path.realpath(store._given).rstrip("/") + "/" + tail
    # One file has many names, and stores in it may have different settings.
    if (path := path_of(store)) is not None:
        try:
            found = os.stat(path)
        except OSError:
            return path, tail
        return (found.st_dev, found.st_ino), tail
    # One server, for any user; its keys begin with the prefix.
    try:
        settings = store._settings()
    except UnsupportedOperation:
        settings = {}
    if isinstance(server := settings.get("server"), str):
        return ("server", server.rpartition("@")[2]), f"{settings.get('prefix', '')}{tail}"
    return identity(store), tail


def leaves(store: Store, tail: str) -> Iterator[tuple[object, str]]:
    """Return the stores that hold the bytes, below all layers, and the start of the keys in each."""
    if not isinstance(store, Layer):
        yield region(store, tail)
        return
    tail = store._place(tail)
    for below in store._below:
        yield from leaves(below, tail)


def path_of(store: Store) -> str | None:
    """Return the file or the folder that holds a store, if one does."""
    if type(store) is FilesystemStore:
        return None
    try:
        path = path_in(store._settings())
    except UnsupportedOperation:
        return None
    return None if path is None else os.path.realpath(path)


def token_of(store: Store) -> str:
    """Return the token of a store, as `Store.token`."""
    # Their imports take longer than most commands need to begin, and most never ask for a token.
    import hashlib
    import json

    text = json.dumps(identity(store, resolve=True), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def are_one_place(one: Store, other: Store) -> bool:
    """Return whether the bytes of two stores lie in the same place, as far as that can be seen."""
    if one is other:
        return True
    here, there = list(leaves(one, "")), list(leaves(other, ""))
    return all(place in there for place in here) and all(place in here for place in there)
