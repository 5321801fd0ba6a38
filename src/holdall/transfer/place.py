"""Which store this is: for a journal to know it again, and to refuse a transfer into itself."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary

from holdall.errors import InvalidArgumentError, UnsupportedOperation
from holdall.layers.layer import Layer
from holdall.layers.prefix import PrefixStore
from holdall.store import Store
from holdall.stores.filesystem import FilesystemStore
from holdall.transfer.compare import Selection

__all__ = ["identity", "refuse_overlap"]

_process = os.urandom(8).hex()
_tokens: WeakKeyDictionary[Store, str] = WeakKeyDictionary()


def identity(store: Store) -> object:
    """What names a store in any process, as JSON, without its secrets.

    A store that lives in this process alone is named for as long as it does.
    """
    kind = type(store)
    if kind.__reduce__ not in (Store.__reduce__, Layer.__reduce__):
        return [kind.__qualname__, _process, os.getpid(), repr(store.__reduce__()[1])]
    try:
        settings = store._settings()
    except UnsupportedOperation:
        return [kind.__qualname__, _process, os.getpid(), _tokens.setdefault(store, os.urandom(8).hex())]
    known = {name: _named(value) for name, value in settings.items() if name not in kind._secrets}
    return [kind.__qualname__, known]


def _named(value: object) -> object:
    if isinstance(value, Store):
        return identity(value)
    if value is None or isinstance(value, str | int | float):
        return value.name if isinstance(value, enum.Enum) else value
    if isinstance(value, Mapping):
        return {str(name): _named(each) for name, each in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_named(each) for each in cast("list[object]", value)]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    # A function or an object of somebody's: its address is another one in each process.
    kind: Any = value if callable(value) else type(value)
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', type(kind).__qualname__)}"


def refuse_overlap(source: Store, target: Store, selection: Selection, journal: str | None) -> None:
    """Refuse a transfer whose writes would be among what it reads, where that can be seen.

    Raises:
        InvalidArgumentError: They would.
    """
    (source_root, source_path), (target_root, target_path) = _region(source), _region(target)
    if source_root == target_root:
        read, written = source_path + selection.prefix, target_path + selection.prefix
        if read.startswith(written) or written.startswith(read):
            raise InvalidArgumentError(
                "source and target are the same store, or one lies inside the other; choose two that don't "
                "overlap, or a prefix"
            )
    if source_root == _FILES and (file := _path(target)):
        _refuse_inside(source_path, file, selection, "the target", "the source")
    if journal is not None:
        for root, path, name in (
            (source_root, source_path, "the source"),
            (target_root, target_path, "the target"),
        ):
            if root == _FILES:
                _refuse_inside(path, os.path.realpath(journal), selection, "the journal", name)


def _refuse_inside(folder: str, file: str, selection: Selection, what: str, where: str) -> None:
    for name in (file, f"{file}-wal"):
        if name.startswith(folder) and selection.selects(name[len(folder) :]):
            raise InvalidArgumentError(
                f"{what} ({file!r}) is a file in the folder of {where}, and would be one of its blobs; "
                "put it elsewhere"
            )


_FILES = "files"


def _region(store: Store) -> tuple[object, str]:
    """The store that holds all, and what its keys, or the paths of its files, begin with."""
    if isinstance(store, PrefixStore):
        root, path = _region(store._store)
        return root, path + store._prefix
    if type(store) is FilesystemStore:
        return _FILES, os.path.realpath(store._given).rstrip("/") + "/"
    return identity(store), ""


def _path(store: Store) -> str | None:
    """The file that holds a store, if it is one."""
    while isinstance(store, PrefixStore):
        store = store._store
    if type(store) is FilesystemStore:
        return None
    try:
        path = store._settings().get("path")
    except UnsupportedOperation:
        return None
    return os.path.realpath(path) if isinstance(path, str) else None
