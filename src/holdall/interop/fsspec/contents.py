"""The bytes of the files of a file system of fsspec."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from operator import index
from typing import Any, cast

from holdall.arguments import check_mode
from holdall.blob import Item
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    InvalidArgumentError,
    InvalidKeyError,
    StoreError,
    UnsupportedOperation,
)
from holdall.files import TextFile
from holdall.interop.fsspec.base import CACHING, Base
from holdall.interop.fsspec.compressed import compressed
from holdall.interop.fsspec.listing import Listing, missing
from holdall.interop.fsspec.transaction import Deferred
from holdall.interop.fsspec.twins import on_thread, part, wait
from holdall.interop.loading import load
from holdall.paths import replacing
from holdall.store import ABSENT, ANY

SILENT: Any = load("fsspec.callbacks").DEFAULT_CALLBACK
_PIECE = 1 << 20
_TEXT = ("encoding", "errors", "newline")


class Contents(Listing):
    """Reads and writes files."""

    # Calls for one file, and for a list of names, do without the hop to fsspec's event loop, which takes
    # longer than most gets.

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Return the bytes of a file, or a slice of them."""
        key = self._key(path)
        try:
            if start is None and end is None:
                return self.store[key]
            return self.store.get_range(key, _end(start) or 0, _end(end))
        except InvalidKeyError as error:
            raise missing(path) from error

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        key = self._key(path)
        try:
            if start is None and end is None:
                return await self._aio[key]
            return await self._aio.get_range(key, _end(start) or 0, _end(end))
        except InvalidKeyError as error:
            raise missing(path) from error

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **options: Any) -> Any:
        """Return the bytes of a file, or a dict of those of several."""
        if isinstance(path, str):
            if on_error == "raise" and not recursive and not has_magic(path):
                return self.cat_file(path, **options)
        elif not recursive and not options and not any(map(has_magic, path := [*path])):
            return self._cat_many(sorted({*self._key(path)}), on_error)
        return wait(self, "_cat", path, recursive=recursive, on_error=on_error, **options)

    async def _cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **options: Any) -> Any:
        if options:
            return await Base._cat(self, path, recursive=recursive, on_error=on_error, **options)
        keys = await self._expand_path(path, recursive=recursive)
        is_wide = recursive or any(map(has_magic, [path] if isinstance(path, str) else path))
        found = await self._aio.run(self._cat_many, keys, on_error, is_wide)
        if len(keys) > 1 or not isinstance(path, str) or keys[0] != self._key(path):
            return found
        return found.get(keys[0])

    def _cat_many(self, keys: list[str], on_error: str, has_folders: bool = False) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.store.get_many(keys)
        except InvalidKeyError:
            # Such a key is absent; the others are read one by one.
            found = {}
            for key in keys:
                try:
                    found[key] = self.cat_file(key)
                except FileNotFoundError:
                    continue
        if len(found) == len(keys):
            return {key: found[key] for key in keys}
        gathered: dict[str, Any] = {}
        for key in keys:
            if key in found:
                gathered[key] = found[key]
            elif has_folders and self._is_folder(key):
                continue
            elif on_error == "raise":
                raise BlobNotFoundError("no such blob", key=key)
            elif on_error != "omit":
                gathered[key] = BlobNotFoundError("no such blob", key=key)
        return gathered

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
            wanted.setdefault(self._key(path), []).append(number)
        found: list[Any] = [None] * len(paths)

        async def read(key: str, numbers: list[int]) -> None:
            ranges = [(lows[number] or 0, highs[number]) for number in numbers]
            try:
                try:
                    parts: list[Any] = await self._aio.get_ranges(key, ranges)
                except InvalidKeyError as error:
                    raise missing(key) from error
            except (StoreError, FileNotFoundError) as error:
                if on_error == "raise":
                    raise
                parts = [error] * len(numbers)
            for number, data in zip(numbers, parts, strict=True):
                found[number] = data

        await asyncio.gather(*(read(key, numbers) for key, numbers in wanted.items()))
        return found

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **attributes: Any) -> None:
        """Write the bytes of a file; with mode "create" only if it isn't there.

        Args:
            path: Which.
            value: Its bytes.
            mode: "overwrite" or "create".
            attributes: Its time to live, content type and metadata, as in `Store.put`.
        """
        key, expect = self._file_key(path), _expect_of(mode)
        if self._intrans:
            with self.open(path, "xb" if expect is ABSENT else "wb", **attributes) as file:
                file.write(value)
            return
        self.store.put(key, value, expect=expect, **attributes)

    _pipe_file = on_thread("pipe_file")

    def pipe(
        self,
        path: str | Mapping[str, Any],
        value: Any = None,
        batch_size: int | None = None,
        mode: str = "overwrite",
        **attributes: Any,
    ) -> None:
        """Write the bytes of a file, or of several; as `pipe_file`."""
        if type(path) is str:
            self.pipe_file(path, value, mode, **attributes)
            return
        many = path if isinstance(path, Mapping) else {path: value}
        if len(many) == 1 or self._intrans or mode != "overwrite":
            for each, data in many.items():
                self.pipe_file(each, data, mode, **attributes)
        else:
            self.store.put_many({self._key(each): data for each, data in many.items()}, **attributes)

    _pipe = on_thread("pipe")

    def touch(self, path: str, truncate: bool = True, **attributes: Any) -> None:
        """Make an empty file; or renew the time of one that is there, with `truncate=False`."""
        if truncate:
            self.pipe_file(path, b"", **attributes)
            return
        try:
            self.pipe_file(path, b"", mode="create", **attributes)
        except BlobExistsError:
            self.store.touch(self._key(path), **attributes)

    def open(self, path: str, mode: str = "rb", *args: Any, compression: Any = None, **options: Any) -> Any:
        """Open a file, as the `open` of Python does; see `Store.open`.

        A file that was written is there, whole, once it is closed, and not at all if its `with` block raises.

        Args:
            path: Which.
            mode: "r", "w" or "x", and "b" for bytes; "a" where the store can append.
            args: The size of blocks and how they are cached, which is ignored.
            compression: The name of a compression that fsspec knows, or "infer" to go by the name of the
                file.
            options: `encoding`, `errors` and `newline` of a text file, and those of `Store.open`.
        """
        key = self._file_key(path)
        if "b" in mode:
            text = None
        else:
            text = {name: options.pop(name) for name in _TEXT if name in options}
            mode = mode.replace("t", "") + "b"
        autocommit = options.pop("autocommit", not self._intrans)
        opened = self._open(key, mode, autocommit=autocommit, **options)
        file = compressed(opened, key, mode, compression)
        if text is not None:
            file = TextFile(file, **text)
        if isinstance(opened, Deferred):
            self.transaction.files.append((file, opened))
        return file

    def _open(
        self, path: str, mode: str = "rb", block_size: Any = None, autocommit: bool = True, **options: Any
    ) -> Any:
        key = self._key(path)
        options = {name: options[name] for name in options.keys() - CACHING}
        if "r" not in mode and not autocommit:
            return self._defer(self.store._checked(key), mode, **options)
        file: Any = self.store.open(key, mode, **options)
        if "r" in mode:
            # fsspec asks for it.
            file.size = file.info.size
        return file

    def _defer(self, key: str, mode: str, *, expect: Any = ANY, **attributes: Any) -> Deferred:
        action = check_mode(key, mode, None, None, None)
        if not self._intrans:
            raise UnsupportedOperation(
                "autocommit=False is for the files of a transaction: write them in `with fs.transaction`",
                key=key,
            )
        if action == "a":
            raise UnsupportedOperation("a transaction writes whole files: append after it", key=key)
        if expect is not ANY:
            raise UnsupportedOperation(
                "a transaction compares no ETags; mode 'xb' is for files that must be new", key=key
            )
        # Mistakes come out here rather than at the end.
        Item(b"", **attributes)
        return Deferred(key, action == "x", attributes)

    def start_transaction(self) -> Any:
        """Begin a transaction, which `end_transaction` ends; a `with fs.transaction` block does both."""
        transaction: Any = self.transaction
        transaction.start()
        return transaction

    def _file_key(self, path: str) -> str:
        key = self._key(path)
        if not key:
            what = "this names a store but no file: write a key after it, as in holdall+sqlite:///data.db#KEY"
            raise IsADirectoryError(errno.EISDIR, what, path)
        return key

    async def open_async(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file whose calls are coroutines; binary only, and to read only in a transaction."""
        if self._intrans and mode != "rb":
            raise UnsupportedOperation("in a transaction, open files that are written by `open`", key=path)
        return await self._aio.open(self._key(path), mode, **options)

    @part
    async def _get_file(self, rpath: str, lpath: Any, callback: Any = SILENT, **options: Any) -> None:
        try:
            await self._aio.run(self._download, self._key(rpath), lpath, callback)
        except FileNotFoundError:
            if not await self._isdir(rpath):
                raise
            os.makedirs(lpath, exist_ok=True)

    def _download(self, key: str, path: Any, callback: Any) -> None:
        try:
            source = self.store.open(key)
        except InvalidKeyError as error:
            raise missing(key) from error
        with source:
            callback.set_size(source.info.size)
            if hasattr(path, "write"):
                _pump(source, path, callback)
                return
            os.makedirs(os.path.dirname(os.path.realpath(path)), exist_ok=True)
            with replacing(path) as target:
                _pump(source, target, callback)

    @part
    async def _put_file(
        self, lpath: Any, rpath: str, callback: Any = SILENT, mode: str = "overwrite", **attributes: Any
    ) -> None:
        if os.path.isdir(lpath):
            await self._makedirs(rpath, exist_ok=True)
        else:
            await self._aio.run(self._upload, lpath, rpath, callback, mode, attributes)

    def _upload(
        self, path: Any, target: str, callback: Any, mode: str, attributes: Mapping[str, Any]
    ) -> None:
        expect = _expect_of(mode)
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            callback.set_size(size)
            if self._intrans:
                with self.open(target, "xb" if expect is ABSENT else "wb", **attributes) as file:
                    shutil.copyfileobj(source, file)
            else:
                self.store.put(self._key(target), source, expect=expect, **attributes)
            callback.relative_update(size)


def _pump(source: Any, target: Any, callback: Any) -> None:
    while piece := source.read(_PIECE):
        target.write(piece)
        callback.relative_update(len(piece))


def _each(ends: Any, count: int) -> list[int | None]:
    return (
        [_end(each) for each in cast("Iterable[Any]", ends)]
        if isinstance(ends, Iterable)
        else [_end(ends)] * count
    )


def _end(number: Any) -> Any:
    # Of NumPy, perhaps, whose numbers aren't ints.
    return index(number) if hasattr(number, "__index__") else number


def _expect_of(mode: str) -> Any:
    if mode not in ("overwrite", "create"):
        raise UnsupportedOperation(f"mode must be 'overwrite' or 'create', not {mode!r}")
    return ABSENT if mode == "create" else ANY


has_magic = re.compile(r"[*?\[]").search
