"""The catalogue: Python objects with metadata, deduplicated and queryable."""

from holdall.catalog.aio import AsyncCatalog
from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.blobs import BlobBackend, FilesystemBlobBackend, MemoryBlobBackend
from holdall.catalog.entry import Entry, Input, Stored
from holdall.catalog.lineage import Lineage
from holdall.catalog.moving import Moved
from holdall.catalog.names import Lease
from holdall.catalog.store import BlobStore
from holdall.catalog.upkeep import Collection, Verification
from holdall.catalog.usage import Share, Usage

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
