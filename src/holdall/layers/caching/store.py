"""A cache in front of a slower store."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Literal, TypeVar

from holdall.arguments import check_choice, check_count
from holdall.errors import (
    ConcurrencyError,
    InvalidArgumentError,
    PartialWriteError,
    StoreError,
    UnsupportedOperation,
)
from holdall.keys import check_key, check_prefix
from holdall.layers.caching.checks import refuse_records, refuse_same_place, refuse_swapped
from holdall.layers.caching.copies import CacheStats, Copies, clean_name
from holdall.layers.caching.sync import Conflicts, SyncReport, synchronise
from holdall.layers.caching.writeback import WriteBack
from holdall.layers.caching.writethrough import WriteThrough
from holdall.layers.layer import Layer, Transparent, pass_on
from holdall.store import Can, Store

T = TypeVar("T")

_LONGEST = 10**11
"""Seconds: three thousand years."""


class CacheMode(enum.Enum):
    """How a `CachingStore` uses its cache."""

    NONE = "none"
    """Nothing: every call goes to the source."""
    WRITE_THROUGH = "write-through"
    """Reads leave copies; a write is at the source when it returns."""
    WRITE_BACK = "write-back"
    """Reads leave copies; a write is recorded in the cache, and at the source after the next sync."""


class CachingStore(Transparent):
    """A store with copies of its blobs in another, faster one.

    `fresh` chooses how fresh a read is:

    - `"etag"` asks the source at each read whether the copy is still good: never stale, and the body is
      fetched only when it changed.
    - A number of seconds, or a timedelta, serves a copy up to that age without asking.
    - `"immutable"` never asks again, for blobs that are never replaced.

    All handles that share the cache and use the same mode see a write at once. With `CacheMode.NONE` the
    cache isn't touched, so handles that use it may read old copies. A copy that raced a write is never kept.
    Each 128 KiB of a copy are checked by a CRC-32 before they are returned; if a copy is damaged, or the
    cache fails, the read goes to the source, and the fault is logged and counted in `stats()`.

    With `CacheMode.WRITE_BACK`, the cache keeps changes that aren't at the source yet: with a persistent
    cache, a killed process loses nothing, and the next one that opens source and cache in this mode
    continues. In this mode a failing cache is an error, because the source may hold older blobs. A blob's
    ETag changes once when it is uploaded.

    A cache belongs to one source. To share one store among several caches, give each a folder:
    `cache / "photos"`. While a write-back handle has recorded a change that isn't at the source yet, no other
    mode opens the cache, and a write-through handle that is open already refuses to change that blob
    (`StoreUnavailableError`): call `sync` first.

    Args:
        store: The source.
        cache: Where the copies are kept; other keys in it are left alone.
        mode: How the cache is used; the value of a member, such as `"write-back"`, works too.
        fresh: As above.
        max_bytes: The most bytes that the copies may take; the least recently used are removed first, in an
            order that outlives a restart except for the last 256 uses before a kill. Several processes that
            share a cache may each exceed the limit by a sixteenth and one blob until they count again.
            Changes that wait for a sync count, but are never removed; the order itself, some 40 bytes a
            copy, doesn't count. None means no limit.
        sync_on_close: Whether closing a write-back store uploads the recorded changes; those that fail stay
            recorded, and a `PartialWriteError` names them.
        jobs: The number of blobs that a sync uploads at once.

    Raises:
        InvalidArgumentError: An argument can't be right; the cache is the same place as the source, or lies
            inside it; source and cache seem to be swapped, since the cache holds blobs that no cache wrote
            and the source is empty; or the cache has changes that wait for a sync in another mode.
        UnsupportedOperation: The cache can't do what this needs: WRITE and DELETE always, LIST for a bound
            or write-back, CREATE, SWAP and CONDITIONAL_DELETE for write-back and all but `fresh="etag"`.

    >>> from holdall import MemoryStore
    >>> source, cache = MemoryStore({"a": b"1"}), MemoryStore()
    >>> with CachingStore(source, cache) as store:
    ...     store["a"], store["a"], store.stats().hits
    (b'1', b'1', 1)
    """

    def __init__(
        self,
        store: Store,
        cache: Store,
        mode: CacheMode | Literal["none", "write-through", "write-back"] = CacheMode.WRITE_THROUGH,
        *,
        fresh: float | timedelta | Literal["etag", "immutable"] = "etag",
        max_bytes: int | None = None,
        sync_on_close: bool = True,
        jobs: int = 8,
    ) -> None:
        Layer.__init__(self, store, cache)
        refuse_same_place(store, cache)
        self._mode = _mode(mode)
        self._fresh = _freshness(fresh)
        if max_bytes is not None:
            check_count(max_bytes, "max_bytes")
        check_count(jobs, "jobs")
        self._max_bytes, self._sync_on_close, self._jobs = max_bytes, bool(sync_on_close), jobs
        self._source, self._cache = store, cache
        self._narrow = type(store)._checked is not Store._checked
        self._check_cache()
        refuse_swapped(store, cache)
        if self._mode is not CacheMode.WRITE_BACK:
            refuse_records(cache)
        self._copies = Copies(cache, max_bytes)
        self._back: WriteBack | None = None
        self._store = store
        self._get_short: Callable[[str], bytes | None] | None = None
        if self._mode is not CacheMode.NONE:
            self._store = through = WriteThrough(store, self._copies, self._fresh)
            if self._mode is CacheMode.WRITE_BACK:
                self._store = self._back = WriteBack(through, cache, self._copies)
            elif not through.asks and type(self) is CachingStore:
                self._get_short = through.get_short

    def _check_cache(self) -> None:
        if self._mode is CacheMode.NONE:
            return
        needed = Can.WRITE | Can.DELETE
        if self._max_bytes is not None:
            needed |= Can.LIST
        if self._fresh != "etag":
            needed |= Can.CREATE | Can.SWAP | Can.CONDITIONAL_DELETE
        if self._mode is CacheMode.WRITE_BACK:
            needed |= Can.LIST | Can.CREATE | Can.SWAP | Can.CONDITIONAL_DELETE
        missing = [flag.name or "" for flag in needed & ~self._cache.can]
        if missing:
            name = type(self._cache).__name__
            raise UnsupportedOperation(
                f"as a cache for {self._mode.value} with these options, {name} lacks {', '.join(missing)}"
            )

    @cached_property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._store.can

    def _settings(self) -> dict[str, object]:
        return {
            "store": self._source,
            "cache": self._cache,
            "mode": self._mode,
            "fresh": self._fresh,
            "max_bytes": self._max_bytes,
            "sync_on_close": self._sync_on_close,
            "jobs": self._jobs,
        }

    def stats(self) -> CacheStats:
        """Return counts of what the cache did since this handle was opened.

        >>> from holdall import MemoryStore
        >>> store = CachingStore(MemoryStore({"a": b"four"}), MemoryStore(), fresh="immutable")
        >>> _ = store["a"], store["a"]
        >>> store.stats().misses, store.stats().bytes_from_cache
        (1, 4)
        """
        return self._copies.stats()

    def invalidate(self, key: str | None = None, *, prefix: str | None = None) -> int:
        """Drop copies, so that the source is read again; return their number. Changes that wait for a sync
        stay.

        Args:
            key: The key whose copy to drop; without a key and a prefix, all copies are dropped.
            prefix: Drop the copies of all keys that start with this string.

        Raises:
            StoreError: The cache fails, and old copies may stay.

        >>> from holdall import MemoryStore
        >>> store = CachingStore(MemoryStore({"a": b"1"}), MemoryStore(), fresh="immutable")
        >>> store["a"], store.invalidate("a"), store.invalidate()
        (b'1', 1, 0)
        """
        if key is not None:
            if prefix is not None:
                raise InvalidArgumentError("give a key or a prefix, not both")
            name = clean_name(self._checked(key))
            return int(self._copies.remove(name))
        self._need_open()
        if Can.LIST not in self._cache.can:
            raise UnsupportedOperation(
                f"{type(self._cache).__name__} can't list; call invalidate(key) for each key"
            )
        prefix = check_prefix(prefix)
        count = 0
        for name in list(self._copies.names()):
            if prefix and not (self._copies.key_of(name) or "").startswith(prefix):
                continue
            count += self._copies.remove(name)
        return count

    def dirty(self) -> dict[str, Literal["put", "delete"]]:
        """Return the changes that aren't at the source yet: for each key the kind of change, in key order.

        >>> from holdall import MemoryStore
        >>> store = CachingStore(MemoryStore({"a": b"1"}), MemoryStore(), CacheMode.WRITE_BACK)
        >>> store["b"] = b"2"
        >>> del store["a"]
        >>> store.dirty()
        {'a': 'delete', 'b': 'put'}
        """
        self._need_open()
        return {} if self._back is None else self._back.dirty()

    def sync(self, etag_behavior: Conflicts = "skip") -> SyncReport:
        """Upload the recorded changes, several at once; the failure of one key doesn't stop the others.

        A conflict is a key that changed at the source, to other bytes than ours, since it was read here. The
        last read is that of the copy in the cache, or without one the last read of this handle, which
        remembers about 65,000 keys. A put of a key that was never read here has nothing to compare with, and
        replaces the source's blob.

        Args:
            etag_behavior: What to do with a conflict: `"skip"` leaves it recorded and reports it,
                `"overwrite"` uploads it, `"raise"` leaves it and raises once all others are done.

        Raises:
            SyncConflictError: There are conflicts, and `etag_behavior` is `"raise"`.
            StoreError: The cache fails to list its records.

        >>> from holdall import MemoryStore
        >>> source = MemoryStore()
        >>> store = CachingStore(source, MemoryStore(), "write-back")
        >>> store["a"] = b"1"
        >>> store.sync().uploaded, source["a"]
        (('a',), b'1')
        """
        check_choice(etag_behavior, "etag_behavior", ("skip", "overwrite", "raise"))
        self._need_open()
        return SyncReport() if self._back is None else synchronise(self._back, etag_behavior, self._jobs)

    def _need_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _close(self) -> None:
        if self._copies.recency is not None:
            self._copies.recency.flush()
        if self._back is None or not self._sync_on_close:
            return
        try:
            report = synchronise(self._back, "skip", self._jobs)
        except StoreError as error:
            raise PartialWriteError(
                "the cache failed to list the changes that aren't uploaded yet", failures={"cache": error}
            ) from error
        if not report.clean:
            failures: dict[str, Exception] = dict(report.failures)
            for key in report.conflicts:
                failures[key] = ConcurrencyError("it changed at the source since it was read", key=key)
            named = ", ".join(map(repr, sorted(failures)[:10])) + (", ..." if len(failures) > 10 else "")
            raise PartialWriteError(
                f"{len(failures)} blobs are recorded in the cache and not uploaded: {named}; "
                "open the store again and call sync()",
                failures=failures,
            )

    def _checked(self, key: object) -> str:
        if self._closed:
            raise self._closed_error()
        # Some sources have room for less than others.
        key = self._source._checked(key) if self._narrow else check_key(key)
        if self._get_short is not None:
            # It is the hook from the second call on: the first asks the source whether it may be read, which
            # an encrypted one with another key refuses. A call that passes it on would cost more than all
            # else here. If another thread has closed the store, what `close` left there stays.
            vars(self).setdefault("_get", self._get_short)
        return key

    # The next ones go another way than through the layer of the mode.

    # One by one, since each may be answered without asking the source.
    _get_many = Store._get_many
    _open_read = Store._open_read
    _survey = pass_on("_survey")

    # Whatever the source can, the layer of the mode looks at all keys before it changes one.

    _put_many = pass_on("_put_many")
    _delete_many = pass_on("_delete_many")
    _copy = pass_on("_copy")
    _move = pass_on("_move")


def _mode(mode: object) -> CacheMode:
    try:
        return CacheMode(mode)
    except ValueError:
        known = ", ".join(repr(each.value) for each in CacheMode)
        raise InvalidArgumentError(f"mode must be a CacheMode or one of {known}, not {mode!r}") from None


def _freshness(fresh: object) -> float | Literal["etag", "immutable"]:
    if fresh in ("etag", "immutable"):
        return fresh
    if isinstance(fresh, timedelta):
        fresh = fresh.total_seconds()
    # A longer one is past all clocks, and an int may be too large for a float.
    if isinstance(fresh, bool) or not isinstance(fresh, int | float) or not 0 < fresh <= _LONGEST:
        raise InvalidArgumentError(
            "fresh must be 'etag', 'immutable', or a positive number of seconds (or a timedelta) of at most "
            f"{_LONGEST:,} seconds, not {fresh!r:.50}"
        )
    return float(fresh)
