"""What the library logs as warnings, printed on standard error: no command leaves anything out in silence."""

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
    """Passes each warning to a function, after it has removed any progress bar."""

    def __init__(self, report: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        hide_bar()
        self._report(record.getMessage())


@contextmanager
def print_logs(report: Callable[[str], object]) -> Generator[None]:
    """Pass the text of each warning of the library to a function, and only to it, while the block runs."""
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
    """Print the warnings of the library: of those that differ only in numbers the first, and at the end the
    last."""
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
