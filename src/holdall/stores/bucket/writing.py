"""Puts on a condition, whose outcome must be known."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from typing import Any

from holdall.blob import ABSENT, Expect, Piece
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.ranges import CHUNK
from holdall.stores.bucket.access import Access
from holdall.stores.bucket.clouds import GOOGLE, tag_of
from holdall.stores.bucket.errors import ChangedError, PresentError, UnknownError

_log = logging.getLogger("holdall")
_TRIES = 5


def put_whole_if(
    access: Access, name: str, data: Piece, expect: Expect, attributes: dict[str, str], size: int = 0
) -> Any:
    """Put bytes if an object is as expected; return what the server said of the new one. `size` is theirs, if
    they are large.

    The request isn't repeated unasked: the answer to the second one would be about the first one.

    Raises:
        BlobExistsError: There is an object where none is expected.
        ConcurrencyError: It is another version, or there is none.
        StoreUnavailableError: The outcome isn't known.
    """
    mode: Any = "create"
    for _ in range(_TRIES):
        if expect is not ABSENT:
            version = access.condition(name, str(expect))
            mode = {"version" if access.cloud is GOOGLE else "e_tag": version}
        try:
            options: Any = {"mode": mode, "attributes": attributes, "use_multipart": False}
            return access.ask("write", "put", name, data, by="once", size=size, **options)
        except (ChangedError, PresentError) as error:
            # A 409 says that another write was under way, which may have come to nothing; on Google the same
            # bytes may have been put once more, under another generation.
            _refuse(access, name, expect, again="409" in str(error.__cause__) or access.cloud is GOOGLE)
        except BlobNotFoundError:
            raise ConcurrencyError(expected=str(expect)) from None
        except UnknownError as error:
            return _outcome(access, name, [data], error)
    raise StoreUnavailableError(
        f"{access.clients().place}: other writers were under way {_TRIES} times; try again"
    )


def _refuse(access: Access, name: str, expect: Expect, again: bool) -> None:
    """Raise for a condition that doesn't hold; return if the write may be tried again."""
    try:
        actual = tag_of(access.head(name))
    except BlobNotFoundError:
        if expect is ABSENT and again:
            return
        if expect is ABSENT:
            # It was there, and has been deleted since.
            raise BlobExistsError() from None
        raise ConcurrencyError(expected=str(expect)) from None
    if expect is ABSENT:
        raise BlobExistsError(actual=actual)
    if actual == expect and again:
        return
    if actual == expect:
        raise StoreUnavailableError(
            f"{access.clients().place} refuses to write over this version, though it is the present one; "
            "does another client hold a lease on it?"
        )
    raise ConcurrencyError(expected=str(expect), actual=actual)


def _outcome(access: Access, name: str, own: Iterable[Piece], error: UnknownError) -> Any:
    """Return what is there if it is what was put; otherwise nobody knows what became of it."""
    try:
        found = access.ask("read", "get", name)
        pieces = access.stream(found, CHUNK)
        if _are_equal(pieces, own):
            meta = found.meta
            _log.info("the answer to a put was lost; the object holds what was put")
            return meta
    except StoreError as unread:
        _log.debug("the outcome of a put can't be read: %s", unread)
    raise StoreUnavailableError(
        f"{error.message}; nobody can tell whether it was written, so read it before you repeat it"
    ) from error


def _are_equal(pieces: Iterable[Piece], own: Iterable[Piece]) -> bool:
    import hashlib

    digests = [hashlib.sha256() for _ in range(2)]
    for digest, each in zip(digests, (pieces, own), strict=True):
        for piece in each:
            digest.update(piece)
    return digests[0].digest() == digests[1].digest()


def put_large_if(
    access: Access,
    name: str,
    pieces: Iterable[Piece],
    known: int | None,
    expect: Expect,
    attributes: dict[str, str],
) -> tuple[Any, int]:
    """Put a stream if an object is as expected, by one request from a temporary file; return what the server
    said of the new object, and its size, which may be known before. Errors as for `put_whole_if`.

    Raises:
        UnsupportedOperation: It is larger than one request may be.
    """
    _check_size(access, known or 0)
    with tempfile.TemporaryFile(prefix="holdall-") as file:
        size = 0
        for piece in pieces:
            size += len(piece)
            _check_size(access, size)
            file.write(piece)
        # obstore holds a whole body: as pages of a file, which the system can drop. The mapping isn't closed,
        # since an interrupted request may still use it.
        file.flush()
        data = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
        return put_whole_if(access, name, data, expect, attributes, size), size


def _check_size(access: Access, size: int) -> None:
    if size > access.cloud.largest:
        raise UnsupportedOperation(
            f"{access.cloud.name} takes at most {access.cloud.largest:,} bytes in a put on a condition "
            "(expect=); put it without one"
        )
