"""The errors for damage to an archive, and for what the system refuses."""

from __future__ import annotations

import errno

from holdall.errors import IntegrityError, ReadOnlyError, StoreError, StoreUnavailableError


def damaged(path: str, how: str) -> IntegrityError:
    """The error for an archive whose directory can't be right."""
    return IntegrityError(
        f"{path} isn't a zip archive, or it is damaged: {how}; restore it from a copy, repair it with "
        "zip -FF, or move it away to begin a new one"
    )


def corrupt(path: str) -> IntegrityError:
    """The error for bytes that don't have their CRC."""
    return IntegrityError(
        f"the bytes in {path} aren't what was written (wrong CRC); restore the archive from a copy"
    )


def failure(error: OSError, path: str) -> StoreError:
    """The error of the contract for one of the system, which is returned if it is one already."""
    if isinstance(error, StoreError):
        return error
    if error.errno == errno.EROFS:
        return ReadOnlyError(f"{path} is on a read-only file system")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full; free some space and try again"
    elif error.errno == errno.EFBIG:
        why = "the file would be larger than the file system or this process's limit (ulimit -f) allows"
    elif error.errno in (errno.EACCES, errno.EPERM):
        why = "permission denied; check the permissions of the file and of its folder"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        why = "a file is in the way of its folder; give another path, or move the file away"
    else:
        why = error.strerror or str(error)
    return StoreUnavailableError(f"{path}: {why}")
