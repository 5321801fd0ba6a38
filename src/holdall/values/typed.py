"""The mode `typed`: values that say themselves what they are, so that each comes back equal and of its type.

A typed value, version 1, is

| bytes | what |
| --- | --- |
| 8 | `hldtype1`: the name and the version of this format |
| 1 | the length of the next field |
| 1 to 255 | the name of the serializer in UTF-8: `bytes`, `text`, `json`, `npy`, `pickle`, ... |
| the rest | the value, as this serializer writes it |

The name is in the bytes, since most stores keep no attributes, and copies between stores may lose them.
"""

from __future__ import annotations

from typing import Any, Final

from holdall.errors import InvalidArgumentError, SerializationError
from holdall.values.json import JsonSerializer, _is_plain, written
from holdall.values.models import is_model
from holdall.values.ownpickles import OwnPickles
from holdall.values.raw import BytesSerializer, TextSerializer
from holdall.values.registry import Serializers
from holdall.values.same import difference, type_name
from holdall.values.serializer import Buffer, Serializer

MAGIC: Final = b"hldtype1"
_EXACT: Final = {"bytes": bytes, "text": str}
_text = TextSerializer()
_BUILT_IN: Final = {"bytes": BytesSerializer(), "text": _text, "json": JsonSerializer()}


def write_typed(value: Any, serializers: Serializers, pickles: OwnPickles) -> bytes:
    """Return the bytes of a value: by the first serializer that gives it back as it is, otherwise as a signed
    pickle.

    Raises:
        SerializationError: Nothing gives it back.
    """
    if type(value) is bytes:
        return _with_head("bytes", (value,))
    if _are_usual(serializers):
        # Most values need no look at all serializers.
        if type(value) is str:
            try:
                return _with_head("text", _text.encode(value))
            except SerializationError:
                # A lone surrogate, which a pickle keeps.
                return _with_head("pickle", pickles.encode(value))
        if (data := written(value)) is not None:
            return _with_head("json", (data,))
    writer = serializers._accepting(value)
    if writer is not None and writer.name != "pickle":
        try:
            return _write_checked(writer, value)
        except SerializationError:
            # What its own format can't hold as it is, a pickle can.
            pass
    try:
        return _with_head("pickle", pickles.encode(value))
    except SerializationError as error:
        raise SerializationError(
            f"no serializer gives {type_name(value)} back as it is, and {error.message}"
        ) from error


_usual: tuple[object, bool] = (), False


def _are_usual(serializers: Serializers) -> bool:
    """Return whether text and plain JSON are written by the serializers of this package."""
    global _usual
    members = serializers._members
    if not members or members is not _usual[0]:
        kinds = [type(each) for each in serializers]
        # One that was registered is asked first, or has the place of the one with its name.
        usual = kinds[:1] == [BytesSerializer] and {TextSerializer, JsonSerializer} <= set(kinds)
        _usual = serializers._members, usual
    return _usual[1]


def _write_checked(writer: Serializer, value: Any) -> bytes:
    pieces = list(map(bytes, writer.encode(value)))
    if writer.name in _EXACT:
        changed = None if type(value) is _EXACT[writer.name] else "a subclass"
    elif writer.name == "json":
        changed = None if _is_plain(value, set()) else difference(value, writer.decode(b"".join(pieces)))
    elif is_model(value):
        # The JSON of a model doesn't say its class.
        changed = "a model"
    else:
        changed = None
    if changed is not None:
        raise SerializationError(changed)
    return _with_head(writer.name, pieces)


def _with_head(name: str, pieces: Any) -> bytes:
    encoded = name.encode()
    if not 1 <= len(encoded) <= 255:
        raise InvalidArgumentError(
            f"the name of a serializer has 1 to 255 bytes in UTF-8, not {len(encoded)}"
        )
    return b"".join([MAGIC, len(encoded).to_bytes(1), encoded, *pieces])


def read_typed(data: bytes, serializers: Serializers, pickles: OwnPickles) -> Any:
    """Return the value of bytes that `write_typed` wrote.

    Raises:
        SerializationError: They aren't a typed value, or their serializer isn't known or doesn't read them.
        UntrustedDataError: They are a pickle that this user didn't sign.
    """
    begin = len(MAGIC) + 1
    if data[:7] == MAGIC[:7] and data[7:8] > MAGIC[7:]:
        raise SerializationError("a newer version of holdall wrote this typed value; upgrade holdall")
    if not data.startswith(MAGIC) or len(data) <= begin:
        raise SerializationError("this isn't a typed value, which begins with 'hldtype1'")
    end = begin + data[begin - 1]
    name = data[begin:end].decode("utf-8", "replace")
    value: Buffer = memoryview(data)[end:]
    if len(data) < end or not name:
        raise SerializationError("this typed value is cut off")
    if name == "pickle":
        return pickles.decode(value)
    if (usual := _BUILT_IN.get(name)) is not None and (name == "bytes" or _are_usual(serializers)):
        return usual.decode(value)
    try:
        serializer = serializers.named(name)
    except InvalidArgumentError as error:
        raise SerializationError(
            f"this typed value was written by a serializer that is missing here: {error}"
        ) from None
    return serializer.decode(value)
