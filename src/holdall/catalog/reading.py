"""Reads from a catalogue: the row, its bytes, and the object that they are."""

from __future__ import annotations

import io
import mmap
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import IO, Any, Final, TypeVar, cast

from holdall.catalog.backend import MetadataBackend
from holdall.catalog.blobs import BlobBackend, address_of, is_there
from holdall.catalog.changes import make_lease
from holdall.catalog.compression import unpack
from holdall.catalog.content import Formats
from holdall.catalog.names import Lease, not_found
from holdall.catalog.row import Blob, Row
from holdall.errors import BlobNotFoundError, IntegrityError, StoreError, UnsupportedOperation
from holdall.values.packages import needed
from holdall.values.serializer import Buffer
from holdall.workers import shared

T = TypeVar("T", bound=Buffer)

_TRIES: Final = 100
_LARGE: Final = 4 << 20
"""From this number of bytes on a file is mapped to be decoded."""
_HELD: Final = 3_600.0
"""Seconds for which an open file holds its blob after the last read."""
PACKED_WITHIN: Final = ("b2nd", "parquet")
"""The formats that compress themselves: what is stored is the file as it is."""


class Reader:
    """Reads objects. Rows may change between two looks, so that bytes that aren't there are looked for again
    under the row that is there by then."""

    def __init__(self, backend: MetadataBackend, blobs: BlobBackend, formats: Formats) -> None:
        self._backend = backend
        self._blobs = blobs
        self._formats = formats

    def get(self, key: str, version: int | None, default: Any) -> Any:
        try:
            small = self._backend.load_small(key) if version is None else None
            if small is not None:
                data, size, crc, form, codec, library = small
                if len(data) != size or zlib.crc32(data) != crc:
                    raise _damage_error(len(data), size, key)
                return self._formats.decode(form, codec, library, data)
            inline = self._backend.load(key, version)
            if inline is None:
                return default
            if inline.data is None:
                return self._get_large(key, version, default)
            check_bytes(zlib.crc32(inline.data), inline.data, inline, key)
            return self._decode(inline, inline.data)
        except StoreError as error:
            error.key = key
            raise

    def _get_large(self, key: str, version: int | None, default: Any) -> Any:
        found = self._find_bytes(key, version, self._map_stored)
        if found is None:
            return default
        row, blob, data = found
        if row.format != "b2nd" or len(data) < _LARGE:
            check_bytes(zlib.crc32(data), data, blob, key)
            return self._decode(row, data)
        # Of changed bytes Blosc2 makes another array, or it fails; the checksum then says so.
        crc = shared().submit(lambda: zlib.crc32(data))
        try:
            return self._decode(row, data)
        finally:
            check_bytes(crc.result(), data, blob, key)

    def _decode(self, row: Row | Blob, data: Buffer) -> Any:
        return self._formats.decode(row.format, row.codec, row.library, data)

    def bytes_of(self, key: str, version: int | None) -> tuple[Row, Blob, bytes] | None:
        """Return the row and the blob of a version with the stored bytes, or None."""
        found = self._find_bytes(key, version, self._read_stored)
        if found is not None:
            _, blob, data = found
            check_bytes(zlib.crc32(data), data, blob, key)
        return found

    def pieces_of(self, key: str, version: int, number: int) -> Iterator[bytes] | None:
        """Return the stored bytes of a version piece by piece; None if it is gone, or has another blob."""
        found = self._backend.fetch(key, version)
        if found is None or found[0].blob != number:
            return None
        blob = found[1]
        if blob.data is not None:
            check_bytes(zlib.crc32(blob.data), blob.data, blob, key)
        return self.chunks(key, blob)

    def _read_stored(self, blob: Blob) -> bytes | None:
        """Return the bytes of a blob outside the backend; None if they are gone."""
        return self._blobs.store.get(address_of(self._blobs, blob))

    def _map_stored(self, blob: Blob) -> Buffer | None:
        """Return the same. A large file is mapped: what is decoded takes room, but not its bytes too."""
        path = self._blobs.path(address_of(self._blobs, blob)) if blob.size >= _LARGE else None
        found = None if path is None else map_file(path, blob.size)
        return self._read_stored(blob) if found is None else found

    def _find_bytes(
        self, key: str, version: int | None, read: Callable[[Blob], T | None]
    ) -> tuple[Row, Blob, bytes | T] | None:
        before: Row | None = None
        for _ in range(_TRIES):
            found = self._backend.fetch(key, version)
            if found is None:
                return None
            row, blob = found
            data = blob.data if blob.data is not None else read(blob)
            if data is not None:
                return row, blob, data
            if before is not None and before.sequence == row.sequence:
                break
            before = row
        raise self._lost_error(key, blob)  # pyright: ignore[reportPossiblyUnboundVariable]

    def chunks(self, key: str, blob: Blob) -> Iterator[bytes]:
        """Yield the stored bytes of a blob that `fetch` returned."""
        if blob.data is not None:
            yield blob.data
            return
        try:
            yield from self._blobs.store.chunks(address_of(self._blobs, blob))
        except BlobNotFoundError:
            raise self._lost_error(key, blob) from None

    def _lost_error(self, key: str, blob: Blob) -> IntegrityError:
        return IntegrityError(
            f"its bytes are gone from {self._blobs.store!r} ({address_of(self._blobs, blob)}); restore them "
            "from a backup, put the object again, or delete the entry",
            key=key,
        )

    def exists(self, key: str, version: int | None) -> bool:
        found = self._backend.fetch(key, version)
        return found is not None and is_there(self._blobs, found[1])

    def open(self, key: str, version: int | None) -> IO[bytes]:
        before: int | None = None
        for _ in range(_TRIES):
            found = self._backend.fetch(key, version)
            if found is None:
                raise not_found(key, version)
            row, blob = found
            try:
                return self._open_one(key, row, blob)
            except IntegrityError:
                # The entry may have changed, and its bytes may have been swept since.
                if row.sequence == before:
                    raise
                before = row.sequence
        raise self._lost_error(key, blob)  # pyright: ignore[reportPossiblyUnboundVariable]

    def _open_one(self, key: str, row: Row, blob: Blob) -> IO[bytes]:
        if blob.data is not None or (row.codec and row.format not in PACKED_WITHIN):
            data = b"".join(self.chunks(key, blob))
            check_bytes(zlib.crc32(data), data, blob, key)
            return io.BytesIO(data if row.format in PACKED_WITHIN else unpack(row.codec, data))
        if self._blobs.path(address_of(self._blobs, blob)) is not None:
            # An open file can be read to its end, also after its name was deleted.
            return self._open_stored(key, blob)
        lease = make_lease(self._backend, key, row.version, _HELD)
        try:
            # The lease is on the bytes that the version has by now, which may be others.
            again = self._backend.fetch(key, row.version)
            if again is None or again[1].number != blob.number:
                raise self._lost_error(key, blob)
            return cast("IO[bytes]", io.BufferedReader(_HeldFile(self._open_stored(key, blob), lease)))
        except BaseException:
            lease.release()
            raise

    def _open_stored(self, key: str, blob: Blob) -> IO[bytes]:
        try:
            return self._blobs.store.open(address_of(self._blobs, blob), "rb")
        except BlobNotFoundError:
            raise self._lost_error(key, blob) from None

    def map(self, key: str, version: int | None) -> Any:
        """Return an array whose memory is the file of its blob, read-only; None where there is no entry.

        Raises:
            UnsupportedOperation: The bytes aren't those of a plain array in a file.
        """
        found = self._backend.fetch(key, version)
        if found is None:
            return None
        row, blob = found
        path = self._blobs.path(address_of(self._blobs, blob))
        # The mask of a masked array follows its items in the file, where a mapped array hasn't any.
        is_plain = row.format == "npy" and not row.codec and "MaskedArray" not in row.type
        if not is_plain or blob.inline or path is None:
            where = "beside the metadata" if blob.inline else f"in {self._blobs.store!r}"
            raise UnsupportedOperation(
                "only a plain array that was put with compression=None can be mapped, and this is "
                f"{row.type} as {row.format} {where}; read it without mmap",
                key=key,
            )
        numpy = needed("numpy", "arrays", "an array")
        try:
            return numpy.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise IntegrityError(f"its file can't be mapped: {error}", key=key) from error


class _HeldFile(io.RawIOBase):
    """A file over a blob, which a lease holds as long as somebody reads it."""

    def __init__(self, file: IO[bytes], lease: Lease) -> None:
        super().__init__()
        self._file = file
        self._lease = lease
        self._renewed = monotonic()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if monotonic() - self._renewed > _HELD / 4:
            self._renewed = monotonic()
            self._lease.renew()
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()
            self._lease.release()


def check_bytes(crc: int, data: Buffer, blob: Blob, key: str) -> None:
    """Refuse bytes with a CRC-32 that aren't those that were put.

    Raises:
        IntegrityError: They aren't.
    """
    if len(data) != blob.size or crc != blob.crc:
        raise _damage_error(len(data), blob.size, key)


def _damage_error(size: int, put: int, key: str) -> IntegrityError:
    return IntegrityError(
        f"its bytes were damaged since they were put ({size:,} bytes, and {put:,} were put); restore them "
        "from a backup, or put the object again",
        key=key,
    )


def map_file(path: Path, size: int) -> memoryview | None:
    """Return the bytes of a file that nothing writes to any more; None if it is gone, or can't be mapped.

    The map lasts as long as something uses the bytes. The file may be deleted meanwhile.

    Args:
        path: The file.
        size: The number of bytes that it must have. Memory that a shorter file lacks can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != size:
                return None
            return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return None
