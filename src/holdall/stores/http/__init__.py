"""A web server's files as a store that is only read."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from holdall.stores.http.store import HttpStore
from holdall.stores.password import Password

__all__ = ["HttpStore", "open_http", "open_https"]


def _opener(scheme: str) -> Callable[..., HttpStore]:
    @wraps(HttpStore.__init__)
    def open_location(location: str, **options: Any) -> HttpStore:
        for name in {"password", "token"} & options.keys():
            # From here on no traceback shows it.
            options[name] = None if options[name] is None else Password(options[name])
        return HttpStore(f"{scheme}://{location}", **options)

    return open_location


open_http, open_https = map(_opener, HttpStore.schemes)
"""What opens the URIs of each scheme; their locations are still percent-encoded."""
