"""The commands, and how one is run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from holdall.cli.errors import INTERRUPTED, UNAVAILABLE, OutputError, UsageFault, describe, exit_code, warn
from holdall.cli.logs import print_warnings
from holdall.cli.output import flush
from holdall.cli.parameters import fields, invoke, parse

_COMPLETE = "_HOLDALL_COMPLETE"

_COMMANDS = {
    "ls": "survey",
    "keys": "reading",
    "get": "reading",
    "put": "writing",
    "cat": "reading",
    "rm": "removing",
    "cp": "writing",
    "mv": "writing",
    "sync": "transferring",
    "mirror": "transferring",
    "diff": "comparing",
    "verify": "comparing",
    "info": "reading",
    "exists": "reading",
    "du": "survey",
    "tree": "survey",
    "keygen": "maintaining",
    "rotate": "maintaining",
    "repair": "maintaining",
}
"""The module of each command, in the order of the help."""


def run(args: Sequence[str]) -> int:
    """Run one command and return its exit code. An error takes one line; HOLDALL_DEBUG raises it."""
    try:
        with print_warnings():
            code = _run(args)
        flush()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, OutputError):
            _abandon_output()
            if isinstance(error.__cause__, BrokenPipeError):
                return exit_code(error)
        if os.environ.get("HOLDALL_DEBUG"):
            raise
        warn(describe(error))
        return exit_code(error)


def _run(args: Sequence[str]) -> object:
    named = len(args) > 2 and args[0] in ("--store", "-s")
    store, rest = (args[1], args[2:]) if named else (None, args)
    if rest and rest[0] in _COMMANDS and _COMPLETE not in os.environ:
        values = parse(rest[1:], list(fields(_command(rest[0]))))
        if values is not None:
            return _invoke(rest[0], values, store)
    try:
        from holdall.cli.typed import run_typer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"typer", "click", "rich"}:
            raise
        warn(f"the command line needs {error.name}; run: pip install 'holdall[cli]'")
        return UNAVAILABLE
    if os.environ.get(_COMPLETE) == "complete_bash":
        from holdall.cli.completion import rejoin_bash_words

        rejoin_bash_words()
    # To import and declare all commands takes longer than one.
    one = args and args[0] in _COMMANDS and _COMPLETE not in os.environ
    names = args[:1] if one else _COMMANDS
    return run_typer(args, {name: _command(name) for name in names}, _invoke, _COMPLETE)


def _command(name: str) -> Callable[..., Any]:
    return getattr(import_module(f"holdall.cli.{_COMMANDS[name]}"), name)


def _invoke(name: str, values: dict[str, Any], store: str | None) -> object:
    """Run a command; a store may be named before it."""
    if store is not None and "store" in values:
        values["store"] = values["store"] or store
    elif store is not None and "target" in values:
        raise UsageFault(f"{name} takes its stores as arguments; leave --store out")
    return invoke(_command(name), values)


def _abandon_output() -> None:
    """Drop what is still buffered: at its end the interpreter would try to write it again and report it."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
