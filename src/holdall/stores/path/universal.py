"""A store in a `UPath` of universal-pathlib, by fsspec."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import IO, Any, ClassVar, TypeVar

from holdall.errors import (
    BlobNotFoundError,
    InvalidKeyError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
)
from holdall.ranges import CHUNK, span
from holdall.store import Attributes, Body, Can, Expect, Info, Piece
from holdall.stores.path.abreast import Job, abreast
from holdall.stores.path.azure import default_retries
from holdall.stores.path.cloud import is_text
from holdall.stores.path.failures import _ChangedError, failed
from holdall.stores.path.store import PathStore
from holdall.stores.path.stream import fetched
from holdall.stores.path.turns import turn

__all__ = ["_Fsspec"]

T = TypeVar("T")

# Of these a file is replaced whole, or not at all.
_WHOLE = frozenset(("memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"))
_AZURE = frozenset(("abfs", "abfss", "az"))
# Azure takes a backslash for a slash, may drop a dot at the end of a segment, and lists in XML; adlfs
# doesn't list a segment that ends with a space, a `#` or a `?`.
_FOLDED = re.compile(r"[\\\ufffe\uffff]|[.#?\s](?=/|\Z)")
_S3 = frozenset(("s3", "s3a"))
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
        folder = self._folder.strip("/")
        if self._protocol in _WHOLE:
            # The first part is a bucket, which isn't part of a name.
            folder = "" if self._in_memory else folder.partition("/")[2]
        self._root = f"{folder}/" if folder else ""
        self.can = Can.LIST | Can.RANGE
        if self._protocol in _WHOLE:
            self.can |= Can.WRITE | Can.DELETE | (Can(0) if self._in_memory else Can.BULK)
        self._process = os.getpid()
        options = {**self._given.storage_options, "use_listings_cache": False, "skip_instance_cache": True}
        # Files in memory may belong to the file system that was given.
        self._fs: Any = (
            self._given if self._in_memory else type(self._given)(*self._given.storage_args, **options)
        )

        if self._protocol in _AZURE:
            policy = default_retries(getattr(self._fs, "service_client", None))
            if policy is not None and self._fs is not self._given:
                policy.connect_retries = 1

    def __reduce__(self) -> tuple[object, ...]:
        if self._in_memory:
            return _here, (os.getpid(), self._path)
        return super().__reduce__()

    def _need(self, flag: Can, call: str) -> None:
        if flag in (Can.WRITE | Can.DELETE) and self._protocol not in _WHOLE:
            super()._need(Can(0), call)
            raise ReadOnlyError(f"{self._protocol}:// can only be read: it can't replace a blob atomically")
        super()._need(flag, call)

    def _checked(self, key: object) -> str:
        key = super()._checked(key)
        if not self._can_have(key):
            raise InvalidKeyError(f"{self._protocol}:// can't hold this name", key=key)
        return key

    def _key_of(self, name: str) -> str | None:
        key = super()._key_of(name)
        return key if key is not None and self._can_have(key) else None

    def _can_have(self, key: str) -> bool:
        """Whether this medium takes a name as it is: some read a part of one as a query, or as the version
        to read."""
        if self._in_memory or self._protocol not in _WHOLE:
            return True
        name = self._name(key)
        seen = "/".join(self._fs.split_path(name)[:2])
        return seen == name and not (self._protocol in _AZURE and _FOLDED.search(key))

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
        except (FileNotFoundError, IsADirectoryError) as error:
            if what == "write":
                raise StoreUnavailableError(
                    f"the bucket of {str(self._path)!r} doesn't exist; make it first"
                ) from error
            raise BlobNotFoundError from None
        except (FileExistsError, NotADirectoryError):
            raise KeyConflictError("this medium can't hold both a blob and blobs below it") from None
        except Exception as error:
            # s3fs knows an answer to If-Match by its words, which some servers leave out.
            met = error.__context__
            is_wordless = isinstance(error, TypeError) and getattr(met, "errno", None) == errno.EINVAL
            if is_wordless or type(error).__name__ == "FileExpired":
                raise _ChangedError(
                    f"{str(self._path)!r} was replaced while it was read; read it again"
                ) from error
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
        if self._protocol in _S3:
            # A listing has fractions of seconds; a request for one object never does.
            modified = int(modified)
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
        if self._protocol in _S3:
            # An ETag here may be one of the bytes alone, and come back; this asks for it with each range.
            opened: Any = self._call("read", lambda: self._fs.open(name, "rb", cache_type="none"))
            info = self._told(key, opened.details)
        else:
            opened, info = None, self._info(key)
        low, high = span(start, stop, info.size)

        def fetch(file: IO[bytes]) -> int:
            for at in range(low, high, CHUNK):
                end = min(at + CHUNK, high)
                if opened is None:
                    get = partial(self._fs.cat_file, name, start=at, end=end)
                else:
                    get = partial(_part, opened, at, end)
                file.write(self._call("read", get))
            if opened is None and low < high and self._info(key).etag != info.etag:
                raise _ChangedError(f"{key!r} was replaced while it was read")
            return high - low

        return info, fetched(key, CHUNK, fetch)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        name = self._name(key)
        if self._in_memory:
            data = b"".join([bytes(piece) for piece in body])
            return self._call("write", lambda: self._keep(key, name, data))
        with tempfile.NamedTemporaryFile(prefix="holdall-") as file:
            for piece in body:
                file.write(piece)
            file.flush()
            size = file.tell()
            self._call("write", lambda: self._fs.put_file(file.name, name))
        try:
            return self._info(key)
        except BlobNotFoundError:
            # Another process has deleted it.
            return Info(key, size, "", datetime.now(UTC))

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
            if self._in_memory:
                self._call("delete", lambda: self._fs.rm(self._folder, recursive=True))
                return
            inside = f"{self._folder.strip('/')}/"
            names = [str(name).lstrip("/") for name in self._call("list", self._all)]
            for _ in abreast(Job(n, 0, partial(self._remove, n)) for n in names if n.startswith(inside)):
                pass

    def _all(self) -> list[Any]:
        if self._protocol not in _AZURE:
            return self._fs.find(self._folder)
        return self._fs.find(self._folder.strip("/").partition("/")[0], prefix=self._root)

    def _remove(self, name: str) -> None:
        with suppress(BlobNotFoundError):
            self._call("delete", lambda: self._fs.rm_file(name))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._found(prefix, after) if self._protocol in _AZURE else self._walk("", prefix, after)

    def _found(self, prefix: str, after: str) -> Iterator[Info]:
        """All that is below a container, since adlfs lists no folder where a blob has its name."""
        if not is_text(prefix):
            return
        bucket = self._folder.strip("/").partition("/")[0]
        begin = self._root + prefix[: prefix.rfind("/") + 1]
        listed: dict[str, Any] = self._call("list", lambda: self._fs.find(bucket, prefix=begin, detail=True))
        infos: dict[str, Info] = {}
        for name, found in listed.items():
            key = self._key_of(name.removeprefix(f"{bucket}/"))
            if key is not None and key.startswith(prefix) and key > after and found["type"] == "file":
                infos[key] = self._told(key, found)
        for key in sorted(infos):
            yield infos[key]

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


def _part(file: Any, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
