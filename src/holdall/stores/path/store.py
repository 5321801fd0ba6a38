"""Stores in the folder of a path, local or in a cloud."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from typing import Any, cast

from holdall.errors import InvalidArgumentError, InvalidKeyError, InvalidTypeError
from holdall.keys import MAX_KEY_BYTES, check_key
from holdall.store import ANY, Can, Expect, Info, Store
from holdall.stores.filesystem import FilesystemStore

_log = logging.getLogger("holdall")

_uri_in_a_path = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/").match


class PathStore(Store):
    """A store in the folder of a pathlib-like object; keys are paths relative to it.

    The type of the path chooses the class, as `pathlib.Path()` makes a `PosixPath` or a `WindowsPath`:

    - a str, a `pathlib.Path` or a local `UPath`: a `FilesystemStore`;
    - a `CloudPath` of cloudpathlib, or a `UPath` of universal-pathlib, on S3 and what speaks it, Azure or
      Google Cloud Storage: a `BucketStore` with the settings and the credentials of the path's client.
      Neither cloudpathlib's local copies nor fsspec's caches of listings are used. Each object gets the media
      type that its name suggests;
    - another `UPath`: in memory, or read-only, since its files can't be replaced atomically.

    A store in a cloud is pickled as its path: a `CloudPath` travels if its client is the default one, and a
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

    can = Can.WRITE | Can.DELETE | Can.LIST

    _root: str = ""
    """The start of all blobs' names in the medium."""

    def __new__(cls, path: Any) -> Any:
        if cls is not PathStore:
            return super().__new__(cls)
        return _opened(path)

    def __init__(self, path: Any) -> None:
        self._path = path

    def _settings(self) -> dict[str, object]:
        return {"path": self._path}

    def __repr__(self) -> str:
        return f"PathStore({repr(self._path) if hasattr(self, '_path') else '...'})"

    def _checked(self, key: object) -> str:
        key = super()._checked(key)
        if self._root and len((self._root + key).encode()) > MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"with its folder {self._root!r} it has more than {MAX_KEY_BYTES} UTF-8 bytes", key=key
            )
        return key

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        moved = self._copy(source, target, expect)
        self._delete(source, ANY)
        return moved

    def _key_of(self, name: str) -> str | None:
        """The key of what lies in the medium; None for what isn't here or can't be a key."""
        if not name.startswith(self._root):
            return None
        try:
            return check_key(name[len(self._root) :])
        except InvalidKeyError as error:
            _log.debug("%r isn't a blob: %s", name, error)
            return None


def _opened(path: Any) -> Store:
    """Open the store in a path. A path of a library that was never imported can't have been given."""
    cloud: Any = sys.modules.get("cloudpathlib")
    if cloud is not None and isinstance(path, cloud.CloudPath):
        from holdall.stores.path.cloud import _CloudStore

        return _CloudStore.over(path)
    universal: Any = sys.modules.get("upath")
    if universal is not None and isinstance(path, universal.UPath) and not hasattr(path, "__fspath__"):
        from holdall.stores.path.cloud import UNIVERSAL, _CloudStore
        from holdall.stores.path.universal import _Fsspec

        # What is made here as a `PathStore` has its constructor called afterwards.
        return _CloudStore.over(path) if path.protocol in UNIVERSAL else object.__new__(_Fsspec)
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
