"""What a command takes from its line: parameters as data, and the parser of a line that has no mistake.

Typer reads the same data for the help, for completion and for lines with a mistake, which it explains; see
`typed.py`. Its import takes longer than most commands do, so a line without a mistake does without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints


class Parameter:
    """An option, or without names an argument; it stands in the annotation of a command's parameter.

    The annotation says what it is: a bool is a flag, an int a number, a list may be repeated.

    Args:
        names: Such as `--store` and `-s`.
        help: What the help says.
        metavar: What the help calls its value.
        complete: What a shell's Tab offers, as typer's `autocompletion`.
        check: Returns the value, or raises `UsageFault`.
        least: The least number.
    """

    def __init__(
        self,
        *names: str,
        help: str,  # noqa: A002 - as typer calls it
        metavar: str | None = None,
        complete: Callable[..., list[str]] | None = None,
        check: Callable[[Any], Any] | None = None,
        least: int | None = None,
    ) -> None:
        self.names = names
        self.help = help
        self.metavar = metavar
        self.complete = complete
        self.check = check
        self.least = least


class Field(NamedTuple):
    """A parameter of one command."""

    name: str
    hint: Any
    default: Any
    """Without a default, `...`."""
    about: Parameter

    @property
    def kind(self) -> Any:
        """The type of its value where there is one."""
        return get_args(self.hint)[0] if get_origin(self.hint) in (Union, UnionType) else self.hint


def fields(command: Callable[..., Any]) -> Iterator[Field]:
    """Yield what a command takes, in order; a parameter that is a named tuple stands for its fields."""
    hints = get_type_hints(command, include_extras=True)
    if isinstance(command, type):
        names: Sequence[str] = vars(command)["_fields"]
        defaults: dict[str, Any] = vars(command)["_field_defaults"]
    else:
        code = command.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        last = command.__defaults__ or ()
        defaults = dict(zip(names[code.co_argcount - len(last) : code.co_argcount], last, strict=True))
        defaults |= command.__kwdefaults__ or {}
    for name in names:
        if isinstance(hints[name], type):
            yield from fields(hints[name])
        else:
            hint, about = get_args(hints[name])
            yield Field(name, hint, defaults.get(name, ...), about)


class _Mistake(Exception):
    """Typer says what is wrong with the line."""


def parse(words: Sequence[str], known: Sequence[Field]) -> dict[str, Any] | None:
    """Return the values of a command's parameters by name, or None if the line has a mistake.

    Args:
        words: What follows the name of the command.
        known: What the command takes.

    Raises:
        UsageFault: A value isn't what the command takes.
    """
    values: dict[str, Any] = {field.name: field.default for field in known}
    try:
        places = _take_options(words, known, values)
        _take_arguments(places, known, values)
    except _Mistake:
        return None
    for field in known:
        if field.about.check is not None:
            values[field.name] = field.about.check(values[field.name])
    return values


def _take_options(words: Sequence[str], known: Sequence[Field], values: dict[str, Any]) -> list[str]:
    """Take the options out of a line, and return the other words."""
    options = {name: field for field in known for name in field.about.names}
    others: list[str] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            return [*others, *reversed(rest)]
        if word == "-" or not word.startswith("-"):
            others.append(word)
            continue
        is_long = word.startswith("--")
        # A value that is written with its option: --name=value, -nvalue.
        name, has_value, value = word.partition("=") if is_long else (word[:2], word[2:], word[2:])
        field = options.get(name)
        if field is None:
            raise _Mistake
        if field.kind is bool:
            if has_value and (is_long or value.startswith("-")):
                raise _Mistake
            if has_value:
                rest.append(f"-{value}")  # the other flags of a word such as -rf
            values[field.name] = True
            continue
        if not has_value:
            if not rest:
                raise _Mistake
            value = rest.pop()
        values[field.name] = _convert(field, value, values[field.name])
    return others


def _convert(field: Field, text: str, before: Any) -> Any:
    if field.kind == list[str]:
        return [*(before or ()), text]
    if field.kind is int:
        if not (text.isascii() and text.isdecimal() and int(text) >= (field.about.least or 0)):
            raise _Mistake
        return int(text)
    return text


def _take_arguments(places: list[str], known: Sequence[Field], values: dict[str, Any]) -> None:
    for field in known:
        if places and not field.about.names:
            several = field.kind == list[str]
            values[field.name] = places if several else places[0]
            places = [] if several else places[1:]
    if places or ... in values.values():
        raise _Mistake


def invoke(command: Callable[..., Any], values: Mapping[str, Any]) -> object:
    """Run a command with the values of its parameters."""
    given: dict[str, Any] = {}
    for name, hint in get_type_hints(command).items():
        if name in values:
            given[name] = values[name]
        elif isinstance(hint, type) and (group := vars(hint).get("_fields")):
            given[name] = hint(*(values[each] for each in group))
    return command(**given)
