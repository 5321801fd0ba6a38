"""Dicts kept as YAML."""

from __future__ import annotations

from typing import Any, Self, cast

from holdall.blobs.bytes import BytesBlob
from holdall.blobs.file import load, suffix_of
from holdall.blobs.json import JsonDictBlob
from holdall.blobs.text import StrBlob
from holdall.errors import SerializationError
from holdall.values.registry import joined
from holdall.values.same import type_name

__all__ = ["YamlDictBlob"]


def _yaml() -> Any:
    from holdall.values.yaml import YamlSerializer

    return YamlSerializer()


class YamlDictBlob(StrBlob):
    """A dict, kept as YAML, in the part of it that names no Python objects.

    `load` and `dump` take JSON too, where a file's name ends so.

    Args:
        blob: The dict, or its YAML, which is not looked at before `as_dict`.

    Raises:
        SerializationError: YAML can't hold the dict.
        MissingDependencyError: `pip install 'holdall[yaml]'`.

    >>> YamlDictBlob("name: Ada\\nborn: 1815").as_dict()
    {'name': 'Ada', 'born': 1815}
    """

    def __init__(self, blob: bytes | bytearray | memoryview | BytesBlob | str | dict[str, Any]) -> None:
        super().__init__(joined(_yaml().encode(blob)) if isinstance(blob, dict) else blob)

    @property
    def media_type(self) -> str:
        return "application/yaml"

    def as_dict(self) -> dict[str, Any]:
        """Return the dict; an empty file is an empty dict.

        Raises:
            SerializationError: The bytes aren't YAML, or aren't a mapping.
        """
        value = _yaml().decode(self._bytes)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise SerializationError(f"expected a YAML mapping, got {type_name(value)}")
        return cast("dict[str, Any]", value)

    @classmethod
    def load(cls, f: Any) -> Self:
        if suffix_of(f) == ".json":
            return cls(JsonDictBlob(load(f)).as_dict())
        return super().load(f)

    def _for_suffix(self, suffix: str) -> bytes:
        if suffix == ".json":
            return JsonDictBlob(self.as_dict()).as_bytes()
        return super()._for_suffix(suffix)
