"""Bodies that are encoded piece by piece, and ranges of blobs that are read to be decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, cast

from holdall.errors import IntegrityError, StoreUnavailableError
from holdall.files import BlobWriter
from holdall.pieces import join_pieces
from holdall.ranges import CHUNK
from holdall.store import Body, Info, Piece, Store


class Encoder:
    """Encodes one body, piece by piece."""

    size: int = 0
    """The number of bytes that it was given."""
    at_once: int
    """Up to this many bytes a body in memory is encoded by `whole`, without a stream."""

    def whole(self, data: Piece) -> bytes:
        return b"".join([*self.update(data), *self.finish()])

    def update(self, piece: Piece) -> Iterable[Piece]:
        """Return the next bytes to store. A piece that isn't bytes is copied if it is kept."""
        raise NotImplementedError

    def finish(self) -> Iterable[Piece]:
        """Return the rest to store, once the body has ended."""
        raise NotImplementedError


class Framing(Encoder):
    """Cuts the body into frames of one size, the last one shorter, and encodes each on its own. If it looks
    `ahead`, a full frame waits until it is known whether it is the last."""

    def __init__(self, frame: int, *, ahead: bool) -> None:
        self._frame = self.at_once = frame
        self._ready = frame + ahead
        self._held = bytearray()
        self._count = 0

    def _encode(self, plain: Piece, number: int, last: bool) -> bytes:
        raise NotImplementedError

    def _next(self, plain: Piece, last: bool = False) -> bytes:
        number = self._count
        self._count += 1
        return self._encode(plain, number, last)

    def update(self, piece: Piece) -> list[Piece]:
        self.size += len(piece)
        frame, ready, held = self._frame, self._ready, self._held
        view = memoryview(piece)
        encoded: list[Piece] = []
        if held:
            missing = frame - len(held)
            held += view[:missing]
            view = view[missing:]
            if len(held) + len(view) < ready:
                return encoded
            encoded.append(self._next(memoryview(held)))
            # A new one, since the encoded frame may still look into the old.
            held = self._held = bytearray()
        while len(view) >= ready:
            encoded.append(self._next(view[:frame]))
            view = view[frame:]
        held += view
        return encoded

    def _rest(self, *, always: bool) -> list[Piece]:
        """Return the last frame, if there is one; an empty body has one only if `always` is true."""
        if self._held or (always and not self._count):
            return [self._next(memoryview(self._held), last=True)]
        return []


def encoded(body: Body, encoder: Encoder) -> Iterator[Piece]:
    """Yield the body as it is stored."""
    for piece in body:
        for part in _parts(piece):
            yield from encoder.update(part)
    yield from encoder.finish()


def _parts(piece: Piece) -> Iterable[Piece]:
    """Split a piece, so that the first part of a huge one is stored before the rest is encoded."""
    if len(piece) <= CHUNK:
        return (piece,)
    view = memoryview(piece)
    return (view[at : at + CHUNK] for at in range(0, len(view), CHUNK))


class EncodingWriter(BlobWriter):
    """A file that encodes what is written to it, and writes that to a file of the store below."""

    def __init__(self, file: BinaryIO, encoder: Encoder) -> None:
        self._file = file
        self._encoder = encoder
        self._done = False

    def write(self, buffer: Any, /) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        view = memoryview(buffer).cast("B")
        self._pass_on(chain.from_iterable(map(self._encoder.update, _parts(view))))
        return len(view)

    def _pass_on(self, pieces: Iterable[Piece]) -> None:
        # The encoder can't take back what it was given, so nothing can be written after a write that failed.
        if self._broken:
            raise StoreUnavailableError(f"this file can't be stored, since a write failed: {self._broken}")
        self._broken = "it was interrupted"
        try:
            for piece in pieces:
                self._file.write(piece)
        except BaseException as error:
            self._break(error)
            raise
        self._broken = ""

    def tell(self) -> int:
        return self._encoder.size

    def _publish(self) -> None:
        try:
            self._pass_on(self._encoder.finish())
        except BaseException:
            self._drop()
            raise
        self._file.close()

    def _drop(self) -> None:
        cast(BlobWriter, self._file).discard()


def read_part(store: Store, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
    """Return a range of a blob below. If the store below can't RANGE, the range is cut from the whole."""
    return store._read_part(key, start, stop)


def read_tail(store: Store, key: str, count: int) -> tuple[Info, bytes]:
    """Return the last `count` bytes of a blob below, or all of a shorter one."""
    info, pieces = read_part(store, key, -count, None)
    return info, join_pieces(pieces)


def regrouped(
    pieces: Iterable[Piece], sizes: Iterable[int], damaged: Callable[[str], IntegrityError]
) -> Iterator[Piece]:
    """Yield the same bytes in pieces of other sizes; each piece is valid until the next one is asked for.

    Raises:
        IntegrityError: There are fewer bytes, or more.
    """
    source = iter(pieces)
    view = memoryview(b"")
    for size in sizes:
        if len(view) >= size:
            yield view[:size]
            view = view[size:]
            continue
        held = bytearray(view)
        while len(held) < size:
            piece = next(source, None)
            if piece is None:
                raise damaged("it ends too early")
            view = memoryview(piece)
            missing = size - len(held)
            held += view[:missing]
            view = view[missing:]
        yield memoryview(held)
    if len(view) or any(len(piece) for piece in source):
        raise damaged("more follows its end")
