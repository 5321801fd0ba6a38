"""Dicts from and to YAML, for blobs of both JSON and YAML."""

from __future__ import annotations

from typing import Any, cast

from holdall.errors import SerializationError
from holdall.values.registry import joined
from holdall.values.same import type_name


def dict_from_yaml(data: bytes) -> dict[str, Any]:
    """Return the dict that YAML holds; an empty file is an empty dict."""
    value = _serializer().decode(data)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SerializationError(f"expected a YAML mapping, got {type_name(value)}")
    return cast("dict[str, Any]", value)


def yaml_of_dict(value: dict[str, Any]) -> bytes:
    """Return a dict as YAML."""
    return joined(_serializer().encode(value))


def _serializer() -> Any:
    # PyYAML is an extra.
    from holdall.values.yaml import YamlSerializer

    return YamlSerializer()
