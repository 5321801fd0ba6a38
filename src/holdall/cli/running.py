"""The commands that run a program: local, on a blob as a file, and lock."""

from __future__ import annotations

import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from holdall.cli.completion import complete_key
from holdall.cli.durations import parse_duration
from holdall.cli.errors import CONFLICT, UsageFault, describe, warn
from holdall.cli.options import IfAbsent, IfMatch, Key, StoreOption, expectation
from holdall.cli.parameters import Parameter
from holdall.cli.places import open_to_read
from holdall.cli.programs import Program, check_program, run_program
from holdall.cli.stores import open_at, store_name
from holdall.errors import LockLostError
from holdall.locks import Lock
from holdall.store import ANY, Store

_PLACE = "{}"
_SOON = 0.3
"""Seconds that a lock is waited for before that is said."""


class _Failed(Exception):
    """The program failed, so that what it left isn't put back."""


def local(
    key: Key,
    program: Program = None,
    write: Annotated[
        bool, Parameter("--write", "-w", help="Put the file back if the program changed it.")
    ] = False,
    if_absent: IfAbsent = False,
    if_match: IfMatch = None,
    store: StoreOption = None,
) -> int:
    """Run a program on a blob as a local file.

    {} in its arguments stands for the path of the file; without {} the path comes last. A blob of a folder is
    the folder's own file; any other is copied to a private temporary file of the same name, which goes when
    the program ends. Without --write the program must only read it.

    With --write the program gets a copy at any rate, which is put back if the program succeeds, changed it,
    and nobody else changed the blob meanwhile. Otherwise the file is kept, and the message says where.

    The exit code is the program's: 127 if it isn't found, and 126 if it can't be run.

    Examples:
      holdall local reports/may.pdf -- pdftotext {} -
      holdall local notes.txt --write -- "$EDITOR"
      holdall local scan.png -s s3://bucket -- sh -c 'file "$1"' sh
    """
    words = check_program(program, "holdall local KEY -- less")
    expect = expectation(if_absent, if_match)
    if expect is not ANY and not write:
        raise UsageFault("--if-absent and --if-match are for a file that is put back: add --write")
    with open_at(store_name(store)) if write else open_to_read(store) as place:
        try:
            with place.local(key, write=write, expect=expect) as path:
                own = not write and _is_own(place, key, path)
                return _run_on(path, words, write=write, own=own)
        except _Failed as error:
            (code,) = error.args
            return code


def _is_own(store: Store, key: str, path: Path) -> bool:
    """Return whether it is the store's own file, and not a copy."""
    return store._local_path(key) == str(path)


def _run_on(path: Path, words: Sequence[str], *, write: bool, own: bool) -> int:
    before = _state(path)
    if any(_PLACE in word for word in words):
        code = run_program([word.replace(_PLACE, str(path)) for word in words])
    else:
        code = run_program([*words, str(path)])
    if own or (write and not code):
        return code
    after = _state(path)
    if after is not None and after != before:
        why = "the program failed, so" if write else "without --write"
        warn(f"{why} nothing was put back; the changed file is kept as {_keep(path)!r}")
    raise _Failed(code)


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what changes with the contents of a file; None if no regular file is there."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _keep(path: Path) -> str:
    kept = os.path.join(tempfile.mkdtemp(prefix="holdall-kept-"), path.name)
    shutil.copyfile(path, kept)
    return kept


class _Announced(Lock):
    """A lock that says once that it is waited for."""

    _asked: float | None = None

    def pause(self) -> float:
        seconds = super().pause()
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
        elif now - self._asked > _SOON:
            self._asked = math.inf
            holder = None if self._other is None else self._other.holder
            by = (
                ""
                if holder is None
                else f", which process {holder.pid} on {holder.host} has held since {holder.since}"
            )
            warn(f"waiting for the lock {self.key!r}{by}")
        return seconds


def lock(
    key: Annotated[
        str, Parameter(metavar="KEY", complete=complete_key, help="The lock's own key, such as locks/job.")
    ],
    program: Program = None,
    ttl: Annotated[
        str,
        Parameter("--ttl", metavar="TIME", help="A holder that is silent for this time loses it."),
    ] = "30s",
    wait: Annotated[
        str | None,
        Parameter(
            "--wait",
            metavar="TIME",
            help="Wait for it for this time at most, and exit with 3: seconds, or 5m, 1h30m; 0 tries once. "
            "Without it, wait.",
        ),
    ] = None,
    store: StoreOption = None,
) -> int:
    """Run a program while no other host or process holds the same lock.

    The lock is a small blob of the store, which is renewed until the program ends. Its fencing number is in
    the variable HOLDALL_LOCK_TOKEN. The exit code is the program's: 127 if it isn't found, and 126 if it
    can't be run. It is 3 if the lock isn't free, or if it was lost while the program ran.

    Examples:
      holdall lock locks/nightly --wait 0 -- make report
      holdall lock locks/job -s s3://bucket -- sh -c 'echo $HOLDALL_LOCK_TOKEN'
    """
    words = check_program(program, "holdall lock KEY -- make report")
    seconds = None if wait is None else parse_duration(wait)
    with open_at(store_name(store)) as place:
        try:
            with _Announced(place, key, ttl=parse_duration(ttl), wait=seconds) as held:
                return run_program(words, {"HOLDALL_LOCK_TOKEN": str(held.token)})
        except LockLostError as error:
            warn(describe(error))
            return CONFLICT
