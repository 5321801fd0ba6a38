"""The mark of a catalogue in its storage: whose blobs these are, how late it is there, and its clock."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from holdall.blob import ABSENT, ANY, Can
from holdall.catalog.backend import MetadataBackend
from holdall.catalog.blobs import BlobBackend
from holdall.errors import BlobExistsError, DeleteRefusedError, IntegrityError, InvalidArgumentError

MARK: Final = "holdall-catalog.json"
"""A blob among the others. It holds the identity of the catalogue and a number that the catalogue had given
by then, which an older copy of it hasn't reached. The clock of the storage says when it was written."""
_FORMAT: Final = 1


def take_storage(backend: MetadataBackend, blobs: BlobBackend) -> None:
    """Mark the storage as that of this catalogue, before it gets its first blob.

    Raises:
        InvalidArgumentError: It belongs to another catalogue, which might sweep what this one writes.
    """
    seen = _read(blobs)
    # One that is only about to be made can't be the one that is named there, and isn't made.
    if seen is not None and not backend.exists():
        raise _taken_error(blobs)
    if seen is None:
        number = backend.transact(lambda tx: tx.next_number())
        expect = ABSENT if Can.CREATE in blobs.store.can else ANY
        try:
            blobs.store.put(MARK, _mark(backend, number), expect=expect)
        except BlobExistsError:
            seen = _read(blobs)
    if seen is not None and seen[0] != backend.identity:
        raise _taken_error(blobs)


def _taken_error(blobs: BlobBackend) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"the blobs in {blobs.store!r} belong to another catalogue, or were migrated to it; give each "
        "catalogue a folder, bucket or prefix of its own, and leave out a backend that isn't the folder's"
    )


def check_storage(backend: MetadataBackend, blobs: BlobBackend) -> int:
    """Return a new number of the catalogue, if the storage has seen no later one.

    Raises:
        DeleteRefusedError: It has, or it belongs to another catalogue.
    """
    # The look comes before the number, which is then above all that were there at the look.
    seen = _read(blobs)
    number = backend.transact(lambda tx: tx.next_number())
    if seen is not None and seen[0] != backend.identity:
        raise DeleteRefusedError(
            f"the blobs in {blobs.store!r} belong to another catalogue, or were migrated to it; nothing was "
            "deleted. Give each catalogue a folder, bucket or prefix of its own"
        )
    if seen is not None and seen[1] >= number:
        raise DeleteRefusedError(
            "this catalogue is older than its blobs, as a restored backup is: a sweep would take what later "
            f"entries name. Nothing was deleted. If those are lost anyway, delete {MARK!r} in {blobs.store!r}"
        )
    return number


def mark_storage(backend: MetadataBackend, blobs: BlobBackend, number: int | None = None) -> datetime:
    """Write the mark of a catalogue; return when the storage says that it was written."""
    if number is None:
        number = backend.transact(lambda tx: tx.next_number())
    return blobs.store.put(MARK, _mark(backend, number)).modified


def _mark(backend: MetadataBackend, number: int) -> bytes:
    said = {"holdall": "catalog", "format": _FORMAT, "identity": backend.identity, "number": number}
    return json.dumps(said).encode()


def _read(blobs: BlobBackend) -> tuple[str, int] | None:
    data = blobs.store.get(MARK)
    if data is None:
        return None
    try:
        said: Any = json.loads(data)
        if said["format"] > _FORMAT:
            raise IntegrityError(
                "a newer version of holdall keeps its catalogue here; upgrade holdall", key=MARK
            )
        return str(said["identity"]), int(said["number"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"it isn't the mark of a catalogue, so nobody can tell whose blobs {blobs.store!r} holds",
            key=MARK,
        ) from error
