"""A file system of fsspec over any store (https://filesystem-spec.readthedocs.io/en/latest/developer.html)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import quote

from holdall.errors import (
    BlobNotFoundError,
    InvalidArgumentError,
    InvalidKeyError,
    StoreError,
    UnsupportedOperation,
)
from holdall.interop.loading import load
from holdall.resource import BUCKETS, split_uri
from holdall.store import ABSENT, ANY, Info, Store

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["HoldallFileSystem"]

_asyn = load("fsspec.asyn")
_Base: Any = _asyn.AsyncFileSystem
_BaseTransaction: Any = load("fsspec.transaction").Transaction
_SILENT: Any = load("fsspec.callbacks").DEFAULT_CALLBACK
_SPOOLED = 1 << 20
_CACHING = ("cache_options", "cache_type", "compression", "fill_cache", "max_blocks", "size")
SCHEMES = (
    *BUCKETS,
    "sqlite",
    "zip",
    "git+file",
    "hashdir",
    "file",
    "valkey",
    "redis",
    "rediss",
    "postgresql",
    "http",
    "https",
)
"""The schemes of stores whose URIs are URLs of fsspec, with `holdall+` before them."""


class _Deferred(tempfile.SpooledTemporaryFile[bytes]):
    """A file that is written in a transaction: closing it puts nothing."""

    def __init__(self, key: str, new: bool) -> None:
        super().__init__(_SPOOLED)
        self.key, self.new = key, new
        self.failed = False

    def close(self) -> None:
        """Keep what was written for the end of the transaction."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.failed = kind is not None

    def discard(self) -> None:
        """Forget what was written."""
        super().close()


class _Transaction(_BaseTransaction):
    """Puts all blobs at its end, in one transaction of the store if it has one."""

    def complete(self, commit: bool = True) -> None:
        files: list[_Deferred] = [*self.files]
        self.files.clear()
        try:
            if commit:
                _put_all(self.fs.store, [file for file in files if not file.failed])
        finally:
            for file in files:
                file.discard()
            self.fs._intrans = False
            self.fs._transaction = None


def _put_all(store: Store, files: list[_Deferred]) -> None:
    for file in files:
        file.seek(0)
        if file.new:
            # One that is there already fails the rest, of which nothing is put then.
            store.put(file.key, cast("IO[bytes]", file), expect=ABSENT)
    many = {file.key: cast("IO[bytes]", file) for file in files if not file.new}
    if many:
        store.put_many(many)


class HoldallFileSystem(_Base):
    """A file system of fsspec whose files are the blobs of a store, so that pandas, DuckDB, Dask, pyarrow and
    all others that take one read and write it.

    Its paths are the keys of the store. No listing and no instance is cached: what others write is seen at
    once. A file is seen whole when it is closed, and not at all if the `with` block raises. Folders are made
    of keys; one without a file is remembered by the file system that made it. The files that are written in
    a `with fs.transaction` are put at its end, together where the store puts many in one transaction.

    A URL is `holdall://KEY` with the storage option `store`, or the URI of one value after `holdall+`,
    as `Resource` splits it: `holdall+s3://bucket/logs/a.csv`, `holdall+sqlite:///data.db#logs/a.csv`.

    Args:
        store: The store, or a URI, a path or a name of `holdall.toml` to open one.
        storage_options: Other options of fsspec's `AsyncFileSystem`.

    >>> import holdall
    >>> from holdall.interop.fsspec import HoldallFileSystem
    >>> fs = HoldallFileSystem(holdall.MemoryStore())
    >>> fs.pipe("a/b.txt", b"hello")
    >>> fs.cat("a/b.txt"), fs.ls("a", detail=False), fs.isdir("a")
    (b'hello', ['a/b.txt'], True)
    """

    protocol = ("holdall", *(f"holdall+{scheme}" for scheme in SCHEMES))
    root_marker = ""
    cachable = False
    transaction_type = _Transaction

    def __init__(self, store: Store | str | os.PathLike[str], **storage_options: Any) -> None:
        _Base.__init__(self, **storage_options)
        self.store: Store = store if isinstance(store, Store) else Store.from_uri(store)
        self._uri = store if isinstance(store, str) and "://" in store else None
        self._aio = self.store.aio
        self._folders: set[str] = set()

    @property
    def fsid(self) -> str:
        return f"holdall_{self.store.token}"

    @property
    def _fs_token(self) -> str:
        return self.store.token

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in cast("list[Any]", path)]
        text = str(cast(object, os.fspath(path)))
        if text.startswith("holdall+"):
            return _split(text)[1]
        return text.removeprefix("holdall://").strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"store": _split(path)[0]} if path.startswith("holdall+") else {}

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path."""
        key = self._strip_protocol(name)
        if self._uri is None:
            return f"holdall://{key}"
        place, mark, query = self._uri.partition("?")
        if place.partition("://")[0].lower() in BUCKETS:
            return f"holdall+{place.rstrip('/')}/{quote(key)}{mark}{query}"
        return f"holdall+{self._uri}#{quote(key)}"

    # --- what is there --------------------------------------------------------------------------------

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Return what is known of a file or folder: `name`, `size`, `type`, and of a file `mtime`, `etag` and
        `content_type`."""
        key = self._strip_protocol(path)
        try:
            if key:
                return _entry(self.store.info(key))
        except (BlobNotFoundError, InvalidKeyError) as error:
            if not self._is_folder(key):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        return _folder_entry(key)

    def _is_folder(self, key: str) -> bool:
        if not key or key in self._folders:
            return True
        try:
            return next(self.store.iterate_keys(key + "/"), None) is not None
        except InvalidKeyError:
            return False

    async def _info(self, path: str, **options: Any) -> dict[str, Any]:
        return await self._aio.run(self.info, path)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """List one folder, or a file alone."""
        key = self._strip_protocol(path)
        found = self._children(key)
        if not found and key not in self._folders:
            entry = self.info(key)
            found = {} if entry["type"] == "directory" else {key: entry}
        return [found[name] if detail else name for name in sorted(found)]

    def _children(self, key: str) -> dict[str, dict[str, Any]]:
        folder = key + "/" if key else ""
        found = {
            name: _folder_entry(name) for name in self._folders if name.rpartition("/")[0] == key and name
        }
        try:
            children = [*self.store.children(folder)]
        except InvalidKeyError:
            return {}
        for child in children:
            # A blob hides a folder of its name, as `info` does.
            if not isinstance(child, str):
                found[child.key] = _entry(child)
            else:
                found.setdefault(child[:-1], _folder_entry(child[:-1]))
        return found

    async def _ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        return await self._aio.run(self.ls, path, detail)

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **options: Any,
    ) -> Any:
        if maxdepth is not None or withdirs:
            # Folder by folder, which reads no more than is asked for.
            depth: Any = {"maxdepth": maxdepth, "withdirs": withdirs, "detail": detail}
            return await _Base._find(self, path, **depth, **options)
        key = self._strip_protocol(path)
        found = await self._aio.run(self._blobs, key, prefix)
        if not found and key and (await self._isfile(key)):
            found = {key: await self._info(key)}
        return found if detail else [*found]

    def _blobs(self, key: str, prefix: str) -> dict[str, Any]:
        folder = key + "/" if key else ""
        try:
            return {info.key: _entry(info) for info in self.store.list(folder + prefix)}
        except InvalidKeyError:
            return {}

    def exists(self, path: str, **options: Any) -> bool:
        """Return whether a file or folder is there."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def modified(self, path: str) -> datetime:
        """Return when a file was last written."""
        return self.info(path)["mtime"]

    def checksum(self, path: str) -> str:
        """Return the ETag of a file."""
        return self.info(path)["etag"]

    ukey = checksum

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        """Return a URL that reads a file without credentials, for some seconds."""
        return self.store.sign(self._strip_protocol(path), expires=expiration)

    # --- bytes ----------------------------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Return the bytes of a file, or a slice of them."""
        key = self._strip_protocol(path)
        if start is None and end is None:
            try:
                return self.store[key]
            except InvalidKeyError as error:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        return self.store.get_range(key, start or 0, end)

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        return await self._aio.run(self.cat_file, path, start, end)

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        lows, highs = _each(starts, len(paths)), _each(ends, len(paths))
        if not len(paths) == len(lows) == len(highs):
            raise InvalidArgumentError("give as many starts and ends as paths")
        wanted: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            wanted.setdefault(path, []).append(number)
        found: list[Any] = [None] * len(paths)

        async def read(path: str, numbers: list[int]) -> None:
            ranges = [(lows[number] or 0, highs[number]) for number in numbers]
            try:
                parts: list[Any] = await self._aio.get_ranges(self._strip_protocol(path), ranges)
            except StoreError as error:
                if on_error == "raise":
                    raise
                parts = [error] * len(numbers)
            for number, part in zip(numbers, parts, strict=True):
                found[number] = part

        await asyncio.gather(*(read(path, numbers) for path, numbers in wanted.items()))
        return found

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **options: Any) -> Any:
        """Return the bytes of a file, or a dict of those of several."""
        if isinstance(path, str) and not recursive and not _has_magic(path) and on_error == "raise":
            # Without the hop to fsspec's event loop, which takes longer than most gets.
            return self.cat_file(path, **options)
        return _mirrored(self, "_cat")(path, recursive=recursive, on_error=on_error, **options)

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **options: Any) -> None:
        """Write the bytes of a file; with mode "create" only if it isn't there."""
        key = self._strip_protocol(path)
        if self._intrans:
            with self.open(path, "xb" if mode == "create" else "wb") as file:
                file.write(value)
            return
        self.store.put(key, value, expect=_expected(mode))

    async def _pipe_file(self, path: str, value: Any, mode: str = "overwrite", **options: Any) -> None:
        await self._aio.run(self.pipe_file, path, value, mode)

    def pipe(self, path: str | Mapping[str, Any], value: Any = None, **options: Any) -> None:
        """Write the bytes of a file, or of several."""
        if isinstance(path, str):
            self.pipe_file(path, value, **options)
        else:
            _mirrored(self, "_pipe")(path, **options)

    def _open(
        self, path: str, mode: str = "rb", block_size: Any = None, autocommit: bool = True, **options: Any
    ) -> Any:
        key = self._strip_protocol(path)
        for name in _CACHING:
            # Readers read ahead in their own way, and keep nothing.
            options.pop(name, None)
        if "r" not in mode and not autocommit:
            return _Deferred(self.store._checked(key), "x" in mode)
        return self.store.open(key, mode, **options)

    async def open_async(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file whose calls are coroutines; binary only."""
        return await self._aio.open(self._strip_protocol(path), mode, **options)

    async def _get_file(self, rpath: str, lpath: Any, callback: Any = _SILENT, **options: Any) -> None:
        if await self._isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
        else:
            await self._aio.run(self._download, self._strip_protocol(rpath), lpath, callback)

    def _download(self, key: str, path: Any, callback: Any) -> None:
        if hasattr(path, "write"):
            for piece in self.store.chunks(key):
                path.write(piece)
            return
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, exist_ok=True)
        with self.store.open(key) as source, open(path, "wb") as target:
            callback.set_size(self.store.info(key).size)
            while piece := source.read(_SPOOLED):
                target.write(piece)
                callback.relative_update(len(piece))

    async def _put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Any = _SILENT,
        mode: str = "overwrite",
        **options: Any,
    ) -> None:
        if os.path.isdir(lpath):
            await self._makedirs(rpath, exist_ok=True)
        else:
            await self._aio.run(self._upload, lpath, rpath, callback, mode)

    def _upload(self, path: Any, target: str, callback: Any, mode: str) -> None:
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            callback.set_size(size)
            if self._intrans:
                with self.open(target, "xb" if mode == "create" else "wb") as file:
                    shutil.copyfileobj(source, file)
            else:
                self.store.put(self._strip_protocol(target), source, expect=_expected(mode))
            callback.relative_update(size)

    # --- what moves and goes --------------------------------------------------------------------------

    async def _cp_file(self, path1: str, path2: str, **options: Any) -> None:
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        try:
            await self._aio.copy(source, target)
        except FileNotFoundError:
            if not await self._isdir(source):
                raise
            await self._makedirs(target, exist_ok=True)

    async def _mv_file(self, path1: str, path2: str, **options: Any) -> None:
        await self._aio.move(self._strip_protocol(path1), self._strip_protocol(path2))

    async def _rm_file(self, path: str, **options: Any) -> None:
        key = self._strip_protocol(path)
        if await self._aio.delete(key):
            return
        if await self._isdir(key):
            raise IsADirectoryError(errno.EISDIR, "it is a folder; recursive=True removes it", path)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    async def _rm(
        self,
        path: Any,
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        paths: Iterable[str] = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
        if recursive:
            await self._aio.run(self._remove, [*paths])
        else:
            for each in paths:
                await self._rm_file(each)

    def _remove(self, keys: list[str]) -> None:
        self.store.delete_many(key for key in keys if key)
        self._folders.difference_update(keys)

    # --- folders --------------------------------------------------------------------------------------

    async def _mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        key = self._strip_protocol(path)
        if await self._exists(key):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        parent = key.rpartition("/")[0]
        if parent and not await self._exists(parent):
            if not create_parents:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), parent)
            await self._makedirs(parent, exist_ok=True)
        self._folders.add(key)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        try:
            await self._mkdir(path)
        except FileExistsError:
            if not exist_ok or not await self._isdir(path):
                raise
            # It may be there only as long as a file that is in it.
            self._folders.add(self._strip_protocol(path))

    async def _rmdir(self, path: str) -> None:
        key = self._strip_protocol(path)
        if not await self._isdir(key):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if await self._ls(key):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._folders.discard(key)


def _each(ends: Any, count: int) -> list[int | None]:
    return [*ends] if isinstance(ends, Iterable) else [ends] * count


def _split(url: str) -> tuple[str, str]:
    """Return the URI of the store in a URL, and the key."""
    uri = url.removeprefix("holdall+")
    try:
        place, key = split_uri(uri.rstrip("/"))
    except InvalidArgumentError:
        return uri, ""
    return place, key.strip("/")


def _expected(mode: str) -> Any:
    if mode not in ("overwrite", "create"):
        raise UnsupportedOperation(f"mode must be 'overwrite' or 'create', not {mode!r}")
    return ABSENT if mode == "create" else ANY


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


def _has_magic(path: str) -> bool:
    return any(character in path for character in "*?[")


def _mirrored(fs: Any, name: str) -> Any:
    return _asyn.sync_wrapper(getattr(fs, name), obj=fs)
