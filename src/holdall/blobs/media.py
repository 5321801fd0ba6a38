"""The common part of images, audio and video: bytes in one of several formats."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import Any, ClassVar, Self

from holdall.blobs.bytes import BytesBlob
from holdall.errors import InvalidArgumentError
from holdall.values.media import find_format
from holdall.values.registry import joined


class MediaBlob(BytesBlob):
    """The base of images, audio and video."""

    _kind: ClassVar[type[Any]]
    """Its serializer, a `MediaSerializer`."""

    def __init__(self, blob: Any, *, format: str | None = None) -> None:  # noqa: A002
        serializer = self._kind(format)
        super().__init__(joined(serializer.encode(blob)) if serializer.accepts(blob) else blob)

    @property
    def format(self) -> str | None:
        """The name of the format that the bytes begin as; None if it isn't known."""
        return find_format(self._kind.name, self._bytes)

    @property
    def media_type(self) -> str:
        form = self._kind._formats.get(self.format or "")
        return form.media_type if form else super().media_type

    def as_format(self, format: str) -> Self:  # noqa: A002
        """Return the same in another format, or the blob itself if it has this format.

        Args:
            format: The name of a format, such as a value of `format`.

        Raises:
            InvalidArgumentError: That format isn't known, or can't be written.
            SerializationError: The bytes can't be read, or the format can't hold what they are.
        """
        serializer = self._kind(format)
        if self.format == serializer.format:
            return self
        value = serializer.decode(self._bytes)
        # A clip holds processes until it is closed.
        with closing(value) if hasattr(value, "close") else nullcontext():
            return type(self)(joined(serializer.encode(value)))

    def _for_suffix(self, suffix: str) -> bytes:
        if not suffix:
            return self._bytes
        for form in self._kind._formats.values():
            if suffix in form.extensions:
                return self.as_format(form.name).as_bytes()
        if self.format is not None and suffix == f".{self.format.lower()}":
            return self._bytes
        known = ", ".join(end for form in self._kind._formats.values() for end in form.extensions)
        raise InvalidArgumentError(
            f"{type(self).__name__} can't be written as {suffix!r}; expected one of {known}"
        )

    def _show_brief(self) -> str:
        form = self.format
        try:
            about = "unknown format" if form is None else self._describe(form)
        # A repr never fails, whatever the bytes are and whether or not their package is installed.
        except Exception:  # noqa: BLE001
            about = form
        return f"{about}, {self.size:,} bytes"

    def _describe(self, form: str) -> str:
        """Return what the head of the bytes says, which are in this format; decode nothing. It may raise."""
        raise NotImplementedError
