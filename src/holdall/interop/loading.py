"""Importing a library that a face is for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from holdall.errors import MissingDependencyError

__all__ = ["load"]


def load(module: str) -> Any:
    """Import a module of a library that has no types, and whose extra has its name.

    Raises:
        MissingDependencyError: It isn't installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(missing(module.partition(".")[0])) from error


def missing(extra: str, library: str | None = None) -> str:
    """Return what an error says of a library that isn't installed, and that has the name of its extra unless
    another is given."""
    return f"holdall.interop.{extra} needs {library or extra}: pip install 'holdall[{extra}]'"
