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

_VERSION = "2020-12-06"
_PERMISSIONS = {"GET": "r", "HEAD": "r", "PUT": "cw", "DELETE": "d"}
_is_plain = re.compile(r"[A-Za-z0-9._~/-]*\Z").match


def signed_url(
    client: Any, method: Literal["GET", "PUT", "HEAD", "DELETE"], name: str, valid: timedelta
) -> str:
    """Return a URL that lets others make one request of a method on an object.

    obstore signs for Azure the name as the URL spells it, where Azure wants the name itself, so that only
    plain names are left to it.

    Raises:
        UnsupportedOperation: The credentials can't sign this name.
    """
    if type(client).__name__ != AZURE.kind:
        return str(call("sign", client, method, name, valid))
    place = _place_of(client, name)
    url = _sign_by_account(client, place, "b", _PERMISSIONS[method], valid)
    if url is None and _is_plain(place):
        return str(call("sign", client, method, name, valid))
    if url is None:
        raise UnsupportedOperation(
            f"the URL of {name!r:.80}, whose name has other characters than a-z, 0-9, '-', '.', '_' and '~', "
            "can be signed with the account's key only; give secret=, or set AZURE_STORAGE_ACCOUNT_KEY"
        )
    return url


def why_unsigned(client: Any) -> str | None:
    """Return why a client can't sign URLs for others; None if it can."""
    if str(client.config.get("skip_signature", "")).lower() == "true":
        return "it has no credentials (anonymous=True)"
    if type(client).__name__ == AZURE.kind and signature_of(client):
        return "a shared access signature signs no other URLs; give the account's key (secret=)"
    return None


def delete_request(client: Any, name: str, valid: timedelta) -> tuple[str, dict[str, str]]:
    """Return the URL of a delete of our own of an object, and the headers that it needs, which may both hold
    secrets.

    Raises:
        UnsupportedOperation: The client doesn't show its credentials, and they can't sign this name.
    """
    if type(client).__name__ == AZURE.kind:
        granted = _grant(client, _place_of(client, name), "b", _PERMISSIONS["DELETE"], valid)
        if granted is not None:
            return granted
    return signed_url(client, "DELETE", name, valid), {}


def listing_of_azure(client: Any, valid: timedelta) -> tuple[str, dict[str, str]]:
    """Return the start of a URL for requests that list a container of Azure, and the headers that they need.

    Raises:
        UnsupportedOperation: The client doesn't show its credentials.
    """
    container = str(client.config["container_name"])
    granted = _grant(client, container, "c", "l", valid)
    if granted is None:
        raise UnsupportedOperation(
            f"the container {container!r} holds names that can be listed with the account's key, a shared "
            "access signature or a credential_provider only; give one of them"
        )
    url, headers = granted
    return f"{url}{'&' if '?' in url else '?'}", headers


def _grant(
    client: Any, place: str, kind: str, rights: str, valid: timedelta
) -> tuple[str, dict[str, str]] | None:
    """Return the URL of a request to Azure, and its headers, by the credentials that a client shows."""
    config: dict[str, Any] = client.config
    plain, headers = f"{_base(client)}/{quote(place)}", {"x-ms-version": _VERSION}
    if str(config.get("skip_signature", "")).lower() == "true":
        return plain, headers
    if client.credential_provider is not None:
        token = client.credential_provider()["token"]
        return plain, {**headers, "Authorization": f"Bearer {token}"}
    if signature := signature_of(client):
        return f"{plain}?{signature}", headers
    url = _sign_by_account(client, place, kind, rights, valid)
    return None if url is None else (url, headers)


def signature_of(client: Any) -> str:
    """Return the shared access signature that a client of Azure has; empty if it has none."""
    found = client.config.get("sas_key") or variable("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN")
    return "" if client.config.get("account_key") else str(found).lstrip("?")


def _place_of(client: Any, name: str) -> str:
    whole = "/".join([part for part in (client.prefix, name) if part])
    return f"{client.config['container_name']}/{whole}"


def _base(client: Any) -> str:
    config: dict[str, Any] = client.config
    account = config.get("account_name") or variable("AZURE_STORAGE_ACCOUNT_NAME")
    return (endpoint_of(client) or f"https://{account}.blob.core.windows.net").rstrip("/")


def _sign_by_account(client: Any, place: str, kind: str, rights: str, valid: timedelta) -> str | None:
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
