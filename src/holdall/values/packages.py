"""The optional packages of the formats, imported when they are first needed, but never to classify a
value."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from holdall.errors import MissingDependencyError
from holdall.imports import load_whole


def needed(module: str, extra: str | None, what: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Its name.
        extra: The extra of holdall that brings it. None for a library whose values the user has made: the
            package has the name of the module.
        what: The feature that needs it.

    Raises:
        MissingDependencyError: It isn't installed.
    """
    try:
        return load_whole(module)
    except ImportError:
        package = module.partition(".")[0]
        install = package if extra is None else f"'holdall[{extra}]'"
        raise MissingDependencyError(
            f"{what} needs {package}, which can't be imported: pip install {install}"
        ) from None


def instance(value: object, module: str, *names: str) -> bool:
    """Return whether a value is of a class of a module, without importing the module.

    >>> import decimal
    >>> instance(decimal.Decimal(1), "decimal", "Decimal"), instance(1, "numpy", "ndarray")
    (True, False)
    """
    return of_class(type(value), module, *names)


def of_class(kind: type[Any], module: str, *names: str) -> bool:
    """Return whether a class is a class of a module, or a subclass, without importing the module."""
    found = sys.modules.get(module)
    # A module that another thread is just importing lacks some of its names yet, and has no instances either.
    kinds = tuple(each for each in (getattr(found, name, None) for name in names) if isinstance(each, type))
    return issubclass(kind, kinds)


def present(module: str) -> bool:
    """Return whether a module is installed, without importing it."""
    if module in sys.modules:
        return sys.modules[module] is not None  # pyright: ignore[reportUnnecessaryComparison]
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
