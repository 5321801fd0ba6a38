"""How hard the tests of chance try."""

import os
from typing import TypeVar

T = TypeVar("T")


def effort(full: T, usual: T) -> T:
    """Return the first where the environment variable `HOLDALL_KIT` is `full`, else the second."""
    return full if os.environ.get("HOLDALL_KIT") == "full" else usual
