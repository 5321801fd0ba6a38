"""The keys and the metadata that a catalogue takes."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, Final, cast

from holdall.errors import InvalidArgumentError, InvalidKeyError, InvalidKeyTypeError, InvalidTypeError
from holdall.keys import is_utf8

DEEPEST: Final = 32
"""The levels that metadata may have."""
_LONGEST_KEY: Final = 1_024
_DIGITS: Final = 1_000
_LARGE: Final = 1e300
_ONLY_STR: Final = frozenset({str})


def check_entry_key(key: object) -> str:
    """Return a key of a catalogue: any str of 1 to 1,024 bytes in UTF-8 without control characters. Keys are
    kept exactly as they are, and no character has a meaning.

    Raises:
        InvalidKeyError: It can't be a key.

    >>> check_entry_key("../v2.1//")
    '../v2.1//'
    """
    if not isinstance(key, str):
        raise InvalidKeyTypeError(
            f"a key must be a str, not {type(key).__name__}; a catalogue takes the data first: put(data, key)"
        )
    if not key:
        raise InvalidKeyError("a key must have at least one character", key=key)
    check_text(key, "a key", InvalidKeyError)
    if len(key) > _LONGEST_KEY or len(key.encode()) > _LONGEST_KEY:
        raise InvalidKeyError(f"a key must have at most {_LONGEST_KEY:,} bytes in UTF-8: {key[:40]!r}...")
    return str(key)


def check_prefix_of_keys(prefix: object) -> str:
    """Return a prefix of keys; None is the empty one."""
    if prefix is None:
        return ""
    if not isinstance(prefix, str):
        raise InvalidTypeError(f"a prefix must be a str, not {type(prefix).__name__}")
    return prefix


def check_text(text: str, what: str, kind: type[InvalidArgumentError]) -> None:
    """Refuse control characters and lone surrogates."""
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if character < " " or "\x7f" <= character < "\xa0":
            raise kind(f"{what} must have no control characters, and {text[:80]!r} has {character!r}")
        if "\ud800" <= character <= "\udfff":
            raise kind(f"{what} must be valid Unicode, and {text[:80]!r} has a lone surrogate")


def check_object(metadata: object) -> dict[str, Any]:
    """Return a copy of metadata, if it is a JSON object: str to None, bool, int, float, str, lists and
    further objects. Tuples become lists, and NumPy's scalars become Python's.

    Raises:
        InvalidArgumentError: JSON doesn't hold it; the message names where.

    >>> check_object({"accuracy": 0.95, "shape": (3, 4)})
    {'accuracy': 0.95, 'shape': [3, 4]}
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidTypeError(f"metadata must be a mapping, such as a dict, not {type(metadata).__name__}")
    return _copy_object(cast(Mapping[Any, Any], metadata), (), 1)


def _copy_object(given: Mapping[Any, Any], path: tuple[str, ...], depth: int) -> dict[str, Any]:
    if depth > DEEPEST:
        raise InvalidArgumentError(f"metadata may have at most {DEEPEST} levels")
    made: dict[str, Any] = {}
    for name, value in given.items():
        if type(name) is str and name.isascii() and "\0" not in name:
            kind = cast(type[Any], type(value))
            # Of the usual values this is known at once.
            if (
                (value.isascii() and "\0" not in value)
                if kind is str
                else -_LARGE < value < _LARGE
                if kind is float or kind is int
                else kind is bool or value is None
            ):
                made[name] = value
                continue
            if kind is list and depth < DEEPEST and _ONLY_STR.issuperset(map(type, value)):
                text = "".join(value)
                if text.isascii() and "\0" not in text:
                    made[name] = [*value]
                    continue
        if not isinstance(name, str):
            raise InvalidTypeError(
                f"names in metadata must be str, and {_place(path)} has {name!r:.80}, {type(name).__name__}"
            )
        made[_check_value(name, path)] = _copy(value, (*path, name), depth)
    return made


def _is_plain(value: object) -> bool:
    """Return whether a value is taken as it is; of the usual ones this is known at once."""
    if type(value) is str:
        return value.isascii() and "\0" not in value
    if type(value) is float or type(value) is int:
        return -_LARGE < value < _LARGE
    return type(value) is bool or value is None


def _copy(value: Any, path: tuple[str, ...], depth: int) -> Any:
    kind = cast(type[Any], type(value))
    if value is None or kind is bool:
        return value
    if kind is str:
        return _check_value(value, path)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        # Also a float64, which is a float, so that what comes back has the type that JSON gives.
        value = value.item()
        kind = cast(type[Any], type(value))
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        if abs(value) >= 10**_DIGITS:
            raise InvalidArgumentError(f"{_place(path)} is a number of more than {_DIGITS:,} digits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgumentError(
                f"{_place(path)} is {value}, which JSON doesn't hold; leave it out, or give None or a str"
            )
        return float(value)
    if isinstance(value, str):
        return _check_value(str(value), path)
    if isinstance(value, Mapping):
        return _copy_object(cast(Mapping[Any, Any], value), path, depth + 1)
    if isinstance(value, list | tuple):
        if depth >= DEEPEST:
            raise InvalidArgumentError(f"metadata may have at most {DEEPEST} levels")
        items = cast(list[Any], value)
        if all(map(_is_plain, items)):
            return [*items]
        return [_copy(each, (*path, str(at)), depth + 1) for at, each in enumerate(items)]
    hint = "; give its isoformat()" if hasattr(kind, "isoformat") else ""
    raise InvalidTypeError(
        f"metadata must be JSON, and {_place(path)} is {kind.__module__}.{kind.__qualname__}{hint}"
    )


def _check_value(text: str, path: tuple[str, ...]) -> str:
    if not is_utf8(text):
        raise InvalidArgumentError(f"metadata must be valid Unicode, and {_place(path)} has a lone surrogate")
    if "\0" in text:
        raise InvalidArgumentError(
            f"metadata must have no NUL character, which databases don't hold: {_place(path)}"
        )
    return text


def _place(path: tuple[str, ...]) -> str:
    return ".".join(("metadata", *path))[:200]
