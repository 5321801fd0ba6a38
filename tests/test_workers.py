"""Calls that other threads make."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from holdall.workers import shared


class Thing:
    """What a call is given."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def fail(thing: Thing) -> None:
    raise ValueError(f"no {type(thing).__name__}")


def is_freed(thing: weakref.ref[Thing]) -> bool:
    """Whether it is, once the thread has let go of its call."""
    end = time.monotonic() + 60
    while thing() is not None and time.monotonic() < end:
        time.sleep(0.001)
    return thing() is None


def test_an_error_that_nobody_asks_for_holds_nothing() -> None:
    thing = Thing()
    found = weakref.ref(thing)
    call = shared().submit(partial(fail, thing))
    assert call.wait(60)
    del call, thing
    assert is_freed(found)
