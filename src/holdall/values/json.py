"""JSON, with a marker for values that JSON lacks."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from holdall.errors import SerializationError
from holdall.values import fastjson
from holdall.values.fastjson import MISSING, plain_reader, read_plain, write_plain
from holdall.values.packages import instance, of_class
from holdall.values.same import place_of, same, type_name
from holdall.values.serializer import Buffer

__all__ = ["DEPTH", "MARK", "JsonSerializer", "plain", "plain_json"]

MARK: Final = "$holdall"
"""The key of an object that stands for something else."""

_FOLD: Final = "[_fold=1]"

DEPTH: Final = 200
"""The greatest depth of lists and dicts, so that any written JSON can be read on any stack."""

_LEAVES: Final = frozenset((str, int, float, bool, type(None)))
_CONTAINERS: Final = frozenset((dict, list))
_PLAIN: Final = _LEAVES | _CONTAINERS
_AS_IT_IS: Final = frozenset((str, bool, type(None)))
_ONLY_STR: Final = {str}
_STEADY: Final = frozenset(
    (str, int, float, bool, type(None), complex, bytes, datetime, date, time, timedelta, UUID, Decimal)
)
"""Types that come back equal and with the same hash, so two of them never become one."""
_BIG: Final = 8_192
"""The bits of the largest int without a marker: Python doesn't read decimal numbers of over 4,300 digits."""

_JSON_TYPES: Final = (
    dict, list, tuple, set, frozenset, str, bool, int, float, type(None), complex, bytes, bytearray,
    datetime, date, time, timedelta, UUID, Decimal, PurePath, Enum,
)  # fmt: skip

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class JsonSerializer:
    """JSON (RFC 8259). Plain JSON stays plain JSON, and any JSON can be read.

    Other values are written as an object of two members, `{"$holdall": kind, "value": ...}`, and come back
    equal and of their type. The kinds and their values are:

    | kind | value |
    | --- | --- |
    | `tuple`, `set`, `frozenset` | a list of the members, those of a set ordered by their text |
    | `bytes`, `bytearray` | base64 |
    | `datetime`, `time` | as `isoformat` returns it, then the name of a time zone in brackets (RFC 9557) |
    | `date` | as `isoformat` returns it |
    | `timedelta` | days, seconds, microseconds |
    | `uuid`, `decimal`, `path`, `posixpath`, `windowspath` | as `str` returns it |
    | `float` | `nan`, `inf` or `-inf` |
    | `complex` | the real and the imaginary part |
    | `int` | hexadecimal, where it has more than 4,300 digits; with other markers, more than 8,192 bits |
    | `dict` | a list of pairs, where a key isn't a str, or is `$holdall` itself |

    A naive `datetime`, and any `time`, whose `fold` is 1 ends with `[_fold=1]`.

    These values change: a member of an Enum comes back as its value; a dataclass, or a Pydantic or msgspec
    model within a value, as a dict of its fields; a NumPy number as the Python number that it equals; an
    instance of a subclass, such as a named tuple, as its base class; a time zone that isn't a `ZoneInfo` as a
    fixed offset.

    These are refused: all other types; values that contain themselves, or are nested deeper than 200 levels;
    and a set or a dict two of whose members or keys would become equal, or a dict, by such a change. The
    error says where in the value it is.

    JSON that is read can't name a class or a function to call. `NaN` and `Infinity`, which Python's own
    `json` writes, can be read too.

    >>> serializer = JsonSerializer()
    >>> serializer.encode({"seen": {3}, "who": "Ada"})
    (b'{"seen":{"$holdall":"set","value":[3]},"who":"Ada"}',)
    >>> serializer.decode(_[0])
    {'seen': {3}, 'who': 'Ada'}
    """

    name = "json"
    media_type = "application/json"
    extensions: tuple[str, ...] = (".json",)

    def accepts(self, value: Any) -> bool:
        return unheld(value) is None

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        if (data := written(value)) is not None:
            return (data,)
        try:
            return (_text(value).encode("utf-8"),)
        except _UnheldError as error:
            place = place_of(value, error.culprit)
            raise SerializationError(
                f"JSON can't hold {error}{place and f' (at {place})'}; {_WAYS}"
            ) from error.__cause__
        except UnicodeEncodeError as error:
            raise SerializationError(
                "JSON can't hold a str with a lone surrogate; encode it with errors='surrogatepass' to bytes"
            ) from error
        except RecursionError as error:
            raise _too_deep() from error

    def decode(self, data: Buffer) -> Any:
        held = data if type(data) is bytes else bytes(data)
        # Without calls, which would take as long as to read a small document.
        marked = (b"$" in held or b"\\" in held) and _may_be_marked(held)
        if not marked and (library := fastjson.library or fastjson.load()) is not None:
            try:
                return library.decode(held)
            except library.errors:
                # It may be JSON all the same, with a NaN; otherwise the error is made below.
                pass
        return _parse_json(held, _resolve_mark if marked else None)


_QUOTED: Final = f'"{MARK}"'.encode()


def _may_be_marked(data: bytes) -> bool:
    """Return whether an object in JSON may be a marker: without one no object has to be looked at."""
    # Single bytes are found in much less time than longer ones. The mark may be written with escapes.
    return (b"$" in data and _QUOTED in data) or (b"\\" in data and b"\\u00" in data)


def written(value: Any) -> bytes | None:
    """Return plain JSON, if that is known to be all that a value needs, which it is in most cases."""
    return write_plain(value, _QUOTED, DEPTH)


def reader_of(block: bytes) -> Callable[[bytes], Any] | None:
    """Return a function that reads each JSON document in a block in the shortest time, and raises for what it
    can't read; None without one."""
    return None if _may_be_marked(block) else plain_reader()


def plain(data: Buffer) -> Any:
    """Read a JSON document without markers.

    Raises:
        SerializationError: It isn't JSON.
    """
    return _parse_json(bytes(data), None)


def plain_json(value: Any) -> bytes | None:
    """Return a value as JSON without markers; None if plain JSON can't hold it as it is."""
    try:
        data = _dumps(value).encode("utf-8")
    except (ValueError, TypeError, RecursionError):
        return None
    return data if same(plain(data), value) else None


def strict(text: str, data: bytes) -> tuple[Any] | None:
    """Return the value of a text that is JSON by RFC 8259, in a tuple; None if it isn't. Markers are read.

    Args:
        text: The text.
        data: The same in UTF-8.

    Raises:
        SerializationError: It has a marker that isn't known, or may be JSON that is nested too deeply.
    """
    if not (marked := _may_be_marked(data)) and (value := read_plain(data)) is not MISSING:
        return (value,)
    hook = _resolve_mark if marked else None
    try:
        return (json.loads(text, parse_constant=_refuse_constant, object_hook=hook),)
    except RecursionError as error:
        raise SerializationError("this JSON is nested too deeply to be read") from error
    except ValueError:
        return None


def _refuse_constant(name: str) -> None:
    # Python reads NaN and Infinity, which JSON lacks.
    raise ValueError(name)


_LOOKED_AT: Final = 1_000
"""The number of lists, dicts and sets of a value that are checked before it is written."""
_WAYS: Final = (
    "convert it to a str, number, list or dict, keep it under a key of its own, or register "
    "PickleSerializer(key=...)"
)


class _UnheldError(Exception):
    """A value within a value that JSON can't hold."""

    def __init__(self, culprit: object, what: str) -> None:
        super().__init__(what)
        self.culprit = culprit


def unheld(value: Any) -> str | None:
    """Return the part of a value that JSON can't hold, such as `a dict with a numpy.ndarray at ['x']`; None
    if its first lists, dicts and sets lack such parts. So another serializer gets a dict of arrays."""
    if type(value) not in _PLAIN and (
        not _is_held(cast("type[Any]", type(value)))
        or instance(value, "pydantic", "BaseModel")
        or instance(value, "msgspec", "Struct")
    ):
        return type_name(value)
    stack: list[Any] = [value] if isinstance(value, _HOLDERS) else []
    looked = 0
    while stack and looked < _LOOKED_AT:
        held = stack.pop()
        looked += 1
        kind = cast("type[Any]", type(held))
        members: list[Any] = [*held, *held.values()] if issubclass(kind, dict) else list(held)
        kinds = cast("set[type[Any]]", set(map(type, members)))
        if kinds <= _STEADY:
            continue
        if not all(map(_is_held, kinds)):
            culprit = next(each for each in members if not _is_held(cast("type[Any]", type(each))))
            return f"{type_name(held)} with {type_name(culprit)} at {place_of(value, culprit)}"
        stack += islice((each for each in members if issubclass(type(each), _HOLDERS)), _LOOKED_AT)
    return None


_HOLDERS: Final = (dict, list, tuple, set, frozenset)


def _is_held(kind: type[Any]) -> bool:
    return (
        issubclass(kind, _JSON_TYPES)
        or dataclasses.is_dataclass(kind)
        or of_class(kind, "numpy", "number", "bool_")
        or of_class(kind, "pydantic", "BaseModel")
        or of_class(kind, "msgspec", "Struct")
    )


def _text(value: Any) -> str:
    if _is_plain(value, set()):
        try:
            return _dumps(value)
        except ValueError:
            # It holds a NaN, an infinity or a huge int.
            pass
    return _dumps(_add_marks(value, set()))


def _too_deep() -> SerializationError:
    return SerializationError(
        f"JSON holds at most {DEPTH} levels of lists and dicts, and nothing that contains itself"
    )


def _enter_level(value: object, above: set[int]) -> None:
    if id(value) in above or len(above) >= DEPTH:
        raise _too_deep()
    above.add(id(value))


def _is_plain(value: Any, above: set[int]) -> bool:
    """Return whether plain JSON restores all of a value, except for numbers."""
    kind = cast("type[Any]", type(value))
    if kind in _LEAVES:
        return True
    if kind is dict:
        members = cast("dict[Any, Any]", value)
        if MARK in members or not _ONLY_STR.issuperset(map(type, members)):
            return False
        children: Iterable[Any] = members.values()
    elif kind is list:
        children = cast("list[Any]", value)
    else:
        return False
    # `set(map(type, ...))` looks at all members without a step of Python for each.
    kinds = set(map(type, children))
    if kinds <= _LEAVES and len(above) < DEPTH:
        return True
    if not kinds <= _PLAIN:
        return False
    _enter_level(value, above)
    for child in children:
        if type(child) in _CONTAINERS and not _is_plain(child, above):
            return False
    above.discard(id(value))
    return True


def _mark(kind: str, value: Any) -> dict[str, Any]:
    return {MARK: kind, "value": value}


def _add_marks(value: Any, above: set[int]) -> Any:
    """Return the value as JSON can write it, with markers."""
    kind = cast("type[Any]", type(value))
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if value.bit_length() <= _BIG else _mark("int", hex(value))
    if kind is float:
        return value if math.isfinite(value) else _mark("float", repr(value))
    if isinstance(value, Enum):
        return _add_marks(value.value, above)
    scalar = _scalar(value)
    if scalar is not None:
        return scalar
    _enter_level(value, above)
    made = _container(value, above)
    above.discard(id(value))
    return made


def _container(value: Any, above: set[int]) -> Any:
    if isinstance(value, dict):
        return _add_marks_of_dict(cast("dict[Any, Any]", value), above)
    if isinstance(value, list):
        return [
            each if type(each) in _AS_IT_IS else _add_marks(each, above) for each in cast("list[Any]", value)
        ]
    if isinstance(value, tuple):
        return _mark("tuple", [_add_marks(each, above) for each in cast("tuple[Any, ...]", value)])
    if isinstance(value, (set, frozenset)):
        members = [_add_marks(each, above) for each in cast("set[Any]", value)]
        _check_distinct(cast("set[Any]", value), members)
        # In one order, since the order of a set differs from process to process.
        members.sort(key=_dumps)
        return _mark("set" if isinstance(value, set) else "frozenset", members)
    fields = _fields(value)
    if fields is None:
        raise _UnheldError(value, type_name(value))
    return _add_marks_of_dict(fields, above)


def _add_marks_of_dict(members: Mapping[Any, Any], above: set[int]) -> Any:
    if MARK not in members and _ONLY_STR.issuperset(map(type, members)):
        return {
            key: each if type(each) in _AS_IT_IS else _add_marks(each, above) for key, each in members.items()
        }
    keys = [_add_marks(key, above) for key in members]
    _check_distinct(members, keys)
    values = [_add_marks(value, above) for value in members.values()]
    if MARK in keys or not all(isinstance(key, str) for key in keys):
        return _mark("dict", [[key, value] for key, value in zip(keys, values, strict=True)])
    return dict(zip(keys, values, strict=True))


def _check_distinct(members: Iterable[Any], written: list[Any]) -> None:
    """Refuse keys of a dict, or members of a set, if fewer of them would come back."""
    if all(map(_is_steady, members)):
        return
    try:
        if len(set(_parse_json(_dumps(written).encode(), _resolve_mark))) == len(written):
            return
    except TypeError:
        # One of them can't be a key, such as the dict that a dataclass becomes.
        pass
    except SerializationError as error:
        if not isinstance(error.__cause__, TypeError):
            raise
    kind = "dict whose keys" if isinstance(members, Mapping) else "set whose members"
    raise _UnheldError(
        cast("object", members),
        f"a {kind} would become equal, or a dict: JSON keeps a member of an Enum as its value, and a "
        "dataclass as a dict",
    )


def _is_steady(value: Any) -> bool:
    kind = cast("type[Any]", type(value))
    return kind in _STEADY or (kind in (tuple, frozenset) and all(map(_is_steady, value)))


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return the fields of a record, by name."""
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if instance(value, "pydantic", "BaseModel"):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    if instance(value, "msgspec", "Struct"):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    return None


def _scalar(value: Any) -> Any:
    """Return the marker for a value that doesn't hold others; None for other values."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _add_marks(int.__int__(value), set())
    if isinstance(value, float):
        return _add_marks(float.__float__(value), set())
    if isinstance(value, complex):
        return _mark("complex", [_add_marks(part, set()) for part in (value.real, value.imag)])
    if isinstance(value, (bytes, bytearray)):
        return _mark("bytes" if isinstance(value, bytes) else "bytearray", b64encode(value).decode("ascii"))
    if isinstance(value, (date, time)):
        return _moment(value)
    if isinstance(value, timedelta):
        return _exact("timedelta", value, [value.days, value.seconds, value.microseconds])
    if isinstance(value, UUID):
        return _mark("uuid", str(UUID(int=value.int)))
    if isinstance(value, Decimal):
        return _mark("decimal", Decimal.__str__(value))
    if isinstance(value, PurePath):
        kind = "windowspath" if isinstance(value, PureWindowsPath) else "posixpath"
        return _mark("path" if isinstance(value, Path) else kind, str(value))
    # NumPy takes a timedelta64 for a number, and its unit would be lost.
    if instance(value, "numpy", "number", "bool_") and not instance(value, "numpy", "timedelta64"):
        item = value.item()
        if type(item) in (int, float, bool, complex):
            return _add_marks(item, set())
    return None


def _moment(value: date | time) -> Any:
    if isinstance(value, datetime) or not isinstance(value, date):
        zone = value.tzinfo
        text = value.isoformat()
        if isinstance(zone, ZoneInfo):
            text += f"[{zone.key}]"
            if zone.key is None or _zoned(text) is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise _UnheldError(value, "a time with a ZoneInfo that lacks a key")
        if value.fold and (zone is None or not isinstance(value, datetime)):
            text += _FOLD  # the second of two equal hours, which the offset doesn't say
        return _exact("datetime" if isinstance(value, datetime) else "time", value, text)
    return _exact("date", value, value.isoformat())


def _exact(kind: str, value: Any, written: Any) -> dict[str, Any]:
    """Refuse what a subclass adds, such as the nanoseconds of a pandas.Timestamp."""
    if type(value) not in (datetime, date, time, timedelta):
        try:
            same = _READ[kind][1](written) == value
        except (ValueError, TypeError, OverflowError):
            same = False
        if not same:
            raise _UnheldError(value, f"this {type_name(value).partition(' ')[2]} without loss")
    return _mark(kind, written)


_decoder: Any = json.JSONDecoder()
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once


def _scan_value(text: str) -> tuple[Any, int]:
    """Return the value at the start of a text, and where it ends; -1 if it ends too early."""
    try:
        return _scan(text, 0)
    except StopIteration:
        return None, -1


def _parse_json(data: bytes, hook: Callable[[dict[str, Any]], Any] | None) -> Any:
    try:
        # As it is written here: without the white space and the mark of the byte order that others write.
        if hook is None:
            text = data.decode()
            value, end = _scan_value(text)
            if end == len(text):
                return value
        return json.loads(str(data, "utf-8-sig"), object_hook=hook)
    except RecursionError as error:
        raise SerializationError("this JSON is nested too deeply to be read") from error
    except ValueError as error:
        raise SerializationError(f"this isn't JSON: {error}") from error


def _resolve_mark(members: dict[str, Any]) -> Any:
    """Return the value that a marker stands for."""
    if MARK not in members:
        return members
    kind = members[MARK]
    known = _READ.get(kind) if isinstance(kind, str) else None
    if known is None or len(members) != 2 or "value" not in members:
        raise SerializationError(f"this JSON has a {MARK} marker that isn't known here: {str(kind)[:40]!r}")
    written, read = known
    try:
        if not isinstance(members["value"], written):
            raise TypeError(f"not a {written.__name__}")
        return read(members["value"])
    except (ValueError, TypeError, ArithmeticError, LookupError, OSError) as error:
        raise SerializationError(
            f"this JSON has a marker of {kind} with a wrong value: {str(error)[:100]}"
        ) from error


def _int_of(value: Any) -> int:
    if not re.fullmatch(r"-?0x[0-9a-f]+", value):
        raise ValueError("not hexadecimal")
    return int(value, 16)


def _float_of(value: Any) -> float:
    if value not in ("nan", "inf", "-inf"):
        raise ValueError("not a float that JSON lacks")
    # A new NaN each time: those in a set, and those that are keys, stay apart.
    return float(value)


def _complex_of(value: Any) -> complex:
    real, imaginary = value
    if type(real) is not float or type(imaginary) is not float:
        raise TypeError("not two floats")
    return complex(real, imaginary)


_zoned = re.compile(r"([^\[\]]+)(?:\[([A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+)*)\])?").fullmatch


def _zone_of(text: str) -> tuple[str, ZoneInfo | None, int]:
    match = _zoned(text.removesuffix(_FOLD))
    if match is None:
        raise ValueError("not a time")
    return match[1], None if match[2] is None else ZoneInfo(match[2]), int(text.endswith(_FOLD))


_below_a_second = re.compile(r"(.*)([+-])00:00:00(\.[0-9]{6})", re.DOTALL).fullmatch
_T = TypeVar("_T", datetime, time)


def _of_iso(kind: type[_T], text: str) -> _T:
    # Python reads an offset of less than a second as UTC.
    if (match := _below_a_second(text)) is not None:
        offset = timedelta(microseconds=int(match[2] + match[3][1:]))
        return kind.fromisoformat(match[1]).replace(tzinfo=timezone(offset))
    return kind.fromisoformat(text)


def _datetime_of(value: Any) -> datetime:
    text, zone, second = _zone_of(value)
    moment = _of_iso(datetime, text)
    if zone is None:
        return moment.replace(fold=second)
    # The offset says which of two equal hours it is.
    for fold in (0, 1):
        local = moment.replace(tzinfo=zone, fold=fold)
        if local.utcoffset() == moment.utcoffset():
            return local
    # The rules of the zone have changed since; the instant is the same.
    return moment.astimezone(zone)


def _time_of(value: Any) -> time:
    text, zone, second = _zone_of(value)
    read = _of_iso(time, text)
    return read.replace(tzinfo=zone or read.tzinfo, fold=second)


def _timedelta_of(value: Any) -> timedelta:
    days, seconds, microseconds = value
    if any(type(each) is not int for each in (days, seconds, microseconds)):
        raise TypeError("not three ints")
    return timedelta(days, seconds, microseconds)


def _dict_of(value: Any) -> dict[Any, Any]:
    if not all(isinstance(pair, list) for pair in value):
        raise TypeError("not a list of pairs")
    return dict(value)


_READ: Final[dict[str, tuple[type[str] | type[list[Any]], Callable[[Any], Any]]]] = {
    "tuple": (list, tuple),
    "set": (list, set),
    "frozenset": (list, frozenset),
    "bytes": (str, partial(b64decode, validate=True)),
    "bytearray": (str, lambda text: bytearray(b64decode(text, validate=True))),
    "datetime": (str, _datetime_of),
    "date": (str, date.fromisoformat),
    "time": (str, _time_of),
    "timedelta": (list, _timedelta_of),
    "uuid": (str, UUID),
    "decimal": (str, Decimal),
    "path": (str, Path),
    "posixpath": (str, PurePosixPath),
    "windowspath": (str, PureWindowsPath),
    "float": (str, _float_of),
    "complex": (list, _complex_of),
    "int": (str, _int_of),
    "dict": (list, _dict_of),
}
"""How each kind is written, and the function that reads it."""
