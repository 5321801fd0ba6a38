"""obstore, for this process: what a fork inherits of it hangs, and what it can't await."""

from __future__ import annotations

import os
import sys
from inspect import iscoroutinefunction
from typing import Any

from holdall.errors import MissingDependencyError, StoreUnavailableError, UnsupportedOperation
from holdall.forks import in_child

_loaded: list[Any] = []
"""The module of this process, once it is loaded."""
_kept: list[Any] = []
"""What is never freed: the modules of the processes that this one comes from, since what they hold belongs to
threads that don't exist in this process, and copies."""


@in_child
def _after_fork() -> None:
    _kept.extend(_loaded)
    _loaded.clear()


def driver() -> Any:
    """Return the extension module of obstore that this process may call.

    obstore keeps its threads in static variables, and a call in the child of a fork waits for threads that
    only the parent has. A second copy of the extension module has variables of its own, so that a child whose
    parent used obstore loads one, in some 10 ms.

    Raises:
        MissingDependencyError: obstore isn't installed.
        StoreUnavailableError: The child of a fork can't load a copy.
    """
    if _loaded:
        return _loaded[0]
    try:
        from obstore import _obstore as module  # pyright: ignore
    except ImportError as error:
        raise MissingDependencyError("a BucketStore needs obstore: pip install 'holdall[bucket]'") from error
    if _kept:
        module = _copy_of(module)
        _kept.append(module)
    # Of two threads that come here at once, both may load a copy. Both return the same one, since it takes no
    # clients of another.
    _loaded.append(module)
    return _loaded[0]


def _copy_of(module: Any) -> Any:
    from importlib.machinery import ExtensionFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    name = "obstore._obstore"
    try:
        if sys.platform != "linux":
            raise OSError("only Linux has files in memory")
        file = os.memfd_create("obstore", os.MFD_CLOEXEC)
        try:
            with open(module.__file__, "rb") as source:
                left = os.fstat(source.fileno()).st_size
                while left > 0:
                    left -= os.sendfile(file, source.fileno(), None, left)
            # The dynamic linker knows a library by its inode, so that this one is another.
            loader = ExtensionFileLoader(name, f"/proc/self/fd/{file}")
            spec = spec_from_loader(name, loader)
            assert spec is not None
            copy = module_from_spec(spec)
            loader.exec_module(copy)
        finally:
            os.close(file)
    except (OSError, ImportError) as error:
        raise StoreUnavailableError(
            "this process was forked by one that used a bucket, and obstore doesn't work in it; start "
            f"processes with the method 'spawn' or 'forkserver' instead ({error})"
        ) from error
    return copy


def is_asynchronous(provider: object) -> bool:
    """Return whether a call of this credential provider returns a coroutine, as far as that is known without
    one. Those of `obstore.auth` hold a session that belongs to the event loop in which they were made."""
    return iscoroutinefunction(provider) or iscoroutinefunction(getattr(provider, "__call__", None))  # noqa: B004


def asynchronous() -> UnsupportedOperation:
    """Return the error for a credential provider that must be awaited."""
    return UnsupportedOperation(
        "an asynchronous credential provider belongs to its event loop; give the client a plain function, as "
        "the providers of obstore.auth are that have no Async in their names"
    )
