"""Pages of a listing, asked for by requests of our own, with names that obstore can't hold."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from holdall.errors import StoreUnavailableError
from holdall.keys import MAX_KEY_BYTES
from holdall.stopping import Stopped, current
from holdall.stores.bucket.calls import call
from holdall.stores.bucket.clouds import AZURE, GOOGLE, S3
from holdall.stores.bucket.driver import driver
from holdall.stores.bucket.endpoints import endpoint_of
from holdall.stores.bucket.errors import UnknownError
from holdall.stores.bucket.google import google_token
from holdall.stores.bucket.signed import request
from holdall.stores.bucket.signing import listing_of_azure

_VALID = timedelta(minutes=5)
_PAUSES = (0.1, 0.3, 1, 3, 9)
"""Seconds before a request that failed is repeated."""

_log = logging.getLogger("holdall")


def pages(client: Any, prefix: str, after: str) -> Iterator[dict[str, Any]]:
    """Yield what the server says of the objects whose names start with a prefix and sort past `after`, as
    `listed` does; a name may be any. On Azure they come in the order of UTF-16.

    Raises:
        UnsupportedOperation: The client of Google or Azure doesn't show the credentials that this needs.
    """
    ask = _pages_of_azure if type(client).__name__ == AZURE.kind else _pages
    # obstore's names are below the prefix of its client.
    root = f"{client.prefix}/" if client.prefix else ""
    for meta in ask(client, root + prefix, root + after):
        yield {**meta, "path": meta["path"][len(root) :]} if root else meta


def _pages(client: Any, prefix: str, after: str) -> Iterator[dict[str, Any]]:
    begin, start = _spellable(prefix), _spellable(after)
    while True:
        url, headers = _url(client, begin, start), dict[str, str]()
        if type(client).__name__ == GOOGLE.kind and (token := google_token(client)) is not None:
            headers["Authorization"] = f"Bearer {token}"
        # What Amazon calls version 2 (ListObjectsV2).
        root, space = _answer(url, headers)
        encoded = type(client).__name__ == S3.kind or root.findtext(f"{space}EncodingType") == "url"
        name = after
        for each in root.iter(f"{space}Contents"):
            name = each.findtext(f"{space}Key") or ""
            name = unquote(name) if encoded else name
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


def _pages_of_azure(client: Any, prefix: str, after: str) -> Iterator[dict[str, Any]]:
    """https://learn.microsoft.com/rest/api/storageservices/list-blobs"""
    mark = ""
    while True:
        base, headers = listing_of_azure(client, _VALID)
        query = f"restype=container&comp=list&prefix={quote(_spellable(prefix), safe='')}"
        query += f"&marker={quote(mark, safe='')}" if mark else ""
        root, _ = _answer(f"{base}{query}", headers)
        for each in root.iter("Blob"):
            field = each.find("Name")
            name = (field.text if field is not None else None) or ""
            if field is not None and field.get("Encoded") == "true":
                name = unquote(name)
            meta = each.find("Properties")
            if meta is None or not name.startswith(prefix) or name <= after:
                continue
            yield {
                "path": name,
                "size": int(meta.findtext("Content-Length") or 0),
                "e_tag": meta.findtext("Etag"),
                "version": None,
                "last_modified": parsedate_to_datetime(meta.findtext("Last-Modified") or ""),
            }
        mark = root.findtext("NextMarker") or ""
        if not mark:
            return


def _answer(url: str, headers: dict[str, str]) -> tuple[ElementTree.Element, str]:
    """Return what a request is answered with, and the name space of its elements."""
    for pause in _PAUSES:
        try:
            status, body = request("GET", url, headers)
            if status < 500 and status != 429:
                break
        except UnknownError as error:
            _log.debug("a listing is asked for again: %s", error)
        _wait(pause)
    else:
        status, body = request("GET", url, headers)
    if status != 200:
        host = url.split("/", 3)[2]
        raise StoreUnavailableError(f"{host} answered {status} to a listing")
    root = ElementTree.fromstring(body)
    return root, root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""


def _wait(seconds: float) -> None:
    stop = current.get()
    if stop is None:
        time.sleep(seconds)
    elif stop.wait(seconds):
        raise Stopped


def _spellable(name: str) -> str:
    """Return the start of a name that any request and its answer, which repeats it in XML, can spell."""
    name = re.split("[\0-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", name, maxsplit=1)[0]
    return name.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def _url(client: Any, prefix: str, after: str) -> str:
    """Return a URL of one page, signed for S3.

    obstore signs URLs of objects only, but it also signs the query of the endpoint that it is given. What it
    appends for the object becomes the value of a parameter that says nothing: the SDKs of Amazon name the
    call there.
    """
    config: dict[str, Any] = client.config
    bucket = str(config["bucket"])
    base = endpoint_of(client).rstrip("/")
    if type(client).__name__ == GOOGLE.kind:
        base = base or "https://storage.googleapis.com"
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
    if type(client).__name__ == GOOGLE.kind or str(config.get("skip_signature", "")).lower() == "true":
        return endpoint
    make = getattr(driver()._store, type(client).__name__)
    options, provider = client.client_options, client.credential_provider
    other = make(config=changed, client_options=options, credential_provider=provider)
    return call("sign", other, "GET", "list", _VALID)
