"""Requests of our own, by URLs that obstore has signed."""

from __future__ import annotations

import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Literal

from holdall.forks import in_child
from holdall.stores.bucket.errors import UnknownError

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


def request(method: Literal["GET", "DELETE"], url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Make a request, and return the status and the body of the answer.

    Raises:
        UnknownError: No whole answer came. The server may have done what it was asked.
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    place = f"{scheme}://{host}"
    used = _take_idle(place) if method == "GET" else None
    if used is not None:
        try:
            return _ask(place, used, method, f"/{path}", headers)
        except (OSError, HTTPException):
            # The server closed a connection that was idle.
            pass
    kind = HTTPSConnection if scheme == "https" else HTTPConnection
    try:
        return _ask(place, kind(host, timeout=_TIMEOUT), method, f"/{path}", headers)
    except (OSError, HTTPException) as error:
        # The URL holds a signature, and stays out of the message.
        raise UnknownError(f"no answer from {host} to a {method}: {error!r:.200}") from error


def _ask(
    place: str, connection: HTTPConnection, method: str, path: str, headers: dict[str, str]
) -> tuple[int, bytes]:
    keep = False
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        keep = not answer.will_close
        return answer.status, body
    finally:
        with _lock:
            keep = keep and len(_idle) < _KEPT
            if keep:
                _idle.append((place, connection))
        if not keep:
            connection.close()


def _take_idle(place: str) -> HTTPConnection | None:
    with _lock:
        for at, (where, connection) in enumerate(_idle):
            if where == place:
                del _idle[at]
                return connection
    return None
