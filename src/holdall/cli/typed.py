"""What typer does: the help, completion, and what is wrong with a line that has a mistake."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

import holdall
from holdall.cli.catalog.place import CatalogOption
from holdall.cli.errors import USAGE, OutputError
from holdall.cli.options import StoreOption
from holdall.cli.output import Output
from holdall.cli.parameters import Field, fields

Params = TypeVar("Params", bound="list[Any]")

Run = Callable[[str, dict[str, Any], Mapping[str, str | None]], object]
"""Called with a command's name, the values of its parameters, and what was named before the command."""


class _AsItIs:
    """Stands in for the converter of a parameter while a line is completed.

    Since 0.28 typer converts by pydantic, whose import takes longer than the rest.
    """

    def coerce(self, value: Any, **_: Any) -> Any:
        return value


def _prepare(params: Params, context: Any) -> Params:
    for param in params:
        # A private part of typer: without it nothing is saved, and everything works.
        if context.resilient_parsing and getattr(param, "_runtime_param", 0) is None:
            param._runtime_param = _AsItIs()
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""  # or the help says <bool>, as if a value had to follow
        if param.param_type_name == "argument":
            # Or it says <str> and {KEY}. These, too, may have other names in another version, and no effect.
            param.display_type_rich = _no_type
            if param.required:
                param._usage_display_name = partial(_as_usage_has_it, param)
    return params


def _no_type(ctx: Any) -> None:
    return None


def _as_usage_has_it(param: Any) -> str:
    return f"{param.metavar}..." if param.nargs != 1 else param.metavar


class _Command(TyperCommand):
    """A command whose help shows no type for a flag."""

    def get_params(self, ctx: Any) -> Any:
        return _prepare(super().get_params(ctx), ctx)


class _Group(TyperGroup):
    """All commands; the help shows no type for a flag."""

    def get_params(self, ctx: Any) -> Any:
        return _prepare(super().get_params(ctx), ctx)


def _declare(field: Field) -> inspect.Parameter:
    """Return a parameter as typer takes it."""
    about = field.about
    settings: dict[str, Any] = {
        "metavar": about.metavar,
        "autocompletion": about.complete,
        "callback": about.check,
        "help": about.help,
        "min": about.least,
        "show_default": field.default not in (None, ""),
    }
    made = typer.Option(*about.names, **settings) if about.names else typer.Argument(**settings)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if field.default is ... else field.default,
        annotation=Annotated[field.hint, made],
    )


def _help(function: Callable[..., Any]) -> str:
    """Return a docstring with its prose unwrapped, for the terminal to wrap, and its examples as they are."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(text if "\n  " in text else text.replace("\n", " ") for text in paragraphs)


def _version(wanted: bool) -> None:
    if wanted:
        Output().line(f"holdall {holdall.__version__}")
        raise typer.Exit


def root(store: StoreOption = None) -> None:
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


def catalog(catalog: CatalogOption = None) -> None:
    """Keep arrays, frames and other objects with metadata, and find them by it (BlobStore in Python).

    --catalog names its folder, before or after the command, or HOLDALL_CATALOG does. A folder without a
    catalogue is an error; only put and import make one, with --create.

    Exit codes: 0 done; 1 not found, or something is wrong; 2 wrong usage; 3 conflict, protected, or too much
    to delete; 4 the catalogue or the system failed; 130 interrupted.

    Examples:
      export HOLDALL_CATALOG=./models
      holdall catalog put model weights.npy --as npy loss=0.12 --create
      holdall catalog find 'metadata.loss<0.2' --order-by metadata.loss --limit 1
      holdall catalog get model --output model.b2nd
    """


def cache() -> None:
    """List and delete the results of functions that @cached keeps in a store.

    Each command takes the store by -s, or HOLDALL_URI names it.

    Examples:
      holdall cache ls --long
      holdall cache prune --unused-for 30d
    """


_GROUPS = {"cache": cache, "catalog": catalog}
"""The groups of commands: what each takes before the command, and its help."""

_PANELS = {
    name: title
    for title, names in {
        "Blobs": "get put cat stream local info exists cp mv rm io lock",
        "Listings": "ls keys tree du",
        "Between stores": "sync mirror migrate diff verify",
        "Maintenance": "keygen rotate repair cache doctor",
        "Catalogues": "catalog",
    }.items()
    for name in names.split()
}
"""Where the help lists each command."""

_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
_VERSION = inspect.Parameter(
    "version",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ],
)


def _sign_as(function: Callable[..., Any], *parameters: inspect.Parameter) -> Callable[..., Any]:
    """Give a function the signature that typer reads."""
    function.__annotations__ = {}
    function.__signature__ = inspect.Signature([_CONTEXT, *parameters])  # pyright: ignore[reportFunctionMemberAccess]
    return function


def _begin(context: typer.Context, store: str | None, version: bool) -> None:
    context.obj = {"store": store}
    _show_help(context)


def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def _app(commands: Mapping[str, Callable[..., Any]], run: Run) -> typer.Typer:
    app = typer.Typer(
        name="holdall",
        cls=_Group,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    begin = _sign_as(_begin, *map(_declare, fields(root)), _VERSION)
    app.callback(invoke_without_command=True, help=_help(root))(begin)
    groups: dict[str, typer.Typer] = {}
    for name, command in commands.items():
        group, _, word = name.rpartition(" ")
        if group and group not in groups:
            groups[group] = _group(group)
            app.add_typer(groups[group], rich_help_panel=_PANELS.get(group))
        _add(groups[group] if group else app, word, name, command, run)
    return app


def _group(name: str) -> typer.Typer:
    about = _GROUPS[name]
    made = typer.Typer(name=name, cls=_Group, rich_markup_mode="rich", help=_help(about))

    def begin(context: typer.Context, **values: str | None) -> None:
        context.obj = {**context.obj, **values}
        _show_help(context)

    made.callback(invoke_without_command=True)(_sign_as(begin, *map(_declare, fields(about))))
    return made


def _add(to: typer.Typer, word: str, name: str, command: Callable[..., Any], run: Run) -> None:
    def act(context: typer.Context, **values: Any) -> object:
        return run(name, values, context.obj)

    taken = map(_declare, fields(command))
    to.command(word, cls=_Command, help=_help(command), rich_help_panel=_PANELS.get(name))(
        _sign_as(act, *taken)
    )


def run_typer(
    args: Sequence[str], commands: Mapping[str, Callable[..., Any]], run: Run, complete_var: str
) -> object:
    """Run a line by typer, and return what the command returns.

    Args:
        args: What follows `holdall`.
        commands: The commands by name, in the order of the help.
        run: Runs a command of which typer has read the values.
        complete_var: The environment variable by which a shell asks for completion.
    """
    made = typer.main.get_command(_app(commands, run))
    try:
        return made.main(list(args), prog_name="holdall", complete_var=complete_var, standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as error:
        # What rich, which prints the help, makes of a reader that has ended.
        if isinstance(error.__context__, BrokenPipeError):
            raise OutputError from error.__context__
        raise
