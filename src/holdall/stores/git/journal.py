"""The journal: what a change is about to do, for whoever finds that its writer was killed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from holdall.stores.git.objects import sync_folder
from holdall.stores.git.refs import Head
from holdall.stores.git.worktree import Change, Draft, is_placed

__all__ = ["Journal", "Record"]


class Record(NamedTuple):
    """A change that was begun."""

    head: Head
    """The branch, and what it named."""
    made: bytes | None
    """What it was to name; None to stay as it was."""
    told: str
    """For the reflog."""
    changes: list[Change]
    """Of the files."""
    seen: bool
    """Whether any of these can be seen."""


class Journal:
    """A file that holds one change at most.

    Args:
        folder: The folder of holdall in the repository.
        top: The work tree.
        durable: Whether it is on the disk when it is written.
    """

    def __init__(self, folder: str, top: str, durable: bool) -> None:
        self._folder, self._top, self._durable = folder, top, durable
        self._path = f"{folder}/journal"

    def pending(self) -> bool:
        """Whether a change is under way, or was when its writer was killed."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return os.read(fd, 1) == b"+"
        finally:
            os.close(fd)

    def write(self, head: Head, made: bytes | None, changes: Sequence[Change], told: str) -> None:
        """Say what is about to be done; see `Record`."""
        files: list[list[object]] = []
        for path, draft, mode in changes:
            if draft is None:
                files.append([path, None, os.path.lexists(f"{self._top}/{path}"), mode])
            else:
                fields = [draft.path, draft.oid.hex(), draft.raw.hex(), draft.size, draft.stamp, draft.inode]
                files.append([path, fields, False, mode])
        old = None if head.commit is None else head.commit.hex()
        said = [head.ref, old, None if made is None else made.hex(), told, files]
        content = json.dumps(said).encode(errors="surrogateescape")
        # Written in place, since a new file costs more than all else here. The first byte says that the rest
        # is there, and comes last.
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
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
        """What was begun; None for nothing."""
        content = self._content()
        if content is None:
            return None
        ref, before, after, told, files = json.loads(content.decode(errors="surrogateescape"))
        seen = False
        changes: list[Change] = []
        for path, fields, was, mode in files:
            draft = None
            if fields is None:
                seen |= was and not os.path.lexists(f"{self._top}/{path}")
            else:
                name, oid, raw, size, stamp, inode = fields
                draft = Draft(name, bytes.fromhex(oid), bytes.fromhex(raw), size, stamp, inode)
                seen |= is_placed(f"{self._top}/{path}", draft)
            changes.append(Change(path, draft, mode))
        old, made = (None if each is None else bytes.fromhex(each) for each in (before, after))
        return Record(Head(ref, old), made, told, changes, seen)

    def _content(self) -> bytes | None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if os.read(fd, 1) != b"+":
                return None
            with open(fd, "rb", closefd=False) as file:
                size, check = int(file.read(8), 16), int(file.read(8), 16)
                content = file.read(size)
        except ValueError:
            return None
        finally:
            os.close(fd)
        return content if zlib.crc32(content) == check else None

    def forget(self) -> None:
        """Say that nothing is under way."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, b"-", 0)
        finally:
            os.close(fd)
