"""The commands, and how one is run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from keyword import iskeyword
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
    "stream": "values",
    "local": "running",
    "rm": "removing",
    "cp": "writing",
    "mv": "writing",
    "io": "between",
    "lock": "running",
    "sync": "transferring",
    "mirror": "transferring",
    "migrate": "migrating",
    "diff": "comparing",
    "verify": "comparing",
    "info": "reading",
    "exists": "reading",
    "du": "survey",
    "tree": "survey",
    "keygen": "maintaining",
    "rotate": "maintaining",
    "repair": "maintaining",
    "cache ls": "caching",
    "cache prune": "caching",
    "doctor": "doctor",
    "catalog ls": "catalog.showing",
    "catalog show": "catalog.showing",
    "catalog put": "catalog.storing",
    "catalog get": "catalog.storing",
    "catalog rm": "catalog.storing",
    "catalog find": "catalog.showing",
    "catalog tag": "catalog.storing",
    "catalog alias": "catalog.storing",
    "catalog history": "catalog.showing",
    "catalog restore": "catalog.versions",
    "catalog lease": "catalog.versions",
    "catalog usage": "catalog.showing",
    "catalog index": "catalog.keeping",
    "catalog verify": "catalog.keeping",
    "catalog collect": "catalog.keeping",
    "catalog migrate": "catalog.keeping",
    "catalog export": "catalog.keeping",
    "catalog import": "catalog.keeping",
}
"""The module of each command, in the order of the help. One of two words is a command of a group."""

_GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cache": ("store", ()),
    "catalog": ("catalog", ("--catalog", "-C")),
}
"""The groups of commands, each with the option that may stand before its commands."""


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
    before, name, words = _split(args)
    is_whole = name in _COMMANDS and _COMPLETE not in os.environ
    if is_whole:
        values = parse(words, list(fields(_command(name))))
        if values is not None:
            return _invoke(name, values, before)
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
    names = [name] if is_whole and not before else _COMMANDS
    return run_typer(args, {each: _command(each) for each in names}, _invoke, _COMPLETE)


def _split(args: Sequence[str]) -> tuple[dict[str, str | None], str, Sequence[str]]:
    """Return the options that stand before a command, by name; its name; and the words that follow it."""
    before: dict[str, str | None] = {}

    def take(option: str, names: tuple[str, ...]) -> None:
        nonlocal args
        if len(args) > 2 and args[0] in names:
            before[option], args = args[1], args[2:]

    take("store", ("--store", "-s"))
    group = ""
    if args and args[0] in _GROUPS:
        group, args = f"{args[0]} ", args[1:]
        take(*_GROUPS[group.rstrip()])
    return before, group + (args[0] if args else ""), args[1:]


def _command(name: str) -> Callable[..., Any]:
    function = name.rpartition(" ")[2]
    module = import_module(f"holdall.cli.{_COMMANDS[name]}")
    return getattr(module, f"{function}_" if iskeyword(function) else function)


def _invoke(name: str, values: dict[str, Any], before: Mapping[str, str | None]) -> object:
    """Run a command; a store or a catalogue may be named before it."""
    for option, given in before.items():
        if given is None:
            continue
        if option in values:
            values[option] = values[option] or given
        elif "catalog" in values:
            raise UsageFault(f"{name} takes a catalogue; leave --store out, and give --catalog FOLDER")
        else:
            raise UsageFault(f"{name} takes its stores as arguments; leave --store out")
    return invoke(_command(name), values)


def _abandon_output() -> None:
    """Drop what is still buffered: at its end the interpreter would try to write it again and report it."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
