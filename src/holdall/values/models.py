"""Pydantic and msgspec models as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, ClassVar, cast, get_args

from holdall.errors import InvalidTypeError, SerializationError
from holdall.values.json import plain
from holdall.values.packages import instance, needed, of_class, present
from holdall.values.same import children_of, difference, same, type_name
from holdall.values.serializer import Buffer

__all__ = ["MsgspecSerializer", "PydanticSerializer"]


class _ModelSerializer:
    """The common part of both: JSON, which a class reads."""

    media_type = "application/json"
    extensions: tuple[str, ...] = (".json",)
    _library: ClassVar[tuple[str, str, str]]
    _model: Any

    def decode(self, data: Buffer) -> Any:
        return plain(data) if self._model is None else self.decode_as(data, self._model)

    def decode_as(self, data: Buffer, model: Any) -> Any:
        """Decode a model.

        Args:
            data: JSON.
            model: A class, or any type that the library reads, such as `list[User]`.

        Raises:
            SerializationError: It isn't JSON, or doesn't fit the model.
        """
        library = needed(*self._library)
        try:
            return self._load(library, bytes(data), model)
        # A validator or `__post_init__` may raise anything.
        except Exception as error:
            name = _name_of(model)
            raise SerializationError(f"this isn't the JSON of a {name}: {said_by(error)}") from error

    def _reader(self, model: Any) -> Callable[[bytes], Any]:
        """Return the library's own function that reads the JSON of many models."""
        return self._make_reader(needed(*self._library), model)

    def _make_reader(self, library: Any, model: Any) -> Callable[[bytes], Any]:
        raise NotImplementedError

    def _of_text(self, fields: dict[str, str]) -> Any:
        """Return the model of fields in text, such as those of a row of CSV.

        Raises:
            SerializationError: They don't fit the model.
        """
        library = needed(*self._library)
        try:
            return self._convert(library, fields)
        # A validator or `__post_init__` may raise anything.
        except Exception as error:
            name = _name_of(self._model)
            raise SerializationError(f"these aren't the fields of a {name}: {said_by(error)}") from error

    def _convert(self, library: Any, fields: dict[str, str]) -> Any:
        raise NotImplementedError

    def _write_any(self, value: Any) -> bytes:
        """Return a value of the type `model` as JSON, without looking whether it comes back."""
        library = needed(*self._library)
        try:
            return self._dump(library, value)
        except Exception as error:
            name = _name_of(self._model)
            raise SerializationError(
                f"{type_name(value)} can't be written as a {name}: {said_by(error)}"
            ) from error

    def _dump(self, library: Any, value: Any) -> bytes:
        raise NotImplementedError

    def _load(self, library: Any, data: bytes, model: Any) -> Any:
        return self._make_reader(library, model)(data)


class PydanticSerializer(_ModelSerializer):
    """A Pydantic model as the JSON that the model itself defines.

    The JSON is read back at once and compared, field by field with its types, so a model that its JSON can't
    restore is refused: one with a `SecretStr`, with a member of an enum in a field of type
    `Any`, with a validator that changes its own result, or with a model of a subclass where a field names the
    base (annotate it as the subclass or a union).

    Fields that weren't set aren't written, so that `model_fields_set` comes back too, and a field that wasn't
    set comes back with the default of the class that reads it. To keep a default itself, set the field. A
    default that was changed in place, as by `append`, or that a factory made is written, and its field counts
    as set afterwards.

    By Pydantic's rules, fields with `exclude=True` and private attributes aren't kept, and a time zone is
    kept as its offset.

    Args:
        model: The class to read; without one `decode` returns a dict.

    >>> from pydantic import BaseModel
    >>> class User(BaseModel):
    ...     name: str
    >>> serializer = PydanticSerializer(User)
    >>> serializer.encode(User(name="Ada"))
    (b'{"name":"Ada"}',)
    >>> serializer.decode(_[0])
    User(name='Ada')
    """

    name = "pydantic"
    _library = ("pydantic", "pydantic", "a Pydantic model")

    def __init__(self, model: Any = None) -> None:
        self._model = model

    def accepts(self, value: Any) -> bool:
        return instance(value, "pydantic", "BaseModel")

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        needed(*self._library)
        if not self.accepts(value):
            raise SerializationError(f"expected a Pydantic model, got {type_name(value)}")
        kind = cast("Any", type(value))
        failure: Exception | str | None = None
        for make, options in _list_ways(value):
            try:
                wanted = make()
                text: bytes = wanted.model_dump_json(round_trip=True, warnings=False, **options).encode()
                changed = difference(wanted, kind.model_validate_json(text))
                if changed is None:
                    return (text,)
                # The first way is the usual one, so that what it changes is what the user can mend.
                failure = failure or changed
            # The serializers and validators of a model raise what they like; it is the cause.
            except Exception as error:  # noqa: BLE001
                failure = failure or error
        raise _not_back(value, failure) from (failure if isinstance(failure, Exception) else None)

    def _make_reader(self, library: Any, model: Any) -> Callable[[bytes], Any]:
        if isinstance(model, type) and issubclass(model, library.BaseModel):
            return cast("Any", model).model_validate_json
        return library.TypeAdapter(model).validate_json

    def _dump(self, library: Any, value: Any) -> bytes:
        return library.TypeAdapter(self._model).dump_json(value, round_trip=True, warnings="error")

    def _convert(self, library: Any, fields: dict[str, str]) -> Any:
        return library.TypeAdapter(self._model).validate_python(fields)


def _list_ways(value: Any) -> Iterator[tuple[Callable[[], Any], dict[str, bool]]]:
    """Return how to make the model that is written, and how to write it, from the best way to the last."""
    # A model may be read by its aliases, by its names, or by both.
    for by_alias in (True, False):
        yield lambda: value, {"by_alias": by_alias, "exclude_unset": True}
    for by_alias in (True, False):
        yield lambda: _with_changes_set(value), {"by_alias": by_alias, "exclude_unset": True}
    # Where the serializers of a model don't know what is set.
    for by_alias in (True, False):
        yield lambda: value, {"by_alias": by_alias}


def _with_changes_set(value: Any) -> Any:
    """Return a copy in which all values that a reader's defaults lack count as set, in all its models: values
    appended to a list that is a default, and defaults that a factory makes anew each time."""
    made = deepcopy(value)
    stack, seen = [made], {id(made)}
    while stack:
        held = stack.pop()
        if instance(held, "pydantic", "BaseModel"):
            kind = cast("Any", type(held))
            held.__pydantic_fields_set__.update(
                name
                for name, field in kind.model_fields.items()
                if field.default_factory is not None or not same(getattr(held, name, None), field.default)
            )
        for _, child in children_of(held):
            if id(child) not in seen:
                seen.add(id(child))
                stack.append(child)
    return made


def said_by(error: Exception) -> str:
    """Return what a library says of a value, without the value, which may be a secret: the text of a
    ValidationError of Pydantic shows it."""
    if hasattr(error, "errors"):
        said = cast("Any", error).errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in said[:3]
        )
    return _shown.sub(r"[input_type=\1]", str(error))


_shown = re.compile(r"\[input_value=.*, input_type=(\w+)\]", re.DOTALL)


def _not_back(value: Any, failure: Exception | str | None) -> SerializationError:
    why = " ".join((said_by(failure) if isinstance(failure, Exception) else str(failure)).split())[:300]
    way = "convert that value, or annotate its field with the type that it has"
    if why.endswith("(model_fields_set)"):
        way = "set that field, or leave it to Pydantic how the model is written"
    return SerializationError(
        f"the JSON of this {type(value).__qualname__} wouldn't restore it: {why}; {way}"
    )


class MsgspecSerializer(_ModelSerializer):
    """A `msgspec.Struct` as JSON.

    The JSON is read back at once and compared, field by field with its types, so values that JSON can't
    restore are refused: a NaN, an int in a field of type float, a member of an enum in an untyped dict. A
    time zone is kept as its offset.

    Args:
        model: The class to read; without one `decode` returns a dict.

    >>> import msgspec
    >>> class Point(msgspec.Struct):
    ...     x: int
    >>> serializer = MsgspecSerializer()
    >>> serializer.encode(Point(3))
    (b'{"x":3}',)
    >>> serializer.decode(_[0]), serializer.decode_as(_[0], Point)
    ({'x': 3}, Point(x=3))
    """

    name = "msgspec"
    _library = ("msgspec", "msgspec", "a msgspec model")

    def __init__(self, model: Any = None) -> None:
        self._model = model

    def accepts(self, value: Any) -> bool:
        return instance(value, "msgspec", "Struct")

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        msgspec = needed(*self._library)
        if not self.accepts(value):
            raise SerializationError(f"expected a msgspec Struct, got {type_name(value)}")
        try:
            text: bytes = msgspec.json.encode(value)
            back = msgspec.json.decode(text, type=type(value))
        # What `__post_init__` raises is the cause.
        except Exception as error:
            raise _not_back(value, error) from error
        changed = difference(value, back)
        if changed is not None:
            raise _not_back(value, changed)
        return (text,)

    def _make_reader(self, library: Any, model: Any) -> Callable[[bytes], Any]:
        return library.json.Decoder(model).decode

    def _dump(self, library: Any, value: Any) -> bytes:
        return library.json.encode(value)

    def _convert(self, library: Any, fields: dict[str, str]) -> Any:
        return library.convert(fields, self._model, strict=False)


def _name_of(model: Any) -> str:
    """Return the name of a class or a type, such as `User` or `list[User]`."""
    return repr(model) if get_args(model) else getattr(model, "__qualname__", repr(model))


def is_model(value: object) -> bool:
    """Return whether a value is a Pydantic model or a msgspec Struct."""
    return instance(value, "pydantic", "BaseModel") or instance(value, "msgspec", "Struct")


def encode_model(value: Any) -> bytes:
    """Return the JSON of a model.

    Raises:
        SerializationError: Its JSON wouldn't restore it.
    """
    pydantic = instance(value, "pydantic", "BaseModel")
    return bytes((PydanticSerializer() if pydantic else MsgspecSerializer()).encode(value)[0])


def serializer_of(model: Any) -> PydanticSerializer | MsgspecSerializer:
    """Return the serializer that reads a type: a Pydantic model, a msgspec Struct, or another type such as
    `list[User]` or a dataclass, which the library of the models in it reads, or the one that is installed.

    Raises:
        InvalidTypeError: It isn't a type.
        MissingDependencyError: Neither library is installed.
    """
    if isinstance(model, (str, bytes, int, float, dict, list)):
        raise InvalidTypeError(f"model must be a class or a type such as list[User], not {model!r:.50}")
    if is_model(model):
        raise InvalidTypeError(
            f"model must be a class: give {type(model).__qualname__}, not an instance of it"
        )
    library = _library_of(model) or ("msgspec" if present("msgspec") else "pydantic")
    return PydanticSerializer(model) if library == "pydantic" else MsgspecSerializer(model)


def _library_of(model: Any) -> str | None:
    if isinstance(model, type):
        if of_class(model, "pydantic", "BaseModel"):
            return "pydantic"
        if of_class(model, "msgspec", "Struct"):
            return "msgspec"
    return next((found for each in get_args(model) if (found := _library_of(each)) is not None), None)


def encode_as(value: Any, model: Any) -> bytes:
    """Return a value as the JSON of a type, which gives it back.

    Raises:
        SerializationError: The value isn't of this type, or its JSON wouldn't restore it.
    """
    serializer = serializer_of(model)
    if is_model(value):
        if isinstance(model, type) and not isinstance(value, model):
            raise SerializationError(f"expected a {model.__qualname__}, got {type_name(value)}")
        text = encode_model(value)
        if type(value) is model:
            return text
    else:
        text = serializer._write_any(value)
    try:
        changed = difference(value, serializer.decode_as(text, model))
    except SerializationError as error:
        raise SerializationError(f"this value isn't a {_name_of(model)}: {error.message}") from error
    if changed is not None:
        raise _not_back(value, changed)
    return text
