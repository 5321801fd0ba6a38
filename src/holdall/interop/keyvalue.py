"""A store of py-key-value over any store, and the other way round (https://strawgate.com/py-key-value/)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Any

from holdall.aio.store import AsyncStore
from holdall.arguments import check_count
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    MissingDependencyError,
    UnsupportedOperation,
)
from holdall.interop.loading import missing, open_store
from holdall.keys import escape, unescape
from holdall.store import Can, Store

try:
    from key_value.aio.errors import DeserializationError
    from key_value.aio.stores.base import (
        BaseContextManagerStore,
        BaseCullStore,
        BaseDestroyCollectionStore,
        BaseDestroyStore,
        BaseEnumerateCollectionsStore,
        BaseEnumerateKeysStore,
        ManagedEntry,
    )

    from holdall.interop.entries import KeyValueStore
except ImportError as error:
    raise MissingDependencyError(missing("keyvalue", "py-key-value-aio")) from error

__all__ = ["HoldallKeyValue", "KeyValueStore"]

_LONGEST = 200
"""The longest segment of a key that holds a name as it is, in UTF-8 bytes. File systems take 255."""
_SHORTENED = "%-"
"""What `escape` never writes: the mark of a name that is cut, and followed by its digest."""
_BATCH = 256
_SOON = 0.001
"""What is left to live, in seconds, at the least: no store takes a moment that is past."""


class HoldallKeyValue(
    BaseEnumerateKeysStore,
    BaseEnumerateCollectionsStore,
    BaseDestroyCollectionStore,
    BaseDestroyStore,
    BaseCullStore,
    BaseContextManagerStore,
):
    """A store of py-key-value, an `AsyncKeyValue`, that keeps its entries in any store.

    An entry is one blob, `COLLECTION/KEY`, of the JSON that py-key-value's own stores write. Both names are
    escaped by `holdall.keys.escape`; those of more than 200 bytes are cut, and a digest makes them unique.
    `put_many` and `delete_many` are one transaction where the store has such.

    An expired entry is absent for every call. A store that `can` EXPIRE removes it by itself; elsewhere
    `cull` does, and `keys` reads each entry of the collection to know which have expired. `destroy` deletes
    every blob of the store: give it a folder, `store / "cache"`, if there are others.

    Args:
        store: The store, or its `aio`, or a URI, a path or a name of `holdall.toml` to open one. A store that
            is passed in stays open when this one is closed.
        default_collection: As for each store of py-key-value.
        seed: As for each store of py-key-value.

    Raises:
        MissingDependencyError: py-key-value isn't installed (raised where this module is imported).

    >>> import asyncio, holdall
    >>> from holdall.interop.keyvalue import HoldallKeyValue
    >>> store = holdall.MemoryStore()
    >>> async def main():
    ...     entries = HoldallKeyValue(store)
    ...     await entries.put("ada", {"age": 36}, collection="users", ttl=60)
    ...     return await entries.get("ada", collection="users")
    >>> asyncio.run(main())
    {'age': 36}
    >>> list(store)
    ['users/ada']
    """

    def __init__(
        self,
        store: Store | AsyncStore | str | os.PathLike[str],
        *,
        default_collection: str | None = None,
        seed: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    ) -> None:
        owned = not isinstance(store, Store | AsyncStore)
        self._aio = store if isinstance(store, AsyncStore) else open_store(store, "HoldallKeyValue").aio
        self._expires: bool | None = None
        super().__init__(
            client_provided_by_user=not owned,
            default_collection=default_collection,
            seed=seed,
            stable_api=True,
        )
        if owned:
            self._exit_stack.push_async_callback(self._aio.close)

    @property
    def store(self) -> Store:
        """The store that holds the entries."""
        return self._aio.store

    def __repr__(self) -> str:
        return f"HoldallKeyValue({self.store!r})"

    async def close(self) -> None:
        """Close the store, if it was opened here."""
        # Otherwise a store that wasn't used would stay open.
        await self._ensure_exit_stack_entered()
        await super().close()

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        name = _name(collection, key)
        data = await self._aio.get(name)
        return None if data is None else self._load(name, data)

    async def _get_managed_entries(
        self, *, collection: str, keys: Sequence[str]
    ) -> list[ManagedEntry | None]:
        names = [_name(collection, key) for key in keys]
        found = await self._aio.get_many(names)
        entries = {name: self._load(name, data) for name, data in found.items()}
        return [entries.get(name) for name in names]

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: ManagedEntry) -> None:
        data = self._dump(collection, key, managed_entry)
        await self._aio.put(_name(collection, key), data, ttl=await self._time_left(managed_entry))

    async def _put_managed_entries(
        self,
        *,
        collection: str,
        keys: Sequence[str],
        managed_entries: Sequence[ManagedEntry],
        ttl: float | None,
        created_at: datetime,
        expires_at: datetime | None,
    ) -> None:
        pairs = zip(keys, managed_entries, strict=True)
        data = {_name(collection, key): self._dump(collection, key, entry) for key, entry in pairs}
        if data:
            await self._aio.put_many(data, ttl=await self._time_left(managed_entries[0]))

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        if await self._is_expiring():
            return await self._aio.delete(_name(collection, key))
        return await self._delete_managed_entries(keys=[key], collection=collection) == 1

    async def _delete_managed_entries(self, *, keys: Sequence[str], collection: str) -> int:
        names = [_name(collection, key) for key in keys]
        if await self._is_expiring():
            return await self._aio.delete_many(names)

        def delete() -> int:
            # An expired one is absent already; `cull` removes it.
            found = self.store.iterate_many(dict.fromkeys(names))
            return self.store.delete_many([name for name, data in found if not self._has_expired(name, data)])

        return await self._aio.run(delete)

    async def _get_collection_keys(self, *, collection: str, limit: int | None = None) -> list[str]:
        _check_limit(limit)
        await self._is_expiring()
        return await self._aio.run(lambda: [*islice(self._list_keys(_segment(collection) + "/"), limit)])

    async def _get_collection_names(self, *, limit: int | None = None) -> list[str]:
        _check_limit(limit)
        return await self._aio.run(lambda: [*islice(self._list_collections(), limit)])

    async def _delete_collection(self, *, collection: str) -> bool:
        return await self._aio.delete_prefix(_segment(collection) + "/") > 0

    async def _delete_store(self) -> bool:
        await self._aio.clear()
        return True

    async def _cull(self) -> None:
        if not await self._is_expiring():
            await self._aio.run(self._delete_expired)

    def _list_keys(self, folder: str) -> Iterator[str]:
        names = (name for name in self.store.iterate_keys(folder) if "/" not in name[len(folder) :])
        while batch := [*islice(names, _BATCH)]:
            unclear = [name for name in batch if not self._expires or _SHORTENED in name[len(folder) :]]
            found = self.store.get_many(unclear) if unclear else {}
            for name in batch:
                data = found.get(name)
                if data is None and name in unclear:
                    continue  # deleted meanwhile
                if data is None or not self._has_expired(name, data):
                    yield from self._text_of(name[len(folder) :], "key", name, data)

    def _list_collections(self) -> Iterator[str]:
        for child in self.store.children():
            if isinstance(child, str):
                if _SHORTENED not in child:
                    yield from self._text_of(child[:-1], "collection", child, None)
                    continue
                for name in self.store.iterate_keys(child):
                    data = self.store.get(name)
                    if data is not None:  # else it was deleted meanwhile
                        yield from self._text_of(child[:-1], "collection", name, data)
                        break

    def _text_of(self, segment: str, kind: str, name: str, data: bytes | None) -> Iterator[str]:
        """Yield the collection or key that a segment stands for; nothing for what others keep there."""
        if _SHORTENED in segment:
            try:
                text = json.loads(data or b"")[kind]
            except (ValueError, TypeError, LookupError, RecursionError) as error:
                raise _damage_error(name, error) from error
            if isinstance(text, str) and _segment(text) == segment:
                yield text
            return
        try:
            yield unescape(segment)
        except InvalidArgumentError:
            return

    def _delete_expired(self) -> None:
        store = self.store
        store._need(Can.DELETE, "cull")
        if Can.CONDITIONAL_DELETE not in store.can:
            raise UnsupportedOperation(
                f"{store!r} can't delete by ETag, so that cull could delete an entry that is new"
            )
        for name, data in store.iterate_many(store.iterate_keys()):
            if self._has_expired(name, data):
                try:
                    info, data = store.read(name)
                    if self._has_expired(name, data):
                        store.delete(name, expect=info.etag)
                except (BlobNotFoundError, ConcurrencyError):
                    continue

    async def _is_expiring(self) -> bool:
        """Return whether the store removes what has expired. A store behind a server may have to ask it."""
        if self._expires is None:
            self._expires = await self._aio.run(lambda: Can.EXPIRE in self.store.can)
        return self._expires

    async def _time_left(self, entry: ManagedEntry) -> float | None:
        """Return the ttl of a blob."""
        if entry.ttl is None or not await self._is_expiring():
            return None
        return max(entry.ttl, _SOON)

    def _dump(self, collection: str, key: str, entry: ManagedEntry) -> bytes:
        return self._serialization_adapter.dump_json(entry, key=key, collection=collection).encode()

    def _load(self, name: str, data: bytes) -> ManagedEntry:
        try:
            entry = self._serialization_adapter.load_json(data.decode())
            _ = entry.is_expired  # compares its time
        except (DeserializationError, TypeError, ValueError, RecursionError) as error:
            raise _damage_error(name, error) from error
        return entry

    def _has_expired(self, name: str, data: bytes) -> bool:
        try:
            return self._load(name, data).is_expired
        except DeserializationError:
            # It is there: a get says what is wrong with it, and a delete removes it.
            return False


def _check_limit(limit: object) -> None:
    if limit is not None and limit != 0:
        check_count(limit, "a limit")


def _damage_error(name: str, error: Exception) -> DeserializationError:
    return DeserializationError(f"the blob {name!r} isn't an entry of py-key-value, or is damaged: {error}")


def _name(collection: str, key: str) -> str:
    return f"{_segment(collection)}/{_segment(key)}"


def _segment(text: str) -> str:
    segment = escape(text)
    if len(segment.encode()) <= _LONGEST:
        return segment
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{segment[:32]}{_SHORTENED}{digest}"
