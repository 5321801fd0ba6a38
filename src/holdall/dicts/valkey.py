"""Blobs in Valkey or Redis."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from holdall.blobs import BytesBlob, StrBlob
from holdall.dicts.base import B, BlobDict


class ValkeyBlobDict(BlobDict[B]):
    """A blob dict in Valkey or Redis. It leaves alone whatever else the server holds.

    Args:
        server: Its URL, such as `valkey://user:password@host:port/database`, or a client of valkey-py or
            redis-py, which stays open.
        ttl: How long a blob lives, in seconds or as a timedelta; the server deletes it. None means forever.
        prefix: The start of the names of all that it keeps in the server. Other names aren't touched.
        str_blob_only: Whether only `StrBlob`s are put, as `blob_class=StrBlob` says too.
        client_kwargs: Arguments for a client of valkey-py or redis-py, instead of `server`.
        compression: As in `BlobDict`.
        blob_class: As in `BlobDict`.
        blob_class_args: As in `BlobDict`.

    >>> ValkeyBlobDict("valkey://db.example.org", ttl=60)
    ValkeyBlobDict(ExpiringStore(ValkeyStore('valkey://db.example.org:6379'), ttl=60.0))
    """

    def __init__(
        self,
        server: Any = "valkey://localhost:6379",
        *,
        ttl: float | timedelta | None = None,
        prefix: str = "holdall:",
        str_blob_only: bool = False,
        client_kwargs: Mapping[str, Any] | None = None,
        compression: bool | str = False,
        blob_class: type[B] | None = None,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        from holdall.stores.valkey import ValkeyStore

        if client_kwargs is not None:
            server = _client(client_kwargs)
        if str_blob_only and blob_class in (None, BytesBlob):
            blob_class = cast(Any, StrBlob)
        store = ValkeyStore(server, prefix=prefix)
        super().__init__(
            store, compression=compression, ttl=ttl, blob_class=blob_class, blob_class_args=blob_class_args
        )
        self._owned = store


VulkeyBlobDict = ValkeyBlobDict


def _client(arguments: Mapping[str, Any]) -> Any:
    """Return a client of the library that is installed; it connects when it is first used."""
    from holdall.stores.valkey.connecting import driver

    library = driver()
    return (library.Redis if library.__name__ == "redis" else library.Valkey)(**arguments)
