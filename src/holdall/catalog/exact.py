"""Which values a format gives back exactly: equal, and of their types."""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from holdall.catalog.canonical import dumps, plain_json, sorted_json
from holdall.values.json import _add_marks, _is_plain, _UnheldError
from holdall.values.packages import instance
from holdall.values.tensors import SafetensorsSerializer

_tensors = SafetensorsSerializer()

_LEAVES: Final = frozenset((
    str, int, float, bool, type(None), complex, bytes, bytearray, date, timedelta, UUID, Decimal,
    PurePosixPath, PureWindowsPath, PosixPath, WindowsPath,
))  # fmt: skip
_LISTS: Final = frozenset((list, tuple, set, frozenset))
_PLAIN: Final = _LEAVES | _LISTS | {dict, None}
JSON_TYPES: Final = (_LEAVES | _LISTS | {datetime, time}) - {str, bytes, bytearray}
"""The types whose values may be JSON, besides dict."""


def json_of(value: Any) -> tuple[bytes, bytes] | None:
    """Return a value as JSON and as canonical JSON; None if JSON wouldn't give it back as it is.

    Raises:
        SerializationError: It is nested too deep, or contains itself.
    """
    try:
        if _is_plain(value, set()):
            try:
                return dumps(value).encode(), plain_json(value)
            except UnicodeEncodeError:
                return None  # a lone surrogate
            except ValueError:
                pass  # a NaN, an infinity or a huge int
        elif not _is_exact(value):
            return None
        marked = _add_marks(value, set())
        return dumps(marked).encode(), sorted_json(marked)
    except (UnicodeEncodeError, RecursionError, _UnheldError):
        return None


def _is_exact(value: Any) -> bool:
    """Return whether the house's JSON gives a value back with the types of all its parts."""
    kind = cast("type[Any]", type(value))
    if kind in _LEAVES:
        return True
    if kind is dict:
        members = cast("dict[Any, Any]", value)
        return all(map(_is_exact, members)) and all(map(_is_exact, members.values()))
    if kind in _LISTS:
        return all(map(_is_exact, value))
    if kind is datetime or kind is time:
        return _keeps_zone(value.tzinfo)
    return False


def _keeps_zone(zone: Any) -> bool:
    if zone is None or type(zone) is ZoneInfo:
        return True
    # One with a name of its own would lose it.
    return type(zone) is timezone and zone.tzname(None) == timezone(zone.utcoffset(None)).tzname(None)


def framework_of(members: dict[Any, Any]) -> str:
    """Return the library of the values of a dict of tensors."""
    return "torch" if any(instance(each, "torch", "Tensor") for each in members.values()) else "numpy"


def are_tensors(members: dict[Any, Any]) -> bool:
    """Return whether safetensors gives a dict of arrays or tensors back: they are of one library, without
    gradients or what a subclass adds, and in the byte order of the format."""
    kind: Any = next(map(type, members.values()), None)
    if kind in _PLAIN:
        return False
    array: Any = getattr(sys.modules.get("numpy"), "ndarray", None)
    tensor: Any = getattr(sys.modules.get("torch"), "Tensor", None)
    if kind not in (array, tensor) or any(type(each) is not kind for each in members.values()):
        return False
    if not _tensors.accepts(members):
        return False
    if kind is tensor:
        return not any(each.requires_grad for each in members.values())
    return all(each.dtype.byteorder != ">" for each in members.values())
