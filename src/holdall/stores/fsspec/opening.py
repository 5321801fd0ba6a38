"""A store by its URI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdall.stores.fsspec.driver import is_known
from holdall.stores.fsspec.options import Hidden
from holdall.stores.fsspec.store import FsspecStore

_NUMBERS = frozenset(("port", "timeout", "banner_timeout", "auth_timeout", "block_size", "compression_level"))
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}


def opener_of(scheme: str) -> Callable[..., FsspecStore] | None:
    """Return what opens the percent-encoded locations of a scheme; None if fsspec doesn't know it."""
    if not is_known(scheme):
        return None

    def open_fsspec(
        location: str,
        *,
        username: str | None = None,
        password: str | None = None,
        atomic_move: bool = False,
        **options: Any,
    ) -> FsspecStore:
        secret = None if password is None else Hidden(password)
        password = None
        read: dict[str, Any] = {name: _value(name, value) for name, value in options.items()}
        options.clear()
        url = f"{scheme}://{location}"
        return FsspecStore(url, username=username, password=secret, atomic_move=atomic_move, **read)

    return open_fsspec


def _value(name: str, value: object) -> object:
    """Return an option as the file system takes it: a URI has only texts."""
    if not isinstance(value, str):
        return value
    if name in _NUMBERS:
        try:
            return float(value) if "." in value else int(value)
        except ValueError:
            return value
    return _FLAGS.get(value.lower(), value)
