"""The bytes of a blob as they come, which go on where a connection was lost."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from holdall.blob import Info, Piece
from holdall.errors import ConcurrencyError, IntegrityError, StoreUnavailableError
from holdall.ranges import CHUNK
from holdall.stores.http.answers import Part, is_endless
from holdall.stores.http.errors import LostError
from holdall.stores.http.link import Link

_LOSSES = 3
"""How many times a connection may be lost without a byte in between."""

Again = Callable[[int], tuple[Info, Part, Any]]
"""Asks for the blob from an offset on; returns its info, and the answer."""


class Stream(Iterator[Piece]):
    """The bytes from one offset to another.

    Args:
        link: To whom a response that isn't read to its end is given back.
        info: Of the blob.
        part: Which bytes the response brings.
        response: Its body isn't read yet.
        start: The first byte to yield.
        stop: The end of those to yield.
        again: Asks for the rest.
    """

    def __init__(
        self, link: Link, info: Info, part: Part, response: Any, start: int, stop: int, again: Again
    ) -> None:
        self._link, self._info, self._response, self._again = link, info, response, again
        self._at, self._end, self._start, self._stop = part.start, part.stop, start, stop
        self._losses = 0
        self._pieces: Iterator[bytes] | None = response.iter_raw()
        link.hold(self)

    def __next__(self) -> Piece:
        while self._pieces is not None:
            if self._start >= self._stop:
                if self._at >= self._end:
                    # Read to its end, it leaves the connection for the next request.
                    self._finish()
                self.close()
                break
            piece = self._next()
            low, high = max(self._start - self._at, 0), min(self._stop - self._at, len(piece))
            self._at += len(piece)
            if low < high:
                self._start += high - low
                # Only by what is new: a server that begins anew each time may always fail at the same place.
                self._losses = 0
                return piece if high - low == len(piece) else memoryview(piece)[low:high]
        raise StopIteration

    def _next(self) -> bytes:
        while True:
            assert self._pieces is not None
            try:
                piece = next(self._pieces, None)
            except (self._link.drivers.HTTPError, self._link.drivers.StreamError, OSError) as error:
                lost = self._link.lost(error)
                if not isinstance(lost, LostError) or self._losses == _LOSSES:
                    self.close()
                    raise lost from error
            else:
                if piece:
                    return piece
                if piece is not None:
                    continue
                if self._losses == _LOSSES:
                    self.close()
                    raise IntegrityError(
                        f"the server at {self._link.address.origin} ended its answer after {self._at:,} of "
                        f"{self._info.size:,} bytes"
                    )
            self._losses += 1
            self._resume()

    def _finish(self) -> None:
        try:
            for _ in self._pieces or ():
                break
        except (self._link.drivers.HTTPError, OSError):
            # All bytes have come.
            pass

    def _resume(self) -> None:
        self._response.close()
        info, part, response = self._again(max(self._start, self._at))
        if info.etag != self._info.etag or info.size != self._info.size:
            response.close()
            self.close()
            raise ConcurrencyError(
                "the blob was replaced while it was read; read it again",
                expected=self._info.etag,
                actual=info.etag,
            )
        self._response, self._at, self._end = response, part.start, part.stop
        self._pieces = response.iter_raw()

    def close(self) -> None:
        self._pieces = None
        self._response.close()
        self._link.release(self)

    def __del__(self) -> None:
        # The interpreter may take this object apart before its constructor has ended.
        if getattr(self, "_pieces", None) is not None:
            self._link.drop(self, self._response)


def measured(link: Link, key: str, response: Any, modified: float | None, token: str | None) -> Any:
    """Read a body whose size or token the server doesn't say, into a file that is kept in memory if it is
    small; return the info and the file. The token is the digest of the bytes, where the server gives none."""
    if is_endless(response):
        response.close()
        raise StoreUnavailableError(
            f"the server at {link.address.origin} doesn't say how long its answer is, so that a part of it "
            "could be taken for all; it must send Content-Length, or chunks"
        )
    file = tempfile.SpooledTemporaryFile(CHUNK)  # noqa: SIM115 - whoever gets it closes it
    digest, size = hashlib.sha256(), 0
    try:
        for piece in response.iter_raw():
            digest.update(piece)
            size += file.write(piece)
    except (link.drivers.HTTPError, link.drivers.StreamError, OSError) as error:
        file.close()
        raise link.lost(error) from error
    except BaseException:
        file.close()
        raise
    finally:
        response.close()
    return Info(key, size, token or digest.hexdigest(), modified or 0.0), file
