"""Plain JSON by msgspec, where it is installed: the same values as Python's `json`, in a third of the time.

What msgspec would write but not give back (a tuple, an enum, a datetime, a NaN) isn't plain, and is left to
`JsonSerializer`. So is what msgspec refuses to read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from gc import get_referents
from importlib import import_module
from marshal import dumps
from typing import Any, Final, NamedTuple

from holdall.values.packages import present

MISSING: Final = object()

_LEAVES: Final[frozenset[Any]] = frozenset((str, int, float, bool, type(None)))
_CONTAINERS: Final[frozenset[Any]] = frozenset((dict, list))
_PLAIN: Final = _LEAVES | _CONTAINERS
_NONE: Final = type(None)

_CALLS: Final = 100
"""The import of msgspec takes as long as some thousand small documents, so that a program that reads a few
doesn't pay for it."""


_SHORT: Final = 300
"""The bytes of a value that is checked by reading it back."""


class _Library(NamedTuple):
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    errors: tuple[type[BaseException], ...]


library: _Library | None = None
"""msgspec, once it was loaded."""
_calls = 0


def load() -> _Library | None:
    """Return msgspec, if it was imported already or is worth its import."""
    global library, _calls
    if library is None and _calls >= 0:
        _calls += 1
        if "msgspec" not in sys.modules and _calls < _CALLS:
            return None
        if not present("msgspec"):
            _calls = -1
            return None
        try:
            msgspec: Any = import_module("msgspec")
            json: Any = import_module("msgspec.json")
        except ImportError:
            _calls = -1
            return None
        errors = msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError
        library = _Library(json.encode, json.decode, errors)
    return library


def write_plain(value: Any, mark: bytes, depth: int) -> bytes | None:
    """Return a value as plain JSON; None if it isn't plain, or without msgspec.

    Args:
        value: The value.
        mark: What plain JSON doesn't hold.
        depth: The greatest depth of lists and dicts.
    """
    known = library or load()
    if known is None:
        return None
    # Written first: what contains itself isn't walked through.
    try:
        data = known.encode(value)
    # A value of another library may raise anything; whether JSON holds it is said elsewhere.
    except Exception:  # noqa: BLE001
        return None
    if b"$" in data and mark in data:
        return None
    if len(data) < _SHORT and data.count(b"[") + data.count(b"{") <= depth:
        # In less time than it is walked through: marshal refuses what has another type than its own, such as
        # a subclass; of those that it takes, only what is plain is equal once it is read back.
        try:
            dumps(value, 2)
            return data if known.decode(data) == value else None
        except ValueError:
            return None
    nulls = data.count(b"null")
    found = _types_in(value, depth, nulls > 0)
    if found is None:
        return None
    kinds, nones = found
    # A null that isn't a None stands for a NaN or an infinity, or is in a str.
    if nulls != nones and float in kinds and known.decode(data) != value:
        return None
    return data


def _types_in(value: Any, depth: int, counts: bool) -> tuple[set[type[Any]], int] | None:
    """Return the types in a plain value, and the number of its Nones; None if it isn't plain, or may not be:
    dicts with str as keys, lists, str, int, float, bool and None, none of a subclass, down to a depth.

    It goes down level by level, each in a few steps that Python takes in C. What a list or a dict refers to
    are its members; of a dict with another key than an exact str also its keys, so that they are more than
    its length.
    """
    held: list[Any] = [value]
    found: set[type[Any]] = set()
    nones = 0
    for _ in range(depth + 1):
        if counts:
            types = list(map(type, held))
            kinds = set(types)
            nones += types.count(_NONE)
        else:
            kinds = set(map(type, held))
        if not kinds <= _PLAIN:
            return None
        found |= kinds
        if kinds.isdisjoint(_CONTAINERS):
            return found, nones
        if len(kinds) > 1:
            held = [each for each in held if type(each) in _CONTAINERS]
        length = sum(map(len, held))
        held = get_referents(*held)
        if len(held) != length:
            return None
    return None


def plain_reader() -> Callable[[bytes], Any] | None:
    """Return the function that reads plain JSON at once, and raises for what it can't read."""
    known = library or load()
    return None if known is None else known.decode


def read_plain(data: bytes) -> Any:
    """Return the value of JSON without markers; `MISSING` if msgspec can't read it, or isn't there."""
    known = library or load()
    if known is None:
        return MISSING
    try:
        return known.decode(data)
    except known.errors:
        return MISSING
