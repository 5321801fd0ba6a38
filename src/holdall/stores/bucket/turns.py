"""Turns of the threads that delete one key."""

from __future__ import annotations

import os
import threading

# A delete returns whether there was a blob, which no object storage reports: of the threads that delete a key
# of this process, one at a time looks.
_turns = [threading.Lock() for _ in range(1024)]


def _forked() -> None:
    # Other threads of the parent may have held some.
    _turns[:] = [threading.Lock() for _ in _turns]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def turn(key: str) -> threading.Lock:
    """The lock of those who delete a key."""
    return _turns[hash(key) % len(_turns)]
