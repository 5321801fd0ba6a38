"""Copies, moves and downloads of several files, and where each file goes
(https://filesystem-spec.readthedocs.io/en/latest/copying.html)."""

from __future__ import annotations

import asyncio
import errno
import os
from itertools import compress
from typing import Any, cast

from holdall.errors import BlobNotFoundError, ConcurrencyError, InvalidArgumentError, InvalidKeyError
from holdall.interop.fsspec.contents import SILENT, Contents, has_magic
from holdall.interop.fsspec.twins import part, wait
from holdall.interop.loading import load
from holdall.store import ANY, Can

_utils = load("fsspec.utils")
_absolute: Any = load("fsspec.implementations.local").make_path_posix


class Copying(Contents):
    """Copies and moves files and folders."""

    @part
    async def _cp_file(self, path1: str, path2: str, **options: Any) -> None:
        source, target = self._key(path1), self._key(path2)
        try:
            await self._aio.copy(source, target)
        except (FileNotFoundError, InvalidKeyError):
            if not await self._isdir(source):
                raise
            await self._makedirs(target, exist_ok=True)

    async def _copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        on_error: str | None = None,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        if not _are_lists(path1, path2):
            path1, path2 = await self._pair_within(path1, path2, recursive, maxdepth)
        await Contents._copy(self, path1, path2, recursive=recursive, on_error=on_error, **options)

    async def _get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = SILENT,
        maxdepth: int | None = None,
        **options: Any,
    ) -> Any:
        if not _are_lists(rpath, lpath):
            target: Any = _absolute(_utils.stringify_path(lpath))
            is_folder = isinstance(target, str) and (target.endswith("/") or os.path.isdir(target))
            rpath, lpath = await self._pair(rpath, target, is_folder, recursive, maxdepth)
        return await Contents._get(self, rpath, lpath, recursive=recursive, callback=callback, **options)

    async def _put(self, lpath: Any, rpath: Any, *args: Any, **options: Any) -> Any:
        _are_lists(lpath, rpath)
        return await Contents._put(self, lpath, rpath, *args, **options)

    def mv(
        self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any
    ) -> None:
        """Move a file, or what a pattern finds, or a folder with `recursive=True`.

        Raises:
            ConcurrencyError: Files of several changed meanwhile: they are still there, too.
            InvalidArgumentError: The folder would move into itself; or two files to one place, one to two
                places, or one to where another one is.
            IsADirectoryError: A folder, without `recursive=True`.
        """
        wait(self, "_mv", path1, path2, recursive, maxdepth)

    async def _mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        path1, path2 = _utils.stringify_path(path1), _utils.stringify_path(path2)
        if isinstance(path1, str) and isinstance(path2, str):
            source, target = self._key(path1), self._key(path2)
            if source == target:
                return
            # It would be removed after it was copied, and the copy with it.
            if recursive and f"{target}/".startswith(f"{source}/" if source else ""):
                raise InvalidArgumentError(f"{source!r} can't move into {target!r}, which is in it")
        if _are_lists(path1, path2):
            sources, targets = self._key(path1), self._key(path2)
        else:
            sources, targets = await self._pair_within(path1, path2, recursive, maxdepth)
            if not sources:
                raise _is_folder(path1)
        sources, targets = _moving(sources, targets)
        if not sources:
            return
        folders: list[str] = []
        if len(sources) == 1 or not recursive:
            are_folders = await asyncio.gather(*map(self._isdir, sources))
            folders = [*compress(sources, are_folders)]
        if folders and not recursive:
            raise _is_folder(folders[0])
        if len(sources) == 1 and not folders:
            await self._mv_file(sources[0], targets[0])
            return
        self.store._need(Can.DELETE, "move")  # or there would be two of each
        # Noted before the copies, so that a version that wasn't copied has another one.
        etags = dict(zip(sources, await asyncio.gather(*map(self._etag, sources)), strict=True))
        moves = dict(zip(sources, targets, strict=True))
        if await self._move_together({key: moves[key] for key, etag in etags.items() if etag is not None}):
            made = [moves[key] for key, etag in etags.items() if etag is None]
            await asyncio.gather(*(self._makedirs(folder, exist_ok=True) for folder in made))
            self._folders.difference_update(sources)
            return
        # Where one can't be copied, all stay.
        await self._copy(sources, targets, on_error="raise")
        await self._remove_copied(etags)

    async def _mv_file(self, path1: str, path2: str, **options: Any) -> None:
        await self._aio.move(self._key(path1), self._key(path2))

    @part
    async def _move_together(self, moves: dict[str, str]) -> bool:
        """Move files in one step, if the store can; return whether it was done."""
        checked = {source: self.store._checked(target) for source, target in moves.items()}
        return await self._aio.run(self.store._move_many, checked)

    async def _etag(self, key: str) -> str | None:
        """Return the ETag of a file; None if nothing but maybe a folder is there."""
        try:
            return (await self._aio.info(key)).etag
        except (BlobNotFoundError, InvalidKeyError):
            return None

    @part
    async def _remove_copied(self, etags: dict[str, str | None]) -> None:
        # As a part it is left out after an interrupt, as are the copies that hadn't begun.
        left = await asyncio.gather(*map(self._remove_version, etags, etags.values()))
        changed = [key for key in left if key is not None]
        if changed:
            count = sum(etag is not None for etag in etags.values())
            raise ConcurrencyError(
                f"{len(changed)} of {count} files changed while they were moved, and are still where "
                f"they were, the first of them {changed[0]!r}; the targets hold what they were before: move "
                "again"
            )

    async def _remove_version(self, key: str, etag: str | None) -> str | None:
        """Delete a file of which this version was copied; return its key if another one is there."""
        self._folders.discard(key)
        exact = Can.CONDITIONAL_DELETE in self.store.can
        try:
            if etag is not None and (exact or await self._etag(key) == etag):
                await self._aio.delete(key, expect=etag if exact else ANY)
                return None
        except ConcurrencyError:
            pass
        return key if await self._etag(key) is not None else None

    async def _pair_within(
        self, path1: Any, path2: Any, recursive: bool, maxdepth: int | None
    ) -> tuple[list[str], list[str]]:
        """Return the keys that are found of a path, and the key in another one that each goes to."""
        path2 = _utils.stringify_path(path2)
        is_folder = isinstance(path2, str) and (path2.endswith("/") or await self._isdir(path2))
        target = f"/{self._key(path2)}" if isinstance(path2, str) else self._key(path2)
        sources, targets = await self._pair(path1, target, is_folder, recursive, maxdepth)
        keys = [target.strip("/") for target in targets]
        # The root is there.
        kept = [(source, key) for source, key in zip(sources, keys, strict=True) if key]
        return [source for source, _ in kept], [key for _, key in kept]

    async def _pair(
        self, path: Any, target: Any, is_folder: bool, recursive: bool, maxdepth: int | None
    ) -> tuple[list[str], list[str]]:
        """Return the keys that are found of a path, and where in an absolute path each goes."""
        path = _utils.stringify_path(path)
        found: list[str] = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
        is_one = isinstance(path, str)
        if is_one and (not recursive or maxdepth is not None):
            found = [key for key in found if not await self._isdir(key)]
        if isinstance(target, list):
            if len(cast("list[str]", target)) != len(found):
                raise InvalidArgumentError("give as many targets as there are files, or one folder")
            return found, cast("list[str]", target)
        if is_one and has_magic(self._key(path)):
            goes_into = len(found) == 1
        else:
            goes_into = is_one and is_folder and not path.endswith("/")
        # fsspec cuts names at each "/". One in the root has none, and would get the name of the folder.
        rooted = [f"/{key}" for key in found]
        targets: list[str] = []
        if found:
            targets = _utils.other_paths(rooted, target, exists=goes_into, flatten=not is_one)
        return found, targets


def _is_folder(path: Any) -> IsADirectoryError:
    return IsADirectoryError(errno.EISDIR, "it is a folder; recursive=True moves it", path)


def _are_lists(sources: object, targets: object) -> bool:
    """Return whether both are lists, of which one says where each of the other goes.

    Raises:
        InvalidArgumentError: One is longer: fsspec would leave out the rest of it.
    """
    if not (isinstance(sources, list) and isinstance(targets, list)):
        return False
    counts = len(cast("list[Any]", sources)), len(cast("list[Any]", targets))
    if counts[0] != counts[1]:
        raise InvalidArgumentError(f"give as many targets as sources: got {counts[1]} for {counts[0]}")
    return True


def _moving(sources: list[str], targets: list[str]) -> tuple[list[str], list[str]]:
    """Return what moves and where to, without what stays where it is.

    Raises:
        InvalidArgumentError: One of them would be overwritten, or would move to two places.
    """
    moving: dict[str, str] = {}
    taken = {*sources}
    for source, target in zip(sources, targets, strict=True):
        if moving.setdefault(source, target) != target:
            raise InvalidArgumentError(f"{source!r} can't move to both {moving[source]!r} and {target!r}")
    moving = {source: target for source, target in moving.items() if source != target}
    for source, target in moving.items():
        if target in taken:
            raise InvalidArgumentError(
                f"{source!r} can't move to {target!r}, where another one of these files is, or goes"
            )
        taken.add(target)
    return [*moving], [*moving.values()]
