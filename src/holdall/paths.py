"""Paths of the local disk: the check that stores on a disk make of theirs, and files replaced whole."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from holdall.errors import InvalidArgumentError, InvalidTypeError, StoreUnavailableError

_log = logging.getLogger("holdall")

_ACL = "system.posix_acl_access"
"""The access control list of a file. In its place the group bits of the mode are the most that it grants."""
_has_acls = hasattr(os, "listxattr")

_LONGEST = 4096
"""No system takes a longer path; Linux's PATH_MAX."""

_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://").match
# pathlib makes one slash of two.
_collapsed = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/").match


def checked_path(path: object, what: str = "a folder") -> str:
    """A path as a str, if it can be one.

    Args:
        path: What the caller gave.
        what: What should be there, for messages.

    Raises:
        InvalidArgumentError: It is empty, can't be spelled on a disk, or is a URI.
        InvalidTypeError: It isn't a str or a Path.

    >>> from pathlib import Path
    >>> checked_path(Path("data")), checked_path("./s3:")
    ('data', './s3:')
    >>> checked_path("s3://bucket")
    Traceback (most recent call last):
    holdall.errors.InvalidArgumentError: expected the path of a folder, got a URI (s3://...); ...
    """
    try:
        given = os.fspath(path)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    except TypeError:
        given = None
    if not isinstance(given, str):
        raise InvalidTypeError(f"expected the path of {what}, a str or a Path, got {type(path).__name__}")
    found = _scheme(given) or (None if isinstance(path, str) else _collapsed(given))
    if found is not None:
        # Not the rest of it, where a password may be.
        scheme = found[0].partition(":")[0]
        raise InvalidArgumentError(
            f"expected the path of {what}, got a URI ({scheme}://...); Store.from_uri opens URIs, and "
            f"'./{scheme}:...' is a path"
        )
    checked_text(given, f"the path of {what}")
    return given


def absolute(path: str | os.PathLike[str]) -> str:
    """The absolute path of one that a user gave, where `~` is the home folder.

    Raises:
        StoreUnavailableError: It is relative, and the working folder was deleted.
    """
    try:
        return os.path.abspath(os.path.expanduser(os.fspath(path)))
    except FileNotFoundError as error:
        raise StoreUnavailableError("the working folder was deleted; give an absolute path") from error


def checked_text(text: str, what: str) -> None:
    """Refuse what no system takes as a path.

    Raises:
        InvalidArgumentError: It is empty, too long, or has a NUL or a lone surrogate.
    """
    why = None
    if not text:
        why = "it is empty"
    elif "\0" in text:
        why = "it has a NUL"
    else:
        try:
            # What isn't UTF-8 on a disk comes as surrogates that go back to the same bytes; others don't.
            if len(os.fsencode(text)) > _LONGEST:
                why = f"it is longer than {_LONGEST:,} bytes"
        except UnicodeEncodeError:
            why = "it has a lone surrogate"
    if why is not None:
        # Not all of it: a URI may hold a password.
        shown = "this" if "://" in text else ascii(text if len(text) < 80 else f"{text[:40]}...")
        raise InvalidArgumentError(f"{shown} can't be {what}: {why}")


def keep_mode(fd: int, now: int, found: os.stat_result, path: str, most: int = 0o777) -> int:
    """Give a new file the permission bits and the access control list of the one that it replaces, and its
    owner where it can.

    Args:
        fd: The new file.
        now: Its bits.
        found: The old file.
        path: Where the old file is.
        most: The bits that it may have at most.

    Returns:
        The bits that it has then.
    """
    mode = found.st_mode & 0o777 & most
    group = 0o7
    ours = os.fstat(fd)
    if (ours.st_uid, ours.st_gid) != (found.st_uid, found.st_gid):
        try:
            os.fchown(fd, found.st_uid, found.st_gid)
        except OSError:
            try:
                os.fchown(fd, -1, found.st_gid)
            except OSError:
                # Another group may do no more than everybody could.
                group = mode & 0o007
    if _has_acls and (acl := _find_acl(path)) is not None:
        os.setxattr(fd, _ACL, _limit(acl, mode, group))
        return mode
    if _has_acls and _find_acl(fd) is not None:
        os.removexattr(fd, _ACL)  # one that new files of this folder get
        now = -1
    return set_mode(fd, now, mode & (0o707 | group << 3))


def _find_acl(file: int | str) -> bytes | None:
    """Return the access control list of a file, open or at a path; None if it has none."""
    follow = isinstance(file, int)
    try:
        # Of most files this finds nothing, which takes half the time of an error.
        names = os.listxattr(file, follow_symlinks=follow)
        return os.getxattr(file, _ACL, follow_symlinks=follow) if _ACL in names else None
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENODATA, errno.ENOENT, errno.ENOTDIR):
            raise
        return None


def _limit(acl: bytes, mode: int, group: int) -> bytes:
    """Limit an access control list, as Linux has it, to permission bits and to those of the owning group."""
    most = {0x01: mode >> 6, 0x04: group, 0x10: mode >> 3 & 7, 0x20: mode & 7}
    entries = struct.iter_unpack("<HHI", acl[4:])
    return acl[:4] + b"".join(
        struct.pack("<HHI", tag, bits & most.get(tag, bits), who) for tag, bits, who in entries
    )


def set_mode(fd: int, now: int, mode: int) -> int:
    """Change a file's permission bits, where the file system has any."""
    if mode != now:
        try:
            os.fchmod(fd, mode)
        except PermissionError as error:
            _log.debug("this file system keeps no modes: %s", error)
    return mode


@contextmanager
def replacing(path: str, most: int = 0o666) -> Generator[BinaryIO]:
    """Open a file that is written anew: a reader sees all of the old or all of the new contents, and an error
    leaves the old. The new file has the permission bits of the old one, and its owner and group where it can;
    where there is none, it has at most those that are given.
    """
    # This replaces the target of a link, not the link.
    target = os.path.realpath(path)
    try:
        found = os.stat(target)
    except FileNotFoundError:
        found = None
    if found is not None and not stat.S_ISREG(found.st_mode):
        # A pipe or a device is written to; there is nothing to replace.
        with open(target, "wb") as file:
            yield file
        return
    draft = os.path.join(os.path.dirname(target), f".holdall-{os.urandom(8).hex()}.new")
    # Not by tempfile, which would make the file private.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(draft, flags, most if found is None else 0o600)
    except OSError as error:
        # Of the name that the caller knows, not of the draft.
        raise OSError(error.errno, error.strerror, path) from error
    try:
        with open(fd, "wb") as file:
            if found is not None:
                keep_mode(fd, 0o600, found, target)
            yield file
        os.replace(draft, target)
    except BaseException:
        # It is gone where an interrupt came just after it took its place.
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise
