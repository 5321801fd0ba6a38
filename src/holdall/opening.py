"""From a URI, a path or a name to a store: what `Store.from_uri` does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from holdall.errors import InvalidArgumentError
from holdall.store import Store
from holdall.uri import Reference, layer_options, layered, open_uri, reference, schemes

__all__ = ["from_uri"]


def from_uri(uri: str | os.PathLike[str], /, **options: Any) -> Store:
    """Open the store that a URI, a path, or a name of `holdall.toml` names; see `Store.from_uri`.

    Every store has the options `prefix` (a folder of it, as a `PrefixStore`) and `readonly` (a
    `ReadOnlyStore`), unless its own opener has one of that name.

    >>> from_uri("memory://?prefix=logs/&readonly=1")
    ReadOnlyStore(PrefixStore(MemoryStore(), prefix='logs/'))
    """
    named = reference(uri) if isinstance(uri, str) else None
    return open_uri(uri, options) if named is None else _open_named(named, options)


def _open_named(named: Reference, options: Mapping[str, Any]) -> Store:
    # Imported here, since most stores are opened without the file.
    from holdall import config

    if named.folder.startswith("/"):
        raise InvalidArgumentError(
            f"'{named.name}:{named.folder}' is neither a URI nor a path: a URI begins with {named.name}://, "
            f"a folder of the store {named.name!r} is '{named.name}:a/folder'"
        )
    # Known before the file is looked for, so that bad options open nothing.
    layers = layer_options(named, options)
    path = config.find()
    if path is None:
        raise InvalidArgumentError(f"{_unknown(named)}; {config.nowhere()}")
    stores = config.load(path)
    if named.name not in stores.names():
        raise InvalidArgumentError(f"{_unknown(named)}; {stores.offer(named.name)}")
    return layered(stores.open(named.name), named.folder, **layers)


def _unknown(named: Reference) -> str:
    if named.name.lower() in schemes():
        hint = f"a URI begins with {named.name}://; for a path write './{named.name}:...'"
    else:
        hint = f"for a path with a colon write './{named.name}:...'"
    return f"no store is named {named.name!r} ({hint})"
