"""The calls that keep a catalogue in order, and those of files: sweeping, looking, indexes, moving it
elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from holdall.arguments import check_choice, check_count, check_type
from holdall.blob import ANY, Expect
from holdall.catalog import upkeep
from holdall.catalog.arrow import table_of, write_parquet
from holdall.catalog.backend import MetadataBackend
from holdall.catalog.blobs import BlobBackend
from holdall.catalog.content import Content, Formats
from holdall.catalog.entry import Entry, Stored
from holdall.catalog.fromfile import Source, opened
from holdall.catalog.metadata import check_entry_key
from holdall.catalog.moving import Moved, export_zip, import_zip, migrate
from holdall.catalog.query import parse_field
from holdall.catalog.reading import Reader
from holdall.catalog.recheck import check_digests
from holdall.catalog.usage import Usage, usage
from holdall.errors import UnsupportedOperation
from holdall.values.packages import needed


class Care:
    """What `BlobStore` has besides the calls for objects."""

    _backend: MetadataBackend
    _blobs: BlobBackend
    _reader: Reader
    _formats: Formats

    def _check_open(self) -> None:
        raise NotImplementedError

    def _put(
        self, encode: Callable[[], Content], key: Any, metadata: Any, expect: Any, inputs: Any, on_same: Any
    ) -> Stored:
        raise NotImplementedError

    def find(self, where: Mapping[str, Any] | None = None) -> Iterator[Entry]:
        raise NotImplementedError

    def put_file(
        self,
        file: Source,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        expect: Expect = ANY,
        inputs: Iterable[str | Entry | tuple[str, int]] = (),
        on_same: Literal["keep", "version"] = "keep",
    ) -> Stored:
        """Store the bytes of a file as they are, uncompressed, without reading it into memory; return the
        key. `get` returns them as bytes, and `open` as a file.

        The file is only read: once to find out whether its bytes are stored already, and again while it is
        copied.

        Args:
            file: A path, or a file that is open for reading bytes, which is read from where it stands. What
                can't seek, such as a pipe, goes through a temporary file.
            key: As for `put`, as are the other arguments. The name of the file isn't kept.

        Raises:
            BlobNotFoundError: The file is missing.
            ConcurrencyError: The file was changed meanwhile; or as for `put`. Nothing is stored.
            StoreUnavailableError: The file can't be read.
        """
        self._check_open()
        checked = None if key is None else check_entry_key(key)
        with opened(file) as content:
            return self._put(content.encode, checked, metadata, expect, inputs, on_same)

    def collect(
        self,
        grace: float | timedelta = timedelta(days=1),
        *,
        dry_run: bool = False,
        max_share: float = 0.2,
    ) -> upkeep.Collection:
        """Delete the bytes that no entry names any more, and return what was deleted.

        Args:
            grace: How long they stay after the last entry went, in seconds.
            dry_run: Whether to only count.
            max_share: The largest share of the blobs that may go.

        Raises:
            DeleteRefusedError: More than that share would go, or the catalogue is older than its storage, as
                a restored backup is. Nothing is deleted.
        """
        self._check_open()
        return upkeep.collect(self._backend, self._blobs, grace, dry_run, max_share)

    def verify(
        self, repair: bool = False, *, digests: bool = False, progress: upkeep.Progress | None = None
    ) -> upkeep.Verification:
        """Read all bytes outside the database and compare them with the checksums of what was put; look for
        bytes that no row knows.

        Args:
            repair: Whether to move damaged and unknown blobs out of the way, into `quarantine/`.
            digests: Whether to read each object too, also those in the database, and compute its digest
                again. A pickle isn't read for it.
            progress: Called with the number of blobs that were looked at.
        """
        self._check_open()
        found = upkeep.verify(self._backend, self._blobs, repair, progress)
        if digests:
            check_digests(self._backend, self._reader, self._formats, found, progress)
        return found

    def usage(self, depth: int = 1) -> Usage:
        """Return how many bytes the entries take: by prefix, type and age, those of their own and those that
        they share.

        Args:
            depth: How many segments of a key make a prefix.
        """
        self._check_open()
        check_count(depth, "depth")
        return usage(self._backend, depth)

    def create_index(self, field: str | tuple[str, ...]) -> None:
        """Make conditions on a field of the metadata, and orders by it, fast, as by
        `create_index("metadata.loss")`. An index that exists already stays.

        Raises:
            UnsupportedOperation: The metadata is where nothing can be indexed, as in a JSON file.
        """
        self._check_open()
        path = parse_field(field)
        self._backend.create_index(path)
        if path[0] == "metadata" and path not in self._backend.indexes():
            raise UnsupportedOperation(
                f"{self._backend!r} has no indexes: each search looks at all rows, which is fast enough for "
                "thousands; for more, migrate() to SQLite or PostgreSQL"
            )

    def drop_index(self, field: str | tuple[str, ...]) -> None:
        """Delete an index; a field without one is left as it is."""
        self._check_open()
        self._backend.drop_index(parse_field(field))

    def indexes(self) -> Sequence[tuple[str, ...]]:
        """Return the fields that have an index."""
        self._check_open()
        return self._backend.indexes()

    def migrate(self, to: Care, *, progress: upkeep.Progress | None = None) -> Moved:
        """Copy all entries, versions, metadata and aliases into another, empty catalogue, with the bytes as
        they are stored, each read back. What an earlier run copied already is left as it is.

        Where both have their blobs in one storage, as a folder whose metadata moves from JSON to SQLite, the
        bytes stay where they are, and this catalogue can't collect any more.

        Args:
            to: The other catalogue.
            progress: Called with the number of versions that are done.

        Raises:
            ConcurrencyError: The other one has another object as one of the versions.
            IntegrityError: Bytes arrived changed.
        """
        self._check_open()
        check_type(to, Care, "a catalogue is migrated to a BlobStore", hint="open it first")
        return migrate(self, to, progress)

    def export(
        self,
        path: str | os.PathLike[str],
        where: Mapping[str, Any] | None = None,
        *,
        format: Literal["zip", "parquet"] = "zip",  # noqa: A002 - as pandas and pyarrow name it
    ) -> int:
        """Write entries into a file; return how many.

        Args:
            path: The file, which is replaced.
            where: Which entries, as for `find`.
            format: `"zip"` has the objects, each as a file in its format, and `catalog.json` with their
                metadata and versions, which `import_from` reads. `"parquet"` is a table of the metadata.
        """
        check_choice(format, "format", ("zip", "parquet"))
        if format == "parquet":
            return write_parquet(self.find(where), path)
        return export_zip(self, path, (each.key for each in self.find(where)))

    def import_from(self, path: str | os.PathLike[str], *, progress: upkeep.Progress | None = None) -> Moved:
        """Add the entries of a zip file that `export` wrote, with their versions and aliases.

        Raises:
            ConcurrencyError: A key holds another object as one of the versions.
            IntegrityError: The file isn't such an export, or is damaged.
        """
        self._check_open()
        return import_zip(self, path, progress)

    def to_frame(self, where: Mapping[str, Any] | None = None) -> Any:
        """Return the entries as a pandas data frame, with a column for each name in the metadata."""
        needed("pandas", None, "a data frame of entries")
        return table_of(self.find(where)).to_pandas()

    def to_arrow(self, where: Mapping[str, Any] | None = None) -> Any:
        """Return the entries as a `pyarrow.Table`, with a column for each name in the metadata."""
        return table_of(self.find(where))
