"""The handler of what the library logs while a command runs; only what is logged needs `logging`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

from holdall.cli.progress import hide_bar


class _Printer(logging.Handler):
    """Passes each warning to a function, after it has removed any progress bar."""

    def __init__(self, report: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        hide_bar()
        self._report(record.getMessage())


@contextmanager
def printing(logger: logging.Logger, report: Callable[[str], object]) -> Generator[None]:
    """Pass the text of each warning to a function, and to no other of these, while the block runs."""
    handlers, propagates = logger.handlers, logger.propagate
    others = [each for each in handlers if not isinstance(each, _Printer)]
    logger.handlers, logger.propagate = [*others, _Printer(report)], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates
