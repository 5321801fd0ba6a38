"""Compression formats whose files have an index, so that parts of them can be read.

A blob is cut into frames of 256 KiB. Each is a frame or member of the format, and any program of the format
decompresses them one after the other. An index follows, in a place that such programs skip. Larger frames, of
1 MiB, were measured: blobs are 1 to 3 % smaller, and a short range takes four times as long.
"""

from __future__ import annotations

import struct
import threading
import zlib
from importlib import import_module
from typing import Any, Final, NamedTuple

from holdall.arguments import check_choice
from holdall.errors import InvalidArgumentError, MissingDependencyError
from holdall.store import Piece

FRAME: Final = 1 << 18
"""The number of plain bytes in each frame except the last; part of the format."""
TAIL: Final = 64
"""The number of bytes at the end of a blob that show its codec and its plain size."""

_SAMPLES: Final = 4
_SAMPLE: Final = 4096
_WORTH: Final = 0.97
"""Bytes whose samples don't shrink below this share aren't worth compressing."""


class Damaged(Exception):
    """The bytes aren't what the codec wrote."""


class Footer(NamedTuple):
    """The information in the last bytes of a blob."""

    size: int
    """The number of plain bytes."""
    frames: int
    """The number of frames."""
    index_size: int
    """The size of the index at the end of the blob, the footer included."""

    def plain(self, number: int) -> int:
        """Return the number of plain bytes in a frame."""
        return FRAME if number < self.frames - 1 else self.size - FRAME * (self.frames - 1)


ENTRY: Final = struct.Struct("<I4s")
"""An entry of a frame: the number of bytes that it takes below, and its checksum. The frame has the same
checksum, so that a frame in the place of another is noticed."""


class Codec:
    """A compression format."""

    name: str
    starts: tuple[bytes, ...]
    """The first bytes of its output."""
    levels: tuple[int, int, int]
    """The lowest level, the default, the highest."""
    cheap: int
    """Up to this level, bytes that don't shrink are passed over quickly."""
    quick: int
    """The level that samples are tried with."""
    flat: int
    """The level for bytes that don't shrink."""

    def load(self) -> None:
        """Import what it needs, or raise `MissingDependencyError`."""

    def pack(self, plain: Any, level: int) -> bytes:
        """Return one frame, quickly if the bytes don't shrink."""
        if level > self.cheap and len(plain) > _SAMPLES * _SAMPLE:
            step = (len(plain) - _SAMPLE) // (_SAMPLES - 1)
            samples = b"".join([plain[at : at + _SAMPLE] for at in range(0, len(plain), step)])
            if len(self.compress(samples, self.quick)) >= _WORTH * len(samples):
                level = self.flat
        return self.compress(plain, level)

    def compress(self, plain: Any, level: int) -> bytes:
        raise NotImplementedError

    def decompress(self, frame: Any, size: int) -> bytes:
        """Return the plain bytes of exactly one frame, without making more than `size` and one.

        Raises:
            Damaged: The frame doesn't hold `size` bytes.
        """
        raise NotImplementedError

    def only(self, stored: bytes) -> bytes | None:
        """Return the plain bytes of a whole blob in one frame, if there is a short way to them."""
        return None

    def check(self, frame: Piece) -> bytes:
        """Return the checksum of the content, as the frame keeps it."""
        return bytes(frame[-4:])

    def index(self, entries: bytes, size: int) -> bytes:
        """Return the index that follows the frames of a blob of `size` plain bytes."""
        raise NotImplementedError

    def footer(self, tail: bytes) -> Footer | None:
        """Return the footer of a blob if it is of this codec; raise `Damaged` if it isn't valid."""
        raise NotImplementedError

    def entries(self, footer: Footer, index: bytes) -> bytes:
        """Return the entries of the frames; raise `Damaged` if the index isn't valid."""
        raise NotImplementedError


def _need_module(module: str, extra: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingDependencyError(
            f"{name} needs a package that isn't installed: pip install 'holdall[{extra}]'"
        ) from None


# Zstandard: RFC 8878, and the seekable format of its authors.

_SKIPPABLE: Final = 0x184D2A5E
_SEEKABLE: Final = b"\xb1\xea\x92\x8f"
_TABLE_HEAD: Final = struct.Struct("<II")
_TABLE_ENTRY: Final = struct.Struct("<II4s")
_TABLE_FOOT: Final = struct.Struct("<IB4s")
_TABLE_END: Final = struct.Struct("<4xI4x3IIB4x")
"""The plain size of the last frame, the three fields of the seal, the number of entries, the descriptor."""
_WINDOW: Final = FRAME.bit_length()
"""No frame needs a longer window, in powers of two; one that asks for it is refused its memory."""
_CHECKED: Final = 0x80
"""The descriptor of a seek table whose entries have checksums."""


_SKIPPED: Final = struct.pack("<II", 0x184D2A50, 0)
"""A frame that holds nothing."""

_ONLY_HEAD: Final = _SKIPPED + _TABLE_HEAD.pack(_SKIPPABLE, 2 * _TABLE_ENTRY.size + _TABLE_FOOT.size)
_ONLY_SEAL: Final = struct.pack("<II", len(_SKIPPED), 0)
_ONLY_FOOT: Final = _TABLE_FOOT.pack(2, _CHECKED, _SEEKABLE)
_ONLY: Final = struct.Struct(f"<{len(_ONLY_HEAD)}sII4s{len(_ONLY_SEAL)}sI{len(_ONLY_FOOT)}s")
"""The index of a blob in one frame: the three above, before the last two the entry of the frame, between them
the checksum of the seal."""
_ONLY_ENTRY: Final = slice(len(_ONLY_HEAD) - _ONLY.size, len(_ONLY_HEAD) - _ONLY.size + _TABLE_ENTRY.size)


class _Zstd(Codec):
    """A frame ends in the lower half of the XXH64 of its content. Its entry in the seek table has the same
    checksum, which is copied from the frame.

    The seek table itself lacks a checksum. So the last entry, the *seal*, is of an empty frame, and its
    checksum is the CRC-32 of the entry before it and of the footer, which give the size of the blob.

    See zstd's contrib/seekable_format/zstd_seekable_compression_format.md.
    """

    name = "zstd"
    starts = (b"\x28\xb5\x2f\xfd", _SKIPPED[:4])
    levels = (1, 3, 22)
    cheap, quick, flat = 3, 1, 1

    def __init__(self) -> None:
        self._local = threading.local()

    def load(self) -> None:
        self._module()

    def _module(self) -> Any:
        module: Any = getattr(self._local, "module", None)
        if module is None:
            try:
                module = import_module("compression.zstd")
            except ImportError:
                module = _need_module("backports.zstd", "zstd", "Zstandard")
            self._local.module = module
            self._local.compressors = {}
            self._local.options = {module.DecompressionParameter.window_log_max: _WINDOW}
        return module

    def compress(self, plain: Any, level: int) -> bytes:
        module = self._module()
        # Making a compressor takes five times as long as compressing 1 KiB; each thread keeps its own.
        compressor = self._local.compressors.pop(level, None)
        if compressor is None:
            parameter = module.CompressionParameter
            options = {parameter.compression_level: level, parameter.checksum_flag: 1}
            compressor = module.ZstdCompressor(options=options)
        frame = compressor.compress(plain, compressor.FLUSH_FRAME)
        self._local.compressors[level] = compressor
        return frame

    def decompress(self, frame: Any, size: int) -> bytes:
        module = self._module()
        decompressor = module.ZstdDecompressor(options=self._local.options)
        try:
            return _exactly(decompressor, frame, size)
        except module.ZstdError as error:
            raise Damaged(str(error)) from error

    def only(self, stored: bytes) -> bytes | None:
        end = len(stored) - _ONLY.size
        if end < 4:
            return None
        head, taken, size, check, seal, checked, foot = _ONLY.unpack_from(stored, end)
        if (
            (head, taken, seal, foot) != (_ONLY_HEAD, end, _ONLY_SEAL, _ONLY_FOOT)
            or check != stored[end - 4 : end]
            or checked != zlib.crc32(foot, zlib.crc32(stored[_ONLY_ENTRY]))
            or not 0 < size <= FRAME
        ):
            return None
        return self.decompress(memoryview(stored)[:end], size)

    def index(self, entries: bytes, size: int) -> bytes:
        count = len(entries) // ENTRY.size
        footer = Footer(size, count, 0)
        length = (count + 1) * _TABLE_ENTRY.size + _TABLE_FOOT.size
        table = bytearray(_SKIPPED + _TABLE_HEAD.pack(_SKIPPABLE, length))
        for number, (taken, check) in enumerate(ENTRY.iter_unpack(entries)):
            table += _TABLE_ENTRY.pack(taken, footer.plain(number), check)
        foot = _TABLE_FOOT.pack(count + 1, _CHECKED, _SEEKABLE)
        last = table[-_TABLE_ENTRY.size :] if count else b""
        seal = zlib.crc32(last + foot).to_bytes(4, "little")
        return bytes(table) + _TABLE_ENTRY.pack(len(_SKIPPED), 0, seal) + foot

    def footer(self, tail: bytes) -> Footer | None:
        if not tail.endswith(_SEEKABLE):
            return None
        if len(tail) < _TABLE_END.size:
            raise Damaged("its index was cut off")
        plain, *seal, count, descriptor = _TABLE_END.unpack(tail[-_TABLE_END.size :])
        if descriptor != _CHECKED:
            raise Damaged("its seek table lacks checksums")
        foot = tail[-_TABLE_FOOT.size :]
        if count > 1:
            foot = tail[-_TABLE_END.size :][: _TABLE_ENTRY.size] + foot
        else:
            plain = 0
        if not count or seal != [len(_SKIPPED), 0, zlib.crc32(foot)] or (count > 1) != (0 < plain <= FRAME):
            raise Damaged("its index has changed, or wasn't written here")
        index = len(_SKIPPED) + _TABLE_HEAD.size + count * _TABLE_ENTRY.size + _TABLE_FOOT.size
        return Footer(FRAME * max(0, count - 2) + plain, count - 1, index)

    def entries(self, footer: Footer, index: bytes) -> bytes:
        begin = len(_SKIPPED) + _TABLE_HEAD.size
        if not index.startswith(_SKIPPED + _TABLE_HEAD.pack(_SKIPPABLE, len(index) - begin)):
            raise Damaged("its seek table has another length")
        table = index[begin : begin + footer.frames * _TABLE_ENTRY.size]
        entries = bytearray()
        for number, (taken, plain, check) in enumerate(_TABLE_ENTRY.iter_unpack(table)):
            if plain != footer.plain(number):
                raise Damaged("its seek table has frames of another length than are written here")
            entries += ENTRY.pack(taken, check)
        return bytes(entries)


# LZ4 and gzip share an index of our own.

_FOOT: Final = struct.Struct("<QIII")
"""The plain size, the number of frames, the CRC-32 of the entries, the CRC-32 of what stands before it."""


class _Indexed(Codec):
    """Keeps its index in one or more parts that other programs skip; the last one ends in a footer."""

    magic: bytes
    end: bytes = b""
    """What stands after the content of each part."""
    around: int
    """The number of bytes in a part besides its content."""
    room: int
    """The number of entries in a part."""

    def part(self, content: bytes) -> bytes:
        raise NotImplementedError

    def index(self, entries: bytes, size: int) -> bytes:
        room = self.room * ENTRY.size
        contents = [entries[at : at + room] for at in range(0, len(entries), room)] or [b""]
        foot = _FOOT.pack(size, len(entries) // ENTRY.size, zlib.crc32(entries), 0)[:-4]
        contents[-1] += foot + struct.pack("<I", zlib.crc32(foot)) + self.magic
        return b"".join(map(self.part, contents))

    def footer(self, tail: bytes) -> Footer | None:
        end = self.magic + self.end
        if not tail.endswith(end):
            return None
        foot = tail[: -len(end)][-_FOOT.size :]
        if len(foot) != _FOOT.size:
            raise Damaged("its index was cut off")
        size, count, _, check = _FOOT.unpack(foot)
        if check != zlib.crc32(foot[:-4]) or count != -(-size // FRAME):
            raise Damaged("its index has changed")
        parts = max(1, -(-count // self.room))
        return Footer(size, count, parts * self.around + count * ENTRY.size + len(foot) + len(self.magic))

    def entries(self, footer: Footer, index: bytes) -> bytes:
        begin, room = self.around - len(self.end), self.room * ENTRY.size
        starts = range(begin, len(index), self.around + room)
        entries = b"".join([index[at : at + room] for at in starts])[: footer.frames * ENTRY.size]
        if self.index(entries, footer.size) != index:
            raise Damaged("its index has changed")
        return entries


# LZ4: its frame format, with a skippable frame at the end.


class _Lz4(_Indexed):
    """See lz4's doc/lz4_Frame_format.md."""

    name = "lz4"
    starts = (b"\x04\x22\x4d\x18", struct.pack("<I", _SKIPPABLE))
    levels = (0, 0, 12)
    cheap, quick, flat = 2, 0, 0
    magic, around, room = b"holdall4", _TABLE_HEAD.size, 1 << 28

    def __init__(self) -> None:
        self._module: Any = None

    def load(self) -> None:
        if self._module is None:
            self._module = _need_module("lz4.frame", "lz4", "LZ4")

    def compress(self, plain: Any, level: int) -> bytes:
        self.load()
        return self._module.compress(
            plain, compression_level=level, block_size=self._module.BLOCKSIZE_MAX256KB, content_checksum=True
        )

    def decompress(self, frame: Any, size: int) -> bytes:
        self.load()
        try:
            return _exactly(self._module.LZ4FrameDecompressor(), frame, size)
        except RuntimeError as error:
            raise Damaged(str(error)) from error

    def part(self, content: bytes) -> bytes:
        return _TABLE_HEAD.pack(_SKIPPABLE, len(content)) + content


# gzip: RFC 1952, with empty members at the end that hold the index in their extra fields.

_GZIP_HEAD: Final = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
_GZIP_FIELD: Final = struct.Struct("<H2sH")


class _Gzip(_Indexed):
    name = "gzip"
    starts = (b"\x1f\x8b\x08",)
    levels = (1, 6, 9)
    cheap, quick, flat = 0, 1, 0
    magic = b"holdallz"
    # Deflated nothing, its CRC-32 and its length.
    end = b"\x03\0" + bytes(8)
    around = len(_GZIP_HEAD) + _GZIP_FIELD.size + len(end)
    # An extra field has at most 65,535 bytes.
    room = 8000

    def compress(self, plain: Any, level: int) -> bytes:
        return zlib.compress(plain, level, 31)

    def decompress(self, frame: Any, size: int) -> bytes:
        try:
            return _exactly(zlib.decompressobj(31), frame, size)
        except zlib.error as error:
            raise Damaged(str(error)) from error

    def check(self, frame: Piece) -> bytes:
        return bytes(frame[-8:-4])

    def part(self, content: bytes) -> bytes:
        field = _GZIP_FIELD.pack(len(content) + 4, b"hl", len(content))
        return _GZIP_HEAD + field + content + self.end


def _exactly(decompressor: Any, frame: Any, size: int) -> bytes:
    """Return what one frame holds, which must be all of the bytes; at most one byte too many is made."""
    plain: bytes = decompressor.decompress(frame, size + 1)
    # A decompressor that stopped exactly at the limit hasn't checked the checksum yet.
    if not decompressor.eof and len(plain) <= size:
        plain += decompressor.decompress(b"", size + 1 - len(plain))
    if len(plain) != size or not decompressor.eof or decompressor.unused_data:
        raise Damaged("a frame holds other bytes than its index says")
    return plain


CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (_Zstd(), _Lz4(), _Gzip())}
"""The codecs by their names."""


def codec_of(tail: bytes) -> tuple[Codec, Footer] | None:
    """Return the codec that wrote a blob, and the blob's footer, from its last bytes; None if none did."""
    for codec in CODECS.values():
        footer = codec.footer(tail)
        if footer is not None:
            return codec, footer
    return None


def begins_as_ours(head: bytes) -> bool:
    """Return whether a blob begins as one that a codec wrote."""
    return any(head.startswith(codec.starts) for codec in CODECS.values())


def chosen(name: str, level: object) -> tuple[Codec, int]:
    """Return the codec and the level that were asked for.

    Raises:
        InvalidArgumentError: The codec or the level is unknown.
        MissingDependencyError: Its package isn't installed.
    """
    check_choice(name, "codec", CODECS)
    codec = CODECS[name]
    low, default, high = codec.levels
    if level is None:
        level = default
    if not isinstance(level, int) or isinstance(level, bool) or not low <= level <= high:
        raise InvalidArgumentError(f"a level of {name} must be an int from {low} to {high}, not {level!r}")
    codec.load()
    return codec, level
