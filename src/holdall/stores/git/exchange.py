"""Let two files change names, atomically, by renameat2(2) with RENAME_EXCHANGE, where the system has it.

What replaces a file by rename(2) has its bytes forced to the disk by ext4 (`auto_da_alloc`), which costs as
much as the rest of a commit; two files that both were there already need none of that.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_AT_FDCWD = -100
_RENAME_EXCHANGE = 0x02


def _never(one: str, other: str) -> bool:
    return False


def _native() -> Callable[[str, str], bool]:
    if sys.platform != "linux":
        return _never
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return _never
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call.restype = ctypes.c_int

    def at_once(one: str, other: str) -> bool:
        return call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0

    return at_once


exchange: Callable[[str, str], bool] = _native()
"""Whether two files changed names; if not, both are as they were."""
