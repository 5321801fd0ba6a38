"""LMDB as a store of holdall, a layer that limits the rate of calls, and fractions."""

from holdall_lmdb.layer import RateLimitedStore
from holdall_lmdb.serializer import FractionSerializer
from holdall_lmdb.store import LmdbStore

__all__ = ["FractionSerializer", "LmdbStore", "RateLimitedStore"]
