"""What an answer or a failure of the connection means: an error that names the host and says what to do."""

from __future__ import annotations

from typing import Any

from holdall.errors import StoreError, StoreUnavailableError
from holdall.stores.tls import why_unreachable


class LostError(StoreUnavailableError):
    """The connection ended before the whole answer had come."""


def refused(status: int, origin: str, has_credentials: bool) -> StoreError:
    """Return the error for a status that is neither a success nor means that there is nothing."""
    if status == 401:
        says = (
            "refuses these credentials (401); check username= and password=, token=, or ~/.netrc"
            if has_credentials
            else "asks for credentials (401); give username= and password=, or token=, or add the host to "
            "~/.netrc"
        )
    elif status == 403:
        says = "refuses this request (403); check the permissions of the file, and the credentials"
    elif status == 407:
        says = "is behind a proxy that asks for credentials (407); see the environment variable HTTPS_PROXY"
    elif status == 429:
        says = "says that requests come too fast (429); lower concurrency=, and try again later"
    elif status >= 500:
        says = f"fails ({status}); try again later, and see its log"
    else:
        says = f"gave an answer that isn't understood ({status}); is this a web server of files?"
    return StoreUnavailableError(f"the server at {origin} {says}")


def unreachable(error: BaseException, origin: str, drivers: Any, timeout: object) -> StoreError:
    """Return the error for a connection that couldn't be made, or was lost."""
    if why := why_unreachable(error, origin):
        return StoreUnavailableError(why)
    if isinstance(error, drivers.TimeoutException):
        return StoreUnavailableError(
            f"the server at {origin} doesn't answer in time; is it up, and is the network? timeout= says how "
            f"long to wait (now {timeout})"
        )
    if isinstance(error, drivers.ProxyError):
        return StoreUnavailableError(
            f"the proxy on the way to {origin} fails; see the environment variables HTTP_PROXY, HTTPS_PROXY "
            "and NO_PROXY"
        )
    if isinstance(error, drivers.ConnectError):
        return StoreUnavailableError(
            f"no server can be reached at {origin}; is it up, and are host and port right?"
        )
    if isinstance(error, drivers.RemoteProtocolError | drivers.NetworkError):
        return LostError(
            f"the server at {origin} ended the connection before its answer was whole, or doesn't speak "
            "HTTP; try again, and check the port"
        )
    return StoreUnavailableError(f"the request to the server at {origin} failed ({type(error).__name__})")
