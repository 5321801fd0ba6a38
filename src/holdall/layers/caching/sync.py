"""Uploading the changes in a write-back cache, in an order of steps that survives a kill at any point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from operator import itemgetter
from typing import Literal, NamedTuple, TypeAlias

from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    KeyConflictError,
    StoreError,
    SyncConflictError,
)
from holdall.layers.caching.copies import clean_name
from holdall.layers.caching.entry import (
    DIRTY,
    HOLD,
    INHERITED,
    INTENT,
    SENT,
    EntryHead,
    Opened,
    alive,
    digest_of,
    head_of,
    is_intent,
    is_record,
    micros,
    open_entry,
    packed,
    sealed,
    stored_info,
)
from holdall.layers.caching.writeback import PendingChange, WriteBack, dirty_name
from holdall.store import ABSENT, ANY, PLAIN, Attributes, Can, Expect, Info, Piece

Conflicts: TypeAlias = Literal["skip", "overwrite", "raise"]
"""What to do with a key that changed at the source since it was read."""

_SIZE = 16
_DELETED = bytes(_SIZE)
"""Stands for the digest of a deleted blob."""
_REMEMBERED = 256
"""Remember at most this many uploads of unknown outcome for a key."""
_ATTEMPTS = 100
_KEPT = timedelta(hours=1)
"""How long the note of an upload stays."""
_STALE = 600 * 10**6
"""Microseconds after which a comparing writer's note counts as left by a kill."""


@dataclass(frozen=True)
class SyncReport:
    """The result of a sync, by key."""

    uploaded: tuple[str, ...] = ()
    """Put to the source, or found there already with the same bytes."""
    deleted: tuple[str, ...] = ()
    """Deleted at the source."""
    conflicts: tuple[str, ...] = ()
    """Changed at the source since they were read: both sides are left as they are."""
    failures: Mapping[str, Exception] = field(default_factory=dict[str, Exception])
    """The changes that failed, and why; they are still recorded."""
    bytes: int = 0
    """The number of bytes of bodies that were uploaded."""

    @property
    def clean(self) -> bool:
        """Whether all that was recorded is at the source now."""
        return not self.conflicts and not self.failures


class _Result(NamedTuple):
    """What became of one record."""

    key: str
    what: Literal["uploaded", "deleted", "conflict"] | StoreError
    size: int = 0


def synchronise(back: WriteBack, conflicts: Conflicts, jobs: int) -> SyncReport:
    """Upload the recorded changes; the failure of one key doesn't stop the others.

    Raises:
        SyncConflictError: There are conflicts, and `etag_behavior` is `"raise"`.
        StoreError: The cache fails to list its records.
    """
    names = [info.key for info in back.cache._scan(DIRTY, "") if is_record(info.key)]
    settle = partial(_settle, back, conflicts == "overwrite")
    results = _call_for_each(names, settle, 1 if back.cache.inline and back.source.inline else jobs)
    refused = [dirty_name(each.key) for each in results if isinstance(each.what, KeyConflictError)]
    if refused:
        # What was in the way of a medium of folders may have been deleted since, by this very sync.
        results = [each for each in results if not isinstance(each.what, KeyConflictError)]
        results += _call_for_each(refused, settle, jobs)
    _sweep(back)
    report = _report(results)
    if report.conflicts and conflicts == "raise":
        named = ", ".join(map(repr, report.conflicts[:10])) + (", ..." if len(report.conflicts) > 10 else "")
        error = SyncConflictError(
            f"{len(report.conflicts)} blobs changed at the source since they were read: {named}; "
            "sync with 'skip' leaves them, 'overwrite' uploads them"
        )
        error.conflicts, error.report = report.conflicts, report
        raise error
    return report


def _report(results: list[_Result]) -> SyncReport:
    keys: dict[object, list[str]] = {}
    failures: dict[str, Exception] = {}
    for key, what, _ in sorted(results, key=itemgetter(0)):
        if isinstance(what, StoreError):
            failures[key] = what
        else:
            keys.setdefault(what, []).append(key)
    uploaded, deleted, conflicts = (tuple(keys.get(what, ())) for what in ("uploaded", "deleted", "conflict"))
    return SyncReport(uploaded, deleted, conflicts, failures, sum(each.size for each in results))


def _call_for_each(names: list[str], settle: Callable[[str], _Result | None], jobs: int) -> list[_Result]:
    if jobs == 1 or len(names) < 2:
        return [each for each in map(settle, names) if each is not None]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(jobs, len(names)), "holdall-sync") as pool:
        return [each for each in pool.map(settle, names) if each is not None]


def _settle(back: WriteBack, force: bool, name: str) -> _Result | None:
    """Bring one record to the source; return None if there is nothing to bring."""
    key = name
    try:
        opened = back.open_record(name, None, 0, 0)
        if opened is None:
            return None
        head, key = opened.head, opened.head.key
        if head.kind == HOLD:
            if not 0 <= micros() - head.stamped < _STALE:
                back.remove(name, opened.etag)
            return None
        return _Upload(back, PendingChange(name, opened.etag, head, opened.size), force).run()
    except StoreError as error:
        error.key = error.key or key
        return _Result(key, error)


class _Changed(Exception):
    """The record was replaced since it was read; the next sync uploads the new one."""


class _Upload:
    """One record on its way.

    The steps, in order: note what is sent; write the source; replace the copy in the cache; remove the
    record. A kill between any two leaves the record. The next sync recognizes its own upload at the source by
    the note, so it isn't a conflict, even if the record was changed since. The note stays for a while, for
    other handles on this cache, which may remember an older version that they read.
    """

    def __init__(self, back: WriteBack, record: PendingChange, force: bool) -> None:
        self._back, self._record = back, record
        self._key, self._head = record.head.key, record.head
        self._forced = force
        self._puts = alive(record.head)
        self._data: bytes | None = None
        """The body that was uploaded, if it is short."""
        self._noted = ""
        """The ETag of the note."""
        self._beside = False
        """Whether the note lists earlier uploads, too."""
        self._sent = SENT + digest_of(self._key)

    def run(self) -> _Result | None:
        """Bring it to the source; return None if the record was replaced since it was read."""
        copies, name, key = self._back.copies, clean_name(self._key), self._key
        base, digest = self._head.base, b"" if self._puts else _DELETED
        mark, marked = "", False
        try:
            for _ in range(_ATTEMPTS):
                expect = base
                if base is ANY:
                    # The source's state, and then the record once more: while it is there, no other sync has
                    # brought to the source what was written here later.
                    expect = self._current()
                    self._check_record()
                if not self._noted:
                    digest = digest or self._digest()
                    self._note(digest)
                # In place of the copy: none is right until the source was written, nor one that another
                # sync leaves meanwhile.
                marked = True
                mark = mark or copies.mark(name, key)
                # Before the source is written or read: until then nothing newer can be there.
                now = micros()
                try:
                    info, size = self._act(expect)
                except ConcurrencyError:
                    if base is ANY:
                        continue
                    digest = digest or self._digest()
                    state, info = self._source_state(digest)
                    if state == "same":
                        size, self._data = 0, self._body().data if self._puts else None
                    elif state == "ours" or self._forced:
                        base = ANY
                        continue
                    else:
                        return _Result(key, "conflict")
                if info is not None and self._data is not None:
                    copy = head_of(info, now, self._head.attributes.mode)
                    if copies.put(name, copy, self._data, len(self._data), mark) is not None:
                        marked = False
                self._back.note_etag(key, None if info is None else info.etag)
                if self._settle_record(ABSENT if info is None else info.etag):
                    self._note_last(digest)
                return _Result(key, "uploaded" if self._puts else "deleted", size)
            raise ConcurrencyError("the source changes faster than it can be written", key=key)
        except _Changed:
            return None
        finally:
            if marked:
                copies.unmark(name, mark or None)

    def _source_info(self) -> Info | None:
        try:
            return self._back.source._info(self._key)
        except BlobNotFoundError:
            return None

    def _current(self) -> Expect:
        info = self._source_info()
        return ABSENT if info is None else info.etag

    def _act(self, expect: Expect) -> tuple[Info | None, int]:
        """Write or delete at the source, if that is what is expected there.

        Raises:
            ConcurrencyError: It isn't.
        """
        source, key = self._back.source, self._key
        if not self._puts:
            if expect is ABSENT:
                if self._source_info() is not None:
                    raise ConcurrencyError(key=key)
                return None, 0
            source._delete(key, self._choose_condition(expect, Can.CONDITIONAL_DELETE))
            return None, 0
        expect = self._choose_condition(expect, Can.CREATE if expect is ABSENT else Can.SWAP)
        opened = self._body()
        self._data = opened.data
        kept = stored_info(opened.head, opened.size)
        mode = self._head.mode
        # The mode that the record inherited is there already, or was changed since on purpose.
        given = None if mode is None or mode & INHERITED else mode
        attributes = Attributes(kept.content_type, kept.expires, given, kept.metadata or None)
        pieces = self._guard_record(opened.pieces if opened.data is None else (opened.data,))
        return source._write(key, pieces, expect, attributes), opened.size

    def _guard_record(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Return a body that fails at its end if the record was replaced or removed since: so a blob that
        another handle deleted and synced in between isn't brought back."""
        yield from pieces
        self._check_record()

    def _choose_condition(self, expect: Expect, flag: Can) -> Expect:
        """Return the condition for the write at the source; if it can't compare, look just before."""
        if flag in self._back.source.can:
            return expect
        if expect is not ANY and self._current() != expect:
            raise ConcurrencyError(key=self._key)
        return ANY

    def _source_state(self, digest: bytes) -> tuple[str, Info | None]:
        """Return whether the source has the record's bytes, an upload of ours, or a conflict."""
        info: Info | None = None
        try:
            info, pieces = self._back.source._read(self._key, 0, None)
            found = _digest_of(pieces)
        except BlobNotFoundError:
            found = _DELETED
        if found == digest:
            return "same", info
        return ("ours" if found in self._read_notes(but=digest)[1] else "conflict"), info

    def _body(self) -> Opened:
        opened = self._back.open_record(self._record.name, self._key)
        if opened is None or opened.etag != self._record.etag:
            raise _Changed
        return opened

    def _digest(self) -> bytes:
        return _digest_of(self._body().pieces)

    def _check_record(self) -> None:
        opened = self._back.open_record(self._record.name, self._key, 0, 0)
        if opened is None or opened.etag != self._record.etag:
            raise _Changed

    def _settle_record(self, now: Expect) -> bool:
        """Remove the record, since the source has its bytes; return False if one is left that knows less."""
        back, name, etag = self._back, self._record.name, self._record.etag
        while not back.remove(name, etag):
            opened = back.open_record(name, self._key)
            if opened is None or opened.head.kind == HOLD or opened.head.base == now:
                return True
            if opened.head.token == self._head.token:
                # The same write, whose base another sync recorded.
                etag = opened.etag
                continue
            # It was written again meanwhile, on top of what was uploaded.
            if self._current() != now:
                return False
            if back.rebase(name, opened, now):
                return True
        return True

    def _read_notes(self, but: bytes) -> tuple[Expect, list[bytes]]:
        opened = open_entry(self._back.cache, self._sent, self._key, 0, None, ranges=False)
        if opened is None:
            return ABSENT, []
        data = opened.data or b""
        each = [data[at : at + _SIZE] for at in range(0, len(data), _SIZE)]
        return opened.etag, [digest for digest in each if digest != but]

    def _note(self, digest: bytes) -> None:
        while True:
            try:
                etag, before = self._read_notes(digest)
            except IntegrityError:
                etag, before = ANY, list[bytes]()
            self._beside = bool(before)
            try:
                self._noted = self._write_note([*before, digest][-_REMEMBERED:], etag)
                return
            except ConcurrencyError:
                continue

    def _note_last(self, digest: bytes) -> None:
        """Forget earlier uploads: if their bytes appear at the source again, another writer put them
        there."""
        if not self._beside:
            return
        try:
            self._write_note([digest], self._noted)
        except ConcurrencyError:
            # Another sync added to it.
            return
        except StoreError as error:
            self._back.copies.failed("write", error)

    def _write_note(self, digests: Iterable[bytes], expect: Expect) -> str:
        data = b"".join(digests)
        note = sealed(packed(EntryHead(INTENT, self._key, stamped=micros()), len(data)), data)
        return self._back.cache._write(self._sent, note, expect, PLAIN).etag


def _digest_of(pieces: Iterable[Piece]) -> bytes:
    digest = blake2b(digest_size=_SIZE)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _sweep(back: WriteBack) -> None:
    """Remove old notes whose record is gone."""
    cache, old = back.cache, datetime.now(UTC) - _KEPT
    try:
        for info in list(cache._scan(SENT, "")):
            if not is_intent(info.key) or info.modified > old:
                continue
            if not cache.exists(DIRTY + info.key[len(SENT) :]):
                cache._delete(info.key, info.etag)
    except StoreError as error:
        back.copies.failed("sweep", error)
