"""A file system of fsspec over any store (https://filesystem-spec.readthedocs.io/en/latest/developer.html)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from holdall.interop.fsspec.copying import Copying
from holdall.interop.fsspec.listing import missing
from holdall.interop.fsspec.twins import add_twins

__all__ = ["HoldallFileSystem"]


class HoldallFileSystem(Copying):
    """A file system of fsspec whose files are the blobs of a store, so that pandas, DuckDB, Dask, pyarrow and
    all others that take one read and write it.

    Its paths are the keys of the store. No listing and no instance is cached: what others write is seen at
    once. A file is seen whole when it is closed, and not at all if the `with` block of `open` raises. Folders
    are made of keys; one without a file is remembered as long as there is a file system of the place in this
    process. The files that are written in a `with fs.transaction` are put at its end, together where the
    store puts many in one transaction.

    A URL is `holdall://KEY` with the storage option `store`, or the URI of one value after `holdall+`,
    as `Resource` splits it: `holdall+s3://bucket/logs/a.csv`, `holdall+sqlite:///data.db#logs/a.csv`.

    Args:
        store: The store, or a URI, a path or a name of `holdall.toml` to open one.
        storage_options: Other options of fsspec's `AsyncFileSystem`.

    Raises:
        InvalidArgumentError: The store is missing, or an option isn't known; or a call was given the URL of
            another store.

    >>> import holdall
    >>> from holdall.interop.fsspec import HoldallFileSystem
    >>> fs = HoldallFileSystem(holdall.MemoryStore())
    >>> fs.pipe("a/b.txt", b"hello")
    >>> fs.cat("a/b.txt"), fs.ls("a", detail=False), fs.isdir("a")
    (b'hello', ['a/b.txt'], True)
    """

    async def _rm_file(self, path: str, **options: Any) -> None:
        key = self._key(path)
        if key and await self._aio.delete(key):
            return
        if await self._isdir(key):
            raise IsADirectoryError(errno.EISDIR, "it is a folder; recursive=True removes it", path)
        raise missing(path)

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


add_twins(HoldallFileSystem)
