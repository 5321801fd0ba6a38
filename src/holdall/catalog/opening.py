"""Which metadata backend a catalogue gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdall.catalog.backend import MetadataBackend
from holdall.catalog.jsonfile import JsonBackend
from holdall.catalog.sqlite import SqliteBackend
from holdall.errors import InvalidArgumentError

__all__ = ["backend_of"]


def backend_of(given: Any, cache_dir: Path, durable: bool) -> MetadataBackend:
    """Return the metadata backend that was given: an instance, or a name.

    Raises:
        InvalidArgumentError: It is none of them.
    """
    if isinstance(given, MetadataBackend):
        return given
    if given is None or given == "json":
        return JsonBackend(cache_dir / "cache_metadata.json", durable=durable)
    if given == "sqlite":
        return SqliteBackend(cache_dir / "cache_metadata.db", durable=durable)
    kind = repr(given) if isinstance(given, str) else type(given).__name__
    raise InvalidArgumentError(f"backend must be 'json', 'sqlite' or a MetadataBackend, not {kind}")
