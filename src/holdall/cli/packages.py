"""What is installed beside holdall: the packages of its extras, as the metadata of its own distribution says,
and what other packages bring to it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from holdall.config.stack import check_layer
from holdall.errors import StoreError
from holdall.plugins import LAYERS, SERIALIZERS, STORES, Plugin, read_plugins
from holdall.uri import check_store
from holdall.values.registry import check_serializer

_OWN = "holdall"
_requirement = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*([^;]*?)\s*(?:;(.*))?").fullmatch
_find_extra = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""").search
_find_python = re.compile(r"""python_version\s*(<|>=)\s*['"]([\d.]+)['"]""").search
_limits = re.compile(r"(>=|<=|==|<|>)\s*([\d.]+)").findall


class Extra(NamedTuple):
    """What `pip install 'holdall[NAME]'` would bring."""

    name: str
    installed: dict[str, str]
    """The versions of its packages that are here."""
    missing: list[str]
    """The requirements that nothing here fulfills, as pip takes them."""


def read_extras() -> list[Extra]:
    """Return the extras of the installed holdall, in order; none if it runs from a folder that pip doesn't
    know."""
    try:
        found = metadata.distribution(_OWN)
    except metadata.PackageNotFoundError:
        return []
    extras = {
        name: Extra(name, {}, [])
        for name in sorted(found.metadata.get_all("Provides-Extra") or ())
        if name != "all"
    }
    for text in found.requires or ():
        for name, package, limits in _read(text):
            if name not in extras:
                continue
            version = _version(package)
            if version is None or not _fits(version, limits):
                extras[name].missing.append(f"{package}{limits}")
            else:
                extras[name].installed[package] = version
    return list(extras.values())


def _read(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the extra, the package and the limits of a requirement that counts for this Python (PEP 508)."""
    parts = _requirement(text)
    if parts is None or parts[3] is None:
        return
    extra, python = _find_extra(parts[3]), _find_python(parts[3])
    if extra is None or parts[1] == _OWN:
        return
    if python is not None and (sys.version_info[:2] < _numbers(python[2])) != (python[1] == "<"):
        return
    yield extra[1], parts[1], parts[2].strip("() ")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, limits: str) -> bool:
    """Return whether a version is within limits such as `>=2.2,<3`; only its numbers are compared."""
    has = _numbers(version)
    for sign, text in _limits(limits):
        limit = _numbers(text)
        wide = max(len(has), len(limit))
        one, other = ((*each, *[0] * (wide - len(each))) for each in (has, limit))
        if not {">=": one >= other, "<=": one <= other, "==": one == other, "<": one < other}.get(
            sign, one > other
        ):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers at the start of a version.

    >>> _numbers("2.1.0rc1"), _numbers("2026.8")
    ((2, 1, 0), (2026, 8))
    """
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


class Brought(NamedTuple):
    """A store, a layer or a serializer of another package."""

    package: str
    kind: str
    name: str
    value: str
    """Where it is: `module:name`."""
    error: str | None
    """Why it can't be used."""


def read_brought() -> list[Brought]:
    """Load all that other packages bring, and return it by package."""
    found = [each for group in (STORES, LAYERS, SERIALIZERS) for each in read_plugins(group)]
    return sorted(Brought(each.package, each.kind, each.name, each.value, _error(each)) for each in found)


def _error(plugin: Plugin) -> str | None:
    try:
        if plugin.group == STORES:
            check_store(plugin.name)
        elif plugin.group == LAYERS:
            check_layer(plugin.name)
        else:
            check_serializer(plugin)
    except StoreError as error:
        return str(error).replace(str(plugin), "it", 1)
    return None
