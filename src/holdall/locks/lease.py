"""The lease of one holder: renewed by a thread of its own until the block ends."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final
from weakref import ref

from holdall.blob import Can, Expect, Info
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    LockLostError,
    SerializationError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
    naming,
)
from holdall.locks.record import Holder, Record, decode
from holdall.threads import start

if TYPE_CHECKING:
    from holdall.store import Store

_log = logging.getLogger("holdall.locks")

_SHARE: Final = 0.99
"""The part of the ttl that a holder counts on: the clocks of two hosts don't run at quite the same speed."""
_LONGEST_PAUSE: Final = 86_400.0
_TRIES: Final = 5

# The clock that goes on while a computer sleeps, where there is one.
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Return the seconds of a clock that nobody sets."""
    return time.clock_gettime(_CLOCK)


def look(store: Store, key: str) -> tuple[Record, str] | None:
    """Return what the blob of a lock says, and its ETag; None if there is none."""
    try:
        with naming(key):
            info, pieces = store._read(store._checked(key), 0, None)
            return decode(info, pieces), info.etag
    except BlobNotFoundError:
        return None


class Lease:
    """A lock that this process has, or had.

    Args:
        store: Where the lock is.
        key: The key of its blob.
        holder: Who takes it.
        token: The fencing number.
        ttl: Seconds without a renewal after which others take the lock.
        forget: Whether a release deletes the blob, where the store can delete what it expects.
    """

    def __init__(self, store: Store, key: str, holder: Holder, token: int, ttl: float, forget: bool) -> None:
        self.token = token
        self.holder = holder
        self._store, self._key, self._ttl, self._forget = store, key, ttl, forget
        self._process = os.getpid()
        self._renewals = 0
        self._etag = ""
        self._until = 0.0
        """When this process can't be sure of the lock any more, by `clock`."""
        self._taken = self._ended = self._failing = False
        # One call on the blob at a time: of two, the one that uses an older ETag would fail.
        self._mutex = threading.Lock()
        # What wakes the thread. `put` may be called while the owner is destroyed, at any moment, and lets no
        # interrupt in there, where it would be swallowed.
        self._wakes: SimpleQueue[object] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def taken(self) -> bool:
        """Whether it was taken, and isn't known to be another's."""
        return self._taken

    def take(self, expect: Expect) -> None:
        """Write the blob in place of what is there.

        Raises:
            ConcurrencyError: Something else is there by now.
            UnsupportedOperation: The store lets blobs expire before the lock does.
        """
        info = self._write(self._record(), expect)
        self._taken = True
        lives = None if info.expires is None else (info.expires - info.modified).total_seconds()
        if lives is not None and lives < self._ttl:
            raise UnsupportedOperation(
                f"blobs expire here after {lives:g} seconds, sooner than a lock with a ttl of {self._ttl:g}: "
                "give a shorter ttl, or use the store below",
                key=self._key,
            )

    def keep(self, owner: object) -> None:
        """Renew it from now on, until it ends, or until nobody has the owner any more."""
        arguments = (self, ref(owner, self._wakes.put))
        self._thread = threading.Thread(target=Lease.serve, args=arguments, name="holdall-lock", daemon=True)
        try:
            start(self._thread)
        except RuntimeError as error:
            raise StoreUnavailableError(
                f"the thread that renews a lock can't be started ({error}); it wasn't taken", key=self._key
            ) from error

    @property
    def lost(self) -> bool:
        """Whether somebody else may have the lock."""
        if not self._taken or os.getpid() != self._process:
            return True
        return not self._ended and clock() > self._until

    @property
    def ended(self) -> bool:
        """Whether it was released, or given up."""
        return self._ended

    def check(self) -> None:
        """Make sure that nobody else has the lock.

        Raises:
            LockLostError: Somebody may have it.
        """
        if os.getpid() != self._process:
            raise LockLostError(
                "another process holds this lock, which was forked while it did", key=self._key
            )
        if self._ended:
            raise LockLostError("this lock was released", key=self._key)
        if not self.lost:
            return
        with self._mutex:
            # It is silent for too long, but if the blob is still the one that was written, nobody took it.
            try:
                if self._taken:
                    self._prolong()
            except StoreError as error:
                raise self._error() from error
        if self.lost:
            raise self._error()

    def _renew(self) -> float | None:
        """Renew it; return how many seconds to wait before the next time, None if there is none."""
        with self._mutex:
            if self._ended or not self._taken:
                return None
            pause = min(self._ttl / 3, _LONGEST_PAUSE)
            try:
                self._prolong()
            except StoreError as error:
                level = logging.DEBUG if self._failing else logging.WARNING
                _log.log(level, "can't renew the lock %r, and try again: %s", self._key, error)
                self._failing = True
                return pause / 3
            self._failing = False
            return pause if self._taken else None

    def _prolong(self) -> None:
        self._renewals += 1
        self._change(lambda: self._write(self._record(), self._etag))

    def _change(self, act: Callable[[], object]) -> None:
        """Change the blob as long as it is this holder's."""
        for _ in range(_TRIES):
            try:
                act()
                return
            except ConcurrencyError:
                # The answer to an earlier renewal was lost, or the lock is.
                if not self._find():
                    return
        # What is read is older than what is there, as through a cache.
        self._taken = False

    def _find(self) -> bool:
        """Look whether the blob is this holder's still, and note its ETag."""
        try:
            found = look(self._store, self._key)
        except SerializationError:
            # Something else was put in its place.
            found = None
        self._taken = (
            found is not None and found[0].holder is not None and found[0].holder.id == self.holder.id
        )
        if found is not None:
            self._etag = found[1]
        return self._taken

    def _record(self) -> Record:
        return Record(self.token, self._ttl, self.holder, self._renewals)

    def _write(self, record: Record, expect: Expect) -> Info:
        sent = clock()
        info = self._store.put(self._key, record.encode(), expect=expect)
        self._etag = info.etag
        # Others count from a moment after this: they saw the blob later than it was sent.
        self._until = sent + self._ttl * _SHARE
        return info

    def end(self) -> None:
        """Release it.

        Raises:
            LockLostError: Somebody else has taken it meanwhile, or may have.
        """
        if os.getpid() != self._process:
            self.check()
        try:
            with self._mutex:
                if self._ended:
                    return
                self._ended = True
                try:
                    self._release()
                except StoreError as error:
                    if clock() > self._until:
                        raise self._error() from error
                    _log.warning(
                        "can't release the lock %r, which ends in %g seconds at most: %s",
                        *(self._key, self._ttl, error),
                    )
            if not self._taken:
                raise self._error()
        except LockLostError:
            raise
        except BaseException:
            self.give_up()
            raise
        finally:
            self._join()

    def give_up(self) -> None:
        """Release it as well as can be, if it is there, after an interrupt at any moment."""
        if os.getpid() != self._process:
            return
        self._ended = True
        with suppress(StoreError):
            if self._find():
                self._release()
        self._join()

    def _release(self) -> None:
        if self._taken:
            self._change(self._free)

    def _free(self) -> None:
        if self._forget and Can.CONDITIONAL_DELETE in self._store.can:
            self._store.delete(self._key, expect=self._etag)
        else:
            free = self._record()._replace(holder=None)
            self._store.put(self._key, free.encode(), expect=self._etag)

    def _join(self) -> None:
        self._wakes.put(None)
        thread = self._thread
        if thread is not None and thread.ident is not None and thread is not threading.current_thread():
            thread.join()

    def serve(self, owner: ref[object]) -> None:
        """Renew it, on its thread, until it ends."""
        pause: float | None = min(self._ttl / 3, _LONGEST_PAUSE)
        while pause is not None:
            with suppress(Empty):
                self._wakes.get(timeout=pause)
            if owner() is None:
                # An interrupt came as the block ended, so that nobody can release it any more.
                self.give_up()
                return
            pause = self._renew()

    def _error(self) -> LockLostError:
        return LockLostError(
            f"the lock wasn't renewed within {self._ttl:g} seconds, or its blob was deleted or replaced; "
            "another may have had it meanwhile: check what the block did",
            key=self._key,
        )
