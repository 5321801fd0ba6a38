"""A file read, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path, PurePath
from typing import Any

from holdall.errors import InvalidArgumentError


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
    # This replaces the target of a link, not the link.
    target = os.path.realpath(local)
    mode = None
    try:
        found = os.stat(target)
        if not stat.S_ISREG(found.st_mode):
            # A pipe or a device is written to; there is nothing to replace.
            with open(target, "wb") as file:
                file.write(data)
            return
        mode = stat.S_IMODE(found.st_mode)
    except FileNotFoundError:
        pass
    draft = os.path.join(os.path.dirname(target), f".holdall-{os.urandom(8).hex()}.new")
    # Not by tempfile, which would make the file private.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(draft, flags, 0o666)
    except OSError as error:
        # Of the name that the caller knows, not of the draft.
        raise OSError(error.errno, error.strerror, local) from error
    try:
        with open(fd, "wb") as file:
            if mode is not None:
                os.chmod(draft, mode)
            file.write(data)
        os.replace(draft, target)
    except BaseException:
        # It is gone where an interrupt came just after it took its place.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
