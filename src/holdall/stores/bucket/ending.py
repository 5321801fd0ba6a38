"""Futures of obstore when the interpreter ends.

A thread of obstore holds a future until a moment after its outcome is there, or after it is cancelled. If it
lets the future go when there is no interpreter any more, the process is aborted or an alarming text printed.
"""

from __future__ import annotations

import atexit
import time
from collections import deque
from typing import Any
from weakref import ref

from holdall.forks import in_child

_MOST = 1.0
"""Seconds that the end of the interpreter waits at most."""
_latest: deque[ref[Any]] = deque(maxlen=4096)


def watch(future: Any) -> None:
    """Let the interpreter end only after obstore has let the future go, if it has an outcome by then."""
    _latest.append(ref(future))


def _settle() -> None:
    end = time.monotonic() + _MOST
    while _latest and time.monotonic() < end:
        future = _latest[-1]()
        if future is None or not future.done():
            _latest.pop()
        else:
            del future
            time.sleep(0.001)


atexit.register(_settle)
# The threads that held them are the parent's.
in_child(_latest.clear)
