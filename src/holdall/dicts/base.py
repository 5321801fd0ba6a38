"""A dict whose values are typed blobs, over any store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from holdall.blobs import BytesBlob
from holdall.blobs import blob_class as class_for
from holdall.dicts.hints import fitting
from holdall.errors import InvalidDataError, InvalidTypeError
from holdall.layers.compressed import CompressedStore
from holdall.layers.expiring import ExpiringStore
from holdall.store import Store
from holdall.values.mapping import ValueMapping

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # Without blob_class the key says which class a blob has, which no type checker can know.
    B = TypeVar("B", bound=BytesBlob, default=Any)
else:
    from typing import TypeVar

    # Defaults of type variables are for type checkers here: Python has them from 3.13 on.
    B = TypeVar("B", bound=BytesBlob)


class BlobDict(ValueMapping[B]):
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
        super().__init__(store)
        kind = cast(object, BytesBlob if blob_class is None else blob_class)
        if not isinstance(kind, type) or not issubclass(kind, BytesBlob):
            raise InvalidTypeError(f"blob_class is a class of blobs such as StrBlob, not {blob_class!r}")
        self._expiring: ExpiringStore | None = None
        if ttl is not None:
            self._store = self._expiring = ExpiringStore(store, ttl)
        if compression:
            self._store = CompressedStore(self._store, "zstd" if compression is True else compression)
        self._blob_class = cast("type[B]", kind)
        self._blob_class_args = dict(blob_class_args or {})

    def _encode(self, key: str, value: Any) -> tuple[bytes, str | None]:
        blob = self._check_blob(key, value)
        # `application/octet-stream` says less than the key.
        says_more = self._keeps_types and type(blob) is not BytesBlob
        return blob.as_bytes(), blob.media_type if says_more else None

    def _decode(self, key: str, data: bytes, media_type: str | None) -> B:
        kind = class_for(key, media_type)
        if issubclass(kind, self._blob_class) and kind is not self._blob_class:
            return kind(data)
        return self._blob_class(data, **self._blob_class_args)

    def _check_blob(self, key: str, blob: object) -> B:
        if not isinstance(blob, BytesBlob):
            kind, code = type(blob).__name__, fitting(key, blob, self._blob_class)
            raise InvalidDataError(f"a blob dict takes blobs, not {kind}; write {code}", key=key)
        if not isinstance(blob, self._blob_class):
            raise InvalidDataError(
                f"this dict takes {self._blob_class.__name__}, not {type(blob).__name__}",
                key=key,
            )
        return blob

    def __setitem__(self, key: str, blob: B, /) -> None:
        super().__setitem__(key, blob)

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
