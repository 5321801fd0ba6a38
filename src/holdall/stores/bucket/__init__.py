"""A store in a bucket of an object storage."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from holdall.stores.bucket.location import SCHEMES, parse
from holdall.stores.bucket.store import BucketStore

__all__ = ["BucketStore"]


def _opener(scheme: str) -> Callable[..., BucketStore]:
    @wraps(BucketStore.__init__)
    def open_bucket(location: str, **options: Any) -> BucketStore:
        return BucketStore(parse(f"{scheme}://{location}", decoded=True), **options)

    return open_bucket


open_s3, open_gs, open_gcs, open_az, open_abfs, open_r2 = map(_opener, SCHEMES)
"""What opens the URIs of each scheme."""
