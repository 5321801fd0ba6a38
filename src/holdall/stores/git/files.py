"""Small things that are done with files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

from holdall.errors import StoreError
from holdall.ranges import CHUNK
from holdall.stores.oserrors import translate

P = ParamSpec("P")
T = TypeVar("T")

_VECTOR = 1024
"""The most pieces that every system takes in one call of writev(2)."""


def text(path: str) -> str:
    """Return the text of a file, without the white space around it; an empty text if the file is missing."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="surrogateescape").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def signature(path: str) -> tuple[int, int, int] | None:
    """What changes when a file is another one; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


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


class typed:
    """Turn what the system raises in a call, or in a `with` block, into an error of the contract."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, call: Callable[P, T]) -> Callable[P, T]:
        @wraps(call)
        def typed_call(*args: P.args, **kwargs: P.kwargs) -> T:
            # As `with self` would do it, which costs two calls more.
            try:
                return call(*args, **kwargs)
            except OSError as error:
                self.__exit__(None, error, None)
                raise

        return typed_call

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, StoreError):
            raise translate(error, self._what) from error
