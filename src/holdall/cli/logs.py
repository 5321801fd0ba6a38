"""What the library logs as warnings, printed on standard error: no command leaves anything out in silence."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from holdall.cli.errors import warn
from holdall.logs import at_first_use

if TYPE_CHECKING:
    from logging import Logger

_find_numbers = re.compile(r"\d+")


@contextmanager
def print_logs(report: Callable[[str], object]) -> Generator[None]:
    """Pass the text of each warning of the library to a function, and only to it, while the block runs."""
    with ExitStack() as stack:

        def take_over(logger: Logger) -> None:
            from holdall.cli.printer import printing

            stack.enter_context(printing(logger, report))

        with at_first_use(take_over):
            yield


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
