"""Which serializer a value, a name, a media type or a file name asks for."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from holdall.errors import InvalidArgumentError, SerializationError
from holdall.values.serializer import Buffer, Serializer

__all__ = ["ENTRY_POINTS", "Serializers", "joined", "register", "serializers"]

ENTRY_POINTS = "holdall.serializers"
"""The group of entry points by which other packages bring serializers: each is one, or a class of them."""

# In this order they are asked whether they accept a value. Of several for one media type or extension the
# first is taken, so that JSON that nobody gave a model for is read as JSON.
_BUILT_IN = (
    "raw:BytesSerializer",
    "raw:TextSerializer",
    "tensors:SafetensorsSerializer",
    "arrays:ArraySerializer",
    "arrays:NpySerializer",
    "arrays:PlainNpySerializer",
    "frames:ParquetSerializer",
    "images:ImageSerializer",
    "audio:AudioSerializer",
    "video:VideoSerializer",
    "json:JsonSerializer",
    "models:PydanticSerializer",
    "models:MsgspecSerializer",
    "yaml:YamlSerializer",
    "pickles:PickleSerializer",
)


class Serializers:
    """Serializers by what asks for them. Of those that were registered the last is asked first.

    Args:
        members: In the order in which they are asked whether they accept a value.

    >>> from holdall.values import serializers
    >>> serializers.for_value({"a": 1}).name, serializers.for_key("notes/today.txt").name
    ('json', 'text')
    """

    def __init__(self, members: Iterable[Serializer] = ()) -> None:
        self._members = tuple(members)
        self._lock = threading.RLock()

    def register(self, serializer: Serializer) -> None:
        """Add one; it is asked before all others. One of the same name it replaces, in its place.

        Raises:
            InvalidArgumentError: It lacks a part of the protocol.
        """
        if not isinstance(serializer, Serializer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(
                f"{serializer!r} is no serializer: that has name, media_type, extensions, accepts, encode, "
                "decode"
            )
        with self._lock:
            members = tuple(self)
            if any(each.name == serializer.name for each in members):
                # In its place, so that a PickleSerializer with a key, which accepts anything, stays the last.
                self._members = tuple(
                    serializer if each.name == serializer.name else each for each in members
                )
            else:
                self._members = (serializer, *members)

    def __iter__(self) -> Iterator[Serializer]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def for_value(self, value: Any) -> Serializer:
        """The first that accepts a value.

        Raises:
            SerializationError: None does.
        """
        for each in self:
            if each.accepts(value):
                return each
        raise SerializationError(
            f"no serializer accepts a {type(value).__module__}.{type(value).__qualname__}; "
            "register one, such as PickleSerializer(key=...), or give the value as bytes"
        )

    def named(self, name: str) -> Serializer:
        """The one of a name.

        Raises:
            InvalidArgumentError: There is none.
        """
        for each in self:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self)
        raise InvalidArgumentError(f"no serializer is named {name!r}; known are {known}")

    def for_media_type(self, media_type: str) -> Serializer | None:
        """The one of a media type, whose parameters and case don't matter."""
        wanted = media_type.partition(";")[0].strip().lower()
        return next((each for each in self if each.media_type == wanted), None)

    def for_key(self, key: str) -> Serializer | None:
        """The one whose extension a key ends with; of several the longest decides."""
        name = key.rpartition("/")[2].lower()
        best, length = None, 0
        for each in self:
            for extension in each.extensions:
                if len(extension) > length and name.endswith(extension) and name != extension:
                    best, length = each, len(extension)
        return best


def joined(pieces: Iterable[Buffer]) -> bytes:
    """Buffers as one bytes, copied no more often than needed."""
    if isinstance(pieces, (tuple, list)):
        # All of them are there at once.
        whole = pieces[0] if len(pieces) == 1 else None
        return whole if type(whole) is bytes else b"".join(pieces)
    held = [bytes(piece) for piece in pieces]
    return held[0] if len(held) == 1 else b"".join(held)


class _Default(Serializers):
    """The built-in ones, and those of other packages: found when they are first needed."""

    def __iter__(self) -> Iterator[Serializer]:
        with self._lock:
            if not self._members:
                self._members = tuple(self._found())
        return iter(self._members)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @staticmethod
    def _found() -> Iterator[Serializer]:
        from importlib.metadata import entry_points

        for entry in entry_points(group=ENTRY_POINTS):
            loaded = entry.load()
            yield loaded() if isinstance(loaded, type) else loaded
        for each in _BUILT_IN:
            module, _, name = each.partition(":")
            yield getattr(import_module(f"holdall.values.{module}"), name)()


serializers: Serializers = _Default()
"""The serializers that everything uses which isn't told otherwise."""


def register(serializer: Serializer) -> None:
    """Add a serializer to those that everything uses; packages do it by an entry point in the group
    `holdall.serializers`.

    Raises:
        InvalidArgumentError: It lacks a part of the protocol.
    """
    serializers.register(serializer)
