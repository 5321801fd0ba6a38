"""Credential providers of obstore that are coroutine functions: no plain call can await them.

Those of `obstore.auth` hold a session that belongs to the event loop in which they were made.
"""

from __future__ import annotations

from inspect import iscoroutinefunction

from holdall.errors import UnsupportedOperation


def is_asynchronous(provider: object) -> bool:
    """Return whether a call of this returns a coroutine, as far as that is known without one."""
    return iscoroutinefunction(provider) or iscoroutinefunction(getattr(provider, "__call__", None))  # noqa: B004


def asynchronous() -> UnsupportedOperation:
    """Return the error for a credential provider that must be awaited."""
    return UnsupportedOperation(
        "an asynchronous credential provider belongs to its event loop; give the client a plain function, as "
        "the providers of obstore.auth are that have no Async in their names"
    )
