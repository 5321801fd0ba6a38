"""Pillow images, in the formats of pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

from holdall.errors import SerializationError
from holdall.values.media import IMAGES, ImageFormat, MediaSerializer, image_format
from holdall.values.packages import instance, needed
from holdall.values.picture import (
    Extras,
    extras_of,
    options_for,
    plays_of,
    refuse_loss,
    refuse_other_frames,
    resolution_of,
    same_pixels,
)
from holdall.values.same import type_name
from holdall.values.serializer import Buffer

__all__ = ["IMAGES", "ImageFormat", "ImageSerializer", "image_format"]


# Only these are read: others of Pillow's formats start a program, as EPS does, or aren't useful here.
_READ: Final = (*IMAGES, "MPO", "BMP", "DIB", "JPEG2000", "AVIF", "ICO", "PPM", "TGA", "QOI")

_CONVERTED: Final = {
    "JPEG": {"1": "L", "P": "RGB", "YCbCr": "RGB", "RGBX": "RGB"},
    "WEBP": {"1": "RGB", "L": "RGB", "LA": "RGBA", "P": "", "PA": "RGBA", "RGBX": "RGB"},
    "GIF": {"RGB": "RGB", "RGBA": "RGBA", "LA": "RGBA", "PA": "RGBA", "RGBX": "RGB"},
}
"""Other modes that a requested format takes, and the mode that they become; "" is RGB or RGBA."""

_CHANNEL: Final = {
    "TIFF": {"1": "LA", "L": "LA", "P": "RGBA", "RGB": "RGBA"},
    "WEBP": {"1": "RGBA", "L": "RGBA", "RGB": "RGBA"},
    "GIF": {"P": "RGBA"},
}
"""The mode in which a format takes a mode with transparent colors."""

_HINT: Final = {"La": "LA", "RGBa": "RGBA", "I;16L": "I;16", "I;16N": "I;16", "I;16B": "I;16"}


class ImageSerializer(MediaSerializer):
    """Any Pillow image, its pixels exact: as PNG, or as TIFF where PNG doesn't hold the mode.

    PNG takes the modes 1, L, LA, P, RGB, RGBA and I;16, TIFF takes I, F, CMYK, LAB and PA. YCbCr is kept
    as RGB, RGBX without its unused channel, and I;16B as I;16. Other modes (HSV, La, RGBa) are refused. An
    animation (GIF, WebP, APNG) becomes an animated PNG with all its frames, where frames that are alike
    become one that lasts as long; the pages of a TIFF stay pages.

    An image is read back and compared before its bytes are returned: pixels, frames and their times (to
    whole milliseconds), how often an animation is shown and its default image, transparency, color profile,
    Exif and XMP data, resolution, text and comments. If a format would lose something, the image is
    refused, and the error names the formats that keep it.

    A requested format changes some things by its nature: JPEG loses detail; GIF has 256
    colors a frame, each opaque or not; TIFF has the frames of an animation as pages, without their times.
    WebP is written lossless.

    Images are loaded when they are read. Of an animation the first frame is loaded; `seek` decodes the
    others.

    Args:
        format: One of PNG, JPEG, WEBP, GIF and TIFF. None keeps the image exactly.

    >>> from PIL import Image
    >>> serializer = ImageSerializer()
    >>> [png] = serializer.encode(Image.new("RGB", (2, 1), "navy"))
    >>> serializer.decode(png).getpixel((1, 0))
    (0, 0, 128)
    """

    name = "image"
    media_type = "image/png"
    extensions: tuple[str, ...] = tuple(end for each in IMAGES.values() for end in each.extensions)

    _formats = IMAGES

    def __init__(self, format: str | None = None) -> None:  # noqa: A002
        super().__init__(format, None)

    def accepts(self, value: Any) -> bool:
        return instance(value, "PIL.Image", "Image")

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        image = needed("PIL.Image", "images", "a picture")
        if not isinstance(value, image.Image):
            raise SerializationError(f"the image format takes a Pillow image, got {type_name(value)}")
        _check_size(image, value)
        try:
            form = IMAGES[self.format or _choose_format(value)]
            _check_profile(value, form)
            data = _save(value, form)
            _check_back(value, form, self.decode(data))
        except SerializationError:
            raise
        # A plugin, or the file of a lazy image, may raise anything.
        except Exception as error:
            raise SerializationError(
                f"Pillow can't write this image of mode {value.mode}, {value.width}x{value.height}: {error}"
            ) from error
        return (data,)

    def decode(self, data: Buffer) -> Any:
        image = needed("PIL.Image", "images", "a picture")
        image.init()
        try:
            found = image.open(BytesIO(data), formats=[name for name in _READ if name in image.OPEN])
            found.load()
            _complete(found)
        # Decoders raise errors of many types for bad bytes; all mean the same.
        except Exception as error:
            # Pillow names the stream by its address.
            why = "Pillow doesn't know it" if isinstance(error, image.UnidentifiedImageError) else error
            raise self._explain_unread(data, "an image", why) from error
        return found


_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_PNG_PROFILE: Final = 1 << 20
"""The longest color profile, in bytes, that Pillow reads from a PNG."""


def _check_size(pillow: Any, image: Any) -> None:
    """Refuse an image of more pixels than Pillow reads back."""
    limit = pillow.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > 2 * limit:
        raise SerializationError(
            f"this image of {image.width}x{image.height} pixels could be written, but not read: Pillow reads "
            f"up to {2 * limit:,} pixels. Cut it into parts, keep the file's own bytes, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS, here and where it is read"
        )


def _complete(image: Any) -> None:
    """Set the resolution to that of the file, which Pillow doesn't do."""
    if image.format == "TIFF" and 282 not in image.tag_v2:
        # Pillow shows 1 dpi for a TIFF without a resolution.
        image.info.pop("dpi", None)
    elif image.format == "WEBP" and "exif" in image.info and "dpi" not in image.info:
        try:
            exif = image.getexif()
            scale = 2.54 if exif.get(296) == 3 else 1
            dpi = resolution_of((exif.get(282, 0) * scale, exif.get(283, 0) * scale))
        except (SyntaxError, ValueError, LookupError, TypeError, OSError, ArithmeticError, struct.error):
            dpi = None
        if dpi is not None:
            image.info["dpi"] = dpi


def _is_moving(image: Any) -> bool:
    return getattr(image, "n_frames", 1) > 1


def _save(image: Any, form: ImageFormat) -> bytes:
    moving = _is_moving(image)
    if moving and (not form.frames or image.format not in _MOVING):
        raise SerializationError(
            f"{form.name} would keep one picture of this {image.format}, which has {image.n_frames}: keep "
            "the bytes of the file, or seek to the one you want and give its copy()"
        )
    stream = BytesIO()
    if not moving:
        image.load()
        _convert(image, form).save(stream, form.name, **_choose_options(image, form))
        return stream.getvalue()
    at = image.tell()
    try:
        # Only the first frame has the data that hold for all of them.
        image.seek(0)
        options = _choose_options(image, form)
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


def _choose_options(image: Any, form: ImageFormat) -> dict[str, Any]:
    return _OPTIONS.get(form.name, {}) | options_for(form.name, extras_of(image))


_MOVING: Final = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
"""The formats whose frames are all kept."""


def _check_profile(image: Any, form: ImageFormat) -> None:
    size = len(image.info.get("icc_profile") or b"")
    if form.name == "PNG" and size > _PNG_PROFILE:
        raise SerializationError(
            f"PNG can't hold this color profile of {size:,} bytes: Pillow reads up to {_PNG_PROFILE:,} "
            "from a PNG. JPEG, WEBP and TIFF keep it; choose one of these, or remove it: "
            "del image.info['icc_profile']"
        )


def _check_back(image: Any, form: ImageFormat, back: Any) -> None:
    """Refuse an image that its bytes wouldn't restore, except for what the format changes by its nature."""
    moving = _is_moving(image)
    at = image.tell() if moving else 0
    try:
        if moving and form.name == "TIFF":
            _check_pages(image, back)
        elif moving:
            # The colors of a GIF were chosen anew.
            refuse_other_frames(form.name, image, back, exact=form.name != "GIF")
        else:
            _check_still(_convert(image, form), form, back)
        if moving:
            image.seek(0)
            back.seek(0)
        refuse_loss(form.name, extras_of(image), back)
    finally:
        if moving:
            image.seek(at)


def _check_still(given: Any, form: ImageFormat, back: Any) -> None:
    if given.size != back.size:
        raise SerializationError(
            f"{form.name} would turn this image by its Exif orientation: give it upright, as "
            "PIL.ImageOps.exif_transpose(image)"
        )
    # A GIF of many colors, and a JPEG, lose detail by their nature.
    if form.name == "JPEG" or (form.name == "GIF" and given.mode in ("RGB", "RGBA")):
        return
    modes = (given.mode, "I;16" if given.mode == "I;16B" else given.mode)
    if form.name in ("PNG", "TIFF") and back.mode not in modes:
        raise SerializationError(f"{form.name} would give back the mode {back.mode}, not {given.mode}")
    if not same_pixels(given, back):
        raise SerializationError(
            f"{form.name} would change the pixels of this image of mode {given.mode}; choose another format"
        )


def _check_pages(image: Any, back: Any) -> None:
    if image.n_frames != getattr(back, "n_frames", 1):
        raise SerializationError(f"TIFF would keep {getattr(back, 'n_frames', 1)} of {image.n_frames} pages")
    first: Extras | None = None
    for number in range(image.n_frames):
        image.seek(number)
        back.seek(number)
        if not same_pixels(image, back):
            raise SerializationError(
                f"TIFF would change page {number}; give each page as an image of its own"
            )
        if image.format != "TIFF":
            continue
        found = extras_of(image)
        first = first or found
        for part, one, other in zip(Extras._fields, first, found, strict=True):
            if one != other:
                raise SerializationError(
                    f"page {number} has another {part} than the first page, and it would be lost; keep the "
                    "bytes of the file, or give each page as an image of its own, its copy()"
                )


def _choose_format(image: Any) -> str:
    """Return the format that keeps all of an image."""
    if _is_moving(image):
        return "TIFF" if image.format == "TIFF" else "PNG"
    if len(image.info.get("icc_profile") or b"") > _PNG_PROFILE and image.mode in IMAGES["TIFF"].modes:
        return "TIFF"
    return "TIFF" if image.mode not in IMAGES["PNG"].modes and image.mode in IMAGES["TIFF"].modes else "PNG"


def _convert(image: Any, form: ImageFormat) -> Any:
    """Return an image in a mode that a format holds."""
    mode = image.mode
    clear = image.has_transparency_data
    if form.name == "JPEG" and clear:
        raise SerializationError(
            f"JPEG can't hold the transparency of this {mode} image; "
            "convert it with convert('RGB'), or take PNG or WEBP"
        )
    if clear and "a" not in mode.lower():
        # PNG can hold how opaque the colors are, GIF only one transparent color.
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
    """The frames of an animation after its first, as RGBA, made anew by each iteration."""

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
        # Pillow knows the time of a frame of a WebP only once it is decoded.
        self.durations[number] = round(self._image.info.get("duration") or 0)
        self.clear = self.clear or frame.getextrema()[3][0] < 255
        # Settings of its own format would have other meanings in another one.
        frame.info = {}
        return frame


def _animate(image: Any, stream: BytesIO, name: str, options: dict[str, Any]) -> None:
    frames = _Frames(image)
    first = frames.at(0)
    default = bool(image.info.get("default_image"))
    if default and name != "PNG":
        raise SerializationError(
            f"{name} can't hold the picture that this animation shows to programs without animations "
            "(default_image), which PNG can keep; choose PNG"
        )
    plays = plays_of(image)
    # A GIF without a count is shown once.
    if name != "GIF" or plays != 1:
        options["loop"] = plays
    for _ in frames:
        # Their times must be known before the first is written.
        pass
    durations = frames.durations[1:] if default else frames.durations
    if default:
        options["default_image"] = True
    if name == "GIF":
        odd = next((lasts for lasts in durations if lasts % 10), None)
        if odd is not None:
            raise SerializationError(
                f"GIF has times in steps of 10 ms, and frame {durations.index(odd)} lasts {odd} ms, which "
                "PNG and WEBP can keep; choose one of these"
            )
        # A part that moves must leave nothing behind on a transparent background.
        options["disposal"] = 2
    first.save(stream, name, save_all=True, append_images=frames, duration=durations, **options)
    if name == "WEBP" and frames.clear:
        # If the parts that change are opaque, libwebp marks the whole as opaque: this sets the flag "Alpha"
        # of the chunk VP8X (RFC 9649, section 2.7).
        with stream.getbuffer() as data:
            if bytes(data[12:16]) == b"VP8X":
                data[20] |= 0x10
