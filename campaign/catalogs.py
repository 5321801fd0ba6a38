"""Processes that use one catalogue for a minute, and are killed: no acknowledged update is lost, no row lacks
its bytes, and nothing is left once it was swept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.catalog.chaos import chaos

from holdall import BlobStore

CATALOGS: dict[str, Callable[[Path], BlobStore]] = {
    "BlobStore over JSON": lambda place: BlobStore(place / "store", "json", keep=3),
    "BlobStore over SQLite": lambda place: BlobStore(place / "store", "sqlite", keep=3),
    "BlobStore over JSON, durable": lambda place: BlobStore(place / "store", "json", durable=True),
}

_SECONDS = 60.0


def kill(make: Callable[[Path], BlobStore], place: Path, visit: int) -> int:
    """Kill processes that put, update, delete and collect."""
    return chaos(lambda: make(place), place, _SECONDS, visit)["killed"]
