"""Where a repository is, and how a new one is made: under another name, and moved to its place whole."""

from __future__ import annotations

import fcntl
import logging
import os
import shlex
import shutil
import stat
from collections.abc import Iterator

from holdall.errors import StoreUnavailableError
from holdall.stores.git.program import Git
from holdall.stores.spelling import PRIVATE

_log = logging.getLogger("holdall")

_NEW = f"{PRIVATE}init-"
"""The start of the names of folders in which a repository is made."""


def is_made(folder: str) -> bool:
    """Return whether a folder looks like a work tree of git, by the names in it.

    What `git init` has begun, and was killed at, doesn't count: it has no HEAD, or neither objects nor refs.
    """
    place = f"{folder}/.git"
    try:
        found = os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        return os.path.islink(place)  # one that leads nowhere is git's to speak of
    if not stat.S_ISDIR(found.st_mode):
        return True  # a file that says where the repository is
    return _is_repository(place) or not _is_begun(place)


def _is_repository(folder: str) -> bool:
    """Whether a folder is a repository itself, as git sees it."""
    return os.path.lexists(f"{folder}/HEAD") and all(
        os.path.isdir(f"{folder}/{name}") for name in ("objects", "refs")
    )


def _is_begun(folder: str) -> bool:
    """Whether a folder holds only what `git init` makes first: no object, no ref, no index."""
    for name in ("index", "packed-refs", "logs", "worktrees", "modules", "shallow", "commondir", "holdall"):
        if os.path.lexists(f"{folder}/{name}"):
            return False
    return not any(files for name in ("objects", "refs") for _, _, files in os.walk(f"{folder}/{name}"))


def discover(git: Git) -> tuple[str, str]:
    """Return the object format of a repository, and the folder of git that is the work tree's own. Refuse a
    folder that git doesn't take for the top of a work tree."""
    asked = ("--is-inside-work-tree", "--show-object-format", "--show-prefix", "--absolute-git-dir")
    try:
        output = git.run("rev-parse", *asked)
    except StoreUnavailableError as error:
        if "dubious ownership" not in error.message:
            raise
        raise StoreUnavailableError(
            f"the repository {git.folder!r} belongs to another user, so that git doesn't use it: if you "
            f"trust what is in it, run `git config --global --add safe.directory {shlex.quote(git.folder)}`"
        ) from error
    # The path comes last, since it may hold the end of a line.
    inside, algorithm, prefix, private = os.fsdecode(output)[:-1].split("\n", 3)
    if inside != "true" or prefix:
        # A damaged .git is passed over by git for that of a folder above.
        raise StoreUnavailableError(
            f"{git.folder!r} isn't a work tree of git: its .git is damaged, or belongs to another work tree"
        )
    return algorithm, private


def check_place(folder: str, inside: bool) -> None:
    """Refuse a folder where no repository may be made: unless `inside` is set, also in the work tree of
    another repository."""
    if _is_repository(folder):
        raise StoreUnavailableError(
            f"{folder!r} lacks a work tree: it is a bare repository, or the inside of one; open a clone of "
            "it, with remote=True to keep up with it"
        )
    for above in _above(folder):
        if os.path.lexists(above) and not os.path.isdir(above):
            raise StoreUnavailableError(f"{above!r} is a file, and no repository can be made at {folder!r}")
    if inside:
        return
    for above in _above(folder):
        if above != folder and (
            (os.path.lexists(f"{above}/.git") and is_made(above)) or _is_repository(above)
        ):
            raise StoreUnavailableError(
                f"{folder!r} isn't a repository, and lies in {above!r}, which is one: open a GitStore there, "
                f"with a prefix for this folder, or make a repository in the other by init=True"
            )


def _above(folder: str) -> Iterator[str]:
    """A folder, and those above it."""
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return
        folder = parent


def make(folder: str, git: Git, durable: bool) -> None:
    """Make a repository, and its folder, unless another process is faster; both find the same one then. If it
    can't be made, nothing of it is left."""
    is_new = not os.path.lexists(folder)
    os.makedirs(folder, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    place = ""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        git.held = (fd,)
        if is_made(folder):
            return
        # The maker of these had the lock and was killed; its git has ended too.
        for name in os.listdir(folder):
            if name.startswith(_NEW):
                shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
        if os.path.lexists(f"{folder}/.git"):
            _log.info("a `git init` in %r was interrupted; finishing it", folder)
            git.run("init", "--quiet", "--", folder)
            return
        place = f"{folder}/{_NEW}{os.urandom(4).hex()}"
        os.mkdir(place, 0o700)
        git.run("init", "--quiet", "--", place)
        os.rename(f"{place}/.git", f"{folder}/.git")
        if durable:
            os.fsync(fd)
    except BaseException:
        if is_new and os.path.isdir(folder) and not is_made(folder):
            shutil.rmtree(place, ignore_errors=True)
            try:
                os.rmdir(folder)
            except OSError as error:
                _log.debug("%r stays: %s", folder, error)
        raise
    finally:
        git.held = ()
        try:
            if place:
                shutil.rmtree(place, ignore_errors=True)
        finally:
            os.close(fd)
