"""Which metadata backend a catalogue gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from holdall.catalog.backend import MetadataBackend
from holdall.errors import InvalidArgumentError

__all__ = ["backend_of"]

_JSON: Final = "cache_metadata.json"
_SQLITE: Final = "cache_metadata.db"


def backend_of(given: Any, cache_dir: Path, durable: bool) -> MetadataBackend:
    """Return the metadata backend that was given: an instance, a name, or the URL of a database.

    Raises:
        InvalidArgumentError: It is none of them.
    """
    if isinstance(given, MetadataBackend):
        return given
    if given is None and _has(cache_dir, _SQLITE):
        if _has(cache_dir, _JSON):
            raise InvalidArgumentError(
                f"{os.fspath(cache_dir)!r} has two catalogues, as after migrate(): say backend='json' or "
                f"'sqlite', or delete the one that isn't used any more, {_JSON} or {_SQLITE}"
            )
        # To open an empty catalogue beside the one that is there helps nobody.
        given = "sqlite"
    if given is None or given == "json":
        from holdall.catalog.jsonfile import JsonBackend

        return JsonBackend(cache_dir / _JSON, durable=durable)
    if given == "sqlite":
        from holdall.catalog.sqlite import SqliteBackend

        return SqliteBackend(cache_dir / _SQLITE, durable=durable)
    if isinstance(given, str) and given.startswith(("postgresql://", "postgres://")):
        from holdall.catalog.postgresql import PostgresqlBackend

        return PostgresqlBackend(given)
    # Without what it holds: it may be the URL of a database, with a password.
    kind = repr(given.partition("://")[0]) if isinstance(given, str) else type(given).__name__
    raise InvalidArgumentError(
        f"backend must be 'json', 'sqlite', 'postgresql://...' or a MetadataBackend, not {kind}"
    )


def _has(cache_dir: Path, name: str) -> bool:
    return os.path.lexists(cache_dir / name)
