"""Where two stores lie: a transfer into itself is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator

from holdall.errors import InvalidArgumentError
from holdall.identity import FILES, leaves, path_of, region
from holdall.layers.layer import Layer
from holdall.layers.prefix import PrefixStore
from holdall.layers.readonly import ReadOnlyStore
from holdall.store import Store
from holdall.stores.filesystem import FilesystemStore
from holdall.transfer.compare import Selection


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
    places = list(leaves(target, selection.prefix))
    pairs += [
        (one, other)
        for one in leaves(source, selection.prefix)
        for other in places
        if deep or (one != other and one[0] == other[0] == FILES)
    ]
    for (one, read), (other, written) in pairs:
        if one == other and (
            read.startswith(written) or written.startswith(read) or (one == FILES and _mounted(read, written))
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
    return [path for root, path in leaves(store, "") if root == FILES]


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


def _bottoms(store: Store) -> Iterator[Store]:
    """Yield the stores that hold the bytes, below all layers."""
    if isinstance(store, Layer):
        for below in store._below:
            yield from _bottoms(below)
    else:
        yield store


def _places(store: Store) -> Iterator[str]:
    """Return the files that hold a store, and the folders of other stores than a `FilesystemStore`."""
    return (path for bottom in _bottoms(store) if (path := path_of(bottom)) is not None)


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
