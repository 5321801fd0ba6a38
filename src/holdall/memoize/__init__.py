"""`cached`: the results of calls, kept in a store."""

from holdall.memoize.decorator import cached
from holdall.memoize.function import BoundCached, Cached, CacheInfo

__all__ = ["BoundCached", "CacheInfo", "Cached", "cached"]
