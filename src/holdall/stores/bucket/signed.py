"""Requests of our own, by URLs that obstore has signed."""

from __future__ import annotations

import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import IO

from holdall.forks import in_child
from holdall.stores.bucket.errors import UnknownError

_TIMEOUT = 30.0
_KEPT = 8
"""How many connections stay open for the next request."""

_idle: list[tuple[str, HTTPConnection]] = []
_lock = threading.Lock()

Answer = tuple[int, dict[str, str], bytes]
"""The status, the headers (their names in lower case) and the body."""


@in_child
def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    # They belong to the parent; closed here, they stay open there.
    while _idle:
        _idle.pop()[1].close()


def request(method: str, url: str, headers: dict[str, str], body: IO[bytes] | None = None) -> Answer:
    """Make a request, and return its answer. The body is a file, whose size is in the headers.

    Raises:
        UnknownError: No whole answer came. The server may have done what it was asked.
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    place = f"{scheme}://{host}"
    used = _taken(place) if method == "GET" else None
    if used is not None:
        try:
            return _ask(place, used, method, f"/{path}", headers, body)
        except (OSError, HTTPException):
            # The server closed a connection that was idle.
            pass
    kind = HTTPSConnection if scheme == "https" else HTTPConnection
    try:
        connection = kind(host, timeout=_TIMEOUT, blocksize=1 << 18)
        return _ask(place, connection, method, f"/{path}", headers, body)
    except (OSError, HTTPException) as error:
        # The URL holds a signature, and stays out of the message.
        raise UnknownError(f"no answer from {host} to a {method}: {error!r:.200}") from error


def _ask(
    place: str,
    connection: HTTPConnection,
    method: str,
    path: str,
    headers: dict[str, str],
    body: IO[bytes] | None,
) -> Answer:
    keep = False
    try:
        if connection.sock is None:
            connection.connect()
        try:
            connection.request(method, path, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse before it has read the body, and say why.
            if body is None:
                raise
        answer = connection.getresponse()
        response = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        keep = method == "GET" and not answer.will_close
        return response
    finally:
        with _lock:
            keep = keep and len(_idle) < _KEPT
            if keep:
                _idle.append((place, connection))
        if not keep:
            connection.close()


def _taken(place: str) -> HTTPConnection | None:
    with _lock:
        for at, (where, connection) in enumerate(_idle):
            if where == place:
                del _idle[at]
                return connection
    return None
