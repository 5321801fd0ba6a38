"""Writing back: puts and deletes are recorded in the cache, and reach the source at a sync."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from heapq import merge
from os import urandom
from typing import IO, Literal, NamedTuple, TypeVar

from holdall.blob import check_expected, place_of
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    WrongKeyError,
)
from holdall.forks import begin_anew
from holdall.layers.caching.copies import Copies, clean_name
from holdall.layers.caching.entry import (
    DIRTY,
    FIELD,
    HOLD,
    INHERITED,
    PUT,
    TOMBSTONE,
    EntryHead,
    Opened,
    alive,
    digest_of,
    framed,
    is_record,
    micros,
    open_entry,
    packed,
    sealed,
    size_of,
    stored_info,
    written_metadata,
)
from holdall.layers.caching.writethrough import WriteThrough, gather
from holdall.layers.layer import Transparent
from holdall.ranges import CHUNK
from holdall.store import (
    ABSENT,
    ANY,
    Attributes,
    Body,
    Can,
    Expect,
    Info,
    LeftOut,
    Piece,
    Store,
    group_children,
    mode_of,
)

E = TypeVar("E", bound=Info | LeftOut)

_SPOOL = 8 * CHUNK
_SEEN = 1 << 16
"""Remember the version that was read for at most this many keys."""
_STRIPES = 64
_PRIVATE = Attributes(mode=0o600)
"""Of a record, as of all that is on its way: its blob may replace one that few may read."""


def dirty_name(key: str) -> str:
    """Return the name of a key's record."""
    return DIRTY + digest_of(key)


class PendingChange(NamedTuple):
    """A record, as a listing of the records shows it."""

    name: str
    etag: str
    head: EntryHead
    size: int


class _State(NamedTuple):
    """The state before a write."""

    expect: Expect
    """What the cache has under the name of the record."""
    base: Expect
    """What the source had."""
    info: Info | None
    """The blob, if there is one and it was asked for."""
    hold: bool
    """Whether a note was left to be taken back."""
    unsure: bool
    """Whether the base must be looked up again."""
    mode: int | None = None
    """The permission bits that a new blob takes over, as far as they are known."""


class WriteBack(Transparent):
    """The source, with the records in the cache laid over it.

    All writers of a key replace its record by compare-and-swap in the cache, so the threads, handles and
    processes that share the cache agree. Where there is no record, the source counts.
    """

    def __init__(self, through: WriteThrough, cache: Store, copies: Copies) -> None:
        super().__init__(through)
        self.through, self.source, self.cache, self.copies = through, through.source, cache, copies
        self._known: dict[str, PendingChange] = {}
        self._seen: dict[str, str] = {}
        """The source's ETag that this handle read last, by key: copies may be evicted, or never made."""
        self._begin()
        begin_anew(self, WriteBack._begin)

    def _begin(self) -> None:
        self._locks = [threading.Lock() for _ in range(_STRIPES)]

    @cached_property
    def can(self) -> Can:
        kept = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.EXPIRE | Can.ATTRIBUTES | Can.METADATA
        can = self.source.can & kept
        if Can.WRITE in can:
            can |= Can.CREATE | Can.SWAP
        return can | Can.CONDITIONAL_DELETE if Can.DELETE in can else can

    def open_record(
        self, name: str, key: str | None, start: int = 0, stop: int | None = None
    ) -> Opened | None:
        """Open a record; None where there is none. A cache that fails is an error here: the source's blob may
        be older than what was acknowledged.

        Raises:
            IntegrityError: The record is damaged.
            StoreError: The cache fails.
        """
        # Most keys lack one, and this is faster than an error.
        if not self.cache.exists(name):
            return None
        try:
            return open_entry(self.cache, name, key, start, stop, ranges=self.copies.ranges)
        except WrongKeyError:
            raise
        except IntegrityError:
            raise _lost_error(key, name) from None

    def write_record(self, head: EntryHead, body: bytes | IO[bytes], expect: Expect) -> Info:
        """Write a record, whole or not at all.

        Raises:
            ConcurrencyError: Another writer was faster.
            StoreError: The cache fails.
        """
        if isinstance(body, bytes):
            size = len(body)
            pieces = sealed(start := packed(head, size), body)
        else:
            size = body.seek(0, 2)
            body.seek(0)
            pieces = framed(start := packed(head, size), iter(lambda: body.read(CHUNK), b""))
        return self.write(dirty_name(head.key), pieces, size_of(start, size), expect)

    def write(self, name: str, pieces: Body, total: int, expect: Expect) -> Info:
        """Write what is a record already."""
        if self.copies.recency is not None:
            self.copies.recency.reserve(name, total)
        return self.copies.write(name, pieces, expect, _PRIVATE)

    def remove(self, name: str, etag: str) -> bool:
        """Remove the record with this ETag; False where another took its place.

        Raises:
            StoreError: The cache fails.
        """
        try:
            self.copies.remove(name, etag)
        except ConcurrencyError:
            return False
        return True

    def list_records(self) -> dict[str, PendingChange]:
        """Return all records there are now, by key."""
        known, found = self._known, dict[str, PendingChange]()
        for info in self.cache._scan(DIRTY, ""):
            name = info.key
            if not is_record(name):
                continue
            record = known.get(name)
            if record is None or record.etag != info.etag:
                opened = self.open_record(name, None, 0, 0)
                if opened is None:
                    # A sync took it away: it is at the source by now.
                    continue
                record = PendingChange(name, opened.etag, opened.head, opened.size)
            found[name] = record
        self._known = found
        return {record.head.key: record for record in found.values()}

    def note_etag(self, key: str, etag: str | None) -> None:
        """Note the ETag that was read from the source; None if it lacks the blob."""
        seen = self._seen
        if etag is None:
            seen.pop(key, None)
            return
        if len(seen) >= _SEEN and key not in seen:
            seen.clear()
        seen[key] = etag

    def find_base(self, key: str) -> tuple[Expect, int | None]:
        """Return the source's version that a change of this key is based on, `ANY` if none was read here; and
        its permission bits, if they are known and limit a copy."""
        clean = self.copies.read_head(clean_name(key), key)
        return (self._seen.get(key, ANY), None) if clean is None else (clean[0].base, clean[0].mode)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        opened = self.open_record(dirty_name(key), key, start, stop)
        if opened is None or opened.head.kind == HOLD:
            try:
                info, pieces = self._store._read(key, start, stop)
            except BlobNotFoundError:
                self.note_etag(key, None)
                raise
            self.note_etag(key, info.etag)
            return info, pieces
        if not alive(opened.head):
            raise BlobNotFoundError(key=key)
        return stored_info(opened.head, opened.size), opened.pieces

    def _info(self, key: str) -> Info:
        opened = self.open_record(dirty_name(key), key, 0, 0)
        if opened is None or opened.head.kind == HOLD:
            return self._store._info(key)
        if not alive(opened.head):
            raise BlobNotFoundError(key=key)
        return stored_info(opened.head, opened.size)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        # The records first: what a sync takes away after that is at the source before that is listed.
        return self._merge(self._list_changes(), self.source._scan, prefix, after)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        return self._merge(self._list_changes(), self.source._survey, prefix, after)

    def _list_changes(self) -> dict[str, Info | None]:
        """Return the infos of what is recorded, by key; None for deleted keys."""
        return {
            key: stored_info(record.head, record.size) if alive(record.head) else None
            for key, record in self.list_records().items()
            if record.head.kind != HOLD
        }

    def _merge(
        self,
        changed: dict[str, Info | None],
        scan: Callable[[str, str], Iterator[E]],
        prefix: str,
        after: str,
    ) -> Iterator[E | Info]:
        keys = sorted(key for key in changed if key.startswith(prefix) and key > after)
        ours = (info for info in map(changed.get, keys) if info is not None)
        # Whatever the source has, a record says what is at its key.
        theirs = (
            entry for entry in scan(prefix, after) if isinstance(entry, LeftOut) or entry.key not in changed
        )
        return merge(theirs, ours, key=place_of)

    def _children(self, prefix: str) -> Iterator[str | Info]:
        return group_children(partial(self._merge, self._list_changes(), self.source._scan), prefix)

    def _digest(self, key: str, algorithm: str) -> str | None:
        opened = self.open_record(dirty_name(key), key, 0, 0)
        if opened is None or opened.head.kind == HOLD:
            return self.source._digest(key, algorithm)
        return None

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        kind = attributes.content_type
        if kind is not None and len(kind.encode(errors="surrogatepass")) > FIELD:
            raise InvalidArgumentError(
                f"with write-back a content_type must have at most {FIELD} UTF-8 bytes"
            )
        # The record may have to be written more than once, and a body can be read only once.
        data, body = gather(body)
        if data is not None:
            return self._record(key, data, expect, attributes)
        import tempfile

        with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as spool:
            for piece in body:
                spool.write(piece)
            return self._record(key, spool, expect, attributes)

    def _record(self, key: str, body: bytes | IO[bytes], expect: Expect, attributes: Attributes) -> Info:
        name, token, now = dirty_name(key), urandom(8), micros()
        expires = None if attributes.expires is None else micros(attributes.expires)
        metadata = written_metadata(attributes.metadata)
        head = EntryHead(PUT, key, now, expires, attributes.content_type, ANY, now, token, metadata=metadata)
        with self._lock(name):
            while True:
                state = self._read_state(key, name, ask=expect is not ANY)
                if expect is not ANY:
                    self._check(name, state, expect)
                mode = state.mode if attributes.mode is None else attributes.mode
                head = head._replace(base=state.base, mode=mode)
                try:
                    self.write_record(head, body, state.expect)
                except ConcurrencyError:
                    continue
                if state.unsure:
                    self._rebase_if_raced(head)
                size = len(body) if isinstance(body, bytes) else body.tell()
                return stored_info(head, size)

    def _delete(self, key: str, expect: Expect) -> bool:
        name = dirty_name(key)
        with self._lock(name):
            while True:
                state = self._read_state(key, name, ask=True)
                if expect is not ANY:
                    self._check(name, state, expect)
                if state.info is None:
                    self._take_back(name, state)
                    return False
                now, base = micros(), state.base
                if state.hold and expect is ANY and (read := self.find_base(key)[0]) is not ANY:
                    # As a put: what was read before is what this deletes, and not what came since.
                    base = read
                head = EntryHead(TOMBSTONE, key, now, base=base, stamped=now, token=urandom(8))
                try:
                    self.write_record(head, b"", state.expect)
                except ConcurrencyError:
                    continue
                return True

    def _lock(self, name: str) -> threading.Lock:
        # Threads that would only make each other begin again take turns; no promise depends on it.
        return self._locks[int(name[-2:], 16) % _STRIPES]

    def _read_state(self, key: str, name: str, *, ask: bool) -> _State:
        """Return the state of a key now.

        Where there is no record and the source is asked, a note is left first. A writer that comes in between
        replaces it, even if a sync then removes its record again: so it is noticed.
        """
        patience = 5
        while True:
            try:
                opened = self.open_record(name, key, 0, 0)
            except WrongKeyError:
                # It isn't damaged: a handle with the right key can read it.
                raise
            except IntegrityError:
                if ask:
                    raise
                # What is put unconditionally takes the place of what is damaged.
                return _State(self.cache._info(name).etag, ANY, None, hold=False, unsure=False)
            if opened is not None and opened.head.kind != HOLD:
                info = stored_info(opened.head, opened.size) if alive(opened.head) else None
                return _State(opened.etag, opened.head.base, info, False, False, opened.head.mode)
            expect = ABSENT if opened is None else opened.etag
            if not ask:
                # What was read before is what this replaces: if the source changes, that is a conflict.
                base, mode = self.find_base(key)
                return _State(expect, base, None, False, base is not ANY, _mark_inherited(mode))
            if opened is not None and patience:
                # Another writer compares at this moment; replacing its note would only make it begin again.
                patience -= 1
                time.sleep(random.random() * 0.002)
                continue
            try:
                hold = self.write_record(
                    EntryHead(HOLD, key, stamped=micros(), token=urandom(8)), b"", expect
                ).etag
                break
            except ConcurrencyError:
                continue
        state = _State(hold, ABSENT, None, hold=True, unsure=False)
        try:
            info = self._store._info(key)
        except BlobNotFoundError:
            return state
        except BaseException:
            self._take_back(name, state)
            raise
        return state._replace(base=info.etag, info=info, mode=_mark_inherited(mode_of(info)))

    def _take_back(self, name: str, state: _State) -> None:
        if state.hold:
            self.remove(name, str(state.expect))

    def _check(self, name: str, state: _State, expect: Expect) -> None:
        actual = None if state.info is None else state.info.etag
        try:
            check_expected(actual, expect)
        except ConcurrencyError:
            self._take_back(name, state)
            raise

    def _rebase_if_raced(self, head: EntryHead) -> None:
        """Handle a race: a sync may have changed the source between the look at the copy and the write of the
        record. It then left another copy, and the record is based on that."""
        clean = self.copies.read_head(clean_name(head.key), head.key)
        # If there is none any more, it was evicted, perhaps to make room for this record.
        base = head.base if clean is None else clean[0].base
        name = dirty_name(head.key)
        while base != head.base:
            opened = self.open_record(name, head.key)
            if opened is None or opened.head.token != head.token or self.rebase(name, opened, base):
                return

    def rebase(self, name: str, opened: Opened, base: Expect) -> bool:
        """Change the base of a record; return False if another has replaced it since.

        Raises:
            StoreError: The cache fails.
        """
        start = packed(opened.head._replace(base=base), opened.size)
        try:
            self.write(name, framed(start, opened.pieces), size_of(start, opened.size), opened.etag)
        except ConcurrencyError:
            return False
        return True

    def dirty(self) -> dict[str, Literal["put", "delete"]]:
        """Return the changes that wait for a sync, in key order."""
        found = self.list_records()
        return {
            key: "put" if found[key].head.kind == PUT else "delete"
            for key in sorted(found)
            if found[key].head.kind in (PUT, TOMBSTONE)
        }


def _mark_inherited(mode: int | None) -> int | None:
    return None if mode is None else mode | INHERITED


def _lost_error(key: str | None, name: str) -> IntegrityError:
    what = "put it again" if key is not None else f"to discard the change, delete {name!r} from the cache"
    return IntegrityError(
        "a change that isn't uploaded yet is damaged in the cache, or a newer version of holdall wrote it, "
        f"which can upload it; else {what}",
        key=key,
    )
