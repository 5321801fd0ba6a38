"""The errors of the contract for those of the operating system."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from holdall.errors import (
    InvalidKeyError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    is_of_caller,
)

T = TypeVar("T")
P = ParamSpec("P")

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""The errnos of an open where there can't be a blob: nothing is there, or a file or link is in the path."""

_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFDIR: "folder",
    stat.S_IFREG: "file",
}


def kind_of(mode: int) -> str:
    """Return the kind of a file of this mode, in words.

    >>> kind_of(0o120777), kind_of(0o010644)
    ('symbolic link', 'named pipe')
    """
    return _KINDS.get(stat.S_IFMT(mode), "special file")


def conflict(path: str, mode: int) -> KeyConflictError:
    """The error for what lies at the path of a blob to write, or in the way to it."""
    kind = kind_of(mode)
    if stat.S_ISREG(mode):
        return KeyConflictError(
            f"{path!r} is a file, and a file system can't hold both it and blobs below it; use another key"
        )
    if stat.S_ISDIR(mode):
        return KeyConflictError(
            f"{path!r} is a folder that isn't empty, and a file system can't hold both a blob and what lies "
            "below it; use another key"
        )
    return KeyConflictError(
        f"{path!r} is a {kind}, which a store neither follows nor replaces; move it away, or use another key"
    )


def translate(error: OSError, what: str, key: str | None = None) -> StoreError:
    """The error of the contract for one of the system, which is returned if it is one already."""
    if isinstance(error, StoreError):
        return error
    code = error.errno or 0
    text = error.strerror or str(error)
    if code == errno.EROFS:
        return ReadOnlyError("the file system is mounted read-only", key=key)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return StoreUnavailableError(
            "the disk or a quota is full; nothing was changed: free some space, then try again", key=key
        )
    if code == errno.EFBIG:
        return StoreUnavailableError(
            "the file would be larger than the file system or this process's limit (ulimit -f) allows; "
            "nothing was changed",
            key=key,
        )
    if code == errno.EBUSY:
        return StoreUnavailableError(
            f"can't {what}: the system uses the file or folder, perhaps as a mount point; mount the whole "
            "folder of the store instead",
            key=key,
        )
    if code in (errno.EACCES, errno.EPERM):
        return StoreUnavailableError(
            f"no permission to {what}: check the owner and the mode of the store's folder and of the file",
            key=key,
        )
    if code in (errno.EMFILE, errno.ENFILE):
        return StoreUnavailableError(
            f"can't {what}: too many files are open; close some, or raise the limit (ulimit -n)", key=key
        )
    if code == errno.ENAMETOOLONG:
        return InvalidKeyError("the path of its file is too long for the system", key=key)
    if code in (errno.ENOTDIR, errno.EISDIR):
        return KeyConflictError("a file system can't hold both a blob and blobs below it", key=key)
    return StoreUnavailableError(f"the file system can't {what}: {text}", key=key)


class typed:
    """Turn what the system raises in a call, or in a `with` block, into an error of the contract."""

    def __init__(self, what: str, key: str | None = None) -> None:
        self._what, self._key = what, key

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
        if isinstance(error, OSError) and not isinstance(error, StoreError) and not is_of_caller(error):
            raise translate(error, self._what, self._key) from error
