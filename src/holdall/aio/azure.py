"""Azure's containers, as an `AsyncBlobStore` takes them."""

from __future__ import annotations

import re
from io import BytesIO
from mimetypes import guess_type
from typing import Any, NoReturn, Self, cast

from holdall.errors import (
    BlobExistsError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidTypeError,
    MissingDependencyError,
    StoreError,
    UnsupportedOperation,
)
from holdall.pieces import join_pieces
from holdall.store import ABSENT, ANY, Attributes, Body, Can, Expect, Info, Store
from holdall.stores.path.azure import _Azure, _azure_info, _staged
from holdall.stores.path.failures import _ChangedError

__all__ = ["AzureBlobAdapter"]

_is_container = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*|\$root|\$web").fullmatch
_SINGLE = 64 << 20
"""The bytes of the longest body that goes as one request."""
_ONCE = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}
"""A request that compares isn't repeated where its answer is lost: the second one would fail because of the
first, and be taken for a lost race."""


class AzureBlobAdapter:
    """Containers of an account of Azure Blob Storage. They must exist.

    Args:
        client: A synchronous `azure.storage.blob.BlobServiceClient`, which stays open;
            `from_connection_string` makes one.

    Raises:
        MissingDependencyError: Azure's library isn't installed.
    """

    def __init__(self, client: Any) -> None:
        kind = _blob_service_client()
        if not isinstance(client, kind):
            raise InvalidTypeError(
                "an AzureBlobAdapter takes a synchronous azure.storage.blob.BlobServiceClient, not "
                f"{type(client).__module__}.{type(client).__name__}; for a connection string, call "
                "AzureBlobAdapter.from_connection_string"
            )
        self._client = client
        self._connection: str | None = None

    @classmethod
    def from_connection_string(cls, connection_string: str) -> Self:
        """Take the account and its key of a connection string, as the Azure portal shows it.

        Raises:
            InvalidArgumentError: This isn't one. The message doesn't show it, since it holds a key.
        """
        kind = _blob_service_client()
        if not isinstance(cast(object, connection_string), str):
            raise InvalidTypeError(
                f"a connection string must be a str, not {type(connection_string).__name__}; "
                "is the environment variable set?"
            )
        try:
            adapter = cls(kind.from_connection_string(connection_string))
        except (ValueError, KeyError) as error:
            raise InvalidArgumentError(
                "this isn't a connection string of Azure Blob Storage, such as "
                f"'AccountName=...;AccountKey=...;EndpointSuffix=core.windows.net': {type(error).__name__}"
            ) from None
        adapter._connection = connection_string
        return adapter

    def get_container(self, container_name: str) -> Store:
        """Return a container. Its name is one of Azure's: 3 to 63 lowercase letters, digits and single
        hyphens."""
        if not isinstance(cast(object, container_name), str):
            raise InvalidTypeError(
                f"the name of a container must be a str, not {type(container_name).__name__}"
            )
        if not _is_container(container_name):
            raise InvalidArgumentError(
                f"{container_name!r} can't be the name of a container in Azure: it has 3 to 63 lowercase "
                "letters, digits and single hyphens, with a letter or digit at both ends"
            )
        if self._connection is None:
            return _AzureContainer(_Place(container_name, self._client))
        # Connections of its own, so that closing one handle leaves the others alone.
        client = _blob_service_client().from_connection_string(self._connection)
        store = _AzureContainer(_Place(container_name, client))
        store._owns_client = True
        return store

    def __repr__(self) -> str:
        return f"AzureBlobAdapter({self._client.account_name!r})"

    def __reduce__(self) -> NoReturn:
        raise UnsupportedOperation(
            "an AzureBlobAdapter holds a key, which is never pickled; make one in each process"
        )


def _blob_service_client() -> Any:
    try:
        from azure.storage.blob import BlobServiceClient
    except ImportError as error:
        raise MissingDependencyError("AzureBlobAdapter needs: pip install 'holdall[cloudpath]'") from error
    return BlobServiceClient


class _Place:
    """A container and its client, in place of the path and the client that a `PathStore` is given."""

    cloud_prefix = "az://"
    content_type_method = staticmethod(guess_type)

    def __init__(self, container: str, client: Any) -> None:
        self.container, self.service_client, self.client = container, client, self

    def __str__(self) -> str:
        return f"az://{self.container}"

    __repr__ = __str__


class _AzureContainer(_Azure):
    """A container whose writes compare ETags, which Azure does in the request that publishes the blob."""

    can = _Azure.can | Can.CREATE | Can.SWAP | Can.CONDITIONAL_DELETE

    _owns_client = False

    def __reduce__(self) -> NoReturn:
        raise UnsupportedOperation("a container of Azure holds a key, and can't be pickled")

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if expect is ANY:
            return super()._write(key, body, expect, attributes)
        from azure.storage.blob import ContentSettings

        kind: Any = self._kind("content_type", key)
        options = {"content_settings": ContentSettings(**kind), **self._comparing(expect)}
        data, blob = join_pieces(iter(body)), self._blob(key)
        if len(data) <= _SINGLE:
            sent = self._compared(key, expect, lambda: blob.upload_blob(data, overwrite=True, **options))
        else:
            sent = self._compared(key, expect, lambda: _staged(blob, BytesIO(data), options, self._options))
        return _azure_info(key, len(data), sent)

    def _delete(self, key: str, expect: Expect) -> bool:
        if expect is ANY:
            return super()._delete(key, expect)
        blob = self._blob(key)
        self._compared(key, expect, lambda: blob.delete_blob(**self._comparing(expect)))
        return True

    def _comparing(self, expect: Expect) -> dict[str, Any]:
        from azure.core import MatchConditions

        options = {**self._options, **_ONCE}
        if expect is ABSENT:
            return {**options, "match_condition": MatchConditions.IfMissing}
        return {**options, "etag": f'"{expect}"', "match_condition": MatchConditions.IfNotModified}

    def _compared(self, key: str, expect: Expect, call: Any) -> Any:
        try:
            return self._call("write", call)
        except _ChangedError as error:
            raise _lost(key, expect) from error
        except StoreError as error:
            cause: Any = error.__cause__
            if getattr(cause, "status_code", None) == 404 and isinstance(expect, str):
                raise _lost(key, expect) from error
            known: Any = getattr(cause, "error_code", None)
            if getattr(known, "value", known) == "BlobAlreadyExists":
                raise _lost(key, expect) from error
            raise

    def _close(self) -> None:
        super()._close()
        if self._owns_client:
            self._client.service_client.close()


def _lost(key: str, expect: Expect) -> ConcurrencyError:
    if expect is ABSENT:
        return BlobExistsError(key=key)
    return ConcurrencyError("it changed or was deleted since it was read", key=key, expected=str(expect))
