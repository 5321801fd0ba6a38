"""What a catalogue says of an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from holdall.blob import ANY, Expect, check_expected
from holdall.catalog.row import Row

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Input:
    """What an object was made from: one version of another one."""

    key: str
    version: int
    digest: str


class _OfRow:
    """An object whose attributes are taken from a row as they are asked for: most of them never are."""

    __slots__ = ("_row",)
    _row: Row

    def __getattr__(self, name: str) -> Any:
        # It is called for an attribute that wasn't set yet, or that doesn't exist.
        take = _ATTRIBUTES.get(name)
        if take is None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )
        value = take(self._row)
        object.__setattr__(self, name, value)
        return value


@dataclass(frozen=True, slots=True)
class Entry(_OfRow):
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
            **{name: getattr(self, name) for name in _NAMES},
            "inputs": [_input(each.key, each.version, each.digest) for each in self.inputs],
        }


_NAMES: Final = tuple(each.name for each in fields(Entry))[:-1]
"""The attributes that are in `to_dict` as they are."""


def _input(key: str, version: int, digest: str) -> dict[str, Any]:
    return {"key": key, "version": version, "digest": digest}


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
    return _EPOCH + timedelta(0, 0, micros)


def etag_of(sequence: int) -> str:
    """Return the ETag of a row by its number."""
    return f"{sequence:x}"


def check_row(row: Row | None, expect: Expect, key: str) -> None:
    """Check the row that is there, or None, against what the caller expects; see `check_expected`."""
    if expect is not ANY:
        check_expected(None if row is None else etag_of(row.sequence), expect, key)


_ATTRIBUTES: Final[dict[str, Callable[[Row], Any]]] = {
    **{
        name: attrgetter(name)
        for name in ("key", "version", "digest", "type", "format", "codec", "library", "metadata")
    },
    "etag": lambda row: etag_of(row.sequence),
    "file_size": lambda row: row.size,
    "created": lambda row: moment(row.created),
    "updated": lambda row: moment(row.updated),
    "inputs": lambda row: tuple(Input(*each) for each in row.inputs),
}
_new_entry: Any = Entry.__new__
_set_row: Any = vars(_OfRow)["_row"].__set__


def entry_of(row: Row) -> Entry:
    """Return what a row says. The row belongs to the entry from now on."""
    made = _new_entry(Entry)
    _set_row(made, row)
    return made


def dict_of(row: Row) -> dict[str, Any]:
    """Return the same as `entry_of(row).to_dict()`, without the entry."""
    return {
        "key": row.key,
        "version": row.version,
        "etag": etag_of(row.sequence),
        "digest": row.digest,
        "file_size": row.size,
        "type": row.type,
        "format": row.format,
        "codec": row.codec,
        "library": row.library,
        "created": moment(row.created),
        "updated": moment(row.updated),
        "metadata": row.metadata,
        "inputs": [_input(*each) for each in row.inputs],
    }
