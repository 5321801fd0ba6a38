"""A web server's files as a store that is only read."""

from __future__ import annotations

from holdall.stores.http.store import HttpStore
from holdall.stores.password import Password

__all__ = ["HttpStore", "open_http", "open_https"]


def open_http(
    location: str,
    *,
    username: str | None = None,
    password: str | None = None,
    token: str | None = None,
    netrc: bool = True,
    listing: str = "auto",
    timeout: float = 30.0,
    concurrency: int = 8,
) -> HttpStore:
    """The store that a URI of the scheme `http` names; its location is still percent-encoded."""
    secret = None if password is None else Password(password)
    bearer = None if token is None else Password(token)
    password = token = None
    return HttpStore(
        f"http://{location}",
        username=username,
        password=secret,
        token=bearer,
        netrc=netrc,
        listing=listing,
        timeout=timeout,
        concurrency=concurrency,
    )


def open_https(
    location: str,
    *,
    username: str | None = None,
    password: str | None = None,
    token: str | None = None,
    netrc: bool = True,
    listing: str = "auto",
    timeout: float = 30.0,
    concurrency: int = 8,
    tls_ca: str | None = None,
    tls_certificate: str | None = None,
    tls_key: str | None = None,
) -> HttpStore:
    """The store that a URI of the scheme `https` names; its location is still percent-encoded."""
    secret = None if password is None else Password(password)
    bearer = None if token is None else Password(token)
    password = token = None
    return HttpStore(
        f"https://{location}",
        username=username,
        password=secret,
        token=bearer,
        netrc=netrc,
        listing=listing,
        timeout=timeout,
        concurrency=concurrency,
        tls_ca=tls_ca,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )
