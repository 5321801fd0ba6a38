"""Pydantic and msgspec models as JSON."""

from __future__ import annotations

from typing import Any, cast

from holdall.errors import SerializationError
from holdall.values.json import plain
from holdall.values.packages import instance, needed
from holdall.values.same import same
from holdall.values.serializer import Buffer

__all__ = ["MsgspecSerializer", "PydanticSerializer"]


class PydanticSerializer:
    """A Pydantic model as the JSON that it describes itself.

    What is written is read back at once and compared, so that a model that its JSON doesn't hold is refused,
    such as one with a `SecretStr`, or with a validator that changes its own result.

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
        wanted = value.model_dump(round_trip=True)
        failure: Exception | None = None
        # A model may be read by its aliases, by its names, or by both.
        for by_alias in (True, False):
            try:
                text: bytes = value.model_dump_json(round_trip=True, by_alias=by_alias).encode()
                back = kind.model_validate_json(text)
                if same(wanted, back.model_dump(round_trip=True)):
                    return (text,)
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                failure = error
        raise SerializationError(
            f"the JSON of this {type(value).__qualname__} would not give it back"
        ) from failure

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
        except (ValueError, RecursionError) as error:
            name = getattr(model, "__qualname__", repr(model))
            raise SerializationError(f"this is no JSON of a {name}: {error}") from error


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
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            failure = error
        raise SerializationError(
            f"the JSON of this {type(value).__qualname__} would not give it back"
        ) from failure

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
        except (ValueError, RecursionError) as error:
            # Of msgspec's own errors, each is a ValueError.
            name = getattr(model, "__qualname__", repr(model))
            raise SerializationError(f"this is no JSON of a {name}: {error}") from error
