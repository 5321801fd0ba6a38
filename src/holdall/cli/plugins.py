"""What other packages bring to this holdall, and whether it can be used."""

from __future__ import annotations

from typing import NamedTuple

from holdall.config.stack import check_layer
from holdall.errors import StoreError
from holdall.plugins import LAYERS, SERIALIZERS, STORES, Plugin, read_plugins
from holdall.uri import check_store
from holdall.values.registry import check_serializer


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
