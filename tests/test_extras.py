"""What an error says to install brings the package that was missed."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdall import MissingDependencyError
from holdall.values.packages import needed

ROOT = Path(__file__).parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
PACKAGES = {"PIL": "pillow", "yaml": "pyyaml", "backports": "backports.zstd"}
"""Modules whose package has another name."""


def packages_of(extra: str) -> set[str]:
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        parts = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement)
        assert parts is not None
        if parts[1] == "holdall":
            for other in parts[2].split(","):
                found |= packages_of(other)
        found.add(parts[1])
    return found


def advice() -> Iterator[tuple[str, str, str | None]]:
    """Yield the place, the module and the extra of each call that imports an optional package."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if name in ("needed", "_need_module") and isinstance(node, ast.Call) and len(node.args) == 3:
                module, extra = (ast.literal_eval(each) for each in node.args[:2])
                yield f"{path.name}:{node.lineno}", module, extra


def test_each_extra_brings_what_was_missed() -> None:
    wrong: list[str] = []
    calls = list(advice())
    for place, module, extra in calls:
        top = module.partition(".")[0]
        # Python's own from 3.14 on; before, nobody imports it.
        brings = extra is None or top == "compression" or PACKAGES.get(top, top) in packages_of(extra)
        if not brings:
            wrong.append(f"{place}: {module} isn't in the extra {extra}")
    assert wrong == []
    assert len(calls) > 50


def test_a_library_of_the_user_is_named_itself() -> None:
    with pytest.raises(
        MissingDependencyError, match=r"a frame needs no_such_frames, .*: pip install no_such_frames$"
    ):
        needed("no_such_frames.testing", None, "a frame")
    with pytest.raises(MissingDependencyError, match=r"pip install 'holdall\[frames\]'$"):
        needed("no_such_frames.testing", "frames", "a frame")
