"""Stores in the folder of a path, local or in a cloud."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from holdall.errors import BlobNotFoundError, InvalidArgumentError, InvalidKeyError, InvalidTypeError
from holdall.keys import MAX_KEY_BYTES, check_key
from holdall.ranges import CHUNK
from holdall.store import ANY, Attributes, Body, Can, Expect, Info, Store
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.path.abreast import Job, abreast

_log = logging.getLogger("holdall")

_uri_in_a_path = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/").match


class PathStore(Store):
    """A store in the folder of a pathlib-like object; keys are paths relative to it.

    The type of the path chooses the class, as `pathlib.Path()` makes a `PosixPath` or a `WindowsPath`:

    - a str, a `pathlib.Path` or a local `UPath`: a `FilesystemStore`, with all its capabilities;
    - a `CloudPath` of cloudpathlib, on S3 and compatible services (Cloudflare R2), Azure or Google Cloud
      Storage: an upload becomes visible whole or not at all. cloudpathlib's local copies aren't used, so
      every read asks the cloud;
    - a `UPath` of universal-pathlib in memory or in an object storage, without fsspec's caches of listings.
      Paths of other protocols are read-only, since their files can't be replaced atomically.
      A key that its file system would read as another, such as `a?versionId=1`, raises `InvalidKeyError`.

    Bulk calls make ten requests at a time, and hold about 16 MiB.

    Neither library can compare and swap, so `can` lacks CREATE and SWAP, except for local folders. If several
    processes delete a blob at the same moment, more than one may return that it was there.

    The name of the folder counts as part of a key: together they have at most 1,024 UTF-8 bytes.

    Args:
        path: The folder. It needn't exist; a bucket must.

    Raises:
        InvalidArgumentError: It isn't one of these paths, or doesn't name a bucket.

    >>> from upath import UPath
    >>> store = PathStore(UPath("memory://reports"))
    >>> store["2026/may.txt"] = b"all is well"
    >>> UPath("memory://reports/2026/may.txt").read_text()
    'all is well'
    """

    can = Can.WRITE | Can.DELETE | Can.LIST

    _root: str = ""
    """The start of all blobs' names in the medium."""

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
        return f"PathStore({repr(self._path) if hasattr(self, '_path') else '...'})"

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

    def _delete_folder(self) -> None:
        """Delete everything in the folder, also what isn't a blob here; leave what is next to the folder."""
        raise NotImplementedError

    # --- many at once: where requests take time, several are under way ---

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        if Can.BULK not in self.can:
            yield from super()._get_many(keys)
            return
        for key, data in abreast(Job(key, CHUNK, partial(self._get_small, key)) for key in keys):
            if data is not None:
                found: bytes | None = data if isinstance(data, bytes) else self.get(key)
                if found is not None:
                    yield key, found

    def _get_small(self, key: str) -> tuple[str, bytes | Info | None]:
        """The bytes; of a large blob only what it is, since several of them may be more than memory holds."""
        try:
            info, pieces = self._read(key, 0, CHUNK)
            data = b"".join(pieces)
        except BlobNotFoundError:
            return key, None
        return key, data if len(data) == info.size else info

    def _put_many(self, items: Iterable[tuple[str, Body]], attributes: Attributes) -> Iterator[Info]:
        if Can.BULK not in self.can:
            return super()._put_many(items, attributes)
        return abreast(self._put_job(key, body, attributes) for key, body in items)

    def _put_job(self, key: str, body: Body, attributes: Attributes) -> Job[Info]:
        if not isinstance(body, tuple):
            # A stream may take long, and may use this store: the earlier ones come first.
            return Job(key, 0, partial(self._write, key, body, ANY, attributes), alone=True)
        # The caller's buffer is good until the next item is asked for.
        body = tuple([bytes(piece) for piece in body])
        return Job(key, sum(map(len, body)), partial(self._write, key, body, ANY, attributes))

    def _delete_many(self, keys: Iterable[str]) -> int:
        if Can.BULK not in self.can:
            return super()._delete_many(keys)
        return sum(abreast(Job(key, 0, partial(self._delete, key, ANY)) for key in keys))

    def _key_of(self, name: str) -> str | None:
        """The key of what lies in the medium; None for what isn't here or can't be a key."""
        if not name.startswith(self._root):
            return None
        try:
            return check_key(name[len(self._root) :])
        except InvalidKeyError as error:
            _log.debug("%r isn't a blob: %s", name, error)
            return None


def _kind_of(path: Any) -> type[PathStore] | None:
    """Which store is over a path; None for a local folder. A path of a library that was never imported can't
    have been given."""
    cloud: Any = sys.modules.get("cloudpathlib")
    if cloud is not None and isinstance(path, cloud.CloudPath):
        from holdall.stores.path.azure import _Azure
        from holdall.stores.path.google import _Google
        from holdall.stores.path.s3 import _S3

        kinds: dict[str, type[PathStore]] = {"s3://": _S3, "az://": _Azure, "gs://": _Google}
        kind = kinds.get(path.cloud_prefix)
        if kind is None:
            raise InvalidArgumentError(
                f"expected a path of S3, Azure or Google Cloud Storage, got a {type(path).__name__}"
            )
        return kind
    universal: Any = sys.modules.get("upath")
    if universal is not None and isinstance(path, universal.UPath) and not hasattr(path, "__fspath__"):
        from holdall.stores.path.universal import _Fsspec

        return _Fsspec
    if isinstance(path, str | os.PathLike):
        if isinstance(path, str) and "://" in path:
            raise InvalidArgumentError(
                f"expected a path, got the URI {path!r}; for a bucket, give CloudPath({path!r}) or "
                f"UPath({path!r}), and for another store, use Store.from_uri"
            )
        # pathlib makes one slash of two, and a new folder named `s3:` would take what was meant for a bucket.
        if isinstance(path, Path) and _uri_in_a_path(str(path)) and not hasattr(path, "protocol"):
            raise InvalidArgumentError(
                f"{str(path)!r} looks like a URI that pathlib.Path changed; give a CloudPath or a UPath, "
                "or the absolute path of a folder with this name"
            )
        return None
    kind = type(cast(object, path)).__name__
    raise InvalidTypeError(f"a path is a str, a Path, a CloudPath or a UPath, not {kind}")
