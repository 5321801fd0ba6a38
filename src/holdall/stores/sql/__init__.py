"""A store in a table of a PostgreSQL database."""

from holdall.stores.sql.store import SqlStore

__all__ = ["SqlStore"]
