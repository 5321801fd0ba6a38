"""Pictures as blobs."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from holdall.blobs import BytesBlob, ImageBlob
from holdall.errors import InvalidArgumentError, SerializationError


def drawing(mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (40, 30), 0)
    ImageDraw.Draw(image).ellipse((5, 5, 30, 25), fill=200 if mode == "L" else (200, 30, 90))
    return image


def saved(image: Image.Image, name: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name)
    return stream.getvalue()


FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF"]


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_are_kept_as_given(name: str, tmp_path: Path) -> None:
    data = saved(drawing(), name)
    blob = ImageBlob(data)
    assert blob.as_bytes() == data
    assert (blob.format, blob.media_type) == (name, f"image/{name.lower()}")
    image = blob.as_image()
    assert (image.format, image.size) == (name, (40, 30))
    blob.dump(tmp_path / f"file.{name}")
    assert ImageBlob.load(tmp_path / f"file.{name}").as_bytes() == data
    assert BytesBlob(data).as_blob(ImageBlob).as_image().tobytes() == image.tobytes()


@pytest.mark.parametrize(("data", "what"), [(b"text", "expected PNG, JPEG"), (b"GIF89a", "begin as GIF")])
def test_bytes_that_are_no_image(data: bytes, what: str) -> None:
    with pytest.raises(SerializationError, match=rf"isn't an image .*{what}.*: Pillow doesn't know it$"):
        ImageBlob(data).as_image()


def test_an_image_is_kept_whole() -> None:
    image = drawing("RGBA")
    image.putalpha(99)
    blob = ImageBlob(image)
    back = blob.as_image()
    assert (back.mode, back.tobytes()) == (image.mode, image.tobytes())
    assert blob.media_type == "image/png"
    assert ImageBlob(drawing().convert("CMYK")).media_type == "image/tiff"
    assert pickle.loads(pickle.dumps(blob)).as_image().tobytes() == image.tobytes()


def test_a_change_of_the_image_changes_no_blob() -> None:
    image = drawing()
    blob = ImageBlob(image)
    image.paste((0, 0, 0), (0, 0, 40, 30))
    blob.as_image().paste((0, 0, 0), (0, 0, 40, 30))
    assert blob.as_image().tobytes() == drawing().tobytes()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".gif", ".tif"])
def test_a_suffix_decides_the_format(name: str, suffix: str, tmp_path: Path) -> None:
    blob = ImageBlob(drawing(), format=name)
    assert blob.format == name
    blob.dump(tmp_path / f"file{suffix}")
    found = Image.open(tmp_path / f"file{suffix}")
    with found:
        found.load()
        assert found.format == Image.registered_extensions()[suffix.lower()]
        near = max(high for _, high in found.convert("RGB").resize((4, 3)).getextrema())
    assert abs(near - max(high for _, high in drawing().resize((4, 3)).getextrema())) < 12
    if blob.format == found.format:
        assert (tmp_path / f"file{suffix}").read_bytes() == blob.as_bytes()


def test_as_format_is_itself_where_nothing_changes() -> None:
    blob = ImageBlob(drawing())
    assert blob.as_format("png") is blob
    assert blob.as_format("WEBP").as_format("PNG").as_image().tobytes() == drawing().tobytes()


def test_an_unknown_suffix_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file.xyz").write_bytes(b"old")
    with pytest.raises(InvalidArgumentError, match=r"\.xyz.*\.png"):
        ImageBlob(drawing()).dump(tmp_path / "file.xyz")
    (tmp_path / "file.jpg").write_bytes(b"old")
    with pytest.raises(SerializationError, match="transparency"):
        ImageBlob(drawing("RGBA")).dump(tmp_path / "file.jpg")
    with pytest.raises(SerializationError, match="PNG"):
        ImageBlob(b"no picture").dump(tmp_path / "file.jpg")
    assert {each.read_bytes() for each in tmp_path.iterdir()} == {b"old"}


def test_an_animation_is_kept_as_given_and_shown_from_its_start() -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 100, 200)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], duration=50)
    blob = ImageBlob(stream.getvalue())
    image = blob.as_image()
    assert (image.n_frames, image.tell()) == (3, 0)  # type: ignore[attr-defined]
    image.seek(2)
    assert image.convert("L").getpixel((0, 0)) == 200
    assert ImageBlob(image).as_image().n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", saved(drawing(), "JPEG")[:300]])
def test_what_is_no_picture_is_named_when_it_is_asked_for(data: bytes) -> None:
    blob = ImageBlob(data)
    with pytest.raises(SerializationError, match=r"PNG|JPEG"):
        blob.as_image()


@pytest.mark.parametrize(
    ("blob", "shown"),
    [
        (ImageBlob(saved(drawing(), "PNG")), "ImageBlob(PNG, 40x30, RGB, "),
        (ImageBlob(saved(drawing("L"), "JPEG")), "ImageBlob(JPEG, 40x30, L, "),
        (ImageBlob(saved(drawing(), "PNG")[:40]), "ImageBlob(PNG, "),
        (ImageBlob(b"\x89PNG\r\n\x1a\nbroken"), "ImageBlob(PNG, 14 bytes)"),
        (ImageBlob(b"what"), "ImageBlob(unknown format, 4 bytes)"),
    ],
)
def test_a_repr_tells_what_it_is(blob: ImageBlob, shown: str) -> None:
    assert repr(blob).startswith(shown)
    assert repr(blob).endswith(f"{blob.size} bytes)")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="PNG"):
        ImageBlob(drawing(), format="EPS")
    with pytest.raises(InvalidArgumentError, match="PNG"):
        ImageBlob(drawing()).as_format("EPS")
