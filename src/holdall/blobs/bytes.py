"""Any bytes: the base of all blobs."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from importlib import import_module
from pathlib import PurePath
from typing import Any, Self, TypeVar, cast

from holdall.blobs.file import load, save, suffix_of
from holdall.errors import InvalidArgumentError, InvalidDataError, SerializationError
from holdall.values.packages import needed

B = TypeVar("B", bound="BytesBlob")

_SHOWN = 60


class BytesBlob:
    """Any bytes. A blob never changes; it equals another of the same bytes, whatever their types, and the
    bytes themselves.

    Args:
        blob: The bytes, or another blob, whose bytes they are.

    Raises:
        InvalidDataError: It is something else.

    >>> blob = BytesBlob(b"hello")
    >>> blob.as_bytes(), blob.as_b64_str(), blob == b"hello"
    (b'hello', 'aGVsbG8=', True)
    >>> from holdall.blobs import StrBlob
    >>> blob.as_blob(StrBlob)
    StrBlob('hello')
    """

    def __init__(self, blob: bytes | bytearray | memoryview | BytesBlob) -> None:
        if isinstance(blob, BytesBlob):
            blob = blob._bytes
        elif not isinstance(blob, (bytes, bytearray, memoryview)):
            raise InvalidDataError(f"{type(self).__name__} can't be made of {type(blob).__name__}")
        self._bytes = bytes(blob)

    @classmethod
    def from_bytes(cls, b: bytes, *, compression: bool = False) -> Self:
        """Make a blob of bytes.

        Args:
            b: The bytes.
            compression: They are compressed by Zstandard (RFC 8878).

        Raises:
            SerializationError: They aren't.
            InvalidDataError: They aren't bytes.
            MissingDependencyError: Zstandard isn't installed.
        """
        if compression:
            if not isinstance(b, (bytes, bytearray, memoryview)):
                raise InvalidDataError(f"expected compressed bytes, got {type(b).__name__}")
            module = _zstd()
            try:
                b = module.decompress(bytes(b))
            except (module.ZstdError, ValueError, EOFError) as error:
                raise SerializationError(f"this isn't compressed by Zstandard: {error}") from error
        return cls(b)

    @classmethod
    def from_b64_str(cls, s: str | bytes) -> Self:
        """Make a blob from base64 text (RFC 4648); line breaks don't matter.

        Raises:
            SerializationError: It isn't base64.
            InvalidDataError: It isn't text.
        """
        if not isinstance(s, (str, bytes, bytearray)):
            raise InvalidDataError(f"expected base64 as a str or bytes, got {type(s).__name__}")
        try:
            joined = "".join(s.split()) if isinstance(s, str) else b"".join(s.split())
            return cls(b64decode(joined, validate=True))
        except ValueError as error:
            raise SerializationError(f"this isn't base64: {error}") from error

    @classmethod
    def load(cls, f: str | PurePath | Any) -> Self:
        """Make a blob of the contents of a file.

        Args:
            f: Its path; `~` is the home folder. Or any object that has `read_bytes`.

        Raises:
            OSError: As from `open`.
        """
        return cls(load(f))

    def dump(self, f: str | PurePath | Any) -> None:
        """Write a file, whole or not at all. The suffix of its name chooses the format, if it is known.

        Args:
            f: Its path; `~` is the home folder. Or any object that has `write_bytes`.

        Raises:
            OSError: As from `open`; what was there before is untouched.
            InvalidArgumentError: This type has no format with that suffix.
            SerializationError: The format that the suffix asks for can't hold it.
        """
        save(f, self._for_suffix(suffix_of(f)))

    def _for_suffix(self, suffix: str) -> bytes:
        """Return the bytes for a file whose name has this end, in lower case and with its dot, or none."""
        return self._bytes

    def as_bytes(self, *, compression: bool = False) -> bytes:
        """Return the bytes.

        Args:
            compression: Compress them by Zstandard.

        Raises:
            MissingDependencyError: Zstandard isn't installed.
        """
        return _zstd().compress(self._bytes) if compression else self._bytes

    def as_b64_str(self) -> str:
        """Return the bytes as base64 text, in one line."""
        return b64encode(self._bytes).decode("ascii")

    def as_blob(self, blob_class: type[B], blob_class_args: Mapping[str, Any] | None = None) -> B:
        """Return the same bytes as another type of blob; they are neither changed nor checked.

        Args:
            blob_class: The type.
            blob_class_args: Keyword arguments for it.
        """
        if not (isinstance(blob_class, type) and issubclass(blob_class, BytesBlob)):
            raise InvalidArgumentError(f"as_blob takes a class of blobs, not {blob_class!r}")
        return blob_class(self._bytes, **(blob_class_args or {}))

    @property
    def media_type(self) -> str:
        """The media type of the bytes, as registered with IANA if there is one."""
        return "application/octet-stream"

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._bytes)

    def __bytes__(self) -> bytes:
        return self._bytes

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BytesBlob):
            return self._bytes == other._bytes
        if isinstance(other, (bytes, bytearray, memoryview)):
            return self._bytes == cast("bytes", other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._show_brief()})"

    def _show_brief(self) -> str:
        """Return the text in the brackets of the repr; this never fails."""
        if len(self._bytes) <= _SHOWN:
            return repr(self._bytes)
        return f"{self._bytes[:32]!r}..., {self.size:,} bytes"


def _zstd() -> Any:
    """Return the module of Zstandard, which makes a blob one frame (RFC 8878)."""
    try:
        return import_module("compression.zstd")
    except ImportError:
        return needed("backports.zstd", "zstd", "Zstandard")
