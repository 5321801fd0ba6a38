"""The identities of stores: so a journal recognizes them, and a transfer into itself is refused."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary

from holdall.errors import InvalidArgumentError, UnsupportedOperation
from holdall.files import path_in
from holdall.layers.layer import Layer
from holdall.layers.prefix import PrefixStore
from holdall.layers.readonly import ReadOnlyStore
from holdall.store import Store
from holdall.stores.filesystem import FilesystemStore
from holdall.transfer.compare import Selection

_process = os.urandom(8).hex()
_tokens: WeakKeyDictionary[Store, str] = WeakKeyDictionary()


def identity(store: Store) -> object:
    """Return the identity of a store in any process, as JSON, without its secrets.

    The identity of a store in the memory of this process is valid as long as the store exists.
    """
    kind = type(store)
    if kind.__reduce__ not in (Store.__reduce__, Layer.__reduce__):
        return [kind.__qualname__, _process, os.getpid(), repr(store.__reduce__()[1])]
    try:
        settings = store._settings()
    except UnsupportedOperation:
        return [kind.__qualname__, _process, os.getpid(), _tokens.setdefault(store, os.urandom(8).hex())]
    known = {name: _spell(value) for name, value in settings.items() if name not in kind._secrets}
    return [kind.__qualname__, known]


def _spell(value: object) -> object:
    if isinstance(value, Store):
        return identity(value)
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _spell(each) for name, each in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_spell(each) for each in cast("list[object]", value)]
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    # The address of a function or an object differs in each process.
    return name_of(value if callable(value) else type(value))


def name_of(function: Any) -> str:
    """Return the module and the name of a function, a class or an object that can be called."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"


def refuse_overlap(
    source: Store,
    target: Store,
    selection: Selection,
    journal: str | None,
    *,
    deep: bool = False,
    deletes: bool = False,
) -> None:
    """Raise InvalidArgumentError for a transfer that would read its own writes, where that can be seen.

    Args:
        source: From where.
        target: To where.
        selection: The keys to transfer.
        journal: The path of the journal, if there is one.
        deep: Whether to refuse two layers over one place, too, for a transfer that deletes what it has read:
            two views of one store show equal blobs, and it would delete their only copy.
        deletes: Whether it deletes from the target, or from both.
    """
    pairs = [(region(source, selection.prefix), region(target, selection.prefix))]
    # Otherwise layers over one place may be filled from another, as a replica is; but a folder lists the
    # files of a folder in it under any layers.
    leaves = list(_leaves(target, selection.prefix))
    pairs += [
        (one, other)
        for one in _leaves(source, selection.prefix)
        for other in leaves
        if deep or (one != other and one[0] == other[0] == _FILES)
    ]
    for (one, read), (other, written) in pairs:
        if one == other and (
            read.startswith(written)
            or written.startswith(read)
            or (one == _FILES and _mounted(read, written))
        ):
            raise InvalidArgumentError(
                "source and target are the same store, or one lies inside the other; choose two that don't "
                "overlap, or a prefix"
            )
    # Layers list the files of others in their folder, too.
    read_in, written_in = _file_folders(source), _file_folders(target)
    for folder in read_in:
        for file in _places(target):
            _refuse_inside(folder, file, selection, "the target", "the source")
    for folder in written_in if deletes else ():
        for file in _places(source):
            _refuse_inside(folder, file, selection, "the source", "the target")
    if journal is not None:
        for folders, name in ((read_in, "the source"), (written_in, "the target")):
            for folder in folders:
                _refuse_inside(folder, os.path.realpath(journal), selection, "the journal", name)


def _file_folders(store: Store) -> list[str]:
    """Return the folders whose files a store lists, and the start of the files' names."""
    return [path for root, path in _leaves(store, "") if root == _FILES]


def _refuse_inside(folder: str, file: str, selection: Selection, what: str, where: str) -> None:
    meant, held = folder + selection.prefix, file + "/"
    for name in (file, f"{file}-wal"):
        if (name.startswith(folder) and selection.selects(name[len(folder) :])) or (
            os.path.isdir(file) and (meant.startswith(held) or held.startswith(meant))
        ):
            raise InvalidArgumentError(
                f"{what} ({file!r}) lies in the folder of {where}, and would be among its blobs; "
                "put it elsewhere"
            )


_FILES = "files"


def region(store: Store, tail: str = "") -> tuple[object, str]:
    """Return the store at the bottom, and the start of its keys, or of the paths of its files."""
    if isinstance(store, PrefixStore):
        return region(store._store, store._prefix + tail)
    if type(store) is FilesystemStore:
        return _FILES, os.path.realpath(store._given).rstrip("/") + "/" + tail
    # One file has many names, and stores in it may have different settings.
    if (path := _path(store)) is not None:
        try:
            found = os.stat(path)
        except OSError:
            return path, tail
        return (found.st_dev, found.st_ino), tail
    # One server, for any user; its keys begin with the prefix.
    try:
        settings = store._settings()
    except UnsupportedOperation:
        settings = {}
    if isinstance(server := settings.get("server"), str):
        return ("server", server.rpartition("@")[2]), f"{settings.get('prefix', '')}{tail}"
    return identity(store), tail


def _mounted(one: str, other: str) -> bool:
    """Return whether one folder is or contains the other by a mount that the paths don't show."""
    try:
        ends = [os.stat(os.path.dirname(path)) for path in (one, other)]
        for path, end in ((one, ends[1]), (other, ends[0])):
            folder = os.path.dirname(path)
            while folder != "/":
                if os.path.samestat(os.stat(folder), end):
                    return True
                folder = os.path.dirname(folder)
    except OSError:
        # A missing folder isn't part of the other store.
        pass
    return False


def _leaves(store: Store, tail: str) -> Iterator[tuple[object, str]]:
    """Return the stores that hold the bytes, below all layers, and the start of the keys in each."""
    if not isinstance(store, Layer):
        yield region(store, tail)
        return
    tail = store._place(tail)
    for below in store._below:
        yield from _leaves(below, tail)


def _bottoms(store: Store) -> Iterator[Store]:
    """Yield the stores that hold the bytes, below all layers."""
    if isinstance(store, Layer):
        for below in store._below:
            yield from _bottoms(below)
    else:
        yield store


def _places(store: Store) -> Iterator[str]:
    """Return the files that hold a store, and the folders of other stores than a `FilesystemStore`."""
    return (path for bottom in _bottoms(store) if (path := _path(bottom)) is not None)


def is_in_memory(store: Store) -> bool:
    """Return whether some of a store's bytes are in the memory of this process, out of reach of others."""
    return any(bottom.inline for bottom in _bottoms(store))


def is_folder(store: Store) -> bool:
    """Return whether a store is a folder or a part of one: any process of this machine can open it."""
    while isinstance(store, PrefixStore | ReadOnlyStore):
        store = store._store
    return isinstance(store, FilesystemStore)


def missing_place(store: Store) -> str | None:
    """Return the file or folder that holds a store if it is missing: such a store seems to be empty."""
    folders = [os.path.realpath(each._given) for each in _bottoms(store) if type(each) is FilesystemStore]
    places = [*folders, *_places(store)]
    if not places or any(map(os.path.lexists, places)):
        return None
    return places[0]


def has_ttl_of_its_own(store: Store) -> bool:
    """Return whether a layer, not the writer, decides when blobs expire."""
    if not isinstance(store, Layer):
        return False
    from holdall.layers.expiring import ExpiringStore

    return isinstance(store, ExpiringStore) or any(map(has_ttl_of_its_own, store._below))


def _path(store: Store) -> str | None:
    """Return the file or the folder that holds a store, if one does."""
    if type(store) is FilesystemStore:
        return None
    try:
        path = path_in(store._settings())
    except UnsupportedOperation:
        return None
    return None if path is None else os.path.realpath(path)
