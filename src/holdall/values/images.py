"""Pillow images, in the formats of pictures."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final, NamedTuple

from holdall.errors import InvalidArgumentError, SerializationError
from holdall.values.packages import instance, needed
from holdall.values.serializer import Buffer

__all__ = ["IMAGES", "ImageFormat", "ImageSerializer", "image_format"]

_log = logging.getLogger("holdall")

_EXIF_PARTS: Final = (0x8769, 0x8825)
"""Of the camera, and of the place."""


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

# Only these are read: others of Pillow's formats start a program, as EPS does, or are of no use here.
_READ: Final = (*IMAGES, "MPO", "BMP", "DIB", "JPEG2000", "AVIF", "ICO", "PPM", "TGA", "QOI")

_CONVERTED: Final = {
    "JPEG": {"1": "L", "P": "RGB", "YCbCr": "RGB", "RGBX": "RGB"},
    "WEBP": {"1": "RGB", "L": "RGB", "LA": "RGBA", "P": "", "PA": "RGBA", "RGBX": "RGB"},
    "GIF": {"RGB": "RGB", "RGBA": "RGBA", "LA": "RGBA", "PA": "RGBA", "RGBX": "RGB"},
}
"""What a format that was asked for takes beside its own modes, and as what; "" is RGB or RGBA."""

_CHANNEL: Final = {
    "TIFF": {"1": "LA", "L": "LA", "P": "RGBA", "RGB": "RGBA"},
    "WEBP": {"1": "RGBA", "L": "RGBA", "RGB": "RGBA"},
    "GIF": {"P": "RGBA"},
}
"""As what a format takes a mode some of whose colors are transparent."""

_HINT: Final = {"La": "LA", "RGBa": "RGBA", "I;16L": "I;16", "I;16N": "I;16", "I;16B": "I;16"}


def image_format(data: Buffer) -> str | None:
    """The name of the format that some bytes begin as, found without Pillow.

    >>> image_format(b"GIF89a...")
    'GIF'
    """
    head = bytes(data[:16])
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"BM"):
        return "BMP"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return None


class ImageSerializer:
    """Any Pillow image, its pixels exact: as PNG, or as TIFF where PNG doesn't hold the mode.

    PNG takes the modes 1, L, LA, P, RGB, RGBA and I;16, TIFF takes I, F, CMYK, LAB and PA. YCbCr is kept
    as RGB, RGBX without its unused channel, and I;16B as I;16. Transparency and color profile are kept, and
    the Exif data in PNG, JPEG and WebP. Other modes (HSV, La, RGBa) are refused. An animation
    (GIF, WebP, APNG) becomes an animated PNG with all its frames, where frames that are alike become one
    that lasts as long; the pages of a TIFF stay pages.

    A format that is asked for by its name takes what it can: JPEG loses detail, has no transparency (images
    with it are refused) and holds one picture (animations are refused); GIF has 256 colors a frame,
    each opaque or not; WebP is written lossless; TIFF has the frames of an animation as pages, without their
    times.

    What is read back is a loaded image. Of an animation the first frame is loaded; the others are decoded as
    `seek` comes to them.

    Args:
        format: One of PNG, JPEG, WEBP, GIF and TIFF. None is the exact way.

    >>> from PIL import Image
    >>> serializer = ImageSerializer()
    >>> [png] = serializer.encode(Image.new("RGB", (2, 1), "navy"))
    >>> serializer.decode(png).getpixel((1, 0))
    (0, 0, 128)
    """

    name = "image"
    media_type = "image/png"
    extensions: tuple[str, ...] = tuple(end for each in IMAGES.values() for end in each.extensions)

    def __init__(self, format: str | None = None) -> None:  # noqa: A002
        self.format = None
        if format is not None:
            found = IMAGES.get({"JPG": "JPEG", "TIF": "TIFF"}.get(str(format).upper(), str(format).upper()))
            if found is None:
                raise InvalidArgumentError(
                    f"pictures are written as one of {', '.join(IMAGES)}, not as {format!r}"
                )
            self.format, self.media_type, self.extensions = found.name, found.media_type, found.extensions

    def accepts(self, value: Any) -> bool:
        return instance(value, "PIL.Image", "Image")

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        image = needed("PIL.Image", "images", "a picture")
        if not isinstance(value, image.Image):
            raise SerializationError(f"the image format takes a Pillow image, not {type(value).__name__}")
        try:
            return (self._saved(value),)
        except SerializationError:
            raise
        # A plugin raises whatever its arithmetic or the file behind a lazy image makes it raise.
        except Exception as error:
            raise SerializationError(
                f"Pillow can't write this image of mode {value.mode}, {value.width}x{value.height}: {error}"
            ) from error

    def _saved(self, image: Any) -> bytes:
        moving = image.format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF") and getattr(image, "n_frames", 1) > 1
        form = IMAGES[self.format or _exact(image, moving)]
        if moving and not form.frames:
            raise SerializationError(
                f"{form.name} holds one picture, and this image has {image.n_frames}; "
                "seek to the one you want and give its copy()"
            )
        info: dict[Any, Any] = image.info
        options: dict[str, Any] = _OPTIONS.get(form.name, {}).copy()
        exif = info.get("exif")
        if form.name in ("PNG", "JPEG", "WEBP") and isinstance(exif, bytes):
            exif = _changed_exif(image, exif) or exif
            # A WebP has it without the head, without which nobody finds it in a JPEG.
            options["exif"] = exif if exif.startswith(_EXIF) else _EXIF + exif
        if form.name in ("JPEG", "WEBP", "TIFF") and info.get("icc_profile"):
            options["icc_profile"] = info["icc_profile"]
        stream = BytesIO()
        if not moving:
            _fitting(image, form).save(stream, form.name, **options)
            return stream.getvalue()
        at = image.tell()
        try:
            if form.name == "TIFF" and image.format == "TIFF":
                image.save(stream, form.name, save_all=True, **options)
            elif form.name == "TIFF":
                frames = _Frames(image)
                first = frames.at(0)
                first.save(stream, form.name, save_all=True, append_images=list(frames), **options)
            else:
                _animate(image, stream, form.name, options)
        finally:
            image.seek(at)
        return stream.getvalue()

    def decode(self, data: Buffer) -> Any:
        image = needed("PIL.Image", "images", "a picture")
        image.init()
        try:
            found = image.open(BytesIO(data), formats=[name for name in _READ if name in image.OPEN])
            found.load()
        # Decoders raise whatever the bytes make them stumble over; all of it means the same.
        except Exception as error:
            begun = image_format(data)
            expected = (
                f"these bytes begin as {begun}" if begun else f"expected {', '.join(IMAGES)} or the like"
            )
            raise SerializationError(f"this is no image that can be read: {expected}: {error}") from error
        return found


_EXIF: Final = b"Exif\0\0"
"""The head of Exif data (CIPA DC-008, section 4.7.2)."""
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}


def _changed_exif(image: Any, given: bytes) -> bytes | None:
    """The Exif data of an image, if it was changed since it was opened, by `getexif()[...] = ...`."""
    was = needed("PIL.Image", "images", "a picture").Exif()
    try:
        was.load(given)
        now = image.getexif()
        same = all(dict(was.get_ifd(part)) == dict(now.get_ifd(part)) for part in _EXIF_PARTS)
        return None if same and dict(was) == dict(now) else now.tobytes()
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error) as error:
        _log.debug("the Exif data of an image can't be read, and is kept as it is: %s", error)
        return None


def _exact(image: Any, moving: bool) -> str:
    """The format that keeps all of an image."""
    if moving:
        return "TIFF" if image.format == "TIFF" else "PNG"
    return "TIFF" if image.mode not in IMAGES["PNG"].modes and image.mode in IMAGES["TIFF"].modes else "PNG"


def _fitting(image: Any, form: ImageFormat) -> Any:
    """An image in a mode that a format holds."""
    mode = image.mode
    clear = image.has_transparency_data
    if form.name == "JPEG" and clear:
        raise SerializationError(
            f"JPEG has no transparency, which this {mode} image has; "
            "convert it with convert('RGB'), or take PNG or WEBP"
        )
    if clear and "a" not in mode.lower():
        # What says how opaque its colors are has a place in PNG, and in GIF if it is one color.
        channel = _CHANNEL.get(form.name, {}).get(mode)
        if channel and not (form.name == "GIF" and isinstance(image.info.get("transparency"), int)):
            return image.convert(channel)
        if form.name == "TIFF" and channel is None:
            raise SerializationError(
                f"TIFF can't hold the transparent color of this {mode} image; take PNG, or remove it: "
                "del image.info['transparency']"
            )
    if mode in form.modes:
        return image
    if mode in ("YCbCr", "RGBX"):
        return image.convert("RGB")
    converted = _CONVERTED.get(form.name, {}).get(mode)
    if converted is None:
        raise SerializationError(
            f"{form.name} can't hold the mode {mode}; convert the image with "
            f"convert({_HINT.get(mode, 'RGB')!r})"
        )
    return image.convert(converted or ("RGBA" if clear else "RGB"))


class _Frames:
    """The frames of an animation after its first, as RGBA, made anew for each that goes over them."""

    def __init__(self, image: Any) -> None:
        self._image = image
        self.durations = [0] * image.n_frames
        self.clear = False

    def __iter__(self) -> Iterator[Any]:
        for number in range(1, self._image.n_frames):
            yield self.at(number)

    def at(self, number: int) -> Any:
        self._image.seek(number)
        frame = self._image.convert("RGBA")
        # A WebP tells a frame's time no sooner than it is decoded.
        self.durations[number] = round(self._image.info.get("duration", 0))
        self.clear = self.clear or frame.getextrema()[3][0] < 255
        # What it says of its own format would mean something else in another.
        frame.info = {}
        return frame


def _animate(image: Any, stream: BytesIO, name: str, options: dict[str, Any]) -> None:
    frames = _Frames(image)
    first = frames.at(0)
    # A GIF that says nothing of a loop is shown once.
    options["loop"] = image.info.get("loop", 1 if image.format == "GIF" else 0)
    for _ in frames:
        # Their times have to be known before the first of them is written.
        pass
    if name == "GIF":
        # What moves away from a transparent place leaves nothing there.
        options["disposal"] = 2
    first.save(stream, name, save_all=True, append_images=frames, duration=frames.durations, **options)
    if name == "WEBP" and frames.clear:
        # Where the parts that change are opaque, libwebp forgets that the rest is not: the flag "Alpha" of
        # the chunk VP8X (RFC 9649, section 2.7).
        with stream.getbuffer() as data:
            if bytes(data[12:16]) == b"VP8X":
                data[20] |= 0x10
