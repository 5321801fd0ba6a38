"""Puts on a condition, whose outcome must be known."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from datetime import timedelta
from mmap import ACCESS_READ, mmap
from typing import IO, Any

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
from holdall.stores.bucket.attributes import hides_headers
from holdall.stores.bucket.clouds import AZURE, GOOGLE, tag_of
from holdall.stores.bucket.endpoints import endpoint_of
from holdall.stores.bucket.errors import ChangedError, PresentError, UnknownError
from holdall.stores.bucket.google import google_token
from holdall.stores.bucket.signed import request
from holdall.stores.bucket.signing import request_to

_log = logging.getLogger("holdall")
_VALID = timedelta(hours=6)
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
    """Return what is there if it is what was put; else nobody can tell what became of it."""
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
        if not hides_headers(access.cloud, attributes):
            try:
                return _put_by_url(access, name, file, size, expect, attributes), size
            except UnsupportedOperation as error:
                _log.debug("a large put is left to obstore: %s", error)
        # Unlike a signed URL, obstore can carry all headers, and has credentials that it doesn't show. It
        # holds a whole body: as pages of a file, which the system can drop. The mapping isn't closed: an
        # interrupted request may still use it.
        file.flush()
        data = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
        return put_whole_if(access, name, data, expect, attributes, size), size


def _put_by_url(
    access: Access, name: str, file: IO[bytes], size: int, expect: Expect, attributes: dict[str, str]
) -> Any:
    for _ in range(_TRIES):
        file.seek(0)
        meta = _put_file(access, name, file, size, expect, attributes)
        if meta is not None:
            return meta
    raise StoreUnavailableError(
        f"{access.clients().place}: other writers were under way {_TRIES} times; try again"
    )


def _check_size(access: Access, size: int) -> None:
    if size > access.cloud.largest:
        raise UnsupportedOperation(
            f"{access.cloud.name} takes at most {access.cloud.largest:,} bytes in a put on a condition "
            "(expect=); put it without one"
        )


def _put_file(
    access: Access, name: str, file: IO[bytes], size: int, expect: Expect, attributes: dict[str, str]
) -> Any | None:
    url, headers = _request_of(access, name, expect, attributes)
    try:
        status, answered, body = request("PUT", url, {**headers, "Content-Length": str(size)}, file)
        if status >= 500:
            raise UnknownError(f"{access.clients().place} answered {status} to a put")
    except UnknownError as error:
        file.seek(0)
        return _outcome(access, name, iter(lambda: file.read(CHUNK), b""), error)
    if status in (200, 201):
        meta = {"e_tag": answered.get("etag"), "version": answered.get("x-goog-generation")}
        return meta if meta["e_tag"] else access.head(name)
    if status in (409, 412):
        _refuse(access, name, expect, again=status == 409 or access.cloud is GOOGLE)
        return None
    if status == 404 and expect is not ABSENT:
        raise ConcurrencyError(expected=str(expect))
    text = body[:200].decode("utf-8", "replace")
    raise StoreUnavailableError(f"{access.clients().place} answered {status} to a put: {text}")


def _request_of(
    access: Access, name: str, expect: Expect, attributes: dict[str, str]
) -> tuple[str, dict[str, str]]:
    """Return the URL and the headers of a put on a condition."""
    cloud, client = access.cloud, access.clients().client
    headers: dict[str, str] = {}
    for field, value in attributes.items():
        if field == "Content-Type":
            headers[field] = value
        elif field != "Storage-Class":
            # On S3 there are none of these.
            headers[f"{'x-ms-meta-' if cloud is AZURE else 'x-goog-meta-'}{field}"] = value
    if cloud is GOOGLE:
        from urllib.parse import quote

        headers["x-goog-if-generation-match"] = (
            "0" if expect is ABSENT else access.condition(name, str(expect))
        )
        if "Storage-Class" in attributes:
            headers["x-goog-storage-class"] = attributes["Storage-Class"]
        token = google_token(client)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        base = (endpoint_of(client) or "https://storage.googleapis.com").rstrip("/")
        whole = "/".join([part for part in (client.prefix, name) if part])
        return f"{base}/{client.config['bucket']}/{quote(whole)}", headers
    if expect is ABSENT:
        headers["If-None-Match"] = "*"
    else:
        headers["If-Match"] = access.condition(name, str(expect))
    if cloud is AZURE:
        headers["x-ms-blob-type"] = "BlockBlob"
        if "Content-Type" in attributes:
            headers["x-ms-blob-content-type"] = attributes["Content-Type"]
        if "Storage-Class" in attributes:
            headers["x-ms-access-tier"] = attributes["Storage-Class"]
    with access.errors("write"):
        url, own = request_to(client, "PUT", name, _VALID)
    return url, {**headers, **own}
