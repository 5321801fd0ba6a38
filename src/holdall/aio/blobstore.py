"""JSON and binary values in a container, with copies and ETags."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar

from holdall.aio.adapters import BlobAdapter
from holdall.aio.container import Container, EtagBehavior
from holdall.aio.store import AsyncStore
from holdall.arguments import check_type
from holdall.errors import (
    InvalidArgumentError,
    InvalidDataError,
    InvalidTypeError,
    SerializationError,
    UnsupportedOperation,
)
from holdall.layers.caching import CacheMode, SyncReport
from holdall.pieces import flatten
from holdall.store import Store
from holdall.values.json import JsonSerializer

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["AsyncBlobStore", "ConcurrencyMode"]

Mode = TypeVar("Mode", bound=enum.Enum)

_SHORT = 1 << 16
"""The bytes of the longest copy that is decoded without a thread."""
_json = JsonSerializer()


class ConcurrencyMode(enum.Enum):
    """Whether an `AsyncBlobStore` notices that another writer changed a blob."""

    NONE = "none"
    """No: the last write stays."""
    ETAG = "etag"
    """Yes: the ETag that was read goes with the write, and a write that lost the race raises
    `ConcurrencyError`."""


class NotJsonError(SerializationError, ValueError):
    """A value can't become JSON, or a blob isn't JSON. As `json` does, it raises a `ValueError`."""


class AsyncBlobStore:
    """JSON values and bytes in a container, by key.

    A key names one blob, whichever call wrote it: `list_keys` returns what `get_json` and `get_binary` take.

    Under `ConcurrencyMode.ETAG` a write or a delete goes with the ETag that this handle last read or wrote
    (or "absent", if it found nothing). If the blob changed since, it raises `ConcurrencyError` and changes
    nothing; read the blob again, then decide. A key that this handle has never read or written has nothing to
    compare with, and is replaced. Tasks that share a handle share what it knows; for tasks that compete, make
    a handle each.

    Args:
        adapter: Where the containers are: a `LocalFileAdapter`, an `AzureBlobAdapter`, or a `StoreAdapter`
            for any store or URI.
        container_name: The container's name. A container that is a folder is made by the first write.
        cache_mode: `NONE` reads and writes the container; `WRITE_THROUGH` also keeps what was read or written
            in memory, and reads it from there; `WRITE_BACK` keeps writes and deletes in memory until `sync`,
            `close` or the end of `async with`. A copy in memory is never checked against the container: call
            `forget(key)` to read a blob anew.
        concurrency_mode: As above. The value of a member, such as `"etag"`, works too.

    Raises:
        InvalidArgumentError: A container can't have this name, or a mode isn't one of those known.

    >>> import asyncio
    >>> from holdall import AsyncBlobStore, MemoryStore, StoreAdapter
    >>> async def main():
    ...     async with AsyncBlobStore(StoreAdapter(MemoryStore()), "demo") as store:
    ...         await store.set_json("config", {"seen": {64}})
    ...         return await store.get_json("config"), await store.list_keys()
    >>> asyncio.run(main())
    ({'seen': {64}}, ['config'])
    """

    def __init__(
        self,
        adapter: BlobAdapter,
        container_name: str,
        cache_mode: CacheMode | Literal["none", "write-through", "write-back"] = CacheMode.NONE,
        concurrency_mode: ConcurrencyMode | Literal["none", "etag"] = ConcurrencyMode.NONE,
    ) -> None:
        if not hasattr(adapter, "get_container"):
            raise InvalidTypeError(
                "the adapter must be one such as LocalFileAdapter('data') or StoreAdapter(store_or_uri), not "
                f"{type(adapter).__name__}"
            )
        self._cache_mode = _member(CacheMode, cache_mode, "cache_mode")
        self._concurrency_mode = _member(ConcurrencyMode, concurrency_mode, "concurrency_mode")
        store = adapter.get_container(container_name)
        check_type(store, Store, "an adapter's get_container must return a Store")
        self._name = container_name
        self._adapter = adapter
        self._aio = AsyncStore(store)
        compares = self._concurrency_mode is ConcurrencyMode.ETAG
        self._container = Container(store, self._cache_mode, compares)

    @property
    def cache_mode(self) -> CacheMode:
        """How memory is used."""
        return self._cache_mode

    @property
    def concurrency_mode(self) -> ConcurrencyMode:
        """Whether writes compare ETags."""
        return self._concurrency_mode

    async def set_json(self, key: str, value: Any) -> None:
        """Store a value as JSON. Dicts, lists, tuples, sets, datetimes, dates, UUIDs, Decimals, bytes and
        what else `JsonSerializer` lists come back equal and of their type.

        The value is encoded before this first waits, so changing it later changes nothing here.

        Raises:
            ConcurrencyError: The blob changed since this handle read it (`ConcurrencyMode.ETAG`).
            SerializationError: JSON can't hold the value; it is a `ValueError` too.
        """
        key = self._container.checked(key)
        try:
            data = b"".join(_json.encode(value))
        except SerializationError as error:
            raise NotJsonError(error.message, key=key) from error
        await self._set(key, data, _json.media_type)

    async def get_json(self, key: str) -> Any:
        """Return a JSON value: a new object at each call.

        Raises:
            BlobNotFoundError: No blob has this key.
            SerializationError: The blob isn't JSON; it is a `ValueError` too.
        """
        data = self._container.recall(key)
        if data is not None and len(data) <= _SHORT:
            return _decode_json(key, data)
        return await self._aio.run(lambda: _decode_json(key, self._container.read(key)))

    async def set_binary(self, key: str, data: Buffer) -> None:
        """Store bytes, or any other buffer.

        Raises:
            ConcurrencyError: The blob changed since this handle read it (`ConcurrencyMode.ETAG`).
            InvalidDataError: The data aren't bytes.
        """
        key = self._container.checked(key)
        if type(data) is not bytes:
            view = flatten(data)
            if view is None:
                raise InvalidDataError(
                    f"set_binary takes bytes or another buffer, not {type(data).__name__}; set_json takes "
                    "other values",
                    key=key,
                )
            data = bytes(view)
        await self._set(key, data, None)

    async def get_binary(self, key: str) -> bytes:
        """Return the bytes of a blob.

        Raises:
            BlobNotFoundError: No blob has this key.
        """
        data = self._container.recall(key)
        if data is None:
            data = await self._aio.run(self._container.read, key)
        return data

    async def exists(self, key: str) -> bool:
        """Return whether a blob has this key."""
        return await self._aio.run(self._container.exists, key)

    async def delete(self, key: str) -> bool | None:
        """Delete a blob. Return whether it was there, or None where the container wasn't asked: with
        `WRITE_BACK` the delete waits for a sync.

        Raises:
            ConcurrencyError: The blob changed since this handle read it (`ConcurrencyMode.ETAG`).
        """
        if not self._container.defers:
            return await self._aio.run(self._container.delete, key)
        there = self._container.knows(key)
        self._container.record(key, None)
        return there

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the keys that start with a string, in their order; with `WRITE_BACK`, as they will be after
        the sync."""
        return await self._aio.run(self._container.keys, prefix)

    async def sync(self, etag_behavior: EtagBehavior = "skip") -> SyncReport:
        """Bring the changes of `WRITE_BACK` to the container, several at once; in other modes there are none.
        The failure of one key doesn't stop the others.

        Args:
            etag_behavior: What to do with a blob that changed since this handle read it
                (`ConcurrencyMode.ETAG`): `"skip"` keeps the change in memory, logs a warning, and lists the
                key in `report.conflicts`; `"overwrite"` replaces the blob; `"raise"` keeps the change, and
                raises after the others are done.

        Raises:
            SyncConflictError: There are such blobs, and `etag_behavior` is `"raise"`. It is a
                `ConcurrencyError`.
            PartialWriteError: Some changes failed for another reason; they are kept for the next sync.
        """
        return await self._aio.run(self._container.sync, etag_behavior)

    def dirty(self) -> dict[str, Literal["put", "delete"]]:
        """Return the changes that wait for a sync: for each key the kind of change."""
        return self._container.changes()

    def forget(self, key: str) -> bool:
        """Forget what this handle knows of a key: its copy, its ETag, and a change that waits for a sync.
        The next read goes to the container. Return whether there was such a change, which is lost."""
        return self._container.forget(key)

    async def close(self) -> None:
        """Sync with `"skip"`, then close.

        Raises:
            PartialWriteError: Some changes weren't uploaded. The store stays open, with these changes.
        """
        await self._aio.run(self._container.close)

    async def __aenter__(self) -> Self:
        self._container.need_open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.close()
        else:
            # The changes may be half of what belongs together: they aren't uploaded. A cancelled task may not
            # come to the end of the next `await`, so the warning comes first.
            self._container.abandon()
            await self._aio.close()

    def __repr__(self) -> str:
        return f"AsyncBlobStore({f'{self._adapter!r}, {self._name!r}' if hasattr(self, '_name') else '...'})"

    def __reduce__(self) -> NoReturn:
        raise UnsupportedOperation(
            "an AsyncBlobStore keeps what it read, and is never pickled; make one in each process"
        )

    async def _set(self, key: str, data: bytes, content_type: str | None) -> None:
        if self._container.defers:
            self._container.record(key, data, content_type)
        else:
            await self._aio.run(self._container.put, key, data, content_type)


def _decode_json(key: str, data: bytes) -> Any:
    try:
        return _json.decode(data)
    except SerializationError as error:
        raise NotJsonError(error.message, key=key) from error


def _member(kind: type[Mode], value: object, what: str) -> Mode:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(each.value) for each in kind)
        raise InvalidArgumentError(
            f"{what} must be a {kind.__name__} or one of {known}, not {value!r}"
        ) from None
