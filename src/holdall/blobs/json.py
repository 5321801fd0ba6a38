"""JSON objects, and models kept as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from holdall.blobs.bytes import BytesBlob
from holdall.blobs.file import load, suffix_of
from holdall.blobs.mappings import dict_from_yaml, yaml_of_dict
from holdall.blobs.text import StrBlob
from holdall.errors import InvalidArgumentError, SerializationError
from holdall.values.json import JsonSerializer, plain, plain_json
from holdall.values.models import MsgspecSerializer, PydanticSerializer, said_by
from holdall.values.packages import instance, needed
from holdall.values.registry import joined
from holdall.values.same import type_name

if TYPE_CHECKING:
    from pydantic import BaseModel

_JSON = JsonSerializer()
YAML_SUFFIXES = (".yaml", ".yml")

M = TypeVar("M")


class JsonDictBlob(StrBlob):
    """A dict, kept as JSON. `JsonSerializer` lists what it keeps besides plain JSON, such as a datetime or a
    set.

    `load` and `dump` take YAML too, where a file's name ends so.

    Args:
        blob: The dict, or its JSON, which is not looked at before `as_dict`.

    Raises:
        SerializationError: JSON can't hold the dict.

    >>> blob = JsonDictBlob({"a": [1, None]})
    >>> blob
    JsonDictBlob('{"a":[1,null]}')
    >>> blob.as_dict()
    {'a': [1, None]}
    """

    def __init__(self, blob: bytes | bytearray | memoryview | BytesBlob | str | dict[str, Any]) -> None:
        super().__init__(joined(_JSON.encode(blob)) if isinstance(blob, dict) else blob)

    @property
    def media_type(self) -> str:
        return "application/json"

    def as_dict(self) -> dict[str, Any]:
        """Return the dict.

        Raises:
            SerializationError: The bytes aren't JSON, or aren't a JSON object.
        """
        return _check_object(_JSON.decode(self._bytes))

    @classmethod
    def load(cls, f: Any) -> Self:
        if suffix_of(f) in YAML_SUFFIXES:
            return cls(dict_from_yaml(load(f)))
        return super().load(f)

    def _for_suffix(self, suffix: str) -> bytes:
        if suffix in YAML_SUFFIXES:
            return yaml_of_dict(self.as_dict())
        return super()._for_suffix(suffix)


def _check_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SerializationError(f"expected a JSON object, got {type_name(value)}")
    return cast("dict[str, Any]", value)


def _check_model(model_class: Any) -> type[Any]:
    for module, name in (("pydantic", "BaseModel"), ("msgspec", "Struct")):
        base: Any = getattr(sys.modules.get(module), name, None)
        if (
            isinstance(model_class, type)
            and base
            and issubclass(model_class, base)
            and model_class is not base
        ):
            return cast("type[Any]", model_class)
    raise InvalidArgumentError(
        f"expected a class of models, of pydantic.BaseModel or msgspec.Struct, got {model_class!r}"
    )


def _serializer_of(model_class: type[Any]) -> PydanticSerializer | MsgspecSerializer:
    pydantic = hasattr(model_class, "model_validate_json")
    return PydanticSerializer(model_class) if pydantic else MsgspecSerializer(model_class)


def _encode_fields(fields: dict[str, Any], model_class: type[Any] | None) -> bytes:
    """Return the JSON of a model whose fields are in a dict."""
    # In the JSON of a model nothing is a marker: `$holdall` is a name like any other.
    data = plain_json(fields)
    if data is not None:
        return data
    if model_class is None:
        raise SerializationError(
            "these fields aren't all plain JSON: give the model itself, or its class as model_class, "
            "which says how they are written"
        )
    chosen = _check_model(model_class)
    try:
        if hasattr(chosen, "model_validate"):
            model = chosen.model_validate(fields)
        else:
            model = needed("msgspec", "msgspec", "a msgspec model").convert(fields, chosen)
    # A validator may raise anything.
    except Exception as error:
        raise SerializationError(
            f"these aren't the fields of a {chosen.__qualname__}: {said_by(error)}"
        ) from error
    return joined(_serializer_of(chosen).encode(model))


class JsonModelBlob(StrBlob):
    """A Pydantic model, or a msgspec Struct, kept as JSON.

    Args:
        blob: The model, a dict of its fields, or its JSON, which is not looked at before `as_model`. A dict
            with values that plain JSON lacks, such as dates, needs the class, which says how they are
            written.
        model_class: The class that `as_model` returns. None is the class of the model given.

    Raises:
        SerializationError: The model can't be JSON, or its JSON wouldn't restore it, or the fields aren't
            those of the model.
        InvalidArgumentError: `model_class` isn't a class of models.

    >>> from pydantic import BaseModel
    >>> class User(BaseModel):
    ...     name: str
    >>> blob = JsonModelBlob(User(name="Ada"))
    >>> blob.as_model()
    User(name='Ada')
    >>> JsonModelBlob(blob.as_bytes()).as_model(User)
    User(name='Ada')
    """

    def __init__(
        self,
        blob: bytes | bytearray | memoryview | BytesBlob | str | dict[str, Any] | BaseModel | Any,
        *,
        model_class: type[Any] | None = None,
    ) -> None:
        if model_class is None and isinstance(blob, JsonModelBlob):
            model_class = blob._model_class
        if instance(blob, "pydantic", "BaseModel") or instance(blob, "msgspec", "Struct"):
            kind = cast("type[Any]", type(blob))
            super().__init__(joined(_serializer_of(kind).encode(blob)))
            model_class = model_class or kind
        elif isinstance(blob, dict):
            super().__init__(_encode_fields(cast("dict[str, Any]", blob), model_class))
        else:
            super().__init__(cast(Any, blob))
        self._model_class: type[Any] | None = None if model_class is None else _check_model(model_class)

    @property
    def media_type(self) -> str:
        return "application/json"

    @overload
    def as_model(self) -> Any: ...

    @overload
    def as_model(self, model_class: type[M]) -> M: ...

    def as_model(self, model_class: type[Any] | None = None) -> Any:
        """Return the model, validated.

        Args:
            model_class: Its class, where the blob doesn't know it or another is wanted.

        Raises:
            SerializationError: The bytes aren't JSON, or don't fit this model.
            InvalidArgumentError: The class isn't known.
        """
        chosen = self._model_class if model_class is None else _check_model(model_class)
        if chosen is None:
            raise InvalidArgumentError(
                "this blob doesn't know the class of its model: give it, as_model(User)"
            )
        return _serializer_of(chosen).decode(self._bytes)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them, not validated: a date is a str. Fields that weren't set are
        absent.

        Raises:
            SerializationError: The bytes aren't JSON, or aren't a JSON object.
        """
        return _check_object(plain(self._bytes))
