"""How hard the tests of chance try."""

import os


def effort(full: int, usual: int) -> int:
    """Return the first number where the environment variable `HOLDALL_KIT` is `full`, else the second."""
    return full if os.environ.get("HOLDALL_KIT") == "full" else usual
