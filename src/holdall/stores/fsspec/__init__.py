"""A store in a file system of fsspec."""

from __future__ import annotations

from holdall.stores.fsspec.store import FsspecStore

__all__ = ["FsspecStore"]
