"""The protocol of a serializer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Buffer", "Serializer"]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes, contiguous and flat: of a memoryview the format is `B`."""


@runtime_checkable
class Serializer(Protocol):
    """One format: which values it holds, and how they become bytes and values again.

    `decode` returns a value equal to the encoded one, or `encode` raises. A docstring lists what a format
    changes by its nature. A serializer keeps no state of a value, and many threads use it.

    Its module doesn't import optional dependencies, and `accepts` imports nothing at all: values of a library
    exist only once it was imported, so a look at `sys.modules` is enough.
    """

    name: str
    """Its one name, such as `json`; it is kept with blobs, so it never changes."""

    media_type: str
    """As registered with IANA where there is one (RFC 6838), such as `application/json`."""

    extensions: tuple[str, ...]
    """The extensions of file names, with the dot, in lower case; the first is the usual one."""

    def accepts(self, value: Any) -> bool:
        """Return whether it is made for this value, quickly, by its type, without a look at all of it."""
        ...

    def encode(self, value: Any) -> Iterable[Buffer]:
        """Yield the value as buffers.

        A buffer may be the value's own memory, and is valid until the next one is requested.

        Raises:
            SerializationError: The format can't hold this value. Buffers that were yielded before are invalid
                alone.
            MissingDependencyError: The library that writes it isn't installed.
        """
        ...

    def decode(self, data: Buffer) -> Any:
        """Return the value. This never runs code in the bytes.

        Raises:
            SerializationError: The bytes aren't in this format, which the message names.
            UntrustedDataError: Reading them would run code in them, which wasn't allowed.
            MissingDependencyError: The library that reads it isn't installed.
        """
        ...
