"""Processes that use one catalogue and are killed, 600 of them: no acknowledged update is lost, no row lacks
its bytes, and nothing is left once it was swept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.catalog.chaos import chaos
from tests.servers.postgresql import PostgresServer

from campaign.attacks import Tally
from holdall import BlobStore
from holdall.catalog.postgresql import PostgresqlBackend

_KILLS = 600
"""How many processes a visit kills, which takes a minute or more."""


def attack(seconds: float) -> Tally:
    """Visit a catalogue over each backend, and go on until the time is up."""
    with PostgresServer("max_connections=200") as server:

        def shared(place: Path) -> BlobStore:
            backend = PostgresqlBackend(server.url, schema=f"s{abs(hash(place)):x}")
            store = BlobStore(place / "store", backend, keep=3)
            store._owns = True, True
            return store

        catalogs: dict[str, Callable[[Path], BlobStore]] = {
            "BlobStore over JSON": lambda place: BlobStore(place / "store", "json", keep=3),
            "BlobStore over SQLite": lambda place: BlobStore(place / "store", "sqlite", keep=3),
            "BlobStore over PostgreSQL": shared,
            "BlobStore over JSON, durable": lambda place: BlobStore(place / "store", "json", durable=True),
        }
        return Tally("kills in a catalogue").run(catalogs, kill, seconds)


def kill(make: Callable[[Path], BlobStore], place: Path, visit: int) -> int:
    """Kill processes that put, update, delete and collect."""
    return chaos(lambda: make(place), place, _KILLS, visit)["killed"]
