"""Interrupts at random moments, as Ctrl-C gives."""

from __future__ import annotations

import gc
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupts:
    """Raises an exception in the main thread, at a random moment of a call."""

    def __init__(self, error: type[BaseException]) -> None:
        self.count = 0
        self._error = error
        self._armed = False
        self._lengths: dict[object, float] = {}

    def during(self, call: Callable[[], object], length: float) -> bool:
        """Carry out a call, with an interrupt after a random time; returns whether the call came to its end.

        Args:
            call: The call. Other errors of it come out.
            length: About how long it takes, in seconds. This is only where to begin: of a call that is made
                again and again, about half are interrupted on a machine of any speed.
        """
        longest = self._lengths.get(call, length)
        try:
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, longest))
                call()
            finally:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        except self._error:
            self.count += 1
            self._lengths[call] = longest * 1.25
            return False
        self._lengths[call] = max(longest / 1.25, 2e-6)
        return True

    def interrupt(self, *_: object) -> None:
        # The system may give the signal to another thread: Python calls this after the timer was stopped.
        if self._armed:
            self._armed = False
            raise self._error


@contextmanager
def interrupting(error: type[BaseException] = KeyboardInterrupt) -> Iterator[Interrupts]:
    """Take SIGALRM for interrupts, until the end of the `with` statement."""
    interrupts = Interrupts(error)
    before = signal.signal(signal.SIGALRM, interrupts.interrupt)
    # CPython reports an interrupt that comes in a destructor, and goes on; pytest would keep its traceback.
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = hook


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep what the garbage collector destroys from running code in the middle of what is counted."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@without_collector()
def interrupted_at(moment: int, call: Callable[[], object]) -> KeyboardInterrupt | None:
    """Carry out a call with an interrupt at one of the moments at which Python looks for signals, and return
    it; None if there are fewer. Its traceback keeps the frames, as that of an interrupted program does."""
    left = moment

    def profile(frame: object, event: str, *_: object) -> None:
        nonlocal left
        # Python looks for signals after a call of C, not before it.
        left -= event != "c_call"
        if not left:
            sys.setprofile(None)
            raise KeyboardInterrupt

    try:
        sys.setprofile(profile)
        call()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.setprofile(None)
    return None
