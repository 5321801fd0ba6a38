"""Dicts whose values are typed blobs, over any store."""

# A dict asks its store for what a blob is and its bytes in one call, which is a primitive.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import shutil
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypeVar, cast, overload

from holdall.blobs import BytesBlob, StrBlob
from holdall.blobs import blob_class as class_for
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidDataError,
    MissingDependencyError,
    StoreError,
)
from holdall.layers.compressed import CompressedStore
from holdall.layers.expiring import ExpiringStore
from holdall.layers.fanout import FanoutStore
from holdall.layers.replicas import state
from holdall.store import ABSENT, ANY, Attributes, Can, Info, Store, _joined

if TYPE_CHECKING:
    from holdall.stores.git import Revision

__all__ = [
    "BlobDict",
    "GitBlobDict",
    "InMemoryBlobDict",
    "LocalPath",
    "MultiReplicaBlobDict",
    "PathBlobDict",
    "ValkeyBlobDict",
    "VulkeyBlobDict",
]

T = TypeVar("T")

Version: TypeAlias = str | int | datetime | timedelta
"""Which version of a blob in git: a revision, a number, a moment, or how long ago."""


class _Missing(Enum):
    MISSING = "missing"


_MISSING: Final = _Missing.MISSING
_FILLABLE = Can.WRITE | Can.DELETE | Can.CREATE | Can.SWAP


class BlobDict(MutableMapping[str, BytesBlob]):
    """A dict from keys to typed blobs, kept in a store.

    Which class a blob comes back as, its media type says: that of what was put, in a store that keeps it (one
    that `can` ATTRIBUTES), else the one that the end of its key stands for. `image/*` is an `ImageBlob`,
    `audio/*` an `AudioBlob`, `video/*` a `VideoBlob`, JSON a `JsonDictBlob`, YAML a `YamlDictBlob`, other
    text a `StrBlob`, and everything else a `BytesBlob`.

    A key is a str, as in any store. Two dicts are equal only if they are one: to compare what is in them
    would read every blob.

    Args:
        store: Where the blobs are. It stays open when the dict is closed.
        compression: Whether the blobs are compressed: True for Zstandard, or the codec of a
            `CompressedStore`, which then reads no blob that was put without it.
        ttl: How long a blob lives, in seconds or as a timedelta: as an `ExpiringStore` has it, by its age
            where the store keeps no expiry. None is for ever.
        blob_class: What blobs have to be to be put, and what one is whose media type says nothing narrower.
        blob_class_args: Keyword arguments for the making of `blob_class`.

    >>> from holdall import MemoryStore
    >>> from holdall.blobs import StrBlob
    >>> d = BlobDict(MemoryStore())
    >>> d["notes/today.txt"] = StrBlob("all is well")
    >>> d["notes/today.txt"].as_str(), len(d), d.get("other")
    ('all is well', 1, None)
    """

    def __init__(
        self,
        store: Store,
        *,
        compression: bool | str = False,
        ttl: float | timedelta | None = None,
        blob_class: type[BytesBlob] = BytesBlob,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(store, Store):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(cast(object, store)).__name__
            raise InvalidArgumentError(f"a blob dict goes over a store, not over a {kind}")
        kind = cast(object, blob_class)
        if not isinstance(kind, type) or not issubclass(kind, BytesBlob):
            raise InvalidArgumentError(f"blob_class is a class of blobs, not {blob_class!r}")
        self._owned: Store | None = None
        if ttl is not None:
            store = ExpiringStore(store, ttl)
        if compression:
            store = CompressedStore(store, "zstd" if compression is True else compression)
        self._store = store
        self._blob_class = blob_class
        self._blob_class_args = dict(blob_class_args or {})

    @property
    def store(self) -> Store:
        """The store of the blobs, with its layers; its keys are those of the dict, and its values bytes."""
        return self._store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store!r})"

    def close(self) -> None:
        """Close the store, if this dict opened it."""
        if self._owned is not None:
            self._owned.close()
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- blobs and bytes ------------------------------------------------------------------------------

    def _class_of(self, key: str, media_type: str | None) -> type[BytesBlob]:
        kind = class_for(key, media_type)
        return kind if issubclass(kind, self._blob_class) else self._blob_class

    def _wrap(self, key: str, data: bytes, media_type: str | None) -> BytesBlob:
        kind = self._class_of(key, media_type)
        arguments = self._blob_class_args if kind is self._blob_class else {}
        return BytesBlob(data).as_blob(kind, arguments)

    def _checked_blob(self, key: str, blob: object) -> BytesBlob:
        if not isinstance(blob, BytesBlob):
            raise InvalidDataError(
                f"a blob dict takes blobs, not {type(blob).__name__}; wrap it, as in StrBlob('text')", key=key
            )
        if not isinstance(blob, self._blob_class):
            raise InvalidDataError(
                f"this dict takes a {self._blob_class.__name__}, not a {type(blob).__name__}", key=key
            )
        return blob

    def _media_type_of(self, blob: BytesBlob) -> str | None:
        # Of bytes that could be anything, the key tells more.
        known = Can.ATTRIBUTES in self._store.can and type(blob) is not BytesBlob
        return blob.media_type if known else None

    def _fetch(self, key: str) -> BytesBlob | None:
        store = self._store
        if Can.ATTRIBUTES not in store.can:
            data = store.get(key)
            return None if data is None else self._wrap(key, data, None)
        found = self._read(key)
        return None if found is None else self._wrap(key, found[1], found[0].content_type)

    def _read(self, key: str) -> tuple[Info, bytes] | None:
        """What a blob is and its bytes, of one version."""
        store = self._store
        key = store._checked(key)
        try:
            return _whole(store, key)
        except BlobNotFoundError:
            return None
        except StoreError as error:
            error.key = key
            raise

    # --- the mapping ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._store)

    def __bool__(self) -> bool:
        return bool(self._store)

    def __contains__(self, key: object) -> bool:
        return key in self._store

    def __iter__(self) -> Iterator[str]:
        return iter(self._store)

    __eq__ = object.__eq__
    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    def __getitem__(self, key: str, /) -> BytesBlob:
        blob = self._fetch(key)
        if blob is None:
            raise BlobNotFoundError(key=key)
        return blob

    @overload
    def get(self, key: str, /) -> BytesBlob | None: ...
    @overload
    def get(self, key: str, /, default: BytesBlob) -> BytesBlob: ...
    @overload
    def get(self, key: str, /, default: T) -> BytesBlob | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """The blob, or the default where there is none."""
        blob = self._fetch(key)
        return default if blob is None else blob

    def __setitem__(self, key: str, blob: BytesBlob, /) -> None:
        blob = self._checked_blob(key, blob)
        self._store.put(key, blob.as_bytes(), content_type=self._media_type_of(blob))

    def __delitem__(self, key: str, /) -> None:
        del self._store[key]

    @overload
    def pop(self, key: str, /) -> BytesBlob: ...
    @overload
    def pop(self, key: str, /, default: BytesBlob) -> BytesBlob: ...
    @overload
    def pop(self, key: str, /, default: T) -> BytesBlob | T: ...
    def pop(self, key: str, /, default: Any = _MISSING) -> Any:
        """The blob, which is deleted: of many callers at once one gets it (where the store can SWAP).

        Raises:
            BlobNotFoundError: There is none, and no default.
        """
        blob = self._take(key)
        if blob is None:
            if default is _MISSING:
                raise BlobNotFoundError(key=key)
            return default
        return blob

    def _take(self, key: str) -> BytesBlob | None:
        store = self._store
        if Can.ATTRIBUTES not in store.can:
            data = store.pop(key, None)
            return None if data is None else self._wrap(key, data, None)
        while (found := self._read(key)) is not None:
            info, data = found
            try:
                store.delete(key, expect=info.etag if Can.SWAP in store.can else ANY)
            except ConcurrencyError:
                continue
            return self._wrap(key, data, info.content_type)
        return None

    def popitem(self) -> tuple[str, BytesBlob]:
        """The first key and its blob, which is deleted.

        Raises:
            BlobNotFoundError: The dict is empty.
        """
        while (key := next(iter(self), None)) is not None:
            blob = self._take(key)
            if blob is not None:
                return key, blob
        raise BlobNotFoundError("the dict is empty")

    def setdefault(self, key: str, default: BytesBlob, /) -> BytesBlob:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The blob; where there is none, the default is put first, atomically if the store can CREATE."""
        blob = self._checked_blob(key, default)
        while (found := self._fetch(key)) is None:
            expect = ABSENT if Can.CREATE in self._store.can else ANY
            try:
                self._store.put(key, blob.as_bytes(), expect=expect, content_type=self._media_type_of(blob))
            except BlobExistsError:
                continue
            return blob
        return found

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, other: Mapping[str, BytesBlob] | Iterable[tuple[str, BytesBlob]] = (), /, **more: BytesBlob
    ) -> None:
        """Put many blobs, as `dict.update` takes them: in one round trip, transaction or commit where the
        store has one."""
        blobs = {**dict(other), **more}
        checked = {key: self._checked_blob(key, blob) for key, blob in blobs.items()}
        kinds: dict[str | None, dict[str, bytes]] = {}
        for key, blob in checked.items():
            kinds.setdefault(self._media_type_of(blob), {})[key] = blob.as_bytes()
        for media_type, items in kinds.items():
            self._store.put_many(items, content_type=media_type)

    def clear(self) -> None:
        """Delete every blob of this dict, and nothing else in the folder, repository or server."""
        self._store.clear()

    def values(self) -> ValuesView[BytesBlob]:
        """A view of the blobs, read one by one as it is iterated."""
        return _Values(self)

    def items(self) -> ItemsView[str, BytesBlob]:
        """A view of keys with their blobs, read one by one as it is iterated."""
        return _Items(self)

    def search(self, filter_body: str | None = None) -> Iterator[str]:
        """The keys that match a glob, lazily, in order.

        Args:
            filter_body: The glob: `*` and `?` within a segment, `**` for any number of segments, `[abc]`.
                None matches all.

        >>> from holdall.blobs import StrBlob
        >>> d = InMemoryBlobDict({"a.txt": StrBlob(""), "b/c.txt": StrBlob(""), "d.png": StrBlob("")})
        >>> list(d.search("**/*.txt"))
        ['a.txt', 'b/c.txt']
        """
        return self._store.iterate_keys(glob=filter_body)


class _Values(ValuesView[BytesBlob]):
    """The blobs; one that goes while they are listed is left out."""

    _mapping: BlobDict

    def __iter__(self) -> Iterator[BytesBlob]:
        return (blob for _, blob in _pairs(self._mapping))


class _Items(ItemsView[str, BytesBlob]):
    _mapping: BlobDict

    def __iter__(self) -> Iterator[tuple[str, BytesBlob]]:
        return _pairs(self._mapping)


def _pairs(blobs: BlobDict) -> Iterator[tuple[str, BytesBlob]]:
    for key in blobs:
        blob = blobs.get(key)
        if blob is not None:
            yield key, blob


def _whole(store: Store, key: str) -> tuple[Info, bytes]:
    info, pieces = store._read(key, 0, None)
    return info, _joined(pieces)


class InMemoryBlobDict(BlobDict):
    """A blob dict in the memory of this process.

    Args:
        data_dict: Blobs to begin with; they are copied.
        ttl: How long a blob lives, in seconds or as a timedelta; None is for ever.
        blob_class: As in `BlobDict`.
        blob_class_args: As in `BlobDict`.

    >>> from holdall.blobs import JsonDictBlob
    >>> d = InMemoryBlobDict(ttl=60)
    >>> d["settings.json"] = JsonDictBlob({"volume": 11})
    >>> d.pop("settings.json").as_dict(), "settings.json" in d
    ({'volume': 11}, False)
    """

    def __init__(
        self,
        data_dict: Mapping[str, BytesBlob] | None = None,
        *,
        ttl: float | timedelta | None = None,
        blob_class: type[BytesBlob] = BytesBlob,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        from holdall.stores.memory import MemoryStore

        store = MemoryStore()
        super().__init__(store, ttl=ttl, blob_class=blob_class, blob_class_args=blob_class_args)
        self._owned = store
        if data_dict is not None:
            self.update(data_dict)


class LocalPath(type(Path())):
    """A `pathlib.Path` that can remove its whole tree.

    >>> LocalPath("a") / "b"
    LocalPath('a/b')
    """

    def rmtree(self) -> None:
        """Remove the folder and everything in it.

        Raises:
            FileNotFoundError: There is none.
        """
        shutil.rmtree(self)


class PathBlobDict(BlobDict):
    """A blob dict in a folder; keys are paths relative to it.

    A folder of the disk is kept by a `FilesystemStore`, one of a cloud, or of any file system that fsspec
    knows, by a `PathStore`.

    Args:
        path: The folder: a str, a `pathlib.Path` (such as `LocalPath`), a `CloudPath` of cloudpathlib, or a
            `UPath` of universal-pathlib. None is the current one. The first put makes it.
        compression: As in `BlobDict`.
        ttl: As in `BlobDict`: by the time when the file was last written.
        blob_class: As in `BlobDict`.
        blob_class_args: As in `BlobDict`.

    >>> import tempfile
    >>> from holdall.blobs import StrBlob
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     d = PathBlobDict(LocalPath(folder))
    ...     d["notes/today.txt"] = StrBlob("all is well")
    ...     LocalPath(folder, "notes", "today.txt").read_text()
    'all is well'
    """

    def __init__(
        self,
        path: Any = None,
        *,
        compression: bool | str = False,
        ttl: float | timedelta | None = None,
        blob_class: type[BytesBlob] = BytesBlob,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        from holdall.stores.path import PathStore

        path = "." if path is None else path
        if isinstance(path, str):
            path = LocalPath(path) if "://" not in path else path
        store: Store = PathStore(path)
        super().__init__(
            store, compression=compression, ttl=ttl, blob_class=blob_class, blob_class_args=blob_class_args
        )
        self._owned = store
        self._path: Any = path.expanduser().absolute() if isinstance(path, Path) else path

    @property
    def path(self) -> Any:
        """The folder."""
        return self._path

    def create(self) -> None:
        """Make the folder, where there is none."""
        self._path.mkdir(parents=True, exist_ok=True)

    def delete(self) -> None:
        """Delete the folder with everything in it, also what this dict doesn't list.

        Raises:
            InvalidArgumentError: It is a whole file system or bucket; `clear` deletes the blobs.
        """
        path = self._path
        if _is_root(path):
            raise InvalidArgumentError(f"{str(path)!r} is no folder; clear() deletes the blobs in it")
        if not path.exists():
            return
        # Somebody else may delete it at the same time.
        with suppress(FileNotFoundError, NotADirectoryError):
            if isinstance(path, Path):
                shutil.rmtree(os.fspath(path))
            elif hasattr(path, "rmtree"):
                path.rmtree()
            else:
                path.rmdir(recursive=True)


def _is_root(path: Any) -> bool:
    """Whether a path is a whole file system or bucket."""
    if isinstance(path, Path):
        return not path.name
    if hasattr(path, "cloud_prefix"):
        return "/" not in str(path).removeprefix(path.cloud_prefix).strip("/")
    place = path.path.strip("/")
    return not place or (path.protocol != "memory" and "/" not in place)


class MultiReplicaBlobDict(BlobDict):
    """Several blob dicts with the same blobs, as one: a put goes to all, a read asks one after the other.

    The rules are those of `FanoutStore`, which does the work: the first replica decides, what it lacks or
    fails to tell is asked of the next, a put has to reach all of them (else `PartialWriteError` says which
    failed), and listing is the merged union of all.

    A blob that a later replica has and earlier ones lack is put there by the read that finds it, if they can
    CREATE and SWAP; a replica that fails to take it is logged. Where another process deletes the blob at that
    very moment, it may be found for as long as one call more.

    A replica that only this process sees, such as an `InMemoryBlobDict`, doesn't learn what other processes
    put into the others: give it a ttl, or use a `CachingStore`, which asks its origin.

    Args:
        replica_dicts: The dicts by their names, in the order in which they are asked. No two may share a
            place. They stay open when this one is closed.
        fill: Whether reads fill the replicas that come before the one that had the blob.
        write: How many must take a put, as in `FanoutStore`: `all`, or a number.
        timeout: Seconds after which a call of a replica counts as failed; None waits.

    >>> from holdall.blobs import StrBlob
    >>> cache, origin = InMemoryBlobDict(ttl=60), InMemoryBlobDict()
    >>> d = MultiReplicaBlobDict({"cache": cache, "origin": origin})
    >>> origin["a.txt"] = StrBlob("found")
    >>> "a.txt" in cache, d["a.txt"].as_str(), "a.txt" in cache
    (False, 'found', True)
    """

    def __init__(
        self,
        replica_dicts: Mapping[str, BlobDict],
        *,
        fill: bool = True,
        write: Literal["all"] | int = "all",
        timeout: float | None = None,
    ) -> None:
        for each in replica_dicts.values():
            if not isinstance(each, BlobDict):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArgumentError(
                    f"a replica is a blob dict, not a {type(cast(object, each)).__name__}"
                )
        self._replicas = dict(replica_dicts)
        self._fanout = FanoutStore(
            {name: each.store for name, each in self._replicas.items()}, write=write, timeout=timeout
        )
        super().__init__(self._fanout)
        self._fill = fill

    @property
    def replicas(self) -> Mapping[str, BlobDict]:
        """The dicts by their names, in order."""
        return dict(self._replicas)

    def close(self) -> None:
        """Free what this dict holds; its replicas stay open."""
        self._fanout.close()

    def _chosen(self, names: Iterable[str] | None) -> dict[str, BlobDict]:
        """The replicas of these names, in their order."""
        if names is None:
            return self._replicas
        wanted = {names} if isinstance(names, str) else set(names)
        if unknown := wanted - self._replicas.keys():
            raise InvalidArgumentError(
                f"there is no replica {', '.join(sorted(map(repr, unknown)))}; there are "
                f"{', '.join(map(repr, self._replicas))}"
            )
        return {name: each for name, each in self._replicas.items() if name in wanted}

    def _checked_blob(self, key: str, blob: object) -> BytesBlob:
        checked = super()._checked_blob(key, blob)
        for each in self._replicas.values():
            each._checked_blob(key, blob)
        return checked

    # --- reading and filling --------------------------------------------------------------------------

    def _fetch(self, key: str) -> BytesBlob | None:
        fanout = self._fanout
        key = fanout._checked(key)
        try:
            name, (info, data) = fanout._ask(key, "read", partial(_whole, key=key))
        except BlobNotFoundError:
            return None
        except StoreError as error:
            error.key = key
            raise
        if self._fill and name != next(iter(self._replicas)):
            self._fill_before(key, name, info, data)
        return self._replicas[name]._wrap(key, data, info.content_type)

    def _fill_before(self, key: str, source: str, info: Info, data: bytes) -> None:
        """Put what one replica had into those before it that have nothing."""
        origin = self._replicas[source].store
        with self._fanout._turn(key):
            for name, each in self._replicas.items():
                if name == source:
                    return
                behind = name in self._fanout.behind().get(key, ())
                if behind or not _holds(each.store, info):
                    continue
                try:
                    self._fanout._call(name, partial(_fill, each.store, origin, key, info, data))
                except (StoreError, OSError) as error:
                    self._fanout._failed("take", key, name, error)

    def _take(self, key: str) -> BytesBlob | None:
        # What only a later replica has is filled first, so that the first one can decide who takes it.
        return None if self._fetch(key) is None else super()._take(key)

    # --- calls of some replicas, by name --------------------------------------------------------------

    @overload
    def get(self, key: str, /, *, replica_names: Iterable[str] | None = None) -> BytesBlob | None: ...
    @overload
    def get(
        self, key: str, /, default: BytesBlob, *, replica_names: Iterable[str] | None = None
    ) -> BytesBlob: ...
    @overload
    def get(
        self, key: str, /, default: T, *, replica_names: Iterable[str] | None = None
    ) -> BytesBlob | T: ...
    def get(self, key: str, /, default: Any = None, *, replica_names: Iterable[str] | None = None) -> Any:
        """The blob, or the default where there is none.

        Args:
            key: Which.
            default: What to give where there is none.
            replica_names: Which replicas to ask, in their order, and no others; nothing is filled then.
        """
        if replica_names is None:
            return super().get(key, default)
        for each in self._chosen(replica_names).values():
            blob = each._fetch(key)
            if blob is not None:
                return blob
        return default

    def contains(self, key: str, *, replica_names: Iterable[str] | None = None) -> bool:
        """Whether there is a blob, in any of these replicas."""
        if replica_names is None:
            return key in self
        return any(key in each for each in self._chosen(replica_names).values())

    def len(self, *, replica_name: str | None = None) -> int:
        """How many blobs there are, in all replicas together or in one."""
        return len(self) if replica_name is None else len(self._one(replica_name))

    def iter(self, *, replica_name: str | None = None) -> Iterator[str]:
        """The keys, of all replicas together or of one."""
        return iter(self) if replica_name is None else iter(self._one(replica_name))

    def _one(self, name: str) -> BlobDict:
        return self._chosen((name,))[name]

    def put(self, key: str, blob: BytesBlob, *, replica_names: Iterable[str] | None = None) -> None:
        """Put a blob, into all replicas or some; those left out keep what they have."""
        if replica_names is None:
            super().__setitem__(key, blob)
            return
        for each in self._chosen(replica_names).values():
            each[key] = blob

    def __setitem__(
        self, key: str, blob: BytesBlob, /, *, replica_names: Iterable[str] | None = None
    ) -> None:
        self.put(key, blob, replica_names=replica_names)

    @overload
    def pop(self, key: str, /, *, replica_names: Iterable[str] | None = None) -> BytesBlob: ...
    @overload
    def pop(
        self, key: str, /, default: BytesBlob, *, replica_names: Iterable[str] | None = None
    ) -> BytesBlob: ...
    @overload
    def pop(
        self, key: str, /, default: T, *, replica_names: Iterable[str] | None = None
    ) -> BytesBlob | T: ...
    def pop(self, key: str, /, default: Any = _MISSING, *, replica_names: Iterable[str] | None = None) -> Any:
        """The blob, which is deleted from all replicas, or from some.

        Raises:
            BlobNotFoundError: None of them has it, and there is no default.
        """
        if replica_names is None:
            return super().pop(key, default)
        popped = [each.pop(key, None) for each in self._chosen(replica_names).values()]
        blob = next((blob for blob in popped if blob is not None), None)
        if blob is None and default is _MISSING:
            raise BlobNotFoundError(key=key)
        return default if blob is None else blob

    def clear(self, *, replica_names: Iterable[str] | None = None) -> None:
        """Delete every blob of all replicas, or of some."""
        if replica_names is None:
            super().clear()
            return
        for each in self._chosen(replica_names).values():
            each.clear()


def _holds(store: Store, info: Info) -> bool:
    """Whether a store can be filled with a blob, and keep what is kept with it."""
    return _FILLABLE in store.can and (info.expires is None or Can.EXPIRE in store.can)


def _fill(store: Store, origin: Store, key: str, info: Info, data: bytes) -> None:
    # Whoever deleted it meanwhile may have found this replica empty already.
    if state(origin, key) != info.etag:
        return
    kept = info.content_type if Can.ATTRIBUTES in store.can else None
    try:
        filled = store._write(key, (data,), ABSENT, Attributes(kept, info.expires))
    except ConcurrencyError:
        return
    if state(origin, key) != info.etag:
        with suppress(ConcurrencyError):
            store._delete(key, filled.etag)


class GitBlobDict(BlobDict):
    """A blob dict in a work tree of git; every put and delete is a commit.

    A key may be a pair whose second part says which version of the blob: a revision as git spells it (a str,
    such as `HEAD~2`, a tag or a hash), an int that counts the blob's own versions as a sequence is indexed (0
    is the first, -1 the last), a datetime (the last version before it), or a timedelta (that long ago).

    Args:
        path: The folder of the work tree; None is the current one. What is no repository yet becomes one with
            the first put.
        user_name: The author's name; None is as git is configured.
        user_email: The author's address, which goes with the name.
        use_remote: Whether it syncs with the remote.
        use_remote_frequence: How old what is read from the remote may be, in seconds or as a timedelta.
        compression: As in `BlobDict`.
        blob_class: As in `BlobDict`.
        blob_class_args: As in `BlobDict`.

    >>> import tempfile
    >>> from holdall.blobs import StrBlob
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with GitBlobDict(folder, user_name="Ada", user_email="ada@example.org") as d:
    ...         d["plan.txt"] = StrBlob("first")
    ...         d["plan.txt"] = StrBlob("second")
    ...         d["plan.txt"].as_str(), d["plan.txt", "HEAD~1"].as_str(), d["plan.txt", 0].as_str()
    ('second', 'first', 'first')
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        user_name: str | None = None,
        user_email: str | None = None,
        use_remote: bool = False,
        use_remote_frequence: float | timedelta = 60.0,
        compression: bool | str = False,
        blob_class: type[BytesBlob] = BytesBlob,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        from holdall.stores.git import GitStore

        if (user_name is None) != (user_email is None):
            raise InvalidArgumentError("user_name and user_email go together; leave out both, or neither")
        author = None if user_name is None else f"{user_name} <{user_email}>"
        interval = use_remote_frequence
        seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
        place = "." if path is None else path
        git = GitStore(place, author=author, remote=use_remote, pull_interval=seconds)
        super().__init__(git, compression=compression, blob_class=blob_class, blob_class_args=blob_class_args)
        self._owned = self._git = git

    def create(self) -> None:
        """The repository is made when the dict is; it is there."""

    def __getitem__(self, key: str | tuple[str, Version], /) -> BytesBlob:
        if not isinstance(key, tuple):
            return super().__getitem__(key)
        blob = self._version(*key)
        if blob is None:
            raise BlobNotFoundError(f"no such version: {key[1]!r}", key=key[0])
        return blob

    def get(self, key: str | tuple[str, Version], /, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The blob, or that version of it, or the default where there is none."""
        if not isinstance(key, tuple):
            return super().get(key, default)
        blob = self._version(*key)
        return default if blob is None else blob

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, tuple):
            return super().__contains__(key)
        return self._version(*cast("tuple[str, Version]", key)) is not None

    def _version(self, key: str, version: Version) -> BytesBlob | None:
        commit = self._commit(key, version)
        if commit is None:
            return None
        # What was put with this dict's layers is read through them.
        store: Store = self._git.at(commit)
        if isinstance(self._store, CompressedStore):
            store = CompressedStore(store)
        data = store.get(key)
        return None if data is None else self._wrap(key, data, None)

    def _commit(self, key: str, version: Version) -> str | None:
        """The commit that a version means."""
        if isinstance(version, str):
            return version
        history = self._git.history(key)
        if isinstance(version, int) and not isinstance(version, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            # The history begins with the newest.
            index = -1 - version
            return history[index].commit if -len(history) <= index < len(history) else None
        if isinstance(version, timedelta):
            version = datetime.now(UTC) - version
        if not isinstance(version, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(
                f"a version is a str, an int, a datetime or a timedelta, not {type(version).__name__}",
                key=key,
            )
        moment = version.astimezone(UTC)
        return next((each.commit for each in history if each.modified < moment), None)

    def history(self, key: str) -> list[Revision]:
        """The commits that changed a key, the newest first: who, when and what."""
        return self._git.history(key)


class ValkeyBlobDict(BlobDict):
    """A blob dict in Valkey or Redis, beside whatever else the server holds.

    Args:
        server: Its URL, such as `valkey://user:password@host:port/database`, or a client of valkey-py or
            redis-py, which stays open.
        ttl: How long a blob lives, in seconds or as a timedelta; the server deletes it. None is for ever.
        prefix: What the names of all that it keeps in the server begin with. Nothing else is touched.
        str_blob_only: Whether only `StrBlob`s are put, as `blob_class=StrBlob` says too.
        client_kwargs: Arguments for a client of valkey-py or redis-py, instead of `server`.
        compression: As in `BlobDict`.
        blob_class: As in `BlobDict`.
        blob_class_args: As in `BlobDict`.

    >>> ValkeyBlobDict("valkey://db.example.org", ttl=60)
    ValkeyBlobDict(ExpiringStore(ValkeyStore('valkey://db.example.org:6379'), ttl=60.0))
    """

    def __init__(
        self,
        server: Any = "valkey://localhost:6379",
        *,
        ttl: float | timedelta | None = None,
        prefix: str = "holdall:",
        str_blob_only: bool = False,
        client_kwargs: Mapping[str, Any] | None = None,
        compression: bool | str = False,
        blob_class: type[BytesBlob] = BytesBlob,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        from holdall.stores.valkey import ValkeyStore

        if client_kwargs is not None:
            server = _client(client_kwargs)
        if str_blob_only and blob_class is BytesBlob:
            blob_class = StrBlob
        store = ValkeyStore(server, prefix=prefix)
        super().__init__(
            store, compression=compression, ttl=ttl, blob_class=blob_class, blob_class_args=blob_class_args
        )
        self._owned = store


VulkeyBlobDict = ValkeyBlobDict


def _client(arguments: Mapping[str, Any]) -> Any:
    """A client of the library that is installed; it connects when it is first used."""
    from importlib import import_module

    for module, name in (("redis", "Redis"), ("valkey", "Valkey")):
        try:
            library = import_module(module)
        except ImportError:
            continue
        return getattr(library, name)(**arguments)
    raise MissingDependencyError("ValkeyBlobDict needs redis-py or valkey-py: pip install 'holdall[valkey]'")
