"""Small things that are done with files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from holdall.ranges import CHUNK

_VECTOR = 1024
"""The most pieces that every system takes in one call of writev(2)."""


def text(path: str) -> str:
    """Return the text of a file, without the white space around it; an empty text if the file is missing."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="surrogateescape").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def signature(path: str) -> tuple[int, ...] | None:
    """What changes when a file is another one, or gets a name; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ctime_ns, found.st_mtime_ns, found.st_ino, found.st_size


def write(fd: int, piece: bytes | memoryview) -> int:
    """Write a piece whole; its size."""
    size = done = os.write(fd, piece)
    while done < len(piece):
        size = os.write(fd, memoryview(piece)[done : done + 64 * CHUNK])
        done += size
    return done


def write_all(fd: int, pieces: Sequence[bytes]) -> None:
    """Write pieces, one after the other, without a copy of them all."""
    for at in range(0, len(pieces), _VECTOR):
        part = pieces[at : at + _VECTOR]
        done = os.writev(fd, part)
        if done < sum(map(len, part)):
            write(fd, memoryview(b"".join(part))[done:])
