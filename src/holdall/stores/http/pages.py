"""What a listing says: a page of links as people see it, the JSON of nginx, or the XML of WebDAV."""

from __future__ import annotations

import codecs
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Any, NamedTuple, cast
from urllib.parse import unquote_to_bytes, urlsplit

from holdall.blob import NOT_A_KEY
from holdall.stores.http.address import decoded, origin_of
from holdall.stores.http.answers import time_of, token_of

LEADS_OUT = "link that leads out of the store"
UNLISTED = "folder without a listing"
_NO_FILE = "neither a file nor a folder"

_is_title = re.compile(r"\s*(?:index of|directory listing|directory:|listing of)\b", re.IGNORECASE).match
_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:").match


class Found(NamedTuple):
    """A file of a listing that says all that an info has."""

    size: int
    etag: str
    modified: float


class Page(NamedTuple):
    """The contents of a folder, as segments of keys."""

    files: dict[str, Found | None]
    folders: set[str]
    """With a `/` each."""
    odd: dict[str, str]
    """What can't be a blob: of each path in the folder, its kind."""

    def add(self, name: bytes, is_folder: bool, found: Found | None = None, kind: str | None = None) -> None:
        try:
            text = name.decode()
        except UnicodeDecodeError:
            text, kind = name.decode("utf-8", "backslashreplace"), NOT_A_KEY
        if b"/" in name or name in (b"", b".", b".."):
            kind = NOT_A_KEY
        if kind is not None:
            self.odd[text] = kind
        elif is_folder:
            self.folders.add(f"{text}/")
        else:
            self.files[text] = found


def new_page() -> Page:
    return Page({}, set(), {})


class _Links(HTMLParser):
    """The links of a page, and whether it is a listing."""

    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.is_listing = False
        self._heading: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value for name, value in attrs if name == "href" and value]
        elif tag in ("title", "h1"):
            self._heading = []
        elif tag == "div" and ("class", "listing") in attrs:
            # Of Caddy and rclone, whose title is the path alone.
            self.is_listing = True

    def handle_data(self, data: str) -> None:
        if self._heading is not None:
            self._heading.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("title", "h1") and self._heading is not None:
            self.is_listing |= _is_title("".join(self._heading)) is not None
            self._heading = None


def read_html(chunks: Iterable[bytes], url: str, base: str, any_page: bool = False) -> Page | None:
    """Read a page of links.

    Args:
        chunks: Its bytes.
        url: Where it is.
        base: The path of the store: a link out of it is noted.
        any_page: Whether to take a page for a listing that doesn't look like one.
    """
    links = _Links()
    # Names are percent-encoded, so that only what isn't a name depends on the charset.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for chunk in chunks:
        links.feed(decoder.decode(chunk))
    links.feed(decoder.decode(b"", True))
    links.close()
    if not (links.is_listing or any_page):
        return None
    page = new_page()
    for href in links.hrefs:
        _place(page, href, url, base, None)
    return page


def _place(page: Page, href: str, url: str, base: str, found: Found | None, is_folder: bool = False) -> None:
    """Add what a link of a listing leads to."""
    href = href.strip("\t\n\r\f ").partition("#")[0]
    if not href or "?" in href:
        # Another order of the same listing, or an archive of all: a `?` of a name is escaped.
        return
    path = _path_in(href, url)
    if path is None:
        if _scheme(href) is None or href.lower().startswith(("http:", "https:")):
            page.odd[_show_name(href)] = LEADS_OUT
        return
    folder = decoded(urlsplit(url).path)[:-1]
    depth = len(folder)
    if path[:depth] == folder:
        rest = path[depth:]
        if len(rest) == 1 and rest[0]:
            page.add(rest[0], is_folder, found)
        elif len(rest) == 2 and rest[0] and not rest[1]:
            page.add(rest[0], True)
        return
    root = decoded(base)[:-1]
    above = path[:-1] if not path[-1] else path
    if path[: len(root)] != root and root[: len(above)] != above:
        page.odd[_show_name(href)] = LEADS_OUT


def _show_name(href: str) -> str:
    """Return the last segment of a link, as the path of what is left out."""
    path = href.rstrip("/").rpartition("/")[2] or href
    raw = unquote_to_bytes(path.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "backslashreplace").replace("/", "\\x2f")


def _path_in(href: str, url: str) -> tuple[bytes, ...] | None:
    """Return the segments of the path that a link leads to; None if it is on another host."""
    raw = href.encode("utf-8", "surrogateescape").decode("latin-1")
    if _scheme(raw) or raw.startswith("//"):
        there = raw if not raw.startswith("//") else f"{urlsplit(url).scheme}:{raw}"
        try:
            if (
                not there.lower().startswith(("http:", "https:"))
                or origin_of(there)[1:] != origin_of(url)[1:]
            ):
                return None
            raw = urlsplit(there).path or "/"
        except ValueError:
            return None
    segments = [] if raw.startswith("/") else urlsplit(url).path.split("/")[:-1]
    for number, segment in enumerate(raw.split("/")):
        last = number == raw.count("/")
        if segment in (".", ".."):
            if segment == ".." and len(segments) > 1:
                segments.pop()
            if last:
                segments.append("")
        else:
            segments.append(segment)
    return tuple(unquote_to_bytes(segment.encode("latin-1")) for segment in segments)


def read_json(data: bytes, trusted: bool) -> Page | None:
    """Read a listing of nginx (autoindex_format json); None if it isn't one.

    Args:
        data: Its bytes.
        trusted: Whether nginx sent it, so that its ETags are made of the time and the size.
    """
    try:
        listed: Any = json.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    if not isinstance(listed, list):
        return None
    page = new_page()
    for each in cast("list[Any]", listed):
        entry = cast("dict[str, Any]", each if isinstance(each, dict) else {})
        name, kind = entry.get("name"), entry.get("type")
        if not isinstance(name, str) or not isinstance(kind, str):
            return None
        raw = name.encode("utf-8", "surrogateescape")
        if kind == "directory":
            page.add(raw, True)
        elif kind == "file":
            size, modified = entry.get("size"), time_of(entry.get("mtime"))
            found = None
            if trusted and isinstance(size, int) and modified is not None:
                found = Found(size, token_of(None, modified, size) or "", modified)
            page.add(raw, False, found)
        else:
            page.add(raw, False, kind=_NO_FILE)
    return page


def read_dav(data: bytes, url: str, base: str) -> Page | None:
    """Read an answer to PROPFIND (RFC 4918, section 9.1); None if it isn't one."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return None
    if root.tag != "{DAV:}multistatus":
        return None
    page = new_page()
    for response in root.iterfind("{DAV:}response"):
        href = response.findtext("{DAV:}href", "").strip()
        properties = list(_properties(response))
        is_folder = any(prop.find("{DAV:}resourcetype/{DAV:}collection") is not None for prop in properties)
        said = {each.tag: (each.text or "").strip() for prop in properties for each in prop}
        size, etag = said.get("{DAV:}getcontentlength", ""), said.get("{DAV:}getetag", "")
        modified = time_of(said.get("{DAV:}getlastmodified"))
        found = None
        if size.isascii() and size.isdigit() and etag and modified is not None:
            found = Found(int(size), token_of(etag, modified, int(size)) or "", modified)
        # Here a `?` is a character of a name, if a server leaves it so.
        href = href.replace("?", "%3F").replace("#", "%23")
        _place(page, href, url, base, found, is_folder)
    return page


def _properties(response: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for propstat in response.iterfind("{DAV:}propstat"):
        if " 200" in propstat.findtext("{DAV:}status", " 200"):
            yield from propstat.iterfind("{DAV:}prop")
