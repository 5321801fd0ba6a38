"""A lock for each key, which exists only while a thread holds it or waits for it."""

from __future__ import annotations

import threading
from weakref import ref

_FEW = 256
"""The number of locks that are remembered before dead ones are forgotten."""


class KeyLocks:
    """The locks of keys, for the threads of one handle; a thread may take one again that it holds.

    >>> locks = KeyLocks()
    >>> with locks.of("a"):
    ...     pass
    """

    # A `with` over the lock itself is left in every case, an interrupt between any two steps included. A
    # class of our own with an `__enter__` is not: an interrupt at its end would leave the lock held.

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        # A `WeakValueDictionary` would remove what is gone in callbacks, which swallow an interrupt.
        self._locks: dict[str, ref[threading.RLock]] = {}
        self._most = _FEW

    def of(self, key: str) -> threading.RLock:
        """Return the lock of a key, to be used in a `with` at once."""
        with self._mutex:
            known = self._locks.get(key)
            lock = None if known is None else known()
            if lock is None:
                if len(self._locks) >= self._most:
                    self._locks = {key: known for key, known in self._locks.items() if known() is not None}
                    self._most = max(2 * len(self._locks), _FEW)
                lock = threading.RLock()
                self._locks[key] = ref(lock)
            return lock
