"""Blobs in chunks on a server, outside of transactions: reads that begin again, and answers that are lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from holdall.errors import ConcurrencyError, StoreError, StoreUnavailableError

T = TypeVar("T")

_TRIES = 20
"""How often a read begins again because the blob was replaced during it."""


class ReplacedError(ConcurrencyError):
    """The blob was replaced while it was read, and its chunks are gone."""


def read_again(read: Callable[[], T]) -> T:
    """Read a blob; begin again while writers replace it."""
    for _ in range(_TRIES):
        try:
            return read()
        except ReplacedError:
            continue
    return read()


def outcome_unknown(lost: StoreError) -> StoreUnavailableError:
    """Return the error for a change that the server may have made before the connection was lost."""
    return StoreUnavailableError(
        f"{lost.message}, and the client can't know whether it was done; read it before you repeat it"
    )
