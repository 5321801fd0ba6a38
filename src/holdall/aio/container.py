"""A container as one handle knows it: copies, ETags, and changes that wait for a sync."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from itertools import count
from typing import Literal, NamedTuple, TypeAlias

from holdall.arguments import check_choice
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    PartialWriteError,
    StoreClosedError,
    StoreError,
    SyncConflictError,
    UnsupportedOperation,
)
from holdall.forks import begin_anew
from holdall.keylocks import KeyLocks
from holdall.keys import check_prefix
from holdall.layers.caching import CacheMode, SyncReport
from holdall.store import ABSENT, ANY, Can, Expect, Store
from holdall.values.mapping import read_whole

EtagBehavior: TypeAlias = Literal["skip", "overwrite", "raise"]
"""What to do with a blob that changed since this handle read it."""

_JOBS = 8
_log = logging.getLogger(__name__)


class _Known(NamedTuple):
    """What was last seen of a blob."""

    at: int
    """When, as the number of the call. A read counts from its begin and a write from its end, so that a slow
    read never replaces what was seen later."""
    state: Expect
    """Its ETag; `ABSENT`; or `ANY`, where nobody compares."""
    copy: bytes | None


class _Change:
    """A write that waits for a sync. Compared by identity: each write is another."""

    __slots__ = "content_type", "data"

    def __init__(self, data: bytes | None, content_type: str | None = None) -> None:
        self.data = data
        """None where the blob is to be deleted."""
        self.content_type = content_type


class Container:
    """The blobs of a store, with the memory of one handle. Its calls are plain ones: those that go to the
    store are for worker threads, where each runs to its end, so that a cancelled `await` leaves this memory
    as right as the store; `recall` and `record` never wait.

    Args:
        store: The blobs. It is closed with this.
        mode: Whether copies are kept, and whether a write waits for a sync.
        compares: Whether a write goes with the ETag that was seen last.
    """

    def __init__(self, store: Store, mode: CacheMode, compares: bool) -> None:
        self._store = store
        self._keeps = mode is not CacheMode.NONE
        self.defers = mode is CacheMode.WRITE_BACK
        self._compares = compares
        self._closed = False
        self._clock = count(1)
        self._known: dict[str, _Known] = {}
        self._changes: dict[str, _Change] = {}
        self._unlock()
        begin_anew(self, Container._unlock)

    def _unlock(self) -> None:
        """Make new locks, here and in the child of a fork, where nobody would release the old ones."""
        # No call to the store is made while this is held.
        self._lock = threading.Lock()
        self._turns = KeyLocks()
        self._syncing = threading.Lock()

    @property
    def inline(self) -> bool:
        return self._store.inline

    def checked(self, key: object) -> str:
        self.need_open()
        return self._store._checked(key)

    def need_open(self) -> None:
        if self._closed:
            raise StoreClosedError("this AsyncBlobStore is closed; make another")

    def recall(self, key: str) -> bytes | None:
        """Return the bytes of a blob, if the store needn't be asked for them.

        Raises:
            BlobNotFoundError: This handle deleted it, and the delete waits for a sync.
        """
        key = self.checked(key)
        change = self._changes.get(key)
        if change is None:
            known = self._known.get(key)
            return None if known is None else known.copy
        if change.data is None:
            raise BlobNotFoundError(key=key)
        return change.data

    def record(self, key: str, data: bytes | None, content_type: str | None = None) -> None:
        """Note a write that waits for a sync."""
        key = self.checked(key)
        with self._lock:
            self.need_open()
            self._changes[key] = _Change(data, content_type)

    def knows(self, key: str) -> bool | None:
        """Return whether a blob is there, as far as this handle knows without asking the store."""
        key = self.checked(key)
        change, known = self._changes.get(key), self._known.get(key)
        if change is not None:
            return change.data is not None
        if known is not None and known.copy is not None:
            return True
        return False if known is not None and known.state is ABSENT else None

    def changes(self) -> dict[str, Literal["put", "delete"]]:
        self.need_open()
        with self._lock:
            changes = sorted(self._changes.items())
        return {key: "delete" if change.data is None else "put" for key, change in changes}

    def forget(self, key: str) -> bool:
        """Forget all about a key; return whether a change that waited for a sync is lost with it."""
        key = self.checked(key)
        with self._lock:
            self._known.pop(key, None)
            return self._changes.pop(key, None) is not None

    def read(self, key: str) -> bytes:
        """Return the bytes of a blob.

        Raises:
            BlobNotFoundError: There is none.
        """
        held = self.recall(key)
        if held is not None:
            return held
        if not (self._keeps or self._compares):
            return self._store[key]
        key, at = self.checked(key), next(self._clock)
        try:
            info, data = read_whole(self._store, key)
        except BlobNotFoundError as error:
            self._learn(key, at, ABSENT, None)
            error.key = key
            raise
        except StoreError as error:
            error.key = key
            raise
        self._learn(key, at, info.etag, data)
        return data

    def exists(self, key: str) -> bool:
        key = self.checked(key)
        change = self._changes.get(key)
        if change is not None:
            return change.data is not None
        at, there = next(self._clock), self._store.exists(key)
        if not there and self._compares:
            # So the put that follows `if not await store.exists(key)` creates. Where more is known it stays
            # known: this call has read no bytes, and what the caller holds are still those read before.
            with self._lock:
                self._known.setdefault(key, _Known(at, ABSENT, None))
        return there

    def put(self, key: str, data: bytes, content_type: str | None) -> None:
        """Write a blob.

        Raises:
            ConcurrencyError: It changed since this handle saw it.
        """
        with self._writing(key) as state:
            etag = self._put(key, data, content_type, state)
            self._learn(key, next(self._clock), etag, data)

    def delete(self, key: str) -> bool:
        """Delete a blob, if it is there; return whether it was.

        Raises:
            ConcurrencyError: It changed since this handle saw it.
        """
        with self._writing(key) as state:
            there = self._delete(key, state)
            self._learn(key, next(self._clock), ABSENT, None)
        return there

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with a string, in their order."""
        self.need_open()
        prefix = check_prefix(prefix)
        # Before the listing: what is uploaded during it is in one of the two.
        with self._lock:
            changes = dict(self._changes)
        found = self._store.iterate_keys(prefix)
        if not changes:
            return list(found)
        put = {key for key, change in changes.items() if change.data is not None and key.startswith(prefix)}
        return sorted(put.union(key for key in found if key not in changes))

    def sync(self, etag_behavior: EtagBehavior = "skip") -> SyncReport:
        """Bring the changes to the store.

        Raises:
            SyncConflictError: Blobs changed since they were seen, and `etag_behavior` is `"raise"`.
            PartialWriteError: Some changes failed for another reason.
        """
        check_choice(etag_behavior, "etag_behavior", ("skip", "overwrite", "raise"))
        self.need_open()
        with self._syncing:
            return self._sync(etag_behavior)

    def close(self) -> None:
        """Sync, then close the store.

        Raises:
            PartialWriteError: Some changes didn't get there. The container stays open, with them.
        """
        while not self._closed:
            with self._lock:
                if not self._changes:
                    self._closed = True
                    break
            report = self.sync()
            if report.conflicts:
                failures: dict[str, Exception] = {
                    key: ConcurrencyError("it changed since this handle read it", key=key)
                    for key in report.conflicts
                }
                raise PartialWriteError(
                    f"{_few(failures)} changed since this handle read them, so their new values weren't "
                    "uploaded, and the store stays open: sync('overwrite') uploads them, forget(key) drops "
                    "one; then close it",
                    failures=failures,
                    written=(*report.uploaded, *report.deleted),
                )
        self._store.close()

    def abandon(self) -> None:
        """Drop the changes without a sync, and warn of them. It never waits; the store is closed after it."""
        with self._lock:
            self._closed, lost = True, sorted(self._changes)
            self._changes.clear()
        if lost:
            _warn(f"{_few(lost)} had changes that weren't uploaded, since the body of `async with` raised")

    def __del__(self) -> None:
        changes: dict[str, _Change] | None = getattr(self, "_changes", None)
        if changes and not self._closed:
            _warn(f"{_few(changes)} had changes that weren't uploaded, since nobody closed the store")

    @contextmanager
    def _writing(self, key: str) -> Generator[Expect]:
        """The turn of a writer: what it expects to be there. Writers of this handle on one key go one after
        another, so that they never conflict with each other."""
        key = self.checked(key)
        with self._turns.of(key):
            try:
                yield self._expect_of(key)
            except BaseException:
                # It may have been written or not, or changed by others: the copy is good for nothing. The
                # ETag stays, so that only a read allows the next write.
                with self._lock:
                    known = self._known.get(key)
                    if known is not None:
                        self._known[key] = _Known(next(self._clock), known.state, None)
                raise

    def _expect_of(self, key: str) -> Expect:
        """Return the state to compare with."""
        if not self._compares:
            return ANY
        # Asked here, on a worker thread: some stores have to ask their server.
        can = self._store.can
        needed = (Can.CREATE, Can.SWAP, Can.CONDITIONAL_DELETE)
        missing = [flag.name or "" for flag in needed if flag not in can]
        if missing and Can.WRITE in can:  # else the write itself says why it can't
            raise UnsupportedOperation(
                f"ConcurrencyMode.ETAG needs a store that compares ETags as it writes, and {self._store!r} "
                f"lacks {' and '.join(missing)}; use another store, or ConcurrencyMode.NONE",
                key=key,
            )
        known = self._known.get(key)
        return ANY if known is None else known.state

    def _learn(self, key: str, at: int, state: Expect, copy: bytes | None) -> None:
        if not (self._keeps or self._compares):
            return
        new = _Known(at, state if self._compares else ANY, copy if self._keeps else None)
        with self._lock:
            old = self._known.get(key)
            if old is None or old.at < at:
                self._known[key] = new

    def _put(self, key: str, data: bytes, content_type: str | None, state: Expect) -> str:
        if Can.ATTRIBUTES not in self._store.can:
            content_type = None
        return self._store.put(key, data, expect=state, content_type=content_type).etag

    def _delete(self, key: str, state: Expect) -> bool:
        if state is ABSENT:
            if self._store.exists(key):
                raise BlobExistsError("it was created since this handle saw that it was absent", key=key)
            return False
        try:
            return self._store.delete(key, expect=state)
        except ConcurrencyError:
            # Deleted by another writer: all is as it should be.
            if self._store.exists(key):
                raise
            return False

    def _sync(self, etag_behavior: EtagBehavior) -> SyncReport:
        with self._lock:
            changes = sorted(self._changes.items())
        force = etag_behavior == "overwrite"
        # Deletes first: in a medium of folders, `a` may be in the way of `a/b`.
        results: dict[str, StoreError | None] = {}
        for puts in (False, True):
            batch = [each for each in changes if (each[1].data is not None) is puts]
            sent = self._each(lambda each: self._send(*each, force), batch)
            results |= {key: error for (key, _), error in zip(batch, sent, strict=True)}
        done = {key: change for key, change in changes if results[key] is None}
        report = SyncReport(
            uploaded=tuple(key for key, change in done.items() if change.data is not None),
            deleted=tuple(key for key, change in done.items() if change.data is None),
            conflicts=tuple(key for key, error in results.items() if isinstance(error, ConcurrencyError)),
            failures={
                key: error
                for key, error in results.items()
                if error is not None and not isinstance(error, ConcurrencyError)
            },
            bytes=sum(len(change.data or b"") for change in done.values()),
        )
        self._tell(report, etag_behavior)
        return report

    def _tell(self, report: SyncReport, etag_behavior: EtagBehavior) -> None:
        """Raise or log what a sync didn't do."""
        if report.conflicts and etag_behavior == "raise":
            error = SyncConflictError(
                f"{_few(report.conflicts)} changed since this handle read them, and weren't uploaded; "
                "sync('overwrite') uploads them, forget(key) drops the change"
            )
            error.conflicts, error.report = report.conflicts, report
            raise error
        if report.failures:
            first = next(iter(report.failures.values()))
            raise PartialWriteError(
                f"{_few(report.failures)} couldn't be uploaded ({first}); the changes are kept: sync again",
                failures=dict(report.failures),
                written=(*report.uploaded, *report.deleted),
            ) from first
        if report.conflicts:
            _log.warning(
                "sync left out %s, which changed since this handle read them", _few(report.conflicts)
            )

    def _each(
        self,
        send: Callable[[tuple[str, _Change]], StoreError | None],
        batch: list[tuple[str, _Change]],
    ) -> list[StoreError | None]:
        if self.inline or len(batch) < 2:
            return list(map(send, batch))
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(_JOBS, len(batch)), thread_name_prefix="holdall-sync") as pool:
            return list(pool.map(send, batch))

    def _send(self, key: str, change: _Change, force: bool) -> StoreError | None:
        """Bring one change to the store; return the error that kept it."""
        try:
            state = self._expect_of(key)
            if force:
                state = ANY
            if change.data is None:
                self._delete(key, state)
                state = ABSENT
            else:
                state = self._put(key, change.data, change.content_type, state)
        except StoreError as error:
            return error
        with self._lock:
            self._known[key] = _Known(next(self._clock), state if self._compares else ANY, change.data)
            if self._changes.get(key) is change:
                del self._changes[key]
            # Else it was written again meanwhile, on top of what was just sent.
        return None


def _few(keys: Iterable[str]) -> str:
    """Return how many blobs these are, and the names of the first."""
    names = list(keys)
    more = ", ..." if len(names) > 10 else ""
    count = f"{len(names)} blobs" if len(names) != 1 else "1 blob"
    return f"{count} ({', '.join(map(repr, names[:10]))}{more})"


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
