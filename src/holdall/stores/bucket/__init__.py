"""A store in a bucket of an object storage."""

from __future__ import annotations

from collections.abc import Callable

from holdall.stores.bucket.location import SCHEMES
from holdall.stores.bucket.store import BucketStore

__all__ = ["BucketStore"]


def _opener(scheme: str) -> Callable[..., BucketStore]:
    def open_bucket(
        location: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        anonymous: bool = False,
        account: str | None = None,
        key: str | None = None,
        secret: str | None = None,
        storage_class: str | None = None,
        timeout: float = 30.0,
    ) -> BucketStore:
        return BucketStore._opened_by(
            scheme,
            location,
            region=region,
            endpoint=endpoint,
            anonymous=anonymous,
            account=account,
            key=key,
            secret=secret,
            storage_class=storage_class,
            timeout=timeout,
        )

    return open_bucket


open_s3, open_gs, open_gcs, open_az, open_abfs, open_r2 = map(_opener, SCHEMES)
"""What opens the URIs of each scheme."""
