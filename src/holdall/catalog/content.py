"""How a Python value becomes content: bytes to store, with a digest that equal values share."""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, Final, TypeAlias, cast

from holdall.arguments import check_type
from holdall.catalog import arrays, canonical, exact, models
from holdall.catalog.compression import Compression, end_of, unpack
from holdall.catalog.drawn import Drawn
from holdall.catalog.libraries import about, library_of, library_of_serializer, library_of_type, name_of
from holdall.catalog.tables import frame_digest
from holdall.errors import (
    InvalidArgumentError,
    MissingDependencyError,
    SerializationError,
    UntrustedDataError,
)
from holdall.masterkeys import Key, hidden, hidden_keys
from holdall.values.frames import ParquetSerializer
from holdall.values.media import AUDIO, IMAGES, VIDEO, audio_format, image_format, video_format
from holdall.values.npy import PlainNpySerializer
from holdall.values.ownpickles import OwnPickles
from holdall.values.pickles import Mode
from holdall.values.raw import BytesSerializer, TextSerializer
from holdall.values.registry import Serializers, serializers
from holdall.values.serializer import Buffer, Serializer
from holdall.values.tensors import SafetensorsSerializer

_log: Final = logging.getLogger("holdall.catalog")
_CONTEXT: Final = b"holdall catalogue"
"""What the signatures of a catalogue's pickles are bound to, so that no other signed value is one."""
_IN_MEMORY: Final = 4 << 20
_HEAD: Final = 1 << 16


# It isn't frozen, which would double the time that it takes to make one. Nobody changes it.
@dataclass(slots=True)
class Content:
    """A value, encoded.

    Attributes:
        digest: The SHA-256 of the value's canonical form (see `canonical.py`) in hexadecimal, 64 digits. What
            has no canonical form has that of its encoded bytes before they are compressed.
        type: The type of the value: `numpy.ndarray`, `pandas.DataFrame`, `dict`, `mymodule.Model`.
        format: The name of the serializer.
        library: The name and version of the library that wrote it, such as `blosc2 4.14.0`; "" without one.
        codec: `lz4`, `zstd`, `gzip`, `blosclz`, or "" where nothing compresses it or it didn't pay.
        extension: What the name of the stored file ends with, with the dot.
        size: The number of stored bytes; None where it isn't known before they are drawn.
        pieces: The stored bytes, which can be drawn once. A piece is valid until the next one is drawn.
    """

    digest: str
    type: str
    format: str
    library: str
    codec: str
    extension: str
    size: int | None
    pieces: Iterable[Buffer]


class Formats:
    """What a catalogue encodes and decodes values with.

    Args:
        compression: `lz4`, `zstd`, `gzip`, `blosclz`; None and `none` compress nothing.
        level: 1 to 9.
        pickles: `signed` reads only pickles that the user's own key signed, or `pickle_key`; `trust` writes
            bare pickles, and reads those of everybody; `never` refuses both.
        pickle_key: Another key than the user's own, as `PickleSerializer` takes it. Of a mapping of names to
            keys, the first one signs, and all are read.
        serializers: The serializers. Those that aren't of this package are asked first whether they accept a
            value.

    Raises:
        InvalidArgumentError: The codec, the level, the mode or a key isn't valid.
        MissingDependencyError: The package of the codec isn't installed.

    >>> formats = Formats("gzip")
    >>> content = formats.encode({"b": 1, "a": [1.5, None]})
    >>> content.type, content.format, content.extension, content.digest[:8]
    ('dict', 'json', '.json', '374a7626')
    >>> formats.decode(content.format, content.codec, content.library, b"".join(content.pieces))
    {'b': 1, 'a': [1.5, None]}
    """

    def __init__(
        self,
        compression: str | None = "lz4",
        level: int = 3,
        *,
        pickles: Mode = "signed",
        pickle_key: Key | Mapping[str, Key] | None = None,
        serializers: Serializers = serializers,
    ) -> None:
        many = isinstance(pickle_key, Mapping)
        given: Any = None if pickle_key is None else hidden_keys(pickle_key) if many else hidden(pickle_key)
        # So that no traceback from here on shows a key.
        pickle_key = None
        self._pickles = OwnPickles(pickles, given, _CONTEXT)
        check_type(serializers, Serializers, "serializers must be a Serializers")
        self._compression = Compression(compression, level)
        self._serializers = serializers
        self._members: object = None
        self._known: dict[str, Serializer] = {}
        self._foreign: Serializers | None = None

    @property
    def compression(self) -> str:
        """The codec, or an empty str."""
        return self._compression.name

    @property
    def level(self) -> int:
        """The level of the codec."""
        return self._compression.level

    def __repr__(self) -> str:
        return f"Formats({self.compression or None!r}, {self.level}, {self._pickles!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self.compression or None, self.level, self._pickles, self._serializers)

    def encode(self, value: Any) -> Content:
        """Return a value as content. It must not change until its pieces were drawn.

        Raises:
            SerializationError: No format holds it; for a general object that is pickle, and the message says
                which part of it can't be pickled.
            UntrustedDataError: It would have to be pickled, which isn't allowed.
            StoreUnavailableError: The user's key can't be made, or a temporary file can't be written.
        """
        if self._members is not self._serializers._members:
            self._learn()
        if self._foreign is not None:
            foreign = self._foreign._accepting(value)
            if foreign is not None:
                return self._keep_encoded(foreign, value)
        why: SerializationError | None = None
        kind = cast("type[Any]", type(value))
        encode = _ENCODERS.get(kind) or _encoder_for(value, kind)
        if encode is not None:
            try:
                made = encode(self, value)
                if made is not None:
                    return made
            # What a format can't hold as it is, pickle can.
            except SerializationError as error:
                why = error
        try:
            return self._pickle(value)
        except (SerializationError, UntrustedDataError) as error:
            if why is None:
                raise
            raise type(error)(f"{why.message}; and {error.message}") from error

    def _learn(self) -> None:
        """Find the serializers that aren't of this package; they may have been registered since."""
        every = tuple(self._serializers)
        others = [each for each in every if not type(each).__module__.startswith("holdall.values.")]
        self._foreign = Serializers(others) if others else None
        self._known = {each.name: each for each in every}
        self._members = self._serializers._members

    def _serializer_of(self, name: str) -> Serializer:
        """Return a serializer: one of those given, or one of this package."""
        if self._members is not self._serializers._members:
            self._learn()
        found = self._known.get(name)
        if found is not None:
            return found
        try:
            return serializers.named(name)
        except InvalidArgumentError as error:
            raise SerializationError(
                f"{error.message}; register the serializer that wrote it, or update holdall"
            ) from error

    def _content(
        self, value: Any, digest: str, form: str, extension: str, pieces: Iterable[Buffer], library: str = ""
    ) -> Content:
        codec, size, packed = self._compression.pack(pieces)
        kind = name_of(type(value))
        return Content(digest, kind, form, library, codec, extension + end_of(codec), size, packed)

    def _bytes(self, value: Any) -> Content:
        (data,) = _bytes.encode(value)
        return self._content(value, canonical.plain_digest("bytes", data), "bytes", ".bin", (data,))

    def _text(self, value: str) -> Content:
        (data,) = _text.encode(value)
        return self._content(value, canonical.plain_digest("text", data), "text", ".txt", (data,))

    def _json(self, value: Any) -> Content | None:
        made = exact.json_of(value)
        if made is None:
            return None
        text, same = made
        return self._content(value, canonical.plain_digest("json", same), "json", ".json", (text,))

    def _dict(self, value: dict[Any, Any]) -> Content | None:
        if exact.are_tensors(value):
            pieces = list(_tensors.encode(value))
            library = library_of(exact.framework_of(value))
            digest = canonical.tensors_digest(value)
            return self._content(value, digest, "safetensors", ".safetensors", pieces, library)
        return self._json(value) if type(value) is dict else None

    def _array(self, array: Any) -> Content | None:
        if array.dtype.hasobject:
            return None
        # Without compression an array is a plain file, which can be mapped into memory.
        if self._compression.name and arrays.blosc_holds(array):
            made = self._b2nd(array)
            if made is not None:
                return made
        pieces = _npy.encode(array)
        digest = canonical.array_digest(array)
        return self._content(array, digest, "npy", ".npy", pieces, library_of("numpy"))

    def _b2nd(self, array: Any) -> Content | None:
        name, level = self._compression.name, self._compression.level
        try:
            digest, codec, size, pieces = arrays.encode_array(array, name, level)
        except SerializationError as error:
            # As where a variable of the environment changes what Blosc2 does.
            _log.warning("an array is written as .npy, since: %s", error.message)
            return None
        kind, library = name_of(type(array)), library_of("blosc2")
        return Content(digest, kind, "b2nd", library, codec, ".b2nd", size, pieces)

    def _frame(self, value: Any) -> Content:
        data, kind, table = _Parquet(self._compression)._write_exactly(value)
        digest = frame_digest(kind, value, table)
        codec, library = _PARQUET.get(self._compression.name, ""), library_of("pyarrow")
        kind = name_of(type(value))
        return Content(digest, kind, "parquet", library, codec, ".parquet", len(data), (data,))

    def _model(self, value: Any, form: str) -> Content | None:
        kind = cast("type[Any]", type(value))
        name = f"{kind.__module__}.{kind.__qualname__}"
        if models.class_named(name) is not kind:
            # A class within a function can't be found again.
            return None
        (data,) = self._serializer_of(form).encode(value)
        text = bytes(data)
        digest = canonical.model_digest(form, name, text)
        return self._content(
            value, digest, form, ".json", (models.wrapped(form, name, text),), library_of(form)
        )

    def _media(self, value: Any, form: str) -> Content:
        return self._keep_encoded(self._serializer_of(form), value, compress=False)

    def _pickle(self, value: Any) -> Content:
        pieces = list(self._pickles.encode(value))
        made = canonical.begin("pickle")
        for each in pieces:
            made.update(each)
        return self._content(value, made.hexdigest(), "pickle", ".pkl", pieces, library_of_type(type(value)))

    def _keep_encoded(self, serializer: Serializer, value: Any, *, compress: bool = True) -> Content:
        """Return what has no canonical form: it is encoded first, and has the digest of its own bytes."""
        made = canonical.begin(f"bytes of {serializer.name}")
        drawn = Drawn(SpooledTemporaryFile(_IN_MEMORY, prefix="holdall-"))  # noqa: SIM115
        for piece in serializer.encode(value):
            made.update(piece)
            drawn.file.write(piece)
        size = drawn.size
        extension = _extension(serializer, drawn.head(_HEAD))
        pieces: Iterable[Buffer] = (drawn.head(size),) if size <= _IN_MEMORY else drawn
        codec, packed = "", size
        if compress:
            codec, packed, pieces = self._compression.pack(pieces)
        return Content(
            made.hexdigest(), name_of(type(value)), serializer.name, library_of_serializer(serializer), codec,
            extension + end_of(codec), packed if codec else size, pieces,
        )  # fmt: skip

    def decode(
        self,
        format: str,  # noqa: A002
        codec: str,
        library: str,
        data: Buffer,
    ) -> Any:
        """Return the value of stored bytes.

        Arrays share no memory with the bytes. Damaged bytes of an array aren't always noticed: what keeps
        them keeps their checksum too.

        Args:
            format: The name of the serializer, as in the content.
            codec: The codec, as in the content.
            library: The library that wrote it, as in the content; a failure names it.
            data: The stored bytes.

        Raises:
            SerializationError: They aren't in this format, or the format is unknown here.
            IntegrityError: They were cut off or changed.
            UntrustedDataError: They are a pickle that wasn't signed with a key that is known here, or that
                was changed since; nothing in it was interpreted.
            MissingDependencyError: The library that reads the format isn't installed.
        """
        try:
            # These two compress themselves.
            plain = data if format in ("b2nd", "parquet") else unpack(codec, data)
            if format == "pickle":
                return self._pickles.decode(plain)
            serializer = self._serializer_of(format)
            if format in models.FORMATS:
                return models.model_of(serializer, plain)
            return serializer.decode(plain)
        except (MissingDependencyError, SerializationError) as error:
            more = about(library)
            if not more:
                raise
            raise type(error)(f"{error.message}. {more}", key=error.key) from error


def _restored(compression: str | None, level: int, pickles: OwnPickles, known: Serializers) -> Formats:
    formats = Formats(compression, level, serializers=known)
    formats._pickles = pickles
    return formats


_bytes, _text, _npy, _tensors = (
    BytesSerializer(),
    TextSerializer(),
    PlainNpySerializer(),
    SafetensorsSerializer(),
)

_PARQUET: Final = {"lz4": "lz4", "zstd": "zstd", "gzip": "gzip", "blosclz": "lz4"}
"""The codec within a Parquet file, which knows no BLOSCLZ."""


class _Parquet(ParquetSerializer):
    """Parquet with any of its codecs."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression

    def _options(self) -> dict[str, Any]:
        codec = _PARQUET.get(self._compression.name, "none")
        level = self._compression.level if codec in ("zstd", "gzip") else None
        return {"compression": codec, "compression_level": level}


_Encode: TypeAlias = Callable[[Formats, Any], Content | None]

_ENCODERS: Final[dict[type[Any], _Encode]] = {
    **dict.fromkeys((bytes, bytearray, memoryview), Formats._bytes),
    str: Formats._text,
    dict: Formats._dict,
    OrderedDict: Formats._dict,
    **dict.fromkeys(exact.JSON_TYPES, Formats._json),
}

_OF_LIBRARIES: Final[tuple[tuple[str, str, bool, _Encode], ...]] = (
    ("numpy", "ndarray", False, Formats._array),
    ("numpy", "memmap", False, Formats._array),
    ("numpy.ma", "MaskedArray", False, Formats._array),
    ("pydantic", "BaseModel", True, lambda formats, value: formats._model(value, "pydantic")),
    ("msgspec", "Struct", True, lambda formats, value: formats._model(value, "msgspec")),
    ("PIL.Image", "Image", True, lambda formats, value: formats._media(value, "image")),
    ("holdall.values.clips", "AudioData", False, lambda formats, value: formats._media(value, "audio")),
    ("moviepy.audio.AudioClip", "AudioClip", True, lambda formats, value: formats._media(value, "audio")),
    ("moviepy.video.VideoClip", "VideoClip", True, lambda formats, value: formats._media(value, "video")),
)
"""The module and the name of a class, whether its subclasses count, and what encodes its values."""


def _encoder_for(value: Any, kind: type[Any]) -> _Encode | None:
    """Return what encodes a value of a library that is imported, since it has values only then."""
    for module, name, subclasses, encode in _OF_LIBRARIES:
        found = getattr(sys.modules.get(module), name, None)
        if kind is found or (subclasses and isinstance(found, type) and issubclass(kind, found)):
            return encode
    return Formats._frame if ParquetSerializer().accepts(value) else None


def _extension(serializer: Serializer, head: bytes) -> str:
    """Return the extension of a format; a picture, a sound or a video has that of the format it is in."""
    if serializer.name in _MEDIA:
        find, known = _MEDIA[serializer.name]
        form = known.get(find(head) or "")
        if form is not None:
            return form.extensions[0]
    return serializer.extensions[0] if serializer.extensions else ".bin"


_MEDIA: Final[dict[str, tuple[Callable[[bytes], str | None], Mapping[str, Any]]]] = {
    "image": (image_format, IMAGES),
    "audio": (audio_format, AUDIO),
    "video": (video_format, VIDEO),
}
