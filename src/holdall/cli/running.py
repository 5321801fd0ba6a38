"""The commands that run a program: lock."""

from __future__ import annotations

from typing import Annotated

from holdall.cli.completion import complete_key
from holdall.cli.durations import parse_duration
from holdall.cli.errors import CONFLICT, describe, warn
from holdall.cli.options import StoreOption
from holdall.cli.parameters import Parameter
from holdall.cli.programs import Program, check_program, run_program
from holdall.cli.stores import open_at, store_name
from holdall.errors import LockLostError


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
            with place.lock(key, ttl=parse_duration(ttl), wait=seconds) as held:
                return run_program(words, {"HOLDALL_LOCK_TOKEN": str(held.token)})
        except LockLostError as error:
            warn(describe(error))
            return CONFLICT
