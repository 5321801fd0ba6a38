"""URLs that let a request in without credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

from holdall.errors import UnsupportedOperation
from holdall.stores.bucket.calls import call
from holdall.stores.bucket.clouds import AZURE
from holdall.stores.bucket.endpoints import endpoint_of, variable

__all__ = ["signed_url"]

_VERSION = "2020-12-06"
_PERMISSIONS = {"GET": "r", "HEAD": "r", "PUT": "cw", "DELETE": "d"}
_is_plain = re.compile(r"[A-Za-z0-9._~/-]*\Z").match


def signed_url(
    client: Any, method: Literal["GET", "PUT", "HEAD", "DELETE"], name: str, valid: timedelta
) -> str:
    """Return a URL for one request of a method on an object.

    obstore signs for Azure the name as the URL spells it, where Azure wants the name itself, so that only
    plain names are left to it.

    Raises:
        UnsupportedOperation: The name isn't plain, and the account's key isn't known.
    """
    whole = "/".join([part for part in (client.prefix, name) if part])
    if type(client).__name__ != AZURE.kind or _is_plain(whole):
        return str(call("sign", client, method, name, valid))
    config: dict[str, Any] = client.config
    account = config.get("account_name") or variable("AZURE_STORAGE_ACCOUNT_NAME")
    keys = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")
    key = config.get("account_key") or variable(*keys)
    if not account or not key:
        raise UnsupportedOperation(
            f"the URL of {name!r:.80}, whose name has other characters than a-z, 0-9, '-', '.', '_' and '~', "
            "can be signed with the account's key only; give secret=, or set AZURE_STORAGE_ACCOUNT_KEY"
        )
    base = (endpoint_of(client) or f"https://{account}.blob.core.windows.net").rstrip("/")
    place = f"{config['container_name']}/{whole}"
    # https://learn.microsoft.com/rest/api/storageservices/create-service-sas
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    start, end = f"{now.isoformat()}Z", f"{(now + valid).isoformat()}Z"
    rights = _PERMISSIONS[method]
    fields = [rights, start, end, f"/blob/{account}/{place}", "", "", "", _VERSION, "b", *[""] * 7]
    digest = hmac.digest(base64.b64decode(key), "\n".join(fields).encode(), hashlib.sha256)
    query = {"sv": _VERSION, "sr": "b", "sp": rights, "st": start, "se": end}
    query["sig"] = base64.b64encode(digest).decode()
    text = "&".join([f"{field}={quote(value, safe='')}" for field, value in query.items()])
    return f"{base}/{quote(place)}?{text}"
