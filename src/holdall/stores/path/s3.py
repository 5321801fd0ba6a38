"""A store in an `S3Path`, by boto3."""

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

from holdall.errors import BlobNotFoundError, StoreError
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

# A boto3 client for each of cloudpathlib's, and the process that made it.
_clients: WeakKeyDictionary[Any, tuple[int, Any]] = WeakKeyDictionary()
_opening = [threading.Lock()]


def _reopen() -> None:
    """A thread of the parent may have held the lock when it forked."""
    _opening[0] = threading.Lock()


os.register_at_fork(after_in_child=_reopen)


class _S3(_Cloud):
    """S3 and what speaks the same, by the boto3 session of the path's client."""

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.COPY

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
            # The checksums that boto3 adds unasked are refused by others who speak S3.
            config = meta.config.merge(
                Config(
                    max_pool_connections=64,
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
            return _s3_info(key, found), self._pieces(found)
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
            return info, self._pieces(found)

    def _pieces(self, found: Any) -> Iterator[Piece]:
        body = found["Body"]
        pieces = Stream(lambda: self._call("read", lambda: body.read(CHUNK)), body.close)
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
            # What is left of an upload is no object, and costs money until it is aborted.
            with suppress(StoreError):
                self._ask("write", "abort_multipart_upload", **upload)
            raise
        return self._told(key, total, written)

    def _told(self, key: str, size: int, written: Any) -> Info:
        """What was written: when, only the object itself tells."""
        etag = written["ETag"].strip('"')
        with suppress(BlobNotFoundError):
            info = self._info(key)
            # Ceph tells no ETag of an upload in parts.
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
            self._ask("delete", "delete_object", Key=self._root + key, **self._client.boto3_list_extra_args)
            return True

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        if not is_text(prefix):
            return
        extra = {"Prefix": self._root + _shortened(prefix), **self._client.boto3_list_extra_args}
        if after:
            # No name is longer than this, and what sorts between is left out below.
            extra["StartAfter"] = _shortened(self._root + after)
        while True:
            page = self._ask("list", "list_objects_v2", **extra)
            for found in page.get("Contents", ()):
                key = self._key_of(found["Key"])
                if key is not None and key.startswith(prefix) and key > after:
                    yield _s3_info(key, {**found, "ContentLength": found["Size"]})
            if not page.get("IsTruncated"):
                return
            extra["ContinuationToken"] = page["NextContinuationToken"]

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        if self._info(source).size > _LARGEST_COPY:
            return super()._copy(source, target, expect)
        origin = {"Bucket": self._bucket, "Key": self._root + source}
        extra = self._client.boto3_copy_extra_args
        done = self._ask("copy", "copy_object", Key=self._root + target, CopySource=origin, **extra)
        return self._told(target, 0, {**done, "ETag": done["CopyObjectResult"]["ETag"]})


def _s3_info(key: str, found: Any) -> Info:
    # A listing tells parts of seconds where a server knows them, and a request for one object never does.
    return Info(
        key, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"].replace(microsecond=0)
    )


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
