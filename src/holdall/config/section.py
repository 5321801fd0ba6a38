"""A table of `holdall.toml`: values are checked; errors name the file and the key, and show no variable."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, TypeGuard, Union, cast, get_args, get_origin
from urllib.parse import unquote

from holdall.errors import InvalidArgumentError, StoreError
from holdall.uri import schemes, typed

_fillings = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|)")


class Section:
    """A table of the file.

    Args:
        file: The path of the file.
        path: The keys that lead to the table.
        table: Its contents.
        filled: Gathers the values of variables, so that errors can leave them out.
    """

    def __init__(
        self, file: str, path: tuple[str, ...], table: Mapping[str, object], filled: list[str]
    ) -> None:
        self._file = file
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
        dotted = ".".join(_spell(key) for key in (*self._path, *keys))
        return f"{self._file}: {dotted}" if dotted else self._file

    def fault(self, message: str, *keys: str) -> InvalidArgumentError:
        """Return an error that names the file and the key."""
        return InvalidArgumentError(f"{self.where(*keys)}: {self._redact(message)}")

    def check_names(self, known: Collection[str]) -> None:
        """Refuse unknown names."""
        for key in self._table:
            if key not in known:
                listed = f"known are {', '.join(known)}" if known else "no options are taken here"
                raise self.fault(f"unknown; {listed}{hint_at(key, known)}", key)

    def section(self, key: str) -> Section:
        """Return a table in this one."""
        return Section(self._file, (*self._path, key), self.table(key), self._filled)

    def table(self, key: str) -> Mapping[str, object]:
        value = self._table[key]
        if not _is_table(value):
            raise self.fault(f"expected a table, got {_kind_of(value)}", key)
        return value

    def is_table(self, key: str) -> bool:
        return _is_table(self._table[key])

    def is_flag(self, key: str) -> bool:
        """Return whether the value is a boolean, or a string of variables that becomes one."""
        value = self._table[key]
        return isinstance(self.value(key, bool) if isinstance(value, str) else value, bool)

    def text(self, key: str) -> str:
        """Return a string with its variables filled in."""
        value = self._table[key]
        if not isinstance(value, str):
            raise self.fault(f"expected a string, got {_kind_of(value)}", key)
        return self._fill(value, key)

    def value(self, key: str, hint: object = Any) -> object:
        """Return a value of any kind, with the variables of all strings in it filled in; a string made of
        variables becomes what the hint asks for."""
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
            inner = self._number(key, cast("list[object]", value))
            return [inner.value(name) for name in inner]
        return value

    def option(self, key: str, hint: object) -> object:
        """Return a value that an option of this type takes."""
        value = self.value(key, hint)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if not _SIMPLE.issuperset(kinds) or any(_fits(value, kind) for kind in kinds):
            return value
        wanted = dict.fromkeys(name for kind, name in _KINDS if kind in kinds)
        raise self.fault(f"expected {' or '.join(wanted)}, got {_kind_of(self._table[key])}", key)

    def entries(self, key: str) -> Section:
        """Return a table, or a list as a table by its numbers."""
        value = self._table[key]
        if isinstance(value, list):
            return self._number(key, cast("list[object]", value))
        if not _is_table(value):
            raise self.fault(f"expected a list or a table, got {_kind_of(value)}", key)
        return self.section(key)

    @contextmanager
    def blame(self, key: str, options: Collection[str] = (), under: str | None = None) -> Generator[None]:
        """Make the errors of what is built from a key name it, or the one of its options that they mention.

        Args:
            key: The key.
            options: The options given with it.
            under: The key of their table, if it is another.
        """
        try:
            yield
        except StoreError as error:
            message = self._redact(str(error))
            named = [option for option in options if re.search(rf"\b{re.escape(option)}\b", message)]
            where = self.where(under or key, *named) if len(named) == 1 else self.where(key)
            error.message, error.key = f"{where}: {message}", None
            if self._filled:
                raise error from None  # a traceback would show what caused it
            raise

    def _number(self, key: str, values: list[object]) -> Section:
        table = {str(number): value for number, value in enumerate(values)}
        return Section(self._file, (*self._path, key), table, self._filled)

    def _fill(self, text: str, key: str) -> str:
        def fill(match: re.Match[str]) -> str:
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

        return _fillings.sub(fill, text)

    def _redact(self, message: str) -> str:
        for secret in sorted(_secrets(self._filled), key=len, reverse=True):
            # A short value may be part of any word.
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


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _kind_of(value: object) -> str:
    """Return what TOML calls a value, without the value."""
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
"""The types of options that are checked here; layers check the others."""


def _fits(value: object, kind: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return kind is int or kind is float
    return isinstance(kind, type) and isinstance(value, kind)


def _spell(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_\-]+", key) else f'"{key}"'


def hint_at(word: str, known: Collection[str]) -> str:
    """Return the end of a message: which of the known words was perhaps meant."""
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
