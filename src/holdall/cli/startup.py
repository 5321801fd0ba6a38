"""Commands that start fast, since text needs no converter, and whose help shows no type for a flag."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from typer.core import TyperCommand, TyperGroup

__all__ = ["Command", "Group"]

Params = TypeVar("Params", bound="list[Any]")


class _TextAsItIs:
    """Stands where typer keeps a parameter's converter, and fetches that only for what isn't text.

    Since 0.28 typer converts by pydantic, whose import takes longer than most commands do.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        annotation = param.type_descriptor.annotation
        if annotation is str and isinstance(value, str):
            return value
        if annotation == list[str] and isinstance(value, tuple):
            return cast("tuple[str, ...]", value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


_text_as_it_is = _TextAsItIs()


def _prepare(params: Params) -> Params:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""  # or the help says <bool>, as if a value had to follow
        # A private part of typer: without it nothing is saved, and everything works.
        if hasattr(param, "type_descriptor") and getattr(param, "_runtime_param", 0) is None:
            param._runtime_param = _text_as_it_is
    return params


class Command(TyperCommand):
    """A command that loads no converter for text."""

    def get_params(self, ctx: Any) -> Any:
        return _prepare(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands that loads no converter for text."""

    def get_params(self, ctx: Any) -> Any:
        return _prepare(super().get_params(ctx))
