"""A file read, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

from holdall.errors import InvalidArgumentError
from holdall.paths import replacing


def _local(path: Any) -> str | None:
    """Return a path of the file system; None for something else that reads and writes."""
    if isinstance(path, (str, PurePath)):
        if "\0" in str(path):
            raise InvalidArgumentError(f"the name of a file can't have a NUL: {str(path)!r}")
        return os.path.expanduser(path)
    if hasattr(path, "read_bytes") or hasattr(path, "write_bytes"):
        return None
    if isinstance(path, os.PathLike):
        return os.path.expanduser(os.fsdecode(path))  # pyright: ignore[reportUnknownArgumentType]
    raise InvalidArgumentError(f"a file is named by a str or a path, not by {type(path).__name__}")


def _check(path: Any, method: str) -> None:
    if not hasattr(path, method):
        raise InvalidArgumentError(
            f"a {type(path).__name__} lacks {method}; give a str, or a path that has it"
        )


def suffix_of(path: Any) -> str:
    """Return the suffix of a name, with its dot, in lower case; '' if it lacks one.

    >>> suffix_of("photos/Oma.JPG")
    '.jpg'
    """
    local = _local(path)
    return (PurePath(local).suffix if local is not None else str(getattr(path, "suffix", ""))).lower()


def load(path: Any) -> bytes:
    """Return the contents of a file."""
    local = _local(path)
    if local is None:
        _check(path, "read_bytes")
        return path.read_bytes()
    return Path(local).read_bytes()


def save(path: Any, data: bytes) -> None:
    """Write a file: a reader sees all of the old or all of the new contents, and an error leaves the old."""
    local = _local(path)
    if local is None:
        _check(path, "write_bytes")
        path.write_bytes(data)
        return
    with replacing(local) as file:
        file.write(data)
