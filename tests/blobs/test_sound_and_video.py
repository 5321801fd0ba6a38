"""Sound and video as blobs."""

from __future__ import annotations

import gc
import io
import os
import pickle
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from moviepy import AudioArrayClip, AudioClip, AudioFileClip, VideoClip, VideoFileClip

from holdall.blobs import AudioBlob, AudioData, VideoBlob
from holdall.errors import InvalidArgumentError, SerializationError

RATE = 8000
TONE = (np.sin(np.arange(RATE // 2) * 2 * np.pi * 440 / RATE) * 20_000).astype("int16")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.chdir(tmp_path)
    yield
    gc.collect()
    assert [*place.iterdir()] == []


@pytest.mark.parametrize("name", ["WAV", "FLAC", "OGG", "MP3"])
def test_bytes_of_sound_are_kept_as_given(name: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, TONE, RATE, format=name)
    blob = AudioBlob(stream.getvalue())
    assert blob.as_bytes() == stream.getvalue()
    assert blob.format == name
    assert blob.media_type.startswith("audio/")
    data, rate = blob.as_audio()
    assert rate == RATE
    assert abs(len(data) - len(TONE)) < 3000
    blob.dump(tmp_path / f"file.{name}")
    assert AudioBlob.load(tmp_path / f"file.{name}") == blob
    assert repr(blob).startswith(f"AudioBlob({name}, 0.")
    assert f"mono, {RATE} Hz, {blob.size:,} bytes" in repr(blob)


@pytest.mark.parametrize("value", [AudioData(TONE, RATE), (TONE, RATE)])
def test_samples_come_back(value: Any) -> None:
    blob = AudioBlob(value)
    for back in (blob.as_audio(), blob.as_audio_data(), pickle.loads(pickle.dumps(blob)).as_audio()):
        assert isinstance(back, AudioData)
        np.testing.assert_array_equal(back.data, TONE)
        assert back.sample_rate == RATE
    assert AudioBlob(value) == blob


@pytest.mark.parametrize("value", [(TONE,), (TONE, RATE, 1), ()])
def test_other_tuples_are_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match="rate"):
        AudioBlob(value)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_a_suffix_decides_the_format_of_sound(suffix: str, tmp_path: Path) -> None:
    for name in ("WAV", "FLAC"):
        AudioBlob(AudioData(TONE, RATE), format=name).dump(tmp_path / f"file{suffix}")
        assert soundfile.info(str(tmp_path / f"file{suffix}")).format == suffix[1:].upper()
        data, rate = AudioBlob.load(tmp_path / f"file{suffix}").as_audio()
        assert rate == RATE
        if suffix in (".wav", ".flac"):
            np.testing.assert_array_equal(data, TONE)


def test_a_clip_in_memory_sounds_as_the_samples() -> None:
    for samples in (TONE, np.stack([TONE, -TONE], 1)):
        clip = AudioBlob(AudioData(samples, RATE)).as_audio_clip()
        assert isinstance(clip, AudioArrayClip)
        assert clip.duration == 0.5
        back = AudioBlob(clip).as_audio().data
        expected = samples if samples.ndim == 2 else np.stack([TONE, TONE], 1)
        np.testing.assert_allclose(back, expected / 2**15, atol=1e-6)


def test_a_file_of_the_users_is_written_and_read(tmp_path: Path) -> None:
    with AudioBlob(AudioData(TONE, RATE)).as_audio(tmp_path / "tone.mp3") as clip:
        assert isinstance(clip, AudioFileClip)
        assert soundfile.info(str(tmp_path / "tone.mp3")).format == "MP3"
        back = AudioBlob(clip)
    assert back.as_audio().data.shape[1] == 2


def test_a_temporary_source_is_removed_when_asked(tmp_path: Path) -> None:
    for place, there in ((tmp_path, True), (tmp_path / "temporary", False)):
        path = place / "tone.wav"
        AudioBlob(AudioData(TONE, RATE)).dump(path)
        clip = AudioFileClip(str(path))
        pipes = clip.reader.proc
        AudioBlob(clip, delete_temp_clip_file=True)
        pipes.stdout.close()
        pipes.stderr.close()
        clip.close()
        assert path.exists() is there


@pytest.mark.parametrize("data", [b"", b"no sound", b"RIFF\x10\0\0\0WAVEfmt ", b"fLaC", b"ID3\4\0\0"])
def test_what_is_no_sound_is_named_when_it_is_asked_for(data: bytes) -> None:
    blob = AudioBlob(data)
    assert "bytes)" in repr(blob)
    for get in (blob.as_audio, blob.as_audio_data, blob.as_audio_clip):
        with pytest.raises(SerializationError, match=r"WAV|FLAC|MP3"):
            get()


def clip_of(color: int = 200) -> VideoClip:
    frame = np.full((32, 48, 3), color, "uint8")
    sound = AudioClip(lambda t: np.sin(440 * 2 * np.pi * t), duration=0.5, fps=RATE)
    return VideoClip(lambda t: frame, duration=0.5).with_fps(8).with_audio(sound)


@pytest.fixture(scope="module")
def film() -> VideoBlob:
    return VideoBlob(clip_of())


def test_a_clip_comes_back(film: VideoBlob) -> None:
    assert (film.format, film.media_type) == ("MP4", "video/mp4")
    with pickle.loads(pickle.dumps(film)).as_video() as clip:
        assert isinstance(clip, VideoFileClip)
        assert (tuple(clip.size), clip.fps, clip.audio is None) == ((48, 32), 8, False)
        assert abs(clip.get_frame(0.2).astype(int) - 200).max() < 12


def test_a_repr_of_video_starts_no_program(film: VideoBlob, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert repr(film) == f"VideoBlob(MP4, 0.50 s, {film.size:,} bytes)"
    assert repr(VideoBlob(film.as_bytes()[:60])) == "VideoBlob(MP4, 60 bytes)"
    assert repr(VideoBlob(b"what")) == "VideoBlob(unknown format, 4 bytes)"
    assert VideoBlob(b"....ftypisom") != film


def test_a_repr_looks_at_the_first_boxes_only(film: VideoBlob) -> None:
    data, free = film.as_bytes(), b"\0\0\0\x08free"
    head = int.from_bytes(data[:4], "big")
    few = VideoBlob(data[:head] + free * 10 + data[head:])
    assert repr(few) == f"VideoBlob(MP4, 0.50 s, {few.size:,} bytes)"
    # Of damaged data it makes the best in no time.
    many = VideoBlob(data[:head] + free * 100_000 + data[head:])
    assert repr(many) == f"VideoBlob(MP4, {many.size:,} bytes)"


def test_a_suffix_decides_the_format_of_video(film: VideoBlob, tmp_path: Path) -> None:
    film.dump(tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == film.as_bytes()
    film.dump(tmp_path / "film.webm")
    back = VideoBlob.load(tmp_path / "film.webm")
    assert (back.format, back.media_type) == ("WEBM", "video/webm")
    with back.as_video() as clip:
        assert tuple(clip.size) == (48, 32)
        assert clip.audio is not None
    with pytest.raises(InvalidArgumentError, match=r"\.avi.*\.mp4"):
        film.dump(tmp_path / "film.avi")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["film.mp4", "film.webm", "temporary"]


def test_a_film_is_written_where_the_user_says(film: VideoBlob, tmp_path: Path) -> None:
    with film.as_video(tmp_path / "mine.mp4") as clip:
        assert isinstance(clip, VideoFileClip)
        assert clip.filename == str(tmp_path / "mine.mp4")
        assert clip.get_frame(0).shape == (32, 48, 3)
    assert (tmp_path / "mine.mp4").read_bytes() == film.as_bytes()


def test_a_temporary_film_is_removed_when_asked(film: VideoBlob, tmp_path: Path) -> None:
    clip = film.as_video(tmp_path / "temporary" / "film.mp4")
    assert VideoBlob(clip, delete_temp_clip_file=True).format == "MP4"
    assert not os.listdir(tmp_path / "temporary")


@pytest.mark.parametrize("data", [b"", b"no video", b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3", b"#EXTM3U\n"])
def test_what_is_no_video_is_named_when_it_is_asked_for(data: bytes, tmp_path: Path) -> None:
    blob = VideoBlob(data)
    with pytest.raises(SerializationError, match="MP4"):
        blob.as_video()
    with pytest.raises(SerializationError, match="MP4"):
        blob.as_format("MP4" if blob.format == "WEBM" else "WEBM")
