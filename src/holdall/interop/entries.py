"""A store in any store of py-key-value (https://strawgate.com/py-key-value/)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import chain, islice
from secrets import token_hex
from typing import Any, TypeAlias
from weakref import finalize

from key_value.aio.errors import ReadOnlyError as KeyValueReadOnlyError
from key_value.aio.protocols.key_value import AsyncKeyValueProtocol

from holdall.arguments import check_metadata, check_type
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidTypeError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.interop.looping import Home
from holdall.keys import check_key
from holdall.pieces import regroup
from holdall.ranges import CHUNK, span
from holdall.stopping import current
from holdall.store import Attributes, Body, Can, Expect, Info, LeftOut, Piece, Put, Store, naming

__all__ = ["KeyValueStore"]

_Entry: TypeAlias = tuple[Info, dict[str, Any]]

_SMALL = 1 << 14
_CHUNKS = "-chunks"
_BATCH = 32
_READS = 20
_AHEAD = 4
_PAGE = 10_000
"""How many keys py-key-value's stores list at the most, without a word on the others."""
_LONGER = 1.0
"""Seconds that the medium keeps a blob beyond its time, which is noted in the entry: some round it down."""


class KeyValueStore(Store):
    """Blobs in a store of py-key-value: in its `RedisStore`, `MemoryStore`, `DiskStore` and so on.

    A blob is one entry of a collection: what is known of it, and its bytes as base64. Those of more than
    16 KiB are in entries of their own, in the collection `COLLECTION-chunks`. A writer that is killed may
    leave some there, and so may two that put the same blob at the same time. A blob of more than 4 MiB that
    is replaced while it is read as a stream raises `ConcurrencyError`. py-key-value has no conditions: `can`
    lacks CREATE and SWAP, and LIST where the store doesn't list its keys. The stores that do list 10,000 at
    the most: a listing of exactly that many raises `UnsupportedOperation`, since there may be more.

    The store of py-key-value is made, used and closed in an event loop that all these stores share, on a
    thread; after a fork the child makes another.

    Args:
        make: Makes the store, such as `lambda: RedisStore(url=...)`. This store can be pickled if `make` can,
            with whatever that holds.
        collection: The collection of the blobs.

    Raises:
        MissingDependencyError: py-key-value isn't installed (raised where this module is imported).

    >>> from holdall.interop.keyvalue import KeyValueStore
    >>> from key_value.aio.stores.memory import MemoryStore
    >>> with KeyValueStore(MemoryStore) as store:
    ...     store["logs/a"] = b"1"
    ...     store["logs/a"], list(store)
    (b'1', ['logs/a'])
    """

    def __init__(self, make: Callable[[], AsyncKeyValueProtocol], collection: str = "holdall") -> None:
        if not callable(make):
            raise InvalidTypeError(
                "KeyValueStore takes what makes a store of py-key-value, such as "
                f"lambda: RedisStore(url=...), not {type(make).__name__}: a store belongs to one event loop"
            )
        check_type(collection, str, "a collection must be a str")
        if not collection:
            raise InvalidArgumentError("a collection must have a name")
        self._make, self._collection = make, collection
        self._home = Home(lambda: _make_checked(make))
        finalize(self, Home.drop, self._home).atexit = False

    @cached_property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        can = Can.WRITE | Can.DELETE | Can.RANGE | Can.EXPIRE | Can.BULK | Can.ATTRIBUTES | Can.METADATA
        return can | Can.LIST if self._ask(_enumerates) else can

    def _need(self, flag: Can, call: str) -> None:
        if flag is Can.LIST and not self._closed and flag not in self.can:
            raise UnsupportedOperation(
                f"a KeyValueStore can't {call} here: this store of py-key-value lacks keys(), as all of its "
                "wrappers do, and its stores on disks and in databases"
            )
        super()._need(flag, call)

    def _settings(self) -> dict[str, object]:
        # Two calls of one function may make stores in different places, so that each handle has a token of
        # its own.
        raise UnsupportedOperation("what makes a store of py-key-value doesn't say where that is")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._make, self._collection)

    def __repr__(self) -> str:
        # Not as it is: a `functools.partial` would show a password.
        make = getattr(self, "_make", None)
        return f"{type(self).__name__}({getattr(make, '__qualname__', type(make).__name__)})"

    def _close(self) -> None:
        self._guard(self._home.close)

    def _ask(self, function: Callable[[Any], Any]) -> Any:
        return self._guard(partial(self._home.call, function))

    def _guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except StoreError:
            raise
        except Exception as error:
            raise _failure_of(error) from error

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        for tries in range(1, _READS + 1):
            info, value = self._find_entry(key)
            low, high = span(start, stop, info.size)
            if "data" in value:
                return info, iter((_bytes_of(value, info.size, key)[low:high],))
            pieces = self._chunks(info, value["chunk"], low, high)
            try:
                # Most blobs are read whole here, so that they may be replaced meanwhile.
                ahead = deque(islice(pieces, _AHEAD))
            except ConcurrencyError:
                if tries == _READS:
                    raise
                continue
            return info, _drain(ahead, pieces)
        raise AssertionError("the last try returns or raises")

    def _info(self, key: str) -> Info:
        return self._find_entry(key)[0]

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        return next(self._put_many([(key, body, attributes)]))

    def _delete(self, key: str, expect: Expect) -> bool:
        return self._delete_many([key]) == 1

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (found for found in self._survey(prefix, after) if isinstance(found, Info))

    def _get(self, key: str) -> bytes | None:
        while True:
            try:
                return super()._get(key)
            except ConcurrencyError:
                continue  # replaced meanwhile, or it would be another error

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        listed: list[str] = self._ask(_call_of("keys", self._collection))
        if len(listed) == _PAGE:
            raise UnsupportedOperation(
                f"py-key-value lists at most {_PAGE:,} keys, so that more may be in the collection "
                f"{self._collection!r}: keep the blobs in several collections, or in another store"
            )
        keys = iter(sorted(key for key in listed if key.startswith(prefix) and key > after))
        while batch := [*islice(keys, _BATCH)]:
            for key, value in zip(batch, self._values(batch), strict=True):
                try:
                    info = _info_of(check_key(key), value)
                except (InvalidKeyError, IntegrityError):
                    yield LeftOut(key, "entry that isn't a blob")
                    continue
                if info is not None:
                    yield info

    def _children(self, prefix: str) -> Iterator[str | Info]:
        # Not by a new listing for each folder: each listing is of all keys.
        last = ""
        for info in self._scan(prefix, ""):
            folder = info.key[: info.key.find("/", len(prefix)) + 1]
            if not folder:
                yield info
            elif folder != last:
                last = folder
                yield folder

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        keys = iter(keys)
        while batch := [*islice(keys, _BATCH)]:
            for key, value in zip(batch, self._values(batch), strict=True):
                info = _info_of(key, value)
                if info is not None:
                    data = _bytes_of(value, info.size, key) if "data" in value else self._get(key)
                    if data is not None:
                        yield key, data

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        batch: list[_Entry] = []
        for key, body, attributes in items:
            with naming(key):
                pieces = regroup(body, CHUNK)
                first = next(pieces, b"")
            is_small = len(first) <= _SMALL
            # Those before it are written first if it is large, or has another ttl: `put_many` has one.
            if batch and not (is_small and len(batch) < _BATCH and batch[0][0].expires == attributes.expires):
                yield from self._put_batch(batch)
                batch = []
            if is_small:
                batch.append(_entry(key, len(first), attributes, data=_text_of(first)))
            else:
                with naming(key):
                    entry = self._put_chunks(key, chain((first,), pieces), attributes)
                # At once: if the next one fails, nobody would delete the chunks.
                yield from self._put_batch([entry])
        yield from self._put_batch(batch)

    def _delete_many(self, keys: Iterable[str]) -> int:
        count, keys = 0, iter(keys)
        while batch := [*islice(keys, _BATCH)]:
            # One that has expired may still be there.
            values = zip(batch, self._values(batch), strict=True)
            found = {key: value for key, value in values if _is_alive(key, value)}
            if found:
                count += self._ask(partial(self._drop, found))
        return count

    async def _drop(self, found: Mapping[str, Any], made: AsyncKeyValueProtocol) -> int:
        count = await made.delete_many([*found], collection=self._collection)
        await self._drop_chunks(made, found.values())
        return count

    def _values(self, keys: list[str]) -> list[Any]:
        return self._ask(_call_of("get_many", keys, collection=self._collection))

    def _find_entry(self, key: str) -> tuple[Info, dict[str, Any]]:
        value = self._ask(_call_of("get", key, collection=self._collection))
        info = _info_of(key, value)
        if info is None:
            raise BlobNotFoundError(key=key)
        return info, value

    def _put_batch(self, batch: list[_Entry]) -> Iterator[Info]:
        if not batch:
            return
        keys, values = [info.key for info, _ in batch], [value for _, value in batch]
        ttl, is_sent = _ttl(batch[0][0].expires), False

        async def replace(made: AsyncKeyValueProtocol) -> None:
            nonlocal is_sent
            replaced = await made.get_many(keys, collection=self._collection)
            is_sent = True
            await made.put_many(keys, values, collection=self._collection, ttl=ttl)
            await self._drop_chunks(made, replaced)

        try:
            self._ask(replace)
        except BaseException:
            # If it was sent, it may have happened: the new chunks stay.
            if not is_sent:
                self._give_up(values)
            raise
        for info, _ in batch:
            yield info

    def _put_chunks(self, key: str, pieces: Iterator[Piece], attributes: Attributes) -> _Entry:
        etag, size, count, place = token_hex(8), 0, 0, self._collection + _CHUNKS
        try:
            for piece in pieces:
                size, count = size + len(piece), count + 1
                name, chunk, ttl = f"{etag}/{count - 1}", {"data": _text_of(piece)}, _ttl(attributes.expires)
                self._ask(_call_of("put", name, chunk, collection=place, ttl=ttl))
            return _entry(key, size, attributes, etag=etag, chunk=CHUNK)
        except BaseException:
            self._give_up([{"etag": etag, "size": count * CHUNK, "chunk": CHUNK}])
            raise

    def _chunks(self, info: Info, length: int, low: int, high: int) -> Iterator[Piece]:
        for number in range(low // length, -(-high // length) if high > low else 0):
            name, start = f"{info.etag}/{number}", number * length
            value = self._ask(_call_of("get", name, collection=self._collection + _CHUNKS))
            if value is None:
                if self._find_entry(info.key)[0].etag == info.etag:
                    raise IntegrityError(f"a chunk of the blob is missing: {name!r}", key=info.key)
                raise ConcurrencyError("the blob was replaced while it was read", key=info.key)
            piece = _bytes_of(value, min(length, info.size - start), info.key)
            yield piece[max(low - start, 0) : high - start]

    def _give_up(self, values: Sequence[Any]) -> None:
        """Delete the chunks of entries that weren't put, for an error that is raised then."""
        # A call that was stopped makes this one, too. If it fails, the error before it counts.
        token = current.set(None)
        try:
            with suppress(StoreError):
                self._ask(lambda made: self._drop_chunks(made, values))
        finally:
            current.reset(token)

    async def _drop_chunks(self, made: AsyncKeyValueProtocol, values: Iterable[Any]) -> None:
        for value in values:
            match value:
                case {"etag": str(etag), "size": int(size), "chunk": int(length)} if length > 0:
                    names = (f"{etag}/{number}" for number in range(-(-size // length)))
                    while batch := [*islice(names, _BATCH)]:
                        # An entry that is damaged may name any number of chunks.
                        if not await made.delete_many(batch, collection=self._collection + _CHUNKS):
                            break
                case _:
                    continue


def _make_checked(make: Callable[[], Any]) -> Any:
    store = make()
    if not hasattr(store, "put"):
        what = f"returned {type(store).__name__}, which isn't a store of py-key-value"
        raise InvalidTypeError(f"the function that KeyValueStore was given {what}")
    return store


async def _enumerates(made: Any) -> bool:
    return hasattr(made, "keys")


def _call_of(name: str, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
    return lambda made: getattr(made, name)(*arguments, **options)


def _drain(ahead: deque[Piece], rest: Iterator[Piece]) -> Iterator[Piece]:
    while ahead:
        yield ahead.popleft()
    yield from rest


def _failure_of(error: Exception) -> StoreError:
    if isinstance(error, KeyValueReadOnlyError):
        return ReadOnlyError("the store of py-key-value takes no writes")
    return StoreUnavailableError(f"the store of py-key-value failed: {type(error).__name__}: {error}")


def _ttl(expires: datetime | None) -> float | None:
    """Return how long the medium keeps what expires then."""
    if expires is None:
        return None
    return max((expires - datetime.now(UTC)).total_seconds(), 0.0) + _LONGER


def _entry(key: str, size: int, attributes: Attributes, etag: str = "", **more: Any) -> _Entry:
    now, expires, etag = datetime.now(UTC), attributes.expires, etag or token_hex(8)
    info = Info(key, size, etag, now, attributes.content_type, expires, attributes.metadata)
    value = {"size": size, "etag": etag, "modified": now.isoformat(), **more}
    if attributes.content_type is not None:
        value["content_type"] = attributes.content_type
    if expires is not None:
        value["expires"] = expires.isoformat()
    if attributes.metadata:
        value["metadata"] = dict(attributes.metadata)
    return info, value


def _info_of(key: str, value: Any) -> Info | None:
    """Return the properties of an entry's blob; None if there is none, or it has expired."""
    if value is None:
        return None
    try:
        expires = value.get("expires")
        end = None if expires is None else datetime.fromisoformat(expires)
        if end is not None and end <= datetime.now(UTC):
            return None
        modified, size, etag = datetime.fromisoformat(value["modified"]), value["size"], value["etag"]
        kind, length, metadata = value.get("content_type"), value.get("chunk"), value.get("metadata", {})
        is_whole = isinstance(value.get("data"), str) or (isinstance(length, int) and length > 0)
        is_named = isinstance(etag, str) and etag and isinstance(kind, str | None)
        if not (is_whole and is_named and isinstance(size, int) and size >= 0 and modified.tzinfo):
            raise ValueError("a field is missing, or isn't what holdall writes there")
        return Info(key, size, etag, modified, kind, end, check_metadata(metadata))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(
            f"the entry isn't a blob that holdall put, or is damaged: {error!r}", key=key
        ) from error


def _is_alive(key: str, value: Any) -> bool:
    try:
        return _info_of(key, value) is not None
    except IntegrityError:
        return True


def _text_of(data: Piece) -> str:
    return b64encode(data).decode()


def _bytes_of(value: Any, size: int, key: str) -> bytes:
    try:
        data = b64decode(value["data"], validate=True)
    except (LookupError, TypeError, ValueError) as error:
        raise IntegrityError(f"the bytes of the entry are damaged: {error!r}", key=key) from error
    if len(data) != size:
        raise IntegrityError(f"the entry has {len(data):,} bytes, not {size:,}", key=key)
    return data
