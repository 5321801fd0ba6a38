"""The comparison of a value with its restored form: values, types, and what `==` ignores."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from holdall.values.packages import instance


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of the same types at all levels. All NaNs are the same.

    >>> same([1, {"a": float("nan")}], [1, {"a": float("nan")}]), same([1], [True]), same((), [])
    (True, False, False)
    """
    return difference(one, other) is None


def difference(given: Any, back: Any) -> str | None:
    """Return where and how two values differ; None if they are the same.

    Equal isn't enough: `1`, `1.0` and `True` are three values, and so are `0.0` and `-0.0`, `Decimal("1.0")`
    and `Decimal("1.00")`, a member of an enum and its value, dicts in another order, and the first and the
    second 2:30 of a night in which the clocks go back. Of an aware datetime, the local time and the
    offset count, but not the name of the zone, which formats such as YAML don't keep. Models, dataclasses and
    Structs are compared field by field, whatever their `__eq__` says; of a Pydantic model, also which
    fields were set. The message shows no values, which may be secrets.

    >>> difference({"roles": ["admin", 1]}, {"roles": ["admin", 1.0]})
    "['roles'][1] would come back as a float, not as an int"
    """
    try:
        return next(_differences(given, back, "", set()), None)
    except RecursionError:
        return "it is nested too deep to be compared"


def type_name(value: object) -> str:
    """Return the type of a value, with an article: `an int`, `a numpy.ndarray`; for None it is `None`."""
    if value is None:
        return "None"
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    name = f"{module}{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def place_of(value: Any, wanted: object) -> str:
    """Return the place of an object in a value, such as `['rows'][3]`; '' for the value itself, or if not
    found."""
    stack: list[tuple[Any, str]] = [(value, "")]
    seen: set[int] = set()
    while stack:
        held, path = stack.pop()
        if held is wanted:
            return path
        if id(held) in seen:
            continue
        seen.add(id(held))
        stack += reversed([(child, path + step) for step, child in children_of(held)])
    return ""


def children_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields, members and keys of a value, each after its place in it."""
    names, kind = _field_names(value), cast("type[Any]", type(value))
    if names is not None:
        yield from ((f".{name}", getattr(value, name, None)) for name in names)
    elif issubclass(kind, dict):
        for key, member in value.items():
            yield f"[{key!r}]", member
            yield f" (a key): {key!r}"[:60], key
    elif issubclass(kind, (list, tuple, deque)):
        yield from ((f"[{at}]", each) for at, each in enumerate(value))
    elif issubclass(kind, (set, frozenset)):
        yield from ((" (a member of this set)", each) for each in value)


def _differences(one: Any, other: Any, path: str, above: set[tuple[int, int]]) -> Iterator[str]:
    """Yield each difference, in the order of the value."""
    if one is other:
        return
    if type(one) is not type(other):
        yield f"{_at(path)} would come back as {type_name(other)}, not as {type_name(one)}"
        return
    pair = id(one), id(other)
    if pair in above:
        yield f"{_at(path)} contains itself"
        return
    above.add(pair)
    names, kind = _field_names(one), cast("type[Any]", type(one))
    if names is not None:
        yield from _of_fields(one, other, names, path, above)
    elif issubclass(kind, _HOLDERS) and len(one) != len(other):
        yield f"{_at(path)} would come back with {len(other)} members, not {len(one)}"
    elif issubclass(kind, dict):
        yield from _of_dicts(one, other, path, above)
    elif issubclass(kind, (list, tuple, deque)):
        yield from _of_sequences(one, other, path, above)
    elif issubclass(kind, (set, frozenset)):
        yield from _of_sets(one, other, path)
    elif not _equal(one, other):
        yield f"{_at(path)} would come back {_how(one, other)}"
    # The attributes of a subclass of list or str.
    if names is None and issubclass(kind, _WITH_MEMBERS) and not issubclass(kind, Enum):
        first, second = getattr(one, "__dict__", None), getattr(other, "__dict__", None)
        if first or second:
            yield from _differences(first or {}, second or {}, f"{path}.__dict__", above)
    above.discard(pair)


def _how(one: Any, other: Any) -> str:
    if isinstance(one, (datetime, time)):
        if one.tzinfo is not None and other.tzinfo is None:
            return "without its time zone"
        if one.replace(fold=0) == other.replace(fold=0) and one.fold != other.fold:
            return f"with fold={other.fold}, not {one.fold}"
    return f"as another {type(one).__qualname__}"


def _at(path: str) -> str:
    return path.removeprefix(".") or "it"


def _of_fields(
    one: Any, other: Any, names: list[str], path: str, above: set[tuple[int, int]]
) -> Iterator[str]:
    if instance(one, "pydantic", "BaseModel"):
        if names != _field_names(other):
            yield f"{_at(path)} would come back with other fields"
            return
        kept = set(names)
        now = other.__pydantic_fields_set__ & kept
        if changed := (one.__pydantic_fields_set__ & kept) ^ now:
            name = min(changed)
            state = "set, which it wasn't" if name in now else "not set, which it was"
            yield f"{_at(f'{path}.{name}')} would come back as {state} (model_fields_set)"
    missing = object()
    for name in names:
        first, second = getattr(one, name, missing), getattr(other, name, missing)
        if first is not second and missing in (first, second):
            yield f"{_at(f'{path}.{name}')} would be {'missing' if second is missing else 'there'}"
            continue
        yield from _differences(first, second, f"{path}.{name}", above)


def _field_names(value: object) -> list[str] | None:
    """Return the written fields of a model, a dataclass or a Struct; None for other values."""
    if isinstance(value, type):
        return None
    kind = cast("Any", type(value))
    if instance(value, "pydantic", "BaseModel"):
        fields = [name for name, field in kind.model_fields.items() if not field.exclude]
        return [*fields, *(cast("Any", value).__pydantic_extra__ or ())]
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(kind.__struct_fields__) if instance(value, "msgspec", "Struct") else None


def _of_dicts(
    one: dict[Any, Any], other: dict[Any, Any], path: str, above: set[tuple[int, int]]
) -> Iterator[str]:
    if getattr(one, "default_factory", None) is not getattr(other, "default_factory", None):
        yield f"{_at(path)} would come back with another default_factory"
    for (key, first), (second_key, second) in zip(one.items(), other.items(), strict=True):
        if not _plainly_equal(key, second_key) and (
            changed := next(_differences(key, second_key, "", above), None)
        ):
            if second_key in one and key in other and same(set(one), set(other)):
                yield f"the keys of {_at(path)} would come back in another order"
            else:
                yield f"the key {key!r} of {_at(path)}: {changed}"
            return
        if not _plainly_equal(first, second):
            yield from _differences(first, second, f"{path}[{key!r}]", above)


def _of_sequences(one: Any, other: Any, path: str, above: set[tuple[int, int]]) -> Iterator[str]:
    if getattr(one, "maxlen", None) != getattr(other, "maxlen", None):
        yield f"{_at(path)} would come back with another maxlen"
    for at, (first, second) in enumerate(zip(one, other, strict=True)):
        if not _plainly_equal(first, second):
            yield from _differences(first, second, f"{path}[{at}]", above)


_PLAIN: Final = frozenset((str, int, bool, type(None), bytes))


def _plainly_equal(one: Any, other: Any) -> bool:
    """Return whether two values are the same, seen at a glance: most are."""
    return type(one) is type(other) and type(one) in _PLAIN and one == other


def _of_sets(one: set[Any], other: set[Any], path: str) -> Iterator[str]:
    """Yield a difference of two sets of one size. A set that holds `True` holds `1` too, so each member must
    be the same."""
    found = {member: member for member in other}
    for member in one:
        if member in found:
            if (changed := next(_differences(member, found.pop(member), "", set()), None)) is not None:
                yield f"a member of {_at(path)}: {changed}"
            continue
        # A member that equals nothing, such as a NaN, or a time in the hour that a clock repeats.
        twin = next((each for each in found if same(member, each)), found)
        if twin is found:
            yield f"a member of {_at(path)}, {type_name(member)}, would be lost or changed"
            return
        del found[twin]


_HOLDERS: Final = (dict, list, tuple, deque, set, frozenset)
_WITH_MEMBERS: Final = (*_HOLDERS, str, bytes, bytearray, int, float, complex)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values of one type, which hold no others, are the same."""
    if isinstance(one, float):
        return _equal_floats(float(one), float(other))
    if isinstance(one, complex):
        return _equal_floats(one.real, other.real) and _equal_floats(one.imag, other.imag)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, (datetime, time)):
        return _equal_moments(one, other)
    if instance(one, "numpy", "ndarray"):
        return _equal_arrays(one, other)
    try:
        if bool(one == other) or (one != one and other != other):
            return True
    # A class may compare to anything, and raise anything.
    except Exception:  # noqa: BLE001
        return False
    kind = cast("type[Any]", type(one))
    if kind.__eq__ is not object.__eq__ or not hasattr(one, "__dict__"):
        return False
    # It is equal to itself only, and its attributes are all that it holds.
    return same(vars(one), vars(other))


def _equal_floats(one: float, other: float) -> bool:
    if one == other:
        return math.copysign(1, one) == math.copysign(1, other)
    return one != one and other != other


def _equal_moments(one: Any, other: Any) -> bool:
    """Compare aware ones by their clocks and offsets: `==` denies equality in the hours of a clock change
    (PEP 495), and treats a time with a ZoneInfo, whose offset depends on the day, as one without a zone."""
    if one != one:
        return bool(other != other)  # pandas.NaT
    zone, back = one.tzinfo, other.tzinfo
    if (zone is None) != (back is None) or one.replace(tzinfo=None) != other.replace(tzinfo=None):
        return False
    if zone is None or (isinstance(one, time) and one.utcoffset() is None):
        return one.fold == other.fold and _zone_key(zone) == _zone_key(back)
    try:
        offsets = one.utcoffset(), other.utcoffset()
    except (OverflowError, ValueError):
        # At the ends of the calendar, where the clock of UTC would leave it.
        return _zone_key(zone) == _zone_key(back)
    return offsets[0] == offsets[1]


def _zone_key(zone: Any) -> Any:
    return zone.key if isinstance(zone, ZoneInfo) and zone.key else zone


def _equal_arrays(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        return all(map(same, one.ravel().tolist(), other.ravel().tolist()))
    return one.tobytes() == other.tobytes() or bool(
        ((one == other) | ((one != one) & (other != other))).all()
    )
