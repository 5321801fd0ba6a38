"""How the stored bytes of a value are compressed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, cast

from holdall.arguments import check_choice
from holdall.errors import IntegrityError, InvalidArgumentError, MissingDependencyError
from holdall.layers import codecs
from holdall.layers.codecs import FRAME, Codec, Damaged
from holdall.layers.compressed import _decode_range, _Packing
from holdall.layers.frames import encoded
from holdall.pieces import join_pieces
from holdall.values.packages import needed
from holdall.values.serializer import Buffer

LEVELS: Final = range(1, 10)
_SMALL: Final = 512
"""Fewer bytes aren't compressed: a block of the medium holds them anyway, and the index takes some 60."""
_WORTH: Final = 0.9
"""What doesn't shrink below this share is kept as it is."""
_SAMPLE: Final = 1 << 16
_HC: Final = 6
"""From this level on LZ4 looks for better matches (LZ4 HC), which takes some ten times as long."""

_ENDS: Final = {"lz4": ".lz4", "zstd": ".zst", "gzip": ".gz", "blosclz": ".blosclz"}
NAMES: Final = tuple(_ENDS)


class _Blosclz(codecs._Indexed):
    """A frame is a chunk of C-Blosc2 (README_CHUNK_FORMAT), followed by the CRC-32 of its content."""

    name = "blosclz"
    starts = ()
    levels = (1, 3, 9)
    cheap, quick, flat = 9, 1, 1
    magic, around, room = b"holdallb", 0, 1 << 28
    _head = struct.Struct("<4xi4xi")

    def load(self) -> None:
        needed("blosc2", "catalog", "BLOSCLZ")

    def compress(self, plain: Any, level: int) -> bytes:
        blosc2 = needed("blosc2", "catalog", "BLOSCLZ")
        if not len(plain):
            return zlib.crc32(b"").to_bytes(4, "little")
        chunk: bytes = blosc2.compress2(
            plain, codec=blosc2.Codec.BLOSCLZ, clevel=level, typesize=1, nthreads=1,
            filters=[blosc2.Filter.NOFILTER], filters_meta=[0],
        )  # fmt: skip
        return chunk + zlib.crc32(plain).to_bytes(4, "little")

    def decompress(self, frame: Any, size: int) -> bytes:
        blosc2 = needed("blosc2", "catalog", "BLOSCLZ")
        chunk = bytes(frame[:-4])
        # Blosc2 believes the sizes in the head.
        if len(chunk) < 32 or self._head.unpack_from(chunk) != (size, len(chunk)):
            raise Damaged("a frame holds other bytes than its index says")
        try:
            plain: bytes = blosc2.decompress2(chunk, nthreads=1)
        except (RuntimeError, ValueError, TypeError) as error:
            raise Damaged(str(error)) from error
        if len(plain) != size or zlib.crc32(plain).to_bytes(4, "little") != bytes(frame[-4:]):
            raise Damaged("a frame holds other bytes than its checksum says")
        return plain

    def part(self, content: bytes) -> bytes:
        return content


_CODECS: Final[dict[str, Codec]] = {**codecs.CODECS, "blosclz": _Blosclz()}


class Compression:
    """A codec and its level, as a catalogue compresses with them.

    What isn't compressed by its own format is cut into frames of 256 KiB, each with a checksum, and followed
    by an index: a `.lz4`, `.zst` or `.gz` file which the format's own program decompresses, as a
    `CompressedStore` writes it. BLOSCLZ has no program; its frames are chunks of C-Blosc2.

    Args:
        name: `lz4`, `zstd`, `gzip` or `blosclz`; None and `none` compress nothing.
        level: 1 to 9, from the fastest to the smallest. Of LZ4 the levels 1 to 5 are its fast way, 6 to 9 its
            thorough one (LZ4 HC).

    Raises:
        InvalidArgumentError: The codec or the level is unknown.
        MissingDependencyError: The package of the codec isn't installed.

    >>> compression = Compression("gzip", 6)
    >>> codec, size, pieces = compression.pack([b"all is well\\n" * 1000])
    >>> codec, size < 300, unpack(codec, b"".join(pieces)) == b"all is well\\n" * 1000
    ('gzip', True, True)
    """

    def __init__(self, name: str | None = "lz4", level: int = 3) -> None:
        if name is None:
            name = "none"
        check_choice(name, "compression", (*NAMES, "none"))
        if not isinstance(level, int) or isinstance(level, bool) or level not in LEVELS:
            raise InvalidArgumentError(f"compression_level must be an int from 1 to 9, not {level!r}")
        self.name = "" if name == "none" else name
        """The codec; an empty str compresses nothing."""
        self.level: int = level
        self.frame_level = (level if level >= _HC else 0) if name == "lz4" else level
        """The level that the codec itself knows it by."""
        if self.name:
            _load(_CODECS[self.name])

    def pack(self, pieces: Iterable[Buffer]) -> tuple[str, int | None, Iterable[Buffer]]:
        """Return the codec that compresses bytes, or an empty str if it doesn't pay; the number of bytes to
        store where it is known; and these bytes, which can be drawn once.

        Each piece is only valid until the next one is drawn, as from a serializer.
        """
        if isinstance(pieces, (tuple, list)):
            held = cast("list[Buffer]", pieces)
            size = sum(map(len, held))
        else:
            held, pieces, size = _draw_first(iter(pieces))
        if not self.name or (size is not None and size < _SMALL):
            return "", size, pieces
        codec = _CODECS[self.name]
        if size is not None and size <= FRAME:
            plain = held[0] if len(held) == 1 else b"".join(held)
            if size > _SAMPLE // 2 and not self._pays(codec, plain):
                return "", size, held
            packed = _Packing(codec, self.frame_level).whole(cast(Any, plain))
            if len(packed) > _WORTH * size:
                return "", size, held
            return self.name, len(packed), (packed,)
        if not self._pays(codec, max(held, key=len)):
            return "", size, pieces
        return self.name, None, encoded(cast(Any, pieces), _Packing(codec, self.frame_level))

    def _pays(self, codec: Codec, plain: Buffer) -> bool:
        # From the middle, since the start may be a header.
        start = max(0, (len(plain) - _SAMPLE) // 2)
        sample = memoryview(plain)[start : start + _SAMPLE]
        return len(codec.compress(sample, codec.quick)) < _WORTH * len(sample)


def end_of(codec: str) -> str:
    """Return what the name of a file ends with if a codec compressed it as a whole.

    >>> end_of("zstd"), end_of("")
    ('.zst', '')
    """
    return _ENDS[codec] if codec else ""


def unpack(codec: str, data: Buffer) -> Buffer:
    """Return the plain bytes of what any `Compression` packed; an empty codec packed nothing.

    The memory that this takes grows with what is decompressed, frame by frame, never by what a size claims.

    Raises:
        IntegrityError: The bytes were cut off or changed, or another program compressed them.
        MissingDependencyError: The package of the codec isn't installed.
        InvalidArgumentError: The codec is unknown.
    """
    if not codec:
        return data
    check_choice(codec, "codec", NAMES)
    reader = _CODECS[codec]
    _load(reader)
    stored = bytes(data)
    try:
        footer = reader.footer(stored)
        if footer is None:
            raise Damaged("it doesn't end in the index that is written here, so it was cut off or changed")
        # The index is as long as the frames are many, so that a size can't be claimed alone.
        if footer.index_size > len(stored):
            raise Damaged("its index is longer than all of it")
        return join_pieces(_decode_range("", reader, footer, stored, 0, footer.size))
    except Damaged as error:
        raise IntegrityError(f"these {codec} bytes are damaged: {error}") from error
    except IntegrityError as error:
        raise IntegrityError(f"these {codec} bytes are damaged: {error.message}") from error


def _load(codec: Codec) -> None:
    try:
        codec.load()
    except MissingDependencyError as error:
        raise MissingDependencyError(
            f"the codec {codec.name} needs a package that isn't installed: pip install 'holdall[catalog]'"
        ) from error


def _draw_first(source: Iterator[Buffer]) -> tuple[list[Buffer], Iterator[Buffer], int | None]:
    """Draw the first pieces. Return them, all pieces, and the size if these are all."""
    held: list[Buffer] = []
    size = 0
    for piece in source:
        size += len(piece)
        if size > FRAME:
            # It isn't copied: the next piece is drawn only once this one was used.
            held.append(piece)
            return held, chain(held, source), None
        held.append(piece if type(piece) is bytes else bytes(piece))
    return held, iter(held), size
