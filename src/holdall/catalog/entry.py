"""What a catalogue says of an object."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from holdall.catalog.row import Row

__all__ = ["Entry", "Input", "Stored", "entry_of", "moment"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Input:
    """What an object was made from: one version of another one."""

    key: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a catalogue says of one version of an object.

    Attributes:
        key: Its key.
        version: Its number: 1 for the first version under the key.
        etag: What `expect=` takes; it changes with the bytes and with the metadata.
        digest: The SHA-256 of the object in its canonical form, in hexadecimal: equal objects have equal
            digests, on every machine.
        file_size: The bytes that are stored.
        type: The type of the object, such as `numpy.ndarray`.
        format: The format of its bytes, such as `b2nd`.
        codec: What compresses them, such as `lz4`, or an empty str.
        library: The library that wrote them, with its version, or an empty str.
        created: When they were put.
        updated: When they or the metadata last changed.
        metadata: The metadata, a JSON object.
        inputs: What the object was made from.
    """

    key: str
    version: int
    etag: str
    digest: str
    file_size: int
    type: str
    format: str
    codec: str
    library: str
    created: datetime
    updated: datetime
    metadata: dict[str, Any] = field(hash=False)
    inputs: tuple[Input, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as a dict, as `BlobStore.get_metadata` does."""
        return {
            "key": self.key,
            "version": self.version,
            "etag": self.etag,
            "digest": self.digest,
            "file_size": self.file_size,
            "type": self.type,
            "format": self.format,
            "codec": self.codec,
            "library": self.library,
            "created": self.created,
            "updated": self.updated,
            "metadata": self.metadata,
            "inputs": [
                {"key": each.key, "version": each.version, "digest": each.digest} for each in self.inputs
            ],
        }


class Stored(str):
    """The key that `BlobStore.put` returns, with what it did.

    Attributes:
        version: The number of the version that the key has now.
        etag: What `expect=` takes.
        digest: The digest of the object.
        is_new: Whether the key has a new version: False where it held an equal object already.
        is_shared: Whether the bytes were stored already, under this key or another one.

    >>> stored = Stored("model")
    >>> stored == "model"
    True
    """

    version: int = 1
    etag: str = ""
    digest: str = ""
    is_new: bool = True
    is_shared: bool = False


def moment(micros: int) -> datetime:
    """Return a time of a row as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def etag_of(sequence: int) -> str:
    """Return the ETag of a row by its number."""
    return f"{sequence:x}"


def entry_of(row: Row) -> Entry:
    """Return what a row says."""
    return Entry(
        row.key, row.version, etag_of(row.sequence), row.digest, row.size, row.type, row.format, row.codec,
        row.library, moment(row.created), moment(row.updated), row.metadata,
        tuple(Input(*each) for each in row.inputs),
    )  # fmt: skip
