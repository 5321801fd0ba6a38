"""The command line: `holdall`, on any store."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]

_SOON = 0.01
"""Seconds until a signal that came in a `__del__` is sent again."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        args: What follows `holdall` on the command line; by default, that of this process.

    >>> main(["exists", "some/key", "--store", "memory://"])
    1
    """
    own = args is None
    try:
        if args is None:
            # Nothing that is imported is garbage.
            gc.disable()
            from holdall.cli import streams

            streams.fill_closed()
            streams.speak_utf8()
            args = sys.argv[1:]
            # As with Ctrl-C, a half-written file is removed before the process ends.
            signal.signal(signal.SIGTERM, _stop)
            # What a terminal sends when it is closed; nohup has it ignored.
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
                signal.signal(signal.SIGHUP, _stop)
            # A shell's background jobs ignore Ctrl-C, and must go on ignoring it.
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, _stop)
        from holdall.cli.app import run

        if own:
            # The imported modules stay in memory, so the collector needn't look at them.
            gc.freeze()
            gc.enable()
        code = run(args)
    except KeyboardInterrupt:
        code = 130
    if own:
        _end(code)
    return code


def _end(code: int) -> None:
    """End the process at once, if it has nothing left to wait for: to finalize the interpreter, module by
    module, takes as long as a thousand blobs."""
    import atexit
    import threading

    # The interpreter waits for threads; and with warnings turned on, it reports what was left open.
    if threading.active_count() > 1 or sys.warnoptions or sys.flags.dev_mode:
        return
    try:
        # Multiprocessing ends its processes so too; the function has no public name.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the interpreter reports it
    os._exit(code)


def _stop(number: int, frame: FrameType | None) -> None:
    """End the command. Python drops what is raised in a `__del__`, which may close a large file: then the
    signal is sent again a little later."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            from threading import Timer

            again = Timer(_SOON, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
