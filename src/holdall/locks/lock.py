"""A lock in a store: one holder at a time, on any number of hosts."""

from __future__ import annotations

import os
import random
import threading
import time
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self

from holdall.arguments import check_seconds
from holdall.blob import ABSENT, Can
from holdall.errors import (
    ConcurrencyError,
    InvalidArgumentError,
    LockHeldError,
    LockLostError,
    StoreError,
    naming,
)
from holdall.locks.lease import Lease, clock, look
from holdall.locks.record import Holder, Record, new_holder

if TYPE_CHECKING:
    from holdall.store import Store

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.1
_LONGEST_PAUSE_FAR: Final = 0.5


class Lock:
    """A lock in a store. `store.lock("job")` makes one; `with` takes and releases it.

    Who holds it renews it in the background. A holder that is silent for its ttl, because it was killed or
    cut off, loses it. Whoever waits counts the ttl by their own clock, from when they last saw the blob
    change, so that no two hosts need to agree on the time.

    Args:
        store: A store that can SWAP.
        key: The key of the lock's blob.
        ttl: Seconds of silence after which others take it.
        wait: Seconds to wait for it; None for ever.
        forget: Whether a release deletes the blob, where the store can delete what it expects. The fencing
            number then grows only as far as the hosts' clocks agree.

    >>> from holdall import MemoryStore
    >>> store = MemoryStore()
    >>> with store.lock("job") as lock:
    ...     first = lock.token
    >>> with store.lock("job") as lock:
    ...     lock.token > first
    True
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        ttl: float | timedelta = 30,
        wait: float | timedelta | None = None,
        forget: bool = False,
    ) -> None:
        self._store = store
        self._key = store._checked(key)
        self._ttl = check_seconds(ttl, "the ttl of a lock")
        self._wait = _check_wait(wait)
        self._forget = forget
        self._mutex = threading.Lock()
        self._lease: Lease | None = None
        self._taker: threading.Thread | None = None
        self._begun: float | None = None
        self._tries = 0
        self._holder = new_holder()
        self._seen: tuple[str, float] | None = None
        """The ETag of the blob that others wrote, and when this lock first saw it."""
        self._other: Record | None = None

    @property
    def key(self) -> str:
        """The key of its blob."""
        return self._key

    @property
    def token(self) -> int:
        """The fencing number: each holder's is greater than that of those before.

        Raises:
            LockLostError: This lock isn't held.
        """
        return self._need_lease().token

    @property
    def lost(self) -> bool:
        """Whether another may hold it by now, as far as is known without asking the store."""
        return self._need_lease().lost

    def check(self) -> None:
        """Make sure that no other holds it. It asks the store only where renewals have failed for a ttl.

        Raises:
            LockLostError: Another may hold it.
        """
        self._need_lease().check()

    def _need_lease(self) -> Lease:
        if self._lease is None:
            raise LockLostError("this lock isn't held: take it by `with`", key=self._key)
        return self._lease

    def __enter__(self) -> Self:
        try:
            while not self.try_once():
                time.sleep(self.pause())
            return self
        except (InvalidArgumentError, LockHeldError):
            # It is held already, maybe by another thread that shares this object by mistake: that stays.
            raise
        except BaseException:
            self._begun = None
            # Not a lease that another thread, which shares this object by mistake, has taken meanwhile.
            if self._taker is threading.current_thread():
                self._give_up()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.end()
        except LockLostError as lost:
            if error is None:
                raise
            error.add_note(f"and the lock was lost: {lost}")
        except BaseException:
            self._give_up()
            raise

    def end(self) -> None:
        """Release it.

        Raises:
            LockLostError: Another may have held it before it was released.
        """
        if self._lease is not None:
            self._lease.end()

    def _give_up(self) -> None:
        if self._lease is not None:
            self._lease.give_up()

    def try_once(self) -> bool:
        """Take it if nobody holds it; return whether it is held by this lock now.

        Raises:
            UnsupportedOperation: The store can't SWAP.
            SerializationError: What is at the key isn't a lock; it is left as it is.
            InvalidArgumentError: This lock holds it already.
        """
        if self._holder.pid != os.getpid():
            self._begin_anew()
        # Threads that share this object by mistake mustn't take each other's blob for their own.
        with self._mutex:
            if self._lease is not None and not self._lease.ended:
                raise InvalidArgumentError(
                    "this lock is held already, and can't be taken twice; another holder needs its own "
                    "store.lock(...)",
                    key=self._key,
                )
            if self._begun is None:
                self._begun, self._tries = clock(), 0
                # A try whose answer got lost may have taken it under the id that is kept.
                known = None if self._lease is not None else self._holder.id
                self._holder, self._lease = new_holder(known), None
            try:
                taken = self._take()
            except BaseException:
                self._begun = None
                raise
            if taken:
                self._begun = None
            return taken

    def _begin_anew(self) -> None:
        """In the child of a fork, be another than the parent, which may take the lock under its own id. A
        thread that isn't here may have had the mutex."""
        self._mutex = threading.Lock()
        self._begun = None
        self._holder = new_holder()

    def _take(self) -> bool:
        with naming(self._key):
            self._store._need(Can.WRITE | Can.CREATE | Can.SWAP, "hold a lock, which needs compare-and-swap")
        found = look(self._store, self._key)
        self._tries += 1
        if found is None:
            # No clock is needed but where somebody deleted the blob: then the time is past all that was
            # counted since the blob was made.
            token, expect = time.time_ns() // 1000, ABSENT
        else:
            record, expect = found
            if not self._is_free(record, expect):
                return False
            token = record.token + 1
        lease = Lease(self._store, self._key, self._holder, token, self._ttl, self._forget)
        try:
            lease.take(expect)
            lease.keep(self)
            self._taker = threading.current_thread()
            self._lease = lease
            return True
        except ConcurrencyError:
            return False
        except BaseException as error:
            # Where the put failed, the store isn't asked again: it hardly answers.
            if lease.taken or not isinstance(error, StoreError):
                lease.give_up()
            raise

    def _is_free(self, record: Record, etag: str) -> bool:
        # Others' clocks are never looked at. That the blob is as it was for a ttl is seen by this clock, from
        # after it was first read, which is later than when it was written.
        now = clock()
        if self._seen is None or self._seen[0] != etag:
            self._seen = etag, now
        self._other = record
        if record.holder is None or now - self._seen[1] > record.ttl:
            return True
        # An earlier try may have written the blob, and its answer got lost.
        return record.holder.id == self._holder.id or record.holder.is_gone()

    def pause(self) -> float:
        """Return how many seconds to wait before the next try.

        Raises:
            LockHeldError: It has been waited for long enough.
        """
        now = clock()
        begun = self._begun if self._begun is not None else now
        longest = _LONGEST_PAUSE_FAR if self._store._far else _LONGEST_PAUSE
        # Tries that aren't at the same moment get in each other's way less.
        pause = min(_FIRST_PAUSE * 2 ** min(self._tries, 10), longest) * random.uniform(0.5, 1)
        if self._wait is not None:
            left = begun + self._wait - now
            if left <= 0:
                self._begun = None
                raise self._held_error()
            pause = min(pause, left)
        return pause

    def _held_error(self) -> LockHeldError:
        holder: Holder | None = None if self._other is None else self._other.holder
        waited = f"after {self._wait:g} s" if self._wait else "at the first try"
        if holder is None:
            return LockHeldError(f"another was faster to take the lock, {waited}", key=self._key)
        return LockHeldError(
            f"the lock is still held {waited}: by process {holder.pid} on {holder.host}, since "
            f"{holder.since}; wait for longer, or end that process",
            key=self._key,
            host=holder.host,
            pid=holder.pid,
            since=holder.since,
        )

    if not TYPE_CHECKING:

        async def __aenter__(self) -> NoReturn:
            raise TypeError("in a coroutine, a lock is taken by: async with store.aio.lock(...)")

        async def __aexit__(self, *_: object) -> None:
            """Never called: `async with` fails at its begin."""

    def __reduce__(self) -> tuple[object, ...]:
        """Another process gets the lock, which it doesn't hold, and may take."""
        made = partial(Lock, ttl=self._ttl, wait=self._wait, forget=self._forget)
        return made, (self._store, self._key)

    def __repr__(self) -> str:
        return f"Lock({self._store!r}, {self._key!r}, ttl={self._ttl:g})"


def _check_wait(wait: object) -> float | None:
    if wait is None:
        return None
    if (isinstance(wait, timedelta) and not wait) or (type(wait) in (int, float) and wait == 0):
        return 0.0
    return check_seconds(wait, "wait")
