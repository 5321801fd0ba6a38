"""Which type of blob a name or a media type asks for."""

from __future__ import annotations

from functools import cache, lru_cache
from os.path import splitext
from typing import TYPE_CHECKING

from holdall.blobs.audio import AudioBlob
from holdall.blobs.bytes import BytesBlob
from holdall.blobs.image import ImageBlob
from holdall.blobs.json import JsonDictBlob
from holdall.blobs.text import StrBlob
from holdall.blobs.video import VideoBlob
from holdall.blobs.yaml import YamlDictBlob

if TYPE_CHECKING:
    from mimetypes import MimeTypes

__all__ = ["blob_class"]

_BY_MEDIA_TYPE: dict[str, type[BytesBlob]] = {
    "application/json": JsonDictBlob,
    "application/yaml": YamlDictBlob,
    "application/x-yaml": YamlDictBlob,
    "text/yaml": YamlDictBlob,
    "text/x-yaml": YamlDictBlob,
    "application/xml": StrBlob,
    "application/javascript": StrBlob,
    "application/x-sh": StrBlob,
    "application/x-tex": StrBlob,
    "application/toml": StrBlob,
    "image/svg+xml": StrBlob,
}
_BY_TYPE: dict[str, type[BytesBlob]] = {
    "text": StrBlob,
    "image": ImageBlob,
    "audio": AudioBlob,
    "video": VideoBlob,
}
_BY_SUFFIX = {
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".md": "text/markdown",
    ".webp": "image/webp",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".ogv": "video/ogg",
    ".webm": "video/webm",
    ".m4v": "video/mp4",
}


def blob_class(key: str, media_type: str | None = None) -> type[BytesBlob]:
    """The type of blob for a key, by its media type, which the end of the key tells where it isn't given.

    Args:
        key: A key, or the name of a file.
        media_type: Such as `image/png`; its parameters don't matter.

    >>> blob_class("photos/oma.jpg").__name__, blob_class("x", "text/plain; charset=utf-8").__name__
    ('ImageBlob', 'StrBlob')
    >>> blob_class("data.bin").__name__
    'BytesBlob'
    """
    if media_type is None:
        media_type = _guessed(key)
    kind = media_type.partition(";")[0].strip().lower()
    if kind.endswith("+json"):
        return JsonDictBlob
    return _BY_MEDIA_TYPE.get(kind) or _BY_TYPE.get(kind.partition("/")[0]) or BytesBlob


def _guessed(key: str) -> str:
    name, last = splitext(key.rpartition("/")[2])
    if not last:
        return ""
    return _BY_SUFFIX.get(last.lower()) or _by_suffixes(splitext(name)[1], last)


@lru_cache(512)
def _by_suffixes(first: str, last: str) -> str:
    """What the last two suffixes of a name tell: the first one counts where the last one is an encoding."""
    # What is compressed has the type of what it holds, by this guess; but its bytes are something else.
    # As a path, not as a URL, in which ';', '?' and '#' would mean something.
    kind, encoding = _types().guess_type(f"/x{first}{last}".replace(":", "_"), strict=False)
    return kind if kind is not None and encoding is None else ""


@cache
def _types() -> MimeTypes:
    """What Python knows only: what a machine knows beside that would differ from one to another."""
    from mimetypes import MimeTypes

    return MimeTypes()
