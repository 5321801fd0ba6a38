"""Blocking calls that the main thread has made by other threads, so that an interrupt ends its wait."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from holdall.workers import shared

T = TypeVar("T")


def aside(call: Callable[[], T]) -> T:
    """Make a call on another thread, and wait for it.

    After an interrupt the call goes on until it ends by itself: it must be one that changes nothing.
    """
    if sys.is_finalizing():
        # No other thread goes on.
        return call()
    try:
        begun = shared().submit(call)
    except RuntimeError:
        # The interpreter is about to end, and lets no thread begin.
        return call()
    try:
        return begun.result()
    finally:
        # A traceback leads to this frame.
        del begun
