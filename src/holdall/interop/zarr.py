"""A store of zarr over any store (Zarr storage, https://zarr.readthedocs.io/en/stable/user-guide/storage/)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from holdall.errors import BlobExistsError, BlobNotFoundError, InvalidKeyError, MissingDependencyError
from holdall.interop.loading import missing, open_store
from holdall.layers.layer import Layer
from holdall.ranges import CHUNK
from holdall.store import ABSENT, ANY, Can, Expect, Info, Store

try:
    from zarr.abc.store import (
        ByteRequest,
        OffsetByteRequest,
        RangeByteRequest,
        SuffixByteRequest,
    )
    from zarr.abc.store import Store as ZarrBase
    from zarr.core.buffer import Buffer, default_buffer_prototype
except ImportError as error:
    raise MissingDependencyError(missing("zarr")) from error

if TYPE_CHECKING:
    from zarr.core.buffer import BufferPrototype

__all__ = ["ZarrStore"]

T = TypeVar("T")

_LONG = 0.001
"""A call of a near store that takes longer, in seconds, was one that waits: for a disk, or for a writer."""
_ON_THREADS = 32
"""How many calls go to threads after such a one, before the next try."""


class ZarrStore(ZarrBase):
    """A store of zarr 3 that keeps its chunks and metadata in any store.

    zarr's groups and arrays take it wherever they take a store. Each chunk is written whole or not at all. A
    key that zarr asks for and that no store can have, such as one of more than 1,024 bytes, is absent.

    Args:
        store: The store, or a URI, a path or a name of `holdall.toml` to open one. A store that is passed in
            stays open when this one is closed.
        read_only: Whether to refuse writes. A store that can't be written to refuses them anyway.

    Raises:
        MissingDependencyError: zarr isn't installed (raised where this module is imported).

    >>> import holdall, zarr
    >>> from holdall.interop.zarr import ZarrStore
    >>> store = holdall.MemoryStore()
    >>> array = zarr.create_array(ZarrStore(store), shape=(4,), chunks=(2,), dtype="i4")
    >>> array[:] = 7
    >>> sorted(store)
    ['c/0', 'c/1', 'zarr.json']
    """

    def __init__(self, store: Store | str | os.PathLike[str], *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self._owned = not isinstance(store, Store)
        self.store: Store = open_store(store, "ZarrStore")
        self._aio = self.store.aio
        self._on_threads = 0
        self._writes_here = self._is_near and not _holds_writers_up(self.store)
        # Layers such as a cache write when they are read.
        self._reads_here = self._writes_here or (self._is_near and not isinstance(_bare(self.store), Layer))

    def _call(self, here: bool, name: str, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """Begin a call of the store, or of its async face.

        A near store, such as one in files, answers in less time than it takes to hand the call to a thread.
        So it is called in the event loop; once such a call takes long, the next ones go to threads, side by
        side, and the loop goes on meanwhile. So do calls that may wait for another writer (`here` is False).
        """
        if here:
            if self._on_threads <= 0:  # below, if two threads count at the same time
                return self._call_here(getattr(self.store, name), *arguments, **options)
            self._on_threads -= 1
        return getattr(self._aio, name)(*arguments, **options)

    async def _call_here(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        begin = perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            if perf_counter() - begin > _LONG:
                self._on_threads = _ON_THREADS

    @property
    def _is_near(self) -> bool:
        return self.store.inline or self.store._near

    @property
    def _supports_sync_io(self) -> bool:
        """Whether zarr's `FusedCodecPipeline` may read and write chunks one after the other, on a thread for
        each core. From a server they come side by side."""
        return self._is_near

    @property
    def read_only(self) -> bool:
        return self._read_only or not self.supports_writes

    # Asked for at each write: a look into a flag takes longer than the rest of what is checked.
    @cached_property
    def supports_writes(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Can.WRITE in self.store.can

    @property
    def supports_deletes(self) -> bool:
        return Can.DELETE in self.store.can

    @property
    def supports_listing(self) -> bool:
        return Can.LIST in self.store.can

    def with_read_only(self, read_only: bool = False) -> ZarrStore:
        return type(self)(self.store, read_only=read_only)

    def __eq__(self, value: object) -> bool:
        return isinstance(value, ZarrStore) and self.store.same_place(value.store)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"ZarrStore({self.store!r})"

    __str__ = __repr__

    def close(self) -> None:
        super().close()
        if self._owned:
            self.store.close()

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if not self._is_open:
            await self._open()
        try:
            if byte_range is None:
                data = await self._call(self._reads_here, "get", key)
            else:
                data = await self._call(self._reads_here, "get_range", key, *_slice(byte_range))
            return _buffer(data, prototype)
        except (BlobNotFoundError, InvalidKeyError):
            return None

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        try:
            if byte_range is None:
                return _buffer(self.store.get(key), prototype)
            return _buffer(self.store.get_range(key, *_slice(byte_range)), prototype)
        except (BlobNotFoundError, InvalidKeyError):
            return None

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        wanted = [*key_ranges]
        parts: dict[str, list[int]] = {}
        for number, (key, found) in enumerate(wanted):
            if found is not None:
                parts.setdefault(key, []).append(number)
        values: list[Buffer | None] = [None] * len(wanted)

        async def get_whole(number: int) -> None:
            values[number] = await self.get(wanted[number][0], prototype)

        async def get_parts(key: str, numbers: list[int]) -> None:
            ranges = [_slice(cast("ByteRequest", wanted[number][1])) for number in numbers]
            with suppress(BlobNotFoundError, InvalidKeyError):
                # Of one version, and from a bucket side by side.
                found = await self._call(self._reads_here, "get_ranges", key, ranges)
                for number, data in zip(numbers, found, strict=True):
                    values[number] = _buffer(data, prototype)

        whole = (get_whole(number) for number, (_, found) in enumerate(wanted) if found is None)
        await asyncio.gather(*whole, *(get_parts(key, numbers) for key, numbers in parts.items()))
        return values

    async def get_ranges(
        self,
        key: str,
        byte_ranges: Sequence[ByteRequest | None],
        *,
        prototype: BufferPrototype,
        **limits: int,
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Yield all ranges at once, of one version; what zarr 3.2 and later read a shard by.

        How near ranges are read together, and how many at once, is the store's to know, whatever the limits.
        """
        found = await self.get_partial_values(prototype, [(key, wanted) for wanted in byte_ranges])
        if any(data is None for data in found):
            raise BaseExceptionGroup("a range can't be read", [FileNotFoundError(key)])
        yield [*enumerate(found)]

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        async def one(
            key: str, prototype: BufferPrototype, found: ByteRequest | None
        ) -> tuple[str, Buffer | None]:
            return key, await self.get(key, prototype, found)

        for pair in await asyncio.gather(*(one(*request) for request in requests)):
            yield pair

    async def exists(self, key: str) -> bool:
        with suppress(InvalidKeyError):
            return await self._call(self._reads_here, "exists", key)
        return False

    async def getsize(self, key: str) -> int:
        try:
            return (await self._aio.info(key)).size
        except InvalidKeyError as error:
            raise BlobNotFoundError("no store can have this key", key=key) from error

    async def getsize_prefix(self, prefix: str) -> int:
        return sum([info.size async for info in self._aio.list(_folder(prefix))])

    def list(self) -> AsyncIterator[str]:
        return self._aio.iterate_keys()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        return self._aio.iterate_keys(prefix)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        folder = _folder(prefix)
        blobs: set[str] = set()
        async for child in self._aio.children(folder):
            if not isinstance(child, str):
                blobs.add(child.key)
                yield child.key.removeprefix(folder)
            elif child[:-1] not in blobs:
                yield child.removeprefix(folder)[:-1]

    async def set(self, key: str, value: Buffer) -> None:
        if not self._is_open:
            await self._open()
        self._check_writable()
        if self._writes_here:
            await self._put(key, _bytes(value), ANY)
        else:
            await self._aio.put(key, _bytes(value))

    def _put(self, key: str, data: bytes, expect: Expect) -> Awaitable[Info]:
        return self._call(self._writes_here and len(data) <= CHUNK, "put", key, data, expect=expect)

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()
        self.store.put(key, _bytes(value))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if Can.CREATE not in self.store.can:
            # zarr's own way: two writers at the same time may both write.
            await super().set_if_not_exists(key, value)
            return
        self._check_writable()
        with suppress(BlobExistsError):
            await self._put(key, _bytes(value), ABSENT)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        self._check_writable()
        await self._aio.put_many({key: _bytes(value) for key, value in values})

    async def delete(self, key: str) -> None:
        self._check_writable()
        with suppress(InvalidKeyError):
            await self._call(self._writes_here, "delete", key)

    def delete_sync(self, key: str) -> None:
        self._check_writable()
        with suppress(InvalidKeyError):
            self.store.delete(key)

    async def delete_dir(self, prefix: str) -> None:
        self._check_writable()
        if prefix:
            await self._aio.delete_prefix(_folder(prefix))
        else:
            await self._aio.clear()

    async def clear(self) -> None:
        self._check_writable()
        await self._aio.clear()


def _bare(store: Store) -> Store:
    """Return the store below the layers that only pass calls on, such as that of a prefix."""
    while isinstance(store, Layer) and vars(type(store)).get("_passes", False):
        (store,) = store._below
    return store


def _holds_writers_up(store: Store) -> bool:
    """Return whether others may wait for a writer for as long as it writes many blobs in one transaction."""
    if isinstance(store, Layer):
        return any(map(_holds_writers_up, store._below))
    return not store.inline and Can.BULK in store.can


def _buffer(data: bytes | None, prototype: BufferPrototype | None) -> Buffer | None:
    if data is None:
        return None
    return (prototype or default_buffer_prototype()).buffer.from_bytes(data)


def _bytes(value: Buffer) -> bytes:
    if not isinstance(value, Buffer):
        raise TypeError(f"zarr's stores take a Buffer of zarr, not {type(value).__name__}")
    # Chunks are small, and a put of bytes is the shortest.
    return value.to_bytes()


def _slice(request: ByteRequest) -> tuple[int, int | None]:
    match request:
        case RangeByteRequest(start, end):
            return start, end
        case OffsetByteRequest(offset):
            return offset, None
        case SuffixByteRequest(0):
            return 0, 0
        case SuffixByteRequest(suffix):
            return -suffix, None
        case _:
            raise TypeError(f"Unexpected byte_range, got {request!r}.")


def _folder(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"
