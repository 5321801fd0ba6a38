"""The journal: what a change is about to do, for the next one if its writer is killed."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from holdall.errors import StoreUnavailableError
from holdall.stores.git.refs import Head
from holdall.stores.git.worktree import Draft, PathChange, WorkTree
from holdall.stores.local import sync_folder

_log = logging.getLogger("holdall")


class Record(NamedTuple):
    """A change that was begun."""

    head: Head
    """The branch, and the commit that it named."""
    made: bytes | None
    """The commit that it should name; None to leave it unchanged."""
    reflog: str
    """For the reflog."""
    changes: list[PathChange]
    """Of the files."""
    seen: bool
    """Whether any of these can be seen."""


class Journal:
    """A file in the folder of holdall that holds one change at most, made with the permissions `mode`."""

    def __init__(self, folder: str, tree: WorkTree, durable: bool, mode: int) -> None:
        self._folder, self._tree, self._durable, self._mode = folder, tree, durable, mode
        self._path = f"{folder}/journal"

    def pending(self) -> bool:
        """Whether a change is under way, or was when its writer was killed."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            return False  # another user's: that user's next call finishes what it says
        try:
            return self._is_begun(os.read(fd, 1))
        finally:
            os.close(fd)

    def _is_begun(self, first: bytes) -> bool:
        if first not in (b"+", b"-", b""):
            raise StoreUnavailableError(
                f"{self._path!r} was written by a newer version of holdall, which may have begun a change; "
                "upgrade holdall"
            )
        return first == b"+"

    def write(self, head: Head, made: bytes | None, changes: Sequence[PathChange], reflog: str) -> None:
        """Write what is about to be done; see `Record`."""
        files: list[list[object]] = []
        for path, draft, mode in changes:
            if draft is None:
                files.append([path, None, self._tree.look(path) is not None, mode])
            else:
                name, oid, raw, *rest = draft
                files.append([path, [name, oid.hex(), raw.hex(), *rest], False, mode])
        old = None if head.commit is None else head.commit.hex()
        fields = [head.ref, old, None if made is None else made.hex(), reflog, files]
        content = json.dumps(fields).encode(errors="surrogateescape")
        # Written in place, since a new file costs more than all else here. The first byte says that the rest
        # is there, and comes last.
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            os.pwrite(fd, b"-%08x%08x" % (len(content), zlib.crc32(content)), 0)
            done = 0
            while done < len(content):
                done += os.pwrite(fd, content[done:], 17 + done)
            if self._durable:
                os.fsync(fd)
            os.pwrite(fd, b"+", 0)
            if self._durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        if self._durable:
            sync_folder(self._folder)

    def read(self) -> Record | None:
        """Return the change that was begun; None if there is none, or it can't be read."""
        try:
            with open(self._path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return None
        if not self._is_begun(content[:1]):
            return None
        try:
            return self._record(content)
        except (ValueError, TypeError) as error:
            # As after a power failure. The finished part of it is in the work tree, where `git status` shows
            # it.
            _log.warning(
                "the journal %r is damaged, so that what a killed writer had begun isn't finished: look at "
                "`git status` (%s)",
                self._path,
                error,
            )
            return None

    def _record(self, content: bytes) -> Record:
        size, check = int(content[1:9], 16), int(content[9:17], 16)
        content = content[17 : 17 + size]
        if len(content) != size or zlib.crc32(content) != check:
            raise ValueError("its checksum is wrong")
        ref, before, after, reflog, files = json.loads(content.decode(errors="surrogateescape"))
        seen = False
        changes: list[PathChange] = []
        for path, fields, was, mode in files:
            draft = None
            if fields is None:
                seen |= was and self._tree.look(path) is None
            else:
                name, oid, raw, *rest = fields
                draft = Draft(name, bytes.fromhex(oid), bytes.fromhex(raw), *rest)
                seen |= self._tree.is_placed(path, draft)
            changes.append(PathChange(path, draft, mode))
        old, made = (None if each is None else bytes.fromhex(each) for each in (before, after))
        return Record(Head(ref, old), made, reflog, changes, seen)

    def forget(self) -> None:
        """Say that nothing is under way."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, b"-", 0)
        finally:
            os.close(fd)
