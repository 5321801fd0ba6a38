"""The copies in a cache. A failing cache counts as empty; `stats()` counts the failures."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from functools import partial
from io import BytesIO
from typing import NamedTuple

from holdall.errors import BlobNotFoundError, ConcurrencyError, IntegrityError, StoreError, WrongKeyError
from holdall.forks import begin_anew
from holdall.layers.caching.entry import (
    CLAIM,
    CLEAN,
    ENTRY,
    WRITING,
    EntryHead,
    Opened,
    digest_of,
    framed,
    is_entry,
    micros,
    open_entry,
    packed,
    sealed,
    size_of,
)
from holdall.layers.caching.recency import Recency
from holdall.store import ABSENT, ANY, PLAIN, Attributes, Can, Expect, Info, Piece, Store

SIZES = 4096
"""The number of hits that are added up together."""
_MARK_LIFETIME = 600 * 10**6
"""How long the mark of a writer blocks caching, in microseconds: after a writer is killed, the key stays
uncached for this long."""


class CacheStats(NamedTuple):
    """Counts of what a cache did since this handle was opened.

    Attributes:
        hits: Reads that the cache served.
        misses: Reads that the source served.
        revalidations: How often the source was asked whether a copy is still good.
        bytes_from_cache: The bytes of bodies that the cache returned.
        bytes_from_source: The bytes of bodies that the source returned.
        evictions: The number of copies that were removed to make room.
        errors: How often the cache failed, or held a damaged entry, so that the source was read.
    """

    hits: int
    misses: int
    revalidations: int
    bytes_from_cache: int
    bytes_from_source: int
    evictions: int
    errors: int


def clean_name(key: str) -> str:
    """Return the name of a key's entry."""
    return CLEAN + digest_of(key)


class Copies:
    """The entries in a cache. Its failures never reach a reader."""

    def __init__(self, cache: Store, max_bytes: int | None) -> None:
        self.cache = cache
        self.ranges = Can.RANGE in cache.can
        self.exact = Can.CONDITIONAL_DELETE in cache.can and Can.CREATE in cache.can
        self.recency: Recency | None = None
        if max_bytes is not None:
            self.recency = Recency(cache, max_bytes, self.failed, partial(self.count, "evictions"))
        self.lock = threading.Lock()
        self.flights: dict[str, Flight] = {}
        self.renewed: dict[str, tuple[str, int]] = {}
        """Of large entries, when they were last found to be good; of one with this ETag."""
        self._counts = dict.fromkeys(CacheStats._fields, 0)
        self.sizes: list[int] = []
        """Of the hits that were not added up yet: appending to a list needs no lock."""
        begin_anew(self, Copies._begin)

    def _begin(self) -> None:
        self.lock = threading.Lock()
        self.flights = {}
        if self.recency is not None:
            self.recency.reset()

    def count(self, what: str, number: int = 1) -> None:
        """Add to one of the counts of `CacheStats`."""
        with self.lock:
            self._counts[what] += number

    def count_hit(self, size: int) -> None:
        """Count a read that a copy served."""
        self.sizes.append(size)
        if len(self.sizes) > SIZES:
            self.add_up()

    def add_up(self) -> None:
        """Add up the hits."""
        with self.lock:
            sizes = self.sizes
            number = len(sizes)
            self._counts["hits"] += number
            self._counts["bytes_from_cache"] += sum(sizes[:number])
            del sizes[:number]

    def failed(self, what: str, error: StoreError) -> None:
        """Log and count a failure of the cache."""
        import logging

        self.count("errors")
        logging.getLogger("holdall.layers.caching").warning("the cache failed to %s: %s", what, error)

    def stats(self) -> CacheStats:
        """Return the counts."""
        self.add_up()
        return CacheStats(**self._counts)

    def open(self, name: str, key: str, start: int = 0, stop: int | None = None) -> Opened | None:
        """Open an entry, its bytes from `start` to `stop`; None if it is missing or damaged."""
        try:
            opened = open_entry(self.cache, name, key, start, stop, ranges=self.ranges)
        except StoreError as error:
            # A range that no slice takes is the caller's error, and raised where the source is asked.
            if not isinstance(error, ValueError):
                self.failed("read", error)
            return None
        if opened is None or opened.head.kind != ENTRY:
            return None
        return opened

    def read_head(self, name: str, key: str) -> tuple[EntryHead, str] | None:
        """Return the head of a copy, and the cache's ETag of it; None if the copy is missing or damaged."""
        opened = self.open(name, key, 0, 0)
        return None if opened is None else (opened.head, opened.etag)

    def touch(self, name: str) -> None:
        """Note that an entry was used."""
        if self.recency is not None:
            self.recency.touch(name)

    def fits(self, size: int) -> bool:
        """Return whether a body of this size can be held at all."""
        return self.recency is None or self.recency.fits(size)

    def put(
        self, name: str, head: EntryHead | None, body: bytes | Iterable[Piece], size: int, expect: Expect
    ) -> Info | None:
        """Keep a copy; return None if that can't be done, as where it has no head, or if another writer was
        faster."""
        if head is None:
            return None
        start = packed(head, size)
        total = size_of(start, size)
        recency = self.recency
        if recency is not None:
            if not recency.fits(total):
                return None
            if not recency.reserve(name, total):
                self._look_again(name)
                return None
        pieces = sealed(start, body) if isinstance(body, bytes) else framed(start, body)
        try:
            info = self.write(name, pieces, expect, head.attributes)
        except ConcurrencyError:
            return None
        except StoreError as error:
            self.failed("write", error)
            return None
        if recency is not None:
            recency.set(name, info.size)
        return info

    def write(self, name: str, pieces: Iterable[Piece], expect: Expect, attributes: Attributes) -> Info:
        """Write to the cache.

        Raises:
            ConcurrencyError: Something else is there than what is expected.
            StoreError: The cache fails.
        """
        if self.cache.inline and not isinstance(pieces, tuple):
            # What lives in memory keeps one piece as it is, and needs twice the room to join many.
            buffer = BytesIO()
            buffer.writelines(pieces)
            pieces = (buffer.getvalue(),)
        try:
            if expect is ANY and attributes is PLAIN and isinstance(pieces, tuple) and len(pieces) == 1:
                return self.cache._put(name, bytes(pieces[0]))
            return self.cache._write(name, pieces, expect, attributes)
        except BaseException:
            self._look_again(name)
            raise

    def _look_again(self, name: str) -> None:
        """Ask for the size of an entry whose write failed or was interrupted."""
        if self.recency is not None:
            try:
                self.recency.set(name, self.cache._info(name).size)
            except BlobNotFoundError:
                self.recency.forget(name)
            except StoreError:
                self.recency.doubt()

    def drop(self, name: str, expect: Expect = ANY) -> bool:
        """Remove an entry if it is the expected one; return whether it was removed."""
        try:
            self.remove(name, expect)
        except ConcurrencyError:
            return False
        except StoreError as error:
            self.failed("delete", error)
            return False
        return True

    def drop_seen(self, name: str, etag: str) -> None:
        """Remove the entry with this ETag, and no note that took its place."""
        self.drop(name, etag if self.exact else ANY)

    def remove(self, name: str, expect: Expect = ANY) -> bool:
        """Remove an entry; return whether it was there.

        Raises:
            ConcurrencyError: It isn't what is expected.
            StoreError: The cache fails.
        """
        gone = self.cache._delete(name, expect)
        if self.recency is not None:
            self.recency.forget(name)
        return gone

    def claim(self, name: str, key: str) -> str | None:
        """Leave a note that a copy is about to be made, before the source is read. The copy is published only
        while the note is there, so a copy that raced a write never is. None if the source is being
        written."""
        try:
            try:
                seen = open_entry(self.cache, name, key, 0, 0, ranges=self.ranges)
                expect = ABSENT if seen is None else seen.etag
                if seen is not None and seen.head.kind == WRITING:
                    age = micros() - seen.head.stamped
                    if 0 <= age < _MARK_LIFETIME:
                        return None
            except IntegrityError:
                expect = self.cache._info(name).etag
            return self._note(CLAIM, name, key, expect)
        except (ConcurrencyError, BlobNotFoundError):
            return None
        except StoreError as error:
            self.failed("write", error)
            return None

    def mark(self, name: str, key: str) -> str:
        """Replace the copy by a mark: the source is about to be written.

        Raises:
            StoreError: The cache fails, so that an old copy might stay.
        """
        return self._note(WRITING, name, key, ANY)

    def _note(self, kind: int, name: str, key: str, expect: Expect) -> str:
        note = sealed(packed(EntryHead(kind, key, stamped=micros())), b"")
        info = self.write(name, note, expect, PLAIN)
        if self.recency is not None:
            self.recency.set(name, info.size)
        return info.etag

    def unmark(self, name: str, mark: str | None) -> None:
        """Remove the mark of a write. If other writers came between, or an interrupt left it open whether the
        mark was put, the entry is in doubt."""
        if mark is None:
            self.drop(name)
            return
        try:
            self.remove(name, mark)
        except ConcurrencyError:
            self.drop(name)
        except StoreError as error:
            self.failed("delete", error)

    def names(self) -> Iterator[str]:
        """Return the names of all entries."""
        return filter(is_entry, self.cache._keys(CLEAN, ""))

    def key_of(self, name: str) -> str | None:
        """Return the key of an entry; None if the entry isn't ours."""
        try:
            opened = open_entry(self.cache, name, None, 0, 0, ranges=self.ranges)
        except WrongKeyError:
            raise
        except IntegrityError:
            return None
        return None if opened is None else opened.head.key


class Flight:
    """A fetch, and the threads that wait for it.

    Attributes:
        turn: Held by the thread that fetches.
        over: Whether that was done.
        alone: Whether those who waited had better fetch for themselves, each at once.
    """

    __slots__ = ("alone", "over", "turn")

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.over = self.alone = False
