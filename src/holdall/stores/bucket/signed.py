"""Requests of our own, by URLs that obstore has signed."""

from __future__ import annotations

import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import IO

from holdall.forks import in_child
from holdall.stores.bucket.errors import UnknownError

__all__ = ["request", "request_put"]

_TIMEOUT = 30.0
_KEPT = 8
"""How many connections stay open for the next request."""

_idle: list[tuple[str, HTTPConnection]] = []
_lock = threading.Lock()


@in_child
def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    # They belong to the parent; closed here, they stay open there.
    while _idle:
        _idle.pop()[1].close()


def request(
    method: str, url: str, headers: dict[str, str], body: bytes | IO[bytes] | None
) -> tuple[int, dict[str, str], bytes]:
    """Make a request, and return the status, the headers (their names in lower case) and the body of the
    answer.

    Raises:
        UnknownError: No whole answer came. The server may have done what it was asked.
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    place = f"{scheme}://{host}"
    while True:
        connection, used = _taken(place), True
        if connection is None:
            kind = HTTPSConnection if scheme == "https" else HTTPConnection
            connection, used = kind(host, timeout=_TIMEOUT), False
        done = False
        try:
            connection.request(method, f"/{path}", body, headers)
            answer = connection.getresponse()
            response = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            done = not answer.will_close
        except (OSError, HTTPException) as error:
            if used and body is None and method in ("GET", "HEAD"):
                # The server closed a connection that was idle.
                continue
            # The URL holds a signature, and stays out of the message.
            raise UnknownError(f"no answer from {host} to a {method}: {error!r:.200}") from error
        finally:
            if done:
                _keep(place, connection)
            else:
                connection.close()
        return response


def _taken(place: str) -> HTTPConnection | None:
    with _lock:
        for at, (where, connection) in enumerate(_idle):
            if where == place:
                del _idle[at]
                return connection
    return None


def _keep(place: str, connection: HTTPConnection) -> None:
    with _lock:
        if len(_idle) < _KEPT:
            _idle.append((place, connection))
            return
    connection.close()


def request_put(
    url: str, headers: dict[str, str], file: IO[bytes], size: int
) -> tuple[int, dict[str, str], bytes]:
    """Put a file by one request, without holding it in memory; as `request`.

    A server may refuse before it has read the body; its answer is read then too.
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    kind = HTTPSConnection if scheme == "https" else HTTPConnection
    connection = kind(host, timeout=_TIMEOUT, blocksize=1 << 18)
    try:
        connection.putrequest("PUT", f"/{path}", skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        broken: OSError | None = None
        try:
            while piece := file.read(1 << 18):
                connection.send(piece)
        except (BrokenPipeError, ConnectionResetError) as error:
            broken = error
        try:
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        except (OSError, HTTPException) as error:
            raise UnknownError(f"no answer from {host} to a PUT: {broken or error!r:.200}") from error
    except OSError as error:
        raise UnknownError(f"{host} couldn't be asked to PUT: {error!r:.200}") from error
    finally:
        connection.close()
