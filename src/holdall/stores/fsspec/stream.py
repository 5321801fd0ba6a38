"""The bytes of a file that is open on a server, which has a connection of its own until the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from holdall.stores.fsspec.media import Reader
from holdall.stores.fsspec.pool import Loan, run

_parents: list[Any] = []
"""What a child of a fork must not close, since it is the parent's."""


class Held(Iterator[bytes]):
    """The pieces of a file.

    Args:
        loan: The connection, which this gives back.
        reader: The file, which this closes.
        pieces: Its pieces.
        guard: Calls a function, and translates its errors.
    """

    _loan: Loan | None = None

    def __init__(
        self,
        loan: Loan,
        reader: Reader,
        pieces: Iterator[bytes],
        guard: Callable[[Callable[[], bytes]], bytes],
    ) -> None:
        self._reader, self._pieces, self._guard = reader, pieces, guard
        self._process = os.getpid()
        self._loan = loan

    def __next__(self) -> bytes:
        if self._loan is None:
            raise StopIteration
        try:
            piece = self._guard(partial(run, self._draw))
        except BaseException:
            self.close()
            raise
        if not piece:
            raise StopIteration
        return piece

    def _draw(self) -> bytes:
        piece = next(self._pieces, b"")
        if not piece and self._loan is not None:
            loan, self._loan = self._loan, None
            self._reader.close()
            loan.give_back()
        return piece

    def close(self) -> None:
        """Leave the rest."""
        loan, self._loan = self._loan, None
        if loan is None:
            return
        if self._process != os.getpid():
            _parents.append((loan, self._reader, self._pieces))
        elif self._reader.is_near:
            self._reader.close()
            loan.give_back()
        else:
            # What is under way on the connection isn't known.
            loan.pool.drop(loan, self._reader)

    def __del__(self) -> None:
        self.close()
