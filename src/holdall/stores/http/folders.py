"""How the server lists a folder: found out with the first one, and asked for each."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from holdall.errors import BlobNotFoundError, StoreError, StoreUnavailableError, UnsupportedOperation
from holdall.stores.http.address import Address, decoded, origin_of, path_of
from holdall.stores.http.answers import is_endless
from holdall.stores.http.link import GONE, Link
from holdall.stores.http.pages import LEADS_OUT, UNLISTED, Page, read_dav, read_html, read_json

LISTINGS = ("auto", "html", "json", "webdav")
_PROPERTIES = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/>'
    b"<getlastmodified/><getetag/></prop></propfind>"
)
_DEPTH = {"Depth": "1", "Content-Type": "application/xml"}
_TRIES = 8
_NGINX = ("nginx", "openresty", "angie", "tengine", "freenginx")


class Folders:
    """The listings of a server.

    Args:
        link: The connections.
        kind: What the listings are: one of `LISTINGS`.
    """

    def __init__(self, link: Link, kind: str) -> None:
        self._link, self._kind = link, kind
        self._speaks_dav: bool | None = True if kind == "webdav" else None if kind == "auto" else False
        self._lists = False

    def page(self, above: str) -> Page | str | None:
        """List a folder, which is empty or ends in `/`; return why it is left out, or None if it isn't there.

        Raises:
            UnsupportedOperation: The server doesn't list the store.
        """
        found = self._ask(above)
        if not above and not isinstance(found, Page):
            raise UnsupportedOperation(
                f"{self._link.address.url} isn't listed by its server ({found or 'not found (404)'}), so "
                "that its keys can't be listed; check the path, or turn the server's listing on; blobs can "
                "still be read by their keys"
            )
        if isinstance(found, Page):
            self._lists = True
        elif not self._lists:
            # Otherwise a server without listings would seem to be empty.
            self.page("")
        return found

    def _ask(self, above: str) -> Page | str | None:
        address = self._link.address
        url = address.url + path_of(above)
        if self._speaks_dav is None:
            self._speaks_dav = self._offers_dav()
        if self._speaks_dav:
            return self._properties(url)
        return self._request("GET", url, None, None)

    def _properties(self, url: str) -> Page | str | None:
        """Ask for the properties of what is in a folder."""
        for _ in range(_TRIES - 1):
            try:
                found = self._request("PROPFIND", url, _DEPTH, _PROPERTIES)
                if found is not UNLISTED:
                    return found
            except StoreUnavailableError as error:
                if "(500)" not in error.message:
                    raise
            # Of rclone this is the answer if a file is deleted while it looks.
            time.sleep(0.01)
        return self._request("PROPFIND", url, _DEPTH, _PROPERTIES)

    def _request(self, method: str, url: str, headers: Any, body: bytes | None) -> Page | str | None:
        try:
            response = self._link.ask(method, url, headers, body, may_lead=self._is_same)
        except BlobNotFoundError:
            return None
        try:
            return self._read(response, url, self._link.address)
        except (self._link.drivers.HTTPError, self._link.drivers.StreamError, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise self._link.lost(error) from error
        finally:
            self._link.finish(response)

    def _read(self, response: Any, url: str, address: Address) -> Page | str | None:
        status: int = response.status_code
        if status in GONE:
            return None
        if status == 403:
            return f"{UNLISTED} (403)"
        if 300 <= status < 400:
            return LEADS_OUT
        if status not in (200, 207):
            if status in (401, 407, 429) or status >= 500:
                raise self._link.refused(response)
            return f"{UNLISTED} ({status})"
        if status == 207 and self._speaks_dav:
            return read_dav(response.read(), url, address.path) or UNLISTED
        kind: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self._kind in ("auto", "json") and kind.endswith("json"):
            server: str = response.headers.get("server", "").lower()
            return read_json(response.read(), server.startswith(_NGINX)) or UNLISTED
        if self._kind in ("auto", "html") and kind in ("text/html", "application/xhtml+xml"):
            if is_endless(response):
                # A cut listing would hide blobs.
                return f"{UNLISTED} of a known length"
            return read_html(response.iter_bytes(), url, address.path, self._kind == "html") or UNLISTED
        return UNLISTED

    def _offers_dav(self) -> bool:
        """Ask whether the server speaks WebDAV (RFC 4918, section 10.1), which says more than a page."""
        try:
            response = self._link.ask("OPTIONS", self._link.address.url, may_lead=self._is_same)
        except BlobNotFoundError:
            return False
        self._link.finish(response)
        offered: str = response.headers.get("dav", "")
        return "1" in [each.strip() for each in offered.split(",")]

    @staticmethod
    def _is_same(here: str, there: str) -> bool:
        """Whether a redirect leads to the same folder of the same host: as to one with TLS."""
        same = origin_of(here)[1] == origin_of(there)[1]
        return same and decoded(urlsplit(here).path) == decoded(urlsplit(there).path)
