"""Whether stored bytes still are the object that their digest names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from holdall.catalog.backend import MetadataBackend
from holdall.catalog.canonical import begin, plain_digest
from holdall.catalog.compression import unpack
from holdall.catalog.content import Formats
from holdall.catalog.reading import PACKED_WITHIN, Reader
from holdall.catalog.row import Row
from holdall.catalog.upkeep import Progress, Verification
from holdall.catalog.usage import all_rows
from holdall.errors import (
    IntegrityError,
    MissingDependencyError,
    SerializationError,
    UnsupportedOperation,
    UntrustedDataError,
)
from holdall.values.serializer import Buffer

_BY_VALUE: Final = ("json", "npy", "b2nd", "parquet", "safetensors", "pydantic", "msgspec")
"""The formats whose digest is that of the object in its canonical form; the others' is that of the bytes."""
_PLAIN: Final = ("bytes", "text", "pickle")


def check_digests(
    backend: MetadataBackend, reader: Reader, formats: Formats, found: Verification, progress: Progress | None
) -> None:
    """Compute the digest of each object again, and add those that have another one to what was found."""
    known = {*found.missing, *found.damaged}
    seen: set[int] = set()
    for row in all_rows(backend):
        if row.blob in seen or (row.key, row.version) in known:
            continue
        seen.add(row.blob)
        where = row.key, row.version
        try:
            digest = _digest_of(reader, formats, row)
        except IntegrityError:
            found.damaged.append(where)
        except (SerializationError, UntrustedDataError, MissingDependencyError, UnsupportedOperation):
            found.unread.append(where)
        else:
            if digest is not None and digest != row.digest:
                found.differing.append(where)
        if progress is not None:
            progress(found.checked + len(seen))


def _digest_of(reader: Reader, formats: Formats, row: Row) -> str | None:
    """Return the digest of the object of a row; None if the row has gone, or names other bytes by now."""
    kind = row.format if row.format in _PLAIN else f"bytes of {row.format}"
    if row.format not in _BY_VALUE and not row.codec:
        return _digest_of_pieces(reader, kind, row)
    stored = reader.bytes_of(row.key, row.version)
    if stored is None or stored[0].blob != row.blob:
        return None
    data: Buffer = stored[2]
    if row.format not in _BY_VALUE:
        return plain_digest(kind, unpack(row.codec, data) if row.format not in PACKED_WITHIN else data)
    return formats.encode(formats.decode(row.format, row.codec, row.library, data)).digest


def _digest_of_pieces(reader: Reader, kind: str, row: Row) -> str | None:
    pieces: Iterable[bytes] | None = reader.pieces_of(row.key, row.version, row.blob)
    if pieces is None:
        return None
    made = begin(kind)
    for piece in pieces:
        made.update(piece)
    return made.hexdigest()
