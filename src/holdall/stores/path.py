"""A store in the folder of a pathlib-like object: a `CloudPath`, a `UPath`, or a local `Path`."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import chain
from mimetypes import guess_type
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from holdall.errors import (
    BlobNotFoundError,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.keys import MAX_KEY_BYTES, check_key
from holdall.ranges import CHUNK, span
from holdall.store import ANY, Attributes, Body, Can, Expect, Info, Piece, Store
from holdall.stores.filesystem import FilesystemStore

__all__ = ["PathStore"]

T = TypeVar("T")

_log = logging.getLogger("holdall")

_PART = 5 * CHUNK
"""The least part of a multipart upload that S3 takes."""
_LARGEST_COPY = 5 << 30
"""The largest object that S3 copies in one request."""

# Deleting says whether there was a blob, which no object storage tells: of the threads that delete one key of
# this process, one at a time looks.
_turns = [threading.Lock() for _ in range(64)]


class PathStore(Store):
    """A store in the folder of a pathlib-like object; keys are paths relative to it.

    The path says which kind it is, as `pathlib.Path()` is a `PosixPath` or a `WindowsPath`:

    - a str, a `pathlib.Path` or a local `UPath`: a `FilesystemStore`, with all that it can;
    - a `CloudPath` of cloudpathlib, on S3 and what speaks the same (Cloudflare R2), Azure or Google Cloud
      Storage: an upload is seen whole or not at all. cloudpathlib's folder of local copies is not used,
      so that every read asks the cloud;
    - a `UPath` of universal-pathlib in memory or in an object storage, without fsspec's caches of listings.
      What lies under another protocol is read-only, since its files can't be replaced whole or not at all.

    Neither library compares and swaps: `can` has no CREATE and no SWAP, except for local folders. Of several
    processes that delete a blob at the same moment, more than one may be told that it was there.

    The name of the folder counts as part of a key: together they have at most 1,024 UTF-8 bytes.

    Args:
        path: The folder. It needn't exist; a bucket must.

    Raises:
        InvalidArgumentError: It is none of these, or names no bucket.

    >>> from upath import UPath
    >>> store = PathStore(UPath("memory://reports"))
    >>> store["2026/may.txt"] = b"all is well"
    >>> UPath("memory://reports/2026/may.txt").read_text()
    'all is well'
    """

    can = Can.WRITE | Can.DELETE | Can.LIST

    _root: str = ""
    """What the names of all blobs begin with in the medium."""

    def __new__(cls, path: Any) -> Any:
        if cls is not PathStore:
            return super().__new__(cls)
        kind = _kind_of(path)
        return FilesystemStore(path) if kind is None else object.__new__(kind)

    def __init__(self, path: Any) -> None:
        self._path = path

    def _settings(self) -> dict[str, object]:
        return {"path": self._path}

    def __repr__(self) -> str:
        return f"PathStore({self._path!r})"

    def _checked(self, key: object) -> str:
        key = super()._checked(key)
        if self._root and len((self._root + key).encode()) > MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"with its folder {self._root!r} it has more than {MAX_KEY_BYTES} UTF-8 bytes", key=key
            )
        return key

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        moved = self._copy(source, target, expect)
        self._delete(source, ANY)
        return moved

    def _key_of(self, name: str) -> str | None:
        """The key of what lies in the medium; None for what isn't here or can't be a key."""
        if not name.startswith(self._root):
            return None
        try:
            return check_key(name[len(self._root) :])
        except InvalidKeyError as error:
            _log.debug("%r is no blob: %s", name, error)
            return None


def _kind_of(path: Any) -> type[PathStore] | None:
    """Which store is over a path; None for a local folder. A path of a library that was never imported can't
    have been given."""
    cloud: Any = sys.modules.get("cloudpathlib")
    if cloud is not None and isinstance(path, cloud.CloudPath):
        kind = _CLOUDS.get(path.cloud_prefix)
        if kind is None:
            raise InvalidArgumentError(
                f"a {type(path).__name__} is no folder of blobs; S3, Azure and Google Cloud Storage are"
            )
        return kind
    universal: Any = sys.modules.get("upath")
    if universal is not None and isinstance(path, universal.UPath) and not hasattr(path, "__fspath__"):
        return _Fsspec
    if isinstance(path, str | os.PathLike):
        if isinstance(path, str) and "://" in path:
            raise InvalidArgumentError(
                f"{path!r} is a URI; give CloudPath({path!r}) or UPath({path!r}), or use Store.from_uri"
            )
        return None
    raise InvalidArgumentError(
        f"a path is a str, a Path, a CloudPath or a UPath, not {type(cast(object, path)).__name__}"
    )


# --- cloudpathlib -------------------------------------------------------------------------------------


class _Cloud(PathStore):
    """What is common to all clouds of cloudpathlib, by what its clients have in common.

    Whole blobs pass through a temporary file of the system, since that is all that these take and give.
    """

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._bucket, _, folder = str(path).removeprefix(path.cloud_prefix).partition("/")
        if not self._bucket:
            raise InvalidArgumentError(f"{str(path)!r} names no bucket")
        self._root = f"{folder.strip('/')}/" if folder.strip("/") else ""
        self._client: Any = path.client
        self._prefix = f"{path.cloud_prefix}{self._bucket}/{self._root}"

    def __reduce__(self) -> tuple[object, ...]:
        kind = cast(Any, type(self._client))
        if kind.get_default_client() is not self._client:
            raise UnsupportedOperation(
                "a path with a client of its own can't go to another process; make it the default one, "
                "here and there, with client.set_as_default_client()"
            )
        return super().__reduce__()

    def _call(self, what: str, function: Callable[[], T]) -> T:
        """Call a client; its errors are ours."""
        try:
            return function()
        except Exception as error:
            raise _failed(error, what, self._bucket) from error

    def _at(self, key: str) -> Any:
        return self._client.CloudPath(self._prefix + self._spelled(key))

    def _kind(self, name: str, key: str) -> dict[str, str]:
        """The media type of what is put, as an argument of this name."""
        guess = self._client.content_type_method
        kind, encoding = guess(key) if guess is not None else (None, None)
        # Who reads what is said to be encoded would get other bytes than were put.
        return {name: kind} if kind is not None and encoding is None else {}

    def _spelled(self, key: str) -> str:
        """A key as a part of a name in this cloud."""
        return key

    def _info(self, key: str) -> Info:
        found = self._call("read", lambda: self._client._get_metadata(self._at(key)))
        if found is None:
            raise BlobNotFoundError(key=key)
        modified = found.get("last_modified") or found.get("updated")
        return Info(key, found.get("size"), str(found.get("etag")).strip('"'), modified)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        while True:
            info = self._info(key)
            with tempfile.TemporaryDirectory(prefix="holdall-") as folder:
                local = Path(folder, "blob")
                self._call("read", lambda: self._client._download_file(self._at(key), local))  # noqa: B023
                file = local.open("rb")
            pieces = _Stream(lambda: file.read(CHUNK), file.close)  # noqa: B023
            # The download tells no ETag: it is what it was before, if it is the same afterwards.
            try:
                if self._info(key).etag == info.etag:
                    return info, pieces
            except BaseException:
                pieces.close()
                raise
            pieces.close()

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        with tempfile.TemporaryDirectory(prefix="holdall-") as folder:
            # The end of its name tells the media type, but never an encoding, which readers undo.
            end = os.path.splitext(key)[1][:64] if guess_type(key)[1] is None else ""
            local = Path(folder, "blob" + end.replace("\\", "_"))
            with local.open("wb") as file:
                for piece in body:
                    file.write(piece)
            self._call("write", lambda: self._client._upload_file(local, self._at(key)))
            size = local.stat().st_size
        try:
            return self._info(key)
        except BlobNotFoundError:
            # Somebody deleted it already.
            return Info(key, size, "", datetime.now(UTC))

    def _delete(self, key: str, expect: Expect) -> bool:
        with _turns[hash(key) % len(_turns)]:
            try:
                self._info(key)
            except BlobNotFoundError:
                return False
            with suppress(BlobNotFoundError):
                self._call("delete", lambda: self._client._remove(self._at(key)))
            return True

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        folder = prefix[: prefix.rfind("/") + 1] if _is_text(prefix) else ""
        start = len(f"{self._path.cloud_prefix}{self._bucket}/")
        at = self._client.CloudPath((self._prefix + self._spelled(folder)).rstrip("/"))
        found = self._call("list", lambda: list(self._client._list_dir(at, recursive=True)))
        keys = {self._key_of(str(path)[start:]) for path, is_folder in found if not is_folder}
        yield from sorted(key for key in keys if key is not None and key.startswith(prefix) and key > after)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for key in self._keys(prefix, after):
            with suppress(BlobNotFoundError):
                yield self._info(key)


class _Azure(_Cloud):
    """Azure takes a backslash for a slash, may drop a dot at the end of a segment, and lists in XML, which
    lacks two characters: those have other spellings, which are also rclone's where that has one."""

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE

    def _spelled(self, key: str) -> str:
        return _AWKWARD.sub(lambda found: _SPELLINGS.get(found[0], _QUOTE + found[0]), key)

    def _key_of(self, name: str) -> str | None:
        if not name.startswith(self._root):
            return None
        rest = name[len(self._root) :]
        key = _SPELLED.sub(lambda found: _MEANINGS.get(found[0], found[0][1:]), rest)
        # Another spelling of the same key would be another blob.
        return super()._key_of(self._root + key) if self._spelled(key) == rest else None

    def _blob(self, key: str) -> Any:
        return self._client.service_client.get_blob_client(self._bucket, self._root + self._spelled(key))

    def _info(self, key: str) -> Info:
        found = self._call("read", self._blob(key).get_blob_properties)
        if found.metadata.get("hdi_isfolder"):
            raise BlobNotFoundError(key=key)
        return _azure_info(key, found.size, found)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        blob = self._blob(key)
        while True:
            info = self._info(key)
            low, high = span(start, stop, info.size)
            file = tempfile.SpooledTemporaryFile(_PART, prefix="holdall-")  # noqa: SIM115
            pieces = _Stream(partial(file.read, CHUNK), file.close)
            try:
                for at in range(low, high, CHUNK):
                    # Each part is of this version, or the read begins anew.
                    part = partial(blob.download_blob, at, min(CHUNK, high - at), **_unchanged(info))
                    file.write(self._call("read", lambda: part().readall()))  # noqa: B023
                if file.tell() != high - low:
                    raise IntegrityError(f"{file.tell()} bytes came of {high - low}", key=key)
                file.seek(0)
                return info, pieces
            except _ChangedError:
                pieces.close()
            except BaseException:
                pieces.close()
                raise

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        from azure.storage.blob import ContentSettings

        blob = self._blob(key)
        kind: Any = self._kind("content_type", key)
        options = {"content_settings": ContentSettings(**kind)}
        with tempfile.SpooledTemporaryFile(_PART, prefix="holdall-") as file:
            for piece in body:
                file.write(piece)
            size = file.tell()
            file.seek(0)
            if size <= _PART:
                put = partial(blob.upload_blob, file.read(), overwrite=True, **options)
                return _azure_info(key, size, self._call("write", put))
            while True:
                try:
                    return _azure_info(key, size, self._call("write", lambda: _staged(blob, file, options)))
                except _ChangedError:
                    # Another upload was done first, and took the blocks of this one away.
                    file.seek(0)

    def _delete(self, key: str, expect: Expect) -> bool:
        try:
            self._call("delete", self._blob(key).delete_blob)
        except BlobNotFoundError:
            return False
        return True

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (info.key for info in self._scan(prefix, after))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        folder = prefix[: prefix.rfind("/") + 1] if _is_text(prefix) else ""
        box = self._client.service_client.get_container_client(self._bucket)
        begins = self._root + self._spelled(folder)
        listed = self._call(
            "list", lambda: list(box.list_blobs(name_starts_with=begins, include=["metadata"]))
        )
        infos: dict[str, Info] = {}
        for found in listed:
            key = self._key_of(found.name)
            is_folder = found.metadata and found.metadata.get("hdi_isfolder")
            if key is not None and key.startswith(prefix) and key > after and not is_folder:
                infos[key] = _azure_info(key, found.size, found)
        for key in sorted(infos):
            yield infos[key]


def _azure_info(key: str, size: int, found: Any) -> Info:
    return Info(key, size, found["etag"].strip('"'), found["last_modified"])


def _unchanged(info: Info) -> dict[str, Any]:
    from azure.core import MatchConditions

    return {"etag": f'"{info.etag}"', "match_condition": MatchConditions.IfNotModified}


def _staged(blob: Any, file: Any, options: dict[str, Any]) -> Any:
    """Upload a file in blocks, which are a blob once their list is committed."""
    from azure.storage.blob import BlobBlock

    # The names of a blob's blocks have one length, and fifty thousand are all that Azure takes. Its library
    # holds each block several times.
    upload, blocks = os.urandom(8).hex(), list[Any]()
    while piece := file.read(CHUNK if len(blocks) < 10_000 else 8 * CHUNK):
        name = f"{upload}-{len(blocks):06}"
        blob.stage_block(name, piece)
        blocks.append(BlobBlock(name))
    return blob.commit_block_list(blocks, **options)


_QUOTE = "\u201b"
_SPELLINGS = {"\\": "\uff3c", ".": "\uff0e", "\ufffe": f"{_QUOTE}e", "\uffff": f"{_QUOTE}f"}
_MEANINGS = {spelling: meaning for meaning, spelling in _SPELLINGS.items()}
_AWKWARD = re.compile(r"[\\\ufffe\uffff\uff3c\uff0e\u201b]|\.(?=/|\Z)")
_SPELLED = re.compile(r"\u201b.|[\uff3c\uff0e]", re.DOTALL)


class _S3(_Cloud):
    """S3 and what speaks the same, by the boto3 session of the path's client."""

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.COPY

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._bucket = path.bucket
        self._opening = threading.Lock()
        self._process = 0
        self._own: Any = None

    def _close(self) -> None:
        if self._process == os.getpid():
            self._own.close()

    def _boto3(self) -> Any:
        """A boto3 client of this store and this process: connections don't live through a fork."""
        if self._process == os.getpid():
            return self._own
        from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

        with self._opening:
            if self._process != os.getpid():
                meta = self._client.client.meta
                # The checksums that boto3 adds unasked are refused by others who speak S3.
                config = meta.config.merge(
                    Config(
                        max_pool_connections=64,
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                    )
                )
                self._own = self._client.sess.client(
                    "s3", endpoint_url=meta.endpoint_url, region_name=meta.region_name, config=config
                )
                self._process = os.getpid()
        return self._own

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
        pieces = _Stream(lambda: self._call("read", lambda: body.read(CHUNK)), body.close)
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
        if size < _PART:
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
            if info.etag == etag:
                return info
        date = written["ResponseMetadata"]["HTTPHeaders"].get("date")
        return Info(key, size, etag, parsedate_to_datetime(date) if date else datetime.now(UTC))

    def _delete(self, key: str, expect: Expect) -> bool:
        with _turns[hash(key) % len(_turns)]:
            try:
                self._info(key)
            except BlobNotFoundError:
                return False
            self._ask("delete", "delete_object", Key=self._root + key, **self._client.boto3_list_extra_args)
            return True

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (info.key for info in self._scan(prefix, after))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        extra = {"Prefix": self._root + prefix, **self._client.boto3_list_extra_args}
        if not _is_text(prefix):
            return
        if after:
            # No name is longer than this, and what sorts between is left out below.
            extra["StartAfter"] = _shortened(self._root + after)
        while True:
            page = self._ask("list", "list_objects_v2", **extra)
            for found in page.get("Contents", ()):
                key = self._key_of(found["Key"])
                if key is not None and key > after:
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


_CLOUDS: dict[str, type[PathStore]] = {"s3://": _S3, "az://": _Azure, "gs://": _Cloud}


class _ChangedError(StoreError):
    """The blob was replaced between two requests."""


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
        if size >= _PART * (1 + number // 1000):
            part.seek(0)
            yield part, size
            number, part = number + 1, io.BytesIO()
    size = part.tell()
    if size or number == 1:
        part.seek(0)
        yield part, size


def _shortened(name: str) -> str:
    """What sorts no later than a name, and can stand in any request and its answer, which is XML."""
    name = re.split("[\ufffe\uffff]", name, maxsplit=1)[0]
    return name.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def _is_text(prefix: str) -> bool:
    """Whether a key can begin so: one with a lone surrogate can't be sent."""
    return prefix.isascii() or not re.search("[\ud800-\udfff]", prefix)


class _Stream(Iterator[bytes]):
    """The pieces of something open, which is closed at the end, or when this is dropped."""

    def __init__(self, read: Callable[[], bytes], close: Callable[[], object]) -> None:
        self._take = read
        self._end: Callable[[], object] | None = close

    def __next__(self) -> bytes:
        if self._end is None:
            raise StopIteration
        try:
            piece = self._take()
        except BaseException:
            self.close()
            raise
        if not piece:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        """Close what is read."""
        end, self._end = self._end, None
        if end is not None:
            end()

    def __del__(self) -> None:
        self.close()


def _failed(error: Exception, what: str, place: str) -> Exception:
    """The error of the contract for one of a cloud's library."""
    if isinstance(error, StoreError):
        return error
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        told = cast("dict[str, Any]", response)
        status = told.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = str(told.get("Error", {}).get("Code"))
    else:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        code = str(getattr(error, "error_code", "") or "")
    if code in ("NoSuchBucket", "ContainerNotFound"):
        return StoreUnavailableError(f"there is no bucket {place!r}; make it first")
    if status == 404 or isinstance(error, FileNotFoundError):
        return BlobNotFoundError()
    if status in (409, 412, 416) or code == "InvalidBlockList":
        return _ChangedError(f"{place!r} refused to {what}: {error}")
    if status in (401, 403) or "Credentials" in type(error).__name__:
        return StoreUnavailableError(
            f"no permission to {what} in {place!r} ({error}); look at the credentials of the path's client"
        )
    return StoreUnavailableError(f"{place!r} can't {what}: {type(error).__name__}: {error}")


# --- universal-pathlib --------------------------------------------------------------------------------

# Of these a file is replaced whole, or not at all.
_WHOLE = frozenset(("memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"))
_memory = threading.RLock()


class _Fsspec(PathStore):
    """The folder of a `UPath`, by a file system of fsspec that caches no listing."""

    _stamps: ClassVar[tuple[str, ...]] = ("LastModified", "last_modified", "updated", "mtime", "created")

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._given: Any = path.fs
        self._folder = path.path.rstrip("/")
        self._protocol: str = path.protocol
        self._in_memory = self._protocol == "memory"
        self.inline = self._in_memory
        self._root = "" if self._in_memory else f"{self._folder.strip('/')}/"
        self.can = Can.LIST | Can.RANGE
        if self._protocol in _WHOLE:
            self.can |= Can.WRITE | Can.DELETE
        self._process = os.getpid()
        options = {**self._given.storage_options, "use_listings_cache": False, "skip_instance_cache": True}
        # What lies in memory may belong to the one file system that was given.
        self._fs: Any = (
            self._given if self._in_memory else type(self._given)(*self._given.storage_args, **options)
        )

    def __reduce__(self) -> tuple[object, ...]:
        if self._in_memory:
            return _here, (os.getpid(), self._path)
        return super().__reduce__()

    def _need(self, flag: Can, call: str) -> None:
        if flag in (Can.WRITE | Can.DELETE) and self._protocol not in _WHOLE:
            super()._need(Can(0), call)
            raise ReadOnlyError(
                f"what lies under {self._protocol}:// is only read: it can't be replaced whole or not at all"
            )
        super()._need(flag, call)

    def _name(self, key: str) -> str:
        return f"{self._folder}/{key}"

    def _call(self, what: str, function: Callable[[], T]) -> T:
        if self._process != os.getpid() and not self._in_memory:
            raise StoreUnavailableError("this store was opened before a fork; open it again in the child")
        try:
            if self._in_memory:
                with _memory:
                    return function()
            return function()
        except StoreError:
            raise
        except (FileNotFoundError, IsADirectoryError):
            raise BlobNotFoundError from None
        except (FileExistsError, NotADirectoryError):
            raise KeyConflictError("this medium can't hold both a blob and blobs below it") from None
        except Exception as error:
            raise _failed(error, what, str(self._path)) from error

    def _info(self, key: str) -> Info:
        return self._told(key, self._call("read", lambda: self._fs.info(self._name(key))))

    def _told(self, key: str, found: Any) -> Info:
        if found["type"] != "file":
            raise BlobNotFoundError(key=key)
        stamp = next((found[name] for name in self._stamps if found.get(name) is not None), 0.0)
        modified: Any = datetime.fromisoformat(stamp) if isinstance(stamp, str) else stamp
        if isinstance(modified, datetime):
            modified = modified.timestamp()
        size: int = found["size"]
        etag = str(found.get("ETag") or found.get("etag") or f"{float(modified).hex()}-{size}").strip('"')
        return Info(key, size, etag, float(modified))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        while True:
            info = self._info(key)
            low, high = span(start, stop, info.size)
            name = self._name(key)
            file = tempfile.SpooledTemporaryFile(CHUNK, prefix="holdall-")  # noqa: SIM115
            pieces = _Stream(partial(file.read, CHUNK), file.close)
            try:
                for at in range(low, high, CHUNK):
                    end = min(at + CHUNK, high)
                    file.write(self._call("read", lambda: self._fs.cat_file(name, at, end)))  # noqa: B023
                # Ranges of two blobs never make one: what was read belongs to what is there before and after.
                if self._info(key).etag == info.etag:
                    file.seek(0)
                    return info, pieces
            except BaseException:
                pieces.close()
                raise
            pieces.close()

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        name = self._name(key)
        if self._in_memory:
            data = b"".join([bytes(piece) for piece in body])
            return self._call("write", lambda: self._keep(key, name, data))
        with tempfile.NamedTemporaryFile(prefix="holdall-") as file:
            for piece in body:
                file.write(piece)
            file.flush()
            self._call("write", lambda: self._fs.put_file(file.name, name))
        return self._info(key)

    def _keep(self, key: str, name: str, data: bytes) -> Info:
        if self._fs.isdir(name):
            raise KeyConflictError("this medium can't hold both a blob and blobs below it", key=key)
        self._fs.pipe_file(name, data)
        return self._told(key, self._fs.info(name))

    def _delete(self, key: str, expect: Expect) -> bool:
        with _turns[hash(key) % len(_turns)]:
            try:
                self._info(key)
                self._call("delete", lambda: self._fs.rm_file(self._name(key)))
            except BlobNotFoundError:
                return False
            return True

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        yield from self._walk("", prefix, after)

    def _walk(self, above: str, prefix: str, after: str) -> Iterator[Info]:
        """What lies in one folder and below it, in order: a folder sorts as its name with a `/`."""
        folder = f"{self._folder}/{above}".rstrip("/")
        try:
            listed: list[Any] = self._call("list", lambda: self._fs.ls(folder, detail=True))
        except BlobNotFoundError:
            return
        entries: dict[str, Any] = {}
        for found in listed:
            name = str(found["name"]).rstrip("/").rpartition("/")[2]
            key = self._key_of(self._root + above + name)
            if key is not None:
                entries[f"{key}/" if found["type"] == "directory" else key] = found
        for key in sorted(entries):
            if not key.endswith("/"):
                if key.startswith(prefix) and key > after:
                    yield self._told(key, entries[key])
            elif (key.startswith(prefix) or prefix.startswith(key)) and (
                key > after or after.startswith(key)
            ):
                yield from self._walk(key, prefix, after)


def _here(process: int, path: Any) -> Any:
    if process != os.getpid():
        raise StoreUnavailableError(
            "what lies in memory lives in the process that made it; use a path on a disk or a server for two"
        )
    return PathStore(path)
