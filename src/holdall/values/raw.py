"""Bytes as they are, and text as UTF-8."""

from __future__ import annotations

from typing import Any, cast

from holdall.errors import SerializationError
from holdall.values.same import type_name
from holdall.values.serializer import Buffer

__all__ = ["BytesSerializer", "TextSerializer"]


class BytesSerializer:
    """Bytes as they are; `bytearray` and `memoryview` come back as `bytes`.

    >>> BytesSerializer().decode(b"abc")
    b'abc'
    """

    name = "bytes"
    media_type = "application/octet-stream"
    extensions: tuple[str, ...] = (".bin",)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, (bytes, bytearray, memoryview))

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        if isinstance(value, (bytes, bytearray)):
            return (value,)
        if not isinstance(value, memoryview):
            raise SerializationError(f"the bytes format takes bytes, got {type_name(value)}")
        view = cast("memoryview[Any]", value)
        # A view with gaps, or with strides, isn't a buffer that can be written.
        return (view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes(),)

    def decode(self, data: Buffer) -> bytes:
        return bytes(data)


class TextSerializer:
    """A str as UTF-8, without a byte order mark. One of a subclass, such as a `StrEnum`, comes back as a str.

    >>> TextSerializer().encode("zwölf")
    (b'zw\\xc3\\xb6lf',)
    """

    name = "text"
    media_type = "text/plain"
    extensions: tuple[str, ...] = (".txt",)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str)

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        if not isinstance(value, str):
            raise SerializationError(f"the text format takes a str, got {type_name(value)}")
        try:
            return (value.encode("utf-8"),)
        except UnicodeEncodeError as error:
            raise SerializationError(
                f"text can't hold the lone surrogate at {error.start}; give such data as bytes"
            ) from error

    def decode(self, data: Buffer) -> str:
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise SerializationError(
                f"this isn't text in UTF-8: {error.reason} at byte {error.start}; read it as bytes"
            ) from error
