"""The async faces of stores: `AsyncStore`, the names that open one, and transfers as coroutines.

>>> import asyncio
>>> from holdall import MemoryStore, aio
>>> asyncio.run(aio.sync_stores(MemoryStore({"a": b"1"}), aio.AsyncMemoryStore())).copied
1
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from holdall import _MODULES as _ALL

if TYPE_CHECKING:
    # A star stands for all that a module lists as its own.
    from holdall.aio.adapters import *
    from holdall.aio.blobstore import *
    from holdall.aio.named import *
    from holdall.aio.opening import open as open  # noqa: A004 - the name users call
    from holdall.aio.store import *
    from holdall.aio.transfer import *
    from holdall.aio.values import AsyncValueStore as AsyncValueStore

_MODULES = {
    **{name: _ALL[f"aio.{name}"] for name in ("adapters", "blobstore", "named")},
    "opening": "open",
    "store": "AsyncFile AsyncStore",
    "values": "AsyncValueStore",
    "transfer": "copy_store diff_stores move_store sync_stores verify_store",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'holdall.aio' has no attribute {name!r}")
    value = getattr(import_module(f"holdall.aio.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
