"""The commands for what `@cached` keeps in a store: cache ls, cache prune."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, NamedTuple

from holdall.cli.durations import parse_duration
from holdall.cli.errors import NOT_FOUND, UsageFault, warn
from holdall.cli.options import DryRun, Json, StoreOption
from holdall.cli.output import Output, amount, dumps, human, iso, timestamp
from holdall.cli.parameters import Parameter
from holdall.cli.places import open_to_read
from holdall.memoize.shelf import LOCKS, PREFIX
from holdall.store import Info, Store

_ABANDONED = 3600.0
"""Seconds after which a lock that nobody renews is a killed process's: it is renewed every few seconds."""

Function = Annotated[
    str,
    Parameter(metavar="FUNCTION", help="Only this one, as 'holdall cache ls' prints it; without it, all."),
]


class _Kept(NamedTuple):
    """What is kept of one function."""

    name: str
    infos: list[Info]

    @property
    def size(self) -> int:
        return sum(info.size for info in self.infos)


def ls(
    function: Function = "",
    long: Annotated[
        bool,
        Parameter(
            "--long", "-l", help="Print number, size and time of the last result in UTC before each name."
        ),
    ] = False,
    json: Json = False,
    store: StoreOption = None,
) -> int:
    """List the functions whose results @cached keeps in a store.

    They are printed as MODULE/NAME, one per line.

    Examples:
      holdall cache ls --store sqlite:///calls.db
      holdall cache ls --long
    """
    output = Output()
    with open_to_read(store) as place:
        found = False
        for kept in _functions(place, function):
            found = True
            last = max(info.modified for info in kept.infos)
            if json:
                line = {"function": kept.name, "results": len(kept.infos), "size": kept.size}
                output.line(dumps({**line, "modified": iso(last)}))
            elif long:
                output.line(f"{len(kept.infos):>9,}  {human(kept.size):>9}  {timestamp(last)}  {kept.name}")
            else:
                output.line(kept.name)
    return _code(found, function)


def prune(
    function: Function = "",
    unused_for: Annotated[
        str | None,
        Parameter(
            "--unused-for",
            metavar="TIME",
            help="Delete what was neither computed nor noted as used for this long, such as 12h or 30d.",
        ),
    ] = None,
    max_entries: Annotated[
        int | None,
        Parameter("--max-entries", metavar="N", least=1, help="Keep N results of each function at most."),
    ] = None,
    max_bytes: Annotated[
        int | None,
        Parameter("--max-bytes", metavar="N", least=1, help="Keep N bytes of each function at most."),
    ] = None,
    everything: Annotated[bool, Parameter("--all", help="Delete all results.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
    store: StoreOption = None,
) -> int:
    """Delete results that @cached keeps in a store; the least recently used go first.

    Results are computed again when they are needed. Other blobs of the store aren't touched.

    Examples:
      holdall cache prune --unused-for 30d --store sqlite:///calls.db
      holdall cache prune mymodule/load --all
      holdall cache prune --max-entries 1000 --dry-run
    """
    seconds = None if unused_for is None else parse_duration(unused_for)
    if seconds is None and max_entries is None and max_bytes is None and not everything:
        raise UsageFault("say what goes: --unused-for, --max-entries, --max-bytes or --all")
    output = Output()
    count = size = 0
    found = False
    with open_to_read(store) as place:
        for kept in _functions(place, function):
            found = True
            gone = kept.infos if everything else _surplus(kept.infos, seconds, max_entries, max_bytes)
            if gone and not dry_run:
                place.delete_many([info.key for info in gone])
            freed = sum(info.size for info in gone)
            if json:
                output.line(dumps({"function": kept.name, "deleted": len(gone), "size": freed}))
            elif gone:
                output.line(f"- {kept.name}  ({amount(len(gone), 'result')}, {human(freed)})")
            count, size = count + len(gone), size + freed
        if not (function or dry_run):
            oldest = time.time() - _ABANDONED
            place.delete_many([lock.key for lock in place.list(LOCKS) if lock.modified.timestamp() < oldest])
    if not json:
        done = "to delete; nothing was done" if dry_run else "deleted"
        output.line(f"{amount(count, 'result')} ({human(size)}) {done}")
    return _code(found, function)


def _functions(store: Store, function: str) -> Iterator[_Kept]:
    """Yield what is kept of each function, or of one."""
    prefix = f"{PREFIX}{function}/" if function else PREFIX

    def name_of(info: Info) -> str:
        return info.key[len(PREFIX) :].rpartition("/")[0]

    for name, infos in groupby(store.list(prefix), name_of):
        yield _Kept(name, list(infos))


def _surplus(
    infos: list[Info], seconds: float | None, max_entries: int | None, max_bytes: int | None
) -> list[Info]:
    """Return those that go, from the one that was used last."""
    latest = sorted(infos, key=lambda info: info.modified, reverse=True)
    gone: list[Info] = []
    count = size = 0
    oldest = None if seconds is None else time.time() - seconds
    for info in latest:
        if (
            (oldest is not None and info.modified.timestamp() < oldest)
            or (max_entries is not None and count >= max_entries)
            or (max_bytes is not None and size + info.size > max_bytes)
        ):
            gone.append(info)
        else:
            count, size = count + 1, size + info.size
    return gone


def _code(found: bool, function: str) -> int:
    if not found and function:
        warn(f"nothing is kept of {function!r}; 'holdall cache ls' lists the functions")
        return NOT_FOUND
    return 0
