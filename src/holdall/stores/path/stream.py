"""A stream of pieces that closes what it reads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

from holdall.errors import IntegrityError
from holdall.ranges import CHUNK


class Stream(Iterator[bytes]):
    """The pieces of something open, which is closed at the end, or when this is dropped."""

    # Dropped before it is set, if an interrupt comes in between.
    _end: Callable[[], object] | None = None

    def __init__(self, read: Callable[[], bytes], close: Callable[[], object]) -> None:
        self._take = read
        self._end = close

    def __next__(self) -> bytes:
        if self._end is None:
            raise StopIteration
        try:
            piece = self._take()
        except BaseException:
            self.close()
            raise
        if not piece:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        """Close what is read."""
        end, self._end = self._end, None
        if end is not None:
            end()

    def __del__(self) -> None:
        self.close()


def fetched(key: str, kept: int, fetch: Callable[[IO[bytes]], int]) -> Stream:
    """Bytes that are all fetched before the first is given: a reader that waits holds up no connection.

    Args:
        key: Whose bytes they are.
        kept: The number of bytes that stay in memory; more go to a temporary file.
        fetch: Writes them to a file, and returns their number.

    Raises:
        IntegrityError: More or fewer came.
    """
    file = tempfile.SpooledTemporaryFile(kept, prefix="holdall-")  # noqa: SIM115 - the stream closes it
    try:
        expected = fetch(file)
        if file.tell() != expected:
            raise IntegrityError(f"expected {expected} bytes, got {file.tell()}; read it again", key=key)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return Stream(partial(file.read, CHUNK), file.close)
