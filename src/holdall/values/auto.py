"""The mode `auto`: text, JSON and bytes as other programs write them, and a signed pickle for the rest."""

from __future__ import annotations

from typing import Any, Final

from holdall.errors import SerializationError
from holdall.values.json import JsonSerializer, strict, unheld, written
from holdall.values.models import encode_model, is_model
from holdall.values.ownpickles import OwnPickles
from holdall.values.raw import BytesSerializer, TextSerializer
from holdall.values.registry import joined

_bytes, _text, _json = BytesSerializer(), TextSerializer(), JsonSerializer()

_BEGINS: Final = tuple('{["-0123456789tfn \t\r\n')
"""How a JSON text (RFC 8259) can begin."""
_WORDS: Final = frozenset(("true", "false", "null"))


def write_auto(value: Any, pickles: OwnPickles) -> bytes:
    """Return the bytes of a value, by the first of these that fits it:

    1. bytes, bytearray, memoryview: as they are;
    2. a str: as UTF-8; as a JSON string if its UTF-8 would be read as JSON;
    3. a Pydantic model or a msgspec Struct: its JSON;
    4. what `JsonSerializer` holds: JSON;
    5. anything else: a signed pickle.

    Raises:
        SerializationError: None of them can hold it.
    """
    if isinstance(value, str):
        data = joined(_text.encode(value))
        return joined(_json.encode(str(value))) if _is_json(value, data) else data
    if _bytes.accepts(value):
        return joined(_bytes.encode(value))
    if (data := written(value)) is not None:
        return data
    if is_model(value):
        return encode_model(value)
    if unheld(value) is None:
        try:
            return joined(_json.encode(value))
        except SerializationError:
            # Below its first thousand lists and dicts it may hold what JSON can't.
            pass
    return joined(pickles.encode(value))


def _is_json(text: str, data: bytes) -> bool:
    try:
        return _json_in(text, data) is not None
    except SerializationError:
        # Such as brackets that are nested too deeply, which can't be read as JSON, or not in every place.
        return True


def _json_in(text: str, data: bytes) -> tuple[Any] | None:
    """Return the value of a text that is JSON, in a tuple; None if it isn't."""
    if not text.startswith(_BEGINS) or (text[:1] in "tfn" and text.rstrip() not in _WORDS):
        return None
    return strict(text, data)


def read_auto(data: bytes, pickles: OwnPickles) -> Any:
    """Return the value of bytes, by the first of these that they are:

    1. UTF-8 that is JSON (RFC 8259): its value, markers of `JsonSerializer` included;
    2. other UTF-8: a str;
    3. a signed pickle: its value, if this user signed it; with `pickles="trust"` any pickle: its value;
    4. anything else, such as an unsigned pickle: bytes.

    Raises:
        UntrustedDataError: A pickle that somebody else signed.
        SerializationError: JSON with a marker that isn't known here, or nested too deeply.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return pickles.decode(data) if pickles.reads(data) else data
    found = _json_in(text, data)
    return text if found is None else found[0]
