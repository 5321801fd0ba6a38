"""A store in a table of one SQLite file."""

from holdall.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
