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
from holdall.cli.options import StoreOption
from holdall.cli.output import Output, flush
from holdall.cli.startup import Command, Group

__all__ = ["run"]

_COMPLETE = "_HOLDALL_COMPLETE"

_COMMANDS = {
    "keys": "reading",
    "get": "reading",
    "put": "writing",
    "cat": "reading",
    "rm": "removing",
    "cp": "writing",
    "mv": "writing",
    "sync": "transferring",
    "mirror": "transferring",
    "diff": "transferring",
    "verify": "transferring",
    "info": "reading",
    "exists": "reading",
    "du": "survey",
    "tree": "survey",
}
"""The module of each, in the order of the help."""


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
    """Keep bytes under keys in any store: a folder, SQLite, a zip file, ...

    The store is named by --store, before or after the command, or by HOLDALL_URI: a path, a URI, or a name
    of holdall.toml. The commands between stores take two of these.

    Exit codes: 0 done, 1 not found or different, 2 wrong usage, 3 conflict or too much to delete, 4 store or
    system failed, or some of the blobs, 130 interrupted.

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
    """A docstring with its prose unwrapped, so that the terminal wraps it, and its examples as they are."""
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
    """Run one command; its exit code. Errors are told in one line, or raised if HOLDALL_DEBUG is set."""
    if os.environ.get(_COMPLETE) == "complete_bash":
        rejoin_bash_words()
    # To put all together takes longer than most commands do.
    names = args[:1] if args and args[0] in _COMMANDS and _COMPLETE not in os.environ else _COMMANDS
    try:
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
    """Let what is still held go nowhere, or the interpreter would try again when it ends, and complain."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    except OSError:
        return
