"""NumPy arrays as content: Blosc2 frames with any codec, hashed while they are compressed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from typing import Any, Final

from holdall.catalog.b2nd import Frame, can_assemble
from holdall.catalog.canonical import array_digest
from holdall.catalog.drawn import Drawn
from holdall.errors import SerializationError
from holdall.values.arrays import _IN_MEMORY, _blosc_holds, _compress, _frame_file, count_threads
from holdall.values.gaps import without_gaps
from holdall.values.packages import needed, present
from holdall.values.registry import joined
from holdall.values.serializer import Buffer
from holdall.workers import beside

_CODECS: Final = {"lz4": "LZ4", "zstd": "ZSTD", "gzip": "ZLIB", "blosclz": "BLOSCLZ"}
_SAMPLE: Final = 1 << 16
_WORTH: Final = 0.9
_HELD: Final = 128 << 20


def blosc_holds(array: Any) -> bool:
    """Return whether Blosc2 is installed and gives an array back, but for the order of its memory."""
    return type(array).__name__ != "MaskedArray" and _blosc_holds(array) and present("blosc2")


def encode_array(array: Any, codec: str, level: int) -> tuple[str, str, int, Iterable[Buffer]]:
    """Return the digest of an array, the codec that compresses it, or an empty str if it doesn't pay, and its
    frame: the number of bytes, and the bytes.

    The compressed bytes of an array of at most 128 MiB are in memory, of a larger one in a temporary file.
    Unlike the digest, they may depend on the number of threads.

    Raises:
        SerializationError: Blosc2 can't hold it.
        StoreUnavailableError: The temporary file can't be written.
    """
    blosc2 = needed("blosc2", "catalog", "the b2nd format")
    if codec and not _pays(blosc2, array, codec, level):
        codec = ""
    name, level = _CODECS[codec or "lz4"], level if codec else 0
    try:
        if array.nbytes <= _IN_MEMORY:
            frame = joined(_frame(array, name, level, lambda: 1))
            return array_digest(array), codec, len(frame), (frame,)
        cores = count_threads()
        with beside(partial(array_digest, array)) as hashing:
            # One of the cores hashes, which is done first.
            drawn = _frame(array, name, level, lambda: cores if hashing.wait(0) else max(1, cores - 1))
            digest = hashing.result()
    except (RuntimeError, ValueError, OverflowError) as error:
        raise SerializationError(
            f"Blosc2 can't compress this array of {array.dtype} and shape {array.shape}: {error}"
        ) from error
    return digest, codec, drawn.size, drawn


def _frame(array: Any, codec: str, level: int, threads: Callable[[], int]) -> Frame | Drawn:
    """Return a frame as pieces."""
    array = without_gaps(array)
    if array.ndim and array.size and array.nbytes <= _HELD and can_assemble():
        return Frame(array, codec, level, threads)
    blosc2 = needed("blosc2", "catalog", "the b2nd format")
    settings = {"codec": getattr(blosc2.Codec, codec), "clevel": level, "nthreads": threads()}
    if array.nbytes > _IN_MEMORY:
        return Drawn(_frame_file(array, cparams=settings))
    return Drawn(BytesIO(_compress(array, cparams=settings).to_cframe()))


def _pays(blosc2: Any, array: Any, codec: str, level: int) -> bool:
    """Return whether samples from the start, the middle and the end shrink."""
    if array.nbytes <= 4 * _SAMPLE:
        return True
    item: int = array.dtype.itemsize
    count = max(1, _SAMPLE // item)
    for start_at in ((array.size - count) // 2, 0, array.size - count):
        part = sys.modules["numpy"].ascontiguousarray(array.flat[start_at : start_at + count]).view("u1")
        packed = blosc2.compress2(
            part, codec=getattr(blosc2.Codec, _CODECS[codec]), clevel=min(level, 3), typesize=item,
            nthreads=1, filters=[blosc2.Filter.SHUFFLE], filters_meta=[0],
        )  # fmt: skip
        if len(packed) < _WORTH * len(part):
            return True
    return False
