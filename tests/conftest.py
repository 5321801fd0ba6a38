"""What all tests share."""

import gc
import signal

import pytest

# A job that a script began in the background ignores Ctrl-C, and so would every program that it starts: those
# that are interrupted by a test would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("holdall.testing")


def pytest_collection_finish() -> None:
    """What was imported and collected stays, so that no collection of garbage has to look at it again."""
    gc.collect()
    gc.freeze()
