"""A web server's files as a store that is only read."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from holdall.stores.http.store import HttpStore
from holdall.stores.password import Password

__all__ = ["HttpStore", "open_http", "open_https"]


def _open(
    scheme: str,
    location: str,
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
) -> HttpStore:
    """The store that a URI names; its location is still percent-encoded."""
    return HttpStore(
        f"{scheme}://{location}",
        username=username,
        password=password,
        token=token,
        netrc=netrc,
        listing=listing,
        timeout=timeout,
        concurrency=concurrency,
        tls_ca=tls_ca,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )


def _opener(scheme: str) -> Callable[..., HttpStore]:
    @wraps(_open)
    def opened(location: str, **options: Any) -> HttpStore:
        for name in {"password", "token"} & options.keys():
            # From here on no traceback shows it.
            options[name] = None if options[name] is None else Password(options[name])
        return _open(scheme, location, **options)

    return opened


open_http = _opener("http")
open_https = _opener("https")
