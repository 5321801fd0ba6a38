"""Copy, sync, move, compare and check whole stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal, Unpack, overload

from holdall.store import Store
from holdall.transfer.compare import Compare, Difference
from holdall.transfer.options import Options, Progress, SyncOptions, Where
from holdall.transfer.plan import Action, Plan, Shard
from holdall.transfer.report import Report

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

# What works is imported when it is needed, so that a process that only helps starts sooner.


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
    prefix: str = "",
    glob: str | None = None,
    where: Where | None = None,
    compare: Compare = "auto",
    verify: bool = True,
    jobs: int | None = None,
    dry_run: bool = False,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    executor: Any = None,
) -> Report | Plan:
    """Copy to the target what it lacks, or holds with other bytes. Nothing is deleted.

    Everything is planned before anything is touched. A key that fails never stops the others: it is in the
    report, and logged. What somebody else changes at the target after it was listed is not overwritten, where
    the target `can` SWAP and CREATE: that is a failure that says so. Where it `can` BULK, small new blobs are
    put together, which takes no condition: it is looked just before who came between.

    Args:
        source: From where; it must be able to LIST.
        target: To where.
        prefix: Only keys that start with this string.
        glob: Only keys that match, as in `Store.list`.
        where: Only blobs for which this is true; it is given the `Info` of the source, or of the target for
            what only the target has.
        compare: What makes two blobs of one key equal. `"auto"`: equal sizes, and digests that both stores
            know, or else contents, both of which are read; a journal spares that for what it knows to be
            equal. `"size"`; `"modified"` (equal sizes, and the target is not older); `"etag"`; `"content"`
            (always read); or a function of both `Info`s that returns True for equal blobs.
        verify: Whether each copy is read back from the target and compared.
        jobs: How many threads. By default one, and 16 once blobs turn out to wait for several
            milliseconds each, as over a network.
        dry_run: Touch nothing and return the `Plan`. Contents are compared, where `compare` says so.
        journal: The path of a file (SQLite) that records what was done: a run that was killed goes on from
            there, without listing or copying again what is done; a later run compares no contents that it
            knows to be equal.
        progress: Called after each action as `progress(done, total, bytes, key)`. What it raises stops
            the transfer.
        executor: A `concurrent.futures.Executor`, or whatever has its `submit`, such as a client of Dask:
            the plan is cut in shards that are run there. The stores go there by pickle. Or `"process"`:
            between two folders with a thousand blobs and more to do, and two processors or more, a second
            process does a part of it, or compares a half where there is less to do; anywhere else, or if
            it can't, this one does it all.

    Raises:
        InvalidArgumentError: An argument is wrong, source and target overlap, or the journal belongs to
            another transfer.
        UnsupportedOperation: The source can't list, or the target can't be written.
        StoreUnavailableError: A store can't be listed, or another run uses the journal now.

    >>> from holdall import MemoryStore
    >>> source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"old", "c": b"3"})
    >>> copy_store(source, target).copied
    2
    >>> dict(target)
    {'a': b'1', 'b': b'2', 'c': b'3'}
    """
    from holdall.transfer.run import Job

    job = Job("copy", source, target, prefix, glob, where, compare, verify, jobs, journal, progress, executor)
    return job.plan() if dry_run else job.run()


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
    prefix: str = "",
    glob: str | None = None,
    where: Where | None = None,
    compare: Compare = "auto",
    verify: bool = True,
    jobs: int | None = None,
    dry_run: bool = False,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    executor: Any = None,
) -> Report | Plan:
    """Make the contents of the target those of the source: copy what it lacks or holds with other bytes,
    then delete what the source has not. Keys that aren't selected stay as they are. Before each delete the
    source is asked once more, and what is of the same size as a blob that could not be copied, which may be
    that one by its old name, is kept; both are failures that say so.

    Args:
        source: From where.
        target: To where.
        delete: Whether to delete what the source has not.
        max_delete: How much may be deleted: a float is a share of the selected blobs of the target, from
            0.0 to 1.0; an int is a count. More is refused before anything is touched.
        prefix: As in `copy_store`, and so are the arguments that follow.
        glob: Which keys.
        where: Which blobs.
        compare: What makes two blobs equal.
        verify: Whether each copy is read back.
        jobs: How many threads.
        dry_run: Touch nothing and return the `Plan`; the guard is not asked.
        journal: The path of a file that records what was done.
        progress: Called as `progress(done, total, bytes, key)`.
        executor: What runs the shards of the plan.

    Raises:
        DeleteRefusedError: More than `max_delete` would be deleted; nothing was touched.
        InvalidArgumentError: As in `copy_store`.
        UnsupportedOperation: As in `copy_store`, or the target can't delete.
        StoreUnavailableError: As in `copy_store`.

    >>> from holdall import MemoryStore
    >>> source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"old", "c": b"3"})
    >>> report = sync_stores(source, target)
    >>> report.copied, report.deleted, dict(target)
    (2, 1, {'a': b'1', 'b': b'2'})
    """
    from holdall.transfer.run import Job

    kind = "sync" if delete else "copy"
    job = Job(kind, source, target, prefix, glob, where, compare, verify, jobs, journal, progress, executor)
    job.limit(max_delete)
    return job.plan() if dry_run else job.run()


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
    prefix: str = "",
    glob: str | None = None,
    where: Where | None = None,
    compare: Compare = "auto",
    verify: bool = True,
    jobs: int | None = None,
    dry_run: bool = False,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    executor: Any = None,
) -> Report | Plan:
    """Copy as `copy_store` does, and delete from the source what the target then holds. A blob that changes
    at the source while it is moved stays there, where the source `can` SWAP.

    Args:
        source: From where.
        target: To where.
        prefix: As in `copy_store`, and so are the arguments that follow.
        glob: Which keys.
        where: Which blobs.
        compare: What makes two blobs equal. What is equal is deleted from the source; what is called so
            without a look at the contents is compared first, if `verify` is set, and stays if they differ.
        verify: Whether each copy is read back before the source's blob goes.
        jobs: How many threads.
        dry_run: Touch nothing and return the `Plan`.
        journal: The path of a file that records what was done.
        progress: Called as `progress(done, total, bytes, key)`.
        executor: What runs the shards of the plan.

    Raises:
        InvalidArgumentError: As in `copy_store`, or source and target hold their bytes in one store, below
            layers or by other names, where that can be seen.
        UnsupportedOperation: As in `copy_store`, or the source can't delete.
        StoreUnavailableError: As in `copy_store`.

    >>> from holdall import MemoryStore
    >>> source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore()
    >>> move_store(source, target, prefix="a").deleted, list(source), list(target)
    (1, ['b'], ['a'])
    """
    from holdall.transfer.run import Job

    job = Job("move", source, target, prefix, glob, where, compare, verify, jobs, journal, progress, executor)
    return job.plan() if dry_run else job.run()


def diff_stores(
    source: Store,
    target: Store,
    *,
    prefix: str = "",
    glob: str | None = None,
    where: Where | None = None,
    compare: Compare = "auto",
    jobs: int | None = None,
) -> Iterator[Difference]:
    """What differs between two stores, lazily, in key order. A blob that can't be read doesn't end it: its
    key comes as a difference of the kind `failed`, with the error.

    Args:
        source: One store.
        target: The other.
        prefix: As in `copy_store`, and so are the arguments that follow.
        glob: Which keys.
        where: Which blobs.
        compare: What makes two blobs equal.
        jobs: How many threads compare contents.

    Raises:
        UnsupportedOperation: A store can't list.
        StoreUnavailableError: A store can't be listed.

    >>> from holdall import MemoryStore
    >>> one, other = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"old", "c": b"3"})
    >>> [(difference.kind, difference.key) for difference in diff_stores(one, other)]
    [('source', 'a'), ('differs', 'b'), ('target', 'c')]
    """
    from holdall.transfer.run import differences

    return differences(source, target, prefix, glob, where, compare, jobs)


def verify_store(
    store: Store,
    *,
    prefix: str = "",
    glob: str | None = None,
    where: Where | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Read every blob whole, and report each that can't be, has another size than the store says, or
    another digest than the store recorded.

    Args:
        store: Which.
        prefix: As in `copy_store`, and so are the arguments that follow.
        glob: Which keys.
        where: Which blobs.
        jobs: How many threads.
        progress: Called as `progress(done, total, bytes, key)`.

    Raises:
        UnsupportedOperation: The store can't list.
        StoreUnavailableError: The store can't be listed.

    >>> from holdall import MemoryStore
    >>> print(verify_store(MemoryStore({"a": b"1234"})))
    1 checked, 4 B in ...
    """
    from holdall.transfer.run import Job

    job = Job("verify", store, store, prefix, glob, where, "auto", True, jobs, None, progress, None)
    return job.run()
