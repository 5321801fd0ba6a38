"""The serialization modes by name, each with what writes a value and what reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, cast, get_args

from holdall.errors import InvalidArgumentError, InvalidTypeError, SerializationError, StoreError
from holdall.values.auto import read_auto, write_auto
from holdall.values.csv import CsvRows
from holdall.values.json import JsonSerializer, reader_of, written
from holdall.values.looks import describe_bytes
from holdall.values.models import _name_of, encode_as, encode_model, is_model, serializer_of
from holdall.values.ownpickles import OwnPickles
from holdall.values.registry import _MODES, Serializers, joined
from holdall.values.same import type_name
from holdall.values.serializer import Buffer
from holdall.values.typed import read_typed, write_typed

MODES: Final = _MODES
"""The modes that aren't the name of a serializer."""
_JSON: Final = ("auto", "json", "pydantic", "msgspec")
"""The modes that a model can be given with: what they write of a model is JSON."""


class Codec(NamedTuple):
    """How a mode writes and reads values."""

    name: str
    encode: Callable[[Any], Any]
    """Returns bytes; in mode `raw` anything that `Store.put` takes."""
    decode: Callable[[bytes], Any] | None
    """None where bytes are the value."""
    skips_blank: bool = False
    """Whether blank lines of a stream aren't values."""
    quick: Callable[[bytes], Callable[[bytes], Any] | None] | None = None
    """Called with many lines; returns a function that reads each of them as `decode` does, but quicker, and
    raises for those that it can't."""


class Modes:
    """The modes of a value store, made when they are first needed.

    Args:
        serializers: Those whose names are modes.
        pickles: What writes and reads pickles.
    """

    def __init__(self, serializers: Serializers, pickles: OwnPickles) -> None:
        self._serializers = serializers
        self._pickles = pickles
        self._made: dict[str, Codec] = {}

    def __getitem__(self, name: str) -> Codec:
        """Return the codec of a mode.

        Raises:
            InvalidArgumentError: The mode is unknown; the message lists those known.
        """
        try:
            return self._made[name]
        except (KeyError, TypeError):
            pass
        made = self._made[name] = self._make(name)
        return made

    def _make(self, name: object) -> Codec:
        pickles = self._pickles
        match name:
            case "raw":
                return Codec("raw", write_raw, None)
            case "auto":
                write, read = partial(write_auto, pickles=pickles), partial(read_auto, pickles=pickles)
                return Codec("auto", write, read, quick=reader_of)
            case "json":
                return Codec("json", _write_json, JsonSerializer().decode, True, reader_of)
            case "pickle":
                return Codec("pickle", partial(_encode, pickles.encode), pickles.decode)
            case "typed":
                both: Any = {"serializers": self._serializers, "pickles": pickles}
                return Codec("typed", partial(write_typed, **both), partial(read_typed, **both))
            case str():
                found = next((each for each in self._serializers if each.name == name), None)
                if found is not None:
                    return Codec(name, partial(_encode, found.encode), found.decode)
            case _:
                pass
        kind = InvalidArgumentError if isinstance(name, str) else InvalidTypeError
        hint = "; 'csv' is a mode of stream() only" if name == "csv" else self._serializers._why_not(name)
        known = ", ".join(map(repr, self.names()))
        raise kind(f"serialization_mode must be one of {known}, not {name!r:.50}{hint}")

    def names(self) -> list[str]:
        """Return the names of all modes."""
        return list(dict.fromkeys([*MODES, *(each.name for each in self._serializers)]))

    def writer(self, mode: str, own: str | None, function: Any, model: Any) -> Codec:
        """Return the codec that writes what a call of put asks for.

        Args:
            mode: The mode of the store.
            own: The mode of the call.
            function: Its `serialization_func`.
            model: Its `model`.
        """
        codec = self[mode if own is None else own]
        if model is not None:
            _check_model(own, function, "serialization_func")
            serializer_of(model)  # a wrong type is refused whatever the value is
            return Codec(_with_model(model), partial(encode_as, model=model), None)
        if function is None:
            return codec
        if not callable(function):
            raise InvalidTypeError(f"serialization_func must be a function, not {type(function).__name__}")
        call = cast("Callable[[Any], Any]", function)
        as_is = own is None

        def write(value: Any) -> Any:
            made = call(value)
            # The bytes that the function makes are those of the value, unless the call asks for a mode too.
            return write_raw(made) if as_is and isinstance(made, _BYTES) else codec.encode(made)

        return Codec(codec.name, write, None)

    def reader(self, mode: str, own: str | None, function: Any, model: Any) -> Codec:
        """Return the codec that reads what a call of get asks for; see `writer`."""
        codec = self[mode if own is None else own]
        if model is not None:
            _check_model(own, function, "deserialization_func")
            try:
                return _model_reader(model, repr(model) if get_args(model) else "")
            except TypeError:
                # It can't be a key of the cache.
                return _model_reader.__wrapped__(model, "")
        if function is None:
            return codec
        if not callable(function):
            raise InvalidTypeError(f"deserialization_func must be a function, not {type(function).__name__}")
        call = cast("Callable[[Any], Any]", function)
        decode = codec.decode
        if own is None or decode is None:
            return Codec("deserialization_func", write_raw, call)

        def read(data: bytes) -> Any:
            return call(decode(data))

        return Codec(codec.name, write_raw, read, codec.skips_blank)

    def for_lines(self, mode: str, own: str | None, function: Any, model: Any) -> Codec | CsvRows:
        """Return what reads the lines that a call of stream asks for; see `writer`."""
        if own == "csv":
            if model is not None:
                _check_model(None, function, "deserialization_func")
                serializer_of(model)  # refuses what isn't a type
            self.reader("raw", None, function, None)  # refuses what isn't a function
            return CsvRows(function, model)
        codec = self.reader(mode, own, function, model)
        if codec.name in ("pickle", "typed"):
            raise InvalidArgumentError(
                f"a line can't be read in mode {codec.name!r}, whose bytes hold line ends; give stream() "
                "serialization_mode='json', 'auto', 'raw' or 'csv'"
            )
        return codec


@lru_cache(64)
def _model_reader(model: Any, order: str) -> Codec:
    """Return the codec that reads the JSON of a model: what a library makes to read a type takes it long.

    Args:
        model: The type.
        order: Tells apart the unions `A | B` and `B | A`, which are equal, although a value that fits both is
            read as the first.
    """
    serializer = serializer_of(model)
    quick = serializer._reader(model)

    def read(data: bytes) -> Any:
        try:
            return quick(data)
        except Exception:  # noqa: BLE001 - the slow way says what is wrong
            return serializer.decode_as(data, model)

    def choose(_: bytes) -> Callable[[bytes], Any]:
        return quick

    return Codec(_with_model(model), write_raw, read, True, choose)


_BYTES: Final = (str, bytes, bytearray, memoryview)


def _check_model(own: str | None, function: object, name: str) -> None:
    if function is not None:
        raise InvalidArgumentError(f"model and {name} both say how the value is made; leave one of them out")
    if own is not None and own not in _JSON:
        raise InvalidArgumentError(
            f"a model is read and written as JSON, not in mode {own!r}; leave serialization_mode out"
        )


def _with_model(model: Any) -> str:
    return f"model={_name_of(model)}"


def write_raw(value: Any) -> Any:
    """Return a value as `Store.put` takes it; a str is written as UTF-8.

    Raises:
        SerializationError: It isn't bytes, a str, a binary file or an iterable of bytes.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise SerializationError(
                f"UTF-8 can't hold the lone surrogate at {error.start}; give such data as bytes"
            ) from error
    if isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "read"):
        return cast("Any", value)
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) or not hasattr(value, "__iter__"):
        raise SerializationError(
            "mode 'raw' takes bytes, a str, a binary file or an iterator of bytes, not "
            f"{type_name(cast('object', value))}; "
            "choose serialization_mode='auto', 'json' or 'typed'"
        )
    return value


def _encode(encode: Callable[[Any], Iterable[Buffer]], value: Any) -> bytes:
    return joined(encode(value))


_write_plain_json = JsonSerializer().encode


def _write_json(value: Any) -> bytes:
    if (data := written(value)) is not None:
        return data
    return encode_model(value) if is_model(value) else joined(_write_plain_json(value))


def refuse_bytes(error: StoreError, key: str, mode: str, data: bytes) -> None:
    """Make an error of bytes that can't be read name the key, the mode, and what they look like."""
    if error.key is None:
        how = f"with {mode}" if mode.startswith(("model=", "deserialization")) else f"in mode {mode!r}"
        error.message = f"{error.message}; read {how}: {describe_bytes(data)}"
        error.key = key
