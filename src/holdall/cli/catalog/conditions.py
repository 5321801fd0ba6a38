"""Conditions as a command line has them: `metadata.loss<0.1`, `type=dict`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from holdall.cli.errors import UsageFault, warn
from holdall.cli.parameters import Parameter

if TYPE_CHECKING:
    from holdall.catalog import BlobStore

_parts = re.compile(r"([^<>=!^~]+)(<=|>=|!=|==|\^=|=|<|>)(.*)", re.DOTALL).fullmatch
_TEXTS: Final = ("key", "digest", "type", "format", "codec", "library")
_TIMES: Final = ("created", "updated")

Conditions = Annotated[
    list[str] | None,
    Parameter(
        metavar="CONDITION",
        help="FIELD, one of = != < <= > >= ^= (begins with), and a value, in quotes for the shell: "
        "'metadata.loss<0.1'. All of them must hold.",
    ),
]
Where = Annotated[
    str | None,
    Parameter(
        "--where",
        metavar="JSON",
        help='A condition as in Python: {"or": [{"metadata.tag": "a"}, ...]}.',
    ),
]


def value_of(text: str) -> Any:
    """Return JSON where the text is some, otherwise the text itself.

    >>> value_of("0.5"), value_of("null"), value_of("production"), value_of('"2.1"')
    (0.5, None, 'production', '2.1')
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def parse_pairs(words: Iterable[str]) -> dict[str, Any]:
    """Return the metadata that words such as `accuracy=0.95` give.

    Raises:
        UsageFault: One isn't a name with a value.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageFault(f"{word!r} isn't NAME=VALUE, such as accuracy=0.95")
        if "." in name:
            outer, _, inner = name.partition(".")
            raise UsageFault(
                f"{name!r} has a dot, which in conditions leads into an object: give the whole object, "
                f"""as in ""{outer}='{{"{inner}": {value if value else '""'}}}'"""
            )
        if name in found:
            raise UsageFault(f"{name!r} is given twice")
        found[name] = value_of(value)
    return found


def parse_conditions(words: Iterable[str], where: str | None) -> dict[str, Any]:
    """Return conditions as `BlobStore.find` takes them.

    Raises:
        UsageFault: One isn't a condition.
    """
    nodes = [_parse(word) for word in words]
    if where is not None:
        try:
            node = json.loads(where)
        except (ValueError, RecursionError) as error:
            raise UsageFault(f"--where isn't JSON: {error}") from error
        if not isinstance(node, dict):
            raise UsageFault('--where takes a JSON object, such as {"metadata.loss": {"<": 0.1}}')
        nodes.append(cast(dict[str, Any], node))
    return {"and": nodes} if nodes else {}


def _parse(word: str) -> dict[str, Any]:
    parts = _parts(word)
    if parts is None or parts[3][:1] in tuple("<>=!^~"):
        raise UsageFault(
            f"{word!r} isn't a condition: write FIELD, one of = != < <= > >= ^= and a value, in quotes, as "
            "in 'metadata.loss<0.1'"
        )
    field, operator, text = parts[1].strip(), parts[2], parts[3].strip()
    if operator[0] in "<>" and not text:
        raise UsageFault(f"{word!r} lacks a value after {operator}, as in '{field}{operator}0.1'")
    value = text if field in _TEXTS or operator == "^=" else value_of(text)
    if field in _TIMES:
        value = _time(text)
    # A value that is an object would be taken for operators.
    return {field: {{"=": "==", "^=": "prefix"}.get(operator, operator): value}}


def _time(text: str) -> str | datetime:
    """Return a time, in UTC unless it has a zone, as the command line prints it."""
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return text


def explain_nothing(store: BlobStore, words: Iterable[str]) -> None:
    """Warn where conditions that match nothing have a field that no entry has, or a number for a text."""
    for word in words:
        ((field, condition),) = _parse(word).items()
        ((operator, value),) = condition.items()
        if not field.startswith("metadata."):
            continue
        if next(store.find({field: {"exists": True}}, limit=1), None) is None:
            warn(f"no entry has {field}")
        elif operator == "==" and not isinstance(value, str):
            text = word.partition("=")[2].lstrip("=").strip()
            if next(store.find({field: {"==": text}}, limit=1), None) is not None:
                warn(f"""{field} is a text in some entries: to compare with it, write '{field}="{text}"'""")
