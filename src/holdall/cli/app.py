"""The commands put together, and how one is run."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main

import holdall
from holdall.cli.completion import rejoin_bash_words
from holdall.cli.errors import INTERRUPTED, USAGE, OutputError, describe, exit_code, warn
from holdall.cli.logs import print_warnings
from holdall.cli.options import StoreOption
from holdall.cli.output import Output, flush
from holdall.cli.startup import Command, Group

__all__ = ["run"]

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


def _version(wanted: bool) -> None:
    if wanted:
        Output().line(f"holdall {holdall.__version__}")
        raise typer.Exit


def root(
    context: typer.Context,
    store: StoreOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep bytes under keys in any store: a folder, SQLite, a zip file, git, Valkey, ...

    --store names the store, before or after the command, or HOLDALL_URI does: a path, a URI, or a name of
    holdall.toml. The commands between stores take two of these as arguments.

    Exit codes: 0 done; 1 not found, or different; 2 wrong usage; 3 conflict, or too much to delete; 4 the
    store, the system or some of the blobs failed; 130 interrupted.

    Examples:
      export HOLDALL_URI=sqlite:///data.db
      holdall put greeting hello
      holdall get greeting
      holdall keys --long
      holdall sync ./data sqlite:///backup.db --resume
    """
    context.obj = store
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def _help(function: Callable[..., Any]) -> str:
    """Return a docstring with its prose unwrapped, for the terminal to wrap, and its examples as they are."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(text if "\n  " in text else text.replace("\n", " ") for text in paragraphs)


def _app(names: Iterable[str]) -> typer.Typer:
    app = typer.Typer(
        name="holdall",
        cls=Group,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True, help=_help(root))(root)
    for name in names:
        command = getattr(import_module(f"holdall.cli.{_COMMANDS[name]}"), name)
        app.command(name, cls=Command, help=_help(command))(command)
    return app


def run(args: Sequence[str]) -> int:
    """Run one command and return its exit code. An error takes one line; HOLDALL_DEBUG raises it."""
    if os.environ.get(_COMPLETE) == "complete_bash":
        rejoin_bash_words()
    # Putting all commands together takes longer than most of them take to run.
    names = args[:1] if args and args[0] in _COMMANDS and _COMPLETE not in os.environ else _COMMANDS
    try:
        with print_warnings():
            result: object = typer.main.get_command(_app(names)).main(
                list(args), prog_name="holdall", complete_var=_COMPLETE, standalone_mode=False
            )
        flush()
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, typer.Abort):
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


def _abandon_output() -> None:
    """Drop what is still buffered: at its end the interpreter would try to write it again, and complain."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    except OSError:
        return
