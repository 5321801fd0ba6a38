"""Finding the changes that a `git commit` undid in the index: it read the index before our change, and wrote
it after that.

Git reads the index before it locks it, and finds out too late that the branch has moved.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from holdall.errors import IntegrityError, StoreUnavailableError
from holdall.stores.nofollow import READ, open_file

if TYPE_CHECKING:
    from holdall.stores.git.repository import Repository

_log = logging.getLogger("holdall")

_LATELY = 5.0
"""Seconds that a git may take from reading the index to writing it."""
_Entry: TypeAlias = tuple[bytes, bytes]
"""A mode and an object."""


def find_undone(
    repository: Repository, commit: bytes | None, written: float
) -> dict[bytes, tuple[int, bytes, os.stat_result] | None]:
    """Return the entries that the index should have, by path; None for one that it shouldn't have.

    The lock of the repository is held. `commit` is the last one; `written` is when the index was written, in
    seconds since 1970.
    """
    index = repository.latest
    entries: dict[bytes, tuple[int, bytes, os.stat_result] | None] = {}
    changed: dict[bytes, tuple[list[_Entry | None], _Entry | None]] = {}
    for path, was, now in _lately(repository, commit, written - _LATELY):
        changed.setdefault(path, ([], now))[0].append(was)
    for path, (earlier, now) in changed.items():
        found = index.mode_and_oid(path, repository.objects.width)
        if found is None and now is None and len(earlier) > 1 and (last := earlier[0]) is not None:
            # A second `git commit` may have committed that, just after our put, and left the file behind.
            if (place := _as_committed(repository, os.fsdecode(path), last)) is not None:
                entries[path] = int(last[0], 8), last[1], place
            continue
        if found == now or found not in earlier:
            continue
        if now is None:
            if repository.tree.look(os.fsdecode(path)) is None:
                entries[path] = None
        elif (place := _as_committed(repository, os.fsdecode(path), now)) is not None:
            entries[path] = int(now[0], 8), now[1], place
    return entries


def _lately(
    repository: Repository, commit: bytes | None, since: float
) -> Iterator[tuple[bytes, _Entry | None, _Entry | None]]:
    """The paths that the last commits changed, the newest first: what each had there before, and then."""
    objects = repository.objects
    try:
        while commit is not None:
            moment, parents = objects.time_and_parents(commit)
            if moment < since:
                return
            yield from objects.changed_by(commit)
            commit = parents[0] if parents else None
    except (StoreUnavailableError, IntegrityError) as error:
        _log.debug("the history ends, as in a shallow clone: %s", error)


def _as_committed(repository: Repository, path: str, entry: _Entry) -> os.stat_result | None:
    """A file of the work tree, if it is what a commit has there."""
    fd = open_file(f"{repository.top}/{path}", READ)
    if fd < 0:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or not entry[0].startswith(b"100"):
            return None
        oid = repository.objects.hash_file(fd, found.st_size)
        if oid != entry[1] and repository.converts(path):
            with open(fd, "rb", closefd=False) as file:
                output = repository.git.run("hash-object", "--stdin", f"--path={path}", data=file)
            oid = bytes.fromhex(output.strip().decode())
        return found if oid == entry[1] else None
    finally:
        os.close(fd)
