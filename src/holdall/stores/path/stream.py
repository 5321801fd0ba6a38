"""A stream of pieces that closes what it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator


class Stream(Iterator[bytes]):
    """The pieces of something open, which is closed at the end, or when this is dropped."""

    def __init__(self, read: Callable[[], bytes], close: Callable[[], object]) -> None:
        self._take = read
        self._end: Callable[[], object] | None = close

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
