"""Compressed files: fsspec's compressions, which leave the file under them open."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from holdall.errors import InvalidArgumentError
from holdall.files import _discard_dropped
from holdall.interop.loading import load


class _Compressed(io.RawIOBase):
    """A file whose bytes are compressed in another one. Both are closed together, and discarded together."""

    _writes = False
    """An interrupt may end a constructor at any point."""

    def __init__(self, outer: Any, inner: Any) -> None:
        self._outer, self._inner = outer, inner
        self._writes = inner.writable()

    def readable(self) -> bool:
        return not self._writes

    def writable(self) -> bool:
        return self._writes

    def seekable(self) -> bool:
        return self.readable() and self._outer.seekable()

    def readinto(self, buffer: Any) -> int:
        data = self._outer.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any, /) -> int:
        self._outer.write(data)
        return memoryview(data).nbytes

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._outer.seek(offset, whence)

    def tell(self) -> int:
        return self._outer.tell()

    @property
    def key(self) -> str:
        """The key that the caller opened."""
        return self._inner.key

    def discard(self) -> None:
        """Close a file that was written, without storing anything."""
        if self.closed:
            return
        self._inner.discard()
        # The end of the compressed bytes can't be written any more.
        with contextlib.suppress(ValueError):
            self._outer.close()
        super().close()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._outer.close()
        except BaseException:
            if self._writes:
                self.discard()
            raise
        self._inner.close()
        super().close()

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None and not self.closed and self._writes:
            self.discard()
        else:
            self.close()

    def __del__(self) -> None:
        # A file that wasn't closed wasn't finished.
        if self._writes and not self.closed:
            _discard_dropped(self)


def compressed(file: Any, path: str, mode: str, compression: str | None) -> Any:
    """Return a file that compresses what is written to another one, or the opposite.

    Raises:
        InvalidArgumentError: fsspec doesn't know this compression.
    """
    name = load("fsspec.utils").infer_compression(path) if compression == "infer" else compression
    if name is None:
        return file
    known: Any = load("fsspec.compression").compr
    if name not in known:
        if "r" not in mode:
            file.discard()
        file.close()
        names = sorted(each for each in known if each)
        raise InvalidArgumentError(f"compression must be 'infer' or one of {names}, not {name!r}")
    outer = _Compressed(known[name](file, mode=mode[0]), file)
    return io.BufferedReader(outer) if "r" in mode else outer
