"""Raise KeyboardInterrupt at moments within a call."""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest

from holdall.store import Store
from holdall.testing.roles import Say
from holdall.testing.samples import hash_bytes


def write_until_interrupted(store: Store, seed: int) -> list[Any]:
    """Write, and interrupt the last put where its body is read; return what a writer would report."""
    rng = random.Random(seed)
    words: list[Any] = []
    for _ in range(2):
        key, data = f"small/{rng.randrange(8)}", rng.randbytes(rng.randrange(20_000))
        words.append({key: hash_bytes(data)})
        store.put(key, data)
        words.append("done")
    key, data = f"small/{rng.randrange(8)}", rng.randbytes(20_000)
    words.append({key: hash_bytes(data)})
    with pytest.raises(KeyboardInterrupt):
        store.put(key, chain((data[:9000], data[9000:]), _interrupting()))
    return words


def _interrupting() -> Iterator[bytes]:
    raise KeyboardInterrupt
    yield b""  # makes it an iterator


class Enough(Exception):
    """Raised by `say` to end a writer that would write forever."""


class Interrupts:
    """Raise KeyboardInterrupt in this thread, as Ctrl-C does, at moments within the length of some calls."""

    def __init__(self) -> None:
        self._length = 0.0
        self._raised = self._ignored = 0
        self._armed = False

    def __enter__(self) -> Interrupts:
        assert threading.current_thread() is threading.main_thread(), (
            "interrupts come to the main thread only"
        )
        self._handler = signal.signal(signal.SIGALRM, self._raise)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._ignore
        # A file that is opened, but interrupted before its `with` begins, is dropped unclosed with a warning.
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore", ResourceWarning)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGALRM, self._handler)
        gc.collect()
        self._warnings.__exit__(None, None, None)
        sys.unraisablehook = self._hook

    def _raise(self, *_: object) -> None:
        # Where another thread gets the signal, Python calls this some time after the timer was stopped.
        if self._armed:
            self._raised += 1
            raise KeyboardInterrupt

    def _ignore(self, unraisable: Any) -> None:
        # Python itself drops every exception in a finalizer; no library can change that. The same holds for
        # a finalizer of the standard library that fails since its constructor was interrupted.
        module = str(getattr(unraisable.object, "__module__", "")).partition(".")[0]
        if unraisable.exc_type is KeyboardInterrupt:
            self._ignored += 1
        elif module not in sys.stdlib_module_names:
            self._hook(unraisable)

    def during(self, write: Callable[[Say], None], moment: float) -> list[Any]:
        """Interrupt a writer, such as `write_for_ever`, at a moment from 0 to 1; return what it reported."""
        words: list[Any] = []
        if not self._length:
            self._length = self._measure(write, words)
        ended = 0

        def say(word: object) -> None:
            nonlocal ended
            words.append(word)
            if self._raised:
                # It was raised, and the writer goes on: that is right only if it came in a finalizer.
                ended += 1
                if ended > 4:
                    assert self._ignored, "a KeyboardInterrupt was swallowed"
                    raise Enough

        self._raised = self._ignored = 0
        with contextlib.suppress(KeyboardInterrupt, Enough):
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, max(1e-5, moment * self._length))
                write(say)
            finally:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        return words

    def _measure(self, write: Callable[[Say], None], words: list[Any]) -> float:
        """Return the seconds that a few calls take."""

        def say(word: object) -> None:
            words.append(word)
            if len(words) > 40:
                raise Enough

        start = time.perf_counter()
        with contextlib.suppress(Enough):
            write(say)
        return (time.perf_counter() - start) / 10
