"""A Blosc2 frame made of its chunks, so that it can be drawn without a copy of all of it.

Blosc2 itself appends chunk after chunk to a frame in memory, and moves all of it for each. See C-Blosc2's
README_CFRAME_FORMAT: a frame is a header, the chunks, a chunk with the places of the chunks, and a trailer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from holdall.values.arrays import _layout, has_blocks
from holdall.values.packages import needed
from holdall.values.serializer import Buffer

_HEADER_SIZE: Final = 11
_SIZE: Final = 16
_CHUNKS_SIZE: Final = 39
_NUMBER: Final = struct.Struct(">q")
_CHUNK_SIZE: Final = 12
_FLAGS: Final = 31
_CHUNK_HEADER: Final = 32
"""The bytes of a chunk's header. A chunk may be only that, as one of zeros is; its last byte says so."""


class _Plan(NamedTuple):
    """What all arrays of one type and shape have in common."""

    layout: dict[str, Any]
    header: bytes
    trailer: bytes


@lru_cache(256)
def _plan(shape: tuple[int, ...], dtype: str, codec: str, level: int) -> _Plan:
    blosc2 = needed("blosc2", "catalog", "the b2nd format")
    numpy = needed("numpy", "catalog", "an array")
    kind = numpy.dtype(dtype)
    settings = {"codec": getattr(blosc2.Codec, codec), "clevel": level, "nthreads": 1}
    layout = _layout(shape, kind.itemsize, {"cparams": settings})
    # The frame of an array that takes no room differs only in what follows.
    empty: bytes = blosc2.uninit(shape, kind, **layout).to_cframe()
    end = int.from_bytes(empty[_HEADER_SIZE : _HEADER_SIZE + 4], "big")
    return _Plan(layout, empty[:end], empty[-int.from_bytes(empty[-22:-18], "big") :])


class Frame:
    """The frame of an array, which is drawn chunk by chunk.

    Args:
        array: The array, with a dimension and an item at least.
        codec: The name of Blosc2's codec.
        level: The level. Chunks of level 0 are drawn from the memory of the array.
        threads: Asked before each chunk for the number of threads that compress it.
    """

    def __init__(self, array: Any, codec: str, level: int, threads: Callable[[], int] = lambda: 1) -> None:
        blosc2 = needed("blosc2", "catalog", "the b2nd format")
        numpy = needed("numpy", "catalog", "an array")
        plan = _plan(array.shape, array.dtype.str, codec, level)
        self._chunks: list[list[Buffer]] = []
        block = math.prod(plan.layout["blocks"]) * array.dtype.itemsize
        places: list[int] = []
        end = 0
        for chunk in _chunks_of(array, plan.layout, threads):
            header = bytes(chunk[0][:_CHUNK_HEADER])
            size = int.from_bytes(header[_CHUNK_SIZE : _CHUNK_SIZE + 4], "little")
            special = header[_FLAGS] >> 4 & 7
            if not has_blocks(header, block):
                raise ValueError("its blocks have another size; unset BLOSC_BLOCKSIZE and BLOSC_TYPESIZE")
            if size == _CHUNK_HEADER and special:
                places.append((0x80 | special) << 56)
            else:
                places.append(end)
                self._chunks.append(chunk)
                end += size
        index: bytes = blosc2.compress2(
            numpy.array(places, "<u8"), typesize=8, codec=blosc2.Codec.BLOSCLZ, clevel=5, nthreads=1,
            filters=[*[blosc2.Filter.NOFILTER] * 5, blosc2.Filter.SHUFFLE], filters_meta=[0] * 6,
        )  # fmt: skip
        self._end = index + plan.trailer
        self.size = len(plan.header) + end + len(self._end)
        """The number of bytes, which can be drawn more than once."""
        head = bytearray(plan.header)
        _NUMBER.pack_into(head, _SIZE, self.size)
        _NUMBER.pack_into(head, _CHUNKS_SIZE, end)
        self._head = bytes(head)

    def __iter__(self) -> Iterator[Buffer]:
        yield self._head
        for chunk in self._chunks:
            yield from chunk
        yield self._end


def _chunks_of(array: Any, layout: dict[str, Any], threads: Callable[[], int]) -> Iterable[list[Buffer]]:
    """Return each chunk of an array as pieces, of which the first has the header."""
    blosc2 = needed("blosc2", "catalog", "the b2nd format")
    chunks, blocks = layout["chunks"], layout["blocks"]
    whole_rows = chunks[1:] == array.shape[1:] == blocks[1:] and array.ndim
    if not (whole_rows and array.flags.c_contiguous):
        # It is held itself, since its chunks go with it.
        settings = layout["cparams"] | {"nthreads": threads()}
        held = blosc2.asarray(array, **layout | {"contiguous": False, "cparams": settings})
        return ([held.schunk.get_chunk(number)] for number in range(held.schunk.nchunks))
    return _rows(array, chunks[0], blocks[0], layout["cparams"], threads)


def _rows(
    array: Any, rows: int, of_block: int, settings: dict[str, Any], threads: Callable[[], int]
) -> Iterator[list[Buffer]]:
    """Yield the chunks of an array each of which has whole rows, so that its items lie as in the array."""
    blosc2 = needed("blosc2", "catalog", "the b2nd format")
    numpy = needed("numpy", "catalog", "an array")
    row = math.prod(array.shape[1:]) * array.dtype.itemsize
    # A chunk is filled up to whole blocks, and the last one to a whole chunk, with zeros.
    size = -(-rows // of_block) * of_block * row
    options = settings | {"typesize": array.dtype.itemsize, "blocksize": of_block * row}
    memory = memoryview(array.reshape(-1).view("u1"))
    header = b""
    for at in range(0, len(memory), rows * row):
        part = memory[at : at + rows * row]
        filler = bytes(size - len(part))
        if settings["clevel"] == 0 and header:
            yield [header, part, filler]
            continue
        whole = numpy.frombuffer(b"".join((part, filler)) if filler else part, "u1")
        chunk: bytes = blosc2.compress2(whole, **options | {"nthreads": threads()})
        header = chunk[:_CHUNK_HEADER]
        yield [chunk] if settings["clevel"] else [header, part, filler]


@lru_cache(1)
def can_assemble() -> bool:
    """Return whether the installed Blosc2 reads frames that are made here; tried once."""
    blosc2 = needed("blosc2", "catalog", "the b2nd format")
    numpy = needed("numpy", "catalog", "an array")
    # Of two chunks, one of which is only a header.
    array = numpy.zeros(5 << 20, "u1")
    array[:100] = 1
    try:
        for level in (0, 1):
            frame = b"".join(Frame(array, "LZ4", level))
            if not (blosc2.ndarray_from_cframe(frame)[:] == array).all():
                return False
    except (RuntimeError, ValueError, LookupError, struct.error):
        return False
    return True
