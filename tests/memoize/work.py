"""Functions that processes of the tests call. The folder they use is in the environment."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from holdall import cached

FOLDER = Path(os.environ.get("MEMOIZE_TEST", "/nonexistent"))


def note(text: str) -> None:
    with open(FOLDER / "log", "a") as file:
        file.write(text + "\n")


def log() -> list[str]:
    path = FOLDER / "log"
    return path.read_text().split() if path.exists() else []


@cached(os.environ.get("MEMOIZE_STORE"))
def slow(x: int) -> int:
    note(f"{os.getpid()}")
    while not (FOLDER / "go").exists():
        time.sleep(0.005)
    return x * 2


if __name__ == "__main__":
    from tests.memoize import work

    print(work.slow(int(sys.argv[1])), flush=True)
