"""Copy, sync, move, compare and check whole stores.

`compare` says when two blobs with the same key are equal. `"auto"`: equal sizes, and equal digests if both
stores know them, otherwise equal contents, for which both blobs are read; with a journal only those that
changed. `"size"`; `"modified"` (equal sizes, and the target's isn't older); `"etag"` (for two handles of one
store; ETags of different stores are never equal); `"content"` (always read); or a function of both `Info`s
that returns True for equal blobs.

`journal` is the path of a file (SQLite, readable only by its owner) that records the progress. A run that was
stopped is finished first, without repeating its copies; then both stores are listed again for later changes.
A later run with the same journal doesn't compare contents that it knows to be equal.

`executor` is a `concurrent.futures.Executor`, or another object with its `submit`, such as a client of Dask:
copies are made there, in shards of the plan; the stores are sent there by pickle. Or `"process"`: between two
folders, with a thousand blobs to copy and two processors or more, a `ProcessPoolExecutor` is started;
otherwise, or if that fails, this process makes all copies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal, Unpack, overload

from holdall.arguments import check_count
from holdall.spans import Span
from holdall.store import Store
from holdall.transfer.compare import Compare, Difference, Globs, Selection
from holdall.transfer.options import Options, Progress, SyncOptions, Where
from holdall.transfer.plan import Plan
from holdall.transfer.report import Report
from holdall.transfer.run import Job
from holdall.transfer.shard import Shard
from holdall.transfer.spread import new_stop
from holdall.transfer.step import Action

__all__ = [
    "Action",
    "Difference",
    "Plan",
    "Report",
    "Shard",
    "copy_store",
    "diff_stores",
    "move_store",
    "sync_stores",
    "verify_store",
]


@overload
def copy_store(
    source: Store, target: Store, *, dry_run: Literal[False] = False, **options: Unpack[Options]
) -> Report: ...
@overload
def copy_store(
    source: Store, target: Store, *, dry_run: Literal[True], **options: Unpack[Options]
) -> Plan: ...
@overload
def copy_store(
    source: Store, target: Store, *, dry_run: bool, **options: Unpack[Options]
) -> Report | Plan: ...
def copy_store(
    source: Store,
    target: Store,
    *,
    prefix: str | Span = "",
    glob: Globs = None,
    exclude: Globs = None,
    where: Where | None = None,
    compare: Compare = "auto",
    verify: bool = True,
    replace_unreadable: bool = False,
    jobs: int | None = None,
    dry_run: bool = False,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    executor: Any = None,
) -> Report | Plan:
    """Copy each blob that the target lacks or holds with different bytes. Nothing is deleted.

    Everything is planned before anything is touched. A key that fails doesn't stop the others: it is in the
    report, and logged. A blob that another writer changes in the target after it was listed isn't overwritten
    if the target `can` SWAP and CREATE; that key fails. If the target `can` BULK, small new blobs are written
    together, just after a look that they are still absent. A blob of the target that can't be read, being
    damaged or encrypted with another key, isn't replaced: that key fails. So does a key where the target has
    something that isn't a blob, such as a symbolic link. In the source these are counted as `left_out`.

    Args:
        source: The store to read; it must be able to LIST.
        target: The store to write.
        prefix: Only keys that start with this string, or belong to this span of `Store.split`.
        glob: Only keys that match, as in `Store.list`; with several globs, keys that match one of them.
        exclude: A glob or several: keys that match one, or lie in a folder that matches, are neither copied
            nor deleted. `".git"` excludes a folder with its contents, `"**/*.tmp"` files in all folders.
        where: Only blobs for which this function returns true. It is called with the `Info` of the source's
            blob, or of the target's if only the target has the key.
        compare: When two blobs with the same key are equal; see `holdall.transfer`.
        verify: Whether each copy is read back from the target and compared.
        replace_unreadable: Whether blobs of the target that can't be read are replaced.
        jobs: The number of threads; by default one, and 16 once blobs wait for several milliseconds each.
        dry_run: Touch nothing and return the `Plan`. Contents are compared if `compare` needs them.
        journal: The path of a file that records the progress; see `holdall.transfer`.
        progress: Called after each action as `progress(done, total, bytes, key)`; if it raises, all stops.
        executor: Makes the copies, in other processes; see `holdall.transfer`.

    Raises:
        InvalidArgumentError: An argument is wrong, source and target overlap, the stores can't be pickled
            for the executor, or the journal belongs to another transfer.
        UnsupportedOperation: The source can't list, or the target can't be written.
        StoreUnavailableError: A store can't be listed, or another run is using the journal.
        WrongKeyError: A store is encrypted with another key.

    >>> from holdall import MemoryStore
    >>> source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"old", "c": b"3"})
    >>> copy_store(source, target).copied, dict(target)
    (2, {'a': b'1', 'b': b'2', 'c': b'3'})
    """
    return _carry_out("copy", **locals())


@overload
def sync_stores(
    source: Store, target: Store, *, dry_run: Literal[False] = False, **options: Unpack[SyncOptions]
) -> Report: ...
@overload
def sync_stores(
    source: Store, target: Store, *, dry_run: Literal[True], **options: Unpack[SyncOptions]
) -> Plan: ...
@overload
def sync_stores(
    source: Store, target: Store, *, dry_run: bool, **options: Unpack[SyncOptions]
) -> Report | Plan: ...
def sync_stores(
    source: Store,
    target: Store,
    *,
    delete: bool = True,
    max_delete: float = 0.5,
    prefix: str | Span = "",
    glob: Globs = None,
    exclude: Globs = None,
    where: Where | None = None,
    compare: Compare = "auto",
    verify: bool = True,
    replace_unreadable: bool = False,
    jobs: int | None = None,
    dry_run: bool = False,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    executor: Any = None,
) -> Report | Plan:
    """Make the target equal to the source: copy the blobs that it lacks or holds with different bytes, then
    delete those that the source lacks. Keys that aren't selected stay as they are.

    Deletes come last, and only if nothing has failed: otherwise they are counted in `report.withheld`. The
    source is checked again before each delete. If it has something that isn't a blob, such as a symbolic link
    or an unreadable folder, the target's blobs at and under that path aren't deleted.

    Args:
        source: The store to read.
        target: The store to change.
        delete: Whether to delete the blobs that the source lacks.
        max_delete: The most that may be deleted. A float is a share of the selected blobs of the target, from
            0.0 to 1.0; an int is a number of blobs: `1` is one blob, `1.0` is all of them. If more would be
            deleted, nothing is touched. Nor is it if the folder or file of the source isn't there at all.
        dry_run: Touch nothing and return the `Plan`; `max_delete` isn't checked.

    The other arguments are those of `copy_store`.

    Raises:
        DeleteRefusedError: More than `max_delete` would be deleted; nothing was touched, except that a
            stopped run may have been finished from its journal.
        UnsupportedOperation: As in `copy_store`, or the target can't delete.
        StoreError: As in `copy_store`.

    >>> from holdall import MemoryStore
    >>> source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"old", "c": b"3"})
    >>> report = sync_stores(source, target)
    >>> report.copied, report.deleted, dict(target)
    (2, 1, {'a': b'1', 'b': b'2'})
    """
    return _carry_out("sync" if delete else "copy", **locals())


@overload
def move_store(
    source: Store, target: Store, *, dry_run: Literal[False] = False, **options: Unpack[Options]
) -> Report: ...
@overload
def move_store(
    source: Store, target: Store, *, dry_run: Literal[True], **options: Unpack[Options]
) -> Plan: ...
@overload
def move_store(
    source: Store, target: Store, *, dry_run: bool, **options: Unpack[Options]
) -> Report | Plan: ...
def move_store(
    source: Store,
    target: Store,
    *,
    prefix: str | Span = "",
    glob: Globs = None,
    exclude: Globs = None,
    where: Where | None = None,
    compare: Compare = "auto",
    verify: bool = True,
    replace_unreadable: bool = False,
    jobs: int | None = None,
    dry_run: bool = False,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    executor: Any = None,
) -> Report | Plan:
    """Copy as `copy_store` does, then delete from the source the blobs that the target is known to hold.

    Deletes come last, and only if nothing has failed: after any failure the remaining ones are counted in
    `report.withheld` instead, and moving again finishes the rest. A blob that changes in the source while it
    is moved stays there if the source `can` CONDITIONAL_DELETE.

    Args:
        source: The store to read, and to delete from.
        target: The store to write.
        compare: When two blobs are equal, so that the source's is deleted without being copied. With `verify`
            their contents are compared first, and the source's stays if they differ.
        verify: Whether each copy is read back before the source's blob is deleted.

    The other arguments are those of `copy_store`.

    Raises:
        InvalidArgumentError: As in `copy_store`, or source and target are found to keep their bytes in the
            same store, under layers or other names.
        UnsupportedOperation: As in `copy_store`, or the source can't delete.
        StoreUnavailableError: As in `copy_store`.
        WrongKeyError: As in `copy_store`.

    >>> from holdall import MemoryStore
    >>> source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore()
    >>> move_store(source, target, prefix="a").deleted, list(source), list(target)
    (1, ['b'], ['a'])
    """
    return _carry_out("move", **locals())


def diff_stores(
    source: Store,
    target: Store,
    *,
    prefix: str | Span = "",
    glob: Globs = None,
    exclude: Globs = None,
    where: Where | None = None,
    compare: Compare = "auto",
    jobs: int | None = None,
) -> Iterator[Difference]:
    """Yield the differences between two stores in key order.

    A blob that can't be read doesn't end the listing: its key has the kind `failed`, with the error.
    Something in a store that isn't a blob has the kind `left out`.

    Args:
        source: One store.
        target: The other.
        jobs: The number of threads that compare contents.

    The other arguments are those of `copy_store`.

    Raises:
        InvalidArgumentError: An argument is wrong.
        UnsupportedOperation: A store can't list.
        StoreUnavailableError: A store can't be listed.
        WrongKeyError: A store is encrypted with another key.

    >>> from holdall import MemoryStore
    >>> one, other = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"old", "c": b"3"})
    >>> [(difference.kind, difference.key) for difference in diff_stores(one, other)]
    [('source', 'a'), ('differs', 'b'), ('target', 'c')]
    """
    from holdall.transfer.diff import differences  # a transfer needs none of it

    if jobs is not None:
        check_count(jobs, "jobs, the number of threads,")
    selection = Selection(prefix, glob, where, exclude)
    return differences(source, target, selection, compare, jobs, new_stop())


def verify_store(
    store: Store,
    *,
    prefix: str | Span = "",
    glob: Globs = None,
    exclude: Globs = None,
    where: Where | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Read every blob whole. Report each that can't be read, or differs from the size that the store lists or
    the digest that it recorded; count what isn't a blob as `left_out`.

    Args:
        store: The store to read.

    The other arguments are those of `copy_store`.

    Raises:
        InvalidArgumentError: An argument is wrong.
        UnsupportedOperation: The store can't list.
        StoreUnavailableError: The store can't be listed.
        WrongKeyError: The store is encrypted with another key.

    >>> from holdall import MemoryStore
    >>> print(verify_store(MemoryStore({"a": b"1234"})))
    1 checked, 4 B in ...
    """
    arguments: dict[str, Any] = {**locals(), "source": store, "target": store}
    del arguments["store"]
    return Job("verify", **arguments).run()


def _carry_out(kind: str, *, dry_run: bool, delete: bool = True, **arguments: Any) -> Report | Plan:
    """Plan or run a transfer of a kind, with the arguments of the public function."""
    job = Job(kind, **arguments)
    return job.plan() if dry_run else job.run()
