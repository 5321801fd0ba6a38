"""From the tables of `holdall.toml` to an open store with its layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, cast

from holdall.config.section import Section
from holdall.errors import InvalidArgumentError, StoreError
from holdall.plugins import LAYERS as PLUGINS
from holdall.plugins import failure_of, find_plugin, plugin_names
from holdall.store import Store
from holdall.uri import known_options, layer_options, layered, open_uri, read_hints, reference

if TYPE_CHECKING:
    from holdall.config import Config
    from holdall.layers.layer import Layer

BASES: Mapping[str, str] = {
    "uri": "",
    "replicas": "fanout:FanoutStore",
    "routes": "routed:RoutedStore",
}
"""What a stack begins with, and the module and the class of the layer that it is."""
LAYERS: Mapping[str, str] = {
    "prefix": "prefix:PrefixStore",
    "checksum": "checksum:ChecksumStore",
    "cache": "caching:CachingStore",
    "encrypt": "encrypted:EncryptedStore",
    "compress": "compressed:CompressedStore",
    "ttl": "expiring:ExpiringStore",
    "readonly": "readonly:ReadOnlyStore",
    "trace": "traced:TracedStore",
}
"""The layers, from the lowest up. The options of each are those of its constructor: a bare value means the
first one, if it may be given by position, and `true` is enough if none is required."""


_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Building:
    """Opens one store with its layers; what is open so far is closed if the rest fails."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = os.path.dirname(config.path)
        self._trail: list[str] = []
        self._filled: list[str] = []
        self._opened: list[Store] = []

    def stack(self, name: str) -> Store:
        """Open the whole stack, or nothing."""
        if name not in self._config:
            raise InvalidArgumentError(f"no store is named {name!r}; {self._config.offer(name)}")
        try:
            return self._open_name(name)
        except BaseException as error:
            for store in reversed(self._opened):
                try:
                    store.close()
                except StoreError as second:
                    error.add_note(f"closing what was opened before failed too: {type(second).__name__}")
            raise

    def _open_name(self, name: str) -> Store:
        section = self._config.section(name, self._filled)
        order = _order(section)
        self._trail.append(name)
        # The options of the layers are checked before anything is opened.
        layers = [self._layer(section, key) for key in order if key in section]
        store = self._base(section)
        for layer in layers:
            store = layer(store)
        self._trail.pop()
        return store

    def _base(self, section: Section) -> Store:
        given = [key for key in BASES if key in section]
        if len(given) != 1:
            what = " and ".join(given) or "nothing"
            raise section.fault(f"expected one of uri, replicas and routes, got {what}")
        base = given[0]
        if base == "uri":
            return self._from_uri(section, "uri", "options" if "options" in section else None)
        kind = _import(section, base)
        options = _take(section.section("options"), _hints(kind, 1)) if "options" in section else {}
        entries = section.entries(base) if base == "replicas" else section.section(base)
        if not list(entries):
            raise section.fault("expected at least one store", base)
        stores = {key: self._from_uri(entries, key) for key in entries}
        with section.blame(base, options, "options"):
            return self._own(kind(stores, **options), *stores.values())

    def _from_uri(self, section: Section, key: str, options: str | None = None) -> Store:
        text = section.text(key)
        named = reference(text)
        if named is None:
            given: dict[str, object] = {}
            if options is not None:
                with section.blame(key):
                    known = known_options(text)
                given = _take(section.section(options), known)
            with section.blame(key, given, options):
                return self._keep(open_uri(text, given, self._folder))
        if options is not None:
            wrong = f"expected options only with a URI; set the options of {named.name!r} in its own table"
            raise section.fault(wrong, options)
        if named.name not in self._config:
            raise section.fault(f"no store is named {named.name!r}; {self._config.offer(named.name)}", key)
        if named.name in self._trail:
            circle = [*self._trail[self._trail.index(named.name) :], named.name]
            raise section.fault(f"a store can't be made of itself: {' -> '.join(circle)}", key)
        with section.blame(key):
            layers = layer_options(named, {})
        store = self._open_name(named.name)
        with section.blame(key):
            return self._keep(layered(store, named.folder, **layers))

    def _layer(self, section: Section, key: str) -> Callable[[Store], Store]:
        """Return the function that lays the layer of a key over a store."""
        kind = _import(section, key)
        if key == "cache":
            return self._cache(section, kind)
        known = _parameters(kind, 1)
        options: dict[str, object] = {}
        if section.is_flag(key) and all(each.default is not each.empty for each in known):
            if not section.value(key, bool):
                return lambda store: store
        elif section.is_table(key):
            options = self._options(section.section(key), key, kind)
        elif known and known[0].kind is Parameter.POSITIONAL_OR_KEYWORD:
            bare = known[0].name
            options = {bare: section.option(key, _hints(kind, 1)[bare])}
        else:
            raise section.fault("expected true, false or a table", key)
        for each in known:
            if each.default is each.empty and each.kind not in _VARIADIC and each.name not in options:
                raise section.fault(f"the option {each.name!r} is missing", key)
        if key == "encrypt":
            options |= {name: self._locate(options[name]) for name in ("key", "names") if name in options}
        if key == "trace":
            # The name in the file distinguishes the spans of two stacks.
            options.setdefault("name", section.name)
        return lambda store: self._over(section, key, options, kind, store)

    def _locate(self, key: object) -> object:
        """Return a key of `encrypt`; the path of its file is relative to this file, as all paths in it."""
        if isinstance(key, dict):
            return {name: self._locate(each) for name, each in cast("dict[str, object]", key).items()}
        if isinstance(key, str) and key.startswith("file:") and len(key) > len("file:"):
            return "file:" + os.path.join(self._folder, os.path.expanduser(key[len("file:") :]))
        return key

    def _options(self, section: Section, key: str, kind: Callable[..., object]) -> dict[str, object]:
        """Return the options that the table of a layer gives."""
        if key != "encrypt" or "keys" not in section:
            return _take(section, _hints(kind, 1))
        if "key" in section:
            raise section.fault("give key or keys, not both")
        section.table("keys")
        return {**_take(section, _hints(kind, 1), ("keys",)), "key": section.value("keys")}

    def _cache(self, section: Section, kind: Callable[..., Layer]) -> Callable[[Store], Store]:
        place, key, options = section, "cache", dict[str, object]()
        if section.is_table("cache"):
            place, key = section.section("cache"), "uri"
            if key not in place:
                raise place.fault("expected a uri: where the cache is kept")
            options = _take(place, _hints(kind, 2), (key,))
        if "uri" in section and place.text(key) == section.text("uri") != "memory://":
            raise place.fault("a store can't be its own cache", key)
        return lambda store: self._over(section, "cache", options, kind, store, self._from_uri(place, key))

    def _over(
        self,
        section: Section,
        key: str,
        options: dict[str, object],
        kind: Callable[..., Layer],
        *stores: Store,
    ) -> Store:
        from holdall.layers.layer import Layer

        with section.blame(key, options if section.is_table(key) else ()):
            try:
                made: object = kind(*stores, **options)
            except Exception as error:
                if isinstance(error, StoreError) or _is_own(key):
                    raise
                raise failure_of(getattr(kind, "__qualname__", repr(kind)), error) from error
            if not isinstance(made, Layer):
                raise InvalidArgumentError(f"expected a Layer of the package, got {type(made).__name__}")
            return self._own(made, *stores)

    def _own(self, layer: Layer, *stores: Store) -> Store:
        layer._own(*stores)
        return self._keep(layer)

    def _keep(self, store: Store) -> Store:
        self._opened.append(store)
        return store


def check_layer(name: str) -> None:
    """Check that the layer that a package brings by an entry point can be used.

    Raises:
        StoreError: It can't; the message says why.
    """
    if _is_own(name):
        raise InvalidArgumentError(f"it isn't used, since {name!r} is a key of holdall's own; rename it")
    _brought(name)


def _is_own(key: str) -> bool:
    return key in BASES or key in LAYERS or key == "options"


def _order(section: Section) -> list[str]:
    """Return the layers of a stack from the lowest up; those of other packages lie below `readonly`."""
    # Other packages are looked at only for a key that isn't known.
    brought = [key for key in section if not _is_own(key)]
    for key in brought:
        with section.blame(key):
            plugin = find_plugin(PLUGINS, key)
        if plugin is None:
            others = (each for each in plugin_names(PLUGINS) if not _is_own(each))
            section.check_names((*BASES, "options", *LAYERS, *others))
    order = list(LAYERS)
    order[order.index("readonly") : order.index("readonly")] = sorted(brought)
    return order


def _import(section: Section, key: str) -> Callable[..., Layer]:
    with section.blame(key):
        if not _is_own(key):
            return _brought(key)
        module, _, name = {**BASES, **LAYERS}[key].partition(":")
        return getattr(import_module(f"holdall.layers.{module}"), name)


def _brought(name: str) -> Callable[..., Layer]:
    """Import a layer of another package."""
    from holdall.layers.layer import Layer

    plugin = find_plugin(PLUGINS, name)
    kind: Any = plugin.load() if plugin else None
    if not callable(kind) or (isinstance(kind, type) and not issubclass(kind, Layer)):
        raise InvalidArgumentError(
            f"{plugin} must be a subclass of holdall.layers.layer.Layer, or a function that makes one, "
            f"not {kind!r}"
        )
    return cast("Callable[..., Layer]", kind)


def _parameters(kind: Callable[..., object], skip: int) -> list[Parameter]:
    """Return the options of a layer; the first parameters are the stores below."""
    return list(signature(kind).parameters.values())[skip:]


def _hints(kind: Callable[..., object], skip: int) -> dict[str, object]:
    """Return the options of a layer, each with its type."""
    hints = read_hints(kind)
    return {each.name: hints.get(each.name, Any) for each in _parameters(kind, skip)}


def _take(section: Section, known: Mapping[str, object], others: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the options in a table; it may have other keys, which the caller reads."""
    # A `**` stands for options that only the store itself knows.
    if "**" not in known:
        section.check_names((*others, *known))
    return {name: section.option(name, known.get(name, Any)) for name in section if name not in others}
