"""The command that deletes: rm, which asks before it deletes many."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Annotated

from holdall.cli.errors import NOT_FOUND, UsageFault, describe, warn
from holdall.cli.options import DryRun, Json, Keys, StoreOption, Yes
from holdall.cli.output import Output, amount, dumps, human
from holdall.cli.parameters import Parameter
from holdall.cli.places import open_to_read
from holdall.cli.progress import Meter
from holdall.errors import BlobNotFoundError
from holdall.keys import check_key
from holdall.store import Info, Store

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
    yes: Yes = False,
    force: Annotated[bool, Parameter("--force", "-f", help="Ignore keys that don't exist.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
    store: StoreOption = None,
) -> int:
    """Delete blobs.

    With --recursive, everything under a folder is counted, and deleted if you say yes. A key that
    doesn't exist is reported, the others are deleted, and the exit code is 1. With --json there is an object
    for each KEY; with --dry-run, for each blob.

    Examples:
      holdall rm reports/may.pdf
      holdall rm --recursive logs/ --dry-run
      holdall rm --recursive --string-prefix logs/2025- --yes
    """
    if string_prefix and not recursive:
        raise UsageFault("--string-prefix goes with --recursive")
    if recursive:
        for prefix in keys:
            _check_prefix(prefix, string_prefix)
    else:
        _check_keys(keys)
    output = Output()
    with open_to_read(store) as place:
        if dry_run:
            found = _print_blobs(place, keys, recursive, json, output)
        elif recursive:
            found = [_delete_all(place, prefix, yes, json, output) for prefix in keys]
        elif force and not json:
            place.delete_many(keys)
            found = []
        else:
            found = [_delete(place, key, force, json, output) for key in keys]
    return 0 if force or all(found) else NOT_FOUND


def _check_keys(keys: list[str]) -> None:
    for key in keys:
        if key.endswith("/"):
            raise UsageFault(f"{key!r} is a folder; add --recursive to delete everything under it")
        check_key(key)


def _delete(store: Store, key: str, force: bool, json: bool, output: Output) -> bool:
    found = store.delete(key)
    if not (found or force):
        warn(describe(BlobNotFoundError(key=key)))
    if json:
        output.line(dumps({"key": key, "deleted": int(found)}))
    return found


def _print_blobs(store: Store, keys: list[str], recursive: bool, json: bool, output: Output) -> list[bool]:
    """Print what would be deleted, and return for each key or folder whether there is anything."""
    found: list[bool] = []
    count = size = 0
    for key in keys:
        before = count
        for info in store.list(key) if recursive else _infos(store, key):
            count += 1
            size += info.size
            line = {"kind": "delete", "key": info.key, "size": info.size}
            output.line(dumps(line) if json else f"- {info.key}  ({human(info.size)})")
        found.append(count > before)
        if count == before:
            warn(_nothing_under(key) if recursive else describe(BlobNotFoundError(key=key)))
    if not json:
        output.line(f"{count:,} to delete ({human(size)}); nothing was done")
    return found


def _infos(store: Store, key: str) -> list[Info]:
    try:
        return [store.info(key)]
    except BlobNotFoundError:
        return []


def _check_prefix(prefix: str, string_prefix: bool) -> None:
    if not prefix:
        raise UsageFault("an empty prefix means every key of the store; name a folder")
    if not (prefix.endswith("/") or string_prefix):
        raise UsageFault(
            f"{prefix!r} isn't a folder: write '{prefix}/', or add --string-prefix for all keys that start "
            "with it"
        )


def _nothing_under(prefix: str) -> str:
    return f"{prefix!r}: no key starts with this"


def _delete_all(store: Store, prefix: str, yes: bool, json: bool, output: Output) -> bool:
    count = size = 0
    with Meter(f"count {prefix}", blobs=True) as meter:
        for info in store.list(prefix):
            count += 1
            size += info.size
            meter.advance()
    if not count:
        warn(_nothing_under(prefix))
    elif not yes:
        where = "under" if prefix.endswith("/") else "that start with"
        _ask(f"Delete {amount(count, 'blob')} ({human(size)}) {where} {prefix}? [y/N] ")
    deleted = 0
    with Meter(f"rm {prefix}", count, blobs=True) as meter:
        keys = store.iterate_keys(prefix) if count else iter(())
        while batch := list(islice(keys, _BATCH)):
            done = store.delete_many(batch)
            deleted += done
            meter.advance(done)
    if json:
        output.line(dumps({"prefix": prefix, "deleted": deleted}))
    return count > 0


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageFault(f"{question.removesuffix(' [y/N] ')} There is no terminal to ask on; add --yes")
    try:
        sys.stderr.write(question)
        sys.stderr.flush()
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    if answer.strip().lower() not in {"y", "yes"}:
        warn("nothing was deleted")
        raise KeyboardInterrupt
