"""Models as content: their JSON with the name of their class, which reading looks up but never imports."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Final, cast

from holdall.errors import SerializationError
from holdall.values.json import MARK
from holdall.values.serializer import Buffer

FORMATS: Final = {"pydantic": "BaseModel", "msgspec": "Struct"}
"""The base of all models, by the format, which has the name of its library."""

_model = re.compile(
    rb'\{"\$holdall":"(pydantic|msgspec)","type":("[^"\\]+"),"value":(.*)\}', re.DOTALL
).fullmatch


def wrapped(form: str, name: str, text: bytes) -> bytes:
    """Return the JSON of a model with the name of its class."""
    head = f'{{"{MARK}":"{form}","type":{json.dumps(name, ensure_ascii=False)},"value":'
    return head.encode() + text + b"}"


def model_of(serializer: Any, data: Buffer) -> Any:
    """Return the model that stored bytes hold, of a class that was imported already: bytes must not choose
    what is imported.

    Raises:
        SerializationError: Its class isn't known here, or doesn't take it.
    """
    found = _model(bytes(data))
    if found is None or found[1].decode() != serializer.name:
        raise SerializationError(f"this isn't a {serializer.name} model that a catalogue wrote")
    name = found[2][1:-1].decode("utf-8", "replace")
    kind = class_named(name)
    library, base = serializer.name, FORMATS[serializer.name]
    root = getattr(sys.modules.get(library), base, None)
    if kind is None or root is None or not issubclass(kind, root):
        raise SerializationError(
            f"this is a {serializer.name} model, {name}, and no such class was imported here; import its "
            "module first, or read the JSON of its fields from the stored bytes"
        )
    return serializer.decode_as(found[3], kind)


def class_named(name: str) -> type[Any] | None:
    """Return the class of a name such as `module.Outer.Inner` in a module that was imported; None without
    one."""
    module, parts = name, list[str]()
    while module not in sys.modules:
        module, found, part = module.rpartition(".")
        if not found:
            return None
        parts.insert(0, part)
    held: Any = sys.modules[module]
    for part in parts:
        # Not by getattr, which a module may answer with an import.
        held = getattr(held, "__dict__", {}).get(part)
    return cast("type[Any]", held) if isinstance(held, type) else None
