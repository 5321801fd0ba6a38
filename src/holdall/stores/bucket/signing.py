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

__all__ = ["listing_of_azure", "signed_url"]

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
    url = _signed_by_account(client, f"{config['container_name']}/{whole}", "b", _PERMISSIONS[method], valid)
    if url is None:
        raise UnsupportedOperation(
            f"the URL of {name!r:.80}, whose name has other characters than a-z, 0-9, '-', '.', '_' and '~', "
            "can be signed with the account's key only; give secret=, or set AZURE_STORAGE_ACCOUNT_KEY"
        )
    return url


def listing_of_azure(client: Any, valid: timedelta) -> tuple[str, dict[str, str]]:
    """Return a URL for requests that list a container of Azure, and the headers that they need.

    Raises:
        UnsupportedOperation: The client doesn't show its credentials.
    """
    config: dict[str, Any] = client.config
    container = str(config["container_name"])
    plain, headers = f"{_base(client)}/{container}", {"x-ms-version": _VERSION}
    if str(config.get("skip_signature", "")).lower() == "true":
        return f"{plain}?", headers
    if client.credential_provider is not None:
        token = client.credential_provider()["token"]
        return f"{plain}?", {**headers, "Authorization": f"Bearer {token}"}
    if signature := config.get("sas_key") or variable("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        return f"{plain}?{str(signature).lstrip('?')}&", headers
    url = _signed_by_account(client, container, "c", "l", valid)
    if url is None:
        raise UnsupportedOperation(
            f"the container {container!r} holds names that can be listed with the account's key, a shared "
            "access signature or a credential_provider only; give one of them"
        )
    return f"{url}&", headers


def _base(client: Any) -> str:
    config: dict[str, Any] = client.config
    account = config.get("account_name") or variable("AZURE_STORAGE_ACCOUNT_NAME")
    return (endpoint_of(client) or f"https://{account}.blob.core.windows.net").rstrip("/")


def _signed_by_account(client: Any, place: str, kind: str, rights: str, valid: timedelta) -> str | None:
    """Return a URL that the key of the account signs; None if the client doesn't show the key.

    https://learn.microsoft.com/rest/api/storageservices/create-service-sas
    """
    config: dict[str, Any] = client.config
    account = config.get("account_name") or variable("AZURE_STORAGE_ACCOUNT_NAME")
    keys = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")
    key = config.get("account_key") or variable(*keys)
    if not account or not key:
        return None
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    start, end = f"{now.isoformat()}Z", f"{(now + valid).isoformat()}Z"
    fields = [rights, start, end, f"/blob/{account}/{place}", "", "", "", _VERSION, kind, *[""] * 7]
    digest = hmac.digest(base64.b64decode(key), "\n".join(fields).encode(), hashlib.sha256)
    query = {"sv": _VERSION, "sr": kind, "sp": rights, "st": start, "se": end}
    query["sig"] = base64.b64encode(digest).decode()
    text = "&".join([f"{field}={quote(value, safe='')}" for field, value in query.items()])
    return f"{_base(client)}/{quote(place)}?{text}"
