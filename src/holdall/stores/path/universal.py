"""A store in a `UPath` of universal-pathlib that isn't in a cloud."""

from __future__ import annotations

from typing import Any

from holdall.errors import UnsupportedOperation
from holdall.stores.fsspec import FsspecStore
from holdall.stores.fsspec.options import secrets_of

__all__ = ["_UniversalStore"]


class _UniversalStore(FsspecStore):
    """A folder in a file system of fsspec, which travels as its path does."""

    def __init__(self, path: Any, system: Any) -> None:
        super().__init__(system, path.path)
        self._upath = path

    def __repr__(self) -> str:
        return f"PathStore({self._upath!r})" if hasattr(self, "_upath") else f"{type(self).__name__}(...)"

    def __reduce__(self) -> tuple[object, ...]:
        from holdall.stores.path.store import PathStore

        if self._memory is not None:
            return super().__reduce__()
        if secrets_of(self._given):
            raise UnsupportedOperation("the options of this path hold a secret, which is never pickled")
        return PathStore, (self._upath,)
