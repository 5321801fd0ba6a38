"""What is begun anew in the child of a fork: locks that other threads held, and the threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar
from weakref import ref

T = TypeVar("T")

# A `WeakKeyDictionary` would remove what is gone in callbacks, which swallow an interrupt.
_known: list[tuple[ref[Any], Callable[[Any], None]]] = []
_lock = threading.Lock()
_FEW = 64


@cache
def processes() -> str:
    """Name the numbering that the process ids here belong to: of one boot, and of one container."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def in_child(function: Callable[[], T]) -> Callable[[], T]:
    """Have a function called in each child of a fork."""
    os.register_at_fork(after_in_child=function)
    return function


def begin_anew(owner: T, begin: Callable[[T], None]) -> None:
    """Call a function with its owner in each child of a fork, for as long as the owner lives."""
    with _lock:
        if len(_known) >= _FEW and (len(_known) & (len(_known) - 1)) == 0:
            # At each power of two those that are gone are forgotten.
            _known[:] = [known for known in _known if known[0]() is not None]
        _known.append((ref(owner), begin))


@in_child
def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    processes.cache_clear()  # it may be in another container
    for known, begin in _known:
        owner = known()
        if owner is not None:
            begin(owner)
