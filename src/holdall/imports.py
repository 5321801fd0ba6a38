"""Imports that no Ctrl-C leaves half done."""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module
from typing import Any


def load_whole(module: str) -> Any:
    """Import a module; an interrupt waits until it is imported.

    Many packages with a part in C can't be imported again in the same process once an import of theirs was
    interrupted: each later call that needs one would fail.

    >>> load_whole("decimal").Decimal(1)
    Decimal('1')
    """
    handler = None if module in sys.modules else signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        return import_module(module)
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)  # the frame would hold itself for the collector

    try:
        signal.signal(signal.SIGINT, note)
    except ValueError:
        return import_module(module)  # in an interpreter within a program
    try:
        return import_module(module)
    finally:
        # Unless the package has set one of its own.
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, handler)
        if came:
            handler(came[0], None)
