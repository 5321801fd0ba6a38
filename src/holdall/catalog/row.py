"""What a metadata backend keeps: rows of entries, of blobs, and the names and leases that protect them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Rows and blobs aren't frozen, since that takes four times as long as all else of making one. Nobody changes
# one: `dataclasses.replace` makes another.


@dataclass(slots=True)
class Row:
    """One version of an entry.

    Attributes:
        key: Its key, any str that `holdall.keys` allows.
        version: Its number: 1 for the first one under the key, and one more for each that follows.
        sequence: The number of the change that wrote this row. Numbers only grow, over the whole catalogue:
            they order changes, as no clock does, and two states of an entry never share one.
        blob: The number of the blob that holds its bytes.
        digest: The SHA-256 of the value in its canonical form, in hexadecimal.
        size: The bytes that are stored.
        type: The type of the value, such as `numpy.ndarray`.
        format: The name of the serializer that wrote it.
        codec: What compresses it, or an empty str.
        library: The library that wrote it with its version, or an empty str.
        created: When its bytes were put, in microseconds since the epoch.
        updated: When its bytes or its metadata last changed, likewise.
        metadata: A JSON object. Who receives a row may change this dict, and it changes nothing else.
        inputs: What it was made from: key, version and digest of each.
    """

    key: str
    version: int
    sequence: int
    blob: int
    digest: str
    size: int
    type: str
    format: str
    codec: str
    library: str
    created: int
    updated: int
    metadata: dict[str, Any]
    inputs: tuple[tuple[str, int, str], ...] = ()


@dataclass(slots=True)
class Blob:
    """Bytes that are stored once, whatever number of entries share them.

    A blob's bytes are written once, at an address made of its digest and its number, and a number is never
    given twice. So bytes that are being swept and the same bytes that are being put never share an address.

    Attributes:
        number: From `Transaction.next_number`.
        digest: The SHA-256 of the value in its canonical form, in hexadecimal.
        size: The bytes that are stored.
        crc: The CRC-32 of the stored bytes.
        extension: What the name of its file ends with, such as `.b2nd`.
        type: As in `Row`, as are the next three.
        inline: Whether the bytes are kept in the backend, not in the blob store.
        data: The bytes that are kept in the backend, where the call returns them; else None.
        until: While its writer is under way, the moment up to which it may be, in microseconds since the
            epoch; 0 once it is written.
    """

    number: int
    digest: str
    size: int
    crc: int
    extension: str
    type: str
    format: str
    codec: str
    library: str
    inline: bool = False
    data: bytes | None = None
    until: int = 0


@dataclass(slots=True)
class Small:
    """An entry with the bytes of its object, which are few enough to lie in the backend.

    Attributes:
        now: The moment of its put, in microseconds since the epoch. All else is as in `Row` and `Blob`.
    """

    key: str
    digest: str
    size: int
    crc: int
    extension: str
    type: str
    format: str
    codec: str
    library: str
    now: int
    metadata: dict[str, Any]
    data: bytes

    def row(self, number: int, version: int = 1) -> Row:
        """Return its row, where the number of its blob is that of the change too."""
        return Row(
            self.key, version, number, number, self.digest, self.size, self.type, self.format, self.codec,
            self.library, self.now, self.now, self.metadata,
        )  # fmt: skip

    def blob(self, number: int) -> Blob:
        """Return its blob."""
        return Blob(
            number, self.digest, self.size, self.crc, self.extension, self.type, self.format, self.codec,
            self.library, True, self.data,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for one version of an entry, which protects it from being deleted."""

    name: str
    key: str
    version: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise that a blob stays until a moment, in microseconds since the epoch."""

    name: str
    blob: int
    until: int
