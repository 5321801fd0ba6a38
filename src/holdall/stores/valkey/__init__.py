"""A store in Valkey or Redis."""

from __future__ import annotations

from holdall.stores.valkey.connecting import SOCKET, url_of
from holdall.stores.valkey.store import ValkeyStore

__all__ = ["ValkeyStore", "open_socket", "open_tls"]


def open_tls(
    location: str,
    *,
    prefix: str = "holdall:",
    db: int | None = None,
    password: str | None = None,
    cluster: bool = False,
    timeout: float = 30.0,
    tls_ca: str | None = None,
    tls_certificate: str | None = None,
    tls_key: str | None = None,
) -> ValkeyStore:
    """The store that a URI of the scheme `rediss` names: as `valkey`, over TLS."""
    return ValkeyStore(
        url_of("rediss", location, db),
        prefix=prefix,
        password=password,
        cluster=cluster,
        timeout=timeout,
        tls_ca=tls_ca,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )


def open_socket(
    location: str,
    *,
    prefix: str = "holdall:",
    db: int | None = None,
    password: str | None = None,
    timeout: float = 30.0,
) -> ValkeyStore:
    """The store that a URI of the scheme `unix` names: as `valkey`, by a socket on this host."""
    return ValkeyStore(url_of(SOCKET, location, db), prefix=prefix, password=password, timeout=timeout)
