"""Hints for error messages: which blob class fits a value that isn't a blob."""

from __future__ import annotations

import os
from collections.abc import Mapping

from holdall.blobs import (
    AudioBlob,
    AudioData,
    BytesBlob,
    ImageBlob,
    JsonDictBlob,
    JsonModelBlob,
    StrBlob,
    VideoBlob,
    YamlDictBlob,
    blob_class,
)
from holdall.values.packages import instance


def fitting(key: object, value: object, wanted: type[BytesBlob] = BytesBlob) -> str:
    """Return the code that makes a blob of a value, by its type and the key; `wanted` is the dict's class.

    >>> fitting("a.json", {"x": 1}), fitting("a.yaml", {"x": 1}), fitting("a", "text")
    ('JsonDictBlob({...})', 'YamlDictBlob({...})', "StrBlob('...')")
    >>> fitting("photo.png", b"..."), fitting("a", 5)
    ("ImageBlob(b'...')", "StrBlob('...')")
    """
    named = blob_class(key) if isinstance(key, str) else BytesBlob
    kind, argument = _by_value(value, named)
    if not issubclass(kind, wanted):
        kind = wanted
    return f"{kind.__name__}({argument})"


def _by_value(value: object, named: type[BytesBlob]) -> tuple[type[BytesBlob], str]:
    if isinstance(value, Mapping):
        return named if issubclass(named, YamlDictBlob) else JsonDictBlob, "{...}"
    if isinstance(value, bytes | bytearray | memoryview):
        return named, "b'...'"
    if isinstance(value, os.PathLike):
        return named, "path.read_bytes()"
    if instance(value, "PIL.Image", "Image"):
        return ImageBlob, "picture"
    if isinstance(value, AudioData | tuple) or instance(value, "moviepy", "AudioClip"):
        return AudioBlob, "sound"
    if instance(value, "moviepy", "VideoClip"):
        return VideoBlob, "clip"
    if instance(value, "pydantic", "BaseModel") or instance(value, "msgspec", "Struct"):
        return JsonModelBlob, "model"
    return StrBlob, "'...'"
