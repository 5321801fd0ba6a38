"""A store in Valkey or Redis."""

from __future__ import annotations

from holdall.stores.valkey.store import ValkeyStore, open_socket, open_tls

__all__ = ["ValkeyStore", "open_socket", "open_tls"]
