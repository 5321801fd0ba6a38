"""A store in a `UPath` of universal-pathlib, by fsspec."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import IO, Any, ClassVar, TypeVar

from holdall.errors import (
    BlobNotFoundError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
)
from holdall.ranges import CHUNK, span
from holdall.store import Attributes, Body, Can, Expect, Info, Piece
from holdall.stores.path.failures import _ChangedError, failed
from holdall.stores.path.store import PathStore
from holdall.stores.path.stream import fetched
from holdall.stores.path.turns import turn

__all__ = ["_Fsspec"]

T = TypeVar("T")

_memory = threading.RLock()


class _Fsspec(PathStore):
    """The folder of a `UPath`, by a file system of fsspec that caches no listing."""

    _marks: ClassVar[tuple[str, ...]] = ("generation", "ETag", "etag")
    _stamps: ClassVar[tuple[str, ...]] = ("LastModified", "last_modified", "updated", "mtime", "created")

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._given: Any = path.fs
        self._folder = path.path.rstrip("/")
        self._protocol: str = path.protocol
        self._in_memory = self._protocol == "memory"
        self.inline = self._in_memory
        folder = "" if self._in_memory else self._folder.strip("/")
        self._root = f"{folder}/" if folder else ""
        self.can = Can.LIST | Can.RANGE
        if self._in_memory:
            self.can |= Can.WRITE | Can.DELETE
        self._process = os.getpid()
        options = {**self._given.storage_options, "use_listings_cache": False, "skip_instance_cache": True}
        # Files in memory may belong to the file system that was given.
        self._fs: Any = (
            self._given if self._in_memory else type(self._given)(*self._given.storage_args, **options)
        )

    def __reduce__(self) -> tuple[object, ...]:
        if self._in_memory:
            return _here, (os.getpid(), self._path)
        return super().__reduce__()

    def _need(self, flag: Can, call: str) -> None:
        if flag in (Can.WRITE | Can.DELETE) and not self._in_memory:
            super()._need(Can(0), call)
            raise ReadOnlyError(f"{self._protocol}:// can only be read: it can't replace a blob atomically")
        super()._need(flag, call)

    def _name(self, key: str) -> str:
        return f"{self._folder}/{key}"

    def _call(self, what: str, function: Callable[[], T]) -> T:
        if self._process != os.getpid() and not self._in_memory:
            raise StoreUnavailableError("this store was opened before a fork; open it again in the child")
        try:
            if self._in_memory:
                with _memory:
                    return function()
            return function()
        except StoreError:
            raise
        except (FileNotFoundError, IsADirectoryError):
            raise BlobNotFoundError from None
        except (FileExistsError, NotADirectoryError):
            raise KeyConflictError("this medium can't hold both a blob and blobs below it") from None
        except Exception as error:
            raise failed(error, what, str(self._path)) from error

    def _info(self, key: str) -> Info:
        return self._told(key, self._call("read", lambda: self._fs.info(self._name(key))))

    def _told(self, key: str, found: Any) -> Info:
        if found["type"] != "file":
            raise BlobNotFoundError(key=key)
        stamp = next((found[name] for name in self._stamps if found.get(name) is not None), 0.0)
        modified: Any = datetime.fromisoformat(stamp) if isinstance(stamp, str) else stamp
        if isinstance(modified, datetime):
            modified = modified.timestamp()
        size: int = found["size"]
        etag = next(
            (found[name] for name in self._marks if found.get(name)), f"{float(modified).hex()}-{size}"
        )
        return Info(key, size, str(etag).strip('"'), float(modified))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        while True:
            try:
                return self._version(key, start, stop)
            except _ChangedError:
                # What failed keeps this frame alive for a while, which is why it holds no file.
                continue

    def _version(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        """Never mix ranges of two blobs: all bytes are of the version that the info describes."""
        name = self._name(key)
        info = self._info(key)
        low, high = span(start, stop, info.size)

        def fetch(file: IO[bytes]) -> int:
            for at in range(low, high, CHUNK):
                end = min(at + CHUNK, high)
                file.write(self._call("read", partial(self._fs.cat_file, name, start=at, end=end)))
            if low < high and self._info(key).etag != info.etag:
                raise _ChangedError(f"{key!r} was replaced while it was read")
            return high - low

        return info, fetched(key, CHUNK, fetch)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        data = b"".join([bytes(piece) for piece in body])
        return self._call("write", lambda: self._keep(key, self._name(key), data))

    def _keep(self, key: str, name: str, data: bytes) -> Info:
        if self._fs.isdir(name):
            raise KeyConflictError("this medium can't hold both a blob and blobs below it", key=key)
        self._fs.pipe_file(name, data)
        return self._told(key, self._fs.info(name))

    def _delete(self, key: str, expect: Expect) -> bool:
        with turn(key):
            try:
                self._info(key)
                self._call("delete", lambda: self._fs.rm_file(self._name(key)))
            except BlobNotFoundError:
                return False
            return True

    def _delete_folder(self) -> None:
        with suppress(BlobNotFoundError):
            self._call("delete", lambda: self._fs.rm(self._folder, recursive=True))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._walk("", prefix, after)

    def _walk(self, above: str, prefix: str, after: str) -> Iterator[Info]:
        """Yield the files in and below a folder, in order: a folder sorts as its name with a `/`."""
        folder = f"{self._folder}/{above}".rstrip("/")
        try:
            listed: list[Any] = self._call("list", lambda: self._fs.ls(folder, detail=True))
        except BlobNotFoundError:
            return
        entries: dict[str, Any] = {}
        for found in listed:
            holder, _, name = str(found["name"]).rstrip("/").rpartition("/")
            if holder.strip("/") != folder.strip("/"):
                # A folder without blobs may be the name of a blob, and then that is what is listed.
                continue
            key = self._key_of(self._root + above + name)
            if key is not None:
                entries[f"{key}/" if found["type"] == "directory" else key] = found
        for key in sorted(entries):
            if not key.endswith("/"):
                if key.startswith(prefix) and key > after:
                    yield self._told(key, entries[key])
            elif (key.startswith(prefix) or prefix.startswith(key)) and (
                key > after or after.startswith(key)
            ):
                yield from self._walk(key, prefix, after)


def _here(process: int, path: Any) -> Any:
    if process != os.getpid():
        raise StoreUnavailableError(
            "a path in memory can't be opened in another process; use a path on a disk or a server"
        )
    return PathStore(path)
