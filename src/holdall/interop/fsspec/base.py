"""The place of a file system of fsspec: its store, and which URLs are of it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, cast
from weakref import WeakValueDictionary

from holdall.errors import InvalidArgumentError, UnsupportedOperation
from holdall.interop.fsspec.transaction import Transaction
from holdall.interop.fsspec.urls import PROTOCOLS, Located, holds_secret, is_url, join, relative, split, strip
from holdall.interop.loading import load, open_store
from holdall.store import Store

asyn = load("fsspec.asyn")
_AsyncFileSystem: Any = asyn.AsyncFileSystem

CACHING = frozenset(
    {"block_size", "cache_options", "cache_type", "default_block_size", "default_cache"}
    | {"default_cache_type", "fill_cache", "max_blocks", "size"}
)
"""Options of readers that read ahead and keep what they read. Here they read ahead in their own way, and keep
nothing."""
_OF_FSSPEC = CACHING.union(
    {"asynchronous", "auto_mkdir", "batch_size", "expand", "listings_expiry_time", "loop", "max_paths"},
    {"anon", "skip_instance_cache", "use_listings_cache"},
)
"""Storage options that fsspec, and the libraries that use it, give to every file system. pandas tries again
with `anon` where it may not write."""


class _Folders(set[str]):
    """The folders that were made in a place, for all file systems of it in this process."""


_folders: WeakValueDictionary[str, _Folders] = WeakValueDictionary()


class _Strip:
    """`_strip_protocol`: the class splits any URL, and a file system refuses the URL of another store."""

    def __get__(self, fs: Base | None, kind: type[Base]) -> Callable[[Any], Any]:
        return strip if fs is None else fs._key


class Base(_AsyncFileSystem):
    """A file system of fsspec with a store, and no calls yet."""

    protocol = PROTOCOLS
    root_marker = ""
    cachable = False
    mirror_sync_methods = False
    transaction_type = Transaction
    _strip_protocol: Any = _Strip()

    def __init__(self, store: Store | str | os.PathLike[str] | None = None, **storage_options: Any) -> None:
        if store is None:
            raise InvalidArgumentError(
                "a URL holdall://KEY lacks the store: give the storage option 'store' (a Store, or its URI), "
                "or write the URI of the value after 'holdall+', as in holdall+sqlite:///data.db#KEY"
            )
        _check_options(storage_options)
        _forget_dead_loop()
        _AsyncFileSystem.__init__(self, **storage_options)
        self.store: Store = open_store(store, "the storage option 'store'")
        self._uri = store if isinstance(store, str) and "://" in store else None
        self._has_own_loop = storage_options.get("loop") is not None
        self._aio = self.store.aio
        self._same: dict[str, bool] = {}
        self._begun: dict[str, object] = {}
        self._folders = _folders.setdefault(self.store.token, _Folders())

    def __repr__(self) -> str:
        # A debugger shows one whose constructor failed.
        return f"{type(self).__name__}({getattr(self, 'store', '...')!r})"

    def __reduce__(self) -> Any:
        # A store whose password would be in the pickle refuses. Its URI, which is pickled, has the same one.
        pickle.dumps(self.store)
        return _AsyncFileSystem.__reduce__(self)

    @property
    def fsid(self) -> str:
        return f"holdall_{self.store.token}"

    @property
    def _fs_token(self) -> str:
        return self.store.token

    @property
    def loop(self) -> Any:
        if self._pid != os.getpid() and not self._has_own_loop:
            # In the child of a fork fsspec has another loop, and the store begins anew as well.
            _forget_dead_loop()
            self._pid: int = os.getpid()
            self._loop: Any = None if self.asynchronous else asyn.get_loop()
        return _AsyncFileSystem.loop.fget(self)

    def _key(self, path: Any) -> Any:
        """Return the key of a path or a URL, or those of a list.

        Raises:
            InvalidArgumentError: The URL is of another store.
        """
        if type(path) is str and not path.startswith("holdall"):
            return path.strip("/")
        if isinstance(path, list):
            return [self._key(each) for each in cast("list[Any]", path)]
        key = strip(path)
        if not isinstance(key, Located):
            return key
        return str(key) if key.place == self._uri else self._key_elsewhere(key)

    def _key_elsewhere(self, key: Located) -> str:
        # fsspec opens the store of the first URL of several, or the one that was registered for all.
        inner = relative(key.place, key, self._uri) if self._uri else None
        if inner is not None:
            return inner
        if key.place not in self._same:
            with Store.from_uri(key.place) as other:
                self._same[key.place] = other.token == self.store.token
        if not self._same[key.place]:
            raise InvalidArgumentError(
                f"this URL is of another store, or has other options, than {self.store!r}: use one file "
                "system for each store, or one of a folder that all files are in",
                key=str(key),
            )
        return str(key)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"store": split(path)[0]} if is_url(path) else {}

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path; one without the store if the URI of the store isn't known, or has a
        secret."""
        key = self._key(name)
        # Libraries print it, and DuckDB has a column of it.
        is_bare = self._uri is None or holds_secret(self._uri)
        return f"holdall://{key}" if is_bare else join(cast(str, self._uri), key)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return what makes the same file system, for JSON.

        Args:
            include_password: Whether the URI of the store may hold a password or another secret.

        Raises:
            UnsupportedOperation: It was made of a store that is open, or its URI holds a secret.
        """
        given = self.storage_args[0] if self.storage_args else self.storage_options["store"]
        if isinstance(given, Store):
            raise UnsupportedOperation(
                "a file system of a store that is open has no JSON: make it of the URI of the store"
            )
        if not include_password and holds_secret(str(given)):
            raise UnsupportedOperation(
                "the URI of this file system's store holds a secret: give a reference, as in "
                "'?password=env:NAME', or the name of a store in holdall.toml"
            )
        return _AsyncFileSystem.to_dict(self, include_password=include_password)


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse an option that isn't known: fsspec would drop it, and `durable` with it."""
    for name in options:
        if name not in _OF_FSSPEC:
            raise InvalidArgumentError(
                f"a holdall file system has no storage option {name!r}: it has 'store'; an option of the "
                f"store belongs in the URI, as in holdall+sqlite:///data.db?{name}=...#KEY"
            )


def _forget_dead_loop() -> None:
    """After a fork, let fsspec begin another event loop. Older ones keep that of the parent, and hang."""
    thread = asyn.iothread[0]
    if thread is not None and not thread.is_alive():
        asyn.reset_lock()
