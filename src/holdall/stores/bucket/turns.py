"""Turns of the threads that delete one key."""

from __future__ import annotations

import threading

from holdall.forks import in_child

# A delete returns whether there was a blob, which no object storage reports: of the threads that delete a key
# of this process, one at a time looks.
_turns = [threading.Lock() for _ in range(1024)]


@in_child
def _forked() -> None:
    # Other threads of the parent may have held some.
    _turns[:] = [threading.Lock() for _ in _turns]


def turn(key: str) -> threading.Lock:
    """The lock of those who delete a key."""
    return _turns[hash(key) % len(_turns)]
