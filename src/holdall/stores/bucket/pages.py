"""Pages of a listing of S3, asked for by a signed URL, with names that obstore can't hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from holdall.errors import StoreUnavailableError
from holdall.keys import MAX_KEY_BYTES
from holdall.stores.bucket.calls import call
from holdall.stores.bucket.driver import driver
from holdall.stores.bucket.endpoints import endpoint_of
from holdall.stores.bucket.signed import request

__all__ = ["pages"]

_VALID = timedelta(minutes=5)


def pages(client: Any, prefix: str, after: str) -> Iterator[dict[str, Any]]:
    """Yield what S3 says of the objects whose names start with a prefix and sort past `after`, as `listed`
    does; a name may be any."""
    begin, start = _spellable(prefix), _spellable(after)
    while True:
        url = _url(client, begin, start)
        status, _, body = request("GET", url, {}, None)
        if status != 200:
            host = url.split("/", 3)[2]
            raise StoreUnavailableError(f"{host} answered {status} to a listing")
        # What Amazon calls version 2 (ListObjectsV2).
        root = ElementTree.fromstring(body)
        space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
        name = after
        for each in root.iter(f"{space}Contents"):
            name = unquote(each.findtext(f"{space}Key") or "")
            if not name.startswith(prefix):
                continue
            modified = (each.findtext(f"{space}LastModified") or "").replace("Z", "+00:00")
            yield {
                "path": name,
                "size": int(each.findtext(f"{space}Size") or 0),
                "e_tag": each.findtext(f"{space}ETag"),
                "version": None,
                "last_modified": datetime.fromisoformat(modified),
            }
        if (root.findtext(f"{space}IsTruncated") or "").lower() != "true" or name <= after:
            return
        # A name of the server's own can be sent back to it.
        after = start = name


def _spellable(name: str) -> str:
    """Return the start of a name that any request and its answer, which repeats it in XML, can spell."""
    name = re.split("[\0-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", name, maxsplit=1)[0]
    return name.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def _url(client: Any, prefix: str, after: str) -> str:
    """Return a signed URL of one page.

    obstore signs URLs of objects only, but it also signs the query of the endpoint that it is given. What it
    appends for the object becomes the value of a parameter that says nothing: the SDKs of Amazon name the
    call there.
    """
    config: dict[str, Any] = client.config
    bucket = str(config["bucket"])
    base = endpoint_of(client).rstrip("/")
    hosted = str(config.get("virtual_hosted_style_request", "")).lower() == "true"
    if not base:
        region = config.get("region") or config.get("default_region") or "us-east-1"
        base = f"https://s3.{region}.amazonaws.com"
        hosted = False
    place = base if hosted else f"{base}/{bucket}"
    query = f"list-type=2&encoding-type=url&prefix={quote(prefix, safe='')}"
    if after:
        query += f"&start-after={quote(after, safe='')}"
    endpoint = f"{place}/?{query}&x-id="
    changed = {**config, "endpoint": endpoint, "virtual_hosted_style_request": True}
    changed.pop("aws_endpoint_url_s3", None)
    if str(config.get("skip_signature", "")).lower() == "true":
        return endpoint
    make = getattr(driver()._store, type(client).__name__)
    options, provider = client.client_options, client.credential_provider
    other = make(config=changed, client_options=options, credential_provider=provider)
    return call("sign", other, "GET", "list", _VALID)
