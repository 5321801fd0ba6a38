"""Stores in the folder of a path, local or in a cloud."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, cast

from holdall.errors import InvalidArgumentError, InvalidTypeError, MissingDependencyError
from holdall.store import Store
from holdall.stores.filesystem import FilesystemStore

_uri_in_a_path = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/").match


class PathStore(Store):
    """A store in the folder of a pathlib-like object; keys are paths relative to it.

    The type of the path chooses the class, as `pathlib.Path()` makes a `PosixPath` or a `WindowsPath`:

    - a str, a `pathlib.Path` or a local `UPath`: a `FilesystemStore`;
    - a `CloudPath` of cloudpathlib, or a `UPath` of universal-pathlib, on S3 and what speaks it, Azure or
      Google Cloud Storage: a `BucketStore` with the settings and the credentials of the path's client.
      Neither cloudpathlib's local copies nor fsspec's caches of listings are used. Each object gets the media
      type that its name suggests;
    - another `UPath`: an `FsspecStore`, which is read-only where files can't be replaced atomically.

    The last two are pickled as their paths: a `CloudPath` travels if its client is the default one, and a
    `UPath` if its options hold no secret.

    The name of the folder counts as part of a key: together they have at most 1,024 UTF-8 bytes.

    Args:
        path: The folder. It needn't exist; a bucket must.

    Raises:
        InvalidArgumentError: It isn't one of these paths, or doesn't name a bucket.
        UnsupportedOperation: What the path's client was given can't be taken over.
        MissingDependencyError: obstore isn't installed.

    >>> from upath import UPath
    >>> store = PathStore(UPath("memory://reports"))
    >>> store["2026/may.txt"] = b"all is well"
    >>> UPath("memory://reports/2026/may.txt").read_text()
    'all is well'
    """

    def __new__(cls, path: Any) -> Any:
        return _open_path(path)

    def __init__(self, path: Any) -> None:
        """What opens the store is `__new__`; this is its signature."""


def _open_path(path: Any) -> Store:
    """Open the store in a path. A path of a library that was never imported can't have been given."""
    cloud: Any = sys.modules.get("cloudpathlib")
    if cloud is not None and isinstance(path, cloud.CloudPath):
        from holdall.stores.path.cloud import _CloudStore

        return _CloudStore.over(path)
    universal: Any = sys.modules.get("upath")
    if universal is not None and isinstance(path, universal.UPath) and not hasattr(path, "__fspath__"):
        from holdall.stores.path.cloud import UNIVERSAL, _CloudStore
        from holdall.stores.path.universal import _UniversalStore

        system = system_of(path)
        return _CloudStore.over(path, system) if path.protocol in UNIVERSAL else _UniversalStore(path, system)
    if isinstance(path, str | os.PathLike):
        if isinstance(path, str) and "://" in path:
            raise InvalidArgumentError(
                f"expected a path, got the URI {path!r}; for a bucket, give CloudPath({path!r}) or "
                f"UPath({path!r}), and for another store, use Store.from_uri"
            )
        # pathlib makes one slash of two, and a new folder named `s3:` would take what was meant for a bucket.
        if isinstance(path, Path) and _uri_in_a_path(str(path)) and not hasattr(path, "protocol"):
            raise InvalidArgumentError(
                f"{str(path)!r} looks like a URI that pathlib.Path changed; give a CloudPath or a UPath, "
                "or the absolute path of a folder with this name"
            )
        return FilesystemStore(cast(Any, path))
    kind = type(cast(object, path)).__name__
    raise InvalidTypeError(f"a path is a str, a Path, a CloudPath or a UPath, not {kind}")


def system_of(path: Any) -> Any:
    """Return the file system of a `UPath`, which is opened here.

    Raises:
        MissingDependencyError: Its package isn't installed.
        InvalidArgumentError: It doesn't take the options of the path.
    """
    try:
        return path.fs
    except ImportError as error:
        raise MissingDependencyError(f"{str(path)!r} needs a package: {error}") from error
    except Exception as error:  # each file system raises its own, which may show a secret
        raise InvalidArgumentError(
            f"the file system of {str(path)!r} can't be opened ({type(error).__name__}); look at its options"
        ) from error
