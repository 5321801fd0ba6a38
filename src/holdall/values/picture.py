"""The data of a picture besides its pixels, and the check that a format restores all of it."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, NamedTuple, cast

from holdall.errors import SerializationError
from holdall.values.packages import needed

_log = logging.getLogger("holdall")

_EXIF_HEAD: Final = b"Exif\0\0"
"""The head of Exif data (CIPA DC-008, section 4.7.2)."""
_EXIF_PARTS: Final = (0x8769, 0x8825, 0xA005)
"""The directories of the camera, of the place, and of interoperability."""
_RESOLUTION: Final = (282, 283, 296)
_XMP: Final = 700
_LAYOUT: Final = frozenset((
    254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, *_RESOLUTION, 284, 297, 301, 317, 318, 319,
    320, 321, 322, 323, 324, 325, 330, 338, 339, 340, 341, 347, 529, 530, 531, 532, _XMP, 34675,
))  # fmt: skip
"""The tags that describe the layout of a TIFF's pixels, and those that are kept in other ways."""
_XMP_TEXT: Final = "XML:com.adobe.xmp"
_NO_TEXT: Final = ("compression", _XMP_TEXT)
"""Names under which Pillow shows a str that isn't text of the picture."""
_DPI_ERROR: Final = 0.02
"""A PNG has whole pixels a metre, so that 300 dpi are 299.9994."""


class Extras(NamedTuple):
    """The data of a picture besides its pixels."""

    profile: bytes | None
    """The ICC color profile."""
    exif: bytes | None
    """Exif data, with its head."""
    dpi: tuple[float, float] | None
    """Pixels an inch, across and down."""
    xmp: bytes | None
    text: Mapping[str, str]
    """The texts of a PNG's text chunks; the comment of a JPEG or GIF is the one named `comment`."""


class _Loss(NamedTuple):
    """The parts of a message about data that a format doesn't keep."""

    what: str
    keepers: str
    removal: str


_LOSSES: Final = {
    "profile": _Loss("its color profile", "PNG, JPEG, WEBP, TIFF", "del image.info['icc_profile']"),
    "exif": _Loss(
        "its Exif data", "PNG, JPEG, WEBP", "image.getexif().clear(); image.info.pop('exif', None)"
    ),
    "dpi": _Loss("its resolution", "PNG, TIFF, WEBP, and whole numbers JPEG", "del image.info['dpi']"),
    "xmp": _Loss("its XMP data", "PNG, JPEG, WEBP, TIFF", "del image.info['xmp']"),
    "text": _Loss("its text", "PNG, and a comment also JPEG, GIF", "del image.info[{0!r}]"),
}


def extras_of(image: Any) -> Extras:
    """Return the data of a loaded image besides its pixels."""
    info: dict[Any, Any] = image.info
    xmp = info.get("xmp") or info.get(_XMP_TEXT)
    text = {
        name: each
        for name, each in info.items()
        if isinstance(name, str) and isinstance(each, str) and name not in _NO_TEXT
    }
    comment = info.get("comment")
    if isinstance(comment, (bytes, bytearray)):
        text["comment"] = comment.decode("latin-1")
    profile = info.get("icc_profile")
    return Extras(
        profile=bytes(profile) if profile else None,
        exif=_read_exif(image),
        dpi=resolution_of(info.get("dpi")),
        xmp=(xmp.encode() if isinstance(xmp, str) else bytes(xmp)) if xmp else None,
        text=text,
    )


def resolution_of(dpi: Any) -> tuple[float, float] | None:
    """Return a resolution; None for Pillow's placeholder for a TIFF without one, and for invalid values."""
    try:
        across, down = (float(each) for each in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    usable = math.isfinite(across) and math.isfinite(down) and across > 0 and down > 0
    return (across, down) if usable and (across, down) != (1, 1) else None


def _read_exif(image: Any) -> bytes | None:
    """Return Exif data as an image has it now: it may have been changed by `getexif()[...] = ...`."""
    given = image.info.get("exif")
    given = given if isinstance(given, bytes) and given else None
    if given is not None and not given.startswith(_EXIF_HEAD):
        given = _EXIF_HEAD + given
    try:
        now = image.getexif()
        if given is not None and _read_tags(_load_exif(given), frozenset()) == _read_tags(now, frozenset()):
            # Unchanged, with what Pillow doesn't write, such as a thumbnail.
            return given
        kept = _load_exif(None)
        layout = _LAYOUT if image.format in ("TIFF", "MPO") or given is None else frozenset[int]()
        for tag, value in now.items():
            if tag not in layout and tag not in _EXIF_PARTS:
                kept[tag] = value
        for part in _EXIF_PARTS:
            if found := _directory(now, part):
                kept.get_ifd(part).update(found)
        # An empty directory would be written too.
        return kept.tobytes() if _read_tags(now, layout) else None
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error) as error:
        _log.debug("the Exif data of an image can't be read, and is kept as it is: %s", error)
        return given


def _directory(exif: Any, part: int) -> dict[int, Any]:
    # The interoperability directory is inside the camera's; without that, Pillow can't look it up.
    if part == _EXIF_PARTS[2] and part not in exif.get_ifd(_EXIF_PARTS[0]):
        return {}
    return dict(exif.get_ifd(part))


def _read_tags(exif: Any, without: frozenset[int]) -> dict[tuple[int, int], str]:
    """Return all tags of Exif data as text, whatever types a file has for them."""
    parts = {0: dict(exif), **{part: _directory(exif, part) for part in _EXIF_PARTS}}
    return {
        (part, tag): _tag_text(value)
        for part, tags in parts.items()
        for tag, value in tags.items()
        if tag not in _EXIF_PARTS and (part or tag not in without)
    }


def _tag_text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        members = cast("tuple[Any, ...]", value)
        return ",".join(map(_tag_text, members))
    if isinstance(value, (str, bytes)):
        return repr(value.rstrip("\0") if isinstance(value, str) else value)
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return repr(value)
    # A file has fractions, which differ from a float in its last digits.
    return str(int(number)) if number.is_integer() else f"{number:.6g}"


def options_for(name: str, extras: Extras) -> dict[str, Any]:
    """Return the options of Pillow's `save` with which a format keeps the most."""
    options: dict[str, Any] = {}
    exif = extras.exif
    if name == "PNG" and (extras.text or extras.xmp):
        options["pnginfo"] = _make_png_text(extras)
    if "comment" in extras.text and name in ("JPEG", "GIF"):
        options["comment"] = extras.text["comment"].encode("latin-1")
    if name == "GIF":
        return options
    if extras.profile:
        options["icc_profile"] = extras.profile
    if extras.xmp and name in ("JPEG", "WEBP"):
        options["xmp"] = extras.xmp
    if extras.dpi and name != "WEBP":
        options["dpi"] = extras.dpi
    if (extras.dpi and name == "WEBP") or (extras.xmp and name == "TIFF"):
        exif = _add_tags(extras, name)
    if exif:
        options["exif"] = exif
    if name == "TIFF" and exif and any(part for part, _ in _read_tags(_load_exif(exif), frozenset())):
        # Its compression can't write the directories of Exif data.
        options["compression"] = "raw"
    return options


def _make_png_text(extras: Extras) -> Any:
    made = needed("PIL.PngImagePlugin", "images", "a picture").PngInfo()
    for name, text in extras.text.items():
        made.add_text(name, text)
    if extras.xmp:
        made.add_itxt(_XMP_TEXT, extras.xmp.decode("utf-8"))
    return made


def _load_exif(exif: bytes | None) -> Any:
    made = needed("PIL.Image", "images", "a picture").Exif()
    if exif:
        made.load(exif)
    return made


def _add_tags(extras: Extras, name: str) -> bytes:
    """Return Exif data with the resolution, for which a WebP has no other place, or with the XMP data of a
    TIFF."""
    made = _load_exif(extras.exif)
    for part in _EXIF_PARTS[:2]:
        if part in made:
            made.get_ifd(part)  # Pillow writes it only if it was read
    if name == "TIFF":
        made[_XMP] = extras.xmp
    elif extras.dpi and not all(tag in made for tag in _RESOLUTION[:2]):
        made[282], made[283], made[296] = *extras.dpi, 2
    return made.tobytes()


def refuse_loss(name: str, given: Extras, back: Any) -> None:
    """Raise if a format doesn't restore something besides the pixels.

    Raises:
        SerializationError: It names the lost data, the formats that keep it, and how to remove it.
    """
    found = extras_of(back)
    for part in Extras._fields:
        if _is_kept(part, name, getattr(given, part), getattr(found, part)):
            continue
        loss = _LOSSES[part]
        missing = next((each for each in given.text if each not in found.text), "comment")
        raise SerializationError(
            f"{name} would lose {loss.what}{_describe(part, given)}, which {loss.keepers} can; choose one "
            f"of these, or remove it: {loss.removal.format(missing)}"
        )


def _describe(part: str, extras: Extras) -> str:
    if part == "dpi" and extras.dpi:
        return f" of {extras.dpi[0]:g} x {extras.dpi[1]:g} dpi"
    if part == "profile" and extras.profile:
        return f" of {len(extras.profile):,} bytes"
    return f" ({', '.join(extras.text)})" if part == "text" else ""


def _is_kept(part: str, name: str, given: Any, found: Any) -> bool:
    if not given:
        return True
    if part == "dpi":
        return found is not None and all(
            abs(one - other) <= _DPI_ERROR for one, other in zip(given, found, strict=True)
        )
    if part == "text":
        return all(found.get(key) == text for key, text in given.items())
    if part != "exif" or given == found:
        return bool(given == found)
    without = _LAYOUT if name in ("TIFF", "WEBP") else frozenset[int]()
    try:
        return found is not None and _read_tags(_load_exif(given), without) == _read_tags(
            _load_exif(found), without
        )
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error):
        return False  # damaged, and not even kept as it was


def same_pixels(one: Any, other: Any) -> bool:
    """Return whether two images of one size show the same, comparing some rows at a time."""
    if one.size != other.size:
        return False
    width, height = one.size
    step = max(1, (1 << 20) // max(1, width))
    for top in range(0, height, step):
        box = (0, top, width, min(top + step, height))
        if _read_pixels(one.crop(box)) != _read_pixels(other.crop(box)):
            return False
    return True


def _read_pixels(image: Any) -> bytes:
    if image.mode.startswith("I;16"):
        return image.convert("I").tobytes()
    # RGBA shows what a palette and a transparent color mean.
    exact = image.mode in ("I", "F", "CMYK", "LAB")
    return (image if exact else image.convert("RGBA")).tobytes()


def plays_of(image: Any) -> int:
    """Return how often an animation is shown; 0 means forever. A GIF without a count is shown once."""
    return int(image.info.get("loop", 1 if image.format == "GIF" else 0))


def _read_frames(image: Any) -> Iterator[tuple[bytes, int]]:
    """Yield the frames of an animation as they are seen, each with its milliseconds; equal ones are one."""
    pillow = needed("PIL.Image", "images", "a picture")
    held: bytes | None = None
    lasts = 0
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        frame = image.convert("RGBA")
        # Formats may keep any color in fully transparent places.
        seen = pillow.new("RGBA", frame.size)
        seen.paste(frame, mask=frame.getchannel("A").point([0, *[255] * 255]))
        pixels = seen.tobytes()
        duration = round(image.info.get("duration") or 0)
        default = number == 0 and bool(image.info.get("default_image"))
        if pixels == held:
            lasts += duration
            continue
        if held is not None:
            yield held, lasts
        # The picture for programs without animations isn't part of the animation.
        held, lasts = (None, 0) if default else (pixels, duration)
        if default:
            yield pixels, -1
    if held is not None:
        yield held, lasts


def refuse_other_frames(name: str, image: Any, back: Any, exact: bool) -> None:
    """Raise if an animation would be shown differently.

    Args:
        exact: Whether the format keeps the pixels; otherwise only the times of frames are compared.
    """
    if plays_of(image) != plays_of(back):
        raise SerializationError(
            f"{name} would be shown {plays_of(back)} times, not {plays_of(image)} (0 means forever), which "
            "PNG and WEBP can; choose one of these, or set image.info['loop']"
        )
    if not exact:
        given, found = (sum(lasts for _, lasts in _read_frames(each)) for each in (image, back))
        if given != found:
            raise SerializationError(f"{name} would show this animation for {found} ms, not {given} ms")
        return
    for number, (one, other) in enumerate(zip_longest(_read_frames(image), _read_frames(back))):
        if one == other:
            continue
        if one is None or other is None or one[0] != other[0]:
            what = f"other frames, from number {number} on"
        else:
            what = f"frame {number} for {other[1]} ms, not {one[1]} ms"
        raise SerializationError(
            f"{name} would show {what}; choose another format, or give one frame: image.copy()"
        )
