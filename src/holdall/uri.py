"""From a URI to a store: the registry of schemes, open to third parties."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, cast, get_args, get_type_hints

from holdall.errors import InvalidArgumentError, InvalidKeyError, InvalidTypeError, StoreError
from holdall.keys import check_key
from holdall.paths import checked_path, checked_text
from holdall.plugins import STORES, failure_of, find_plugin, plugin_names
from holdall.store import Store

__all__ = [
    "Reference",
    "check_store",
    "from_uri",
    "is_store_name",
    "known_options",
    "layer_options",
    "layered",
    "open_uri",
    "read_hints",
    "reference",
    "register",
    "schemes",
    "typed",
]

_BUILT_IN: Mapping[str, str] = {
    "memory": "holdall.stores.memory:MemoryStore",
    "file": "holdall.stores.filesystem:FilesystemStore",
    "hashdir": "holdall.stores.hashdir:HashdirStore",
    "sqlite": "holdall.stores.sqlite:SqliteStore",
    "zip": "holdall.stores.zip:ZipStore",
    "git+file": "holdall.stores.git:GitStore",
    "valkey": "holdall.stores.valkey:ValkeyStore",
    "redis": "holdall.stores.valkey:ValkeyStore",
    "rediss": "holdall.stores.valkey:open_tls",
    "valkeys": "holdall.stores.valkey:open_tls",
    "unix": "holdall.stores.valkey:open_socket",
    "s3": "holdall.stores.bucket:open_s3",
    "gs": "holdall.stores.bucket:open_gs",
    "gcs": "holdall.stores.bucket:open_gcs",
    "az": "holdall.stores.bucket:open_az",
    "abfs": "holdall.stores.bucket:open_abfs",
    "r2": "holdall.stores.bucket:open_r2",
    "postgresql": "holdall.stores.sql:SqlStore",
    "postgres": "holdall.stores.sql:SqlStore",
    "http": "holdall.stores.http:open_http",
    "https": "holdall.stores.http:open_https",
}

_NO_SCHEME = "can't be a URI scheme, which is a letter, then letters, digits, '+', '-' or '.'"

Opener = Callable[..., Store]
"""Called with the location (a str) and the options as keywords."""

_registered: dict[str, Opener] = {}

_ESCAPED = ("http", "https", "postgresql", "postgres")
"""Of these the location stays as it is written: a `%2F` in a password isn't a `/` of the path."""
_KEYED = ("memory", "hashdir", "sqlite", "zip", "git+file")
"""Of these a `#` ends the location, and a key follows, in the URI of one value. In a `file://` path a
`#` is part of a name, also to `Resource`."""

_uri = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^?]*)(?:\?(.*))?", re.DOTALL).fullmatch
# A name has two characters at least, since C: is a drive.
NAME_RULE = "begins with a letter, and has two or more characters, all letters, digits, '_', '-', '+' or '.'"
_NAME = r"[A-Za-z][A-Za-z0-9_+.\-]+"
_name = re.compile(_NAME).fullmatch
_reference = re.compile(rf"({_NAME}):(?!//)([^?]*)(?:\?(.*))?", re.DOTALL).fullmatch

LAYERS: Mapping[str, object] = {"prefix": str, "readonly": bool}
"""The options that every store has: a layer over it carries them out."""


class Reference(NamedTuple):
    """A parsed `name:folder?options`: a store of `holdall.toml`, and a folder of it."""

    name: str
    folder: str
    query: str | None


def register(scheme: str, opener: Opener, *, replace: bool = False) -> None:
    """Make `scheme://` known in this process; a package does it by the entry point group `holdall.stores`.

    Args:
        scheme: Letters, digits, `+`, `.` and `-` (RFC 3986, section 3.1).
        opener: A `Store` class or a function. It is called with the text after `scheme://` and before
            `?`, percent-decoded, and with the options as keywords. Its keyword-only parameters are the
            options that a URI may give: a bool, int, float or str as annotated, or text if not annotated.
            If its first parameter is called `path`, a location in `holdall.toml` is relative to that file.
        replace: Whether it may replace a built-in scheme.

    Raises:
        InvalidArgumentError: This can't be a scheme, or it is built in.

    >>> from holdall import MemoryStore, Store
    >>> register("scratch", lambda location: MemoryStore(name=location))
    >>> Store.from_uri("scratch://pad")
    MemoryStore(name='pad')
    """
    if not isinstance(scheme, str) or not callable(opener):
        raise InvalidTypeError("register takes a scheme (a str) and a Store class or a function")
    if not _is_scheme(scheme):
        raise InvalidArgumentError(f"{scheme!r} {_NO_SCHEME}")
    if scheme.lower() in _BUILT_IN and not replace:
        raise InvalidArgumentError(f"{scheme}:// is built in; choose another scheme, or pass replace=True")
    _registered[scheme.lower()] = opener


def schemes() -> list[str]:
    """Return every scheme that can be opened here."""
    return sorted({*_BUILT_IN, *_registered, *filter(_is_scheme, plugin_names(STORES))})


def check_store(scheme: str) -> None:
    """Check that the store that a package brings by an entry point can be used.

    Raises:
        StoreError: It can't; the message says why.
    """
    if scheme in _BUILT_IN:
        raise InvalidArgumentError(f"it isn't used, since {scheme}:// is built in; it needs another scheme")
    if not _is_scheme(scheme):
        raise InvalidArgumentError(f"{scheme!r} {_NO_SCHEME}")
    _opener(scheme)


def _is_scheme(text: str) -> bool:
    """Return whether a text can be the scheme of a URI (RFC 3986, section 3.1)."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9+.\-]*", text) is not None


def from_uri(uri: str | os.PathLike[str], /, **options: Any) -> Store:
    """Open the store that a URI, a path, or a name of `holdall.toml` names: `Store.from_uri`.

    >>> from_uri("memory://?readonly=1")
    ReadOnlyStore(MemoryStore())
    """
    return Store.from_uri(uri, **options)


def open_uri(uri: str | os.PathLike[str], options: Mapping[str, Any], base: str | None = None) -> Store:
    """Open the store that a URI or a path names; paths are relative to `base` or the working directory."""
    if not isinstance(uri, str):
        # A Path is never a URI.
        return _open(_load_opener("file"), "file", _check_path(uri), {}, options, base)
    if not uri:
        raise InvalidArgumentError(
            "expected a URI or a path, such as './data' or 'sqlite:///file.db', got ''"
        )
    checked_text(uri, "a URI or a path")
    match = _uri(uri)
    if match is None:
        _refuse_half_a_name(uri)
        _refuse_options_of_a_path(uri)
        return _open(_load_opener("file"), "file", uri, {}, options, base)
    scheme, location, query = match[1].lower(), match[2], match[3]
    opener = _opener(scheme)
    if scheme in _KEYED:
        _refuse_key(f"{match[1]}://{location}")
    if scheme == "sqlite":
        location = _third_slash(location)
    decoded = _decode(location, scheme)
    if scheme not in _registered and (scheme in _ESCAPED or _is_of_fsspec(scheme)):
        decoded = location
    return _open(opener, scheme, decoded, _parse_query(query), options, base)


def _refuse_key(uri: str) -> None:
    """Refuse the URI of one value: with its key, the path would be that of another file."""
    place, mark, key = uri.partition("#")
    if mark:
        raise InvalidArgumentError(
            f"{uri!r} names the value {key!r} of a store, which Resource opens: a store is {place!r}; write "
            "%23 for a '#' in a path"
        )


def _check_path(path: object) -> str:
    if isinstance(path, bytes) or not hasattr(path, "__fspath__"):
        raise InvalidTypeError(f"a URI is a str, and a path a str or a Path; got {type(path).__name__}")
    return checked_path(path)


def _refuse_half_a_name(text: str) -> None:
    """Refuse a text that looks like the name of a store but isn't valid: it would become a folder."""
    before, colon, _ = text.partition("/")[0].partition(":")
    if text.startswith(f"{before}://") and before:
        raise InvalidArgumentError(f"{before!r} {_NO_SCHEME}; for a path with a colon write './{before}:...'")
    if colon and not text.startswith((".", "~")):
        raise InvalidArgumentError(
            f"{f'{before}:'!r} can't be the name of a store, which {NAME_RULE}; for a path with a colon "
            f"write './{before}:...'"
        )


_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search


def _decode(text: str, what: str) -> str:
    """Decode the percent-escapes of a text (RFC 3986, section 2.1)."""
    # No message shows the text, which may hold a password.
    if _escape(text):
        raise InvalidArgumentError(
            f"{what}: a '%' without two hexadecimal digits; write %25 for a percent sign"
        )
    if "%" not in text:
        return text  # without urllib, whose import takes long
    from urllib.parse import unquote

    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{what}: its percent-escapes aren't UTF-8") from None
    if "\0" in decoded:
        raise InvalidArgumentError(f"{what}: it has a NUL (%00)")
    return decoded


def _refuse_options_of_a_path(path: str) -> None:
    # Otherwise a store would silently not be read-only, or durable, as the options ask.
    before, mark, query = path.rpartition("?")
    if not mark:
        return
    from urllib.parse import parse_qsl

    known = known_options(path)
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name in known:
            raise InvalidArgumentError(
                f"a path takes no options, got {name!r}: write file://{path}, "
                f"or file://{before}%3F{query} if the path has a '?'"
            )


def known_options(uri: str) -> dict[str, object]:
    """Return the names of the options that a URI or a path takes, each with its type; `**` stands for any
    other name."""
    match = _uri(uri)
    opener = _load_opener("file") if match is None else _opener(match[1].lower())
    own = _options(_maker(opener))
    return {**own, **{name: hint for name, hint in LAYERS.items() if name not in own}}


def reference(uri: str) -> Reference | None:
    """Parse the name of a store of `holdall.toml`, as `models:` or `models:a/folder?readonly=1`; return None
    for any other text.

    >>> reference("models:v1"), reference("./models:v1"), reference("memory://")
    (Reference(name='models', folder='v1', query=None), None, None)
    """
    match = _reference(uri)
    return None if match is None else Reference(match[1], _decode(match[2], f"{match[1]}:"), match[3])


def is_store_name(text: str) -> bool:
    """Return whether a store of `holdall.toml` can have this name: a letter, then letters, digits, `_+.-`."""
    return _name(text) is not None


def layer_options(named: Reference, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options of a store that `holdall.toml` names, and return them."""
    query = _parse_query(named.query)
    for name in (*query, *options):
        if name not in LAYERS:
            raise InvalidArgumentError(
                f"{named.name}: has no option {name!r}; known are {', '.join(LAYERS)}, "
                "and other options belong in holdall.toml"
            )
    _refuse_twice(query, options)
    layers = {**{name: typed(name, text, LAYERS[name]) for name, text in query.items()}, **options}
    if named.folder:
        check_key(named.folder.removesuffix("/"))
    _check_layers(layers)
    return layers


def layered(
    store: Store, folder: str = "", *, prefix: str | None = None, readonly: bool | None = None
) -> Store:
    """Lay the layers that the options ask for over a store; they close it, since nothing else uses it."""
    from holdall.layers.layer import Layer

    def over(layer: Layer) -> Store:
        layer._own(store)
        return layer

    try:
        for each in (folder, prefix):
            if each:
                from holdall.layers.prefix import PrefixStore

                store = over(PrefixStore(store, each))
        if readonly:
            from holdall.layers.readonly import ReadOnlyStore

            store = over(ReadOnlyStore(store))
    except BaseException:
        store.close()
        raise
    return store


def _check_layers(layers: Mapping[str, object]) -> None:
    prefix, readonly = layers.get("prefix"), layers.get("readonly")
    if prefix is not None:
        try:
            check_key(prefix.removesuffix("/") if isinstance(prefix, str) else prefix)
        except InvalidKeyError as error:
            message = f"the option 'prefix' is a folder such as 'logs': {error.message}"
            raise InvalidKeyError(message, key=error.key) from None
    if readonly is not None and not isinstance(readonly, bool):
        raise InvalidArgumentError(f"the option 'readonly' is true or false, not {readonly!r}")


def _third_slash(location: str) -> str:
    # As in SQLAlchemy: three slashes for a relative path, four for an absolute one.
    if not location.startswith("/"):
        raise InvalidArgumentError(
            "expected sqlite:///relative/file.db, or sqlite:////absolute/file.db: a path after three slashes"
        )
    return location[1:]


def _parse_query(query: str | None) -> dict[str, str]:
    if not query:
        return {}
    from urllib.parse import parse_qsl

    _decode(query, "the options of a URI")
    parsed: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in parsed:
            raise InvalidArgumentError(f"the option {name!r} is given twice")
        parsed[name] = value
    return parsed


def _opener(scheme: str) -> Opener:
    if scheme in _registered:
        return _registered[scheme]
    if scheme in _BUILT_IN:
        return _load_opener(scheme)
    plugin = find_plugin(STORES, scheme)
    if plugin is not None:
        opener: Any = plugin.load()
        if not callable(opener) or (isinstance(opener, type) and not issubclass(opener, Store)):
            raise InvalidArgumentError(
                f"{plugin} must be a subclass of holdall.Store, or a function that opens one, not {opener!r}"
            )
        return cast("Opener", opener)
    if scheme == "holdall" or scheme.startswith("holdall+"):
        # fsspec knows it, but through it a store would be one of less promises.
        raise InvalidArgumentError(
            f"{scheme}:// begins the URLs of pandas and others that use fsspec; here write the URI of the "
            f"store itself: {scheme.removeprefix('holdall+') if '+' in scheme else 'sqlite'}://..."
        )
    from holdall.stores.fsspec.opening import opener_of

    opener = opener_of(scheme)
    if opener is None:
        from difflib import get_close_matches

        near = get_close_matches(scheme, schemes(), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InvalidArgumentError(
            f"unknown scheme {scheme!r}{hint}; expected a path, or one of {', '.join(schemes())}, or, with "
            "pip install 'holdall[fsspec]', another that fsspec knows, such as sftp"
        )
    return opener


def _is_of_fsspec(scheme: str) -> bool:
    return scheme not in _BUILT_IN and scheme not in _registered and scheme not in plugin_names(STORES)


def _load_opener(scheme: str) -> Opener:
    module, _, name = _BUILT_IN[scheme].partition(":")
    return getattr(import_module(module), name)


def _open(
    opener: Opener,
    scheme: str,
    location: str,
    query: dict[str, str],
    options: Mapping[str, Any],
    base: str | None,
) -> Store:
    make = _maker(opener)
    own = _options(make) if query or options else {}
    known = {**LAYERS, **own}
    for name in (*query, *options):
        if name not in known and "**" not in own:
            listed = f"{', '.join(sorted(own))}; for any store " if own else ""
            raise InvalidArgumentError(
                f"{scheme}:// has no option {name!r}; known are {listed}{', '.join(LAYERS)}"
            )
    _refuse_twice(query, options)
    given: dict[str, Any] = {name: typed(name, text, known.get(name, str)) for name, text in query.items()}
    given.update(options)
    layers: dict[str, Any] = {name: given.pop(name) for name in LAYERS if name in given and name not in own}
    _check_layers(layers)
    if base is not None and location and _is_path(make):
        location = os.path.join(base, os.path.expanduser(location))
    is_own = scheme in _BUILT_IN and scheme not in _registered
    if not is_own:
        _check_call(make, scheme, location, given)
    try:
        store = make(location, **given)
    except StoreError:
        raise
    except (ValueError, OverflowError) as error:
        # Such as a port that isn't a number. The text of the error may hold a password, as may its cause.
        kind = type(error).__name__
        raise InvalidArgumentError(
            f"{scheme}:// can't open this location ({kind}); check its host, port and path"
        ) from None
    except Exception as error:
        if is_own:
            raise
        raise failure_of(f"{scheme}:// can't be opened: {_name_of(make)}", error) from error
    if not isinstance(store, Store):
        raise InvalidTypeError(f"the opener of {scheme}:// must return a Store, not {type(store).__name__}")
    return layered(store, **layers)


def _check_call(make: Callable[..., Store], scheme: str, location: str, given: Mapping[str, Any]) -> None:
    """Refuse what another's opener isn't made for."""
    from inspect import signature

    try:
        signature(make).bind(location, **given)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{scheme}:// can't be opened: {error}. {_name_of(make)} is called with the text after '://', "
            "and with the options as keywords; a class that is made otherwise has a classmethod _from_uri"
        ) from None


def _name_of(make: Callable[..., object]) -> str:
    return getattr(make, "__qualname__", repr(make))


def _maker(opener: Opener) -> Callable[..., Store]:
    """Return the function that takes the location: a class's `_from_uri`, unless a subclass has its own
    constructor."""
    for kind in opener.__mro__ if isinstance(opener, type) else ():
        if "_from_uri" in vars(kind):
            break
        if "__init__" in vars(kind):
            return opener
    return getattr(opener, "_from_uri", opener)


def _refuse_twice(query: Mapping[str, str], options: Mapping[str, Any]) -> None:
    for name in query:
        if name in options:
            raise InvalidArgumentError(f"the option {name!r} is given twice")


def _is_path(make: Callable[..., object]) -> bool:
    from inspect import signature

    return next(iter(signature(make).parameters), None) == "path"


def _options(make: Callable[..., object]) -> dict[str, object]:
    """Return the names of an opener's options, each with its type; `**` stands for any other name."""
    # Imported here, since most commands open a path without options.
    from inspect import signature

    hints = read_hints(make)
    options: dict[str, object] = {}
    for parameter in signature(make).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            options[parameter.name] = hints.get(parameter.name, str)
        elif parameter.kind is parameter.VAR_KEYWORD:
            options["**"] = str
    return options


def read_hints(make: Callable[..., object]) -> dict[str, Any]:
    """Return the types of the parameters of a class or a function.

    Raises:
        InvalidArgumentError: Its annotations name what isn't there when it runs.
    """
    try:
        return get_type_hints(make.__init__ if isinstance(make, type) else make)
    except NameError as error:
        raise InvalidArgumentError(
            f"the annotations of {_name_of(make)} can't be read: {error}; what they name must be "
            "imported outside 'if TYPE_CHECKING:'"
        ) from None


_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def typed(name: str, text: str, hint: object) -> object:
    """Convert the text of an option to its type."""
    kinds = get_args(hint) or (hint,)
    try:
        if bool in kinds:
            return _FLAGS[text.lower()]
        for kind in (int, float, str):
            if kind in kinds:
                return kind(text)
    except (KeyError, ValueError):
        wanted = "true or false" if bool in kinds else "a number"
        raise InvalidArgumentError(f"the option {name!r} is {wanted}, not {text!r}") from None
    raise InvalidArgumentError(f"the option {name!r} can't be given in a URI; pass it as a keyword")
