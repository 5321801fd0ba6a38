"""A store whose blobs all expire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from operator import attrgetter
from typing import BinaryIO

from holdall.arguments import check_seconds
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    UnsupportedOperation,
    naming,
)
from holdall.layers.layer import Transparent, pass_on
from holdall.store import (
    ABSENT,
    ANY,
    PLAIN,
    Attributes,
    Body,
    Can,
    Expect,
    Info,
    Piece,
    Put,
    Store,
    kind_name,
)

__all__ = ["ExpiringStore"]

_BURY = Can.CONDITIONAL_DELETE | Can.DELETE


_keeps = attrgetter("_keeps_expiry")


class ExpiringStore(Transparent):
    """A store whose blobs expire after a time: an expired blob is absent for every call.

    Over a store that `can` EXPIRE, a put without a ttl gets this one, and a put's own ttl takes precedence. A
    blob that was put below without this layer keeps its own expiry, or none.

    Over any other store a blob's age counts: a blob that was written longer ago than the ttl has expired, by
    the clock of the medium that keeps `Info.modified`. A put's own ttl can't be kept there, so `can` lacks
    EXPIRE, and a copied or modified blob begins a new life. An expired blob is removed when it is
    overwritten or deleted, or by `purge`. To create (`expect=ABSENT`), the store below must be able to
    DELETE by ETag (CONDITIONAL_DELETE), since an expired blob may be in the way.

    Args:
        store: The store below.
        ttl: How long a blob lives, in seconds or as a timedelta.

    Raises:
        InvalidArgumentError: The ttl isn't a time, is under a microsecond, or ends past the year 9999.

    >>> from holdall import MemoryStore
    >>> store = ExpiringStore(MemoryStore(), ttl=3600)
    >>> info = store.put("session", b"1")
    >>> info.expires > info.modified
    True
    """

    def __init__(self, store: Store, ttl: float | timedelta) -> None:
        super().__init__(store)
        seconds = check_seconds(ttl, "a ttl")
        try:
            self._ttl = timedelta(seconds=seconds)
            _ = datetime.now(UTC) + self._ttl
        except OverflowError:
            raise InvalidArgumentError(f"a ttl of {seconds:g} seconds is past the year 9999") from None
        if not self._ttl:
            raise InvalidArgumentError("a ttl must be at least a microsecond")

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "ttl": self._ttl.total_seconds()}

    @cached_property
    def _keeps_expiry(self) -> bool:
        """Whether the store below keeps each blob's expiry; otherwise the blob's age counts."""
        return Can.EXPIRE in self._store.can

    @cached_property
    def can(self) -> Can:
        below = self._store.can
        if self._keeps_expiry:
            return below
        # A signed URL would still show an expired blob, and bulk calls don't return the ages of blobs.
        can = below & ~(Can.SIGN | Can.BULK)
        return can if _BURY in below else can & ~Can.CREATE

    def _need(self, flag: Can, call: str) -> None:
        if flag is Can.EXPIRE and not self._keeps_expiry:
            raise UnsupportedOperation(
                f"{kind_name(self._store)} doesn't keep a ttl with each blob, so all blobs live for "
                f"{self._ttl.total_seconds():g} seconds; leave ttl out"
            )
        super()._need(flag, call)

    def purge(self) -> int:
        """Delete the expired blobs; return their number.

        A blob that is written again during the call stays. Over a store that `can` EXPIRE this does nothing,
        since that store removes expired blobs itself.

        Raises:
            UnsupportedOperation: The store below can't list, or can't delete by ETag.

        >>> from holdall import MemoryStore
        >>> ExpiringStore(MemoryStore(), ttl=60).purge()
        0
        """
        self._need(Can.LIST, "purge")
        if self._keeps_expiry:
            return 0
        if _BURY not in self._store.can:
            raise UnsupportedOperation(
                f"{kind_name(self._store)} can't delete by ETag, so a purge could delete a blob that is new"
            )
        purged = 0
        for info in self._store._scan("", ""):
            if self._has_expired(info):
                with naming(info.key):
                    purged += self._bury(info.key)
        return purged

    def _has_expired(self, info: Info) -> bool:
        return info.modified + self._ttl <= datetime.now(UTC)

    def _add_expiry(self, info: Info) -> Info:
        return info.replace(expires=info.modified + self._ttl)

    def _is_alive(self, key: str) -> bool:
        try:
            return not self._has_expired(self._store._info(key))
        except BlobNotFoundError:
            return False

    def _bury(self, key: str) -> bool:
        """Delete a blob below if it has expired; return whether this call did it."""
        # A listing may be old, and an ETag that is made of the bytes is the same when they are put again.
        try:
            info = self._store._info(key)
        except BlobNotFoundError:
            return False
        if not self._has_expired(info):
            return False
        try:
            return self._store._delete(key, info.etag)
        except ConcurrencyError:
            return False

    def _end_of(self, key: str, expect: Expect) -> datetime | None:
        """Return when the blob to be replaced expires: an expired one can't be replaced."""
        try:
            info = self._store._info(key)
        except BlobNotFoundError:
            return None
        if self._has_expired(info):
            raise ConcurrencyError(key=key, expected=str(expect))
        return info.modified + self._ttl

    def _in_time(self, key: str, body: Body, expect: Expect, expires: datetime) -> Iterator[Piece]:
        """Return a body that fails at its end if the blob that it replaces has expired since."""
        yield from body
        if expires <= datetime.now(UTC):
            raise ConcurrencyError(key=key, expected=str(expect))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = self._store._read(key, start, stop)
        if self._keeps_expiry:
            return info, pieces
        if self._has_expired(info):
            raise BlobNotFoundError(key=key)
        return self._add_expiry(info), pieces

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if self._keeps_expiry:
            return self._store._write(key, body, expect, self._lasting(attributes))
        if attributes.expires is not None:
            # The age of a copied or modified blob begins anew.
            attributes = attributes._replace(expires=None)
        if expect is ANY:
            return self._add_expiry(self._store._write(key, body, ANY, attributes))
        if expect is ABSENT:
            return self._create(key, body, attributes)
        expires = self._end_of(key, expect)
        if expires is not None and not _is_short(body):
            body = self._in_time(key, body, expect, expires)
        return self._add_expiry(self._store._write(key, body, expect, attributes))

    def _create(self, key: str, body: Body, attributes: Attributes) -> Info:
        while True:
            self._bury(key)
            try:
                return self._add_expiry(self._store._write(key, body, ABSENT, attributes))
            except BlobExistsError:
                # A blob that appeared in between may be gone again, but a stream can be read only once.
                if not _is_short(body) or self._is_alive(key):
                    raise

    def _lasting(self, attributes: Attributes) -> Attributes:
        if attributes.expires is not None:
            return attributes
        return attributes._replace(expires=datetime.now(UTC) + self._ttl)

    def _delete(self, key: str, expect: Expect) -> bool:
        if self._keeps_expiry:
            return self._store._delete(key, expect)
        while True:
            try:
                info = self._store._info(key)
            except BlobNotFoundError:
                if expect is ANY:
                    return False
                raise ConcurrencyError(key=key, expected=str(expect)) from None
            if not self._has_expired(info):
                return self._store._delete(key, expect)
            if expect is not ANY:
                raise ConcurrencyError(key=key, expected=str(expect))
            # Else it is left: it is absent already, and what a blind delete took might be new.
            if Can.CONDITIONAL_DELETE not in self._store.can or self._bury(key):
                return False

    def _info(self, key: str) -> Info:
        info = self._store._info(key)
        if self._keeps_expiry:
            return info
        if self._has_expired(info):
            raise BlobNotFoundError(key=key)
        return self._add_expiry(info)

    def _adapt_listing(self, listing: Iterator[Info]) -> Iterator[Info]:
        if self._keeps_expiry:
            return listing
        return (self._add_expiry(info) for info in listing if not self._has_expired(info))

    def _get(self, key: str) -> bytes | None:
        return self._store._get(key) if self._keeps_expiry else super()._get(key)

    def _has(self, key: str) -> bool:
        return self._store._has(key) if self._keeps_expiry else super()._has(key)

    _keys = pass_on("_keys", _keeps)
    _children = pass_on("_children", _keeps)
    _get_many = pass_on("_get_many", _keeps)
    _delete_many = pass_on("_delete_many", _keeps)
    _open_read = pass_on("_open_read", _keeps)
    _clear = pass_on("_clear")

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        if self._keeps_expiry:
            return self._store._put_many(self._all_lasting(items))
        return map(self._add_expiry, self._store._put_many(items))

    def _all_lasting(self, items: Iterable[Put]) -> Iterator[Put]:
        last, lasting = None, PLAIN
        for key, body, attributes in items:
            if attributes is not last:
                last, lasting = attributes, self._lasting(attributes)
            yield key, body, lasting

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        if self._keeps_expiry:
            return self._store._copy(source, target, expect)
        return self._copy_below(self._store._copy, source, target, expect)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        if self._keeps_expiry:
            return self._store._move(source, target, expect)
        return self._copy_below(self._store._move, source, target, expect)

    def _copy_below(
        self, act: Callable[[str, str, Expect], Info], source: str, target: str, expect: Expect
    ) -> Info:
        while True:
            self._info(source)
            if expect is ABSENT:
                self._bury(target)
            elif expect is not ANY:
                self._end_of(target, expect)
            try:
                return self._add_expiry(act(source, target, expect))
            except BlobExistsError:
                if self._is_alive(target):
                    raise

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        # Otherwise it is written here at its close: the time counts from then, and conditions hold then.
        if self._keeps_expiry or expect is not ANY:
            return super()._open_write(key, expect, attributes)
        return self._store._open_write(key, expect, attributes)

    def _sign(self, key: str, method: str, seconds: float) -> str:
        if method.upper() not in ("GET", "HEAD"):
            raise UnsupportedOperation(
                "a blob that is put by a signed URL would never expire; put it here instead"
            )
        return self._store._sign(key, method, seconds)

    def _digest(self, key: str, algorithm: str) -> str | None:
        if not self._keeps_expiry and not self._is_alive(key):
            return None
        return self._store._digest(key, algorithm)

    def _touch(self, key: str, expires: datetime | None) -> Info:
        if not self._keeps_expiry:
            # A blob may expire before it is touched below, and must not come back.
            return super()._touch(key, expires)
        return self._store._touch(key, datetime.now(UTC) + self._ttl if expires is None else expires)

    def _local_path(self, key: str) -> str | None:
        return self._store._local_path(key) if self._keeps_expiry or self._is_alive(key) else None


def _is_short(body: Body) -> bool:
    """Return whether a body is in memory, so that it can be read again."""
    return type(body) is tuple
