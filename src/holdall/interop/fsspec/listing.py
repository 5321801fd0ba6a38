"""What is there: the files and folders of a file system of fsspec."""

from __future__ import annotations

import errno
import os
from datetime import datetime
from typing import Any

from holdall.errors import BlobNotFoundError, InvalidKeyError
from holdall.interop.fsspec.base import Base
from holdall.interop.fsspec.twins import on_thread, wait
from holdall.store import Info


class Listing(Base):
    """Looks at files and folders, and makes folders."""

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Return what is known of a file or folder: `name`, `size`, `type`, and of a file `mtime`, `etag` and
        `content_type`."""
        key = self._key(path)
        try:
            if key:
                return _entry(self.store.info(key))
        except (BlobNotFoundError, InvalidKeyError) as error:
            if not self._is_folder(key):
                raise missing(path) from error
        return _folder_entry(key)

    def _is_folder(self, key: str) -> bool:
        if not key or key in self._folders:
            return True
        try:
            return next(self.store.iterate_keys(key + "/"), None) is not None
        except InvalidKeyError:
            return False

    _info = on_thread("info")

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """List one folder, or a file alone."""
        key = self._key(path)
        files, folders = self._children(key)
        if not files and not folders and key not in self._folders:
            entry = self.info(key)
            files = {} if entry["type"] == "directory" else {key: entry}
        names = sorted({*files, *folders})
        if not detail:
            return names
        # Of a file and a folder of the same name `walk` needs both, to see what is in the folder.
        return [found[name] for name in names for found in (files, folders) if name in found]

    def _children(self, key: str) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        folder = key + "/" if key else ""
        files: dict[str, dict[str, Any]] = {}
        folders = {
            name: _folder_entry(name) for name in [*self._folders] if name.rpartition("/")[0] == key and name
        }
        try:
            children = [*self.store.children(folder)]
        except InvalidKeyError:
            return {}, {}
        for child in children:
            if isinstance(child, str):
                folders[child[:-1]] = _folder_entry(child[:-1])
            else:
                files[child.key] = _entry(child)
        return files, folders

    _ls = on_thread("ls")

    def find(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """List all files below a folder; options: `withdirs`, `detail`, `prefix`."""
        if maxdepth is None:
            return self._all_below(self._key(path), **options)
        return wait(self, "_find", path, maxdepth=maxdepth, **options)

    async def _find(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        if maxdepth is None:
            return await self._aio.run(self._all_below, self._key(path), **options)
        # Folder by folder, which reads no more than is asked for.
        return await Base._find(self, path, maxdepth=maxdepth, **options)

    def _all_below(
        self, key: str, withdirs: bool = False, detail: bool = False, prefix: str = "", **options: Any
    ) -> Any:
        folder = key + "/" if key else ""
        try:
            found = {info.key: _entry(info) for info in self.store.list(folder + prefix)}
            if not found and not withdirs and key:
                found = {key: _entry(self.store.info(key))}
        except (BlobNotFoundError, InvalidKeyError):
            found = {}
        if withdirs:
            made = [name for name in [*self._folders] if name.startswith(folder + prefix)]
            above = set[str]()
            for name in (*found, *made):
                while len(name := name.rpartition("/")[0]) > len(folder) and name not in above:
                    above.add(name)
            for name in (*above, *made):
                found.setdefault(name, _folder_entry(name))
            if key and (found or self.exists(key)):
                found[key] = self.info(key)
            found = {name: found[name] for name in sorted(found)}
        return found if detail else [*found]

    # fsspec's own ones take any error for an absence.

    def exists(self, path: str, **options: Any) -> bool:
        """Return whether a file or folder is there."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        """Return whether a file is there."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Return whether a folder is there."""
        return self._type(path) == "directory"

    def _type(self, path: str) -> str | None:
        try:
            return self.info(path)["type"]
        except FileNotFoundError:
            return None

    _exists = on_thread("exists")
    _isfile = on_thread("isfile")
    _isdir = on_thread("isdir")

    def modified(self, path: str) -> datetime:
        """Return when a file was last written."""
        return self._file_info(path)["mtime"]

    def checksum(self, path: str) -> str:
        """Return the ETag of a file."""
        return self._file_info(path)["etag"]

    ukey = checksum

    def _file_info(self, path: str) -> dict[str, Any]:
        found = self.info(path)
        if found["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return found

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        """Return a URL that reads a file without credentials, for some seconds."""
        return self.store.sign(self._key(path), expires=expiration)

    async def _mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        key = self._key(path)
        if key:
            self.store._checked(key)  # no file could be in it
        if await self._exists(key):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        parent = key.rpartition("/")[0]
        if parent and not await self._exists(parent):
            if not create_parents:
                raise missing(parent)
            await self._makedirs(parent, exist_ok=True)
        self._folders.add(key)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        try:
            await self._mkdir(path)
        except FileExistsError:
            if not exist_ok or not await self._isdir(path):
                raise
            # It may be there only as long as a file that is in it; the root always is.
            if key := self._key(path):
                self._folders.add(key)

    # Unlike the others fsspec makes no twin of this one.

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        key = self._key(path)
        if self.info(key)["type"] != "directory":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if self.ls(key):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._folders.discard(key)

    _rmdir = on_thread("rmdir")


def missing(path: str) -> FileNotFoundError:
    """Return the error for a path that doesn't exist."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _entry(info: Info) -> dict[str, Any]:
    return {
        "name": info.key,
        "size": info.size,
        "type": "file",
        "mtime": info.modified,
        "etag": info.etag,
        "content_type": info.content_type,
    }


def _folder_entry(key: str) -> dict[str, Any]:
    return {"name": key, "size": 0, "type": "directory"}
