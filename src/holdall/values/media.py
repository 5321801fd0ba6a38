"""The formats of images, sound and video, and how each is known by its first bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

from holdall.errors import InvalidArgumentError, SerializationError
from holdall.values.serializer import Buffer


class ImageFormat(NamedTuple):
    """A format of pictures."""

    name: str
    """As Pillow calls it."""
    media_type: str
    extensions: tuple[str, ...]
    modes: frozenset[str]
    """The modes of Pillow that it holds as they are."""
    frames: bool
    """Whether it holds more than one picture."""


_SCREEN: Final = frozenset(("L", "LA", "RGB", "RGBA"))

IMAGES: Final[dict[str, ImageFormat]] = {
    each.name: each
    for each in (
        ImageFormat("PNG", "image/png", (".png", ".apng"), _SCREEN | {"1", "P", "I;16", "I;16B"}, True),
        ImageFormat(
            "JPEG", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"), frozenset(("L", "RGB", "CMYK")), False
        ),
        ImageFormat("WEBP", "image/webp", (".webp",), frozenset(("RGB", "RGBA")), True),
        ImageFormat("GIF", "image/gif", (".gif",), frozenset(("1", "L", "P")), True),
        ImageFormat(
            "TIFF",
            "image/tiff",
            (".tiff", ".tif"),
            _SCREEN | {"1", "P", "PA", "I", "F", "I;16", "CMYK", "LAB"},
            True,
        ),
    )
}
"""The formats that are written, by their names."""


class AudioFormat(NamedTuple):
    """A format of sound."""

    name: str
    """As SoundFile calls it."""
    media_type: str
    extensions: tuple[str, ...]


AUDIO: Final[dict[str, AudioFormat]] = {
    each.name: each
    for each in (
        AudioFormat("WAV", "audio/wav", (".wav", ".wave")),
        AudioFormat("FLAC", "audio/flac", (".flac",)),
        AudioFormat("OGG", "audio/ogg", (".ogg", ".oga")),
        AudioFormat("MP3", "audio/mpeg", (".mp3",)),
    )
}
"""The formats that are written, by their names."""


class VideoFormat(NamedTuple):
    """A format of video."""

    name: str
    media_type: str
    extensions: tuple[str, ...]
    muxer: str
    """As ffmpeg calls it."""
    video: str
    """Its options of ffmpeg for the picture."""
    audio: str
    """And for the sound."""


VIDEO: Final[dict[str, VideoFormat]] = {
    each.name: each
    for each in (
        VideoFormat(
            "MP4",
            "video/mp4",
            (".mp4", ".m4v"),
            "mp4",
            # The data that a player needs first come first.
            "-c:v libx264 -preset medium -movflags +faststart",
            "-c:a aac -b:a 192k",
        ),
        VideoFormat(
            "WEBM",
            "video/webm",
            (".webm",),
            "webm",
            "-c:v libvpx-vp9 -crf 31 -b:v 0 -row-mt 1 -deadline good -cpu-used 4",
            "-c:a libopus -b:a 128k",
        ),
    )
}
"""The formats that are written, by their names."""

_STARTS: Final = {
    "image": {
        "PNG": rb"\x89PNG\r\n\x1a\n",
        "JPEG": rb"\xff\xd8\xff",
        "WEBP": rb"RIFF....WEBP",
        "GIF": rb"GIF8[79]a",
        "TIFF": rb"II[*+]\0|MM\0[*+]",
        "BMP": rb"BM",
        "AVIF": rb"....ftypavi[fs]",
    },
    "audio": {
        "WAV": rb"(?:RIFF|RF64)....WAVE",
        "FLAC": rb"fLaC",
        "OGG": rb"OggS",
        # With tags, or with the first frame of MPEG audio, layer III.
        "MP3": rb"ID3|\xff[\xe2\xe3\xea\xeb\xf2\xf3\xfa\xfb]",
    },
    "video": {
        # QuickTime had no brands at first; some brands are images.
        "MP4": rb"....(?:ftyp(?!avi[fs]|heic|mif1)|moov|mdat|wide|free|skip)",
        "WEBM": rb"\x1aE\xdf\xa3",
        "AVI": rb"RIFF....AVI ",
        "OGG": rb"OggS",
    },
}
"""What the bytes of each format begin with."""


def find_format(kind: str, data: Buffer) -> str | None:
    """Return the name of the format of images, audio or video that some bytes begin as.

    >>> find_format("audio", b"OggS..."), find_format("image", b"OggS...")
    ('OGG', None)
    """
    head = bytes(data[:16])
    return next((name for name, start in _STARTS[kind].items() if re.match(start, head, re.DOTALL)), None)


def image_format(data: Buffer) -> str | None:
    """Return the name of the image format that some bytes begin as, found without Pillow.

    >>> image_format(b"GIF89a...")
    'GIF'
    """
    return find_format("image", data)


def audio_format(data: Buffer) -> str | None:
    """Return the name of the format of sound that some bytes begin as, found without SoundFile.

    >>> audio_format(b"fLaC...")
    'FLAC'
    """
    return find_format("audio", data)


def video_format(data: Buffer) -> str | None:
    """Return the name of the format of video that some bytes begin as, found without MoviePy.

    >>> video_format(b"\\0\\0\\0\\x20ftypisom")
    'MP4'
    """
    return find_format("video", data)


class MediaSerializer:
    """The base of the serializers of images, sound and video."""

    name: str
    media_type: str
    extensions: tuple[str, ...]
    _formats: ClassVar[Mapping[str, Any]]
    """The formats that are written, by their names."""

    def __init__(self, format: str | None, default: str | None) -> None:  # noqa: A002
        self.format: Any = default
        name = str(format).upper()
        found = self._formats.get({"JPG": "JPEG", "TIF": "TIFF"}.get(name, name))
        if found is not None:
            self.format, self.media_type, self.extensions = found.name, found.media_type, found.extensions
        elif format is not None:
            raise InvalidArgumentError(
                f"{self.name} is written as one of {', '.join(self._formats)}, not as {format!r}"
            )

    def _explain_unread(self, data: Buffer, what: str, why: object) -> SerializationError:
        """Return the error of bytes that can't be read."""
        begun = find_format(self.name, data)
        expected = f"these bytes begin as {begun}" if begun else f"expected {', '.join(self._formats)}"
        return SerializationError(f"this isn't {what} that can be read: {expected}: {why}")
