"""What all faces begin with: importing their library, and opening the store that they are given."""

from __future__ import annotations

import os
from typing import Any

from holdall.arguments import check_type
from holdall.errors import MissingDependencyError
from holdall.imports import load_whole
from holdall.store import Store


def load(module: str) -> Any:
    """Import a module of a library that has no types, and whose extra has its name.

    Raises:
        MissingDependencyError: It isn't installed.
    """
    try:
        return load_whole(module)
    except ImportError as error:
        raise MissingDependencyError(missing(module.partition(".")[0])) from error


def missing(extra: str, library: str | None = None) -> str:
    """Return what an error says of a library that isn't installed, and that has the name of its extra unless
    another is given."""
    return f"holdall.interop.{extra} needs {library or extra}: pip install 'holdall[{extra}]'"


def open_store(store: object, face: str) -> Store:
    """Return the store that a face was given, or open its URI or path.

    Raises:
        InvalidTypeError: It is none of these.

    >>> open_store("memory://", "ZarrStore")
    MemoryStore()
    """
    if isinstance(store, Store):
        return store
    expected = f"{face} takes a store, or a URI or a path to open one"
    hint = ""
    if isinstance(getattr(store, "store", None), Store):
        # A ValueStore, which get_store returns, and an AsyncStore have the store that is meant.
        hint = "give its .store"
    elif isinstance(store, type):
        hint = f"{store.__name__} is a class: give what {store.__name__}(...) returns"
    elif type(store).__module__ != "builtins":
        # Other libraries have a MemoryStore, too.
        hint = f"it is of {type(store).__module__}"
    check_type(store, (str, os.PathLike), expected, hint=hint)
    return Store.from_uri(store)  # pyright: ignore[reportArgumentType]
