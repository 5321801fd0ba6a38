"""The errors of the contract for those of the clouds' libraries."""

from __future__ import annotations

from typing import Any, cast

from holdall.errors import BlobNotFoundError, StoreError, StoreUnavailableError

__all__ = ["_ChangedError", "failed"]


class _ChangedError(StoreError):
    """The blob was replaced between two requests."""


def failed(error: Exception, what: str, place: str) -> Exception:
    """The error of the contract for one of a cloud's library."""
    if isinstance(error, StoreError):
        return error
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        told = cast("dict[str, Any]", response)
        status = told.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = str(told.get("Error", {}).get("Code"))
    else:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        known: Any = getattr(error, "error_code", None) or ""
        code = str(getattr(known, "value", known))
    if code in ("NoSuchBucket", "ContainerNotFound"):
        return StoreUnavailableError(f"the bucket {place!r} doesn't exist; make it first")
    if status == 404 or isinstance(error, FileNotFoundError):
        return BlobNotFoundError()
    # Azure also answers 412 if another client holds a lease, which a second attempt doesn't change.
    if (status in (412, 416) and not code.startswith("Lease")) or code == "InvalidBlockList":
        return _ChangedError(f"{place!r} refused to {what}: {error}")
    if status in (401, 403) or "Credentials" in type(error).__name__:
        return StoreUnavailableError(
            f"no permission to {what} in {place!r} ({error}); look at the credentials of the path's client"
        )
    return StoreUnavailableError(f"{place!r} can't {what}: {type(error).__name__}: {error}")
