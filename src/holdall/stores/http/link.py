"""Requests to the server: which headers they carry, where redirects lead, and when one is sent again."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urljoin, urlsplit

from holdall.errors import (
    BlobNotFoundError,
    InvalidArgumentError,
    MissingDependencyError,
    StoreUnavailableError,
)
from holdall.forks import begin_anew
from holdall.stores.http.address import Address, decoded, keeps_credentials
from holdall.stores.http.answers import length_of
from holdall.stores.http.credentials import Credentials
from holdall.stores.http.errors import LostError, refused, unreachable
from holdall.stores.tls import context_of

_REDIRECTS = 10
_TRIES = 3
_SHORT = 1 << 14
_PATIENCE = 30.0
"""The longest wait, in seconds, that a server may ask for before the next try."""
_REDIRECT = frozenset((301, 302, 303, 307, 308))
_BUSY = frozenset((429, 502, 503, 504))
GONE = frozenset((404, 410))
_HEADERS = {
    # The bytes of a blob are those that are stored, so that the server must not compress them.
    "Accept-Encoding": "identity",
    "User-Agent": "holdall",
}


class Link:
    """The connections to a server.

    Args:
        address: The folder that the store is.
        credentials: What is sent to this server, and to no other.
        client: A client that was passed in, or None.
        options: The arguments of the client that is made otherwise.
    """

    def __init__(
        self, address: Address, credentials: Credentials, client: Any, options: Mapping[str, Any]
    ) -> None:
        self.address = address
        self._base = address.url
        self._credentials, self._given, self._options = credentials, client, options
        self.drivers: Any = driver() if client is None else _package_of(client)
        self._client: Any = client
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        self._streams: set[int] = set()
        self._dropped: deque[Any] = deque()
        """Responses whose iterator was dropped half-way: a finalizer mustn't take the lock of the pool."""
        begin_anew(self, Link._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._dropped = deque()
        self._streams = set()
        if self._given is None:
            self._client = None

    def _need_client(self) -> Any:
        client = self._client
        if client is not None:
            if self._process != os.getpid() and self._given is not None:
                raise StoreUnavailableError(
                    "the client of this store was passed in before a fork; give the child a store with a "
                    "client of its own"
                )
            return client
        with self._lock:
            if self._client is None:
                self._process = os.getpid()
                self._client = _make(self.drivers, self._options)
            return self._client

    def close(self) -> None:
        """Close the client, once no stream is left: a file that is open is read to its end."""
        self._closed = True
        if self._given is None and self._client is not None and not self._streams:
            self._client.close()

    def hold(self, stream: object) -> None:
        """Keep the client open for a stream."""
        self._streams.add(id(stream))

    def release(self, stream: object) -> None:
        self._streams.discard(id(stream))
        if self._closed:
            self.close()

    def drop(self, stream: object, response: Any) -> None:
        """Free what a stream holds that nobody reads to its end; called by a finalizer."""
        self._streams.discard(id(stream))
        wire: Any = response.extensions.get("network_stream")
        if wire is not None:
            wire.close()
        self._dropped.append(response)
        if self._closed:
            # Nobody is in the pool any more who could hold its lock.
            self.close()

    def finish(self, response: Any) -> None:
        """Close a response that isn't needed; a short one is read first, so that its connection can be used
        again."""
        is_read = response.is_stream_consumed or response.is_closed
        if not is_read and (response.request.method == "HEAD" or 0 <= (length_of(response) or -1) <= _SHORT):
            try:
                response.read()
            except (self.drivers.HTTPError, OSError):
                response.close()
        response.close()

    def send(self, method: str, url: str, headers: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """Send a request, follow redirects, and return the response, whose body isn't read yet.

        Raises:
            BlobNotFoundError: There is nothing at this URL, or a folder.
            StoreUnavailableError: The server can't be reached, or refuses.
        """
        return self.check(self.ask(method, url, headers, body))

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        may_lead: Callable[[str, str], bool] | None = None,
    ) -> Any:
        """Do the same, and return the response whatever its status. `may_lead` is asked for each redirect;
        if it returns False, the redirect is the response."""
        here = url
        for _ in range(_REDIRECTS + 1):
            response = self._persist(method, here, headers, body)
            there = response.headers.get("location")
            if response.status_code not in _REDIRECT or there is None:
                return response
            there = urljoin(here, there)
            if may_lead is not None and not may_lead(here, there):
                return response
            self.finish(response)
            if decoded(urlsplit(there).path) == decoded(f"{urlsplit(here).path}/"):
                raise BlobNotFoundError
            schemes = urlsplit(here).scheme, urlsplit(there).scheme
            if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
                raise StoreUnavailableError(
                    f"the server at {self.address.origin} redirects from {schemes[0]} to "
                    f"{schemes[1] or 'an invalid URL'}, which isn't followed"
                )
            here = there
        raise StoreUnavailableError(
            f"the server at {self.address.origin} redirects more than {_REDIRECTS} times"
        )

    def check(self, response: Any) -> Any:
        """Return a response that brings something."""
        status: int = response.status_code
        if status in (200, 206, 207, 416):
            return response
        self.finish(response)
        if status in GONE or status in (204, 405):
            raise BlobNotFoundError
        raise self.refused(response)

    def refused(self, response: Any) -> Exception:
        url = response.request.url
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        sent = "authorization" in response.request.headers
        return refused(response.status_code, origin, sent)

    def _persist(self, method: str, url: str, headers: Mapping[str, str] | None, body: Any) -> Any:
        """Send a request again if the connection was lost, or the server is busy: all of them only read."""
        for tries in range(1, _TRIES + 1):
            try:
                response = self._once(method, url, headers, body)
            except LostError:
                if tries == _TRIES:
                    raise
                continue
            if response.status_code not in _BUSY or tries == _TRIES:
                return response
            wait = _wait_of(response, tries)
            if wait > _PATIENCE:
                return response
            self.finish(response)
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, url: str, headers: Mapping[str, str] | None, body: Any) -> Any:
        while self._dropped:
            try:
                dropped: Any = self._dropped.popleft()
                dropped.close()
            except IndexError:
                break
        client = self._need_client()
        mine = url.startswith(self._base) or keeps_credentials(self._base, url)
        sent = {**_HEADERS, **(headers or {})}
        options: dict[str, Any] = {"stream": True, "follow_redirects": False}
        try:
            if mine:
                secret = self._credentials.header()
                if secret is not None:
                    sent["Authorization"] = secret
                request = client.build_request(method, url, headers=sent, content=body)
                if secret is not None:
                    options["auth"] = None
            else:
                # Not by the client, whose headers, cookies and credentials are for the server itself.
                request = self.drivers.Request(method, url, headers=sent, content=body)
                request.extensions = {"timeout": client.timeout.as_dict()}
                options["auth"] = None
            return client.send(request, **options)
        except (self.drivers.HTTPError, self.drivers.InvalidURL, RuntimeError, OSError) as error:
            raise self.lost(error, url) from error

    def lost(self, error: BaseException, url: str = "") -> Exception:
        """Return the StoreError for an exception of the client."""
        if isinstance(error, RuntimeError):
            return StoreUnavailableError(f"the client of this store can't send requests: {error}")
        parts = urlsplit(url or self.address.url)
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        timeout = getattr(getattr(self._client, "timeout", None), "read", None)
        return unreachable(error, origin, self.drivers, f"{timeout:g} s" if timeout else "without end")


def driver() -> Any:
    """Import the client library."""
    try:
        return import_module("httpx2")
    except ImportError:
        raise MissingDependencyError("HttpStore needs httpx2: pip install 'holdall[http]'") from None


def _package_of(client: Any) -> Any:
    """Return the module of a client's library, whose exceptions it raises."""
    for kind in type(client).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in ("httpx", "httpx2") and kind.__name__ == "Client":
            return import_module(name)
    hint = "; give a synchronous one" if "Async" in type(client).__name__ else ""
    raise InvalidArgumentError(
        f"client must be a Client of httpx2 or httpx, not {type(client).__name__}{hint}"
    )


def _make(drivers: Any, options: Mapping[str, Any]) -> Any:
    client = drivers.Client(
        timeout=options["timeout"],
        verify=context_of(options) or True,
        # A stream that isn't read to its end keeps a connection, so that a limit could stop a program.
        limits=drivers.Limits(max_connections=None, max_keepalive_connections=20),
    )
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_optional_thread_lock"):
            # Its own lock has methods in Python: an interrupt within them would leave it locked for ever, and
            # all other threads would wait for it. This one is of C, where no interrupt comes.
            pool._optional_thread_lock = threading.RLock()
    return client


def _wait_of(response: Any, tries: int) -> float:
    after = response.headers.get("retry-after", "")
    return float(after) if after.isascii() and after.isdigit() else 0.2 * 4 ** (tries - 1)
