"""The base of the layers that store each blob in another form, which a subclass gives."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import BinaryIO, cast

from holdall.errors import StoreError
from holdall.layers.frames import Encoder, EncodingWriter, encoded, read_part
from holdall.layers.layer import Transparent, pass_on
from holdall.pieces import only_piece
from holdall.ranges import CHUNK
from holdall.store import Attributes, Body, Can, Expect, Info, Piece, Put, Store


class EncodingStore(Transparent):
    """A layer over one store that encodes blobs as they are written, and decodes them as they are read.

    A subclass overrides the methods of its form: `_encoder`, `_decode`, `_read_whole`, `_read_range`, and
    `_plain`, or `_plain_info` and `_adapt_entry`. One whose keys are others below overrides `_below_key` and
    `_target_key`.
    """

    _large: bool = False
    """Whether the blob that was read last was a large one."""

    @cached_property
    def can(self) -> Can:
        return self._store.can & ~Can.SIGN

    # A subclass gives the form.

    def _encoder(self, key: str) -> Encoder:
        """Return what encodes one blob."""
        raise NotImplementedError

    def _decode(self, key: str, stored: bytes) -> bytes:
        """Return the plain bytes of a whole blob, from all that is stored of it."""
        raise NotImplementedError

    def _read_whole(self, key: str, below: str) -> tuple[Info, Iterator[Piece]] | None:
        """Return what `_read` does for a whole blob; None if it was replaced between two reads below."""
        raise NotImplementedError

    def _read_range(
        self, key: str, below: str, start: int, stop: int | None
    ) -> tuple[Info, Iterator[Piece]] | None:
        """Return the same for a part of a blob."""
        raise NotImplementedError

    def _plain_info(self, key: str, below: str) -> Info:
        return self._plain(key, self._store._info(below))

    def _plain(self, key: str, info: Info) -> Info:
        """Return what is known of a blob, from its `Info` below."""
        raise NotImplementedError

    def _adapt_entry(self, info: Info) -> Info | None:
        """Return an entry of a listing as it is shown; None if it isn't shown."""
        return self._plain(info.key, info)

    def _below_key(self, key: str) -> str:
        """Return the key below of a blob to read."""
        return key

    def _target_key(self, key: str) -> str:
        """Return the key below of a blob to write."""
        return key

    def _get(self, key: str) -> bytes | None:
        # Read at once, a small blob takes two thirds of the time, but a large blob is held twice, and
        # takes longer than in pieces. The size isn't known before, so the blob that was read last decides.
        if self._large:
            data = super()._get(key)
            self._large = data is None or len(data) > CHUNK
            return data
        stored = self._store._get(self._below_key(key))
        if stored is None:
            return None
        if len(stored) > CHUNK and not self.inline:
            self._large = True
        return self._decode(key, stored)

    def _has(self, key: str) -> bool:
        return self._store._has(self._below_key(key))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        below = self._below_key(key)
        while True:
            whole = start == 0 and stop is None
            found = self._read_whole(key, below) if whole else self._read_range(key, below, start, stop)
            if found is not None:
                return found

    def _part_of(self, below: str, info: Info, start: int, stop: int | None) -> Iterator[Piece] | None:
        """Return a range of a blob below; None if another blob has replaced it since `info`."""
        found, pieces = read_part(self._store, below, start, stop)
        return pieces if found.etag == info.etag else None

    def _info(self, key: str) -> Info:
        return self._plain_info(key, self._below_key(key))

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        plain = {self._below_key(key): key for key in keys}
        with _plain_keys(plain):
            for below, stored in self._store._get_many(plain):
                key = plain[below]
                yield key, self._decode(key, stored)

    def _adapt_listing(self, listing: Iterator[Info]) -> Iterator[Info]:
        return filter(None, map(self._adapt_entry, listing))

    _keys = pass_on("_keys")

    def _children(self, prefix: str) -> Iterator[str | Info]:
        for child in self._store._children(prefix):
            listed = child if isinstance(child, str) else self._adapt_entry(child)
            if listed is not None:
                yield listed

    def _encode_body(self, key: str, body: Body) -> tuple[Body, Encoder]:
        encoder = self._encoder(key)
        piece = only_piece(body, encoder.at_once)
        if piece is None:
            return encoded(body, encoder), encoder
        return (encoder.whole(piece),), encoder

    def _put(self, key: str, data: bytes) -> Info:
        encoder = self._encoder(key)
        if len(data) > encoder.at_once:
            return super()._put(key, data)
        info = self._store._put(self._target_key(key), encoder.whole(data))
        return info.replace(key=key, size=len(data))

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        below = self._target_key(key)
        stored, encoder = self._encode_body(key, body)
        info = self._store._write(below, stored, expect, attributes)
        return info.replace(key=key, size=encoder.size)

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        plain: dict[str, str] = {}
        encoders: dict[str, Encoder] = {}

        def stored() -> Iterator[Put]:
            for key, body, attributes in items:
                below = self._target_key(key)
                plain[below] = key
                data, encoders[below] = self._encode_body(key, body)
                yield below, data, attributes

        with _plain_keys(plain):
            for info in self._store._put_many(stored()):
                yield info.replace(key=plain[info.key], size=encoders[info.key].size)

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        # Encoded as it is written: an encrypted blob is spooled encrypted.
        file = self._store._open_write(self._target_key(key), expect, attributes)
        return cast(BinaryIO, EncodingWriter(file, self._encoder(key)))

    def _delete(self, key: str, expect: Expect) -> bool:
        return self._store._delete(self._below_key(key), expect)

    def _delete_many(self, keys: Iterable[str]) -> int:
        plain = {self._below_key(key): key for key in keys}
        with _plain_keys(plain):
            return self._store._delete_many(plain)

    # Where the bytes below are the same whatever the key, the store below may copy them on its own; where it
    # can't, they pass through here anyway, and are checked on their way.

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        if Can.COPY not in self.can:
            return Store._copy(self, source, target, expect)
        return self._copy_below(self._store._copy, source, target, expect)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        if Can.COPY not in self.can:
            return Store._move(self, source, target, expect)
        return self._copy_below(self._store._move, source, target, expect)

    def _copy_below(
        self, act: Callable[[str, str, Expect], Info], source: str, target: str, expect: Expect
    ) -> Info:
        """Have the store below copy or move a blob."""
        return self._plain(target, act(source, target, expect))

    def _touch(self, key: str, expires: datetime | None) -> Info:
        below = self._below_key(key)
        self._plain_info(key, below)  # what isn't a blob of this layer is refused first
        self._store._touch(below, expires)
        return self._plain_info(key, below)

    def _clear(self) -> None:
        self._store._clear()


@contextmanager
def _plain_keys(plain: dict[str, str]) -> Generator[None]:
    """Give an error of the store below the key as it is here, from a dict by keys below."""
    try:
        yield
    except StoreError as error:
        error.key = plain.get(error.key or "", error.key)
        raise
