"""Pictures, sound and video as bytes, and back."""

from __future__ import annotations

import gc
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from moviepy import AudioArrayClip, AudioClip, ColorClip, CompositeVideoClip, VideoClip
from PIL import Image, ImageDraw
from tests.effort import effort

from holdall.blobs import AudioBlob
from holdall.errors import InvalidArgumentError, SerializationError
from holdall.values.audio import AudioData, AudioSerializer, audio_format
from holdall.values.images import IMAGES, ImageSerializer, image_format
from holdall.values.registry import joined
from holdall.values.serializer import Serializer
from holdall.values.video import VideoSerializer, video_format

FUZZ = settings(max_examples=effort(150, 40), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("serializer", [ImageSerializer(), AudioSerializer(), VideoSerializer()])
def test_it_is_a_serializer_and_refuses_what_it_does_not_accept(serializer: Serializer) -> None:
    assert isinstance(serializer, Serializer)
    for value in (b"bytes", "text", {}, None, 1, (np.zeros(3), 8000)):
        assert not serializer.accepts(value)
        with pytest.raises(SerializationError, match=serializer.name):
            serializer.encode(value)


@pytest.mark.parametrize("kind", [ImageSerializer, AudioSerializer, VideoSerializer])
def test_an_unknown_format_is_refused_with_the_known_ones(kind: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match=kind("WEBP").format if kind is ImageSerializer else kind().format
    ):
        kind("xyz")


def test_accepts_imports_nothing() -> None:
    script = (
        "import sys; from holdall.values.images import *; from holdall.values.audio import *;"
        "from holdall.values.video import *\n"
        "for kind in (ImageSerializer, AudioSerializer, VideoSerializer): assert not kind().accepts(kind)\n"
        "assert not {'PIL', 'numpy', 'soundfile', 'moviepy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("serializer", "value", "module", "extra"),
    [
        ("images.ImageSerializer", b"\x89PNG\r\n\x1a\n", "PIL", "images"),
        ("audio.AudioSerializer", b"RIFF....WAVE", "soundfile", "audio"),
        ("video.VideoSerializer", b"\0\0\0\x20ftypisom", "moviepy", "video"),
    ],
)
def test_a_missing_package_says_which_extra_brings_it(
    serializer: str, value: bytes, module: str, extra: str
) -> None:
    where, _, name = serializer.partition(".")
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"from holdall.errors import MissingDependencyError\nfrom holdall.values.{where} import {name}\n"
        f"try: {name}().decode({value!r})\n"
        f"except MissingDependencyError as error: assert \"'holdall[{extra}]'\" in str(error)\n"
        "else: raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def picture(mode: str, size: tuple[int, int] = (13, 7)) -> Image.Image:
    """Every pixel of it is of another value."""
    width, height = size
    if mode in ("I", "F"):
        values = np.arange(width * height).reshape(height, width) * 100_003 - 1000
        return Image.fromarray(values.astype("int32" if mode == "I" else "float32"))
    if mode.startswith("I;16"):
        raw = (np.arange(width * height, dtype="uint16") * 701).astype(">u2" if mode.endswith("B") else "<u2")
        return Image.frombytes(mode, size, raw.tobytes())
    if mode == "1":
        return Image.fromarray(np.arange(width * height).reshape(height, width) % 3 == 0)
    bands = 2 if mode == "PA" else len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(1).integers(0, 256, (height, width, bands), "uint8")
    image = Image.frombytes(mode, size, values.tobytes())
    if mode in ("P", "PA"):
        image.putpalette(np.random.default_rng(2).integers(0, 256, 768, "uint8").tobytes())
    return image


def same_picture(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes()


EXACT = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "LAB", "PA"]


@pytest.mark.parametrize("mode", EXACT)
def test_every_mode_comes_back_exactly(mode: str) -> None:
    serializer, image = ImageSerializer(), picture(mode)
    assert serializer.accepts(image)
    back = serializer.decode(joined(serializer.encode(image)))
    assert same_picture(back, image)
    if "P" in mode:
        assert back.getpalette() == image.getpalette()


def test_16_bits_of_the_other_order_come_back_as_the_same_numbers() -> None:
    image = picture("I;16B")
    back = ImageSerializer().decode(joined(ImageSerializer().encode(image)))
    assert back.mode == "I;16"
    assert [back.getpixel((x, 3)) for x in range(13)] == [image.getpixel((x, 3)) for x in range(13)]


@pytest.mark.parametrize("mode", ["YCbCr", "RGBX"])
def test_modes_of_the_same_colors_come_back_as_rgb(mode: str) -> None:
    image = picture(mode)
    back = ImageSerializer().decode(joined(ImageSerializer().encode(image)))
    assert same_picture(back, image.convert("RGB"))


@pytest.mark.parametrize(
    ("mode", "hint"), [("HSV", "RGB"), ("La", "LA"), ("RGBa", "RGBA"), ("I;16L", "I;16")]
)
def test_a_mode_that_no_format_holds_is_refused_with_a_way_out(mode: str, hint: str) -> None:
    with pytest.raises(SerializationError, match=f"{mode}.*convert.'{hint}'"):
        ImageSerializer().encode(Image.new(mode, (3, 2)))


def test_every_mode_of_pillow_is_tested() -> None:
    from PIL.ImageMode import getmode

    told = {*EXACT, "I;16B", "YCbCr", "RGBX", "HSV", "La", "RGBa", "I;16L", "I;16N"}
    for mode in told:
        assert getmode(mode).mode == mode
    assert set(Image.MODES) <= told


@pytest.mark.parametrize("name", list(IMAGES))
@pytest.mark.parametrize("mode", [*EXACT, "YCbCr", "RGBX", "HSV", "La", "RGBa"])
def test_a_format_holds_a_mode_or_says_that_it_does_not(name: str, mode: str) -> None:
    serializer, image = ImageSerializer(name), picture(mode)
    try:
        data = joined(serializer.encode(image))
    except SerializationError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert mode not in IMAGES[name].modes
        assert mode in refused
        return
    assert image_format(data) == name
    back = serializer.decode(data)
    assert back.size == image.size
    if mode in IMAGES[name].modes and name != "JPEG" and not (name == "GIF" and mode == "1"):
        assert back.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


@pytest.mark.parametrize("name", list(IMAGES))
def test_each_format_is_known_by_its_first_bytes_and_read(name: str) -> None:
    image = Image.linear_gradient("L")
    stream = io.BytesIO()
    image.save(stream, name)
    assert image_format(stream.getvalue()) == name
    back = ImageSerializer().decode(stream.getvalue())
    assert (back.format, back.size) == (name, (256, 256))
    for end in IMAGES[name].extensions:
        assert end in ImageSerializer.extensions


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_a_palette_keeps_its_transparency(transparency: int | bytes) -> None:
    image = picture("P")
    image.putpixel((2, 2), 3)
    image.info["transparency"] = transparency
    back = ImageSerializer().decode(joined(ImageSerializer().encode(image)))
    assert back.mode == "P"
    assert back.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()
    assert image.convert("RGBA").getextrema()[3] != (255, 255)


@pytest.mark.parametrize(("mode", "transparency"), [("L", 9), ("RGB", (1, 2, 3)), ("1", 0)])
def test_a_transparent_color_is_kept(mode: str, transparency: Any) -> None:
    image = Image.new(mode, (4, 4), transparency)
    image.info["transparency"] = transparency
    back = ImageSerializer().decode(joined(ImageSerializer().encode(image)))
    assert back.convert("RGBA").getextrema()[3] == (0, 0)


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [("1", 0), ("L", 9), ("RGB", (1, 2, 3)), ("P", 3), ("P", b"\xff\xff\xff\0"), ("P", None)],
    ids=["1", "L", "RGB", "palette, one", "palette, each", "palette of RGBA"],
)
@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "GIF"])
def test_no_format_loses_which_colors_are_transparent(name: str, mode: str, transparency: Any) -> None:
    image = Image.new(mode, (4, 4), 3 if mode == "P" else transparency)
    image.putpixel((1, 1), (9, 9, 9) if mode == "RGB" else 1)
    if transparency is None:
        image.putpalette([90, 80, 70, 255] * 3 + [5, 6, 7, 0], "RGBA")
    elif mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    if transparency is not None:
        image.info["transparency"] = transparency
    try:
        wanted = image.convert("RGBA").getchannel("A")
        back = ImageSerializer().decode(joined(ImageSerializer(name).encode(image)))
    except SerializationError as error:
        pytest.fail(str(error))
    assert back.convert("RGBA").getchannel("A").tobytes() == wanted.tobytes()
    assert (wanted.getextrema() == (0, 255)) or mode == "1"


def test_a_transparent_color_without_a_place_is_refused() -> None:
    image = Image.new("I;16", (4, 4), 5)
    image.info["transparency"] = 5
    with pytest.raises(SerializationError, match="transparent color"):
        ImageSerializer("TIFF").encode(image)
    assert ImageSerializer().decode(joined(ImageSerializer().encode(image))).info["transparency"] == 5


@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_exif_goes_from_each_format_to_each(source: str, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (8, 4)).save(stream, source, exif=exif)
    photo = Image.open(io.BytesIO(stream.getvalue()))
    back = ImageSerializer().decode(joined(ImageSerializer(name).encode(photo)))
    assert back.getexif()[0x0112] == 6


@pytest.mark.parametrize("source", ["GIF", "PNG", "WEBP"])
def test_an_animation_becomes_the_pages_of_a_tiff(source: str) -> None:
    image = Image.open(io.BytesIO(animation(source)))
    back = ImageSerializer().decode(joined(ImageSerializer("TIFF").encode(image)))
    assert frames_of(back) == frames_of(image)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_exif_that_was_changed_is_kept_as_changed(name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    stream = io.BytesIO()
    Image.new("RGB", (8, 4)).save(stream, "JPEG", exif=exif)
    turned = Image.open(io.BytesIO(stream.getvalue())).rotate(-90, expand=True)
    turned.getexif()[0x0112] = 1
    back = ImageSerializer().decode(joined(ImageSerializer(name).encode(turned)))
    assert back.getexif()[0x0112] == 1
    assert back.getexif().get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    photo = Image.open(io.BytesIO(stream.getvalue()))
    photo.getexif().get_ifd(0x8769)[0x9003] = "2026:02:03 04:05:06"
    back = ImageSerializer().decode(joined(ImageSerializer(name).encode(photo)))
    assert back.getexif().get_ifd(0x8769)[0x9003] == "2026:02:03 04:05:06"
    assert back.getexif()[0x0112] == 6


def test_damaged_exif_is_kept_as_it_is() -> None:
    image = Image.new("RGB", (8, 4))
    image.info["exif"] = b"Exif\0\0MM nothing of that kind"
    data = joined(ImageSerializer("PNG").encode(image))
    assert b"MM nothing of that kind" in data


def test_profile_and_exif_are_kept() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (8, 4)).save(stream, "JPEG", exif=exif, icc_profile=profile)
    photo = Image.open(io.BytesIO(stream.getvalue()))
    for form in (None, "PNG", "JPEG", "WEBP"):
        back = ImageSerializer(form).decode(joined(ImageSerializer(form).encode(photo)))
        assert back.getexif()[0x0112] == 6, form
        assert back.info["icc_profile"] == profile


def animation(name: str, count: int = 4) -> bytes:
    frames = []
    for number in range(count):
        frame = Image.new("RGBA", (24, 16), (0, 0, 0, 0))
        ImageDraw.Draw(frame).rectangle((number * 4, 2, number * 4 + 6, 12), fill=(200, 20 * number, 30, 255))
        frames.append(frame)
    stream = io.BytesIO()
    frames[0].save(
        stream,
        name,
        save_all=True,
        append_images=frames[1:],
        duration=[40, 80, 120, 160][:count],
        loop=0,
        lossless=True,
    )
    return stream.getvalue()


def frames_of(image: Image.Image) -> list[bytes]:
    found = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        found.append(image.convert("RGBA").tobytes())
    return found


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize("target", [None, "PNG", "WEBP", "GIF"])
def test_an_animation_keeps_its_frames_and_times(name: str, target: str | None) -> None:
    image = Image.open(io.BytesIO(animation(name)))
    image.seek(2)
    data = joined(ImageSerializer(target).encode(image))
    assert image.tell() == 2
    assert image_format(data) == (target or "PNG")
    back = ImageSerializer().decode(data)
    assert frames_of(back) == frames_of(image)
    if target != "WEBP":  # whose reader tells the times of the frames as it comes to them only
        back.seek(1)
        assert back.info["duration"] == 80


def test_the_pages_of_a_tiff_stay_pages_of_their_sizes() -> None:
    stream = io.BytesIO()
    pages = [Image.new("L", (5, 5), 9), Image.new("RGB", (9, 3), "red"), Image.new("1", (2, 2))]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    data = joined(ImageSerializer().encode(Image.open(io.BytesIO(stream.getvalue()))))
    back = ImageSerializer().decode(data)
    assert back.format == "TIFF"
    for number, page in enumerate(pages):
        back.seek(number)
        assert same_picture(back.convert(page.mode), page)


def test_jpeg_refuses_what_it_would_lose() -> None:
    with pytest.raises(SerializationError, match="transparency"):
        ImageSerializer("jpg").encode(Image.new("RGBA", (2, 2)))
    with pytest.raises(SerializationError, match="4"):
        ImageSerializer("jpg").encode(Image.open(io.BytesIO(animation("GIF"))))


def test_a_damaged_picture_behind_a_lazy_image_is_named() -> None:
    stream = io.BytesIO()
    picture("RGB", (200, 200)).save(stream, "PNG")
    with pytest.raises(SerializationError, match="RGB"):
        ImageSerializer().encode(Image.open(io.BytesIO(stream.getvalue()[:2000])))


@given(
    mode=st.sampled_from(["L", "LA", "RGB", "RGBA"]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    data=st.data(),
)
@FUZZ
def test_any_pixels_come_back(mode: str, size: tuple[int, int], data: st.DataObject) -> None:
    count = size[0] * size[1] * len(mode)
    image = Image.frombytes(mode, size, data.draw(st.binary(min_size=count, max_size=count)))
    for form in (None, "PNG", "TIFF", *(["WEBP"] if mode.startswith("RGB") else [])):
        assert same_picture(ImageSerializer().decode(joined(ImageSerializer(form).encode(image))), image)


def samples_of_pictures() -> list[bytes]:
    found = [animation("GIF"), animation("PNG"), animation("WEBP")]
    for name in IMAGES:
        stream = io.BytesIO()
        Image.linear_gradient("L").convert("P" if name == "GIF" else "RGB").save(stream, name)
        found.append(stream.getvalue())
    return found


def damaged(data: bytes, chance: random.Random) -> bytes:
    kind = chance.randrange(4)
    if kind == 0:
        return data[: chance.randrange(len(data))]
    if kind == 1:
        at = chance.randrange(len(data))
        return data[:at] + chance.randbytes(chance.randrange(1, 9)) + data[at:]
    if kind == 2:
        return data[: chance.randrange(4, 64)] + chance.randbytes(200)
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 20)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def refused_or_read(serializer: Any, data: bytes, expected: str) -> None:
    said = expected
    try:
        serializer.decode(data)
    except SerializationError as error:
        said = str(error)
    assert expected in said or "begin as" in said or "cut off" in said


@pytest.mark.parametrize("seed", range(8))
def test_damaged_pictures_are_an_error_of_ours(seed: int) -> None:
    chance = random.Random(seed)
    for data in samples_of_pictures():
        for _ in range(12):
            refused_or_read(ImageSerializer(), damaged(data, chance), "PNG")


@given(st.binary(max_size=200))
@FUZZ
def test_any_bytes_are_an_error_of_ours(data: bytes) -> None:
    refused_or_read(ImageSerializer(), data, "PNG")
    refused_or_read(AudioSerializer(), data, "WAV")
    if video_format(data) is None:
        with pytest.raises(SerializationError, match="MP4"):
            VideoSerializer().decode(data)


def test_postscript_is_never_run() -> None:
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(SerializationError, match="PNG"):
        ImageSerializer().decode(page)


def test_a_picture_of_a_billion_pixels_is_refused() -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(SerializationError, match="PNG"):
        ImageSerializer().decode(bomb)


def tone(dtype: str = "float64", channels: int = 1, count: int = 4000, rate: int = 8000) -> Any:
    wave = np.sin(np.arange(count)[:, None] * np.arange(1, channels + 1) * 2 * np.pi * 220 / rate) * 0.8
    if np.dtype(dtype).kind == "i":
        wave = np.round(wave * np.iinfo(dtype).max)
    return (wave[:, 0] if channels == 1 else wave).astype(dtype)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_samples_come_back_exactly(dtype: str, channels: int) -> None:
    serializer, samples = AudioSerializer(), tone(dtype, channels)
    assert serializer.accepts(AudioData(samples, 8000))
    data = joined(serializer.encode(AudioData(samples, 8000)))
    assert audio_format(data) == "WAV"
    back = serializer.decode(data)
    assert back.sample_rate == 8000
    assert back.data.dtype == samples.dtype
    np.testing.assert_array_equal(back.data, samples)


def test_the_same_sound_is_the_same_bytes_and_no_copy_of_the_samples() -> None:
    samples = tone("float32", 2)
    header, body = AudioSerializer().encode(AudioData(samples, 8000))
    assert len(header) < 100
    assert np.shares_memory(np.frombuffer(body, "uint8"), samples)
    assert header == AudioSerializer().encode(AudioData(samples.copy(), 8000))[0]


@given(
    samples=hnp.arrays(
        st.sampled_from(["<i2", ">i2", "<i4", "<f4", ">f8"]),
        st.one_of(st.tuples(st.integers(0, 40)), st.tuples(st.integers(0, 20), st.integers(2, 4))),
    ),
    rate=st.integers(1, 768_000),
)
@FUZZ
def test_any_samples_come_back(samples: Any, rate: int) -> None:
    back = AudioSerializer().decode(joined(AudioSerializer().encode(AudioData(samples, rate))))
    assert back.sample_rate == rate
    np.testing.assert_array_equal(back.data, samples)
    assert back.data.dtype == samples.dtype.newbyteorder("=")


@pytest.mark.parametrize("view", [slice(None, None, 3), slice(None, None, -1)])
def test_samples_with_gaps_come_back(view: slice) -> None:
    samples = tone("int16", 2)[view]
    np.testing.assert_array_equal(
        AudioSerializer().decode(joined(AudioSerializer().encode(AudioData(samples, 8000)))).data, samples
    )


def test_flac_is_exact_for_16_and_24_bits_and_refuses_others() -> None:
    serializer = AudioSerializer("flac")
    for channels in (1, 2):
        for samples in (tone("int16", channels), tone("int32", channels) & ~0xFF):
            back = serializer.decode(joined(serializer.encode(AudioData(samples, 44_100))))
            assert back.data.dtype == samples.dtype
            np.testing.assert_array_equal(back.data, samples)
        for dtype in ("int32", "float32", "float64"):
            with pytest.raises(SerializationError, match=rf"round these {dtype} samples: choose WAV"):
                serializer.encode(AudioData(tone(dtype, channels), 44_100))


@pytest.mark.parametrize("name", ["OGG", "MP3"])
@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_what_loses_detail_sounds_the_same(name: str, dtype: str) -> None:
    serializer = AudioSerializer(name)
    samples = tone(dtype, 2, 44_100, 44_100)
    data = joined(serializer.encode(AudioData(samples, 44_100)))
    assert audio_format(data) == name
    assert len(data) < samples.nbytes / 4
    back = serializer.decode(data)
    assert (back.data.dtype, back.sample_rate, back.data.shape[1]) == (np.float32, 44_100, 2)
    heard = abs(np.fft.rfft(back.data[:, 0]))
    assert abs(heard.argmax() * 44_100 / len(back.data) - 220) < 2


def test_a_long_ogg_is_written_in_pieces() -> None:
    samples = np.zeros(3_000_000, "float32")
    back = AudioSerializer("ogg").decode(joined(AudioSerializer("ogg").encode(AudioData(samples, 44_100))))
    assert len(back.data) == len(samples)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (AudioData(np.zeros(4, "int64"), 8000), "int64"),
        (AudioData(np.zeros(4, "uint8"), 8000), "uint8"),
        (AudioData(np.zeros(4, "complex64"), 8000), "complex64"),
        (AudioData(np.array(["a"]), 8000), "str"),
        (AudioData(np.zeros((2, 2, 2)), 8000), "2, 2, 2"),
        (AudioData(np.float64(1), 8000), r"\(\)"),
        (AudioData(np.zeros((4, 0)), 8000), "4, 0"),
        (AudioData(np.zeros((1, 1025)), 8000), "1,024"),
        (AudioData(np.zeros(4), 0), "0"),
        (AudioData(np.zeros(4), -8000), "-8000"),
        (AudioData(np.zeros(4), 0.5), "0.5"),
        (AudioData(np.zeros(4), float("nan")), "nan"),
        (AudioData(np.zeros(4), "fast"), "fast"),  # type: ignore[arg-type]
        (AudioData(None, 8000), "object"),
    ],
)
def test_what_is_no_sound_is_refused(value: AudioData, says: str) -> None:
    for form in (None, "FLAC", "OGG", "MP3"):
        if says == "1,024" and form:
            continue
        with pytest.raises(SerializationError, match=says):
            AudioSerializer(form).encode(value)


def test_a_format_says_what_it_cannot_hold() -> None:
    with pytest.raises(SerializationError, match=r"MP3.*3 channels"):
        AudioSerializer("MP3").encode(AudioData(tone("int16", 3), 8000))
    with pytest.raises(SerializationError, match=r"FLAC.* 9 channels"):
        AudioSerializer("FLAC").encode(AudioData(tone("int16", 9), 8000))


def test_other_subtypes_are_read() -> None:
    import soundfile

    for subtype, dtype in (
        ("PCM_24", "int32"),
        ("PCM_U8", "int16"),
        ("ULAW", "int16"),
        ("DOUBLE", "float64"),
    ):
        stream = io.BytesIO()
        soundfile.write(stream, tone(), 8000, subtype, format="WAV")
        back = AudioSerializer().decode(stream.getvalue())
        assert back.data.dtype == dtype
        expected, _ = soundfile.read(io.BytesIO(stream.getvalue()), dtype=dtype)
        np.testing.assert_array_equal(back.data, expected)


def test_moviepy_clips_are_rendered() -> None:
    mono = AudioClip(lambda t: np.sin(440 * 2 * np.pi * t), duration=0.5, fps=8000)
    stereo = AudioArrayClip(tone("float64", 2), fps=8000)
    serializer = AudioSerializer()
    assert serializer.accepts(mono)
    back = serializer.decode(joined(serializer.encode(mono)))
    assert (back.data.shape, back.data.dtype, back.sample_rate) == ((4000,), np.float32, 8000)
    np.testing.assert_allclose(back.data, np.sin(440 * 2 * np.pi * np.arange(4000) / 8000), atol=1e-6)
    back = serializer.decode(joined(serializer.encode(stereo)))
    np.testing.assert_array_equal(back.data, tone("float32", 2))
    part = serializer.decode(joined(serializer.encode(stereo.subclipped(0.1, 0.3))))
    assert len(part.data) == 1600
    np.testing.assert_allclose(part.data, tone("float32", 2)[800:2400], atol=0.2)


@pytest.mark.parametrize("length", [1, 441, 44_099, 44_100, 100_000])
def test_a_clip_of_an_array_keeps_its_length(length: int) -> None:
    clip = AudioArrayClip(np.zeros((length, 2)), fps=44_100)
    assert len(AudioSerializer().decode(joined(AudioSerializer().encode(clip))).data) == length


@pytest.mark.parametrize(
    "give", [lambda t: 0.25, lambda t: [0.25, 0.5], lambda t: np.array([0.25 + 0 * t, 0.5 + 0 * t]).T]
)
def test_clips_of_any_function_are_rendered(give: Any) -> None:
    back = AudioSerializer().decode(joined(AudioSerializer().encode(AudioClip(give, duration=0.1, fps=8000))))
    assert len(back.data) == 800
    assert np.atleast_2d(back.data)[0, 0] == 0.25
    assert np.ravel(back.data)[-1] == (0.25 if back.data.ndim == 1 else 0.5)


def test_clips_that_cannot_be_rendered_are_refused() -> None:
    with pytest.raises(SerializationError, match="with_duration"):
        AudioSerializer().encode(AudioClip(lambda t: 0 * t, fps=8000))

    def bad(t: Any) -> Any:
        if np.ndim(t):
            raise ZeroDivisionError("of the user")
        return 0.0

    with pytest.raises(SerializationError, match="of the user") as raised:
        AudioSerializer().encode(AudioClip(bad, duration=1, fps=8000))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_sound_is_an_error_of_ours(seed: int) -> None:
    chance = random.Random(seed)
    for name in ("WAV", "FLAC", "OGG", "MP3"):
        data = joined(AudioSerializer(name).encode(AudioData(tone("int16", 2), 44_100)))
        for _ in range(25):
            refused_or_read(AudioSerializer(), damaged(data, chance), name)


def test_a_wav_that_was_cut_off_is_refused() -> None:
    data = joined(AudioSerializer().encode(AudioData(np.arange(1000, dtype="int16"), 8000)))
    for size in (len(data) - 1, len(data) - 1000, 44):
        with pytest.raises(SerializationError, match="this WAV was cut off"):
            AudioSerializer().decode(data[:size])
    # As ffmpeg and sox write it to a pipe.
    for claimed in (0xFFFFFFFF, 0x7FFFF000):
        piped = data[:40] + claimed.to_bytes(4, "little") + data[44:]
        assert len(AudioSerializer().decode(piped).data) == 1000
    assert len(AudioSerializer().decode(data + b"LIST\4\0\0\0INFO").data) == 1000


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_wav_whose_length_was_never_written_gives_its_samples(channels: int, dtype: str) -> None:
    samples = tone(dtype, channels)
    data = joined(AudioSerializer().encode(AudioData(samples, 8000)))
    at = data.index(b"data") + 4
    for riff in (b"\0\0\0\0", data[4:8], b"\xff\xff\xff\xff", (at - 4).to_bytes(4, "little")):
        for rest in (b"", b"x" * (samples.dtype.itemsize * channels - 1)):
            killed = data[:4] + riff + data[8:at] + b"\0\0\0\0" + data[at + 4 :] + rest
            np.testing.assert_array_equal(AudioSerializer().decode(killed).data, samples)
            assert f"{len(samples) / 8000:.2f} s" in repr(AudioBlob(killed))
    if dtype == "int16":
        np.testing.assert_array_equal(AudioBlob(killed).as_format("FLAC").as_audio_data().data, samples)


def test_a_wav_without_a_sample_has_none_whatever_follows() -> None:
    data = joined(AudioSerializer().encode(AudioData(np.zeros(0, "int16"), 8000)))
    for more in (b"", b"LIST\4\0\0\0INFO", b"LIST\5\0\0\0INFOx", b"bext\2\0\0\0abid3 \0\0\0\0"):
        assert len(AudioSerializer().decode(data + more).data) == 0


def test_other_heads_of_wav_are_read() -> None:
    import soundfile

    for form in ("WAVEX", "RF64", "AIFF", "W64"):
        for channels in (1, 2, 5):
            stream = io.BytesIO()
            soundfile.write(stream, tone("int16", channels), 8000, "PCM_16", format=form)
            back = AudioSerializer().decode(stream.getvalue())
            np.testing.assert_array_equal(back.data, tone("int16", channels))
            if form in ("WAVEX", "RF64"):
                with pytest.raises(SerializationError, match="cut off: expected"):
                    AudioSerializer().decode(stream.getvalue()[:-100])


@pytest.mark.parametrize("name", ["FLAC", "MP3"])
@pytest.mark.parametrize("shape", [(0,), (0, 2)], ids=str)
def test_sound_without_a_frame_is_refused_by_what_would_not_read_it(name: str, shape: Any) -> None:
    with pytest.raises(SerializationError, match=f"{name} can't hold sound without"):
        AudioSerializer(name).encode(AudioData(np.zeros(shape, "int16"), 8000))


@pytest.mark.parametrize(("rate", "channels"), [(200_001, 1), (2**31 - 1, 2), (44_100, 256), (44_100, 1000)])
def test_what_would_end_the_process_is_refused(rate: int, channels: int) -> None:
    script = f"""
import numpy as np
from holdall import AudioData, SerializationError
from holdall.values.audio import AudioSerializer
try:
    AudioSerializer("OGG").encode(AudioData(np.zeros((10, {channels}), "float32"), {rate}))
except SerializationError as error:
    assert "OGG" in str(error)
else:
    raise AssertionError("not refused")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "samples", [[[1.0], [2.0, 3.0]], np.ma.MaskedArray([1.0], mask=[True])], ids=["ragged", "masked"]
)
def test_samples_that_are_none_are_refused(samples: Any) -> None:
    with pytest.raises(SerializationError, match="audio format"):
        AudioSerializer().encode(AudioData(samples, 8000))


def test_a_flac_that_was_cut_off_is_refused() -> None:
    noise = AudioData(np.random.default_rng(3).integers(-9000, 9000, 40_000).astype("int16"), 44_100)
    data = joined(AudioSerializer("FLAC").encode(noise))
    with pytest.raises(SerializationError, match="FLAC"):
        AudioSerializer().decode(data[: len(data) // 2])


def moving(size: tuple[int, int] = (64, 48), duration: float = 0.6, sound: bool = True) -> VideoClip:
    def frame(t: float) -> Any:
        found = np.zeros((size[1], size[0], 3), "uint8")
        found[:, : int(size[0] * (t / duration))] = (250, 60, 10)
        return found

    clip = VideoClip(frame, duration=duration).with_fps(10)
    if sound:
        clip = clip.with_audio(
            AudioClip(lambda t: np.sin(440 * 2 * np.pi * t), duration=duration, fps=22_050)
        )
    return clip


@pytest.fixture(scope="module")
def videos() -> dict[str, bytes]:
    return {name: joined(VideoSerializer(name).encode(moving())) for name in ("MP4", "WEBM")}


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


traceless = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test here leaves a file, an open file or a process behind."""
    import tempfile

    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.chdir(tmp_path)
    before, running = open_files(), children()
    yield
    assert open_files() <= before
    assert [*place.iterdir()] == []
    assert [each.name for each in tmp_path.iterdir()] == ["temporary"]
    assert children() <= running


def children() -> set[str]:
    """The processes that this one started: the kit keeps one."""
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


@traceless
@pytest.mark.parametrize("name", ["MP4", "WEBM"])
def test_a_clip_comes_back_with_its_sound(videos: dict[str, bytes], name: str) -> None:
    data = videos[name]
    assert video_format(data) == name
    with VideoSerializer().decode(data) as clip:
        assert type(clip).__name__ == "VideoFileClip"
        assert tuple(clip.size) == (64, 48)
        assert clip.fps == 10
        assert clip.duration == pytest.approx(0.6, abs=0.11)
        for time_of in (0.35, 0.05, 0.5, 0.0):
            frame, expected = clip.get_frame(time_of), moving().get_frame(int(time_of * 10 + 1e-6) / 10)
            assert abs(frame.astype(int) - expected).mean() < 16
        samples = clip.audio.to_soundarray(np.arange(0, 0.5, 1 / 22_050), fps=22_050)
        assert abs(abs(np.fft.rfft(samples[:, 0])).argmax() * 22_050 / len(samples) - 440) < 5


@traceless
@pytest.mark.parametrize("start", [0, 0.3, 0.5])
def test_the_last_picture_is_shown_for_as_long_as_sound_lasts(start: float) -> None:
    def frame(t: float) -> Any:
        return np.full((16, 16, 3), 40 + 40 * round(t * 10), "uint8")

    sound = AudioArrayClip(np.full((24_000, 2), 0.1), fps=48_000)
    film = VideoClip(frame, duration=0.5).with_fps(10).with_audio(sound)
    with VideoSerializer().decode(joined(VideoSerializer("WEBM").encode(film))) as clip:
        assert clip.duration > 0.5
        # A warning here would be an error. No picture of 0.5 s is in the file; that of 0.4 s is shown.
        assert abs(clip.get_frame(min(start, 0.4)).mean() - 40 - 400 * min(start, 0.4)) < 12
        assert abs(clip.get_frame(0.5).mean() - 200) < 12


@traceless
@pytest.mark.parametrize("endless", [float("nan"), float("inf")])
def test_a_clip_without_an_end_or_a_rate_is_refused(endless: float) -> None:
    still = VideoClip(lambda t: np.zeros((4, 4, 3), "uint8"), duration=1).with_fps(5)
    tone = AudioClip(lambda t: 0 * t, duration=1, fps=8000)
    for clip, serializer in (
        (still.with_duration(endless), VideoSerializer()),
        (still.with_fps(endless), VideoSerializer("WEBM")),
        (tone.with_duration(endless), AudioSerializer()),
        (tone.with_fps(endless), AudioSerializer()),
    ):
        with pytest.raises(SerializationError, match=r"this clip lacks|this clip has|a clip of"):
            joined(serializer.encode(clip))


@traceless
def test_a_clip_without_sound_has_none() -> None:
    with VideoSerializer().decode(joined(VideoSerializer().encode(moving(sound=False)))) as clip:
        assert clip.audio is None


@traceless
@pytest.mark.parametrize("name", ["MP4", "WEBM"])
def test_odd_sizes_are_kept(name: str) -> None:
    data = joined(VideoSerializer(name).encode(moving((33, 17), sound=False)))
    with VideoSerializer().decode(data) as clip:
        assert tuple(clip.size) == (33, 17)


@traceless
@pytest.mark.parametrize("fps", [29.97, 24000 / 1001, 5, 1])
def test_the_rate_is_kept(fps: float) -> None:
    clip = ColorClip((16, 16), color=(1, 2, 3), duration=2).with_fps(fps)
    with VideoSerializer().decode(joined(VideoSerializer().encode(clip))) as back:
        assert back.fps == pytest.approx(fps, abs=0.01)


@traceless
def test_a_mask_is_black_in_mp4() -> None:
    clip = ColorClip((32, 32), color=(255, 255, 255), duration=0.2).with_fps(10)
    clip = clip.with_mask(VideoClip(lambda t: np.eye(32) * 0, is_mask=True, duration=0.2))
    with VideoSerializer().decode(joined(VideoSerializer().encode(clip))) as back:
        assert back.get_frame(0).max() < 30


@traceless
def test_a_mask_is_kept_in_webm() -> None:
    shape = np.zeros((32, 48))
    shape[:, 24:] = 1
    clip = ColorClip((48, 32), color=(250, 120, 40), duration=0.4).with_fps(10)
    clip = clip.with_mask(VideoClip(lambda t: shape, is_mask=True, duration=0.4))
    with VideoSerializer().decode(joined(VideoSerializer("WEBM").encode(clip))) as back:
        assert abs(back.mask.get_frame(0.2) - shape).mean() < 0.05
        assert back.get_frame(0.2).shape == (32, 48, 3)
        assert abs(back.get_frame(0.2)[:, 30:].astype(int) - (250, 120, 40)).mean() < 16
        again = VideoSerializer().decode(joined(VideoSerializer("WEBM").encode(back)))
        assert abs(again.mask.get_frame(0) - shape).mean() < 0.1
        again.close()
    with VideoSerializer().decode(joined(VideoSerializer("WEBM").encode(moving(sound=False)))) as plain:
        assert plain.mask is None


@traceless
def test_sound_is_no_video() -> None:
    data = joined(AudioSerializer("OGG").encode(AudioData(tone("int16"), 44_100)))
    with pytest.raises(SerializationError, match="MP4"):
        VideoSerializer().decode(data)


@traceless
def test_parts_and_compositions_are_rendered_as_they_are(videos: dict[str, bytes]) -> None:
    with VideoSerializer().decode(videos["MP4"]) as clip:
        part = clip.subclipped(0.2, 0.4)
        with VideoSerializer().decode(joined(VideoSerializer().encode(part))) as back:
            assert back.duration == pytest.approx(0.2, abs=0.05)
        both = CompositeVideoClip([clip, part.with_start(0.1).resized(0.5)]).with_fps(10)
        with VideoSerializer().decode(joined(VideoSerializer("webm").encode(both))) as back:
            assert tuple(back.size) == (64, 48)


@traceless
@pytest.mark.parametrize(
    ("clip", "says"),
    [
        (ColorClip((16, 16), duration=1), "with_fps"),
        (ColorClip((16, 16)).with_fps(5), "with_duration"),
        (ColorClip((16, 16), duration=0).with_fps(5), "with_duration"),
    ],
)
def test_clips_that_have_no_length_are_refused(clip: VideoClip, says: str) -> None:
    with pytest.raises(SerializationError, match=says):
        VideoSerializer().encode(clip)


@traceless
@pytest.mark.parametrize("name", ["MP4", "WEBM"])
@pytest.mark.parametrize("fails_at", [0.1, 0.4])
def test_a_clip_that_fails_leaves_nothing(name: str, fails_at: float) -> None:
    good = moving()

    def frame(t: float) -> Any:
        if t >= fails_at:
            raise ZeroDivisionError("of the user")
        return good.get_frame(t)

    with pytest.raises(SerializationError, match="of the user"):
        VideoSerializer(name).encode(VideoClip(frame, duration=0.6).with_fps(10).with_audio(good.audio))


@traceless
def test_an_interrupted_encoding_leaves_nothing() -> None:
    def frame(t: float) -> Any:
        if t > 0.2:
            raise KeyboardInterrupt
        return np.zeros((16, 16, 3), "uint8")

    with pytest.raises(KeyboardInterrupt):
        VideoSerializer().encode(VideoClip(frame, duration=1).with_fps(10))


@traceless
def test_frames_of_another_shape_are_refused() -> None:
    clip = VideoClip(lambda t: np.zeros((16, 16 if t < 0.2 else 18, 3), "uint8"), duration=1).with_fps(10)
    with pytest.raises(SerializationError, match="shape"):
        VideoSerializer().encode(clip)


@traceless
def test_what_ffmpeg_refuses_is_told() -> None:
    clip = VideoClip(lambda t: np.zeros((2, 40_000, 3), "uint8"), duration=0.2).with_fps(10)
    with pytest.raises(SerializationError, match="ffmpeg can't write this clip as MP4"):
        VideoSerializer().encode(clip)


@traceless
def test_a_clip_that_is_dropped_frees_all(videos: dict[str, bytes]) -> None:
    before = open_files()
    clip = VideoSerializer().decode(videos["MP4"])
    clip.get_frame(0.3)
    part = clip.subclipped(0.1)
    del clip
    assert part.get_frame(0.1).shape == (48, 64, 3)
    assert open_files() > before
    del part
    assert open_files() == before


@traceless
def test_a_system_without_nameless_files_has_a_folder_for_as_long_as_a_clip(
    videos: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: path != "/proc/self/fd" and there(path))
    clip = VideoSerializer().decode(videos["MP4"])
    assert [*(tmp_path / "temporary").iterdir()]
    assert video_format(joined(VideoSerializer().encode(clip))) == "MP4"
    clip.close()
    assert [*(tmp_path / "temporary").iterdir()] == []
    clip = VideoSerializer().decode(videos["MP4"])
    del clip
    assert [*(tmp_path / "temporary").iterdir()] == []
    with pytest.raises(SerializationError):
        VideoSerializer().decode(videos["MP4"][:40])


@traceless
def test_a_clip_is_readable_after_a_seek_that_was_interrupted(
    videos: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with VideoSerializer().decode(videos["MP4"]) as clip:
        last, first = clip.get_frame(0.3), clip.get_frame(0)
        clip.get_frame(0.3)
        with monkeypatch.context() as patch:
            patch.setattr("moviepy.video.io.ffmpeg_reader.sp.Popen", interrupted)
            with pytest.raises(KeyboardInterrupt):
                clip.get_frame(0)
        assert (clip.get_frame(0) == first).all()
        assert (clip.get_frame(0.3) == last).all()


def test_a_closed_clip_holds_nothing_and_says_so(videos: dict[str, bytes]) -> None:
    before = open_files()
    clip = VideoSerializer().decode(videos["MP4"])
    clip.get_frame(0.5)
    clip.get_frame(0.1)
    clip.close()
    assert open_files() == before
    with pytest.raises(ValueError, match="closed"):
        clip.get_frame(0.2)
    clip.close()


@traceless
@pytest.mark.parametrize(
    "data", [b"", b"no video", b"#EXTM3U\n/etc/hostname", b"ffconcat version 1.0\nfile x", b"GIF89a"]
)
def test_what_is_no_video_is_never_shown_to_ffmpeg(data: bytes) -> None:
    with pytest.raises(SerializationError, match="MP4 or WEBM"):
        VideoSerializer().decode(data)


@traceless
@pytest.mark.filterwarnings("ignore:In file:UserWarning")
@pytest.mark.parametrize("seed", range(3))
def test_damaged_video_is_an_error_of_ours(videos: dict[str, bytes], seed: int) -> None:
    chance = random.Random(seed)
    for data in videos.values():
        for cut in (data[:40], data[: len(data) // 3], *(damaged(data, chance) for _ in range(6))):
            said = "MP4"
            try:
                VideoSerializer().decode(cut).close()
            except SerializationError as error:
                said = str(error)
            assert "MP4" in said


@traceless
def test_threads_encode_and_decode_at_once(videos: dict[str, bytes]) -> None:
    def work(number: int) -> Any:
        image = ImageSerializer().decode(joined(ImageSerializer().encode(picture("RGBA"))))
        sound = AudioSerializer().decode(
            joined(AudioSerializer("FLAC").encode(AudioData(tone("int16"), 8000)))
        )
        with VideoSerializer().decode(videos["MP4"]) as clip:
            frame = clip.get_frame(0.3)
        return same_picture(image, picture("RGBA")), (sound.data == tone("int16")).all(), frame.tobytes()

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(work, range(12))]
    assert all(one and two for one, two, _ in found)
    assert len({frame for *_, frame in found}) == 1


KILLED = """
import sys, time
import numpy as np
from moviepy import AudioClip, VideoClip
from holdall.values.registry import joined
from holdall.values.video import VideoSerializer
sound = AudioClip(lambda t: 0 * t, duration=60, fps=22050)
short = VideoClip(lambda t: np.zeros((48, 64, 3), 'uint8'), duration=0.3).with_fps(10)
clip = VideoSerializer().decode(joined(VideoSerializer().encode(short)))
def frame(t):
    if t > 2:
        print('go', flush=True)
        time.sleep(0.05)
    return np.full((48, 64, 3), int(t * 4) % 255, 'uint8')
VideoSerializer(sys.argv[1]).encode(VideoClip(frame, duration=60).with_fps(10).with_audio(sound))
"""


@traceless
@pytest.mark.parametrize("name", ["MP4", "WEBM"])
def test_a_killed_process_leaves_no_file(tmp_path: Path, name: str) -> None:
    place = tmp_path / "temporary"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, name],
        env={**os.environ, "TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        cwd=place,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    assert [*place.iterdir()] == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    # ffmpeg, whose frames end, writes the rest into a file that nobody sees, and ends as well.
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and members(process.pid):
        threading.Event().wait(0.05)
    assert not members(process.pid)
    assert [*place.iterdir()] == []


def members(group: int) -> list[str]:
    """The processes of a group."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = each.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == str(group) and fields[0] != "Z":
            found.append(each.parent.name)
    return found


@pytest.mark.parametrize("name", ["MP3", "OGG", "FLAC"])
@pytest.mark.parametrize("sample", [float("nan"), float("inf"), -1e30, 1e6], ids=str)
def test_samples_that_are_no_sound_are_refused(name: str, sample: float) -> None:
    """The library of MP3 would end the process."""
    for samples in (np.array([0.0, sample]), np.array([[0.0, 0.1], [sample, 0.1]], "f4")):
        with pytest.raises(SerializationError, match="would round" if name == "FLAC" else "aren't numbers"):
            AudioSerializer(name).encode(AudioData(samples, 8000))
        back = AudioSerializer().decode(joined(AudioSerializer("WAV").encode(AudioData(samples, 8000))))
        assert back.data.tobytes() == samples.tobytes()


def test_sound_that_is_too_loud_is_still_sound() -> None:
    samples = np.sin(np.arange(8000) / 10) * 5_000
    for name in ("MP3", "OGG"):
        back = AudioSerializer().decode(joined(AudioSerializer(name).encode(AudioData(samples, 8000))))
        assert len(back.data) >= 8000
