"""Compression formats whose files have an index, so that parts of them can be read.

A blob is cut in frames of 256 KiB, each a frame or member of its own that any program of the format
decompresses one after the other; what follows is an index, in a place that such programs skip. The size was
measured: frames of 1 MiB are 1 to 3 % smaller together, and a short range takes four times as long.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, NamedTuple

from holdall.errors import InvalidArgumentError, MissingDependencyError
from holdall.store import Piece

__all__ = [
    "CODECS",
    "ENTRY",
    "FRAME",
    "TAIL",
    "Codec",
    "Damaged",
    "Footer",
    "begins_as_ours",
    "chosen",
    "codec_of",
]

FRAME: Final = 1 << 18
"""The number of plain bytes in each frame except the last; part of the format."""
TAIL: Final = 64
"""The number of bytes at the end of a blob that show its codec and its plain size."""

_SAMPLES: Final = 4
_SAMPLE: Final = 4096
_WORTH: Final = 0.97
"""Bytes whose samples don't shrink below this share aren't worth compressing."""


class Damaged(Exception):
    """These bytes are not what the codec wrote."""


class Footer(NamedTuple):
    """The information in the last bytes of a blob."""

    size: int
    """The number of plain bytes."""
    frames: int
    """The number of frames."""
    index_size: int
    """The size of the index at the end of the blob, the footer included."""

    def plain(self, number: int) -> int:
        """The number of plain bytes in a frame."""
        return FRAME if number < self.frames - 1 else self.size - FRAME * (self.frames - 1)


ENTRY: Final = struct.Struct("<I4s")
"""What is known of a frame: how many bytes it takes below, and the checksum that the frame holds too, so that
one which is in another's place is noticed."""


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
        """One frame, at no great cost where the bytes don't shrink."""
        if level > self.cheap and len(plain) > _SAMPLES * _SAMPLE:
            step = (len(plain) - _SAMPLE) // (_SAMPLES - 1)
            samples = b"".join([plain[at : at + _SAMPLE] for at in range(0, len(plain), step)])
            if len(self.compress(samples, self.quick)) >= _WORTH * len(samples):
                level = self.flat
        return self.compress(plain, level)

    def compress(self, plain: Any, level: int) -> bytes:
        """One frame."""
        raise NotImplementedError

    def decompress(self, frame: Any, size: int) -> bytes:
        """The bytes of exactly one frame; `Damaged` if they aren't `size`, and no more are ever made."""
        raise NotImplementedError

    def check(self, frame: Piece) -> bytes:
        """The checksum of the content, as the frame keeps it."""
        return bytes(frame[-4:])

    def index(self, entries: bytes, size: int) -> bytes:
        """What follows the frames."""
        raise NotImplementedError

    def footer(self, tail: bytes) -> Footer | None:
        """Return the footer of a blob if it is of this codec; raise `Damaged` if it isn't valid."""
        raise NotImplementedError

    def entries(self, footer: Footer, index: bytes) -> bytes:
        """Return the frames, as the index describes them."""
        raise NotImplementedError


def _needed(module: str, extra: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingDependencyError(
            f"{name} needs a package that isn't installed: pip install 'holdall[{extra}]'"
        ) from None


# --- Zstandard: RFC 8878, and the seekable format of its authors --------------------------------------

_SKIPPABLE: Final = 0x184D2A5E
_SEEKABLE: Final = 0x8F92EAB1
_TABLE_HEAD: Final = struct.Struct("<II")
_TABLE_ENTRY: Final = struct.Struct("<II4s")
_TABLE_FOOT: Final = struct.Struct("<IBI")
_WINDOW: Final = FRAME.bit_length()
"""No frame needs a longer window, in powers of two; one that asks for it is refused its memory."""
_CHECKED: Final = 0x80
"""The descriptor of a seek table whose entries have checksums."""


_SKIPPED: Final = struct.pack("<II", 0x184D2A50, 0)
"""A frame that holds nothing."""


class _Zstd(Codec):
    """A frame's checksum is the lower half of the XXH64 of its content, and so is the seek table's, so that
    one is copied from the other.

    The format keeps no checksum of the seek table. So the last entry of ours is that of an empty frame, and
    its checksum is the CRC-32 of what stands around it at the end of the table: the entry before it and the
    footer, from which the size of the blob follows.

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
                module = _needed("backports.zstd", "zstd", "Zstandard")
            self._local.module = module
            self._local.compressors = {}
            self._local.options = {module.DecompressionParameter.window_log_max: _WINDOW}
        return module

    def compress(self, plain: Any, level: int) -> bytes:
        module = self._module()
        # To make one takes five times as long as to compress 1 KiB; each thread keeps its own.
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

    def index(self, entries: bytes, size: int) -> bytes:
        count = len(entries) // ENTRY.size
        footer = Footer(size, count, 0)
        length = (count + 1) * _TABLE_ENTRY.size + _TABLE_FOOT.size
        table = bytearray(_SKIPPED + _TABLE_HEAD.pack(_SKIPPABLE, length))
        for number, (taken, check) in enumerate(ENTRY.iter_unpack(entries)):
            table += _TABLE_ENTRY.pack(taken, footer.plain(number), check)
        foot = _TABLE_FOOT.pack(count + 1, _CHECKED, _SEEKABLE)
        seal = _seal(bytes(table[-_TABLE_ENTRY.size :]) if count else b"", foot)
        return bytes(table) + _TABLE_ENTRY.pack(len(_SKIPPED), 0, seal) + foot

    def footer(self, tail: bytes) -> Footer | None:
        if len(tail) < _TABLE_HEAD.size + _TABLE_FOOT.size:
            return None
        count, descriptor, magic = _TABLE_FOOT.unpack(tail[-_TABLE_FOOT.size :])
        if magic != _SEEKABLE:
            return None
        if descriptor != _CHECKED:
            raise Damaged("its seek table has no checksums")
        # The entry of the last frame, if there is one, and the seal.
        taken = min(count, 2) * _TABLE_ENTRY.size
        if not count or len(tail) < taken + _TABLE_FOOT.size:
            raise Damaged("its index has changed, or was cut off")
        known = tail[-taken - _TABLE_FOOT.size : -_TABLE_FOOT.size]
        *last, seal = _TABLE_ENTRY.iter_unpack(known)
        expected = _seal(known[: -_TABLE_ENTRY.size], tail[-_TABLE_FOOT.size :])
        plain = last[0][1] if last else 0
        if seal != (len(_SKIPPED), 0, expected) or (last and not 0 < plain <= FRAME):
            raise Damaged("its index has changed, or wasn't written here")
        index = len(_SKIPPED) + _TABLE_HEAD.size + count * _TABLE_ENTRY.size + _TABLE_FOOT.size
        return Footer(FRAME * max(0, count - 2) + plain, count - 1, index)

    def entries(self, footer: Footer, index: bytes) -> bytes:
        if not index.startswith(_SKIPPED):
            raise Damaged("its index has changed")
        table = memoryview(index)[len(_SKIPPED) :]
        if _TABLE_HEAD.unpack(table[: _TABLE_HEAD.size]) != (_SKIPPABLE, len(table) - _TABLE_HEAD.size):
            raise Damaged("its seek table has another length")
        entries = bytearray()
        table = table[_TABLE_HEAD.size :][: footer.frames * _TABLE_ENTRY.size]
        for number, (taken, plain, check) in enumerate(_TABLE_ENTRY.iter_unpack(table)):
            if plain != footer.plain(number):
                raise Damaged("its seek table has frames of another length than are written here")
            entries += ENTRY.pack(taken, check)
        return bytes(entries)


def _seal(last: bytes, foot: bytes) -> bytes:
    """The checksum of the end of a seek table: of its last frame's entry and its footer."""
    return struct.pack("<I", zlib.crc32(last + foot))


# --- what the two others share: an index of our own ---------------------------------------------------

_FOOT: Final = struct.Struct("<QIII")
"""The plain size, the number of frames, the CRC-32 of the entries, the CRC-32 of what stands before it."""


def _foot(entries: bytes, size: int) -> bytes:
    foot = _FOOT.pack(size, len(entries) // ENTRY.size, zlib.crc32(entries), 0)[:-4]
    return foot + struct.pack("<I", zlib.crc32(foot))


def _parsed_foot(foot: bytes) -> tuple[int, int]:
    """The plain size and the number of frames."""
    if len(foot) != _FOOT.size:
        raise Damaged("its index was cut off")
    size, count, _, check = _FOOT.unpack(foot)
    if check != zlib.crc32(foot[:-4]) or count != -(-size // FRAME):
        raise Damaged("its index has changed")
    return size, count


def _checked_entries(entries: bytes, foot: bytes) -> bytes:
    if zlib.crc32(entries) != _FOOT.unpack(foot)[2]:
        raise Damaged("its index has changed")
    return entries


# --- LZ4: its frame format, with a skippable frame at the end ------------------------------------------

_LZ4_MAGIC: Final = b"holdall4"


class _Lz4(Codec):
    """See lz4's doc/lz4_Frame_format.md."""

    name = "lz4"
    starts = (b"\x04\x22\x4d\x18", struct.pack("<I", _SKIPPABLE))
    levels = (0, 0, 12)
    cheap, quick, flat = 2, 0, 0

    def __init__(self) -> None:
        self._module: Any = None

    def load(self) -> None:
        if self._module is None:
            self._module = _needed("lz4.frame", "lz4", "LZ4")

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

    def index(self, entries: bytes, size: int) -> bytes:
        table = entries + _foot(entries, size) + _LZ4_MAGIC
        return _TABLE_HEAD.pack(_SKIPPABLE, len(table)) + table

    def footer(self, tail: bytes) -> Footer | None:
        if not tail.endswith(_LZ4_MAGIC):
            return None
        size, count = _parsed_foot(tail[-_FOOT.size - 8 : -8])
        return Footer(size, count, _TABLE_HEAD.size + count * ENTRY.size + _FOOT.size + 8)

    def entries(self, footer: Footer, index: bytes) -> bytes:
        if _TABLE_HEAD.unpack(index[: _TABLE_HEAD.size]) != (_SKIPPABLE, len(index) - _TABLE_HEAD.size):
            raise Damaged("its index has another length")
        return _checked_entries(index[_TABLE_HEAD.size : -_FOOT.size - 8], index[-_FOOT.size - 8 : -8])


# --- gzip: RFC 1952, with empty members at the end that hold the index in their extra fields -----------

_GZIP_MAGIC: Final = b"holdallz"
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
_GZIP_END: Final = b"\x03\0" + bytes(8)
"""Deflated nothing, its CRC-32 and its length."""
_GZIP_ROOM: Final = 8000
"""The number of entries in the extra field of one member, which has at most 65,535 bytes."""
_GZIP_FIELD: Final = struct.Struct("<H2sH")
_GZIP_AROUND: Final = len(_GZIP_HEAD) + _GZIP_FIELD.size + len(_GZIP_END)
_GZIP_FOOT: Final = _FOOT.size + len(_GZIP_MAGIC)


def _empty_member(content: bytes) -> bytes:
    field = _GZIP_FIELD.pack(len(content) + 4, b"hl", len(content))
    return _GZIP_HEAD + field + content + _GZIP_END


class _Gzip(Codec):
    name = "gzip"
    starts = (b"\x1f\x8b\x08",)
    levels = (1, 6, 9)
    cheap, quick, flat = 0, 1, 0

    def compress(self, plain: Any, level: int) -> bytes:
        return zlib.compress(plain, level, 31)

    def decompress(self, frame: Any, size: int) -> bytes:
        try:
            return _exactly(zlib.decompressobj(31), frame, size)
        except zlib.error as error:
            raise Damaged(str(error)) from error

    def check(self, frame: Piece) -> bytes:
        return bytes(frame[-8:-4])

    def index(self, entries: bytes, size: int) -> bytes:
        room = _GZIP_ROOM * ENTRY.size
        members = [entries[at : at + room] for at in range(0, len(entries), room)] or [b""]
        members[-1] += _foot(entries, size) + _GZIP_MAGIC
        return b"".join(map(_empty_member, members))

    def footer(self, tail: bytes) -> Footer | None:
        if not tail.endswith(_GZIP_MAGIC + _GZIP_END):
            return None
        end = len(tail) - len(_GZIP_MAGIC) - len(_GZIP_END)
        size, count = _parsed_foot(tail[max(0, end - _FOOT.size) : end])
        members = max(1, -(-count // _GZIP_ROOM))
        return Footer(size, count, members * _GZIP_AROUND + count * ENTRY.size + _GZIP_FOOT)

    def entries(self, footer: Footer, index: bytes) -> bytes:
        contents: list[bytes] = []
        for content in _contents(footer.frames):
            at = sum(map(len, contents)) + len(contents) * _GZIP_AROUND
            member = index[at : at + _GZIP_AROUND + content]
            contents.append(member[_GZIP_AROUND - len(_GZIP_END) : -len(_GZIP_END)])
            if member != _empty_member(contents[-1]):
                raise Damaged("its index has changed")
        table = b"".join(contents)
        foot = table[-_GZIP_FOOT : -len(_GZIP_MAGIC)]
        return _checked_entries(table[:-_GZIP_FOOT], foot)


def _contents(count: int) -> Iterator[int]:
    """How much the members of an index hold."""
    while count > _GZIP_ROOM:
        yield _GZIP_ROOM * ENTRY.size
        count -= _GZIP_ROOM
    yield count * ENTRY.size + _GZIP_FOOT


# --- all of them --------------------------------------------------------------------------------------


def _exactly(decompressor: Any, frame: Any, size: int) -> bytes:
    """What one frame holds, whose end is the end of the bytes; no more than one byte too many is made."""
    plain: bytes = decompressor.decompress(frame, size + 1)
    # A decompressor that stopped at the limit, exactly, has not yet looked at the checksum behind it.
    if not decompressor.eof and len(plain) <= size:
        plain += decompressor.decompress(b"", size + 1 - len(plain))
    if len(plain) != size or not decompressor.eof or decompressor.unused_data:
        raise Damaged("a frame holds other bytes than its index says")
    return plain


CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (_Zstd(), _Lz4(), _Gzip())}
"""The codecs by their names."""


def codec_of(tail: bytes) -> tuple[Codec, Footer] | None:
    """The codec that wrote a blob and what its footer says, from the last bytes of the blob."""
    for codec in CODECS.values():
        footer = codec.footer(tail)
        if footer is not None:
            return codec, footer
    return None


def begins_as_ours(head: bytes) -> bool:
    """Whether the first bytes of a blob are such as a codec writes."""
    return any(head.startswith(codec.starts) for codec in CODECS.values())


def chosen(name: object, level: object) -> tuple[Codec, int]:
    """The codec and the level that were asked for.

    Raises:
        InvalidArgumentError: The codec or the level is unknown.
        MissingDependencyError: Its package isn't installed.
    """
    if not isinstance(name, str) or name not in CODECS:
        raise InvalidArgumentError(f"codec is one of {', '.join(CODECS)}, not {name!r}")
    codec = CODECS[name]
    low, default, high = codec.levels
    if level is None:
        level = default
    if not isinstance(level, int) or isinstance(level, bool) or not low <= level <= high:
        raise InvalidArgumentError(f"a level of {name} is an int from {low} to {high}, not {level!r}")
    codec.load()
    return codec, level
