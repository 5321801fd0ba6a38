"""Blobs in a folder, of the disk or of a cloud."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from holdall.dicts.base import B, BlobDict
from holdall.errors import InvalidArgumentError, StoreUnavailableError
from holdall.store import Can, Store
from holdall.stores.path import PathStore


class LocalPath(type(Path())):
    """A `pathlib.Path` that can remove its whole tree.

    >>> LocalPath("a") / "b"
    LocalPath('a/b')
    """

    def rmtree(self) -> None:
        """Remove the folder and everything in it.

        Raises:
            FileNotFoundError: There is none.
        """
        shutil.rmtree(self)


class PathBlobDict(BlobDict[B]):
    """A blob dict in a folder; keys are paths relative to it.

    A folder of the disk is kept by a `FilesystemStore`, one of a cloud by a `BucketStore`, and one of any
    other file system that fsspec knows by an `FsspecStore`.

    Args:
        path: The folder: a str, a `pathlib.Path` (such as `LocalPath`), a `CloudPath` of cloudpathlib, or a
            `UPath` of universal-pathlib. None is the current one. The first put makes it.
        compression: As in `BlobDict`.
        ttl: As in `BlobDict`: by the time when the file was last written.
        blob_class: As in `BlobDict`.
        blob_class_args: As in `BlobDict`.

    >>> import tempfile
    >>> from holdall.blobs import StrBlob
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     d = PathBlobDict(LocalPath(folder))
    ...     d["notes/today.txt"] = StrBlob("all is well")
    ...     LocalPath(folder, "notes", "today.txt").read_text()
    'all is well'
    """

    def __init__(
        self,
        path: Any = None,
        *,
        compression: bool | str = False,
        ttl: float | timedelta | None = None,
        blob_class: type[B] | None = None,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        path = "." if path is None else path
        if isinstance(path, str):
            path = LocalPath(path) if "://" not in path else path
        store: Store = PathStore(path)
        super().__init__(
            store, compression=compression, ttl=ttl, blob_class=blob_class, blob_class_args=blob_class_args
        )
        self._owned = self._folder = store
        self._path: Any = path.expanduser().absolute() if isinstance(path, Path) else path

    @property
    def path(self) -> Any:
        """The folder."""
        return self._path

    def create(self) -> None:
        """Make the folder, where there is none.

        Raises:
            StoreUnavailableError: It can't be made.
        """
        self._folder._need(Can.WRITE, "make its folder")
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except Exception as error:  # each cloud's client raises its own
            raise StoreUnavailableError(f"{str(self._path)!r} can't be made: {error}") from error

    def delete(self) -> None:
        """Delete the folder with everything in it, also what this dict doesn't list.

        Raises:
            InvalidArgumentError: It is a whole file system or bucket; `clear` deletes the blobs.
            StoreUnavailableError: Something in it can't be deleted, or the folder is a link to one.
        """
        path = self._path
        if _is_root(path):
            raise InvalidArgumentError(
                f"{str(path)!r} is a whole file system or bucket, which delete() refuses; clear() deletes "
                "its blobs"
            )
        self._folder._need(Can.DELETE, "delete its folder")
        remove: Callable[[], None] | None = getattr(self._folder, "_delete_folder", None)
        if remove is not None:
            remove()
            return
        try:
            while os.path.lexists(path):
                # Another program may delete it at the same time.
                with suppress(FileNotFoundError):
                    shutil.rmtree(path)
        except OSError as error:
            raise StoreUnavailableError(f"{str(path)!r} can't be deleted: {error}") from error


def _is_root(path: Any) -> bool:
    """Return whether a path is a whole file system or bucket."""
    if isinstance(path, Path):
        return not path.name
    if hasattr(path, "cloud_prefix"):
        return "/" not in str(path).removeprefix(path.cloud_prefix).strip("/")
    place = path.path.strip("/")
    return not place or (path.protocol != "memory" and "/" not in place)
