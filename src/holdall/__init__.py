"""Any value in any storage, behind one dict-like key.

>>> import holdall
>>> store = holdall.Store.from_uri("memory://")
>>> store["greeting"] = b"hello"
>>> store["greeting"]
b'hello'
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# As Python's logging asks of libraries: nothing is printed unless the program sets logging up.
logging.getLogger("holdall").addHandler(logging.NullHandler())

if TYPE_CHECKING:
    # A star stands for all that a module lists as its own.
    from holdall import aio as aio
    from holdall.aio.adapters import *
    from holdall.aio.azure import AzureBlobAdapter as AzureBlobAdapter
    from holdall.aio.blobstore import *
    from holdall.aio.named import *
    from holdall.aio.store import AsyncStore as AsyncStore
    from holdall.blobs import AudioBlob as AudioBlob
    from holdall.blobs import AudioData as AudioData
    from holdall.blobs import BytesBlob as BytesBlob
    from holdall.blobs import ImageBlob as ImageBlob
    from holdall.blobs import JsonDictBlob as JsonDictBlob
    from holdall.blobs import JsonModelBlob as JsonModelBlob
    from holdall.blobs import StrBlob as StrBlob
    from holdall.blobs import VideoBlob as VideoBlob
    from holdall.blobs import YamlDictBlob as YamlDictBlob
    from holdall.catalog import BlobStore as BlobStore
    from holdall.catalog import FilesystemBlobBackend as FilesystemBlobBackend
    from holdall.dicts import *
    from holdall.errors import *
    from holdall.layers.caching import *
    from holdall.layers.checksum import ChecksumStore as ChecksumStore
    from holdall.layers.compressed import CompressedStore as CompressedStore
    from holdall.layers.encrypted import EncryptedStore as EncryptedStore
    from holdall.layers.encrypted import RotationReport as RotationReport
    from holdall.layers.expiring import ExpiringStore as ExpiringStore
    from holdall.layers.fanout import FanoutStore as FanoutStore
    from holdall.layers.notifying import *
    from holdall.layers.prefix import PrefixStore as PrefixStore
    from holdall.layers.readonly import ReadOnlyStore as ReadOnlyStore
    from holdall.layers.replicas import Repair as Repair
    from holdall.layers.replicas import ReplicaDifference as ReplicaDifference
    from holdall.layers.routed import RoutedStore as RoutedStore
    from holdall.layers.traced import TracedStore as TracedStore
    from holdall.memoize import Cached as Cached
    from holdall.memoize import CacheInfo as CacheInfo
    from holdall.memoize import cached as cached
    from holdall.opening import get_store as get_store
    from holdall.resource import Resource as Resource
    from holdall.spans import Span as Span
    from holdall.store import ABSENT as ABSENT
    from holdall.store import ANY as ANY
    from holdall.store import Attributes as Attributes
    from holdall.store import Can as Can
    from holdall.store import Info as Info
    from holdall.store import Item as Item
    from holdall.store import LeftOut as LeftOut
    from holdall.store import Store as Store
    from holdall.stores.bucket import BucketStore as BucketStore
    from holdall.stores.filesystem import FilesystemStore as FilesystemStore
    from holdall.stores.fsspec import FsspecStore as FsspecStore
    from holdall.stores.git import *
    from holdall.stores.hashdir import HashdirStore as HashdirStore
    from holdall.stores.http import HttpStore as HttpStore
    from holdall.stores.memory import *
    from holdall.stores.path import PathStore as PathStore
    from holdall.stores.sql import SqlStore as SqlStore
    from holdall.stores.sqlite import SqliteStore as SqliteStore
    from holdall.stores.valkey import ValkeyStore as ValkeyStore
    from holdall.stores.zip import ZipStore as ZipStore
    from holdall.transfer import *
    from holdall.values.store import ValueStore as ValueStore
    from holdall.virtual import open_virtual as open_virtual

    ObjectStore = Store

_MODULES = {
    "aio.adapters": "BlobAdapter LocalFileAdapter StoreAdapter",
    "aio.azure": "AzureBlobAdapter",
    "aio.blobstore": "AsyncBlobStore ConcurrencyMode",
    "aio.named": (
        "AsyncBucketStore AsyncCachingStore AsyncFanoutStore AsyncFilesystemStore AsyncGitStore "
        "AsyncHashdirStore AsyncHttpStore AsyncMemoryStore AsyncPathStore AsyncSqlStore AsyncSqliteStore "
        "AsyncValkeyStore AsyncZipStore"
    ),
    "aio.store": "AsyncStore",
    "blobs": (
        "AudioBlob AudioData BytesBlob ImageBlob JsonDictBlob JsonModelBlob StrBlob VideoBlob YamlDictBlob"
    ),
    "catalog": "BlobStore FilesystemBlobBackend",
    "dicts": (
        "BlobDict GitBlobDict InMemoryBlobDict LocalPath MultiReplicaBlobDict PathBlobDict ValkeyBlobDict "
        "VulkeyBlobDict"
    ),
    "errors": (
        "BlobExistsError BlobNotFoundError ConcurrencyError DeleteRefusedError IntegrityError "
        "InvalidArgumentError InvalidDataError InvalidKeyError InvalidKeyTypeError InvalidTypeError "
        "KeyConflictError LockHeldError LockLostError MissingDependencyError PartialWriteError "
        "ProtectedError ReadOnlyError SerializationError StoreClosedError StoreError StoreUnavailableError "
        "SyncConflictError TransferError UnsupportedOperation UntrustedDataError WrongKeyError"
    ),
    "layers.caching": "CacheMode CacheStats CachingStore SyncReport",
    "layers.checksum": "ChecksumStore",
    "layers.compressed": "CompressedStore",
    "layers.encrypted": "EncryptedStore RotationReport",
    "layers.expiring": "ExpiringStore",
    "layers.fanout": "FanoutStore",
    "layers.replicas": "Repair ReplicaDifference",
    "layers.notifying": "Change NotifyingStore",
    "layers.prefix": "PrefixStore",
    "layers.readonly": "ReadOnlyStore",
    "layers.routed": "RoutedStore",
    "layers.traced": "TracedStore",
    "memoize": "CacheInfo Cached cached",
    "opening": "get_store",
    "resource": "Resource",
    "spans": "Span",
    "store": "ABSENT ANY Attributes Can Info Item LeftOut Store",
    "stores.bucket": "BucketStore",
    "stores.filesystem": "FilesystemStore",
    "stores.fsspec": "FsspecStore",
    "stores.git": "GitRevision GitStore Revision",
    "stores.hashdir": "HashdirStore",
    "stores.http": "HttpStore",
    "stores.memory": "DictStore MemoryStore",
    "stores.path": "PathStore",
    "stores.sql": "SqlStore",
    "stores.sqlite": "SqliteStore",
    "stores.valkey": "ValkeyStore",
    "stores.zip": "ZipStore",
    "virtual": "open_virtual",
    "transfer": (
        "Action Difference Plan Report Shard copy_store diff_stores move_store sync_stores verify_store"
    ),
    "values.store": "ValueStore",
}
"""The names of each module."""
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [*sorted([*_HOME, "ObjectStore"]), "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name == "ObjectStore":
        value = __getattr__("Store")
    elif name == "aio":
        return import_module("holdall.aio")
    elif name in _HOME:
        value = getattr(import_module(f"holdall.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'holdall' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
