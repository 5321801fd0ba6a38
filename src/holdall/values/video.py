"""MoviePy's video clips, as MP4 and WebM."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterator
from typing import IO, Any, Final

from holdall.errors import SerializationError, StoreUnavailableError
from holdall.values.media import VIDEO, MediaSerializer, VideoFormat, video_format
from holdall.values.packages import instance, needed
from holdall.values.same import type_name
from holdall.values.serializer import Buffer

__all__ = ["VIDEO", "VideoFormat", "VideoSerializer", "open_sound", "open_video", "video_format"]

_CHUNK: Final = 1 << 20


class VideoSerializer(MediaSerializer):
    """A MoviePy clip, as MP4 (H.264 and AAC) or WebM (VP9 and Opus). Both lose detail, by their nature.

    A clip needs a duration and a rate of frames (`clip.with_fps(24)`); its sound comes along. WebM keeps the
    transparency of a clip with a mask; MP4 lacks transparency, and shows such a clip on black.

    Video is read as a MoviePy `VideoFileClip`, with a mask if a WebM has one. Neither way leaves a file
    behind: the bytes are in a file without a name, which disappears with the last clip that reads it, or when
    the process ends in any way. (Systems other than Linux lack such files; there it is a temporary folder,
    which is removed then, but survives if the process is killed.)

    Only MP4 and QuickTime, WebM and Matroska, AVI and Ogg are read: bytes of other formats could make ffmpeg
    open other files.

    Args:
        format: MP4 or WEBM. None is MP4.

    >>> VideoSerializer("webm").media_type
    'video/webm'
    """

    name = "video"
    media_type = "video/mp4"
    extensions: tuple[str, ...] = tuple(end for each in VIDEO.values() for end in each.extensions)

    _formats = VIDEO

    def __init__(self, format: str | None = None) -> None:  # noqa: A002
        super().__init__(format, "MP4")

    def accepts(self, value: Any) -> bool:
        return instance(value, "moviepy.video.VideoClip", "VideoClip")

    def encode(self, value: Any) -> Iterator[Buffer]:
        video = needed("moviepy.video.VideoClip", "video", "video")
        if not isinstance(value, video.VideoClip):
            raise SerializationError(f"the video format takes a MoviePy clip, got {type_name(value)}")
        return _encode_clip(value, VIDEO[self.format]).chunks()

    def decode(self, data: Buffer) -> Any:
        needed("moviepy.video.VideoClip", "video", "video")
        if video_format(data) is None:
            raise SerializationError(f"this isn't video that can be read: expected {' or '.join(VIDEO)}")
        scratch = _Scratch()
        scratch.write(data)
        return open_video(scratch.path, scratch)


class _Scratch:
    """A file without a name, which other programs open by a path; it disappears when no process has it
    open."""

    def __init__(self) -> None:
        import tempfile

        try:
            if os.path.isdir("/proc/self/fd"):
                self.file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
                self.path = f"/proc/{os.getpid()}/fd/{self.file.fileno()}"
                weakref.finalize(self, self.file.close)
            else:
                folder = tempfile.TemporaryDirectory(prefix="holdall-", ignore_cleanup_errors=True)
                self.path = os.path.join(folder.name, "video")
                self.file = open(self.path, "w+b", buffering=0)  # noqa: SIM115
                # In this order, since some systems don't remove open files; the last one is called first.
                weakref.finalize(self, folder.cleanup)
                weakref.finalize(self, self.file.close)
        except OSError as error:
            raise _explain_no_room(error) from error

    def write(self, data: Any) -> None:
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        try:
            while view:
                view = view[self.file.write(view) :]
        except OSError as error:
            raise _explain_no_room(error) from error

    def chunks(self) -> Iterator[bytes]:
        self.file.seek(0)
        while chunk := self.file.read(_CHUNK):
            yield chunk


def _explain_no_room(error: OSError) -> StoreUnavailableError:
    import tempfile

    return StoreUnavailableError(f"a video needs a temporary file in {tempfile.gettempdir()}: {error}")


def _encode_clip(clip: Any, form: VideoFormat) -> _Scratch:
    rate = getattr(clip, "fps", None)
    if not rate:
        raise SerializationError("this clip lacks a frame rate; give it one: with_fps(24)")
    if not clip.duration:
        raise SerializationError("this clip lacks a duration; give it one: with_duration(seconds)")
    if not math.isfinite(rate) or not math.isfinite(clip.duration):
        raise SerializationError(
            f"a clip of {clip.duration} seconds with {rate} frames a second can't be rendered; give it "
            "others: with_duration(seconds), with_fps(24)"
        )
    if getattr(clip, "is_mask", False):
        clip = clip.to_RGB()
    try:
        width, height = (int(each) for each in clip.size)
    except (TypeError, ValueError) as error:
        raise SerializationError(f"expected a clip with a size in pixels, got {clip.size!r}") from error
    clear = clip.mask is not None and form.name == "WEBM"
    command = [needed("moviepy.config", "video", "video").FFMPEG_BINARY, "-y", "-loglevel", "error"]
    command += f"-f rawvideo -pix_fmt {'rgba' if clear else 'rgb24'} -s {width}x{height}".split()
    command += ["-framerate", f"{float(rate):.12g}", "-i", "pipe:0"]
    sound = _render_sound(clip) if clip.audio is not None else None
    if sound is not None:
        scratch, audio_rate, channels = sound
        command += f"-f f32le -ar {audio_rate} -ac {channels} -i".split()
        command += [scratch.path, *form.audio.split()]
    # H.264 halves the colors' resolution of pictures of even size only.
    halved = form.name == "WEBM" or (width % 2 == 0 and height % 2 == 0)
    command += [*form.video.split(), "-pix_fmt", "yuva420p" if clear else "yuv420p" if halved else "yuv444p"]
    target = _Scratch()
    command += ["-f", form.muxer, target.path]
    _run_ffmpeg(command, _render_frames(clip, float(rate), (height, width), clear), form)
    return target


def _render_frames(clip: Any, rate: float, size: tuple[int, int], clear: bool) -> Iterator[bytes]:
    np = needed("numpy", "video", "video")
    # As for sound: the duration of a whole number of frames may come out a little too short.
    count = max(1, int(clip.duration * rate + 1e-3))
    for number in range(count):
        time = number / rate
        try:
            frame = np.asarray(clip.get_frame(time))
            mask = None if clip.mask is None else np.clip(np.asarray(clip.mask.get_frame(time)), 0, 1)
        # The user sees an error of the clip's functions as the cause.
        except Exception as error:
            raise SerializationError(f"this clip fails at {time:.2f} s: {error}") from error
        if frame.shape != (*size, 3) or (mask is not None and mask.shape != size):
            raise SerializationError(
                f"this clip has a frame of shape {frame.shape} at {time:.2f} s, not {(*size, 3)}"
            )
        if mask is not None and clear:
            frame = np.dstack((frame, 255 * mask))
        elif mask is not None:
            frame = frame * mask[:, :, None]
        yield frame.astype("uint8").tobytes()


def _render_sound(clip: Any) -> tuple[_Scratch, int, int]:
    from holdall.values.audio import rendered

    audio = clip.audio
    if audio.duration is None or audio.duration > clip.duration:
        audio = audio.with_duration(clip.duration)
    scratch = _Scratch()
    rate, channels, blocks = rendered(audio)
    for block in blocks:
        scratch.write(block.data.cast("B"))
    return scratch, rate, channels


def _run_ffmpeg(command: list[str], frames: Iterator[bytes], form: VideoFormat) -> None:
    """Run ffmpeg and give it the frames."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
        ) as process:
            assert process.stdin is not None
            try:
                for frame in frames:
                    view = memoryview(frame)
                    while view:
                        view = view[process.stdin.write(view) :]
            except BrokenPipeError:
                # ffmpeg ended early; its output says why.
                pass
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            why = said.read(4096).decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise SerializationError(f"ffmpeg can't write this clip as {form.name}: {why}")


def open_video(path: str, held: object = None) -> Any:
    """Return a clip that reads a file.

    Args:
        path: Of the file, as ffmpeg takes it.
        held: An object that keeps the file alive.

    Raises:
        SerializationError: It isn't a video.
    """
    # This imports MoviePy.
    from holdall.values.clips import make_video_clip

    try:
        return make_video_clip(path, held)
    # Besides OSError, MoviePy's parser of ffmpeg's output raises errors of many types.
    except Exception as error:
        said = str(error).strip().splitlines()
        why = said[-1] if said else type(error).__name__
        raise SerializationError(
            f"this isn't video that can be read: expected {' or '.join(VIDEO)}: {why}"
        ) from error


def open_sound(path: str) -> Any:
    """Return a MoviePy audio clip that reads a file.

    Args:
        path: Of the file, as ffmpeg takes it.

    Raises:
        SerializationError: It lacks sound.
        MissingDependencyError: MoviePy isn't installed.
    """
    # This imports MoviePy.
    from holdall.values.clips import make_sound_clip

    try:
        return make_sound_clip(path)
    except Exception as error:
        raise SerializationError("this isn't sound that can be read: expected WAV, FLAC, OGG, MP3") from error
