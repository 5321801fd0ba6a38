"""Stores by name: `holdall.toml`, a file that describes whole stacks of layers.

```toml
[stores.models]
uri = "s3://bucket/models"
prefix = "v1"
checksum = "sha256"
cache = { uri = "./cache", mode = "write-back", max_bytes = 1_000_000_000 }
encrypt = { key = "env:MODELS_KEY" }
compress = { codec = "zstd", level = 3 }
ttl = 3600
readonly = false
trace = true

[stores.safe]
replicas = { near = "models:", far = "sqlite:///${BACKUP:-backup.db}" }
options = { write = 1 }

[stores.site]
routes = { "logs/" = "safe:logs", "" = "./site" }
```

`Store.from_uri("models:")` opens a stack, `"models:a/folder"` a folder of it, `"models:?readonly=1"` the
stack read-only; in the file a name stands wherever a URI may. Paths in it are relative to it. The file is
the one that `HOLDALL_CONFIG` names; or `holdall.toml` in the working directory or the nearest folder
above it; or `holdall/holdall.toml` in `$XDG_CONFIG_HOME` (`~/.config`).

A stack begins with `uri`, `replicas` (a `FanoutStore`) or `routes` (a `RoutedStore`), whose opener is given
`options`. The layers lie over it in this order, whatever their order in the file:

1. `prefix`: only this folder of it.
2. `checksum`: over what the medium holds, so that every read from it is verified.
3. `cache`: over what is slow. It holds what the medium would, encrypted and compressed.
4. `encrypt`: what is below it sees no plain bytes, the cache and its disk included.
5. `compress`: before bytes are encrypted, since ciphertext doesn't shrink.
6. `ttl`: over the cache, so that no cache keeps a blob alive.
7. `readonly`: nothing below is changed through it; the cache still fills.
8. `trace`: the calls as they are made.

For another order, build one named store over another: a cache of plain bytes is `cache` over
`uri = "secret:"`.

`${NAME}` in any string is an environment variable, `${NAME:-text}` has a default, `$$` is a dollar. A string
made of variables may stand where a number or a boolean does. Errors never show the values of
variables.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from difflib import get_close_matches
from importlib import import_module
from inspect import Parameter, signature
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeGuard, Union, cast, get_args, get_origin, get_type_hints
from urllib.parse import unquote

from holdall.errors import InvalidArgumentError, StoreError, StoreUnavailableError
from holdall.store import Store
from holdall.uri import (
    NAME_RULE,
    is_store_name,
    known_options,
    layer_options,
    layered,
    open_uri,
    reference,
    schemes,
    typed,
)

if TYPE_CHECKING:
    from holdall.layers.layer import Layer

_NAME = "holdall.toml"
_VARIABLE = "HOLDALL_CONFIG"

_fillings = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|)")

_BASES: Mapping[str, str] = {
    "uri": "",
    "replicas": "fanout:FanoutStore",
    "routes": "routed:RoutedStore",
}
"""What a stack begins with, and the module and the class of the layer that it is."""
_OVER: Mapping[str, str] = {
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


def load(path: str | os.PathLike[str] | None = None) -> Config:
    """Read a configuration: a file, or the one that is found.

    Args:
        path: The file; by default the one of this environment and working directory.

    Raises:
        InvalidArgumentError: The file doesn't exist, or isn't valid; the message names the file and the key.
            Or others could have written it: a file must belong to this user or root, and be writable by
            no other user; a file of another user is used only if `HOLDALL_CONFIG` names it.
        StoreUnavailableError: The file can't be read.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "holdall.toml")
    ...     _ = file.write_text('[stores.pad]\\nuri = "memory://"\\nprefix = "v1"')
    ...     load(file).open("pad")
    PrefixStore(MemoryStore(), prefix='v1/')
    """
    import tomllib

    path = find() if path is None else path
    if path is None:
        raise InvalidArgumentError(nowhere())
    path = os.path.abspath(path)
    named = bool(os.environ.get(_VARIABLE)) and path == find()
    source = f", which {_VARIABLE} names" if named else ""
    try:
        with open(path, "rb") as file:
            _check_owner(path, os.fstat(file.fileno()), named)
            parsed = tomllib.load(file)
    except FileNotFoundError:
        raise InvalidArgumentError(f"there is no file {path}{source}") from None
    except OSError as error:
        raise StoreUnavailableError(f"{path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path} isn't valid TOML: {error}") from error
    return Config(path, parsed)


def _check_owner(path: str, found: os.stat_result, named: bool) -> None:
    """Refuse a file that another user could have written, who would choose where this user's blobs and the
    variables of this user's environment go."""
    # A group with the number of its only member lets in no other user.
    others = stat.S_IWOTH if found.st_gid == found.st_uid else stat.S_IWOTH | stat.S_IWGRP
    if found.st_mode & others:
        raise InvalidArgumentError(
            f"{path} can be written by other users, so it isn't used; check it, then run: chmod go-w {path}"
        )
    if not named and found.st_uid not in (os.geteuid(), 0):
        raise InvalidArgumentError(
            f"{path} belongs to another user (uid {found.st_uid}), so it isn't used; if you trust it, set "
            f"{_VARIABLE}={path}"
        )


def find() -> str | None:
    """Return the path of the configuration in use, or None."""
    given = os.environ.get(_VARIABLE)
    if given:
        return os.path.abspath(os.path.expanduser(given))
    for path in _places():
        if os.path.isfile(path):
            return path
    return None


def nowhere() -> str:
    """Return a message that no configuration was found, and where it was looked for."""
    return (
        f"there is no {_NAME} in the working directory or above it, no {_of_the_user()}, "
        f"and {_VARIABLE} isn't set"
    )


def _places() -> Iterator[str]:
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = ""
    while folder:
        yield os.path.join(folder, _NAME)
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    yield _of_the_user()


def _of_the_user() -> str:
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "holdall", _NAME)


class Config:
    """The stores that a file names; `load` reads one.

    Args:
        path: The file: paths in it are relative to its folder, and errors name it.
        tables: Its contents.

    Raises:
        InvalidArgumentError: It holds other tables than `stores`.
    """

    def __init__(self, path: str, tables: Mapping[str, object]) -> None:
        self.path = path
        top = _Section(self, (), tables, [])
        top.check_names(("stores",))
        self._stores: Mapping[str, object] = top.table("stores") if "stores" in tables else {}
        for name in self._stores:
            if not is_store_name(name):
                raise top.fault(
                    f"the name of a store {NAME_RULE}",
                    "stores",
                    name,
                )

    def __repr__(self) -> str:
        return f"Config({self.path!r}, stores={self.names()})"

    def names(self) -> list[str]:
        """Return the names of the stores that can be opened, sorted."""
        return sorted(self._stores)

    def open(self, name: str) -> Store:
        """Open a store with all its layers; closing it closes everything that was opened for it.

        Raises:
            InvalidArgumentError: The file lacks the store, or its table, or that of a store below it, isn't
                valid; the message names the file and the key.
        """
        return _Building(self).stack(name)

    def __contains__(self, name: object) -> bool:
        return name in self._stores

    def offer(self, name: str) -> str:
        """Return a hint at the stores that the file names instead of an unknown one."""
        if not self._stores:
            return f"{self.path} names no store"
        return f"{self.path} names {', '.join(self.names())}{_meant(name, self._stores)}"

    def section(self, name: str, filled: list[str]) -> _Section:
        """Return the table of one store."""
        top = _Section(self, (), {"stores": self._stores}, filled)
        return top.section("stores").section(name)


class _Section:
    """A table of the file. Its errors name the file and the key.

    Args:
        config: The file.
        path: The keys that lead to the table.
        table: Its contents.
        filled: Gathers what came from variables, so that errors can leave it out.
    """

    def __init__(
        self, config: Config, path: tuple[str, ...], table: Mapping[str, object], filled: list[str]
    ) -> None:
        self._config = config
        self._path = path
        self._table = table
        self._filled = filled

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    @property
    def name(self) -> str:
        """The last of the keys that lead to it."""
        return self._path[-1]

    def where(self, *keys: str) -> str:
        """Return the file and the key, as error messages name them."""
        dotted = ".".join(_spelled(key) for key in (*self._path, *keys))
        return f"{self._config.path}: {dotted}" if dotted else self._config.path

    def fault(self, message: str, *keys: str) -> InvalidArgumentError:
        """An error in this place."""
        return InvalidArgumentError(f"{self.where(*keys)}: {self._redacted(message)}")

    def check_names(self, known: Collection[str]) -> None:
        """Refuse unknown names."""
        for key in self._table:
            if key not in known:
                listed = f"known are {', '.join(known)}" if known else "there are no options"
                raise self.fault(f"unknown; {listed}{_meant(key, known)}", key)

    def section(self, key: str) -> _Section:
        """A table within this one."""
        return _Section(self._config, (*self._path, key), self.table(key), self._filled)

    def table(self, key: str) -> Mapping[str, object]:
        value = self._table[key]
        if not _is_table(value):
            raise self.fault(f"a table, not {_kind_of(value)}", key)
        return value

    def is_table(self, key: str) -> bool:
        return _is_table(self._table[key])

    def is_flag(self, key: str) -> bool:
        """Return whether the value is a boolean, or a string of variables, which may become one."""
        value = self._table[key]
        if isinstance(value, str) and "$" in value:
            return self.value(key, bool) is not self.value(key)
        return isinstance(value, bool)

    def text(self, key: str) -> str:
        """A string, its variables filled in."""
        value = self._table[key]
        if not isinstance(value, str):
            raise self.fault(f"a string, not {_kind_of(value)}", key)
        return self._fill(value, key)

    def value(self, key: str, hint: object = Any) -> object:
        """A value of any kind, the variables of all strings in it filled in.

        A string made of variables becomes what the hint asks for.
        """
        value = self._table[key]
        if isinstance(value, str):
            text = self._fill(value, key)
            if "$" not in value or hint is Any:
                return text
            try:
                return typed(key, text, hint)
            except InvalidArgumentError:
                return text
        if _is_table(value):
            inner = self.section(key)
            return {name: inner.value(name) for name in inner}
        if isinstance(value, list):
            inner = self._numbered(key, cast("list[object]", value))
            return [inner.value(name) for name in inner]
        return value

    def checked(self, key: str, hint: object) -> object:
        """A value as an option takes it."""
        value = self.value(key, hint)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if not _SIMPLE.issuperset(kinds) or any(_fits(value, kind) for kind in kinds):
            return value
        wanted = dict.fromkeys(name for kind, name in _KINDS if kind in kinds)
        raise self.fault(f"{' or '.join(wanted)}, not {_kind_of(self._table[key])}", key)

    def entries(self, key: str) -> _Section:
        """A table, or a list as a table by its numbers."""
        value = self._table[key]
        if isinstance(value, list):
            return self._numbered(key, cast("list[object]", value))
        if not _is_table(value):
            raise self.fault(f"a list or a table, not {_kind_of(value)}", key)
        return self.section(key)

    def flag(self, key: str) -> bool:
        """A boolean."""
        value = self.value(key, bool)
        if not isinstance(value, bool):
            raise self.fault(f"true or false, not {_kind_of(self._table[key])}", key)
        return value

    @contextmanager
    def blame(self, key: str, options: Collection[str] = (), under: str | None = None) -> Generator[None]:
        """Errors of what is built from a key name it; if they speak of one of its options, that one.

        Args:
            key: The key.
            options: The options given with it.
            under: The key of their table, if it is another.
        """
        try:
            yield
        except StoreError as error:
            message = self._redacted(str(error))
            named = [option for option in options if re.search(rf"\b{re.escape(option)}\b", message)]
            where = self.where(under or key, *named) if len(named) == 1 else self.where(key)
            if isinstance(error, InvalidArgumentError):
                told = InvalidArgumentError(f"{where}: {message}")
            else:
                told = error
                told.message, told.key = f"{where}: {message}", None
                told.args = (told.message,)
            if self._filled:
                # A traceback would show what caused it.
                told.__cause__ = None
                raise told from None
            if told is error:
                raise
            raise told from error

    def _numbered(self, key: str, values: list[object]) -> _Section:
        table = {str(number): value for number, value in enumerate(values)}
        return _Section(self._config, (*self._path, key), table, self._filled)

    def _fill(self, text: str, key: str) -> str:
        def filling(match: re.Match[str]) -> str:
            name, default = match[1], match[2]
            if name is None:
                if match[0] == "$$":
                    return "$"
                raise self.fault("a lone '$'; write ${NAME} for a variable, $$ for a dollar", key)
            value = os.environ.get(name) or default
            if value is None and name in os.environ and default is None:
                value = ""
            if value is None:
                raise self.fault(f"the environment variable {name} isn't set", key)
            if value and value != default:
                self._filled.append(value)
            return value

        return _fillings.sub(filling, text)

    def _redacted(self, message: str) -> str:
        for secret in sorted(_secrets(self._filled), key=len, reverse=True):
            # A digit or two may be part of anything.
            edges = (r"(?<!\w)", r"(?!\w)") if len(secret) < 4 else ("", "")
            message = re.sub(re.escape(secret).join(edges), "***", message)
        return message


def _secrets(filled: Collection[str]) -> set[str]:
    """Return the values of variables, in every form in which a message may show them."""
    shown = {"true", "false", *schemes()}
    secrets: set[str] = set()
    for value in filled:
        parts = [part for part in re.split(r"[/?&=@:#]+", value) if len(part) > 3]
        for text in (value, *parts):
            secrets |= {text, unquote(text), repr(text)[1:-1]}
    return {secret for secret in secrets if secret.lower() not in shown}


class _Building:
    """One store being opened: what is open so far, to be closed if the rest fails."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = os.path.dirname(config.path)
        self._trail: list[str] = []
        self._filled: list[str] = []
        self._opened: list[Store] = []

    def stack(self, name: str) -> Store:
        """The whole stack, or nothing."""
        if name not in self._config.names():
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
        section.check_names((*_BASES, "options", *_OVER))
        self._trail.append(name)
        # All that can be known of the layers is checked before anything is opened.
        layers = [self._layer(section, key) for key in _OVER if key in section]
        store = self._base(section)
        for layer in layers:
            store = layer(store)
        self._trail.pop()
        return store

    def _base(self, section: _Section) -> Store:
        given = [key for key in _BASES if key in section]
        if len(given) != 1:
            what = " and ".join(given) or "nothing"
            raise section.fault(f"expected one of uri, replicas and routes, got {what}")
        base = given[0]
        if base == "uri":
            return self._from_uri(section, "uri", "options" if "options" in section else None)
        kind = _imported(section, base)
        options: dict[str, object] = {}
        if "options" in section:
            options = _taken(section.section("options"), _hints(kind, 1))
        entries = section.entries(base) if base == "replicas" else section.section(base)
        if not list(entries):
            raise section.fault("it names no store", base)
        stores = {key: self._from_uri(entries, key) for key in entries}
        with section.blame(base, options, "options"):
            return self._owning(kind(stores, **options), *stores.values())

    def _from_uri(self, section: _Section, key: str, options: str | None = None) -> Store:
        text = section.text(key)
        named = reference(text)
        if named is None:
            given: dict[str, object] = {}
            if options is not None:
                with section.blame(key):
                    known = known_options(text)
                given = _taken(section.section(options), known)
            with section.blame(key, given, options):
                return self._kept(open_uri(text, given, self._folder))
        if options is not None:
            raise section.fault(
                f"expected options only with a URI; set the options of {named.name!r} in its own table",
                options,
            )
        if named.name not in self._config.names():
            raise section.fault(f"no store is named {named.name!r}; {self._config.offer(named.name)}", key)
        if named.name in self._trail:
            circle = [*self._trail[self._trail.index(named.name) :], named.name]
            raise section.fault(f"a store can't be made of itself: {' -> '.join(circle)}", key)
        with section.blame(key):
            layers = layer_options(named, {})
        store = self._open_name(named.name)
        with section.blame(key):
            return self._kept(layered(store, named.folder, **layers))

    def _layer(self, section: _Section, key: str) -> Callable[[Store], Store]:
        """Return what lays the layer of a key over a store."""
        kind = _imported(section, key)
        if key == "cache":
            return self._cache(section, kind)
        known = _parameters(kind, 1)
        options: dict[str, object] = {}
        if section.is_flag(key) and all(each.default is not each.empty for each in known):
            if not section.flag(key):
                return lambda store: store
        elif section.is_table(key):
            options = self._options(section.section(key), key, kind)
        elif known and known[0].kind is Parameter.POSITIONAL_OR_KEYWORD:
            bare = known[0].name
            options = {bare: section.checked(key, _hints(kind, 1)[bare])}
        else:
            raise section.fault("true, false or a table", key)
        if key == "encrypt":
            options |= {name: self._located(options[name]) for name in ("key", "names") if name in options}
        if key == "trace":
            # Named as in the file, so that the spans of two stacks can be distinguished.
            options.setdefault("name", section.name)
        return lambda store: self._over(section, key, options, kind, store)

    def _located(self, key: object) -> object:
        """A key of `encrypt`: where it is a file, relative to this one, as all paths here."""
        if isinstance(key, dict):
            return {name: self._located(each) for name, each in cast("dict[str, object]", key).items()}
        if isinstance(key, str) and key.startswith("file:") and len(key) > len("file:"):
            return "file:" + os.path.join(self._folder, os.path.expanduser(key[len("file:") :]))
        return key

    def _options(self, section: _Section, key: str, kind: Callable[..., object]) -> dict[str, object]:
        """Return the options that the table of a layer gives."""
        if key != "encrypt" or "keys" not in section:
            return _taken(section, _hints(kind, 1))
        if "key" in section:
            raise section.fault("give key or keys, not both")
        section.table("keys")
        return {**_taken(section, _hints(kind, 1), ("keys",)), "key": section.value("keys")}

    def _cache(self, section: _Section, kind: Callable[..., Layer]) -> Callable[[Store], Store]:
        place, key, options = section, "cache", dict[str, object]()
        if section.is_table("cache"):
            place, key = section.section("cache"), "uri"
            if key not in place:
                raise place.fault("a cache has a uri: where it is kept")
            options = _taken(place, _hints(kind, 2), (key,))
        if "uri" in section and place.text(key) == section.text("uri") != "memory://":
            raise place.fault("a store can't be its own cache", key)
        return lambda store: self._over(section, "cache", options, kind, store, self._from_uri(place, key))

    def _over(
        self,
        section: _Section,
        key: str,
        options: dict[str, object],
        kind: Callable[..., Layer],
        *stores: Store,
    ) -> Store:
        with section.blame(key, options if section.is_table(key) else ()):
            return self._owning(kind(*stores, **options), *stores)

    def _owning(self, layer: Layer, *stores: Store) -> Store:
        layer._own(*stores)
        return self._kept(layer)

    def _kept(self, store: Store) -> Store:
        self._opened.append(store)
        return store


def _imported(section: _Section, key: str) -> Callable[..., Layer]:
    module, _, name = {**_BASES, **_OVER}[key].partition(":")
    with section.blame(key):
        return getattr(import_module(f"holdall.layers.{module}"), name)


def _parameters(kind: Callable[..., object], skip: int) -> list[Parameter]:
    """Return the options of a layer; the first parameters are the stores below."""
    return list(signature(kind).parameters.values())[skip:]


def _hints(kind: Callable[..., object], skip: int) -> dict[str, object]:
    """Return the options of a layer, each with its type."""
    hints = get_type_hints(kind.__init__ if isinstance(kind, type) else kind)
    return {each.name: hints.get(each.name, Any) for each in _parameters(kind, skip)}


def _taken(section: _Section, known: Mapping[str, object], beside: tuple[str, ...] = ()) -> dict[str, object]:
    section.check_names((*beside, *known))
    return {name: section.checked(name, known[name]) for name in section if name not in beside}


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _kind_of(value: object) -> str:
    """What TOML calls a value; never the value itself."""
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return "a date or time"


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a number"),
    (float, "a number"),
    (str, "a string"),
    (dict, "a table"),
    (list, "a list"),
)


_SIMPLE = {bool, int, float, str, NoneType, timedelta}
"""The types of options that are checked here; the layer checks the others."""


def _fits(value: object, kind: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return kind is int or kind is float
    return isinstance(kind, type) and isinstance(value, kind)


def _spelled(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_\-]+", key) else f'"{key}"'


def _meant(word: str, known: Collection[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
