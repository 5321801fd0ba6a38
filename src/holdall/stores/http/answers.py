"""What a response says of a blob: its size, its token, its time, and which range it is."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from holdall.blob import Info

_range = re.compile(r"bytes (\d+)-(\d+)/(\d+)").fullmatch


class Part(NamedTuple):
    """Which bytes of a blob a response brings."""

    start: int
    stop: int
    size: int
    """The size of the whole blob."""


def time_of(text: str | None) -> float | None:
    """Return a date of HTTP (RFC 9110, section 5.6.7) in seconds since 1970; None if it isn't one."""
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def token_of(etag: str | None, modified: float | None, size: int) -> str | None:
    """Return the ETag without quotes and without the mark of a weak one; where the server gives none, the
    time and the size, as nginx writes its ETags; None where there is neither.

    >>> token_of('W/"5f-3"', None, 3), token_of(None, 95.0, 3)
    ('5f-3', '5f-3')
    """
    etag = (etag or "").strip().removeprefix("W/").strip('"')
    if etag:
        return etag
    return None if modified is None else f"{int(modified):x}-{size:x}"


def length_of(response: Any) -> int | None:
    """Return the length of the body of a whole answer; None if the server doesn't say it."""
    text: str = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def part_of(response: Any) -> Part | None:
    """Return which part an answer with the status 206 is; None if it isn't a part of a known whole."""
    match = _range(response.headers.get("content-range", "").strip())
    if match is None:
        return None
    low, last, size = map(int, match.groups())
    return Part(low, last + 1, size) if low <= last < size else None


def info_of(key: str, response: Any, size: int) -> Info | None:
    """Return the info of a blob; None if the response doesn't say enough."""
    modified = time_of(response.headers.get("last-modified"))
    token = token_of(response.headers.get("etag"), modified, size)
    return None if token is None else Info(key, size, token, modified or 0.0)


def is_endless(response: Any) -> bool:
    """Return whether the end of the body is the end of the connection, so that a cut one isn't noticed."""
    headers = response.headers
    return (
        "content-length" not in headers
        and "transfer-encoding" not in headers
        and response.http_version.startswith("HTTP/1")
    )
