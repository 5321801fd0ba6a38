"""Which metadata backend a catalogue gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from holdall.catalog.backend import MetadataBackend
from holdall.catalog.storage import MARK
from holdall.errors import IntegrityError, InvalidArgumentError

_JSON: Final = "cache_metadata.json"
_SQLITE: Final = "cache_metadata.db"
_MARK: Final = f"blobs/{MARK}"


def backend_of(given: Any, cache_dir: Path, durable: bool) -> MetadataBackend:
    """Return the metadata backend that was given: an instance, a name, or the URL of a database.

    Raises:
        InvalidArgumentError: It is none of them.
        IntegrityError: The file of the database was cut to nothing.
    """
    if isinstance(given, MetadataBackend):
        return given
    # SQLite makes the file before it writes to it, so that one without a byte is what a killed program left.
    is_empty = _is_empty(cache_dir / _SQLITE)
    if given is None and _has(cache_dir, _SQLITE) and not (is_empty and _has(cache_dir, _JSON)):
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
        if is_empty and _has(cache_dir, _MARK):
            raise IntegrityError(
                f"{os.fspath(cache_dir / _SQLITE)!r} is empty, and the folder has blobs of a catalogue: the "
                "file was cut; restore it from a backup. If the entries are lost anyway, move the blobs away"
            )
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


def _is_empty(path: Path) -> bool:
    """Return whether a database has no byte, neither in its file nor in its log."""
    try:
        return not path.stat().st_size and not _size_of(path.with_name(path.name + "-wal"))
    except OSError:
        return False


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _has(cache_dir: Path, name: str) -> bool:
    return os.path.lexists(cache_dir / name)
