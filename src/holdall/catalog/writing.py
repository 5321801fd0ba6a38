"""Puts into a catalogue: the bytes first, then the rows, so that no row ever lacks its bytes."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from holdall.blob import ABSENT, ANY, Expect, Piece
from holdall.catalog.b2nd import Frame
from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.blobs import BlobBackend, is_there
from holdall.catalog.content import Content
from holdall.catalog.entry import Entry, Stored, check_row, etag_of
from holdall.catalog.names import protected_versions
from holdall.catalog.row import Blob, Row, Small
from holdall.catalog.storage import take_storage
from holdall.errors import BlobNotFoundError, StoreError, StoreUnavailableError
from holdall.stopping import stoppable
from holdall.values.registry import joined
from holdall.workers import beside

CLAIMED: Final = 1
"""`Blob.until` of a blob that is being swept: a moment that has passed."""
UNDER_WAY: Final = 600 * 1_000_000
"""How long a writer holds a blob without a sign of life, in microseconds. It gives one as its bytes flow; one
that was silent for longer finds out at its commit, and writes them again."""
_TRIES: Final = 10
_JOINED: Final = 1 << 20


def micros() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1_000


@dataclass(slots=True)
class Put:
    """One object that is to be put.

    Attributes:
        encode: Encodes the object once more, where its bytes were drawn and have to be written again.
        metadata: What its metadata becomes; None leaves that of an equal object as it is.
        inputs: What it was made from: keys, entries, or pairs of a key and a version.
        number: The number of the blob that holds its bytes, once it is known.
        crc: The CRC-32 of the stored bytes, and their `size`, once they were drawn.
    """

    key: str
    content: Content
    encode: Callable[[], Content]
    metadata: dict[str, Any] | None = None
    inputs: Sequence[Any] = ()
    expect: Expect = ANY
    versioned: bool = False
    data: bytes | None = None
    number: int | None = None
    crc: int = 0
    size: int = 0
    drawn: bool = field(default=False, init=False)


class _AgainError(Exception):
    """The blob that a put relies on has been swept since."""


class Writer:
    """Writes objects, some at a time, whose entries become visible together.

    A put goes through these steps; a kill between any two leaves a catalogue that tells the truth:

    1. A transaction looks for a blob with the digest. Without one it adds a blob that is under way, and
       suspects it, so that it is swept if nobody ever names it.
    2. The bytes are written, at an address that nobody else has.
    3. A transaction writes the row, acquits the blob, and suspects the one that the row named before. If the
       blob of step 1 has been swept meanwhile, all is done again.

    Small objects go into the backend: step 3 alone.
    """

    def __init__(self, backend: MetadataBackend, blobs: BlobBackend, keep: int | None) -> None:
        self._backend = backend
        self._blobs = blobs
        self._keep = keep
        self._knows_storage = False
        # Whether the last put made an entry with bytes of its own.
        self._is_filling = True

    def put_small(
        self, key: str, content: Content, data: bytes, metadata: dict[str, Any] | None, expect: Expect
    ) -> Stored | None:
        """Put a small object in one step; return None, with nothing changed, if it takes more."""
        small = _small(key, content, data, metadata)
        if self._is_filling or expect is ABSENT:
            number = self._backend.add_small(small)
            if number is not None:
                return _new_stored(key, number, content.digest)
            self._is_filling = False
        if expect is ABSENT or self._keep != 1:
            return None
        found = self._backend.overwrite(small)
        return None if found is None else _new_stored(key, found[0], content.digest, found[1])

    def put_all(self, puts: Sequence[Put]) -> list[Stored]:
        """Put objects under different keys, without inputs, whatever the keys hold; see `put`."""
        if not puts:
            return []
        for each in puts:
            each.data = self.small_bytes(each.content)
        digests = {each.content.digest for each in puts}
        are_small = len(digests) == len(puts) and all(each.data is not None for each in puts)
        if are_small and self._backend.row(puts[0].key) is None:
            smalls = [_small(each.key, each.content, each.data or b"", each.metadata) for each in puts]
            numbers = self._backend.add_all(smalls)
            if numbers is not None:
                return [
                    _new_stored(small.key, at, small.digest)
                    for small, at in zip(smalls, numbers, strict=True)
                ]
        return self.put(puts)

    def small_bytes(self, content: Content) -> bytes | None:
        """Return the bytes of an object that is small enough to lie in the backend, or None."""
        if content.size is None or content.size > self._backend.inline:
            return None
        return joined(content.pieces)

    def put_one(self, put: Put) -> Stored:
        """Put one object; see `put`."""
        stored = self.put((put,))[0]
        self._is_filling = stored.version == 1 and stored.is_new and not stored.is_shared
        return stored

    def put(self, puts: Sequence[Put]) -> list[Stored]:
        """Put objects; return what became of each.

        Raises:
            ConcurrencyError: One isn't in the state that its `expect` names. None is put.
            BlobNotFoundError: An input isn't in the catalogue. None is put.
        """
        for each in puts:
            data = each.data = self.small_bytes(each.content) if each.data is None else each.data
            if data is not None:
                each.size, each.crc, each.drawn = len(data), zlib.crc32(data), True
        for _ in range(_TRIES):
            outside = [each for each in puts if each.data is None]
            if outside:
                self._check_early(outside)
                self._write_blobs(outside)
            try:
                return self._backend.transact(lambda tx: self._commit(tx, puts))
            except _AgainError:
                self._forget(outside)
            except BaseException:
                self._leave(outside)
                raise
        raise StoreUnavailableError(
            f"the blobs of this put were swept {_TRIES} times while it went on; is a collect() without a "
            "grace running in a loop?"
        )

    def _check_early(self, puts: Sequence[Put]) -> None:
        """Refuse what the commit would refuse, before any bytes are written."""
        if not self._knows_storage:
            take_storage(self._backend, self._blobs)
            self._knows_storage = True
        for put in puts:
            if put.expect is not ANY:
                check_row(self._backend.row(put.key), put.expect, put.key)

    def _write_blobs(self, puts: Sequence[Put]) -> None:
        found = self._backend.transact(lambda tx: self._reserve(tx, puts, frozenset()))
        missing = frozenset(
            each.content.digest
            for each, blob in zip(puts, found, strict=True)
            # Bytes that somebody deleted from the store are written again.
            if blob is not None and not is_there(self._blobs, blob)
        )
        if missing:
            found = self._backend.transact(lambda tx: self._reserve(tx, puts, missing))
        written: dict[int, Put] = {}
        try:
            for put, blob in zip(puts, found, strict=True):
                number = put.number
                if blob is not None or number is None:
                    continue
                if number in written:
                    put.crc, put.size = written[number].crc, written[number].size
                    continue
                self._write_one(put, number)
                written[number] = put
        except BaseException:
            self._leave(puts)
            raise

    def _reserve(self, tx: Transaction, puts: Sequence[Put], missing: frozenset[str]) -> list[Blob | None]:
        """Give each put its blob: one that is there, which is returned, or a new one."""
        found: list[Blob | None] = []
        numbers: dict[str, int] = {}
        for put in puts:
            content = put.content
            blob = None if content.digest in missing else tx.blob_of(content.digest)
            if blob is None and content.digest not in numbers:
                number = numbers[content.digest] = tx.next_number()
                now = micros()
                tx.put_blob(_blob_of(content, number, until=now + UNDER_WAY))
                tx.suspect(number, now)
            put.number = numbers[content.digest] if blob is None else blob.number
            found.append(blob)
        return found

    def _write_one(self, put: Put, number: int) -> None:
        if put.drawn:
            put.content = put.encode()
        put.drawn = True
        content = put.content
        address = self._blobs.address(content.digest, number, content.extension)
        pieces = _Counted(
            content.pieces, partial(self._hold, number), sums=not isinstance(content.pieces, Frame)
        )
        try:
            if content.size is not None and isinstance(content.pieces, Frame):
                # They are in memory, so that another core can look at them at the same time.
                with beside(partial(_crc_of, content.pieces)) as crc:
                    self._blobs.store.put(address, iter(pieces))
                    pieces.crc = crc.result()
            elif content.size is not None and content.size <= _JOINED:
                self._blobs.store.put(address, b"".join([bytes(piece) for piece in pieces]))
            else:
                self._blobs.store.put(address, iter(pieces))
        except StoreError as error:
            # The address means nothing to the caller.
            error.key = put.key
            raise
        put.crc, put.size = pieces.crc, pieces.size

    def _hold(self, number: int) -> None:
        """Say that this writer is still under way."""

        def hold(tx: Transaction) -> None:
            blob = tx.blob(number)
            if blob is not None and blob.until > CLAIMED:
                tx.put_blob(replace(blob, until=micros() + UNDER_WAY))

        self._backend.transact(hold)

    def _forget(self, puts: Iterable[Put]) -> None:
        """Delete the bytes that were written under numbers that were swept before the bytes came."""
        for put in puts:
            if put.drawn and put.number is not None:
                number = put.number
                if self._backend.transact(lambda tx, number=number: tx.blob(number)) is None:
                    content = put.content
                    self._blobs.store.delete(self._blobs.address(content.digest, number, content.extension))

    def _leave(self, puts: Iterable[Put]) -> None:
        """After a failure, claim the blobs that were under way, so that the next sweep takes them at once."""
        numbers = {put.number for put in puts if put.number is not None}

        def leave(tx: Transaction) -> None:
            for number in numbers:
                blob = tx.blob(number)
                if blob is not None and blob.until > CLAIMED:
                    tx.put_blob(replace(blob, until=CLAIMED))

        if numbers:
            try:
                self._backend.transact(leave)
            except StoreUnavailableError:
                # What failed before is what the caller has to know; these are swept when their time is out.
                return

    def _commit(self, tx: Transaction, puts: Sequence[Put]) -> list[Stored]:
        return [self._commit_one(tx, each, micros()) for each in puts]

    def _commit_one(self, tx: Transaction, put: Put, now: int) -> Stored:
        old = tx.row(put.key)
        check_row(old, put.expect, put.key)
        inputs = tuple(_input_of(tx, each) for each in put.inputs)
        sequence = tx.next_number()
        blob, shared = self._settle(tx, put, sequence)
        content = put.content
        same = old is not None and old.digest == content.digest
        if old is not None and same and not put.versioned:
            row = replace(
                old,
                blob=blob.number,
                size=blob.size,
                format=blob.format,
                codec=blob.codec,
                library=blob.library,
                metadata=old.metadata if put.metadata is None else put.metadata,
                inputs=inputs or old.inputs,
            )
            if row == old:
                return _stored_of(old, is_new=False, is_shared=True)
            row = replace(row, sequence=sequence, updated=now)
            tx.put_row(row)
            if row.blob != old.blob:
                release(tx, old.blob, now)
            return _stored_of(row, is_new=False, is_shared=shared)
        row = Row(
            put.key, 1 if old is None else old.version + 1, sequence, blob.number, content.digest, blob.size,
            content.type, blob.format, blob.codec, blob.library, now, now, put.metadata or {}, inputs,
        )  # fmt: skip
        if old is None:
            tx.put_row(row)
        else:
            self.replace(tx, old, row, now)
        return _stored_of(row, is_new=True, is_shared=shared)

    def _settle(self, tx: Transaction, put: Put, sequence: int) -> tuple[Blob, bool]:
        """Return the blob of a put, which is written by now, and whether it was there before."""
        content = put.content
        found = tx.blob_of(content.digest)
        if put.data is not None:
            if found is not None:
                self._renew(tx, found)
                return found, True
            blob = _blob_of(content, sequence, size=put.size, crc=put.crc, data=put.data)
            tx.put_blob(blob)
            return blob, False
        assert put.number is not None
        own = tx.blob(put.number)
        if own is None or own.until == CLAIMED:
            raise _AgainError
        if own.until:
            if found is not None and is_there(self._blobs, found):
                # Another writer of the same bytes came first: its blob is shared, and the own one is swept.
                tx.put_blob(replace(own, until=CLAIMED))
                self._renew(tx, found)
                return found, True
            if found is not None:
                # Its bytes are gone, so that no later put may rely on it.
                tx.put_blob(replace(found, until=CLAIMED))
                tx.suspect(found.number, micros())
            own = replace(own, size=put.size, crc=put.crc, until=0)
            tx.put_blob(own)
            tx.acquit(own.number)
            return own, False
        self._renew(tx, own)
        return own, True

    def _renew(self, tx: Transaction, blob: Blob) -> None:
        if tx.suspected(blob.number) is not None:
            tx.acquit(blob.number)

    def replace(self, tx: Transaction, old: Row, new: Row, now: int) -> None:
        """Put a row in the place of another, keep that one as an earlier version, or not, and drop versions
        that are too many."""
        # The new row comes first: it may name the blob of a version that is dropped, which then isn't let go.
        tx.put_row(new)
        if self._keep is None:
            tx.put_earlier(old)
            return
        versions = [old, *tx.earlier(old.key)]
        kept = protected_versions(tx, old.key, versions, now)
        for at, row in enumerate(versions):
            keeps = at + 1 < self._keep or row.version in kept
            if keeps and row is old:
                tx.put_earlier(old)
            elif not keeps and row is not old:
                tx.drop_earlier(row.key, row.version)
                release(tx, row.blob, now)
        release(tx, old.blob, now)


class _Counted:
    """Pieces on their way to a store, with their size and CRC-32, and a sign of life now and then."""

    def __init__(self, pieces: Iterable[Any], hold: Callable[[], object], *, sums: bool = True) -> None:
        self._pieces = pieces
        self._hold = hold
        self._sums = sums
        self.size = self.crc = 0

    def __iter__(self) -> Iterator[Piece]:
        after = micros() + UNDER_WAY // 4
        for piece in self._pieces:
            self.size += len(piece)
            if self._sums:
                self.crc = zlib.crc32(piece, self.crc)
            if micros() > after:
                self._hold()
                after = micros() + UNDER_WAY // 4
            yield piece


def _crc_of(pieces: Iterable[Any]) -> int:
    crc = 0
    for piece in stoppable(pieces):
        crc = zlib.crc32(piece, crc)
    return crc


def release(tx: Transaction, number: int, now: int) -> None:
    """Let go of a blob that a row named: without another row it is suspected, or gone if it is in the
    backend."""
    if tx.is_named(number):
        return
    blob = tx.blob(number)
    if blob is not None and blob.inline:
        tx.drop_blob(number)
    elif blob is not None:
        tx.suspect(number, now)


def _blob_of(
    content: Content, number: int, *, size: int = 0, crc: int = 0, data: bytes | None = None, until: int = 0
) -> Blob:
    return Blob(
        number, content.digest, size, crc, content.extension, content.type, content.format, content.codec,
        content.library, data is not None, data, until,
    )  # fmt: skip


def _input_of(tx: Transaction, given: Any) -> tuple[str, int, str]:
    key, version = (given, None) if isinstance(given, str) else given
    row = tx.row(key, version)
    if row is None:
        name = key if version is None else f"version {version} of {key}"
        raise BlobNotFoundError(f"the input {name!r} isn't in the catalogue", key=key)
    return row.key, row.version, row.digest


def named_input(given: Any) -> Any:
    """Return an input as `Put.inputs` has it: a key, or a pair of a key and a version."""
    if isinstance(given, Entry):
        return given.key, given.version
    return (str(given), given.version) if isinstance(given, Stored) and given.etag else given


def _small(key: str, content: Content, data: bytes, metadata: dict[str, Any] | None) -> Small:
    return Small(
        key, content.digest, len(data), zlib.crc32(data), content.extension, content.type, content.format,
        content.codec, content.library, micros(), metadata or {}, data,
    )  # fmt: skip


def _new_stored(key: str, number: int, digest: str, version: int = 1) -> Stored:
    made = Stored(key)
    made.etag, made.digest = etag_of(number), digest
    if version != 1:
        made.version = version
    return made


def _stored_of(row: Row, *, is_new: bool, is_shared: bool) -> Stored:
    made = Stored(row.key)
    made.version, made.etag, made.digest = row.version, etag_of(row.sequence), row.digest
    made.is_new, made.is_shared = is_new, is_shared
    return made
