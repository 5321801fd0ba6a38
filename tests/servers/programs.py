"""Where the programs of servers are, and how they are started."""

from __future__ import annotations

import importlib.metadata
import shutil
import threading
from collections.abc import Sequence


def program_of(package: str, name: str) -> str:
    """Return where a package has put a program, or where the PATH has it."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((str(file.locate()) for file in files if file.name == name), None) or shutil.which(name)
    if found is None:
        raise RuntimeError(f"these tests need {name}: pip install {package}")
    return found


def bound(command: Sequence[str], signal: str = "KILL") -> list[str]:
    """The command of a process that gets this signal when the process that starts it ends, even if that is
    killed.

    Linux sends it when the thread ends that started the process, so what another thread starts isn't bound.
    """
    if threading.current_thread() is not threading.main_thread():
        return [*command]
    return ["setpriv", "--pdeathsig", signal, *command]
