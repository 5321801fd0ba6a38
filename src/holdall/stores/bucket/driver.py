"""obstore, for this process: what a fork inherits of it hangs."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

from holdall.errors import MissingDependencyError, StoreUnavailableError

__all__ = ["driver"]


class _Loaded(NamedTuple):
    process: int
    module: Any


_loaded: list[_Loaded] = []
"""The module that was loaded last comes last. None is ever freed: what it holds belongs to threads that may
not exist in this process."""


def driver() -> Any:
    """Return the extension module of obstore that this process may call.

    obstore keeps its threads in static variables, and a call in the child of a fork waits for threads that
    only the parent has. A second copy of the extension module has variables of its own, so that a child whose
    parent used obstore loads one, in some 10 ms.

    Raises:
        MissingDependencyError: obstore isn't installed.
        StoreUnavailableError: The child of a fork can't load a copy.
    """
    process = os.getpid()
    if _loaded and _loaded[-1].process == process:
        return _loaded[-1].module
    module: Any
    try:
        from obstore import _obstore as module  # pyright: ignore
    except ImportError as error:
        raise MissingDependencyError("a BucketStore needs obstore: pip install 'holdall[bucket]'") from error
    if _loaded:
        module = _copy_of(module)
    # Of two threads that come here at once, both may load a copy, and both copies work.
    _loaded.append(_Loaded(process, module))
    return module


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
