"""The commands on one version of an object in a catalogue: restore, and lease while a program runs."""

from __future__ import annotations

from typing import Annotated

from holdall.cli.catalog.place import Place, complete_entry, find_entry, open_catalog
from holdall.cli.catalog.showing import Key, entry_as_json
from holdall.cli.catalog.storing import IfMatch
from holdall.cli.durations import parse_duration
from holdall.cli.errors import UsageFault
from holdall.cli.options import Json, expectation
from holdall.cli.output import Output, dumps
from holdall.cli.parameters import Parameter
from holdall.cli.programs import Program, check_program, run_program


def restore(
    key: Annotated[str, Parameter(metavar="KEY@VERSION", complete=complete_entry, help="Which version.")],
    if_match: IfMatch = None,
    json: Json = False,
    *,
    place: Place,
) -> None:
    """Make an earlier version of an object the newest one again.

    It becomes a new version, with the bytes and the metadata of the earlier one; no version is lost. What it
    is now is printed.

    Examples:
      holdall catalog history model
      holdall catalog restore model@1
    """
    # A catalogue that is opened without it prunes the versions before a new one.
    with open_catalog(place, keep=True) as store:
        entry = find_entry(store, key)
        if entry.key == key:
            earlier = max(entry.version - 1, 1)
            raise UsageFault(
                f"{key!r} names no version: write {key}@{earlier}, or another that 'holdall catalog history' "
                "lists"
            )
        made = store.restore(entry.key, entry.version, expect=expectation(False, if_match))
    Output().line(dumps(entry_as_json(made)) if json else f"{made.key}@{made.version}")


def lease(
    key: Key,
    program: Program = None,
    ttl: Annotated[
        str, Parameter("--ttl", metavar="TIME", help="How long the program may take: 30s, 5m, 1h30m, 7d.")
    ] = "1d",
    *,
    place: Place,
) -> int:
    """Run a program, and keep the bytes of an object meanwhile, even if it is deleted.

    Neither prune nor collect deletes them before the program ends, or before --ttl is over. The exit code is
    the program's: 127 if it isn't found, and 126 if it can't be run.

    Example:
      holdall catalog lease model@2 -- ./train --base model@2
    """
    words = check_program(program, "holdall catalog lease KEY -- ./train")
    seconds = parse_duration(ttl)
    with open_catalog(place) as store:
        entry = find_entry(store, key)
        with store.lease(entry.key, entry.version, ttl=seconds):
            return run_program(words)
