"""What the library logs as warnings, on standard error: no command passes over something in silence."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager

from holdall.cli.errors import warn
from holdall.cli.progress import hide_bar

_find_numbers = re.compile(r"\d+")


class _Printer(logging.Handler):
    """Gives each warning to a function, after any progress bar was taken away."""

    def __init__(self, report: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        hide_bar()
        self._report(record.getMessage())


@contextmanager
def print_logs(report: Callable[[str], object]) -> Generator[None]:
    """Give the warnings of the library to a function for as long as the block runs, and to it alone.

    Args:
        report: Takes the text of each.
    """
    logger = logging.getLogger("holdall")
    handlers, propagates = logger.handlers, logger.propagate
    others = [each for each in handlers if not isinstance(each, _Printer)]
    logger.handlers, logger.propagate = [*others, _Printer(report)], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates


@contextmanager
def print_warnings() -> Generator[None]:
    """Print the warnings of the library; those that differ only in numbers the first time, and at the end as
    they are then."""
    first: dict[str, str] = {}
    latest: dict[str, str] = {}

    def report(text: str) -> None:
        kind = _find_numbers.sub("...", text)
        latest[kind] = text
        if kind not in first:
            first[kind] = text
            warn(text)

    def show(message: Warning | str, *_: object, **__: object) -> None:
        report(str(message))

    try:
        with print_logs(report), warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        for kind, text in latest.items():
            if text != first[kind]:
                warn(text)
