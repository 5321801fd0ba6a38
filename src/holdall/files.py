"""A blob as a file object: read by ranges, written whole or not at all."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from holdall.blob import Can, Info, Measured, Piece
from holdall.errors import ConcurrencyError, StoreError, StoreUnavailableError
from holdall.ranges import CHUNK, cut

if TYPE_CHECKING:
    from holdall.store import Store

__all__ = ["BlobReader", "BlobWriter", "SpooledWriter", "TextFile"]

_SPOOL = 4 * CHUNK


class BlobReader(io.RawIOBase):
    """A raw, seekable file over a store's ranges.

    A read at the position where the last one ended continues the same stream; a seek begins another. The blob
    is the one that was opened: if it was replaced since, a read that would mix the two raises
    `ConcurrencyError`.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._position = 0
        self._pieces: Iterator[Piece] | None
        self._info, self._pieces = store._read(key, 0, None)
        self._left: Piece = b""

    @property
    def info(self) -> Info:
        """The properties of the blob that was opened."""
        return self._info

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._info.size}.get(whence)
        if base is None:
            raise ValueError(f"whence is 0, 1 or 2, not {whence}")
        if base + offset < 0:
            raise ValueError(f"expected a position of at least 0, got {base + offset}")
        if base + offset != self._position:
            self._position = base + offset
            self._pieces, self._left = None, b""
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if not self._left:
            self._left = self._next()
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = memoryview(self._left)[count:]
        self._position += count
        return count

    def _next(self) -> Piece:
        if self._position >= self._info.size:
            return b""
        if self._pieces is None:
            info, pieces = self._resume()
            if info.etag != self._info.etag:
                raise ConcurrencyError(
                    "the blob was replaced while it was read; open it again",
                    key=self._key,
                    expected=self._info.etag,
                    actual=info.etag,
                )
            self._pieces = pieces
        for piece in self._pieces:
            if len(piece):
                return piece
        return b""

    def _resume(self) -> tuple[Info, Iterator[Piece]]:
        if Can.RANGE in self._store.can:
            return self._store._read(self._key, self._position, None)
        info, pieces = self._store._read(self._key, 0, None)
        return info, cut(pieces, self._position, info.size)

    def close(self) -> None:
        self._pieces, self._left = None, b""
        super().close()


class BlobWriter(io.RawIOBase):
    """The base of files that are written: published by `close`, dropped by `discard`.

    A subclass implements `write`, `_publish` and `_drop`, which may be called twice, and sets `_broken` when
    a write fails. Its constructor ends with `self._done = False`.
    """

    _done = True
    """Whether there is nothing to publish or discard: an interrupt may end a constructor at any point."""
    _broken = False
    """Whether a write failed, so that a part is missing."""

    key: str | None = None
    """The key that the caller opened, which errors name."""

    def writable(self) -> bool:
        return True

    def _publish(self) -> None:
        raise NotImplementedError

    def _drop(self) -> None:
        raise NotImplementedError

    def discard(self) -> None:
        """Close without publishing."""
        if not self._done:
            self._drop()
            self._done = True
            super().close()

    def close(self) -> None:
        if self._done:
            return
        # An interrupt at any step drops what isn't published.
        try:
            if self._broken:
                raise StoreUnavailableError(
                    "a write to this file failed, so nothing was stored; write the blob again"
                )
            self._publish()
            self._done = True
            super().close()
        except BaseException as error:
            self.discard()
            if isinstance(error, StoreError):
                error.key = self.key or error.key
            raise

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        # A file that wasn't closed wasn't finished: closing it here would publish half a blob.
        if not self._done:
            _warn_dropped(self)
            self.discard()


def _warn_dropped(file: object) -> None:
    warnings.warn(
        f"{file!r} was dropped without being closed, so it wasn't stored; use `with`",
        ResourceWarning,
        stacklevel=3,
    )


class SpooledWriter(BlobWriter):
    """A file kept in memory, past 4 MiB in a temporary file, and written to the store when it is closed."""

    def __init__(self, publish: Callable[[Iterable[Piece]], object]) -> None:
        import tempfile

        self._hand_over = publish
        self._spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_SPOOL))  # noqa: SIM115
        self._done = False

    def write(self, buffer: Any, /) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        view = memoryview(buffer).cast("B")
        try:
            self._spool.write(view)
        except BaseException as error:
            self._broken = True
            if isinstance(error, OSError):
                raise StoreUnavailableError(
                    f"the temporary file can't be written ({error.strerror}): look at TMPDIR"
                ) from error
            raise
        return len(view)

    def tell(self) -> int:
        return self._spool.tell()

    def _publish(self) -> None:
        with self._spool as spool:
            size = spool.tell()
            spool.seek(0)
            self._hand_over(Measured(iter(lambda: spool.read(CHUNK), b""), size))

    def _drop(self) -> None:
        # An interrupt may have left it half made.
        if hasattr(self, "_spool"):
            self._spool.close()


class TextFile(io.TextIOWrapper):
    """A text file over a blob. It discards what it wrote when its `with` block or a write raises."""

    def close(self) -> None:
        # The base would publish what it could write, though the rest can't be written.
        discard = None if self.closed else getattr(self.buffer, "discard", None)
        try:
            if discard is not None:
                self.flush()
            super().close()
        except BaseException:
            if discard is not None:
                discard()
            raise

    def __exit__(self, kind: object, *rest: object) -> None:
        discard = getattr(self.buffer, "discard", None)
        if kind is not None and discard is not None:
            discard()
        else:
            self.close()

    def __del__(self) -> None:
        # A file that was never made, or was detached, has no buffer.
        try:
            discard = None if self.closed else getattr(self.buffer, "discard", None)
        except ValueError:
            return
        if discard is not None:
            _warn_dropped(self)
            discard()


def path_in(settings: Mapping[str, object]) -> str | None:
    """Return the path on this machine that the settings of a store have."""
    # An FsspecStore's is a path in its file system.
    path = None if "filesystem_or_url" in settings else settings.get("path")
    return path if isinstance(path, str) else None
