"""NumPy arrays that compress, by Blosc2; see `npy.py` for the others."""

from __future__ import annotations

import math
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, BinaryIO, Final

from holdall.errors import SerializationError, StoreUnavailableError, UntrustedDataError
from holdall.forks import in_child
from holdall.ranges import CHUNK
from holdall.values.gaps import without_gaps
from holdall.values.npy import NpySerializer, PlainNpySerializer, check_array, is_array
from holdall.values.packages import needed, present
from holdall.values.serializer import Buffer

__all__ = ["ArraySerializer", "NpySerializer", "PlainNpySerializer", "partition", "without_gaps"]

_PLAIN_KINDS: Final = "biufcmMSU"
_DIMENSIONS: Final = 8
"""Blosc2 holds no more."""
_ITEM: Final = 255
"""The longest item, in bytes, that Blosc2 shuffles."""
_TRAILER: Final = struct.Struct(">8sII")
_TRAILER_MAGIC: Final = b"hldb2nd1"
_SAMPLE: Final = 4_096
_IN_MEMORY: Final = 4 << 20
"""The size of an array, in bytes, up to which a copy or two don't matter."""
_CHUNK: Final = 4 << 20
"""The most bytes that are compressed at once. With another number, arrays would get other bytes."""
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
        return is_array(value) and _blosc_holds(value) and present("blosc2") and _shrinks(value)

    def encode(self, value: Any) -> Iterable[Buffer]:
        check_array(value, "the b2nd format", masked=False)
        if not _blosc_holds(value):
            raise SerializationError(
                f"the b2nd format can't hold an array of {value.dtype} with {value.ndim} dimensions; "
                "NpySerializer can"
            )
        needed("blosc2", "arrays", "the b2nd format")
        value = without_gaps(value)
        if value.nbytes > _IN_MEMORY:
            return _write_frame(value)
        try:
            frame: bytes = _compress(value).to_cframe()
        except (RuntimeError, ValueError, OverflowError) as error:
            raise SerializationError(
                f"Blosc2 can't compress this array of {value.dtype} and shape {value.shape}: {error}; "
                "NpySerializer can"
            ) from error
        return frame, _make_trailer(zlib.crc32(frame), len(frame))

    def decode(self, data: Buffer) -> Any:
        blosc2 = needed("blosc2", "arrays", "the b2nd format")
        numpy = needed("numpy", "arrays", "an array")
        frame = _check_frame(memoryview(data))
        try:
            held = blosc2.ndarray_from_cframe(frame)
            dtype = held.dtype
            if dtype.hasobject:
                raise UntrustedDataError("this b2nd array holds Python objects, which are not read")
            _check_shape(held)
            if not held.ndim or not held.size:
                made = numpy.empty(held.shape, dtype)
                made[()] = held[()]
                return made
            if held.nbytes > _IN_MEMORY:
                held.schunk.dparams = blosc2.DParams(nthreads=count_threads())
            # Blosc2 decompresses into an array that it makes for this.
            made = held[()]
        except (RuntimeError, ValueError, TypeError, MemoryError, LookupError, SyntaxError) as error:
            raise SerializationError(f"this isn't a b2nd array: {error}") from error
        return made


_forked = False


@in_child
def _after_fork() -> None:
    global _forked
    _forked = True


def count_threads() -> int:
    """Return the number of threads that Blosc2 may use. It keeps them for later, and in a child of a fork it
    would wait forever for those of its parent."""
    blosc2 = needed("blosc2", "arrays", "the b2nd format")
    return 1 if _forked else blosc2.nthreads


def _layout(shape: tuple[int, ...], item: int, options: dict[str, Any]) -> dict[str, Any]:
    """Return how Blosc2 lays out and compresses an array with items of some bytes; the option `cparams` says
    what is compressed in another way than here.

    Nothing is left to Blosc2's defaults, which it takes from the caches and the cores of the machine, so that
    an array has the same bytes everywhere. One thread, since several put the blocks of a chunk in the order
    in which they finish.
    """
    blosc2 = needed("blosc2", "arrays", "the b2nd format")
    chunks = partition(shape, _CHUNK // item)
    settings = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 1,
        "filters": [blosc2.Filter.SHUFFLE],
        "filters_meta": [0],
        "splitmode": blosc2.SplitMode.AUTO_SPLIT,
        "use_dict": False,
        "nthreads": 1,
    }
    return {
        # In one piece from the start: what is compressed is copied once, not twice.
        "contiguous": True,
        "chunks": chunks,
        "blocks": partition(chunks, _BLOCK_OF_CHUNK // item),
        "dparams": {"nthreads": 1},
        **options,
        "cparams": settings | options.get("cparams", {}),
    }


def _compress(array: Any, **options: Any) -> Any:
    """Return an array of Blosc2's that holds the same; its file is named by the option `urlpath`."""
    blosc2 = needed("blosc2", "arrays", "the b2nd format")
    numpy = needed("numpy", "arrays", "an array")
    options = _layout(array.shape, array.dtype.itemsize, options)
    if array.nbytes <= _IN_MEMORY:
        return blosc2.asarray(numpy.ascontiguousarray(array).reshape(array.shape), **options)
    # A chunk at a time, so that there is never a copy of all of it.
    made = blosc2.empty(array.shape, array.dtype, **options)
    for part in _chunks(array.shape, options["chunks"]):
        piece = numpy.ascontiguousarray(array[part])
        # With its shapes given, since Blosc2 would ask for caches that not every machine reports.
        made[part] = blosc2.SimpleProxy(piece, chunks=piece.shape, blocks=piece.shape)
    _check_blocks(made)
    return made


def _check_blocks(made: Any) -> None:
    """Refuse an array whose chunks are cut in another way than its frame says: Blosc2 can't read it.

    Raises:
        SerializationError: It is.
    """
    size = math.prod(made.blocks) * made.dtype.itemsize
    if made.schunk.nchunks and not has_blocks(made.schunk.get_lazychunk(0), size):
        raise SerializationError(
            "Blosc2 would write an array that it can't read, since BLOSC_BLOCKSIZE or BLOSC_TYPESIZE is set: "
            "unset it; or NpySerializer can hold this array"
        )


def has_blocks(chunk: bytes, size: int) -> bool:
    """Return whether the blocks of a chunk have a size in bytes, as its header says (README_CHUNK_FORMAT)."""
    return int.from_bytes(chunk[8:12], "little") == size


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


def _write_frame(array: Any) -> Iterator[bytes]:
    """Yield a frame and its trailer."""
    check = size = 0
    with _frame_file(array) as file:
        while piece := file.read(CHUNK):
            check, size = zlib.crc32(piece, check), size + len(piece)
            yield piece
    yield _make_trailer(check, size)


def _frame_file(array: Any, **options: Any) -> BinaryIO:
    """Return a frame in a temporary file without a name: in memory, Blosc2 has it twice, and an array whose
    samples shrink may yet take all its room."""
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix="holdall-", ignore_cleanup_errors=True) as folder:
            path = os.path.join(folder, "array")
            _compress(array, urlpath=path, **options)
            return open(path, "rb")  # it is read after its name is gone
    except (OSError, RuntimeError) as error:
        raise StoreUnavailableError(
            f"an array of more than 4 MiB needs a temporary file (set TMPDIR to a folder for it): {error}"
        ) from error


def _make_trailer(check: int, size: int) -> bytes:
    return _TRAILER.pack(_TRAILER_MAGIC, check, size & 0xFFFFFFFF)


def _chunks(shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the parts of an array that are chunks of it."""
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
    """Return whether samples from the start, the middle and the end halve, without the import of Blosc2."""
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


def _check_frame(view: memoryview) -> memoryview:
    """Return the frame, without what follows it, if it is whole."""
    body = len(view) - _TRAILER.size
    if body >= 0:
        magic, check, size = _TRAILER.unpack(view[body:])
        if magic == _TRAILER_MAGIC:
            frame = view[:body]
            if check != zlib.crc32(frame) or size != len(frame) & 0xFFFFFFFF:
                raise SerializationError("this b2nd array has changed since it was written")
            return frame
    # Blosc2 trusts the length that stands in the head of a frame (README_CFRAME_FORMAT).
    if len(view) < 32 or bytes(view[2:9]) != b"b2frame" or struct.unpack(">Q", view[16:24])[0] != len(view):
        raise SerializationError(
            "this isn't a b2nd array, it was cut off, or a newer version of holdall wrote it"
        )
    return view
