"""Turns of the threads that delete one key."""

from __future__ import annotations

import threading

# A delete returns whether there was a blob, which no object storage reports: of the threads that delete a key
# of this process, one at a time looks.
_turns = [threading.Lock() for _ in range(64)]


def turn(key: str) -> threading.Lock:
    """The lock of those who delete a key."""
    return _turns[hash(key) % len(_turns)]
