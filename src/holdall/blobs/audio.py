"""Sound."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import PurePath
from typing import Any, cast, overload

from holdall.blobs.bytes import BytesBlob
from holdall.blobs.file import save, suffix_of
from holdall.blobs.media import MediaBlob
from holdall.blobs.video import drop_source
from holdall.errors import SerializationError
from holdall.values.audio import AudioData, AudioSerializer, whole_wav
from holdall.values.packages import needed
from holdall.values.video import open_sound


class AudioBlob(MediaBlob):
    """Sound. Bytes are kept as given: WAV, FLAC, OGG, MP3, and the other formats that SoundFile reads.

    Args:
        blob: The bytes, which are not looked at before `as_audio`; or `AudioData`, or a tuple of an array
            and a rate; or a MoviePy audio clip.
        format: The format to write: WAV, FLAC, OGG or MP3. None is WAV, which keeps all samples exactly;
            see `AudioSerializer` for what each format holds.
        delete_temp_clip_file: Remove the file that a clip was read from, if it is a temporary one.

    Raises:
        SerializationError: The sound can't be kept so.
        MissingDependencyError: `pip install 'holdall[audio]'`.

    >>> import numpy as np
    >>> tone = np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000)
    >>> data, rate = AudioBlob(AudioData(tone, 8000)).as_audio()
    >>> rate, bool((data == tone).all())
    (8000, True)
    """

    _kind = AudioSerializer

    def __init__(
        self,
        blob: bytes | bytearray | memoryview | BytesBlob | AudioData | tuple[Any, int] | Any,
        *,
        format: str | None = None,  # noqa: A002
        delete_temp_clip_file: bool = False,
    ) -> None:
        if isinstance(blob, tuple) and not isinstance(blob, AudioData):
            if len(cast("tuple[Any, ...]", blob)) != 2:
                raise SerializationError("sound is a tuple of two: an array of samples, and their rate in Hz")
            blob = AudioData(*cast("tuple[Any, int]", blob))
        super().__init__(blob, format=format)
        if delete_temp_clip_file:
            drop_source(blob)

    @overload
    def as_audio(self) -> AudioData: ...

    @overload
    def as_audio(self, filename: str | PurePath) -> Any: ...

    def as_audio(self, filename: str | PurePath | None = None) -> Any:
        """Return the samples and their rate; or with a file's name, a MoviePy `AudioFileClip`.

        Args:
            filename: The file to write first, from which the clip then reads; it is yours to remove.

        Raises:
            SerializationError: The bytes aren't sound.
            MissingDependencyError: `pip install 'holdall[audio]'`, for a clip `'holdall[video]'`.
        """
        if filename is None:
            return self.as_audio_data()
        needed("moviepy.audio.io.AudioFileClip", "video", "an audio clip")
        save(filename, self._for_suffix(suffix_of(filename)))
        return open_sound(os.path.expanduser(filename))

    def as_audio_data(self) -> AudioData:
        """Return the samples and their rate: integers as int16 or int32, floats as float32 or float64, as the
        file has them; what was compressed with loss as float32.

        Raises:
            SerializationError: The bytes aren't sound.
            MissingDependencyError: `pip install 'holdall[audio]'`.
        """
        return AudioSerializer().decode(self._bytes)

    def as_audio_clip(self) -> Any:
        """Return a MoviePy `AudioArrayClip` in memory: it needs no file, and needn't be closed.

        Raises:
            SerializationError: The bytes aren't sound, or hold no frame.
            MissingDependencyError: `pip install 'holdall[audio,video]'`.
        """
        clips = needed("moviepy.audio.AudioClip", "video", "an audio clip")
        samples, rate = self.as_audio_data()
        if not len(samples):
            raise SerializationError("this sound holds no frame, and MoviePy needs one for a clip")
        if samples.dtype.kind == "i":
            samples = samples / float(1 << (8 * samples.dtype.itemsize - 1))
        # MoviePy wants two columns: its clips of one fail on single frames or come out with two.
        return clips.AudioArrayClip(samples[:, None].repeat(2, 1) if samples.ndim == 1 else samples, fps=rate)

    def _describe(self, form: str) -> str:
        soundfile = needed("soundfile", "audio", "sound")
        with soundfile.SoundFile(BytesIO(whole_wav(self._bytes))) as file:
            channels = {1: "mono", 2: "stereo"}.get(file.channels, f"{file.channels} channels")
            return f"{form}, {file.frames / file.samplerate:.2f} s, {channels}, {file.samplerate} Hz"
