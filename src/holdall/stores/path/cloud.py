"""A store in the path of a cloud: a bucket with the settings and credentials of the path's client."""

from __future__ import annotations

from collections.abc import Callable
from mimetypes import guess_type
from typing import Any, cast

from holdall.blob import PLAIN
from holdall.errors import InvalidArgumentError, StoreUnavailableError, UnsupportedOperation
from holdall.store import ANY, Attributes, Body, Expect, Info, LeftOut
from holdall.stores.bucket import BucketStore

_CLOUDS = ("s3://", "az://", "gs://")
UNIVERSAL = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""The protocols of a `UPath` that are clouds."""
_PUBLIC = frozenset(
    {"anon", "endpoint_url", "account_name", "profile", "project", "requester_pays", "use_ssl"}
)
"""The options of a file system of fsspec that hold no secret."""


class _CloudStore(BucketStore):
    """A bucket that travels as its path does, and gives each object the media type of its name, as the
    libraries of the paths do."""

    schemes = ()

    _path: Any
    _place: str
    _guess: Callable[[str], tuple[str | None, str | None]] | None

    @classmethod
    def over(cls, path: Any, system: Any = None) -> _CloudStore:
        """Return the store in a `CloudPath`, or in a `UPath` of a cloud, whose file system is given.

        Raises:
            InvalidArgumentError: It is in another storage, or doesn't name a bucket.
            UnsupportedOperation: The settings or the credentials of its client can't be taken over.
        """
        is_cloudpath = hasattr(path, "cloud_prefix")
        if is_cloudpath and path.cloud_prefix not in _CLOUDS:
            raise InvalidArgumentError(
                f"expected a path of S3, Azure or Google Cloud Storage, got a {type(path).__name__}"
            )
        inside = str(path).removeprefix(path.cloud_prefix) if is_cloudpath else path.path
        bucket, _, folder = inside.strip("/").partition("/")
        if not bucket:
            raise InvalidArgumentError(f"{str(path)!r} doesn't name a bucket")
        client = path if is_cloudpath else system
        store = cast(_CloudStore, cls.from_client(client, bucket, folder.strip("/")))
        store._path, store._place = path, f"{bucket}/{store._root}"
        store._guess = path.client.content_type_method if is_cloudpath else guess_type
        return store

    def _settings(self) -> dict[str, object]:
        return {"path": self._path}

    def __repr__(self) -> str:
        return f"PathStore({self._path!r})" if hasattr(self, "_path") else f"{type(self).__name__}(...)"

    def __reduce__(self) -> tuple[object, ...]:
        from holdall.stores.path.store import PathStore

        path = self._path
        if not hasattr(path, "cloud_prefix"):
            options: dict[str, Any] = path.storage_options
            secret = sorted(name for name in options if name not in _PUBLIC and options[name] != "anon")
            if secret:
                raise UnsupportedOperation(
                    f"a path with {', '.join(secret)} may hold a secret, which is never pickled; give its "
                    "credentials in the environment, here and in the other process"
                )
        elif cast(Any, type(path.client)).get_default_client() is not path.client:
            raise UnsupportedOperation(
                "a path with a client of its own can't go to another process; make it the default one, "
                "here and there, with client.set_as_default_client()"
            )
        return PathStore, (path,)

    def _type_for(self, key: str) -> str | None:
        if self._guess is None:
            return None
        # A name of its own could be taken for a URL.
        kind, encoding = self._guess(f"s3://{self._place}{key}")
        # A reader of an object with a content encoding would get other bytes than were put.
        return kind if encoding is None else None

    def _put(self, key: str, data: bytes) -> Info:
        if self._type_for(key) is None:
            return super()._put(key, data)
        return self._write(self._checked(key), (data,), ANY, PLAIN)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if attributes.content_type is None:
            attributes = attributes._replace(content_type=self._type_for(key))
        return super()._write(key, body, expect, attributes)

    def _delete_folder(self) -> None:
        """Delete everything in the folder, also what isn't a blob here; leave what is next to the folder."""
        self.clear()
        if self._names.root:
            # What some programs mark a folder by, whose slash obstore drops.
            self._delete_foreign(self._names.root)
        for found in self._survey("", ""):
            if isinstance(found, LeftOut) and found.path:
                self._delete_foreign(self._names.root + found.path)

    def _delete_foreign(self, name: str) -> None:
        """Delete an object whose name obstore can't spell, if it is there, by the path's own library."""
        path, (bucket, _, _) = self._path, self._place.partition("/")
        try:
            if not hasattr(path, "cloud_prefix"):
                path.fs.rm_file(f"{bucket}/{name}")
            elif path.cloud_prefix == "s3://":
                path.client.client.delete_object(Bucket=bucket, Key=name)
            elif path.cloud_prefix == "gs://":
                path.client.client.bucket(bucket).blob(name).delete()
            else:
                path.client.service_client.get_blob_client(bucket, name).delete_blob()
        except Exception as error:  # each cloud's client raises its own
            status = getattr(error, "status_code", None) or getattr(error, "code", None)
            if status == 404 or isinstance(error, FileNotFoundError):
                return
            raise StoreUnavailableError(f"{name!r} in {bucket!r} can't be deleted: {error}") from error
