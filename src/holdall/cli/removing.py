"""The command that deletes: rm, which asks before it deletes many."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Annotated

from holdall.cli.errors import NOT_FOUND, UsageFault, describe, warn
from holdall.cli.options import Keys, StoreOption
from holdall.cli.output import amount, human
from holdall.cli.parameters import Parameter
from holdall.cli.places import open_to_read
from holdall.cli.progress import Meter
from holdall.errors import BlobNotFoundError
from holdall.keys import check_key
from holdall.store import Store

_BATCH = 1000


def rm(
    keys: Keys,
    recursive: Annotated[
        bool, Parameter("--recursive", "-r", help="Each KEY is a folder such as logs/: delete all under it.")
    ] = False,
    string_prefix: Annotated[
        bool,
        Parameter(
            "--string-prefix",
            help="With --recursive, KEY needn't end in '/': logs/2 means logs/2, logs/20/a, ...",
        ),
    ] = False,
    yes: Annotated[bool, Parameter("--yes", "-y", help="Don't ask.")] = False,
    force: Annotated[bool, Parameter("--force", "-f", help="Ignore keys that don't exist.")] = False,
    store: StoreOption = None,
) -> int:
    """Delete blobs.

    With --recursive, everything under a folder is deleted, after it was counted and you agreed. A key that
    doesn't exist is reported, the others are deleted, and the exit code is 1.

    Examples:
      holdall rm reports/may.pdf
      holdall rm --recursive logs/
      holdall rm --recursive --string-prefix logs/2025- --yes
    """
    if string_prefix and not recursive:
        raise UsageFault("--string-prefix goes with --recursive")
    with open_to_read(store) as place:
        if recursive:
            for prefix in keys:
                _check_prefix(prefix, string_prefix)
            found = [_delete_all(place, prefix, yes) for prefix in keys]
        else:
            found = _delete_each(place, keys, force)
    return 0 if force or all(found) else NOT_FOUND


def _delete_each(store: Store, keys: list[str], force: bool) -> list[bool]:
    for key in keys:
        if key.endswith("/"):
            raise UsageFault(f"{key!r} is a folder; add --recursive to delete everything under it")
        check_key(key)
    if force:
        store.delete_many(keys)
        return []
    found: list[bool] = []
    for key in keys:
        found.append(store.delete(key))
        if not found[-1]:
            warn(describe(BlobNotFoundError(key=key)))
    return found


def _check_prefix(prefix: str, string_prefix: bool) -> None:
    if not prefix:
        raise UsageFault("an empty prefix means every key of the store; name a folder")
    if not (prefix.endswith("/") or string_prefix):
        raise UsageFault(
            f"{prefix!r} isn't a folder: write '{prefix}/', or add --string-prefix for all keys that start "
            "with it"
        )


def _delete_all(store: Store, prefix: str, yes: bool) -> bool:
    count = size = 0
    with Meter(f"count {prefix}", blobs=True) as meter:
        for info in store.list(prefix):
            count += 1
            size += info.size
            meter.advance()
    if not count:
        warn(f"{prefix!r}: no key starts with this")
        return False
    if not yes:
        where = "under" if prefix.endswith("/") else "that start with"
        _ask(f"Delete {amount(count, 'blob')} ({human(size)}) {where} {prefix}? [y/N] ")
    with Meter(f"rm {prefix}", count, blobs=True) as meter:
        keys = store.iterate_keys(prefix)
        while batch := list(islice(keys, _BATCH)):
            meter.advance(store.delete_many(batch))
    return True


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageFault(f"{question.removesuffix(' [y/N] ')} There is no terminal to ask on; add --yes")
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    if answer.strip().lower() not in {"y", "yes"}:
        warn("nothing was deleted")
        raise KeyboardInterrupt
