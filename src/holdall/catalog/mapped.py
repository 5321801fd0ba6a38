"""The bytes of a large file as memory, without a copy of them."""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def map_file(path: Path, size: int) -> memoryview | None:
    """Return the bytes of a file that nothing writes to any more; None if it is gone, or can't be mapped.

    The map lasts as long as something uses the bytes. The file may be deleted meanwhile.

    Args:
        path: The file.
        size: The number of bytes that it must have. Memory that a shorter file lacks can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != size:
                return None
            return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return None
