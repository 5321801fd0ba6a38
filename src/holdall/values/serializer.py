"""What a format is to holdall."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Buffer", "Serializer"]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes, contiguous and flat: of a memoryview the format is `B`."""


@runtime_checkable
class Serializer(Protocol):
    """One format: which values it holds, and how they become bytes and values again.

    What `decode` gives back equals what was encoded, or `encode` raises; what a format changes by its nature,
    it says in its docstring. A serializer holds no state of a value and is used by many threads.

    Its module imports no optional dependency; `accepts` imports nothing at all: a value of a library that was
    never imported has no values yet, so `sys.modules` is enough.
    """

    name: str
    """Its one name, such as `json`; it is kept with blobs, so it never changes."""

    media_type: str
    """As registered with IANA where there is one (RFC 6838), such as `application/json`."""

    extensions: tuple[str, ...]
    """The ends of file names, with the dot, in lower case; the first is the usual one."""

    def accepts(self, value: Any) -> bool:
        """Whether it is made for this value: by its type, at once, without a look at all of it."""
        ...

    def encode(self, value: Any) -> Iterable[Buffer]:
        """The value as buffers, one after the other.

        A buffer may be the value's own memory, and is good until the next is asked for.

        Raises:
            SerializationError: The format can't hold this value; nothing was given yet, or nothing that is
                given makes sense alone.
            MissingDependencyError: The library that writes it isn't installed.
        """
        ...

    def decode(self, data: Buffer) -> Any:
        """The value again. It never runs code that the bytes bring along.

        Raises:
            SerializationError: The bytes are not in this format, which the message names.
            UntrustedDataError: Reading them would run what they say, which wasn't allowed.
            MissingDependencyError: The library that reads it isn't installed.
        """
        ...
