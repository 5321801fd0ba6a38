"""Blobs in the memory of this process."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from holdall.dicts.base import B, BlobDict


class InMemoryBlobDict(BlobDict[B]):
    """A blob dict in the memory of this process.

    Args:
        data_dict: Blobs to begin with; they are copied.
        ttl: How long a blob lives, in seconds or as a timedelta; None means forever.
        blob_class: As in `BlobDict`.
        blob_class_args: As in `BlobDict`.

    >>> from holdall.blobs import JsonDictBlob
    >>> d = InMemoryBlobDict(ttl=60)
    >>> d["settings.json"] = JsonDictBlob({"volume": 11})
    >>> d.pop("settings.json").as_dict(), "settings.json" in d
    ({'volume': 11}, False)
    """

    def __init__(
        self,
        data_dict: Mapping[str, B] | None = None,
        *,
        ttl: float | timedelta | None = None,
        blob_class: type[B] | None = None,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        from holdall.stores.memory import MemoryStore

        store = MemoryStore()
        super().__init__(store, ttl=ttl, blob_class=blob_class, blob_class_args=blob_class_args)
        self._owned = store
        if data_dict is not None:
            self.update(data_dict)
