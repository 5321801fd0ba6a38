"""Temporary files that are taken away: by their writer, or once that is dead."""

from __future__ import annotations

import fcntl
import logging
import os
from functools import partial

from holdall.stores.nofollow import Descriptors
from holdall.stores.spelling import PRIVATE

_log = logging.getLogger("holdall")


def is_draft(name: str) -> bool:
    """Whether this is the name of a temporary file of a store.

    >>> is_draft(".holdall~0f.new-1"), is_draft("report.new-1")
    (True, False)
    """
    return name.startswith(PRIVATE) and ".new-" in name


def remove(name: str, folder: int) -> None:
    """Take a temporary file away, if it is there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass  # it was not made, or has its new name already
    except OSError as error:
        _log.debug("%r can't be deleted, and a later sweep deletes it: %s", name, error)


def sweep(name: str, folder: int) -> None:
    """Remove the temporary file of a dead writer, which isn't locked.

    A short put doesn't lock its file. If that is swept, the put fails to rename it, and begins anew.
    """
    with Descriptors() as fds:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fds.extend(map(partial(os.open, name, dir_fd=folder), (flags,)))
            fcntl.flock(fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
            _log.info("swept %r, which a writer left that was killed", name)
        except OSError as error:
            _log.debug("%r can't be swept: %s", name, error)
