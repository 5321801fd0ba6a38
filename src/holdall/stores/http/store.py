"""The store: a folder of a web server, which is only read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from holdall.arguments import check_choice, check_count, check_type, check_wait
from holdall.blob import Can, Info, LeftOut, Piece
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    ReadOnlyError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.pieces import read_file
from holdall.ranges import span
from holdall.store import Store
from holdall.stores.http.address import parse, path_of
from holdall.stores.http.answers import Part, info_of, length_of, part_of, time_of, token_of
from holdall.stores.http.crawl import Crawl, Listed
from holdall.stores.http.credentials import Credentials
from holdall.stores.http.folders import LISTINGS, Folders
from holdall.stores.http.link import Link
from holdall.stores.http.stream import Stream, measured
from holdall.stores.leftout import LeftOutCounts
from holdall.stores.password import Password
from holdall.stores.tls import context_of

_TRIES = 5
"""How often a range of a blob is asked for again that changes meanwhile."""
_NOT_SERVED = "listed name that isn't served"
_REFUSED = "file that the server refuses (403)"


class HttpStore(Store):
    """The files below a URL of a web server, which are only read.

    Args:
        url: Of the folder, as `https://example.org/files`; it may hold a username and a password.
        username: For basic authentication.
        password: The same. `env:NAME` means the password in an environment variable, and `file:PATH` the
            first line of a file. Only such a reference can be pickled.
        token: For bearer authentication, instead of the two; it may be such a reference too.
        netrc: Whether the file `.netrc` is asked for credentials if none are given.
        listing: How the server lists folders: `html`, `json` (of nginx), `webdav`, or `auto` to find out.
            With `html` any page of links is a listing.
        timeout: Seconds to wait for a connection, and between bytes.
        concurrency: How many requests a listing makes at a time.
        tls_ca: A file of certificates to trust (PEM) instead of the usual ones.
        tls_certificate: This client's certificate (PEM), for a server that asks for one.
        tls_key: Its key (PEM).
        client: A `Client` of httpx2 or httpx with settings of its own; it stays open.

    Raises:
        MissingDependencyError: httpx2 isn't installed.
        InvalidArgumentError: An argument isn't valid.

    >>> HttpStore("https://me:secret@example.org/files")
    HttpStore('https://example.org/files/', username='me', password='***')
    """

    can = Can.LIST | Can.RANGE
    schemes = ("http", "https")
    _secrets: ClassVar[frozenset[str]] = frozenset({"password", "token"})

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | Password | None = None,
        token: str | Password | None = None,
        netrc: bool = True,
        listing: str = "auto",
        timeout: float = 30.0,
        concurrency: int = 8,
        tls_ca: str | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
        client: Any = None,
    ) -> None:
        given = parse(url)
        # From here on no traceback shows them.
        secret = None if password is None else Password(password)
        bearer = None if token is None else Password(token)
        password = token = None
        url = given.address.url
        if given.username is not None or given.password is not None:
            if username is not None or secret is not None or bearer is not None:
                raise InvalidArgumentError("credentials are given twice: in the URL, and as arguments")
            username = given.username
            secret = None if given.password is None else Password(given.password)
        given = given.address
        check_choice(listing, "listing", LISTINGS)
        check_wait(timeout)
        check_count(concurrency, "concurrency")
        check_type(netrc, bool, "netrc must be True or False")
        if username is not None:
            check_type(username, str, "a username must be a str")
        tls = {"tls_ca": tls_ca, "tls_certificate": tls_certificate, "tls_key": tls_key}
        if any(tls.values()) and (client is not None or given.scheme != "https"):
            raise InvalidArgumentError(
                "certificates are for a URL that begins with https://, and for no client that is passed in"
            )
        context_of(tls)
        credentials = Credentials(given.host.strip("[]"), username, secret, bearer, netrc and client is None)
        self._settings_: dict[str, object] = {
            "url": url,
            "username": username,
            "password": None if secret is None else secret.setting,
            "token": None if bearer is None else bearer.setting,
            "netrc": netrc,
            "listing": listing,
            "timeout": timeout,
            "concurrency": concurrency,
            **tls,
        }
        self._has_client = client is not None
        self._concurrency = concurrency
        self._link = Link(given, credentials, client, {"timeout": timeout, **tls})
        self._base = url
        self._folders = Folders(self._link, listing)
        self._left = LeftOutCounts(url)

    def _settings(self) -> dict[str, object]:
        return self._settings_

    def __reduce__(self) -> tuple[object, ...]:
        if self._has_client:
            raise UnsupportedOperation(
                "an HttpStore over a client that was passed in can't be pickled; open it by its URL"
            )
        return super().__reduce__()

    def _close(self) -> None:
        self._link.close()

    def _need(self, flag: Can, call: str) -> None:
        if flag in (Can.WRITE | Can.DELETE) and not self._closed:
            raise ReadOnlyError(f"an HttpStore is only read, and can't {call}")
        super()._need(flag, call)

    def _url(self, key: str) -> str:
        return self._base + path_of(key)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if start == 0 and stop is None:
            return self._read_whole(key, 0, None)
        for _ in range(_TRIES):
            low, high, expected = start, stop, None
            if (start < 0 and stop is not None) or (stop is not None and (stop < 0 or stop <= start)):
                # Only the size says where this range is.
                expected = self._info(key)
                low, high = span(start, stop, expected.size)
                if low == high:
                    return expected, iter(())
            found = self._read_range(key, low, high)
            if found is None:
                info = self._info(key)
                low, high = span(start, stop, info.size)
                if low == high:
                    return info, iter(())
            elif expected is None or found[0].etag == expected.etag:
                return found
        return self._read_whole(key, start, stop)

    def _read_range(self, key: str, low: int, high: int | None) -> tuple[Info, Iterator[Piece]] | None:
        """Read a range that begins at an offset, or that many bytes before the end; return None if there is
        no byte in it."""
        asked = f"bytes={low}" if low < 0 else f"bytes={low}-{'' if high is None else high - 1}"
        response = self._link.send("GET", self._url(key), {"Range": asked})
        if response.status_code == 416:
            self._link.finish(response)
            return None
        if response.status_code != 206:
            return self._read_answer(key, response, low, high)
        part = part_of(response)
        info = None if part is None else info_of(key, response, part.size)
        if part is None or info is None:
            response.close()
            return self._read_whole(key, low, high)
        first, end = span(low, high, part.size)
        if part.start > first or part.stop < end:
            response.close()
            raise StoreUnavailableError(
                f"the server at {self._link.address.origin} sent the bytes {part.start}-{part.stop - 1} when "
                f"{first}-{end - 1} were asked for"
            )
        return info, Stream(self._link, info, part, response, first, end, self._again(key))

    def _read_whole(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        return self._read_answer(key, self._link.send("GET", self._url(key)), start, stop)

    def _read_answer(
        self, key: str, response: Any, start: int, stop: int | None
    ) -> tuple[Info, Iterator[Piece]]:
        """Return a range of the whole blob, which a response brings."""
        size = length_of(response)
        info = None if size is None else info_of(key, response, size)
        if size is None or info is None:
            modified = time_of(response.headers.get("last-modified"))
            token = token_of(response.headers.get("etag"), None, 0)
            info, file = measured(self._link, key, response, modified, token)
            return info, read_file(file, *span(start, stop, info.size))
        low, high = span(start, stop, size)
        part = Part(0, size, size)
        return info, Stream(self._link, info, part, response, low, high, self._again(key))

    def _again(self, key: str) -> Callable[[int], tuple[Info, Part, Any]]:
        def ask(offset: int) -> tuple[Info, Part, Any]:
            response = self._link.send("GET", self._url(key), {"Range": f"bytes={offset}-"})
            part = part_of(response) if response.status_code == 206 else None
            if part is None:
                size = length_of(response) or 0
                part = Part(0, size, size)
            info = info_of(key, response, part.size) if response.status_code in (200, 206) else None
            if info is None or part.start > offset:
                response.close()
                return Info(key, 0, "", 0.0), part, response
            return info, part, response

        return ask

    def _get(self, key: str) -> bytes | None:
        key = self._checked(key)
        for tries in range(1, _TRIES + 1):
            try:
                return b"".join(self._read_whole(key, 0, None)[1])
            except BlobNotFoundError:
                return None
            except ConcurrencyError:
                if tries == _TRIES:
                    raise
        raise AssertionError("the last try returns or raises")

    def _info(self, key: str) -> Info:
        response = self._link.ask("HEAD", self._url(key))
        self._link.finish(response)
        return self._info_from(key, response)

    def _info_from(self, key: str, response: Any) -> Info:
        """Return what the answer to a HEAD says; a GET is asked for what it doesn't say."""
        if response.status_code in (405, 501):
            # Not every server has HEAD; a folder of a WebDAV server has neither.
            response = self._link.send("GET", self._url(key))
        elif response.status_code != 200:
            self._link.check(response)
        size = length_of(response)
        info = None if size is None else info_of(key, response, size)
        if info is None:
            if response.is_closed:
                response = self._link.send("GET", self._url(key))
            info, pieces = self._read_answer(key, response, 0, 0)
            for _ in pieces:
                pass
        response.close()
        return info

    def _has(self, key: str) -> bool:
        url = self._url(self._checked(key))
        try:
            response = self._link.ask("HEAD", url)
            self._link.finish(response)
            if response.status_code != 200:
                self._info(key)
        except BlobNotFoundError:
            return False
        return True

    def _crawl(self, most: int | None = None) -> Crawl:
        return Crawl(self._folders.page, most or self._concurrency)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        return self._crawl().infos(prefix, after, self._ask)

    def _outline(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        for entry in self._crawl().entries(prefix, after):
            if isinstance(entry, LeftOut):
                yield entry
            elif entry.found is None:
                yield Info(entry.key, 0, "", 0.0)
            else:
                yield Info(entry.key, entry.found.size, entry.found.etag, entry.found.modified)

    def _ask(self, key: str) -> Info | LeftOut:
        """Ask for the info of a listed file."""
        try:
            response = self._link.ask("HEAD", self._url(key))
            self._link.finish(response)
            if response.status_code == 403:
                return LeftOut(key, _REFUSED)
            return self._info_from(key, response)
        except BlobNotFoundError:
            return LeftOut(key, _NOT_SERVED)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._left.pass_on(self._survey(prefix, after))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (entry.key for entry in self._left.pass_on(self._crawl().entries(prefix, after)))

    def _children(self, prefix: str) -> Iterator[str | Info]:
        return self._crawl().children(prefix, self._ask, self._holds_any)

    def _holds_any(self, folder: str) -> bool:
        return any(isinstance(entry, Listed) for entry in self._crawl(1).entries(folder, ""))
