"""The command line: `holdall`, on any store."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    Args:
        args: What stands after `holdall`; that of this process by default.

    >>> main(["exists", "some/key", "--store", "memory://"])
    1
    """
    own = args is None
    try:
        if args is None:
            args = sys.argv[1:]
            # As with Ctrl-C, a half-written file is taken away before the process ends.
            signal.signal(signal.SIGTERM, _stop)
        try:
            from holdall.cli.app import run
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in {"typer", "click", "rich"}:
                raise
            sys.stderr.write(
                f"holdall: the command line needs {error.name}; run: pip install 'holdall[cli]'\n"
            )
            return 4
        if own:
            # What was imported stays: the collector needn't look at it again and again.
            gc.freeze()
        return run(args)
    except KeyboardInterrupt:
        return 130


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
