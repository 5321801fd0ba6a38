"""The standard streams of the process, as they were given to it: one of them may be closed."""

from __future__ import annotations

import os
import sys

from holdall.cli.errors import warn

_closed: set[int] = set()


def fill_closed() -> None:
    """Open the null device in the place of each standard stream that is closed.

    Otherwise the next file that is opened, such as a database, gets the number of the stream, and what is
    meant for the stream is written into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            _closed.add(number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the process
    if 1 in _closed:
        warn("standard output is closed; what would be printed can't be seen")


def is_closed(number: int) -> bool:
    """Return whether a standard stream was closed when the process began: 0 is input, 1 output, 2 errors."""
    return number in _closed


def speak_utf8() -> None:
    """Start this program again in Python's UTF-8 mode, if the locale uses another encoding.

    Keys are Unicode, and names of files are UTF-8. In such a locale Python would read each name that isn't
    ASCII as another one, and a copy would get a wrong name. An argument that isn't UTF-8 is refused as a key.
    """
    if sys.getfilesystemencoding().lower().replace("-", "") == "utf8" or sys.flags.utf8_mode:
        return
    arguments = [os.fsencode(sys.executable), *map(os.fsencode, sys.orig_argv[1:])]
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONUTF8": "1"})
