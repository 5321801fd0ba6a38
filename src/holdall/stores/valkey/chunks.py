"""The chunks of a large blob: sent before the blob is published, and expiring unless it is."""

from __future__ import annotations

import time
from collections.abc import Iterator

from holdall.errors import BlobNotFoundError, ConcurrencyError, IntegrityError, StoreError
from holdall.ranges import CHUNK
from holdall.store import Piece
from holdall.stores.valkey import scripts
from holdall.stores.valkey.head import FIXED, Head, parse
from holdall.stores.valkey.link import Link, Part, Retry, packed
from holdall.stores.valkey.names import Names, Place

__all__ = ["WHOLE", "Chunks", "ReplacedError", "Upload"]

WHOLE = 4 * CHUNK
"""The largest blob that is one string; a larger one is cut in chunks."""
_GUARD = b"%d" % (15 * 60 * 1000)
"""Milliseconds after which the chunks of a dead writer are deleted."""


class ReplacedError(ConcurrencyError):
    """The chunks of a blob went while they were read, since it was replaced or deleted."""


class Upload:
    """The bytes of one blob on their way to the server.

    Args:
        link: Leads to the servers.
        shard: Where the blob belongs.
        chunks: The name of its chunks, if it turns out to need them.
    """

    def __init__(self, link: Link, shard: int, chunks: bytes) -> None:
        self._link, self._shard, self._chunks = link, shard, chunks
        self.size = self.sent = 0
        """The number of bytes so far, and of chunks in the server."""
        self.pieces: list[Piece] = []
        """The bytes that no chunk holds yet; all of them, if the blob is small."""

    def add(self, piece: Piece) -> None:
        self.size += len(piece)
        self.pieces.append(piece)
        waiting = self.size - self.sent * CHUNK
        if waiting > WHOLE or (self.sent and waiting >= CHUNK):
            self._send(whole_chunks=True)
        elif type(piece) is not bytes:
            # The caller's buffer is good until the next piece is asked for.
            self.pieces[-1] = bytes(piece)

    def finish(self) -> None:
        if self.sent and self.pieces:
            self._send(whole_chunks=False)

    def _send(self, whole_chunks: bool) -> None:
        held: list[Piece] = []
        length = 0
        for piece in self.pieces:
            view = memoryview(piece)
            while length + len(view) >= CHUNK:
                held.append(view[: CHUNK - length])
                view = view[CHUNK - length :]
                self._send_one(held)
                held, length = [], 0
            if view:
                held.append(view)
                length += len(view)
        if held and not whole_chunks:
            self._send_one(held)
            held = []
        # A view would keep the whole piece that it is the end of.
        self.pieces = [bytes(piece) for piece in held]

    def _send_one(self, pieces: list[Piece]) -> None:
        arguments: tuple[Part, ...] = b"%d" % self.sent, pieces, _GUARD
        self._link.run(self._shard, scripts.CHUNK, (self._chunks,), arguments, Retry.LOST)
        self.sent += 1


class Chunks:
    """The chunks in the server.

    Args:
        link: Leads to the servers.
        names: What they are called.
    """

    def __init__(self, link: Link, names: Names) -> None:
        self._link, self._names = link, names

    def name(self, shard: int, etag: str) -> bytes:
        return self._names.chunks[shard] + etag.encode()

    def read(self, key: str, place: Place, head: Head, low: int, high: int) -> Iterator[Piece]:
        """Yield the bytes of a blob from one offset to another.

        Raises:
            ReplacedError: The blob was replaced or deleted meanwhile.
            BlobNotFoundError: It expired meanwhile.
            IntegrityError: The server dropped some of the chunks.
        """
        shard, at = place[0], low
        chunks = self.name(shard, head.etag)
        while at < high:
            number, begin = divmod(at, head.chunk)
            end = min(head.chunk, begin + high - at)
            if begin == 0 and end in (head.chunk, head.size - at):
                piece = self._link.ask(shard, packed(b"HGET", chunks, b"%d" % number))
            else:
                part = b"%d" % number, b"%d" % (begin + 1), b"%d" % end
                piece = self._link.run(shard, scripts.PART, (chunks,), part)
            if piece is None or len(piece) != end - begin:
                raise self._torn(key, place, head)
            yield piece
            at += end - begin

    def copy(self, key: str, place: Place, head: Head, target: bytes) -> int:
        """Copy the chunks of a blob, return their number, and raise what `read` raises."""
        chunks, number = self.name(place[0], head.etag), -(-head.size // head.chunk)
        for index in range(number):
            part = b"%d" % index, _GUARD
            if not self._link.run(place[0], scripts.COPY_CHUNK, (chunks, target), part, Retry.LOST):
                raise self._torn(key, place, head)
        return number

    def forget(self, shard: int, chunks: bytes) -> None:
        """Drop chunks that are not published, and surely won't be."""
        try:
            self._link.ask(shard, packed(b"UNLINK", chunks))
        except StoreError:
            # They expire.
            pass

    def _torn(self, key: str, place: Place, head: Head) -> StoreError:
        """Why a chunk isn't there."""
        value = self._link.ask(place[0], packed(b"GETRANGE", place[2], b"0", b"%d" % (FIXED - 1)))
        now = parse(value or b"")
        if now is None and head.expires and head.expires <= time.time() * 1000:
            return BlobNotFoundError(key=key)
        if now is None or now.etag != head.etag:
            return ReplacedError(
                "the blob was replaced while it was read; read it again",
                key=key,
                expected=head.etag,
                actual=None if now is None else now.etag,
            )
        return IntegrityError(
            "the server dropped some of its chunks; check whether it evicts keys (its maxmemory-policy)",
            key=key,
        )
