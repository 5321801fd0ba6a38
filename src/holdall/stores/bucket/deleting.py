"""A delete of the version that a caller has seen, which obstore lacks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from holdall.errors import StoreUnavailableError, UnsupportedOperation
from holdall.stopping import away
from holdall.stores.bucket.calls import call
from holdall.stores.bucket.clouds import AZURE
from holdall.stores.bucket.endpoints import endpoint_of
from holdall.stores.bucket.google import google_token
from holdall.stores.bucket.signed import request
from holdall.stores.bucket.signing import delete_request, signature_of

_VALID = timedelta(minutes=5)
"""How long a signed URL holds: clocks may differ by minutes."""


def delete_any(client: Any, name: str) -> None:
    """Delete an object, whatever version it is.

    Raises:
        FileNotFoundError: There was none, and the server says so.
        obstore.exceptions.BaseError: As obstore does.
        StoreUnavailableError: As for `delete_version`.
    """
    if type(client).__name__ != AZURE.kind or not signature_of(client):
        call("delete", client, name)
    # obstore deletes on Azure by a batch of one, which Azurite fails to do for a shared access signature.
    elif delete_version(client, name, None) is None:
        raise FileNotFoundError(name)


def delete_version(client: Any, name: str, tag: str | None) -> bool | None:
    """Delete an object if it is the version of a tag.

    S3 and Azure compare an `If-Match` that isn't part of the signed URL. A signed URL of Google's would have
    to include its condition, so there it is a call of the JSON API.

    Args:
        client: A store of obstore.
        name: The name of the object, below the prefix of the client.
        tag: The ETag as the server takes it, with its quotes where it wants them; the generation on Google
            Cloud Storage. None for any version, but not there.

    Returns:
        Whether it was deleted: False if the object is another version, None if the object doesn't exist.

    Raises:
        UnsupportedOperation: The server takes no such call, or the credentials for it aren't known.
        StoreUnavailableError: The server didn't answer, or neither deleted nor refused by the condition.
            Unless it answered, the object may have been deleted.
    """
    headers: dict[str, str] = {}
    if type(client).__name__ == "GCSStore":
        url = _json_url(client, name, str(tag))
        bearer = google_token(client)
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
    else:
        url, headers = delete_request(client, name, _VALID)
        if tag is not None:
            headers["If-Match"] = tag
    status, _ = away(lambda: request("DELETE", url, headers))
    if status in (200, 202, 204):
        return True
    if status in (409, 412):
        return False
    if status == 404:
        return None
    host = url.split("/", 3)[2]
    if status in (400, 405, 501):
        raise UnsupportedOperation(f"{host} takes no conditional delete: it answered {status}")
    raise StoreUnavailableError(f"{host} answered {status} to a conditional delete")


def _json_url(client: Any, name: str, generation: str) -> str:
    from urllib.parse import quote

    config: dict[str, Any] = client.config
    base = endpoint_of(client) or "https://storage.googleapis.com"
    whole = "/".join([part for part in (client.prefix, name) if part])
    # https://cloud.google.com/storage/docs/json_api/v1/objects/delete
    place = f"{quote(config['bucket'], safe='')}/o/{quote(whole, safe='')}"
    return f"{base.rstrip('/')}/storage/v1/b/{place}?ifGenerationMatch={quote(generation, safe='')}"
