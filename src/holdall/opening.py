"""From a URI, a path or a name to a store: what `Store.from_uri` and `get_store` do."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from holdall.errors import InvalidArgumentError, InvalidTypeError
from holdall.store import Store
from holdall.uri import (
    LAYERS,
    Reference,
    known_options,
    layer_options,
    layered,
    open_uri,
    reference,
    schemes,
    typed,
)

if TYPE_CHECKING:
    # Values and settings aren't needed to open a store of bytes, and take longer to import than all the rest.
    from holdall.settings import Settings
    from holdall.values.store import ValueStore

_OF_VALUES: Final = ("raise_on_nonexist", "pickles", "pickle_key", "serializers")
"""The options of `get_store` that are those of a `ValueStore`."""
_PLAIN: Final = frozenset((str, int, float, bool, type(None)))
"""The types of options that hold no others."""


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
            # Not the rest of it, where a password may be.
            f"'{named.name}:/...' is neither a URI nor a path: a URI begins with {named.name}://, "
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


def get_store(
    uri: str | os.PathLike[str] | Store | None = None,
    *,
    serialization_mode: str | None = None,
    **options: Any,
) -> ValueStore:
    """Open a store of Python values: what most programs begin with.

    What isn't given is as the environment says (`HOLDALL_URI`, `HOLDALL_SERIALIZATION_MODE`,
    `HOLDALL_DEFAULT_TTL`, `HOLDALL_RAISE_ON_NONEXIST`), or else the table `[defaults]` of `holdall.toml`. The
    options of the default URI are `HOLDALL_BACKEND_CONFIG__NAME`, or `backend_config` in the table. In a URI
    `${NAME}` is an environment variable, and `${NAME:-text}` one with a default.

    Args:
        uri: A path, a URI, the name of a stack in `holdall.toml` such as `models:`, or an open store, which
            stays open when this is closed.
        serialization_mode: How values become bytes, if a call doesn't say: `auto` (the default), `raw`,
            `json`, `pickle`, `typed`, or the name of a serializer; see `ValueStore`.
        options: `default_ttl`, how long a value lives whose put has no ttl, in seconds or as a timedelta, as
            in an `ExpiringStore`; 0 is forever. `raise_on_nonexist`, `pickles`, `pickle_key` and
            `serializers`, as in `ValueStore`. All others, and those of the dict `backend_config`, are options
            of the URI, as in `Store.from_uri`.

    Raises:
        InvalidArgumentError: There is no URI; or a scheme, mode or option is unknown, and the message lists
            those known; or a variable in the URI isn't set.

    >>> store = get_store("memory://")
    >>> store["ada"] = {"born": 1815}
    >>> store["ada"]
    {'born': 1815}
    """
    from holdall.settings import read_settings
    from holdall.values.store import ValueStore

    defaults = read_settings()
    own = {name: options.pop(name) for name in _OF_VALUES if name in options}
    own.setdefault("raise_on_nonexist", defaults.values.get("raise_on_nonexist"))
    # Before anything is opened, the options of values, the mode and the ttl are checked.
    ValueStore(_nothing(), **own)
    mode = serialization_mode
    with _name_setting(defaults.sources.get("serialization_mode") if mode is None else None):
        mode = defaults.values.get("serialization_mode", "auto") if mode is None else mode
        ValueStore(_nothing(), mode)
    ttl = options.pop("default_ttl", None)
    with _name_setting(defaults.sources.get("default_ttl") if ttl is None else None):
        ttl = _check_ttl(defaults.values.get("default_ttl") if ttl is None else ttl)
    store = _open_bytes(uri, defaults, options)
    try:
        if ttl is not None:
            store = _expiring(store, ttl, owned=not isinstance(uri, Store))
        made = ValueStore(store, mode, **own)
    except BaseException:
        if not isinstance(uri, Store):
            store.close()
        raise
    if not isinstance(uri, Store):
        made._owned = store
    return made


def _expiring(store: Store, ttl: Any, *, owned: bool) -> Store:
    from holdall.layers.expiring import ExpiringStore

    layer = ExpiringStore(store, ttl)
    if owned:
        layer._own(store)
    return layer


def open_default() -> Store:
    """Open the store of bytes that the environment names, or `[defaults]` in `holdall.toml`, with the options
    that they give it."""
    from holdall.settings import read_settings

    return _open_bytes(None, read_settings(), {})


@contextmanager
def _name_setting(source: str | None) -> Generator[None]:
    """Make an error of a setting name the variable, or the file and the key, that it is from."""
    try:
        yield
    except InvalidArgumentError as error:
        if source is not None:
            error.message = f"{source}: {error.message}"
            error.key = error.key  # the arguments of the error are made of both
        raise


def _check_ttl(ttl: Any) -> Any:
    """Return a ttl that an `ExpiringStore` takes; None is forever."""
    if ttl is None or (isinstance(ttl, (int, float, timedelta)) and not ttl):
        return None
    from holdall.layers.expiring import ExpiringStore

    ExpiringStore(_nothing(), ttl)
    return ttl


def _nothing() -> Store:
    from holdall.stores.memory import MemoryStore

    return MemoryStore()


def _open_bytes(
    uri: str | os.PathLike[str] | Store | None, defaults: Settings, options: dict[str, Any]
) -> Store:
    """Open the store of bytes that `get_store` was asked for."""
    from holdall.settings import expand

    config = options.pop("backend_config", None)
    if config is not None:
        if not isinstance(config, Mapping):
            raise InvalidTypeError(f"backend_config must be a dict of options, not {type(config).__name__}")
        config = cast("Mapping[str, Any]", config)
        for name in config:
            if name in options:
                raise InvalidArgumentError(f"the option {name!r} is given twice, also in backend_config")
        options.update(config)
    if isinstance(uri, Store):
        if options:
            raise InvalidArgumentError(
                f"an open store takes no options of a URI, got {', '.join(map(repr, options))}"
            )
        return uri
    base = None
    if uri is None:
        if defaults.uri is None:
            raise InvalidArgumentError(
                "no store was named: give get_store() a path or a URI, such as './data' or "
                "'sqlite:///data.db'; or set HOLDALL_URI, or uri in [defaults] of holdall.toml"
            )
        # The variables in the URI of the file are filled in already.
        base = defaults.base
        uri = expand(defaults.uri) if base is None else defaults.uri
        options = {**_convert_options(uri, defaults.options), **options}
    elif isinstance(uri, str):
        uri = expand(uri)
    try:
        if isinstance(uri, str) and base is not None and reference(uri) is None:
            return open_uri(uri, options, base)
        return from_uri(uri, **options)
    except InvalidArgumentError as error:
        if " has no option " in error.message:
            known = ", ".join(("serialization_mode", "default_ttl", "backend_config", *_OF_VALUES))
            error.message += f"; get_store itself has {known}"
            if any(f" has no option {name!r}" in error.message for name in defaults.options):
                error.message += "; see HOLDALL_BACKEND_CONFIG__..., and backend_config in holdall.toml"
            error.key = error.key  # the arguments of the error are made of both
        raise


def _convert_options(uri: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the options that are text, as the environment gives them, to the types that the URI takes."""
    if not options:
        return {}
    known = LAYERS if reference(uri) is not None else known_options(uri)
    found: dict[str, Any] = {}
    for name, value in options.items():
        hint = known.get(name)
        if isinstance(value, dict) and hint is not None and _PLAIN.issuperset(get_args(hint) or (hint,)):
            raise InvalidArgumentError(f"the option {name!r} is one value, not a table of values")
        found[name] = typed(name, value, hint) if isinstance(value, str) and hint is not None else value
    return found
