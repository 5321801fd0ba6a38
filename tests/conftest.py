"""What all tests share."""

import gc
import signal
import sys
from typing import Any

import pytest

# A job that a script began in the background ignores Ctrl-C, and so would every program that it starts: those
# that are interrupted by a test would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("holdall.testing")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kit", action="store_true", help="run the suites of the conformance kit only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, where it is asked for, what isn't a suite of the conformance kit."""
    if config.getoption("kit"):
        from holdall.testing import StoreSuite

        kept = [item for item in items if issubclass(getattr(item, "cls", None) or object, StoreSuite)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept


def pytest_sessionstart() -> None:
    """Pass over interrupts that Python drops.

    One that a test raises in a finalizer, or in a callback of a weak reference or of the garbage collector,
    isn't a fault of the code under test.
    """
    hook = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            hook(unraisable)

    sys.unraisablehook = report


def pytest_collection_finish() -> None:
    """What was imported and collected stays, so that no collection of garbage has to look at it again."""
    gc.collect()
    gc.freeze()
