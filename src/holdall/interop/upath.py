"""Paths of universal-pathlib in a store (https://universal-pathlib.readthedocs.io)."""

from __future__ import annotations

import pickle
from typing import Any

from holdall.interop.fsspec import HoldallFileSystem
from holdall.interop.fsspec.urls import holds_secret, is_url, join
from holdall.interop.loading import load

__all__ = ["HoldallPath"]

_UPath: Any = load("upath").UPath

for _protocol in HoldallFileSystem.protocol:
    # A path is split by the file system that fsspec has loaded; with none it is split at each '/'.
    load("fsspec").register_implementation(_protocol, HoldallFileSystem, clobber=True)


class HoldallPath(_UPath):
    """What `UPath("holdall+sqlite:///x.db#a/b.txt")` makes: a path in a store, with the calls of pathlib."""

    __slots__ = ()

    @classmethod
    def _transform_init_args(cls, args: Any, protocol: str, storage_options: dict[str, Any]) -> Any:
        store = storage_options.get("store")
        if store is not None and args and isinstance(args[0], str) and is_url(args[0]):
            # What another path makes of a URL, as in `rename`, is in its store: universal-pathlib drops that
            # of the URL.
            args = (HoldallFileSystem(store)._key(args[0]), *args[1:])
        return args, protocol, storage_options

    def __reduce__(self) -> Any:
        # As the file system: one whose password would be in the pickle refuses.
        pickle.dumps(self.fs)
        return _UPath.__reduce__(self)

    def __str__(self) -> str:
        store: Any = self.storage_options.get("store")
        if self._relative_base is not None or not isinstance(store, str) or "://" not in store:
            return _UPath.__str__(self)
        # The text of other paths leaves the options out. Here they are the place, unless that has a secret.
        return _UPath.__str__(self) if holds_secret(store) else join(store, self.path)
