"""A store in an `S3Path`, by boto3."""

# The bytes of an answer are a class of their own, which asks for the rest by the store's calls.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

from holdall.errors import BlobNotFoundError, StoreError, StoreUnavailableError
from holdall.keys import MAX_KEY_BYTES
from holdall.ranges import CHUNK, span
from holdall.store import Attributes, Body, Can, Expect, Info, Piece
from holdall.stores.path.cloud import PART, _Cloud, is_text
from holdall.stores.path.failures import _ChangedError
from holdall.stores.path.stream import Stream
from holdall.stores.path.turns import turn

__all__ = ["_S3"]

_LARGEST_COPY = 5 << 30
"""The largest object that S3 copies in one request."""

_FAR = 1 << 53
"""Larger than any object, and a number that any server can read."""

# A boto3 client for each of cloudpathlib's, and the process that made it.
_clients: WeakKeyDictionary[Any, tuple[int, Any]] = WeakKeyDictionary()
_opening = [threading.Lock()]


def _reopen() -> None:
    """A thread of the parent may have held the lock when it forked."""
    _opening[0] = threading.Lock()


os.register_at_fork(after_in_child=_reopen)


class _S3(_Cloud):
    """S3 and what speaks the same, by the boto3 session of the path's client."""

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.COPY | Can.BULK

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._bucket = path.bucket

    def _boto3(self) -> Any:
        """A boto3 client of this process, one for all stores of the path's client: it takes long to make one,
        and connections don't live through a fork."""
        process, found = _clients.get(self._client, (0, None))
        return found if process == os.getpid() else self._new_boto3()

    def _new_boto3(self) -> Any:
        from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

        with _opening[0]:
            process, found = _clients.get(self._client, (0, None))
            if process == os.getpid():
                return found
            meta = self._client.client.meta
            given = meta.config.connect_timeout
            # The checksums that boto3 adds unasked are refused by others who speak S3.
            config = meta.config.merge(
                Config(
                    max_pool_connections=64,
                    # Each of five attempts takes this long; five attempts and 60 seconds are the defaults.
                    connect_timeout=5 if given == 60 else given,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
            )
            made = self._client.sess.client(
                "s3", endpoint_url=meta.endpoint_url, region_name=meta.region_name, config=config
            )
            _clients[self._client] = os.getpid(), made
            return made

    def _ask(self, what: str, operation: str, **parameters: Any) -> Any:
        client = self._boto3()
        return self._call(what, lambda: getattr(client, operation)(Bucket=self._bucket, **parameters))

    def _named(self, key: str) -> dict[str, Any]:
        """The parameters of a request that reads one object."""
        return {"Key": self._root + key, **self._client.boto3_dl_extra_args}

    def _info(self, key: str) -> Info:
        return _s3_info(key, self._ask("read", "head_object", **self._named(key)))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if (start, stop) == (0, None):
            found = self._ask("read", "get_object", **self._named(key))
            return _s3_info(key, found), self._pieces(key, found, 0)
        if (part := _range(start, stop)) is not None:
            # A range past the end, or an empty one, is refused.
            with suppress(_ChangedError):
                found = self._ask("read", "get_object", **self._named(key), Range=part)
                size = found.get("ContentRange", "").rpartition("/")[2]
                if size.isdecimal() and -int(size) <= start:
                    low = span(start, stop, int(size))[0]
                    return _s3_info(key, {**found, "ContentLength": int(size)}), self._pieces(key, found, low)
                found["Body"].close()
        while True:
            info = self._info(key)
            low, high = span(start, stop, info.size)
            if low == high:
                return info, iter(())
            part = {"Range": f"bytes={low}-{high - 1}", "IfMatch": f'"{info.etag}"'}
            try:
                found = self._ask("read", "get_object", **self._named(key), **part)
            except _ChangedError:
                continue
            return info, self._pieces(key, found, low)

    def _pieces(self, key: str, found: Any, low: int) -> Iterator[Piece]:
        body = _Body(self, key, found, low)
        pieces = Stream(body.read, body.close)
        if found["ContentLength"] > CHUNK:
            return pieces
        return iter([b"".join(pieces)])

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        named = {
            "Key": self._root + key,
            **self._client.boto3_ul_extra_args,
            **self._kind("ContentType", key),
        }
        parts = _parts(body)
        first, size = next(parts)
        if size < PART:
            return self._told(key, size, self._ask("write", "put_object", Body=first, **named))
        upload = {
            "Key": self._root + key,
            "UploadId": self._ask("write", "create_multipart_upload", **named)["UploadId"],
        }
        try:
            etags: list[dict[str, Any]] = []
            total = 0
            for number, (part, length) in enumerate(chain([(first, size)], parts), 1):
                done = self._ask("write", "upload_part", PartNumber=number, Body=part, **upload)
                etags.append({"PartNumber": number, "ETag": done["ETag"]})
                total += length
                part.close()
            named = {"MultipartUpload": {"Parts": etags}, **upload}
            written = self._ask("write", "complete_multipart_upload", **named)
        except BaseException:
            # The rest of an upload isn't an object, and costs money until it is aborted.
            with suppress(StoreError):
                self._ask("write", "abort_multipart_upload", **upload)
            raise
        return self._told(key, total, written)

    def _told(self, key: str, size: int, written: Any) -> Info:
        """Return the info of what was written; only a request for the object returns its time."""
        etag = written["ETag"].strip('"')
        with suppress(BlobNotFoundError):
            info = self._info(key)
            # Ceph doesn't return the ETag of an upload in parts.
            if info.etag == etag or (not etag and info.size == size):
                return info
        date = written["ResponseMetadata"]["HTTPHeaders"].get("date")
        return Info(key, size, etag, parsedate_to_datetime(date) if date else datetime.now(UTC))

    def _delete(self, key: str, expect: Expect) -> bool:
        with turn(key):
            try:
                self._info(key)
            except BlobNotFoundError:
                return False
            self._remove(self._root + key)
            return True

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        if not is_text(prefix):
            return
        extra = {"Prefix": self._root + _shortened(prefix), **self._client.boto3_list_extra_args}
        if after:
            # No name is longer than this, and what sorts between is left out below.
            extra["StartAfter"] = _shortened(self._root + after)
        for found in self._listed(extra):
            key = self._key_of(found["Key"])
            if key is not None and key.startswith(prefix) and key > after:
                yield _s3_info(key, {**found, "ContentLength": found["Size"]})

    def _listed(self, extra: dict[str, Any]) -> Iterator[dict[str, Any]]:
        while True:
            page = self._ask("list", "list_objects_v2", **extra)
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            extra["ContinuationToken"] = page["NextContinuationToken"]

    def _delete_folder(self) -> None:
        listed = self._listed({"Prefix": self._root, **self._client.boto3_list_extra_args})
        self._remove_all(found["Key"] for found in listed)

    def _remove(self, name: str) -> None:
        self._ask("delete", "delete_object", Key=name, **self._client.boto3_list_extra_args)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        if self._info(source).size > _LARGEST_COPY:
            return super()._copy(source, target, expect)
        origin = {"Bucket": self._bucket, "Key": self._root + source}
        extra = self._client.boto3_copy_extra_args
        done = self._ask("copy", "copy_object", Key=self._root + target, CopySource=origin, **extra)
        return self._told(target, 0, {**done, "ETag": done["CopyObjectResult"]["ETag"]})


class _Body:
    """The bytes of an answer. Where the connection breaks off, the rest is asked for, of the same version."""

    def __init__(self, store: _S3, key: str, found: Any, low: int) -> None:
        self._store, self._key, self._etag = store, key, found["ETag"]
        self._body: Any = found["Body"]
        self._low, self._high = low, low + found["ContentLength"]
        self._attempts = 4

    def read(self) -> bytes:
        while True:
            try:
                piece: bytes = self._store._call("read", lambda: self._body.read(CHUNK))
            except StoreUnavailableError as error:
                self._attempts -= 1
                if not self._attempts or self._low == self._high:
                    raise
                self._go_on(error)
            else:
                self._low += len(piece)
                return piece

    def _go_on(self, error: StoreUnavailableError) -> None:
        self._body.close()
        part = {"Range": f"bytes={self._low}-{self._high - 1}", "IfMatch": self._etag}
        try:
            found = self._store._ask("read", "get_object", **self._store._named(self._key), **part)
        except (_ChangedError, BlobNotFoundError):
            # It was replaced or deleted.
            raise error from None
        self._body = found["Body"]

    def close(self) -> None:
        self._body.close()


def _s3_info(key: str, found: Any) -> Info:
    # A listing has fractions of seconds where a server knows them; a request for one object never does.
    return Info(
        key, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"].replace(microsecond=0)
    )


def _range(start: int, stop: int | None) -> str | None:
    """Return a range as a request spells it (RFC 9110, section 14.1.2) if the size is unknown."""
    if stop is None and abs(start) < _FAR:
        return f"bytes={start}-" if start >= 0 else f"bytes={start}"
    if stop is not None and 0 <= start < min(stop, _FAR):
        return f"bytes={start}-{min(stop, _FAR) - 1}"
    return None


def _parts(body: Body) -> Iterator[tuple[io.BytesIO, int]]:
    """A body in parts for an upload, with their sizes, the last one smaller than the least; they grow, since
    ten thousand are all that S3 takes."""
    number, part = 1, io.BytesIO()
    for piece in body:
        part.write(piece)
        size = part.tell()
        if size >= PART * (1 + number // 1000):
            part.seek(0)
            yield part, size
            number, part = number + 1, io.BytesIO()
    size = part.tell()
    if size or number == 1:
        part.seek(0)
        yield part, size


def _shortened(name: str) -> str:
    """The start of a name, which sorts no later; it can stand in any request and its answer, which is XML."""
    name = re.split("[\0-\x1f\ufffe\uffff]", name, maxsplit=1)[0]
    return name.encode()[:MAX_KEY_BYTES].decode(errors="ignore")
