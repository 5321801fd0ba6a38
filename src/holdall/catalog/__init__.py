"""The catalogue: Python objects with metadata, deduplicated and queryable."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.blobs import BlobBackend, FilesystemBlobBackend, MemoryBlobBackend
from holdall.catalog.entry import Entry, Input, Stored
from holdall.catalog.lineage import Lineage
from holdall.catalog.moving import Moved
from holdall.catalog.names import Lease
from holdall.catalog.store import BlobStore
from holdall.catalog.upkeep import Collection, Verification
from holdall.catalog.usage import Share, Usage

if TYPE_CHECKING:
    from holdall.catalog.aio import AsyncCatalog

__all__ = [
    "AsyncCatalog",
    "BlobBackend",
    "BlobStore",
    "Collection",
    "Entry",
    "FilesystemBlobBackend",
    "Input",
    "Lease",
    "Lineage",
    "MemoryBlobBackend",
    "MetadataBackend",
    "Moved",
    "Share",
    "Stored",
    "Transaction",
    "Usage",
    "Verification",
]


def __getattr__(name: str) -> Any:
    # It brings asyncio, which takes longer than all the rest.
    if name == "AsyncCatalog":
        return import_module("holdall.catalog.aio").AsyncCatalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
