"""The public names and their signatures: what a program may import and call stays as it is.

`surface.txt` has a line for each. Where a name is added on purpose, add its line, which the test prints. A
line that has to change or go breaks somebody's program.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import holdall

HERE = Path(__file__).with_name("surface.txt")
MODULES = sorted({line.partition(" ")[0] for line in HERE.read_text().splitlines()})
PRINTED = {"Store", "Layer", "AsyncStore", "BlobDict", "BytesBlob", "StoreSuite", "Transparent"}
"""What a class has of these isn't said again."""


def parameters(call: object) -> str:
    """A signature without its types, which pyright holds."""
    if inspect.isclass(call) and not ("__init__" in vars(call) or "__new__" in vars(call)):
        return ""  # that of a base, which may be one of Python's own
    try:
        signature = inspect.signature(call)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    plain = [
        each.replace(annotation=each.empty, default=each.default if each.default is each.empty else ...)
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty)).replace(
        "Ellipsis", "..."
    )


def attributes(kind: type) -> dict[str, str]:
    """The attributes of a class and of its bases in this package, with their parameters."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] not in ("holdall", "collections"):
            continue
        for name, static in vars(base).items():
            if name == "__replace__":  # of Python 3.13
                continue
            if not name.startswith("_") or (name.endswith("__") and name not in vars(object)):
                static = getattr(static, "__func__", static)
                if inspect.isfunction(static):
                    found[name] = parameters(static)
                elif not name.startswith("_"):
                    found[name] = ""
    return found


def described(module: str) -> Iterator[str]:
    """The lines of a module."""
    of = import_module(module)
    names = getattr(of, "__all__", None) or [name for name in vars(of) if not name.startswith("_")]
    for name in sorted(set(names)):
        thing = getattr(of, name)
        home = str(getattr(thing, "__module__", module))
        if inspect.ismodule(thing) or not home.startswith("holdall"):
            if name in (getattr(of, "__all__", None) or []):
                yield f"{module} {name}"
        elif module == "holdall" or not inspect.isclass(thing):
            yield f"{module} {name}{parameters(thing) if inspect.isroutine(thing) else ''}"
        else:
            yield f"{module} {name}{'' if issubclass(thing, enum.Enum) else parameters(thing)}"
            inherited: dict[str, str] = {}
            for base in reversed(thing.__mro__[1:]):
                if base.__module__.startswith("holdall") and base.__name__ in PRINTED:
                    inherited |= attributes(base)
            for attribute, call in sorted(attributes(thing).items()):
                if inherited.get(attribute) != call:
                    yield f"{module} {name}.{attribute}{call}"


def surface() -> list[str]:
    return [line for module in MODULES for line in described(module)]


def test_public_names_and_signatures_are_what_they_were() -> None:
    kept = HERE.read_text().splitlines()
    now = surface()
    gone = sorted(set(kept) - set(now))
    assert not gone, "a program may use these:\n" + "\n".join(gone)
    added = sorted(set(now) - set(kept))
    assert not added, "if they are meant to be public, add them to surface.txt:\n" + "\n".join(added)


def test_every_public_name_can_be_imported() -> None:
    for name in dir(holdall):
        assert getattr(holdall, name) is not None
