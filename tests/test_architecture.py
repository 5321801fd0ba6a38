"""The drawing in docs/architecture.md is what the imports say, and no room is too large."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HOUSE = Path(__file__).parent.parent
PAGE = (HOUSE / "docs/architecture.md").read_text()
SOURCE = HOUSE / "src"
DOORS = {
    ("holdall.store", room) for room in re.findall(r"^- `.+` opens `holdall\.(\S+)`", PAGE, re.MULTILINE)
}
"""Imports within a function of the contract that lead up, which the page lists."""


def floors() -> dict[str, int]:
    """The rooms of the drawing, and how far down each is."""
    (drawing,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    rows = [line.partition("  #")[0].split() for line in drawing.splitlines()]
    return {room: floor for floor, row in enumerate(rows) for room in row}


def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in (SOURCE / "holdall").rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """The modules that a module imports, at any place; what only types need isn't imported when it runs."""
    tree = parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


@cache
def read_imports() -> dict[str, set[str]]:
    """Return what each module imports, but for the doors. It takes a second, so that no worker that only
    collects these tests does it."""
    return {
        module: {each for each in imported(path) if each in MODULES and (module, room(each)) not in DOORS}
        for module, path in MODULES.items()
    }


def test_every_room_is_in_the_drawing_once() -> None:
    (drawing,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    drawn = [name for line in drawing.splitlines() for name in line.partition("  #")[0].split()]
    assert sorted(drawn) == sorted({room(module) for module in MODULES} - {"holdall", "__main__"})


def test_imports_run_down() -> None:
    below = floors()
    up = [
        f"{module} imports {each}"
        for module, others in read_imports().items()
        for each in others
        if room(module) != room(each) and "holdall" not in (room(each), room(module))
        if below.get(room(module), -1) >= below[room(each)]
    ]
    assert sorted(up) == []


def test_each_door_is_used() -> None:
    assert DOORS
    for module, to in DOORS:
        assert to in {room(each) for each in imported(MODULES[module])}, f"{module} has no door to {to}"


def test_no_circles() -> None:
    done: set[str] = set()
    under_way: list[str] = []
    circles: list[list[str]] = []

    def visit(module: str) -> None:
        if module in under_way:
            circles.append([*under_way[under_way.index(module) :], module])
        elif module not in done:
            under_way.append(module)
            for each in sorted(read_imports()[module] - {module}):
                visit(each)
            under_way.pop()
            done.add(module)

    for module in sorted(MODULES):
        visit(module)
    # A PathStore picks its class by the path that it is given, and the classes are made of it.
    assert [each for each in circles if "holdall.stores.path.store" not in each] == []


def test_rooms_have_a_size_to_work_in() -> None:
    """A class has 450 lines at most, but for the contract, and a function 60, its docstring included."""
    most = {ast.ClassDef: 450, ast.FunctionDef: 60, ast.AsyncFunctionDef: 60}
    long: list[str] = []
    for module, path in MODULES.items():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > most[type(node)] and (module, node.name) != ("holdall.store", "Store"):
                long.append(f"{module}.{node.name} has {lines} lines")
    assert long == []
