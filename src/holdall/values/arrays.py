"""NumPy arrays: Blosc2 where that pays, otherwise NumPy's own format, with or without Zstandard."""

from __future__ import annotations

import ast
import math
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, product
from typing import Any, Final, cast

from holdall.errors import (
    MissingDependencyError,
    SerializationError,
    StoreUnavailableError,
    UntrustedDataError,
)
from holdall.ranges import CHUNK
from holdall.values.packages import needed, present
from holdall.values.same import type_name
from holdall.values.serializer import Buffer

__all__ = ["ArraySerializer", "NpySerializer", "PlainNpySerializer", "partition", "without_gaps"]

_PLAIN_KINDS: Final = "biufcmMSU"
_DIMENSIONS: Final = 8
"""Blosc2 holds no more."""
_ITEM: Final = 255
"""The longest item, in bytes, that Blosc2 shuffles."""


def _numpy() -> Any:
    return needed("numpy", "arrays", "an array")


def _is_array(value: object, masked: bool = False) -> bool:
    """Whether it is an array and not of a subclass, which would be lost: a matrix, a quantity with a unit."""
    numpy: Any = sys.modules.get("numpy")
    kind = type(value)
    return numpy is not None and (
        kind in (getattr(numpy, "ndarray", None), getattr(numpy, "memmap", None))
        or (masked and kind is getattr(getattr(numpy, "ma", None), "MaskedArray", None))
    )


def _checked(value: Any, what: str, masked: bool) -> None:
    """Refuse what isn't an array, or can't be kept as its memory."""
    if not _is_array(value, masked):
        raise SerializationError(
            f"{what} holds NumPy arrays, got {type_name(value)}; give an array of a subclass as "
            "numpy.asarray(array)"
        )
    if value.dtype.hasobject:
        raise SerializationError(
            f"{what} can't hold an array of {value.dtype}, whose items are Python objects or lie elsewhere: "
            "convert it with astype, or use PickleSerializer(key=...)"
        )


# --- Blosc2 -------------------------------------------------------------------------------------------

_TRAILER: Final = struct.Struct(">8sII")
_TRAILER_MAGIC: Final = b"hldb2nd1"
_SAMPLE: Final = 4_096
_IN_MEMORY: Final = 4 << 20
"""The size of an array, in bytes, up to which a copy or two don't matter."""
_CHUNK: Final = 4 << 20
"""The most bytes that are compressed at once. With this and the next another, arrays get other bytes."""
_CHUNKS: Final = 10_000
"""The most chunks that are read one by one."""
_BLOCK_OF_CHUNK: Final = 1 << 18
"""The most bytes of a block, which is the least that Blosc2 decompresses: it fits into any core's cache."""


class ArraySerializer:
    """A NumPy array as a Blosc2 NDArray, compressed: `.b2nd`, a contiguous frame that `blosc2.open` reads.

    Equal arrays have equal bytes on every machine: the shapes of chunks (4 MiB) and blocks (256 KiB) follow
    from the shape and the item size alone. Only the environment variables of C-Blosc2 (`BLOSC_CLEVEL` and
    the like) change that.

    The frame is followed by its CRC-32, which Blosc2 ignores, since Blosc2 itself doesn't notice a changed
    bit. Frames without it are read too.

    It accepts arrays whose type and shape Blosc2 restores and that shrink to less than half; `NpySerializer`
    takes the others. A few KiB of an array decide whether it shrinks. The memory order isn't kept: an array
    comes back in C order, writable.

    See https://github.com/Blosc/c-blosc2/blob/main/README_B2ND_METALAYER.rst
    """

    name = "b2nd"
    media_type = "application/x-b2nd"
    extensions: tuple[str, ...] = (".b2nd",)

    def accepts(self, value: Any) -> bool:
        return _is_array(value) and _blosc_holds(value) and present("blosc2") and _shrinks(value)

    def encode(self, value: Any) -> Iterable[Buffer]:
        _checked(value, "the b2nd format", masked=False)
        if not _blosc_holds(value):
            raise SerializationError(
                f"the b2nd format can't hold an array of {value.dtype} with {value.ndim} dimensions; "
                "NpySerializer can"
            )
        needed("blosc2", "arrays", "the b2nd format")
        value = without_gaps(value)
        if value.nbytes > _IN_MEMORY:
            return _filed(value)
        try:
            frame: bytes = _compact(value).to_cframe()
        except (RuntimeError, ValueError, OverflowError) as error:
            raise SerializationError(
                f"Blosc2 can't compress this array of {value.dtype} and shape {value.shape}: {error}; "
                "NpySerializer can"
            ) from error
        return frame, _trailer(zlib.crc32(frame), len(frame))

    def decode(self, data: Buffer) -> Any:
        blosc2 = needed("blosc2", "arrays", "the b2nd format")
        numpy = _numpy()
        frame = _frame_of(memoryview(data))
        try:
            held = blosc2.ndarray_from_cframe(frame)
            dtype = held.dtype
            if dtype.hasobject:
                raise UntrustedDataError("this b2nd array holds Python objects, which are not read")
            _check_shape(held)
            made = numpy.empty(held.shape, dtype)
            if made.nbytes:
                # A chunk at a time, so that there is no second array besides; not where others cut it tiny.
                parts = _chunks(held.shape, held.chunks) if held.schunk.nchunks <= _CHUNKS else [...]
                for part in parts:
                    made[part] = held[() if part is ... else part]
        except (RuntimeError, ValueError, TypeError, MemoryError, LookupError, SyntaxError) as error:
            raise SerializationError(f"this isn't a b2nd array: {error}") from error
        return made


def without_gaps(array: Any) -> Any:
    """Return the array with zeros between the numbers: these bytes hold whatever was in memory, so equal
    arrays would have different bytes, and the old contents of the memory would be written too."""
    if not _has_gaps(array.dtype):
        return array
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    # Not by zeros_like, which leaves the gaps as they are.
    made = _numpy().zeros(array.shape, array.dtype, order="F" if fortran else "C")
    _copy_numbers(array, made)
    return made


def _has_gaps(dtype: Any) -> bool:
    if dtype.subdtype is not None:
        return _has_gaps(dtype.subdtype[0])
    if dtype.names is not None:
        fields = [dtype[name] for name in dtype.names]
        return sum(each.itemsize for each in fields) != dtype.itemsize or any(map(_has_gaps, fields))
    # The 80 bits of x86, in 16 or 12 bytes.
    return dtype.char in "gG" and _numpy().finfo(dtype).nmant == 63


def _copy_numbers(source: Any, target: Any) -> None:
    if source.dtype.names is not None:
        for name in source.dtype.names:
            _copy_numbers(source[name], target[name])
        return
    target[...] = source
    if not _has_gaps(source.dtype):
        return
    item: int = source.dtype.itemsize
    part = item // 2 if source.dtype.char == "G" else item
    first = 0 if source.dtype.byteorder == ">" else _LONG_DOUBLE
    starts = range(first, item, part)
    names = [str(start) for start in starts]
    gap = ("u1", part - _LONG_DOUBLE)
    gaps = target.view({"names": names, "formats": [gap] * len(names), "offsets": starts, "itemsize": item})
    for name in names:
        gaps[name] = 0


_LONG_DOUBLE: Final = 10


def _compact(array: Any, **options: Any) -> Any:
    """An array of Blosc2's that holds the same; its file is named by the option `urlpath`.

    Nothing is left to Blosc2's defaults, which it takes from the caches and the cores of the machine, so that
    an array has the same bytes everywhere. One thread, since several put the blocks of a chunk in the order
    in which they finish.
    """
    blosc2 = needed("blosc2", "arrays", "the b2nd format")
    numpy = _numpy()
    item: int = array.dtype.itemsize
    chunks = partition(array.shape, _CHUNK // item)
    blocks = partition(chunks, _BLOCK_OF_CHUNK // item)
    options |= {
        # In one piece from the start: what is compressed is copied once, not twice.
        "contiguous": True,
        "chunks": chunks,
        "blocks": blocks,
        "cparams": {
            "codec": blosc2.Codec.ZSTD,
            "clevel": 1,
            "filters": [blosc2.Filter.SHUFFLE],
            "filters_meta": [0],
            "splitmode": blosc2.SplitMode.AUTO_SPLIT,
            "use_dict": False,
            "nthreads": 1,
        },
        "dparams": {"nthreads": 1},
    }
    if array.nbytes <= _IN_MEMORY:
        return blosc2.asarray(numpy.ascontiguousarray(array).reshape(array.shape), **options)
    # A chunk at a time, so that there is never a copy of all of it.
    made = blosc2.empty(array.shape, array.dtype, **options)
    for part in _chunks(array.shape, chunks):
        piece = numpy.ascontiguousarray(array[part])
        # With its shapes given, since Blosc2 would ask for caches that not every machine reports.
        made[part] = blosc2.SimpleProxy(piece, chunks=piece.shape, blocks=piece.shape)
    return made


def partition(shape: tuple[int, ...], room: int) -> tuple[int, ...]:
    """Return the shape of the pieces that an array is cut into: at most `room` items each, whole rows where
    they fit, and all of about one size.

    >>> partition((1000, 3, 1000), 1 << 20)
    (334, 3, 1000)
    >>> partition((0, 3_000_000_000), 1 << 20)
    (1, 1048219)
    """
    sides: list[int] = []
    for side in reversed(shape):
        most = max(1, min(side, room))
        # The fewest pieces, and then the same share for each: the last one is filled up with zeros.
        share = max(1, -(-side // max(1, -(-side // most))))
        sides.append(share)
        room //= share
    return tuple(reversed(sides))


def _filed(array: Any) -> Iterator[bytes]:
    """A frame by way of a temporary file: in memory, Blosc2 has it twice, and an array whose samples shrink
    may yet take all its room."""
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix="holdall-", ignore_cleanup_errors=True) as folder:
            path = os.path.join(folder, "array")
            _compact(array, urlpath=path)
            file = open(path, "rb")  # noqa: SIM115 - it is read below, when no name is left of it
    except (OSError, RuntimeError) as error:
        raise StoreUnavailableError(
            f"an array of more than 4 MiB needs a temporary file (set TMPDIR to a folder for it): {error}"
        ) from error
    check = size = 0
    with file:
        while piece := file.read(CHUNK):
            check, size = zlib.crc32(piece, check), size + len(piece)
            yield piece
    yield _trailer(check, size)


def _trailer(check: int, size: int) -> bytes:
    return _TRAILER.pack(_TRAILER_MAGIC, check, size & 0xFFFFFFFF)


def _chunks(shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The parts of an array that are chunks of it."""
    starts = [range(0, side, step) for side, step in zip(shape, chunk, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(at, at + step) for at, step in zip(corner, chunk, strict=True))


def _blosc_holds(array: Any) -> bool:
    dtype = array.dtype
    return (
        dtype.kind in _PLAIN_KINDS
        and not dtype.hasobject
        and dtype.metadata is None
        and 0 < dtype.itemsize <= _ITEM
        and array.ndim <= _DIMENSIONS
    )


def _shrinks(array: Any) -> bool:
    """Whether samples from the start, the middle and the end of it halve, without the import of Blosc2."""
    if array.nbytes <= 4 * _SAMPLE:
        return True
    item = array.dtype.itemsize
    count = max(1, _SAMPLE // item)
    for start in (0, (array.size - count) // 2, array.size - count):
        part = sys.modules["numpy"].ascontiguousarray(array.flat[start : start + count])
        # The bytes of one significance side by side, as Blosc2 puts them.
        shuffled = part.view("u1").reshape(count, item).T.tobytes()
        if 2 * len(zlib.compress(shuffled, 1)) > len(shuffled):
            return False
    return True


def _check_shape(held: Any) -> None:
    """Refuse a frame whose shape, chunks and blocks don't fit its size: Blosc2 would fill the memory with
    what a damaged shape claims before it looked for the chunks."""
    chunks = math.prod(
        -(-side // chunk) if chunk else 0 for side, chunk in zip(held.shape, held.chunks, strict=True)
    )
    # A chunk is filled up to whole blocks.
    items = math.prod(
        -(-chunk // block) * block if block else 0
        for chunk, block in zip(held.chunks, held.blocks, strict=True)
    )
    whole = held.schunk
    size = items * held.dtype.itemsize
    if math.prod(held.shape) and (
        whole.nchunks != chunks or whole.chunksize != size or whole.nbytes != chunks * size
    ):
        raise ValueError("its shape doesn't fit its size")


def _frame_of(view: memoryview) -> bytes:
    body = len(view) - _TRAILER.size
    if body >= 0:
        magic, check, size = _TRAILER.unpack(view[body:])
        if magic == _TRAILER_MAGIC:
            frame = bytes(view[:body])
            if check != zlib.crc32(frame) or size != len(frame) & 0xFFFFFFFF:
                raise SerializationError("this b2nd array has changed since it was written")
            return frame
    # Blosc2 trusts the length that stands in the head of a frame (README_CFRAME_FORMAT).
    if len(view) < 32 or bytes(view[2:9]) != b"b2frame" or struct.unpack(">Q", view[16:24])[0] != len(view):
        raise SerializationError("this isn't a b2nd array, or it was cut off")
    return bytes(view)


# --- NumPy's own --------------------------------------------------------------------------------------

_MAGIC: Final = b"\x93NUMPY"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_HEADER_LIMIT: Final = 10_000
"""As long a header as `numpy.load` reads."""
_known_type = re.compile(r"[<>|=](?:[biufcSUV][0-9]+|[mM]8(?:\[[0-9a-zA-Zμ]*\])?|O[0-9]*)").fullmatch


class PlainNpySerializer:
    """A NumPy array in NumPy's own format, `.npy`: a header, then its memory, uncopied.

    Type, shape and memory order are kept, of every array but of objects. A masked array is written as three
    arrays one after the other: its data, its mask, its fill value; if the mask is hard, `True` is a fourth.

    See https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """

    name = "npy"
    media_type = "application/x-npy"
    extensions: tuple[str, ...] = (".npy",)

    def accepts(self, value: Any) -> bool:
        return _is_array(value, masked=True) and not value.dtype.hasobject

    def encode(self, value: Any) -> Iterable[Buffer]:
        _checked(value, "the npy format", masked=True)
        arrays = _parts(value)
        heads = [_head(each) for each in arrays]
        return chain.from_iterable(
            chain((head,), _memory(each)) for head, each in zip(heads, arrays, strict=True)
        )

    def decode(self, data: Buffer) -> Any:
        return _read(memoryview(data))


class NpySerializer(PlainNpySerializer):
    """A NumPy array in NumPy's own format, compressed with Zstandard as it is written: `.npy.zst`.

    An array that doesn't shrink, judged by its first block, is stored in the same format, uncompressed and
    uncopied. Uncompressed arrays are read too. Otherwise this is like `PlainNpySerializer`.

    See RFC 8878.
    """

    name = "npy.zst"
    media_type = "application/x-npy+zstd"
    extensions: tuple[str, ...] = (".npy.zst",)

    def accepts(self, value: Any) -> bool:
        return super().accepts(value) and (present("compression.zstd") or present("backports.zstd"))

    def encode(self, value: Any) -> Iterable[Buffer]:
        pieces = super().encode(value)
        zstd = _zstd()
        size = value.nbytes
        return _compressed(zstd, pieces) if size < CHUNK or _pays(zstd, value) else _stored(pieces)

    def decode(self, data: Buffer) -> Any:
        view = memoryview(data)
        if bytes(view[:4]) != _ZSTD_MAGIC:
            return _read(view)
        zstd = _zstd()
        try:
            return _read_from(_Inflated(zstd, view))
        except zstd.ZstdError as error:
            raise SerializationError(f"this isn't an npy array compressed with Zstandard: {error}") from error


def _zstd() -> Any:
    try:
        return needed("compression.zstd", "zstd", "Zstandard")
    except MissingDependencyError:
        return needed("backports.zstd", "arrays", "Zstandard")


def _parts(value: Any) -> list[Any]:
    """The arrays to write."""
    numpy = _numpy()
    if type(value) is not numpy.ma.MaskedArray:
        return [without_gaps(value)]
    fill = numpy.asarray(value.fill_value, value.dtype)
    hard = (True,) if value.hardmask else ()
    return [without_gaps(numpy.asarray(part)) for part in (value.data, numpy.ma.getmask(value), fill, *hard)]


def _head(array: Any) -> bytes:
    """The header of a `.npy` file."""
    npy = needed("numpy.lib.format", "arrays", "an array")
    dtype = array.dtype
    try:
        descr = None if _has_metadata(dtype) else npy.dtype_to_descr(dtype)
        if descr is not None:
            _check_descr(descr)
            if npy.descr_to_dtype(descr) != dtype:
                descr = None
    except (ValueError, TypeError):
        descr = None
    if descr is None:
        raise SerializationError(
            f"the npy format can't hold an array of {dtype} without loss; convert it with astype"
        )
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {array.shape!r}, }}"
    try:
        encoded, version = text.encode("latin1"), 1
    except UnicodeEncodeError:
        encoded, version = text.encode("utf-8"), 3
    if len(encoded) > _HEADER_LIMIT - 128:
        raise SerializationError(
            f"the npy format can't hold an array of {len(dtype.names or ()):,} fields: its header would have "
            f"{len(encoded):,} bytes, and NumPy reads up to {_HEADER_LIMIT:,}; "
            "keep the fields as arrays of their own"
        )
    length = struct.Struct("<H" if version == 1 else "<I")
    before = len(_MAGIC) + 2 + length.size
    # The data begins at a multiple of 64 bytes, so that it can be mapped.
    encoded += b" " * (-(before + len(encoded) + 1) % 64) + b"\n"
    return _MAGIC + bytes((version, 0)) + length.pack(len(encoded)) + encoded


def _has_metadata(dtype: Any) -> bool:
    if dtype.metadata is not None:
        return True
    if dtype.subdtype is not None:
        return _has_metadata(dtype.subdtype[0])
    return dtype.names is not None and any(_has_metadata(dtype[name]) for name in dtype.names)


def _memory(array: Any) -> Iterator[Buffer]:
    """Return the bytes of an array, uncopied where it is in one piece."""
    if not array.nbytes:
        return
    if array.flags.c_contiguous or array.flags.f_contiguous:
        flat = array if array.flags.c_contiguous else array.T
        # Not every type lends its memory, such as a datetime64; bytes do.
        yield memoryview(flat.reshape(-1).view("u1"))
        return
    count = max(1, CHUNK // array.dtype.itemsize)
    flags = ["external_loop", "buffered", "zerosize_ok"]
    for part in _numpy().nditer(array, flags=flags, buffersize=count, order="C"):
        yield part.tobytes("C")


def _pays(zstd: Any, value: Any) -> bool:
    part = next(_memory(value.data if _is_masked(value) else value), b"")[: 1 << 16]
    return 10 * len(zstd.compress(part, 1)) < 9 * len(part)


def _is_masked(value: Any) -> bool:
    return not _is_array(value)


def _compressed(zstd: Any, pieces: Iterable[Buffer]) -> Iterator[bytes]:
    parameter = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(options={parameter.compression_level: 1, parameter.checksum_flag: 1})
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), CHUNK):
            made = compressor.compress(view[at : at + CHUNK])
            if made:
                yield made
    yield compressor.flush()


_BLOCK: Final = 1 << 17
_STORED_HEAD: Final = _ZSTD_MAGIC + b"\x00\x50"
"""A frame without a checksum and of unknown size, whose window is 1 MiB (RFC 8878, section 3.1.1)."""


def _stored(pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    """A Zstandard frame of raw blocks."""
    yield _STORED_HEAD
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), _BLOCK):
            part = view[at : at + _BLOCK]
            yield (len(part) << 3).to_bytes(3, "little")
            yield part
    yield b"\x01\x00\x00"


class _Held:
    """Bytes that are read from begin to end."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def has(self, count: int) -> bool:
        """Whether that many bytes may be left."""
        return count <= len(self._view) - self._at

    def read(self, most: int) -> Buffer:
        part = self._view[self._at : self._at + most]
        self._at += len(part)
        return part


class _Inflated:
    """Bytes that are decompressed as they are read, so that a few of them can't claim endless memory."""

    def __init__(self, zstd: Any, view: memoryview) -> None:
        self._decompressor = zstd.ZstdDecompressor()
        self._next = view

    def has(self, count: int) -> bool:
        return True

    def read(self, most: int) -> Buffer:
        while True:
            if self._decompressor.eof:
                if self._decompressor.unused_data:
                    raise SerializationError("more follows the end of this npy array")
                return b""
            if self._decompressor.needs_input and not len(self._next):
                raise SerializationError("this npy array was cut off")
            given, self._next = self._next, self._next[:0]
            made: bytes = self._decompressor.decompress(given, most)
            if made:
                return made


def _read(view: memoryview) -> Any:
    return _read_from(_Held(view))


def _read_from(source: _Held | _Inflated) -> Any:
    numpy = _numpy()
    first = _exactly(source, 8)
    data = _read_array(source, first)
    more = source.read(8)
    if not more:
        return data
    mask = _read_array(source, _completed(source, more, 8))
    fill = _read_array(source, _exactly(source, 8))
    more = source.read(8)
    hard = _read_array(source, _completed(source, more, 8)) if more else numpy.asarray(False)
    if hard.shape != () or hard.dtype != bool or len(source.read(1)):
        raise SerializationError("more follows the end of this npy array")
    try:
        whole = numpy.ma.nomask if mask.shape == () and data.shape != () and not mask else mask
        if whole is not numpy.ma.nomask and mask.shape != data.shape:
            raise ValueError("the mask has another shape")
        return numpy.ma.MaskedArray(data, mask=whole, fill_value=fill[()], hard_mask=bool(hard))
    except (ValueError, TypeError) as error:
        raise SerializationError(f"this npy array has a wrong mask: {error}") from error


def _exactly(source: _Held | _Inflated, count: int) -> bytes:
    return _completed(source, b"", count)


def _completed(source: _Held | _Inflated, begun: Buffer, count: int) -> bytes:
    held = bytearray(begun)
    while len(held) < count:
        part = source.read(count - len(held))
        if not len(part):
            raise SerializationError("this npy array was cut off")
        held += part
    return bytes(held)


def _read_array(source: _Held | _Inflated, magic: bytes) -> Any:
    """One array, whose first 8 bytes were read."""
    numpy = _numpy()
    version = magic[6]
    if magic[:6] != _MAGIC or version not in (1, 2, 3):
        raise SerializationError("this isn't an npy array")
    length = struct.Struct("<H" if version == 1 else "<I")
    (size,) = length.unpack(_exactly(source, length.size))
    if size > _HEADER_LIMIT:
        raise SerializationError("the header of this npy array is too long")
    text = _exactly(source, size)
    try:
        shape, fortran, dtype = _parsed(text, "utf-8" if version == 3 else "latin1")
        count = math.prod(shape)
        left = count * dtype.itemsize
        if dtype.hasobject:
            raise UntrustedDataError(
                "this npy array holds Python objects, which would be unpickled; "
                "only PickleSerializer does that"
            )
        if not source.has(left):
            raise SerializationError("this npy array was cut off")
        flat = numpy.empty(count, dtype)
        made = flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, LookupError) as error:
        raise SerializationError(f"this isn't an npy array: {str(error)[:200]}") from error
    if left:
        memory = memoryview(flat.view("u1"))
        at = 0
        while at < left:
            part = source.read(min(CHUNK, left - at))
            if not len(part):
                raise SerializationError("this npy array was cut off")
            memory[at : at + len(part)] = part
            at += len(part)
    return made


def _parsed(header: bytes, encoding: str) -> tuple[tuple[int, ...], bool, Any]:
    npy = needed("numpy.lib.format", "arrays", "an array")
    found = ast.literal_eval(header.decode(encoding).strip())
    if not isinstance(found, dict) or found.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header isn't that of an array")
    members = cast("dict[str, Any]", found)
    shape, fortran, descr = members["shape"], members["fortran_order"], members["descr"]
    if not isinstance(shape, tuple) or not isinstance(fortran, bool):
        raise ValueError("its header isn't that of an array")
    lengths = cast("tuple[Any, ...]", shape)
    if not all(type(each) is int and each >= 0 for each in lengths):
        raise ValueError("its shape isn't a tuple of lengths")
    _check_descr(descr)
    return lengths, fortran, npy.descr_to_dtype(descr)


def _check_descr(descr: Any) -> None:
    """Refuse descriptions of a type that NumPy doesn't write."""
    if isinstance(descr, str):
        if not _known_type(descr):
            raise ValueError("its type isn't one of NumPy")
    elif isinstance(descr, tuple):
        base, _ = cast("tuple[Any, ...]", descr)
        _check_descr(base)
    elif isinstance(descr, list):
        for field in cast("list[Any]", descr):
            _check_descr(field[1] if len(field) == 2 else (field[1], field[2]))
    else:
        raise TypeError("its type isn't one of NumPy")
