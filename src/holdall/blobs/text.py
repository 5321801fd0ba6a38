"""Text."""

from __future__ import annotations

from holdall.blobs.bytes import BytesBlob
from holdall.values.raw import TextSerializer

_TEXT = TextSerializer()
_SHOWN = 60


class StrBlob(BytesBlob):
    """Text, kept as UTF-8.

    Args:
        blob: The text, or its bytes, which are not looked at before `as_str`.

    Raises:
        SerializationError: The text has a lone surrogate, which UTF-8 can't hold.

    >>> StrBlob("zwölf").as_bytes()
    b'zw\\xc3\\xb6lf'
    >>> str(StrBlob(b"hello"))
    'hello'
    """

    def __init__(self, blob: bytes | bytearray | memoryview | BytesBlob | str) -> None:
        if isinstance(blob, str):
            [blob] = _TEXT.encode(blob)
        super().__init__(blob)

    @property
    def media_type(self) -> str:
        return "text/plain"

    def as_str(self) -> str:
        """Return the text.

        Raises:
            SerializationError: The bytes aren't UTF-8.
        """
        return _TEXT.decode(self._bytes)

    def __str__(self) -> str:
        return self.as_str()

    def _show_brief(self) -> str:
        # Cut in bytes, so that a long text isn't decoded for its first words.
        start = self._bytes[: 4 * _SHOWN + 4]
        try:
            text = (
                start.decode("utf-8") if len(start) == self.size else start.decode("utf-8", errors="ignore")
            )
        except UnicodeDecodeError:
            return super()._show_brief()
        if len(start) == self.size and len(text) <= _SHOWN:
            return repr(text)
        return f"{text[:_SHOWN]!r}..., {self.size:,} bytes"
