"""Pydantic and msgspec models as JSON."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any, cast

from holdall.errors import SerializationError
from holdall.values.json import plain
from holdall.values.packages import instance, needed
from holdall.values.serializer import Buffer

__all__ = ["MsgspecSerializer", "PydanticSerializer"]


class PydanticSerializer:
    """A Pydantic model as the JSON that it describes itself.

    What is written is read back at once and compared, so that a model that its JSON doesn't hold is refused,
    such as one with a `SecretStr`, with a validator that changes its own result, or with a model of a
    subclass where a field names the base (annotate it as the subclass or a union). By Pydantic's rules,
    fields with `exclude=True` and private attributes are not kept, and a time zone is kept as its offset.

    Args:
        model: The class to read; without one `decode` gives a dict.

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
    media_type = "application/json"
    extensions: tuple[str, ...] = (".json",)

    def __init__(self, model: Any = None) -> None:
        self._model = model

    def accepts(self, value: Any) -> bool:
        return instance(value, "pydantic", "BaseModel")

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        needed("pydantic", "pydantic", "a Pydantic model")
        if not self.accepts(value):
            raise SerializationError(f"this holds Pydantic models, not {type(value).__name__}")
        kind = cast("Any", type(value))
        failure: Exception | None = None
        # A model may be read by its aliases, by its names, or by both.
        for by_alias in (True, False):
            try:
                text: bytes = value.model_dump_json(
                    round_trip=True, by_alias=by_alias, warnings=False
                ).encode()
                back = kind.model_validate_json(text)
                if _alike(value, back):
                    return (text,)
            # The serializers and validators of a model raise what they like; it is the cause.
            except Exception as error:  # noqa: BLE001
                failure = error
        raise _not_back(value, failure) from failure

    def decode(self, data: Buffer) -> Any:
        return plain(data) if self._model is None else self.decode_as(data, self._model)

    def decode_as(self, data: Buffer, model: Any) -> Any:
        """The model again.

        Args:
            data: JSON.
            model: A class, or any type that Pydantic validates, such as `list[User]`.

        Raises:
            SerializationError: It isn't JSON, or doesn't fit the model.
        """
        pydantic = needed("pydantic", "pydantic", "a Pydantic model")
        held = bytes(data)
        try:
            if isinstance(model, type) and issubclass(model, pydantic.BaseModel):
                return model.model_validate_json(held)  # pyright: ignore
            return pydantic.TypeAdapter(model).validate_json(held)
        # A validator may raise anything, of which Pydantic takes ValueError and AssertionError only.
        except Exception as error:
            name = getattr(model, "__qualname__", repr(model))
            raise SerializationError(f"this is no JSON of a {name}: {error}") from error


def _alike(one: object, other: object) -> bool:
    """Whether two values are equal and of the same classes, all the way down. What a model writes of itself
    may be less: its serializers leave out what they like, and of a subclass it writes what the class has that
    a field names."""
    names = _names(one)
    if names is not None or _names(other) is not None:
        return type(one) is type(other) and all(
            _alike(getattr(one, name, None), getattr(other, name, None)) for name in names or ()
        )
    # `score: float = 0` holds an int, since defaults are not validated.
    if type(one) is int and type(other) is float:
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        left, right = cast("dict[Any, Any]", one), cast("dict[Any, Any]", other)
        return len(left) == len(right) and all(
            map(_alike, (*left, *left.values()), (*right, *right.values()))
        )
    if isinstance(one, (list, tuple, deque)):
        first, second = cast("list[Any]", one), cast("list[Any]", other)
        return len(first) == len(second) and all(map(_alike, first, second))
    return bool(one == other) or (one != one and other != other)


def _names(value: object) -> list[str] | None:
    """The fields of a model or a dataclass that are written; None of what is none."""
    kind = cast("Any", type(value))
    if instance(value, "pydantic", "BaseModel"):
        fields = [name for name, field in kind.model_fields.items() if not field.exclude]
        return [*fields, *(cast("Any", value).__pydantic_extra__ or ())]
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None


def _not_back(value: Any, failure: Exception | None) -> SerializationError:
    if failure is None:
        why = "a value in it would be another, or of another type"
    elif hasattr(failure, "errors"):
        # The text of a ValidationError shows the values, which may be secrets.
        said = cast("Any", failure).errors(include_input=False, include_url=False, include_context=False)
        why = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in said[:3])
    else:
        why = " ".join(str(failure).split())[:200]
    return SerializationError(f"the JSON of this {type(value).__qualname__} would not give it back: {why}")


class MsgspecSerializer:
    """A `msgspec.Struct` as JSON.

    What is written is read back at once and compared, so that what JSON doesn't hold is refused, such as NaN.

    Args:
        model: The class to read; without one `decode` gives a dict.

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
    media_type = "application/json"
    extensions: tuple[str, ...] = (".json",)

    def __init__(self, model: Any = None) -> None:
        self._model = model

    def accepts(self, value: Any) -> bool:
        return instance(value, "msgspec", "Struct")

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        msgspec = needed("msgspec", "msgspec", "a msgspec model")
        if not self.accepts(value):
            raise SerializationError(f"this holds msgspec models, not {type(value).__name__}")
        failure: Exception | None = None
        try:
            text: bytes = msgspec.json.encode(value)
            back = msgspec.json.decode(text, type=type(value))
            if back == value and type(back) is type(value):
                return (text,)
        # What `__post_init__` and `__eq__` raise is the cause.
        except Exception as error:  # noqa: BLE001
            failure = error
        raise _not_back(value, failure) from failure

    def decode(self, data: Buffer) -> Any:
        return plain(data) if self._model is None else self.decode_as(data, self._model)

    def decode_as(self, data: Buffer, model: Any) -> Any:
        """The model again.

        Args:
            data: JSON.
            model: A class, or any type that msgspec decodes, such as `list[Point]`.

        Raises:
            SerializationError: It isn't JSON, or doesn't fit the model.
        """
        msgspec = needed("msgspec", "msgspec", "a msgspec model")
        try:
            return msgspec.json.decode(bytes(data), type=model)
        # Of msgspec's own errors, each is a ValueError; `__post_init__` may raise anything.
        except Exception as error:
            name = getattr(model, "__qualname__", repr(model))
            raise SerializationError(f"this is no JSON of a {name}: {error}") from error
