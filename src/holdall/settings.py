"""The defaults of `get_store`: from the environment, and from `[defaults]` in `holdall.toml`."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, cast

from holdall.errors import InvalidArgumentError
from holdall.uri import typed

PREFIX: Final = "HOLDALL_"
_NESTED: Final = "BACKEND_CONFIG__"
_KINDS: Final[Mapping[str, object]] = {
    "uri": str,
    "serialization_mode": str,
    "default_ttl": float,
    "raise_on_nonexist": bool,
}
KNOWN: Final = (*(f"{PREFIX}{name.upper()}" for name in _KINDS), f"{PREFIX}{_NESTED}NAME")


class Settings(NamedTuple):
    """What was set, and where each setting is from, for messages."""

    uri: str | None
    base: str | None
    """The folder that a relative path in the URI begins at; None is the working directory."""
    options: dict[str, Any]
    """The options of the URI: those of the environment are text, or a dict of options."""
    values: dict[str, Any]
    """`serialization_mode`, `default_ttl` and `raise_on_nonexist`, where they are set."""
    sources: dict[str, str]
    """The variable, or the file and the key, of each."""


def read_settings() -> Settings:
    """Return the defaults: those of the environment, and otherwise of the `holdall.toml` in use.

    Raises:
        InvalidArgumentError: A setting isn't valid; the message names the variable, or the file and the key.
    """
    _warn_of_mistyped()
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, kind in _KINDS.items():
        variable = f"{PREFIX}{name.upper()}"
        if text := os.environ.get(variable):
            try:
                values[name] = typed(name, text, kind)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"{variable}: {error.message}") from None
            sources[name] = variable
    options = dict(_read_nested())
    base = None
    for name, value, folder, source in _of_the_file():
        if name == "backend_config":
            # The options of the file belong to its URI.
            options = {**value, **options} if "uri" not in values or base is not None else options
        elif name not in values:
            values[name], sources[name] = value, source
            base = folder if name == "uri" else base
    return Settings(values.pop("uri", None), base, options, values, sources)


def _of_the_file() -> Iterator[tuple[str, Any, str, str]]:
    """Yield the defaults in `holdall.toml`, the URI first: name, value, folder of the file, and source."""
    from holdall import config

    path = config.find()
    if path is None:
        return
    section = config.load(path).defaults()
    if section is None:
        return
    section.check_names((*_KINDS, "backend_config"))
    for name, kind in _KINDS.items():
        if name in section:
            yield name, section.option(name, kind), os.path.dirname(path), section.where(name)
    if "backend_config" in section:
        if not section.is_table("backend_config"):
            raise section.fault("expected a table of options", "backend_config")
        yield "backend_config", section.value("backend_config"), "", ""


def _read_nested() -> Iterator[tuple[str, Any]]:
    """Yield the options that `HOLDALL_BACKEND_CONFIG__NAME` and `..__NAME__INNER` give."""
    tree: dict[str, Any] = {}
    for variable, text in sorted(os.environ.items()):
        if not variable.startswith(PREFIX + _NESTED):
            continue
        *above, last = variable.removeprefix(PREFIX + _NESTED).lower().split("__")
        if not all((*above, last)):
            raise InvalidArgumentError(f"{variable}: expected the name of an option after each '__'")
        held = tree
        for name in above:
            held = held.setdefault(name, {})
            if not isinstance(held, dict):
                raise InvalidArgumentError(f"{variable}: {name!r} is given as text by another variable too")
            held = cast("dict[str, Any]", held)
        if last in held:
            raise InvalidArgumentError(f"{variable}: {last!r} is given by another variable too")
        held[last] = text
    yield from tree.items()


def _warn_of_mistyped() -> None:
    """Warn of variables that are nearly the name of a setting."""
    ends = [name.upper() for name in _KINDS]
    for variable in sorted(os.environ):
        end = variable.removeprefix(PREFIX)
        if end == variable or end in ends or end.startswith(_NESTED):
            continue
        near = get_close_matches(end, [*ends, "BACKEND_CONFIG"], 1, 0.65)
        if near or end.startswith("BACKEND") or any(name.endswith(f"_{end}") for name in ends):
            warnings.warn(
                f"the environment variable {variable} isn't a setting of get_store, so it is left out; "
                f"known are {', '.join(KNOWN)}",
                UserWarning,
                stacklevel=4,
            )


_variables = re.compile(r"\$(\$)?\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


def expand(uri: str) -> str:
    """Return a URI with its variables filled in: `${NAME}`, `${NAME:-default}`; `$${` is a plain `${`.

    Raises:
        InvalidArgumentError: A variable isn't set, and there is no default.

    >>> expand("sqlite:///${HOLDALL_ABSENT:-data}.db")
    'sqlite:///data.db'
    """

    def fill(match: re.Match[str]) -> str:
        escaped, name, default = match[1], match[2], match[3]
        if escaped:
            return match[0][1:]
        if name is None:
            raise InvalidArgumentError(
                "a URI has a '${' that begins no variable: write ${NAME} or ${NAME:-default}, or $${ for a "
                "plain '${'"
            )
        value = os.environ.get(name)
        if not value and default is not None:
            value = default
        if value is None:
            raise InvalidArgumentError(
                f"the environment variable {name}, which the URI names, isn't set; set it, or write "
                f"${{{name}:-default}}"
            )
        return value

    return _variables.sub(fill, uri) if "${" in uri else uri
