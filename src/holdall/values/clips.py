"""MoviePy's clips of files, on readers that leave no pipe open and never wait for one.

The readers of MoviePy 2.2 never read what ffmpeg complains of, and ffmpeg stops when that pipe is full. They
close their pipes only while ffmpeg is still running, start it again after they were closed, and lose the last
picture if sound lasts longer.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Final, cast

from holdall.values.packages import needed

_HEAD: Final = 1 << 14
_LONGER: Final = 0.1
"""How much longer than its pictures a video lasts for its sound, in seconds."""
_ALPHA: Final = b"\x53\xc0\x81\x01"
"""The element AlphaMode of Matroska (RFC 9559), saying yes; it stands before the frames."""

_np: Any = needed("numpy", "video", "video")
_pictures: Any = needed("moviepy.video.io.ffmpeg_reader", "video", "video")
_sounds: Any = needed("moviepy.audio.io.readers", "video", "video")
_videos: Any = needed("moviepy.video.io.VideoFileClip", "video", "video")
_audios: Any = needed("moviepy.audio.io.AudioFileClip", "video", "video")


class _Reader:
    """The common part of the two readers: after `close` they hold nothing."""

    proc: Any = None
    held: object = None
    """What keeps the file alive."""
    over = False

    def initialize(self, start_time: float = 0) -> None:
        held = self.held
        # MoviePy closes the reader first, which must not end it here, even if ffmpeg can't be started now.
        try:
            cast(Any, super()).initialize(start_time)
        finally:
            self.held, self.over = held, False

    def close(self, delete_lastread: bool = True) -> None:
        process, self.proc = self.proc, None
        self.over, self.held = True, None
        if process is not None:
            process.stdout.close()
            process.stderr.close()
            process.kill()
            process.wait()

    def get_frame(self, t: Any) -> Any:
        if self.over:
            raise ValueError("this clip was closed")
        return cast(Any, super()).get_frame(t)


class _Pictures(_Reader, _pictures.FFMPEG_VideoReader):
    depth: int
    size: Any
    pos: int
    n_frames: int
    fps: float
    last_read: Any
    read_at: int

    def read_frame(self) -> Any:
        self.proc.stderr.close()
        width, height = self.size
        data = self.proc.stdout.read(self.depth * width * height)
        if len(data) == self.depth * width * height:
            self.last_read = _np.frombuffer(data, "uint8").reshape(height, width, self.depth)
            self.read_at = self.pos
        elif not hasattr(self, "last_read"):
            raise OSError("no frame can be decoded")
        # Sound may last a little longer than the pictures; the last picture is shown until its end.
        elif max(self.n_frames - self.pos, self.pos - self.read_at) > 1 + _LONGER * self.fps:
            warnings.warn(
                f"this video lacks frame {self.pos} of {self.n_frames}; an earlier one is shown",
                stacklevel=2,
            )
        self.pos += 1
        return self.last_read

    def skip_frames(self, n: int = 1) -> None:
        # Each is kept, since it may turn out to be the last.
        for _ in range(n):
            self.read_frame()


class _Sounds(_Reader, _sounds.FFMPEG_AudioReader):
    fps: int
    duration: float
    nchannels: int
    buffersize: int

    def read_chunk(self, chunksize: float) -> Any:
        self.proc.stderr.close()
        return _sounds.FFMPEG_AudioReader.read_chunk(self, chunksize)

    def get_frame(self, t: Any) -> Any:
        get = super().get_frame
        if not isinstance(t, _np.ndarray):
            return get(t)
        # MoviePy itself fails where it has to divide the times, and where all lie outside the file.
        times: Any = t
        found: Any = _np.zeros((len(times), self.nchannels))
        inside = _np.flatnonzero((times >= 0) & (times < self.duration))
        frames = _np.round(self.fps * times)
        while len(inside):
            near = abs(frames[inside] - frames[inside[0]]) <= self.buffersize // 2
            count = len(inside) if near.all() else int(near.argmin())
            found[inside[:count]] = get(times[inside[:count]])
            inside = inside[count:]
        return found


def make_sound_clip(path: str, held: object = None) -> Any:
    """Return an `AudioFileClip` that reads a file; `held` keeps the file alive."""
    clip = _audios.AudioFileClip.__new__(_audios.AudioFileClip)
    _audios.AudioClip.__init__(clip)
    reader = _Sounds.__new__(_Sounds)
    reader.held = held
    _sounds.FFMPEG_AudioReader.__init__(reader, path, 200_000)
    clip.filename, clip.reader = path, reader
    clip.fps, clip.buffersize, clip.nchannels = reader.fps, reader.buffersize, reader.nchannels
    clip.duration = clip.end = reader.duration
    # The function doesn't hold the clip, so that a dropped clip is freed at once.
    clip.frame_function = reader.get_frame
    return clip


def make_video_clip(path: str, held: object = None) -> Any:
    """Return a `VideoFileClip` that reads a file, with a mask if it is a WebM that has one; `held` keeps the
    file alive."""
    with open(path, "rb") as file:
        clear = _ALPHA in file.read(_HEAD)
    clip = _videos.VideoFileClip.__new__(_videos.VideoFileClip)
    _videos.VideoClip.__init__(clip)
    reader: Any = _Pictures.__new__(_Pictures)
    reader.held = held
    _pictures.FFMPEG_VideoReader.__init__(
        reader, path, decode_file=False, pixel_format="rgba" if clear else "rgb24"
    )
    clip.filename, clip.reader = path, reader
    clip.fps, clip.size, clip.rotation = reader.fps, reader.size, reader.rotation
    clip.duration = clip.end = reader.duration
    clip.frame_function = partial(_read_channels, reader, colors=True) if clear else reader.get_frame
    if clear:
        mask = _videos.VideoClip(partial(_read_channels, reader, colors=False), is_mask=True)
        clip.mask = mask.with_duration(clip.duration).with_fps(clip.fps)
    if reader.infos["audio_found"]:
        clip.audio = make_sound_clip(path, held)
    return clip


def _read_channels(reader: Any, time: Any, *, colors: bool) -> Any:
    """Return the colors of a frame, or how opaque it is, from 0 to 1."""
    frame = reader.get_frame(time)
    return frame[:, :, :3] if colors else frame[:, :, 3] / 255
