"""A picture comes back with all that it holds besides its pixels, or is refused with the way out."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
from PIL import Image, ImageOps, PngImagePlugin

from holdall import ImageBlob, SerializationError
from holdall.values.images import ImageSerializer

PROFILE = b"a color profile " * 20
XMP = b"<x:xmpmeta>about</x:xmpmeta>"


def opened(image: Image.Image, form: str, **options: Any) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return Image.open(io.BytesIO(stream.getvalue()))


def back(image: Image.Image, form: str | None = None) -> Image.Image:
    serializer = ImageSerializer(form)
    [data] = serializer.encode(image)
    return serializer.decode(data)


def exif_of() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8769)[0x829A] = 0.004
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 59.5)
    return exif


RED = Image.new("RGB", (8, 4), "red")


@pytest.mark.parametrize("form", [None, "PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("dpi", [(300, 300), (72, 72), (96, 150)])
def test_the_resolution_is_kept(form: str | None, dpi: tuple[int, int]) -> None:
    for source in ("JPEG", "PNG", "TIFF"):
        assert back(opened(RED, source, dpi=dpi), form).info["dpi"] == pytest.approx(dpi, abs=0.02)
    image = RED.copy()
    image.info["dpi"] = dpi
    assert back(image, form).info["dpi"] == pytest.approx(dpi, abs=0.02)


@pytest.mark.parametrize("form", [None, "PNG", "JPEG", "WEBP", "TIFF"])
def test_what_has_no_resolution_gets_none(form: str | None) -> None:
    for image in (RED, opened(RED, "TIFF"), opened(RED, "TIFF").copy()):
        assert "dpi" not in back(image, form).info


def test_a_resolution_that_a_format_lacks_is_refused() -> None:
    scan = opened(RED, "TIFF", dpi=(300.5, 300.5))
    assert back(scan, "PNG").info["dpi"] == pytest.approx((300.5, 300.5), abs=0.02)
    for form in ("JPEG", "GIF"):
        with pytest.raises(
            SerializationError, match=r"resolution of 300.5 x 300.5 dpi.*del image.info\['dpi'\]"
        ):
            back(scan, form)
    del scan.info["dpi"]
    assert back(scan, "JPEG").size == (8, 4)


@pytest.mark.parametrize("form", [None, "PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
def test_exif_that_is_set_is_kept_whether_or_not_there_was_some(form: str | None, source: str) -> None:
    for image in (opened(RED, source, exif=exif_of()), opened(RED, source), RED.copy()):
        image.getexif()[0x0110] = "model"
        image.getexif().get_ifd(0x8769)[0x9004] = "2026:02:03 04:05:06"
        exif = back(image, form).getexif()
        assert exif[0x0110] == "model"
        assert exif.get_ifd(0x8769)[0x9004] == "2026:02:03 04:05:06"
        assert exif.get(0x010E) == image.getexif().get(0x010E)
        assert dict(exif.get_ifd(0x8825)) == dict(image.getexif().get_ifd(0x8825))


def test_the_tags_of_a_tiff_are_kept_but_for_those_of_its_layout() -> None:
    tiff = opened(RED, "TIFF", exif=exif_of().tobytes(), compression="raw")
    for form in (None, "PNG", "JPEG", "WEBP", "TIFF"):
        exif = back(tiff, form).getexif()
        assert exif[0x010E] == "a description"
        assert exif.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
        assert form == "TIFF" or 273 not in exif
    with pytest.raises(SerializationError, match="Exif data, which PNG, JPEG, WEBP can"):
        back(tiff, "GIF")


def test_a_tiff_would_turn_an_image_by_its_exif() -> None:
    photo = opened(RED, "JPEG")
    photo.getexif()[0x0112] = 6
    with pytest.raises(SerializationError, match="exif_transpose"):
        back(photo, "TIFF")
    assert back(photo).getexif()[0x0112] == 6
    assert back(ImageOps.exif_transpose(photo), "TIFF").size == (4, 8)


@pytest.mark.parametrize("form", [None, "PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_and_xmp_are_kept(form: str | None) -> None:
    for image in (
        opened(RED, "JPEG", icc_profile=PROFILE, xmp=XMP),
        opened(RED, "WEBP", icc_profile=PROFILE, xmp=XMP),
    ):
        made = back(image, form)
        assert made.info["icc_profile"] == PROFILE
        assert made.info["xmp"] == XMP
    with pytest.raises(SerializationError, match="color profile of 320 bytes, which PNG, JPEG"):
        back(image, "GIF")


def test_a_profile_that_a_png_cannot_give_back_is_kept_by_a_tiff() -> None:
    profile = bytes(range(256)) * 5000
    photo = opened(RED, "JPEG", icc_profile=profile)
    kept = back(photo)
    assert kept.format == "TIFF"
    assert kept.info["icc_profile"] == profile
    with pytest.raises(SerializationError, match=r"profile of 1,280,000 bytes.*JPEG, WEBP and TIFF keep it"):
        ImageBlob(photo, format="PNG")
    assert back(photo, "WEBP").info["icc_profile"] == profile


def test_the_text_of_a_png_is_kept() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "an island")
    text.add_itxt("Author", "Ægir", "is", "Höfundur")
    text.add_text("Long", "x" * 5000, zip=True)
    image = opened(RED, "PNG", pnginfo=text)
    for each in (image, image.copy()):
        made = back(each)
        assert {name: made.info[name] for name in ("Title", "Author", "Long")} == {
            "Title": "an island",
            "Author": "Ægir",
            "Long": "x" * 5000,
        }
    for form in ("JPEG", "WEBP", "TIFF", "GIF"):
        with pytest.raises(
            SerializationError, match=r"its text \(Title, Author, Long\).*del image.info\['Title'\]"
        ):
            back(image, form)


def test_a_comment_is_kept() -> None:
    for source in ("JPEG", "GIF"):
        image = opened(RED, source, comment=b"gr\xfc\xdfe")
        assert back(image).info["comment"] == "grüße"
        assert back(image, source).info["comment"] == b"gr\xfc\xdfe"
        assert back(back(image), source).info["comment"] == b"gr\xfc\xdfe"
        with pytest.raises(SerializationError, match="its text"):
            back(image, "WEBP")


COLORS = ("red", "green", "blue")


def moving(form: str = "PNG", duration: Any = (100, 200, 300), **options: Any) -> Image.Image:
    frames = [Image.new("RGBA", (8, 8), color) for color in COLORS]
    duration = list(duration)
    return opened(
        frames[0], form, save_all=True, append_images=frames[1:], duration=duration, lossless=True, **options
    )


def shown(image: Image.Image) -> list[tuple[Any, Any]]:
    found = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        pixel = image.convert("RGBA").getpixel((0, 0))
        found.append((pixel, image.info.get("duration")))
    return found


@pytest.mark.parametrize("form", [None, "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("source", ["PNG", "WEBP"])
def test_an_animation_keeps_its_profile_exif_and_xmp(source: str, form: str | None) -> None:
    more = {"xmp": XMP} if source == "WEBP" else {}
    exif = Image.Exif()
    exif[0x010E] = "a description"
    made = back(moving(source, icc_profile=PROFILE, exif=exif, **more), form)
    assert made.info["icc_profile"] == PROFILE
    assert made.getexif()[0x010E] == "a description"
    assert made.info.get("xmp") == more.get("xmp")
    with pytest.raises(SerializationError, match="color profile"):
        back(moving(source, icc_profile=PROFILE), "GIF")


@pytest.mark.parametrize("plays", [0, 1, 3])
@pytest.mark.parametrize("source", ["PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_how_often_it_is_shown_is_kept(source: str, form: str, plays: int) -> None:
    # A GIF that says nothing is shown once.
    options = {} if source == "GIF" and plays == 1 else {"loop": plays}
    made = back(moving(source, **options), form)
    assert made.info.get("loop", 1 if form == "GIF" else 0) == plays


def test_a_gif_refuses_times_that_it_would_round() -> None:
    for duration in ((33, 15, 4), (100, 105, 100)):
        image = moving(duration=duration)
        with pytest.raises(SerializationError, match=r"frame . lasts (33|105) ms.*PNG and WEBP"):
            back(image, "GIF")
        assert [time for _, time in shown(back(image))] == list(duration)
    assert [time for _, time in shown(back(moving(duration=(10, 20, 2550)), "GIF"))] == [10, 20, 2550]


def test_the_default_image_of_an_animated_png_is_kept() -> None:
    image = moving(duration=(100, 200), default_image=True)
    made = back(image)
    assert made.info["default_image"] is True
    assert shown(made) == shown(image)
    for form in ("GIF", "WEBP"):
        with pytest.raises(SerializationError, match="default_image"):
            back(image, form)


def test_times_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SerializationError):
        back(moving("WEBP", duration=(70_000, 10, 10)), "PNG")
    assert [time for _, time in shown(back(moving("WEBP", duration=(70_000, 10, 10)), "WEBP"))] == [
        70_000,
        10,
        10,
    ]


def test_frames_that_are_all_alike_are_refused_and_those_in_a_row_become_one() -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    still = opened(
        red, "WEBP", save_all=True, append_images=[red, red], duration=50, lossless=True, minimize_size=False
    )
    if still.n_frames > 1:  # type: ignore[attr-defined]
        with pytest.raises(SerializationError, match="150 ms"):
            back(still)
    image = opened(red, "GIF", save_all=True, append_images=[blue, red], duration=[50, 60, 70])
    assert [time for _, time in shown(back(image))] == [50, 60, 70]


def test_a_file_of_several_pictures_keeps_all_or_is_refused() -> None:
    double = opened(RED, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 4), "blue")])
    for form in (None, "JPEG", "WEBP"):
        with pytest.raises(SerializationError, match=r"one picture of this MPO, which has 2.*copy\(\)"):
            back(double, form)
    assert back(double.copy()).size == (8, 4)


def test_each_page_of_a_tiff_is_kept() -> None:
    pages = [Image.new("L", (5, 5), 9), Image.new("CMYK", (9, 3), "red"), Image.new("1", (2, 2))]
    scan = opened(pages[0], "TIFF", save_all=True, append_images=pages[1:], dpi=(300, 300))
    scan.seek(1)
    made = back(scan)
    assert scan.tell() == 1
    for number, page in enumerate(pages):
        made.seek(number)
        assert (made.size, made.mode, made.info["dpi"]) == (page.size, page.mode, (300, 300))


def test_what_differs_from_page_to_page_is_refused() -> None:
    pages = [Image.new("L", (5, 5), 9), Image.new("L", (5, 5), 8)]
    pages[1].encoderinfo = {"dpi": (72, 72)}  # type: ignore[attr-defined]
    scan = opened(pages[0], "TIFF", save_all=True, append_images=pages[1:], dpi=(300, 300))
    scan.seek(1)
    assert scan.info["dpi"] == (72, 72)
    with pytest.raises(SerializationError, match="page 1 has another dpi than the first"):
        back(scan)


def test_what_could_not_be_read_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(SerializationError, match=r"101x1 pixels.*reads up to 100 pixels.*MAX_IMAGE_PIXELS"):
        back(Image.new("1", (101, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert back(Image.new("1", (100, 1))).size == (100, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert back(Image.new("1", (300, 1))).size == (300, 1)
