"""fsspec, and the classes of its file systems."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from holdall.errors import InvalidArgumentError, MissingDependencyError

SERVERS = frozenset(
    ("sftp", "ssh", "ftp", "webdav", "dav", "webdavs", "davs", "smb", "hdfs", "arrow_hdfs", "webhdfs")
)
"""The schemes of fsspec whose URLs begin with a server, and perhaps a user."""

_BUCKETS = frozenset(("s3a", "abfss"))
"""Those of clouds that have another scheme here, with a store that does more."""
_SAME = {"dav": "webdav", "webdavs": "webdav", "davs": "webdav"}


def driver() -> Any:
    """Import fsspec."""
    try:
        return import_module("fsspec")
    except ImportError:
        raise MissingDependencyError("FsspecStore needs fsspec: pip install 'holdall[fsspec]'") from None


def is_known(scheme: str) -> bool:
    """Return whether fsspec knows a scheme, as far as that can be seen here."""
    if scheme in SERVERS:
        return True
    if scheme in _BUCKETS:
        return False
    try:
        known: Any = import_module("fsspec").available_protocols()
    except ImportError:
        return False
    return scheme in known


def class_of(scheme: str) -> Any:
    """Return the class of a scheme's file system.

    Raises:
        MissingDependencyError: A package that it needs isn't installed.
        InvalidArgumentError: fsspec doesn't know the scheme.
    """
    fsspec = driver()
    scheme = _SAME.get(scheme, scheme)
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        # fsspec says what to install.
        raise MissingDependencyError(f"{scheme}:// can't be opened: {error}") from error
    except ValueError:
        raise InvalidArgumentError(f"fsspec doesn't know the scheme {scheme!r}") from None
