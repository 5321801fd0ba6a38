"""The loggers of the house. A program that doesn't use `logging` needs it only once something is logged: its
import takes longer than that of a store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from logging import Logger

_lock = RLock()
_waiting: list[Callable[[Logger], object]] = []


def get_logger(name: str) -> Logger:
    """Return the logger of this name, which begins with `holdall`."""
    return _make(name) if "logging" in sys.modules else cast("Logger", _LateLogger(name))


@contextmanager
def at_first_use(call: Callable[[Logger], object]) -> Generator[None]:
    """Call a function with the logger of the house: at once if `logging` is imported, or before the first
    thing is logged in the block."""
    with _lock:
        _waiting.append(call)
        if "logging" in sys.modules:
            _make("holdall")
    try:
        yield
    finally:
        with _lock:
            if call in _waiting:
                _waiting.remove(call)


def _make(name: str) -> Logger:
    import logging

    with _lock:
        house = logging.getLogger("holdall")
        # As Python's logging asks of libraries: nothing is printed unless the program sets logging up.
        if not house.handlers:
            house.addHandler(logging.NullHandler())
        while _waiting:
            _waiting.pop(0)(house)
    return logging.getLogger(name)


class _LateLogger:
    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _logger(self) -> Logger:
        return _make(self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)
