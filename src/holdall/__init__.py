"""Any value in any storage, behind one dict-like key.

>>> import holdall
>>> store = holdall.Store.from_uri("memory://")
>>> store["greeting"] = b"hello"
>>> store["greeting"]
b'hello'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from holdall.aio.store import AsyncStore as AsyncStore
    from holdall.errors import BlobExistsError as BlobExistsError
    from holdall.errors import BlobNotFoundError as BlobNotFoundError
    from holdall.errors import ConcurrencyError as ConcurrencyError
    from holdall.errors import IntegrityError as IntegrityError
    from holdall.errors import InvalidArgumentError as InvalidArgumentError
    from holdall.errors import InvalidDataError as InvalidDataError
    from holdall.errors import InvalidKeyError as InvalidKeyError
    from holdall.errors import KeyConflictError as KeyConflictError
    from holdall.errors import MissingDependencyError as MissingDependencyError
    from holdall.errors import PartialWriteError as PartialWriteError
    from holdall.errors import ReadOnlyError as ReadOnlyError
    from holdall.errors import SerializationError as SerializationError
    from holdall.errors import StoreClosedError as StoreClosedError
    from holdall.errors import StoreError as StoreError
    from holdall.errors import StoreUnavailableError as StoreUnavailableError
    from holdall.errors import UnsupportedOperation as UnsupportedOperation
    from holdall.errors import UntrustedDataError as UntrustedDataError
    from holdall.layers.prefix import PrefixStore as PrefixStore
    from holdall.layers.readonly import ReadOnlyStore as ReadOnlyStore
    from holdall.store import ABSENT as ABSENT
    from holdall.store import ANY as ANY
    from holdall.store import Attributes as Attributes
    from holdall.store import Can as Can
    from holdall.store import Info as Info
    from holdall.store import Store as Store
    from holdall.stores.filesystem import FilesystemStore as FilesystemStore
    from holdall.stores.hashdir import HashdirStore as HashdirStore
    from holdall.stores.memory import DictStore as DictStore
    from holdall.stores.memory import MemoryStore as MemoryStore
    from holdall.stores.sqlite import SqliteStore as SqliteStore
    from holdall.stores.zip import ZipStore as ZipStore

    ObjectStore = Store

_MODULES = {
    "aio.store": ("AsyncStore",),
    "errors": (
        "BlobExistsError",
        "BlobNotFoundError",
        "ConcurrencyError",
        "IntegrityError",
        "InvalidArgumentError",
        "InvalidDataError",
        "InvalidKeyError",
        "KeyConflictError",
        "MissingDependencyError",
        "PartialWriteError",
        "ReadOnlyError",
        "SerializationError",
        "StoreClosedError",
        "StoreError",
        "StoreUnavailableError",
        "UnsupportedOperation",
        "UntrustedDataError",
    ),
    "layers.prefix": ("PrefixStore",),
    "layers.readonly": ("ReadOnlyStore",),
    "store": ("ABSENT", "ANY", "Attributes", "Can", "Info", "Store"),
    "stores.filesystem": ("FilesystemStore",),
    "stores.hashdir": ("HashdirStore",),
    "stores.memory": ("DictStore", "MemoryStore"),
    "stores.sqlite": ("SqliteStore",),
    "stores.zip": ("ZipStore",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*sorted([*_HOME, "ObjectStore"]), "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name == "ObjectStore":
        value = __getattr__("Store")
    elif name in _HOME:
        value = getattr(import_module(f"holdall.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'holdall' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
