"""NumPy arrays in NumPy's own format, `.npy`, with or without Zstandard."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from itertools import chain
from typing import Any, Final

from holdall.errors import MissingDependencyError, SerializationError, UntrustedDataError
from holdall.ranges import CHUNK
from holdall.values.gaps import without_gaps
from holdall.values.packages import needed, present
from holdall.values.same import type_name
from holdall.values.serializer import Buffer

_MAGIC: Final = b"\x93NUMPY"
_VERSIONS: Final = {b"\1\0": "<H", b"\2\0": "<I", b"\3\0": "<I"}
"""How each version of the format writes the length of its header; the third writes the header as UTF-8."""
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_HEADER_LIMIT: Final = 10_000
"""The longest header that `numpy.load` reads, in bytes."""


def is_array(value: object, masked: bool = False) -> bool:
    """Return whether a value is an array. One of a subclass isn't, since the subclass would be lost: a
    matrix, a quantity with a unit."""
    numpy: Any = sys.modules.get("numpy")
    kind = type(value)
    return numpy is not None and (
        kind in (getattr(numpy, "ndarray", None), getattr(numpy, "memmap", None))
        or (masked and kind is getattr(getattr(numpy, "ma", None), "MaskedArray", None))
    )


def check_array(value: Any, what: str, masked: bool) -> None:
    """Refuse what isn't an array, or can't be kept as its memory.

    Raises:
        SerializationError: It says what to do.
    """
    if not is_array(value, masked):
        raise SerializationError(
            f"{what} holds NumPy arrays, got {type_name(value)}; give an array of a subclass as "
            "numpy.asarray(array)"
        )
    if value.dtype.hasobject:
        raise SerializationError(
            f"{what} can't hold an array of {value.dtype}, whose items are Python objects or lie elsewhere: "
            "convert it with astype, or use PickleSerializer(key=...)"
        )


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
        return is_array(value, masked=True) and not value.dtype.hasobject

    def encode(self, value: Any) -> Iterable[Buffer]:
        check_array(value, "the npy format", masked=True)
        arrays = _split(value)
        heads = [_head(each) for each in arrays]
        return chain.from_iterable(
            chain((head,), _memory(each)) for head, each in zip(heads, arrays, strict=True)
        )

    def decode(self, data: Buffer) -> Any:
        view = memoryview(data)
        return _read_arrays(_Source(view), len(view))


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
        pays = value.nbytes < CHUNK or _pays(zstd, value)
        return _compress(zstd, pieces) if pays else _store(pieces)

    def decode(self, data: Buffer) -> Any:
        if bytes(data[:4]) != _ZSTD_MAGIC:
            return super().decode(data)
        zstd = _zstd()
        try:
            # Only the header says how large the array is, so memory is filled as the bytes come.
            return _read_arrays(zstd.ZstdFile(_Source(memoryview(data))), sys.maxsize)
        except (zstd.ZstdError, EOFError) as error:
            raise SerializationError(f"this isn't an npy array compressed with Zstandard: {error}") from error


def _numpy() -> Any:
    return needed("numpy", "arrays", "an array")


def _zstd() -> Any:
    try:
        return needed("compression.zstd", "zstd", "Zstandard")
    except MissingDependencyError:
        return needed("backports.zstd", "arrays", "Zstandard")


def _split(value: Any) -> list[Any]:
    """Return the arrays to write: one, or the parts of a masked array."""
    numpy = _numpy()
    if type(value) is not numpy.ma.MaskedArray:
        return [without_gaps(value)]
    fill = numpy.asarray(value.fill_value, value.dtype)
    hard = (True,) if value.hardmask else ()
    return [without_gaps(numpy.asarray(part)) for part in (value.data, numpy.ma.getmask(value), fill, *hard)]


def _head(array: Any) -> bytes:
    """Return the header of a `.npy` file.

    NumPy's own writer warns of names that aren't Latin-1, and writes the items too.
    """
    npy = needed("numpy.lib.format", "arrays", "an array")
    dtype = array.dtype
    found: dict[str, Any] = {}
    with suppress(ValueError, TypeError):
        found = {} if _has_metadata(dtype) else npy.header_data_from_array_1_0(array)
    if not found or npy.descr_to_dtype(found["descr"]) != dtype:
        raise SerializationError(
            f"the npy format can't hold an array of {dtype} without loss; convert it with astype"
        )
    text = f"{{{''.join(f'{name!r}: {found[name]!r}, ' for name in sorted(found))}}}"
    try:
        encoded, version = text.encode("latin1"), b"\1\0"
    except UnicodeEncodeError:
        encoded, version = text.encode("utf-8"), b"\3\0"
    if len(encoded) > _HEADER_LIMIT - 128:
        raise SerializationError(
            f"the npy format can't hold an array of {len(dtype.names or ()):,} fields: its header would have "
            f"{len(encoded):,} bytes, and NumPy reads up to {_HEADER_LIMIT:,}; "
            "keep the fields as arrays of their own"
        )
    length = struct.Struct(_VERSIONS[version])
    # The data begins at a multiple of 64 bytes, so that it can be mapped.
    encoded += b" " * (-(len(_MAGIC + version) + length.size + len(encoded) + 1) % 64) + b"\n"
    return _MAGIC + version + length.pack(len(encoded)) + encoded


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
        # Not every type exports its memory (datetime64 doesn't); bytes do.
        yield memoryview(flat.reshape(-1).view("u1"))
        return
    count = max(1, CHUNK // array.dtype.itemsize)
    flags = ["external_loop", "buffered", "zerosize_ok"]
    for part in _numpy().nditer(array, flags=flags, buffersize=count, order="C"):
        yield part.tobytes("C")


def _pays(zstd: Any, value: Any) -> bool:
    part = next(_memory(value if is_array(value) else value.data), b"")[: 1 << 16]
    return 10 * len(zstd.compress(part, 1)) < 9 * len(part)


def _compress(zstd: Any, pieces: Iterable[Buffer]) -> Iterator[bytes]:
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


def _store(pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    """Yield a Zstandard frame of raw blocks."""
    yield _STORED_HEAD
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), _BLOCK):
            part = view[at : at + _BLOCK]
            yield (len(part) << 3).to_bytes(3, "little")
            yield part
    yield b"\x01\x00\x00"


class _Source:
    """A file over bytes, which are read once."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def readinto(self, target: memoryview) -> int:
        part = self._view[: len(target)]
        target[: len(part)] = part
        self._view = self._view[len(part) :]
        return len(part)

    def read(self, size: int) -> memoryview:
        """Return a block for `ZstdFile`, which asks for 8 KiB: to read those takes three times as long."""
        part, self._view = self._view[:_BLOCK], self._view[_BLOCK:]
        return part


def _read_arrays(source: Any, room: int) -> Any:
    """Return the array of a file, of at most `room` bytes; or the masked array that its arrays make up."""
    numpy = _numpy()
    parts: list[Any] = []
    while first := _read(source, 8):
        if len(parts) == 4 or (parts and not first.startswith(_MAGIC)):
            raise SerializationError("more follows the end of this npy array")
        parts.append(_read_array(source, first, room))
    if len(parts) == 1:
        return parts[0]
    if len(parts) < 3:
        raise SerializationError("this npy array was cut off")
    data, mask, fill, hard = (*parts, numpy.asarray(False))[:4]
    try:
        if hard.shape != () or hard.dtype != bool:
            raise ValueError("the fourth part must be a bool")
        whole = numpy.ma.nomask if mask.shape == () and data.shape != () and not mask else mask
        if whole is not numpy.ma.nomask and mask.shape != data.shape:
            raise ValueError("it has another shape")
        return numpy.ma.MaskedArray(data, mask=whole, fill_value=fill[()], hard_mask=bool(hard))
    except (ValueError, TypeError) as error:
        raise SerializationError(f"this npy array has a wrong mask: {error}") from error


def _read_array(source: Any, first: bytes, room: int) -> Any:
    """Return the next array, whose first 8 bytes were read already."""
    numpy = _numpy()
    shape, fortran, dtype = _read_header(source, first)
    if dtype.hasobject:
        raise UntrustedDataError(
            "this npy array holds Python objects, which would be unpickled; only PickleSerializer does that"
        )
    count = math.prod(shape)
    if count * dtype.itemsize > room:
        raise SerializationError("this npy array was cut off")
    try:
        # Not by numpy.empty, for which a string has one byte at least.
        flat = numpy.ndarray(count, dtype)
        made = flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise SerializationError(f"this isn't an npy array: {error}") from error
    if made.nbytes and _fill(source, memoryview(flat.view("u1"))) < made.nbytes:
        raise SerializationError("this npy array was cut off")
    return made


def _read_header(source: Any, first: bytes) -> tuple[tuple[int, ...], bool, Any]:
    """Return the shape of an array, whether it is in Fortran order, and its type."""
    if first[:6] != _MAGIC or first[6:] not in _VERSIONS:
        raise SerializationError("this isn't an npy array")
    length = struct.Struct(_VERSIONS[first[6:]])
    npy = needed("numpy.lib.format", "arrays", "an array")
    try:
        (size,) = length.unpack(_read(source, length.size))
        # NumPy would read a header of any length before it refused it.
        if size > _HEADER_LIMIT:
            raise ValueError("its header is too long")
        text = _read(source, size)
        if first[6] == 3:
            # NumPy has no function for this version alone. In literals, escapes mean the same.
            text = text.decode("utf-8").encode("ascii", "backslashreplace")
        head = BytesIO(struct.pack("<I", len(text)) + text)
        return npy.read_array_header_2_0(head, max_header_size=len(text))
    # NumPy raises errors of many types for a bad header; all mean the same.
    except Exception as error:
        raise SerializationError(f"this isn't an npy array: {str(error)[:200]}") from error


def _read(source: Any, count: int) -> bytes:
    """Return the next bytes; fewer at the end."""
    held = memoryview(bytearray(count))
    return bytes(held[: _fill(source, held)])


def _fill(source: Any, memory: memoryview) -> int:
    """Read as many bytes as the memory takes, or as there are; return their number."""
    at = 0
    # In pieces, since `ZstdFile` makes each one anew.
    while at < len(memory) and (got := source.readinto(memory[at : at + CHUNK])):
        at += got
    return at
