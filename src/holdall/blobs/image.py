"""Pictures."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from holdall.blobs.bytes import BytesBlob
from holdall.blobs.media import MediaBlob
from holdall.values.images import ImageSerializer

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageBlob(MediaBlob):
    """A picture. Bytes are kept as given: PNG, JPEG, WebP, GIF, TIFF, and the like.

    Args:
        blob: The bytes, which are not looked at before `as_image`; or a Pillow image, all frames of it.
        format: The format to write: PNG, JPEG, WEBP, GIF or TIFF. None keeps all of it, as PNG, or as
            TIFF for modes that PNG doesn't have; see `ImageSerializer` for what each format holds.

    Raises:
        SerializationError: The image can't be kept so.
        MissingDependencyError: `pip install 'holdall[images]'`.

    >>> from PIL import Image
    >>> blob = ImageBlob(Image.linear_gradient("L"))
    >>> blob.media_type, blob.as_image().size
    ('image/png', (256, 256))
    """

    _kind = ImageSerializer

    def __init__(
        self,
        blob: bytes | bytearray | memoryview | BytesBlob | Image,
        *,
        format: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(blob, format=format)

    def as_image(self) -> Image:
        """Return the picture, loaded. Of an animation this is the first frame; `seek` goes to the others.

        Raises:
            SerializationError: The bytes aren't a picture.
            MissingDependencyError: `pip install 'holdall[images]'`.
        """
        return ImageSerializer().decode(self._bytes)

    def _describe(self, form: str) -> str:
        from PIL import Image

        with Image.open(BytesIO(self._bytes), formats=[form]) as image:
            return f"{form}, {image.width}x{image.height}, {image.mode}"
