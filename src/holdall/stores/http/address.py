"""Where the store is in the web: its base URL, and the URL of each key."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from holdall.errors import InvalidArgumentError, InvalidTypeError

PORTS = {"http": 80, "https": 443}
_unprintable = re.compile(r"[\x00-\x20\x7f]")


class Address(NamedTuple):
    """The folder of a web server, all of whose parts are percent-encoded (RFC 3986)."""

    scheme: str
    host: str
    """As in a URL: an IPv6 address is in brackets."""
    port: int
    path: str
    """It begins and ends with a `/`."""

    @property
    def origin(self) -> str:
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    @property
    def url(self) -> str:
        return self.origin + self.path


class Given(NamedTuple):
    """What a URL says."""

    address: Address
    username: str | None
    password: str | None


def parse(url: object) -> Given:
    """Take a base URL apart.

    Raises:
        InvalidArgumentError: It isn't the URL of a folder. No message shows it, since it may hold a password.

    >>> parse("https://me:secret@example.org/my files").address.url
    'https://example.org/my%20files/'
    """
    if not isinstance(url, str):
        raise InvalidTypeError(f"the URL of an HttpStore must be a str, not {type(url).__name__}")
    scheme = url.partition("://")[0].lower()
    if scheme not in PORTS or "://" not in url:
        raise InvalidArgumentError("expected a URL that begins with http:// or https://")
    if "?" in url or "#" in url:
        raise InvalidArgumentError(
            "the URL of an HttpStore is that of a folder, without a query or a fragment; write a '?' or '#' "
            "that belongs to a name as %3F or %23"
        )
    if re.search(r"[\x00-\x1f\x7f]", url):
        raise InvalidArgumentError("the URL of an HttpStore has a control character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        url.encode()
    except ValueError:
        # The URL may hold a password, which the error may repeat.
        raise InvalidArgumentError(
            "expected a URL with a host and a port, such as https://example.org:8443/files; write '/', '?', "
            "'#', '@' and '%' in a password as %2F, %3F, %23, %40 and %25"
        ) from None
    if not host or _unprintable.search(host):
        raise InvalidArgumentError("expected a URL with a host, such as https://example.org/files")
    path = "/".join(quote(unquote_to_bytes(segment), safe="") for segment in parts.path.split("/"))
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        raise InvalidArgumentError("the path of the URL has a segment '.' or '..'; leave it out")
    host = f"[{host}]" if ":" in host else host
    address = Address(scheme, host, port or PORTS[scheme], f"{path.rstrip('/')}/")
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Given(address, username or None, password)


def path_of(key: str) -> str:
    """Return a key as a part of a URL.

    >>> path_of("a b/100%?")
    'a%20b/100%25%3F'
    """
    return quote(key, safe="/")


def origin_of(url: str) -> tuple[str, str, int]:
    """Return the scheme, host and port of a URL; the port is -1 where it isn't valid."""
    parts = urlsplit(url)
    try:
        port = parts.port or PORTS.get(parts.scheme, -1)
    except ValueError:
        port = -1
    return parts.scheme, (parts.hostname or "").lower(), port


def keeps_credentials(source: str, target: str) -> bool:
    """Return whether what is sent to one URL may be sent to another: both have one origin, or the second is
    the first over TLS."""
    old, new = origin_of(source), origin_of(target)
    return old == new or (old[1] == new[1] and old[::2] == ("http", 80) and new[::2] == ("https", 443))


def decoded(path: str) -> tuple[bytes, ...]:
    """Return the segments of the path of a URL as bytes: two spellings of one path are equal."""
    return tuple(unquote_to_bytes(segment) for segment in path.split("/"))
