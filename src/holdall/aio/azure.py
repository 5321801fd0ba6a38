"""Azure's containers, as an `AsyncBlobStore` takes them."""

from __future__ import annotations

import re
from typing import Any, NoReturn, Self, cast

from holdall.arguments import check_type
from holdall.errors import InvalidArgumentError, InvalidTypeError, UnsupportedOperation
from holdall.store import Store
from holdall.stores.bucket import BucketStore
from holdall.stores.bucket.connection import parse_connection

__all__ = ["AzureBlobAdapter"]

_is_container = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*|\$root|\$web").fullmatch


class AzureBlobAdapter:
    """Containers of an account of Azure Blob Storage. They must exist.

    Args:
        client: A `BlobServiceClient` of azure-storage-blob, whose settings and credentials are taken over; it
            stays open. `from_connection_string` needs none.
    """

    def __init__(self, client: Any) -> None:
        kind, module = type(client).__name__, type(client).__module__
        if kind != "BlobServiceClient" or not module.startswith("azure.storage.blob"):
            raise InvalidTypeError(
                f"an AzureBlobAdapter takes an azure.storage.blob.BlobServiceClient, not {module}.{kind}; "
                "for a connection string, call AzureBlobAdapter.from_connection_string"
            )
        self._client, self._settings = client, dict[str, str]()

    @classmethod
    def from_connection_string(cls, connection_string: str) -> Self:
        """Take the account and its key of a connection string, as the Azure portal shows it.

        Raises:
            InvalidArgumentError: This isn't one. The message doesn't show it, since it holds a key.
        """
        if not isinstance(cast(object, connection_string), str):
            raise InvalidTypeError(
                f"a connection string must be a str, not {type(connection_string).__name__}; "
                "is the environment variable set?"
            )
        adapter = object.__new__(cls)
        adapter._client, adapter._settings = None, parse_connection(connection_string)
        return adapter

    def get_container(self, container_name: str) -> Store:
        """Return a container. Its name is one of Azure's: 3 to 63 lowercase letters, digits and single
        hyphens.

        Raises:
            MissingDependencyError: obstore isn't installed.
        """
        check_type(container_name, str, "the name of a container must be a str")
        if not _is_container(container_name):
            raise InvalidArgumentError(
                f"{container_name!r} can't be the name of a container in Azure: it has 3 to 63 lowercase "
                "letters, digits and single hyphens, with a letter or digit at both ends"
            )
        if self._client is not None:
            return BucketStore.from_client(self._client, container_name)
        held = self._settings
        return BucketStore(
            f"az://{container_name}",
            account=held["account_name"],
            endpoint=held["endpoint"],
            secret=held.get("account_key") or held["sas_key"],
        )

    def __repr__(self) -> str:
        account = self._settings["account_name"] if self._client is None else self._client.account_name
        return f"AzureBlobAdapter({account!r})"

    def __reduce__(self) -> NoReturn:
        raise UnsupportedOperation(
            "an AzureBlobAdapter holds a key, which is never pickled; make one in each process"
        )
