"""The catalogue: what its users call."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from holdall.arguments import check_choice, check_count, check_seconds, check_type, pairs_of
from holdall.blob import ABSENT, ANY, Expect
from holdall.catalog import changes
from holdall.catalog.backend import MetadataBackend
from holdall.catalog.blobs import BlobBackend, blob_backend_of
from holdall.catalog.care import Care
from holdall.catalog.content import Content, Formats
from holdall.catalog.entry import Entry, Stored, dict_of, entry_of
from holdall.catalog.lineage import Lineage, trace
from holdall.catalog.metadata import check_entry_key, check_object, check_prefix_of_keys
from holdall.catalog.names import Lease
from holdall.catalog.opening import backend_of
from holdall.catalog.query import (
    ABSENT_FIELD,
    EVERYTHING,
    All,
    Query,
    compile_node,
    parse_filter,
    parse_order,
    parse_where,
    value_at,
)  # fmt: skip
from holdall.catalog.reading import Reader
from holdall.catalog.row import Row
from holdall.catalog.writing import Put, Writer, named_input
from holdall.errors import BlobNotFoundError, InvalidArgumentError, InvalidTypeError, StoreClosedError
from holdall.masterkeys import Key
from holdall.paths import absolute
from holdall.store import Store
from holdall.values.pickles import Mode

if TYPE_CHECKING:
    from holdall.catalog.aio import AsyncCatalog

OnSame = Literal["keep", "version"]


class BlobStore(Care):
    """A catalogue of Python objects, each under a key and with metadata. Equal objects are stored once, and
    objects are found by their metadata.

    Args:
        cache_dir: The folder of the catalogue. The first put makes it.
        backend: Where the metadata is: `"json"`, a file that a person can read; `"sqlite"`, a database, for
            many entries; the URL of a PostgreSQL database, for many hosts; or a `MetadataBackend`. None is
            what the folder has, or else `"json"`.
        compression: `"lz4"`, `"zstd"`, `"gzip"` or `"blosclz"`; `"none"` or None for none. What
            doesn't shrink isn't compressed.
        compression_level: From 1, the fastest, to 9, the smallest.
        content_addressable: Whether a put without a key uses the digest of the object as its key, rather than
            a random one.
        blob_backend: Where the bytes are: `"filesystem"` (the default), `"memory"`, a store, its URI, or a
            `BlobBackend`. Small objects lie with the metadata, where that is faster.
        keep: How many versions of a key are kept, the newest included; True keeps all. Versions that an alias
            or a lease protects are kept in any case.
        pickles: `"signed"` reads only pickles that were signed with the key; `"trust"` reads any, which runs
            code in them; `"never"` neither reads nor writes one.
        pickle_key: The key that signs pickles, as for `PickleSerializer`; by default the user's own, which is
            made when it is first needed.
        durable: Whether what was put also survives a loss of power.

    Raises:
        InvalidArgumentError: An argument isn't valid.
        MissingDependencyError: The package of the compression isn't installed.

    Threads share a `BlobStore`, and so do processes that open one folder or database. It is pickled as its
    settings.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = BlobStore(folder.name, backend="sqlite")
    >>> key = store.put({"weights": [0.5, 1.5]}, key="model_v1", metadata={"accuracy": 0.95})
    >>> store.get("model_v1"), store.get_metadata("model_v1")["metadata"]
    ({'weights': [0.5, 1.5]}, {'accuracy': 0.95})
    >>> store.list(metadata_filter={"accuracy": 0.95})
    ['model_v1']
    >>> store.close(); folder.cleanup()
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] = ".blobstore",
        backend: str | MetadataBackend | None = None,
        compression: str | None = "lz4",
        compression_level: int = 3,
        content_addressable: bool = False,
        blob_backend: str | Store | BlobBackend | None = None,
        *,
        keep: int | bool = 1,
        pickles: Mode = "signed",
        pickle_key: Key | Mapping[str, Key] | None = None,
        durable: bool = False,
    ) -> None:
        check_type(cache_dir, str | os.PathLike, "cache_dir must be a path")
        if isinstance(cache_dir, str) and "://" in cache_dir:
            scheme = cache_dir.partition("://")[0]
            raise InvalidArgumentError(
                f"cache_dir is a folder, not a URI such as {scheme}://...: give a store of the bytes as "
                "blob_backend, and a database as backend"
            )
        if not isinstance(keep, bool):
            check_count(keep, "keep")
        formats = Formats(compression, compression_level, pickles=pickles, pickle_key=pickle_key)
        # So that no traceback from here on shows a key.
        pickle_key = None
        # A program may change its folder later.
        folder = Path(absolute(cache_dir))
        self._open(formats, folder, backend, blob_backend, bool(content_addressable), keep, bool(durable))

    def _open(self, formats: Formats, *given: Any) -> None:
        folder, backend, blobs, self._content_addressable, keep, durable = given
        self._given = given
        self._formats, self._folder = formats, folder
        self._blobs = blob_backend_of(blobs, folder, durable)
        self._backend = backend_of(backend, folder, durable)
        self._owns = self._backend is not backend, self._blobs is not blobs
        self._writer = Writer(self._backend, self._blobs, None if keep is True else int(keep) or 1)
        self._reader = Reader(self._backend, self._blobs, formats)
        self._closed = False

    def __reduce__(self) -> tuple[object, ...]:
        """A catalogue goes to another process as its settings, never as open files."""
        folder, backend, blobs, *others = self._given
        # A URL may have a password in it, which the store and the backend leave out.
        if isinstance(backend, str) and "://" in backend:
            backend = self._backend
        if isinstance(blobs, str) and "://" in blobs:
            blobs = self._blobs
        return _reopened, (self._formats, folder, backend, blobs, *others)

    def put(
        self,
        data: Any,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        expect: Expect = ANY,
        inputs: Iterable[str | Entry | tuple[str, int]] = (),
        on_same: OnSame = "keep",
    ) -> Stored:
        """Store an object with its metadata, and return its key.

        Args:
            data: The object: an array, a frame, text, bytes, a model, or anything that `pickle` takes.
            key: Its key, any str; None makes a random one, or the digest of the object in a
                content-addressable store.
            metadata: A JSON object. If None, an object that the key holds already keeps its metadata.
            expect: What the key must hold now: `ANY`, `ABSENT`, or the ETag of an entry.
            inputs: What the object was made from: keys, entries, or pairs of a key and a version.
            on_same: Whether an object that is equal to what the key holds makes a version: `"keep"` makes
                none, `"version"` makes one.

        Returns:
            The key, a str, with the attributes `version`, `etag`, `digest`, `is_new` and `is_shared`.

        Raises:
            InvalidKeyError: The key isn't a str, or can't be a key.
            InvalidArgumentError: JSON doesn't hold the metadata.
            SerializationError: The object can't be stored.
            ConcurrencyError: The key doesn't hold what `expect` names.
            BlobNotFoundError: An input isn't in the catalogue.
        """
        self._check_open()
        return self._put(partial(self._formats.encode, data), key, metadata, expect, inputs, on_same)

    def _put(
        self, encode: Callable[[], Content], key: Any, metadata: Any, expect: Any, inputs: Any, on_same: Any
    ) -> Stored:
        checked = None if key is None else check_entry_key(key)
        extra = None if metadata is None else check_object(metadata)
        if on_same != "keep":
            _check_on_same(on_same)
        if expect is not ANY and expect is not ABSENT:
            check_type(expect, str, "expect must be ANY, ABSENT or the ETag of an entry")
        if isinstance(inputs, str):
            raise InvalidTypeError("inputs is a list of keys or entries, not a str")
        made_from = [named_input(each) for each in inputs] if inputs else ()
        content = encode()
        if checked is None:
            checked = content.digest if self._content_addressable else secrets.token_hex(8)
        small = self._writer.small_bytes(content)
        if small is not None and not made_from and (expect is ANY or expect is ABSENT):
            stored = self._writer.put_small(checked, content, small, extra, expect)
            if stored is not None:
                return stored
        return self._writer.put_one(
            Put(checked, content, encode, extra, made_from, expect, on_same == "version", small)
        )

    def put_many(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        on_same: OnSame = "keep",
    ) -> list[Stored]:
        """Store several objects, which become visible all together, or none.

        Args:
            items: Keys with objects, as `dict.update` takes them.
            metadata: The metadata of each key that has some.

        Raises:
            StoreError: As `put` raises it; then nothing is stored.
        """
        self._check_open()
        given = {check_entry_key(key): data for key, data in pairs_of(items)}
        more = dict(metadata or {})
        unknown = [key for key in more if key not in given]
        if unknown:
            raise InvalidArgumentError(f"metadata is given for {unknown[0]!r}, which isn't among the items")
        if on_same != "keep":
            _check_on_same(on_same)
        encode = self._formats.encode
        puts = [
            Put(
                key,
                encode(data),
                partial(encode, data),
                None if more.get(key) is None else check_object(more[key]),
                versioned=on_same == "version",
            )
            for key, data in given.items()
        ]
        return self._writer.put_all(puts)

    def get(self, key: str, default: Any = None, *, version: int | None = None, mmap: bool = False) -> Any:
        """Return an object, or the default where there is none.

        Args:
            version: Which version; None is the newest.
            mmap: Whether an array's memory is the stored file itself, read-only, so that only what is looked
                at is read.

        Raises:
            UntrustedDataError: It is a pickle that wasn't signed with the key.
            IntegrityError: Its bytes are gone or damaged.
            UnsupportedOperation: It can't be mapped.
        """
        self._check_open()
        key = check_entry_key(key)
        if version is not None:
            version = _check_version(version)
        if mmap:
            found = self._reader.map(key, version)
            return default if found is None else found
        return self._reader.get(key, version, default)

    def open(self, key: str, *, version: int | None = None) -> IO[bytes]:
        """Open the stored bytes of an object as a file: that of its format, without the compression around
        it.

        Raises:
            BlobNotFoundError: There is no such object.
        """
        self._check_open()
        return self._reader.open(check_entry_key(key), _check_version(version))

    def exists(self, key: str, *, version: int | None = None) -> bool:
        """Return whether an object is there, its metadata and its bytes."""
        self._check_open()
        return self._reader.exists(check_entry_key(key), _check_version(version))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(key) and self.exists(key)

    def get_metadata(self, key: str, *, version: int | None = None) -> dict[str, Any] | None:
        """Return what the catalogue says of an object, without a look at its bytes: `metadata`, `file_size`,
        `created`, `updated`, `type`, `format`, `digest`, `codec` and more; None where there is none."""
        self._check_open()
        row = self._backend.row(check_entry_key(key), _check_version(version))
        return None if row is None else dict_of(row)

    def entry(self, key: str, *, version: int | None = None) -> Entry | None:
        """Return what the catalogue says of an object, or None."""
        self._check_open()
        row = self._backend.row(check_entry_key(key), _check_version(version))
        return None if row is None else entry_of(row)

    def list(self, prefix: str | None = None, metadata_filter: Mapping[str, Any] | None = None) -> list[str]:
        """Return the keys that start with a prefix, and whose metadata has these values, in order.

        Args:
            prefix: Characters that keys start with, none of which has a meaning of its own.
            metadata_filter: Names with the values that they equal; a dot leads into a nested object.
        """
        self._check_open()
        checked = check_prefix_of_keys(prefix)
        if metadata_filter is None:
            return [*self._backend.keys(checked)]
        where = parse_where({"key": {"prefix": checked}}) if checked else All(())
        query = Query(
            All((where, parse_filter(metadata_filter))) if checked else parse_filter(metadata_filter)
        )
        return [row.key for row in self._rows(query)]

    def find(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        order_by: str | tuple[str, ...] = "key",
        limit: int | None = None,
        after: str | Entry | None = None,
    ) -> Iterator[Entry]:
        """Iterate over the entries that match a condition, lazily, in order.

        Args:
            where: Fields with what they equal, or with operators: `{"metadata.loss": {"<": 0.1}, "type":
                "dict"}`. Operators are `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `prefix` and `exists`; `and`
                and `or` have a list of conditions, `not` has one.
            order_by: The field that orders them; `-` before it reverses the order. Entries without the field
                come last.
            limit: The most entries.
            after: The entry, or its key, after which to begin.

        Raises:
            InvalidArgumentError: A field, an operator or a value isn't valid.
            BlobNotFoundError: `after` isn't in the catalogue.
        """
        self._check_open()
        order = parse_order(order_by)
        if limit is not None and not (type(limit) is int and limit > 0):
            check_count(limit, "limit")
        start: tuple[Any, str] | None = None
        if after is not None:
            key = after.key if isinstance(after, Entry) else check_entry_key(after)
            row = self._backend.row(key)
            if row is None:
                raise BlobNotFoundError("it isn't in the catalogue, so nothing can come after it", key=key)
            value = value_at(row, order.path)
            start = (None if value is ABSENT_FIELD else value), key
        return map(
            entry_of,
            self._rows(Query(EVERYTHING if where is None else parse_where(where), order, start, limit)),
        )

    def _rows(self, query: Query) -> Iterator[Row]:
        found = self._backend.find(query)
        if query.where is not EVERYTHING:
            found = filter(compile_node(query.where), found)
        return found if query.limit is None else islice(found, query.limit)

    def __len__(self) -> int:
        self._check_open()
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[str]:
        self._check_open()
        return self._backend.keys()

    def update_metadata(self, key: str, metadata: Mapping[str, Any], *, expect: Expect = ANY) -> bool:
        """Add names to the metadata of an object, or replace their values; return whether the object exists.

        Raises:
            ConcurrencyError: The key doesn't hold what `expect` names.
        """
        self._check_open()
        return changes.update(self._backend, check_entry_key(key), check_object(metadata), expect)

    def delete(self, key: str, *, version: int | None = None, expect: Expect = ANY) -> bool:
        """Delete an object with all its versions, or one version; return whether it was there. Its bytes go
        with the next `collect`, unless another entry shares them.

        Raises:
            ProtectedError: An alias points at it.
            ConcurrencyError: The key doesn't hold what `expect` names.
        """
        self._check_open()
        return changes.delete(self._backend, check_entry_key(key), _check_version(version), expect)

    def clear(self) -> int:
        """Delete all objects; return how many there were. Nothing else in the folder or the store is touched.

        Raises:
            ProtectedError: An alias points at one; none is deleted.
        """
        self._check_open()
        return changes.clear(self._backend)

    def history(self, key: str) -> list[Entry]:
        """Return the versions of an object that are kept, the newest first."""
        self._check_open()
        return changes.history(self._backend, check_entry_key(key))

    def restore(self, key: str, version: int, *, expect: Expect = ANY) -> Entry:
        """Make an earlier version the newest one again, as a new version with its bytes and its metadata.

        Raises:
            BlobNotFoundError: There is no such version.
        """
        self._check_open()
        checked = check_entry_key(key)
        check_count(version, "version", key=checked)
        return entry_of(changes.restore(self._writer, self._backend, checked, version, expect))

    def alias(self, name: str, key: str, version: int | None = None, *, expect: Expect = ANY) -> Entry:
        """Make a name point at a version of an object, the newest by default, in one step, wherever it
        pointed before. What an alias points at isn't deleted.

        Args:
            expect: `ABSENT`, or the ETag of the entry that the name points at now.

        Raises:
            BlobNotFoundError: There is no such version.
            ConcurrencyError: The name doesn't point at what `expect` names.
        """
        self._check_open()
        checked = check_entry_key(key)
        return entry_of(
            changes.set_alias(self._backend, check_entry_key(name), checked, _check_version(version), expect)
        )

    def resolve(self, name: str) -> Entry | None:
        """Return the entry that an alias points at, or None where there is no such alias."""
        self._check_open()
        return changes.resolve(self._backend, check_entry_key(name))

    def aliases(self, key: str | None = None) -> dict[str, Entry]:
        """Return the aliases, or those of one object, with the entries that they point at."""
        self._check_open()
        return changes.all_aliases(self._backend, None if key is None else check_entry_key(key))

    def delete_alias(self, name: str) -> bool:
        """Delete an alias, not what it points at; return whether it was there."""
        self._check_open()
        return changes.delete_alias(self._backend, check_entry_key(name))

    def lease(self, key: str, version: int | None = None, *, ttl: float | timedelta = 3_600) -> Lease:
        """Hold the bytes of a version, so that nothing prunes or sweeps them, for a time in seconds.

        Raises:
            BlobNotFoundError: There is no such version.
        """
        self._check_open()
        seconds = check_seconds(ttl, "ttl")
        return changes.make_lease(self._backend, check_entry_key(key), _check_version(version), seconds)

    def lineage(self, key: str, *, version: int | None = None, depth: int | None = None) -> Lineage:
        """Return what an object was made from, and what that was made from, up to a number of steps.

        Raises:
            BlobNotFoundError: There is no such object.
        """
        self._check_open()
        if depth is not None:
            check_count(depth, "depth")
        return trace(self._backend, check_entry_key(key), _check_version(version), depth)

    @property
    def aio(self) -> AsyncCatalog:
        """The same calls as coroutines."""
        # By its name, since that module is made of this class.
        return import_module("holdall.catalog.aio").AsyncCatalog(self)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("this BlobStore was closed; open it again")

    def close(self) -> None:
        """Close the files and connections that this opened. Twice is allowed."""
        self._closed = True
        if self._owns[0]:
            self._backend.close()
        if self._owns[1]:
            self._blobs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        inside = f"{str(self._folder)!r}, {self._backend!r}" if hasattr(self, "_reader") else "..."
        return f"BlobStore({inside})"


def _check_on_same(on_same: object) -> None:
    check_choice(on_same, "on_same", ("keep", "version"))


def _reopened(formats: Formats, *given: Any) -> BlobStore:
    made = BlobStore.__new__(BlobStore)
    made._open(formats, *given)
    # What was unpickled with it belongs to nobody else.
    made._owns = True, True
    return made


def _check_version(version: Any) -> int | None:
    if version is not None:
        check_count(version, "version")
    return version
