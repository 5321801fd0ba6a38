"""The names of types, and the libraries that wrote a value, with their versions."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Any, Final

from holdall.values.serializer import Serializer

_LIBRARIES: Final = {
    "npy.zst": "numpy", "image": "pillow", "audio": "soundfile", "video": "moviepy", "yaml": "pyyaml",
}  # fmt: skip
"""The distributions that write the formats whose values have no canonical form."""


def name_of(kind: Any) -> str:
    """Return the name of a type as its users spell it.

    >>> from collections import OrderedDict
    >>> name_of(dict), name_of(OrderedDict)
    ('dict', 'collections.OrderedDict')
    """
    module, name = kind.__module__, kind.__qualname__
    if module == "builtins":
        return name
    top = module.partition(".")[0]
    # Such as pandas.DataFrame, which is in pandas.core.frame.
    if top != module and vars(sys.modules.get(top, sys)).get(name) is kind:
        return f"{top}.{name}"
    return f"{module}.{name}"


@lru_cache(64)
def library_of(distribution: str) -> str:
    """Return the name and the version of an installed library; an empty str if there is none."""
    if not distribution:
        return ""
    version = _version_of(distribution)
    return f"{distribution} {version}" if version else ""


def _version_of(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except (PackageNotFoundError, ValueError):
        found = getattr(sys.modules.get(distribution), "__version__", "")
        return found if isinstance(found, str) else ""


def library_of_type(kind: Any) -> str:
    """Return the library that a type is of, by the version that its package names."""
    top = kind.__module__.partition(".")[0]
    version = getattr(sys.modules.get(top), "__version__", None)
    return f"{top} {version}" if isinstance(version, str) and top not in ("builtins", "__main__") else ""


_numbers = re.compile(r"[0-9]+").findall


def library_of_serializer(serializer: Serializer) -> str:
    """Return the library that a serializer writes with, or that it is of."""
    return library_of(_LIBRARIES.get(serializer.name, "")) or library_of_type(type(serializer))


def about(library: str) -> str:
    """Return sentences that name the library that wrote bytes which can't be read, and say if the installed
    one is older; an empty str without a library."""
    name, _, wrote = library.partition(" ")
    if not wrote:
        return ""
    here = getattr(sys.modules.get(name), "__version__", None) or _version_of(name)
    said = f"It was written by {library}"
    if not isinstance(here, str) or not here:
        return f"{said}, which isn't installed here"
    if _order(here) < _order(wrote):
        return f"{said}; the installed version, {here}, is older: pip install -U {name}"
    return f"{said}; the installed version is {here}"


def _order(version: str) -> list[int]:
    return [int(each) for each in _numbers(version)[:3]]
