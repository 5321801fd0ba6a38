"""Sound, as samples and their rate."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdall.errors import SerializationError
from holdall.values.media import AUDIO, AudioFormat, MediaSerializer, audio_format
from holdall.values.packages import instance, needed
from holdall.values.same import type_name
from holdall.values.serializer import Buffer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["AUDIO", "AudioData", "AudioFormat", "AudioSerializer", "audio_format", "rendered", "whole_wav"]


class AudioData(NamedTuple):
    """Sound as SoundFile reads and writes it.

    >>> AudioData([0.0, 0.5], 8000).sample_rate
    8000
    """

    data: npt.NDArray[np.int16 | np.int32 | np.float32 | np.float64] | Any
    """The samples: for mono one a frame, otherwise a row a frame and a column a channel. Floats are in -1 to
    1."""
    sample_rate: int
    """Frames a second."""


_DTYPES: Final = ("int16", "int32", "float32", "float64")
_READ_AS: Final = {
    "PCM_16": "int16",
    "PCM_S8": "int16",
    "PCM_U8": "int16",
    "ULAW": "int16",
    "ALAW": "int16",
    "PCM_24": "int32",
    "PCM_32": "int32",
    "DOUBLE": "float64",
}
_BLOCK: Final = 1 << 16
"""Frames written at once: libsndfile keeps a whole write of Vorbis on its stack."""
_ENDLESS: Final = 0x7F000000
_CHUNKS: Final = 1_000
"""The number of chunks of a WAV that are read before its samples."""
_VORBIS_RATE: Final = 200_000
_VORBIS_CHANNELS: Final = 255
"""The most that libvorbis encodes: libsndfile ends the process if it refuses."""
_RENDERED: Final = 2_000
"""Frames rendered at once, as MoviePy does itself."""
_RATE: Final = 44_100
_LOUDEST: Final = 1e4
"""Full scale is 1."""


class AudioSerializer(MediaSerializer):
    """Sound, exact: samples as WAV in their own type, and MoviePy's audio clips as WAV of 32-bit floats.

    The samples are int16, int32, float32 or float64, which come back as they were; one channel comes back as
    one dimension. A format that is asked for by its name keeps what it can: FLAC is exact for int16 and for
    int32 of 24 bits, those in the upper three bytes, as SoundFile reads them, and refuses all others; OGG
    (Vorbis) and MP3 lose what isn't heard, and come back as float32.

    A WAV or a FLAC that was cut off is refused; an OGG or an MP3, which don't hold their length, is read as
    far as it goes. So is a WAV whose length is 0, since its recorder was killed, or endless, since it was
    written to a pipe.

    Args:
        format: One of WAV, FLAC, OGG and MP3. None is WAV.

    >>> import numpy as np
    >>> serializer = AudioSerializer()
    >>> wav = b"".join(serializer.encode(AudioData(np.array([0, 1, -1], "int16"), 8000)))
    >>> serializer.decode(wav)
    AudioData(data=array([ 0,  1, -1], dtype=int16), sample_rate=8000)
    """

    name = "audio"
    media_type = "audio/wav"
    extensions: tuple[str, ...] = tuple(end for each in AUDIO.values() for end in each.extensions)

    _formats = AUDIO

    def __init__(self, format: str | None = None) -> None:  # noqa: A002
        super().__init__(format, "WAV")

    def accepts(self, value: Any) -> bool:
        return isinstance(value, AudioData) or instance(value, "moviepy.audio.AudioClip", "AudioClip")

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        if instance(value, "moviepy.audio.AudioClip", "AudioClip"):
            value = _render_clip(value)
        if not isinstance(value, AudioData):
            raise SerializationError(
                f"the audio format takes AudioData or a MoviePy audio clip, got {type_name(value)}"
            )
        samples, rate = _check_samples(value)
        if self.format == "WAV":
            return _write_wav(samples, rate)
        return (_write_sound(samples, rate, self.format),)

    def decode(self, data: Buffer) -> AudioData:
        soundfile = needed("soundfile", "audio", "sound")
        data = whole_wav(data)
        try:
            with soundfile.SoundFile(BytesIO(data)) as file:
                return AudioData(_read_samples(file, len(data)), file.samplerate)
        except SerializationError:
            raise
        # Besides its own error, SoundFile raises errors of NumPy and of callbacks from C.
        except Exception as error:
            raise self._explain_unread(data, "sound", _explain(error)) from error


def whole_wav(data: Buffer) -> Buffer:
    """Return the bytes of a WAV with the length of its samples, if its writer never wrote the length: it is 0
    in a file whose recorder was killed. Other bytes are returned as they are.

    Raises:
        SerializationError: It was cut off.
    """
    view = memoryview(data)
    if audio_format(view) != "WAV":
        return data
    found = _find_samples(view)
    if found is None:
        return data
    at, size, frame = found
    there = len(view) - at
    # A program that writes to a pipe doesn't know the length, and claims an endless one.
    if size < _ENDLESS and size > there:
        raise SerializationError(
            f"this WAV was cut off: expected {size} bytes of samples, got {there}; if that is all there is, "
            "set its length"
        )
    if size or not there or _are_chunks(view[at:]):
        return data
    if bytes(view[:4]) != b"RIFF":
        raise SerializationError(f"the length of this WAV is 0, but {there} bytes follow its header")
    kept = there - there % frame
    head = bytearray(view[:at])
    struct.pack_into("<I", head, 4, min(at + kept - 8, (1 << 32) - 1))
    struct.pack_into("<I", head, at - 4, min(kept, (1 << 32) - 1))
    return b"".join((head, view[at : at + kept]))


def _find_samples(view: memoryview) -> tuple[int, int, int] | None:
    """Return where the samples of a WAV begin, their number of bytes by the header, and the bytes of a
    frame."""
    at, frame, long_size = 12, 1, None
    for _ in range(_CHUNKS):
        if at + 8 > len(view):
            return None
        name, size = struct.unpack_from("<4sI", view, at)
        at += 8
        if name == b"data":
            # A file of more than 4 GiB has its length in a separate chunk (EBU Tech 3306).
            return at, long_size if long_size is not None and size == 0xFFFFFFFF else size, frame
        if name == b"fmt " and at + 14 <= len(view):
            (frame,) = struct.unpack_from("<H", view, at + 12)
            frame = frame or 1
        elif name == b"ds64" and at + 16 <= len(view):
            (long_size,) = struct.unpack_from("<Q", view, at + 8)
        at += size + size % 2
    return None


def _are_chunks(view: memoryview) -> bool:
    """Return whether bytes are chunks of a WAV from begin to end, such as those that say who made it."""
    at = 0
    for _ in range(_CHUNKS):
        if at >= len(view):
            return True
        if at + 8 > len(view) or not all(32 <= each < 127 for each in view[at : at + 4]):
            return False
        (size,) = struct.unpack_from("<I", view, at + 4)
        at += 8 + size + size % 2
        # The last one may lack the byte that makes its length even.
        if at > len(view) + 1:
            return False
    return False


def _read_samples(file: Any, size: int) -> Any:
    dtype = _READ_AS.get(file.subtype, "float32")
    count: int = file.frames
    # A header may claim any length: memory is taken for what is there, not for what is claimed.
    if count * file.channels <= (1 << 20) + 16 * size:
        samples = file.read(dtype=dtype)
    else:
        np = needed("numpy", "audio", "sound")
        blocks: list[Any] = []
        while len(block := file.read(_BLOCK, dtype=dtype)):
            blocks.append(block)
        samples = np.concatenate(blocks) if blocks else file.read(0, dtype=dtype)
    if file.format == "FLAC" and len(samples) != count:
        raise SerializationError(f"this FLAC was cut off: it has {len(samples)} of {count} frames")
    return samples


def _check_samples(value: AudioData) -> tuple[Any, int]:
    """Return the samples, contiguous and little-endian, and the rate."""
    np = needed("numpy", "audio", "sound")
    try:
        samples = np.asarray(value.data)
    except (ValueError, TypeError) as error:
        raise SerializationError(f"the audio format takes an array of samples: {error}") from error
    if instance(value.data, "numpy.ma", "MaskedArray"):
        raise SerializationError("the audio format can't hold a mask; give the samples as array.filled(0)")
    if not samples.size and samples.dtype == object:
        raise SerializationError("the audio format takes an array of samples, got an empty list")
    kind = samples.dtype.newbyteorder("<")
    if kind.name not in _DTYPES:
        raise SerializationError(
            f"the audio format takes samples of {', '.join(_DTYPES)}, not of {kind.name}; "
            "convert them with astype"
        )
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise SerializationError(
            f"the audio format takes an array of frames, or of frames and channels, not {samples.shape}"
        )
    try:
        rate = int(value.sample_rate)
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"a sample rate is a number of Hz, not {value.sample_rate!r}") from error
    if rate != value.sample_rate or not 0 < rate < 1 << 31:
        raise SerializationError(f"a sample rate is a whole number of Hz, not {value.sample_rate!r}")
    return np.ascontiguousarray(samples, dtype=kind), rate


def _write_wav(samples: Any, rate: int) -> tuple[Buffer, ...]:
    """Return a header, and the samples where they lie.

    SoundFile would stamp the time on it, so that the same sound would have other bytes each second.
    See RFC 2361, and "Multimedia Programming Interface and Data Specifications 1.0" of IBM and Microsoft.
    """
    width: int = samples.dtype.itemsize
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    size: int = samples.nbytes
    # 1024 channels are the most that libsndfile reads.
    if size >= (1 << 32) - 64 or channels > 1024:
        raise SerializationError(
            "WAV holds up to 4 GiB in up to 1,024 channels; give it in parts, or as FLAC"
        )
    floats = samples.dtype.kind == "f"
    frame = width * channels
    # The bytes a second, up to the limit of the field.
    pace = min(rate * frame, (1 << 32) - 1)
    form = struct.pack("<HHIIHH", 3 if floats else 1, channels, rate, pace, frame, width * 8)
    if floats:
        fact = struct.pack("<4sII", b"fact", 4, len(samples))
        form += b"\0\0"
    else:
        fact = b""
    body = struct.pack("<4sI", b"fmt ", len(form)) + form + fact + struct.pack("<4sI", b"data", size)
    head = struct.pack("<4sI4s", b"RIFF", 4 + len(body) + size, b"WAVE") + body
    return (head, samples.data.cast("B")) if size else (head,)


def _write_sound(samples: Any, rate: int, name: str) -> bytes:
    soundfile = needed("soundfile", "audio", "sound")
    np = needed("numpy", "audio", "sound")
    subtype = None
    if name == "FLAC":
        subtype = "PCM_16" if samples.dtype.name == "int16" else "PCM_24"
        if samples.dtype.kind == "f" or (samples.dtype.name == "int32" and np.any(samples & 0xFF)):
            raise SerializationError(
                f"FLAC has 16 bits for int16 and 24 for int32, and would round these {samples.dtype.name} "
                "samples: choose WAV, which keeps them, or convert them first, as samples & ~0xFF or with "
                "astype('int16')"
            )
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if not len(samples) and name != "OGG":
        raise SerializationError(f"{name} can't hold sound without a single frame; WAV can")
    if name == "OGG" and (rate > _VORBIS_RATE or channels > _VORBIS_CHANNELS):
        raise SerializationError(
            f"OGG can't hold {channels} channels at {rate} Hz: it has at most {_VORBIS_CHANNELS} channels, "
            f"and {_VORBIS_RATE:,} Hz"
        )
    # libmp3lame aborts the process for such samples; Vorbis writes silence.
    if samples.dtype.kind == "f" and len(samples) and not abs(samples).max() < _LOUDEST:
        raise SerializationError(
            f"{name} can't hold samples that aren't numbers, or are far outside of -1 to 1; WAV can"
        )
    stream = BytesIO()
    try:
        with soundfile.SoundFile(stream, "w", rate, channels, subtype, format=name) as file:
            for start in range(0, len(samples), _BLOCK):
                file.write(samples[start : start + _BLOCK])
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise SerializationError(
            f"{name} can't hold {channels} channels of {samples.dtype.name} at {rate} Hz: {_explain(error)}; "
            "WAV can"
        ) from error
    data = stream.getvalue()
    if name == "FLAC" and AudioSerializer().decode(data).data.tobytes() != samples.tobytes():
        raise SerializationError("FLAC would change these samples; WAV keeps them")
    return data


def _explain(error: BaseException) -> str:
    """Return the message of a driver's error, without the file object that it names."""
    return str(getattr(error, "error_string", error))


def rendered(clip: Any) -> tuple[int, int, Iterator[Any]]:
    """Return the rate of a MoviePy audio clip, its number of channels, and blocks of float32, a row a
    frame."""
    if clip.duration is None or not math.isfinite(clip.duration):
        raise SerializationError("this clip lacks an end; give it one: with_duration(seconds)")
    rate = getattr(clip, "fps", None) or _RATE
    if not math.isfinite(rate) or rate < 1:
        raise SerializationError(f"this clip has {rate} frames a second; give it others: with_fps(44100)")
    rate = round(rate)
    # A clip of n frames has the duration n / rate, which times the rate may come out below n.
    count = int(clip.duration * rate + 1e-3)
    channels: int = clip.nchannels
    return rate, channels, _render_blocks(clip, rate, count, channels)


def _render_blocks(clip: Any, rate: int, count: int, channels: int) -> Iterator[Any]:
    np = needed("numpy", "audio", "sound")
    # MoviePy's readers fail on more than half of what they keep, which is all of a short file.
    step = max(1, min(_RENDERED, count // 2))
    for start in range(0, count, step):
        times = np.arange(start, min(start + step, count)) / rate
        samples = np.empty((len(times), channels), "float32")
        try:
            block = np.asarray(clip.get_frame(times), "float32")
            # A function of the time may return one value for all, a list of channels, or a column too many.
            if block.shape not in ((), (channels,)) or len(times) == 1:
                block = block if block.shape[:1] == times.shape else block.T
                block = block.reshape(len(times), -1)[:, :channels]
            samples[:] = block
        # The user sees an error of the clip's functions as the cause.
        except Exception as error:
            raise SerializationError(f"this clip fails at {times[0]:.2f} s: {error}") from error
        yield samples


def _render_clip(clip: Any) -> AudioData:
    np = needed("numpy", "audio", "sound")
    rate, channels, blocks = rendered(clip)
    samples = np.concatenate([np.empty((0, channels), "float32"), *blocks])
    return AudioData(samples[:, 0] if channels == 1 else samples, rate)
