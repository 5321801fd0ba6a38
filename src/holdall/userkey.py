"""The user's own key, with which this user's pickles are signed."""

from __future__ import annotations

import errno
import os
from base64 import b64encode
from typing import Final

from holdall.errors import StoreUnavailableError, UntrustedDataError

VARIABLE: Final = "HOLDALL_PICKLE_KEY"
"""The environment variable that names another key: a reference, or the key in base64 or hexadecimal."""

_SIZE: Final = 32
_WRITABLE_BY_OTHERS: Final = 0o022


def user_key(*, make: bool) -> str | None:
    """Return a reference to the user's own key, as `masterkeys` takes it.

    The key is the one that `HOLDALL_PICKLE_KEY` gives or refers to; without it, the one in
    `holdall/pickle.key` in the folder of the user's settings: `$XDG_CONFIG_HOME`, or `~/.config` (see the XDG
    Base Directory Specification). The file holds 32 random bytes in base64, and is made at the first need,
    once, whatever number of processes need it at once. Only the user can read it.

    Args:
        make: Whether the key is made if there is none yet.

    Returns:
        `env:NAME` or `file:PATH`; None if there is no key, and none was to be made.

    Raises:
        StoreUnavailableError: The file can't be made: there is no home, or nothing can be written there.
        UntrustedDataError: Another user owns the file or can write to it or to its folder, so the key may be
            theirs.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return given if given.startswith(("env:", "file:")) else f"env:{VARIABLE}"
    folder = _settings_folder()
    if folder is None:
        if not make:
            return None
        raise StoreUnavailableError(
            f"there is no home folder to keep the key in that signs your pickles; {_WAYS}"
        )
    path = os.path.join(folder, "pickle.key")
    if not os.path.lexists(path):
        if not make:
            return None
        try:
            _make(folder, path)
        except OSError as error:
            raise StoreUnavailableError(
                f"the key that signs your pickles can't be made at {path!r}: {error.strerror}; {_WAYS}"
            ) from error
    _check(folder, path)
    return f"file:{path}"


_WAYS: Final = (
    f"set {VARIABLE} to 32 bytes in base64 or to 'file:PATH', or give pickle_key=..., or set HOME to a "
    "folder that you can write to"
)


def _settings_folder() -> str | None:
    """Return the folder of this package's settings; None without a home."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification says that a relative path counts as none.
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".config")
    return os.path.join(base, "holdall")


def _make(folder: str, path: str) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    draft = os.path.join(folder, f".pickle.key.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Without a local name, which a traceback would show.
            file.write(b64encode(os.urandom(_SIZE)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link, not a rename: of several processes the first one makes the key, and all use it.
            os.link(draft, path)
        except FileExistsError:
            pass
        _sync(folder)
    finally:
        os.unlink(draft)


def _sync(folder: str) -> None:
    """Make the name of the key last: what was signed with a lost key can't be read."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems can't do it for folders.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _check(folder: str, path: str) -> None:
    """Refuse a key that may be another user's: whoever has it can run code here by a pickle."""
    for place in (folder, path):
        try:
            status = os.stat(place)
        except OSError as error:
            raise StoreUnavailableError(
                f"the key that signs your pickles can't be read at {place!r}: {error.strerror}; {_WAYS}"
            ) from error
        if status.st_uid not in (os.geteuid(), 0):
            raise UntrustedDataError(
                f"{place!r} belongs to another user (number {status.st_uid}), who could sign pickles that "
                f"run code here; {_WAYS}"
            )
        if status.st_mode & _WRITABLE_BY_OTHERS:
            raise UntrustedDataError(
                f"other users can write to {place!r} (mode {status.st_mode & 0o777:03o}), so the key may be "
                f"theirs; if it is yours, run: chmod go-w {place}"
            )
