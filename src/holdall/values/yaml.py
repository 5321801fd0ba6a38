"""YAML, without anything that its tags could run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from holdall.errors import SerializationError
from holdall.values.json import DEPTH, unheld
from holdall.values.packages import needed
from holdall.values.same import difference, place_of, type_name
from holdall.values.serializer import Buffer

__all__ = ["YamlSerializer"]

# What PyYAML raises for documents that aren't YAML, or whose tags don't fit their values.
_FAULTS: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_MERGED: Final = 10_000
_DIGITS: Final = 4_300
"""The longest number in base 60, such as 1:30, that is read: PyYAML takes minutes for long ones."""
_of_sixty = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?").fullmatch
_REPEATED: Final = 10_000_000
"""The number of values that a document's aliases may stand for: a few hundred bytes could mean billions."""


class YamlSerializer:
    """YAML 1.1, as PyYAML's safe loader reads it: no tag can name a class or a function.

    The YAML is read back at once and compared, so values that YAML would change are refused: a tuple, a
    Decimal, a datetime with seconds in its offset. Dicts, lists, sets, str, int, float, bool, None, bytes,
    datetime and date come back as they were; of a time zone its offset, not its name.

    >>> serializer = YamlSerializer()
    >>> print(serializer.encode({"name": "Ada", "tags": ["a", "b"]})[0].decode(), end="")
    name: Ada
    tags:
    - a
    - b
    """

    name = "yaml"
    media_type = "application/yaml"
    extensions: tuple[str, ...] = (".yaml", ".yml")

    def accepts(self, value: Any) -> bool:
        return isinstance(value, (dict, list, set, str, int, float, type(None), bytes)) and not unheld(value)

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        yaml = _yaml()
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        try:
            text: bytes = yaml.dump(
                value, Dumper=dumper, encoding="utf-8", allow_unicode=True, sort_keys=False, width=100
            )
            back = _parse_yaml(yaml, text)
            changed = difference(value, back)
        except (yaml.YAMLError, SerializationError, *_FAULTS) as error:
            raise SerializationError(f"YAML can't hold {type_name(value)}: {_why(value, error)}") from error
        if changed is not None:
            raise SerializationError(
                f"YAML can't hold this value: {changed}. It holds dict, list, set, str, int, float, bool, "
                "None, bytes, datetime and date: convert that value first, or use JSON, which holds more"
            )
        return (text,)

    def decode(self, data: Buffer) -> Any:
        return _parse_yaml(_yaml(), bytes(data))


def _why(value: Any, error: BaseException) -> str:
    # A RepresenterError names what it can't represent; this adds its place.
    if len(error.args) == 2 and (place := place_of(value, error.args[1])):
        return f"it has {type_name(error.args[1])} at {place}; convert that first"
    return " ".join(str(error).split())[:300]


def _yaml() -> Any:
    return needed("yaml", "yaml", "YAML")


def _parse_yaml(yaml: Any, text: bytes) -> Any:
    loader = _loader()
    try:
        _check_size(yaml.parse(text, Loader=loader), yaml)
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, *_FAULTS) as error:
        raise SerializationError(f"this isn't YAML: {error}") from error


@cache
def _loader() -> Any:
    yaml = _yaml()
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def flatten_mapping(self: Any, node: Any) -> None:
        """Merge keys as PyYAML does, with a limit: nested merge keys would grow without end."""
        merged = 0
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for each in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                    if isinstance(each, yaml.MappingNode):
                        self.flatten_mapping(each)
                        merged += len(each.value)
                        if merged > _MERGED:
                            raise ValueError(f"its merge keys bring more than {_MERGED} members")
        base.flatten_mapping(self, node)

    return type("_Loader", (base,), {"flatten_mapping": flatten_mapping})


def _check_size(events: Iterator[Any], yaml: Any) -> None:
    """Refuse a depth at which the parser's own recursion would end the process, and aliases that repeat
    aliases: a program that reads all of their values would never end."""
    # The sizes of anchored values; and of each open collection its anchor and the size before it.
    anchored: dict[str, int] = {}
    above: list[tuple[str | None, int]] = []
    size = repeated = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            size += anchored.get(event.anchor, 1)
            repeated += anchored.get(event.anchor, 1)
            if repeated > _REPEATED:
                raise SerializationError(f"the aliases of this YAML repeat more than {_REPEATED:,} values")
        elif isinstance(event, yaml.CollectionStartEvent):
            above.append((event.anchor, size))
            if len(above) > DEPTH:
                raise SerializationError(f"this YAML is nested deeper than {DEPTH} levels")
            size = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = above.pop()
            if anchor is not None:
                anchored[anchor] = size
            size += before
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > _DIGITS and event.implicit[0] and _of_sixty(event.value):
                raise SerializationError("this YAML has a number that is too long to be read")
            size += 1
            if event.anchor is not None:
                anchored[event.anchor] = 1
