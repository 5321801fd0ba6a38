"""Dicts kept as YAML."""

from __future__ import annotations

from typing import Any, Self

from holdall.blobs.bytes import BytesBlob
from holdall.blobs.file import load, suffix_of
from holdall.blobs.json import JsonDictBlob
from holdall.blobs.mappings import dict_from_yaml, yaml_of_dict
from holdall.blobs.text import StrBlob


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
        super().__init__(yaml_of_dict(blob) if isinstance(blob, dict) else blob)

    @property
    def media_type(self) -> str:
        return "application/yaml"

    def as_dict(self) -> dict[str, Any]:
        """Return the dict; an empty file is an empty dict.

        Raises:
            SerializationError: The bytes aren't YAML, or aren't a mapping.
        """
        return dict_from_yaml(self._bytes)

    @classmethod
    def load(cls, f: Any) -> Self:
        if suffix_of(f) == ".json":
            return cls(JsonDictBlob(load(f)).as_dict())
        return super().load(f)

    def _for_suffix(self, suffix: str) -> bytes:
        if suffix == ".json":
            return JsonDictBlob(self.as_dict()).as_bytes()
        return super()._for_suffix(suffix)
