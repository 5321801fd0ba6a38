"""A store in a `GSPath`, by google-cloud-storage."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import cache, partial
from types import MappingProxyType
from typing import IO, Any, TypeVar
from weakref import WeakKeyDictionary

from holdall.errors import BlobNotFoundError, IntegrityError, StoreUnavailableError
from holdall.ranges import span
from holdall.store import Attributes, Body, Can, Expect, Info, Piece
from holdall.stores.path.cloud import PART, _Cloud, is_text
from holdall.stores.path.failures import _ChangedError
from holdall.stores.path.stream import fetched

__all__ = ["_Google"]

T = TypeVar("T")

_LISTED = "items(name,size,generation,updated),nextPageToken"
"""The fields that a listing requests, far fewer than the default."""

_FAR = 1 << 53
"""Larger than any blob, and a number that any server can read."""

_TIMEOUT = (10, 60)
"""Seconds to connect in, and to wait in for an answer."""
_PATIENCE = 10.0
"""Seconds after which a server that doesn't answer isn't tried again."""

# In which process a client was first met.
_homes: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


class _Google(_Cloud):
    """Google Cloud Storage, by the client of the path's client. A blob's ETag is its generation:
    every put makes a new one, and reads name it."""

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.COPY | Can.BULK

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._given = self._client.client
        self._home = _homes.setdefault(self._given, os.getpid())
        self._opening = threading.Lock()
        self._process = 0
        self._own: Any = None

    @property
    def _options(self) -> dict[str, Any]:
        """How long to wait, and what to try again: as cloudpathlib's client was given, if it was."""
        return {"timeout": _TIMEOUT, "retry": _patience(), **getattr(self._client, "blob_kwargs", {})}

    def _close(self) -> None:
        if self._process == os.getpid():
            self._own.close()

    def _google(self) -> Any:
        """Google's client in this process: connections don't live through a fork."""
        if self._home == os.getpid():
            return self._given
        with self._opening:
            if self._process != os.getpid():
                given = self._given
                self._own = type(given)(
                    project=given.project,
                    credentials=given._credentials,
                    client_info=given._initial_client_info,
                    client_options=given._initial_client_options or {"api_endpoint": given.api_endpoint},
                )
                self._process = os.getpid()
        return self._own

    def _call(self, what: str, function: Callable[[], T]) -> T:
        try:
            return super()._call(what, function)
        except BlobNotFoundError as error:
            # On a write or a listing only the bucket can be missing; otherwise the message says so.
            if what in ("write", "list") or "bucket does not exist" in str(error.__cause__):
                raise StoreUnavailableError(
                    f"the bucket {self._bucket!r} doesn't exist; make it first"
                ) from error
            raise
        except StoreUnavailableError as error:
            if type(error.__cause__).__name__ == "DataCorruption":
                raise IntegrityError(str(error.__cause__)) from error
            raise

    def _blob(self, key: str, **options: Any) -> Any:
        return self._google().bucket(self._bucket).blob(self._root + key, **options)

    def _info(self, key: str) -> Info:
        blob = self._blob(key)
        self._call("read", lambda: blob.reload(**self._options))
        return _google_info(key, blob)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if 0 <= start < _FAR and (stop is None or start < stop):
            # A range past the end, or an empty one, is refused; and only the other request reports a missing
            # bucket.
            with suppress(_ChangedError, BlobNotFoundError):
                found = self._asked(key, start, stop)
                if found is not None:
                    return found
        while True:
            info = self._info(key)
            low, high = span(start, stop, info.size)
            if low == high:
                return info, iter(())
            try:
                return info, self._version(key, info, low, high)
            except BlobNotFoundError:
                # This version was replaced or deleted. The error keeps this frame alive for a
                # while, which is why it holds no file.
                continue

    def _asked(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]] | None:
        """Read a blob, or a part of it, by one request; None if the answer lacks its properties."""
        blob = _answering()(self._root + key, bucket=self._google().bucket(self._bucket))
        part: dict[str, int] = {"start": start} if start else {}
        if stop is not None:
            part |= {"start": start, "end": min(stop, _FAR) - 1}
        told: list[Info] = []

        def fetch(file: IO[bytes]) -> int:
            self._download(blob, file, part)
            info = _answered(key, blob.answer, None if part else file.tell())
            if info is None:
                return file.tell()
            told.append(info)
            low, high = span(start, stop, info.size)
            return high - low

        pieces = fetched(key, PART, fetch)
        return (told[0], pieces) if told else None

    def _download(self, blob: Any, file: IO[bytes], part: Mapping[str, int]) -> None:
        # A blob that was put with an encoding is read as stored.
        get = partial(blob.download_to_file, file, raw_download=True, **part, **self._options)
        self._call("read", get)

    def _version(self, key: str, info: Info, low: int, high: int) -> Iterator[Piece]:
        """Yield bytes of the version that an info describes; a slow reader doesn't hold a connection."""
        blob = self._blob(key, generation=int(info.etag))
        part = {} if high - low == info.size else {"start": low, "end": high - 1}

        def fetch(file: IO[bytes]) -> int:
            self._download(blob, file, part)
            return high - low

        return fetched(key, PART, fetch)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        with tempfile.SpooledTemporaryFile(PART, prefix="holdall-") as file:
            for piece in body:
                file.write(piece)
            size = file.tell()
            is_small = size <= PART
            blob = self._blob(key, chunk_size=None if is_small else PART)
            # A body of no known size is uploaded in chunks, and seen once all of them are there.
            put = partial(blob.upload_from_file, file, rewind=True, size=size if is_small else None)
            self._call("write", partial(put, **self._kind("content_type", key), **self._options))
        return _google_info(key, blob)

    def _delete(self, key: str, expect: Expect) -> bool:
        # It isn't repeated: the second time it would say that there was nothing.
        return self._removed(self._root + key, {**self._options, "retry": None})

    def _removed(self, name: str, options: dict[str, Any]) -> bool:
        blob = self._google().bucket(self._bucket).blob(name)
        try:
            self._call("delete", partial(blob.delete, **options))
        except BlobNotFoundError:
            return False
        return True

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        if not is_text(prefix):
            return
        for found in self._listed(prefix, self._root + after if after else None):
            key = self._key_of(found.name)
            if key is not None and key > after:
                yield _google_info(key, found)

    def _listed(self, prefix: str, offset: str | None) -> Iterator[Any]:
        begins = self._root + prefix
        listed: Iterator[Any] = iter(
            self._google().list_blobs(
                self._bucket, prefix=begins, start_offset=offset, fields=_LISTED, **self._options
            )
        )
        while (found := self._call("list", lambda: next(listed, None))) is not None:
            yield found

    def _delete_folder(self) -> None:
        self._remove_all(found.name for found in self._listed("", None))

    def _remove(self, name: str) -> None:
        self._removed(name, self._options)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        origin, blob = self._blob(source), self._blob(target)
        # A large blob is copied in several requests, and seen after the last.
        token = None
        while True:
            rewrite = partial(blob.rewrite, origin, token=token, **self._options)
            token = self._call("copy", rewrite)[0]
            if token is None:
                return _google_info(target, blob)


def _google_info(key: str, blob: Any) -> Info:
    # The answer to a download has times in whole seconds.
    return Info(key, blob.size, str(blob.generation), blob.updated.replace(microsecond=0))


def _patience() -> Any:
    """The retries of Google's library, except that a server that doesn't answer is reported soon, not after
    two minutes."""
    from google.cloud.storage.retry import DEFAULT_RETRY  # pyright: ignore[reportMissingTypeStubs]
    from requests import ConnectionError as NoAnswerError

    retry: Any = DEFAULT_RETRY
    first: list[float] = []

    def is_worth_it(error: Exception) -> bool:
        if isinstance(error, NoAnswerError):
            first.append(time.monotonic())
            if first[-1] - first[0] > _PATIENCE:
                return False
        return retry._predicate(error)

    return retry.with_predicate(is_worth_it)


@cache
def _answering() -> Any:
    """Google's class of blobs, but that it keeps the headers of what it downloads."""
    from google.cloud import storage  # pyright: ignore[reportMissingTypeStubs]

    base: Any = storage.Blob

    class Answering(base):
        answer: Mapping[str, str] = MappingProxyType({})

        def _extract_headers_from_download(self, response: Any) -> None:
            super()._extract_headers_from_download(response)  # pyright: ignore[reportUnknownMemberType]
            self.answer = response.headers

    return Answering


def _answered(key: str, headers: Mapping[str, str], size: int | None) -> Info | None:
    """Return the info in the headers of a download, for a blob whose size may be known."""
    generation, modified = headers.get("X-Goog-Generation"), headers.get("Last-Modified")
    total = headers.get("Content-Range", "").rpartition("/")[2]
    if total.isdecimal():
        size = int(total)
    if generation is None or modified is None or size is None:
        return None
    return Info(key, size, generation, parsedate_to_datetime(modified))
