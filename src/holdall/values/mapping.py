"""What the mappings from keys to Python values share: `ValueStore` and the blob dicts."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast, overload

from holdall.arguments import check_type
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    StoreError,
)
from holdall.pieces import join_pieces
from holdall.store import _MISSING as MISSING
from holdall.store import ABSENT, ANY, Can, Expect, Info, Item, LiveItems, LiveValues, Store, pairs_of
from holdall.store import _Missing as Missing

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T")
    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
    # Defaults of type variables are for type checkers here: Python has them from 3.13 on.
    V = TypeVar("V")


class ValueMapping(MutableMapping[str, V]):
    """A mapping from keys to Python values, kept in a store as bytes.

    A subclass says in `_encode` and `_decode` how values become bytes and values again.

    A mapping equals only itself, since a comparison of contents would read every value.

    Args:
        store: Where the bytes are. It stays open when the mapping is closed.
    """

    _uses_types = True
    """Whether `_decode` asks for the media type of a value."""

    def __init__(self, store: Store) -> None:
        check_type(store, Store, f"{type(self).__name__} must be given a store")
        self._store = store
        self._owned: Store | None = None

    @property
    def store(self) -> Store:
        """The store of the values, with its layers: it has the same keys, and their values as bytes."""
        return self._store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({repr(self._store) if hasattr(self, '_store') else '...'})"

    def close(self) -> None:
        """Close the store, if this mapping opened it."""
        if self._owned is not None:
            self._owned.close()
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encode(self, key: str, value: Any) -> tuple[bytes, str | None]:
        """Return the bytes of a value, and the media type to keep with them; None keeps none.

        Raises:
            SerializationError: The value can't be written so that it comes back.
        """
        raise NotImplementedError

    def _decode(self, key: str, data: bytes, media_type: str | None) -> V:
        """Return the value of bytes; `media_type` is None in a store that doesn't keep it."""
        raise NotImplementedError

    def _place(self, key: str, data: bytes, media_type: str | None, expect: Expect = ANY) -> Info:
        """Put the bytes of a value."""
        return self._store.put(key, data, expect=expect, content_type=media_type)

    @cached_property
    def _keeps_types(self) -> bool:
        """Whether the store keeps media types; cached, since the look takes as long as a put in memory."""
        return self._uses_types and Can.ATTRIBUTES in self._store.can

    def _find(self, key: str) -> V | Missing:
        """Return the value, or `MISSING`."""
        if not self._keeps_types:
            data = self._store.get(key, MISSING)
            return data if isinstance(data, Missing) else self._decode(key, data, None)
        found = self._read(key)
        return MISSING if found is None else self._decode(key, found[1], found[0].content_type)

    def _read(self, key: str, to_pop: bool = False) -> tuple[Info, bytes] | None:
        """Return the `Info` of a blob and its bytes, both of the same version."""
        store = self._store
        key = store._checked(key)
        try:
            if to_pop:
                store._takes_exactly("pop")
            return read_whole(store, key)
        except BlobNotFoundError:
            return None
        except StoreError as error:
            error.key = key
            raise

    def _take(self, key: str, decode: Callable[[str, bytes, str | None], V] | None = None) -> V | Missing:
        """Delete a value and return it, or `MISSING`."""
        store, decode = self._store, decode or self._decode
        while (found := self._read(key, to_pop=True)) is not None:
            info, data = found
            # Before the delete: bytes that can't be read stay where they are.
            value = decode(key, data, info.content_type if self._keeps_types else None)
            try:
                store.delete(key, expect=info.etag if Can.CONDITIONAL_DELETE in store.can else ANY)
            except ConcurrencyError:
                continue
            return value
        return MISSING

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

    def __getitem__(self, key: str, /) -> V:
        value = self._find(key)
        if isinstance(value, Missing):
            raise BlobNotFoundError(key=key)
        return value

    @overload
    def get(self, key: str, /) -> V | None: ...
    @overload
    def get(self, key: str, /, default: V) -> V: ...
    @overload
    def get(self, key: str, /, default: T) -> V | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """Return the value, or the default where there is none."""
        value = self._find(key)
        return default if value is MISSING else value

    def __setitem__(self, key: str, value: V, /) -> None:
        data, media_type = self._encode(key, value)
        self._place(key, data, media_type)

    def __delitem__(self, key: str, /) -> None:
        del self._store[key]

    @overload
    def pop(self, key: str, /) -> V: ...
    @overload
    def pop(self, key: str, /, default: V) -> V: ...
    @overload
    def pop(self, key: str, /, default: T) -> V | T: ...
    def pop(self, key: str, /, default: Any = MISSING) -> Any:
        """Delete a value and return it. Of many callers at once only one gets it, if the store can
        CONDITIONAL_DELETE.

        Raises:
            BlobNotFoundError: There is none, and no default.
        """
        value = self._take(key)
        if value is not MISSING:
            return value
        if default is MISSING:
            raise BlobNotFoundError(key=key)
        return default

    def popitem(self) -> tuple[str, V]:
        """Delete the first value; return its key and the value.

        Raises:
            BlobNotFoundError: There is none.
        """
        while (key := next(iter(self), None)) is not None:
            value = self._take(key)
            if not isinstance(value, Missing):
                return key, value
        raise BlobNotFoundError(f"this {type(self).__name__} is empty")

    def setdefault(self, key: str, default: V, /) -> V:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the value; where there is none, put the default first, atomically if the store can
        CREATE."""
        data, media_type = self._encode(key, default)
        expect = ABSENT if Can.CREATE in self._store.can else ANY
        while isinstance(found := self._find(key), Missing):
            try:
                self._place(key, data, media_type, expect)
            except BlobExistsError:
                continue
            return default
        return found

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        other: Mapping[str, V | Item[V]] | Iterable[tuple[str, V | Item[V]]] = (),
        /,
        **more: V | Item[V],
    ) -> None:
        """Put many values, as `dict.update` takes them: in one round trip, transaction or commit where the
        store has one. A value with a ttl or metadata of its own is an `Item`."""
        values = {**dict(pairs_of(other)), **more}
        encoded: dict[str, tuple[Any, str | None]] = {}
        own: dict[str, Item[Any]] = {}
        for key, value in values.items():
            if isinstance(value, Item):
                own[key] = item = cast("Item[Any]", value)
                value = item.value
            encoded[self._store._checked(key)] = self._encode(key, value)
        types = {media_type for _, media_type in encoded.values()}
        if not own and len(types) <= 1:
            kind = types.pop() if types else None
            self._store.put_many({key: data for key, (data, _) in encoded.items()}, content_type=kind)
        else:
            self._store.put_many({key: _item(key, *each, own.get(key)) for key, each in encoded.items()})

    def clear(self) -> None:
        """Delete every value of this mapping, and nothing else from the folder, repository or server."""
        self._store.clear()

    def values(self) -> ValuesView[V]:
        """Return a view of the values, read one by one as it is iterated."""
        return LiveValues(self)

    def items(self) -> ItemsView[str, V]:
        """Return a view of keys with their values, read one by one as it is iterated."""
        return LiveItems(self)


def _item(key: str, data: Any, media_type: str | None, own: Item[Any] | None) -> Item[Any]:
    if own is None:
        return Item(data, content_type=media_type)
    if media_type is not None and own.content_type is not None:
        raise InvalidArgumentError(f"the value's own content type is {media_type!r}: leave it out", key=key)
    kind = own.content_type if media_type is None else media_type
    return Item(data, ttl=own.ttl, expires=own.expires, content_type=kind, metadata=own.metadata)


def read_whole(store: Store, key: str) -> tuple[Info, bytes]:
    """Return the `Info` of a blob and its bytes, both of the same version; the key is checked already.

    Raises:
        BlobNotFoundError: There is none.
    """
    info, pieces = store._read(key, 0, None)
    return info, join_pieces(pieces)
