"""A store in front of a slower one: copies of blobs, chosen freshness, and writing back."""

from holdall.layers.caching.copies import CacheStats
from holdall.layers.caching.store import CacheMode, CachingStore
from holdall.layers.caching.sync import SyncReport

__all__ = ["CacheMode", "CacheStats", "CachingStore", "SyncReport"]
