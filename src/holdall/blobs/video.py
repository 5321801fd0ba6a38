"""Video."""

from __future__ import annotations

import os
import struct
from pathlib import Path, PurePath
from typing import Any

from holdall.blobs.bytes import BytesBlob
from holdall.blobs.file import save, suffix_of
from holdall.blobs.media import MediaBlob
from holdall.values.packages import needed
from holdall.values.video import VideoSerializer, open_video

_BOXES = 1_000
"""The number of parts of an MP4 that a repr looks at: a damaged one may have a part every eight bytes."""


class VideoBlob(MediaBlob):
    """Video. Bytes are kept as given: MP4, WebM, and the other formats that `VideoSerializer` reads.

    Args:
        blob: The bytes, which are not looked at before `as_video`; or a MoviePy clip, which is rendered.
        format: The format to write: MP4 or WEBM. None is MP4.
        delete_temp_clip_file: Remove the file that a clip was read from, if it is a temporary one.

    Raises:
        SerializationError: The clip lacks a duration or a rate of frames, or fails while it is rendered.
        MissingDependencyError: `pip install 'holdall[video]'`.

    >>> from moviepy import ColorClip
    >>> blob = VideoBlob(ColorClip((32, 16), color=(200, 30, 30), duration=0.5).with_fps(10))
    >>> with blob.as_video() as clip:
    ...     print(blob.media_type, clip.size, clip.duration)
    video/mp4 [32, 16] 0.5
    """

    _kind = VideoSerializer

    def __init__(
        self,
        blob: bytes | bytearray | memoryview | BytesBlob | Any,
        *,
        format: str | None = None,  # noqa: A002
        delete_temp_clip_file: bool = False,
    ) -> None:
        super().__init__(blob, format=format)
        if delete_temp_clip_file:
            drop_source(blob)

    def as_video(self, filename: str | PurePath | None = None) -> Any:
        """Return the video as a MoviePy `VideoFileClip`. Close it, or use it in a `with`, to end its
        processes.

        Args:
            filename: The file to write first, from which the clip then reads; it is yours to remove. With
                None there is no file to remove.

        Raises:
            SerializationError: The bytes aren't video.
            MissingDependencyError: `pip install 'holdall[video]'`.
        """
        if filename is None:
            return VideoSerializer().decode(self._bytes)
        needed("moviepy.video.VideoClip", "video", "video")
        save(filename, self._for_suffix(suffix_of(filename)))
        return open_video(os.path.expanduser(filename))

    def _describe(self, form: str) -> str:
        return f"MP4, {_duration(self._bytes):.2f} s" if form == "MP4" else form


def _duration(data: bytes) -> float:
    """Return the duration in the head of an MP4, in seconds; see ISO/IEC 14496-12, "Movie Header Box".

    Raises:
        Exception: The bytes end too early, or lack a duration.
    """
    start = 0
    # Boxes hold boxes: this looks at the sizes of the outer ones, and into the one of the movie.
    for _ in range(_BOXES):
        size, kind = struct.unpack_from(">I4s", data, start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
        if kind == b"mvhd":
            at, form = (start + 28, ">IQ") if data[start + 8] == 1 else (start + 20, ">II")
            scale, length = struct.unpack_from(form, data, at)
            return length / scale
        if size < 8:
            break
        start += 8 if kind == b"moov" else size
    raise ValueError("no box says how long it lasts")


def drop_source(clip: Any) -> None:
    """Remove the file that a clip of MoviePy reads, if it lies among the temporary files."""
    import tempfile

    name = getattr(clip, "filename", None)
    if isinstance(name, str) and Path(name).resolve().is_relative_to(Path(tempfile.gettempdir()).resolve()):
        clip.close()
        Path(name).unlink(missing_ok=True)
