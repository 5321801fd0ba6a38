"""Running another program in the place of this one: with the same terminal, signals and exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

from holdall.cli.errors import UsageFault, warn
from holdall.cli.parameters import Parameter

NOT_FOUND = 127
CANT_RUN = 126
"""As a shell has them for a program that isn't there, or can't be run."""

Program = Annotated[
    list[str] | None,
    Parameter(metavar="PROGRAM", help="The program and its arguments; write -- before them."),
]


def check_program(program: Sequence[str] | None, usage: str) -> Sequence[str]:
    """Return a program that was given, or raise UsageFault."""
    if not program or not program[0]:
        raise UsageFault(f"name a program to run, as in: {usage}")
    return program


def run_program(program: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a program to its end, and return its exit code as a shell has it: 128 and the number of a signal
    that ended it.

    Ctrl-C at a terminal reaches the program itself, which decides what becomes of it; SIGTERM and SIGHUP are
    passed on.

    Args:
        program: Its name or path, and its arguments.
        environment: Variables that it gets besides those of this process.
    """
    started: list[subprocess.Popen[bytes]] = []
    with _signals(started):
        try:
            process = subprocess.Popen(program, env={**os.environ, **(environment or {})})
        except OSError as error:
            reason = error.strerror or str(error)
            warn(f"{program[0]!r} can't be run: {reason[:1].lower()}{reason[1:]}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else CANT_RUN
        started.append(process)
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals(started: list[subprocess.Popen[bytes]]) -> Generator[None]:
    """Leave Ctrl-C to the program that was started, and pass the other signals on to it."""

    def pass_on(number: int, _: FrameType | None) -> None:
        if not started:
            sys.exit(128 + number)
        started[0].send_signal(number)

    def leave(number: int, _: FrameType | None) -> None:
        if not started:
            raise KeyboardInterrupt

    handlers = {signal.SIGINT: leave, signal.SIGQUIT: leave, signal.SIGTERM: pass_on, signal.SIGHUP: pass_on}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        # What is ignored, as Ctrl-C is by a job in the background, stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
