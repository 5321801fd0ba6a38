"""A store in an `AzureBlobPath`."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import IO, Any

from holdall.errors import BlobNotFoundError
from holdall.ranges import CHUNK, span
from holdall.store import Attributes, Body, Can, Expect, Info, Piece
from holdall.stores.path.cloud import PART, _Cloud, is_text
from holdall.stores.path.failures import _ChangedError
from holdall.stores.path.stream import fetched

__all__ = ["_Azure", "default_retries"]


class _Azure(_Cloud):
    """Azure takes a backslash for a slash, may drop a dot at the end of a segment, and lists in XML, which
    lacks two characters: those have other spellings, which are also rclone's where that has one."""

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.BULK

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        # The errors that are retried.
        hurry = default_retries(self._client.service_client) is not None
        self._retries: dict[str, Any] = {"retry_connect": 1, "retry_read": 1} if hurry else {}
        self._opening = threading.Lock()
        self._process = os.getpid()
        self._service: Any = self._client.service_client

    @property
    def _options(self) -> dict[str, Any]:
        """The options of a call. Without an id of ours the library makes one with `uuid.uuid1`, which may
        leave a file open for each thread that has called it: one for each of those that `abreast` starts."""
        return {"client_request_id": str(uuid.uuid4()), **self._retries}

    def _clients(self) -> Any:
        """What makes clients, whose connections are of this process: they don't live through a fork."""
        if self._process == os.getpid():
            return self._service
        from azure.storage.blob import BlobServiceClient

        with self._opening:
            if self._process != os.getpid():
                given = self._client.service_client
                self._service = BlobServiceClient(given.url, credential=given.credential)
                self._process = os.getpid()
        return self._service

    def _close(self) -> None:
        if self._service is not self._client.service_client:
            self._service.close()

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
        return self._clients().get_blob_client(self._bucket, self._root + self._spelled(key))

    def _info(self, key: str) -> Info:
        found = self._call("read", partial(self._blob(key).get_blob_properties, **self._options))
        return _told(key, found.size, found)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if 0 <= start < _FAR and (stop is None or start < stop):
            # A range past the end, or an empty one, is refused.
            with suppress(_ChangedError):
                return self._begun(key, start, stop)
        while True:
            info = self._info(key)
            low, high = span(start, stop, info.size)
            try:
                return info, self._version(key, info, low, high)
            except _ChangedError:
                # What failed keeps this frame alive for a while, which is why it holds no file.
                continue

    def _begun(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        """A part by one request, if it is small."""
        blob = self._blob(key)
        length = CHUNK if stop is None else min(CHUNK, stop - start)
        first = self._call("read", partial(blob.download_blob, start, length, **self._options))
        size = int(first.properties.content_range.rpartition("/")[2])
        info = _told(key, size, first.properties)
        high = span(start, stop, size)[1]
        data: bytes = self._call("read", first.readall)
        if len(data) == high - start:
            return info, iter([data])
        return info, self._version(key, info, start, high, data)

    def _version(self, key: str, info: Info, low: int, high: int, first: bytes = b"") -> Iterator[Piece]:
        """Yield bytes of the version that an info describes; the first of them may be known."""
        blob = self._blob(key)

        def fetch(file: IO[bytes]) -> int:
            file.write(first)
            for at in range(low + len(first), high, CHUNK):
                part = partial(
                    blob.download_blob, at, min(CHUNK, high - at), **_unchanged(info), **self._options
                )
                file.write(self._call("read", lambda: part().readall()))  # noqa: B023 - called at once
            return high - low

        return fetched(key, CHUNK, fetch)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        from azure.storage.blob import ContentSettings

        blob = self._blob(key)
        kind: Any = self._kind("content_type", key)
        options = {"content_settings": ContentSettings(**kind), **self._options}
        with tempfile.SpooledTemporaryFile(PART, prefix="holdall-") as file:
            for piece in body:
                file.write(piece)
            size = file.tell()
            file.seek(0)
            if size <= PART:
                put = partial(blob.upload_blob, file.read(), overwrite=True, **options)
                return _azure_info(key, size, self._call("write", put))
            while True:
                try:
                    return _azure_info(
                        key, size, self._call("write", lambda: _staged(blob, file, options, self._options))
                    )
                except _ChangedError:
                    # Another upload was done first, and took the blocks of this one away.
                    file.seek(0)

    def _delete(self, key: str, expect: Expect) -> bool:
        # It isn't repeated where an answer is lost: the second time it would say that there was nothing.
        return self._removed(self._root + self._spelled(key), {**self._options, "retry_read": 0})

    def _removed(self, name: str, options: dict[str, Any]) -> bool:
        blob = self._clients().get_blob_client(self._bucket, name)
        try:
            self._call("delete", partial(blob.delete_blob, **options))
        except BlobNotFoundError:
            return False
        return True

    def _remove(self, name: str) -> None:
        self._removed(name, self._options)

    def _delete_folder(self) -> None:
        listed = self._listed(self._root)
        self._remove_all(found.name for found in listed if not _is_folder(found))
        # In an account with folders each of those goes once it is empty.
        for found in reversed(listed):
            if _is_folder(found):
                self._remove(found.name)

    def _listed(self, begins: str) -> list[Any]:
        box = self._clients().get_container_client(self._bucket)
        pages = partial(box.list_blobs, name_starts_with=begins, include=["metadata"], **self._options)
        return self._call("list", lambda: list(pages()))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        if not is_text(prefix):
            return
        # How a segment is spelled hangs on how it ends; and the answer, in XML, repeats what was asked for.
        known = _CONTROL.split(prefix, maxsplit=1)[0]
        end = known.rfind("/") + 1
        begins = self._root + self._spelled(known[:end]) + _UNSURE.split(known[end:], maxsplit=1)[0]
        infos: dict[str, Info] = {}
        for found in self._listed(begins):
            key = self._key_of(found.name)
            if key is not None and key.startswith(prefix) and key > after and not _is_folder(found):
                infos[key] = _azure_info(key, found.size, found)
        for key in sorted(infos):
            yield infos[key]


def default_retries(service: Any) -> Any | None:
    """The retries of a client of Azure by default. It would wait for 80 seconds before it reports that
    no server answers."""
    policy: Any = getattr(getattr(service, "_config", None), "retry_policy", None)
    is_default = getattr(policy, "initial_backoff", None) == 15 and policy.connect_retries == 3
    return policy if is_default else None


def _azure_info(key: str, size: int, found: Any) -> Info:
    return Info(key, size, found["etag"].strip('"'), found["last_modified"])


def _is_folder(found: Any) -> bool:
    return bool(found.metadata and found.metadata.get("hdi_isfolder"))


def _told(key: str, size: int, found: Any) -> Info:
    """Return whether an entry is a blob: in an account with folders, folders are blobs too."""
    if _is_folder(found):
        raise BlobNotFoundError(key=key)
    return _azure_info(key, size, found)


def _unchanged(info: Info) -> dict[str, Any]:
    from azure.core import MatchConditions

    return {"etag": f'"{info.etag}"', "match_condition": MatchConditions.IfNotModified}


def _staged(blob: Any, file: Any, options: dict[str, Any], each: dict[str, Any]) -> Any:
    """Upload a file in blocks, which are a blob once their list is committed."""
    from azure.storage.blob import BlobBlock

    # The names of a blob's blocks have one length, and fifty thousand are all that Azure takes. Its library
    # holds each block several times.
    upload, blocks = os.urandom(8).hex(), list[Any]()
    while piece := file.read(CHUNK if len(blocks) < 10_000 else 8 * CHUNK):
        name = f"{upload}-{len(blocks):06}"
        blob.stage_block(name, piece, **each)
        blocks.append(BlobBlock(name))
    return blob.commit_block_list(blocks, **options)


_FAR = 1 << 53
"""Larger than any blob, and a number that any server can read."""
_QUOTE = "\u201b"
_SPELLINGS = {"\\": "\uff3c", ".": "\uff0e", "\ufffe": f"{_QUOTE}e", "\uffff": f"{_QUOTE}f"}
_MEANINGS = {spelling: meaning for meaning, spelling in _SPELLINGS.items()}
_AWKWARD = re.compile(r"[\\\ufffe\uffff\uff3c\uff0e\u201b]|\.(?=/|\Z)")
_UNSURE = re.compile(r"[\\\ufffe\uffff\uff3c\uff0e\u201b.]")
_CONTROL = re.compile("[\0-\x1f]")
_SPELLED = re.compile(r"\u201b.|[\uff3c\uff0e]", re.DOTALL)
