"""A blob on its way: a file of another name, which takes its place once it is whole."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from holdall.blob import ABSENT, Expect, Piece
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.stores.fsspec.media import FILE, FOLDER, Found, Medium
from holdall.stores.fsspec.names import DRAFTS
from holdall.stores.fsspec.pool import Loan, Pool
from holdall.stores.places import TRIES

_log = logging.getLogger("holdall")

_OLD = 3600.0
"""Seconds after which a draft is taken for one of a dead writer."""


class Draft:
    """A file that is being written. Its calls run on threads of the pool, one at a time.

    Args:
        pool: The file systems.
        medium: What they can do.
        base: The folder of the store.
        locate: Finds the path of the target.
        expect: `ABSENT`, or `ANY`.
        sweeps: Whether it looks for those of dead writers.
    """

    def __init__(
        self,
        pool: Pool,
        medium: Medium,
        base: str,
        locate: Callable[[Any], str],
        expect: Expect,
        sweeps: bool,
    ) -> None:
        self._pool, self._medium, self._base = pool, medium, base
        self._locate, self._expect, self._sweeps = locate, expect, sweeps
        self._name = f"new-{os.urandom(12).hex()}"
        self._lock = threading.Lock()
        self._loan: Loan | None = None
        self._file: Any = None
        self._target = ""
        self._made = self._over = False

    @property
    def _path(self) -> str:
        return f"{self._base}{DRAFTS}/{self._name}"

    def begin(self) -> None:
        """Make the file.

        Raises:
            BlobExistsError: There is a blob, and none is expected.
            KeyConflictError: What is there isn't a blob.
        """
        with self._lock:
            if self._over:
                return
            self._loan = self._pool.lend()
            fs, medium = self._loan.fs, self._medium
            self._target = self._locate(fs)
            self._made = True
            try:
                found, self._file = medium.start(fs, self._target, self._path)
            except (FileNotFoundError, NotADirectoryError):
                make_folders(medium, fs, self._base, self._path)
                found, self._file = medium.start(fs, self._target, self._path)
            if found is not None and self._expect is ABSENT and found.kind == FILE:
                raise BlobExistsError(actual=found.etag)
            if found is not None and found.kind not in (FILE, FOLDER):
                raise _not_replaced(self._target, found)
            if self._sweeps:
                medium.settle(self._file)
                self._look_around(fs)

    def _look_around(self, fs: Any) -> None:
        folder = f"{self._base}{DRAFTS}"
        entries = dict(self._medium.names(fs, folder))
        mine = entries.get(self._name)
        if self._name.upper() in entries or self._medium.look(fs, f"{folder}/{self._name.upper()}"):
            raise UnsupportedOperation(
                "this file system doesn't tell capital letters from small ones, so that keys would overwrite "
                "one another; it can only be read here"
            )
        for name, found in entries.items():
            if mine is not None and found.kind == FILE and found.modified < mine.modified - _OLD:
                self._medium.remove(fs, f"{folder}/{name}")
                _log.info("swept %r, which a writer left that was killed", name)

    def add(self, piece: Piece) -> None:
        with self._lock:
            if not self._over:
                self._medium.write(self._file, piece)

    def publish(self) -> Found:
        """Give the file its name, and return what it is."""
        with self._lock:
            assert self._loan is not None
            fs = self._loan.fs
            try:
                found = self._medium.seal(fs, self._file, self._path)
                self._file = None
                publish(self._medium, fs, self._base, self._path, self._target, self._expect)
            except FileNotFoundError as error:
                raise StoreUnavailableError(
                    "its temporary file was deleted by another program, or because nothing was written to it "
                    "for an hour; nothing was stored: try again"
                ) from error
            self._made = False
            self._over = True
            self._loan.give_back()
            self._loan = None
            return found

    def write(self, pieces: Iterable[Piece]) -> Found:
        """Do all of it."""
        self.begin()
        for piece in pieces:
            self.add(piece)
        return self.publish()

    def drop(self) -> None:
        """Take it away, unless it was published."""
        with self._lock:
            self._over = True
            loan, self._loan = self._loan, None
            if loan is None:
                return
            try:
                if self._file is not None:
                    self._medium.abandon(self._file)
                if self._made:
                    self._medium.remove(loan.fs, self._path)
            except FileNotFoundError:
                loan.give_back()
            except Exception as error:  # noqa: BLE001 - a driver may raise anything; a later sweep removes it
                _log.debug("a draft can't be deleted, and a later sweep deletes it: %s", type(error).__name__)
                loan.discard()
            else:
                loan.give_back()


def publish(medium: Medium, fs: Any, base: str, old: str, new: str, expect: Expect) -> None:
    """Give a file the name of a blob.

    Raises:
        FileNotFoundError: It isn't there any more.
        BlobExistsError: There is a blob, and none is expected.
        KeyConflictError: What is there isn't a blob, or a blob is in the way to it.
    """
    for turn in range(TRIES):
        try:
            if expect is ABSENT:
                medium.link(fs, old, new)
                medium.remove(fs, old)
            else:
                medium.replace(fs, old, new)
            return
        except StoreError:
            raise
        except Exception as error:
            # What the error says of the reason differs from server to server.
            if expect is ABSENT and _is_linked(medium, fs, old, new):
                # The link was made, and its answer was lost, or the other name couldn't be removed.
                medium.remove(fs, old)
                return
            if not _make_room(medium, fs, base, new, expect):
                if medium.look(fs, old) is None:
                    raise FileNotFoundError(old) from None
                if turn > 2:
                    raise error
    raise StoreUnavailableError(
        "folders at its path keep being made or deleted by another program; nothing was stored: try again"
    )


def _is_linked(medium: Medium, fs: Any, old: str, new: str) -> bool:
    """Return whether both names are of one file."""
    one, other = medium.look(fs, old), medium.look(fs, new)
    return one is not None and one.kind == FILE and one == other


def _make_room(medium: Medium, fs: Any, base: str, new: str, expect: Expect) -> bool:
    """Remove what stands in the way of a file; return whether there was anything."""
    changed = make_folders(medium, fs, base, new)
    found = medium.look(fs, new)
    if found is None:
        return changed
    if found.kind == FILE:
        if expect is ABSENT:
            raise BlobExistsError(actual=found.etag)
        return changed
    if found.kind != FOLDER:
        raise _not_replaced(new, found)
    if not _remove_empty(medium, fs, new):
        raise KeyConflictError(
            f"{new!r} is a folder that isn't empty, and a file system can't hold both a blob and what lies "
            "below it; use another key"
        )
    return True


def _not_replaced(path: str, found: Found) -> KeyConflictError:
    return KeyConflictError(
        f"{path!r} is a {found.kind}, which a store neither follows nor replaces; move it away, or use "
        "another key"
    )


def make_folders(medium: Medium, fs: Any, base: str, path: str) -> bool:
    """Make the folders above a path that aren't there; return whether there were any."""
    missing: list[str] = []
    above = path.rpartition("/")[0]
    while above:
        found = medium.look(fs, above)
        is_own = base.startswith(f"{above}/")
        if found is not None and (found.kind == FOLDER or (is_own and fs.isdir(above))):
            # There may be a link in the path of the store itself.
            break
        if found is not None and not is_own:
            what = "a file" if found.kind == FILE else f"a {found.kind}"
            raise KeyConflictError(
                f"{above!r} is {what}, and a file system can't hold both it and blobs below it; use another "
                "key"
            )
        if found is not None:
            raise StoreUnavailableError(f"a part of the store's path, {above!r}, is a {found.kind}")
        missing.append(above)
        above = above.rpartition("/")[0]
    for each in reversed(missing):
        if not _make_folder(medium, fs, each):
            return True
    return bool(missing)


def _make_folder(medium: Medium, fs: Any, path: str) -> bool:
    """Make a folder unless it is there; return whether it is."""
    for turn in range(TRIES):
        try:
            medium.make_folder(fs, path)
            break
        except Exception:
            found = medium.look(fs, path)
            if found is not None:
                return found.kind == FOLDER
            # Its own folder may have been deleted meanwhile, as empty; the caller tries again.
            if medium.look(fs, path.rpartition("/")[0]) is None:
                return False
            # Another writer may have made it just before, and another have deleted it since, as empty.
            if turn > 2:
                raise
    return True


def _remove_empty(medium: Medium, fs: Any, path: str) -> bool:
    """Remove a folder that holds nothing but such folders; return whether it is gone."""
    for name, found in medium.names(fs, path):
        if found.kind != FOLDER or not _remove_empty(medium, fs, f"{path}/{name}"):
            return False
    try:
        medium.remove_folder(fs, path)
    except FileNotFoundError:
        return True
    except OSError:
        return medium.look(fs, path) is None
    return True


def tidy(medium: Medium, fs: Any, base: str, path: str) -> None:
    """Remove the folders above a path that are empty, up to the store's own."""
    above = path.rpartition("/")[0]
    while len(above) >= len(base) and above:
        try:
            medium.remove_folder(fs, above)
        except OSError:
            return
        above = above.rpartition("/")[0]


def remove_all(medium: Medium, fs: Any, folder: str) -> None:
    """Remove a folder with everything in it, and follow no link."""
    for name, found in medium.names(fs, folder):
        path = f"{folder}/{name}"
        if found.kind == FOLDER:
            remove_all(medium, fs, path)
        else:
            with suppress(FileNotFoundError):
                medium.remove(fs, path)
    with suppress(FileNotFoundError):
        medium.remove_folder(fs, folder)


def remove(medium: Medium, fs: Any, base: str, path: str) -> bool:
    """Remove a blob, and the folders that are empty without it; return whether it was there."""
    found = medium.look(fs, path)
    if found is None or found.kind != FILE:
        return False
    try:
        medium.remove(fs, path)
    except FileNotFoundError:
        return False
    tidy(medium, fs, base, path)
    return True


def move(medium: Medium, fs: Any, base: str, paths: tuple[str, str], key: str, expect: Expect) -> Found:
    """Give a blob another key."""
    old, new = paths
    found = medium.look(fs, old)
    if found is None or found.kind != FILE:
        raise BlobNotFoundError(key=key)
    there = medium.look(fs, new)
    if there is not None and there.kind not in (FILE, FOLDER):
        raise _not_replaced(new, there)
    try:
        publish(medium, fs, base, old, new, expect)
    except FileNotFoundError:
        raise BlobNotFoundError(key=key) from None
    tidy(medium, fs, base, old)
    return found
