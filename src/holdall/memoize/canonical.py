"""The canonical form of an argument: bytes that say its type and its value, the same in every process.

Each form is a letter for the type and then what follows it below. Numbers are little-endian, of 8 bytes. A
*field* is a number of bytes, then these bytes; a *list* is a number of forms, then these forms. So no form is
the beginning of another, and forms one after the other can be told apart.

| letter | type | then |
| --- | --- | --- |
| `N`, `T`, `F`, `.` | None, True, False, Ellipsis | nothing |
| `i`, `I` | an int of 64 bits; a larger one | the number; a field of its two's complement |
| `d`, `c` | float, complex | its bits, where all NaNs are one; those of both parts |
| `s`, `b`, `B` | str, bytes, bytearray | a field: UTF-8 (with lone surrogates), or the bytes |
| `t`, `l` | tuple, list | a list |
| `S`, `Z` | set, frozenset | a list, in the order of the members' forms |
| `m` | dict | a list of its keys and values, in the order of the dict |
| `C` | a class | a field of its module, a field of its qualified name |
| `L` | a class within a function, or in place of which another has its name | 16 random bytes |
| `V` | a plain type of the standard library | a field of the type's name, a list of its parts |
| `E` | a member of an Enum | the form of its class, then of its name; of a Flag, of its value |
| `O` | a record, or what has a `__cache_key__` | the form of its class, then of a dict |
| `D` | an array, a tensor, a data frame | a field of the digest of its canonical form, a field of its type |
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import os
import struct
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final, cast
from uuid import UUID
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from holdall.errors import StoreError
from holdall.forks import in_child
from holdall.values.packages import instance

HOOK: Final = "__cache_key__"
"""The method by which a class says what stands for an object of it."""

_length = struct.Struct("<cQ").pack
_integer = struct.Struct("<cq").pack
_float = struct.Struct("<cd").pack
_complex = struct.Struct("<cdd").pack


class FormlessError(Exception):
    """A value, or one within it, lacks a canonical form.

    Args:
        culprit: Which.
        what: What it is, with an article.
    """

    def __init__(self, culprit: object, what: str) -> None:
        super().__init__(what)
        self.culprit = culprit


def encode(value: Any) -> bytes:
    """Return the canonical form of a value.

    Raises:
        FormlessError: It has none.
        RecursionError: It is nested too deep, or contains itself.
    """
    form = PLAIN.get(cast(Any, type(value)))
    return _other(value) if form is None else form(value)


def field(data: bytes) -> bytes:
    """Return bytes after their length."""
    return len(data).to_bytes(8, "little") + data


def _text_field(text: str) -> bytes:
    return field(text.encode("utf-8", "surrogatepass"))


def _of_int(value: int) -> bytes:
    try:
        return _integer(b"i", value)
    except struct.error:
        size = value.bit_length() // 8 + 1
        return _length(b"I", size) + value.to_bytes(size, "little", signed=True)


def _of_complex(value: complex) -> bytes:
    real, imaginary = (math.nan if math.isnan(part) else part for part in (value.real, value.imag))
    return _complex(b"c", real, imaginary)


def _of_str(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return _length(b"s", len(data)) + data


def _list(letter: bytes, forms: list[bytes]) -> bytes:
    return _length(letter, len(forms)) + b"".join(forms)


def _of_dict(value: dict[Any, Any]) -> bytes:
    forms = [part for key, each in value.items() for part in (encode(key), encode(each))]
    return _length(b"m", len(value)) + b"".join(forms)


def _plain(name: str, *parts: Any) -> bytes:
    return b"V" + _text_field(name) + _list(b"t", [encode(part) for part in parts])


def _of_moment(name: str, value: datetime | time) -> bytes:
    zone = _of_zone(value, value.tzinfo)
    return _plain(name, value.replace(tzinfo=None, fold=0).isoformat(), value.fold, *zone)


def _of_zone(value: object, zone: Any) -> tuple[Any, ...]:
    if zone is None:
        return ()
    if type(zone) is timezone:
        return "fixed", zone.utcoffset(None), zone.tzname(None)
    if type(zone) is ZoneInfo and zone.key:
        return "zone", zone.key
    raise FormlessError(value, f"a time whose zone is {type(zone).__module__}.{type(zone).__qualname__}")


def _of_path(value: Any) -> bytes:
    name = "WindowsPath" if isinstance(value, PureWindowsPath) else "PosixPath"
    return _plain(name if isinstance(value, (PosixPath, WindowsPath)) else f"Pure{name}", str(value))


PLAIN: Final[dict[type[Any], Callable[[Any], bytes]]] = {
    int: _of_int,
    str: _of_str,
    float: lambda value: _float(b"d", math.nan if value != value else value),
    bool: lambda value: b"T" if value else b"F",
    type(None): lambda value: b"N",
    type(...): lambda value: b".",
    bytes: lambda value: _length(b"b", len(value)) + value,
    bytearray: lambda value: _length(b"B", len(value)) + bytes(value),
    complex: _of_complex,
    tuple: lambda value: _list(b"t", [encode(each) for each in value]),
    list: lambda value: _list(b"l", [encode(each) for each in value]),
    dict: _of_dict,
    set: lambda value: _list(b"S", sorted([encode(each) for each in value])),
    frozenset: lambda value: _list(b"Z", sorted([encode(each) for each in value])),
    datetime: lambda value: _of_moment("datetime", value),
    time: lambda value: _of_moment("time", value),
    date: lambda value: _plain("date", value.isoformat()),
    timedelta: lambda value: _plain("timedelta", value.days, value.seconds, value.microseconds),
    Decimal: lambda value: _plain("Decimal", str(value)),
    Fraction: lambda value: _plain("Fraction", value.numerator, value.denominator),
    UUID: lambda value: _plain("UUID", value.int),
    range: lambda value: _plain("range", value.start, value.stop, value.step),
    slice: lambda value: _plain("slice", value.start, value.stop, value.step),
    OrderedDict: lambda value: _plain("OrderedDict", dict(value)),
    deque: lambda value: _plain("deque", list(value), value.maxlen),
    ZoneInfo: lambda value: _plain("zone", *_of_zone(value, value)),
    timezone: lambda value: _plain("zone", *_of_zone(value, value)),
    **dict.fromkeys((PurePosixPath, PureWindowsPath, PosixPath, WindowsPath), _of_path),
}
"""What makes the form of a value of exactly this type."""


def _other(value: Any) -> bytes:
    """Return the form of a value whose type isn't plain."""
    kind = cast("type[Any]", type(value))
    if isinstance(value, type):
        return class_form(cast("type[Any]", value))
    if hasattr(kind, HOOK):
        return b"O" + class_form(kind) + encode({HOOK: getattr(value, HOOK)()})
    if isinstance(value, enum.Enum):
        member: Any = value.value if isinstance(value, enum.Flag) else value.name
        return b"E" + class_form(kind) + encode(member)
    fields = _fields_of(value, kind)
    if fields is not None:
        return b"O" + class_form(kind) + encode(fields)
    found = _of_library(value)
    if found is None:
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        raise FormlessError(value, f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}")
    return b"D" + b"".join(map(_text_field, found))


def class_form(kind: type[Any]) -> bytes:
    """Return the form of a class. One that can't be found by its name is this very class: as long as this
    process lives, and in those that are forked from it later."""
    if found_by_name(kind) is kind:
        return name_form(kind)
    with _making:
        return _tokens.setdefault(kind, b"L" + os.urandom(16))


def found_by_name(thing: Any) -> Any:
    """Return what has the name of a class or a function; None if nothing has."""
    found: Any = sys.modules.get(thing.__module__)
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def name_form(kind: type[Any]) -> bytes:
    """Return the form of a class by its name, which another class may have as well."""
    return b"C" + _text_field(home_of(kind.__module__)) + _text_field(kind.__qualname__)


_tokens: WeakKeyDictionary[type[Any], bytes] = WeakKeyDictionary()
_making = threading.RLock()


@in_child
def _after_fork() -> None:
    # A thread that isn't in the child may have had it.
    global _making
    _making = threading.RLock()


def home_of(module: str) -> str:
    """Return the name of a module; of a program the one that it would be imported by, or else its path, since
    all programs are called `__main__`."""
    if module not in ("__main__", "__mp_main__"):
        return module
    main = sys.modules.get(module)
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        return "__main__"
    return f"__main__ {os.path.realpath(path)}"


def _fields_of(value: Any, kind: Any) -> dict[str, Any] | None:
    """Return what a record consists of, by name."""
    if dataclasses.is_dataclass(cast(object, kind)):
        names = [each.name for each in dataclasses.fields(kind)]
    elif issubclass(cast("type[Any]", kind), tuple) and hasattr(kind, "_fields") and hasattr(kind, "_asdict"):
        fields = dict(value._asdict())
        return fields | _rest(value, kind, fields)
    elif instance(value, "pydantic", "BaseModel"):
        return {
            **value.__dict__,
            "": [value.__pydantic_extra__, value.__pydantic_private__, sorted(value.__pydantic_fields_set__)],
        }
    elif instance(value, "msgspec", "Struct"):
        names = list(value.__struct_fields__)
    elif hasattr(kind, "__attrs_attrs__"):
        names = [each.name for each in kind.__attrs_attrs__]
    else:
        return None
    if issubclass(cast("type[Any]", kind), _WITH_CONTENTS):
        return None
    fields = {name: getattr(value, name) for name in names}
    return fields | _rest(value, kind, fields)


_WITH_CONTENTS: Final = (tuple, list, dict, set, frozenset, str, bytes, bytearray, int, float, complex)


def _rest(value: Any, kind: type[Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a record has besides its fields, as one of a subclass may, and besides properties that were
    computed."""
    names = [*getattr(value, "__dict__", ())]
    for base in kind.__mro__:
        own = vars(base)
        # attrs keeps computed properties in slots.
        if "__attrs_attrs__" not in own:
            slots: Any = own.get("__slots__", ())
            names += [
                f"_{base.__name__.lstrip('_')}{each}"
                if each.startswith("__") and not each.endswith("__")
                else each
                for each in ((slots,) if isinstance(slots, str) else slots)
                if each not in ("__dict__", "__weakref__")
            ]
    return {
        name: getattr(value, name)
        for name in names
        if name not in fields
        and hasattr(value, name)
        and not isinstance(getattr(kind, name, None), functools.cached_property)
    }


def _of_library(value: Any) -> tuple[str, str] | None:
    """Return the digest of an array, a tensor or a data frame, and its type; None for other values."""
    kind = cast("type[Any]", type(value))
    name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    try:
        digest = _digest(value, kind)
    except StoreError as error:
        raise FormlessError(value, f"a {name} without a canonical form ({error.message})") from error
    return None if digest is None else (digest, name)


def _digest(value: Any, kind: type[Any]) -> str | None:
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, (numpy.ndarray, numpy.generic, numpy.dtype)):
        return _numpy_digest(numpy, value, kind)
    if instance(value, "torch", "Tensor"):
        from holdall.catalog.canonical import tensors_digest

        return tensors_digest({"": value.detach()})
    if instance(value, "pandas", "Timestamp", "Timedelta"):
        from holdall.catalog.canonical import plain_digest

        zone = _of_zone(value, getattr(value, "tzinfo", None))
        parts = value.isoformat(), value.unit, getattr(value, "fold", 0), zone
        return plain_digest("pandas scalar", encode(parts))
    if instance(value, "pandas", "Series") or instance(value, "polars", "Series"):
        value = value.to_frame()
    from holdall.values.frames import _arrow, _library_of, _make_table

    library = _library_of(value)
    # Another library's stream of Arrow data can be read once only.
    if library is None or library == "arrow":
        return None
    from holdall.catalog.tables import frame_digest

    return frame_digest(library, value, _make_table(_arrow(), library, value)[0])


def _numpy_digest(numpy: Any, value: Any, kind: type[Any]) -> str | None:
    from holdall.catalog.canonical import array_digest, plain_digest

    if issubclass(kind, numpy.dtype):
        # Its description says all of it.
        return None if value.hasobject else plain_digest("dtype", encode(_describe_dtype(value)))
    if value.dtype.hasobject:
        return None
    if issubclass(kind, numpy.generic):
        return array_digest(numpy.asarray(value))
    known = (numpy.ndarray, numpy.memmap, numpy.ma.MaskedArray)
    return array_digest(value) if kind in known else None


def _describe_dtype(dtype: Any) -> Any:
    from holdall.catalog.canonical import _describe

    return _describe(dtype)
