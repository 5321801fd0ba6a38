"""A file as an object: its bytes as they are, read piece by piece."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO, Final, TypeAlias, cast

from holdall.catalog import canonical
from holdall.catalog.content import Content
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidTypeError,
    StoreUnavailableError,
)
from holdall.ranges import CHUNK

Source: TypeAlias = "str | os.PathLike[str] | BinaryIO | IO[bytes]"
"""The path of a file, or a file that is open for reading bytes."""

_IN_MEMORY: Final = 4 << 20


class FileContent:
    """What is left to read of a file, as content with the digest and the type of the same bytes.

    The file is read twice: once for its digest, to find out whether its bytes are stored already, and once
    while it is copied. It is hashed both times, so that what is stored is what its digest says.

    Args:
        file: The file, which can seek.
        name: What an error calls it.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self._start = file.tell()
        made = canonical.begin("bytes")
        self._size = 0
        while piece := self._read(CHUNK):
            made.update(piece)
            self._size += len(piece)
        self._digest = made.hexdigest()

    def encode(self) -> Content:
        """Return the bytes, which are read while they are drawn."""
        return Content(self._digest, "bytes", "bytes", "", "", ".bin", self._size, self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        made = canonical.begin("bytes")
        self._file.seek(self._start)
        left = self._size
        # What was appended since isn't part of it.
        while left and (piece := self._read(min(left, CHUNK))):
            made.update(piece)
            left -= len(piece)
            yield piece
        if left or made.hexdigest() != self._digest:
            raise ConcurrencyError(
                f"{self._name} was changed while it was read, and nothing was stored: put it again once "
                "nobody writes to it"
            )

    def _read(self, size: int) -> bytes:
        return _read(self._file, size, self._name)


@contextmanager
def opened(source: Source) -> Generator[FileContent]:
    """Open what `put_file` was given, and close what this opened.

    Raises:
        BlobNotFoundError: The file is missing.
        InvalidArgumentError: It is a folder.
        InvalidTypeError: It is neither a path nor a file of bytes.
        StoreUnavailableError: It can't be read.
    """
    with ExitStack() as stack:
        if isinstance(source, str | os.PathLike):
            path = os.fspath(source)
            name = f"the file {path!r}"
            file = cast("IO[bytes]", stack.enter_context(_open(path, name)))
            seeks = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        else:
            file, name = _check_source(source), "the file"
            seeks = file.seekable() if hasattr(file, "seekable") else False
        if not seeks:
            file = _spool(file, name, stack)
        yield FileContent(file, name)


def _open(path: str, name: str) -> io.FileIO:
    try:
        return open(path, "rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BlobNotFoundError(
            f"the file {path!r} is missing; the file comes first, then the key"
        ) from error
    except IsADirectoryError as error:
        raise InvalidArgumentError(
            f"{path!r} is a folder, and one file is put at a time; to copy a folder, use copy_store"
        ) from error
    except OSError as error:
        raise _unreadable(name, error) from error
    except ValueError as error:
        raise InvalidArgumentError(f"{path!r:.200} can't be the path of a file: {error}") from error


def _check_source(source: Any) -> IO[bytes]:
    read = getattr(source, "read", None)
    if not callable(read) or isinstance(source, io.TextIOBase):
        kind = "a file of text: open it with mode 'rb'" if callable(read) else type(source).__name__
        raise InvalidTypeError(f"put_file takes a path, or a file that is open for reading bytes, not {kind}")
    if getattr(source, "closed", False):
        raise InvalidArgumentError("put_file was given a file that is closed; give it before you close it")
    return source


def _spool(file: IO[bytes], name: str, stack: ExitStack) -> Any:
    """Return a copy in a temporary file of what can be read only once."""
    copy = stack.enter_context(SpooledTemporaryFile(_IN_MEMORY, prefix="holdall-"))  # noqa: SIM115
    try:
        while piece := _read(file, CHUNK, name):
            copy.write(piece)
        copy.seek(0)
    except OSError as error:
        raise _unreadable(name, error) from error
    return copy


def _read(file: IO[bytes], size: int, name: str) -> bytes:
    try:
        piece = file.read(size)
    except OSError as error:
        raise _unreadable(name, error) from error
    if piece and not isinstance(cast(object, piece), bytes | bytearray | memoryview):
        raise InvalidTypeError(f"{name} gave {type(piece).__name__}, not bytes: open it with mode 'rb'")
    return piece


def _unreadable(name: str, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"can't read {name}: {error.strerror or error}")
