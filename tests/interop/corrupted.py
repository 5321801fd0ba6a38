"""The tests of a suite over a store that corrupts every read: each that reads must fail."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from holdall import MemoryStore
from holdall.testing import Corrupting

__all__ = ["Corrupted", "FirstByte", "noticed"]


class FirstByte(Corrupting):
    """Drops the first byte of every read. Another one might be a digit of a time, which no test knows."""

    def _fault(self) -> tuple[str, float]:
        return "drop", 0


class Corrupted:
    """Put it before a suite whose `make` makes the store: `class TestCorrupted(Corrupted, Suite)`.

    A test that reads no bytes must pass. One that reads, and can't know what it should find, is None.
    """

    reading: ClassVar[frozenset[str]]
    """Some that read, or all."""
    _made: ClassVar[FirstByte]

    def __init_subclass__(cls) -> None:
        for name in dir(cls):
            if name.startswith("test_") and (test := getattr(cls, name)) is not None:
                setattr(cls, name, cls._check(test, name in cls.reading))

    @staticmethod
    def make(place: Path) -> FirstByte:
        Corrupted._made = FirstByte(MemoryStore())
        return Corrupted._made

    @staticmethod
    def _check(test: Callable[..., Any], reads: bool) -> Callable[..., Any]:
        @functools.wraps(test)
        def check(*args: Any, **fixtures: Any) -> None:
            with noticed(Corrupted._made, reads):
                test(*args, **fixtures)

        @functools.wraps(test)
        async def check_coroutine(*args: Any, **fixtures: Any) -> None:
            with noticed(Corrupted._made, reads):
                await test(*args, **fixtures)

        return check_coroutine if inspect.iscoroutinefunction(test) else check


@contextmanager
def noticed(store: Corrupting, reads: bool = True) -> Iterator[None]:
    """Fail unless the body fails if it reads, and passes if it doesn't, which it may if `reads` is False."""
    before, error = store.damaged, None
    try:
        yield
    # That pytest.raises saw no error, or another one, isn't an Exception.
    except (Exception, pytest.fail.Exception) as raised:  # noqa: BLE001
        error = raised
    corrupted = store.damaged - before
    if not corrupted and error is not None:
        raise error
    assert corrupted or not reads, "nothing was read"
    assert error is not None or not corrupted, f"{corrupted} reads were corrupted, and the test passes"
