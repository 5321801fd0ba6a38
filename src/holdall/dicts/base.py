"""A dict whose values are typed blobs, over any store."""

# A dict asks its store for what a blob is and its bytes in one call, which is a primitive.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from datetime import timedelta
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, cast, overload

from holdall.blobs import BytesBlob
from holdall.blobs import blob_class as class_for
from holdall.dicts.hints import fitting
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidDataError,
    InvalidTypeError,
    StoreError,
)
from holdall.layers.compressed import CompressedStore
from holdall.layers.expiring import ExpiringStore
from holdall.store import ABSENT, ANY, Can, Info, Store, _joined, holds_item, pairs_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T")
    # Without blob_class the key says which class a blob has, which no type checker can know.
    B = TypeVar("B", bound=BytesBlob, default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
    # Defaults of type variables are for type checkers here: Python has them from 3.13 on.
    B = TypeVar("B", bound=BytesBlob)


class _Missing(Enum):
    MISSING = "missing"


_MISSING: Final = _Missing.MISSING


class BlobDict(MutableMapping[str, B]):
    """A dict from keys to typed blobs, kept in a store.

    For type checkers it is generic in the class of its blobs, which `blob_class` gives: a
    `BlobDict(store, blob_class=StrBlob)` is a `BlobDict[StrBlob]`. Without it the key says the class of a
    blob, which is `Any` for a type checker.

    The media type of a blob decides its class: the media type that was put, in a store that keeps it (one
    that `can` ATTRIBUTES), otherwise the one that the extension of its key stands for. `image/*` is an
    `ImageBlob`, `audio/*` an `AudioBlob`, `video/*` a `VideoBlob`, JSON a `JsonDictBlob`, YAML a
    `YamlDictBlob`, other text a `StrBlob`, and everything else a `BytesBlob`.

    A key is a str, as in any store. A dict equals only itself, since a comparison of contents would read
    every blob.

    Args:
        store: Where the blobs are. It stays open when the dict is closed.
        compression: Whether the blobs are compressed: True for Zstandard, or the codec of a
            `CompressedStore`, which then reads no blob that was put without it.
        ttl: How long a blob lives, in seconds or as a timedelta, as in an `ExpiringStore`: its age decides
            where the store doesn't keep expiries. None means forever.
        blob_class: The class that blobs must have to be put; a blob comes back as this class unless its media
            type stands for a subclass. None is `BytesBlob`, which takes all.
        blob_class_args: Keyword arguments for the constructor of `blob_class`.

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
        blob_class: type[B] | None = None,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(store, Store):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(cast(object, store)).__name__
            raise InvalidTypeError(f"a blob dict goes over a store, not over {kind}")
        kind = cast(object, BytesBlob if blob_class is None else blob_class)
        if not isinstance(kind, type) or not issubclass(kind, BytesBlob):
            raise InvalidTypeError(f"blob_class is a class of blobs such as StrBlob, not {blob_class!r}")
        self._owned: Store | None = None
        self._expiring: ExpiringStore | None = None
        if ttl is not None:
            store = self._expiring = ExpiringStore(store, ttl)
        if compression:
            store = CompressedStore(store, "zstd" if compression is True else compression)
        self._store = store
        self._blob_class = cast("type[B]", kind)
        self._blob_class_args = dict(blob_class_args or {})

    @property
    def store(self) -> Store:
        """The store of the blobs, with its layers; its keys are those of the dict, and its values bytes."""
        return self._store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({repr(self._store) if hasattr(self, '_store') else '...'})"

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

    def _class_of(self, key: str, media_type: str | None) -> type[B]:
        kind = class_for(key, media_type)
        return kind if issubclass(kind, self._blob_class) else self._blob_class

    def _wrap(self, key: str, data: bytes, media_type: str | None) -> B:
        kind = self._class_of(key, media_type)
        arguments = self._blob_class_args if kind is self._blob_class else {}
        return kind(data, **arguments)

    def _checked_blob(self, key: str, blob: object) -> B:
        if not isinstance(blob, BytesBlob):
            kind, code = type(blob).__name__, fitting(key, blob, self._blob_class)
            raise InvalidDataError(f"a blob dict takes blobs, not {kind}; write {code}", key=key)
        if not isinstance(blob, self._blob_class):
            raise InvalidDataError(
                f"this dict takes {self._blob_class.__name__}, not {type(blob).__name__}",
                key=key,
            )
        return blob

    @cached_property
    def _keeps_types(self) -> bool:
        """Whether the store keeps media types; cached, since the look takes as long as a put in memory."""
        return Can.ATTRIBUTES in self._store.can

    def _media_type_of(self, blob: BytesBlob) -> str | None:
        # `application/octet-stream` says less than the key.
        return None if type(blob) is BytesBlob or not self._keeps_types else blob.media_type

    def _fetch(self, key: str) -> B | None:
        store = self._store
        if not self._keeps_types:
            data = store.get(key)
            return None if data is None else self._wrap(key, data, None)
        found = self._read(key)
        return None if found is None else self._wrap(key, found[1], found[0].content_type)

    def _read(self, key: str) -> tuple[Info, bytes] | None:
        """Return the `Info` of a blob and its bytes, both of the same version."""
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

    def __getitem__(self, key: str, /) -> B:
        blob = self._fetch(key)
        if blob is None:
            raise BlobNotFoundError(key=key)
        return blob

    @overload
    def get(self, key: str, /) -> B | None: ...
    @overload
    def get(self, key: str, /, default: B) -> B: ...
    @overload
    def get(self, key: str, /, default: T) -> B | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """Return the blob, or the default where there is none."""
        blob = self._fetch(key)
        return default if blob is None else blob

    def __setitem__(self, key: str, blob: B, /) -> None:
        blob = self._checked_blob(key, blob)
        self._store.put(key, blob.as_bytes(), content_type=self._media_type_of(blob))

    def __delitem__(self, key: str, /) -> None:
        del self._store[key]

    @overload
    def pop(self, key: str, /) -> B: ...
    @overload
    def pop(self, key: str, /, default: B) -> B: ...
    @overload
    def pop(self, key: str, /, default: T) -> B | T: ...
    def pop(self, key: str, /, default: Any = _MISSING) -> Any:
        """Delete a blob and return it. Of many callers at once only one gets it, if the store can SWAP.

        Raises:
            BlobNotFoundError: There is none, and no default.
        """
        blob = self._take(key)
        if blob is None:
            if default is _MISSING:
                raise BlobNotFoundError(key=key)
            return default
        return blob

    def _take(self, key: str) -> B | None:
        store = self._store
        if not self._keeps_types:
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

    def popitem(self) -> tuple[str, B]:
        """Delete the first blob; return its key and the blob.

        Raises:
            BlobNotFoundError: The dict is empty.
        """
        while (key := next(iter(self), None)) is not None:
            blob = self._take(key)
            if blob is not None:
                return key, blob
        raise BlobNotFoundError("the dict is empty")

    def setdefault(self, key: str, default: B, /) -> B:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the blob; where there is none, put the default first, atomically if the store can CREATE."""
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
        self, other: Mapping[str, B] | Iterable[tuple[str, B]] = (), /, **more: B
    ) -> None:
        """Put many blobs, as `dict.update` takes them: in one round trip, transaction or commit where the
        store has one."""
        blobs = {**dict(pairs_of(other)), **more}
        # All of them before the first is put, since each media type is a call of its own.
        checked = {self._store._checked(key): self._checked_blob(key, blob) for key, blob in blobs.items()}
        kinds: dict[str | None, dict[str, bytes]] = {}
        for key, blob in checked.items():
            kinds.setdefault(self._media_type_of(blob), {})[key] = blob.as_bytes()
        for media_type, items in kinds.items():
            self._store.put_many(items, content_type=media_type)

    def clear(self) -> None:
        """Delete every blob of this dict, and nothing else from the folder, repository or server."""
        self._store.clear()

    def purge(self) -> int:
        """Delete the blobs that are older than this dict's ttl; return their number. A store that keeps
        expiries deletes expired blobs itself, so there this does nothing.

        Raises:
            UnsupportedOperation: The store can't delete by ETag, so a purge could delete a new blob.

        >>> from holdall import InMemoryBlobDict
        >>> InMemoryBlobDict(ttl=60).purge()
        0
        """
        return 0 if self._expiring is None else self._expiring.purge()

    def values(self) -> ValuesView[B]:
        """Return a view of the blobs, read one by one as it is iterated."""
        return _Values(self)

    def items(self) -> ItemsView[str, B]:
        """Return a view of keys with their blobs, read one by one as it is iterated."""
        return _Items(self)

    def search(self, filter_body: str | None = None) -> Iterator[str]:
        """Yield the keys that match a glob, in order.

        Args:
            filter_body: The glob: `*` and `?` within a segment, `**` for any number of segments, `[abc]`.
                None matches all.

        >>> from holdall import InMemoryBlobDict
        >>> from holdall.blobs import StrBlob
        >>> d = InMemoryBlobDict({"a.txt": StrBlob(""), "b/c.txt": StrBlob(""), "d.png": StrBlob("")})
        >>> list(d.search("**/*.txt"))
        ['a.txt', 'b/c.txt']
        """
        return self._store.iterate_keys(glob=filter_body)


class _Values(ValuesView[B]):
    """The blobs; one that is deleted while they are listed is left out."""

    _mapping: BlobDict[B]

    def __iter__(self) -> Iterator[B]:
        return (blob for _, blob in _pairs(self._mapping))


class _Items(ItemsView[str, B]):
    _mapping: BlobDict[B]

    def __iter__(self) -> Iterator[tuple[str, B]]:
        return _pairs(self._mapping)

    def __contains__(self, item: object) -> bool:
        return holds_item(self._mapping, item)


def _pairs(blobs: BlobDict[B]) -> Iterator[tuple[str, B]]:
    for key in blobs:
        blob = blobs.get(key)
        if blob is not None:
            yield key, blob


def _whole(store: Store, key: str) -> tuple[Info, bytes]:
    info, pieces = store._read(key, 0, None)
    return info, _joined(pieces)
