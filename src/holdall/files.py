"""A blob as a file object: read by ranges, written whole or not at all."""

from __future__ import annotations

import codecs
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from holdall.blob import Can, Info, Measured, Piece
from holdall.errors import ConcurrencyError, IntegrityError, StoreError, StoreUnavailableError
from holdall.ranges import CHUNK, cut

if TYPE_CHECKING:
    from typing import Self, TextIO

    from holdall.store import Store

    class BlobBytesIO(BinaryIO):
        """A binary file of `Store.open`, whose class differs by store and mode."""

        @property
        def info(self) -> Info:
            """The properties of the blob that is read."""
            ...

        def discard(self) -> None:
            """Close a file that was written, without storing anything."""
            ...

        def __enter__(self) -> Self: ...

    class BlobTextIO(TextIO):
        """A text file of `Store.open`."""

        @property
        def info(self) -> Info:
            """The properties of the blob that is read."""
            ...

        def discard(self) -> None:
            """Close a file that was written, without storing anything."""
            ...

        def __enter__(self) -> Self: ...


__all__ = ["BlobFile", "BlobReader", "BlobWriter", "SpooledWriter", "TextFile"]

_SPOOL = 4 * CHUNK
_SMALL = 4 * CHUNK
"""A blob of at most this size is asked for once, and kept."""
_AHEAD, _FAR_AHEAD = CHUNK, 4 * CHUNK
"""How much is asked for after a jump, and how much when it is read on; then comes the rest."""
_TAIL = 1 << 17
"""The end of a blob that is asked for as a whole: archives and tables keep their contents there."""


class BlobReader(io.RawIOBase):
    """A raw, seekable file over a store's ranges.

    A seek asks the store for nothing; a read does, unless the bytes are at hand: the piece that has come last
    (all pieces of a small blob), the end of the blob once something of it was read, and what comes next in
    the stream that is open. After a jump elsewhere a little is asked for first, and more and more as long as
    it is read on, so that a request for a few bytes is soon over, and a long read takes few requests.

    The blob is the one that was opened: if it was replaced since, a read that would mix the two raises
    `ConcurrencyError`.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._begin(*store._read(key, 0, None))

    def _begin(self, info: Info, pieces: Iterator[Piece]) -> None:
        self._info = info
        self._position = 0
        self._pieces: Iterator[Piece] | None = pieces
        """The stream; None if it isn't known where it stands."""
        self._held: list[tuple[int, Piece]] = []
        """The piece of the stream that has come last, with where in the blob it begins; all of a small
        blob."""
        self._next = 0
        """Where in the blob the stream goes on."""
        self._stop = info.size
        """Where the stream ends."""
        self._near = info.size if info.size <= _SMALL else CHUNK
        """How far ahead the stream is read on rather than left."""
        self._ahead = _AHEAD
        self._tail: Piece = b""
        """The end of the blob, once it was asked for; the stream stays open meanwhile, since what reads a
        table of contents there often goes on at the start."""

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
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = self._find()
        count = min(len(view), len(found))
        view[:count] = found[:count]
        self._position += count
        return count

    def readall(self) -> bytes:
        gathered = io.BytesIO()
        while found := self._find():
            self._position += gathered.write(found)
        return gathered.getvalue()

    def _find(self) -> Piece:
        """Return some bytes from the position on; none at the end of the blob."""
        position, size = self._position, self._info.size
        if position >= size:
            return b""
        if not (self._held and self._held[0][0] <= position < self._next):
            if self._pieces is None or not 0 <= position - self._next <= self._near:
                if position < size - len(self._tail) and not self._take_tail():
                    self._jump()
                if position >= size - len(self._tail):
                    return memoryview(self._tail)[position - size :]
            while self._next <= position:
                self._pull()
        for at, piece in reversed(self._held):
            if at <= position:
                return memoryview(piece)[position - at :]
        raise AssertionError("what is held has no gap")

    def _pull(self) -> None:
        """Hold the next piece of the stream, and drop the oldest ones."""
        # An interrupt at any step loses the place of the stream. An error ends it: what comes at its end may
        # be that the bytes aren't those that were written, and then no other way may return them.
        pieces, self._pieces = self._pieces or iter(()), None
        if self._info.size > _SMALL:
            self._held.clear()
        try:
            piece = next((each for each in pieces if len(each)), None)
        except Exception:
            self._pieces = iter(())
            raise
        if piece is not None:
            # Any other buffer may be filled again by its owner.
            if isinstance(piece, memoryview) and type(piece.obj) is not bytes:
                piece = bytes(piece)
            self._held.append((self._next, piece))
            self._next += len(piece)
            self._pieces = pieces
        elif self._next < self._stop:
            self._pieces = pieces
            raise IntegrityError(
                f"the store returned {self._next} bytes of a blob of {self._info.size}", key=self._key
            )
        else:
            self._ahead *= 4
            self._stream_from(self._next)

    def _jump(self) -> None:
        self._pieces = None
        self._held.clear()
        self._ahead = _AHEAD
        self._stream_from(self._position)

    def _stream_from(self, start: int) -> None:
        stop = start + self._ahead if self._ahead <= _FAR_AHEAD else None
        pieces = self._same(*self._resume(start, stop))
        self._next, self._stop = start, self._info.size if stop is None else min(stop, self._info.size)
        self._pieces = pieces

    def _take_tail(self) -> bool:
        """Ask for the end of the blob if the position is in it; return whether it is."""
        size = self._info.size
        if self._position < size - _TAIL or Can.RANGE not in self._store.can:
            return False
        start = max(0, size - _TAIL)
        tail = b"".join(map(bytes, self._same(*self._resume(start, None))))
        if len(tail) != size - start:
            raise IntegrityError(
                f"the store returned {len(tail)} bytes of the last {size - start} of a blob", key=self._key
            )
        self._tail = tail
        return True

    def _same(self, info: Info, pieces: Iterator[Piece]) -> Iterator[Piece]:
        if info.etag != self._info.etag:
            raise ConcurrencyError(
                "the blob was replaced while it was read; open it again",
                key=self._key,
                expected=self._info.etag,
                actual=info.etag,
            )
        return pieces

    def _resume(self, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        """Open a part of the blob that is there now."""
        if Can.RANGE in self._store.can:
            return self._store._read(self._key, start, stop)
        info, pieces = self._store._read(self._key, 0, None)
        return info, cut(pieces, start, info.size if stop is None else stop)

    def close(self) -> None:
        self._pieces, self._tail = iter(()), b""
        self._held = []
        super().close()


class BlobFile(io.BufferedReader):
    """A buffered file over a blob that is read.

    Args:
        raw: The unbuffered file.
        size: The size of the buffer.
        info: The properties of the blob, unless `raw` has them.
    """

    def __init__(self, raw: io.RawIOBase, size: int, info: Info | None = None) -> None:
        super().__init__(raw, size)
        self._info = info

    @property
    def info(self) -> Info:
        """The properties of the blob that was opened."""
        return cast(Any, self.raw).info if self._info is None else self._info


class BlobWriter(io.RawIOBase):
    """The base of files that are written: published by `close`, dropped by `discard`.

    A subclass implements `write`, `_publish` and `_drop`, which may be called twice, and calls `_break` when
    a write fails. Its constructor ends with `self._done = False`.
    """

    _done = True
    """Whether there is nothing to publish or discard: an interrupt may end a constructor at any point."""
    _broken = ""
    """Why a write failed, so that a part is missing."""

    key: str | None = None
    """The key that the caller opened, which errors name."""

    def _break(self, error: BaseException) -> None:
        # Not the error itself, whose traceback would keep this file.
        said = error.message if isinstance(error, StoreError) else str(error)
        self._broken = said or type(error).__name__

    def writable(self) -> bool:
        return True

    def _publish(self) -> None:
        raise NotImplementedError

    def _drop(self) -> None:
        raise NotImplementedError

    def discard(self) -> None:
        """Close without storing anything; a file that was closed is left as it is."""
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
                # Libraries close a file whose write failed, so this is often the last error.
                raise StoreUnavailableError(f"nothing was stored, since a write failed: {self._broken}")
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
            _discard_dropped(self)


def _discard_dropped(file: Any) -> None:
    # First of all, since the warning is raised where warnings are errors.
    file.discard()
    warnings.warn(
        f"the file of {file.key!r} was dropped without being closed, so it wasn't stored; use `with`",
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
            self._break(error)
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

    @property
    def info(self) -> Info:
        """The properties of the blob that is read."""
        return cast(Any, self.buffer).info

    def discard(self) -> None:
        """Close a file that was written, without storing anything."""
        cast(BlobWriter, self.buffer).discard()

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
            writer: Any = None if self.closed else self.buffer
        except ValueError:
            return
        if hasattr(writer, "discard"):
            _discard_dropped(writer)


class _MarkedFile(TextFile):
    """A text file that begins with a byte order mark, which the base leaves out where it can't seek."""

    mark: bytes | None

    def write(self, text: str, /) -> int:
        if self.mark is not None:
            self.buffer.write(self.mark)
            self.mark = None
        return super().write(text)


_MARKS: Final = {"utf-16": codecs.BOM_UTF16, "utf-32": codecs.BOM_UTF32}


def open_text(
    file: BinaryIO, writes: bool, encoding: str, errors: str | None, newline: str | None
) -> TextFile:
    """Return a text file over one of a blob, which marks the byte order as `open` does."""
    name = codecs.lookup(encoding).name
    if writes and name == "utf-8-sig" and file.tell():
        encoding = "utf-8"  # the mark is at the start of a blob only
    mark = _MARKS.get(name) if writes else None
    if mark is None or file.tell():
        return TextFile(file, encoding=encoding, errors=errors, newline=newline)
    marked = _MarkedFile(file, encoding=encoding, errors=errors, newline=newline)
    marked.mark = None if marked.seekable() else mark
    return marked


def path_in(settings: Mapping[str, object]) -> str | None:
    """Return the path on this machine that the settings of a store have."""
    # An FsspecStore's is a path in its file system.
    path = None if "filesystem_or_url" in settings else settings.get("path")
    return path if isinstance(path, str) else None
