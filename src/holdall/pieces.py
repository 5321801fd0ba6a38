"""The bytes of a blob on their way: made of what a caller puts, joined, and cut to another size."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from stat import S_ISREG
from typing import Any, TypeVar, cast

from holdall.blob import Body, Info, Item, Measured, Piece
from holdall.errors import InvalidDataError, StoreError, mark_of_caller
from holdall.ranges import CHUNK
from holdall.stopping import stoppable

T = TypeVar("T")


def join_pieces(pieces: Iterator[Piece]) -> bytes:
    """Return the pieces as one. Each is copied as it comes, since its owner may fill it again."""
    first = bytes(next(pieces, b""))
    second = next(pieces, None)
    if second is None:
        return first
    # Written into one growing buffer, a large blob is held once, where a join would hold it twice.
    buffer = io.BytesIO()
    buffer.write(first)
    buffer.write(second)
    for piece in stoppable(pieces):
        buffer.write(piece)
    return buffer.getvalue()


def regroup(pieces: Iterable[Piece], size: int) -> Iterator[Piece]:
    """Yield the same bytes in pieces of `size` bytes, which may be held: what isn't `bytes` is copied, since
    its owner may fill it again."""
    held, length = io.BytesIO(), 0
    for piece in pieces:
        if not length and len(piece) == size:
            yield bytes(piece)
            continue
        view, at = memoryview(piece), 0
        while at < len(view):
            part = view[at : at + size - length]
            at += len(part)
            if len(part) == size:
                yield part if type(piece) is bytes else bytes(part)
                continue
            length += held.write(part)
            if length == size:
                yield held.getvalue()
                held, length = io.BytesIO(), 0
    if length:
        yield held.getvalue()


def read_file(file: Any, start: int, stop: int) -> Iterator[bytes]:
    """Return an iterator of a part of an open file in chunks, which closes it at the end, or when it is
    dropped."""
    pieces = _read_begun(file, start, stop)
    # A generator that hasn't begun closes nothing.
    next(pieces)
    return pieces


def _read_begun(file: Any, start: int, stop: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        yield b""
        while start < stop and (piece := file.read(min(CHUNK, stop - start))):
            start += len(piece)
            yield piece


def only_piece(body: Body, most: int) -> Piece | None:
    """Return the body if it is one piece in memory of at most `most` bytes, which needs no stream."""
    if type(body) is tuple:
        pieces = cast("tuple[Piece, ...]", body)
        if len(pieces) == 1 and len(pieces[0]) <= most:
            return pieces[0]
    return None


def flatten(data: Any) -> Piece | None:
    if type(data) is bytes:
        return data
    try:
        view = memoryview(data)
    except TypeError:
        return None
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def pieces_of(data: Any, key: str | None = None) -> Body:
    """Return the data that a caller put as pieces."""
    flat = flatten(data)
    if flat is not None:
        return (flat,)
    if isinstance(data, io.TextIOBase):
        raise InvalidDataError("this file is open for text; open it in binary mode ('rb')", key=key)
    if isinstance(data, str):
        raise InvalidDataError("data are bytes, not a str; encode it, as in text.encode()", key=key)
    if hasattr(data, "read"):
        size = _left_of(data)
        pieces = stoppable(_file_pieces(data))
        return pieces if size is None else Measured(pieces, size)
    if isinstance(data, Item):
        raise InvalidDataError(
            "an Item is for put_many and update, and holds data; put takes ttl=, content_type= and metadata=",
            key=key,
        )
    if isinstance(data, Mapping) or not hasattr(data, "__iter__"):
        kind = type(cast(object, data)).__name__
        hint = "; store.aio takes an async iterable" if isinstance(data, AsyncIterable) else ""
        raise InvalidDataError(
            f"data are bytes, a binary file or an iterable of buffers, not {kind}{hint}", key=key
        )
    if isinstance(data, list | tuple):
        # All of it is there already, so that it is checked before anything is written.
        for each in cast("list[object]", data):
            if flatten(each) is None:
                raise InvalidDataError(f"the iterable yielded {type(each).__name__}, not a buffer", key=key)
    return stoppable(_iterable_pieces(cast("Iterable[object]", data)))


def _left_of(file: Any) -> int | None:
    """Return how many bytes a file on a disk, or one of a blob, has from where it stands; None for any
    other."""
    try:
        if isinstance(info := getattr(getattr(file, "raw", None), "info", None), Info):
            return max(0, info.size - file.tell())
        if hasattr(file, "rollover"):
            # `fileno` moves a SpooledTemporaryFile to the disk, and empties it if the disk is full.
            at = file.tell()
            size = file.seek(0, os.SEEK_END)
            file.seek(at)
            return max(0, size - at)
        found = os.fstat(file.fileno())
        return max(0, found.st_size - file.tell()) if S_ISREG(found.st_mode) else None
    except (AttributeError, OSError, TypeError, ValueError):
        # It isn't a file of the system, or can't say where it stands.
        return None


def _draw_given(data: Iterable[T]) -> Iterator[T]:
    """Yield what a caller gave. What that raises isn't taken for an error of the store."""
    try:
        for each in data:  # noqa: UP028 - that would close an iterator with which the caller may go on
            yield each
    except (OSError, StoreError) as error:
        mark_of_caller(error)
        raise


def _reads(file: Any) -> Iterator[Any]:
    while True:
        yield file.read(CHUNK)


def _file_pieces(file: Any) -> Iterator[Piece]:
    for read in _draw_given(_reads(file)):
        piece = flatten(read)
        if piece is None:
            raise InvalidDataError("the file's read() returned no bytes; open it in binary mode ('rb')")
        if not len(piece):
            return
        yield piece


def _iterable_pieces(data: Iterable[object]) -> Iterator[Piece]:
    for buffer in _draw_given(data):
        piece = flatten(buffer)
        if piece is None:
            raise InvalidDataError(f"the iterable yielded {type(buffer).__name__}, not a buffer")
        # A caller's huge buffer passes in chunks, so that no medium copies it whole.
        for offset in range(0, len(piece), 4 * CHUNK):
            yield piece[offset : offset + 4 * CHUNK]
