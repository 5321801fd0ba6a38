"""The common part of images, audio and video: bytes in one of several formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from holdall.blobs.bytes import BytesBlob
from holdall.errors import InvalidArgumentError
from holdall.values.registry import joined
from holdall.values.serializer import Serializer

__all__ = ["MediaBlob"]


class MediaBlob(BytesBlob):
    """The base of images, audio and video."""

    _formats: ClassVar[Mapping[str, Any]]
    """The formats that are written, by their names: each has `name`, `media_type` and `extensions`."""

    @property
    def format(self) -> str | None:
        """The name of the format that the bytes begin as; None if it isn't known."""
        raise NotImplementedError

    @property
    def media_type(self) -> str:
        form = self._formats.get(self.format or "")
        return form.media_type if form else super().media_type

    def as_format(self, format: str) -> Self:  # noqa: A002
        """Return the same in another format, or the blob itself if it has this format.

        Args:
            format: The name of a format, such as a value of `format`.

        Raises:
            InvalidArgumentError: That format isn't known, or can't be written.
            SerializationError: The bytes can't be read, or the format can't hold what they are.
        """
        serializer = self._serializer(format)
        if self.format == serializer.format:
            return self
        return type(self)(joined(serializer.encode(self._native())))

    @staticmethod
    def _serializer(format: str | None) -> Any:  # noqa: A002
        """The serializer that writes a format."""
        raise NotImplementedError

    def _native(self) -> Any:
        """The value that the serializers encode."""
        raise NotImplementedError

    def _for_suffix(self, suffix: str) -> bytes:
        if not suffix:
            return self._bytes
        for form in self._formats.values():
            if suffix in form.extensions:
                return self.as_format(form.name).as_bytes()
        if self.format is not None and suffix == f".{self.format.lower()}":
            return self._bytes
        known = ", ".join(end for form in self._formats.values() for end in form.extensions)
        raise InvalidArgumentError(
            f"{type(self).__name__} can't be written as {suffix!r}; expected one of {known}"
        )

    def _shown(self) -> str:
        about = self._about()
        return ", ".join((*([about] if about else []), f"{self.size:,} bytes"))

    def _about(self) -> str:
        """Return what the head of the bytes says, cheaply; this never fails."""
        return self.format or "unknown format"


def encoded(serializer: Serializer, value: Any) -> bytes:
    """A value as bytes."""
    return joined(serializer.encode(value))
