"""Locks and counters in a store, for all processes and hosts that use it."""

from holdall.locks.counter import Counter
from holdall.locks.lock import Lock

__all__ = ["Counter", "Lock"]
