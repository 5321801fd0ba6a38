"""The chunks of a large blob: sent before the blob is published, and expiring unless it is."""

from __future__ import annotations

from collections.abc import Iterator

from holdall.errors import BlobNotFoundError, IntegrityError, StoreError
from holdall.pieces import only_piece, regroup
from holdall.ranges import CHUNK
from holdall.store import Body, Piece
from holdall.stores.rereading import ReplacedError
from holdall.stores.valkey import scripts
from holdall.stores.valkey.head import FIXED, BlobHead, parse
from holdall.stores.valkey.link import Link, Part, Retry, packed
from holdall.stores.valkey.shards import Place, Shards

WHOLE = 4 * CHUNK
"""The largest blob that is one string; a larger one is cut into chunks."""
_GUARD = b"%d" % (15 * 60 * 1000)
"""Milliseconds after which the chunks of a dead writer are deleted."""


class Upload:
    """The bytes of one blob on their way to the server, where large ones become chunks of this name."""

    def __init__(self, link: Link, shard: int, chunks: bytes) -> None:
        self._link, self._shard, self._chunks = link, shard, chunks
        self.size = self.sent = 0
        """The number of bytes so far, and of chunks in the server."""
        self.rest: Piece = b""
        """The bytes that no chunk holds; all of them, if the blob is small."""

    def send(self, body: Body) -> None:
        piece = only_piece(body, WHOLE)
        if piece is not None:
            # It needn't be copied.
            self.rest, self.size = piece, len(piece)
            return
        held: list[Piece] = []
        for chunk in regroup(body, CHUNK):
            self.size += len(chunk)
            held.append(chunk)
            if self.size > WHOLE:
                for each in held:
                    arguments: tuple[Part, ...] = b"%d" % self.sent, [each], _GUARD
                    self._link.run(self._shard, scripts.CHUNK, (self._chunks,), arguments, Retry.LOST)
                    self.sent += 1
                held = []
        self.rest = b"".join(held)


class Chunks:
    """The chunks in the server."""

    def __init__(self, shards: Shards) -> None:
        self._shards, self._link = shards, shards.link

    def name(self, shard: int, etag: str) -> bytes:
        return self._shards.chunks[shard] + etag.encode()

    def read(self, key: str, place: Place, head: BlobHead, low: int, high: int) -> Iterator[Piece]:
        """Yield the bytes of a blob from one offset to another.

        Raises:
            ReplacedError: The blob was replaced meanwhile.
            BlobNotFoundError: It was deleted, or expired, meanwhile.
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

    def copy(self, key: str, place: Place, head: BlobHead, target: bytes) -> int:
        """Copy the chunks of a blob, return their number, and raise what `read` raises."""
        chunks, number = self.name(place[0], head.etag), -(-head.size // head.chunk)
        for index in range(number):
            part = b"%d" % index, _GUARD
            if not self._link.run(place[0], scripts.COPY_CHUNK, (chunks, target), part, Retry.LOST):
                raise self._torn(key, place, head)
        return number

    def forget(self, shard: int, chunks: bytes) -> None:
        """Drop chunks that aren't published, and won't be."""
        try:
            self._link.ask(shard, packed(b"UNLINK", chunks))
        except StoreError:
            # They expire.
            pass

    def _torn(self, key: str, place: Place, head: BlobHead) -> StoreError:
        """Why a chunk isn't there."""
        value = self._link.ask(place[0], packed(b"GETRANGE", place[2], b"0", b"%d" % (FIXED - 1)))
        now = parse(value or b"")
        if now is None:
            return BlobNotFoundError(key=key)
        if now.etag != head.etag:
            return ReplacedError(
                "the blob was replaced while it was read; read it again",
                key=key,
                expected=head.etag,
                actual=now.etag,
            )
        return IntegrityError(
            "the server dropped some of its chunks; check whether it evicts keys (its maxmemory-policy)",
            key=key,
        )
