"""Typed blobs: bytes that know what they are."""

from __future__ import annotations

from holdall.blobs.audio import AudioBlob, AudioData
from holdall.blobs.bytes import BytesBlob
from holdall.blobs.image import ImageBlob
from holdall.blobs.json import JsonDictBlob, JsonModelBlob
from holdall.blobs.kinds import blob_class
from holdall.blobs.text import StrBlob
from holdall.blobs.video import VideoBlob
from holdall.blobs.yaml import YamlDictBlob

__all__ = [
    "AudioBlob",
    "AudioData",
    "BytesBlob",
    "ImageBlob",
    "JsonDictBlob",
    "JsonModelBlob",
    "StrBlob",
    "VideoBlob",
    "YamlDictBlob",
    "blob_class",
]
