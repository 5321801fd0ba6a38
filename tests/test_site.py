"""The site of the documentation: every page is in its navigation, and every public name on one page."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from tests.test_docs import API, ROOT

import holdall

SETTINGS = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]


def pages_in(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_in(each)


def test_every_page_is_in_the_navigation_once() -> None:
    there = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(pages_in(SETTINGS["nav"])) == sorted(there)


def found(path: str) -> object:
    """What `holdall.catalog.Entry` is."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


PRINTED = [name for page in API for name in re.findall(r"^::: (\S+)$", page.read_text(), flags=re.M)]


def test_no_name_is_on_two_pages_of_the_api() -> None:
    assert [name for name, times in Counter(PRINTED).items() if times > 1] == []


@pytest.mark.parametrize(
    "module",
    ["holdall", "holdall.aio", "holdall.catalog", "holdall.locks", "holdall.testing", "holdall.values"],
)
def test_every_public_name_is_on_a_page_of_the_api(module: str) -> None:
    """A name that leads to what another name stands for is printed once, under the shorter one."""
    printed = [found(name) for name in PRINTED]
    for name in import_module(module).__all__:
        if f"{module}.{name}" not in PRINTED:
            assert any(found(f"{module}.{name}") is each for each in printed), f"{module}.{name}"


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == holdall.__version__
    assert f"{holdall.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
