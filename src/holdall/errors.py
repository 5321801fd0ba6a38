"""Every exception that holdall raises."""

from __future__ import annotations

import errno
from typing import Any

__all__ = [
    "BlobExistsError",
    "BlobNotFoundError",
    "ConcurrencyError",
    "DeleteRefusedError",
    "IntegrityError",
    "InvalidArgumentError",
    "InvalidDataError",
    "InvalidKeyError",
    "InvalidKeyTypeError",
    "InvalidTypeError",
    "KeyConflictError",
    "LockHeldError",
    "LockLostError",
    "MissingDependencyError",
    "PartialWriteError",
    "ProtectedError",
    "ReadOnlyError",
    "SerializationError",
    "StoreClosedError",
    "StoreError",
    "StoreUnavailableError",
    "SyncConflictError",
    "TransferError",
    "UnsupportedOperation",
    "UntrustedDataError",
    "WrongKeyError",
]


class StoreError(Exception):
    """The base of every error here.

    Args:
        message: What went wrong and what to do next, without the key.
        key: The key it happened to. `Store` fills it in when a backend leaves it out, so that an error
            always names the key that the caller used.

    >>> error = StoreError("the disk is full", key="a/b")
    >>> str(error), error.args
    ("'a/b': the disk is full", ('the disk is full', 'a/b'))
    >>> error
    StoreError('the disk is full', key='a/b')
    """

    _of_caller = False

    def __init__(self, message: str = "", *, key: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.key = key

    @property
    def key(self) -> str | None:
        """The key it happened to, as the caller spelled it; None where it is about no key."""
        return self._key

    @key.setter
    def key(self, key: str | None) -> None:
        if self._of_caller:
            return  # it has a key of the store that the data came from
        self._key = key
        self.args = (self.message,) if key is None else (self.message, key)
        if isinstance(self, OSError):
            self.filename = key

    def __str__(self) -> str:
        return self.message if self.key is None else f"{self.key!r}: {self.message}"

    def __repr__(self) -> str:
        key = "" if self.key is None else f", key={self.key!r}"
        return f"{type(self).__name__}({self.message!r}{key})"

    def __reduce__(self) -> tuple[object, ...]:
        # The default of OSError and KeyError would rebuild from `args`, and lose the other attributes.
        return (_rebuild, (type(self), self.message, self.key, self.__dict__))


def mark_of_caller(error: Exception) -> None:
    """Note that an error came out of data that a caller gave, so that it stays as it is. One of a store that
    names no key gets that of the call."""
    if not isinstance(error, StoreError) or error.key is not None:
        error.__dict__["_of_caller"] = True


def is_of_caller(error: object) -> bool:
    """Return whether an error came out of data that a caller gave."""
    return getattr(error, "_of_caller", False)


class naming:
    """A block whose errors get the key that the caller used. It takes 0.2 µs, which some fast paths spare.

    >>> with naming("logs/a"):
    ...     raise BlobNotFoundError(key="a")
    Traceback (most recent call last):
    holdall.errors.BlobNotFoundError: 'logs/a': no such blob
    """

    __slots__ = ("_key",)

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, StoreError):
            error.key = self._key


def _rebuild(kind: type[StoreError], message: str, key: str | None, state: dict[str, object]) -> StoreError:
    error = kind(message)
    error.__dict__.update(state)
    error.__dict__.pop("_of_caller", None)
    error.key = key
    return error


class BlobNotFoundError(StoreError, KeyError, FileNotFoundError):
    """No blob has this key.

    It is a `KeyError`, as a dict raises, and a `FileNotFoundError`, as `open` does.
    """

    def __init__(self, message: str = "no such blob", *, key: str | None = None) -> None:
        super().__init__(message, key=key)
        self.errno, self.strerror = errno.ENOENT, message


class ConcurrencyError(StoreError):
    """The blob isn't in the state that `expect` named: read it again, then decide.

    Args:
        message: What went wrong. Without it, the message says what is there now.
        key: As in `StoreError`.
        expected: The ETag that the caller gave, or None where the blob had to be absent.
        actual: The ETag found, or None where nothing is there.

    >>> str(ConcurrencyError(key="a", expected="1f", actual="20"))
    "'a': it changed since it was read; the ETag there now is 20, not 1f"
    >>> str(ConcurrencyError(key="a", expected="1f"))
    "'a': it was deleted since it was read; nothing is there now"
    """

    def __init__(
        self,
        message: str = "",
        *,
        key: str | None = None,
        expected: str | None = None,
        actual: str | None = None,
    ) -> None:
        if not message:
            message = "it changed since it was read"
            if actual is not None:
                message += f"; the ETag there now is {actual}"
                message += "" if expected is None else f", not {expected}"
            elif expected is not None:
                message = "it was deleted since it was read; nothing is there now"
        super().__init__(message, key=key)
        self.expected = expected
        self.actual = actual


class BlobExistsError(ConcurrencyError, FileExistsError):
    """A blob is there already, and `expect=ABSENT` asked for none."""

    def __init__(
        self,
        message: str = "",
        *,
        key: str | None = None,
        actual: str | None = None,
    ) -> None:
        if not message:
            message = "a blob is already there"
            message += "" if actual is None else f"; the ETag there now is {actual}"
        super().__init__(message, key=key, actual=actual)
        self.errno, self.strerror = errno.EEXIST, self.message


class InvalidArgumentError(StoreError, ValueError):
    """An argument can't be right in any store: a range, a time to live, a mode, a URI, an option."""


class InvalidTypeError(InvalidArgumentError, TypeError):
    """An argument has a type that this call never takes."""


class InvalidKeyError(InvalidArgumentError):
    """This can't be a key; the message says which rule it breaks."""


class InvalidKeyTypeError(InvalidKeyError, InvalidTypeError):
    """A key that isn't a str."""


class KeyConflictError(StoreError):
    """A medium of folders can't hold both `a` and `a/b`, or what is in the way isn't a blob, such as a link.
    What was there is untouched."""


class LockHeldError(StoreError, TimeoutError):
    """Another holder has the lock, and had it for as long as the caller was willing to wait.

    Attributes:
        host: The name of the holder's host, as the holder knows it; None if the holder was gone again.
        pid: The number of its process there.
        since: When it took the lock, in ISO 8601, by the holder's clock.
    """

    def __init__(
        self,
        message: str = "",
        *,
        key: str | None = None,
        host: str | None = None,
        pid: int | None = None,
        since: str | None = None,
    ) -> None:
        super().__init__(message, key=key)
        self.errno, self.strerror = errno.ETIMEDOUT, message
        self.host, self.pid, self.since = host, pid, since


class LockLostError(StoreError):
    """This process doesn't have the lock, or not any more: another may have had it, or have it now."""


class UnsupportedOperation(StoreError):
    """The medium can't keep the promise that this call makes; `store.can` says so beforehand."""


class ReadOnlyError(UnsupportedOperation, PermissionError):
    """The store, or the medium under it, takes no writes."""

    def __init__(self, message: str = "", *, key: str | None = None) -> None:
        super().__init__(message, key=key)
        self.errno, self.strerror = errno.EROFS, message


class IntegrityError(StoreError):
    """The stored bytes aren't what was written."""


class WrongKeyError(IntegrityError):
    """A store was encrypted with another key than the one that was given. Nothing was read or changed."""


class SerializationError(StoreError):
    """A value can't become bytes, or bytes can't become the value."""


class InvalidDataError(SerializationError, TypeError):
    """A store of bytes was given something that isn't bytes, a binary file, or an iterable of buffers."""


class UntrustedDataError(StoreError):
    """Reading this would run code that came with the data."""


class PartialWriteError(StoreError):
    """A write reached some of the stores below, not all.

    Attributes:
        failures: For each store that failed, by its name, why.
        written: The names of the stores that hold the new value, where the stores have names.
    """

    def __init__(
        self,
        message: str = "",
        *,
        key: str | None = None,
        failures: dict[str, Exception] | None = None,
        written: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, key=key)
        self.failures = failures or {}
        self.written = written


class SyncConflictError(ConcurrencyError):
    """Blobs changed at the source of a cache since they were read. None of them was uploaded; all are still
    recorded in the cache.

    Attributes:
        conflicts: Their keys.
        report: What else the sync did: a `SyncReport`.
    """

    conflicts: tuple[str, ...] = ()
    report: Any = None


class TransferError(StoreError):
    """Some blobs of a copy, a sync or a check failed; the others are done.

    Attributes:
        failures: For each key that failed, why.
    """

    def __init__(
        self, message: str = "", *, key: str | None = None, failures: dict[str, Exception] | None = None
    ) -> None:
        super().__init__(message, key=key)
        self.failures = failures or {}


class DeleteRefusedError(StoreError):
    """A sync would delete more of the target than it may, or a catalogue more of its blobs; nothing was
    touched.

    Attributes:
        deletes: The number of blobs that it would delete.
        selected: The number of blobs of the target that the sync selected, or that the catalogue has.
    """

    def __init__(
        self, message: str = "", *, key: str | None = None, deletes: int = 0, selected: int = 0
    ) -> None:
        super().__init__(message, key=key)
        self.deletes = deletes
        self.selected = selected


class ProtectedError(StoreError):
    """An alias points at what a call would delete from a catalogue; nothing was touched.

    Attributes:
        aliases: The names of the aliases.
    """

    def __init__(self, message: str = "", *, key: str | None = None, aliases: tuple[str, ...] = ()) -> None:
        super().__init__(message, key=key)
        self.aliases = aliases


class StoreUnavailableError(StoreError):
    """The medium can't be reached or used: network, credentials, permission, a full or damaged disk."""


class StoreClosedError(StoreUnavailableError, ValueError):
    """The store was closed; open it again."""


class MissingDependencyError(StoreError, ImportError):
    """An optional package isn't installed; the message says which extra brings it."""
