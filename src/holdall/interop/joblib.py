"""A backend of `joblib.Memory` over any store; importing this module registers it as "holdall"
(https://joblib.readthedocs.io/en/stable/memory.html)."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from holdall.errors import InvalidArgumentError
from holdall.interop.loading import load
from holdall.store import Store

__all__ = ["HoldallStoreBackend"]

_joblib = load("joblib")
_backends = load("joblib._store_backends")
_Base: Any = _backends.StoreBackendBase
_Mixin: Any = _backends.StoreBackendMixin
_OPTIONS = ("store", "compress")
_SMALL = 1 << 20
_HASH = re.compile("[a-f0-9]{32}")


class HoldallStoreBackend(_Base, _Mixin):
    """What `joblib.Memory` keeps its results in, as blobs of a store.

    The keys begin with the location that `Memory` is given. A result is seen whole or not at all, so that
    processes that compute the same one at the same time leave one. `reduce_size` deletes what was written
    the longest time ago, since stores don't know what was read. joblib's pickles are read without a
    signature: give it only a store that nobody else writes to.

    `Memory` takes these `backend_options`:

    * `store`: the store, or a URI, a path or a name of `holdall.toml`.
    * `compress`: as for joblib's own backend.

    >>> import holdall, joblib, holdall.interop.joblib
    >>> store = holdall.MemoryStore()
    >>> memory = joblib.Memory("cache", backend="holdall", backend_options={"store": store}, verbose=0)
    >>> memory.cache(len)([1, 2]), memory.cache(len)([1, 2])
    (2, 2)
    >>> [key.rpartition("/")[2] for key in store]
    ['metadata.json', 'output.pkl', 'func_code.py']
    """

    location: str
    mmap_mode = None

    def configure(
        self, location: str, verbose: int = 1, backend_options: Mapping[str, Any] | None = None
    ) -> None:
        """Set the backend up, as `Memory` does."""
        options = dict(backend_options or {})
        # `Memory` adds its own argument of that name.
        if options.pop("mmap_mode", None) is not None:
            raise InvalidArgumentError("mmap_mode needs files: the results of this backend are blobs")
        unknown = ", ".join(map(repr, options.keys() - {*_OPTIONS}))
        if unknown or "store" not in options:
            raise InvalidArgumentError(
                f"backend_options has {', '.join(map(repr, _OPTIONS))}"
                + (f", not {unknown}" if unknown else "; 'store' is missing: a store, or its URI")
            )
        store = options["store"]
        self.store: Store = store if isinstance(store, Store) else Store.from_uri(store)
        self.location = os.fspath(location).strip("/")
        self.compress = options.get("compress", False)
        self.verbose = verbose

    def load_item(
        self,
        call_id: Sequence[str],
        verbose: int = 1,
        timestamp: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return a result that is kept; one that isn't is a `KeyError`."""
        if verbose > 1:
            return _Mixin.load_item(self, call_id, verbose, timestamp, metadata)
        # Without asking first whether it is there.
        with self._open_item(f"{self.location}/{'/'.join(call_id)}/output.pkl", "rb") as file:
            return _joblib.numpy_pickle.load(file)

    def _open_item(self, f: str, mode: str) -> IO[Any]:
        if mode == "rb":
            # joblib asks for a few bytes at a time, so a small blob is read by one call. Only results may be
            # large.
            if not f.endswith("/output.pkl"):
                return io.BytesIO(self.store[f])
            head = self.store.get_range(f, 0, _SMALL)
            if len(head) < _SMALL:
                return io.BytesIO(head)
        return self.store.open(f, mode)

    def _item_exists(self, location: str) -> bool:
        return self.store.exists(location) or (
            next(self.store.iterate_keys(location + "/"), None) is not None
        )

    object_exists = _item_exists

    def _concurrency_safe_write(
        self, to_write: object, filename: str, write_func: Callable[[object, str], None]
    ) -> None:
        # A blob is published whole when its file is closed.
        write_func(to_write, filename)

    def _move_item(self, src: str, dst: str) -> None:
        self.store.move(src, dst)

    def create_location(self, location: str) -> None:
        """Do nothing: folders are made of keys."""

    def clear_location(self, location: str) -> None:
        """Delete what is in a folder."""
        self.store.delete_prefix(location.strip("/") + "/")

    def get_items(self) -> list[Any]:
        """Return the results that are kept, with their sizes and when they were written."""
        sizes: dict[str, int] = {}
        written: dict[str, Any] = {}
        for info in self.store.list(self.location + "/"):
            folder, _, name = info.key.rpartition("/")
            if not _HASH.fullmatch(folder.rpartition("/")[2]):
                continue
            sizes[folder] = sizes.get(folder, 0) + info.size
            if name == "output.pkl" or folder not in written:
                # joblib compares it with the local time.
                written[folder] = info.modified.astimezone().replace(tzinfo=None)
        return [_backends.CacheItemInfo(folder, size, written[folder]) for folder, size in sizes.items()]


_joblib.register_store_backend("holdall", HoldallStoreBackend)
