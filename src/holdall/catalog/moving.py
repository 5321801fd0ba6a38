"""A catalogue moved: to another backend of metadata, to another storage, into a zip file and back."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from holdall.blob import Piece
from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.blobs import BlobBackend, address_of, is_there, sums_of
from holdall.catalog.changes import history
from holdall.catalog.entry import moment
from holdall.catalog.manifest import entry_to_dict, exported_to, read_manifest, write_manifest
from holdall.catalog.query import Query
from holdall.catalog.row import Alias, Blob, Row
from holdall.catalog.storage import mark_storage, take_storage
from holdall.catalog.upkeep import Progress
from holdall.catalog.writing import UNDER_WAY, micros, release
from holdall.errors import (
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    StoreError,
    StoreUnavailableError,
)
from holdall.ranges import CHUNK

if TYPE_CHECKING:
    from holdall.catalog.care import Care

_GAP: Final = 1 << 20
"""How many numbers a source may still give while it is migrated in place."""


@dataclass(slots=True)
class Moved:
    """What a migration or an import wrote.

    Attributes:
        entries: The entries and earlier versions that were written.
        present: Those that were there already, as after a run that was interrupted.
        blobs: The blobs whose bytes were copied, and read back.
        bytes: The bytes of these.
    """

    entries: int = 0
    present: int = 0
    blobs: int = 0
    bytes: int = 0


class _Target:
    """Writes rows with their blobs into a catalogue, each once, so that a second run goes on."""

    def __init__(
        self,
        backend: MetadataBackend,
        blobs: BlobBackend,
        progress: Progress | None,
        *,
        in_place: bool = False,
    ) -> None:
        self._backend = backend
        self._blobs = blobs
        self._progress = progress
        self._in_place = in_place
        self.moved = Moved()

    def add(self, row: Row, blob: Blob, pieces: Callable[[], Iterable[Piece]], *, newest: bool) -> None:
        """Write a row, and its blob unless the target has it; in place, a blob outside the backend is in the
        storage already, under its number."""
        if self._is_there(row):
            self.moved.present += 1
        else:
            stays = self._in_place and not blob.inline
            here = replace(blob, until=0, data=None) if stays else self._place(blob, pieces)
            self._backend.transact(lambda tx: self._write(tx, row, here, newest))
            self.moved.entries += 1
        if self._progress is not None:
            self._progress(self.moved.entries + self.moved.present)

    def _is_there(self, row: Row) -> bool:
        there = self._backend.row(row.key, row.version)
        if there is None:
            return False
        if there.digest != row.digest:
            raise ConcurrencyError(
                f"version {row.version} of it is another object in the target; take an empty catalogue",
                key=row.key,
            )
        return there.metadata == row.metadata and there.updated == row.updated

    def _place(self, blob: Blob, pieces: Callable[[], Iterable[Piece]]) -> Blob:
        """Return the blob that the target has of these bytes, or a new one, whose number is 0 if it isn't
        written yet."""
        found = self._backend.transact(lambda tx: tx.blob_of(blob.digest))
        if found is not None and is_there(self._blobs, found):
            return found
        self.moved.blobs += 1
        self.moved.bytes += blob.size
        if blob.size <= self._backend.inline:
            data = b"".join([bytes(piece) for piece in pieces()])
            _check_sums(len(data), zlib.crc32(data), blob)
            return replace(blob, number=0, until=0, inline=True, data=data)
        return self._copy(blob, pieces())

    def _copy(self, blob: Blob, pieces: Iterable[Piece]) -> Blob:
        """Copy the bytes of a blob under a number of the target, and read them back."""

        def reserve(tx: Transaction) -> Blob:
            now = micros()
            made = replace(blob, number=tx.next_number(), until=now + UNDER_WAY, inline=False, data=None)
            tx.put_blob(made)
            tx.suspect(made.number, now)
            return made

        if not self._in_place:
            take_storage(self._backend, self._blobs)
        made = self._backend.transact(reserve)
        self._blobs.store.put(address_of(self._blobs, made), iter(pieces))
        _check_sums(*sums_of(self._blobs, made), blob)
        return replace(made, until=0)

    def _write(self, tx: Transaction, row: Row, here: Blob, newest: bool) -> None:
        sequence = tx.next_number(above=here.number)
        if not here.number:
            here = tx.blob_of(here.digest) or replace(here, number=sequence)
        elif here.inline and tx.blob(here.number) is None:
            raise StoreUnavailableError(
                "its bytes were deleted from the target meanwhile; try again", key=row.key
            )
        if here.data is not None or not here.inline:
            tx.put_blob(here)
        tx.acquit(here.number)
        made = replace(row, blob=here.number, sequence=sequence)
        old = tx.row(row.key, row.version)
        current = tx.row(row.key)
        if current is not None and current.version == row.version:
            tx.put_row(made)
        elif newest and (current is None or current.version < row.version):
            if current is not None:
                # What the target had before stays, as an earlier version.
                tx.put_earlier(current)
            tx.put_row(made)
        else:
            # The target may have a newer version by now, which stays the newest one.
            tx.put_earlier(made)
        if old is not None and old.blob != made.blob:
            release(tx, old.blob, micros())


def _check_sums(size: int, crc: int, blob: Blob) -> None:
    if (size, crc) != (blob.size, blob.crc):
        raise IntegrityError(
            f"the bytes of {blob.digest} arrived changed ({size:,} of {blob.size:,}); verify() says whether "
            "the source is damaged"
        )


def migrate(source: Care, target: Care, progress: Progress | None) -> Moved:
    """Copy everything of a catalogue into another one."""
    backend, into = source._backend, target._backend
    if backend is into or backend.identity == into.identity:
        raise InvalidArgumentError("source and target are the same catalogue; open another one to migrate to")
    # The import takes as long as a hundred reads, and only a migration needs it.
    from holdall.identity import region

    in_place = region(source._blobs.store) == region(target._blobs.store)
    if in_place and source._blobs.address("0" * 64, 1, "") != target._blobs.address("0" * 64, 1, ""):
        raise InvalidArgumentError("two catalogues of one storage must have the same shard_chars")
    if in_place:
        # What the target writes itself gets numbers that no blob of the source has.
        given = backend.transact(lambda tx: tx.next_number())
        into.transact(lambda tx: tx.next_number(above=given + _GAP))
    writer = _Target(into, target._blobs, progress, in_place=in_place)
    for row in backend.earlier():
        _move(source, writer, row, newest=False)
    for row in backend.find(Query()):
        _move(source, writer, row, newest=True)
    for alias in backend.transact(lambda tx: tx.aliases()):
        _put_alias(into, alias)
    if in_place:
        # From now on the other catalogue must not sweep what this one names.
        mark_storage(into, target._blobs)
    return writer.moved


def _put_alias(backend: MetadataBackend, alias: Alias) -> None:
    backend.transact(lambda tx: tx.put_alias(replace(alias, sequence=tx.next_number())))


def _move(source: Care, writer: _Target, row: Row, *, newest: bool) -> None:
    found = source._backend.fetch(row.key, row.version)
    if found is None:
        return
    row, blob = found

    def pieces() -> Iterable[Piece]:
        return source._reader.chunks(row.key, blob)

    writer.add(row, blob, pieces, newest=newest)


def export_zip(source: Care, path: str | os.PathLike[str], keys: Iterator[str]) -> int:
    """Write entries with all their versions into a zip file; return how many entries there are."""
    entries: list[dict[str, Any]] = []
    names: dict[int, str] = {}
    with exported_to(path) as file, ZipFile(file, "w", ZIP_STORED, allowZip64=True) as archive:
        for key in keys:
            for entry in reversed(history(source._backend, key)):
                _export_one(source, archive, key, entry.version, entries, names)
        write_manifest(archive, entries, source._backend.transact(lambda tx: tx.aliases()))
    return len({each["key"] for each in entries})


def _export_one(
    source: Care,
    archive: ZipFile,
    key: str,
    version: int,
    entries: list[dict[str, Any]],
    names: dict[int, str],
) -> None:
    found = source._backend.fetch(key, version)
    if found is None:
        return
    row, blob = found
    name = names.get(blob.number)
    if name is None:
        name = f"objects/{quote(key, safe='/ ')[:200]}.v{version}{blob.extension}"
        # A key such as `../a` can't be the name of a file.
        name = "/".join(
            part.replace(".", "%2E") if part.strip(".") == "" else part for part in name.split("/")
        )
        if name in archive.NameToInfo:
            name = f"objects/{blob.digest}-{blob.number:x}{blob.extension}"
        names[blob.number] = name
        crc = size = 0
        written = moment(row.created).timetuple()[:6]
        with archive.open(ZipInfo(name, max((1980, 1, 1, 0, 0, 0), written)), "w", force_zip64=True) as file:
            for piece in source._reader.chunks(key, blob):
                file.write(piece)
                crc, size = zlib.crc32(piece, crc), size + len(piece)
        _check_sums(size, crc, blob)
    entries.append(entry_to_dict(row, blob, name))


def import_zip(target: Care, path: str | os.PathLike[str], progress: Progress | None) -> Moved:
    """Write the entries of a zip file into a catalogue."""
    writer = _Target(target._backend, target._blobs, progress)
    try:
        with ZipFile(path) as archive:
            entries, aliases = read_manifest(archive)
            newest: dict[str, int] = {}
            for each in entries:
                newest[each.row.key] = max(newest.get(each.row.key, 0), each.row.version)
            for each in entries:

                def pieces(name: str = each.file) -> Iterator[Piece]:
                    with archive.open(name) as file:
                        yield from iter(partial(file.read, CHUNK), b"")

                writer.add(each.row, each.blob, pieces, newest=newest[each.row.key] == each.row.version)
            for alias in aliases:
                _put_alias(target._backend, alias)
    except (zlib.error, NotImplementedError) as error:
        raise IntegrityError(f"the export {os.fspath(path)!r} is damaged: {error}") from error
    except (OSError, BadZipFile) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreUnavailableError(f"the export {os.fspath(path)!r} can't be read: {error}") from error
    return writer.moved
