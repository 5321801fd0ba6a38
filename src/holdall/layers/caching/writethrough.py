"""Reading and writing through a cache: the source always counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import chain
from typing import Literal, TypeAlias, TypeVar, cast
from zlib import crc32

from holdall.errors import BlobNotFoundError, StoreError
from holdall.keys import check_key
from holdall.layers.caching.checks import refuse_pending
from holdall.layers.caching.copies import SIZES, Copies, Flight, clean_name
from holdall.layers.caching.entry import (
    FRAME,
    NEVER,
    RESIDUE,
    SUM,
    Opened,
    alive,
    base_of,
    head_of,
    micros,
    short_body,
    stored_info,
)
from holdall.layers.frames import read_part
from holdall.layers.layer import Transparent, pass_on
from holdall.pieces import join_pieces
from holdall.ranges import CHUNK, cut, span
from holdall.store import ANY, Attributes, Body, Can, Expect, Info, Piece, Put, Store, mode_of

_REMEMBERED = 1 << 16
"""Remember at most this many large entries."""
_SHORT = CHUNK // 4
"""The largest stream that is held in memory, to be kept in the cache as it is written."""
_KNOWN = 1 << 14
"""Remember the heads of at most this many short entries."""
_Known: TypeAlias = tuple[str, bytes, slice, int, int, int | None]
"""Of a short entry: its name, its head, where its body is, the size of that (-1 before it was read), and from
when and until when it is served without asking the source (None for ever)."""
T = TypeVar("T")


class _SourceError(Exception):
    """The source failed while it was copied."""


class WriteThrough(Transparent):
    """The source, read through copies of it; `fresh` as for a `CachingStore`."""

    def __init__(self, store: Store, copies: Copies, fresh: float | Literal["etag", "immutable"]) -> None:
        super().__init__(store)
        self.source = store
        self._copies, self._cache = copies, copies.cache
        self._narrow = type(store)._checked is not Store._checked
        self.asks = fresh == "etag"
        """Whether the source is asked at each read, so that an old copy does no harm."""
        self._sizes, self._recency = copies.sizes, copies.recency
        self._long: set[str] = set()
        self._known: dict[str, _Known] = {}
        self._age = round(fresh * 1e6) if isinstance(fresh, int | float) else None

    @cached_property
    def can(self) -> Can:
        return self._store.can

    def _checked(self, key: object) -> str:
        # A source that is closed may have copies. Some sources have room for less than others.
        return self._store._checked(key) if self._narrow else check_key(key)

    def get_short(self, key: str) -> bytes | None:
        """Return a blob, as `_get` does, where a short copy may be served without asking the source."""
        try:
            name, head, body_at, size, since, until = self._known[key]
        except KeyError:
            name, head, body_at, size, since, until = self._name(key)
        if size < 0 and name in self._long:
            return self._get(key)
        try:
            data = self._cache._get(name)
        except StoreError:
            return self._get(key)
        if data is None:
            return self._get(key)
        # The head that was parsed at the last hit needn't be parsed again.
        body = data[body_at]
        if len(body) != size or not data.startswith(head) or crc32(data) != RESIDUE:
            learned = self._learn(key, name, data)
            if learned is None:
                return self._get(key)
            _, _, body_at, size, since, until = learned
            body = data[body_at]
        if until is not None and not since <= time.time_ns() // 1000 < until:
            return self._get(key)
        # The number that is known of the copy: an object of its own for each hit would be slower.
        sizes = self._sizes
        sizes.append(size)
        if len(sizes) > SIZES:
            self._copies.add_up()
        recency = self._recency
        if recency is not None:
            recency.used.append(name)
            if len(recency.used) >= recency.limit:
                recency.settle()
        return body

    def _name(self, key: str) -> _Known:
        """Return what is known of a key that wasn't read before: the name of its copy."""
        if len(self._known) >= _KNOWN:
            self._known.clear()
        known = self._known[key] = clean_name(key), b"", slice(0), -1, NEVER, None
        return known

    def _learn(self, key: str, name: str, data: bytes) -> _Known | None:
        """Remember the head of a short copy, and when it is served without asking; None if it isn't one."""
        short = short_body(data, key.encode(errors="surrogatepass"))
        if short is None:
            if len(data) > FRAME:
                # It was read in vain, and is not again.
                if len(self._long) > _REMEMBERED:
                    self._long.clear()
                self._long.add(name)
            return None
        body, expires, stamped = short
        until = None if expires == NEVER else expires
        if self._age is not None:
            until = stamped + self._age if until is None else min(until, stamped + self._age)
        since = NEVER if self._age is None else stamped
        head = data[: -SUM - len(body)]
        known = self._known[key] = name, head, slice(len(head), -SUM), len(body), since, until
        return known

    def _get_current(self, key: str, name: str, info: Info) -> bytes | None:
        """Return the copy of this version of a short blob."""
        try:
            data = self._cache._get(name)
        except StoreError as error:
            self._copies.failed("read", error)
            return None
        short = None if data is None else short_body(data, key.encode())
        if short is None or data is None or base_of(data) != info.etag or len(short[0]) != info.size:
            return None
        return short[0] if short[1] == NEVER or short[1] > micros() else None

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        while True:
            result = self._try_read(key, start, stop)
            if result is not None:
                return result

    def _try_read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]] | None:
        """Try to read; None if another thread fetched the blob in between, so that the caller starts
        again."""
        copies, name, known = self._copies, clean_name(key), None
        if self.asks:
            # The source comes first: a copy that is read afterwards can't be older than its answer.
            known = self._current(key, name)
            if stop is None and start == 0 and known.size <= FRAME and mode_of(known) is None:
                data = self._get_current(key, name, known)
                if data is None:
                    return self._fetch_once(key, name, start, stop, known)
                copies.count_hit(len(data))
                copies.touch(name)
                return known, iter((data,))
        opened = copies.open(name, key, start, stop)
        if opened is None or not (self.asks or alive(opened.head)):
            return self._fetch_once(key, name, start, stop, known)
        if not self.asks and self._is_young(name, opened):
            return self._serve_copy(name, stored_info(opened.head, opened.size), opened, start, stop)
        now = micros()
        known = known or self._current(key, name)
        if self._is_good(opened, known):
            if not self.asks:
                self._renew(name, opened, known, now)
            return self._serve_copy(name, known, opened, start, stop)
        # The copy of an older version goes, even if no other replaces it.
        copies.drop_seen(name, opened.etag)
        return self._fetch_once(key, name, start, stop, known)

    def _current(self, key: str, name: str) -> Info:
        """Return the state at the source now."""
        self._copies.count("revalidations")
        try:
            return self._store._info(key)
        except BlobNotFoundError:
            self._forget(key, name)
            raise

    def _forget(self, key: str, name: str) -> None:
        """Remove the copy of a deleted blob."""
        found = self._copies.read_head(name, key)
        if found is not None:
            self._copies.drop_seen(name, found[1])

    def _is_good(self, opened: Opened, info: Info) -> bool:
        same = opened.head.base == info.etag and opened.size == info.size
        # A file may have been made private since it was copied.
        return same and alive(opened.head) and not opened.is_wider(mode_of(info))

    def _is_young(self, name: str, opened: Opened) -> bool:
        if self._age is None:
            return True
        now, stamped = micros(), opened.head.stamped
        etag, renewed = self._copies.renewed.get(name, ("", 0))
        if etag == opened.etag:
            stamped = max(stamped, renewed)
        # A clock that was set back proves nothing.
        return 0 <= now - stamped < self._age

    def _renew(self, name: str, opened: Opened, info: Info, now: int) -> None:
        """Note that the source just confirmed the copy."""
        if opened.data is not None:
            self._copies.put(name, head_of(info, now), opened.data, opened.size, opened.etag)
            return
        renewed = self._copies.renewed
        with self._copies.lock:
            renewed.pop(name, None)
            renewed[name] = (opened.etag, now)
            if len(renewed) > _REMEMBERED:
                del renewed[next(iter(renewed))]

    def _serve_copy(
        self, name: str, info: Info, opened: Opened, start: int, stop: int | None
    ) -> tuple[Info, Iterator[Piece]]:
        low, high = span(start, stop, opened.size)
        self._copies.count_hit(high - low)
        self._copies.touch(name)
        if opened.data is not None:
            return info, opened.pieces
        return info, self._yield_copy(name, info, opened, low, high)

    def _yield_copy(self, name: str, info: Info, opened: Opened, low: int, high: int) -> Iterator[Piece]:
        """Yield a copy's bytes, or the source's from the point where the cache fails."""
        at = low
        try:
            for piece in opened.pieces:
                yield piece
                at += len(piece)
            return
        except StoreError as error:
            self._copies.failed("read", error)
            self._copies.drop_seen(name, opened.etag)
            failure = error
        again, rest = read_part(self._store, info.key, at, high)
        if again.etag != info.etag:
            raise failure
        yield from rest

    def _fetch_once(
        self, key: str, name: str, start: int, stop: int | None, known: Info | None
    ) -> tuple[Info, Iterator[Piece]] | None:
        copies = self._copies
        if (start, stop) != (0, None):
            known = known or self._store._info(key)
            if known.size > CHUNK or not copies.fits(known.size):
                return self._read_source(key, start, stop)
        elif known is not None and not copies.fits(known.size):
            return self._read_source(key, start, stop)
        # A lock and not an event: an interrupt between any two steps leaves no thread waiting.
        flight = copies.flights.setdefault(name, Flight())
        with flight.turn:
            if flight.over:
                if copies.flights.get(name) is flight:
                    copies.flights.pop(name, None)
                return self._read_source(key, start, stop) if flight.alone else None
            try:
                return self._fetch(key, name, start, stop, flight)
            finally:
                flight.over = True
                copies.flights.pop(name, None)

    def _read_source(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        """Read directly from the source."""
        self._copies.count("misses")
        info, pieces = read_part(self._store, key, start, stop)
        return info, self._count_pieces(pieces)

    def _count_pieces(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self._copies.count("bytes_from_source", len(piece))
            yield piece

    def _fetch(
        self, key: str, name: str, start: int, stop: int | None, flight: Flight
    ) -> tuple[Info, Iterator[Piece]]:
        """Read from the source, and keep a copy."""
        copies = self._copies
        expect: Expect | None = ANY if self.asks else copies.claim(name, key)
        published = False
        try:
            now = micros()
            try:
                info, pieces = self._store._read(key, 0, None)
            except BlobNotFoundError:
                if self.asks:
                    self._forget(key, name)
                raise
            if expect is None or not copies.fits(info.size):
                flight.alone = True
                copies.count("misses")
                return info, self._count_pieces(cut(pieces, *span(start, stop, info.size)))
            if info.size > CHUNK:
                opened = self._fetch_large(name, info, pieces, now, expect, start, stop)
                published = opened is not None
                flight.alone = not published
                if opened is None:
                    return self._read_source(key, start, stop)
                copies.count("misses")
                return info, self._yield_copy(name, info, opened, *span(start, stop, info.size))
            data = join_pieces(pieces)
            copies.count("misses")
            copies.count("bytes_from_source", len(data))
            if len(data) == info.size:
                published = copies.put(name, head_of(info, now), data, len(data), expect) is not None
            flight.alone = not published
            low, high = span(start, stop, len(data))
            return info, iter((data[low:high],))
        finally:
            if not published and isinstance(expect, str):
                copies.drop(name, expect)

    def _fetch_large(
        self, name: str, info: Info, pieces: Iterator[Piece], now: int, expect: Expect, *wanted: int | None
    ) -> Opened | None:
        """Copy a large blob and open the copy; None if the cache fails or another writer came between."""
        size = 0

        def guarded() -> Iterator[Piece]:
            nonlocal size
            try:
                for piece in pieces:
                    size += len(piece)
                    yield piece
            except StoreError as error:
                # The cache must not take it for its own.
                raise _SourceError from error

        start, stop = wanted
        try:
            written = self._copies.put(name, head_of(info, now), guarded(), info.size, expect)
        except _SourceError as error:
            raise cast(StoreError, error.__cause__) from None
        self._copies.count("bytes_from_source", size)
        if written is None:
            return None
        opened = self._copies.open(name, info.key, start or 0, stop)
        if opened is None or opened.etag != written.etag or opened.size != info.size:
            return None
        return opened

    def _info(self, key: str) -> Info:
        if not self.asks:
            opened = self._copies.open(name := clean_name(key), key, 0, 0)
            if opened is not None and alive(opened.head) and self._is_young(name, opened):
                return stored_info(opened.head, opened.size)
        return self._store._info(key)

    _digest = pass_on("_digest")
    _sign = pass_on("_sign")

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        copies, name = self._copies, clean_name(key)
        refuse_pending(copies.cache, key)
        # What is short is kept; what is streamed is fetched when it is read.
        data, body = gather(body)
        # Before the source is written: until then nothing newer can be there.
        now = micros()
        mark: str | None = None
        kept = False
        try:
            if not self.asks:
                # It takes the old copy's place before the source is touched: if that fails, nothing was done.
                mark = copies.mark(name, key)
            info = self._store._write(key, body, expect, attributes)
            if data is not None and copies.fits(len(data)):
                copy = head_of(info, now, attributes.mode)
                kept = copies.put(name, copy, data, len(data), mark or ANY) is not None
            return info
        finally:
            if not kept and not self.asks:
                copies.unmark(name, mark)

    def _delete(self, key: str, expect: Expect) -> bool:
        refuse_pending(self._copies.cache, key)
        if self.asks:
            gone = self._store._delete(key, expect)
            self._forget(key, clean_name(key))
            return gone
        return self._change_without_copies([key], partial(self._store._delete, key, expect))

    def _change_without_copies(self, keys: Iterable[str], change: Callable[[], T]) -> T:
        """Change the source while no copies of these keys exist."""
        marks: dict[str, str | None] = {}
        try:
            if not self.asks:
                for key in keys:
                    marks[name := clean_name(key)] = None
                    marks[name] = self._copies.mark(name, key)
            return change()
        finally:
            for name, mark in marks.items():
                self._copies.unmark(name, mark)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        refuse_pending(self._copies.cache, target)
        return self._change_without_copies([target], partial(self._store._copy, source, target, expect))

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        for key in (source, target):
            refuse_pending(self._copies.cache, key)
        return self._change_without_copies(
            [source, target], lambda: self._store._move(source, target, expect)
        )

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        if Can.BULK not in self._store.can:
            yield from super()._put_many(items)
            return
        if self.asks:
            # The items pass one by one.
            yield from self._store._put_many(self._refuse_pending(items))
            return
        entries = list(self._refuse_pending(items))
        keys = [key for key, _, _ in entries]
        yield from self._change_without_copies(keys, lambda: list(self._store._put_many(entries)))

    def _refuse_pending(self, items: Iterable[Put]) -> Iterator[Put]:
        for item in items:
            refuse_pending(self._copies.cache, item[0])
            yield item

    def _delete_many(self, keys: Iterable[str]) -> int:
        keys = list(keys)
        for key in keys:
            refuse_pending(self._copies.cache, key)
        return self._change_without_copies(keys, partial(self._store._delete_many, keys))

    def _clear(self) -> None:
        # Twice: once so that nothing old can be read, once for what was copied meanwhile.
        self._drop_all(strict=not self.asks)
        self._store._clear()
        self._drop_all(strict=False)

    def _drop_all(self, *, strict: bool) -> None:
        try:
            for name in list(self._copies.names()):
                self._copies.remove(name)
        except StoreError as error:
            if strict:
                raise
            self._copies.failed("delete", error)


def gather(body: Body, most: int = _SHORT) -> tuple[bytes | None, Body]:
    """Return a body as bytes, if it is in memory or short, and as a body that no other code can change."""
    if isinstance(body, tuple) and len(body) == 1:
        piece = body[0]
        if isinstance(piece, bytes):
            return piece, body
        if len(piece) > most:
            return None, body
        return (data := bytes(piece)), (data,)
    held: list[bytes] = []
    size, pieces = 0, iter(body)
    for piece in pieces:
        held.append(bytes(piece))
        size += len(piece)
        if size > most:
            return None, chain(held, pieces)
    return (data := b"".join(held)), (data,)
